//! `tls` and `tcp` routes of VirtualServices → ports whose connections are routed as a whole (behaviour
//! 2.8). At a gateway `port`, `gateways` and `sniHosts` decide; what else a match may say is of sidecars.

use super::CompileOptions;
use super::listeners::{self, BoundServer, ListenerPort, ServerKind};
use super::naming;
use super::routes::{RouteCompiler, ServerContext};
use super::virtual_hosts::{bound_hosts, candidates};
use crate::config::gateway::TlsMode;
use crate::config::virtual_service::VirtualService;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};
use crate::router::host::DomainError;
use crate::snapshot::{ConnectionPort, ConnectionRoute};

/// The ports that `http`, those of requests in clear text, do not take.
pub fn compile<'r>(
    resources: &'r ResourceSet,
    options: &CompileOptions,
    http: &[ListenerPort<'_>],
    routes: &mut RouteCompiler<'r>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ConnectionPort> {
    let candidates = candidates(resources, &options.namespace);
    let mut made = Vec::new();
    // Places that cannot be listened on are told with the servers that are served.
    for port in listeners::compile(resources, options, ServerKind::Connections, &mut Vec::new()) {
        // The first protocol keeps a port; that this one does not is told by validation (IST0145).
        if http.iter().any(|taken| taken.address == port.address) {
            continue;
        }
        let Some(first) = port.servers.first() else { continue };
        let mut connections = ConnectionPort {
            address: port.address,
            number: first.number,
            has_names: first.server.is_tls(),
            gateways: port.gateways(),
            names: Default::default(),
            routes: Vec::new(),
        };
        for server in &port.servers {
            if server.server.is_tls() != connections.has_names {
                continue;
            }
            for candidate in &candidates {
                let hosts = bound_hosts(candidate, server, options);
                if hosts.is_empty() {
                    continue;
                }
                let gateway = naming::qualified(&server.gateway.key());
                let context = ServerContext {
                    gateway: &gateway,
                    number: server.number,
                    labels: &options.labels,
                    namespace: &options.namespace,
                };
                if passes_through(server) {
                    by_name(candidate, &context, options, routes, &mut connections, diagnostics);
                } else if whole(candidate, server, &context, options, routes, &mut connections) {
                    // One route of one VirtualService is what a server takes (behaviour 2.8.1).
                    break;
                }
            }
        }
        made.push(connections);
    }
    made
}

fn passes_through(server: &BoundServer<'_>) -> bool {
    server.server.tls.as_ref().and_then(|tls| tls.mode) == Some(TlsMode::Passthrough)
}

/// Is a match for this server?
fn applies(
    port: Option<u32>,
    gateways: &[String],
    owner: &Object<VirtualService>,
    context: &ServerContext<'_>,
    options: &CompileOptions,
) -> bool {
    let namespace = &owner.meta.namespace;
    context.has_port(port)
        && (gateways.is_empty() || context.is_named(gateways, namespace, &options.cluster_domain))
}

/// The `tls` routes of a VirtualService: each match has the server names that are free.
fn by_name(
    owner: &Object<VirtualService>,
    context: &ServerContext<'_>,
    options: &CompileOptions,
    routes: &mut RouteCompiler<'_>,
    connections: &mut ConnectionPort,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (index, rule) in owner.spec.tls.iter().enumerate() {
        for (at, condition) in rule.match_.iter().enumerate() {
            if !applies(condition.port, &condition.gateways, owner, context, options) {
                continue;
            }
            let field = format!("spec.tls[{index}].match[{at}]");
            let number = connections.routes.len();
            for name in &condition.sni_hosts {
                if let Err(DomainError::Taken(_)) = connections.names.insert(name, number) {
                    let message = format!("`{name}` is taken by an earlier rule");
                    let help = "remove it here or there: the first rule keeps it";
                    let field = format!("{field}.sniHosts");
                    let severity = Severity::Warning;
                    diagnostics.push(owner.diagnostic(
                        severity,
                        "RNG0207",
                        &field,
                        &message,
                        Some(help),
                    ));
                }
            }
            connections.routes.push(ConnectionRoute {
                virtual_service: naming::qualified(&owner.key()),
                field,
                server_names: condition.sni_hosts.clone(),
                forward: routes.connection(owner, &rule.route, context),
            });
        }
    }
}

/// The first `tcp` route of a VirtualService that is for this server, if there is one.
fn whole(
    owner: &Object<VirtualService>,
    server: &BoundServer<'_>,
    context: &ServerContext<'_>,
    options: &CompileOptions,
    routes: &mut RouteCompiler<'_>,
    connections: &mut ConnectionPort,
) -> bool {
    let fits = |(_, rule): &(usize, &crate::config::virtual_service::TcpRoute)| {
        rule.match_.is_empty()
            || rule.match_.iter().any(|condition| {
                applies(condition.port, &condition.gateways, owner, context, options)
            })
    };
    let Some((index, rule)) = owner.spec.tcp.iter().enumerate().find(fits) else { return false };
    let number = connections.routes.len();
    let server_names: Vec<String> = match connections.has_names {
        // TLS that ends here is told apart by the hosts of its server.
        true => server.server.hosts.iter().map(|host| naming::without_namespace(host)).collect(),
        false => vec!["*".to_owned()],
    };
    let mut free = false;
    for name in &server_names {
        free |= connections.names.insert(name, number).is_ok();
    }
    // Of two servers on one TCP port the first counts.
    if free {
        connections.routes.push(ConnectionRoute {
            virtual_service: naming::qualified(&owner.key()),
            field: format!("spec.tcp[{index}]"),
            server_names,
            forward: routes.connection(owner, &rule.route, context),
        });
    }
    true
}
