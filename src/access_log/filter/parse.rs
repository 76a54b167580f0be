//! The text of an expression → [`Condition`]. Types are checked on the way: CEL compares a number with a
//! number and a text with a text only.

use super::super::fields::FieldName;
use super::token::{Token, tokens};
use super::{Comparison, Condition, Number, Text};
use crate::router::string_match::Regex;

/// Bytes that an expression may have.
const EXPRESSION_BYTES_MAX: usize = 8 * 1024;
/// How deep parentheses and negations may nest.
const DEPTH_MAX: usize = 64;
/// What may stand in an expression.
pub(super) const KNOWN: &str = "attributes of request, response, connection, source, destination, \
     upstream and xds; &&, ||, !, ==, !=, <, <=, >, >=, in; startsWith, endsWith, contains, matches, has, \
     duration";

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FilterError {
    /// Where, in characters from 1.
    pub column: usize,
    /// Why.
    pub message: String,
}

/// What a part of an expression is.
#[derive(Clone, Debug)]
enum Value {
    Condition(Condition),
    Number(Number),
    Duration(Number),
    Text(Text),
    RequestHeaders,
    ResponseHeaders,
    Numbers(Box<[i64]>),
    Texts(Box<[Box<str>]>),
}

impl Value {
    fn describe(&self) -> &'static str {
        match self {
            Value::Condition(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Duration(_) => "a duration",
            Value::Text(_) => "a text",
            Value::RequestHeaders | Value::ResponseHeaders => "a map of headers",
            Value::Numbers(_) | Value::Texts(_) => "a list",
        }
    }
}

/// Compile `text`; beside the condition the request's fields that it asks for.
pub(super) fn parse(text: &str) -> Result<(Condition, Vec<FieldName>), FilterError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(fail(1, format!("longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, request_headers: Vec::new() };
    let column = parser.column();
    let value = parser.either()?;
    let condition = condition(value, column)?;
    match parser.peek() {
        Token::End => Ok((condition, parser.request_headers)),
        other => {
            Err(fail(parser.column(), format!("expected an operator, found {}", other.describe())))
        }
    }
}

pub(super) fn fail(column: usize, message: impl Into<String>) -> FilterError {
    FilterError { column, message: message.into() }
}

fn condition(value: Value, column: usize) -> Result<Condition, FilterError> {
    match value {
        Value::Condition(condition) => Ok(condition),
        other => {
            Err(fail(column, format!("expected true or false here, found {}", other.describe())))
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    request_headers: Vec<FieldName>,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(column, _)| *column)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), FilterError> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(fail(self.column(), format!("expected `{sign}`, found {}", self.peek().describe())))
    }

    fn either(&mut self) -> Result<Value, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(fail(self.column(), "nested too deeply"));
        }
        let value = self.joined("||", Condition::Any, |parser| {
            parser.joined("&&", Condition::All, Parser::relation)
        })?;
        if matches!(self.peek(), Token::Sign("?")) {
            return Err(self.unknown("`? :`"));
        }
        self.depth -= 1;
        Ok(value)
    }

    fn unknown(&self, what: &str) -> FilterError {
        fail(self.column(), format!("{what} is not supported; supported are: {KNOWN}"))
    }

    /// Parts with `sign` between them.
    fn joined(
        &mut self,
        sign: &str,
        join: fn(Box<[Condition]>) -> Condition,
        part: impl Fn(&mut Parser) -> Result<Value, FilterError>,
    ) -> Result<Value, FilterError> {
        let column = self.column();
        let first = part(self)?;
        if !matches!(self.peek(), Token::Sign(found) if *found == sign) {
            return Ok(first);
        }
        let mut parts = vec![condition(first, column)?];
        while self.takes(sign) {
            let column = self.column();
            parts.push(condition(part(self)?, column)?);
        }
        Ok(Value::Condition(join(parts.into())))
    }

    fn relation(&mut self) -> Result<Value, FilterError> {
        let left = self.unary()?;
        let column = self.column();
        if matches!(self.peek(), Token::Name(name) if name == "in") {
            self.at += 1;
            let right = self.unary()?;
            return self.among(left, right, column).map(Value::Condition);
        }
        let comparison = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Sign(sign @ ("+" | "-")) => return Err(self.unknown(&format!("`{sign}`"))),
            _ => return Ok(left),
        };
        self.at += 1;
        let right = self.unary()?;
        compare(left, comparison, right, column).map(Value::Condition)
    }

    fn among(
        &mut self,
        left: Value,
        right: Value,
        column: usize,
    ) -> Result<Condition, FilterError> {
        Ok(match (left, right) {
            (Value::Number(number), Value::Numbers(list)) => Condition::NumberAmong(number, list),
            (Value::Text(text), Value::Texts(list)) => Condition::TextAmong(text, list),
            // An empty list has texts as much as numbers.
            (Value::Number(_), Value::Texts(list)) if list.is_empty() => Condition::Constant(false),
            (Value::Text(Text::Constant(name)), Value::RequestHeaders) => {
                Condition::HasText(self.request_header(&name))
            }
            (Value::Text(Text::Constant(name)), Value::ResponseHeaders) => {
                Condition::HasText(Text::ResponseHeader(FieldName::new(&name)))
            }
            (left, right) => {
                let message = format!(
                    "`in` asks for a literal list of the same type or for headers, found {} in {}",
                    left.describe(),
                    right.describe()
                );
                return Err(fail(column, message));
            }
        })
    }

    fn unary(&mut self) -> Result<Value, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(fail(self.column(), "nested too deeply"));
        }
        let column = self.column();
        let value = if self.takes("!") {
            let inner = self.unary()?;
            Value::Condition(Condition::Not(Box::new(condition(inner, column + 1)?)))
        } else if self.takes("-") {
            match self.next() {
                Token::Number(number) => Value::Number(Number::Constant(-number)),
                other => {
                    let message = format!("`-` before {}, which is no number", other.describe());
                    return Err(fail(column, message));
                }
            }
        } else {
            self.member()?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn member(&mut self) -> Result<Value, FilterError> {
        let mut value = self.primary()?;
        loop {
            let column = self.column();
            if self.takes("[") {
                let Token::Text(name) = self.next() else {
                    return Err(fail(column + 1, "expected the name of a header in quotes"));
                };
                self.expect("]")?;
                value = self.header(value, &name, column)?;
            } else if self.takes(".") {
                let Token::Name(name) = self.next() else {
                    return Err(fail(column + 1, "expected a name behind the point"));
                };
                value = match self.takes("(") {
                    true => self.call(value, &name, column)?,
                    false => self.header(value, &name, column)?,
                };
            } else {
                return Ok(value);
            }
        }
    }

    fn header(&mut self, of: Value, name: &str, column: usize) -> Result<Value, FilterError> {
        match of {
            Value::RequestHeaders => Ok(Value::Text(self.request_header(name))),
            Value::ResponseHeaders => Ok(Value::Text(Text::ResponseHeader(FieldName::new(name)))),
            other => Err(fail(column, format!("{} has no fields", other.describe()))),
        }
    }

    /// What Envoy's map has for the pseudo headers is an attribute of its own.
    fn request_header(&mut self, name: &str) -> Text {
        match name {
            ":method" => return Text::Method,
            ":path" => return Text::Path,
            ":authority" => return Text::Host,
            _ => {}
        }
        let name = FieldName::new(name);
        let known = self.request_headers.iter().position(|other| *other == name);
        Text::RequestHeader(known.unwrap_or_else(|| {
            self.request_headers.push(name);
            self.request_headers.len() - 1
        }))
    }

    fn call(&mut self, value: Value, name: &str, column: usize) -> Result<Value, FilterError> {
        let Value::Text(text) = value else {
            return Err(fail(
                column,
                format!("`{name}` asks for a text, found {}", value.describe()),
            ));
        };
        if !matches!(name, "startsWith" | "endsWith" | "contains" | "matches") {
            let message = format!("`{name}` is not supported; supported are: {KNOWN}");
            return Err(fail(column + 1, message));
        }
        let at = self.column();
        let Token::Text(part) = self.next() else {
            return Err(fail(at, format!("`{name}` asks for a literal text in quotes")));
        };
        self.expect(")")?;
        Ok(Value::Condition(match name {
            "startsWith" => Condition::StartsWith(text, part.into()),
            "endsWith" => Condition::EndsWith(text, part.into()),
            "contains" => Condition::Contains(text, part.into()),
            _ => {
                // The engine matches whole strings; CEL finds a pattern anywhere.
                let regex = Regex::new(&part)
                    .and_then(|_| Regex::new(&format!("(?s:.*)(?:{part})(?s:.*)")))
                    .map_err(|error| fail(at, error.to_string()))?;
                Condition::Matches(text, regex)
            }
        }))
    }

    fn primary(&mut self) -> Result<Value, FilterError> {
        let column = self.column();
        match self.next() {
            Token::Number(number) => Ok(Value::Number(Number::Constant(number))),
            Token::Text(text) => Ok(Value::Text(Text::Constant(text.into()))),
            Token::Sign("(") => {
                let value = self.either()?;
                self.expect(")")?;
                Ok(value)
            }
            Token::Sign("[") => self.list(),
            Token::Name(name) => match name.as_str() {
                "true" | "false" => Ok(Value::Condition(Condition::Constant(name == "true"))),
                "has" if self.takes("(") => {
                    let value = self.member()?;
                    self.expect(")")?;
                    has(value, column).map(Value::Condition)
                }
                "duration" if self.takes("(") => self.duration(),
                _ => self.attribute(&name, column),
            },
            other => Err(fail(column, format!("expected a value, found {}", other.describe()))),
        }
    }

    fn list(&mut self) -> Result<Value, FilterError> {
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        while !self.takes("]") {
            let column = self.column();
            match self.next() {
                Token::Number(number) if texts.is_empty() => numbers.push(number),
                Token::Text(text) if numbers.is_empty() => texts.push(text.into()),
                other => {
                    let message = format!(
                        "a list holds literal numbers, or literal texts, found {}",
                        other.describe()
                    );
                    return Err(fail(column, message));
                }
            }
            if !self.takes(",") && !matches!(self.peek(), Token::Sign("]")) {
                self.expect("]")?;
            }
        }
        Ok(match numbers.is_empty() {
            true => Value::Texts(texts.into()),
            false => Value::Numbers(numbers.into()),
        })
    }

    fn duration(&mut self) -> Result<Value, FilterError> {
        let column = self.column();
        let Token::Text(text) = self.next() else {
            return Err(fail(column, "`duration` asks for a literal text such as '500ms'"));
        };
        self.expect(")")?;
        microseconds(&text).map(|value| Value::Duration(Number::Constant(value))).ok_or_else(|| {
            fail(column, format!("`{text}` is not a duration such as 500ms or 1.5s"))
        })
    }

    fn attribute(&mut self, root: &str, column: usize) -> Result<Value, FilterError> {
        let mut name = root.to_owned();
        if self.takes(".") {
            match self.next() {
                Token::Name(part) => {
                    name.push('.');
                    name.push_str(&part);
                }
                other => {
                    let message = format!("expected a name, found {}", other.describe());
                    return Err(fail(column, message));
                }
            }
        }
        if let Some(value) = of_name(&name) {
            return Ok(value);
        }
        Ok(match name.as_str() {
            "request.headers" => Value::RequestHeaders,
            "response.headers" => Value::ResponseHeaders,
            "request.referer" => Value::Text(self.request_header("referer")),
            _ => {
                let message = format!("`{name}` is not supported; supported are: {KNOWN}");
                return Err(fail(column, message));
            }
        })
    }
}

fn of_name(name: &str) -> Option<Value> {
    Some(match name {
        "request.size" => Value::Number(Number::RequestSize),
        "request.total_size" => Value::Number(Number::RequestTotalSize),
        "response.code" => Value::Number(Number::ResponseCode),
        "response.flags" => Value::Number(Number::ResponseFlags),
        "response.grpc_status" => Value::Number(Number::GrpcStatus),
        "response.size" => Value::Number(Number::ResponseSize),
        "response.total_size" => Value::Number(Number::ResponseTotalSize),
        "source.port" => Value::Number(Number::SourcePort),
        "destination.port" => Value::Number(Number::DestinationPort),
        "upstream.port" => Value::Number(Number::UpstreamPort),
        "upstream.request_attempt_count" => Value::Number(Number::Attempts),
        "request.duration" | "response.duration" => Value::Duration(Number::Duration),
        "response.backend_latency" => Value::Duration(Number::UpstreamServiceTime),
        "connection.mtls" => Value::Condition(Condition::MutualTls),
        _ => Value::Text(match name {
            "response.code_details" => Text::ResponseCodeDetails,
            "request.method" => Text::Method,
            "request.path" => Text::Path,
            "request.url_path" => Text::PathWithoutQuery,
            "request.query" => Text::Query,
            "request.host" => Text::Host,
            "request.id" => Text::RequestId,
            "request.useragent" => Text::UserAgent,
            "request.protocol" => Text::Protocol,
            "source.address" => Text::SourceAddress,
            "destination.address" => Text::DestinationAddress,
            "upstream.address" => Text::UpstreamAddress,
            "upstream.transport_failure_reason" => Text::UpstreamTransportFailureReason,
            "connection.requested_server_name" => Text::ServerName,
            "connection.tls_version" => Text::TlsVersion,
            "connection.subject_peer_certificate" => Text::PeerSubject,
            "connection.uri_san_peer_certificate" => Text::PeerUri,
            "connection.dns_san_peer_certificate" => Text::PeerDnsName,
            "connection.termination_details" => Text::TerminationDetails,
            "xds.route_name" => Text::RouteName,
            "xds.cluster_name" => Text::ClusterName,
            _ => return None,
        }),
    })
}

fn has(value: Value, column: usize) -> Result<Condition, FilterError> {
    match value {
        Value::Text(Text::Constant(_)) | Value::Number(Number::Constant(_)) => {
            Err(fail(column, "`has` asks for an attribute or a header"))
        }
        Value::Text(text) => Ok(Condition::HasText(text)),
        Value::Number(number) | Value::Duration(number) => Ok(Condition::HasNumber(number)),
        Value::Condition(Condition::MutualTls) => Ok(Condition::Constant(true)),
        other => {
            let message =
                format!("`has` asks for an attribute or a header, found {}", other.describe());
            Err(fail(column, message))
        }
    }
}

fn compare(
    left: Value,
    comparison: Comparison,
    right: Value,
    column: usize,
) -> Result<Condition, FilterError> {
    Ok(match (left, right) {
        (Value::Number(left), Value::Number(right))
        | (Value::Duration(left), Value::Duration(right)) => {
            Condition::Numbers(left, comparison, right)
        }
        (Value::Text(left), Value::Text(right)) => Condition::Texts(left, comparison, right),
        (Value::Condition(left), Value::Condition(right)) => {
            let same = Condition::Same(Box::new((left, right)));
            match comparison {
                Comparison::Equal => same,
                Comparison::NotEqual => Condition::Not(Box::new(same)),
                _ => return Err(fail(column, "true and false have no order")),
            }
        }
        (left, right) => {
            let mut message = format!("{} is compared with {}", left.describe(), right.describe());
            if matches!(left, Value::Duration(_)) || matches!(right, Value::Duration(_)) {
                message.push_str("; write a duration as duration('500ms')");
            }
            return Err(fail(column, message));
        }
    })
}

/// `1.5s`, `10ms`, `1h2m`, in whole microseconds.
fn microseconds(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|letter: char| letter.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let scale = match unit {
            "h" => 3.6e9,
            "m" => 6e7,
            "s" => 1e6,
            "ms" => 1e3,
            "us" | "µs" => 1.0,
            "ns" => 1e-3,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = behind;
    }
    (!text.is_empty() && total < 9e18).then_some(total.round() as i64)
}
