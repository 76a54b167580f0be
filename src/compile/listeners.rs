//! Gateway servers → the addresses to listen on, and which servers share them (behaviour 2.1 to 2.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::CompileOptions;
use super::naming::{self, qualified};
use crate::config::gateway::{Gateway, Server};
use crate::config::kube::PortOrName;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};

/// Label of a Service that takes no part in port translation.
const NO_TRANSLATION_LABEL: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A port to listen on and the servers that share it.
pub struct ListenerPort<'r> {
    /// Where to listen.
    pub address: SocketAddr,
    /// `http.<port>[.<bind>]`: how Istio names the route table of such a port.
    pub name: String,
    /// What it speaks: as the first server does.
    pub kind: PortKind,
    /// The servers, in Istio's order.
    pub servers: Vec<BoundServer<'r>>,
    /// Hosts of the servers with TLS, which no other one may have.
    taken: BTreeSet<String>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// HTTP in clear text.
    Requests,
    /// TLS, ended here or passed through.
    Tls,
    /// Bytes that nobody here understands.
    Bytes,
}

impl PortKind {
    /// None: the protocol is not served, which validation tells.
    fn of(server: &Server) -> Option<PortKind> {
        if server.is_plain_http() {
            Some(PortKind::Requests)
        } else if server.is_tls() {
            Some(PortKind::Tls)
        } else {
            server.is_bytes().then_some(PortKind::Bytes)
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            PortKind::Requests => "HTTP in clear text",
            PortKind::Tls => "TLS",
            PortKind::Bytes => "TCP",
        }
    }
}

/// A server of a Gateway on its port.
#[derive(Clone, Copy)]
pub struct BoundServer<'r> {
    /// The Gateway.
    pub gateway: &'r Object<Gateway>,
    /// The server.
    pub server: &'r Server,
    /// Its port number as written: what `match.port` is compared with.
    pub number: u16,
}

impl<'r> BoundServer<'r> {
    /// Its hosts, with their namespaces; one `*/*` makes the list `*` (behaviour 2.4.1).
    pub fn hosts(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        let all = self.server.hosts.iter().any(|host| host == "*/*");
        let written = if all { &[][..] } else { &self.server.hosts[..] };
        written.iter().map(String::as_str).chain(all.then_some("*"))
    }

    /// Its position among the servers of its Gateway.
    pub fn position(&self) -> usize {
        let servers = &self.gateway.spec.servers;
        servers.iter().position(|other| std::ptr::eq(other, self.server)).unwrap_or(0)
    }

    /// The finding that it is left out.
    pub fn left_out(&self, message: &str) -> Diagnostic {
        let field = format!("spec.servers[{}]", self.position());
        let help = "give it a port or hosts of its own";
        self.gateway.diagnostic(Severity::Warning, "RNG0208", &field, message, Some(help))
    }

    /// The server names that its TLS answers to, sorted; `*` makes them all (behaviour 2.4.5).
    pub fn server_names(&self) -> Vec<String> {
        let names: BTreeSet<String> =
            self.hosts().map(|host| naming::without_namespace(host).to_ascii_lowercase()).collect();
        match names.contains("*") {
            true => vec!["*".to_owned()],
            false => names.into_iter().collect(),
        }
    }

    /// `https.<port>.<port name>.<Gateway>.<namespace>[.<bind>]`: how Istio names the route table of a
    /// server that ends TLS (behaviour 2.3.5).
    pub fn table_name(&self) -> String {
        let port_name = self.server.port.as_ref().map_or("", |port| port.name.as_str());
        let meta = &self.gateway.meta;
        let name = format!("https.{}.{port_name}.{}.{}", self.number, meta.name, meta.namespace);
        match self.server.bind.as_deref() {
            None | Some("") => name,
            Some(bind) => format!("{name}.{bind}"),
        }
    }
}

impl<'r> ListenerPort<'r> {
    /// Take a server in. Otherwise why it is left out (behaviour 2.3, 2.3.1, 2.3.2).
    fn take(&mut self, bound: BoundServer<'r>, kind: PortKind) -> Result<(), String> {
        if kind != self.kind {
            return Err(format!("its port speaks {} already", self.kind.as_str()));
        }
        if kind == PortKind::Bytes && !self.servers.is_empty() {
            return Err("its port is taken: only one TCP server can have it".to_owned());
        }
        // Servers in clear text that redirect are merged as others are, which is safer than Istio's
        // leaving the second one out (`docs/quirks.md`).
        if kind == PortKind::Tls {
            let namespace = &bound.gateway.meta.namespace;
            let hosts: BTreeSet<String> =
                bound.hosts().map(|host| naming::normalized_host(host, namespace)).collect();
            if let Some(host) = hosts.iter().find(|host| self.taken.contains(*host)) {
                return Err(format!("`{host}` is of an earlier server of its port"));
            }
            self.taken.extend(hosts);
        }
        self.servers.push(bound);
        Ok(())
    }

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

/// The ports of all Gateways that select us, by address.
pub fn compile<'r>(
    resources: &'r ResourceSet,
    options: &CompileOptions,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ListenerPort<'r>> {
    let mut ports: BTreeMap<SocketAddr, ListenerPort<'r>> = BTreeMap::new();
    for gateway in resources.gateways() {
        if !selects(&gateway.spec, &options.labels) {
            continue;
        }
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let (Some(port), Some(kind)) = (&server.port, PortKind::of(server)) else { continue };
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
            let port = ports.entry(address).or_insert_with(|| ListenerPort {
                address,
                name: match server.bind.as_deref() {
                    None | Some("") => format!("http.{target}"),
                    Some(bind) => format!("http.{target}.{bind}"),
                },
                kind,
                servers: Vec::new(),
                taken: BTreeSet::new(),
            });
            let bound = BoundServer { gateway, server, number };
            if let Err(reason) = port.take(bound, kind) {
                let message = format!("the server is left out, as in Istio: {reason}");
                diagnostics.push(bound.left_out(&message));
            }
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
