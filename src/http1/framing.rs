//! The one pass over the fields of a head, and the one place that decides how long a body is
//! (RFC 9112 section 6).

use std::mem::MaybeUninit;

use crate::http::{BodyLength, HeaderField, KnownHeader, Version};
use crate::limits::HEADERS_MAX;

use super::connection::{ConnectionOptions, list, starts_with_ignore_case};
use super::error::Fault;

/// `Content-Length` goes up to this; more could not be counted without care.
const CONTENT_LENGTH_MAX: u64 = 1 << 63;
/// Digits of [`CONTENT_LENGTH_MAX`].
const CONTENT_LENGTH_DIGITS_MAX: usize = 19;

/// What the fields of a head say about the message and the connection.
#[derive(Default)]
pub(super) struct Facts<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) host_repeated: bool,
    content_length: Option<u64>,
    chunked: bool,
    pub(super) options: ConnectionOptions,
    upgrade: Option<&'b [u8]>,
    upgrade_refused: bool,
    pub(super) te_trailers: bool,
    pub(super) expect_continue: bool,
}

/// Copy the fields of `raw` into `out` with their names recognised, and note what matters.
///
/// `raw` are the fields that `httparse` found in `head`, which begins with the first line. Checked
/// here because `httparse` does not: every line before a field ends in CR LF. (Its other promises
/// are relied on: names are tokens, values hold no control bytes, no line is folded, every CR is
/// followed by LF.)
#[inline]
pub(super) fn read_fields<'b, 's>(
    head: &'b [u8],
    version: Version,
    raw: &[httparse::Header<'b>],
    out: &'s mut [MaybeUninit<HeaderField<'b>>; HEADERS_MAX],
) -> Result<(&'s [HeaderField<'b>], Facts<'b>), Fault> {
    let mut facts = Facts::default();
    let mut count = 0;
    for (raw, slot) in raw.iter().zip(out.iter_mut()) {
        let name = raw.name.as_bytes();
        let value = raw.value;
        // Every field follows the line feed of another line, so only its CR is in question.
        let start = offset(head, name);
        if start < 2 || head.get(start - 2) != Some(&b'\r') {
            return Err(Fault::LineEnd);
        }
        let known = KnownHeader::from_name(name);
        match known {
            KnownHeader::Other => {}
            KnownHeader::Host => {
                facts.host_repeated |= facts.host.is_some();
                facts.host = Some(value);
            }
            KnownHeader::Connection => facts.options.read(value)?,
            KnownHeader::ContentLength => facts.content_length(value)?,
            KnownHeader::TransferEncoding => facts.transfer_encoding(head, version, name, value)?,
            KnownHeader::Upgrade => facts.upgrade(value),
            KnownHeader::Te => {
                facts.te_trailers |= list(value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
            }
            KnownHeader::Expect => {
                facts.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        slot.write(HeaderField { name, value, known });
        count += 1;
    }
    if facts.chunked && facts.content_length.is_some() {
        return Err(Fault::LengthAndCoding);
    }
    // SAFETY: the loop wrote the first `count` slots, without a gap.
    let fields = unsafe { out[..count].assume_init_ref() };
    Ok((fields, facts))
}

/// Offset of `part`, which is a slice of `whole`.
#[inline]
fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

impl<'b> Facts<'b> {
    #[inline]
    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.content_length.is_some() {
            return Err(Fault::LengthRepeated);
        }
        if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
            return Err(length_fault(value));
        }
        let mut length = 0u64;
        for digit in value {
            if !digit.is_ascii_digit() {
                return Err(length_fault(value));
            }
            // Nineteen digits cannot overflow.
            length = length * 10 + u64::from(digit - b'0');
        }
        if length > CONTENT_LENGTH_MAX {
            return Err(Fault::LengthInvalid);
        }
        self.content_length = Some(length);
        Ok(())
    }

    #[inline]
    fn transfer_encoding(
        &mut self,
        head: &[u8],
        version: Version,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Fault> {
        let is_usual = version == Version::Http11
            && !self.chunked
            && head
                .get(offset(head, name) + name.len()..)
                .is_some_and(|rest| rest.starts_with(b": chunked\r\n"));
        if is_usual {
            self.chunked = true;
            return Ok(());
        }
        self.unusual_transfer_encoding(head, version, name, value)
    }

    #[cold]
    fn unusual_transfer_encoding(
        &mut self,
        head: &[u8],
        version: Version,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Fault> {
        if version == Version::Http10 {
            return Err(Fault::CodingInHttp10);
        }
        // A tab around the value is legal white space, but parsers are known that do not see
        // `chunked` behind it: refuse what others may read differently.
        let name_end = offset(head, name) + name.len();
        let line = head.get(name_end..).unwrap_or_default();
        let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        if self.chunked || line.contains(&b'\t') {
            return Err(Fault::CodingInvalid);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let is_known = |coding: &[u8]| {
            [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
                .iter()
                .any(|known| coding.eq_ignore_ascii_case(known))
        };
        let mut codings = list(value).peekable();
        while let Some(coding) = codings.next() {
            let is_final_chunked =
                codings.peek().is_none() && coding.eq_ignore_ascii_case(b"chunked");
            if !is_known(coding) && !is_final_chunked {
                return Err(Fault::CodingInvalid);
            }
        }
        Err(Fault::CodingUnsupported)
    }

    /// Note the protocol of `Upgrade`. HTTP/2 in clear text is not reached this way (RFC 9113
    /// section 3.1), and several fields or an empty one mean nothing that could be tunnelled.
    #[cold]
    fn upgrade(&mut self, value: &'b [u8]) {
        self.upgrade_refused |= self.upgrade.is_some()
            || value.is_empty()
            || list(value).any(|t| t.is_empty() || starts_with_ignore_case(t, b"h2c"));
        self.upgrade = Some(value);
    }

    /// The value of `Upgrade`, if it is to be honoured.
    #[inline]
    pub(super) fn honoured_upgrade(&self, version: Version) -> Option<&'b [u8]> {
        if self.options.upgrade && !self.upgrade_refused && version == Version::Http11 {
            self.upgrade
        } else {
            None
        }
    }

    /// Does the sender keep the connection open after this message (RFC 9112 section 9.3)?
    #[inline]
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.options.close && (version == Version::Http11 || self.options.keep_alive)
    }

    /// Length of a request body (RFC 9112 section 6.3, rules 3 to 7).
    #[inline]
    pub(super) fn request_body(&self) -> BodyLength {
        match (self.chunked, self.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, None | Some(0)) => BodyLength::Empty,
            (false, Some(length)) => BodyLength::Fixed(length),
        }
    }

    /// Length of a response body (RFC 9112 section 6.3, rules 1 to 8).
    #[inline]
    pub(super) fn response_body(&self, status: u16, request_is_head: bool) -> BodyLength {
        if request_is_head || matches!(status, 100..=199 | 204 | 304) {
            return BodyLength::Empty;
        }
        match (self.chunked, self.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, None) => BodyLength::UntilClose,
            (false, Some(0)) => BodyLength::Empty,
            (false, Some(length)) => BodyLength::Fixed(length),
        }
    }

    /// Fields that announce a body where the status says that there is none: whether bytes follow
    /// is anyone's guess, so the connection must not be used again.
    #[inline]
    pub(super) fn announces_forbidden_body(&self, status: u16) -> bool {
        matches!(status, 100..=199 | 204)
            && (self.chunked || self.content_length.is_some_and(|length| length > 0))
    }
}

#[cold]
fn length_fault(value: &[u8]) -> Fault {
    if value.contains(&b',') { Fault::LengthRepeated } else { Fault::LengthInvalid }
}
