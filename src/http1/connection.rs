//! `Connection` (RFC 9110 section 7.6.1) and the fields that concern one hop only.

use crate::http::{HeaderField, KnownHeader};
use crate::limits::CONNECTION_OPTIONS_MAX;

use super::error::Fault;

/// What the `Connection` fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// Options that are field names.
    pub(super) nominated: usize,
}

impl ConnectionOptions {
    /// Read one `Connection` value.
    #[inline]
    pub(super) fn read(&mut self, value: &[u8]) -> Result<(), Fault> {
        // The two that nearly every message with this field has.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        if value.eq_ignore_ascii_case(b"close") {
            self.close = true;
            return Ok(());
        }
        for option in list(value) {
            match option.len() {
                0 => {}
                2 if option.eq_ignore_ascii_case(b"te") => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => {
                    self.nominated += 1;
                    if self.nominated > CONNECTION_OPTIONS_MAX {
                        return Err(Fault::ConnectionOptions);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The elements of a comma-separated value, outer white space removed, empty ones included.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Answers, field by field, whether `Connection` of the same message names it as hop-by-hop, and
/// whether it may be removed for that. Without such names (nearly always) the answer is one
/// comparison.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionNominated<'b> {
    headers: &'b [HeaderField<'b>],
    any: bool,
}

impl<'b> ConnectionNominated<'b> {
    pub(super) fn new(headers: &'b [HeaderField<'b>], options: ConnectionOptions) -> Self {
        ConnectionNominated { headers, any: options.nominated > 0 }
    }

    /// `Connection` is absent, or names nothing besides `close`, `keep-alive`, `upgrade`, `te`.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Must `field` be left out of the forwarded head because `Connection` names it? False for
    /// the names that no sender may take away: those that the gateway itself acts on, framing,
    /// representation (`content-*`) and forwarding (`forwarded`, `x-forwarded-*`, `x-real-ip`)
    /// fields. For the fields that go in any case, see [`is_hop_by_hop`].
    #[inline]
    pub fn contains(&self, field: &HeaderField<'_>) -> bool {
        self.any && self.is_named(field)
    }

    #[cold]
    fn is_named(&self, field: &HeaderField<'_>) -> bool {
        if field.known != KnownHeader::Other || is_protected(field.name) {
            return false;
        }
        self.headers
            .iter()
            .filter(|other| other.known == KnownHeader::Connection)
            .flat_map(|connection| list(connection.value))
            .any(|option| option.eq_ignore_ascii_case(field.name))
    }
}

/// Names without a [`KnownHeader`] that `Connection` cannot take away.
fn is_protected(name: &[u8]) -> bool {
    const NAMES: &[&[u8]] =
        &[b"forwarded", b"x-real-ip", b"cache-control", b"max-forwards", b"range", b"vary"];
    const PREFIXES: &[&[u8]] = &[b"x-forwarded-", b"content-", b"x-envoy-", b"x-istio-"];
    NAMES.iter().any(|protected| name.eq_ignore_ascii_case(protected))
        || PREFIXES.iter().any(|prefix| starts_with_ignore_case(name, prefix))
}

pub(super) fn starts_with_ignore_case(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Is `field` for one hop only, whatever `Connection` says, so that it is never copied into a
/// forwarded head (RFC 9110 section 7.6.1)? `Connection`, `Keep-Alive`, `Transfer-Encoding`, `TE`,
/// `Upgrade`, `HTTP2-Settings`, `Proxy-*` and `Proxy`. The writer adds what the next hop needs:
/// its own framing, `te: trailers`, `Connection` with `Upgrade` for a tunnel. `Trailer` is kept.
#[inline]
pub fn is_hop_by_hop(field: &HeaderField<'_>) -> bool {
    match field.known {
        KnownHeader::Connection
        | KnownHeader::KeepAlive
        | KnownHeader::TransferEncoding
        | KnownHeader::Te
        | KnownHeader::Upgrade
        | KnownHeader::HttpSettings
        | KnownHeader::ProxyConnection
        | KnownHeader::ProxyAuthenticate
        | KnownHeader::ProxyAuthorization => true,
        KnownHeader::Other => is_proxy_field(field.name),
        _ => false,
    }
}

/// `Proxy-*`, and `Proxy` (CVE-2016-5385: CGI programs read it as their outgoing proxy).
#[inline]
pub fn is_proxy_field(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'p' | b'P'))
        && (starts_with_ignore_case(name, b"proxy-") || name.eq_ignore_ascii_case(b"proxy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'b>(name: &'b str, value: &'b str) -> HeaderField<'b> {
        HeaderField {
            name: name.as_bytes(),
            value: value.as_bytes(),
            known: KnownHeader::from_name(name.as_bytes()),
        }
    }

    #[test]
    fn options_are_read_in_any_case_and_spacing() {
        let mut options = ConnectionOptions::default();
        options.read(b" Upgrade ,, TE,\tX-Hop").expect("few options");
        assert!(options.upgrade && !options.close && !options.keep_alive);
        assert_eq!(options.nominated, 1);
        options.read(b"CLOSE").expect("few options");
        options.read(b"Keep-Alive").expect("few options");
        options.read(b"foo, close, keep-alive").expect("few options");
        assert!(options.close && options.keep_alive);
        assert_eq!(options.nominated, 2);
        let many = "x,".repeat(CONNECTION_OPTIONS_MAX + 1);
        assert_eq!(
            ConnectionOptions::default().read(many.as_bytes()),
            Err(Fault::ConnectionOptions)
        );
    }

    #[test]
    fn nominated_fields_go_but_protected_ones_stay() {
        let headers = [
            field("Connection", "close, x-hop, content-length, Host, Authorization"),
            field("connection", "X-Forwarded-For, x-forwarded-anything, cookie, content-encoding"),
        ];
        let mut options = ConnectionOptions::default();
        for header in &headers {
            options.read(header.value).expect("few options");
        }
        let nominated = ConnectionNominated::new(&headers, options);
        assert!(!nominated.is_empty());
        assert!(nominated.contains(&field("X-HOP", "")));
        for name in [
            "content-length",
            "host",
            "authorization",
            "x-forwarded-for",
            "x-forwarded-anything",
            "cookie",
            "content-encoding",
            "x-other",
        ] {
            assert!(!nominated.contains(&field(name, "")), "{name}");
        }
        let nothing = ConnectionNominated::new(&headers, ConnectionOptions::default());
        assert!(nothing.is_empty() && !nothing.contains(&field("x-hop", "")));
    }

    #[test]
    fn hop_by_hop_names() {
        for name in [
            "connection",
            "Keep-Alive",
            "transfer-encoding",
            "TE",
            "upgrade",
            "HTTP2-Settings",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "Proxy-Authentication-Info",
            "Proxy",
        ] {
            assert!(is_hop_by_hop(&field(name, "")), "{name}");
        }
        for name in ["trailer", "host", "content-length", "proxyfoo", "pragma", "x-proxy-a"] {
            assert!(!is_hop_by_hop(&field(name, "")), "{name}");
        }
    }
}
