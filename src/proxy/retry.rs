//! Whether a request is sent again, and how long it and its attempts may take.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::context::WorkerContext;
use super::downstream::Downstream;
use super::error::ProxyError;
use crate::http::KnownHeader;
use crate::http1::ParsedResponse;
use crate::snapshot::{AttemptFailure, RetryPolicy};
use crate::stream_info::{ResponseFlags, StreamInfo};
use crate::upstream::{Counted, Limiter};

/// The retries of a request.
pub struct Retries<'p> {
    context: &'p WorkerContext,
    policy: &'p RetryPolicy,
    /// The limits of the cluster, if it has any.
    limiter: Option<&'p Limiter>,
    /// A retry is under way, and counted among those of the cluster.
    under_way: Cell<bool>,
    left: Cell<u32>,
    /// All of the request came with its head.
    resendable: bool,
    /// Milliseconds for the whole request; `u64::MAX`: no bound.
    timeout_ms: u64,
}

impl<'p> Retries<'p> {
    /// None taken yet.
    pub fn new(
        context: &'p WorkerContext,
        policy: &'p RetryPolicy,
        limiter: Option<&'p Limiter>,
        resendable: bool,
        timeout_ms: Option<u64>,
    ) -> Self {
        let left = Cell::new(policy.attempts);
        let under_way = Cell::new(false);
        let timeout_ms = timeout_ms.unwrap_or(u64::MAX);
        Retries { context, policy, limiter, under_way, left, resendable, timeout_ms }
    }

    /// Can a retry want a body of which a part was streamed? `http2`: to an endpoint that speaks HTTP/2.
    pub fn want_the_body(&self, grpc: bool, http2: bool) -> bool {
        self.policy.wants_after_request(grpc, http2)
    }

    /// Are endpoints that were tried avoided? A hash would lead elsewhere then.
    pub fn avoids_tried(&self, hash: Option<u64>) -> bool {
        self.policy.avoids_tried.unwrap_or(hash.is_none())
    }

    /// Are other localities preferred to those that were tried?
    pub fn goes_elsewhere(&self) -> bool {
        self.policy.remote_localities
    }

    /// The request is complete and an attempt begins (again): bound both. What is bound already keeps
    /// its bound.
    pub fn bound(&self, connection: &Downstream, now: Instant) {
        if self.timeout_ms == u64::MAX && self.policy.per_try_timeout_ms.is_none() {
            return;
        }
        // The clock's milliseconds are cut off: one more, so that nothing ends early.
        let now_ms = self.context.clock.milliseconds(now) + 1;
        let until = |limit_ms: u64| now_ms.saturating_add(limit_ms);
        let request_ms = match connection.request_deadline_ms() {
            u64::MAX => until(self.timeout_ms),
            bound => bound,
        };
        let attempt_ms = until(self.policy.per_try_timeout_ms.unwrap_or(u64::MAX));
        self.context.downstreams.bound(connection, request_ms, attempt_ms);
    }

    /// How long the attempt may take to connect.
    pub fn connect_limit(&self, connection: &Downstream) -> Duration {
        left(self.context, connection)
            .min(self.policy.per_try_timeout_ms.map_or(Duration::MAX, Duration::from_millis))
    }

    /// What an error was really: the time may have been up.
    pub fn explain(&self, connection: &Downstream, error: ProxyError) -> ProxyError {
        if connection.gone() {
            // What was done for it was ended by us.
            return ProxyError::DownstreamGone;
        }
        let connecting = error == ProxyError::UpstreamConnectTimeout;
        if !connection.timed_out() && !connecting || error == ProxyError::DownstreamGone {
            return error;
        }
        if left(self.context, connection).is_zero() {
            ProxyError::RequestTimeout
        } else if connection.timed_out() {
            ProxyError::PerTryTimeout
        } else {
            error
        }
    }

    /// Take a retry after an attempt that ended with `error`, if one is wanted and left.
    /// `at_hand`: the request can be sent again.
    pub fn take_after(
        &self,
        error: ProxyError,
        nothing_sent: bool,
        at_hand: bool,
        info: &mut StreamInfo,
    ) -> bool {
        let failure = match error {
            ProxyError::UpstreamConnect | ProxyError::UpstreamConnectTimeout => {
                AttemptFailure::Connect
            }
            ProxyError::UpstreamRefused => AttemptFailure::Refused,
            ProxyError::UpstreamClosed if nothing_sent => AttemptFailure::BeforeRequest,
            ProxyError::UpstreamClosed
            | ProxyError::UpstreamTruncated
            | ProxyError::UpstreamProtocol(_)
            | ProxyError::UpstreamInterim
            | ProxyError::PerTryTimeout => AttemptFailure::Reset,
            _ => return false,
        };
        self.policy.wants_after(failure) && self.take(at_hand, info)
    }

    /// Take a retry instead of this response, if one is wanted and left.
    /// `repeatable`: what was streamed of the body can be sent again.
    pub fn take_instead_of(
        &self,
        response: &ParsedResponse<'_>,
        repeatable: bool,
        info: &mut StreamInfo,
    ) -> bool {
        let at_hand = self.resendable || repeatable;
        let status = response.head.status;
        // Most responses are not looked at any closer.
        if status < 400 && !info.grpc {
            return self.policy.wants_instead_of(status, None, false) && self.take(at_hand, info);
        }
        let mut grpc_status = None;
        let mut rate_limited = false;
        for field in response.head.headers {
            if field.known == KnownHeader::GrpcStatus {
                grpc_status =
                    std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            }
            rate_limited |= field.name.eq_ignore_ascii_case(b"x-envoy-ratelimited");
        }
        self.policy.wants_instead_of(status, grpc_status, rate_limited) && self.take(at_hand, info)
    }

    fn take(&self, at_hand: bool, info: &mut StreamInfo) -> bool {
        let left = self.left.get();
        if left == 0 {
            if self.policy.attempts > 0 {
                info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
            }
            return false;
        }
        // The retry before, if there was one, is over.
        self.settled();
        if !at_hand {
            return false;
        }
        if let Some(limiter) = self.limiter {
            if !limiter.count(Counted::Retry) {
                self.context.count(|counters, _| counters.upstream_retry_overflows += 1);
                return false;
            }
            self.under_way.set(true);
        }
        self.left.set(left - 1);
        true
    }

    /// A response goes to the client: no retry is under way any more.
    pub fn settled(&self) {
        if self.under_way.take()
            && let Some(limiter) = self.limiter
        {
            limiter.give_back(Counted::Retry);
        }
    }

    /// Wait a random part of the interval of the retry that was just taken (Envoy: up to
    /// `(2^n - 1) * base`, at most ten times the base).
    ///
    /// # Errors
    /// The request's time is up before, or the client is gone.
    pub async fn back_off(&self, connection: &Downstream) -> Result<(), ProxyError> {
        let retry = self.policy.attempts - self.left.get();
        let base_ms = self.policy.back_off_ms;
        let longest_ms = base_ms.saturating_mul((1u64 << retry.min(10)) - 1);
        let longest_ms = longest_ms.min(base_ms.saturating_mul(10)).max(1);
        let wait = Duration::from_millis(self.context.random.borrow_mut().u64(..longest_ms));
        // Boxed: a timer is large, and the rare retry must not enlarge every exchange.
        let mut waiting = Box::pin(crate::net::sleep(wait.min(left(self.context, connection))));
        if connection.unless_gone(waiting.as_mut()).await.is_none() {
            return Err(ProxyError::DownstreamGone);
        }
        if left(self.context, connection).is_zero() {
            return Err(ProxyError::RequestTimeout);
        }
        Ok(())
    }
}

impl Drop for Retries<'_> {
    fn drop(&mut self) {
        self.settled();
    }
}

/// What is left of the request's time.
fn left(context: &WorkerContext, connection: &Downstream) -> Duration {
    match connection.request_deadline_ms() {
        u64::MAX => Duration::MAX,
        bound_ms => Duration::from_millis(
            bound_ms.saturating_sub(context.clock.milliseconds(Instant::now())),
        ),
    }
}
