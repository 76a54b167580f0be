//! Header operations and the values that they write (Envoy's substitution format).

use crate::access_log::TimeFormat;
use crate::http::authority::HOST_BYTES_MAX;

/// Header operations, worked out beforehand: set, add and remove of all levels come down to names
/// that are dropped and fields that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names in lower case.
    pub drop: Box<[Box<str>]>,
    /// Fields to add behind the others; a value that comes out empty is left out.
    pub append: Box<[(Box<str>, HeaderText)]>,
}

/// How a message ends is decided by the gateway alone: a second opinion is how requests are smuggled.
const FRAMING: [&str; 6] =
    ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"];

impl HeaderEdits {
    /// Does a field of this name frame a message, so that no operation may touch it?
    pub fn is_framing(name: &str) -> bool {
        FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing))
    }

    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.append.is_empty()
    }
}

/// The value of a field: literal text and variables (Envoy's substitution format).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderText(pub Box<[HeaderPart]>);

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPart {
    /// As it is.
    Literal(Box<str>),
    /// What is known of the request or response.
    Variable(Variable),
}

/// A variable of Envoy's substitution format that a gateway knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Envoy's names; their meaning is Envoy's")]
pub enum Variable {
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamRemotePort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    Protocol,
    StartTime,
    StartTimeFormat(TimeFormat),
    Duration,
    Hostname,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    RouteName,
    UpstreamCluster,
    UpstreamHost,
    UpstreamRemoteAddressWithoutPort,
    UpstreamRemotePort,
    UpstreamRequestAttemptCount,
    /// `%REQ(name?alternative):length%`.
    RequestHeader(FieldOf),
    /// `%RESP(name?alternative):length%`; empty where there is no response yet.
    ResponseHeader(FieldOf),
}

/// A field of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOf {
    /// Its name in lower case, or `:method` and the like.
    pub name: Box<str>,
    /// The field to take when that one is missing.
    pub alternative: Option<Box<str>>,
    /// Most bytes of the value.
    pub length: usize,
}

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// A `%` that begins nothing.
    #[error("a `%` without its partner")]
    Unpaired,
    /// Nothing that the gateway knows.
    #[error("`%{0}%` is not a variable that a gateway knows")]
    Unknown(String),
}

impl HeaderText {
    /// Read Envoy's format; `%%` is a plain percent sign.
    ///
    /// # Errors
    /// See [`HeaderTextError`].
    pub fn parse(value: &str) -> Result<HeaderText, HeaderTextError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = value;
        while let Some((before, behind)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(behind) = behind.strip_prefix('%') {
                literal.push('%');
                rest = behind;
                continue;
            }
            let (operator, behind) = split_operator(behind).ok_or(HeaderTextError::Unpaired)?;
            if !literal.is_empty() {
                parts.push(HeaderPart::Literal(std::mem::take(&mut literal).into()));
            }
            let variable =
                variable(operator).ok_or_else(|| HeaderTextError::Unknown(operator.to_owned()))?;
            parts.push(HeaderPart::Variable(variable));
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(HeaderPart::Literal(literal.into()));
        }
        Ok(HeaderText(parts.into()))
    }
}

/// An operator and what comes behind its last `%`. One in parentheses is part of it:
/// `START_TIME(%Y)`.
fn split_operator(text: &str) -> Option<(&str, &str)> {
    let end = text.find('%')?;
    let open = text.find('(').filter(|open| *open < end);
    let close = open.and_then(|open| Some(open + text[open..].find(')')?));
    let end = match close {
        Some(close) => close + text[close..].find('%')?,
        None => end,
    };
    Some((&text[..end], &text[end + 1..]))
}

fn variable(operator: &str) -> Option<Variable> {
    Some(match operator {
        // A peer that is believed speaks for its client: the direct address is not told apart.
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Variable::DownstreamRemoteAddress,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            Variable::DownstreamRemoteAddressWithoutPort
        }
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => Variable::DownstreamRemotePort,
        "DOWNSTREAM_REMOTE_ADDRESS" => Variable::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Variable::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_REMOTE_PORT" => Variable::DownstreamRemotePort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Variable::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Variable::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Variable::DownstreamLocalPort,
        "PROTOCOL" => Variable::Protocol,
        "START_TIME" | "START_TIME()" => Variable::StartTime,
        "DURATION" => Variable::Duration,
        "HOSTNAME" => Variable::Hostname,
        "RESPONSE_CODE" => Variable::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Variable::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Variable::ResponseFlags,
        "ROUTE_NAME" => Variable::RouteName,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Variable::UpstreamCluster,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Variable::UpstreamHost,
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Variable::UpstreamRemoteAddressWithoutPort,
        "UPSTREAM_REMOTE_PORT" => Variable::UpstreamRemotePort,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Variable::UpstreamRequestAttemptCount,
        _ => {
            if let Some(format) = operator.strip_prefix("START_TIME(") {
                return TimeFormat::parse(format.strip_suffix(')')?).map(Variable::StartTimeFormat);
            }
            match operator.strip_prefix("REQ(") {
                Some(rest) => Variable::RequestHeader(field_of(rest)?),
                None => Variable::ResponseHeader(field_of(operator.strip_prefix("RESP(")?)?),
            }
        }
    })
}

/// `name?alternative):length`.
fn field_of(text: &str) -> Option<FieldOf> {
    let (names, length) = text.rsplit_once(')')?;
    let length = match length {
        "" => usize::MAX,
        _ => length.strip_prefix(':')?.parse().ok()?,
    };
    let (name, alternative) = match names.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative)),
        None => (names, None),
    };
    if name.is_empty() || name.len() > HOST_BYTES_MAX {
        return None;
    }
    Some(FieldOf {
        name: name.to_ascii_lowercase().into(),
        alternative: alternative.map(|name| name.to_ascii_lowercase().into()),
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> HeaderPart {
        HeaderPart::Literal(text.into())
    }

    #[test]
    fn values_are_text_and_variables() {
        let parsed = HeaderText::parse("a %PROTOCOL% 100%% %REQ(X-User?:Path):8%").expect("good");
        let header = Variable::RequestHeader(FieldOf {
            name: "x-user".into(),
            alternative: Some(":path".into()),
            length: 8,
        });
        assert_eq!(
            *parsed.0,
            [
                literal("a "),
                HeaderPart::Variable(Variable::Protocol),
                literal(" 100% "),
                HeaderPart::Variable(header),
            ]
        );
        assert_eq!(HeaderText::parse("").expect("good"), HeaderText::default());
        let time = TimeFormat::parse("%Y %d").expect("good");
        assert_eq!(
            *HeaderText::parse("%START_TIME(%Y %d)%%HOSTNAME%%%").expect("good").0,
            [
                HeaderPart::Variable(Variable::StartTimeFormat(time)),
                HeaderPart::Variable(Variable::Hostname),
                literal("%"),
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        for bad in ["50% off", "%START_TIME(%Y)", "%REQ(a"] {
            assert_eq!(HeaderText::parse(bad), Err(HeaderTextError::Unpaired), "{bad}");
        }
        for bad in [
            "NOPE",
            "REQ()",
            "REQ(a",
            "REQ(a):x",
            "REQ(a)b",
            " PROTOCOL",
            "RESP()",
            "START_TIME(%Q)",
        ] {
            let error = HeaderText::parse(&format!("%{bad}%")).expect_err(bad);
            assert_eq!(error, HeaderTextError::Unknown(bad.to_owned()));
        }
    }
}
