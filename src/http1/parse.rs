//! Request and response heads: find the fields with `httparse`, check what it lets pass, index.

use std::mem::MaybeUninit;

use super::connection::{ConnectionNominated, ConnectionOptions};
use super::error::{Fault, RequestError, ResponseError};
use super::framing::Framing;
use super::target;
use crate::http::{
    BodyLength, HeaderField, KnownHeader, RequestHead, ResponseHead, Scheme, Version,
};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};

/// Room for the fields of one head, on the stack of the caller; making it costs nothing.
pub struct HeaderStorage<'b> {
    raw: [MaybeUninit<httparse::Header<'b>>; HEADERS_MAX],
    fields: [MaybeUninit<HeaderField<'b>>; HEADERS_MAX],
}

impl HeaderStorage<'_> {
    /// Room that holds nothing yet.
    #[inline]
    pub fn new() -> Self {
        HeaderStorage {
            raw: [const { MaybeUninit::uninit() }; HEADERS_MAX],
            fields: [const { MaybeUninit::uninit() }; HEADERS_MAX],
        }
    }
}

impl Default for HeaderStorage<'_> {
    fn default() -> Self {
        HeaderStorage::new()
    }
}

/// A request head and what it means for the connection.
#[derive(Clone, Copy, Debug)]
pub struct ParsedRequest<'b> {
    /// The head. The authority of an absolute-form target stands in the place of `Host`'s.
    pub head: RequestHead<'b>,
    /// Bytes of the head, a tolerated empty line before it and the one behind it included.
    pub head_bytes: usize,
    /// The body behind it: `Empty`, `Fixed` or `Chunked`.
    pub body: BodyLength,
    /// May the connection serve another request after this one?
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// What the client wants to change to: `Upgrade` named by `Connection` in HTTP/1.1, other than
    /// h2c.
    pub upgrade: Option<&'b [u8]>,
    /// The client takes trailers.
    pub te_trailers: bool,
    /// Which fields `Connection` takes away.
    pub connection_nominated: ConnectionNominated<'b>,
}

/// A response head and what it means for the connection.
#[derive(Clone, Copy, Debug)]
pub struct ParsedResponse<'b> {
    /// The head.
    pub head: ResponseHead<'b>,
    /// Bytes of the head, the empty line included.
    pub head_bytes: usize,
    /// The body behind it, by method and status.
    pub body: BodyLength,
    /// May the connection be used again after the body?
    pub keep_alive: bool,
    /// What the upstream changes to: `Upgrade` named by `Connection`.
    pub upgrade: Option<&'b [u8]>,
    /// Which fields `Connection` takes away.
    pub connection_nominated: ConnectionNominated<'b>,
}

/// Read a request head at the start of `bytes`; `None` when it is not complete.
///
/// # Errors
/// Whatever makes the head, or where its body ends, ambiguous or too large: see [`RequestError`].
#[inline]
pub fn parse_request<'s, 'b: 's>(
    bytes: &'b [u8],
    storage: &'s mut HeaderStorage<'b>,
    scheme: Scheme,
) -> Result<Option<ParsedRequest<'s>>, RequestError> {
    let HeaderStorage { raw, fields } = storage;
    // One empty line is tolerated (RFC 9112 section 2.2); a bare LF is none.
    let skipped = match bytes {
        [b'\r', b'\n', b'\r' | b'\n', ..] => return Err(RequestError::LeadingEmptyLines),
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => return Err(RequestError::LineEnd),
        [b'\r', other, ..] if *other != b'\n' => return Err(RequestError::LineEnd),
        _ => 0,
    };
    let head_start = &bytes[skipped..];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(head_start, raw) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return incomplete(head_start),
        Err(error) => return Err(refused_request(error, head_start)),
    };
    if length > HEAD_BYTES_MAX {
        return Err(RequestError::HeadTooLarge);
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(RequestError::RequestLine);
    };
    let version = match request.version {
        Some(1) => Version::Http11,
        Some(0) => Version::Http10,
        _ => return Err(RequestError::Version),
    };
    // `METHOD SP target SP HTTP/1.x CRLF` and nothing more between them.
    const VERSION_BYTES: usize = " HTTP/1.1\r\n".len();
    let line_bytes = method.len() + 1 + target.len() + VERSION_BYTES;
    if line_bytes > REQUEST_LINE_BYTES_MAX {
        return Err(RequestError::LineTooLong);
    }
    let target = target.as_bytes();
    let line_is_exact = head_start.get(line_bytes - 2..line_bytes) == Some(b"\r\n")
        && head_start.get(method.len() + 1..method.len() + 1 + target.len()) == Some(target);
    if !line_is_exact {
        return Err(RequestError::RequestLine);
    }
    if target.iter().any(|byte| matches!(byte, 0..=0x20 | 0x7f)) {
        return Err(RequestError::Target);
    }
    let fields = index(head_start, line_bytes, length, request.headers, fields)?;

    let mut framing = Framing::default();
    let mut options = ConnectionOptions::default();
    let mut host: Option<&[u8]> = None;
    let mut upgrade: Option<&[u8]> = None;
    let mut expect_continue = false;
    let mut te_trailers = false;
    for field in fields {
        match field.known {
            KnownHeader::Other => {}
            KnownHeader::Host if host.is_some() => return Err(Fault::HostRepeated.into()),
            KnownHeader::Host => host = Some(field.value),
            KnownHeader::ContentLength => framing.content_length(field.value)?,
            KnownHeader::TransferEncoding => framing.transfer_encoding(field.value)?,
            KnownHeader::Connection => options.read(field.value)?,
            KnownHeader::Upgrade => upgrade = Some(field.value),
            KnownHeader::Expect => {
                expect_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
            }
            KnownHeader::Te => {
                te_trailers |= super::connection::list(field.value)
                    .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
    }
    let target = target::parse(method.as_bytes(), target)?;
    let authority = match (target.authority, host) {
        (Some(authority), _) => {
            // Its authority wins, but a Host that is no host is still refused.
            if host.is_some_and(|host| !host.is_empty() && !target::is_valid_authority(host)) {
                return Err(RequestError::HostInvalid);
            }
            if host.is_none() && version == Version::Http11 {
                return Err(RequestError::HostMissing);
            }
            authority
        }
        (None, Some(host)) if !host.is_empty() => {
            if !target::is_valid_authority(host) {
                return Err(RequestError::HostInvalid);
            }
            host
        }
        (None, _) if version == Version::Http11 => return Err(RequestError::HostMissing),
        (None, _) => &[],
    };
    let body = framing.decide(version, BodyLength::Empty)?;
    let keep_alive = match version {
        Version::Http11 => !options.close,
        Version::Http10 => options.keep_alive && !options.close,
    };
    let upgrade = upgrade.filter(|protocol| {
        options.upgrade
            && version == Version::Http11
            && !protocol.is_empty()
            && !super::connection::list(protocol)
                .any(|name| super::connection::starts_with_ignore_case(name, b"h2c"))
    });
    Ok(Some(ParsedRequest {
        head: RequestHead {
            method: method.as_bytes(),
            path: target.path,
            query: target.query,
            authority,
            scheme,
            version,
            headers: fields,
        },
        head_bytes: skipped + length,
        body,
        keep_alive,
        expect_continue: expect_continue && version == Version::Http11,
        upgrade,
        te_trailers,
        connection_nominated: ConnectionNominated::new(fields, options),
    }))
}

/// Read a response head at the start of `bytes`; `None` when it is not complete.
///
/// # Errors
/// Whatever makes the head, or where its body ends, ambiguous or too large: see [`ResponseError`].
#[inline]
pub fn parse_response<'s, 'b: 's>(
    bytes: &'b [u8],
    storage: &'s mut HeaderStorage<'b>,
    request_is_head: bool,
) -> Result<Option<ParsedResponse<'s>>, ResponseError> {
    let HeaderStorage { raw, fields } = storage;
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, raw) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => {
            return Err(ResponseError::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refused_response(error)),
    };
    if length > HEAD_BYTES_MAX {
        return Err(ResponseError::HeadTooLarge);
    }
    let (Some(status), Some(reason)) = (response.code, response.reason) else {
        return Err(ResponseError::StatusLine);
    };
    let version = match response.version {
        Some(1) => Version::Http11,
        Some(0) => Version::Http10,
        _ => return Err(ResponseError::StatusLine),
    };
    if status < 100 {
        return Err(ResponseError::StatusLine);
    }
    // `HTTP/1.x SP 3DIGIT [SP reason] CRLF`
    let line_end = memchr::memchr(b'\n', bytes).unwrap_or(0);
    if line_end == 0 || bytes.get(line_end - 1) != Some(&b'\r') {
        return Err(ResponseError::LineEnd);
    }
    if bytes.starts_with(b"\r\n") {
        return Err(ResponseError::StatusLine);
    }
    let fields = index(bytes, line_end + 1, length, response.headers, fields)?;

    let mut framing = Framing::default();
    let mut options = ConnectionOptions::default();
    let mut upgrade: Option<&[u8]> = None;
    for field in fields {
        match field.known {
            KnownHeader::Other => {}
            KnownHeader::ContentLength => framing.content_length(field.value)?,
            KnownHeader::TransferEncoding => framing.transfer_encoding(field.value)?,
            KnownHeader::Connection => options.read(field.value)?,
            KnownHeader::Upgrade => upgrade = Some(field.value),
            _ => {}
        }
    }
    let declared = framing.decide(version, BodyLength::UntilClose)?;
    let bodiless = request_is_head || matches!(status, 100..=199 | 204 | 304);
    let body = if bodiless { BodyLength::Empty } else { declared };
    let persistent = match version {
        Version::Http11 => !options.close,
        Version::Http10 => options.keep_alive && !options.close,
    };
    Ok(Some(ParsedResponse {
        head: ResponseHead { status, reason: reason.as_bytes(), version, headers: fields },
        head_bytes: length,
        body,
        keep_alive: persistent && body != BodyLength::UntilClose,
        upgrade: upgrade.filter(|_| options.upgrade),
        connection_nominated: ConnectionNominated::new(fields, options),
    }))
}

/// Index the fields, and check that every line of the head ends in CR LF and that only the line end
/// stands between a value and the next name (white space around values excepted).
#[inline]
fn index<'s, 'b: 's>(
    bytes: &'b [u8],
    first_field: usize,
    head_bytes: usize,
    raw: &[httparse::Header<'b>],
    fields: &'s mut [MaybeUninit<HeaderField<'b>>; HEADERS_MAX],
) -> Result<&'s [HeaderField<'b>], Fault> {
    // httparse takes a bare LF for a line end, so ends are looked at one by one.
    let mut line_start = first_field;
    for (slot, header) in fields.iter_mut().zip(raw) {
        let (name, value) = (header.name.as_bytes(), header.value);
        let value_end = if value.is_empty() {
            line_start + name.len()
        } else {
            offset_in(bytes, value) + value.len()
        };
        let Some(end) = memchr::memchr(b'\n', bytes.get(value_end..).unwrap_or_default()) else {
            return Err(Fault::LineEnd);
        };
        let line_end = value_end + end;
        if line_end == 0 || bytes.get(line_end - 1) != Some(&b'\r') {
            return Err(Fault::LineEnd);
        }
        line_start = line_end + 1;
        slot.write(HeaderField { name, value, known: KnownHeader::from_name(name) });
    }
    if bytes.get(line_start..head_bytes) != Some(b"\r\n") {
        return Err(Fault::LineEnd);
    }
    let count = raw.len().min(HEADERS_MAX);
    // SAFETY: the first `count` slots were written by the loop above, and `MaybeUninit<T>` has the
    // layout of `T`.
    Ok(unsafe { &*(std::ptr::from_ref(&fields[..count]) as *const [HeaderField<'b>]) })
}

/// Where `part`, a piece of `bytes`, begins.
#[inline]
fn offset_in(bytes: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize).min(bytes.len())
}

#[cold]
fn incomplete<T>(bytes: &[u8]) -> Result<Option<T>, RequestError> {
    if bytes.len() > REQUEST_LINE_BYTES_MAX
        && memchr::memchr(b'\n', &bytes[..REQUEST_LINE_BYTES_MAX]).is_none()
    {
        return Err(RequestError::LineTooLong);
    }
    if bytes.len() >= HEAD_BYTES_MAX {
        return Err(RequestError::HeadTooLarge);
    }
    Ok(None)
}

#[cold]
fn refused_request(error: httparse::Error, bytes: &[u8]) -> RequestError {
    match error {
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        httparse::Error::NewLine => RequestError::LineEnd,
        httparse::Error::Version => {
            // `HTTP/<digit>.<digit>` is a version that we do not speak; anything else is garbage.
            let line_end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
            let line = bytes[..line_end].trim_ascii_end();
            let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            match version {
                b"HTTP/1.0" | b"HTTP/1.1" => RequestError::RequestLine,
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    RequestError::Version
                }
                _ => RequestError::RequestLine,
            }
        }
        httparse::Error::Token | httparse::Error::Status => RequestError::RequestLine,
    }
}

#[cold]
fn refused_response(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::FieldName,
        httparse::Error::HeaderValue => ResponseError::FieldValue,
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::NewLine => ResponseError::LineEnd,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => {
            ResponseError::StatusLine
        }
    }
}
