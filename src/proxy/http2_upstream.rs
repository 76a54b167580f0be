//! A request's stream on an HTTP/2 connection to an endpoint: one that is open, or a new one.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::attempt::{self, Endpoint, Wanted, in_time};
use super::context::WorkerContext;
use super::error::ProxyError;
use crate::http2::{self, IoSlots};
use crate::snapshot::{Cluster, UpstreamProtocol};
use crate::upstream::{
    Connection, ConnectionPlace, Counted, EndpointPool, Freed, Http2Connection, Http2Connections,
    Http2Limits, Limiter, Opened, Outcome, Purpose,
};

/// Is HTTP/2 spoken to the endpoints of this cluster for a request that came by HTTP/2, or did not?
pub fn is_wanted(configured: &Cluster, came_by_http2: bool) -> bool {
    match configured.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::AsClient => came_by_http2,
    }
}

fn limits(configured: &Cluster) -> Http2Limits {
    let settings = configured.http2.as_deref();
    let streams_max = settings.and_then(|settings| settings.streams_max);
    Http2Limits {
        streams_max: streams_max.map_or(usize::MAX, |most| most as usize),
        requests_max: configured.requests_per_connection_max,
        duration_max_ms: configured.connection_duration_max_ms.unwrap_or(u64::MAX),
    }
}

/// A stream on a connection that is open, if one has room.
pub(super) fn on_open_connection(
    context: &WorkerContext,
    configured: &Cluster,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
) -> Option<Connection> {
    let now_ms = context.clock.coarse_milliseconds();
    let found = endpoint.pool.http2().find(purpose, &limits(configured), now_ms, false)?;
    context.count(|counters, _| counters.upstream_reused += 1);
    Some(stream(context, &found))
}

fn stream(context: &WorkerContext, connection: &Rc<Http2Connection>) -> Connection {
    let buffer = context.buffers.take();
    Connection::over_http2(Rc::clone(connection), &context.receives, buffer)
}

/// A connection that is counted as open until this is dropped, and its place among those of its cluster.
/// What moves its bytes owns it: a connection that gets no further requests is one all the same.
struct Held {
    context: Rc<WorkerContext>,
    _place: Option<Box<ConnectionPlace>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        attempt::count_closed(&self.context);
    }
}

/// A stream on a new connection, or on the one that another request is opening.
pub(super) async fn on_new_connection(
    context: &Rc<WorkerContext>,
    configured: &Cluster,
    wanted: &Wanted<'_>,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
) -> Result<Connection, ProxyError> {
    let connections = endpoint.pool.http2();
    let left = time_left(wanted.limit);
    let _pending = match endpoint.limiter() {
        None => None,
        Some(limiter) => match limiter.take(Counted::Pending) {
            None => return Err(attempt::overflow(context)),
            pending => pending,
        },
    };
    let opening = loop {
        // One that is new takes further requests when it is known how many.
        if let Some(settling) = connections.settling(purpose) {
            // They are a part of connecting.
            let limit = configured.connect_timeout.min(left());
            if in_time(limit, settling.receive()).await.is_err() {
                if connections.silence_unsettled(purpose) {
                    endpoint.report(context, Outcome::TimedOut);
                }
                if left().is_zero() {
                    return Err(ProxyError::UpstreamConnectTimeout);
                }
            }
            if let Some(connection) = on_open_connection(context, configured, endpoint, purpose) {
                return Ok(connection);
            }
        }
        if let Some(opening) = connections.open(purpose) {
            break opening;
        }
        let opened = in_time(left(), connections.opened(purpose)).await?;
        if opened == Some(Opened::No) {
            return Err(ProxyError::UpstreamConnect);
        }
        if let Some(connection) = on_open_connection(context, configured, endpoint, purpose) {
            return Ok(connection);
        }
    };
    let place = match endpoint.limiter() {
        None => None,
        Some(limiter) => {
            match place(context, configured, &left, endpoint, purpose, limiter).await? {
                Room::Place(place) => Some(place),
                Room::Stream(connection) => return Ok(connection),
            }
        }
    };
    match open(context, configured, left(), endpoint, purpose, place).await {
        Ok(connection) => {
            let stream = stream(context, &connection);
            opening.succeeded(connection);
            Ok(stream)
        }
        Err(error) => {
            opening.failed();
            Err(error)
        }
    }
}

/// What is left of a time from now on; [`Duration::MAX`] is no limit.
fn time_left(limit: Duration) -> impl Fn() -> Duration {
    let began = Instant::now();
    move || match limit {
        Duration::MAX => Duration::MAX,
        limit => limit.saturating_sub(began.elapsed()),
    }
}

/// What there was room for.
enum Room {
    /// Another connection.
    Place(Box<ConnectionPlace>),
    /// A stream on a connection on which the endpoint may let it wait.
    Stream(Connection),
}

/// Room among the connections that the cluster may have.
async fn place(
    context: &WorkerContext,
    configured: &Cluster,
    left: &dyn Fn() -> Duration,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
    limiter: &Limiter,
) -> Result<Room, ProxyError> {
    let (pool, connections) = (&endpoint.pool, endpoint.pool.http2());
    loop {
        // As in HTTP/1, a worker without any connection to the endpoint may open one in any case.
        let anyway = || (!pool.has_limited()).then(|| limiter.take_anyway(Counted::Connection));
        if let Some(ticket) = limiter.take(Counted::Connection).or_else(anyway) {
            return Ok(Room::Place(pool.place(ticket)));
        }
        let now_ms = context.clock.coarse_milliseconds();
        if let Some(found) = connections.find(purpose, &limits(configured), now_ms, true) {
            context.count(|counters, _| counters.upstream_reused += 1);
            return Ok(Room::Stream(stream(context, &found)));
        }
        // One that is kept for somebody else makes room.
        if pool.close_idle() {
            attempt::count_closed_idle(context, 1);
            continue;
        }
        // This one when what moves its bytes has ended.
        connections.close_idle();
        let freed = in_time(left(), freed_or_ended(pool, connections)).await?;
        if let Some(Freed::Connection(freed)) = freed {
            // It speaks HTTP/1.
            drop(freed);
            attempt::count_closed(context);
        }
    }
}

/// Wait until a connection is free, or a request on a connection in HTTP/2 is over (none).
async fn freed_or_ended(pool: &EndpointPool, connections: &Http2Connections) -> Option<Freed> {
    let (mut freed, mut ended) = (pin!(pool.freed()), pin!(connections.request_ended()));
    std::future::poll_fn(|task| {
        if let Poll::Ready(freed) = freed.as_mut().poll(task) {
            return Poll::Ready(freed);
        }
        ended.as_mut().poll(task).map(|()| None)
    })
    .await
}

/// Open a connection.
async fn open(
    context: &Rc<WorkerContext>,
    configured: &Cluster,
    limit: Duration,
    endpoint: &Endpoint,
    purpose: Purpose<'_>,
    place: Option<Box<ConnectionPlace>>,
) -> Result<Rc<Http2Connection>, ProxyError> {
    let stream = attempt::connect(context, configured, limit, endpoint, purpose, true).await?;
    let held = Held { context: Rc::clone(context), _place: place };
    let slots =
        IoSlots { receives: Rc::clone(&context.receives), sends: Rc::clone(&context.sends) };
    let begun = http2::client::begin(stream, slots).await;
    let (connection, driver) = begun.map_err(|_| ProxyError::UpstreamConnect)?;
    let keepalive = configured.http2.as_deref().and_then(|settings| settings.keepalive);
    crate::net::spawn(async move {
        driver.run(keepalive).await;
        drop(held);
    });
    let now_ms = context.clock.coarse_milliseconds();
    Ok(Http2Connection::new(connection, purpose.to_owned(), now_ms))
}
