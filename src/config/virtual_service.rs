//! `VirtualService` (networking.istio.io).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::scalar::{Duration, Percent};

/// Spec of a VirtualService.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualService {
    /// Hosts; none: a delegate.
    pub hosts: Vec<String>,
    /// Gateways; none: `mesh`, which a gateway does not see.
    pub gateways: Vec<String>,
    /// HTTP rules, in order.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is not ended here.
    pub tls: Vec<TlsRoute>,
    /// Rules for TCP.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it.
    pub export_to: Vec<String>,
}

/// An HTTP rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRoute {
    /// Name, for logs.
    pub name: Option<String>,
    /// When it applies: any of these; none: always.
    #[serde(rename = "match")]
    pub match_: Vec<HttpMatchRequest>,
    /// Weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect.
    pub redirect: Option<HttpRedirect>,
    /// Answer with a fixed response.
    pub direct_response: Option<HttpDirectResponse>,
    /// Continue in another VirtualService.
    pub delegate: Option<Delegate>,
    /// Change path or host on the way.
    pub rewrite: Option<HttpRewrite>,
    /// Time for the whole request.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retries: Option<HttpRetry>,
    /// Injected faults.
    pub fault: Option<HttpFaultInjection>,
    /// A copy of each request.
    pub mirror: Option<Destination>,
    /// Copies of each request.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Deprecated.
    pub mirror_percent: Option<u32>,
    /// Share of requests that are mirrored.
    pub mirror_percentage: Option<Percent>,
    /// CORS.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes.
    pub headers: Option<Headers>,
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatchRequest {
    /// Name, for logs.
    pub name: Option<String>,
    /// Path.
    pub uri: Option<StringMatch>,
    /// Scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host and port.
    pub authority: Option<StringMatch>,
    /// Header fields.
    pub headers: BTreeMap<String, Option<StringMatch>>,
    /// Number of the Gateway's server port.
    pub port: Option<u32>,
    /// Labels of the caller; at a gateway those of the gateway.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that it holds for.
    pub gateways: Vec<String>,
    /// Query parameters.
    pub query_params: BTreeMap<String, Option<StringMatch>>,
    /// Compare `uri` without regard to case.
    pub ignore_uri_case: Option<bool>,
    /// Header fields that must not match.
    pub without_headers: BTreeMap<String, Option<StringMatch>>,
    /// Namespace of the caller; at a gateway that of the gateway.
    pub source_namespace: Option<String>,
    /// Prefix of per-route statistics.
    pub stat_prefix: Option<String>,
}

/// One of exact, prefix, regex; or nothing, which asks for presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The same.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// RE2, the whole text.
    Regex(String),
    /// `{}`
    Empty,
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOf;
        impl<'de> Visitor<'de> for OneOf {
            type Value = StringMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of `exact`, `prefix`, `regex`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "lowercase", field_identifier)]
                enum Kind {
                    Exact,
                    Prefix,
                    Regex,
                }
                let mut found = StringMatch::Empty;
                while let Some(kind) = map.next_key::<Kind>()? {
                    let text: String = map.next_value()?;
                    if found != StringMatch::Empty {
                        return Err(de::Error::custom(
                            "only one of `exact`, `prefix`, `regex` may be given",
                        ));
                    }
                    found = match kind {
                        Kind::Exact => StringMatch::Exact(text),
                        Kind::Prefix => StringMatch::Prefix(text),
                        Kind::Regex => StringMatch::Regex(text),
                    };
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(OneOf)
    }
}

/// A destination and its share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Where.
    pub destination: Option<Destination>,
    /// Relative weight.
    pub weight: Option<u32>,
    /// Header changes for this destination.
    pub headers: Option<Headers>,
}

/// A service, perhaps a subset of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Destination {
    /// Host of the service.
    pub host: String,
    /// Subset of a DestinationRule.
    pub subset: Option<String>,
    /// Port of the service.
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    /// The number.
    pub number: u32,
}

/// `redirect`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRedirect {
    /// Replaces the whole path.
    pub uri: Option<String>,
    /// Replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// Replaces the host.
    pub authority: Option<String>,
    /// Replaces the port.
    pub port: Option<u32>,
    /// Derives the port.
    pub derive_port: Option<RedirectPort>,
    /// Replaces the scheme.
    pub scheme: Option<String>,
    /// Status, 301 when unset.
    pub redirect_code: Option<u32>,
}

/// `redirect.derivePort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum RedirectPort {
    FromProtocolDefault,
    FromRequestPort,
}

/// `directResponse`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// Status.
    pub status: u32,
    /// Body.
    pub body: Option<HttpBody>,
}

/// A body, one of the two.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpBody {
    /// Text.
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// `delegate`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delegate {
    /// Name of the VirtualService.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

impl Delegate {
    /// Its namespace for a rule in `own`.
    pub fn namespace_for<'d>(&'d self, own: &'d str) -> &'d str {
        self.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(own)
    }
}

/// `rewrite`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRewrite {
    /// New path or prefix.
    pub uri: Option<String>,
    /// New host.
    pub authority: Option<String>,
    /// Substitution in the path.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// `rewrite.uriRegexRewrite`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegexRewrite {
    /// RE2.
    #[serde(rename = "match")]
    pub match_: String,
    /// Replacement, `\1` for groups.
    pub rewrite: String,
}

/// `retries`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRetry {
    /// Retries after the first attempt.
    pub attempts: i32,
    /// Time for each attempt.
    pub per_try_timeout: Option<Duration>,
    /// Conditions.
    pub retry_on: Option<String>,
    /// Prefer other localities.
    pub retry_remote_localities: Option<bool>,
    /// Avoid endpoints that were tried.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base of the wait.
    pub backoff: Option<Duration>,
}

/// `fault`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpFaultInjection {
    /// Wait first.
    pub delay: Option<FaultDelay>,
    /// Answer with an error.
    pub abort: Option<FaultAbort>,
}

/// `fault.delay`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultDelay {
    /// Deprecated share.
    pub percent: Option<i32>,
    /// How long.
    pub fixed_delay: Option<Duration>,
    /// Not implemented by Istio.
    pub exponential_delay: Option<Duration>,
    /// Share of requests.
    pub percentage: Option<Percent>,
}

/// `fault.abort`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultAbort {
    /// HTTP status.
    pub http_status: Option<i32>,
    /// gRPC status by name.
    pub grpc_status: Option<String>,
    /// Not implemented by Istio.
    pub http2_error: Option<String>,
    /// Share of requests.
    pub percentage: Option<Percent>,
}

/// One of `mirrors`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMirrorPolicy {
    /// Where.
    pub destination: Option<Destination>,
    /// Share of requests.
    pub percentage: Option<Percent>,
}

/// `corsPolicy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Deprecated, exact origins.
    pub allow_origin: Vec<String>,
    /// Origins.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Request fields.
    pub allow_headers: Vec<String>,
    /// Response fields.
    pub expose_headers: Vec<String>,
    /// How long a preflight is good for.
    pub max_age: Option<Duration>,
    /// Credentials.
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights of other origins.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// `corsPolicy.unmatchedPreflights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum UnmatchedPreflights {
    Unspecified,
    Forward,
    Ignore,
}

/// `headers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Headers {
    /// On the request.
    pub request: Option<HeaderOperations>,
    /// On the response.
    pub response: Option<HeaderOperations>,
}

/// Header changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Overwrite.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}

/// A rule for TLS that is not ended here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsRoute {
    /// When it applies.
    #[serde(rename = "match")]
    pub match_: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsMatchAttributes {
    /// Server names.
    pub sni_hosts: Vec<String>,
    /// Addresses.
    pub destination_subnets: Vec<String>,
    /// Number of the Gateway's server port.
    pub port: Option<u32>,
    /// Labels of the caller.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that it holds for.
    pub gateways: Vec<String>,
    /// Namespace of the caller.
    pub source_namespace: Option<String>,
}

/// A rule for TCP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpRoute {
    /// When it applies.
    #[serde(rename = "match")]
    pub match_: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TCP connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct L4MatchAttributes {
    /// Addresses.
    pub destination_subnets: Vec<String>,
    /// Number of the Gateway's server port.
    pub port: Option<u32>,
    /// Address of the caller.
    pub source_subnet: Option<String>,
    /// Labels of the caller.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that it holds for.
    pub gateways: Vec<String>,
    /// Namespace of the caller.
    pub source_namespace: Option<String>,
}

/// A destination of a TLS or TCP rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Where.
    pub destination: Option<Destination>,
    /// Relative weight.
    pub weight: Option<u32>,
}
