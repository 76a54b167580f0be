//! The closed-loop generator: a fixed number of connections, one request under way on each.
//!
//! It reads the proxy's CPU time itself, at the very moments between which it counts responses,
//! so that a late wake-up of the driver cannot blur the quotient.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::proc_stat::{CpuTicks, ProcessTree};
use crate::response::{Finished, ResponseReader};
use crate::sys::{self, Epoll};

/// Source addresses that connection-per-request runs take in turn: 127.0.0.1 and those after it.
///
/// Each has 28,000 ports, and a port rests a second after use.
const SOURCES: u32 = 8;
/// Errors after which a run gives up.
const ERROR_LIMIT: u64 = 1000;
/// How long a run waits for the last responses after its window, and for the first connections.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bodies longer than this are dropped in the kernel, not copied to us.
const DISCARD_FROM: u64 = 16 * 1024;
/// Most bytes dropped by one call.
const DISCARD_STEP: u64 = 4 * 1024 * 1024;

const IN: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// What to send, how, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Port of the proxy on 127.0.0.1.
    pub(crate) port: u16,
    /// Connections open at a time.
    pub(crate) connections: usize,
    /// Time before the window.
    pub(crate) warmup: Duration,
    /// Length of the window.
    pub(crate) window: Duration,
    /// Path asked for.
    pub(crate) path: String,
    /// Host headers that the requests take in turn; at least one.
    pub(crate) hosts: Vec<String>,
    /// A new connection for each request.
    pub(crate) close: bool,
    /// Root of the processes whose CPU time is taken.
    pub(crate) cpu_of: Option<u32>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Responses completed within the window.
    pub(crate) requests: u64,
    /// Length of the window, seconds.
    pub(crate) seconds: f64,
    /// CPU time of the watched processes within the window.
    pub(crate) cpu: CpuTicks,
    /// Responses completed in the whole run, with warm-up and rest.
    pub(crate) total: u64,
    /// Connections that failed or ended early, and responses that could not be read.
    pub(crate) errors: u64,
    /// Responses whose status was not 2xx, among the completed.
    pub(crate) non_2xx: u64,
}

impl Outcome {
    /// One line for the driver.
    pub(crate) fn to_line(self) -> String {
        format!(
            "requests={} seconds={} user_ticks={} system_ticks={} total={} errors={} non_2xx={}",
            self.requests,
            self.seconds,
            self.cpu.user,
            self.cpu.system,
            self.total,
            self.errors,
            self.non_2xx
        )
    }

    /// Reads [`Self::to_line`]; `None` when a figure is missing or not a number.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let value = |key: &str| {
            line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let count = |key: &str| value(key)?.parse().ok();
        Some(Self {
            requests: count("requests")?,
            seconds: value("seconds")?.parse().ok()?,
            cpu: CpuTicks { user: count("user_ticks")?, system: count("system_ticks")? },
            total: count("total")?,
            errors: count("errors")?,
            non_2xx: count("non_2xx")?,
        })
    }
}

/// `load --port N …`: one run, one line. `load --idle N …` is [`crate::idle`].
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let mut plan = Plan {
        port: 0,
        connections: 64,
        warmup: Duration::from_secs(1),
        window: Duration::from_secs(5),
        path: "/".to_owned(),
        hosts: vec!["hello.com".to_owned()],
        close: false,
        cpu_of: None,
    };
    let mut idle = None;
    while let Some(arg) = args.next() {
        if arg == "--close" {
            plan.close = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("load: {arg} needs a value"))?;
        let bad = || format!("load: {arg} cannot be {value:?}");
        match arg.as_str() {
            "--port" => plan.port = value.parse().map_err(|_| bad())?,
            "--connections" => plan.connections = value.parse().map_err(|_| bad())?,
            "--warmup" => plan.warmup = seconds(&value).ok_or_else(bad)?,
            "--seconds" => plan.window = seconds(&value).ok_or_else(bad)?,
            "--path" => plan.path = value,
            "--host" => plan.hosts = vec![value],
            "--hosts" => {
                let count = value.parse().map_err(|_| bad())?;
                plan.hosts = (0..count).map(crate::manifest::host).collect();
            }
            "--cpu-of" => plan.cpu_of = Some(value.parse().map_err(|_| bad())?),
            "--idle" => idle = Some(value.parse().map_err(|_| bad())?),
            _ => return Err(format!("load: unknown option {arg}")),
        }
    }
    if plan.hosts.is_empty() || plan.connections == 0 {
        return Err("load: at least one host and one connection are needed".to_owned());
    }
    sys::raise_file_limit();
    if let Some(count) = idle {
        return crate::idle::main(&plan, count);
    }
    let outcome = run(&plan).map_err(|error| format!("load: {error}"))?;
    println!("{}", outcome.to_line());
    Ok(ExitCode::SUCCESS)
}

/// A length of time given in seconds, at most an hour: every run ends.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..=3600.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// The request for a host, as it goes on the wire.
pub(crate) fn request(path: &str, host: &str, close: bool) -> Vec<u8> {
    let close = if close { "connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{close}\r\n").into_bytes()
}

struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    /// The request has been written and its response is awaited.
    asked: bool,
}

struct Load<'a> {
    plan: &'a Plan,
    requests: Vec<Vec<u8>>,
    next_request: usize,
    next_source: u32,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    stopping: bool,
    outcome: Outcome,
}

/// Runs the plan; an error when nothing can be connected or the watched processes are gone.
pub(crate) fn run(plan: &Plan) -> io::Result<Outcome> {
    let watched = plan.cpu_of.map(ProcessTree::of);
    let cpu = || match &watched {
        None => Ok(CpuTicks::default()),
        Some(tree) => tree.cpu().ok_or_else(|| io::Error::other("the proxy ended during the run")),
    };
    let mut load = Load {
        plan,
        requests: plan.hosts.iter().map(|host| request(&plan.path, host, plan.close)).collect(),
        next_request: 0,
        next_source: 0,
        epoll: Epoll::new()?,
        connections: (0..plan.connections).map(|_| None).collect(),
        buffer: vec![0; 64 * 1024],
        stopping: false,
        outcome: Outcome::default(),
    };
    for slot in 0..plan.connections {
        load.connect(slot)?;
    }
    let start = Instant::now();
    load.turn_until(start + plan.warmup)?;
    let (begin, count_before, cpu_before) = (Instant::now(), load.outcome.total, cpu()?);
    load.turn_until(begin + plan.window)?;
    let (end, count_after, cpu_after) = (Instant::now(), load.outcome.total, cpu()?);
    load.stopping = true;
    load.turn_until(end + PATIENCE)?;
    load.outcome.errors +=
        load.connections.iter().flatten().filter(|open| open.asked).count() as u64;
    load.outcome.requests = count_after - count_before;
    load.outcome.seconds = (end - begin).as_secs_f64();
    load.outcome.cpu = CpuTicks {
        user: cpu_after.user.saturating_sub(cpu_before.user),
        system: cpu_after.system.saturating_sub(cpu_before.system),
    };
    Ok(load.outcome)
}

impl Load<'_> {
    /// Serves events until the time has come; when stopping, also until no response is awaited.
    fn turn_until(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= until || self.outcome.errors >= ERROR_LIMIT {
                return Ok(());
            }
            if self.stopping && !self.connections.iter().flatten().any(|open| open.asked) {
                return Ok(());
            }
            let left = (until - now).as_millis().clamp(1, 10) as libc::c_int;
            let ready = self.epoll.wait(left)?;
            for index in 0..ready {
                let (token, flags) = self.epoll.event(index);
                self.progress(token as usize, flags)?;
            }
        }
    }

    fn connect(&mut self, slot: usize) -> io::Result<()> {
        let source = self.plan.close.then(|| {
            self.next_source = (self.next_source + 1) % SOURCES;
            Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + self.next_source)
        });
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.plan.port);
        let stream = TcpStream::from(sys::start_connect(source, target)?);
        let interest = IN | libc::EPOLLOUT | libc::EPOLLET;
        self.epoll.add(stream.as_raw_fd(), interest, slot as u64)?;
        self.connections[slot] =
            Some(Connection { stream, reader: ResponseReader::default(), asked: false });
        Ok(())
    }

    fn progress(&mut self, slot: usize, flags: i32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        if !connection.asked {
            if flags & (libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                return self.failed(slot);
            }
            return if flags & libc::EPOLLOUT != 0 { self.ask(slot) } else { Ok(()) };
        }
        if flags & IN != 0 { self.receive(slot) } else { Ok(()) }
    }

    /// Sends the next request on a connection.
    fn ask(&mut self, slot: usize) -> io::Result<()> {
        if self.stopping {
            return Ok(());
        }
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        let bytes = &self.requests[self.next_request];
        self.next_request = (self.next_request + 1) % self.requests.len();
        connection.asked = true;
        match connection.stream.write(bytes) {
            // A hundred bytes always fit into an empty send queue.
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) | Err(_) => self.failed(slot),
        }
    }

    /// Reads what has come; asks again when a response is complete.
    fn receive(&mut self, slot: usize) -> io::Result<()> {
        loop {
            let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
            let left = connection.reader.body_left();
            let read = if left > DISCARD_FROM {
                // The last byte is left for an ordinary read, which completes the response.
                let limit = (left - 1).min(DISCARD_STEP) as usize;
                match sys::discard(connection.stream.as_raw_fd(), limit) {
                    Ok(taken) if taken > 0 => {
                        connection.reader.skip_body(taken as u64);
                        continue;
                    }
                    other => other,
                }
            } else {
                connection.stream.read(&mut self.buffer)
            };
            let length = match read {
                Ok(0) => return self.failed(slot),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.failed(slot),
            };
            match connection.reader.feed(&self.buffer[..length]) {
                Ok((_, None)) => {}
                // Bytes after the response to the only request would be a framing error.
                Ok((used, Some(response))) if used == length => {
                    return self.finished(slot, response);
                }
                Ok(_) | Err(_) => return self.failed(slot),
            }
        }
    }

    fn finished(&mut self, slot: usize, response: Finished) -> io::Result<()> {
        self.outcome.total += 1;
        self.outcome.non_2xx += u64::from(!(200..300).contains(&response.status));
        if let Some(connection) = &mut self.connections[slot] {
            connection.asked = false;
        }
        if !(self.plan.close || response.close) {
            return self.ask(slot);
        }
        self.connections[slot] = None;
        if self.stopping { Ok(()) } else { self.connect(slot) }
    }

    /// Counts an error and begins anew.
    fn failed(&mut self, slot: usize) -> io::Result<()> {
        self.outcome.errors += 1;
        self.connections[slot] = None;
        if self.stopping || self.outcome.errors >= ERROR_LIMIT {
            return Ok(());
        }
        self.connect(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_line() {
        let outcome = Outcome {
            requests: 12,
            seconds: 0.25,
            cpu: CpuTicks { user: 3, system: 4 },
            total: 15,
            errors: 1,
            non_2xx: 2,
        };
        assert_eq!(Outcome::from_line(&outcome.to_line()), Some(outcome));
        assert_eq!(Outcome::from_line("requests=1 seconds=2"), None);
        assert_eq!(Outcome::from_line(&outcome.to_line().replace("12", "many")), None);
    }

    #[test]
    fn every_run_is_bounded() {
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        for text in ["-1", "1e9", "inf", "NaN", "soon"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn requests_name_their_host() {
        assert_eq!(request("/10k", "a.b", false), b"GET /10k HTTP/1.1\r\nhost: a.b\r\n\r\n");
        assert!(request("/", "a", true).ends_with(b"connection: close\r\n\r\n"));
    }
}
