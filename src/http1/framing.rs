//! The one place that decides how long a body is, and every reason to refuse to (RFC 9112 section
//! 6.3, and `security` rules that are stricter).

use super::error::Fault;
use crate::http::{BodyLength, Version};

/// Largest Content-Length.
const LENGTH_MAX: u64 = 1 << 63;

/// The framing fields of one head, as they are met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// A `Content-Length` field.
    #[inline]
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::LengthRepeated);
        }
        self.length = Some(parse_length(value)?);
        Ok(())
    }

    /// A `Transfer-Encoding` field: exactly one, exactly `chunked`.
    #[inline]
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if !self.chunked && value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let known: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
        let mut codings = super::connection::list(value);
        let first_is_known = codings
            .next()
            .is_some_and(|coding| known.iter().any(|name| coding.eq_ignore_ascii_case(name)));
        // Only a coding alone, or followed by the final chunked, is an honest request for it.
        let rest: Option<&[u8]> = codings.next();
        let honest = rest.is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"))
            && codings.next().is_none();
        if !self.chunked && first_is_known && honest {
            return Err(Fault::CodingUnsupported);
        }
        Err(Fault::CodingInvalid)
    }

    /// The length that the fields give, `absent` when there are none.
    #[inline]
    pub(super) fn decide(self, version: Version, absent: BodyLength) -> Result<BodyLength, Fault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::LengthAndCoding),
            (None, true) if version == Version::Http10 => Err(Fault::CodingInHttp10),
            (None, true) => Ok(BodyLength::Chunked),
            (Some(0), false) => Ok(BodyLength::Empty),
            (Some(length), false) => Ok(BodyLength::Fixed(length)),
            (None, false) => Ok(absent),
        }
    }
}

/// Digits only: no sign, no space, no list, not empty, at most 2⁶³.
#[inline]
fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || value.len() > 19 {
        // A list of lengths is a repeated one, equal or not.
        let listed = memchr::memchr(b',', value).is_some();
        return Err(if listed { Fault::LengthRepeated } else { Fault::LengthInvalid });
    }
    let mut length = 0u64;
    for byte in value {
        match byte {
            b'0'..=b'9' => length = length * 10 + u64::from(byte - b'0'),
            b',' => return Err(Fault::LengthRepeated),
            _ => return Err(Fault::LengthInvalid),
        }
    }
    if length > LENGTH_MAX { Err(Fault::LengthInvalid) } else { Ok(length) }
}
