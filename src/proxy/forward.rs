//! A request on its way upstream: the attempts, the body that streams beside the response, and the
//! tunnel that it may become.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::attempt::{self, Attempt, Wanted};
use super::context::{Replica, WorkerContext};
use super::downstream::{After, Downstream, Phase};
use super::error::{ProxyError, http_status};
use super::local_reply;
use super::mirror;
use super::receiver::Receiver;
use super::request::Plan;
use super::request_body::{self, Progress, Pumped, RequestBody};
use super::response::{self, Responded};
use super::retry::Retries;
use super::scratch::Scratch;
use super::tunnel;
use crate::ids::ClusterId;
use crate::net::Buffer;
use crate::stream_info::StreamInfo;
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
    let progress = Progress::default();
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
    let retries = Retries::new(
        context,
        policy.map_or(&snapshot.settings.default_retries, |policy| &policy.retries),
        shared.and_then(|shared| shared.limiter.as_ref()),
        progress.request_done.get(),
        scratch.timeout_ms,
    );
    if let Some(policy) = policy.filter(|policy| !policy.mirrors.is_empty() && !plan.upgrade) {
        if progress.request_done.get() {
            mirror::start(context, replica, &policy.mirrors, &scratch.request, plan.is_head);
        } else {
            // A body that is still coming is not kept for a copy.
            let dropped = policy.mirrors.len() as u64;
            context.count(|counters, _| counters.mirrors_dropped += dropped);
        }
    }
    let mut fresh = false;
    let outcome = loop {
        if progress.request_done.get() {
            // The clock was read when the first attempt's request came, unless something took time.
            let at_once = scratch.info.attempts == 0 && scratch.delay_ms == 0;
            let now = if at_once { scratch.info.started } else { Instant::now() };
            retries.bound(connection, now);
        }
        let wanted = Wanted {
            fresh,
            limit: retries.connect_limit(connection),
            avoid_tried: retries.avoids_tried(scratch.hash),
            elsewhere: retries.goes_elsewhere(),
            client: Some(connection),
        };
        let begun = attempt::begin(context, replica, cluster, &wanted, scratch).await;
        let mut attempt = match begun {
            Ok(attempt) => attempt,
            Err(error) => {
                let error = retries.explain(connection, error);
                if !retries.take_after(error, true, body.is_some(), &mut scratch.info) {
                    break Err(error);
                }
                if let Err(error) = retries.back_off(connection).await {
                    break Err(error);
                }
                count_further_attempt(context, scratch);
                continue;
            }
        };
        connection.set_upstream(Some(attempt.connection.stream().clone()));
        if context.access_log.borrow().is_some() {
            scratch.info.upstream_local_address = attempt.connection.local_address();
        }
        let (responded, nothing_sent) = send_and_relay(
            context,
            connection,
            receiver,
            scratch,
            plan,
            &mut body,
            &progress,
            &mut attempt,
            &retries,
        )
        .await;
        let error = match responded {
            Responded::Retry(status) => {
                attempt.report(context, Outcome::Response(status));
                None
            }
            Responded::Nothing(error) => Some(retries.explain(connection, error)),
            responded => {
                attempt.report(context, Outcome::Response(status_for_outliers(&scratch.info)));
                break Ok((responded, attempt));
            }
        };
        // The endpoint had closed the kept connection: nothing of the request was served.
        let stale = attempt.reused && error == Some(ProxyError::UpstreamClosed);
        if let Some(outcome) = error.filter(|_| !stale).and_then(ProxyError::outcome) {
            attempt.report(context, outcome);
        }
        attempt.close(context);
        if let Some(error) = error {
            let safe = plan.idempotent || nothing_sent;
            // Once the rest of a body was asked for, what came of it may be lost.
            if stale && safe && body.is_some() && !fresh && !connection.gone() {
                fresh = true;
                // The same endpoint is as good as any other for a fresh connection.
                scratch.tried.pop();
                count_further_attempt(context, scratch);
                continue;
            }
            let at_hand = body.is_some() && !connection.gone();
            if !retries.take_after(error, nothing_sent, at_hand, &mut scratch.info) {
                break Err(error);
            }
        }
        if let Err(error) = retries.back_off(connection).await {
            break Err(error);
        }
        count_further_attempt(context, scratch);
    };
    connection.clear_deadlines();
    scratch.info.request_bytes += progress.wire_bytes.get();
    scratch.info.request_body_bytes = progress.body_bytes.get();
    match outcome {
        Err(error) => {
            let read = progress.request_done.get() && receiver.input.is_some();
            local_reply::send(context, connection, Some(plan), error, read, scratch).await
        }
        Ok((Responded::Complete { upstream_reusable, keep_alive }, attempt)) => {
            if upstream_reusable {
                attempt.check_in(context, snapshot.cluster(cluster));
            } else {
                attempt.close(context);
            }
            // A request that is still coming would be taken for the next one.
            let read = progress.request_done.get() && receiver.input.is_some();
            if keep_alive && read { After::Next } else { After::Close }
        }
        Ok((Responded::Switched(from_upstream), attempt)) => {
            run_tunnel(context, connection, receiver, scratch, &attempt, from_upstream).await;
            attempt.close(context);
            After::Close
        }
        Ok((Responded::Cut | Responded::Nothing(_) | Responded::Retry(_), attempt)) => {
            attempt.close(context);
            After::Cut
        }
    }
}

/// Send the request on `attempt` and relay the response while the rest of the body streams. The
/// second value: the kernel took nothing of the request, the connection was dead.
#[expect(clippy::too_many_arguments, reason = "the state of one request, used in one place")]
async fn send_and_relay(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    plan: &Plan,
    body: &mut Option<RequestBody>,
    progress: &Progress,
    attempt: &mut Attempt,
    retries: &Retries<'_>,
) -> (Responded, bool) {
    let head = std::mem::take(&mut scratch.request);
    let now_ms = context.clock.coarse_milliseconds();
    connection.upstream_until(now_ms.saturating_add(context.progress_timeout_ms()));
    let (outcome, head) = attempt.connection.stream().send_all(head).await;
    connection.upstream_until(u64::MAX);
    scratch.request = head;
    let cut_short = match outcome {
        Ok(()) => false,
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
    let mut relay = pin!(response::relay(
        context,
        connection,
        &mut attempt.connection,
        plan,
        scratch,
        progress,
        sent,
        retries,
    ));
    if progress.request_done.get() || cut_short {
        let responded = match relay.await {
            Responded::Complete { keep_alive, .. } if cut_short => {
                progress.request_done.set(false);
                Responded::Complete { upstream_reusable: false, keep_alive }
            }
            responded => responded,
        };
        return (responded, false);
    }
    let (Some(rest), Some(input)) = (body.take(), receiver.input.take()) else {
        return (Responded::Nothing(ProxyError::UpstreamClosed), false);
    };
    let mut pump = context
        .pumps
        .place(|| request_body::pump(context, connection, upstream, rest, input, progress));
    let mut pumping = true;
    let responded = std::future::poll_fn(|task| {
        if pumping && let Poll::Ready(pumped) = Pin::new(&mut pump).poll(task) {
            pumping = false;
            match pumped {
                Pumped::Done(input) => {
                    receiver.input = Some(input);
                    if !progress.response_started.get() {
                        retries.bound(connection, Instant::now());
                    }
                }
                // Its response may be on the way already.
                Pumped::UpstreamGone => {}
                Pumped::Client(error) => {
                    let begun = progress.response_started.get() || progress.sending.get();
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

/// The status that outlier detection sees: a gRPC error in a head stands for an HTTP one.
fn status_for_outliers(info: &StreamInfo) -> u16 {
    match info.grpc_status {
        Some(status) if info.grpc => http_status(status),
        _ => info.response_code,
    }
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
    connection.wait_unbounded(Phase::Tunnel);
    let from_client = receiver.input.take().unwrap_or_else(Buffer::idle);
    let upstream = attempt.connection.stream();
    let tunnel = context
        .tunnels
        .place(|| tunnel::run(context, &connection.stream, upstream, from_client, from_upstream));
    let moved = tunnel.await;
    scratch.info.request_body_bytes += moved.up_bytes;
    scratch.info.request_bytes += moved.up_bytes;
    scratch.info.response_body_bytes += moved.down_bytes;
    scratch.info.response_bytes += moved.down_bytes;
    context.count(|_, gauges| gauges.tunnels_active -= 1);
}
