//! One try at an upstream: pick an endpoint, get a connection to it, send the request.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::context::{Replica, WorkerContext};
use super::error::ProxyError;
use super::scratch::Scratch;
use crate::ids::ClusterId;
use crate::upstream::{Connection, EndpointPool};

/// A connection to an endpoint that counts as serving a request until it is dropped.
pub struct Attempt {
    /// The connection.
    pub connection: Connection,
    /// Was it used before? Then the endpoint may have closed it while the request was on its way.
    pub reused: bool,
    pool: Rc<EndpointPool>,
    /// Requests after which the connection is not kept; 0: no limit.
    requests_max: u64,
}

impl Attempt {
    /// Keep the connection for another request.
    pub fn check_in(self, context: &WorkerContext, now_ms: u64) {
        let Attempt { mut connection, pool, requests_max, .. } = self;
        connection.requests += 1;
        pool.request_ended();
        let used_up = requests_max > 0 && connection.requests >= requests_max;
        if used_up || !pool.check_in(connection, now_ms) {
            context.count(|counters, _| counters.upstream_closed += 1);
            context.count(|_, gauges| gauges.upstream_active -= 1);
        } else {
            context.count(|_, gauges| {
                gauges.upstream_active -= 1;
                gauges.upstream_idle += 1;
            });
        }
    }

    /// Close the connection.
    pub fn close(self, context: &WorkerContext) {
        self.pool.request_ended();
        context.count(|counters, gauges| {
            counters.upstream_closed += 1;
            gauges.upstream_active -= 1;
        });
    }
}

/// Pick an endpoint of `cluster` that this request has not tried and get a connection to it, within
/// `limit`. With `fresh`, no kept connection is used.
pub async fn begin(
    context: &WorkerContext,
    replica: &Replica,
    cluster: ClusterId,
    fresh: bool,
    limit: Duration,
    scratch: &mut Scratch,
) -> Result<Attempt, ProxyError> {
    let state = replica.clusters.get(cluster);
    let (position, pool) = {
        let mut random = context.random.borrow_mut();
        let Some((position, pool)) = state.pick(&mut random, &scratch.tried, scratch.hash) else {
            return Err(ProxyError::NoHealthyUpstream);
        };
        (position, Rc::clone(pool))
    };
    scratch.tried.push(position);
    let configured = replica.snapshot.cluster(cluster);
    let requests_max = configured.requests_per_connection_max;
    let info = &mut scratch.info;
    info.attempts += 1;
    info.upstream_address = Some(pool.address());
    if let Some(endpoint) = configured.endpoints.get(position) {
        info.metric_slot = endpoint.metric_slot;
    }
    pool.request_began();
    if !fresh {
        let (kept, closed) = pool.check_out();
        if closed > 0 {
            context.count(|counters, gauges| {
                counters.upstream_closed_idle += closed;
                counters.upstream_closed += closed;
                gauges.upstream_idle -= closed;
            });
        }
        if let Some(connection) = kept {
            context.count(|counters, gauges| {
                counters.upstream_reused += 1;
                gauges.upstream_idle -= 1;
                gauges.upstream_active += 1;
            });
            return Ok(Attempt { connection, reused: true, pool, requests_max });
        }
    }
    let connecting = context.connects.place(|| {
        let timeout = configured.connect_timeout.min(limit);
        crate::net::connect::connect(pool.address(), timeout, context.driver)
    });
    match connecting.await {
        Ok(stream) => {
            context.count(|counters, gauges| {
                counters.upstream_opened += 1;
                gauges.upstream_active += 1;
            });
            let connection = Connection::new(stream, &context.receives, context.buffers.take());
            Ok(Attempt { connection, reused: false, pool, requests_max })
        }
        Err(error) => {
            pool.request_ended();
            let timed_out = error.kind() == io::ErrorKind::TimedOut;
            context.count(|counters, _| {
                counters.upstream_connect_failures += u64::from(!timed_out);
                counters.upstream_connect_timeouts += u64::from(timed_out);
            });
            Err(if timed_out {
                ProxyError::UpstreamConnectTimeout
            } else {
                ProxyError::UpstreamConnect
            })
        }
    }
}
