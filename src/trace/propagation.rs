//! Trace contexts in header fields: W3C Trace Context (`traceparent`, `tracestate`; level 1 of the
//! recommendation) and B3 of Zipkin (`x-b3-*`, or all in the one field `b3`).
//!
//! What a caller sent is continued when it is well-formed, and replaced as a whole when it is not. Formats
//! that are not chosen are fields like any other here: they pass.

use crate::http::{HeaderField, KnownHeader};

use super::context::TraceContext;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// A way to write contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `traceparent` and `tracestate`.
    W3c,
    /// `x-b3-traceid` and its like, or `b3`.
    B3,
}

/// The formats in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    w3c: bool,
    b3: bool,
    /// When both came and differ: does B3 win?
    b3_first: bool,
}

/// The span that a caller says it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its trace, not all zero.
    pub trace_id: [u8; 16],
    /// The span, not all zero.
    pub span_id: [u8; 8],
}

/// What a caller sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Its span; none: we begin a trace.
    pub parent: Option<Parent>,
    /// Its decision; none: it is ours.
    pub sampled: Option<bool>,
    /// Does its `tracestate` belong to the trace that is continued?
    pub keeps_state: bool,
    /// Did it send the field `b3`?
    pub b3_single: bool,
}

/// A parent and a decision, as one format has them.
type Said = (Option<Parent>, Option<bool>);

/// The fields of B3 that came, with their values.
#[derive(Default)]
struct B3Fields<'a> {
    single: Option<&'a [u8]>,
    trace_id: Option<&'a [u8]>,
    span_id: Option<&'a [u8]>,
    sampled: Option<&'a [u8]>,
    flags: Option<&'a [u8]>,
}

/// A field that carries a context.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Traceparent,
    Tracestate,
    B3,
    B3TraceId,
    B3SpanId,
    B3ParentSpanId,
    B3Sampled,
    B3Flags,
}

impl Carrier {
    /// Recognise a name, whatever its case.
    fn of(field: &HeaderField<'_>) -> Option<Carrier> {
        if field.known != KnownHeader::Other {
            return None;
        }
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        // By length first: few names get further.
        match field.name.len() {
            2 if is("b3") => Some(Carrier::B3),
            10 if is("tracestate") => Some(Carrier::Tracestate),
            10 if is("x-b3-flags") => Some(Carrier::B3Flags),
            11 if is("traceparent") => Some(Carrier::Traceparent),
            11 if is("x-b3-spanid") => Some(Carrier::B3SpanId),
            12 if is("x-b3-traceid") => Some(Carrier::B3TraceId),
            12 if is("x-b3-sampled") => Some(Carrier::B3Sampled),
            17 if is("x-b3-parentspanid") => Some(Carrier::B3ParentSpanId),
            _ => None,
        }
    }
}

impl Propagation {
    /// These formats; when a caller sends several that differ, the one that stands first here counts.
    pub fn new(formats: &[Format]) -> Propagation {
        Propagation {
            w3c: formats.contains(&Format::W3c),
            b3: formats.contains(&Format::B3),
            b3_first: formats.first() == Some(&Format::B3),
        }
    }

    /// What the caller sent in these fields.
    pub fn read(self, fields: &[HeaderField<'_>]) -> Incoming {
        let mut traceparent = None;
        let mut traceparents = 0u32;
        let mut b3 = B3Fields::default();
        for field in fields {
            let Some(carrier) = Carrier::of(field) else { continue };
            let value = Some(field.value);
            match carrier {
                Carrier::Traceparent => {
                    traceparents = traceparents.saturating_add(1);
                    traceparent = value;
                }
                Carrier::B3 => b3.single = value,
                Carrier::B3TraceId => b3.trace_id = value,
                Carrier::B3SpanId => b3.span_id = value,
                Carrier::B3Sampled => b3.sampled = value,
                Carrier::B3Flags => b3.flags = value,
                Carrier::Tracestate | Carrier::B3ParentSpanId => {}
            }
        }
        // Two of them say nothing, whatever they say.
        let traceparent = traceparent.filter(|_| self.w3c && traceparents == 1);
        let w3c = traceparent.and_then(parse_traceparent);
        let b3_said = if self.b3 { b3.read() } else { None };
        let said = match (w3c, b3_said) {
            (Some((parent, sampled)), None) => (Some(parent), Some(sampled)),
            (Some((parent, sampled)), Some(_)) if !self.b3_first => (Some(parent), Some(sampled)),
            (_, Some(said)) => said,
            (None, None) => (None, None),
        };
        let same = |(other, _): (Parent, bool)| {
            said.0.is_some_and(|parent| parent.trace_id == other.trace_id)
        };
        Incoming {
            parent: said.0,
            sampled: said.1,
            keeps_state: w3c.is_some_and(same),
            b3_single: self.b3 && b3.single.is_some(),
        }
    }

    /// Is this a field that [`Propagation::write`] replaces, or that goes no further?
    #[inline]
    pub fn replaces(self, field: &HeaderField<'_>, context: &TraceContext) -> bool {
        match Carrier::of(field) {
            None => false,
            Some(Carrier::Traceparent) => self.w3c,
            Some(Carrier::Tracestate) => self.w3c && !context.keeps_state,
            Some(_) => self.b3,
        }
    }

    /// Write the fields that go upstream.
    pub fn write(self, out: &mut Vec<u8>, context: &TraceContext) {
        let sampled = if context.sampled { b'1' } else { b'0' };
        if self.w3c {
            out.extend_from_slice(b"traceparent: 00-");
            write_hex(out, &context.trace_id);
            out.push(b'-');
            write_hex(out, &context.span_id);
            out.extend_from_slice(&[b'-', b'0', sampled, b'\r', b'\n']);
        }
        if !self.b3 {
            return;
        }
        // An id of 64 bits stays one: not everybody takes the longer form for the same.
        let (high, low) = context.trace_id.split_at(8);
        let trace_id = if high == [0; 8] { low } else { &context.trace_id[..] };
        out.extend_from_slice(b"x-b3-traceid: ");
        write_hex(out, trace_id);
        out.extend_from_slice(b"\r\nx-b3-spanid: ");
        write_hex(out, &context.span_id);
        if let Some(parent_id) = &context.parent_id {
            out.extend_from_slice(b"\r\nx-b3-parentspanid: ");
            write_hex(out, parent_id);
        }
        out.extend_from_slice(b"\r\nx-b3-sampled: ");
        out.extend_from_slice(&[sampled, b'\r', b'\n']);
        if context.b3_single {
            out.extend_from_slice(b"b3: ");
            write_hex(out, trace_id);
            out.push(b'-');
            write_hex(out, &context.span_id);
            out.extend_from_slice(&[b'-', sampled]);
            if let Some(parent_id) = &context.parent_id {
                out.push(b'-');
                write_hex(out, parent_id);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl B3Fields<'_> {
    /// What they say together; none when there are none, or when they are malformed.
    fn read(&self) -> Option<Said> {
        if let Some(said) = self.single.and_then(parse_b3_single) {
            return Some(said);
        }
        let debug = self.flags == Some(b"1");
        let sampled = if debug { Some(true) } else { self.sampled.and_then(parse_b3_decision) };
        match (self.trace_id, self.span_id) {
            (None, None) => sampled.map(|sampled| (None, Some(sampled))),
            (Some(trace_id), Some(span_id)) => {
                let parent = Parent {
                    trace_id: parse_b3_trace_id(trace_id)?,
                    span_id: parse_id(span_id, true)?,
                };
                Some((Some(parent), sampled))
            }
            _ => None,
        }
    }
}

/// `00-<trace id>-<parent id>-<flags>`. A later version may go on after that; ff is none.
fn parse_traceparent(value: &[u8]) -> Option<(Parent, bool)> {
    let (head, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let [version] = parse_hex::<1>(&head[..2], false)?;
    let fits = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    if !fits || head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
        return None;
    }
    let trace_id = parse_id(&head[3..35], false)?;
    let span_id = parse_id(&head[36..52], false)?;
    let [flags] = parse_hex::<1>(&head[53..], false)?;
    Some((Parent { trace_id, span_id }, flags & 1 == 1))
}

/// `<trace id>-<span id>[-<decision>[-<parent span id>]]`, or a decision alone.
fn parse_b3_single(value: &[u8]) -> Option<Said> {
    if let Some(sampled) = parse_b3_decision(value) {
        return Some((None, Some(sampled)));
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let trace_id = parse_b3_trace_id(parts.next()?)?;
    let span_id = parse_id(parts.next()?, true)?;
    let sampled = match parts.next() {
        Some(decision) => Some(parse_b3_decision(decision)?),
        None => None,
    };
    if let Some(grandparent) = parts.next() {
        parse_hex::<8>(grandparent, true)?;
    }
    parts.next().is_none().then_some((Some(Parent { trace_id, span_id }), sampled))
}

/// `d` (debug) asks for more than `1`; here it is the same, for it comes from outside.
fn parse_b3_decision(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// 32 digits, or 16 of a trace with a shorter id.
fn parse_b3_trace_id(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 16 {
        return parse_id(text, true);
    }
    let low: [u8; 8] = parse_id(text, true)?;
    Some(u128::from(u64::from_be_bytes(low)).to_be_bytes())
}

/// An id: digits, not all zero.
fn parse_id<const BYTES: usize>(text: &[u8], any_case: bool) -> Option<[u8; BYTES]> {
    parse_hex(text, any_case).filter(|id| *id != [0; BYTES])
}

fn parse_hex<const BYTES: usize>(text: &[u8], any_case: bool) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if any_case => Some(byte - b'A' + 10),
        _ => None,
    };
    if text.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        let pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend_from_slice(&pair);
    }
}

#[cfg(test)]
mod tests;
