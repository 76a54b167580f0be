//! HTTP routes of a VirtualService → routes and matchers (behaviour 3.4 to 3.6).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::clusters::ClusterCompiler;
use super::delegates::{Delegates, ServedRule};
use super::naming::{self, resolve_gateway, resolve_short_name};
use super::objectives::CountedNames;
use super::policy;
use crate::config::virtual_service::{
    Destination as WrittenDestination, HttpMatchRequest, HttpRedirect, HttpRoute,
    HttpRouteDestination, RedirectPort as Derive, RouteDestination, StringMatch as Condition,
    VirtualService,
};
use crate::config::{Diagnostic, Object, Severity};
use crate::http::Scheme;
use crate::ids::{ClusterId, HistogramSlot, RouteId};
use crate::metrics::HistogramKey;
use crate::metrics::labels::{OWN_ANSWER, UNKNOWN};
use crate::router::{HeaderMatch, Matcher, PatternError, QueryMatch, StringMatch};
use crate::snapshot::{
    Cluster, Destination, DirectResponse, Forward, Mirror, Redirect, RedirectPath, RedirectPort,
    Route, RouteAction, RouteNames,
};

/// The server that routes are made for.
pub struct ServerContext<'c> {
    /// `namespace/name` of its Gateway.
    pub gateway: &'c str,
    /// Its port number as written.
    pub number: u16,
    /// Labels of this gateway.
    pub labels: &'c BTreeMap<String, String>,
    /// Namespace of this gateway.
    pub namespace: &'c str,
}

impl ServerContext<'_> {
    /// May a match with this `port` be of the server?
    pub fn has_port(&self, port: Option<u32>) -> bool {
        port.is_none_or(|port| port == u32::from(self.number))
    }

    /// Is its Gateway one of those that an object of `namespace` names?
    pub fn is_named(&self, gateways: &[String], namespace: &str, cluster_domain: &str) -> bool {
        gateways.iter().any(|name| {
            resolve_gateway(name, namespace, cluster_domain)
                .is_some_and(|(of, name)| format!("{of}/{name}") == self.gateway)
        })
    }
}

/// Makes the routes of a snapshot.
pub struct RouteCompiler<'r> {
    cluster_domain: &'r str,
    clusters: ClusterCompiler<'r>,
    delegates: Delegates<'r>,
    routes: Vec<Route>,
    /// Operations in use: routes share them.
    operations: HashSet<Arc<str>>,
    counted: CountedNames,
}

impl<'r> RouteCompiler<'r> {
    /// No route yet.
    pub fn new(
        cluster_domain: &'r str,
        clusters: ClusterCompiler<'r>,
        delegates: Delegates<'r>,
    ) -> RouteCompiler<'r> {
        let (routes, operations) = (Vec::new(), HashSet::new());
        let counted = CountedNames::default();
        RouteCompiler { cluster_domain, clusters, delegates, routes, operations, counted }
    }

    /// All routes and clusters made.
    pub fn finish(self) -> (Vec<Route>, Vec<Cluster>) {
        (self.routes, self.clusters.finish())
    }

    /// The route of `httpsRedirect` (behaviour 2.7): requests in clear text are sent to the same host,
    /// port, path and query with https. Behind trusted proxies the scheme is what they say.
    pub fn https_redirect(&mut self) -> (Matcher, RouteId) {
        let redirect = Redirect {
            status: 301,
            scheme: Some(Scheme::Https),
            port: RedirectPort::AsSent,
            ..Redirect::default()
        };
        let operation = self.operation(String::new());
        let id = RouteId(self.routes.len() as u32);
        // It is the same one for all hosts of the port.
        let key = HistogramKey {
            route: "https-redirect".to_owned(),
            virtual_service: UNKNOWN.to_owned(),
            virtual_host: "*".to_owned(),
            destination: OWN_ANSWER.to_owned(),
        };
        let own_answers = self.clusters.labels().histogram_slot(&key);
        self.routes.push(Route {
            action: RouteAction::Redirect(Box::new(redirect)),
            operation,
            names: Box::new(RouteNames { own_answers, ..RouteNames::default() }),
            policy: None,
        });
        (Matcher { scheme: Some(StringMatch::exact("http")), ..Matcher::default() }, id)
    }

    /// The routes of a VirtualService for a server, in order: each match of a rule becomes one. A
    /// rule or match that applies to everything ends the VirtualService.
    pub fn virtual_service(
        &mut self,
        object: &'r Object<VirtualService>,
        context: &ServerContext<'_>,
        virtual_host: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<(Matcher, RouteId)> {
        let mut made = Vec::new();
        let virtual_service = naming::qualified(&object.key());
        for ServedRule { owner, index, rule } in self.delegates.rules(object) {
            let rule = &*rule;
            let everything = [HttpMatchRequest::default()];
            let matches = if rule.match_.is_empty() { &everything[..] } else { &rule.match_ };
            for (position, condition) in matches.iter().enumerate() {
                if !self.is_for(condition, &owner.meta.namespace, context) {
                    continue;
                }
                let matcher = match matcher(condition) {
                    Ok(matcher) => matcher,
                    Err((field, error)) => {
                        diagnostics.push(owner.diagnostic(
                            Severity::Error,
                            "RNG0203",
                            &format!("spec.http[{index}].match[{position}].{field}"),
                            &error.to_string(),
                            Some("the match is left out; use RE2 syntax"),
                        ));
                        continue;
                    }
                };
                let ends = matcher.is_catch_all();
                let names = (virtual_service.as_str(), virtual_host);
                let mut route = self.route(owner, rule, condition, context, names);
                let mirrors = self.mirrors(owner, rule, context);
                let used = used(rule);
                route.policy =
                    policy::policy(owner, index, rule, condition, &used, mirrors, diagnostics);
                let id = RouteId(self.routes.len() as u32);
                self.routes.push(route);
                made.push((matcher, id));
                if ends {
                    return made;
                }
            }
        }
        made
    }

    /// Does the match concern this server at all? Port, gateways and source are decided here, once.
    fn is_for(
        &self,
        condition: &HttpMatchRequest,
        namespace: &str,
        context: &ServerContext<'_>,
    ) -> bool {
        if !context.has_port(condition.port) {
            return false;
        }
        if !condition.gateways.is_empty() {
            // Then the source is not looked at (behaviour 3.4).
            return context.is_named(&condition.gateways, namespace, self.cluster_domain);
        }
        let labels_fit = condition
            .source_labels
            .iter()
            .all(|(label, value)| context.labels.get(label) == Some(value));
        let namespace_fits = match condition.source_namespace.as_deref() {
            None | Some("") => true,
            Some(source) => source == context.namespace,
        };
        labels_fit && namespace_fits
    }

    fn route(
        &mut self,
        owner: &Object<VirtualService>,
        rule: &HttpRoute,
        condition: &HttpMatchRequest,
        context: &ServerContext<'_>,
        (virtual_service, virtual_host): (&str, &str),
    ) -> Route {
        let rule_name = rule.name.as_deref().unwrap_or_default();
        let name = match condition.name.as_deref() {
            None | Some("") => rule_name.to_owned(),
            Some(name) => format!("{rule_name}.{name}"),
        };
        let virtual_service = virtual_service.to_owned();
        // Envoy's statistics of a route bear its prefix; those of ours are its latencies.
        let prefix = condition.stat_prefix.as_ref().filter(|prefix| !prefix.is_empty());
        let key = |destination: String| HistogramKey {
            route: prefix.unwrap_or(&name).clone(),
            virtual_service: virtual_service.clone(),
            virtual_host: virtual_host.to_owned(),
            destination,
        };
        let answers =
            rule.redirect.is_some() || rule.direct_response.is_some() || rule.cors_policy.is_some();
        let own_answers = match answers {
            true => self.counted(key(OWN_ANSWER.to_owned())),
            false => HistogramSlot::UNROUTED,
        };
        let names = Box::new(RouteNames {
            route: name.clone(),
            virtual_service: virtual_service.clone(),
            own_answers,
        });
        if let Some(action) = local_action(rule, condition, context) {
            return Route { action, operation: self.operation(String::new()), names, policy: None };
        }
        let several = rule.route.len() > 1;
        let mut destinations = Vec::new();
        let mut operation = String::new();
        for weighted in used(rule).into_iter().filter_map(|position| rule.route.get(position)) {
            let weight = weighted.weight.unwrap_or(0);
            let Some(destination) = &weighted.destination else { continue };
            let (host, number, cluster) = self.cluster(owner, destination, context);
            let subset = destination.subset.as_deref().unwrap_or_default();
            if operation.is_empty() {
                operation = format!("{host}:{number}{}", path_pattern(condition.uri.as_ref()));
            }
            let histogram_slot = self.counted(key(naming::cluster(&host, number, subset)));
            let weight = if several { weight } else { 1 };
            destinations.push(Destination { cluster, weight, histogram_slot });
        }
        let forward = forward(destinations);
        let operation = self.operation(operation);
        Route { action: RouteAction::Forward(forward), operation, names, policy: None }
    }

    /// Where the connections of a `tls` or `tcp` route go; of several destinations those with a weight
    /// (behaviour 2.8.5).
    pub fn connection(
        &mut self,
        owner: &Object<VirtualService>,
        written: &[RouteDestination],
        context: &ServerContext<'_>,
    ) -> Forward {
        let several = written.len() > 1;
        let mut destinations = Vec::new();
        for weighted in written {
            let weight = if several { weighted.weight.unwrap_or(0) } else { 1 };
            let Some(destination) = weighted.destination.as_ref().filter(|_| weight > 0) else {
                continue;
            };
            let (.., cluster) = self.cluster(owner, destination, context);
            let histogram_slot = HistogramSlot::UNROUTED;
            destinations.push(Destination { cluster, weight, histogram_slot });
        }
        forward(destinations)
    }

    /// Every cluster under the server name that the sidecars of a mesh give it,
    /// `outbound_.<port>_.<subset>_.<host>`, with where its connections go.
    pub fn mesh_names(&mut self) -> Vec<(String, Forward)> {
        let names = self.clusters.names();
        let made = names.into_iter().filter_map(|(host, port, subset)| {
            let (_, cluster) = self.clusters.cluster(&host, Some(port), &subset, port);
            let histogram_slot = HistogramSlot::UNROUTED;
            let destination = Destination { cluster: Some(cluster?), weight: 1, histogram_slot };
            Some((format!("outbound_.{port}_.{subset}_.{host}"), Forward::One(destination)))
        });
        made.collect()
    }

    /// Where copies go; a mirror that does not exist gets none, in silence as in Istio (validation
    /// warns of it).
    fn mirrors(
        &mut self,
        owner: &Object<VirtualService>,
        rule: &HttpRoute,
        context: &ServerContext<'_>,
    ) -> Box<[Mirror]> {
        let mut made = Vec::new();
        for (destination, ppm) in policy::mirrors(rule) {
            if let (.., Some(cluster)) = self.cluster(owner, destination, context) {
                made.push(Mirror { cluster, ppm });
            }
        }
        made.into()
    }

    /// The full host that a destination of `owner` names, its port, and the cluster if there is one.
    fn cluster(
        &mut self,
        owner: &Object<VirtualService>,
        destination: &WrittenDestination,
        context: &ServerContext<'_>,
    ) -> (String, u32, Option<ClusterId>) {
        let host =
            resolve_short_name(&destination.host, &owner.meta.namespace, self.cluster_domain);
        let port = destination.port.as_ref().map(|port| port.number);
        let subset = destination.subset.as_deref().unwrap_or_default();
        let (number, cluster) =
            self.clusters.cluster(&host, port, subset, u32::from(context.number));
        (host, number, cluster)
    }

    /// The slot of a route's requests.
    fn counted(&mut self, key: HistogramKey) -> HistogramSlot {
        let slot = self.clusters.labels().histogram_slot(&key);
        self.counted.add(&key, slot);
        slot
    }

    /// What requests are counted under.
    pub fn take_counted(&mut self) -> CountedNames {
        std::mem::take(&mut self.counted)
    }

    /// The slot of requests for a host that no route matches.
    pub fn unrouted(&mut self, host: &str, counted_as: &str) -> HistogramSlot {
        self.counted.alias(host, counted_as);
        self.clusters.labels().unrouted_slot(counted_as)
    }

    /// The shared text of an operation.
    fn operation(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.operations.get(text.as_str()) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.operations.insert(Arc::clone(&new));
        new
    }
}

fn forward(destinations: Vec<Destination>) -> Forward {
    match destinations.as_slice() {
        // Validation keeps such rules out: what they take must not fall through to others.
        [] => Forward::One(Destination {
            cluster: None,
            weight: 1,
            histogram_slot: HistogramSlot::UNROUTED,
        }),
        [only] => Forward::One(*only),
        several => Forward::Several {
            total_weight: several.iter().map(|one| u64::from(one.weight)).sum(),
            destinations: destinations.into(),
        },
    }
}

/// The positions of the destinations that get requests: of several, those with a weight.
fn used(rule: &HttpRoute) -> Vec<usize> {
    let several = rule.route.len() > 1;
    let gets = |weighted: &HttpRouteDestination| {
        weighted.destination.is_some() && !(several && weighted.weight.unwrap_or(0) == 0)
    };
    (0..rule.route.len()).filter(|&position| rule.route.get(position).is_some_and(gets)).collect()
}

/// What a rule answers itself, if it does.
fn local_action(
    rule: &HttpRoute,
    condition: &HttpMatchRequest,
    context: &ServerContext<'_>,
) -> Option<RouteAction> {
    if let Some(redirect) = &rule.redirect {
        return Some(RouteAction::Redirect(Box::new(self::redirect(redirect, condition, context))));
    }
    let direct = rule.direct_response.as_ref()?;
    let body = direct.body.as_ref();
    let bytes = match body.and_then(|body| body.bytes.as_deref()) {
        Some(encoded) => data_encoding::BASE64.decode(encoded.as_bytes()).unwrap_or_default(),
        None => body.and_then(|body| body.string.clone()).unwrap_or_default().into_bytes(),
    };
    let status = u16::try_from(direct.status).unwrap_or(500);
    Some(RouteAction::DirectResponse(Box::new(DirectResponse { status, body: bytes.into() })))
}

fn redirect(
    redirect: &HttpRedirect,
    condition: &HttpMatchRequest,
    context: &ServerContext<'_>,
) -> Redirect {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let path = match (given(&redirect.uri), given(&redirect.prefix_rewrite)) {
        (Some(uri), _) => RedirectPath::Full(uri),
        (None, Some(replacement)) => {
            let length = match &condition.uri {
                Some(Condition::Prefix(prefix)) => prefix.len(),
                // Without a match the prefix is `/`.
                _ => 1,
            };
            RedirectPath::Prefix { length, replacement }
        }
        (None, None) => RedirectPath::Keep,
    };
    let port = match (redirect.port.and_then(|port| u16::try_from(port).ok()), redirect.derive_port)
    {
        (Some(port), _) => RedirectPort::Number(port),
        (None, Some(Derive::FromProtocolDefault)) => RedirectPort::Default,
        (None, Some(Derive::FromRequestPort)) => RedirectPort::Number(context.number),
        (None, None) => RedirectPort::Keep,
    };
    Redirect {
        status: match redirect.redirect_code {
            None | Some(0) => 301,
            Some(code) => u16::try_from(code).unwrap_or(301),
        },
        path,
        authority: given(&redirect.authority),
        scheme: match redirect.scheme.as_deref() {
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            _ => None,
        },
        port,
    }
}

/// The path as Istio shows it in the name of an operation.
fn path_pattern(uri: Option<&Condition>) -> String {
    match uri {
        Some(Condition::Exact(path) | Condition::Regex(path)) => path.clone(),
        Some(Condition::Prefix(prefix)) => format!("{prefix}*"),
        _ => "/*".to_owned(),
    }
}

/// Compile the conditions of a match; the error names the field.
fn matcher(request: &HttpMatchRequest) -> Result<Matcher, (String, PatternError)> {
    let field = |name: &str, condition: Option<&Condition>| match condition {
        None => Ok(None),
        Some(condition) => string_match(condition).map_err(|error| (name.to_owned(), error)),
    };
    let headers = |field: &str, conditions: &BTreeMap<String, Option<Condition>>| {
        conditions
            .iter()
            .map(|(name, condition)| match value_match(condition.as_ref()) {
                Ok(value) => Ok(HeaderMatch::new(name, value)),
                Err(error) => Err((format!("{field}[{name}]"), error)),
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let query = request
        .query_params
        .iter()
        .map(|(name, condition)| match value_match(condition.as_ref()) {
            Ok(value) => Ok(QueryMatch::new(name, value)),
            Err(error) => Err((format!("queryParams[{name}]"), error)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Matcher {
        uri: field("uri", request.uri.as_ref())?,
        ignore_uri_case: request.ignore_uri_case.unwrap_or(false),
        scheme: field("scheme", request.scheme.as_ref())?,
        method: field("method", request.method.as_ref())?,
        authority: field("authority", request.authority.as_ref())?,
        headers: headers("headers", &request.headers)?,
        without_headers: headers("withoutHeaders", &request.without_headers)?,
        query,
    })
}

/// `{}` and no value at all hold for everything.
fn string_match(condition: &Condition) -> Result<Option<StringMatch>, PatternError> {
    match condition {
        Condition::Exact(text) => Ok(Some(StringMatch::exact(text))),
        Condition::Prefix(text) => Ok(Some(StringMatch::prefix(text))),
        Condition::Regex(pattern) => StringMatch::regex(pattern).map(Some),
        Condition::Empty => Ok(None),
    }
}

/// For fields and parameters `{}` and the regex `*` ask only whether they are there.
fn value_match(condition: Option<&Condition>) -> Result<Option<StringMatch>, PatternError> {
    match condition {
        None => Ok(None),
        Some(Condition::Regex(pattern)) if pattern == "*" => Ok(None),
        Some(condition) => string_match(condition),
    }
}
