//! Compiled `StringMatch`: exact, prefix, regex (Istio `StringMatch`, behaviour of RE2). With
//! `substitution` the only caller of the regex engine on the data path.

use regex::bytes::{Regex as Engine, RegexBuilder};

/// Characters that a regex may have (Istio's validation).
pub const REGEX_CHARACTERS_MAX: usize = 1024;
/// Bytes that a compiled regex may take.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// Bytes that the lazy automaton of one regex may grow to in one worker.
const CACHE_BYTES_MAX: usize = 256 << 10;

/// One of Istio's three ways to compare a string.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Byte for byte.
    Exact(Box<[u8]>),
    /// Byte for byte at the front.
    Prefix(Box<[u8]>),
    /// The whole string.
    Regex(Regex),
}

impl StringMatch {
    /// `exact: value`.
    pub fn exact(value: impl AsRef<[u8]>) -> StringMatch {
        StringMatch::Exact(value.as_ref().into())
    }

    /// `prefix: value`; the empty prefix matches everything.
    pub fn prefix(value: impl AsRef<[u8]>) -> StringMatch {
        StringMatch::Prefix(value.as_ref().into())
    }

    /// `regex: pattern`.
    ///
    /// # Errors
    /// The pattern is too long, is not RE2, or compiles to too large a program.
    pub fn regex(pattern: &str) -> Result<StringMatch, PatternError> {
        Regex::new(pattern).map(StringMatch::Regex)
    }

    /// Whether `value` matches.
    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            StringMatch::Exact(exact) => value == &**exact,
            StringMatch::Prefix(prefix) => value.starts_with(prefix),
            StringMatch::Regex(regex) => regex.is_match(value),
        }
    }

    /// Whether `value` matches when exact and prefix disregard ASCII case (`ignoreUriCase`; a regex
    /// is unaffected by it).
    #[inline]
    pub fn is_match_ignore_case(&self, value: &[u8]) -> bool {
        match self {
            StringMatch::Exact(exact) => value.eq_ignore_ascii_case(exact),
            StringMatch::Prefix(prefix) => {
                value.get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
            }
            StringMatch::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A regular expression that must match the whole string, in linear time.
///
/// RE2's dialect where it differs from the engine's: `\d`, `\w`, `\s`, `\b` are ASCII, `[` and `&`
/// in a class are themselves, `\Q…\E` quotes, `\<` and `\>` are `<` and `>`. Unlike RE2, `.` and negated
/// classes match single bytes, so that they also match text that is not UTF-8; only a pattern that
/// needs Unicode (`\pL`, `[é]`) works on code points, and then its `\d`, `\w`, `\s` are Unicode too.
///
/// A clone shares the immutable program and has a cache of its own, so that workers do not contend.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: Box<str>,
    front: Box<[u8]>,
    engine: Engine,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing to match (Istio's validation).
    #[error("the regex is empty; give one, or leave the match out")]
    Empty,
    /// Longer than [`REGEX_CHARACTERS_MAX`].
    #[error("the regex has {0} characters; at most {max} are allowed", max = REGEX_CHARACTERS_MAX)]
    TooLong(usize),
    /// RE2 has no such construct, or would read it otherwise.
    #[error("{0} is not RE2 syntax; remove it or escape it with a backslash")]
    NotRe2(&'static str),
    /// The parser's words.
    #[error("not valid RE2: {0}")]
    Syntax(String),
    /// The compiled program passes its bound, most often by nested repetition counts.
    #[error("the regex compiles to more than {max} KiB; use smaller repetition counts", max = PROGRAM_BYTES_MAX >> 10)]
    TooLarge,
}

impl Regex {
    /// Compile `pattern`.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(pattern: &str) -> Result<Regex, PatternError> {
        // By itself first: `a)|(b` must not become valid by the group put around it.
        let (translated, unicode, _) = unanchored(pattern)?;
        let engine = compile(&format!(r"\A(?:{translated})\z"), unicode)?;
        Ok(Regex { pattern: pattern.into(), front: front(pattern).as_bytes().into(), engine })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What every match begins with; perhaps not all of it.
    pub fn front(&self) -> &[u8] {
        &self.front
    }

    /// Whether the whole of `value` matches.
    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.engine.is_match(value)
    }
}

/// A text that every match of `pattern` begins with, perhaps not the longest one: the letters before
/// anything that has a meaning. None of a pattern with alternatives.
fn front(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let itself = |letter: char| letter.is_ascii_alphanumeric() || "/_-~%:@=,;".contains(letter);
    let end = pattern.find(|letter| !itself(letter)).unwrap_or(pattern.len());
    // The last letter may be there any number of times, or not at all.
    let repeated = pattern[end..].starts_with(['*', '?', '{']);
    &pattern[..end.saturating_sub(usize::from(repeated))]
}

/// The pattern in the engine's dialect, whether it needs Unicode, and an engine that finds it anywhere.
pub(super) fn unanchored(pattern: &str) -> Result<(String, bool, Engine), PatternError> {
    if pattern.is_empty() {
        return Err(PatternError::Empty);
    }
    let characters = pattern.chars().count();
    if characters > REGEX_CHARACTERS_MAX {
        return Err(PatternError::TooLong(characters));
    }
    let translated = from_re2(pattern)?;
    match compile(&translated, false) {
        Ok(engine) => Ok((translated, false, engine)),
        Err(PatternError::Syntax(_)) => {
            let engine = compile(&translated, true)?;
            Ok((translated, true, engine))
        }
        Err(other) => Err(other),
    }
}

fn compile(pattern: &str, unicode: bool) -> Result<Engine, PatternError> {
    RegexBuilder::new(pattern)
        .unicode(unicode)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            // The last line of the parser's picture is its message.
            other => PatternError::Syntax(
                other.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
            ),
        })
}

/// The pattern in the engine's dialect.
fn from_re2(pattern: &str) -> Result<String, PatternError> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\\' => rest = copy_escape(after, &mut out),
            '[' => rest = copy_class(after, &mut out)?,
            '(' => {
                if let Some(flags) = after.strip_prefix('?') {
                    let end = flags.find([':', ')', '<', '=', '!', 'P']).unwrap_or(flags.len());
                    if flags[..end].contains(['x', 'R', 'u']) {
                        return Err(PatternError::NotRe2("a group flag other than i, m, s, U"));
                    }
                }
                out.push('(');
                rest = after;
            }
            _ => {
                out.push(c);
                rest = after;
            }
        }
    }
    Ok(out)
}

/// Copy what follows a backslash; give back the rest.
fn copy_escape<'p>(after: &'p str, out: &mut String) -> &'p str {
    let Some(escaped) = after.chars().next() else {
        // A lone backslash at the end: the engine's error says so.
        out.push('\\');
        return after;
    };
    let rest = &after[escaped.len_utf8()..];
    match escaped {
        'Q' => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        '<' | '>' => out.push(escaped),
        _ => {
            out.push('\\');
            out.push(escaped);
        }
    }
    rest
}

/// Copy a class of which the `[` was read; give back what follows its `]`.
fn copy_class<'p>(after: &'p str, out: &mut String) -> Result<&'p str, PatternError> {
    out.push('[');
    let mut rest = after;
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    // A `]` that comes first is itself.
    if let Some(closing) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = closing;
    }
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                rest = copy_escape(after, out);
                continue;
            }
            ']' => {
                out.push(']');
                return Ok(after);
            }
            '[' => match after.strip_prefix(':').and_then(|name| name.split_once(":]")) {
                Some((name, following)) => {
                    out.push_str("[:");
                    out.push_str(name);
                    out.push_str(":]");
                    rest = following;
                    continue;
                }
                None => out.push_str("\\["),
            },
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if after.starts_with('-') => {
                return Err(PatternError::NotRe2("`--` in a character class"));
            }
            _ => out.push(c),
        }
        rest = after;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn regex(pattern: &str) -> StringMatch {
        StringMatch::regex(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
    }

    #[test]
    fn exact_and_prefix_are_byte_wise() {
        let exact = StringMatch::exact("/foo");
        assert!(exact.is_match(b"/foo"));
        assert!(!exact.is_match(b"/Foo") && !exact.is_match(b"/foo/") && !exact.is_match(b""));
        let prefix = StringMatch::prefix("/foo");
        assert!(prefix.is_match(b"/foo") && prefix.is_match(b"/foobar"));
        assert!(!prefix.is_match(b"/fo") && !prefix.is_match(b"/FOO"));
        assert!(StringMatch::prefix("").is_match(b""));
    }

    #[test]
    fn case_is_ignored_when_asked_but_not_by_regex() {
        assert!(StringMatch::exact("/Foo").is_match_ignore_case(b"/fOO"));
        assert!(!StringMatch::exact("/Foo").is_match_ignore_case(b"/fOO/"));
        assert!(StringMatch::prefix("/Foo").is_match_ignore_case(b"/fOObar"));
        assert!(!StringMatch::prefix("/Foo").is_match_ignore_case(b"/fO"));
        assert!(!regex("/foo").is_match_ignore_case(b"/FOO"));
    }

    #[test]
    fn what_a_match_begins_with() {
        for (pattern, expected) in [
            ("/users/[0-9]+", "/users/"),
            ("^/a", "/a"),
            ("/ab*c", "/a"),
            ("/ab?", "/a"),
            ("/ab{0,2}", "/a"),
            ("/ab+", "/ab"),
            ("/a.b", "/a"),
            ("/a|/b", ""),
            ("/a(b|c)", ""),
            ("(?i)/a", ""),
            ("a*", ""),
            (r"\/a", ""),
        ] {
            assert_eq!(front(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_regex_matches_the_whole_string() {
        let cases: &[(&str, &str, bool)] = &[
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "x/a", false),
            ("a|ab", "ab", true),
            ("ab|a", "a", true),
            ("^/a$", "/a", true),
            (".*", "", true),
            (".*", "anything", true),
            (".*", "two\nlines", false),
            ("(?s).*", "two\nlines", true),
            ("(?m)^a$", "b\na", false),
            ("/v[0-9]+/.*", "/v12/x", true),
            ("/v[0-9]+/.*", "/v/x", false),
            ("(?i)abc", "aBC", true),
            (r"\d+", "12", true),
            (r"\d+", "\u{664}", false),
            (r"\w+", "\u{fc}", false),
            ("()", "", true),
            ("()", "a", false),
        ];
        for (pattern, value, expected) in cases {
            assert_eq!(regex(pattern).is_match(value.as_bytes()), *expected, "{pattern} {value}");
        }
    }

    #[test]
    fn a_regex_reads_text_that_is_not_utf8() {
        assert!(regex("/a.b[^/]*").is_match(b"/a\xffb\xfe"));
    }

    #[test]
    fn res_dialect_is_kept() {
        let cases: &[(&str, &str, bool)] = &[
            ("[[a]", "[", true),
            ("[[a]", "a", true),
            ("[a&&b]", "&", true),
            ("[a~~]", "~", true),
            ("[]a]", "]", true),
            ("[^]a]", "b", true),
            ("[^]a]", "]", false),
            ("[[:digit:]x]+", "1x2", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            (r"\<a\>", "<a>", true),
            (r"[\]a]", "]", true),
            ("\\pL+", "\u{fc}b", true),
            ("[\u{e9}]", "\u{e9}", true),
            ("(?P<n>a)b", "ab", true),
        ];
        for (pattern, value, expected) in cases {
            assert_eq!(regex(pattern).is_match(value.as_bytes()), *expected, "{pattern} {value}");
        }
    }

    #[test]
    fn what_is_not_re2_is_refused() {
        for pattern in [
            "", "(", "a)|(b", "*", "[a", r"(a)\1", "(?=a)", "(?!a)", "(?<=a)b", "(?x)a b",
            "(?u:a)", "[+--]", "a\\",
        ] {
            assert!(StringMatch::regex(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn size_is_bounded() {
        assert!(StringMatch::regex(&"a".repeat(REGEX_CHARACTERS_MAX)).is_ok());
        assert_eq!(
            StringMatch::regex(&"\u{e9}".repeat(REGEX_CHARACTERS_MAX + 1)).unwrap_err(),
            PatternError::TooLong(REGEX_CHARACTERS_MAX + 1)
        );
        assert_eq!(
            StringMatch::regex("(((a{100}){100}){100}){100}").unwrap_err(),
            PatternError::TooLarge
        );
    }

    #[test]
    fn errors_are_one_line() {
        let message = StringMatch::regex("a(b").unwrap_err().to_string();
        assert_eq!(message, "not valid RE2: unclosed group");
    }

    proptest! {
        #[test]
        fn every_match_begins_with_the_front(
            pattern in r"\^?(\(\?i\))?([ab/]{1,3}|[ab][*+?|]|[ab]\{[01],2\}|\(b\|a\)|\[ab\]|\.|\$){1,4}",
            values in prop::collection::vec("[abAB/]{0,5}", 1..20),
        ) {
            if let Ok(regex) = Regex::new(&pattern) {
                for value in &values {
                    let begins = value.as_bytes().starts_with(regex.front());
                    prop_assert!(begins || !regex.is_match(value.as_bytes()), "{} {}", &pattern, value);
                }
            }
        }

        #[test]
        fn any_pattern_is_survived(pattern in r"[\\\[\]\^(){}?*+|&~:\-a-cQExuR<>é.,0-9]{0,24}", value: Vec<u8>) {
            if let Ok(compiled) = StringMatch::regex(&pattern) {
                compiled.is_match(&value);
            }
        }

        #[test]
        fn a_quoted_literal_matches_itself_only(literal in "[ -~é]{0,12}", other in "[ -~é]{0,12}") {
            let compiled = regex(&format!("(?:{})", regex::escape(&literal)));
            prop_assert!(compiled.is_match(literal.as_bytes()));
            prop_assert_eq!(compiled.is_match(other.as_bytes()), literal == other);
        }
    }
}
