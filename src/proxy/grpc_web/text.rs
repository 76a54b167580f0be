//! The base64 of gRPC-Web in text: pieces that are each padded, one behind the other.

use data_encoding::BASE64;

/// Decodes what comes in any pieces.
#[derive(Default)]
pub(super) struct Decoder {
    /// What was not decoded yet: between calls less than a group of four.
    waiting: Vec<u8>,
}

/// It is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotBase64;

impl Decoder {
    /// Append what `text` stands for to `out`.
    pub(super) fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        self.waiting.extend_from_slice(text);
        let whole = self.waiting.len() / 4 * 4;
        let length = BASE64.decode_len(whole).map_err(|_| NotBase64)?;
        let from = out.len();
        out.resize(from + length, 0);
        let decoded =
            BASE64.decode_mut(&self.waiting[..whole], &mut out[from..]).map_err(|_| NotBase64)?;
        out.truncate(from + decoded);
        self.waiting.drain(..whole);
        Ok(())
    }

    /// Is it complete?
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Append `bytes` as one padded piece.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + BASE64.encode_len(bytes.len()), 0);
    BASE64.encode_mut(bytes, &mut out[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_pieces_are_decoded_however_they_come() {
        let mut text = Vec::new();
        for piece in [&b"a"[..], b"bc", b"def", b"", b"ghij"] {
            encode(piece, &mut text);
        }
        for size in 1..=text.len() {
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            for part in text.chunks(size) {
                assert_eq!(decoder.decode(part, &mut out), Ok(()), "{size}");
            }
            assert_eq!((&out[..], decoder.is_complete()), (&b"abcdefghij"[..], true), "{size}");
        }
    }

    #[test]
    fn what_is_no_base64_is_told() {
        for text in ["A===", "AA A", "=AAA", "AA=A", "\r\n\r\n"] {
            let outcome = Decoder::default().decode(text.as_bytes(), &mut Vec::new());
            assert_eq!(outcome, Err(NotBase64), "{text:?}");
        }
        let mut short = Decoder::default();
        assert_eq!(short.decode(b"AAAAA", &mut Vec::new()), Ok(()));
        assert!(!short.is_complete());
    }
}
