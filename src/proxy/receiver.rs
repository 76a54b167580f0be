//! What a client's bytes are received into.

use super::context::WorkerContext;
use crate::net::Buffer;

/// What a connection receives into, and the idle buffer while a larger one took its place.
pub struct Receiver {
    /// `None` only while a body is streamed.
    pub input: Option<Buffer>,
    idle: Option<Buffer>,
}

impl Receiver {
    /// Receive on behind `received`.
    pub fn new(received: Buffer) -> Receiver {
        Receiver { input: Some(received), idle: None }
    }

    /// The connection's idle buffer; the larger one goes back to the pool.
    pub fn into_idle(self, context: &WorkerContext) -> Buffer {
        match (self.idle, self.input) {
            (Some(idle), Some(input)) => {
                context.buffers.give(input);
                idle
            }
            (Some(idle), None) => idle,
            (None, Some(input)) if input.is_idle_size() => input,
            (None, _) => Buffer::idle(),
        }
    }

    /// Go on in a larger buffer. False: there is none, the input is full.
    pub fn grow(&mut self, context: &WorkerContext) -> bool {
        let Some(input) = self.input.take() else { return false };
        match context.buffers.grow(input) {
            Ok((larger, idle)) => {
                self.input = Some(larger);
                if idle.is_some() {
                    self.idle = idle;
                }
                true
            }
            Err(same) => {
                self.input = Some(same);
                false
            }
        }
    }
}
