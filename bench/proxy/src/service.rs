//! What a proxy is configured to serve: the protocols on its two sides.

/// The protocols of one configuration, the same for every subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP/1.1 in clear text on both sides.
    Http1,
    /// The same with an access log, in the words of Istio's where the proxy can.
    Http1Logged,
    /// HTTP/1.1 over TLS 1.3, to HTTP/1.1 in clear text.
    Tls,
    /// HTTP/2 in clear text with prior knowledge, to HTTP/1.1.
    Http2,
    /// HTTP/2 over TLS 1.3, to HTTP/1.1 in clear text.
    Http2Tls,
    /// gRPC: HTTP/2 in clear text on both sides.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Service {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] = [
        Self::Http1,
        Self::Http1Logged,
        Self::Tls,
        Self::Http2,
        Self::Http2Tls,
        Self::Grpc,
        Self::Tcp,
    ];

    /// The word for it in the `words` files of `loadtest/peers`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http1Logged => "http1-logged",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Http2Tls => "http2-tls",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }

    /// Clients connect by TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Http2Tls)
    }

    /// What clients speak, in TLS or not.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Http1 | Self::Http1Logged | Self::Tls | Self::Tcp => Protocol::Http1,
            Self::Http2 | Self::Http2Tls => Protocol::Http2,
            Self::Grpc => Protocol::Grpc,
        }
    }

    /// A forwarder of bytes can stand in for the proxy, since both sides speak the same.
    pub(crate) fn is_same_on_both_sides(self) -> bool {
        matches!(self, Self::Http1 | Self::Http1Logged | Self::Grpc | Self::Tcp)
    }
}

/// What the load generator and an upstream speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `GET` in HTTP/1.1.
    Http1,
    /// `GET` in HTTP/2.
    Http2,
    /// A unary gRPC call.
    Grpc,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];

    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }

    /// The protocol of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its name in TLS' list of application protocols (ALPN).
    pub(crate) fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 | Self::Grpc => "h2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_protocol() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::named(protocol.name()), Some(protocol));
        }
        assert_eq!(Protocol::named("http3"), None);
    }

    #[test]
    fn a_forwarder_of_bytes_stands_in_only_where_nothing_is_translated() {
        for service in Service::ALL {
            let translates = service.is_tls() || service.protocol() == Protocol::Http2;
            assert_eq!(service.is_same_on_both_sides(), !translates, "{service:?}");
        }
    }
}
