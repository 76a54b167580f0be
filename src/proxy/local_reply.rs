//! Responses that the gateway makes itself.

use std::time::Instant;

use super::context::WorkerContext;
use super::downstream::{After, Downstream};
use super::error::{Answer, ProxyError};
use super::header_edits;
use super::reason::{self, Reason};
use super::request::Plan;
use super::scratch::Scratch;
use crate::http::Version;
use crate::http1;
use crate::snapshot::RouteAction;

/// Answer with what `error` stands for, and count it.
pub async fn send(
    context: &WorkerContext,
    downstream: &Downstream,
    plan: Option<&Plan>,
    error: ProxyError,
    request_is_read: bool,
    scratch: &mut Scratch,
) -> After {
    context.count(|counters, _| match error {
        ProxyError::Request(_) | ProxyError::RequestBody => {
            counters.downstream_protocol_errors += 1;
        }
        ProxyError::UpstreamProtocol(_)
        | ProxyError::UpstreamInterim
        | ProxyError::UpstreamTruncated => {
            counters.upstream_protocol_errors += 1;
        }
        // One that a sweep found is counted there.
        ProxyError::DownstreamGone if !downstream.gone() => counters.downstream_io_errors += 1,
        _ => {}
    });
    let answer = error.answer();
    let keep_alive = request_is_read
        && !answer.close
        && plan.is_some_and(|plan| may_keep_alive(context, downstream, plan));
    write_error(context, downstream, plan, error, keep_alive, scratch);
    if answer.status == 0 {
        return After::Cut;
    }
    send_written(context, downstream, scratch, keep_alive).await
}

/// Write what `error` stands for to `Scratch::response` and to the record.
pub fn write_error(
    context: &WorkerContext,
    downstream: &Downstream,
    plan: Option<&Plan>,
    error: ProxyError,
    keep_alive: bool,
    scratch: &mut Scratch,
) {
    let answer = error.answer();
    scratch.info.flags.insert(answer.flags);
    scratch.info.details = answer.details;
    if answer.status == 0 {
        return;
    }
    write(context, plan, &answer, error.grpc_status(), keep_alive, scratch);
    if error == ProxyError::UpstreamOverflow {
        header_edits::append_field(&mut scratch.response, &mut scratch.spare, |out| {
            out.extend_from_slice(b"x-envoy-overloaded: true\r\n");
        });
    }
    let is_head = plan.is_some_and(|plan| plan.is_head);
    let body_bytes = if is_head || scratch.info.grpc { 0 } else { answer.body.len() };
    written(downstream, answer.status, body_bytes, scratch);
}

/// Answer as a route is configured to: a redirect, a fixed response, or what its CORS policy says to a
/// preflight.
pub async fn send_configured(
    context: &WorkerContext,
    downstream: &Downstream,
    plan: &Plan,
    action: &RouteAction,
    request_is_read: bool,
    scratch: &mut Scratch,
) -> After {
    let keep_alive = request_is_read && may_keep_alive(context, downstream, plan);
    write_configured(context, downstream, plan, action, keep_alive, scratch);
    send_written(context, downstream, scratch, keep_alive).await
}

/// Write what a route is configured to answer to `Scratch::response` and to the record.
pub fn write_configured(
    context: &WorkerContext,
    downstream: &Downstream,
    plan: &Plan,
    action: &RouteAction,
    keep_alive: bool,
    scratch: &mut Scratch,
) {
    let answer = Reason::of_route(action).answer();
    let (status, location, body) = match action {
        RouteAction::Redirect(redirect) => (redirect.status, Some(&*scratch.location), &[][..]),
        RouteAction::DirectResponse(direct) => (direct.status, None, &*direct.body),
        RouteAction::Forward(_) => (answer.status, None, &[][..]),
    };
    let out = &mut scratch.response;
    out.clear();
    let connection = connection_option(Some(plan), keep_alive);
    let date = context.clock.date();
    http1::encode::write_configured_reply(
        out,
        status,
        location,
        body,
        plan.is_head,
        connection,
        &date,
    );
    scratch.info.details = answer.details;
    written(downstream, status, if plan.is_head { 0 } else { body.len() }, scratch);
}

/// An answer of ours stands in `Scratch::response`: edit it as its route wants, and note what it is.
fn written(downstream: &Downstream, status: u16, body_bytes: usize, scratch: &mut Scratch) {
    scratch.info.response_code = status;
    header_edits::edit_response(scratch, downstream);
    if scratch.tells_reason {
        let both = (&mut scratch.response, &mut scratch.spare);
        reason::write_header(both, scratch.info.details, &scratch.reason_of);
    }
    scratch.info.response_bytes = scratch.response.len() as u64;
    scratch.info.response_body_bytes = body_bytes as u64;
}

/// Can the connection serve another request: did the client ask for that, and do we still serve here?
fn may_keep_alive(context: &WorkerContext, downstream: &Downstream, plan: &Plan) -> bool {
    plan.keep_alive && !context.draining.get() && downstream.listener.route_table.get().is_some()
}

/// What `connection` has to say, if anything.
fn connection_option(plan: Option<&Plan>, keep_alive: bool) -> Option<&'static str> {
    match plan {
        _ if !keep_alive => Some("close"),
        Some(plan) if plan.version == Version::Http10 => Some("keep-alive"),
        _ => None,
    }
}

/// Send what stands in `Scratch::response`.
async fn send_written(
    context: &WorkerContext,
    downstream: &Downstream,
    scratch: &mut Scratch,
    keep_alive: bool,
) -> After {
    let progress_ms = context.progress_timeout_ms();
    downstream.send_until(context.clock.milliseconds(Instant::now()) + progress_ms);
    let bytes = std::mem::take(&mut scratch.response);
    let (outcome, bytes) = downstream.stream.send_all(bytes).await;
    downstream.send_until(u64::MAX);
    scratch.response = bytes;
    if outcome.is_ok() && keep_alive { After::Next } else { After::Close }
}

fn write(
    context: &WorkerContext,
    plan: Option<&Plan>,
    answer: &Answer,
    grpc_status: u8,
    keep_alive: bool,
    scratch: &mut Scratch,
) {
    let out = &mut scratch.response;
    out.clear();
    let connection = connection_option(plan, keep_alive);
    let is_head = plan.is_some_and(|plan| plan.is_head);
    if scratch.info.grpc {
        // Envoy answers gRPC with 200 and the status in the head, so that clients understand it.
        scratch.info.grpc_status = Some(grpc_status);
        http1::encode::write_grpc_reply(
            out,
            grpc_status,
            answer.body,
            connection,
            &context.clock.date(),
        );
        return;
    }
    http1::encode::write_local_reply(
        out,
        answer.status,
        answer.body,
        is_head,
        connection,
        &context.clock.date(),
    );
}
