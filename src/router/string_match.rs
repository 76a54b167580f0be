//! A compiled StringMatch: exact, prefix or regular expression. The only caller of the regex engine,
//! which runs in linear time like RE2.

use regex::bytes::{Regex, RegexBuilder};

/// Longest regular expression (Istio's limit).
const PATTERN_CHARACTERS_MAX: usize = 1024;
/// Memory that one compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// A condition on a text.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// The same bytes.
    Exact(Box<[u8]>),
    /// Begins with these bytes.
    Prefix(Box<[u8]>),
    /// The whole text matches. Each clone has its own cache, so that workers share none.
    Regex(Regex),
}

/// A regular expression cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing to match.
    #[error("the regular expression is empty")]
    Empty,
    /// Istio's limit.
    #[error("the regular expression has more than 1024 characters")]
    TooLong,
    /// Not RE2 syntax, or too large when compiled.
    #[error("the regular expression is not valid RE2: {0}")]
    Invalid(String),
}

impl StringMatch {
    /// The same bytes as `text`.
    pub fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.as_bytes().into())
    }

    /// Begins with `text`.
    pub fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.as_bytes().into())
    }

    /// Matches `pattern` as a whole.
    ///
    /// # Errors
    /// When the pattern is empty, longer than Istio allows, or not a regular expression.
    pub fn regex(pattern: &str) -> Result<StringMatch, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        if pattern.chars().count() > PATTERN_CHARACTERS_MAX {
            return Err(PatternError::TooLong);
        }
        // Compiled alone first: `a)(b` must not become valid by the group around it.
        let check = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
        check
            .and_then(|_| {
                RegexBuilder::new(&format!("^(?:{pattern})$"))
                    .size_limit(COMPILED_BYTES_MAX)
                    .build()
            })
            .map(StringMatch::Regex)
            .map_err(|error| PatternError::Invalid(last_line(&error.to_string())))
    }

    /// Does `text` satisfy it?
    #[inline]
    pub fn is_match(&self, text: &[u8]) -> bool {
        match self {
            StringMatch::Exact(exact) => text == &**exact,
            StringMatch::Prefix(prefix) => text.starts_with(prefix),
            StringMatch::Regex(regex) => regex.is_match(text),
        }
    }

    /// The same without regard to ASCII case; expressions say themselves what they ignore.
    #[inline]
    pub fn is_match_ignore_case(&self, text: &[u8]) -> bool {
        match self {
            StringMatch::Exact(exact) => text.eq_ignore_ascii_case(exact),
            StringMatch::Prefix(prefix) => {
                text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            StringMatch::Regex(regex) => regex.is_match(text),
        }
    }
}

/// The engine's messages draw a picture first; its last line says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or(message);
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_the_whole_text() {
        let regex = StringMatch::regex("/v[0-9]+|/w").expect("valid");
        assert!(regex.is_match(b"/v12") && regex.is_match(b"/w"));
        assert!(!regex.is_match(b"/v12/") && !regex.is_match(b"x/w"));
    }

    #[test]
    fn what_re2_does_not_have_is_refused() {
        assert_eq!(StringMatch::regex("").err(), Some(PatternError::Empty));
        assert_eq!(StringMatch::regex(&"a".repeat(1025)).err(), Some(PatternError::TooLong));
        for pattern in ["(?=a)", r"(a)\1", "a)(b", "[", r"(\w{100}){100}{100}"] {
            let error = StringMatch::regex(pattern).expect_err(pattern);
            assert!(matches!(error, PatternError::Invalid(ref text) if !text.is_empty()));
        }
    }

    #[test]
    fn case_is_ignored_only_when_asked() {
        let prefix = StringMatch::prefix("/Foo");
        assert!(prefix.is_match(b"/Foobar") && !prefix.is_match(b"/foobar"));
        assert!(prefix.is_match_ignore_case(b"/fOObar"));
        assert!(!prefix.is_match_ignore_case(b"/fo"));
    }
}
