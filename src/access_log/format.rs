//! The line: Istio's default text format and its JSON form, field by field in Istio's order, or the user's
//! own form.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use crate::stream_info::StreamInfo;
use crate::tls::TlsInfo;
use crate::tls::settings::TlsVersion;

use super::escape;
use super::fields::RequestFields;
use super::template::Template;
use super::template::operator::Line;
use super::timestamp::TimestampCache;

/// `meshConfig.accessLogEncoding` and `accessLogFormat`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AccessLogFormat {
    /// Istio's default text line.
    #[default]
    Text,
    /// One JSON object per line with the same 24 fields.
    Json,
    /// Lines of this form.
    Custom(Box<Template>),
}

/// What the line needs and [`StreamInfo`] holds only as an id, or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineContext<'a> {
    /// `%ROUTE_NAME%`; empty: missing.
    pub route_name: &'a str,
    /// `%UPSTREAM_CLUSTER_RAW%`, `outbound|PORT|SUBSET|HOST`; empty: missing.
    pub cluster_name: &'a str,
    /// It is about a connection that was routed as a whole: `%PROTOCOL%` is missing.
    pub is_connection: bool,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`
    pub downstream_local_address: Option<SocketAddr>,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    pub downstream_remote_address: Option<SocketAddr>,
    /// `%REQUESTED_SERVER_NAME%`: the SNI.
    pub requested_server_name: Option<&'a [u8]>,
    /// `%CONNECTION_TERMINATION_DETAILS%`; spaces become `_`.
    pub connection_termination_details: Option<&'a str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// The client's TLS.
    pub tls: Option<&'a TlsInfo>,
    /// The head of the response as HTTP/1.1 writes it; what stands behind it is not looked at.
    pub response_head: &'a [u8],
}

/// As Envoy writes it.
pub(super) fn tls_version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "TLSv1.2",
        TlsVersion::V1_3 => "TLSv1.3",
    }
}

impl LineContext<'_> {
    pub(super) fn protocol(&self, info: &StreamInfo) -> Option<&'static [u8]> {
        (!self.is_connection).then(|| info.version.as_str().as_bytes())
    }

    fn route_name(&self) -> Option<&[u8]> {
        Some(self.route_name.as_bytes()).filter(|name| !name.is_empty())
    }

    fn cluster_name(&self) -> Option<&[u8]> {
        Some(self.cluster_name.as_bytes()).filter(|name| !name.is_empty())
    }
}

/// Writes lines of one format.
#[derive(Clone, Debug, Default)]
pub struct LineWriter {
    format: AccessLogFormat,
    timestamp: TimestampCache,
}

impl LineWriter {
    /// A writer of this format.
    pub fn new(format: AccessLogFormat) -> LineWriter {
        LineWriter { format, timestamp: TimestampCache::default() }
    }

    /// The user's form, if it has one.
    pub(super) fn template(&self) -> Option<&Template> {
        match &self.format {
            AccessLogFormat::Custom(template) => Some(template),
            AccessLogFormat::Text | AccessLogFormat::Json => None,
        }
    }

    /// Append one line with its newline. Allocates nothing but the growth of `out`. No byte of the
    /// client's can end the line or the quotes around it.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        info: &StreamInfo,
        fields: &RequestFields,
        context: &LineContext<'_>,
    ) {
        match &self.format {
            AccessLogFormat::Text => write_text(out, &mut self.timestamp, info, fields, context),
            AccessLogFormat::Json => write_json(out, &mut self.timestamp, info, fields, context),
            AccessLogFormat::Custom(template) => {
                template.write(out, &Line { info, fields, context });
            }
        }
    }
}

fn write_text(
    out: &mut Vec<u8>,
    timestamp: &mut TimestampCache,
    info: &StreamInfo,
    fields: &RequestFields,
    context: &LineContext<'_>,
) {
    out.push(b'[');
    timestamp.append(out, info.started_unix_us);
    out.extend_from_slice(b"] \"");
    token(out, fields.method());
    out.push(b' ');
    token(out, fields.path());
    out.push(b' ');
    token(out, context.protocol(info));
    out.extend_from_slice(b"\" ");
    number(out, u64::from(info.response_code));
    out.push(b' ');
    info.flags.write_to(out);
    out.push(b' ');
    details(out, info.details);
    out.push(b' ');
    details(out, context.connection_termination_details.unwrap_or(""));
    out.push(b' ');
    quoted(out, context.upstream_transport_failure_reason.map(str::as_bytes));
    out.push(b' ');
    number(out, info.request_body_bytes);
    out.push(b' ');
    number(out, info.response_body_bytes);
    out.push(b' ');
    number(out, info.duration_us / 1000);
    out.push(b' ');
    match info.upstream_service_time_us {
        Some(time_us) => number(out, time_us / 1000),
        None => out.push(b'-'),
    }
    for value in [fields.forwarded_for(), fields.user_agent(), fields.request_id()] {
        out.push(b' ');
        quoted(out, value);
    }
    out.push(b' ');
    quoted(out, fields.authority());
    out.extend_from_slice(b" \"");
    address(out, info.upstream_address);
    out.extend_from_slice(b"\" ");
    token(out, context.cluster_name());
    for value in [
        info.upstream_local_address,
        context.downstream_local_address,
        context.downstream_remote_address,
    ] {
        out.push(b' ');
        address(out, value);
    }
    out.push(b' ');
    token(out, context.requested_server_name);
    out.push(b' ');
    // The last field: a space in it confuses nobody, and Istio prints the name as it is.
    escape::quoted(out, context.route_name().unwrap_or(b"-"));
    out.push(b'\n');
}

fn write_json(
    out: &mut Vec<u8>,
    timestamp: &mut TimestampCache,
    info: &StreamInfo,
    fields: &RequestFields,
    context: &LineContext<'_>,
) {
    out.extend_from_slice(b"{\"start_time\":\"");
    timestamp.append(out, info.started_unix_us);
    out.push(b'"');
    json_string(out, "route_name", context.route_name());
    json_string(out, "method", fields.method());
    json_string(out, "path", fields.path());
    json_string(out, "protocol", context.protocol(info));
    json_number(out, "response_code", u64::from(info.response_code));
    key(out, "response_flags");
    out.push(b'"');
    info.flags.write_to(out);
    out.push(b'"');
    json_details(out, "response_code_details", info.details);
    let termination = context.connection_termination_details.unwrap_or("");
    json_details(out, "connection_termination_details", termination);
    json_number(out, "bytes_received", info.request_body_bytes);
    json_number(out, "bytes_sent", info.response_body_bytes);
    json_number(out, "duration", info.duration_us / 1000);
    key(out, "upstream_service_time");
    match info.upstream_service_time_us {
        // The operator reads a header, so Istio's logs hold a string here.
        Some(time_us) => {
            out.push(b'"');
            number(out, time_us / 1000);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    json_string(out, "x_forwarded_for", fields.forwarded_for());
    json_string(out, "user_agent", fields.user_agent());
    json_string(out, "request_id", fields.request_id());
    json_string(out, "authority", fields.authority());
    json_address(out, "upstream_host", info.upstream_address);
    json_string(out, "upstream_cluster", context.cluster_name());
    json_address(out, "upstream_local_address", info.upstream_local_address);
    json_address(out, "downstream_local_address", context.downstream_local_address);
    json_address(out, "downstream_remote_address", context.downstream_remote_address);
    json_string(out, "requested_server_name", context.requested_server_name);
    let reason = context.upstream_transport_failure_reason.map(str::as_bytes);
    json_string(out, "upstream_transport_failure_reason", reason);
    out.extend_from_slice(b"}\n");
}

/// An unquoted field: an empty one would vanish from the line, so it shows as missing.
fn token(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) if !value.is_empty() => escape::token(out, value),
        _ => out.push(b'-'),
    }
}

fn quoted(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(b'"');
    match value {
        Some(value) => escape::quoted(out, value),
        None => out.push(b'-'),
    }
    out.push(b'"');
}

pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Details are one word in the line: Envoy writes `_` for a space.
pub(super) fn details(out: &mut Vec<u8>, value: &str) {
    if value.is_empty() {
        out.push(b'-');
        return;
    }
    let mut words = value.as_bytes().split(|byte| *byte == b' ');
    if let Some(first) = words.next() {
        escape::token(out, first);
    }
    for word in words {
        out.push(b'_');
        escape::token(out, word);
    }
}

pub(super) fn address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    match address {
        None => out.push(b'-'),
        Some(address) => match address.ip() {
            IpAddr::V4(ip) => {
                // The longest: 255.255.255.255:65535. Four addresses stand in a line: they are put
                // together here and copied once each.
                let mut text = [0u8; 21];
                let mut length = 0;
                for octet in ip.octets() {
                    let (digits, count) = DECIMALS[usize::from(octet)];
                    text[length..length + 3].copy_from_slice(&digits);
                    length += usize::from(count);
                    text[length] = b'.';
                    length += 1;
                }
                text[length - 1] = b':';
                let mut buffer = itoa::Buffer::new();
                let port = buffer.format(address.port()).as_bytes();
                text[length..length + port.len()].copy_from_slice(port);
                out.extend_from_slice(&text[..length + port.len()]);
            }
            IpAddr::V6(_) => {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{address}");
            }
        },
    }
}

/// Every octet in decimal, and how many digits it has.
static DECIMALS: [([u8; 3], u8); 256] = {
    let mut all = [([0u8; 3], 0u8); 256];
    let mut octet = 0;
    while octet < 256 {
        let (hundreds, tens, ones) =
            (b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8);
        all[octet] = match octet {
            0..10 => ([ones, 0, 0], 1),
            10..100 => ([tens, ones, 0], 2),
            _ => ([hundreds, tens, ones], 3),
        };
        octet += 1;
    }
    all
};

fn key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json_string(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    key(out, name);
    match value {
        Some(value) => escape::json(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn json_details(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    if value.is_empty() || value == "-" {
        out.extend_from_slice(b"null");
    } else {
        let start = out.len();
        escape::json(out, value.as_bytes());
        for byte in &mut out[start..] {
            if *byte == b' ' {
                *byte = b'_';
            }
        }
    }
}

fn json_number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    number(out, value);
}

fn json_address(out: &mut Vec<u8>, name: &str, value: Option<SocketAddr>) {
    key(out, name);
    if value.is_none() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    address(out, value);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
