//! Path normalisation (Istio mesh `pathNormalization`), before virtual host, route and policy.

/// How a request path is made canonical before routing (Istio's
/// `ProxyPathNormalization.NormalizationType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PathNormalization {
    /// As sent.
    None,
    /// Dot segments, `\` to `/`, unreserved escapes decoded (the default).
    #[default]
    Base,
    /// `Base`, then runs of slashes made one.
    MergeSlashes,
    /// `%2F` and `%5C` decoded first, then `MergeSlashes`.
    DecodeAndMergeSlashes,
}

/// Why a path has no canonical form; the answer is 400 (`path_normalization_failed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/` (and is not the `*` of `OPTIONS *`).
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// A NUL, CR or LF, as such in any mode or as `%00` in `Base` and above.
    #[error("the path holds a NUL, CR or LF byte")]
    ForbiddenByte,
}

/// Bring the path of a request target, without query, into its canonical form.
///
/// Most paths are canonical already: they cost one pass and are returned as they are. Others are
/// written into `scratch`, whose capacity is reused. From `Base` upwards the result begins with `/`
/// and has no dot segment; in every mode it has no NUL, CR or LF, and a fragment is cut off.
///
/// A `%` without two hexadecimal digits stays as sent. Beside such a `%` a digit or letter keeps
/// its escape, lest a new escape arise (`%%32F` would become `%2F`), so that normalising twice is
/// normalising once. `*` is its own canonical form.
///
/// # Errors
/// See [`PathError`].
#[inline]
pub fn normalize<'a>(
    path: &'a [u8],
    mode: PathNormalization,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathError> {
    if path.first() != Some(&b'/') {
        return if path == b"*" { Ok(path) } else { Err(PathError::NotAbsolute) };
    }
    if is_canonical(path, mode) {
        return Ok(path);
    }
    rewrite(path, mode, scratch)
}

/// What a byte may mean to [`is_canonical`].
const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 3;
const BACKSLASH: u8 = 4;
/// Fragment or forbidden byte: looked at in every mode.
const STOP: u8 = 5;

static CLASS: [u8; 256] = {
    let mut table = [PLAIN; 256];
    table[b'/' as usize] = SLASH;
    table[b'.' as usize] = DOT;
    table[b'%' as usize] = PERCENT;
    table[b'\\' as usize] = BACKSLASH;
    table[b'#' as usize] = STOP;
    table[0] = STOP;
    table[b'\r' as usize] = STOP;
    table[b'\n' as usize] = STOP;
    table
};

/// Whether nothing at all needs to be done. May err on the side of `false`.
#[inline]
fn is_canonical(path: &[u8], mode: PathNormalization) -> bool {
    let base = mode != PathNormalization::None;
    let merge = merges(mode);
    let mut after_slash = false;
    for (at, byte) in path.iter().enumerate() {
        let class = CLASS[usize::from(*byte)];
        match class {
            PLAIN => {}
            STOP => return false,
            SLASH if merge && after_slash => return false,
            DOT if base && after_slash => return false,
            BACKSLASH if base => return false,
            PERCENT if base && escape(&path[at..]).is_none_or(|b| is_decoded(b, mode)) => {
                return false;
            }
            _ => {}
        }
        after_slash = class == SLASH;
    }
    true
}

fn merges(mode: PathNormalization) -> bool {
    matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes)
}

/// Whether an escape of this byte does not stay (NUL: it is refused).
fn is_decoded(byte: u8, mode: PathNormalization) -> bool {
    match byte {
        0 => true,
        b'/' | b'\\' => mode == PathNormalization::DecodeAndMergeSlashes,
        b'-' | b'.' | b'_' | b'~' => true,
        _ => byte.is_ascii_alphanumeric(),
    }
}

/// The byte that the escape at the front stands for; None when it is no escape.
fn escape(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match *text {
        [b'%', high, low, ..] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    }
}

#[cold]
fn rewrite<'a>(
    path: &[u8],
    mode: PathNormalization,
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathError> {
    out.clear();
    out.reserve(path.len());
    decode(path, mode, out)?;
    if mode != PathNormalization::None {
        remove_dot_segments(out);
    }
    if merges(mode) {
        out.dedup_by(|next, kept| *next == b'/' && *kept == b'/');
    }
    Ok(out)
}

fn decode(path: &[u8], mode: PathNormalization, out: &mut Vec<u8>) -> Result<(), PathError> {
    let base = mode != PathNormalization::None;
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            0 | b'\r' | b'\n' => return Err(PathError::ForbiddenByte),
            b'#' => break,
            b'\\' if base => out.push(b'/'),
            b'%' if base => {
                let at = path.len() - after.len() - 1;
                match escape(&path[at..]) {
                    Some(0) => return Err(PathError::ForbiddenByte),
                    Some(decoded) if is_decoded(decoded, mode) && !completes(out, decoded) => {
                        out.push(if decoded == b'\\' { b'/' } else { decoded });
                        rest = &after[2..];
                    }
                    Some(_) => {
                        out.extend_from_slice(&path[at..at + 3]);
                        rest = &after[2..];
                    }
                    None => out.push(b'%'),
                }
            }
            other => out.push(*other),
        }
    }
    Ok(())
}

/// Whether `next` would go on with an escape that the bytes before it only began.
fn completes(out: &[u8], next: u8) -> bool {
    next.is_ascii_hexdigit()
        && match out {
            [.., b'%'] => true,
            [.., b'%', digit] => digit.is_ascii_hexdigit(),
            _ => false,
        }
}

/// RFC 3986 section 5.2.4, in place. `path` begins with `/`.
fn remove_dot_segments(path: &mut Vec<u8>) {
    let mut kept = 0;
    let mut slash = 0;
    while slash < path.len() {
        let start = slash + 1;
        let end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |at| start + at);
        let dots = match &path[start..end] {
            b"." => true,
            b".." => {
                kept = memchr::memrchr(b'/', &path[..kept]).unwrap_or(0);
                true
            }
            _ => false,
        };
        if !dots {
            path.copy_within(slash..end, kept);
            kept += end - slash;
        } else if end == path.len() {
            // `/a/..` and `/a/.` name directories: their slash stays.
            path[kept] = b'/';
            kept += 1;
        }
        slash = end;
    }
    path.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::PathNormalization::*;
    use super::*;
    use proptest::prelude::*;

    const MODES: [PathNormalization; 4] = [None, Base, MergeSlashes, DecodeAndMergeSlashes];

    fn run(path: &[u8], mode: PathNormalization) -> Result<Vec<u8>, PathError> {
        normalize(path, mode, &mut Vec::new()).map(<[u8]>::to_vec)
    }

    /// Istio's table: request path, then the result of each mode.
    const TABLE: &[(&str, [&str; 4])] = &[
        ("/app/../admin", ["/app/../admin", "/admin", "/admin", "/admin"]),
        ("/app//", ["/app//", "/app//", "/app/", "/app/"]),
        ("/app/%2E./admin", ["/app/%2E./admin", "/admin", "/admin", "/admin"]),
        ("/app\\admin", ["/app\\admin", "/app/admin", "/app/admin", "/app/admin"]),
        (
            "/app/\\/\\/\\admin",
            ["/app/\\/\\/\\admin", "/app//////admin", "/app/admin", "/app/admin"],
        ),
        ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
        ("/app%2f/", ["/app%2f/", "/app%2f/", "/app%2f/", "/app/"]),
        (
            "/%2Fapp%5cadmin%5Cabc",
            [
                "/%2Fapp%5cadmin%5Cabc",
                "/%2Fapp%5cadmin%5Cabc",
                "/%2Fapp%5cadmin%5Cabc",
                "/app/admin/abc",
            ],
        ),
        (
            "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
            [
                "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
                "/app/admin/abc",
            ],
        ),
        ("/app//../admin", ["/app//../admin", "/app/admin", "/app/admin", "/app/admin"]),
        ("/app//../../admin", ["/app//../../admin", "/admin", "/admin", "/admin"]),
        ("/xyz%30..//abc", ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"]),
        ("/app#foo", ["/app", "/app", "/app", "/app"]),
        ("/.../admin", ["/.../admin"; 4]),
        ("/..;/admin", ["/..;/admin"; 4]),
        ("/admin;a=b", ["/admin;a=b"; 4]),
        ("/%252e%252e/admin", ["/%252e%252e/admin"; 4]),
        ("/%c0%ae%c0%ae/admin", ["/%c0%ae%c0%ae/admin"; 4]),
    ];

    #[test]
    fn istios_table() {
        for (path, expected) in TABLE {
            for (mode, expected) in MODES.into_iter().zip(expected) {
                let got = run(path.as_bytes(), mode).map(|p| String::from_utf8(p).unwrap());
                assert_eq!(got.as_deref(), Ok(*expected), "{path} {mode:?}");
            }
        }
    }

    #[test]
    fn an_escaped_nul_is_refused_once_escapes_are_read() {
        assert_eq!(run(b"/admin%00", None), Ok(b"/admin%00".to_vec()));
        for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(run(b"/admin%00", mode), Err(PathError::ForbiddenByte), "{mode:?}");
            assert_eq!(run(b"/../admin%00/a", mode), Err(PathError::ForbiddenByte), "{mode:?}");
        }
    }

    #[test]
    fn forbidden_bytes_are_refused_in_every_mode() {
        for mode in MODES {
            for path in [b"/a\0b".as_slice(), b"/a\rb", b"/\n"] {
                assert_eq!(run(path, mode), Err(PathError::ForbiddenByte), "{mode:?}");
            }
        }
    }

    #[test]
    fn a_path_begins_with_a_slash_or_is_the_asterisk() {
        for mode in MODES {
            assert_eq!(run(b"*", mode), Ok(b"*".to_vec()));
            for path in [b"".as_slice(), b"a", b"\\a", b"%2Fa", b"**", b"#", b"./a"] {
                assert_eq!(run(path, mode), Err(PathError::NotAbsolute), "{mode:?}");
            }
        }
    }

    #[test]
    fn dot_segments_at_the_end_leave_a_slash() {
        for (path, expected) in [
            ("/..", "/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/../../a", "/a"),
            ("/./a/./b/.", "/a/b/"),
            ("/a/../../../b/..", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/..a/.b/c.", "/..a/.b/c."),
        ] {
            assert_eq!(run(path.as_bytes(), Base), Ok(expected.into()), "{path}");
        }
    }

    #[test]
    fn no_escape_arises_from_decoding() {
        for (path, expected) in [
            ("/%%33%30", "/%%330"),
            ("/%2%35", "/%2%35"),
            ("/%%32F", "/%%32F"),
            ("/%7e%41%zz%4", "/~A%zz%4"),
            ("/100%", "/100%"),
            ("/a%3", "/a%3"),
            ("/%25%30", "/%250"),
        ] {
            assert_eq!(run(path.as_bytes(), Base), Ok(expected.into()), "{path}");
        }
    }

    #[test]
    fn a_canonical_path_is_not_copied() {
        for path in [b"/".as_slice(), b"/api/v1/items/42", b"/a%20b/index.html", b"/a%2Fb/c..d"] {
            let mut scratch = Vec::new();
            let got = normalize(path, Base, &mut scratch).unwrap();
            assert!(std::ptr::eq(got, path));
            assert_eq!(scratch.capacity(), 0);
        }
    }

    /// The plain reading of the rules, by segments: decode, split, resolve, join, merge.
    fn model(path: &[u8], mode: PathNormalization) -> Result<Vec<u8>, PathError> {
        let mut decoded = Vec::new();
        decode(path, mode, &mut decoded)?;
        let mut kept: Vec<&[u8]> = Vec::new();
        let segments: Vec<&[u8]> = decoded[1..].split(|b| *b == b'/').collect();
        for (at, segment) in segments.iter().enumerate() {
            let last = at + 1 == segments.len();
            match *segment {
                b"." | b".." => {
                    if *segment == b".." {
                        kept.pop();
                    }
                    if last {
                        kept.push(b"");
                    }
                }
                other => kept.push(other),
            }
        }
        let mut joined: Vec<u8> = Vec::new();
        for segment in kept {
            joined.push(b'/');
            joined.extend_from_slice(segment);
        }
        if merges(mode) {
            while let Some(at) = joined.windows(2).position(|pair| pair == b"//") {
                joined.remove(at);
            }
        }
        Ok(joined)
    }

    /// Paths made of the pieces that matter.
    fn tricky_path() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E%2e", "\\", "%2f", "%5C", "%", "%2", "%4", "%41",
            "%33", "%30", "3", "0", "a", "%c0", "%25", "f", "#", "é",
        ]);
        prop::collection::vec(piece, 0..16).prop_map(|p| format!("/{}", p.concat()).into_bytes())
    }

    fn mode() -> impl Strategy<Value = PathNormalization> {
        prop::sample::select(MODES.to_vec())
    }

    fn check(path: &[u8], mode: PathNormalization) -> Result<(), TestCaseError> {
        let Ok(once) = run(path, mode) else { return Ok(()) };
        prop_assert_eq!(run(&once, mode), Ok(once.clone()), "not idempotent");
        prop_assert!(!once.iter().any(|b| matches!(b, 0 | b'\r' | b'\n' | b'#')) || once == b"*");
        if mode != None && once != b"*" {
            prop_assert_eq!(once.first(), Some(&b'/'));
            prop_assert!(!once.contains(&b'\\'));
            for segment in once.split(|b| *b == b'/') {
                prop_assert!(segment != b"." && segment != b"..");
            }
        }
        if merges(mode) {
            prop_assert!(!once.windows(2).any(|pair| pair == b"//"));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn canonical_is_canonical(path in tricky_path(), mode in mode()) {
            check(&path, mode)?;
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, mode in mode()) {
            check(&bytes, mode)?;
            check(&[b"/".as_slice(), &bytes].concat(), mode)?;
        }

        #[test]
        fn agrees_with_the_model(path in tricky_path(), mode in mode()) {
            if mode != None {
                prop_assert_eq!(run(&path, mode), model(&path, mode));
            }
        }
    }
}
