//! VirtualServices bound to the servers of one port → virtual hosts (behaviour 2.4, 3.2).

use std::collections::HashMap;

use super::CompileOptions;
use super::listeners::BoundServer;
use super::naming::{self, intersect, is_exported, resolve_gateway, resolve_short_name};
use super::routes::{RouteCompiler, ServerContext};
use crate::config::virtual_service::VirtualService;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};
use crate::ids::RouteId;
use crate::router::{Matcher, RouteTable};

type Routes = Vec<(Matcher, RouteId)>;

/// A domain on its way to a virtual host.
#[derive(Default)]
struct Domain {
    name: String,
    routes: Routes,
    /// A server that has it has `httpsRedirect`.
    redirects: bool,
    /// The name that its requests are counted under: the first host of the VirtualService that brought it.
    counted_as: Option<String>,
}

/// The domains of a port, in the order in which they came.
#[derive(Default)]
struct Domains {
    all: Vec<Domain>,
    by_name: HashMap<String, usize>,
}

impl Domains {
    fn of(&mut self, name: String) -> &mut Domain {
        let at = *self.by_name.entry(name.clone()).or_insert_with(|| {
            self.all.push(Domain { name, ..Domain::default() });
            self.all.len() - 1
        });
        &mut self.all[at]
    }
}

/// The route table of `servers`, which share it, behind `port`, of the [`candidates`].
pub fn compile<'r>(
    candidates: &[&'r Object<VirtualService>],
    options: &CompileOptions,
    servers: &[BoundServer<'_>],
    port: u16,
    routes: &mut RouteCompiler<'r>,
    diagnostics: &mut Vec<Diagnostic>,
) -> RouteTable {
    let mut domains = Domains::default();
    // The routes of a VirtualService are made once per Gateway, with the number of the first server
    // of it that matches (behaviour 3.2.7).
    let mut made: HashMap<(usize, String), (String, Routes)> = HashMap::new();
    for server in servers {
        let redirects = server.server.redirects_to_https();
        for (index, &candidate) in candidates.iter().enumerate() {
            let hosts = bound_hosts(candidate, server, options);
            if hosts.is_empty() {
                continue;
            }
            let gateway = naming::qualified(&server.gateway.key());
            let key = (index, gateway.clone());
            if !made.contains_key(&key) {
                let context = ServerContext {
                    gateway: &gateway,
                    number: server.number,
                    labels: &options.labels,
                    namespace: &options.namespace,
                };
                let first_host = hosts.first().map_or("*", String::as_str);
                let made_routes =
                    routes.virtual_service(candidate, &context, first_host, diagnostics);
                made.insert(key.clone(), (first_host.to_owned(), made_routes));
            }
            let (counted_as, own) = made.get(&key).cloned().unwrap_or_default();
            for host in hosts {
                let domain = domains.of(host);
                domain.redirects |= redirects;
                domain.counted_as = domain.counted_as.take().or_else(|| Some(counted_as.clone()));
                // A VirtualService bound by two servers of one Gateway contributes once.
                let has =
                    |route: &(Matcher, RouteId)| domain.routes.iter().any(|(_, id)| *id == route.1);
                if !own.iter().any(has) {
                    domain.routes.extend(own.iter().cloned());
                }
            }
        }
        // The redirect needs no VirtualService: every host of the server has it (behaviour 2.7.3).
        for host in server.hosts().filter(|_| redirects) {
            domains.of(naming::without_namespace(host)).redirects = true;
        }
    }
    let mut table = RouteTable::default();
    let mut https_redirect = None;
    let mut unrouted = Vec::new();
    for mut domain in domains.all {
        // Only catch-alls move, to the end; the others keep their order (behaviour 3.2.3).
        domain.routes.sort_by_key(|(matcher, _)| matcher.is_catch_all());
        if domain.redirects {
            let redirect = https_redirect.get_or_insert_with(|| routes.https_redirect());
            domain.routes.insert(0, redirect.clone());
        }
        let name = format!("{}:{}", domain.name, port);
        match table.add_virtual_host(name, vec![domain.name], domain.routes) {
            Ok(id) => unrouted.extend(domain.counted_as.map(|counted_as| (id, counted_as))),
            Err(error) => diagnostics.push(Diagnostic::without_place(
                Severity::Error,
                "RNG0202",
                format!("port {}: {error}", port),
            )),
        }
    }
    for (id, counted_as) in unrouted {
        let domain = table.virtual_host(id).and_then(|of| of.domains.first());
        let slot = routes.unrouted(domain.map_or("", String::as_str), &counted_as);
        table.count_unrouted(id, slot);
    }
    table
}

/// The VirtualServices that `viewer` sees, in Istio's order: private ones of its own namespace,
/// those exported to it by name, public ones (behaviour 3.2.1).
pub(super) fn candidates<'r>(
    resources: &'r ResourceSet,
    viewer: &str,
) -> Vec<&'r Object<VirtualService>> {
    let group = |object: &Object<VirtualService>| {
        let (export_to, owner) = (&object.spec.export_to, &object.meta.namespace);
        let named = |name: &str| export_to.iter().any(|scope| scope == name);
        if export_to.is_empty() || named("*") {
            2
        } else if owner == viewer && (named(".") || named(owner)) {
            // Whomever else it is exported to.
            0
        } else {
            1
        }
    };
    let mut candidates: Vec<_> = resources
        .virtual_services()
        .filter(|object| is_exported(&object.spec.export_to, &object.meta.namespace, viewer))
        .collect();
    // Stable: within a group the order of creation time, name, namespace stays.
    candidates.sort_by_key(|object| group(object));
    candidates
}

/// The names under which `candidate` is served on `server`: of each intersecting pair the more
/// specific one.
pub(super) fn bound_hosts(
    candidate: &Object<VirtualService>,
    server: &BoundServer<'_>,
    options: &CompileOptions,
) -> Vec<String> {
    let namespace = &candidate.meta.namespace;
    let gateway = &server.gateway.meta;
    let bound = candidate.spec.gateways.iter().any(|name| {
        resolve_gateway(name, namespace, &options.cluster_domain)
            == Some((gateway.namespace.as_str(), gateway.name.as_str()))
    });
    if !bound {
        return Vec::new();
    }
    let mut hosts: Vec<String> = Vec::new();
    for server_host in server.hosts() {
        let Some(server_host) = naming::server_host(server_host, &gateway.namespace, namespace)
        else {
            continue;
        };
        for host in &candidate.spec.hosts {
            let host = resolve_short_name(host, namespace, &options.cluster_domain);
            if let Some(name) = intersect(server_host, &host) {
                let name = name.to_ascii_lowercase();
                if !hosts.contains(&name) {
                    hosts.push(name);
                }
            }
        }
    }
    hosts
}
