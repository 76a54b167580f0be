//! What a run is asked to do, piece by piece: from a scenario file, then from the command line, whose word
//! is the last.

use std::path::PathBuf;
use std::time::Duration;

use crate::profile::Profile;
use crate::schedule::Arrivals;
use crate::target::Target;

/// HTTP version of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request under way on a connection.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }

    /// From a scenario's `protocol`.
    pub(crate) fn parse(text: &str) -> Result<Protocol, String> {
        match text {
            "http1" | "http/1.1" => Ok(Protocol::Http1),
            "http2" | "http/2" | "h2" => Ok(Protocol::Http2),
            other => Err(format!("\"{other}\" is no protocol: http1 or http2")),
        }
    }
}

/// What a response must be to count as good.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Check {
    /// Ranges of statuses, both ends with; empty: 200 to 399.
    pub(crate) statuses: Vec<(u16, u16)>,
    /// The body is this.
    pub(crate) body: Option<Vec<u8>>,
    /// This stands somewhere in the body's first MiB.
    pub(crate) contains: Option<Vec<u8>>,
    /// The body has so many bytes.
    pub(crate) length: Option<u64>,
}

impl Check {
    pub(crate) fn allows_status(&self, status: u16) -> bool {
        match self.statuses.as_slice() {
            [] => (200..400).contains(&status),
            ranges => ranges.iter().any(|&(low, high)| (low..=high).contains(&status)),
        }
    }

    /// Must the body be kept to be looked at?
    pub(crate) fn sees_body(&self) -> bool {
        self.body.is_some() || self.contains.is_some()
    }

    pub(crate) fn allows_body(&self, kept: &[u8], length: u64) -> bool {
        if self.length.is_some_and(|wanted| wanted != length) {
            return false;
        }
        if self.body.as_ref().is_some_and(|wanted| wanted.as_slice() != kept) {
            return false;
        }
        let holds = |part: &Vec<u8>| {
            part.is_empty() || kept.windows(part.len()).any(|window| window == part.as_slice())
        };
        self.contains.as_ref().is_none_or(holds)
    }

    /// `200`, `2xx`, or `200-299`.
    pub(crate) fn parse_status(text: &str) -> Result<(u16, u16), String> {
        let wrong = || format!("\"{text}\" is no status such as 200, 2xx or 200-299");
        let number = |text: &str| {
            text.trim().parse().ok().filter(|status| (100..1000).contains(status)).ok_or_else(wrong)
        };
        let text = text.trim();
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse().ok().filter(|class| (1..=9).contains(class));
            let class: u16 = class.ok_or_else(wrong)?;
            return Ok((class * 100, class * 100 + 99));
        }
        match text.split_once('-') {
            Some((low, high)) => Ok((number(low)?, number(high)?)),
            None => number(text).map(|status| (status, status)),
        }
    }
}

/// One request of a mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestSettings {
    /// In results.
    pub(crate) name: String,
    /// How often, against the others.
    pub(crate) weight: u32,
    pub(crate) method: String,
    /// With the query; none: the target's.
    pub(crate) path: Option<String>,
    /// Of this request alone; the `host` field is one of them.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) check: Check,
}

impl Default for RequestSettings {
    fn default() -> RequestSettings {
        RequestSettings {
            name: "request".to_owned(),
            weight: 1,
            method: "GET".to_owned(),
            path: None,
            host: None,
            headers: Vec::new(),
            body: Vec::new(),
            check: Check::default(),
        }
    }
}

/// The pieces; what is none has the default of [`crate::plan`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) target: Option<Target>,
    pub(crate) host: Option<String>,
    pub(crate) protocol: Option<Protocol>,
    /// None: a closed loop.
    pub(crate) rate: Option<Profile>,
    pub(crate) arrivals: Option<Arrivals>,
    pub(crate) connections: Option<u32>,
    /// Requests under way on one HTTP/2 connection.
    pub(crate) streams: Option<u32>,
    pub(crate) threads: Option<u32>,
    pub(crate) duration: Option<Duration>,
    pub(crate) warmup: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keep_alive: Option<bool>,
    /// Authorities that sign the target's certificate, PEM.
    pub(crate) trust: Option<PathBuf>,
    /// Any certificate will do.
    pub(crate) insecure: Option<bool>,
    /// TLS sessions are resumed.
    pub(crate) resume_tls: Option<bool>,
    /// Of poisson arrivals and of the choice among requests: the same seed makes the same run.
    pub(crate) seed: Option<u64>,
    /// Sent with every request.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) requests: Vec<RequestSettings>,
}

impl Settings {
    /// Puts what `over` says over what is there.
    pub(crate) fn overlay(self, over: Settings) -> Settings {
        let mut headers = self.headers;
        headers.retain(|(name, _)| !over.headers.iter().any(|(new, _)| new == name));
        headers.extend(over.headers);
        Settings {
            target: over.target.or(self.target),
            host: over.host.or(self.host),
            protocol: over.protocol.or(self.protocol),
            rate: over.rate.or(self.rate),
            arrivals: over.arrivals.or(self.arrivals),
            connections: over.connections.or(self.connections),
            streams: over.streams.or(self.streams),
            threads: over.threads.or(self.threads),
            duration: over.duration.or(self.duration),
            warmup: over.warmup.or(self.warmup),
            timeout: over.timeout.or(self.timeout),
            keep_alive: over.keep_alive.or(self.keep_alive),
            trust: over.trust.or(self.trust),
            insecure: over.insecure.or(self.insecure),
            resume_tls: over.resume_tls.or(self.resume_tls),
            seed: over.seed.or(self.seed),
            headers,
            requests: if over.requests.is_empty() { self.requests } else { over.requests },
        }
    }
}

/// `name: value`, as on a header line.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("\"{text}\" is not \"name: value\""))?;
    check_header(name.trim(), value.trim())?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Are these a field name and value that can be sent as they are?
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("\"{name}\" is no name of a header field"));
    }
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 127) {
        return Err(format!("the value of \"{name}\" has a control character"));
    }
    let reserved = ["content-length", "transfer-encoding", "connection"];
    if reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(format!("\"{name}\" is set by ringress-load itself"));
    }
    Ok(())
}

/// Is this a path with its query that can stand in a request line?
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') && path != "*" {
        return Err(format!("the path \"{path}\" does not begin with /"));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(format!(
            "the path \"{path}\" has a space, a control character, a # or a letter beyond ASCII: write \
             it %-encoded"
        ));
    }
    Ok(())
}

/// Is this a method?
pub(crate) fn check_method(method: &str) -> Result<(), String> {
    if method == "CONNECT" {
        return Err("CONNECT is not supported".to_owned());
    }
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(format!("\"{method}\" is no method such as GET or POST"));
    }
    Ok(())
}

/// Is this a name for a `host` field?
pub(crate) fn check_host(host: &str) -> Result<(), String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]~%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_fine) {
        return Err(format!("\"{host}\" is no host name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_status_and_body() {
        assert_eq!(Check::parse_status("204"), Ok((204, 204)));
        assert_eq!(Check::parse_status("2xx"), Ok((200, 299)));
        assert_eq!(Check::parse_status("200-404"), Ok((200, 404)));
        for text in ["", "xx", "20", "0xx", "2000", "a-b"] {
            assert!(Check::parse_status(text).is_err(), "{text}");
        }
        let check = Check::default();
        assert!(check.allows_status(204) && check.allows_status(302));
        assert!(!check.allows_status(404) && !check.allows_status(500));
        let check = Check { statuses: vec![(404, 404)], ..Check::default() };
        assert!(check.allows_status(404) && !check.allows_status(200));
        let check = Check { contains: Some(b"lo w".to_vec()), ..Check::default() };
        assert!(check.allows_body(b"hello world", 11) && !check.allows_body(b"hello", 5));
        let check = Check { body: Some(b"a".to_vec()), ..Check::default() };
        assert!(check.allows_body(b"a", 1) && !check.allows_body(b"ab", 2));
        let check = Check { length: Some(7), ..Check::default() };
        assert!(check.allows_body(b"", 7) && !check.allows_body(b"", 8));
    }

    #[test]
    fn nothing_that_breaks_a_head_gets_into_it() {
        assert_eq!(parse_header("X-A: b c"), Ok(("x-a".to_owned(), "b c".to_owned())));
        for text in ["x", ": y", "a b: c", "x: a\r\ny: z", "content-length: 5", "x: \u{7}"] {
            assert!(parse_header(text).is_err(), "{text:?}");
        }
        for path in ["", "a", "/a b", "/a\r\n", "/ä", "/#x"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_method("get").is_err() && check_method("GET /").is_err());
        assert!(check_host("a b").is_err() && check_host("hello.com:80").is_ok());
    }

    #[test]
    fn the_later_word_counts() {
        let file = Settings {
            connections: Some(8),
            streams: Some(2),
            headers: vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())],
            ..Settings::default()
        };
        let line = Settings {
            connections: Some(9),
            headers: vec![("a".to_owned(), "3".to_owned())],
            ..Settings::default()
        };
        let both = file.overlay(line);
        assert_eq!((both.connections, both.streams), (Some(9), Some(2)));
        let headers: Vec<_> =
            both.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("b", "2"), ("a", "3")]);
    }
}
