//! One try at an upstream: pick an endpoint, get a connection to it, tell what became of it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Replica, WorkerContext};
use super::downstream::Downstream;
use super::error::ProxyError;
use super::proxy_protocol;
use super::scratch::Scratch;
use crate::ids::ClusterId;
use crate::snapshot::Cluster;
use crate::upstream::{
    CheckedIn, ClientAddresses, Connection, Counted, EndpointPool, Freed, Limiter, Outcome, Pick,
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
struct Endpoint {
    pool: Rc<EndpointPool>,
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
    fn report(&self, context: &WorkerContext, outcome: Outcome) {
        let Some(shared) = &self.shared else { return };
        let Some(detector) = &shared.detector else { return };
        if detector.report(self.position as usize, outcome, || shared.milliseconds(Instant::now()))
        {
            context.count(|counters, _| counters.outlier_ejections += 1);
        }
    }

    fn limiter(&self) -> Option<&Limiter> {
        self.shared.as_ref()?.limiter.as_ref()
    }
}

impl Attempt {
    /// Keep the connection for another request, if the settings of its cluster allow it.
    pub fn check_in(self, context: &WorkerContext, configured: &Cluster) {
        let Attempt { mut connection, endpoint, .. } = self;
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
        context.count(|counters, gauges| {
            counters.upstream_closed += 1;
            gauges.upstream_active -= 1;
        });
    }

    /// Tell the outlier detection of the cluster, if it has one, what became of it.
    #[inline]
    pub fn report(&self, context: &WorkerContext, outcome: Outcome) {
        self.endpoint.report(context, outcome);
    }
}

/// Pick an endpoint of `cluster` and get a connection to it.
pub async fn begin(
    context: &WorkerContext,
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
    if !wanted.fresh
        && let Some(connection) = kept_connection(context, &endpoint.pool, client)
    {
        return Ok(Attempt { connection, reused: true, endpoint });
    }
    // In a slot of its own: most requests need no new connection, and it must not enlarge them.
    let connecting =
        context.connects.place(|| new_connection(context, configured, wanted, &endpoint, client));
    let (connection, reused) = connecting.await?;
    Ok(Attempt { connection, reused, endpoint })
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

fn overflow(context: &WorkerContext) -> ProxyError {
    context.count(|counters, _| counters.upstream_overflows += 1);
    ProxyError::UpstreamOverflow
}

/// A connection that was kept, if there is one.
fn kept_connection(
    context: &WorkerContext,
    pool: &EndpointPool,
    client: Option<&Rc<ClientAddresses>>,
) -> Option<Connection> {
    let (kept, closed) = pool.check_out(client.map(Rc::as_ref));
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
    client: Option<&Rc<ClientAddresses>>,
) -> Result<(Connection, bool), ProxyError> {
    let pool = &*endpoint.pool;
    let Some(limiter) = endpoint.limiter() else {
        return Ok((connect(context, configured, wanted.limit, endpoint, client).await?, false));
    };
    let Some(_pending) = limiter.take(Counted::Pending) else { return Err(overflow(context)) };
    loop {
        // A worker without any connection to the endpoint may open one in any case (as Envoy's may):
        // those that others hold would never come to it.
        let anyway = || (!pool.has_limited()).then(|| limiter.take_anyway(Counted::Connection));
        if let Some(ticket) = limiter.take(Counted::Connection).or_else(anyway) {
            let place = pool.place(ticket);
            let mut connection =
                connect(context, configured, wanted.limit, endpoint, client).await?;
            connection.place = Some(place);
            return Ok((connection, false));
        }
        // One that is kept for somebody else, or must not be used, makes room.
        if pool.close_idle() {
            count_closed_idle(context, 1);
            continue;
        }
        let freed = match wanted.limit {
            Duration::MAX => pool.freed().await,
            limit => match crate::net::within(limit, pool.freed()).await {
                Some(freed) => freed,
                None => return Err(ProxyError::UpstreamConnectTimeout),
            },
        };
        if let Some(Freed::Connection(mut connection)) = freed {
            // It is in use, and goes on so.
            if (configured.proxy_protocol.is_none() || connection.client.as_ref() == client)
                && connection.is_quiet()
            {
                context.count(|counters, _| counters.upstream_reused += 1);
                return Ok((connection, true));
            }
            context.count(|counters, gauges| {
                counters.upstream_closed += 1;
                gauges.upstream_active -= 1;
            });
        }
    }
}

/// Kept connections that were found closed, or had to go.
fn count_closed_idle(context: &WorkerContext, closed: u64) {
    context.count(|counters, gauges| {
        counters.upstream_closed_idle += closed;
        counters.upstream_closed += closed;
        gauges.upstream_idle -= closed;
    });
}

async fn connect(
    context: &WorkerContext,
    configured: &Cluster,
    limit: Duration,
    endpoint: &Endpoint,
    client: Option<&Rc<ClientAddresses>>,
) -> Result<Connection, ProxyError> {
    let connecting = async {
        let timeout = configured.connect_timeout.min(limit);
        let keepalive = configured.tcp_keepalive.as_deref();
        let address = endpoint.pool.address();
        let stream =
            crate::net::connect::connect(address, timeout, context.driver, keepalive).await?;
        if let Some(version) = configured.proxy_protocol {
            let header = proxy_protocol::header(version, client.map(Rc::as_ref));
            stream.send_all(header).await.0.map_err(|(error, _)| error)?;
        }
        Ok::<_, io::Error>(stream)
    };
    match connecting.await {
        Ok(stream) => {
            context.count(|counters, gauges| {
                counters.upstream_opened += 1;
                gauges.upstream_active += 1;
            });
            let now_ms = context.clock.coarse_milliseconds();
            let buffer = context.buffers.take();
            let mut connection = Connection::new(stream, &context.receives, buffer, now_ms);
            connection.client = client.cloned();
            Ok(connection)
        }
        Err(error) => {
            let timed_out = error.kind() == io::ErrorKind::TimedOut;
            context.count(|counters, _| {
                counters.upstream_connect_failures += u64::from(!timed_out);
                counters.upstream_connect_timeouts += u64::from(timed_out);
            });
            if timed_out {
                endpoint.report(context, Outcome::TimedOut);
                Err(ProxyError::UpstreamConnectTimeout)
            } else {
                endpoint.report(context, Outcome::Failed);
                Err(ProxyError::UpstreamConnect)
            }
        }
    }
}
