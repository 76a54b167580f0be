//! Request targets (RFC 9112 section 3.2) and the authorities in them.

use super::RequestError;

/// What a request target says.
pub(super) struct Target<'b> {
    /// Path without query and fragment, or `*`.
    pub(super) path: &'b [u8],
    /// Query without `?`.
    pub(super) query: Option<&'b [u8]>,
    /// The authority of an absolute-form target.
    pub(super) authority: Option<&'b [u8]>,
}

/// Read `target`, which has no white space and no control bytes.
#[inline]
pub(super) fn parse<'b>(method: &[u8], target: &'b [u8]) -> Result<Target<'b>, RequestError> {
    if method == b"CONNECT" {
        return Err(RequestError::ConnectMethod);
    }
    if target.first() == Some(&b'/') {
        let (path, query) = split_query(target);
        return Ok(Target { path, query, authority: None });
    }
    if target == b"*" {
        if method != b"OPTIONS" {
            return Err(RequestError::Target);
        }
        return Ok(Target { path: target, query: None, authority: None });
    }
    absolute(method, target)
}

#[cold]
fn absolute<'b>(method: &[u8], target: &'b [u8]) -> Result<Target<'b>, RequestError> {
    let Some(colon) = memchr::memmem::find(target, b"://") else {
        return Err(RequestError::Target);
    };
    let (scheme, rest) = (&target[..colon], &target[colon + 3..]);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        let scheme_like =
            !scheme.is_empty() && scheme.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'+');
        return Err(if scheme_like { RequestError::TargetScheme } else { RequestError::Target });
    }
    let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if !is_valid_authority(authority) {
        return Err(RequestError::HostInvalid);
    }
    let (path, query) = split_query(rest);
    let path = match (path.is_empty(), query) {
        (false, _) => path,
        // RFC 9112 section 3.2.4: the URI without a path of an OPTIONS request means the server.
        (true, None) if method == b"OPTIONS" => b"*",
        (true, _) => b"/",
    };
    Ok(Target { path, query, authority: Some(authority) })
}

/// Path and query; the fragment, which has no business in a target, is dropped as Envoy does.
#[inline]
fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = memchr::memchr2(b'?', b'#', target) else {
        return (target, None);
    };
    let path = &target[..at];
    if target[at] == b'#' {
        return (path, None);
    }
    let query = &target[at + 1..];
    let end = memchr::memchr(b'#', query).unwrap_or(query.len());
    (path, Some(&query[..end]))
}

/// Bytes of a registered name or IPv4 address: unreserved and sub-delims of RFC 3986 without the
/// comma, by which a list of hosts would pass for one.
static NAME_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

/// Is this `host[:port]` with no userinfo: a name, an IPv4 address or a bracketed IPv6 address, and
/// a port of 0 to 65535 or empty?
#[inline]
pub(super) fn is_valid_authority(authority: &[u8]) -> bool {
    if authority.first() == Some(&b'[') {
        return is_valid_bracketed(authority);
    }
    match authority.iter().position(|b| !NAME_BYTE[*b as usize]) {
        None => !authority.is_empty(),
        Some(0) if authority[0] == b':' => false,
        Some(at) if authority[at] == b':' => is_valid_port(&authority[at + 1..]),
        Some(at) if authority[at] == b'%' => is_valid_escaped(authority),
        Some(_) => false,
    }
}

#[cold]
fn is_valid_bracketed(authority: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b']', authority) else {
        return false;
    };
    let is_address = std::str::from_utf8(&authority[1..end])
        .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    is_address
        && match &authority[end + 1..] {
            [] => true,
            [b':', port @ ..] => is_valid_port(port),
            _ => false,
        }
}

#[cold]
fn is_valid_escaped(authority: &[u8]) -> bool {
    let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
    let (mut name, port) = authority.split_at(end);
    while let [first, rest @ ..] = name {
        name = match (first, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            (first, rest) if NAME_BYTE[*first as usize] => rest,
            _ => return false,
        };
    }
    port.is_empty() || is_valid_port(&port[1..])
}

#[inline]
fn is_valid_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port
            .iter()
            .try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
            .is_some_and(|n| n <= 65_535)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "a",
            "a.b:80",
            "a:",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "x_y.z",
            "a%20b:1",
            "*.example.com",
            "a:65535",
            "xn--bcher-kva.example.",
        ] {
            assert!(is_valid_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:123456",
            "a:+1",
            "u@h",
            "u:p@h",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "[::1",
            "[::1]x",
            "[a]",
            "[]",
            "::1",
            "a%2",
            "a%zz",
            "a%20b:x",
            "a\"",
            "<a>",
            "é",
            "[fe80::1%25eth0]",
            "a:80:80",
            "%41@b",
        ] {
            assert!(!is_valid_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn targets() {
        fn read(
            method: &str,
            target: &str,
        ) -> Result<(String, Option<String>, Option<String>), u16> {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            parse(method.as_bytes(), target.as_bytes())
                .map(|t| (text(t.path), t.query.map(text), t.authority.map(text)))
                .map_err(RequestError::status)
        }
        fn ok(
            path: &str,
            query: Option<&str>,
            authority: Option<&str>,
        ) -> Result<(String, Option<String>, Option<String>), u16> {
            Ok((path.into(), query.map(Into::into), authority.map(Into::into)))
        }
        assert_eq!(read("GET", "/"), ok("/", None, None));
        assert_eq!(read("GET", "//a"), ok("//a", None, None));
        assert_eq!(read("GET", "/a?b?c#d?e"), ok("/a", Some("b?c"), None));
        assert_eq!(read("GET", "/a?"), ok("/a", Some(""), None));
        assert_eq!(read("GET", "/a#b?c"), ok("/a", None, None));
        assert_eq!(read("GET", "http://h:1/a?b"), ok("/a", Some("b"), Some("h:1")));
        assert_eq!(read("GET", "HTTPS://h"), ok("/", None, Some("h")));
        assert_eq!(read("GET", "http://h?q"), ok("/", Some("q"), Some("h")));
        assert_eq!(read("GET", "http://h#f"), ok("/", None, Some("h")));
        assert_eq!(read("OPTIONS", "http://h"), ok("*", None, Some("h")));
        assert_eq!(read("OPTIONS", "http://h/"), ok("/", None, Some("h")));
        assert_eq!(read("OPTIONS", "*"), ok("*", None, None));
        assert_eq!(read("CONNECT", "h:443"), Err(405));
        assert_eq!(read("CONNECT", "/"), Err(405));
        for target in [
            "*",
            "h",
            "h:80",
            "*/",
            "?q",
            "#",
            "http:/h",
            "http:h",
            "ftp://h/",
            "://h",
            "http://",
            "http:///a",
            "http://u@h/",
            "http://u:p@h/",
            "http://a,b/",
            "/a".strip_prefix('/').unwrap_or(""),
            "a/b://h",
        ] {
            assert_eq!(read("GET", target), Err(400), "{target}");
        }
    }
}
