//! The header names that the gateway itself compares, recognised once per field while parsing, so
//! that everything after the parser compares integers.

macro_rules! known_headers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A header name that the gateway acts on; [`KnownHeader::Other`] for all others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum KnownHeader {
            /// A name that means nothing to the gateway.
            Other,
            /// Any other name that begins with `x-envoy-`.
            EnvoyInternal,
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        /// Every known name in lower case.
        pub const NAMES: &[(&str, KnownHeader)] = &[$(($name, KnownHeader::$variant),)*];

        impl KnownHeader {
            /// The name in lower case; empty for `Other` and `EnvoyInternal`.
            pub fn as_str(self) -> &'static str {
                match self {
                    KnownHeader::Other | KnownHeader::EnvoyInternal => "",
                    $(KnownHeader::$variant => $name,)*
                }
            }
        }
    };
}

known_headers! {
    Te = "te",
    Via = "via",
    Date = "date",
    Host = "host",
    Expect = "expect",
    Server = "server",
    Cookie = "cookie",
    Origin = "origin",
    Upgrade = "upgrade",
    Trailer = "trailer",
    Connection = "connection",
    KeepAlive = "keep-alive",
    SetCookie = "set-cookie",
    UserAgent = "user-agent",
    XRequestId = "x-request-id",
    ContentType = "content-type",
    GrpcStatus = "grpc-status",
    Authorization = "authorization",
    ContentLength = "content-length",
    HttpSettings = "http2-settings",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    ProxyConnection = "proxy-connection",
    ProxyAuthenticate = "proxy-authenticate",
    TransferEncoding = "transfer-encoding",
    ProxyAuthorization = "proxy-authorization",
    XForwardedClientCert = "x-forwarded-client-cert",
    XEnvoyPeerMetadata = "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId = "x-envoy-peer-metadata-id",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
}

impl KnownHeader {
    /// Recognise `name`, whatever its case.
    #[inline]
    pub fn from_name(name: &[u8]) -> KnownHeader {
        // Names are told apart by length first: at most four candidates share one.
        macro_rules! pick {
            ($($variant:ident),*) => {{
                $(if name.eq_ignore_ascii_case(KnownHeader::$variant.as_str().as_bytes()) {
                    return KnownHeader::$variant;
                })*
            }};
        }
        match name.len() {
            2 => pick!(Te),
            3 => pick!(Via),
            4 => pick!(Host, Date),
            6 => pick!(Server, Expect, Cookie, Origin),
            7 => pick!(Upgrade, Trailer),
            10 => pick!(UserAgent, Connection, KeepAlive, SetCookie),
            11 => pick!(GrpcStatus),
            12 => pick!(ContentType, XRequestId),
            13 => pick!(Authorization),
            14 => pick!(ContentLength, HttpSettings),
            15 => pick!(XForwardedFor),
            16 => pick!(XForwardedHost, ProxyConnection),
            17 => pick!(TransferEncoding, XForwardedProto),
            18 => pick!(ProxyAuthenticate),
            19 => pick!(ProxyAuthorization),
            21 => pick!(XEnvoyPeerMetadata),
            23 => pick!(XForwardedClientCert),
            24 => pick!(XEnvoyPeerMetadataId, XEnvoyExternalAddress),
            27 => pick!(XEnvoyDecoratorOperation),
            29 => pick!(XEnvoyUpstreamServiceTime),
            _ => {}
        }
        if name.len() > 8 && name[..8].eq_ignore_ascii_case(b"x-envoy-") {
            return KnownHeader::EnvoyInternal;
        }
        KnownHeader::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for (name, known) in NAMES {
            assert_eq!(KnownHeader::from_name(name.as_bytes()), *known, "{name}");
            let upper = name.to_ascii_uppercase();
            assert_eq!(KnownHeader::from_name(upper.as_bytes()), *known, "{upper}");
        }
    }

    #[test]
    fn other_names_are_other() {
        for name in ["", "hos", "hosts", "x-envoy", "accept"] {
            assert_eq!(KnownHeader::from_name(name.as_bytes()), KnownHeader::Other, "{name}");
        }
        assert_eq!(KnownHeader::from_name(b"X-Envoy-Retry-On"), KnownHeader::EnvoyInternal);
    }
}
