//! Envoy's command operators: which there are, and their values.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::super::fields::{FieldName, RequestFields, response_field};
use super::super::format::{self, LineContext, tls_version_name};
use super::super::time_format::TimeFormat;
use super::super::timestamp;
use crate::stream_info::{ResponseFlags, StreamInfo};

/// What a line is about.
#[derive(Clone, Copy)]
pub(in crate::access_log) struct Line<'a> {
    pub(in crate::access_log) info: &'a StreamInfo,
    pub(in crate::access_log) fields: &'a RequestFields,
    pub(in crate::access_log) context: &'a LineContext<'a>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::access_log) enum Operator {
    /// One without arguments.
    Simple(Simple),
    StartTime(TimeFormat),
    Request(Choice<RequestField>),
    Response(Choice<ResponseField>),
}

/// A field, the one in its place when it is missing, and how many bytes of it are shown.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::access_log) struct Choice<F> {
    pub(in crate::access_log) field: F,
    pub(in crate::access_log) alternative: Option<F>,
    pub(in crate::access_log) length: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::access_log) enum RequestField {
    Method,
    Path,
    Authority,
    Scheme,
    ForwardedFor,
    UserAgent,
    RequestId,
    /// By its number among the captured ones.
    Captured(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::access_log) enum ResponseField {
    Status,
    UpstreamServiceTime,
    Header(FieldName),
}

macro_rules! simple_operators {
    ($($variant:ident = $name:literal,)*) => {
        /// An operator without arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::access_log) enum Simple {
            $($variant,)*
        }

        impl Simple {
            /// All of them with their names.
            pub(in crate::access_log) const ALL: &'static [(&'static str, Simple)] =
                &[$(($name, Simple::$variant),)*];
        }
    };
}

simple_operators! {
    StartTime = "START_TIME",
    Protocol = "PROTOCOL",
    ResponseCode = "RESPONSE_CODE",
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS",
    ResponseFlags = "RESPONSE_FLAGS",
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG",
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS",
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON",
    BytesReceived = "BYTES_RECEIVED",
    BytesSent = "BYTES_SENT",
    DownstreamWireBytesReceived = "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    DownstreamWireBytesSent = "DOWNSTREAM_WIRE_BYTES_SENT",
    Duration = "DURATION",
    UpstreamHost = "UPSTREAM_HOST",
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS",
    UpstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT",
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS",
    UpstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT",
    UpstreamCluster = "UPSTREAM_CLUSTER",
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW",
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS",
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT",
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT",
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS",
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT",
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION",
    DownstreamTlsCipher = "DOWNSTREAM_TLS_CIPHER",
    DownstreamPeerSubject = "DOWNSTREAM_PEER_SUBJECT",
    DownstreamPeerIssuer = "DOWNSTREAM_PEER_ISSUER",
    DownstreamPeerSerial = "DOWNSTREAM_PEER_SERIAL",
    DownstreamPeerFingerprint256 = "DOWNSTREAM_PEER_FINGERPRINT_256",
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN",
    DownstreamPeerDnsSan = "DOWNSTREAM_PEER_DNS_SAN",
    RequestedServerName = "REQUESTED_SERVER_NAME",
    RouteName = "ROUTE_NAME",
    VirtualCluster = "VIRTUAL_CLUSTER",
    VirtualClusterName = "VIRTUAL_CLUSTER_NAME",
    TraceId = "TRACE_ID",
    GrpcStatus = "GRPC_STATUS",
    GrpcStatusCamel = "GRPC_STATUS(CAMEL_STRING)",
    GrpcStatusSnake = "GRPC_STATUS(SNAKE_STRING)",
    GrpcStatusNumber = "GRPC_STATUS_NUMBER",
    GrpcStatusAsNumber = "GRPC_STATUS(NUMBER)",
}

/// A value.
pub(in crate::access_log) enum Value<'a> {
    Missing,
    Number(u64),
    /// Perhaps chosen by a client.
    Text(&'a [u8]),
    /// One word: spaces become `_`.
    Details(&'a str),
    Address(SocketAddr),
    Ip(IpAddr),
    /// Microseconds since the Unix epoch, in the usual format or another one.
    Time(u64, Option<&'a TimeFormat>),
    Flags(ResponseFlags),
    LongFlags(ResponseFlags),
}

impl<'a> Value<'a> {
    fn of(text: Option<&'a [u8]>) -> Value<'a> {
        text.map_or(Value::Missing, Value::Text)
    }

    fn unless_empty(text: &'a str) -> Value<'a> {
        if text.is_empty() { Value::Missing } else { Value::Text(text.as_bytes()) }
    }

    /// Append what needs no quotes and no escapes.
    pub(in crate::access_log) fn write_plain(&self, out: &mut Vec<u8>) {
        match self {
            Value::Missing => out.push(b'-'),
            Value::Number(number) => format::number(out, *number),
            Value::Text(text) => super::escape::quoted(out, text),
            Value::Details(words) => format::details(out, words),
            Value::Address(address) => format::address(out, Some(*address)),
            Value::Ip(ip) => {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{ip}");
            }
            Value::Time(unix_us, None) => timestamp::append(out, *unix_us),
            Value::Time(unix_us, Some(format)) => {
                let start = out.len();
                format.write(out, *unix_us);
                // The user's own letters: none of them may end the line or the quotes around it.
                for byte in &mut out[start..] {
                    if byte.is_ascii_control() || matches!(byte, b'"' | b'\\') {
                        *byte = b'_';
                    }
                }
            }
            Value::Flags(flags) => flags.write_to(out),
            Value::LongFlags(flags) => write_long_flags(*flags, out),
        }
    }
}

impl Operator {
    /// Its value in `line`.
    pub(in crate::access_log) fn value<'a>(&'a self, line: &Line<'a>) -> Value<'a> {
        match self {
            Operator::Simple(simple) => simple.value(line),
            Operator::StartTime(format) => Value::Time(line.info.started_unix_us, Some(format)),
            Operator::Request(choice) => choice.value(|field| request_field(field, line)),
            Operator::Response(choice) => choice.value(|field| response_value(field, line)),
        }
    }
}

impl<F> Choice<F> {
    fn value<'a>(&'a self, find: impl Fn(&'a F) -> Value<'a>) -> Value<'a> {
        let value = match (find(&self.field), &self.alternative) {
            (Value::Missing, Some(alternative)) => find(alternative),
            (value, _) => value,
        };
        match value {
            Value::Text(text) => Value::Text(&text[..text.len().min(self.length)]),
            value => value,
        }
    }
}

fn request_field<'a>(field: &RequestField, line: &Line<'a>) -> Value<'a> {
    let fields = line.fields;
    Value::of(match field {
        RequestField::Method => fields.method(),
        RequestField::Path => fields.path(),
        RequestField::Authority => fields.authority(),
        RequestField::Scheme if line.context.is_connection => None,
        RequestField::Scheme => Some(match line.context.tls {
            Some(_) => b"https",
            None => b"http",
        }),
        RequestField::ForwardedFor => fields.forwarded_for(),
        RequestField::UserAgent => fields.user_agent(),
        RequestField::RequestId => fields.request_id(),
        RequestField::Captured(index) => fields.extra(*index),
    })
}

fn response_value<'a>(field: &'a ResponseField, line: &Line<'a>) -> Value<'a> {
    match field {
        ResponseField::Status if line.info.response_code == 0 => Value::Missing,
        ResponseField::Status => Value::Number(u64::from(line.info.response_code)),
        ResponseField::UpstreamServiceTime => {
            line.info.upstream_service_time_us.map_or(Value::Missing, |us| Value::Number(us / 1000))
        }
        ResponseField::Header(name) => Value::of(response_field(line.context.response_head, name)),
    }
}

impl Simple {
    fn value<'a>(self, line: &Line<'a>) -> Value<'a> {
        let Line { info, context, .. } = *line;
        let address = |address: Option<SocketAddr>| address.map_or(Value::Missing, Value::Address);
        let ip = |address: Option<SocketAddr>| {
            address.map_or(Value::Missing, |address| Value::Ip(address.ip().to_canonical()))
        };
        let port = |address: Option<SocketAddr>| {
            address.map_or(Value::Missing, |address| Value::Number(u64::from(address.port())))
        };
        let peer = context.tls.and_then(|tls| tls.client_certificate.as_ref());
        let certificate = peer.map(|peer| &peer.certificate);
        let of_certificate = |text: Option<&'a String>| {
            text.map_or(Value::Missing, |text| Value::unless_empty(text))
        };
        match self {
            Simple::StartTime => Value::Time(info.started_unix_us, None),
            Simple::Protocol => Value::of(context.protocol(info)),
            Simple::ResponseCode => Value::Number(u64::from(info.response_code)),
            Simple::ResponseCodeDetails if matches!(info.details, "" | "-") => Value::Missing,
            Simple::ResponseCodeDetails => Value::Details(info.details),
            Simple::ResponseFlags => Value::Flags(info.flags),
            Simple::ResponseFlagsLong => Value::LongFlags(info.flags),
            Simple::ConnectionTerminationDetails => {
                context.connection_termination_details.map_or(Value::Missing, Value::Details)
            }
            Simple::UpstreamTransportFailureReason => context
                .upstream_transport_failure_reason
                .map_or(Value::Missing, Value::unless_empty),
            Simple::BytesReceived => Value::Number(info.request_body_bytes),
            Simple::BytesSent => Value::Number(info.response_body_bytes),
            Simple::DownstreamWireBytesReceived => Value::Number(info.request_bytes),
            Simple::DownstreamWireBytesSent => Value::Number(info.response_bytes),
            Simple::Duration => Value::Number(info.duration_us / 1000),
            Simple::UpstreamHost | Simple::UpstreamRemoteAddress => address(info.upstream_address),
            Simple::UpstreamRemoteAddressWithoutPort => ip(info.upstream_address),
            Simple::UpstreamRemotePort => port(info.upstream_address),
            Simple::UpstreamLocalAddress => address(info.upstream_local_address),
            Simple::UpstreamLocalAddressWithoutPort => ip(info.upstream_local_address),
            Simple::UpstreamLocalPort => port(info.upstream_local_address),
            Simple::UpstreamCluster | Simple::UpstreamClusterRaw => {
                Value::unless_empty(context.cluster_name)
            }
            Simple::UpstreamRequestAttemptCount => Value::Number(u64::from(info.attempts)),
            // The peer's own address: what a header says of the client does not replace it.
            Simple::DownstreamRemoteAddress | Simple::DownstreamDirectRemoteAddress => {
                address(context.downstream_remote_address)
            }
            Simple::DownstreamRemoteAddressWithoutPort
            | Simple::DownstreamDirectRemoteAddressWithoutPort => {
                ip(context.downstream_remote_address)
            }
            Simple::DownstreamRemotePort | Simple::DownstreamDirectRemotePort => {
                port(context.downstream_remote_address)
            }
            Simple::DownstreamLocalAddress => address(context.downstream_local_address),
            Simple::DownstreamLocalAddressWithoutPort => ip(context.downstream_local_address),
            Simple::DownstreamLocalPort => port(context.downstream_local_address),
            Simple::DownstreamTlsVersion => {
                Value::of(context.tls.map(|tls| tls_version_name(tls.version).as_bytes()))
            }
            Simple::DownstreamTlsCipher => Value::of(context.tls.map(|tls| tls.cipher.as_bytes())),
            Simple::DownstreamPeerSubject => of_certificate(certificate.map(|of| &of.subject)),
            Simple::DownstreamPeerIssuer => of_certificate(certificate.map(|of| &of.issuer)),
            Simple::DownstreamPeerSerial => of_certificate(certificate.map(|of| &of.serial)),
            Simple::DownstreamPeerFingerprint256 => of_certificate(peer.map(|peer| &peer.sha256)),
            Simple::DownstreamPeerUriSan => {
                of_certificate(certificate.and_then(|of| of.uris.first()))
            }
            Simple::DownstreamPeerDnsSan => {
                of_certificate(certificate.and_then(|of| of.dns_names.first()))
            }
            Simple::RequestedServerName => Value::of(context.requested_server_name),
            Simple::RouteName => Value::unless_empty(context.route_name),
            // Istio's gateways have none.
            Simple::VirtualCluster | Simple::VirtualClusterName => Value::Missing,
            Simple::TraceId => Value::of(line.fields.trace_id()),
            Simple::GrpcStatus | Simple::GrpcStatusCamel => grpc_status(info, |names| names.0),
            Simple::GrpcStatusSnake => grpc_status(info, |names| names.1),
            Simple::GrpcStatusNumber | Simple::GrpcStatusAsNumber => {
                info.grpc_status.map_or(Value::Missing, |code| Value::Number(u64::from(code)))
            }
        }
    }
}

fn grpc_status<'a>(
    info: &StreamInfo,
    form: impl Fn(&(&'static str, &'static str)) -> &'static str,
) -> Value<'a> {
    const NAMES: [(&str, &str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];
    let Some(code) = info.grpc_status else { return Value::Missing };
    match NAMES.get(usize::from(code)) {
        Some(names) => Value::Text(form(names).as_bytes()),
        // A number beyond those of gRPC.
        None => Value::Number(u64::from(code)),
    }
}

/// Envoy's long names, in the order of the short ones.
fn write_long_flags(flags: ResponseFlags, out: &mut Vec<u8>) {
    if flags.is_empty() {
        out.push(b'-');
        return;
    }
    let mut first = true;
    for (flag, short) in ResponseFlags::ALL {
        if flags.contains(*flag) {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(long_name(short).as_bytes());
        }
    }
}

fn long_name(short: &'static str) -> &'static str {
    match short {
        "UH" => "NoHealthyUpstream",
        "UF" => "UpstreamConnectionFailure",
        "UO" => "UpstreamOverflow",
        "NR" => "NoRouteFound",
        "URX" => "UpstreamRetryLimitExceeded",
        "UC" => "UpstreamConnectionTermination",
        "UT" => "UpstreamRequestTimeout",
        "UR" => "UpstreamRemoteReset",
        "DC" => "DownstreamConnectionTermination",
        "DI" => "DelayInjected",
        "FI" => "FaultInjected",
        "DPE" => "DownstreamProtocolError",
        "UPE" => "UpstreamProtocolError",
        "NC" => "NoClusterFound",
        "SI" => "StreamIdleTimeout",
        "OM" => "OverloadManagerTerminated",
        "DT" => "DurationTimeout",
        other => other,
    }
}
