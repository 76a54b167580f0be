//! What a listener does with its connections: requests in clear text, TLS by server name, or bytes.

use std::sync::Arc;

use super::Forward;
use crate::http::authority::{HOST_BYTES_MAX, canonical_host};
use crate::router::host::HostIndex;
use crate::tls::ServerTls;

/// What a listener does with its connections.
#[derive(Clone, Debug)]
pub enum Serves {
    /// HTTP in clear text, routed by this table (index: `Snapshot::route_tables`).
    Requests {
        /// The table.
        route_table: usize,
        /// Is gRPC-Web translated (a server with the protocol GRPC-WEB, behaviour 7.5.5)?
        grpc_web: bool,
    },
    /// TLS: the server name that a client asks for decides.
    Tls(Box<TlsPort>),
    /// Bytes: every connection takes this route.
    Bytes(Box<BytesPort>),
}

/// A port whose bytes nobody here understands.
#[derive(Clone, Debug)]
pub struct BytesPort {
    /// Where its connections go.
    pub route: ConnectionRoute,
    /// The rules that were looked at, in order, for `explain`.
    pub rules: Arc<[ConnectionRule]>,
}

/// A port that takes TLS (Envoy's filter chains).
#[derive(Clone, Debug, Default)]
pub struct TlsPort {
    /// Which of `chains` takes a connection, by server name.
    pub names: HostIndex<usize>,
    /// What is done with connections, in Istio's order.
    pub chains: Vec<Chain>,
    /// The rules of `tls` and `tcp` routes that were looked at, in order, for `explain`.
    pub rules: Arc<[ConnectionRule]>,
}

impl TlsPort {
    /// The position in `chains` of the one that takes a connection; none: it is closed. Clients that
    /// name no server are taken by `*` only (behaviour 2.4.5, 2.4.6).
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return self.names.any() };
        self.find_host(name.as_bytes())
    }

    /// The same for the host of a request, which may have a port.
    pub fn find_host(&self, authority: &[u8]) -> Option<usize> {
        let mut buffer = [0; HOST_BYTES_MAX];
        self.names.find(canonical_host(authority, &mut buffer)?)
    }
}

/// Connections of some server names.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Which: `https.<port>.<port name>.<Gateway>.<namespace>` of a server, else the rule. It stays the
    /// same over reloads.
    pub name: String,
    /// The server names, all its own.
    pub server_names: Vec<String>,
    /// Its server: `namespace/name` of the Gateway.
    pub gateway: String,
    /// Is TLS ended here? Otherwise it is passed through.
    pub ends_tls: bool,
    /// How TLS is ended; none where it is passed through, or there is no usable certificate: then
    /// handshakes fail (behaviour 2.6.5).
    pub tls: Option<Arc<ServerTls>>,
    /// What its manifest asks of the certificates of clients; empty: nothing. A connection that was let in
    /// when something else was asked is not served by it.
    pub client_demand: String,
    /// Its name is a cluster's, as the sidecars of a mesh write it: only they may connect, and TLS to the
    /// cluster is theirs (`AUTO_PASSTHROUGH`).
    pub of_mesh: bool,
    /// What is done with what is in it.
    pub content: ChainContent,
}

/// What a chain holds.
#[derive(Clone, Debug)]
pub enum ChainContent {
    /// HTTP, routed by this table (index: `Snapshot::route_tables`).
    Requests {
        /// The table.
        route_table: usize,
    },
    /// Bytes.
    Connection(ConnectionRoute),
}

/// Where a connection goes as a whole.
#[derive(Clone, Debug)]
pub struct ConnectionRoute {
    /// `namespace/name` of the VirtualService.
    pub virtual_service: String,
    /// Its rule, such as `spec.tls[0].match[1]`.
    pub field: String,
    /// Where it goes.
    pub forward: Forward,
}

/// A `tls` or `tcp` rule that was looked at when a port was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRule {
    /// `namespace/name` of the VirtualService.
    pub virtual_service: String,
    /// The rule, such as `spec.tls[0].match[1]`.
    pub field: String,
    /// The server names that it asks for; empty for those of bytes.
    pub server_names: Vec<String>,
    /// What became of it.
    pub outcome: RuleOutcome,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It made the chain at this position, or the route of a port of bytes (0).
    Used(usize),
    /// It has no part in the port, for this reason.
    NotUsed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(patterns: &[&str]) -> (TlsPort, Vec<bool>) {
        let mut port = TlsPort::default();
        let insert = |(chain, pattern): (usize, &&str)| port.names.insert(pattern, chain).is_ok();
        let free = patterns.iter().enumerate().map(insert).collect();
        (port, free)
    }

    #[test]
    fn the_most_exact_name_wins_and_the_first_of_a_name() {
        let patterns = ["*", "*.com", "*.b.com", "a.b.com", "A.B.com", "*.com", "*"];
        let (table, free) = port(&patterns);
        for (chain, pattern) in patterns.into_iter().enumerate() {
            assert_eq!(free[chain], chain < 4, "{pattern}");
        }
        for (name, chain) in [
            (Some("a.b.com"), 3),
            (Some("A.b.COM"), 3),
            (Some("x.b.com"), 2),
            (Some("y.x.b.com"), 2),
            (Some("b.com"), 1),
            (Some(".b.com"), 1),
            (Some("b.org"), 0),
            (None, 0),
        ] {
            assert_eq!(table.find(name), Some(chain), "{name:?}");
        }
        let (one, _) = port(&["a.com"]);
        assert_eq!((one.find(None), one.find(Some("b.com"))), (None, None));
    }
}
