//! One try at an upstream: pick an endpoint, get a connection to it, tell what became of it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Replica, WorkerContext};
use super::downstream::Downstream;
use super::error::ProxyError;
use super::http2_upstream;
use super::proxy_protocol;
use super::scratch::Scratch;
use crate::http::authority;
use crate::ids::ClusterId;
use crate::net::Stream;
use crate::snapshot::{Cluster, ClusterTls};
use crate::tls;
use crate::tls::settings::Spoken;
use crate::upstream::{
    CheckedIn, Connection, Counted, EndpointPool, Freed, Limiter, Outcome, Pick, Purpose,
    SharedCluster,
};

/// What an attempt is to be.
pub struct Wanted<'w> {
    /// Use no kept connection.
    pub fresh: bool,
    /// Most time to get a connection.
    pub limit: Duration,
    /// Pass over endpoints that this request has tried.
    pub avoid_tried: bool,
    /// Prefer localities that it has not tried.
    pub elsewhere: bool,
    /// Whose request it is; none for a copy.
    pub client: Option<&'w Downstream>,
    /// Did the request, or that which it is a copy of, come by HTTP/2?
    pub came_by_http2: bool,
}

/// A connection to an endpoint that counts as serving a request until it is dropped.
pub struct Attempt {
    /// The connection.
    pub connection: Connection,
    /// Was it used before? Then the endpoint may have closed it while the request was on its way.
    pub reused: bool,
    endpoint: Endpoint,
}

/// The endpoint that was picked, which counts a request until this is dropped.
pub(super) struct Endpoint {
    pub(super) pool: Rc<EndpointPool>,
    shared: Option<Arc<SharedCluster>>,
    /// Its place in the cluster.
    position: u32,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.pool.request_ended();
        if let Some(limiter) = self.limiter() {
            limiter.give_back(Counted::Request);
        }
    }
}

impl Endpoint {
    pub(super) fn report(&self, context: &WorkerContext, outcome: Outcome) {
        let Some(shared) = &self.shared else { return };
        let Some(detector) = &shared.detector else { return };
        if detector.report(self.position as usize, outcome, || shared.milliseconds(Instant::now()))
        {
            context.count(|counters, _| counters.outlier_ejections += 1);
        }
    }

    pub(super) fn limiter(&self) -> Option<&Limiter> {
        self.shared.as_ref()?.limiter.as_ref()
    }
}

impl Attempt {
    /// Keep the connection for another request, if the settings of its cluster allow it.
    pub fn check_in(self, context: &WorkerContext, configured: &Cluster) {
        let Attempt { mut connection, endpoint, .. } = self;
        if connection.is_http2() {
            return;
        }
        let now_ms = context.clock.coarse_milliseconds();
        connection.requests = connection.requests.saturating_add(1);
        let requests_max = configured.requests_per_connection_max;
        let duration_max_ms = configured.connection_duration_max_ms.unwrap_or(u64::MAX);
        let used_up = requests_max > 0 && u64::from(connection.requests) >= requests_max
            || connection.age_ms(now_ms) >= duration_max_ms;
        let kept =
            if used_up { CheckedIn::Closed } else { endpoint.pool.check_in(connection, now_ms) };
        context.count(|counters, gauges| match kept {
            CheckedIn::Idle => {
                gauges.upstream_active -= 1;
                gauges.upstream_idle += 1;
            }
            CheckedIn::HandedOver => {}
            CheckedIn::Closed => {
                counters.upstream_closed += 1;
                gauges.upstream_active -= 1;
            }
        });
    }

    /// Close the connection.
    pub fn close(self, context: &WorkerContext) {
        if !self.connection.is_http2() {
            count_closed(context);
        }
    }

    /// Tell the outlier detection of the cluster, if it has one, what became of it.
    #[inline]
    pub fn report(&self, context: &WorkerContext, outcome: Outcome) {
        self.endpoint.report(context, outcome);
    }
}

/// A connection that was in use is closed.
pub(super) fn count_closed(context: &WorkerContext) {
    context.count(|counters, gauges| {
        counters.upstream_closed += 1;
        gauges.upstream_active -= 1;
    });
}

/// Pick an endpoint of `cluster` and get a connection to it.
pub async fn begin(
    context: &Rc<WorkerContext>,
    replica: &Replica,
    cluster: ClusterId,
    wanted: &Wanted<'_>,
    scratch: &mut Scratch,
) -> Result<Attempt, ProxyError> {
    let endpoint = pick(context, replica, cluster, wanted, scratch)?;
    let configured = replica.snapshot.cluster(cluster);
    let client = match (configured.proxy_protocol, wanted.client) {
        (Some(_), Some(client)) => Some(client.addresses()),
        _ => None,
    };
    let named_by_request = configured.tls.as_ref().is_some_and(|tls| tls.needs_host);
    let host = if named_by_request { host_of(&scratch.request) } else { None };
    let purpose = Purpose { client, host };
    if http2_upstream::is_wanted(configured, wanted.came_by_http2) {
        let open = http2_upstream::on_open_connection(context, configured, &endpoint, purpose);
        let connection = match open {
            Some(connection) => connection,
            None => {
                let connecting = context.http2_connects.place(|| {
                    http2_upstream::on_new_connection(
                        context, configured, wanted, &endpoint, purpose,
                    )
                });
                match connecting.await {
                    Ok(connection) => connection,
                    Err(error) => return Err(explain(context, scratch, error)),
                }
            }
        };
        return Ok(Attempt { connection, reused: false, endpoint });
    }
    if !wanted.fresh
        && let Some(connection) = kept_connection(context, &endpoint.pool, purpose)
    {
        return Ok(Attempt { connection, reused: true, endpoint });
    }
    // In a slot of its own: most requests need no new connection, and it must not enlarge them.
    let connecting =
        context.connects.place(|| new_connection(context, configured, wanted, &endpoint, purpose));
    let (connection, reused) = match connecting.await {
        Ok(made) => made,
        Err(error) => return Err(explain(context, scratch, error)),
    };
    Ok(Attempt { connection, reused, endpoint })
}

/// Keep for the log what TLS said of a connection that failed just now: nothing else has run since.
fn explain(context: &WorkerContext, scratch: &mut Scratch, error: ProxyError) -> ProxyError {
    scratch.transport_failure = context.tls_failure.take();
    error
}

/// Pick an endpoint, and note it in the record of the request.
fn pick(
    context: &WorkerContext,
    replica: &Replica,
    cluster: ClusterId,
    wanted: &Wanted<'_>,
    scratch: &mut Scratch,
) -> Result<Endpoint, ProxyError> {
    let state = replica.clusters.get(cluster);
    let configured = replica.snapshot.cluster(cluster);
    let pick = Pick {
        tried: &scratch.tried,
        avoid_tried: wanted.avoid_tried,
        elsewhere: wanted.elsewhere,
        hash: scratch.hash,
    };
    let now_ms = context.clock.coarse_milliseconds();
    let picked = state.pick(configured, &mut context.random.borrow_mut(), &pick, now_ms);
    let Some((position, pool)) = picked else { return Err(ProxyError::NoHealthyUpstream) };
    let shared = state.shared().map(Arc::clone);
    let limiter = shared.as_ref().and_then(|shared| shared.limiter.as_ref());
    if limiter.is_some_and(|limiter| !limiter.count(Counted::Request)) {
        return Err(overflow(context));
    }
    scratch.tried.push(position);
    let info = &mut scratch.info;
    info.attempts += 1;
    info.upstream_address = Some(pool.address());
    if let Some(endpoint) = configured.endpoints.get(position) {
        info.metric_slot = endpoint.metric_slot;
    }
    pool.request_began();
    Ok(Endpoint { pool: Rc::clone(pool), shared, position: position as u32 })
}

pub(super) fn overflow(context: &WorkerContext) -> ProxyError {
    context.count(|counters, _| counters.upstream_overflows += 1);
    ProxyError::UpstreamOverflow
}

/// A connection that was kept, if there is one.
fn kept_connection(
    context: &WorkerContext,
    pool: &EndpointPool,
    purpose: Purpose<'_>,
) -> Option<Connection> {
    let (kept, closed) = pool.check_out(purpose);
    if closed > 0 {
        count_closed_idle(context, closed);
    }
    if kept.is_some() {
        context.count(|counters, gauges| {
            counters.upstream_reused += 1;
            gauges.upstream_idle -= 1;
            gauges.upstream_active += 1;
        });
    }
    kept
}

/// A new connection where the limits allow it, else the next that another request has done with.
async fn new_connection(
    context: &WorkerContext,
    configured: &Cluster,
    wanted: &Wanted<'_>,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
) -> Result<(Connection, bool), ProxyError> {
    let pool = &*endpoint.pool;
    let Some(limiter) = endpoint.limiter() else {
        let connection = new_http1(context, configured, wanted.limit, endpoint, purpose).await?;
        return Ok((connection, false));
    };
    let Some(_pending) = limiter.take(Counted::Pending) else { return Err(overflow(context)) };
    loop {
        // A worker without any connection to the endpoint may open one in any case (as Envoy's may):
        // those that others hold would never come to it.
        let anyway = || (!pool.has_limited()).then(|| limiter.take_anyway(Counted::Connection));
        if let Some(ticket) = limiter.take(Counted::Connection).or_else(anyway) {
            let place = pool.place(ticket);
            let mut connection =
                new_http1(context, configured, wanted.limit, endpoint, purpose).await?;
            connection.place = Some(place);
            return Ok((connection, false));
        }
        // One that is kept for somebody else, or must not be used, makes room.
        if pool.close_idle() {
            count_closed_idle(context, 1);
            continue;
        }
        if let Some(Freed::Connection(mut connection)) = in_time(wanted.limit, pool.freed()).await?
        {
            // It is in use, and goes on so.
            if purpose.is_served_by(&connection.purpose) && connection.is_quiet() {
                context.count(|counters, _| counters.upstream_reused += 1);
                return Ok((connection, true));
            }
            count_closed(context);
        }
    }
}

/// Wait for a connection, at most for `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    waiting: impl Future<Output = T>,
) -> Result<T, ProxyError> {
    match limit {
        Duration::MAX => Ok(waiting.await),
        limit => crate::net::within(limit, waiting).await.ok_or(ProxyError::UpstreamConnectTimeout),
    }
}

/// Kept connections that were found closed, or had to go.
pub(super) fn count_closed_idle(context: &WorkerContext, closed: u64) {
    context.count(|counters, gauges| {
        counters.upstream_closed_idle += closed;
        counters.upstream_closed += closed;
        gauges.upstream_idle -= closed;
    });
}

/// What a connection is made of.
pub(super) struct Opening<'o> {
    /// Its cluster.
    pub configured: &'o Cluster,
    /// The TLS to begin, if any.
    pub tls: Option<&'o ClusterTls>,
    /// Where to.
    pub address: SocketAddr,
    /// What it is to be good for.
    pub purpose: Purpose<'o>,
    /// Most time to connect and to shake hands.
    pub limit: Duration,
    /// What is to be spoken.
    pub spoken: Spoken,
}

/// Connect to an endpoint of a cluster: tell it of the client if the cluster wants that, and begin TLS.
/// Counted; an error of the kind `TimedOut` says that it took too long.
pub(super) async fn open(context: &WorkerContext, opening: &Opening<'_>) -> io::Result<Stream> {
    let opened = begin_stream(context, opening).await;
    context.count(|counters, gauges| match &opened {
        Ok(_) => {
            counters.upstream_opened += 1;
            gauges.upstream_active += 1;
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            counters.upstream_connect_timeouts += 1;
        }
        Err(_) => counters.upstream_connect_failures += 1,
    });
    opened
}

async fn begin_stream(context: &WorkerContext, opening: &Opening<'_>) -> io::Result<Stream> {
    let configured = opening.configured;
    let timeout = configured.connect_timeout.min(opening.limit);
    let keepalive = configured.tcp_keepalive.as_deref();
    let begun = Instant::now();
    let address = opening.address;
    let stream = crate::net::connect::connect(address, timeout, context.driver, keepalive).await?;
    if let Some(version) = configured.proxy_protocol {
        let header = proxy_protocol::header(version, opening.purpose.client.map(Rc::as_ref));
        stream.send_all(header).await.0.map_err(|(error, _)| error)?;
    }
    let Some(tls) = opening.tls else { return Ok(stream) };
    let host = opening.purpose.host.unwrap_or_default();
    let host = String::from_utf8_lossy(host);
    // The handshake is a part of the time to connect (behaviour 4.5).
    let left = timeout.saturating_sub(begun.elapsed());
    let shaking = tls::client::connect(stream, &tls.side, &host, opening.spoken, &context.tls);
    match crate::net::within(left, shaking).await {
        Some(Ok((stream, _))) => Ok(stream),
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The host of a request's head without its port: the server that TLS asks for.
fn host_of(head: &[u8]) -> Option<&[u8]> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
    })?;
    Some(authority::host(value))
}

async fn new_http1(
    context: &WorkerContext,
    configured: &Cluster,
    limit: Duration,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
) -> Result<Connection, ProxyError> {
    let stream = connect(context, configured, limit, endpoint, purpose, false).await?;
    let now_ms = context.clock.coarse_milliseconds();
    let buffer = context.buffers.take();
    let mut connection = Connection::new(stream, &context.receives, buffer, now_ms);
    connection.purpose = purpose.to_owned();
    Ok(connection)
}

/// Connect to the endpoint, and tell what became of it. The connection counts as one in use.
pub(super) async fn connect(
    context: &WorkerContext,
    configured: &Cluster,
    limit: Duration,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
    http2: bool,
) -> Result<Stream, ProxyError> {
    let address = endpoint.pool.address();
    let tls = configured.tls.as_deref();
    let spoken = if http2 { Spoken::Http2 } else { Spoken::Http1 };
    match open(context, &Opening { configured, tls, address, purpose, limit, spoken }).await {
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            endpoint.report(context, Outcome::TimedOut);
            Err(ProxyError::UpstreamConnectTimeout)
        }
        Err(error) => {
            if configured.tls.is_some() {
                *context.tls_failure.borrow_mut() = error.to_string();
            }
            endpoint.report(context, Outcome::Failed);
            Err(ProxyError::UpstreamConnect)
        }
    }
}
