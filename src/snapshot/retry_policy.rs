//! When a request is tried again: the conditions of Envoy's retry policies.

/// When a request is tried again (Istio's `retries`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub attempts: u32,
    /// Most time from the end of the request to the response head of one attempt, ms.
    pub per_try_timeout_ms: Option<u64>,
    /// The conditions.
    pub on: RetryConditions,
    /// Statuses, for [`RetryConditions::STATUS_CODES`].
    pub status_codes: Box<[u16]>,
    /// Base of the wait before a retry, ms (Envoy's `retry_back_off.base_interval`).
    pub back_off_ms: u64,
    /// Are endpoints that were tried avoided? Unset: unless a consistent hash picks.
    pub avoids_tried: Option<bool>,
    /// Are localities that were not tried preferred?
    pub remote_localities: bool,
}

impl Default for RetryPolicy {
    /// Istio's policy for routes without one.
    fn default() -> Self {
        RetryPolicy {
            attempts: crate::limits::DEFAULT_RETRIES,
            per_try_timeout_ms: None,
            on: RetryConditions::DEFAULT,
            status_codes: Box::default(),
            back_off_ms: 25,
            avoids_tried: None,
            remote_localities: false,
        }
    }
}

/// Conditions of a retry: a set of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryConditions(u16);

macro_rules! retry_conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl RetryConditions {
            $($(#[$doc])* pub const $name: RetryConditions = RetryConditions(1 << $bit);)*

            /// The names of the conditions in the set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((RetryConditions::$name, $text)),*]
                    .into_iter()
                    .filter(move |(condition, _)| self.has_any(&[*condition]))
                    .map(|(_, name)| name)
            }

            /// The condition of this name.
            pub fn named(name: &str) -> Option<RetryConditions> {
                match name {
                    $($text => Some(RetryConditions::$name),)*
                    _ => None,
                }
            }
        }
    };
}

retry_conditions! {
    /// Any 5xx, or no response.
    SERVER_ERROR = 0, "5xx";
    /// 502, 503, 504, or no response.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No response.
    RESET = 2, "reset";
    /// No response, and nothing of the request was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// No connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// 409.
    RETRIABLE_4XX = 5, "retriable-4xx";
    /// The upstream refused the stream (HTTP/2).
    REFUSED_STREAM = 6, "refused-stream";
    /// One of the policy's statuses.
    STATUS_CODES = 7, "retriable-status-codes";
    /// Fields that Istio has no way to name.
    HEADERS = 8, "retriable-headers";
    /// A response with `x-envoy-ratelimited`.
    RATE_LIMITED = 9, "envoy-ratelimited";
    /// Of HTTP/3 only.
    HTTP3 = 10, "http3-post-connect-failure";
    /// gRPC status 1.
    CANCELLED = 11, "cancelled";
    /// gRPC status 4.
    DEADLINE_EXCEEDED = 12, "deadline-exceeded";
    /// gRPC status 13.
    INTERNAL = 13, "internal";
    /// gRPC status 8.
    RESOURCE_EXHAUSTED = 14, "resource-exhausted";
    /// gRPC status 14.
    UNAVAILABLE = 15, "unavailable";
}

impl RetryConditions {
    /// Istio's, when a policy names none.
    pub const DEFAULT: RetryConditions = RetryConditions(
        Self::CONNECT_FAILURE.0
            | Self::REFUSED_STREAM.0
            | Self::UNAVAILABLE.0
            | Self::CANCELLED.0
            | Self::STATUS_CODES.0,
    );

    /// Add the conditions of `other`.
    pub fn insert(&mut self, other: RetryConditions) {
        self.0 |= other.0;
    }

    /// Is one of these in the set?
    #[inline]
    pub fn has_any(self, others: &[RetryConditions]) -> bool {
        others.iter().any(|other| self.0 & other.0 != 0)
    }
}

/// Why an attempt brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// There was no connection.
    Connect,
    /// It ended before anything of the request was sent.
    BeforeRequest,
    /// The endpoint refused its stream: nothing of it was done.
    Refused,
    /// It ended, or took longer than an attempt may.
    Reset,
}

impl RetryPolicy {
    /// Can a request be tried again after an endpoint has taken it? `grpc`: it is a gRPC request.
    /// `http2`: the endpoint speaks HTTP/2, and may refuse a stream of which a part was sent.
    pub fn wants_after_request(&self, grpc: bool, http2: bool) -> bool {
        use RetryConditions as On;
        let on = |conditions: &[On]| self.on.has_any(conditions);
        self.attempts > 0
            && (on(&[
                On::SERVER_ERROR,
                On::GATEWAY_ERROR,
                On::RESET,
                On::RETRIABLE_4XX,
                On::RATE_LIMITED,
            ]) || on(&[On::STATUS_CODES]) && !self.status_codes.is_empty()
                || http2 && on(&[On::REFUSED_STREAM])
                || grpc
                    && on(&[
                        On::CANCELLED,
                        On::DEADLINE_EXCEEDED,
                        On::INTERNAL,
                        On::RESOURCE_EXHAUSTED,
                        On::UNAVAILABLE,
                    ]))
    }

    /// Is an attempt that failed like this worth another?
    pub fn wants_after(&self, failure: AttemptFailure) -> bool {
        use RetryConditions as On;
        let anyhow = self.on.has_any(&[On::SERVER_ERROR, On::GATEWAY_ERROR, On::RESET]);
        anyhow
            || match failure {
                AttemptFailure::Connect => {
                    self.on.has_any(&[On::CONNECT_FAILURE, On::RESET_BEFORE_REQUEST])
                }
                AttemptFailure::BeforeRequest => self.on.has_any(&[On::RESET_BEFORE_REQUEST]),
                AttemptFailure::Refused => self.on.has_any(&[On::REFUSED_STREAM]),
                AttemptFailure::Reset => false,
            }
    }

    /// Is a response worth another attempt? `grpc_status` is that of its head, `rate_limited` whether it
    /// has `x-envoy-ratelimited`.
    pub fn wants_instead_of(
        &self,
        status: u16,
        grpc_status: Option<u8>,
        rate_limited: bool,
    ) -> bool {
        use RetryConditions as On;
        if rate_limited {
            return self.on.has_any(&[On::RATE_LIMITED]);
        }
        let by_grpc_status = match grpc_status {
            Some(1) => self.on.has_any(&[On::CANCELLED]),
            Some(4) => self.on.has_any(&[On::DEADLINE_EXCEEDED]),
            Some(8) => self.on.has_any(&[On::RESOURCE_EXHAUSTED]),
            Some(13) => self.on.has_any(&[On::INTERNAL]),
            Some(14) => self.on.has_any(&[On::UNAVAILABLE]),
            _ => false,
        };
        let by_status = match status {
            409 => self.on.has_any(&[On::RETRIABLE_4XX]),
            502..=504 => self.on.has_any(&[On::SERVER_ERROR, On::GATEWAY_ERROR]),
            500..=599 => self.on.has_any(&[On::SERVER_ERROR]),
            _ => false,
        };
        by_grpc_status
            || by_status
            || self.on.has_any(&[On::STATUS_CODES]) && self.status_codes.contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_and_failures_are_weighed() {
        let policy = |names: &[&str], codes: &[u16]| {
            let mut on = RetryConditions::default();
            for name in names {
                on.insert(RetryConditions::named(name).expect("known"));
            }
            RetryPolicy { on, status_codes: codes.into(), ..RetryPolicy::default() }
        };
        let default = RetryPolicy::default();
        assert!(default.wants_after(AttemptFailure::Connect));
        assert!(!default.wants_after(AttemptFailure::Reset));
        assert!(!default.wants_instead_of(503, None, false));
        assert!(default.wants_instead_of(200, Some(14), false));
        for (names, yes, no) in [
            (&["5xx"][..], &[500, 503, 599][..], &[200, 404, 409][..]),
            (&["gateway-error"], &[502, 503, 504], &[500, 501, 505]),
            (&["retriable-4xx"], &[409], &[404, 429]),
            (&["retriable-status-codes"], &[418, 503], &[500]),
            (&["reset"], &[], &[503]),
        ] {
            let policy = policy(names, &[418, 503]);
            for status in yes {
                assert!(policy.wants_instead_of(*status, None, false), "{names:?} {status}");
                assert!(!policy.wants_instead_of(*status, None, true), "limited: {status}");
            }
            for status in no {
                assert!(!policy.wants_instead_of(*status, None, false), "{names:?} {status}");
            }
        }
        assert!(policy(&["envoy-ratelimited"], &[]).wants_instead_of(429, None, true));
        for (names, wanted, of_grpc) in [
            (&["5xx"][..], true, true),
            (&["connect-failure", "refused-stream"], false, false),
            (&["connect-failure", "unavailable"], false, true),
        ] {
            let policy = policy(names, &[]);
            let got =
                [policy.wants_after_request(false, false), policy.wants_after_request(true, false)];
            assert_eq!(got, [wanted, of_grpc], "{names:?}");
        }
        assert!(policy(&["retriable-status-codes"], &[418]).wants_after_request(false, false));
        assert!(policy(&["refused-stream"], &[]).wants_after_request(false, true));
        assert!(!policy(&["connect-failure"], &[]).wants_after_request(false, true));
        assert!(
            !RetryPolicy { attempts: 0, ..policy(&["5xx"], &[]) }.wants_after_request(true, true)
        );
        let early = policy(&["reset-before-request"], &[]);
        assert!(early.wants_after(AttemptFailure::BeforeRequest));
        assert!(!early.wants_after(AttemptFailure::Reset));
        assert!(policy(&["gateway-error"], &[]).wants_after(AttemptFailure::Reset));
    }
}
