//! The text of a form → its parts.

use super::super::escape;
use super::super::fields::FieldName;
use super::super::time_format::TimeFormat;
use super::operator::{Choice, Operator, RequestField, ResponseField, Simple};
use super::{Part, Template};

/// A JSON value as the user wrote it, its keys in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonShape {
    /// A string, perhaps with operators in it.
    Text(String),
    /// A number, `true`, `false` or `null`, as it is written.
    Literal(String),
    /// An array.
    List(Vec<JsonShape>),
    /// An object.
    Object(Vec<(String, JsonShape)>),
}

/// What is wrong with a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}column {column}: {message}", .key.as_ref().map(|key| format!("`{key}`, ")).unwrap_or_default())]
pub struct TemplateError {
    /// The key of a JSON form whose value it is about, `request.method`.
    pub key: Option<String>,
    /// Where in the text or the key's value, in characters from 1.
    pub column: usize,
    /// Why.
    pub message: String,
}

/// What operators of Envoy are known, but have no value here.
const WITHOUT_VALUE: &[(&str, &str)] = &[
    ("TRAILER", "trailers of responses are not kept"),
    ("REQUEST_DURATION", "the end of the request is not timed"),
    ("RESPONSE_DURATION", "the first byte of the response is not timed from the start"),
    ("RESPONSE_TX_DURATION", "the first byte of the response is not timed from the start"),
    ("ROUNDTRIP_DURATION", "it is not measured"),
    ("COMMON_DURATION", "use %DURATION%"),
    ("UPSTREAM_WIRE_BYTES_SENT", "bytes are counted on the client's side"),
    ("UPSTREAM_WIRE_BYTES_RECEIVED", "bytes are counted on the client's side"),
    ("UPSTREAM_HEADER_BYTES_SENT", "bytes are counted on the client's side"),
    ("UPSTREAM_HEADER_BYTES_RECEIVED", "bytes are counted on the client's side"),
    ("DOWNSTREAM_HEADER_BYTES_SENT", "use %DOWNSTREAM_WIRE_BYTES_SENT%"),
    ("DOWNSTREAM_HEADER_BYTES_RECEIVED", "use %DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
    ("DYNAMIC_METADATA", "there is no dynamic metadata"),
    ("CLUSTER_METADATA", "there is no such metadata"),
    ("UPSTREAM_METADATA", "there is no such metadata"),
    ("METADATA", "there is no such metadata"),
    ("FILTER_STATE", "there is no filter state"),
];

#[derive(Default)]
pub(super) struct Builder {
    parts: Vec<Part>,
    literal: Vec<u8>,
    request_headers: Vec<FieldName>,
}

/// A piece of a text.
enum Piece<'t> {
    Literal(&'t str),
    /// Without its percent signs, and the column of the first one.
    Operator(&'t str, usize),
}

/// An operator, or a text that is known by now.
enum Meaning {
    Operator(Operator),
    Text(String),
}

impl Builder {
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.literal.extend_from_slice(bytes);
    }

    fn part(&mut self, part: Part) {
        if !self.literal.is_empty() {
            self.parts.push(Part::Literal(std::mem::take(&mut self.literal).into()));
        }
        self.parts.push(part);
    }

    pub(super) fn finish(mut self) -> Template {
        if !self.literal.is_empty() {
            self.parts.push(Part::Literal(self.literal.into()));
        }
        let wants_trace_id = |part: &Part| match part {
            Part::Literal(_) => false,
            Part::Text(operator) | Part::Json(operator) | Part::JsonText(operator) => {
                *operator == Operator::Simple(Simple::TraceId)
            }
        };
        let trace_id = self.parts.iter().any(wants_trace_id);
        Template {
            parts: self.parts.into(),
            request_headers: self.request_headers.into(),
            trace_id,
        }
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), TemplateError> {
        for piece in pieces(text)? {
            match piece {
                Piece::Literal(literal) => self.literal(literal.as_bytes()),
                Piece::Operator(operator, column) => match self.meaning(operator, column)? {
                    Meaning::Operator(operator) => self.part(Part::Text(operator)),
                    Meaning::Text(text) => escape::quoted(&mut self.literal, text.as_bytes()),
                },
            }
        }
        Ok(())
    }

    pub(super) fn json(&mut self, shape: &JsonShape) -> Result<(), TemplateError> {
        match shape {
            JsonShape::Literal(literal) => self.literal(literal.as_bytes()),
            JsonShape::Text(text) => self.json_text(text)?,
            JsonShape::List(items) => {
                self.literal(b"[");
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.literal(b",");
                    }
                    self.json(item).map_err(|error| error.within(&format!("[{index}]")))?;
                }
                self.literal(b"]");
            }
            JsonShape::Object(entries) => {
                self.literal(b"{");
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        self.literal(b",");
                    }
                    escape::json(&mut self.literal, key.as_bytes());
                    self.literal(b":");
                    self.json(value).map_err(|error| error.within(key))?;
                }
                self.literal(b"}");
            }
        }
        Ok(())
    }

    fn json_text(&mut self, text: &str) -> Result<(), TemplateError> {
        let pieces = pieces(text)?;
        if let [Piece::Operator(operator, column)] = pieces.as_slice() {
            match self.meaning(operator, *column)? {
                Meaning::Operator(operator) => self.part(Part::Json(operator)),
                Meaning::Text(text) => escape::json(&mut self.literal, text.as_bytes()),
            }
            return Ok(());
        }
        self.literal(b"\"");
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => {
                    escape::json_inner(&mut self.literal, literal.as_bytes());
                }
                Piece::Operator(operator, column) => match self.meaning(operator, column)? {
                    Meaning::Operator(operator) => self.part(Part::JsonText(operator)),
                    Meaning::Text(text) => escape::json_inner(&mut self.literal, text.as_bytes()),
                },
            }
        }
        self.literal(b"\"");
        Ok(())
    }

    fn meaning(&mut self, operator: &str, column: usize) -> Result<Meaning, TemplateError> {
        if let Some((_, simple)) = Simple::ALL.iter().find(|(name, _)| *name == operator) {
            return Ok(Meaning::Operator(Operator::Simple(*simple)));
        }
        if operator == "HOSTNAME" {
            return Ok(Meaning::Text(crate::net::hostname()));
        }
        let end = operator.find(['(', ':']).unwrap_or(operator.len());
        let (name, rest) = operator.split_at(end);
        let no_value = WITHOUT_VALUE.iter().find(|(known, _)| *known == name);
        if let Some((_, why)) = no_value {
            return Err(fail(column, format!("`%{operator}%` is not supported: {why}")));
        }
        let Some((argument, length)) = arguments(rest) else {
            return Err(fail(column, unknown(operator, name)));
        };
        match name {
            "START_TIME" if length.is_none() && argument.is_empty() => {
                Ok(Meaning::Operator(Operator::Simple(Simple::StartTime)))
            }
            "START_TIME" if length.is_none() => match TimeFormat::parse(argument) {
                Some(format) => Ok(Meaning::Operator(Operator::StartTime(format))),
                None => {
                    let message = format!(
                        "`{argument}` is no time format: conversions of strftime, and %3f for \
                         milliseconds"
                    );
                    Err(fail(column, message))
                }
            },
            "ENVIRONMENT" if !argument.is_empty() => {
                let value = std::env::var(argument).unwrap_or_else(|_| "-".to_owned());
                Ok(Meaning::Text(shortened(value, length)))
            }
            "REQ" | "RESP" if argument.is_empty() => Err(fail(
                column,
                format!("`%{operator}%` names no header, as %{name}(X-NAME)% does"),
            )),
            "REQ" => {
                let choice = choice(argument, length, |field| self.request_field(field));
                Ok(Meaning::Operator(Operator::Request(choice)))
            }
            "RESP" => {
                let choice = choice(argument, length, response_field);
                Ok(Meaning::Operator(Operator::Response(choice)))
            }
            _ => Err(fail(column, unknown(operator, name))),
        }
    }

    fn request_field(&mut self, name: &str) -> RequestField {
        match name.to_ascii_lowercase().as_str() {
            ":method" => RequestField::Method,
            // The path as the client sent it is what is logged.
            ":path" | "x-envoy-original-path" => RequestField::Path,
            ":authority" | "host" => RequestField::Authority,
            ":scheme" => RequestField::Scheme,
            "x-forwarded-for" => RequestField::ForwardedFor,
            "user-agent" => RequestField::UserAgent,
            "x-request-id" => RequestField::RequestId,
            name => {
                let name = FieldName::new(name);
                let known = self.request_headers.iter().position(|other| *other == name);
                RequestField::Captured(known.unwrap_or_else(|| {
                    self.request_headers.push(name);
                    self.request_headers.len() - 1
                }))
            }
        }
    }
}

fn response_field(name: &str) -> ResponseField {
    match name.to_ascii_lowercase().as_str() {
        ":status" => ResponseField::Status,
        "x-envoy-upstream-service-time" => ResponseField::UpstreamServiceTime,
        name => ResponseField::Header(FieldName::new(name)),
    }
}

fn choice<F>(argument: &str, length: Option<usize>, mut field: impl FnMut(&str) -> F) -> Choice<F> {
    let (name, alternative) = match argument.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative)),
        None => (argument, None),
    };
    Choice {
        field: field(name),
        alternative: alternative.filter(|name| !name.is_empty()).map(field),
        length: length.unwrap_or(usize::MAX),
    }
}

fn shortened(mut text: String, length: Option<usize>) -> String {
    if let Some(length) = length {
        text.truncate(text.floor_char_boundary(length));
    }
    text
}

/// `(argument):length`, both of which may be missing.
fn arguments(rest: &str) -> Option<(&str, Option<usize>)> {
    let (argument, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest.rsplit_once(')')?,
        None => ("", rest),
    };
    match rest.strip_prefix(':') {
        Some(length) => length.parse().ok().map(|length| (argument, Some(length))),
        None => rest.is_empty().then_some((argument, None)),
    }
}

fn fail(column: usize, message: String) -> TemplateError {
    TemplateError { key: None, column, message }
}

fn unknown(operator: &str, name: &str) -> String {
    let known = Simple::ALL.iter().map(|(known, _)| *known);
    let more = ["REQ(X)", "RESP(X)", "START_TIME(…)", "ENVIRONMENT(X)", "HOSTNAME"];
    let mut similar: Vec<&str> = known
        .chain(more)
        .filter(|known| {
            let known = known.split('(').next().unwrap_or_default();
            name.len() > 2 && (known.contains(name) || name.contains(known))
        })
        .collect();
    similar.truncate(4);
    match similar.is_empty() {
        true => format!(
            "`%{operator}%` is no operator that is known; docs/observability.md lists them; a percent \
             sign itself is `%%`"
        ),
        false => {
            format!("`%{operator}%` is no operator that is known; there is {}", similar.join(", "))
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('%') {
        let open = at + found;
        if open > at {
            pieces.push(Piece::Literal(&text[at..open]));
        }
        let inner = &text[open + 1..];
        if inner.starts_with('%') {
            pieces.push(Piece::Literal("%"));
            at = open + 2;
            continue;
        }
        let column = text[..open].chars().count() + 1;
        let Some(length) = operator_length(inner) else {
            return Err(fail(
                column,
                "a `%` without its partner; a percent sign itself is `%%`".into(),
            ));
        };
        pieces.push(Piece::Operator(&inner[..length], column));
        at = open + 1 + length + 1;
    }
    if at < text.len() {
        pieces.push(Piece::Literal(&text[at..]));
    }
    Ok(pieces)
}

/// Up to the percent sign that ends an operator; those in its parentheses belong to it.
fn operator_length(text: &str) -> Option<usize> {
    let end = text.find('%')?;
    match text.find('(').filter(|open| *open < end) {
        Some(open) => {
            let close = open + text[open..].find(')')?;
            Some(close + text[close..].find('%')?)
        }
        None => Some(end),
    }
}

impl TemplateError {
    /// The key of the value around what it is about.
    fn within(mut self, key: &str) -> TemplateError {
        self.key = Some(match self.key {
            None => key.to_owned(),
            Some(inner) if inner.starts_with('[') => format!("{key}{inner}"),
            Some(inner) => format!("{key}.{inner}"),
        });
        self
    }
}
