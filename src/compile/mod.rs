//! Validated resources → [`Snapshot`]. Deterministic: the same resources give the same snapshot.
//! What cannot be compiled is left out alone and reported; nothing here does I/O.
//!
//! Order of work: `registry` (services and endpoints) → `listeners` (Gateway servers → ports) →
//! `virtual_hosts` (VirtualServices bound to servers and hosts) → `delegates` → `routes` → `clusters`;
//! then `connections`, the ports that take TLS or bytes, and `objectives`.

pub mod clusters;
pub mod connections;
pub mod consistent_hash;
pub mod credentials;
pub mod delegates;
pub mod dns;
pub mod listeners;
pub mod locality;
pub mod objectives;
pub mod policy;
pub mod registry;
pub mod routes;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod tls_sides;
pub mod upstream_policy;
pub mod virtual_hosts;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::credential_files::CredentialFiles;
pub use crate::config::naming;
use crate::config::{Diagnostic, ResourceSet};
use crate::metrics::LabelTable;
use crate::snapshot::{Listener, Serves, Settings, Snapshot};
use crate::validate::parts::Parts;
use clusters::ClusterCompiler;
use connections::ConnectionCompiler;
use delegates::Delegates;
pub use dns::DnsAnswers;
use listeners::{ListenerPort, PortKind};
pub use locality::Locality;
use registry::Registry;
use routes::RouteCompiler;
pub use tls_sides::TlsSides;

/// What the compiler must know besides the resources.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Labels of this gateway.
    pub labels: BTreeMap<String, String>,
    /// Namespace of this gateway.
    pub namespace: String,
    /// Where this gateway runs, if that is known.
    pub locality: Option<Locality>,
    /// Suffix of service names, `cluster.local`.
    pub cluster_domain: String,
    /// Port to bind for a server's number, where no Service says it.
    pub port_map: BTreeMap<u16, u16>,
    /// Address to bind for servers without `bind`.
    pub bind: IpAddr,
    /// Settings of the process.
    pub settings: Settings,
}

/// A snapshot (its generation is 0: the publisher numbers it) and what was found on the way.
#[derive(Debug)]
pub struct Compiled {
    /// What the workers route by.
    pub snapshot: Snapshot,
    /// Findings; errors name objects of which a part was left out.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compile `resources` with the `answers` of the names and the `files` of the certificates in them. Label
/// sets and histogram keys are interned in `labels`, TLS sides are kept in `kept_sides`; both outlive the
/// snapshot.
pub fn compile(
    resources: &ResourceSet,
    options: &CompileOptions,
    answers: &DnsAnswers,
    files: &CredentialFiles,
    labels: &mut LabelTable,
    kept_sides: &mut TlsSides,
) -> Compiled {
    let mut diagnostics = Vec::new();
    kept_sides.begin();
    // Servers and clusters take from it in turn.
    let sides = RefCell::new(std::mem::take(kept_sides));
    let registry = Registry::new(resources, &options.namespace, &options.cluster_domain, answers);
    let ports = listeners::compile(resources, options, &mut diagnostics);
    let candidates = virtual_hosts::candidates(resources, &options.namespace);
    let clusters = ClusterCompiler::new(resources, &registry, options, files, labels, &sides);
    let delegates = Delegates::new(resources, &options.cluster_domain);
    let mut routes = RouteCompiler::new(&options.cluster_domain, clusters, delegates);
    let mut snapshot = Snapshot { settings: options.settings.clone(), ..Snapshot::default() };
    // Requests in clear text first: what TLS and bytes name changes no number of what they use.
    let (clear, others): (Vec<_>, Vec<_>) =
        ports.iter().partition(|port| port.kind == PortKind::Requests);
    for port in clear {
        let number = port.address.port();
        let table = virtual_hosts::compile(
            &candidates,
            options,
            &port.servers,
            number,
            &mut routes,
            &mut diagnostics,
        );
        let serves = Serves::Requests {
            route_table: snapshot.route_tables.len(),
            grpc_web: port.servers.iter().any(|bound| bound.server.protocol() == "GRPC-WEB"),
        };
        snapshot.listeners.push(listener(port, port.name.clone(), serves));
        snapshot.route_tables.push(table);
    }
    let mut connections = ConnectionCompiler {
        candidates: &candidates,
        options,
        routes: &mut routes,
        parts: &Parts::new(resources, files, &options.namespace),
        sides: &sides,
        route_tables: &mut snapshot.route_tables,
        diagnostics: &mut diagnostics,
    };
    for port in others {
        if let Some(serves) = connections.compile(port) {
            // As Istio names listeners whose connections are not all HTTP in clear text.
            let name = format!("{}_{}", port.address.ip(), port.address.port());
            snapshot.listeners.push(listener(port, name, serves));
        }
    }
    let counted = routes.take_counted();
    snapshot.objectives = objectives::compile(resources, &counted, &mut diagnostics).into();
    (snapshot.routes, snapshot.clusters) = routes.finish();
    let unless_said = &options.settings.telemetry;
    snapshot.settings.telemetry =
        telemetry::compile(resources, &options.labels, &options.namespace, unless_said);
    *kept_sides = sides.take();
    Compiled { snapshot, diagnostics }
}

fn listener(port: &ListenerPort<'_>, name: String, serves: Serves) -> Listener {
    Listener {
        address: port.address,
        name,
        numbers: port.numbers(),
        serves,
        gateways: port.gateways(),
    }
}
