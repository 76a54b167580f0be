//! The form of JSON access log lines (`meshConfig.accessLogFormat` with the encoding JSON), read by the
//! parser of the manifests: keys keep their order, and YAML does as well as JSON.

use super::node::{self, Node, Value, is_null};
use crate::access_log::JsonShape;

/// Why a text is no form of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct LogTemplateError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Why.
    pub message: String,
}

/// Read one object.
///
/// # Errors
/// The place that is not JSON or YAML, or where it is something else than one object.
pub fn read(text: &str) -> Result<JsonShape, LogTemplateError> {
    let fail = |position: node::Position, message: String| LogTemplateError {
        line: position.line,
        column: position.column,
        message,
    };
    let documents = node::parse(text)
        .map_err(|error| fail(error.position, format!("not valid JSON: {}", error.message)))?;
    let first = node::Position { line: 1, column: 1 };
    let [document] = documents.as_slice() else {
        return Err(fail(first, "expected one object".to_owned()));
    };
    if let Some(twice) = document.duplicates.first() {
        return Err(fail(twice.position, twice.message.clone()));
    }
    match &document.root {
        Some(root) if matches!(root.value, Value::Mapping(_)) => Ok(shape(root)),
        Some(root) => Err(fail(root.position, "expected an object of keys and values".to_owned())),
        None => Err(fail(first, "expected an object, found nothing".to_owned())),
    }
}

fn shape(node: &Node) -> JsonShape {
    match &node.value {
        Value::Scalar { text, plain: true } if is_null(text) => {
            JsonShape::Literal("null".to_owned())
        }
        Value::Scalar { text, plain: true } if is_literal(text) => JsonShape::Literal(text.clone()),
        Value::Scalar { text, .. } => JsonShape::Text(text.clone()),
        Value::Sequence(items) => JsonShape::List(items.iter().map(shape).collect()),
        Value::Mapping(entries) => JsonShape::Object(
            entries.iter().map(|entry| (entry.key.clone(), shape(&entry.value))).collect(),
        ),
    }
}

/// Is it a number or truth value as JSON writes one (RFC 8259 section 6)? Other plain words are strings.
fn is_literal(text: &str) -> bool {
    if matches!(text, "true" | "false") {
        return true;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = digits.split_at(digits.find(['.', 'e', 'E']).unwrap_or(digits.len()));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && (fraction.is_empty() || fraction.strip_prefix('.').is_some_and(all_digits))
        && exponent
            .is_none_or(|digits| all_digits(digits.strip_prefix(['+', '-']).unwrap_or(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> JsonShape {
        JsonShape::Text(value.to_owned())
    }

    #[test]
    fn objects_keep_their_order_and_types() {
        let read =
            read(r#"{"z": "%PROTOCOL%", "a": [1, -2.5e3, true, null, "1"], "m": {"k": "v"}}"#);
        let literal = |value: &str| JsonShape::Literal(value.to_owned());
        let list =
            vec![literal("1"), literal("-2.5e3"), literal("true"), literal("null"), text("1")];
        let expected = JsonShape::Object(vec![
            ("z".to_owned(), text("%PROTOCOL%")),
            ("a".to_owned(), JsonShape::List(list)),
            ("m".to_owned(), JsonShape::Object(vec![("k".to_owned(), text("v"))])),
        ]);
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn yaml_words_that_json_does_not_know_are_strings() {
        for word in ["01", "1.", ".5", "+1", "0x10", "1e", "True", "yes", "word"] {
            let expected = JsonShape::Object(vec![("k".to_owned(), text(word))]);
            assert_eq!(read(&format!("k: {word}")), Ok(expected), "{word}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (wrong, line, part) in [
            ("", 1, "one object"),
            ("[1]", 1, "an object"),
            ("{\"a\": 1,\n \"a\": 2}", 2, "duplicate"),
            ("{\"a\": ", 1, "not valid JSON"),
            ("a: 1\n---\nb: 2\n", 1, "one object"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.line >= line && error.message.contains(part), "{wrong}: {error}");
        }
    }
}
