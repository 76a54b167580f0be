//! Header operations and the values that they write (Envoy's substitution format).

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
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    RouteName,
    UpstreamCluster,
    UpstreamHost,
    /// `%REQ(name?alternative):length%`: names in lower case.
    RequestHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
        length: usize,
    },
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
            let (operator, behind) = behind.split_once('%').ok_or(HeaderTextError::Unpaired)?;
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

fn variable(operator: &str) -> Option<Variable> {
    Some(match operator {
        // A peer that is believed speaks for its client: the direct address is not told apart.
        "DOWNSTREAM_REMOTE_ADDRESS" => Variable::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Variable::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_REMOTE_PORT" => Variable::DownstreamRemotePort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Variable::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Variable::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Variable::DownstreamLocalPort,
        "PROTOCOL" => Variable::Protocol,
        "START_TIME" => Variable::StartTime,
        "RESPONSE_CODE" => Variable::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Variable::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Variable::ResponseFlags,
        "ROUTE_NAME" => Variable::RouteName,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Variable::UpstreamCluster,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Variable::UpstreamHost,
        _ => {
            let (names, length) = operator.strip_prefix("REQ(")?.rsplit_once(')')?;
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
            Variable::RequestHeader {
                name: name.to_ascii_lowercase().into(),
                alternative: alternative.map(|name| name.to_ascii_lowercase().into()),
                length,
            }
        }
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
        let header = Variable::RequestHeader {
            name: "x-user".into(),
            alternative: Some(":path".into()),
            length: 8,
        };
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
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert_eq!(HeaderText::parse("50% off"), Err(HeaderTextError::Unpaired));
        for bad in ["NOPE", "REQ()", "REQ(a", "REQ(a):x", "REQ(a)b", " PROTOCOL"] {
            let error = HeaderText::parse(&format!("%{bad}%")).expect_err(bad);
            assert_eq!(error, HeaderTextError::Unknown(bad.to_owned()));
        }
    }
}
