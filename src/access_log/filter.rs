//! Which requests are logged: an expression in CEL's syntax over Envoy's attributes, compiled to a small
//! tree that is tested without an allocation.
//!
//! As in Envoy a part that asks for what is not there (a header that was not sent, the code of a response
//! that never came) has no value; an expression without a value does not let the request into the log.
//!
//! Interpreters of the whole language make values on the heap each time they are asked. What logs need is a
//! small part of it, which is read here, with a column for every mistake; the rest is refused when it is read.

mod parse;
#[cfg(test)]
mod tests;
mod token;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::str;

pub use parse::FilterError;

use super::RequestFields;
use super::fields::{FieldName, response_field};
use super::format::{LineContext, tls_version_name};
use crate::router::string_match::Regex;
use crate::stream_info::{ResponseFlags, StreamInfo};

/// Room for the text of an address: the longest is `[` 39 digits and colons `%` scope `]:65535`.
const ADDRESS_BYTES_MAX: usize = 72;

/// A compiled expression. Equal when the texts are.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    root: Condition,
    request_headers: Box<[FieldName]>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text)
    }
}

impl Filter {
    /// Compile an expression.
    ///
    /// # Errors
    /// The column of what is wrong, or beyond the part of CEL that is known here.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let (root, request_headers) = parse::parse(text)?;
        Ok(Filter { text: text.into(), root, request_headers: request_headers.into() })
    }

    /// The fields of the request that it asks for: they must be captured for [`Filter::test`].
    pub(super) fn request_headers(&self) -> &[FieldName] {
        &self.request_headers
    }

    /// Does this request go into the log? `first`: the number of its first field among the captured ones.
    pub(super) fn test(
        &self,
        info: &StreamInfo,
        fields: &RequestFields,
        context: &LineContext<'_>,
        first: usize,
    ) -> bool {
        self.root.test(&Subject { info, fields, context, first }) == Some(true)
    }
}

/// What is tested.
struct Subject<'a> {
    info: &'a StreamInfo,
    fields: &'a RequestFields,
    context: &'a LineContext<'a>,
    first: usize,
}

/// Something that is true, false, or without a value.
#[derive(Clone, Debug)]
enum Condition {
    Constant(bool),
    /// `connection.mtls`
    MutualTls,
    Not(Box<Condition>),
    All(Box<[Condition]>),
    Any(Box<[Condition]>),
    /// Are both true, or both false?
    Same(Box<(Condition, Condition)>),
    Numbers(Number, Comparison, Number),
    Texts(Text, Comparison, Text),
    NumberAmong(Number, Box<[i64]>),
    TextAmong(Text, Box<[Box<str>]>),
    StartsWith(Text, Box<str>),
    EndsWith(Text, Box<str>),
    Contains(Text, Box<str>),
    Matches(Text, Regex),
    /// `has(…)`, `'x' in request.headers`
    HasText(Text),
    HasNumber(Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: Ord>(self, left: T, right: T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }
}

/// A number. Durations are microseconds: the parser keeps them apart from other numbers.
#[derive(Clone, Copy, Debug)]
enum Number {
    Constant(i64),
    ResponseCode,
    ResponseFlags,
    GrpcStatus,
    RequestSize,
    RequestTotalSize,
    ResponseSize,
    ResponseTotalSize,
    SourcePort,
    DestinationPort,
    UpstreamPort,
    Attempts,
    Duration,
    UpstreamServiceTime,
}

#[derive(Clone, Debug)]
enum Text {
    Constant(Box<str>),
    /// The number of the field among those that the expression asks for.
    RequestHeader(usize),
    ResponseHeader(FieldName),
    ResponseCodeDetails,
    Method,
    Path,
    PathWithoutQuery,
    Query,
    Host,
    RequestId,
    UserAgent,
    Protocol,
    SourceAddress,
    DestinationAddress,
    UpstreamAddress,
    UpstreamTransportFailureReason,
    ServerName,
    TlsVersion,
    PeerSubject,
    PeerUri,
    PeerDnsName,
    TerminationDetails,
    RouteName,
    ClusterName,
}

impl Condition {
    fn test(&self, subject: &Subject<'_>) -> Option<bool> {
        let mut room = AddressText::default();
        Some(match self {
            Condition::Constant(value) => *value,
            Condition::MutualTls => {
                subject.context.tls.is_some_and(|tls| tls.client_certificate.is_some())
            }
            Condition::Not(inner) => !inner.test(subject)?,
            Condition::All(parts) => return decide(parts, subject, false),
            Condition::Any(parts) => return decide(parts, subject, true),
            Condition::Same(both) => both.0.test(subject)? == both.1.test(subject)?,
            Condition::Numbers(left, comparison, right) => {
                comparison.holds(left.of(subject)?, right.of(subject)?)
            }
            Condition::Texts(left, comparison, right) => {
                let mut other = AddressText::default();
                comparison.holds(left.of(subject, &mut room)?, right.of(subject, &mut other)?)
            }
            Condition::NumberAmong(number, list) => list.contains(&number.of(subject)?),
            Condition::TextAmong(text, list) => {
                let text = text.of(subject, &mut room)?;
                list.iter().any(|entry| entry.as_bytes() == text)
            }
            Condition::StartsWith(text, part) => {
                text.of(subject, &mut room)?.starts_with(part.as_bytes())
            }
            Condition::EndsWith(text, part) => {
                text.of(subject, &mut room)?.ends_with(part.as_bytes())
            }
            Condition::Contains(text, part) => {
                memchr::memmem::find(text.of(subject, &mut room)?, part.as_bytes()).is_some()
            }
            Condition::Matches(text, regex) => regex.is_match(text.of(subject, &mut room)?),
            Condition::HasText(text) => text.of(subject, &mut room).is_some(),
            Condition::HasNumber(number) => number.of(subject).is_some(),
        })
    }
}

/// One part that is `decisive` decides, also when another one has no value.
fn decide(parts: &[Condition], subject: &Subject<'_>, decisive: bool) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match part.test(subject) {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}

impl Number {
    fn of(self, subject: &Subject<'_>) -> Option<i64> {
        let Subject { info, context, .. } = subject;
        let number = match self {
            Number::Constant(value) => return Some(value),
            Number::ResponseCode => match info.response_code {
                0 => return None,
                code => u64::from(code),
            },
            Number::ResponseFlags => flag_bits(info.flags),
            Number::GrpcStatus => u64::from(info.grpc_status?),
            Number::RequestSize => info.request_body_bytes,
            Number::RequestTotalSize => info.request_bytes,
            Number::ResponseSize => info.response_body_bytes,
            Number::ResponseTotalSize => info.response_bytes,
            Number::SourcePort => u64::from(context.downstream_remote_address?.port()),
            Number::DestinationPort => u64::from(context.downstream_local_address?.port()),
            Number::UpstreamPort => u64::from(info.upstream_address?.port()),
            Number::Attempts => u64::from(info.attempts),
            Number::Duration => info.duration_us,
            Number::UpstreamServiceTime => info.upstream_service_time_us?,
        };
        Some(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// The bits by which Envoy numbers its flags.
fn flag_bits(flags: ResponseFlags) -> u64 {
    const BITS: [(ResponseFlags, u32); 17] = [
        (ResponseFlags::NO_HEALTHY_UPSTREAM, 1),
        (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, 2),
        (ResponseFlags::UPSTREAM_REMOTE_RESET, 4),
        (ResponseFlags::UPSTREAM_CONNECTION_FAILURE, 5),
        (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, 6),
        (ResponseFlags::UPSTREAM_OVERFLOW, 7),
        (ResponseFlags::NO_ROUTE_FOUND, 8),
        (ResponseFlags::DELAY_INJECTED, 9),
        (ResponseFlags::FAULT_INJECTED, 10),
        (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, 14),
        (ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, 15),
        (ResponseFlags::STREAM_IDLE_TIMEOUT, 16),
        (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, 18),
        (ResponseFlags::DURATION_TIMEOUT, 22),
        (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, 23),
        (ResponseFlags::NO_CLUSTER_FOUND, 24),
        (ResponseFlags::OVERLOAD_MANAGER, 25),
    ];
    BITS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, bit)| 1u64 << bit).sum()
}

impl Text {
    fn of<'a>(&'a self, subject: &Subject<'a>, room: &'a mut AddressText) -> Option<&'a [u8]> {
        let Subject { info, fields, context, first } = subject;
        let not_empty = |text: &'a str| Some(text.as_bytes()).filter(|text| !text.is_empty());
        let certificate = || {
            let tls = context.tls?;
            tls.client_certificate.as_ref().map(|peer| &peer.certificate)
        };
        match self {
            Text::Constant(text) => Some(text.as_bytes()),
            Text::RequestHeader(index) => fields.extra(first + index),
            Text::ResponseHeader(name) => response_field(context.response_head, name),
            Text::ResponseCodeDetails => not_empty(info.details).filter(|text| *text != b"-"),
            Text::Method => fields.method(),
            Text::Path => fields.path(),
            Text::PathWithoutQuery => fields.path().map(|path| split_query(path).0),
            Text::Query => fields.path().and_then(|path| split_query(path).1),
            Text::Host => fields.authority(),
            Text::RequestId => fields.request_id(),
            Text::UserAgent => fields.user_agent(),
            Text::Protocol => (!context.is_connection).then(|| info.version.as_str().as_bytes()),
            Text::SourceAddress => room.format(context.downstream_remote_address),
            Text::DestinationAddress => room.format(context.downstream_local_address),
            Text::UpstreamAddress => room.format(info.upstream_address),
            Text::UpstreamTransportFailureReason => {
                context.upstream_transport_failure_reason.and_then(not_empty)
            }
            Text::ServerName => context.requested_server_name,
            Text::TlsVersion => context.tls.map(|tls| tls_version_name(tls.version).as_bytes()),
            Text::PeerSubject => not_empty(&certificate()?.subject),
            Text::PeerUri => not_empty(certificate()?.uris.first()?),
            Text::PeerDnsName => not_empty(certificate()?.dns_names.first()?),
            Text::TerminationDetails => context.connection_termination_details.and_then(not_empty),
            Text::RouteName => not_empty(context.route_name),
            Text::ClusterName => not_empty(context.cluster_name),
        }
    }
}

fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Where an address is written to be compared.
struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    length: usize,
}

impl Default for AddressText {
    fn default() -> Self {
        AddressText { bytes: [0; ADDRESS_BYTES_MAX], length: 0 }
    }
}

impl AddressText {
    fn format(&mut self, address: Option<SocketAddr>) -> Option<&[u8]> {
        let address = address?;
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        write!(self, "{canonical}").ok()?;
        self.bytes.get(..self.length)
    }
}

impl Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
