//! Where a redirect leads (Istio's `HTTPRedirect`, Envoy's `RedirectAction`).

use crate::http::{RequestHead, Scheme, authority};
use crate::snapshot::{Redirect, RedirectPath, RedirectPort};

/// Write the value of `location` for `head`, whose path is canonical.
pub fn write_location(out: &mut Vec<u8>, redirect: &Redirect, head: &RequestHead<'_>) {
    let scheme = redirect.scheme.unwrap_or(head.scheme);
    let (host, asked_port) = match &redirect.authority {
        // It replaces the port too.
        Some(authority) => (authority.as_bytes(), None),
        None => authority::split(head.authority),
    };
    out.clear();
    out.extend_from_slice(scheme.as_str().as_bytes());
    out.extend_from_slice(b"://");
    out.extend_from_slice(host);
    match redirect.port {
        RedirectPort::Default => {}
        RedirectPort::Number(port) if port == default_port(scheme) => {}
        RedirectPort::Number(port) => write_port(out, itoa::Buffer::new().format(port).as_bytes()),
        RedirectPort::AsSent => {
            if let Some(port) = asked_port {
                write_port(out, port);
            }
        }
        RedirectPort::Keep => {
            if let Some(port) = asked_port {
                let old_default = itoa::Buffer::new().format(default_port(head.scheme)).to_owned();
                let changes = scheme != head.scheme;
                if !(changes && port == old_default.as_bytes()) {
                    write_port(out, port);
                }
            }
        }
    }
    let mut query = head.query;
    match &redirect.path {
        RedirectPath::Keep => out.extend_from_slice(head.path),
        RedirectPath::Full(path) => {
            out.extend_from_slice(path.as_bytes());
            if path.contains('?') {
                query = None;
            }
        }
        RedirectPath::Prefix { length, replacement } => {
            out.extend_from_slice(replacement.as_bytes());
            out.extend_from_slice(head.path.get(*length..).unwrap_or_default());
        }
    }
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

fn write_port(out: &mut Vec<u8>, port: &[u8]) {
    out.push(b':');
    out.extend_from_slice(port);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Version;

    fn location(redirect: Redirect, authority: &str, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let head = RequestHead {
            method: b"GET",
            path: path.as_bytes(),
            query,
            authority: authority.as_bytes(),
            scheme: Scheme::Http,
            version: Version::Http11,
            headers: &[],
        };
        let mut out = Vec::new();
        write_location(&mut out, &redirect, &head);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn paths_and_queries() {
        let to = |path| Redirect { path, ..Redirect::default() };
        let full = |path: &str| to(RedirectPath::Full(path.into()));
        assert_eq!(location(full("/new"), "a.com", "/old?q=1"), "http://a.com/new?q=1");
        assert_eq!(location(full("/new?x"), "a.com", "/old?q=1"), "http://a.com/new?x");
        let prefix = RedirectPath::Prefix { length: 4, replacement: "/new".into() };
        assert_eq!(location(to(prefix), "a.com", "/old/rest?q"), "http://a.com/new/rest?q");
        assert_eq!(location(to(RedirectPath::Keep), "a.com", "/x?"), "http://a.com/x?");
    }

    #[test]
    fn hosts_schemes_and_ports() {
        let keep = Redirect::default;
        assert_eq!(location(keep(), "a.com:8080", "/"), "http://a.com:8080/");
        assert_eq!(location(keep(), "a.com:80", "/"), "http://a.com:80/");
        let https = || Redirect { scheme: Some(Scheme::Https), ..keep() };
        assert_eq!(location(https(), "a.com:80", "/"), "https://a.com/");
        assert_eq!(location(https(), "a.com:8080", "/"), "https://a.com:8080/");
        let authority = Redirect { authority: Some("b.com".into()), ..keep() };
        assert_eq!(location(authority, "a.com:8080", "/x"), "http://b.com/x");
        let number = |port| Redirect { port: RedirectPort::Number(port), ..keep() };
        assert_eq!(location(number(8443), "a.com:1", "/"), "http://a.com:8443/");
        assert_eq!(location(number(80), "a.com:1", "/"), "http://a.com/");
        let as_sent = Redirect { port: RedirectPort::AsSent, ..https() };
        assert_eq!(location(as_sent, "a.com:80", "/"), "https://a.com:80/");
        let default = Redirect { port: RedirectPort::Default, ..keep() };
        assert_eq!(location(default, "a.com:8080", "/"), "http://a.com/");
    }
}
