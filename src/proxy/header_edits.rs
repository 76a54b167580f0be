//! Header operations of a route, carried out on a head that is written already: only routes that have
//! some pay for them.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use super::context::Replica;
use super::cors::{self, CorsAnswer};
use super::downstream::Downstream;
use super::scratch::Scratch;
use super::upstream_head::{
    Forwarded, external_address, format_request_id, write_forwarded_for, write_target,
};
use crate::access_log::timestamp;
use crate::http::RequestHead;
use crate::http1::encode::write_field;
use crate::ids::RouteId;
use crate::snapshot::{
    DestinationPolicy, FieldOf, HeaderEdits, HeaderPart, HeaderText, Variable, consistent_hash,
};
use crate::stream_info::StreamInfo;

/// The operations that wait for the response of a request. Part of the pooled scratch memory: its
/// vectors keep their capacity.
#[derive(Default)]
pub struct ResponseEdits {
    /// Where they stand, if there are any: the configuration, the route, which destination of it.
    at: Option<(Rc<Replica>, RouteId, usize)>,
    /// What their `%REQ()%` came to, one after the other, and where each ends.
    request_values: Vec<u8>,
    request_value_ends: Vec<usize>,
    /// The answer to a request of another origin.
    cors: Option<CorsAnswer>,
    origin: Vec<u8>,
    /// A cookie for the client, as `set-cookie` has it.
    cookie: Vec<u8>,
}

impl ResponseEdits {
    /// None wait.
    pub fn clear(&mut self) {
        self.at = None;
        self.cors = None;
        self.cookie.clear();
        self.request_values.clear();
        self.request_value_ends.clear();
    }

    /// Remember the operations on the response of a destination, if it has any.
    pub fn keep(
        &mut self,
        policy: &DestinationPolicy,
        route: RouteId,
        destination: usize,
        request: &RequestValues<'_>,
        replica: &Rc<Replica>,
    ) {
        if policy.response.is_empty() {
            return;
        }
        for part in policy.response.append.iter().flat_map(|(_, text)| &text.0) {
            if let HeaderPart::Variable(Variable::RequestHeader(field)) = part {
                write_request_variable(field, request, &mut self.request_values);
                self.request_value_ends.push(self.request_values.len());
            }
        }
        self.at = Some((Rc::clone(replica), route, destination));
    }

    /// Remember to answer a request of `origin` as the route's CORS policy says.
    pub fn keep_cors(
        &mut self,
        answer: CorsAnswer,
        origin: &[u8],
        route: RouteId,
        destination: usize,
        replica: &Rc<Replica>,
    ) {
        self.cors = Some(answer);
        self.origin.clear();
        self.origin.extend_from_slice(origin);
        self.at = Some((Rc::clone(replica), route, destination));
    }

    /// Remember to give the client a cookie by which its requests stick to an endpoint. Returns the hash
    /// of its value.
    pub fn give_cookie(&mut self, name: &str, value: u64, attributes: &str) -> u64 {
        self.cookie.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.cookie, "{name}=\"{value:016x}\"{attributes}");
        let start = name.len() + 2;
        consistent_hash::hash(self.cookie.get(start..start + 16).unwrap_or_default())
    }

    /// Is the request a preflight, to be answered here?
    pub fn is_preflight(&self) -> bool {
        matches!(self.cors, Some(CorsAnswer::Preflight | CorsAnswer::Unmatched))
    }
}

/// What variables of a request stand for.
pub struct RequestValues<'a> {
    /// The head, before rewrites.
    pub head: &'a RequestHead<'a>,
    /// What the gateway says of the client.
    pub forwarded: &'a Forwarded<'a>,
}

/// What every variable may stand for.
struct Values<'a> {
    info: &'a StreamInfo,
    replica: &'a Replica,
    downstream: &'a Downstream,
    /// The response's head before its edits; empty while there is none.
    response: &'a [u8],
}

/// Carry out `edits` on the request head `out`; `spare` is working memory. Returns where the byte that
/// stood at `mark` stands now; none when its field is gone.
pub fn edit_request(
    (out, spare): (&mut Vec<u8>, &mut Vec<u8>),
    mark: usize,
    edits: &HeaderEdits,
    request: &RequestValues<'_>,
    info: &StreamInfo,
    replica: &Replica,
    downstream: &Downstream,
) -> Option<usize> {
    let all = Values { info, replica, downstream, response: &[] };
    let dropped = |name: &[u8]| is_dropped(edits, name);
    edit(out, spare, Some(mark), dropped, |out, _| {
        append(out, edits, &all, |field, out| write_request_variable(field, request, out));
    })
}

/// Carry out the operations that waited for the response, if there are any, on its head in
/// `Scratch::response`; a body may follow it.
pub fn edit_response(scratch: &mut Scratch, downstream: &Downstream) {
    let Scratch { response: out, spare, response_edits: waiting, info, .. } = scratch;
    if !waiting.cookie.is_empty() {
        append_field(out, spare, |out| write_field(out, b"set-cookie", &waiting.cookie));
    }
    let Some((replica, route, destination)) = &waiting.at else { return };
    let Some(policy) = replica.snapshot.route(*route).policy.as_deref() else { return };
    let edits = policy.destinations.get(*destination).map(|destination| &destination.response);
    if let Some(edits) = edits.filter(|edits| !edits.is_empty()) {
        let mut ends = waiting.request_value_ends.iter();
        let mut start = 0;
        let dropped = |name: &[u8]| is_dropped(edits, name);
        edit(out, spare, None, dropped, |out, response| {
            let all = Values { info, replica, downstream, response };
            append(out, edits, &all, |_, out| {
                let end = ends.next().copied().unwrap_or(start);
                out.extend_from_slice(waiting.request_values.get(start..end).unwrap_or_default());
                start = end;
            });
        });
    }
    // Envoy's CORS filter stands before the router: what it says comes last.
    if let (Some(answer), Some(policy)) = (waiting.cors, &policy.cors) {
        edit(
            out,
            spare,
            None,
            |name| cors::is_said(answer, policy, name),
            |out, _| {
                cors::write_fields(out, answer, policy, &waiting.origin);
            },
        );
    }
}

fn is_dropped(edits: &HeaderEdits, name: &[u8]) -> bool {
    edits.drop.iter().any(|drop| name.eq_ignore_ascii_case(drop.as_bytes()))
}

/// Write the added fields.
fn append(
    out: &mut Vec<u8>,
    edits: &HeaderEdits,
    values: &Values<'_>,
    mut request_field: impl FnMut(&FieldOf, &mut Vec<u8>),
) {
    for (name, text) in &edits.append {
        let line_at = out.len();
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let value_at = out.len();
        write_text(text, out, values, &mut request_field);
        if out.len() == value_at {
            out.truncate(line_at);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Put what `write` writes, whole fields, at the end of the head in `out`, which a body may follow;
/// `spare` is working memory.
pub fn append_field(out: &mut Vec<u8>, spare: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    edit(out, spare, None, |_| false, |out, _| write(out));
}

/// Write the head anew without the dropped fields and with what `append` writes, in place of the old
/// one, which `append` is shown.
fn edit(
    out: &mut Vec<u8>,
    spare: &mut Vec<u8>,
    mark: Option<usize>,
    is_dropped: impl Fn(&[u8]) -> bool,
    append: impl FnOnce(&mut Vec<u8>, &[u8]),
) -> Option<usize> {
    std::mem::swap(out, spare);
    let old = &spare[..];
    out.clear();
    let mut moved = None;
    let mut at = 0;
    let mut is_first = true;
    while let Some(length) = memchr::memchr(b'\n', &old[at..]) {
        let line = &old[at..=at + length];
        if line == b"\r\n" {
            break;
        }
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        if is_first || !is_dropped(name) {
            if let Some(mark) = mark.filter(|mark| (at..=at + length).contains(mark)) {
                moved = Some(mark - at + out.len());
            }
            out.extend_from_slice(line);
        }
        is_first = false;
        at += length + 1;
    }
    append(out, &old[..at]);
    out.extend_from_slice(&old[at..]);
    moved
}

fn write_text(
    text: &HeaderText,
    out: &mut Vec<u8>,
    values: &Values<'_>,
    request_field: &mut impl FnMut(&FieldOf, &mut Vec<u8>),
) {
    for part in &text.0 {
        match part {
            HeaderPart::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            HeaderPart::Variable(Variable::RequestHeader(field)) => request_field(field, out),
            HeaderPart::Variable(variable) => write_variable(variable, out, values),
        }
    }
}

fn write_variable(variable: &Variable, out: &mut Vec<u8>, values: &Values<'_>) {
    let Values { info, replica, downstream, response } = values;
    let snapshot = &replica.snapshot;
    let peer = Some(downstream.peer);
    let local = downstream.stream.local_address();
    match variable {
        Variable::DownstreamRemoteAddress => write_address(out, peer),
        Variable::DownstreamRemoteAddressWithoutPort => {
            out.extend_from_slice(downstream.peer_text());
        }
        Variable::DownstreamRemotePort => write_port(out, peer),
        Variable::DownstreamLocalAddress => write_address(out, local),
        Variable::DownstreamLocalAddressWithoutPort => {
            if let Some(local) = local {
                write_display(out, local.ip().to_canonical());
            }
        }
        Variable::DownstreamLocalPort => write_port(out, local),
        Variable::Protocol => out.extend_from_slice(info.version.as_str().as_bytes()),
        Variable::StartTime => timestamp::append(out, info.started_unix_us),
        Variable::StartTimeFormat(format) => format.write(out, info.started_unix_us),
        Variable::Duration => write_display(out, info.started.elapsed().as_millis()),
        Variable::Hostname => out.extend_from_slice(snapshot.settings.hostname.as_bytes()),
        // Before there is a response Envoy says 0.
        Variable::ResponseCode => write_display(out, info.response_code),
        Variable::ResponseCodeDetails => out.extend_from_slice(info.details.as_bytes()),
        Variable::ResponseFlags => info.flags.write_to(out),
        Variable::RouteName => {
            let route = info.route.map(|route| snapshot.route(route));
            let name = route.map_or("", |route| route.names.route.as_str());
            out.extend_from_slice(name.as_bytes());
        }
        Variable::UpstreamCluster => {
            let cluster = info.cluster.map(|cluster| snapshot.cluster(cluster));
            out.extend_from_slice(cluster.map_or(&b""[..], |cluster| cluster.name.as_bytes()));
        }
        Variable::UpstreamHost => write_address(out, info.upstream_address),
        Variable::UpstreamRemoteAddressWithoutPort => {
            if let Some(address) = info.upstream_address {
                write_display(out, address.ip().to_canonical());
            }
        }
        Variable::UpstreamRemotePort => write_port(out, info.upstream_address),
        Variable::UpstreamRequestAttemptCount => write_display(out, info.attempts),
        Variable::ResponseHeader(field) => write_response_variable(field, response, info, out),
        Variable::RequestHeader(_) => {}
    }
}

fn write_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

fn write_address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    if let Some(address) = address {
        write_display(out, SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
}

fn write_port(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    if let Some(address) = address {
        write_display(out, address.port());
    }
}

/// The value of a request's field (or of `:method`, `:path`, …), cut to the variable's length; else that
/// of its alternative.
fn write_request_variable(field: &FieldOf, request: &RequestValues<'_>, out: &mut Vec<u8>) {
    write_first(field, out, |name, out| write_request_field(name, request, out));
}

/// The same of a response's head.
fn write_response_variable(field: &FieldOf, head: &[u8], info: &StreamInfo, out: &mut Vec<u8>) {
    write_first(field, out, |name, out| {
        if name == ":status" {
            return write_display(out, info.response_code);
        }
        let mut lines = head.split(|byte| *byte == b'\n').skip(1);
        let value = lines.find_map(|line| {
            let (own, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
            own.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
        });
        out.extend_from_slice(value.unwrap_or_default());
    });
}

fn write_first(field: &FieldOf, out: &mut Vec<u8>, write: impl Fn(&str, &mut Vec<u8>)) {
    let start = out.len();
    for name in [Some(&field.name), field.alternative.as_ref()].into_iter().flatten() {
        write(name, out);
        if out.len() > start {
            break;
        }
    }
    out.truncate(start.saturating_add(field.length).min(out.len()));
}

fn write_request_field(name: &str, request: &RequestValues<'_>, out: &mut Vec<u8>) {
    let RequestValues { head, forwarded } = request;
    match name {
        ":method" => out.extend_from_slice(head.method),
        ":authority" | "host" => out.extend_from_slice(head.authority),
        ":scheme" => out.extend_from_slice(head.scheme.as_str().as_bytes()),
        ":path" => write_target(out, head.path, head.query),
        "x-request-id" => out.extend_from_slice(&format_request_id(forwarded.request_id)),
        "x-forwarded-for" => write_forwarded_for(out, head, forwarded.peer_text),
        "x-envoy-external-address" => out.extend_from_slice(external_address(head, forwarded)),
        _ => {
            let name = name.as_bytes();
            let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            out.extend_from_slice(found.map_or(&b""[..], |field| field.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_dropped_and_added_in_front_of_the_body() {
        let mut head =
            b"GET /x-a: HTTP/1.1\r\nX-A: 1\r\nb: 2\r\nn: 7\r\n\r\nx-a: body\r\n".to_vec();
        let mark = head.iter().position(|byte| *byte == b'7');
        let mut spare = b"what was here before".to_vec();
        let dropped = |name: &[u8]| {
            [&b"x-a"[..], b"get /x-a"].iter().any(|drop| name.eq_ignore_ascii_case(drop))
        };
        let moved = edit(&mut head, &mut spare, mark, dropped, |out, old| {
            assert!(old.ends_with(b"n: 7\r\n"), "the head without the empty line");
            out.extend_from_slice(b"x-a: 3\r\n");
        });
        let expected = "GET /x-a: HTTP/1.1\r\nb: 2\r\nn: 7\r\nx-a: 3\r\n\r\nx-a: body\r\n";
        assert_eq!(String::from_utf8_lossy(&head), expected);
        assert_eq!(moved.map(|at| head[at]), Some(b'7'));
    }
}
