//! Where requests go, and whether they may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A target as its URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `https`.
    pub(crate) tls: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// Given or the scheme's.
    pub(crate) port: u16,
    /// With the query; the default for requests that name none.
    pub(crate) path: String,
}

/// Why a target is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The text.
    #[error("\"{0}\" is no URL such as http://127.0.0.1:8080/path")]
    NoUrl(String),
    /// Another scheme.
    #[error("the scheme of \"{0}\" is neither http nor https")]
    Scheme(String),
    /// Letters that would break the request line.
    #[error(
        "\"{0}\" has a space, a control character or a letter beyond ASCII: write it %-encoded"
    )]
    Letters(String),
    /// DNS.
    #[error("\"{0}\" cannot be resolved: {1}; is the name right and the resolver reachable?")]
    Unresolved(String, std::io::Error),
    /// The answer of DNS is empty.
    #[error("\"{0}\" has no address")]
    NoAddress(String),
    /// Somebody else's machine, perhaps.
    #[error(
        "{0} is neither loopback nor in a private range: a load test of a machine that is not yours is \
         an attack; if it is yours, say so with --i-own-this-target"
    )]
    Foreign(SocketAddr),
}

impl Target {
    /// Reads a URL; without a scheme it is http.
    pub(crate) fn parse(url: &str) -> Result<Target, TargetError> {
        let no_url = || TargetError::NoUrl(url.to_owned());
        if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(TargetError::Letters(url.to_owned()));
        }
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(TargetError::Scheme(url.to_owned())),
            None => (false, url),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return Err(no_url());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(no_url)?;
                host.parse::<Ipv6Addr>().map_err(|_| no_url())?;
                (host, if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or_else(no_url)?,
            None => default_port(tls),
        };
        if host.is_empty() {
            return Err(no_url());
        }
        Ok(Target { tls, host: host.to_owned(), port, path })
    }

    /// Host and port as in a `host` field: without the scheme's own port, IPv6 in brackets.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// The URL without its path.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// Its address, resolved once: a run must not measure the resolver. Only loopback and private
    /// addresses unless it is `owned`.
    pub(crate) fn resolve(&self, owned: bool) -> Result<SocketAddr, TargetError> {
        let address = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| TargetError::Unresolved(self.host.clone(), error))?
            .next()
            .ok_or_else(|| TargetError::NoAddress(self.host.clone()))?;
        if owned || is_near(address.ip()) {
            Ok(address)
        } else {
            Err(TargetError::Foreign(address))
        }
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Loopback, link-local, and the ranges for private use (RFC 1918, RFC 6598, RFC 4193).
fn is_near(address: IpAddr) -> bool {
    let is_near4 = |address: Ipv4Addr| address.is_loopback() || address.is_private();
    match address {
        IpAddr::V4(address) => is_near4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_near4(address),
            None => address.is_loopback() || address.is_unique_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("http://127.0.0.1:8080/a?b=c#d").expect("good");
        assert_eq!((target.tls, target.port, target.path.as_str()), (false, 8080, "/a?b=c"));
        assert_eq!(target.authority(), "127.0.0.1:8080");
        let target = Target::parse("https://[::1]?x").expect("good");
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 443, "/?x"));
        assert_eq!(target.origin(), "https://[::1]");
        assert_eq!(Target::parse("localhost").expect("good").authority(), "localhost");
    }

    #[test]
    fn what_is_no_url_is_refused_in_words() {
        for (url, part) in [
            ("ftp://a/", "scheme"),
            ("http://", "no URL"),
            ("http://a:b/", "no URL"),
            ("http://a:0/", "no URL"),
            ("http://user@a/", "no URL"),
            ("http://[::1/", "no URL"),
            ("http://[::1]x/", "no URL"),
            ("http://a/b c", "%-encoded"),
            ("http://a/\r\nx: y", "%-encoded"),
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn only_near_targets_need_no_word_of_their_owner() {
        for near in ["127.8.0.1", "10.1.2.3", "192.168.0.9", "172.31.0.1", "::1", "fd00::1"] {
            assert!(is_near(near.parse().expect("an address")), "{near}");
        }
        for far in [
            "169.254.169.254",
            "100.64.0.1",
            "fe80::1",
            "192.0.2.1",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_near(far.parse().expect("an address")), "{far}");
        }
        let target = Target::parse("http://192.0.2.1/").expect("good");
        let error = target.resolve(false).expect_err("far").to_string();
        assert!(error.contains("--i-own-this-target"), "{error}");
        assert!(target.resolve(true).is_ok());
    }
}
