//! Ports that take TLS or bytes: servers of Gateways, and `tls` and `tcp` routes of VirtualServices → what
//! becomes of connections (behaviour 2.8). At a gateway `port`, `gateways` and `sniHosts` decide; what
//! else a match may say is of sidecars.

use std::cell::RefCell;
use std::sync::Arc;

use super::CompileOptions;
use super::credentials::{self, HANDSHAKES_FAIL, ServerSide};
use super::listeners::{BoundServer, ListenerPort, PortKind};
use super::naming;
use super::routes::{RouteCompiler, ServerContext};
use super::tls_sides::TlsSides;
use super::virtual_hosts::{self, bound_hosts};
use crate::config::gateway::TlsMode;
use crate::config::virtual_service::{RouteDestination, VirtualService};
use crate::config::{Diagnostic, Object, Severity};
use crate::router::RouteTable;
use crate::router::host::DomainError;
use crate::snapshot::{
    BytesPort, Chain, ChainContent, ConnectionRoute, ConnectionRule, RuleOutcome, Serves, TlsPort,
};
use crate::tls::ServerTls;
use crate::validate::parts::Parts;

/// What a certificate that is still there saves.
const LAST_GOOD: &str = "the last good certificate is served";

/// What compiling the connections of a port needs.
pub struct ConnectionCompiler<'c, 'r> {
    /// The VirtualServices that count, in Istio's order.
    pub candidates: &'c [&'r Object<VirtualService>],
    /// What else is known.
    pub options: &'c CompileOptions,
    /// Makes the destinations.
    pub routes: &'c mut RouteCompiler<'r>,
    /// Certificates and keys.
    pub parts: &'c Parts<'r>,
    /// What they are made into.
    pub sides: &'c RefCell<TlsSides>,
    /// Where the tables of servers that end TLS go.
    pub route_tables: &'c mut Vec<RouteTable>,
    /// What was found.
    pub diagnostics: &'c mut Vec<Diagnostic>,
}

/// What a port has come to.
#[derive(Default)]
struct Made {
    port: TlsPort,
    rules: Vec<ConnectionRule>,
    /// The route of a port of bytes.
    bytes: Option<ConnectionRoute>,
}

/// Where a rule stands.
struct Rule<'r> {
    owner: &'r Object<VirtualService>,
    field: String,
    server_names: Vec<String>,
    destinations: &'r [RouteDestination],
}

/// How the connections of a server are routed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routing {
    /// TLS ends here and holds HTTP.
    Requests,
    /// TLS ends here and holds something else: one `tcp` route.
    Ended,
    /// TLS is passed through: `tls` routes.
    Passed,
    /// The server name names a cluster.
    Named,
    /// No TLS: one `tcp` route.
    Bytes,
}

impl Routing {
    fn of(server: &BoundServer<'_>) -> Routing {
        if !server.server.is_tls() {
            return Routing::Bytes;
        }
        // The zero value of the field (behaviour 2.5).
        let mode = server.server.tls.as_ref().and_then(|tls| tls.mode);
        match mode.unwrap_or(TlsMode::Passthrough) {
            TlsMode::Passthrough => Routing::Passed,
            TlsMode::AutoPassthrough => Routing::Named,
            _ if server.server.protocol() == "TLS" => Routing::Ended,
            _ => Routing::Requests,
        }
    }
}

impl<'r> ConnectionCompiler<'_, 'r> {
    /// What `port` does with its connections. None: nothing, it is not listened on (behaviour 2.8.6).
    pub fn compile(&mut self, port: &ListenerPort<'r>) -> Option<Serves> {
        let mut made = Made::default();
        for server in &port.servers {
            match Routing::of(server) {
                Routing::Requests => self.requests(server, port, &mut made),
                Routing::Named => self.mesh_names(server, &mut made),
                routing => self.connections(server, routing, &mut made),
            }
        }
        let rules = made.rules.into();
        match port.kind {
            PortKind::Bytes => {
                made.bytes.map(|route| Serves::Bytes(Box::new(BytesPort { route, rules })))
            }
            _ if made.port.chains.is_empty() => None,
            _ => Some(Serves::Tls(Box::new(TlsPort { rules, ..made.port }))),
        }
    }

    /// A server that ends TLS with HTTP in it has a route table of its own (behaviour 1.1).
    fn requests(&mut self, server: &BoundServer<'r>, port: &ListenerPort<'r>, made: &mut Made) {
        let names = server.server_names();
        if let Err(taken) = made.claim(&names) {
            self.left_out(server, &taken);
            return;
        }
        let table = virtual_hosts::compile(
            self.candidates,
            self.options,
            std::slice::from_ref(server),
            port.address.port(),
            self.routes,
            self.diagnostics,
        );
        let content = ChainContent::Requests { route_table: self.route_tables.len() };
        self.route_tables.push(table);
        let tls = self.server_tls(server);
        made.port.chains.push(Chain {
            name: server.table_name(),
            server_names: names,
            gateway: naming::qualified(&server.gateway.key()),
            ends_tls: true,
            tls,
            client_demand: credentials::client_demand(server.server, &server.gateway.origin),
            of_mesh: false,
            content,
        });
    }

    /// A server whose clients name clusters (`AUTO_PASSTHROUGH`): those that its hosts cover. No
    /// VirtualService is needed. The hosts are those of servers in a mesh, `*.local`.
    fn mesh_names(&mut self, server: &BoundServer<'r>, made: &mut Made) {
        let hosts = server.server_names();
        let chains_before = made.port.chains.len();
        for (name, forward) in self.routes.mesh_names() {
            let covered = hosts.iter().any(|host| naming::covers(host, &name));
            // Another such server of the port may have brought it in.
            if !covered || made.claim(std::slice::from_ref(&name)).is_err() {
                continue;
            }
            let gateway = naming::qualified(&server.gateway.key());
            made.port.chains.push(Chain {
                name: name.clone(),
                server_names: vec![name],
                gateway: gateway.clone(),
                ends_tls: false,
                tls: None,
                client_demand: String::new(),
                of_mesh: true,
                content: ChainContent::Connection(ConnectionRoute {
                    virtual_service: String::new(),
                    field: format!("AUTO_PASSTHROUGH of Gateway {gateway}"),
                    forward,
                }),
            });
        }
        let count = made.port.chains.len() - chains_before;
        self.diagnostics.push(server.gateway.diagnostic(
            Severity::Info,
            "RNG0209",
            &format!("spec.servers[{}].tls.mode", server.position()),
            &format!(
                "AUTO_PASSTHROUGH serves only clients that name a cluster as sidecars do, \
                 outbound_.<port>_.<subset>_.<host>: {count} name(s) here"
            ),
            None,
        ));
    }

    /// The `tls` or `tcp` routes that are bound to a server.
    fn connections(&mut self, server: &BoundServer<'r>, routing: Routing, made: &mut Made) {
        let gateway = naming::qualified(&server.gateway.key());
        let options = self.options;
        let context = ServerContext {
            gateway: &gateway,
            number: server.number,
            labels: &options.labels,
            namespace: &options.namespace,
        };
        let mut has_route = false;
        for &candidate in self.candidates {
            if bound_hosts(candidate, server, options).is_empty() {
                continue;
            }
            if routing == Routing::Passed {
                self.by_name(candidate, &context, made);
            } else {
                self.whole(candidate, server, &context, made, &mut has_route);
            }
        }
    }

    /// Why a match is not of this server; none: it is.
    fn excluded(
        &self,
        port: Option<u32>,
        gateways: &[String],
        owner: &Object<VirtualService>,
        context: &ServerContext<'_>,
    ) -> Option<String> {
        if !context.has_port(port) {
            return Some(format!("it is for port {}", port.unwrap_or(0)));
        }
        let namespace = &owner.meta.namespace;
        let named = gateways.is_empty()
            || context.is_named(gateways, namespace, &self.options.cluster_domain);
        (!named).then(|| format!("it is for {}", gateways.join(", ")))
    }

    /// The `tls` routes of a VirtualService: each match is a chain, if all its names are free
    /// (behaviour 2.8.3, 2.8.4).
    fn by_name(
        &mut self,
        owner: &'r Object<VirtualService>,
        context: &ServerContext<'_>,
        made: &mut Made,
    ) {
        for (index, written) in owner.spec.tls.iter().enumerate() {
            for (at, condition) in written.match_.iter().enumerate() {
                let rule = Rule {
                    owner,
                    field: format!("spec.tls[{index}].match[{at}]"),
                    server_names: condition.sni_hosts.clone(),
                    destinations: &written.route,
                };
                // Another server of this port has brought it in.
                if made.uses(&rule) {
                    continue;
                }
                let gateways = &condition.gateways;
                if let Some(reason) = self.excluded(condition.port, gateways, owner, context) {
                    made.note(&rule, RuleOutcome::NotUsed(reason));
                    continue;
                }
                if let Err(taken) = made.claim(&rule.server_names) {
                    let severity = Severity::Warning;
                    let field = format!("{}.sniHosts", rule.field);
                    let help = "remove the name here or there: the earlier match keeps it";
                    self.diagnostics.push(owner.diagnostic(
                        severity,
                        "RNG0207",
                        &field,
                        &format!("{taken}; the whole match is left out, as in Istio"),
                        Some(help),
                    ));
                    made.note(&rule, RuleOutcome::NotUsed(format!("it is left out: {taken}")));
                    continue;
                }
                let route = self.route(&rule, context);
                made.chain(&rule, context.gateway, None, route);
            }
        }
    }

    /// The `tcp` routes of a VirtualService: the first that is for a server is all that the server takes
    /// (behaviour 2.8.1).
    fn whole(
        &mut self,
        owner: &'r Object<VirtualService>,
        server: &BoundServer<'r>,
        context: &ServerContext<'_>,
        made: &mut Made,
        has_route: &mut bool,
    ) {
        for (index, written) in owner.spec.tcp.iter().enumerate() {
            let mut rule = Rule {
                owner,
                field: format!("spec.tcp[{index}]"),
                server_names: Vec::new(),
                destinations: &written.route,
            };
            let reasons: Vec<String> = written
                .match_
                .iter()
                .map_while(|condition| {
                    self.excluded(condition.port, &condition.gateways, owner, context)
                })
                .collect();
            if !written.match_.is_empty() && reasons.len() == written.match_.len() {
                made.note(&rule, RuleOutcome::NotUsed(reasons.join("; ")));
                continue;
            }
            if *has_route {
                let reason = "its server takes one `tcp` route, and an earlier one is that";
                made.note(&rule, RuleOutcome::NotUsed(reason.to_owned()));
                continue;
            }
            *has_route = true;
            if !server.server.is_tls() {
                made.bytes = Some(self.route(&rule, context));
                made.note(&rule, RuleOutcome::Used(0));
                continue;
            }
            // TLS that ends here is told apart by the hosts of its server.
            rule.server_names = server.server_names();
            match made.claim(&rule.server_names) {
                Err(taken) => {
                    self.left_out(server, &taken);
                    made.note(&rule, RuleOutcome::NotUsed(format!("it is left out: {taken}")));
                }
                Ok(()) => {
                    let route = self.route(&rule, context);
                    let tls = self.server_tls(server);
                    made.chain(&rule, context.gateway, Some(tls), route);
                }
            }
        }
    }

    fn route(&mut self, rule: &Rule<'r>, context: &ServerContext<'_>) -> ConnectionRoute {
        ConnectionRoute {
            virtual_service: naming::qualified(&rule.owner.key()),
            field: rule.field.clone(),
            forward: self.routes.connection(rule.owner, rule.destinations, context),
        }
    }

    /// The TLS side of a server; none: its handshakes fail, and a finding says why (behaviour 2.6.5).
    fn server_tls(&mut self, server: &BoundServer<'r>) -> Option<Arc<ServerTls>> {
        let name = server.table_name();
        let asked = format!("{:?}", server.server.tls);
        let mut sides = self.sides.borrow_mut();
        let last = sides.last_server(&name, &asked);
        let effect = if last.is_some() { LAST_GOOD } else { HANDSHAKES_FAIL };
        let bound = ServerSide { server: server.server, gateway: server.gateway, effect };
        let made = credentials::server_settings(&bound, self.parts).and_then(|settings| {
            sides.server(&name, &asked, settings).map_err(|error| bound.failure(&error, self.parts))
        });
        match made {
            Ok(side) => Some(side),
            Err(found) => {
                self.diagnostics.push(*found);
                last
            }
        }
    }

    /// Of two servers with one name Envoy would refuse the whole port; here the first is kept
    /// (behaviour 2.3.2).
    fn left_out(&mut self, server: &BoundServer<'_>, taken: &str) {
        self.diagnostics.push(server.left_out(&format!("the server is left out: {taken}")));
    }
}

impl Made {
    /// Reserve names for the chain that comes next: all of them or, if one is taken, none.
    fn claim(&mut self, names: &[String]) -> Result<(), String> {
        let number = self.port.chains.len();
        for (at, name) in names.iter().enumerate() {
            let refused = match self.port.names.insert(name, number) {
                Ok(()) => continue,
                // Twice in one list.
                Err(DomainError::Taken(by)) if by == number => continue,
                Err(DomainError::Taken(by)) => {
                    let chain = self.port.chains.get(by).map_or("", |chain| chain.name.as_str());
                    format!("server name `{name}` is of {chain}")
                }
                Err(DomainError::Malformed) => format!("`{name}` is no server name"),
            };
            for claimed in &names[..at] {
                self.port.names.remove(claimed);
            }
            return Err(refused);
        }
        Ok(())
    }

    /// A chain whose names have been claimed; `ended`: TLS ends here, by this side.
    fn chain(
        &mut self,
        rule: &Rule<'_>,
        gateway: &str,
        ended: Option<Option<Arc<ServerTls>>>,
        route: ConnectionRoute,
    ) {
        self.note(rule, RuleOutcome::Used(self.port.chains.len()));
        self.port.chains.push(Chain {
            name: format!("{} {}", route.virtual_service, route.field),
            server_names: rule.server_names.clone(),
            gateway: gateway.to_owned(),
            ends_tls: ended.is_some(),
            tls: ended.flatten(),
            // Connections that go on as a whole are not looked at again.
            client_demand: String::new(),
            of_mesh: false,
            content: ChainContent::Connection(route),
        });
    }

    /// Is a rule a part of this port already?
    fn uses(&self, rule: &Rule<'_>) -> bool {
        let owner = naming::qualified(&rule.owner.key());
        self.rules.iter().any(|known| {
            known.virtual_service == owner
                && known.field == rule.field
                && matches!(known.outcome, RuleOutcome::Used(_))
        })
    }

    /// Note what became of a rule. For a rule that several servers of the port looked at, its use counts,
    /// else what the first one found.
    fn note(&mut self, rule: &Rule<'_>, outcome: RuleOutcome) {
        let virtual_service = naming::qualified(&rule.owner.key());
        let known = self
            .rules
            .iter_mut()
            .find(|known| known.virtual_service == virtual_service && known.field == rule.field);
        match known {
            Some(known) => {
                if matches!(outcome, RuleOutcome::Used(_)) {
                    known.outcome = outcome;
                    known.server_names = rule.server_names.clone();
                }
            }
            None => self.rules.push(ConnectionRule {
                virtual_service,
                field: rule.field.clone(),
                server_names: rule.server_names.clone(),
                outcome,
            }),
        }
    }
}
