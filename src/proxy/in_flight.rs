//! What the parts of one forwarded request share.

use std::rc::Rc;

use super::context::{Replica, WorkerContext};
use super::downstream::Downstream;
use super::error::ProxyError;
use super::mirror::Copies;
use super::receiver::Receiver;
use super::recording::Recording;
use super::request::Plan;
use super::request_body::{self, Progress, Pumped, RequestBody};
use super::retry::Retries;
use super::scratch::Scratch;
use crate::net::{Buffer, PooledFuture, Stream};

/// A body that is streaming.
pub type Pump<'p> = PooledFuture<'p, Pumped>;

/// A request that is on its way upstream, or its response on its way back.
pub struct InFlight<'f> {
    /// The worker.
    pub context: &'f Rc<WorkerContext>,
    /// Whose request it is.
    pub downstream: &'f Downstream,
    /// The configuration that it began with.
    pub replica: &'f Rc<Replica>,
    /// What was made of its head.
    pub plan: &'f Plan,
    /// How far it has come.
    pub progress: Progress,
    /// The retries that it may take.
    pub retries: Retries<'f>,
    /// The copies that are wanted of it.
    pub copies: Copies<'f>,
}

impl InFlight<'_> {
    /// What came with the head is in `Scratch::request`, `rest` is yet to come: send the copies, or keep
    /// what follows if they or a retry may want it. `http2`: the endpoints speak HTTP/2.
    pub fn begin(&self, rest: Option<&RequestBody>, scratch: &Scratch, http2: bool) {
        let copies = self.copies.are_due();
        if self.progress.request_done.get() {
            if copies {
                self.send_copies(&scratch.request);
            }
        } else if let Some(rest) = rest
            && (copies || self.retries.want_the_body(scratch.info.grpc, http2))
        {
            let first_piece = if copies { &*scratch.request } else { &[] };
            let recording = || Box::new(Recording::new(rest, first_piece));
            self.progress.recording.get_or_init(recording);
        }
    }

    /// Stream the rest of the body to `upstream`.
    pub async fn pump(&self, upstream: Stream, rest: RequestBody, input: Buffer) -> Pumped {
        let progress = &self.progress;
        request_body::pump(self.context, self.downstream, upstream, rest, input, progress).await
    }

    /// All of the body has come: the copies can go.
    pub fn body_is_complete(&self) {
        let recording = self.progress.recording.get().filter(|_| self.copies.are_due());
        if let Some(copy) = recording.and_then(|recording| recording.copy()) {
            self.send_copies(&copy);
        }
    }

    fn send_copies(&self, request: &[u8]) {
        let (is_head, by_http2) = (self.plan.is_head, self.downstream.http2);
        self.copies.send(self.context, self.replica, request, is_head, by_http2);
    }

    /// Make the request ready to be sent again: what was streamed of its body is put behind its first
    /// piece, after the rest of it has come.
    ///
    /// # Errors
    /// The client failed, or the body turned out to be longer than what is kept.
    pub async fn repeat(
        &self,
        receiver: &mut Receiver,
        scratch: &mut Scratch,
        body: &mut Option<RequestBody>,
        pump: &mut Option<Pump<'_>>,
    ) -> Result<(), ProxyError> {
        if let Some(pump) = pump.take() {
            match pump.await {
                Pumped::Done(input) => {
                    receiver.input = Some(input);
                    self.body_is_complete();
                }
                Pumped::Client(error) => return Err(error),
                Pumped::UpstreamGone => return Err(ProxyError::UpstreamClosed),
            }
        }
        if body.is_none() {
            let recording = self.progress.recording.get();
            if !recording.is_some_and(|recording| recording.append_to(&mut scratch.request)) {
                return Err(ProxyError::UpstreamClosed);
            }
            *body = Some(RequestBody::Done);
        }
        self.progress.detached.set(false);
        Ok(())
    }
}
