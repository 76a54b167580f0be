//! The rules of Istio about which route a request gets (behaviour 2.4 and 3.2 to 3.5), read literally
//! over the manifests as they are typed: no index, no compiled matcher, nothing of the code that it
//! is compared with. Slow, and meant to be obvious.

use std::collections::BTreeMap;

use crate::config::Object;
use crate::config::gateway::Gateway;
use crate::config::virtual_service::{HttpMatchRequest, StringMatch, VirtualService};

/// The gateway that serves, as the rules see it.
pub(super) struct Ours<'o> {
    pub(super) namespace: &'o str,
    pub(super) labels: &'o BTreeMap<String, String>,
    /// The port that is listened on for a server's number.
    pub(super) listens_on: fn(u32) -> u16,
}

/// A request at one of our ports.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) port: u16,
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

/// Which route a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No virtual host has the request's host.
    NoVirtualHost,
    /// One has, and none of its routes matches.
    NoRoute,
    /// This one.
    Route {
        /// `namespace/name`.
        virtual_service: String,
        /// Which of its rules.
        rule: usize,
        /// Which match of the rule.
        position: usize,
    },
}

/// One match of one rule.
#[derive(Clone)]
struct Entry<'m> {
    owner: &'m Object<VirtualService>,
    rule: usize,
    position: usize,
    /// None for a rule without matches.
    condition: Option<&'m HttpMatchRequest>,
}

/// The route of `asked` among `gateways` and `services`.
pub(super) fn answer(
    gateways: &[&Object<Gateway>],
    services: &[&Object<VirtualService>],
    ours: &Ours<'_>,
    asked: &Asked,
) -> Answer {
    let hosts = virtual_hosts(gateways, services, ours, asked.port);
    let Some(entries) = hosts.get(selected(hosts.keys(), &asked.authority).unwrap_or_default())
    else {
        return Answer::NoVirtualHost;
    };
    // Catch-alls come last; otherwise the order stays (3.2.3).
    let (last, first): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| is_catch_all(entry.condition));
    let found = first
        .into_iter()
        .chain(last)
        .find(|entry| entry.condition.is_none_or(|condition| holds(condition, asked)));
    match found {
        None => Answer::NoRoute,
        Some(entry) => Answer::Route {
            virtual_service: key(entry.owner),
            rule: entry.rule,
            position: entry.position,
        },
    }
}

/// Creation time, then name, then namespace (1.2).
fn by_age<'o, S>(objects: &[&'o Object<S>]) -> Vec<&'o Object<S>> {
    let mut sorted = objects.to_vec();
    sorted.sort_by_key(|object| {
        let meta = &object.meta;
        (meta.creation_timestamp.clone(), meta.name.clone(), meta.namespace.clone())
    });
    sorted
}

/// What each domain of the port has, before catch-alls move.
fn virtual_hosts<'o>(
    gateways: &[&'o Object<Gateway>],
    services: &[&'o Object<VirtualService>],
    ours: &Ours<'_>,
    port: u16,
) -> BTreeMap<String, Vec<Entry<'o>>> {
    let services = in_order(services, ours);
    let mut domains: BTreeMap<String, Vec<Entry<'o>>> = BTreeMap::new();
    // Which VirtualService has given its routes to which domain, for which Gateway.
    let mut given: Vec<(String, String, String)> = Vec::new();
    // The number of the first server of a Gateway that a VirtualService is bound to (3.2.7).
    let mut numbers: BTreeMap<(String, String), u32> = BTreeMap::new();
    for gateway in by_age(gateways) {
        for server in &gateway.spec.servers {
            let number = server.port.as_ref().expect("every server has one").number;
            if (ours.listens_on)(number) != port {
                continue;
            }
            for service in &services {
                let shared = shared_hosts(gateway, &server.hosts, service);
                if shared.is_empty() {
                    continue;
                }
                let pair = (key(gateway), key(service));
                let number = *numbers.entry(pair.clone()).or_insert(number);
                for host in shared {
                    let gift = (pair.0.clone(), pair.1.clone(), host.clone());
                    let domain = domains.entry(host).or_default();
                    if !given.contains(&gift) {
                        given.push(gift);
                        domain.extend(entries(service, gateway, number, ours));
                    }
                }
            }
        }
    }
    domains
}

/// The VirtualServices that our namespace sees: private ones of its own, those exported to it by
/// name, public ones (3.2.1).
fn in_order<'o>(
    services: &[&'o Object<VirtualService>],
    ours: &Ours<'_>,
) -> Vec<&'o Object<VirtualService>> {
    let mut groups: [Vec<_>; 3] = Default::default();
    for service in by_age(services) {
        let scopes = &service.spec.export_to;
        let own = service.meta.namespace == ours.namespace;
        if scopes.is_empty() || scopes.iter().any(|scope| scope == "*") {
            groups[2].push(service);
        } else if own && scopes.iter().any(|scope| scope == "." || scope == ours.namespace) {
            groups[0].push(service);
        } else if scopes.iter().any(|scope| scope == ours.namespace) {
            groups[1].push(service);
        }
    }
    groups.concat()
}

/// The names under which a VirtualService is served by a server of a Gateway, if it is bound to it.
fn shared_hosts(
    gateway: &Object<Gateway>,
    server_hosts: &[String],
    service: &Object<VirtualService>,
) -> Vec<String> {
    let namespace = service.meta.namespace.as_str();
    let bound = service.spec.gateways.iter().any(|name| is_named(gateway, name, namespace));
    let mut shared = Vec::new();
    if !bound {
        return shared;
    }
    let any = ["*".to_owned()];
    // One `*/*` makes the whole list `*` (2.4.1).
    let everything = server_hosts.iter().any(|host| host == "*/*");
    for server_host in if everything { &any } else { server_hosts } {
        let (scope, server_host) = match server_host.split_once('/') {
            None => ("*", server_host.as_str()),
            Some((".", host)) => (gateway.meta.namespace.as_str(), host),
            Some(scoped) => scoped,
        };
        if scope != "*" && scope != namespace {
            continue;
        }
        for host in &service.spec.hosts {
            let host = match host.contains('.') || host == "*" {
                true => host.clone(),
                false => format!("{host}.{namespace}.svc.cluster.local"),
            };
            // The more specific of two names that intersect.
            let name = match (includes(server_host, &host), includes(&host, server_host)) {
                (true, _) => host,
                (_, true) => server_host.to_owned(),
                _ => continue,
            };
            if !shared.contains(&name.to_lowercase()) {
                shared.push(name.to_lowercase());
            }
        }
    }
    shared
}

/// Behaviour 1.5.
fn is_named(gateway: &Object<Gateway>, name: &str, namespace: &str) -> bool {
    let (of, name) = match name {
        "mesh" => return false,
        _ if name.contains('/') => name.split_once('/').expect("it has a slash"),
        _ if name.contains('.') => {
            let mut labels = name.split('.');
            let name = labels.next().expect("one at least");
            (labels.next().expect("it has a dot"), name)
        }
        _ => (namespace, name),
    };
    let of = if of == "." { namespace } else { of };
    gateway.meta.namespace == of && gateway.meta.name == name
}

/// Is every name of `inner` one of `outer`? Both may be wildcards.
fn includes(outer: &str, inner: &str) -> bool {
    match outer.strip_prefix('*') {
        None => outer == inner,
        Some(suffix) => suffix.is_empty() || inner.ends_with(suffix) && inner.len() > suffix.len(),
    }
}

/// The matches of a VirtualService that are for this server, up to the first that takes everything.
fn entries<'o>(
    owner: &'o Object<VirtualService>,
    gateway: &Object<Gateway>,
    number: u32,
    ours: &Ours<'_>,
) -> Vec<Entry<'o>> {
    let mut entries = Vec::new();
    for (rule, written) in owner.spec.http.iter().enumerate() {
        let conditions: Vec<Option<&HttpMatchRequest>> = match written.match_.is_empty() {
            true => vec![None],
            false => written.match_.iter().map(Some).collect(),
        };
        for (position, condition) in conditions.into_iter().enumerate() {
            let here =
                condition.is_none_or(|it| is_for(it, gateway, &owner.meta.namespace, number, ours));
            if here {
                entries.push(Entry { owner, rule, position, condition });
                if is_catch_all(condition) {
                    return entries;
                }
            }
        }
    }
    entries
}

/// Port, gateways and source are decided before any request comes; with `gateways` the source does
/// not count.
fn is_for(
    condition: &HttpMatchRequest,
    gateway: &Object<Gateway>,
    namespace: &str,
    number: u32,
    ours: &Ours<'_>,
) -> bool {
    let port = condition.port.is_none_or(|port| port == number);
    if !condition.gateways.is_empty() {
        return port && condition.gateways.iter().any(|name| is_named(gateway, name, namespace));
    }
    let labels =
        condition.source_labels.iter().all(|pair| ours.labels.iter().any(|own| own == pair));
    let namespace = condition.source_namespace.as_deref().is_none_or(|of| of == ours.namespace);
    port && labels && namespace
}

/// Behaviour 3.2.4.
fn is_catch_all(condition: Option<&HttpMatchRequest>) -> bool {
    let Some(condition) = condition else { return true };
    let any_path = match &condition.uri {
        None | Some(StringMatch::Empty) => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/" || prefix.is_empty(),
        Some(StringMatch::Regex(pattern)) => pattern == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    any_path
        && condition.headers.is_empty()
        && condition.without_headers.is_empty()
        && condition.query_params.is_empty()
        && condition.method.is_none()
        && condition.authority.is_none()
        && condition.scheme.is_none()
}

/// The domain of a request (3.3): its host itself, else the longest wildcard, else `*`.
fn selected<'d>(domains: impl Iterator<Item = &'d String>, authority: &str) -> Option<&'d str> {
    let lower = authority.to_lowercase();
    let host = lower.split(':').next().unwrap_or_default();
    let rank = |domain: &str| match domain.strip_prefix('*') {
        None => usize::MAX,
        Some(suffix) => suffix.len(),
    };
    domains
        .filter(|domain| includes(domain, host))
        .max_by_key(|domain| rank(domain))
        .map(String::as_str)
}

/// All conditions of a match (3.4).
fn holds(condition: &HttpMatchRequest, asked: &Asked) -> bool {
    let plain = |wanted: &Option<StringMatch>, value: &str| {
        wanted.as_ref().is_none_or(|wanted| string_holds(wanted, value))
    };
    uri_holds(condition, &asked.path)
        && plain(&condition.scheme, "http")
        && plain(&condition.method, &asked.method)
        && plain(&condition.authority, &asked.authority)
        && condition.headers.iter().all(|(name, wanted)| {
            let value = header(asked, name);
            match asks_for_presence(wanted) {
                true => value.is_some(),
                false => value.is_some_and(|value| plain(wanted, &value)),
            }
        })
        && condition.without_headers.iter().all(|(name, unwanted)| {
            let value = header(asked, name);
            match asks_for_presence(unwanted) {
                true => value.is_none(),
                // What is not there counts as empty.
                false => !plain(unwanted, &value.unwrap_or_default()),
            }
        })
        && condition.query_params.iter().all(|(name, wanted)| {
            let value = parameter(asked, name);
            match asks_for_presence(wanted) {
                true => value.is_some(),
                false => value.is_some_and(|value| plain(wanted, &value)),
            }
        })
}

fn asks_for_presence(condition: &Option<StringMatch>) -> bool {
    match condition {
        None | Some(StringMatch::Empty) => true,
        Some(StringMatch::Regex(pattern)) => pattern == "*",
        _ => false,
    }
}

fn uri_holds(condition: &HttpMatchRequest, path: &str) -> bool {
    let fold = condition.ignore_uri_case == Some(true);
    match &condition.uri {
        Some(StringMatch::Exact(text)) if fold => path.to_lowercase() == text.to_lowercase(),
        Some(StringMatch::Prefix(text)) if fold => {
            path.to_lowercase().starts_with(&text.to_lowercase())
        }
        Some(wanted) => string_holds(wanted, path),
        None => true,
    }
}

fn string_holds(wanted: &StringMatch, value: &str) -> bool {
    match wanted {
        StringMatch::Exact(text) => value == text,
        StringMatch::Prefix(text) => value.starts_with(text),
        StringMatch::Regex(pattern) => regex_holds(pattern, value),
        StringMatch::Empty => true,
    }
}

/// The patterns that the generator uses, each written out: no engine is asked.
fn regex_holds(pattern: &str, value: &str) -> bool {
    match pattern {
        ".*" => true,
        "/.*" => value.starts_with('/'),
        "/a/[ab]+" => value.strip_prefix("/a/").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|letter| letter == 'a' || letter == 'b')
        }),
        "(/[ab])*" => {
            value.len().is_multiple_of(2)
                && value.as_bytes().chunks(2).all(|pair| pair == b"/a" || pair == b"/b")
        }
        "https?" => value == "http" || value == "https",
        "GET|PUT" => value == "GET" || value == "PUT",
        ".*:80" => value.ends_with(":80"),
        "[12]" => value == "1" || value == "2",
        "1.*" => value.starts_with('1'),
        other => panic!("`{other}` is not one of the patterns"),
    }
}

/// Fields of one name are one value, joined with commas; pseudo headers stand for the request line.
fn header(asked: &Asked, name: &str) -> Option<String> {
    match name.to_lowercase().as_str() {
        ":method" => Some(asked.method.clone()),
        ":authority" | "host" => Some(asked.authority.clone()),
        ":scheme" => Some("http".to_owned()),
        ":path" => Some(match &asked.query {
            None => asked.path.clone(),
            Some(query) => format!("{}?{query}", asked.path),
        }),
        name => {
            let fields = asked.headers.iter().filter(|(field, _)| field.to_lowercase() == name);
            let values: Vec<&str> = fields.map(|(_, value)| value.as_str()).collect();
            (!values.is_empty()).then(|| values.join(","))
        }
    }
}

/// The first value of a parameter, as it was sent.
fn parameter(asked: &Asked, name: &str) -> Option<String> {
    asked.query.as_ref()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| value.to_owned())
    })
}

pub(super) fn key<S>(object: &Object<S>) -> String {
    format!("{}/{}", object.meta.namespace, object.meta.name)
}
