//! The scenarios: what is asked of a proxy and what is read from it.

/// One scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Keep-alive connections, 100-byte bodies.
    Keepalive,
    /// The same with 10 KiB bodies.
    Body10k,
    /// The same with 1 MiB bodies: time per request is time per MiB.
    Body1m,
    /// A new connection for each request.
    Connect,
    /// Ringress with one host against many.
    Hosts,
    /// Ringress with a bare route against one with policies.
    Policy,
    /// Memory of idle connections.
    Idle,
}

impl Scenario {
    /// Every scenario, in the order in which they run.
    pub(crate) const ALL: [Self; 7] = [
        Self::Keepalive,
        Self::Body10k,
        Self::Body1m,
        Self::Connect,
        Self::Hosts,
        Self::Policy,
        Self::Idle,
    ];
    /// Those that run when none are named: all that have a required figure.
    pub(crate) const DEFAULT: [Self; 4] = [Self::Keepalive, Self::Body1m, Self::Hosts, Self::Idle];

    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::Body10k => "10k",
            Self::Body1m => "1m",
            Self::Connect => "connect",
            Self::Hosts => "hosts",
            Self::Policy => "policy",
            Self::Idle => "idle",
        }
    }

    /// The scenario of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// The path that is asked for.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Body10k => "/10k",
            Self::Body1m => "/1m",
            _ => "/",
        }
    }
}
