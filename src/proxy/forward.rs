//! A request on its way upstream: the attempts, the body that streams beside the response, and the
//! tunnel that it may become.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::attempt::{self, Attempt, Wanted};
use super::context::{Replica, WorkerContext};
use super::downstream::{After, Downstream};
use super::error::ProxyError;
use super::http2_upstream;
use super::in_flight::{InFlight, Pump};
use super::local_reply;
use super::mirror::Copies;
use super::receiver::Receiver;
use super::request::Plan;
use super::request_body::{self, Progress, Pumped, RequestBody};
use super::response::{self, Responded};
use super::retry::Retries;
use super::scratch::Scratch;
use super::tunnel::{self, Watch};
use crate::ids::ClusterId;
use crate::net::Buffer;
use crate::upstream::Outcome;

/// Send a request upstream and its response back, with the retries that are safe.
pub async fn forward(
    context: &Rc<WorkerContext>,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    plan: &Plan,
    cluster: ClusterId,
    replica: &Rc<Replica>,
) -> After {
    let progress = Progress::new(scratch.info.grpc);
    let body = {
        let Some(input) = receiver.input.as_mut() else { return After::Close };
        input.advance(plan.head_bytes);
        match request_body::begin(plan.body, input, &mut scratch.request, &progress) {
            Ok(body) => body,
            Err(error) => {
                return local_reply::send(context, connection, Some(plan), error, false, scratch)
                    .await;
            }
        }
    };
    let mut body = Some(body);
    let snapshot = &replica.snapshot;
    let policy = scratch.info.route.and_then(|route| snapshot.route(route).policy.as_deref());
    let shared = replica.clusters.get(cluster).shared();
    let mirrors = policy.map_or(&[][..], |policy| &policy.mirrors);
    let mirrors = if plan.upgrade { &[][..] } else { mirrors };
    let flight = InFlight {
        context,
        downstream: connection,
        replica,
        plan,
        retries: Retries::new(
            context,
            policy.map_or(&snapshot.settings.default_retries, |policy| &policy.retries),
            shared.and_then(|shared| shared.limiter.as_ref()),
            progress.request_done.get(),
            scratch.timeout_ms,
        ),
        copies: Copies::new(context, mirrors),
        progress,
    };
    let http2 = http2_upstream::is_wanted(snapshot.cluster(cluster), connection.http2);
    flight.begin(body.as_ref(), scratch, http2);
    let mut pump = None;
    let mut fresh = false;
    let outcome = loop {
        if flight.progress.request_done.get() {
            // The clock was read when the first attempt's request came, unless something took time.
            let at_once = scratch.info.attempts == 0 && scratch.delay_ms == 0;
            let now = if at_once { scratch.info.started } else { Instant::now() };
            flight.retries.bound(flight.downstream, now);
        }
        let wanted = Wanted {
            fresh,
            limit: flight.retries.connect_limit(flight.downstream),
            avoid_tried: flight.retries.avoids_tried(scratch.hash),
            elsewhere: flight.retries.goes_elsewhere(),
            client: Some(flight.downstream),
            came_by_http2: flight.downstream.http2,
        };
        let begun = {
            let beginning =
                pin!(attempt::begin(flight.context, flight.replica, cluster, &wanted, scratch));
            flight.downstream.unless_gone(beginning).await
        };
        let mut attempt = match begun.unwrap_or(Err(ProxyError::DownstreamGone)) {
            Ok(attempt) => attempt,
            Err(error) => {
                let error = flight.retries.explain(flight.downstream, error);
                if !flight.retries.take_after(error, true, body.is_some(), &mut scratch.info) {
                    break Err(error);
                }
                if let Err(error) = flight.retries.back_off(flight.downstream).await {
                    break Err(error);
                }
                count_further_attempt(flight.context, scratch);
                continue;
            }
        };
        flight.downstream.set_upstream(Some(attempt.connection.stream().clone()));
        if flight.context.is_logging(&flight.replica.snapshot) {
            scratch.info.upstream_local_address = attempt.connection.local_address();
        }
        let (responded, nothing_sent) =
            send_and_relay(&flight, receiver, scratch, &mut body, &mut pump, &mut attempt).await;
        let error = match responded {
            Responded::Retry(status) => {
                attempt.report(flight.context, Outcome::Response(status));
                None
            }
            Responded::Nothing(error) => Some(flight.retries.explain(flight.downstream, error)),
            responded => {
                attempt.report(flight.context, Outcome::Response(scratch.outlier_status));
                break Ok((responded, attempt));
            }
        };
        // The endpoint had closed the kept connection: nothing of the request was served.
        let stale = attempt.reused && error == Some(ProxyError::UpstreamClosed);
        if matches!(error, Some(ProxyError::RequestTimeout | ProxyError::PerTryTimeout)) {
            attempt.connection.timed_out();
        }
        if let Some(outcome) = error.filter(|_| !stale).and_then(ProxyError::outcome) {
            attempt.report(flight.context, outcome);
        }
        flight.progress.detached.set(true);
        if pump.is_some() {
            // It may be waiting for this endpoint to take more.
            attempt.connection.stream().shutdown(std::net::Shutdown::Both);
        }
        attempt.close(flight.context);
        // Once the rest of a body was asked for, what came of it may be lost.
        let at_hand = (body.is_some() || flight.progress.can_repeat()) && !flight.downstream.gone();
        let mut at_once = false;
        if let Some(error) = error {
            let safe = flight.plan.idempotent || nothing_sent;
            if stale && safe && at_hand && !fresh {
                // The same endpoint is as good as any other for a fresh connection.
                (fresh, at_once) = (true, true);
                scratch.tried.pop();
            } else if !flight.retries.take_after(error, nothing_sent, at_hand, &mut scratch.info) {
                break Err(error);
            }
        }
        // Boxed: few requests are sent again, and they must not enlarge the others.
        let again = flight.repeat(receiver, scratch, &mut body, &mut pump);
        if let Err(error) = Box::pin(again).await {
            break Err(error);
        }
        if !at_once && let Err(error) = flight.retries.back_off(flight.downstream).await {
            break Err(error);
        }
        count_further_attempt(flight.context, scratch);
    };
    drop(pump);
    flight.copies.count_dropped(flight.context);
    flight.downstream.clear_deadlines();
    scratch.info.request_bytes += flight.progress.wire_bytes.get();
    scratch.info.request_body_bytes = flight.progress.body_bytes.get();
    scratch.info.request_messages = flight.progress.messages();
    match outcome {
        Err(error) => {
            let read = flight.progress.request_done.get() && receiver.input.is_some();
            local_reply::send(
                flight.context,
                flight.downstream,
                Some(flight.plan),
                error,
                read,
                scratch,
            )
            .await
        }
        Ok((Responded::Complete { upstream_reusable, keep_alive }, attempt)) => {
            if upstream_reusable {
                attempt.check_in(flight.context, flight.replica.snapshot.cluster(cluster));
            } else {
                attempt.close(flight.context);
            }
            // A request that is still coming would be taken for the next one.
            let read = flight.progress.request_done.get() && receiver.input.is_some();
            if keep_alive && read { After::Next } else { After::Close }
        }
        Ok((Responded::Switched(from_upstream), attempt)) => {
            run_tunnel(
                flight.context,
                flight.downstream,
                receiver,
                scratch,
                &attempt,
                from_upstream,
            )
            .await;
            attempt.close(flight.context);
            After::Close
        }
        Ok((Responded::Cut | Responded::Nothing(_) | Responded::Retry(_), attempt)) => {
            attempt.close(flight.context);
            After::Cut
        }
    }
}

/// Send the request on `attempt` and relay the response while the rest of the body streams. The
/// second value: the kernel took nothing of the request, the connection was dead.
async fn send_and_relay<'f>(
    flight: &'f InFlight<'f>,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    body: &mut Option<RequestBody>,
    pump: &mut Option<Pump<'f>>,
    attempt: &mut Attempt,
) -> (Responded, bool) {
    let head = std::mem::take(&mut scratch.request);
    let now_ms = flight.context.clock.coarse_milliseconds();
    flight.downstream.upstream_until(now_ms.saturating_add(flight.context.progress_timeout_ms()));
    let (outcome, head) = attempt.connection.stream().send_all(head).await;
    flight.downstream.upstream_until(u64::MAX);
    scratch.request = head;
    let cut_short = match outcome {
        Ok(()) => false,
        Err((error, 0)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return (Responded::Nothing(ProxyError::UpstreamRefused), true);
        }
        Err((error, 0))
            if attempt.connection.is_http2() && error.kind() == std::io::ErrorKind::Unsupported =>
        {
            return (Responded::Nothing(ProxyError::UpstreamUnsupported), true);
        }
        Err((_, 0)) => return (Responded::Nothing(ProxyError::UpstreamClosed), true),
        // It took a part and no more: it may have answered already (413, say).
        Err(_) => true,
    };
    // On a kept connection the request left as soon as it was read: no need to ask the clock again.
    let sent = if attempt.reused && scratch.info.attempts == 1 {
        scratch.info.started
    } else {
        Instant::now()
    };
    let upstream = attempt.connection.stream().clone();
    let mut relay = pin!(response::relay(flight, &mut attempt.connection, scratch, sent));
    if flight.progress.request_done.get() || cut_short {
        let responded = match relay.await {
            Responded::Complete { keep_alive, .. } if cut_short => {
                flight.progress.request_done.set(false);
                Responded::Complete { upstream_reusable: false, keep_alive }
            }
            responded => responded,
        };
        return (responded, false);
    }
    let (Some(rest), Some(input)) = (body.take(), receiver.input.take()) else {
        return (Responded::Nothing(ProxyError::UpstreamClosed), false);
    };
    *pump = Some(flight.context.pumps.place(|| flight.pump(upstream, rest, input)));
    let responded = std::future::poll_fn(|task| {
        let pumped = pump.as_mut().map(|pump| Pin::new(pump).poll(task));
        if let Some(Poll::Ready(pumped)) = pumped {
            *pump = None;
            match pumped {
                Pumped::Done(input) => {
                    receiver.input = Some(input);
                    flight.body_is_complete();
                    if !flight.progress.response_started.get() {
                        flight.retries.bound(flight.downstream, Instant::now());
                    }
                }
                // Its response may be on the way already.
                Pumped::UpstreamGone => {}
                Pumped::Client(error) => {
                    let begun =
                        flight.progress.response_started.get() || flight.progress.sending.get();
                    return Poll::Ready(if begun {
                        Responded::Cut
                    } else {
                        Responded::Nothing(error)
                    });
                }
            }
        }
        relay.as_mut().poll(task)
    })
    .await;
    (responded, false)
}

/// Note a further attempt, in the head that is sent again too.
fn count_further_attempt(context: &WorkerContext, scratch: &mut Scratch) {
    context.count(|counters, _| counters.upstream_retries += 1);
    if let Some(digit) = scratch.request.get_mut(scratch.attempt_count_at) {
        *digit = b'1' + scratch.info.attempts.min(8) as u8;
    }
}

async fn run_tunnel(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    attempt: &Attempt,
    from_upstream: Buffer,
) {
    context.count(|counters, gauges| {
        counters.tunnels_opened += 1;
        gauges.tunnels_active += 1;
    });
    let from_client = receiver.input.take().unwrap_or_else(Buffer::idle);
    let upstream = attempt.connection.stream();
    // As in Istio, `idleTimeout` is about connections without requests: it ends no WebSocket.
    let mut watch = Watch::new(context, connection);
    watch.stall = Some(context.progress_timeout());
    let tunnel =
        context.tunnels.place(|| tunnel::run(&watch, upstream, from_client, from_upstream));
    let moved = tunnel.await;
    scratch.info.request_body_bytes += moved.up_bytes;
    scratch.info.request_bytes += moved.up_bytes;
    scratch.info.response_body_bytes += moved.down_bytes;
    scratch.info.response_bytes += moved.down_bytes;
    context.count(|_, gauges| gauges.tunnels_active -= 1);
}
