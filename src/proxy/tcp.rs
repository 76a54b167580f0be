//! A connection that is routed as a whole (Gateway protocols TCP, TLS and MONGO): pick an endpoint,
//! connect once, then bytes both ways until both sides have finished.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt;
use super::context::{Replica, WorkerContext};
use super::downstream::{Downstream, Phase};
use super::listener::ListenerSlot;
use super::tunnel::{self, Watch};
use crate::access_log::{LineContext, RequestFields};
use crate::limits::TCP_IDLE_TIMEOUT;
use crate::metrics::TcpSeries;
use crate::net::{Buffer, Stream};
use crate::router::weighted;
use crate::snapshot::consistent_hash::hash;
use crate::snapshot::{Cluster, Destination, Forward, HashKey, Snapshot};
use crate::stream_info::{ResponseFlags, StreamInfo};
use crate::tls::settings::Spoken;
use crate::upstream::{Counted, EndpointPool, Outcome, Pick, Purpose, SharedCluster, Ticket};

/// A connection that has yet to be passed on.
pub struct Arrived<'a> {
    /// The client's socket, or a layer over it.
    pub stream: Stream,
    /// The client's address.
    pub peer: SocketAddr,
    /// Where it was accepted.
    pub listener: Rc<ListenerSlot>,
    /// What the client has sent already.
    pub received: Buffer,
    /// The server that the client named (TLS).
    pub server_name: Option<&'a str>,
    /// It is a sidecar's, in TLS of its own: none of ours is put around it (`AUTO_PASSTHROUGH`).
    pub of_mesh: bool,
}

/// What of the client's side matters to the endpoint's.
#[derive(Clone, Copy)]
struct From<'a> {
    server_name: Option<&'a str>,
    of_mesh: bool,
}

/// Why a connection is not passed on.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("no route for the connection: give a Gateway server of this port a route")]
    NoRoute,
    #[error("the route's destination does not exist: check host, port and subset")]
    NoCluster,
    #[error("no endpoint of the destination can be used: check its readiness")]
    NoHealthyUpstream,
    #[error("a limit of the destination is reached: see connectionPool of its DestinationRule")]
    Overflow,
    #[error("the endpoint could not be connected to: {0}")]
    Connect(io::Error),
}

impl OpenError {
    /// Envoy's flags; the one attempt that there is was the last.
    fn flags(&self) -> ResponseFlags {
        match self {
            OpenError::NoRoute => ResponseFlags::NO_ROUTE_FOUND,
            OpenError::NoCluster => ResponseFlags::NO_CLUSTER_FOUND,
            OpenError::NoHealthyUpstream => ResponseFlags::NO_HEALTHY_UPSTREAM,
            OpenError::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            OpenError::Connect(_) => {
                let mut flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
                flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                flags
            }
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    fn details(&self) -> &'static str {
        match self {
            OpenError::NoRoute => "filter_chain_not_found",
            _ => "-",
        }
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, as Envoy words it.
    fn reason(&self) -> Option<String> {
        let OpenError::Connect(error) = self else { return None };
        if error.kind() == io::ErrorKind::TimedOut {
            return Some("connection_timeout".to_owned());
        }
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or_default();
        Some(format!("delayed_connect_error:_{}", words.replace(' ', "_")))
    }
}

/// A connection to an endpoint, which counts for the balancer and the limits until it is dropped.
struct Opened {
    stream: Stream,
    pool: Rc<EndpointPool>,
    _ticket: Option<Ticket>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.pool.request_ended();
    }
}

/// What the log says of a connection beside its record.
#[derive(Default)]
struct Names {
    cluster: String,
    reason: Option<String>,
}

/// How long a connection may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    idle_ms: Option<u64>,
    duration_max_ms: Option<u64>,
}

impl Limits {
    /// Those of the first destination, whichever is taken (as Istio's gateway).
    fn of(snapshot: &Snapshot, forward: &Forward) -> Limits {
        let first = forward.destinations().first().and_then(|destination| destination.cluster);
        match first.map(|cluster| snapshot.cluster(cluster)) {
            Some(cluster) => Limits {
                idle_ms: cluster.tcp_idle_timeout_ms,
                duration_max_ms: cluster.connection_duration_max_ms,
            },
            None => {
                Limits { idle_ms: Some(TCP_IDLE_TIMEOUT.as_millis() as u64), duration_max_ms: None }
            }
        }
    }
}

/// Serve a connection until it ends. `route` finds where it goes; without a route it is closed, and
/// recorded as refused. The replica is let go as soon as the endpoint is connected to: connections that
/// last for days must not keep configurations alive.
pub async fn serve(
    context: &Rc<WorkerContext>,
    arrived: Arrived<'_>,
    replica: Rc<Replica>,
    route: impl for<'s> FnOnce(&'s Snapshot) -> Option<&'s Forward>,
) {
    let Arrived { stream, peer, listener, received, server_name, of_mesh } = arrived;
    let from = From { server_name, of_mesh };
    let started = Instant::now();
    let connection = context.downstreams.insert(Downstream::new(stream, peer, listener));
    context.count(|counters, gauges| {
        counters.downstream_accepted += 1;
        gauges.downstream_active += 1;
    });
    connection.wait_unbounded(Phase::Upstream);
    let mut info = StreamInfo::new(started, context.clock.unix_microseconds(started));
    let mut names = Names::default();
    let opened = match route(&replica.snapshot) {
        Some(forward) => {
            let limits = Limits::of(&replica.snapshot, forward);
            open(context, &connection, &replica, forward, from, &mut info, &mut names)
                .await
                .map(|opened| (opened, limits))
        }
        None => Err(OpenError::NoRoute),
    };
    drop(replica);
    match opened {
        Ok((opened, limits)) => {
            pass_on(context, &connection, opened, limits, received, &mut info).await;
        }
        Err(error) => {
            info.flags = error.flags();
            info.details = error.details();
            names.reason = error.reason();
            let refused = TcpSeries { opened: 1, ..TcpSeries::default() };
            context.metrics.record_tcp(info.metric_slot, info.flags, &refused);
            context.buffers.give(received);
        }
    }
    finish(context, &connection, &mut info, &names, server_name);
}

/// Bytes both ways until the connection ends.
async fn pass_on(
    context: &Rc<WorkerContext>,
    connection: &Downstream,
    opened: Opened,
    limits: Limits,
    received: Buffer,
    info: &mut StreamInfo,
) {
    let began = TcpSeries { opened: 1, ..TcpSeries::default() };
    context.metrics.record_tcp(info.metric_slot, ResponseFlags::NONE, &began);
    info.upstream_local_address = opened.stream.local_address();
    let started_ms = context.clock.milliseconds(info.started);
    let mut watch = Watch::new(context, connection);
    watch.idle_ms = limits.idle_ms;
    watch.until_ms =
        limits.duration_max_ms.map_or(u64::MAX, |most| started_ms.saturating_add(most));
    watch.counted = Some(info.metric_slot);
    connection.set_upstream(Some(opened.stream.clone()));
    let moved = context
        .tunnels
        .place(|| tunnel::run(&watch, &opened.stream, received, Buffer::idle()))
        .await;
    connection.set_upstream(None);
    info.request_body_bytes = moved.up_bytes;
    info.request_bytes = moved.up_bytes;
    info.response_body_bytes = moved.down_bytes;
    info.response_bytes = moved.down_bytes;
    if connection.expired() {
        if context.clock.milliseconds(Instant::now()) >= watch.until_ms {
            info.flags.insert(ResponseFlags::DURATION_TIMEOUT);
        }
    } else if moved.failed && !context.draining.get() {
        // Nobody may take what came of the bytes for all of them.
        connection.stream.reset_on_close();
        opened.stream.reset_on_close();
    }
    context.count(|counters, gauges| {
        counters.upstream_closed += 1;
        gauges.upstream_active -= 1;
    });
}

/// Pick an endpoint and connect to it, once.
async fn open(
    context: &WorkerContext,
    connection: &Downstream,
    replica: &Replica,
    forward: &Forward,
    from: From<'_>,
    info: &mut StreamInfo,
    names: &mut Names,
) -> Result<Opened, OpenError> {
    let destination = choose(context, forward).ok_or(OpenError::NoCluster)?;
    let id = destination.cluster.ok_or(OpenError::NoCluster)?;
    let (configured, state) = (replica.snapshot.cluster(id), replica.clusters.get(id));
    info.cluster = Some(id);
    info.metric_slot = configured.metric_slot;
    names.cluster.clone_from(&configured.name);
    let pick = Pick {
        tried: &[],
        avoid_tried: false,
        elsewhere: false,
        hash: hash_of(configured, connection),
    };
    let now_ms = context.clock.coarse_milliseconds();
    let picked = state.pick(configured, &mut context.random.borrow_mut(), &pick, now_ms);
    let (position, pool) = picked.ok_or(OpenError::NoHealthyUpstream)?;
    let (pool, shared) = (Rc::clone(pool), state.shared().map(Arc::clone));
    info.attempts = 1;
    info.upstream_address = Some(pool.address());
    if let Some(endpoint) = configured.endpoints.get(position) {
        info.metric_slot = endpoint.metric_slot;
    }
    let limiter = shared.as_ref().and_then(|shared| shared.limiter.as_ref());
    let take = |counted| match limiter {
        None => Ok(None),
        Some(limiter) => limiter.take(counted).map(Some).ok_or_else(|| {
            context.count(|counters, _| counters.upstream_overflows += 1);
            OpenError::Overflow
        }),
    };
    let _pending: Option<Ticket> = take(Counted::Pending)?;
    let ticket = take(Counted::Connection)?;
    let client = configured.proxy_protocol.is_some().then(|| connection.addresses());
    pool.request_began();
    let opening = attempt::Opening {
        configured,
        tls: configured.tls.as_deref().filter(|_| !from.of_mesh),
        address: pool.address(),
        purpose: Purpose { client, host: from.server_name.map(str::as_bytes) },
        limit: Duration::MAX,
        spoken: Spoken::Bytes,
    };
    let opened = attempt::open(context, &opening).await;
    match opened {
        Ok(stream) => {
            report(context, shared.as_deref(), position, Outcome::Response(200));
            Ok(Opened { stream, pool, _ticket: ticket })
        }
        Err(error) => {
            pool.request_ended();
            let timed_out = error.kind() == io::ErrorKind::TimedOut;
            let outcome = if timed_out { Outcome::TimedOut } else { Outcome::Failed };
            report(context, shared.as_deref(), position, outcome);
            Err(OpenError::Connect(error))
        }
    }
}

/// The destination of this connection, by weight.
fn choose<'f>(context: &WorkerContext, forward: &'f Forward) -> Option<&'f Destination> {
    match forward {
        Forward::One(destination) => Some(destination),
        Forward::Several { destinations, total_weight } => {
            let ticket = context.random.borrow_mut().u64(..);
            let weights = destinations.iter().map(|destination| destination.weight);
            destinations.get(weighted::pick(weights, *total_weight, ticket)?)
        }
    }
}

/// A connection has no other key than its client.
fn hash_of(cluster: &Cluster, connection: &Downstream) -> Option<u64> {
    let settings = cluster.consistent_hash.as_deref()?;
    (settings.key == HashKey::SourceAddress).then(|| hash(connection.peer_text()))
}

/// Tell the outlier detection, if there is one.
fn report(
    context: &WorkerContext,
    shared: Option<&SharedCluster>,
    position: usize,
    outcome: Outcome,
) {
    let Some(shared) = shared else { return };
    let Some(detector) = &shared.detector else { return };
    if detector.report(position, outcome, || shared.milliseconds(Instant::now())) {
        context.count(|counters, _| counters.outlier_ejections += 1);
    }
}

/// Write the record of a connection, and forget it.
fn finish(
    context: &WorkerContext,
    connection: &Downstream,
    info: &mut StreamInfo,
    names: &Names,
    server_name: Option<&str>,
) {
    info.duration_us = info.started.elapsed().as_micros() as u64;
    let closed = TcpSeries { closed: 1, ..TcpSeries::default() };
    context.metrics.record_tcp(info.metric_slot, info.flags, &closed);
    if let Some(sink) = context.access_log.borrow_mut().as_mut() {
        let line = LineContext {
            is_connection: true,
            cluster_name: &names.cluster,
            downstream_local_address: connection.stream.local_address(),
            downstream_remote_address: Some(connection.peer),
            requested_server_name: server_name.map(str::as_bytes),
            upstream_transport_failure_reason: names.reason.as_deref(),
            tls: connection.tls(),
            ..LineContext::default()
        };
        // The configuration that it began with may be long gone: the present one says what is logged.
        let policy = &context.replica.borrow().snapshot.settings.telemetry.access_log;
        sink.record(policy, info, &RequestFields::new(), &line);
    }
    context.downstreams.remove(connection);
    context.count(|counters, gauges| {
        counters.downstream_closed += 1;
        gauges.downstream_active -= 1;
    });
}

#[cfg(test)]
mod tests;
