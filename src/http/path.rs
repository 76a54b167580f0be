//! Path normalisation: what istiod's mesh option `pathNormalization` asks of Envoy. The normal form
//! is what routes are matched with and what the upstream sees, so that nobody is led past a rule by
//! another spelling of the same path.

/// How a request path is made canonical before routing.
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

/// The path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError;

/// The canonical form of `path` (without query and fragment, beginning with `/`): `path` itself when
/// it is canonical already, which most are, else written into `scratch`.
///
/// # Errors
/// [`PathError`] for a path that holds an escaped NUL or does not begin with a slash.
#[inline]
pub fn normalize<'a>(
    path: &'a [u8],
    mode: PathNormalization,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathError> {
    if mode == PathNormalization::None || is_canonical(path, mode) {
        return if path.first() == Some(&b'/') { Ok(path) } else { Err(PathError) };
    }
    rewrite(path, mode, scratch)
}

/// One pass that finds nothing to do in usual paths.
#[inline]
fn is_canonical(path: &[u8], mode: PathNormalization) -> bool {
    let merge = mode >= MERGE;
    let mut previous = 0u8;
    for byte in path {
        match byte {
            b'%' | b'\\' => return false,
            b'.' if previous == b'/' => return false,
            b'/' if merge && previous == b'/' => return false,
            _ => {}
        }
        previous = *byte;
    }
    true
}

const MERGE: PathNormalization = PathNormalization::MergeSlashes;

impl PartialOrd for PathNormalization {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

#[cold]
fn rewrite<'a>(
    path: &[u8],
    mode: PathNormalization,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathError> {
    let decode_slashes = mode == PathNormalization::DecodeAndMergeSlashes;
    scratch.clear();
    // 1. Escapes and backslashes.
    let mut at = 0;
    // The two characters behind a stray `%` are not decoded: that could make an escape of it, which
    // the upstream would decode once more.
    let mut guarded = 0;
    while let Some(byte) = path.get(at) {
        at += 1;
        let was_guarded = guarded > 0;
        guarded -= i32::from(was_guarded);
        let decoded = match byte {
            b'%' => match escape(path, at) {
                Some(value) if !was_guarded || value == 0 => Some(value),
                Some(_) => None,
                None => {
                    guarded = 2;
                    None
                }
            },
            b'\\' => {
                scratch.push(b'/');
                continue;
            }
            other => {
                scratch.push(*other);
                continue;
            }
        };
        match decoded {
            Some(0) => return Err(PathError),
            Some(value) if is_unreserved(value) => {
                scratch.push(value);
                at += 2;
            }
            Some(b'/' | b'\\') if decode_slashes => {
                scratch.push(b'/');
                at += 2;
            }
            _ => scratch.push(b'%'),
        }
    }
    // 2. Dot segments, in place: what is written never passes what is read.
    remove_dot_segments(scratch)?;
    // 3. Runs of slashes.
    if mode >= MERGE {
        scratch.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    }
    Ok(scratch)
}

fn escape(path: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let high = digit(path.get(at)?)?;
    let low = digit(path.get(at + 1)?)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn remove_dot_segments(path: &mut Vec<u8>) -> Result<(), PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError);
    }
    let mut read = 0;
    let mut write = 0;
    // Each round takes one segment with the slash before it.
    while read < path.len() {
        let end = memchr::memchr(b'/', &path[read + 1..]).map_or(path.len(), |at| read + 1 + at);
        let last = end == path.len();
        match &path[read + 1..end] {
            b"." => {
                if last {
                    path[write] = b'/';
                    write += 1;
                }
            }
            b".." => {
                // Back to before the slash of the segment written last; never above the root.
                write = memchr::memrchr(b'/', &path[..write]).unwrap_or(0);
                if last {
                    path[write] = b'/';
                    write += 1;
                }
            }
            segment => {
                let length = segment.len() + 1;
                path.copy_within(read..end, write);
                write += length;
            }
        }
        read = end;
    }
    path.truncate(write.max(1));
    path[0] = b'/';
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODES: [PathNormalization; 4] = [
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ];

    fn normal(path: &str, mode: PathNormalization) -> Result<String, PathError> {
        let mut scratch = Vec::new();
        normalize(path.as_bytes(), mode, &mut scratch)
            .map(|path| String::from_utf8_lossy(path).into_owned())
    }

    #[test]
    fn istios_table() {
        // Path, then NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES; empty: as before it.
        let table = [
            ("/app/../admin", "", "/admin", "", ""),
            ("/app//", "", "", "/app/", ""),
            ("/app/%2E./admin", "", "/admin", "", ""),
            ("/app\\admin", "", "/app/admin", "", ""),
            ("/app/\\/\\/\\admin", "", "/app//////admin", "/app/admin", ""),
            ("/app/%2f", "", "", "", "/app/"),
            ("/app%2f/", "", "", "", "/app/"),
            ("/%2Fapp%5cadmin%5Cabc", "", "", "", "/app/admin/abc"),
            (
                "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
                "",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
                "",
                "/app/admin/abc",
            ),
            ("/app//../admin", "", "/app/admin", "", ""),
            ("/app//../../admin", "", "/admin", "", ""),
            ("/xyz%30..//abc", "", "/xyz0..//abc", "/xyz0../abc", ""),
            ("/.../admin", "", "", "", ""),
            ("/..;/admin", "", "", "", ""),
            ("/admin;a=b", "", "", "", ""),
            ("/%252e%252e/admin", "", "", "", ""),
            ("/%c0%ae%c0%ae/admin", "", "", "", ""),
            ("/a/.", "", "/a/", "", ""),
            ("/a/..", "", "/", "", ""),
            ("/..", "", "/", "", ""),
            ("/", "", "", "", ""),
            ("/%", "", "", "", ""),
            ("/%4", "", "", "", ""),
            ("/%zz", "", "", "", ""),
            ("/%%32%45/a", "", "/%%32E/a", "", ""),
            ("/%2%45%30", "", "/%2%450", "", ""),
        ];
        for (path, none, base, merge, decode) in table {
            let mut expected = path;
            for (mode, column) in MODES.into_iter().zip([none, base, merge, decode]) {
                if !column.is_empty() {
                    expected = column;
                }
                assert_eq!(normal(path, mode).as_deref(), Ok(expected), "{path} {mode:?}");
            }
        }
    }

    #[test]
    fn no_canonical_form() {
        assert_eq!(normal("/admin%00", PathNormalization::Base), Err(PathError));
        assert_eq!(normal("admin", PathNormalization::Base), Err(PathError));
        assert_eq!(normal("", PathNormalization::Base), Err(PathError));
    }

    proptest! {
        #[test]
        fn the_result_is_canonical_and_below_the_root(path in "/[a./%25eE0\\\\]{0,24}") {
            for mode in MODES {
                let Ok(once) = normal(&path, mode) else { continue };
                prop_assert!(once.starts_with('/'));
                if mode == PathNormalization::None { continue }
                let segments: Vec<&str> = once.split('/').collect();
                prop_assert!(!segments.contains(&".") && !segments.contains(&".."), "{path} -> {once}");
                prop_assert!(!once.contains('\\'));
                if mode >= MERGE { prop_assert!(!once.contains("//"), "{path} -> {once}"); }
            }
        }

        #[test]
        fn any_bytes(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            for mode in MODES {
                let mut scratch = Vec::new();
                let _ = normalize(&path, mode, &mut scratch);
            }
        }
    }
}
