//! Ports whose bytes are not HTTP: TLS that is passed through, and TCP. Compiled and explained; nothing
//! listens on them yet.

use std::net::SocketAddr;

use super::Forward;
use crate::http::authority::{HOST_BYTES_MAX, canonical_host};
use crate::router::host::HostIndex;

/// A port whose connections are routed as a whole.
#[derive(Clone, Debug)]
pub struct ConnectionPort {
    /// Where it would listen.
    pub address: SocketAddr,
    /// The number by which Gateways name it.
    pub number: u16,
    /// Connections name a server (TLS); otherwise they do not (TCP).
    pub has_names: bool,
    /// The Gateways that ask for it, with their places.
    pub gateways: Vec<String>,
    /// Which of `routes` a connection takes.
    pub names: HostIndex<usize>,
    /// The rules, in Istio's order.
    pub routes: Vec<ConnectionRoute>,
}

impl ConnectionPort {
    /// The position in `routes` of the one that a connection takes: by the server that it names, or as
    /// one that names none.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return self.names.any() };
        let mut buffer = [0; HOST_BYTES_MAX];
        self.names.find(canonical_host(name.as_bytes(), &mut buffer)?)
    }
}

/// What becomes of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionRoute {
    /// `namespace/name` of the VirtualService.
    pub virtual_service: String,
    /// Its rule, such as `spec.tls[0].match[1]`.
    pub field: String,
    /// The server names that it asks for; of them, those that were free are its own.
    pub server_names: Vec<String>,
    /// Where it goes.
    pub forward: Forward,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(patterns: &[&str]) -> (ConnectionPort, Vec<bool>) {
        let mut names = HostIndex::default();
        let insert = |(route, pattern): (usize, &&str)| names.insert(pattern, route).is_ok();
        let free = patterns.iter().enumerate().map(insert).collect();
        let address = SocketAddr::from(([0, 0, 0, 0], 443));
        let (gateways, routes) = (Vec::new(), Vec::new());
        (ConnectionPort { address, number: 443, has_names: true, gateways, names, routes }, free)
    }

    #[test]
    fn the_most_exact_name_wins_and_the_first_of_a_name() {
        let patterns = ["*", "*.com", "*.b.com", "a.b.com", "A.B.com", "*.com", "*"];
        let (table, free) = port(&patterns);
        for (route, pattern) in patterns.into_iter().enumerate() {
            assert_eq!(free[route], route < 4, "{pattern}");
        }
        for (name, route) in [
            (Some("a.b.com"), 3),
            (Some("A.b.COM"), 3),
            (Some("x.b.com"), 2),
            (Some("y.x.b.com"), 2),
            (Some("b.com"), 1),
            (Some(".b.com"), 1),
            (Some("b.org"), 0),
            (None, 0),
        ] {
            assert_eq!(table.find(name), Some(route), "{name:?}");
        }
        let (one, _) = port(&["a.com"]);
        assert_eq!((one.find(None), one.find(Some("b.com"))), (None, None));
    }
}
