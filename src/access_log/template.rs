//! Lines of the user's own form: text, or a JSON object, with Envoy's command operators in it. A form is
//! compiled once; a line is written from its parts.

pub(super) mod operator;
mod parse;
#[cfg(test)]
mod tests;

pub use parse::{JsonShape, TemplateError};

use operator::{Line, Operator, Value};

use super::escape;
use super::fields::FieldName;

/// A compiled form.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Box<[Part]>,
    request_headers: Box<[FieldName]>,
    trace_id: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// As it is, escaped already where it must be.
    Literal(Box<[u8]>),
    /// As text: control bytes, quotes and backslashes as `\xHH`, missing as `-`.
    Text(Operator),
    /// A JSON value of its own: a number, a string, null.
    Json(Operator),
    /// Within a JSON string.
    JsonText(Operator),
}

impl Template {
    /// A text line; a newline is added when it ends without one.
    ///
    /// # Errors
    /// The operator that is not known, and its column.
    pub fn text(format: &str) -> Result<Template, TemplateError> {
        let mut builder = parse::Builder::default();
        builder.text(format)?;
        if !format.ends_with('\n') {
            builder.literal(b"\n");
        }
        Ok(builder.finish())
    }

    /// A JSON object in this shape. A string that is one operator and nothing else becomes what the
    /// operator's value is: a number, a string, or null.
    ///
    /// # Errors
    /// The operator that is not known, its key and column.
    pub fn json(shape: &JsonShape) -> Result<Template, TemplateError> {
        let mut builder = parse::Builder::default();
        builder.json(shape)?;
        builder.literal(b"\n");
        Ok(builder.finish())
    }

    /// The fields of the request that must be captured, in this order before all others.
    pub(super) fn request_headers(&self) -> &[FieldName] {
        &self.request_headers
    }

    /// Does it show the trace id?
    pub(super) fn wants_trace_id(&self) -> bool {
        self.trace_id
    }

    /// Append a line.
    pub(super) fn write(&self, out: &mut Vec<u8>, line: &Line<'_>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Text(operator) => write_text(out, &operator.value(line)),
                Part::Json(operator) => write_json(out, &operator.value(line)),
                Part::JsonText(operator) => match operator.value(line) {
                    Value::Text(text) => escape::json_inner(out, text),
                    value => write_text(out, &value),
                },
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(text) => escape::quoted(out, text),
        other => other.write_plain(out),
    }
}

fn write_json(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Missing => out.extend_from_slice(b"null"),
        Value::Number(_) => value.write_plain(out),
        Value::Text(text) => escape::json(out, text),
        // Nothing in the others needs to be escaped.
        other => {
            out.push(b'"');
            other.write_plain(out);
            out.push(b'"');
        }
    }
}
