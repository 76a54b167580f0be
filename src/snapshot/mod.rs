//! The compiled configuration: immutable plain data, numbered, cheap to replicate. The control side
//! publishes one in an `Arc`; each worker deep-copies it and holds its replica in an `Rc`, so that a
//! request touches no memory that another core writes.
//!
//! Nothing here knows a manifest; nothing here does I/O.

mod cluster;
mod connection;
pub mod consistent_hash;
mod header_edits;
mod policy;
mod proxy_protocol;
mod retry_policy;
pub mod telemetry;

pub use crate::access_log::TimeFormat;
pub use cluster::{
    Cluster, ClusterLimits, ClusterTls, Endpoint, Grouping, Http2Settings, LoadBalancerPolicy,
    OutlierDetection, ProxyProtocolVersion, ResolvedNames, RetryLimit, UpstreamProtocol, Warmup,
};
pub use connection::{
    BytesPort, Chain, ChainContent, ConnectionRoute, ConnectionRule, RuleOutcome, Serves, TlsPort,
};
pub use consistent_hash::{ConsistentHash, HashCookie, HashKey, HashTable};
pub use header_edits::{FieldOf, HeaderEdits, HeaderPart, HeaderText, HeaderTextError, Variable};
pub use policy::{Cors, DestinationPolicy, Fault, FaultStatus, Mirror, PathRewrite, RoutePolicy};
pub use proxy_protocol::ProxyProtocolPorts;
pub use retry_policy::{AttemptFailure, RetryConditions, RetryPolicy};
pub use telemetry::{CustomTag, TagValue, TelemetryPolicy, TracingPolicy};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::http::Scheme;
use crate::ids::{ClusterId, HistogramSlot, ListenerId, RouteId};
use crate::metrics::slo::Objective;
use crate::router::RouteTable;

/// Everything that a worker routes by.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with every publication.
    pub generation: u64,
    /// The sockets to listen on.
    pub listeners: Vec<Listener>,
    /// One per clear-text port (Istio's `http.<port>`) and one per server that ends TLS with HTTP in it;
    /// indices: [`Serves::Requests`], [`ChainContent::Requests`].
    pub route_tables: Vec<RouteTable>,
    /// All routes of all tables.
    pub routes: Vec<Route>,
    /// All clusters that a route names.
    pub clusters: Vec<Cluster>,
    /// Settings of the whole process.
    pub settings: Settings,
    /// What was promised; no worker reads it.
    pub objectives: Arc<[Objective]>,
}

impl Snapshot {
    /// The route with this id.
    #[inline]
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.index()]
    }

    /// The cluster with this id.
    #[inline]
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[id.index()]
    }

    /// The listener with this id.
    #[inline]
    pub fn listener(&self, id: ListenerId) -> &Listener {
        &self.listeners[id.index()]
    }
}

impl Listener {
    /// The route table of its requests, if it takes them in clear text.
    #[inline]
    pub fn route_table(&self) -> Option<usize> {
        match self.serves {
            Serves::Requests { route_table, .. } => Some(route_table),
            _ => None,
        }
    }
}

/// Process-wide behaviour that a request may meet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Answer HTTP/1.0 with 426 as Istio does, instead of serving it.
    pub reject_http10: bool,
    /// Trusted proxies in front of us (`gatewayTopology.numTrustedProxies`).
    pub trusted_proxies: u32,
    /// Path normalisation (mesh `pathNormalization`).
    pub path_normalization: crate::http::path::PathNormalization,
    /// Idle keep-alive connections are closed after this time.
    pub idle_timeout: Duration,
    /// A request head must be complete this long after its first byte.
    pub request_head_timeout: Duration,
    /// A TLS handshake must be over this long after it could begin.
    pub tls_handshake_timeout: Duration,
    /// A body or write must make progress within this time.
    pub progress_timeout: Duration,
    /// What `%HOSTNAME%` stands for.
    pub hostname: Box<str>,
    /// Tell clients in `x-ringress-reason` why an answer is the gateway's own.
    pub explain_header: bool,
    /// Listeners whose connections begin with a header of the PROXY protocol
    /// (`gatewayTopology.proxyProtocol`).
    pub proxy_protocol: ProxyProtocolPorts,
    /// Retries of routes without a policy (mesh `defaultHttpRetryPolicy`).
    pub default_retries: RetryPolicy,
    /// What the Telemetry resources ask for.
    pub telemetry: TelemetryPolicy,
    /// Count no requests: no Istio metrics, no latencies, nothing on the live pages.
    pub requests_uncounted: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            reject_http10: false,
            trusted_proxies: 0,
            path_normalization: crate::http::path::PathNormalization::Base,
            idle_timeout: crate::limits::IDLE_TIMEOUT,
            request_head_timeout: crate::limits::REQUEST_HEAD_TIMEOUT,
            tls_handshake_timeout: crate::limits::TLS_HANDSHAKE_TIMEOUT,
            progress_timeout: crate::limits::PROGRESS_TIMEOUT,
            hostname: Box::default(),
            explain_header: false,
            proxy_protocol: ProxyProtocolPorts::default(),
            default_retries: RetryPolicy::default(),
            telemetry: TelemetryPolicy::default(),
            requests_uncounted: false,
        }
    }
}

/// A bound address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// `http.<port>` as Istio names it, `<address>_<port>` when it does not take clear-text HTTP.
    pub name: String,
    /// The port numbers by which Gateways name it: what a Service in front of us listens on.
    pub numbers: Vec<u16>,
    /// What it does with its connections.
    pub serves: Serves,
    /// The Gateways that asked for it, `namespace/name` with their place, for error messages.
    pub gateways: Vec<String>,
}

/// One route: a rule of a VirtualService after its matches were taken apart. With ten thousand of
/// them none is in a cache when its request comes: what a request reads is one cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Route {
    /// What is done.
    pub action: RouteAction,
    /// `<destination host>:<port><path pattern>`: `x-envoy-decorator-operation`. Routes with the
    /// same one share it.
    pub operation: Arc<str>,
    /// What it is called.
    pub names: Box<RouteNames>,
    /// What it changes, if it changes anything.
    pub policy: Option<Box<RoutePolicy>>,
}

const _: () = assert!(size_of::<Route>() == 64);

/// What a route is called, for logs and pages.
#[derive(Clone, Debug, Default)]
pub struct RouteNames {
    /// `<http.name>` or `<http.name>.<match.name>`; empty when unnamed (`%ROUTE_NAME%` shows `-`).
    pub route: String,
    /// `namespace/name` of the VirtualService.
    pub virtual_service: String,
    /// What its own answers count under: redirects, direct responses, answers to preflights. That of
    /// requests without route when it gives none.
    pub own_answers: HistogramSlot,
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// Send it to one of these destinations.
    Forward(Forward),
    /// Answer with a redirect.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response.
    DirectResponse(Box<DirectResponse>),
}

/// An answer that sends the client elsewhere (Istio's `HTTPRedirect`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// What becomes of the path.
    pub path: RedirectPath,
    /// Replaces host and port of the request.
    pub authority: Option<String>,
    /// Replaces the scheme.
    pub scheme: Option<Scheme>,
    /// What becomes of the port.
    pub port: RedirectPort,
}

/// The path of a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedirectPath {
    /// As it was.
    #[default]
    Keep,
    /// This path. The query goes on unless the path brings one.
    Full(String),
    /// This instead of the first bytes of the path, which the route's prefix matched.
    Prefix {
        /// How many bytes the prefix has.
        length: usize,
        /// What comes in their place.
        replacement: String,
    },
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectPort {
    /// That of the request, unless the scheme changes and it was the old one's default.
    #[default]
    Keep,
    /// That of the request, also when it was the old scheme's default.
    AsSent,
    /// None: the scheme's default.
    Default,
    /// This one, left out when it is the scheme's default.
    Number(u16),
}

/// A fixed response (Istio's `HTTPDirectResponse`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// Status.
    pub status: u16,
    /// Body, `text/plain`; empty for none.
    pub body: Bytes,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub enum Forward {
    /// One destination, as most routes have.
    One(Destination),
    /// Several with positive weights.
    Several {
        /// The destinations.
        destinations: Box<[Destination]>,
        /// Sum of their weights.
        total_weight: u64,
    },
}

impl Forward {
    /// The destinations.
    pub fn destinations(&self) -> &[Destination] {
        match self {
            Forward::One(destination) => std::slice::from_ref(destination),
            Forward::Several { destinations, .. } => destinations,
        }
    }
}

/// One destination of a route.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// None: the host, port or subset does not exist (503, flag NC).
    pub cluster: Option<ClusterId>,
    /// Relative weight.
    pub weight: u32,
    /// The latency histogram of this route and destination.
    pub histogram_slot: HistogramSlot,
}
