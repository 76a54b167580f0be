//! The upstream's response on its way to the client. The head is rewritten and put directly before
//! the body bytes that came with it, so that both leave in one send without being copied.

use std::io;
use std::time::Instant;

use super::context::WorkerContext;
use super::downstream::Downstream;
use super::error::{ProxyError, http_status};
use super::header_edits;
use super::in_flight::InFlight;
use super::request::Plan;
use super::response_body::{ResponseBody, finish_receive};
use super::scratch::Scratch;
use super::upstream_head::write_number;
use crate::http::{BodyLength, KnownHeader, Version, grpc};
use crate::http1::encode::write_field;
use crate::http1::{self, HeaderStorage, ParsedResponse, ResponseError};
use crate::limits::INTERIM_RESPONSES_MAX;
use crate::net::Buffer;
use crate::stream_info::ResponseFlags;
use crate::upstream::Connection;

/// `server` of every response, as Istio's gateway sends it.
const SERVER: &[u8] = b"istio-envoy";

/// How an attempt's response ended.
pub enum Responded {
    /// The client has all of it.
    Complete {
        /// The upstream connection can serve another request; a receive is in flight on it.
        upstream_reusable: bool,
        /// The client's connection can serve another request.
        keep_alive: bool,
    },
    /// The client has been sent nothing of a final response.
    Nothing(ProxyError),
    /// The response, with this status, is one to try again instead of: the client has been sent nothing
    /// of it.
    Retry(u16),
    /// The client has a part: its connection must be cut.
    Cut,
    /// 101 has been sent: both connections are tunnels now. The buffer holds what the upstream sent
    /// behind its head.
    Switched(Buffer),
}

/// A response head, read and rewritten into `Scratch::response`.
enum Head {
    Incomplete,
    /// 1xx: `forward` if the client takes it.
    Interim {
        head_bytes: usize,
        forward: bool,
    },
    /// 101 that was asked for.
    Switching {
        head_bytes: usize,
    },
    Retry(u16),
    Final(FinalHead),
}

struct FinalHead {
    head_bytes: usize,
    body: BodyLength,
    upstream_keep_alive: bool,
    keep_alive: bool,
    chunked_to_client: bool,
    received_at: Instant,
}

/// Keep for the log what TLS said of a connection after its handshake: a server of TLS 1.3 tells what it has
/// against us, such as a missing certificate, when our side is over. Of the errors of a receive only those of
/// TLS are about data; one that comes by way of HTTP/2 keeps its words alone.
fn note_transport_failure(scratch: &mut Scratch, error: Option<&io::Error>) {
    if let Some(error) = error.filter(|error| error.kind() == io::ErrorKind::InvalidData) {
        scratch.transport_failure = error.to_string();
    }
}

/// Wait for the response on `upstream`, send it to the client.
pub async fn relay(
    flight: &InFlight<'_>,
    upstream: &mut Connection,
    scratch: &mut Scratch,
    request_sent: Instant,
) -> Responded {
    let mut interim_responses = 0;
    let (head, mut buffer) = 'head: loop {
        let Some((outcome, mut buffer)) = upstream.received().await else {
            return Responded::Nothing(ProxyError::UpstreamClosed);
        };
        if !matches!(outcome, Ok(count) if count > 0) {
            let error = if flight.downstream.gone() {
                ProxyError::DownstreamGone
            } else if is_refused(&outcome) {
                ProxyError::UpstreamRefused
            } else if buffer.is_empty() && interim_responses == 0 {
                ProxyError::UpstreamClosed
            } else {
                ProxyError::UpstreamTruncated
            };
            flight.context.buffers.give(buffer);
            note_transport_failure(scratch, outcome.as_ref().err());
            return Responded::Nothing(error);
        }
        loop {
            let parsed = read_head(flight, &buffer, scratch, request_sent);
            let (head_bytes, forward) = match parsed {
                Err(error) => {
                    flight.context.buffers.give(buffer);
                    return Responded::Nothing(error);
                }
                Ok(Head::Final(head)) => break 'head (head, buffer),
                Ok(Head::Retry(status)) => {
                    flight.context.buffers.give(buffer);
                    return Responded::Retry(status);
                }
                Ok(Head::Switching { head_bytes }) => {
                    // The tunnel receives into it: an empty window must have room behind it.
                    buffer.advance(head_bytes);
                    return match send_head(flight, scratch).await {
                        true => Responded::Switched(buffer),
                        false => Responded::Cut,
                    };
                }
                Ok(Head::Incomplete) => break,
                Ok(Head::Interim { head_bytes, forward }) => (head_bytes, forward),
            };
            interim_responses += 1;
            if interim_responses > INTERIM_RESPONSES_MAX {
                flight.context.buffers.give(buffer);
                return Responded::Nothing(ProxyError::UpstreamInterim);
            }
            buffer.advance(head_bytes);
            if forward && !send_head(flight, scratch).await {
                flight.context.buffers.give(buffer);
                return Responded::Nothing(ProxyError::DownstreamGone);
            }
            if buffer.is_empty() {
                break;
            }
        }
        if buffer.is_full() {
            match flight.context.buffers.grow(buffer) {
                Ok((larger, _)) => buffer = larger,
                Err(full) => {
                    flight.context.buffers.give(full);
                    let error = ProxyError::UpstreamProtocol(ResponseError::HeadTooLarge);
                    return Responded::Nothing(error);
                }
            }
        }
        upstream.begin_receive(buffer);
    };

    // Taken apart: what is not needed to the end must not lie in the future until then.
    let until_close = matches!(head.body, BodyLength::UntilClose);
    let (upstream_keep_alive, keep_alive) =
        (head.upstream_keep_alive && !until_close, head.keep_alive);
    buffer.skip(head.head_bytes);
    let mut body = ResponseBody::new(head.body, head.chunked_to_client, scratch.info.grpc);
    let Ok(mut step) = body.take(&mut buffer) else {
        // Nothing has been sent: the client can still be told.
        flight.context.buffers.give(buffer);
        let error = ProxyError::UpstreamProtocol(ResponseError::ChunkedBody);
        return Responded::Nothing(error);
    };
    flight.progress.response_started.set(true);
    flight.downstream.attempt_unbounded();
    let info = &mut scratch.info;
    info.response_bytes += scratch.response.len() as u64;
    let timeout_ms = flight.context.progress_timeout_ms();
    let now = head.received_at;
    info.upstream_service_time_us =
        Some(now.saturating_duration_since(request_sent).as_micros() as u64);
    flight.downstream.send_until(flight.context.clock.milliseconds(now) + timeout_ms);
    if !buffer.prepend(&scratch.response) && !send_head(flight, scratch).await {
        flight.context.buffers.give(buffer);
        return client_gone(flight.downstream, scratch, &body);
    }
    loop {
        if !buffer.is_empty() {
            let (outcome, sent) = flight.downstream.stream.send(buffer).await;
            buffer = sent;
            let outcome = match outcome {
                Ok(count) if count == buffer.len() => {
                    buffer.clear();
                    Ok(())
                }
                Ok(count) => {
                    buffer.skip(count);
                    let (outcome, rest) = flight.downstream.stream.send_buffer(buffer).await;
                    buffer = rest;
                    outcome
                }
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                flight.context.buffers.give(buffer);
                return client_gone(flight.downstream, scratch, &body);
            }
        }
        if let Some(end) = step.behind
            && flight.downstream.stream.send_all(end).await.0.is_err()
        {
            flight.context.buffers.give(buffer);
            return client_gone(flight.downstream, scratch, &body);
        }
        if step.done {
            flight.downstream.send_until(u64::MAX);
            let reusable =
                upstream_keep_alive && !step.excess && flight.progress.request_done.get();
            body.record(scratch);
            finish_receive(flight.context, upstream, buffer, reusable);
            return Responded::Complete { upstream_reusable: reusable, keep_alive };
        }
        buffer = body.next_buffer(flight.context, buffer, flight.downstream.large_buffers);
        // The upstream may take as long as it likes; what it brings gets a whole deadline.
        flight.downstream.send_until(u64::MAX);
        let (outcome, received) = upstream.stream().receive(buffer).await;
        flight
            .downstream
            .send_until(flight.context.clock.milliseconds(Instant::now()) + timeout_ms);
        buffer = received;
        match outcome {
            Ok(count) if count > 0 => {}
            Ok(_) if body.ends_with_close() && !flight.downstream.timed_out() => body.closed(),
            Ok(_) | Err(_) => {
                flight.context.buffers.give(buffer);
                let flag = if flight.downstream.gone() {
                    ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION
                } else if flight.downstream.timed_out() {
                    scratch.info.details = "response_timeout";
                    ResponseFlags::UPSTREAM_REQUEST_TIMEOUT
                } else {
                    ResponseFlags::UPSTREAM_CONNECTION_TERMINATION
                };
                scratch.info.flags.insert(flag);
                return cut(flight.downstream, scratch, &body);
            }
        }
        step = match body.take(&mut buffer) {
            Ok(step) => step,
            Err(_) => {
                flight.context.buffers.give(buffer);
                scratch.info.flags.insert(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
                return cut(flight.downstream, scratch, &body);
            }
        };
    }
}

/// Did the endpoint refuse the stream (HTTP/2)?
fn is_refused(outcome: &std::io::Result<usize>) -> bool {
    matches!(outcome, Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn client_gone(downstream: &Downstream, scratch: &mut Scratch, body: &ResponseBody) -> Responded {
    let flag = if downstream.expired() {
        ResponseFlags::STREAM_IDLE_TIMEOUT
    } else {
        ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION
    };
    scratch.info.flags.insert(flag);
    scratch.info.details = "downstream_remote_disconnect";
    cut(downstream, scratch, body)
}

fn cut(downstream: &Downstream, scratch: &mut Scratch, body: &ResponseBody) -> Responded {
    downstream.send_until(u64::MAX);
    body.record(scratch);
    Responded::Cut
}

async fn send_head(flight: &InFlight<'_>, scratch: &mut Scratch) -> bool {
    let now_ms = flight.context.clock.coarse_milliseconds();
    flight.downstream.send_until(now_ms.saturating_add(flight.context.progress_timeout_ms()));
    flight.progress.sending.set(true);
    let bytes = std::mem::take(&mut scratch.response);
    let (outcome, bytes) = flight.downstream.stream.send_all(bytes).await;
    flight.progress.sending.set(false);
    flight.downstream.send_until(u64::MAX);
    scratch.response = bytes;
    outcome.is_ok()
}

/// Read a head at the start of `received` and write the client's into `Scratch::response`.
fn read_head(
    flight: &InFlight<'_>,
    received: &[u8],
    scratch: &mut Scratch,
    request_sent: Instant,
) -> Result<Head, ProxyError> {
    let mut storage = HeaderStorage::new();
    let parsed = match http1::parse_response(received, &mut storage, flight.plan.is_head) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(Head::Incomplete),
        Err(error) => return Err(ProxyError::UpstreamProtocol(error)),
    };
    let head_bytes = parsed.head_bytes;
    let status = parsed.head.status;
    if status == 101 {
        if !flight.plan.upgrade || parsed.upgrade.is_none() {
            return Err(ProxyError::UpstreamInterim);
        }
        write_head(
            flight.context,
            &parsed,
            flight.plan,
            Ending::Switching,
            None,
            &mut scratch.response,
        );
        scratch.info.response_code = status;
        scratch.info.details = "via_upstream";
        header_edits::edit_response(scratch, flight.downstream);
        return Ok(Head::Switching { head_bytes });
    }
    if status < 200 {
        let forward =
            flight.plan.version >= Version::Http11 && !flight.progress.response_started.get();
        if forward {
            write_head(
                flight.context,
                &parsed,
                flight.plan,
                Ending::Interim,
                None,
                &mut scratch.response,
            );
        }
        return Ok(Head::Interim { head_bytes, forward });
    }
    if flight.retries.take_instead_of(&parsed, flight.progress.can_repeat(), &mut scratch.info) {
        return Ok(Head::Retry(status));
    }
    flight.retries.settled();
    let unframed = matches!(parsed.body, BodyLength::Chunked | BodyLength::UntilClose);
    let chunked_to_client = unframed && flight.plan.version >= Version::Http11;
    let keep_alive = flight.plan.keep_alive
        && !flight.context.draining.get()
        && (!unframed || chunked_to_client)
        && (flight.progress.request_done.get() || status < 300);
    let ending = Ending::Final { keep_alive, chunked: chunked_to_client };
    let received_at = Instant::now();
    let service_time = received_at.saturating_duration_since(request_sent);
    let service_time_ms = service_time.as_millis() as u64;
    let grpc_status = write_head(
        flight.context,
        &parsed,
        flight.plan,
        ending,
        Some(service_time_ms),
        &mut scratch.response,
    );
    if scratch.info.grpc {
        scratch.info.grpc_status = grpc_status;
    }
    scratch.outlier_status = match grpc_status {
        Some(of_head) if scratch.info.grpc => http_status(of_head),
        _ => status,
    };
    scratch.info.response_code = status;
    scratch.info.details = "via_upstream";
    header_edits::edit_response(scratch, flight.downstream);
    Ok(Head::Final(FinalHead {
        head_bytes,
        body: parsed.body,
        upstream_keep_alive: parsed.keep_alive,
        keep_alive,
        chunked_to_client,
        received_at,
    }))
}

/// What stands at the end of a client's response head.
#[derive(Clone, Copy)]
enum Ending {
    Interim,
    Switching,
    Final { keep_alive: bool, chunked: bool },
}

/// Write the client's head from the upstream's: end-to-end fields in their order and case, then the
/// framing that we decided, then what the gateway says. Returns `grpc-status` if the head has it.
fn write_head(
    context: &WorkerContext,
    parsed: &ParsedResponse<'_>,
    plan: &Plan,
    ending: Ending,
    service_time_ms: Option<u64>,
    out: &mut Vec<u8>,
) -> Option<u8> {
    let head = &parsed.head;
    let mut has_date = false;
    let mut content_length: Option<&[u8]> = None;
    let mut grpc_status = None;
    out.clear();
    http1::encode::write_status_line(out, head.status, head.reason);
    for field in head.headers {
        match field.known {
            KnownHeader::ContentLength => content_length = Some(field.value),
            KnownHeader::TransferEncoding
            | KnownHeader::Connection
            | KnownHeader::KeepAlive
            | KnownHeader::ProxyConnection
            | KnownHeader::Upgrade
            | KnownHeader::XEnvoyUpstreamServiceTime
            | KnownHeader::XEnvoyPeerMetadata
            | KnownHeader::XEnvoyPeerMetadataId
            | KnownHeader::XEnvoyDecoratorOperation => {}
            KnownHeader::Server if !matches!(ending, Ending::Interim) => {}
            known => {
                if parsed.connection_nominated.contains(field)
                    || known == KnownHeader::Other && http1::is_proxy_field(field.name)
                {
                    continue;
                }
                match known {
                    KnownHeader::Date => has_date = true,
                    KnownHeader::GrpcStatus => {
                        grpc_status = grpc::status(field.value);
                    }
                    _ => {}
                }
                write_field(out, field.name, field.value);
            }
        }
    }
    match ending {
        Ending::Interim => {}
        Ending::Switching => {
            out.extend_from_slice(b"connection: upgrade\r\n");
            if let Some(protocol) = parsed.upgrade {
                write_field(out, b"upgrade", protocol);
            }
            write_field(out, b"server", SERVER);
        }
        Ending::Final { keep_alive, chunked } => {
            match parsed.body {
                BodyLength::Fixed(length) => write_number(out, b"content-length", length),
                BodyLength::Chunked | BodyLength::UntilClose if chunked => {
                    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                }
                BodyLength::Chunked | BodyLength::UntilClose => {}
                // The length of what a GET would have brought (HEAD, 304), or of no body.
                BodyLength::Empty => {
                    if head.status != 204
                        && let Some(value) = content_length
                    {
                        write_field(out, b"content-length", value);
                    }
                }
            }
            write_field(out, b"server", SERVER);
            if let Some(milliseconds) = service_time_ms {
                write_number(out, b"x-envoy-upstream-service-time", milliseconds);
            }
            if !has_date {
                write_field(out, b"date", &context.clock.date());
            }
            match (keep_alive, plan.version) {
                (false, _) => out.extend_from_slice(b"connection: close\r\n"),
                (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
                (true, _) => {}
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    grpc_status
}

#[cfg(test)]
mod tests;
