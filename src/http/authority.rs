//! `host[:port]`: splitting and comparing (RFC 3986 section 3.2, RFC 9110 section 7.2).

/// Bytes of the longest host name that any table holds (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 255;

/// Split `host[:port]` at its port. The brackets of an IPv6 literal stay part of the host; the
/// colon is part of neither. `a.com:` has the empty port, `a.com` none.
///
/// Any bytes may be given; `http1` has refused those that are no authority.
#[inline]
pub fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A port is short: looking from the end finds its colon or the first byte that is not a digit.
    let digits = authority.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let before = authority.len() - digits;
    match before.checked_sub(1) {
        Some(colon) if authority[colon] == b':' => {
            (&authority[..colon], Some(&authority[before..]))
        }
        _ => (authority, None),
    }
}

/// The host without port, and without the one dot that may end an absolute name (`a.com.` names
/// what `a.com` names). A lone `.` stays.
#[inline]
pub fn host(authority: &[u8]) -> &[u8] {
    let (host, _) = split(authority);
    match host {
        [name @ .., b'.'] if !name.is_empty() => name,
        _ => host,
    }
}

/// The [`host`] of `authority` in lower case, written into `buffer`. None when it is longer than
/// [`HOST_BYTES_MAX`]: no name is.
#[inline]
pub fn canonical_host<'b>(
    authority: &[u8],
    buffer: &'b mut [u8; HOST_BYTES_MAX],
) -> Option<&'b [u8]> {
    let host = host(authority);
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_port_is_split_off() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("a.com", "a.com", None),
            ("a.com:80", "a.com", Some("80")),
            ("a.com:", "a.com", Some("")),
            ("127.0.0.1", "127.0.0.1", None),
            ("127.0.0.1:8080", "127.0.0.1", Some("8080")),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some("80")),
            ("[2001:db8::1]:65535", "[2001:db8::1]", Some("65535")),
            ("1234", "1234", None),
            ("", "", None),
            (":80", "", Some("80")),
            ("a:b", "a:b", None),
        ];
        for (authority, host, port) in cases {
            let got = split(authority.as_bytes());
            assert_eq!(got, (host.as_bytes(), port.map(str::as_bytes)), "{authority}");
        }
    }

    #[test]
    fn one_dot_at_the_end_is_not_part_of_the_name() {
        let cases = [
            ("a.com.", "a.com"),
            ("a.com.:80", "a.com"),
            ("a.com..", "a.com."),
            (".", "."),
            ("a.com", "a.com"),
        ];
        for (authority, expected) in cases {
            assert_eq!(host(authority.as_bytes()), expected.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn hosts_are_lowered_into_the_buffer() {
        let mut buffer = [0; HOST_BYTES_MAX];
        let lowered = canonical_host(b"Hello.COM.:8080", &mut buffer);
        assert_eq!(lowered, Some(b"hello.com".as_slice()));
        let mut long = vec![b'A'; HOST_BYTES_MAX];
        assert_eq!(canonical_host(&long, &mut buffer).map(<[u8]>::len), Some(HOST_BYTES_MAX));
        long.push(b'a');
        assert_eq!(canonical_host(&long, &mut buffer), None);
        assert_eq!(canonical_host(b"", &mut buffer), Some(b"".as_slice()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(authority: Vec<u8>) {
            let mut buffer = [0; HOST_BYTES_MAX];
            let (host, port) = split(&authority);
            prop_assert_eq!(
                host.len() + port.map_or(0, |p| p.len() + 1),
                authority.len()
            );
            if let Some(lower) = canonical_host(&authority, &mut buffer) {
                prop_assert!(!lower.iter().any(u8::is_ascii_uppercase));
            }
        }

        #[test]
        fn a_port_never_changes_the_host(name in "[a-zA-Z0-9.-]{0,20}[a-z]", port in 0u16..) {
            let with_port = format!("{name}:{port}");
            prop_assert_eq!(host(with_port.as_bytes()), host(name.as_bytes()));
        }
    }
}
