//! Values that a client chose, made safe for a line: no byte of theirs can end the line, the quotes
//! around it, or act on a terminal.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that never stand in a line as they are. Without branches: see [`has_special`].
#[inline]
fn is_special(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

/// Nearly all values have none: they are looked at by blocks, without an early exit, which the compiler
/// turns into a few instructions for all bytes of a block. The last block overlaps the one before it.
#[inline]
fn has_special(value: &[u8], is_special: impl Fn(u8) -> bool + Copy) -> bool {
    if value.len() >= 16 {
        has_special_block::<16>(value, is_special)
    } else if value.len() >= 8 {
        has_special_block::<8>(value, is_special)
    } else {
        value.iter().any(|byte| is_special(*byte))
    }
}

#[inline]
fn has_special_block<const BYTES: usize>(
    value: &[u8],
    is_special: impl Fn(u8) -> bool + Copy,
) -> bool {
    let of_block = |block: &[u8; BYTES]| {
        block.iter().fold(0u8, |found, byte| found | u8::from(is_special(*byte))) != 0
    };
    let (blocks, rest) = value.as_chunks::<BYTES>();
    blocks.iter().any(of_block)
        || !rest.is_empty() && value.last_chunk::<BYTES>().is_some_and(of_block)
}

#[inline]
fn append_escaped(out: &mut Vec<u8>, mut value: &[u8], is_special: impl Fn(u8) -> bool + Copy) {
    if !has_special(value, is_special) {
        out.extend_from_slice(value);
        return;
    }
    while let Some(at) = value.iter().position(|byte| is_special(*byte)) {
        let byte = value[at];
        out.extend_from_slice(&value[..at]);
        out.extend_from_slice(&[
            b'\\',
            b'x',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]);
        value = &value[at + 1..];
    }
    out.extend_from_slice(value);
}

/// A value between quotes: control bytes, quotes, backslashes and bytes beyond ASCII become `\xHH`.
#[inline]
pub fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    append_escaped(out, value, is_special);
}

/// A value that ends at a space: as [`quoted`], spaces too.
#[inline]
pub fn token(out: &mut Vec<u8>, value: &[u8]) {
    append_escaped(out, value, |byte| is_special(byte) | (byte == b' '));
}

/// A JSON string with its quotes (RFC 8259 section 7). What is not UTF-8 becomes U+FFFD; control
/// characters and line separators beyond ASCII are escaped too.
#[inline]
pub fn json(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    json_inner(out, value);
    out.push(b'"');
}

/// The same without the quotes.
#[inline]
pub fn json_inner(out: &mut Vec<u8>, value: &[u8]) {
    if has_special(value, is_special) {
        json_special(out, value);
    } else {
        out.extend_from_slice(value);
    }
}

fn json_special(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                // All of them lie below U+10000, so one escape is enough.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let code = c as u32;
                    let digit = |shift: u32| HEX[(code >> shift & 15) as usize];
                    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(function: fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        function(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_values_stay() {
        assert_eq!(with(quoted, b"curl/8.5 (x)"), "curl/8.5 (x)");
        assert_eq!(with(json, "gr\u{fc}n".as_bytes()), "\"gr\u{fc}n\"");
    }

    #[test]
    fn special_bytes_are_escaped() {
        assert_eq!(
            with(quoted, b"a\"b\\c\r\n\x1b[31m\xff"),
            "a\\x22b\\x5cc\\x0d\\x0a\\x1b[31m\\xff"
        );
        assert_eq!(with(token, b"a b"), "a\\x20b");
        assert_eq!(
            with(json, b"a\"\\\n\x7f\xff\xe2\x80\xa8\xc2\x85"),
            "\"a\\\"\\\\\\u000a\\u007f\u{fffd}\\u2028\\u0085\""
        );
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 1..40 {
            for at in 0..length {
                let mut value = vec![b'a'; length];
                assert_eq!(with(token, &value).len(), length);
                value[at] = b'"';
                assert_eq!(with(quoted, &value).len(), length + 3, "{at} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_value_breaks_out(value in prop::collection::vec(any::<u8>(), 0..60)) {
            for function in [quoted, token] {
                let text = with(function, &value);
                prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'));
            }
            prop_assert!(!with(token, &value).contains(' '));
        }

        #[test]
        fn json_gives_back_the_text(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let line = with(json, &value);
            prop_assert!(!line.contains(char::is_control));
            let back: String = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&value).into_owned());
        }

        #[test]
        fn json_gives_back_unicode(value in any::<String>()) {
            let back: String = serde_json::from_str(&with(json, value.as_bytes())).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
