//! Heads: found by `httparse`, checked for what it lets pass, indexed without copying.

use std::mem::MaybeUninit;

use crate::http::{BodyLength, HeaderField, RequestHead, ResponseHead, Scheme, Version};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};

use super::connection::ConnectionNominated;
use super::error::{RequestError, ResponseError};
use super::framing::read_fields;
use super::target;

/// Scratch for one parse, on the caller's stack: never initialised as a whole, so making one costs
/// nothing. About 7 KiB.
pub struct HeaderStorage<'b> {
    raw: [MaybeUninit<httparse::Header<'b>>; HEADERS_MAX],
    fields: [MaybeUninit<HeaderField<'b>>; HEADERS_MAX],
}

impl HeaderStorage<'_> {
    /// Storage for the fields of one head.
    #[inline]
    pub fn new() -> Self {
        HeaderStorage {
            raw: [const { MaybeUninit::uninit() }; HEADERS_MAX],
            fields: [const { MaybeUninit::uninit() }; HEADERS_MAX],
        }
    }
}

impl Default for HeaderStorage<'_> {
    #[inline]
    fn default() -> Self {
        HeaderStorage::new()
    }
}

/// A complete, accepted request head.
#[derive(Clone, Copy, Debug)]
pub struct ParsedRequest<'b> {
    /// Method, target and fields. The authority is that of an absolute-form target, else `Host`;
    /// empty only in HTTP/1.0. `Host` stays in the list as it was sent: write the forwarded one
    /// from `authority`.
    pub head: RequestHead<'b>,
    /// Bytes of the head, a tolerated empty line before it and the final empty line included.
    pub head_bytes: usize,
    /// `Empty`, `Fixed` or `Chunked`.
    pub body: BodyLength,
    /// The client wants to send more requests on this connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    /// Never in HTTP/1.0.
    pub expect_continue: bool,
    /// Value of `Upgrade`, when `Connection` names it, the version is 1.1 and `h2c` is not in it.
    pub upgrade: Option<&'b [u8]>,
    /// `TE` contains `trailers`.
    pub te_trailers: bool,
    /// Which fields `Connection` declares hop-by-hop.
    pub connection_nominated: ConnectionNominated<'b>,
}

/// A complete, accepted response head.
#[derive(Clone, Copy, Debug)]
pub struct ParsedResponse<'b> {
    /// Status and fields. The reason phrase is empty if it is not ASCII.
    pub head: ResponseHead<'b>,
    /// Bytes of the head, the final empty line included.
    pub head_bytes: usize,
    /// Decided by request method, status and fields (RFC 9112 section 6.3). `Empty` also for HEAD,
    /// 1xx, 204 and 304, whatever `Content-Length` says there (it is still to be forwarded for
    /// HEAD and 304).
    pub body: BodyLength,
    /// The upstream connection may carry another request after this response. False for
    /// `UntilClose`.
    pub keep_alive: bool,
    /// Value of `Upgrade` of a 101. Whether the request asked for it is for the caller to check.
    pub upgrade: Option<&'b [u8]>,
    /// Which fields `Connection` declares hop-by-hop.
    pub connection_nominated: ConnectionNominated<'b>,
}

/// Parse a request head at the start of `bytes`, which may hold more than it. `scheme` is that of
/// the connection. `None`: the head is incomplete and, so far, within the rules and limits.
///
/// Errors: every row of RFC 9112 that is a matter of taste is refused, see [`RequestError`].
pub fn parse_request<'s, 'b: 's>(
    bytes: &'b [u8],
    storage: &'s mut HeaderStorage<'b>,
    scheme: Scheme,
) -> Result<Option<ParsedRequest<'s>>, RequestError> {
    // RFC 9112 section 2.2: one empty line before the request line is to be ignored.
    let (skipped, bytes) = match bytes {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', rest @ ..] => (2, rest),
        _ => (0, bytes),
    };
    match bytes {
        [b'\r' | b'\n', ..] if skipped > 0 => return Err(RequestError::LeadingEmptyLines),
        [b'\r' | b'\n', ..] => return Err(RequestError::LineEnd),
        _ => {}
    }
    if bytes.len() > REQUEST_LINE_BYTES_MAX
        && memchr::memchr(b'\n', &bytes[..REQUEST_LINE_BYTES_MAX]).is_none()
    {
        return Err(RequestError::LineTooLong);
    }
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut raw = httparse::Request::new(&mut []);
    let head_bytes = match raw.parse_with_uninit_headers(bytes, &mut storage.raw) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() == HEAD_BYTES_MAX => {
            return Err(RequestError::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(request_error(error, bytes)),
    };
    let head = &bytes[..head_bytes];
    if !head.ends_with(b"\r\n\r\n") {
        return Err(RequestError::LineEnd);
    }
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(RequestError::RequestLine);
    };
    let method = method.as_bytes();
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let (headers, facts) = read_fields(head, version, raw.headers, &mut storage.fields)?;
    let target = target::parse(method, target.as_bytes())?;
    if facts.host_repeated {
        return Err(RequestError::HostRepeated);
    }
    let authority = match facts.host {
        Some(host) if target::is_valid_authority(host) => target.authority.unwrap_or(host),
        Some(host) if !host.is_empty() => return Err(RequestError::HostInvalid),
        _ if version == Version::Http11 => return Err(RequestError::HostMissing),
        _ => target.authority.unwrap_or_default(),
    };
    Ok(Some(ParsedRequest {
        head: RequestHead {
            method,
            path: target.path,
            query: target.query,
            authority,
            scheme,
            version,
            headers,
        },
        head_bytes: head_bytes + skipped,
        body: facts.request_body(),
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue && version == Version::Http11,
        upgrade: facts.honoured_upgrade(version),
        te_trailers: facts.te_trailers,
        connection_nominated: ConnectionNominated::new(headers, facts.options),
    }))
}

#[cold]
fn request_error(error: httparse::Error, bytes: &[u8]) -> RequestError {
    match error {
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        httparse::Error::NewLine => RequestError::LineEnd,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        httparse::Error::Version => {
            // A version of HTTP that is not spoken here, or no version at all?
            match bytes.splitn(3, |byte| *byte == b' ').nth(2) {
                Some(version) if version.starts_with(b"HTTP/") => RequestError::Version,
                _ => RequestError::RequestLine,
            }
        }
        httparse::Error::Token | httparse::Error::Status => RequestError::RequestLine,
    }
}

/// Parse a response head at the start of `bytes`, which may hold more than it. `request_is_head`:
/// the request was a HEAD, whose response has no body. `None`: the head is incomplete and, so far,
/// within the rules and limits. Interim responses (1xx) are returned like others, with an empty
/// body; another head follows them.
///
/// Errors: see [`ResponseError`].
pub fn parse_response<'s, 'b: 's>(
    bytes: &'b [u8],
    storage: &'s mut HeaderStorage<'b>,
    request_is_head: bool,
) -> Result<Option<ParsedResponse<'s>>, ResponseError> {
    if let [b'\r' | b'\n', ..] = bytes {
        return Err(ResponseError::StatusLine);
    }
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut raw = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let result = config.parse_response_with_uninit_headers(&mut raw, bytes, &mut storage.raw);
    let head_bytes = match result {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() == HEAD_BYTES_MAX => {
            return Err(ResponseError::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(response_error(error)),
    };
    let head = &bytes[..head_bytes];
    if !head.ends_with(b"\r\n\r\n") {
        return Err(ResponseError::LineEnd);
    }
    let (Some(status @ 100..), Some(reason), Some(minor)) = (raw.code, raw.reason, raw.version)
    else {
        return Err(ResponseError::StatusLine);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let (headers, facts) = read_fields(head, version, raw.headers, &mut storage.fields)?;
    let body = facts.response_body(status, request_is_head);
    Ok(Some(ParsedResponse {
        head: ResponseHead { status, reason: reason.as_bytes(), version, headers },
        head_bytes,
        body,
        keep_alive: facts.keep_alive(version)
            && body != BodyLength::UntilClose
            && !facts.announces_forbidden_body(status),
        upgrade: if status == 101 { facts.honoured_upgrade(version) } else { None },
        connection_nominated: ConnectionNominated::new(headers, facts.options),
    }))
}

#[cold]
fn response_error(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::FieldName,
        httparse::Error::HeaderValue => ResponseError::FieldValue,
        httparse::Error::NewLine => ResponseError::LineEnd,
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => {
            ResponseError::StatusLine
        }
    }
}
