//! Lines of an access log, read back to requests: Istio's default text line and its JSON object, as
//! this gateway and Envoy write them. A line has of the fields only those that it shows.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::explain::Asked;

/// What a line tells of its request.
struct Logged<'l> {
    method: &'l str,
    path: &'l str,
    authority: &'l str,
    user_agent: Option<&'l str>,
    forwarded_for: Option<&'l str>,
    local_address: Option<&'l str>,
    remote_address: Option<&'l str>,
}

/// A line of `--access-log-format json`.
pub(super) fn json_line(line: &str) -> Result<(Asked, Option<u16>), String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("it is not JSON: {error}"))?;
    let text = |key: &str| value[key].as_str().filter(|text| *text != "-" && !text.is_empty());
    let needed = |key: &str| text(key).ok_or_else(|| format!("it tells no `{key}` of the request"));
    request(&Logged {
        method: needed("method")?,
        path: needed("path")?,
        authority: needed("authority")?,
        user_agent: text("user_agent"),
        forwarded_for: text("x_forwarded_for"),
        local_address: text("downstream_local_address"),
        remote_address: text("downstream_remote_address"),
    })
}

/// A line of `--access-log-format text`.
pub(super) fn text_line(line: &str) -> Result<(Asked, Option<u16>), String> {
    let parts = parts(line)?;
    let part = |index: usize| {
        parts.get(index).map(String::as_str).filter(|part| *part != "-" && !part.is_empty())
    };
    let needed = |index: usize, what: &str| {
        part(index).ok_or_else(|| format!("it tells no {what} of the request"))
    };
    let first = needed(1, "first line")?;
    let words: Vec<&str> = first.split(' ').collect();
    let [method, path, _version] = words[..] else {
        return Err(format!("`{first}` is no first line of a request"));
    };
    if parts.len() < 20 {
        return Err("it has fewer fields than Istio's default format".to_owned());
    }
    if method == "-" || path == "-" {
        return Err(
            "it tells no method and path: the gateway could not read the request".to_owned()
        );
    }
    // As in a request line: a space in a path is not one.
    let (method, path) = (unescape(method), unescape(path));
    let user_agent = part(12).map(unescape);
    let authority = unescape(needed(14, "authority")?);
    let forwarded_for = part(11).map(unescape);
    request(&Logged {
        method: &method,
        path: &path,
        authority: &authority,
        user_agent: user_agent.as_deref(),
        forwarded_for: forwarded_for.as_deref(),
        local_address: part(18),
        remote_address: part(19),
    })
}

fn request(logged: &Logged<'_>) -> Result<(Asked, Option<u16>), String> {
    let Logged { method, path, authority, .. } = logged;
    let one_line = [Some(*method), Some(*path), Some(*authority), logged.user_agent]
        .into_iter()
        .chain([logged.forwarded_for])
        .flatten()
        .all(|text| !text.contains(['\r', '\n']));
    if !one_line {
        return Err("a line end stands in a field".to_owned());
    }
    let mut fields = Vec::new();
    if let Some(user_agent) = logged.user_agent {
        fields.push(format!("user-agent: {user_agent}"));
    }
    let client = logged.remote_address.and_then(|address| address.parse::<SocketAddr>().ok());
    if let Some(before) = logged.forwarded_for.and_then(|list| without_last(list, client)) {
        fields.push(format!("x-forwarded-for: {before}"));
    }
    let asked =
        Asked::from_parts(method, false, authority, path, &fields).map_err(|e| e.to_string())?;
    let local = logged.local_address.and_then(|address| address.parse::<SocketAddr>().ok());
    Ok((asked, local.map(|address| address.port())))
}

/// What the client sent: the log shows the field that went upstream, which ends with its address.
fn without_last(list: &str, client: Option<SocketAddr>) -> Option<&str> {
    let (before, last) = match list.rsplit_once(',') {
        Some((before, last)) => (Some(before), last),
        None => (None, list),
    };
    let is_client = last.trim().parse::<IpAddr>().is_ok_and(|last| {
        client.is_none_or(|client| client.ip().to_canonical() == last.to_canonical())
    });
    if is_client { before } else { Some(list) }
}

/// The parts of a line: `[…]`, `"…"`, or what stands between blanks.
fn parts(line: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (part, behind) = match first {
            '[' => rest[1..].split_once(']').ok_or("a `[` does not end")?,
            '"' => rest[1..].split_once('"').ok_or("a quote does not end")?,
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        parts.push(part.to_owned());
        rest = behind.trim_start();
    }
    Ok(parts)
}

/// `\xHH` of a log line is a byte again.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = behind;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[2026-01-02T03:04:05.678Z] \"GET /a?b=c HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 \
                        12 11 \"10.1.1.1,192.0.2.7\" \"curl/8 \\x22x\\x22\" \"id\" \"a.com:8080\" \
                        \"10.0.0.1:80\" outbound|80||one.default.svc.cluster.local 10.0.0.2:1 \
                        10.0.0.3:8080 192.0.2.7:4711 - main";

    fn head(read: Result<(Asked, Option<u16>), String>) -> (String, Option<u16>) {
        let (asked, port) = read.expect("good");
        (String::from_utf8(asked.head).expect("text"), port)
    }

    #[test]
    fn both_forms_tell_the_request() {
        let expected = "GET /a?b=c HTTP/1.1\r\nhost: a.com:8080\r\nuser-agent: curl/8 \"x\"\r\n\
                        x-forwarded-for: 10.1.1.1\r\n\r\n";
        assert_eq!(head(text_line(LINE)), (expected.to_owned(), Some(8080)));
        let json = r#"{"method":"GET","path":"/a?b=c","authority":"a.com:8080","user_agent":"curl/8 \"x\"",
            "x_forwarded_for":"10.1.1.1,192.0.2.7","downstream_local_address":"10.0.0.3:8080",
            "downstream_remote_address":"192.0.2.7:4711","route_name":null}"#;
        assert_eq!(head(json_line(json)), (expected.to_owned(), Some(8080)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (line, part) in [
            (LINE.replace("GET /a?b=c HTTP/1.1", "- - HTTP/1.1"), "could not read"),
            (LINE.replace("GET /a?b=c HTTP/1.1", "GET"), "first line"),
            (LINE.replace("\"a.com:8080\"", "\"-\""), "authority"),
            (LINE.replace("\"a.com:8080\"", "\"a.com:x\""), "not a port"),
            (LINE.replace("/a?b=c", "/a\\x0d\\x0ab"), "line end"),
            (LINE[..60].to_owned(), "fewer fields"),
            (LINE[..40].to_owned(), "quote"),
            ("[".to_owned(), "`[`"),
        ] {
            let error = text_line(&line).expect_err(&line);
            assert!(error.contains(part), "{line}: {error}");
        }
        for (line, part) in [
            ("{", "not JSON"),
            ("{}", "`method`"),
            (r#"{"method":"GET","path":"/","authority":null}"#, "`authority`"),
            (
                r#"{"method":"GET","path":"/","authority":"a.com","user_agent":"\r\nx: y"}"#,
                "line end",
            ),
        ] {
            let error = json_line(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn only_the_clients_own_entry_is_taken_off() {
        let client = "192.0.2.7:1".parse().ok();
        assert_eq!(without_last("192.0.2.7", client), None);
        assert_eq!(without_last("10.0.0.1, 192.0.2.7", client), Some("10.0.0.1"));
        assert_eq!(without_last("10.0.0.1", client), Some("10.0.0.1"));
        assert_eq!(without_last("10.0.0.1", None), None);
        assert_eq!(without_last("unknown", None), Some("unknown"));
    }

    #[test]
    fn escapes_are_bytes_again() {
        assert_eq!(unescape("a\\x20b\\xzz\\x"), "a b\\xzz\\x");
        assert_eq!(unescape("\\xc3\\xa4"), "ä");
    }
}
