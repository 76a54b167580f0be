//! Gateway servers → the addresses to listen on (behaviour 2.1 to 2.3).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::CompileOptions;
use super::naming::qualified;
use crate::config::gateway::{Gateway, Server, TlsMode};
use crate::config::kube::PortOrName;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};

/// Label of a Service that takes no part in port translation.
const NO_TRANSLATION_LABEL: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A port to listen on and the servers that share it.
pub struct ListenerPort<'r> {
    /// Where to listen.
    pub address: SocketAddr,
    /// `http.<port>[.<bind>]`, Istio's name of its route table.
    pub name: String,
    /// The servers, in Istio's order.
    pub servers: Vec<BoundServer<'r>>,
}

/// A server of a Gateway on its port.
pub struct BoundServer<'r> {
    /// The Gateway.
    pub gateway: &'r Object<Gateway>,
    /// The server.
    pub server: &'r Server,
    /// Its port number as written: what `match.port` is compared with.
    pub number: u16,
}

impl ListenerPort<'_> {
    /// The port numbers by which they name it.
    pub fn numbers(&self) -> Vec<u16> {
        let mut numbers: Vec<u16> = self.servers.iter().map(|bound| bound.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The Gateways that asked for it, with their places.
    pub fn gateways(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for bound in &self.servers {
            let object = bound.gateway;
            let name =
                format!("Gateway {} ({})", qualified(&object.key()), object.origin.place_text());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Does the Gateway select this gateway? An empty selector selects all.
pub fn selects(gateway: &Gateway, labels: &BTreeMap<String, String>) -> bool {
    gateway.selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// Which servers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Of requests in clear text.
    Requests,
    /// Whose connections are routed as a whole: TLS that is passed through or holds no HTTP, and TCP.
    Connections,
}

impl ServerKind {
    fn is_of(self, server: &Server) -> bool {
        let mode = server.tls.as_ref().and_then(|tls| tls.mode);
        match self {
            ServerKind::Requests => server.is_plain_http(),
            ServerKind::Connections => match server.protocol().as_str() {
                "HTTPS" => mode == Some(TlsMode::Passthrough),
                // The names of a mesh are of no route.
                "TLS" => mode != Some(TlsMode::AutoPassthrough),
                _ => !server.is_plain_http(),
            },
        }
    }
}

/// The ports of all Gateways that select us with servers of this kind, by address.
pub fn compile<'r>(
    resources: &'r ResourceSet,
    options: &CompileOptions,
    kind: ServerKind,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ListenerPort<'r>> {
    let mut ports: BTreeMap<SocketAddr, ListenerPort<'r>> = BTreeMap::new();
    for gateway in resources.gateways() {
        if !selects(&gateway.spec, &options.labels) {
            continue;
        }
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            // That TLS and TCP servers are not served yet is told by validation.
            if !kind.is_of(server) {
                continue;
            }
            let Some(port) = &server.port else { continue };
            let Ok(number) = u16::try_from(port.number) else { continue };
            let bind = match server.bind.as_deref() {
                None | Some("") => Some(options.bind),
                Some(text) => text.parse::<IpAddr>().ok(),
            };
            let Some(ip) = bind else {
                diagnostics.push(gateway.diagnostic(
                    Severity::Error,
                    "RNG0201",
                    &format!("spec.servers[{index}].bind"),
                    "only IP addresses can be listened on here",
                    Some("remove the server, or give an IP address"),
                ));
                continue;
            };
            let target = translate(resources, options, number);
            let address = SocketAddr::new(ip, target);
            let bound = BoundServer { gateway, server, number };
            let name = match server.bind.as_deref() {
                None | Some("") => format!("http.{target}"),
                Some(bind) => format!("http.{target}.{bind}"),
            };
            ports
                .entry(address)
                .or_insert_with(|| ListenerPort { address, name, servers: Vec::new() })
                .servers
                .push(bound);
        }
    }
    ports.into_values().collect()
}

/// The port to bind for a server's number: the target port of our own Service, the port map, the
/// number itself (behaviour 2.2).
fn translate(resources: &ResourceSet, options: &CompileOptions, number: u16) -> u16 {
    for service in resources.services() {
        let spec = &service.spec.spec;
        let selects_us = !spec.selector.is_empty()
            && spec.selector.iter().all(|(label, value)| options.labels.get(label) == Some(value));
        if !selects_us || service.meta.labels.contains_key(NO_TRANSLATION_LABEL) {
            continue;
        }
        if let Some(port) = spec.ports.iter().find(|port| port.port == number) {
            return match &port.target_port {
                Some(PortOrName::Port(target)) => *target,
                // A name stands for a container's port, which files do not have.
                Some(PortOrName::Name(_)) => mapped(options, number),
                None => number,
            };
        }
    }
    mapped(options, number)
}

fn mapped(options: &CompileOptions, number: u16) -> u16 {
    options.port_map.get(&number).copied().unwrap_or(number)
}
