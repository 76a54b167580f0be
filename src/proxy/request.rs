//! From a received head to what is done with it: parse, make the path canonical, find the route,
//! choose the destination, write the head that goes upstream. One synchronous pass, so that nothing
//! of the parsed head has to outlive it.

use std::rc::Rc;
use std::time::Instant;

use super::context::{Replica, WorkerContext};
use super::cors;
use super::deadline;
use super::downstream::Downstream;
use super::error::ProxyError;
use super::hash_key;
use super::header_edits::{self, RequestValues};
use super::reason;
use super::redirect::write_location;
use super::rewrite;
use super::scratch::Scratch;
use super::trace;
use super::upstream_head::{self, Forwarded, format_request_id, write_upstream_head};
use crate::http::{BodyLength, RequestHead, Version, path};
use crate::http1::{self, HeaderStorage, ParsedRequest};
use crate::ids::{ClusterId, RouteId};
use crate::router::{Lookup, weighted};
use crate::snapshot::{Forward, HashKey, RouteAction, Serves, Snapshot};
use crate::stream_info::ResponseFlags;
use crate::trace::span::bounded_text;

/// What a complete head asks for, and what of it matters after the head is gone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of the head in the receive buffer.
    pub head_bytes: usize,
    /// The body that follows.
    pub body: BodyLength,
    /// May the connection serve another request?
    pub keep_alive: bool,
    /// The client's version.
    pub version: Version,
    /// Is it `HEAD`? Its response has no body.
    pub is_head: bool,
    /// May it be sent again although it may have been served (RFC 9110 section 9.2.2)?
    pub idempotent: bool,
    /// Does the client ask to change the protocol?
    pub upgrade: bool,
    /// Does the client wait for `100 Continue` before it sends the body?
    pub expect_continue: bool,
    /// Does the client take trailers?
    pub te_trailers: bool,
}

/// What to do with what was received.
pub enum Decision {
    /// The head is not complete.
    Incomplete,
    /// Send it to this cluster; the head that goes upstream stands in `Scratch::request`.
    Forward {
        /// What the head asked for.
        plan: Plan,
        /// Where it goes.
        cluster: ClusterId,
        /// The configuration that this request keeps.
        replica: Rc<Replica>,
    },
    /// Answer as this route says, or to a preflight; where a redirect leads stands in
    /// `Scratch::location`.
    Configured {
        /// What the head asked for.
        plan: Plan,
        /// The route.
        route: RouteId,
        /// The configuration that this request keeps.
        replica: Rc<Replica>,
    },
    /// Answer it ourselves.
    Reply {
        /// What the head asked for; none when it could not be read.
        plan: Option<Plan>,
        /// Why.
        error: ProxyError,
        /// The configuration that this request keeps: its record names a route of it.
        replica: Rc<Replica>,
    },
}

/// Decide about the bytes received.
pub fn prepare(
    context: &WorkerContext,
    downstream: &Downstream,
    received: &[u8],
    scratch: &mut Scratch,
    started: Instant,
) -> Decision {
    let mut storage = HeaderStorage::new();
    let parsed = match http1::parse_request(received, &mut storage, downstream.listener.scheme) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Decision::Incomplete,
        Err(error) => {
            return reject(context, scratch, started, ProxyError::Request(error));
        }
    };
    begin_record(context, scratch, started);
    let head = &parsed.head;
    let plan = Plan {
        head_bytes: parsed.head_bytes,
        body: parsed.body,
        keep_alive: parsed.keep_alive,
        version: head.version,
        is_head: head.method == b"HEAD",
        idempotent: is_idempotent(head.method),
        upgrade: parsed.upgrade.is_some() && parsed.body == BodyLength::Empty,
        expect_continue: parsed.expect_continue,
        te_trailers: parsed.te_trailers,
    };
    scratch.info.version = if downstream.http2 { Version::Http2 } else { head.version };
    scratch.info.request_bytes = parsed.head_bytes as u64;
    let replica = Rc::clone(&context.replica.borrow());
    trace::begin(context, head, &replica.snapshot, scratch);
    let policy = &replica.snapshot.settings.telemetry.access_log;
    match context.access_log.borrow().as_ref() {
        Some(sink) => {
            sink.capture(policy, &mut scratch.fields, head, scratch.info.trace_id);
        }
        None => scratch.fields.clear(),
    }
    if context.taps.any() {
        if !context.is_logging(&replica.snapshot) {
            scratch.fields.capture(head, None, None);
        }
        context.taps.capture(head, &mut scratch.tapped_headers);
    }
    match route(context, downstream, &parsed, &replica, scratch) {
        Ok(Routed::Forward(cluster)) => Decision::Forward { plan, cluster, replica },
        Ok(Routed::Configured(route)) => Decision::Configured { plan, route, replica },
        Err(error) => Decision::Reply { plan: Some(plan), error, replica },
    }
}

/// Answer a request whose head could not be read.
pub fn reject(
    context: &WorkerContext,
    scratch: &mut Scratch,
    started: Instant,
    error: ProxyError,
) -> Decision {
    begin_record(context, scratch, started);
    scratch.fields.clear();
    Decision::Reply { plan: None, error, replica: Rc::clone(&context.replica.borrow()) }
}

/// Start the record of a request.
pub fn begin_record(context: &WorkerContext, scratch: &mut Scratch, started: Instant) {
    let unix_us = context.clock.unix_microseconds(started);
    scratch.info = crate::stream_info::StreamInfo::new(started, unix_us);
    scratch.tried.clear();
    scratch.tapped_headers.clear();
    scratch.transport_failure.clear();
    scratch.response_edits.clear();
    scratch.trace = None;
    scratch.span = None;
    scratch.timeout_ms = None;
    scratch.delay_ms = 0;
    scratch.hash = None;
    scratch.destination = 0;
    scratch.tells_reason = context.replica.borrow().snapshot.settings.explain_header;
    scratch.reason_of.clear();
}

/// Methods that may be repeated without harm.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// Is the host of a request another server's than the one whose TLS its connection is in? Browsers use a
/// connection for every host of its certificate (RFC 9113 section 9.1.1); each server has its own table and
/// its own demands of clients. A client that named no server can open no other connection. Or does its server
/// ask something else of clients than when it was let in?
fn is_misdirected(downstream: &Downstream, snapshot: &Snapshot, authority: &[u8]) -> bool {
    let slot = &downstream.listener;
    if slot.outdated.get() {
        return true;
    }
    let named = downstream.tls().is_some_and(|tls| tls.server_name.is_some());
    let (Some(own), true) = (&slot.chain, named) else { return false };
    let listener = slot.listener.get().and_then(|at| snapshot.listeners.get(at));
    let Some(Serves::Tls(port)) = listener.map(|listener| &listener.serves) else { return false };
    if port.chains.len() < 2 {
        return false;
    }
    let found = port.find_host(authority).and_then(|at| port.chains.get(at));
    found.is_some_and(|chain| !own.is(chain))
}

/// What a route came to.
enum Routed {
    Forward(ClusterId),
    Configured(RouteId),
}

/// Find the destination and write the upstream head, or where a redirect leads.
fn route(
    context: &WorkerContext,
    downstream: &Downstream,
    parsed: &ParsedRequest<'_>,
    replica: &Rc<Replica>,
    scratch: &mut Scratch,
) -> Result<Routed, ProxyError> {
    let head = &parsed.head;
    let snapshot = &replica.snapshot;
    if head.version == Version::Http10 && snapshot.settings.reject_http10 {
        return Err(ProxyError::LowVersion);
    }
    if head.method == b"CONNECT" {
        return Err(ProxyError::ConnectNotAllowed);
    }
    let mode = snapshot.settings.path_normalization;
    let path = match head.path {
        b"*" => head.path,
        other => path::normalize(other, mode, &mut scratch.path)
            .map_err(|_| ProxyError::PathNormalization)?,
    };
    let scheme = upstream_head::scheme(head, snapshot.settings.trusted_proxies);
    let head = RequestHead { path, scheme, ..*head };
    // Known before anything is answered: gRPC clients get every answer in their own form.
    scratch.info.grpc = head.is_grpc();
    if is_misdirected(downstream, snapshot, head.authority) {
        return Err(ProxyError::Misdirected);
    }
    let table = downstream
        .listener
        .route_table
        .get()
        .and_then(|index| snapshot.route_tables.get(index))
        .ok_or(ProxyError::NoRoute)?;
    let route_id: RouteId = match table.find(&head) {
        Lookup::Route(_, route) => route,
        Lookup::NoVirtualHost => return Err(ProxyError::NoRoute),
        Lookup::NoRoute(host) => {
            if let Some(host) = table.virtual_host(host) {
                scratch.info.histogram_slot = host.unrouted;
            }
            return Err(ProxyError::NoRoute);
        }
    };
    let info = &mut scratch.info;
    info.route = Some(route_id);
    let route = snapshot.route(route_id);
    if scratch.tells_reason {
        reason::write_route(&mut scratch.reason_of, &route.names);
    }
    let request_id = context.random.borrow_mut().u128(..);
    let mut forwarded = Forwarded {
        peer_text: downstream.peer_text(),
        client_certificate: downstream.client_certificate(),
        trusted_proxies: snapshot.settings.trusted_proxies,
        operation: route.operation.as_bytes(),
        request_id,
        authority: None,
        path: None,
        expected_timeout_ms: None,
        trace: scratch.trace.as_ref(),
    };
    let (position, destination) = match &route.action {
        RouteAction::Forward(Forward::One(only)) => (0, Some(only)),
        RouteAction::Forward(Forward::Several { destinations, total_weight }) => {
            let ticket = context.random.borrow_mut().u64(..);
            let weights = destinations.iter().map(|destination| destination.weight);
            let position = weighted::pick(weights, *total_weight, ticket);
            let position = position.ok_or(ProxyError::NoCluster)?;
            (position, destinations.get(position))
        }
        RouteAction::Redirect(redirect) => {
            write_location(&mut scratch.location, redirect, &head);
            (0, None)
        }
        RouteAction::DirectResponse(_) => (0, None),
    };
    scratch.destination = position;
    let policy = route.policy.as_deref();
    let changes = policy.and_then(|policy| policy.destinations.get(position));
    if let Some(changes) = changes {
        let values = RequestValues { head: &head, forwarded: &forwarded };
        scratch.response_edits.keep(changes, route_id, position, &values, replica);
    }
    if !matches!(route.action, RouteAction::Forward(_)) {
        info.histogram_slot = route.names.own_answers;
        return Ok(Routed::Configured(route_id));
    }
    if let Some(destination) = destination {
        info.histogram_slot = destination.histogram_slot;
    }
    if let Some(fault) = policy.and_then(|policy| policy.fault) {
        if context.chance(fault.delay_ppm) {
            scratch.delay_ms = fault.delay_ms;
            info.flags.insert(ResponseFlags::DELAY_INJECTED);
        }
        if context.chance(fault.abort_ppm) {
            return Err(ProxyError::FaultAbort(fault.abort));
        }
    }
    if let Some(cors) = policy.and_then(|policy| policy.cors.as_deref())
        && let Some((answer, origin)) = cors::decide(cors, &head)
    {
        scratch.response_edits.keep_cors(answer, origin, route_id, position, replica);
        if scratch.response_edits.is_preflight() {
            info.histogram_slot = route.names.own_answers;
            return Ok(Routed::Configured(route_id));
        }
    }
    let destination = destination.ok_or(ProxyError::NoCluster)?;
    let cluster = destination.cluster.ok_or(ProxyError::NoCluster)?;
    info.cluster = Some(cluster);
    info.metric_slot = snapshot.cluster(cluster).metric_slot;
    if let Some(consistent) = &snapshot.cluster(cluster).consistent_hash {
        scratch.hash = hash_key::of_request(&consistent.key, &head, &forwarded);
        if scratch.hash.is_none()
            && let HashKey::Cookie(cookie) = &consistent.key
            && let Some(attributes) = &cookie.attributes
        {
            // A client without the cookie gets one, and this request goes where it will lead.
            let value = context.random.borrow_mut().u64(..);
            scratch.hash =
                Some(scratch.response_edits.give_cookie(&cookie.name, value, attributes));
        }
    }
    if let Some(rewrite) = policy.and_then(|policy| policy.path.as_ref()) {
        rewrite::write_path(&mut scratch.rewritten, rewrite, head.path);
        forwarded.path = Some(&scratch.rewritten);
    }
    forwarded.authority =
        changes.and_then(|changes| changes.authority.as_deref()).map(str::as_bytes);
    let of_route_ms = policy.and_then(|policy| policy.timeout_ms);
    scratch.timeout_ms = deadline::timeout_ms(&head, info.grpc, of_route_ms);
    let per_try_ms = policy.and_then(|policy| policy.retries.per_try_timeout_ms);
    forwarded.expected_timeout_ms = per_try_ms.or(scratch.timeout_ms);
    let mut written = write_upstream_head(&mut scratch.request, parsed, &head, &forwarded);
    if let Some(span) = &mut scratch.span {
        span.request_id = bounded_text(&format_request_id(request_id));
    }
    if context.keeps_fields(&replica.snapshot) {
        scratch.fields.set_request_id(&format_request_id(request_id));
        let forwarded_for = scratch.request.get(written.forwarded_for).unwrap_or_default();
        scratch.fields.set_forwarded_for(forwarded_for);
    }
    if let Some(changes) = changes.filter(|changes| !changes.request.is_empty()) {
        let values = RequestValues { head: &head, forwarded: &forwarded };
        let moved = header_edits::edit_request(
            (&mut scratch.request, &mut scratch.spare),
            written.attempt_count_at,
            &changes.request,
            &values,
            info,
            replica,
            downstream,
        );
        written.attempt_count_at = moved.unwrap_or(usize::MAX);
    }
    scratch.attempt_count_at = written.attempt_count_at;
    Ok(Routed::Forward(cluster))
}
