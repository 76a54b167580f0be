//! Why a request failed: every kind is counted apart.

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The target refused the connection.
    ConnectRefused,
    /// The connection was not there within the time-out.
    ConnectTimeout,
    /// Connecting failed in another way: no route, reset.
    Connect,
    /// This machine has no free local port, or no descriptor.
    LocalResources,
    /// The TLS handshake or a record failed, or the certificate was not accepted.
    Tls,
    /// The connection broke while the request was sent.
    Send,
    /// The connection was reset while the response was awaited.
    Reset,
    /// The connection ended before the response did.
    Closed,
    /// The response was not complete within the time-out.
    Timeout,
    /// What came is no HTTP response.
    Malformed,
    /// The HTTP/2 stream was reset, or the connection ended by an HTTP/2 error.
    Stream,
    /// The status is not one that the check allows.
    Status,
    /// The body is not what the check wants.
    Body,
    /// The response was still missing when the run, with its time of grace, was over.
    Unfinished,
}

impl Failure {
    /// Every kind, in the order of the reports; a kind's place is its number.
    pub(crate) const ALL: [Failure; 14] = [
        Failure::ConnectRefused,
        Failure::ConnectTimeout,
        Failure::Connect,
        Failure::LocalResources,
        Failure::Tls,
        Failure::Send,
        Failure::Reset,
        Failure::Closed,
        Failure::Timeout,
        Failure::Malformed,
        Failure::Stream,
        Failure::Status,
        Failure::Body,
        Failure::Unfinished,
    ];

    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "connect_refused",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::Connect => "connect",
            Failure::LocalResources => "local_resources",
            Failure::Tls => "tls",
            Failure::Send => "send",
            Failure::Reset => "reset",
            Failure::Closed => "closed",
            Failure::Timeout => "timeout",
            Failure::Malformed => "malformed",
            Failure::Stream => "stream",
            Failure::Status => "status",
            Failure::Body => "body",
            Failure::Unfinished => "unfinished",
        }
    }

    /// What it means, for people.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "the target refused the connection",
            Failure::ConnectTimeout => "no connection within the time-out",
            Failure::Connect => "connecting failed",
            Failure::LocalResources => "no local port or descriptor was free",
            Failure::Tls => "the TLS handshake or a record failed",
            Failure::Send => "the connection broke while sending",
            Failure::Reset => "the connection was reset",
            Failure::Closed => "the connection ended before the response",
            Failure::Timeout => "no complete response within the time-out",
            Failure::Malformed => "what came is no HTTP response",
            Failure::Stream => "the HTTP/2 stream or connection ended in an error",
            Failure::Status => "the status is not an expected one",
            Failure::Body => "the body is not the expected one",
            Failure::Unfinished => "no response before the run was over",
        }
    }

    /// The time until now is only the least that the request would have taken: it belongs among the
    /// latencies, or the slowest requests would be missing there.
    pub(crate) fn is_lower_bound(self) -> bool {
        matches!(self, Failure::Timeout | Failure::ConnectTimeout | Failure::Unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_at_its_number_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for (index, kind) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert!(names.insert(kind.name()));
        }
    }
}
