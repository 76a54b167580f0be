//! `host[:port]`: splitting and comparing.

/// Longest host name that any table holds (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 255;

/// Split into host and port text. The host of an IPv6 literal keeps its brackets. A port that is not
/// a number belongs to no valid authority and stays with the host.
pub fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let colon = match authority.first() {
        Some(b'[') => match authority.iter().position(|byte| *byte == b']') {
            Some(end) if authority.get(end + 1) == Some(&b':') => Some(end + 1),
            _ => None,
        },
        _ => memchr::memrchr(b':', authority),
    };
    match colon {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) => {
            let port = &authority[at + 1..];
            (&authority[..at], (!port.is_empty()).then_some(port))
        }
        _ => (authority, None),
    }
}

/// The host in lower case, without port and without the root's trailing dot (`a.com.` is the same
/// host as `a.com`), written into `buffer`. `None` when it is longer than any host name: it matches
/// nothing.
#[inline]
pub fn canonical_host<'b>(
    authority: &[u8],
    buffer: &'b mut [u8; HOST_BYTES_MAX + 1],
) -> Option<&'b [u8]> {
    let (host, _) = split(authority);
    let host = match host {
        [rest @ .., b'.'] if !rest.is_empty() => rest,
        other => other,
    };
    let target = buffer.get_mut(..host.len())?;
    target.copy_from_slice(host);
    target.make_ascii_lowercase();
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_split_off() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("a.com", "a.com", None),
            ("a.com:8080", "a.com", Some("8080")),
            ("a.com:", "a.com", None),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some("80")),
            ("a:b", "a:b", None),
            ("", "", None),
        ];
        for (authority, host, port) in cases {
            let (got_host, got_port) = split(authority.as_bytes());
            assert_eq!(got_host, host.as_bytes(), "{authority}");
            assert_eq!(got_port, port.map(str::as_bytes), "{authority}");
        }
    }

    #[test]
    fn hosts_become_canonical() {
        let mut buffer = [0; HOST_BYTES_MAX + 1];
        for (authority, host) in
            [("Hello.COM:80", "hello.com"), ("a.com.", "a.com"), (".", "."), ("", "")]
        {
            let got = canonical_host(authority.as_bytes(), &mut buffer);
            assert_eq!(got, Some(host.as_bytes()), "{authority}");
        }
        assert_eq!(canonical_host(&[b'a'; 300], &mut buffer), None);
    }
}
