//! The request body on its way up: what came with the head, then the rest, streamed with one buffer
//! so that a slow upstream slows the client down.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use super::context::WorkerContext;
use super::downstream::{Downstream, Phase};
use super::error::ProxyError;
use super::recording::Recording;
use crate::http::BodyLength;
use crate::http::grpc::MessageCounter;
use crate::http1::chunked::{ChunkedDecoder, write_chunk_head, write_last_chunk};
use crate::limits::LARGE_BUFFER_BYTES;
use crate::net::{Buffer, Stream};

/// From this many bytes on a large buffer pays.
const LARGE_BODY_BYTES: u64 = 64 * 1024;
/// Bytes of a last chunk without trailers.
const LAST_CHUNK_FRAME_BYTES: usize = 5;

/// What of a request's body is still to come.
pub enum RequestBody {
    /// Nothing.
    Done,
    /// This many bytes.
    Fixed(u64),
    /// More chunks.
    Chunked(ChunkedDecoder),
}

/// How far a request has come, seen from the response's side.
#[derive(Default)]
pub struct Progress {
    /// The whole request has been sent upstream.
    pub request_done: Cell<bool>,
    /// Body bytes so far.
    pub body_bytes: Cell<u64>,
    /// Wire bytes of the body so far.
    pub wire_bytes: Cell<u64>,
    /// The messages of the body so far, of a gRPC request. Boxed: other requests must not carry it.
    messages: Option<Box<Cell<MessageCounter>>>,
    /// The client has been sent the final head.
    pub response_started: Cell<bool>,
    /// The client is being sent an interim head, perhaps a part of it already.
    pub sending: Cell<bool>,
    /// The attempt is over: what is left of the body is only recorded.
    pub detached: Cell<bool>,
    /// What was sent behind the first piece, if that is wanted.
    pub recording: OnceCell<Box<Recording>>,
}

impl Progress {
    /// That of a request of which nothing was sent.
    pub fn new(grpc: bool) -> Progress {
        let messages = grpc.then(Box::default);
        Progress { messages, ..Progress::default() }
    }

    /// These bytes of the body go upstream.
    #[inline]
    fn count_messages(&self, payload: &[u8]) {
        if let Some(counter) = &self.messages {
            let mut messages = counter.get();
            messages.add(payload);
            counter.set(messages);
        }
    }

    /// Messages so far; 0 of what is not gRPC.
    pub fn messages(&self) -> u64 {
        self.messages.as_ref().map_or(0, |counter| counter.get().count())
    }

    /// Can a body be sent again of which a part was streamed?
    pub fn can_repeat(&self) -> bool {
        self.recording.get().is_some_and(|recording| recording.can_repeat())
    }
}

/// How sending the body ended.
pub enum Pumped {
    /// All of it is upstream; the buffer holds what the client sent after it.
    Done(Buffer),
    /// The upstream takes no more; its response may still come.
    UpstreamGone,
    /// The client failed.
    Client(ProxyError),
}

/// Move the body bytes that `input` already holds into `out`, behind the upstream head.
pub fn begin(
    length: BodyLength,
    input: &mut Buffer,
    out: &mut Vec<u8>,
    progress: &Progress,
) -> Result<RequestBody, ProxyError> {
    let mut body = match length {
        BodyLength::Empty | BodyLength::UntilClose => RequestBody::Done,
        BodyLength::Fixed(length) => RequestBody::Fixed(length),
        BodyLength::Chunked => RequestBody::Chunked(ChunkedDecoder::new()),
    };
    match &mut body {
        RequestBody::Done => {}
        RequestBody::Fixed(remaining) => {
            let here = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
            out.extend_from_slice(&input[..here]);
            progress.count_messages(&input[..here]);
            input.advance(here);
            *remaining -= here as u64;
            add(&progress.body_bytes, here);
            add(&progress.wire_bytes, here);
            if *remaining == 0 {
                body = RequestBody::Done;
            }
        }
        RequestBody::Chunked(decoder) => {
            if !input.is_empty() {
                let decoded = decoder.decode(input).map_err(|_| ProxyError::RequestBody)?;
                write_chunk(out, &input[..decoded.payload]);
                progress.count_messages(&input[..decoded.payload]);
                add(&progress.body_bytes, decoded.payload);
                add(&progress.wire_bytes, decoded.consumed);
                if decoded.done {
                    write_last_chunk(out, decoder.trailers());
                    body = RequestBody::Done;
                }
                input.advance(decoded.consumed);
            }
        }
    }
    progress.request_done.set(matches!(body, RequestBody::Done));
    Ok(body)
}

fn add(counter: &Cell<u64>, bytes: usize) {
    counter.set(counter.get() + bytes as u64);
}

fn write_chunk(out: &mut Vec<u8>, payload: &[u8]) {
    if payload.is_empty() {
        return;
    }
    let mut line = [0; 18];
    let from = write_chunk_head(&mut line, payload.len());
    out.extend_from_slice(&line[from..]);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Wrap the window of `buffer`, decoded payload, as one chunk; with `last`, end the body. What does
/// not fit into the buffer's tailroom (long trailers) is returned, to be sent behind it.
pub fn frame_chunk(buffer: &mut Buffer, last: Option<&[u8]>) -> Option<Vec<u8>> {
    if !buffer.is_empty() {
        let mut line = [0; 18];
        let from = write_chunk_head(&mut line, buffer.len());
        // Headroom and tailroom are kept for exactly this.
        let framed = buffer.prepend(&line[from..]) && buffer.append(b"\r\n");
        debug_assert!(framed, "a receive leaves room for the chunk's frame");
    }
    let trailers = last?;
    if buffer.spare() >= LAST_CHUNK_FRAME_BYTES + trailers.len() {
        let framed = buffer.append(b"0\r\n") && buffer.append(trailers) && buffer.append(b"\r\n");
        debug_assert!(framed, "there was room for it");
        return None;
    }
    let mut end = Vec::new();
    write_last_chunk(&mut end, trailers);
    Some(end)
}

/// Stream the rest of the body from the client to the upstream. `input` is what the client's
/// connection receives into between requests; it is empty.
pub async fn pump(
    context: &WorkerContext,
    downstream: &Downstream,
    upstream: Stream,
    mut body: RequestBody,
    mut input: Buffer,
    progress: &Progress,
) -> Pumped {
    let timeout = Duration::from_millis(context.progress_timeout_ms());
    let large = matches!(body, RequestBody::Fixed(length) if length >= LARGE_BODY_BYTES);
    let mut work = if large { context.buffers.take_large() } else { context.buffers.take() };
    loop {
        if matches!(body, RequestBody::Done) {
            progress.request_done.set(true);
            context.buffers.give(work);
            downstream.wait_unbounded(Phase::Upstream);
            return Pumped::Done(input);
        }
        if let RequestBody::Fixed(remaining) = body {
            work.limit_receive(remaining);
        }
        let now_ms = context.clock.milliseconds(Instant::now());
        downstream.wait(Phase::RequestBody, now_ms + context.progress_timeout_ms());
        let (outcome, received) = downstream.stream.receive(work).await;
        work = received;
        downstream.wait_unbounded(Phase::Upstream);
        match outcome {
            Ok(0) if downstream.expired() => {
                return Pumped::Client(ProxyError::RequestBodyTimeout);
            }
            Ok(0) | Err(_) => return Pumped::Client(ProxyError::DownstreamGone),
            Ok(count) => add(&progress.wire_bytes, count),
        }
        let mut behind = None;
        match &mut body {
            RequestBody::Done => {}
            RequestBody::Fixed(remaining) => {
                *remaining = remaining.saturating_sub(work.len() as u64);
                add(&progress.body_bytes, work.len());
                progress.count_messages(&work);
                if *remaining == 0 {
                    body = RequestBody::Done;
                }
            }
            RequestBody::Chunked(decoder) => {
                let Ok(decoded) = decoder.decode(&mut work) else {
                    return Pumped::Client(ProxyError::RequestBody);
                };
                add(&progress.body_bytes, decoded.payload);
                if decoded.consumed < work.len() {
                    // The next request came along: it goes where the connection receives into.
                    let next = &work[decoded.consumed..];
                    if !input.append(next) {
                        match context.buffers.grow(input) {
                            Ok((larger, _)) => input = larger,
                            Err(same) => input = same,
                        }
                        if !input.append(next) {
                            let mut larger = context.buffers.take_large();
                            larger.append(&input);
                            larger.append(next);
                            input = larger;
                        }
                    }
                }
                work.truncate(decoded.payload);
                progress.count_messages(&work);
                let last = decoded.done.then(|| decoder.trailers());
                behind = frame_chunk(&mut work, last);
                if decoded.done {
                    body = RequestBody::Done;
                }
            }
        }
        if let Some(recording) = progress.recording.get() {
            recording.add(&work);
            recording.add(behind.as_deref().unwrap_or_default());
            if matches!(body, RequestBody::Done) {
                recording.finish();
            }
        }
        if progress.detached.get() {
            work.clear();
            continue;
        }
        let sending = async {
            let (outcome, sent) = upstream.send_buffer(work).await;
            let outcome = match (outcome, behind) {
                (Ok(()), Some(end)) => upstream.send_all(end).await.0.map_err(|(error, _)| error),
                (outcome, _) => outcome,
            };
            (outcome, sent)
        };
        match crate::net::within(timeout, sending).await {
            Some((Ok(()), sent)) => work = sent,
            // What is left of it may still be wanted by another attempt.
            Some((Err(_), mut sent)) if progress.can_repeat() => {
                progress.detached.set(true);
                sent.clear();
                work = sent;
            }
            Some((Err(_), _)) => return Pumped::UpstreamGone,
            None => {
                // It takes nothing and, for want of the rest, may never answer: end the wait for
                // its response too.
                upstream.shutdown(std::net::Shutdown::Both);
                return Pumped::UpstreamGone;
            }
        }
    }
}

const _: () = assert!(LARGE_BODY_BYTES <= LARGE_BUFFER_BYTES as u64);
