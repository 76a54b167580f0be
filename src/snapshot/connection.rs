//! Ports whose bytes are not HTTP: TLS that is passed through, and TCP. Compiled and explained; nothing
//! listens on them yet.

use std::net::SocketAddr;

use super::Forward;
use crate::router::ServerNameTable;

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
    pub names: ServerNameTable,
    /// The rules, in Istio's order.
    pub routes: Vec<ConnectionRoute>,
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
