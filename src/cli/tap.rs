//! `ringress tap`: requests of a running gateway as they pass.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use tokio::net::TcpStream;

use super::options::parse_duration;
use crate::limits::{TAP_LINES, TAP_RATE};

/// A gateway that is there answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond the time of the tap, wait so long for its last line.
const END_GRACE: Duration = Duration::from_secs(10);
/// Bytes of a line or of the answer's head; what is longer is no tap.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Options of `ringress tap`.
#[derive(Clone, Debug, Args)]
pub(super) struct TapOptions {
    /// The admin port of the gateway.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,

    /// Only this host, without its port; `*.example.com` for all below.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Only this route, by its name or the `namespace/name` of its VirtualService.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,

    /// Only this status, or this class, such as `5xx`; 0: the client got none.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,

    /// Only requests that took so many milliseconds at least.
    #[arg(long, value_name = "MS")]
    min_latency_ms: Option<f64>,

    /// Only this method.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,

    /// Only paths that begin so.
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,

    /// Only requests with this field, which is shown too: `name` or `name:value`. May be given several
    /// times. Values that are secrets are masked.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// Show this share of the requests that match, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    sample: Option<f64>,

    /// End after so many requests.
    #[arg(long, value_name = "N", default_value_t = TAP_LINES)]
    limit: u64,

    /// End after this time, an hour at most.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    duration: Duration,

    /// Requests in a second that one worker shows at most; others are counted.
    #[arg(long, value_name = "N", default_value_t = TAP_RATE)]
    rate: u32,

    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How requests are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum TapError {
    #[error(
        "cannot tap the gateway at {0}: {1}; its admin address is printed when it starts (admin=…)"
    )]
    Unreachable(SocketAddr, io::Error),
    #[error("the gateway says: {0}")]
    Refused(String),
    #[error("what answers at {0} is no admin port of a ringress that can be tapped")]
    Stranger(SocketAddr),
    #[error("cannot print: {0}")]
    Output(io::Error),
    #[error("cannot run: {0}")]
    Runtime(io::Error),
}

/// Print until the tap ends or somebody ends it.
pub(super) fn run(options: &TapOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(TapError::Runtime).and_then(|runtime| {
        runtime.block_on(async {
            let mut shower = Shower { output: options.output, began: false, last: Value::Null };
            let ended = tokio::select! {
                outcome = show(options, &mut shower) => outcome,
                _ = tokio::signal::ctrl_c() => Ok(()),
            };
            ended.map(|()| shower)
        })
    });
    match outcome {
        Ok(shower) => {
            eprintln!("{}", shower.ending());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringress: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(options: &TapOptions, shower: &mut Shower) -> Result<(), TapError> {
    let admin = options.admin;
    let unreachable = |error| TapError::Unreachable(admin, error);
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(admin))
        .await
        .map_err(|_| unreachable(late()))?
        .map_err(unreachable)?;
    // An answer to HTTP/1.0 ends with the connection and is not in chunks.
    let request = format!("GET {} HTTP/1.0\r\nhost: {admin}\r\n\r\n", options.page());
    send(&stream, request.as_bytes()).await.map_err(unreachable)?;
    let deadline = tokio::time::Instant::now() + options.duration + END_GRACE;
    let mut received = Vec::new();
    let mut head = true;
    loop {
        let count = tokio::time::timeout_at(deadline, receive(&stream, &mut received))
            .await
            .map_err(|_| unreachable(late()))?
            .map_err(unreachable)?;
        if head {
            match after_head(&received, count == 0) {
                Head::Incomplete if count > 0 && received.len() < LINE_BYTES_MAX => continue,
                Head::Tap(length) => {
                    received.drain(..length);
                    head = false;
                }
                Head::Refused(text) => return Err(TapError::Refused(text)),
                Head::Incomplete | Head::Other => return Err(TapError::Stranger(admin)),
                Head::RefusalIncomplete => continue,
            }
        }
        let Some(end) = received.iter().rposition(|byte| *byte == b'\n') else {
            if count == 0 || received.len() > LINE_BYTES_MAX {
                return Ok(());
            }
            continue;
        };
        for line in received.drain(..=end).collect::<Vec<u8>>().split(|byte| *byte == b'\n') {
            shower.line(line).map_err(TapError::Output)?;
        }
        if count == 0 {
            return Ok(());
        }
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Append what comes; 0 at the end.
async fn receive(stream: &TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 16 * 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut bytes) {
            Ok(count) => {
                received.extend(bytes.iter().take(count));
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the beginning of an answer is.
#[derive(Debug, PartialEq)]
enum Head {
    Incomplete,
    /// A tap, behind a head of so many bytes.
    Tap(usize),
    /// The gateway says no, and why.
    Refused(String),
    /// It says no; why is still to come.
    RefusalIncomplete,
    Other,
}

fn after_head(received: &[u8], ended: bool) -> Head {
    let Some(length) = received.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Head::Incomplete;
    };
    let text = String::from_utf8_lossy(received.get(..length).unwrap_or_default());
    let is_http = text.starts_with("HTTP/1.");
    match text.split(' ').nth(1).filter(|_| is_http) {
        Some("200") if text.to_ascii_lowercase().contains("application/x-ndjson") => {
            Head::Tap(length + 4)
        }
        Some("400" | "429" | "503") if ended => {
            let body = received.get(length + 4..).unwrap_or_default();
            Head::Refused(String::from_utf8_lossy(body).trim().to_owned())
        }
        Some("400" | "429" | "503") => Head::RefusalIncomplete,
        _ => Head::Other,
    }
}

impl TapOptions {
    /// The page with its query.
    fn page(&self) -> String {
        let mut page = format!(
            "/tap?limit={}&duration={}&rate={}",
            self.limit,
            self.duration.as_secs().max(1),
            self.rate
        );
        let mut add = |name: &str, value: &str| {
            let _ = write!(page, "&{name}=");
            for byte in value.bytes() {
                // A query is ASCII: what means something in it, or nothing, is escaped.
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
                        page.push(char::from(byte));
                    }
                    _ => {
                        let _ = write!(page, "%{byte:02X}");
                    }
                }
            }
        };
        let texts = [
            ("host", self.host.clone()),
            ("route", self.route.clone()),
            ("status", self.status.clone()),
            ("min_latency_ms", self.min_latency_ms.map(|ms| ms.to_string())),
            ("method", self.method.clone()),
            ("path_prefix", self.path_prefix.clone()),
            ("sample", self.sample.map(|share| share.to_string())),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                add(name, &value);
            }
        }
        for header in &self.headers {
            add("header", header);
        }
        page
    }
}

/// Prints lines and remembers what the tap says of itself.
struct Shower {
    output: Output,
    began: bool,
    last: Value,
}

impl Shower {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return Ok(()) };
        if value.get("tap").is_some() {
            self.last = value;
            if !self.began {
                self.began = true;
                eprintln!("tapping; end with Ctrl-C");
                if self.output == Output::Text {
                    eprintln!("{COLUMNS}");
                }
            }
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match self.output {
            Output::Text => writeln!(out, "{}", text(&value)),
            Output::Json => writeln!(out, "{value}"),
        }?;
        out.flush()
    }

    /// How it ended, as far as the gateway has told.
    fn ending(&self) -> String {
        let count = |name: &str| self.last.get(name).and_then(Value::as_u64).unwrap_or(0);
        let why = match self.last.get("why").and_then(Value::as_str) {
            Some("limit") => "as many as --limit",
            Some("duration") => "--duration is over",
            Some("gateway") => "the gateway ends",
            _ => "ended here",
        };
        format!(
            "{} matched, {} shown, {} dropped ({} over --rate, {} because this reader is slow): {why}",
            count("matched"),
            count("shown"),
            count("dropped"),
            count("dropped_over_rate"),
            count("dropped_slow_reader"),
        )
    }
}

const COLUMNS: &str = "TIME                     STATUS FLAGS     TOTAL  UPSTREAM METHOD HOST PATH  \
                       ROUTE > CLUSTER ENDPOINT DETAILS CLIENT FIELDS";

/// One request as a line. What the client wrote cannot do anything to the terminal.
fn text(value: &Value) -> String {
    let word = |name: &str| match value.get(name) {
        Some(Value::String(text)) if !text.is_empty() => visible(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    let milliseconds = |name: &str| {
        let us = value.get(name).and_then(Value::as_u64);
        us.map_or_else(|| "-".to_owned(), |us| format!("{}.{:03}ms", us / 1000, us % 1000))
    };
    let mut line = format!(
        "{} {:>6} {:<5} {:>9} {:>9} {} {} {}  {} > {} {} {} {}",
        word("time"),
        word("status"),
        word("flags"),
        milliseconds("duration_us"),
        milliseconds("upstream_us"),
        word("method"),
        word("host"),
        word("path"),
        match word("route") {
            unnamed if unnamed == "-" => word("virtual_service"),
            named => named,
        },
        word("cluster"),
        word("endpoint"),
        word("details"),
        word("client"),
    );
    for field in value.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let part =
            |name: &str| visible(field.get(name).and_then(Value::as_str).unwrap_or_default());
        let _ = write!(line, " {}={}", part("name"), part("value"));
    }
    line
}

/// Without letters that a terminal obeys.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        // Controls, and those that turn the direction of what follows.
        let obeyed = letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if obeyed {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: TapOptions,
    }

    #[test]
    fn filters_become_a_query() {
        let line = Line::parse_from([
            "tap",
            "--host",
            "*.a.com",
            "--status",
            "5xx",
            "--min-latency-ms",
            "1.5",
            "-H",
            "x: a&b",
            "--limit",
            "3",
            "--duration",
            "1m",
            "--rate",
            "9",
        ]);
        assert_eq!(
            line.options.page(),
            "/tap?limit=3&duration=60&rate=9&host=%2A.a.com&status=5xx&min_latency_ms=1.5\
             &header=x%3A%20a%26b"
        );
    }

    #[test]
    fn a_request_is_a_line_that_the_terminal_does_not_obey() {
        let line = text(&json!({
            "time": "2026-11-24T12:00:00.000Z", "status": 503, "flags": "UF,URX",
            "duration_us": 12_345, "upstream_us": null, "method": "GET", "host": "hello.com",
            "path": "/\u{1b}[2J\u{202e}x", "route": "", "virtual_service": "default/hello",
            "cluster": "outbound|80||hello", "endpoint": null, "details": "upstream_reset",
            "client": "127.0.0.1:1", "headers": [{"name": "x-user", "value": "jason"}],
        }));
        assert_eq!(
            line,
            "2026-11-24T12:00:00.000Z    503 UF,URX  12.345ms         - GET hello.com \
             /\\u{1b}[2J\\u{202e}x  default/hello > outbound|80||hello - upstream_reset \
             127.0.0.1:1 x-user=jason"
        );
    }

    #[test]
    fn answers_are_told_apart() {
        let tap = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{";
        assert_eq!(after_head(tap, false), Head::Tap(tap.len() - 1));
        assert_eq!(after_head(b"HTTP/1.0 200 OK\r\n", false), Head::Incomplete);
        let no = b"HTTP/1.0 429 Too Many Requests\r\n\r\nfull\n";
        assert_eq!(after_head(no, false), Head::RefusalIncomplete);
        assert_eq!(after_head(no, true), Head::Refused("full".to_owned()));
        assert_eq!(after_head(b"HTTP/1.0 200 OK\r\n\r\nhello", true), Head::Other);
        assert_eq!(after_head(b"SSH-2.0\r\n\r\n", true), Head::Other);
    }

    #[test]
    fn the_end_is_told_with_its_counts() {
        let mut shower = Shower { output: Output::Json, began: true, last: Value::Null };
        let last = br#"{"tap":"ended","why":"limit","matched":9,"shown":5,"dropped":3,"dropped_over_rate":1,"dropped_slow_reader":2}"#;
        shower.line(last).expect("printed");
        assert_eq!(
            shower.ending(),
            "9 matched, 5 shown, 3 dropped (1 over --rate, 2 because this reader is slow): as many as \
             --limit"
        );
    }
}
