//! The response body on its way down: of every length that an upstream may use, framed anew for the
//! client where that is needed.

use super::context::WorkerContext;
use super::request_body::frame_chunk;
use super::scratch::Scratch;
use crate::http::BodyLength;
use crate::http::grpc::{self, MessageCounter};
use crate::http1::{ChunkError, ChunkedDecoder};
use crate::net::Buffer;
use crate::upstream::Connection;

/// From this many remaining bytes on a large buffer pays.
const LARGE_BODY_BYTES: u64 = 64 * 1024;

/// The body behind a final head: what the upstream sends, turned into what the client gets.
pub struct ResponseBody {
    from: From,
    chunked_to_client: bool,
    closed: bool,
    body_bytes: u64,
    wire_bytes: u64,
    /// Boxed: others must not carry it.
    grpc: Option<Box<GrpcResponse>>,
}

/// What is seen of a gRPC response.
#[derive(Default)]
struct GrpcResponse {
    messages: MessageCounter,
    /// The status in its trailers.
    status: Option<u8>,
}

enum From {
    Fixed(u64),
    Chunked(ChunkedDecoder),
    Close,
}

/// What taking received bytes came to.
pub struct Step {
    /// The response is complete with what this step leaves in the buffer.
    pub done: bool,
    /// The upstream sent more than its response: its connection cannot be used again.
    pub excess: bool,
    /// Bytes that must follow the buffer.
    pub behind: Option<Vec<u8>>,
}

impl ResponseBody {
    /// A body of this length, of which nothing has come; does the client get it in chunks, and is it of
    /// gRPC?
    pub fn new(length: BodyLength, chunked_to_client: bool, grpc: bool) -> ResponseBody {
        let from = match length {
            BodyLength::Empty => From::Fixed(0),
            BodyLength::Fixed(length) => From::Fixed(length),
            BodyLength::Chunked => From::Chunked(ChunkedDecoder::new()),
            BodyLength::UntilClose => From::Close,
        };
        ResponseBody {
            from,
            chunked_to_client,
            closed: false,
            body_bytes: 0,
            wire_bytes: 0,
            grpc: grpc.then(Box::default),
        }
    }

    /// Turn the received bytes in `buffer` into what is to be sent. An error: they are malformed.
    pub fn take(&mut self, buffer: &mut Buffer) -> Result<Step, ChunkError> {
        let mut step = Step { done: false, excess: false, behind: None };
        match &mut self.from {
            From::Fixed(remaining) => {
                let here = (buffer.len() as u64).min(*remaining);
                step.excess = buffer.len() as u64 > here;
                buffer.truncate(here as usize);
                *remaining -= here;
                self.body_bytes += here;
                if let Some(seen) = &mut self.grpc {
                    seen.messages.add(buffer);
                }
                step.done = *remaining == 0;
            }
            From::Chunked(decoder) => {
                let decoded = decoder.decode(buffer)?;
                step.done = decoded.done;
                step.excess = decoded.consumed < buffer.len();
                buffer.truncate(decoded.payload);
                self.body_bytes += decoded.payload as u64;
                if let Some(seen) = &mut self.grpc {
                    seen.messages.add(buffer);
                    seen.status = grpc::status_in_trailers(decoder.trailers());
                }
                if self.chunked_to_client {
                    let last = decoded.done.then(|| decoder.trailers());
                    step.behind = frame_chunk(buffer, last);
                }
            }
            From::Close => {
                self.body_bytes += buffer.len() as u64;
                if let Some(seen) = &mut self.grpc {
                    seen.messages.add(buffer);
                }
                step.done = self.closed;
                if self.chunked_to_client {
                    let last: Option<&[u8]> = self.closed.then_some(&[]);
                    step.behind = frame_chunk(buffer, last);
                }
            }
        }
        self.wire_bytes += (buffer.len() + step.behind.as_ref().map_or(0, Vec::len)) as u64;
        Ok(step)
    }

    /// The buffer for the next receive: a large one while much is to come, if it may be large.
    pub fn next_buffer(
        &self,
        context: &WorkerContext,
        mut buffer: Buffer,
        may_be_large: bool,
    ) -> Buffer {
        let wants_large = may_be_large
            && match &self.from {
                From::Fixed(remaining) => *remaining >= LARGE_BODY_BYTES,
                From::Chunked(_) | From::Close => self.body_bytes >= LARGE_BODY_BYTES,
            };
        if wants_large && buffer.capacity() < crate::limits::LARGE_BUFFER_BYTES {
            context.buffers.give(buffer);
            buffer = context.buffers.take_large();
        }
        buffer.clear();
        buffer
    }

    /// Does it last until the upstream closes?
    pub fn ends_with_close(&self) -> bool {
        matches!(self.from, From::Close)
    }

    /// The upstream has closed.
    pub fn closed(&mut self) {
        self.closed = true;
    }

    /// Note the bytes so far.
    pub fn record(&self, scratch: &mut Scratch) {
        scratch.info.response_body_bytes = self.body_bytes;
        scratch.info.response_bytes += self.wire_bytes;
        if let Some(seen) = &self.grpc {
            scratch.info.response_messages = seen.messages.count();
            scratch.info.grpc_status = scratch.info.grpc_status.or(seen.status);
        }
    }
}

/// Give the buffer back, or to the upstream connection for its next response.
pub fn finish_receive(
    context: &WorkerContext,
    upstream: &mut Connection,
    mut buffer: Buffer,
    reusable: bool,
) {
    if !reusable {
        context.buffers.give(buffer);
        return;
    }
    if buffer.capacity() != crate::limits::BUFFER_BYTES {
        context.buffers.give(buffer);
        buffer = context.buffers.take();
    }
    buffer.clear();
    upstream.begin_receive(buffer);
}
