//! Header operations of a route, carried out on a head that is written already: only routes that have
//! some pay for them.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use super::context::Replica;
use super::downstream::Downstream;
use super::scratch::Scratch;
use super::upstream_head::{
    Forwarded, external_address, format_request_id, write_forwarded_for, write_target,
};
use crate::access_log::timestamp;
use crate::http::RequestHead;
use crate::ids::RouteId;
use crate::snapshot::{DestinationPolicy, HeaderEdits, HeaderPart, HeaderText, Variable};
use crate::stream_info::StreamInfo;

/// The operations that wait for the response of a request.
pub struct ResponseEdits {
    /// The configuration that they are of.
    pub replica: Rc<Replica>,
    /// The route.
    pub route: RouteId,
    /// Which destination of it.
    pub destination: usize,
    /// What their `%REQ()%` came to, one after the other, and where each ends.
    pub request_values: Vec<u8>,
    /// See `request_values`.
    pub request_value_ends: Vec<usize>,
}

impl ResponseEdits {
    fn edits(&self) -> Option<&HeaderEdits> {
        let policy = self.replica.snapshot.route(self.route).policy.as_ref()?;
        policy.destinations.get(self.destination).map(|destination| &destination.response)
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
}

/// Carry out `edits` on the request head `out`. Returns where the byte that stood at `mark` stands now;
/// none when its field is gone.
pub fn edit_request(
    out: &mut Vec<u8>,
    mark: usize,
    edits: &HeaderEdits,
    request: &RequestValues<'_>,
    info: &StreamInfo,
    replica: &Replica,
    downstream: &Downstream,
) -> Option<usize> {
    let all = Values { info, replica, downstream };
    edit(out, Some(mark), edits, |text, out| {
        write_text(text, out, &all, |variable, out| write_request_variable(variable, request, out));
    })
}

/// Remember the operations on the response of a destination, if it has any.
pub fn for_response(
    policy: &DestinationPolicy,
    route: RouteId,
    destination: usize,
    request: &RequestValues<'_>,
    replica: &Rc<Replica>,
) -> Option<Box<ResponseEdits>> {
    if policy.response.is_empty() {
        return None;
    }
    let (mut request_values, mut request_value_ends) = (Vec::new(), Vec::new());
    for part in policy.response.append.iter().flat_map(|(_, text)| &text.0) {
        if let HeaderPart::Variable(variable @ Variable::RequestHeader { .. }) = part {
            write_request_variable(variable, request, &mut request_values);
            request_value_ends.push(request_values.len());
        }
    }
    let replica = Rc::clone(replica);
    Some(Box::new(ResponseEdits {
        replica,
        route,
        destination,
        request_values,
        request_value_ends,
    }))
}

/// Carry out the operations that waited for the response, if there are any, on its head in
/// `Scratch::response`; a body may follow it.
pub fn edit_response(scratch: &mut Scratch, downstream: &Downstream) {
    let Scratch { response: out, response_edits: Some(waiting), info, .. } = scratch else {
        return;
    };
    let Some(edits) = waiting.edits() else { return };
    let all = Values { info, replica: &waiting.replica, downstream };
    let mut ends = waiting.request_value_ends.iter();
    let mut start = 0;
    edit(out, None, edits, |text, out| {
        write_text(text, out, &all, |_, out| {
            let end = ends.next().copied().unwrap_or(start);
            out.extend_from_slice(waiting.request_values.get(start..end).unwrap_or_default());
            start = end;
        });
    });
}

/// Write the head anew without the dropped fields and with the added ones, in place of the old one.
fn edit(
    out: &mut Vec<u8>,
    mark: Option<usize>,
    edits: &HeaderEdits,
    mut write: impl FnMut(&HeaderText, &mut Vec<u8>),
) -> Option<usize> {
    let old = std::mem::take(out);
    out.reserve(old.len() + 256);
    let mut moved = None;
    let mut at = 0;
    let mut is_first = true;
    while let Some(length) = old[at..].iter().position(|byte| *byte == b'\n') {
        let line = &old[at..=at + length];
        if line == b"\r\n" {
            break;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let dropped =
            !is_first && edits.drop.iter().any(|drop| name.eq_ignore_ascii_case(drop.as_bytes()));
        is_first = false;
        if !dropped {
            if let Some(mark) = mark.filter(|mark| (at..=at + length).contains(mark)) {
                moved = Some(mark - at + out.len());
            }
            out.extend_from_slice(line);
        }
        at += length + 1;
    }
    for (name, text) in &edits.append {
        let line_at = out.len();
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let value_at = out.len();
        write(text, out);
        if out.len() == value_at {
            out.truncate(line_at);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(&old[at..]);
    moved
}

fn write_text(
    text: &HeaderText,
    out: &mut Vec<u8>,
    values: &Values<'_>,
    mut request_field: impl FnMut(&Variable, &mut Vec<u8>),
) {
    for part in &text.0 {
        match part {
            HeaderPart::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            HeaderPart::Variable(variable @ Variable::RequestHeader { .. }) => {
                request_field(variable, out);
            }
            HeaderPart::Variable(variable) => write_variable(variable, out, values),
        }
    }
}

fn write_variable(variable: &Variable, out: &mut Vec<u8>, values: &Values<'_>) {
    let Values { info, replica, downstream } = values;
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
        Variable::RequestHeader { .. } => {}
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
fn write_request_variable(variable: &Variable, request: &RequestValues<'_>, out: &mut Vec<u8>) {
    let Variable::RequestHeader { name, alternative, length } = variable else { return };
    let start = out.len();
    for name in [Some(name), alternative.as_ref()].into_iter().flatten() {
        write_request_field(name, request, out);
        if out.len() > start {
            break;
        }
    }
    out.truncate(start.saturating_add(*length).min(out.len()));
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
        let literal = |text: &str| HeaderText([HeaderPart::Literal(text.into())].into());
        let edits = HeaderEdits {
            drop: ["x-a".into(), "get /x-a".into()].into(),
            append: [("x-a".into(), literal("3")), ("x-e".into(), HeaderText::default())].into(),
        };
        let moved = edit(&mut head, mark, &edits, |text, out| {
            if let [HeaderPart::Literal(text)] = &text.0[..] {
                out.extend_from_slice(text.as_bytes());
            }
        });
        let expected = "GET /x-a: HTTP/1.1\r\nb: 2\r\nn: 7\r\nx-a: 3\r\n\r\nx-a: body\r\n";
        assert_eq!(String::from_utf8_lossy(&head), expected);
        assert_eq!(moved.map(|at| head[at]), Some(b'7'));
    }
}
