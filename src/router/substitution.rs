//! `rewrite.uriRegexRewrite`: an RE2 substitution of every occurrence, with `\0` to `\9`.

use std::sync::{Mutex, TryLockError};

use regex::bytes::{CaptureLocations, Regex as Engine};

use super::string_match::{PatternError, unanchored};

/// A compiled substitution. A clone has memory of its own, so that workers do not contend.
#[derive(Debug)]
pub struct Substitution {
    engine: Engine,
    parts: Box<[Part]>,
    /// Where the groups of a match are put, so that a request allocates nothing. Each worker has its own
    /// clone: it is never waited for.
    groups: Mutex<CaptureLocations>,
}

impl Clone for Substitution {
    fn clone(&self) -> Substitution {
        let groups = Mutex::new(self.engine.capture_locations());
        Substitution { engine: self.engine.clone(), parts: self.parts.clone(), groups }
    }
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<[u8]>),
    Group(usize),
}

/// Why a replacement cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    /// The pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `\` before something that is no digit.
    #[error("`\\` is followed by neither a digit nor `\\`")]
    Escape,
    /// More than the pattern has.
    #[error("`\\{0}` names a group that the pattern does not have")]
    Group(usize),
}

impl Substitution {
    /// Compile a pattern and its replacement.
    ///
    /// # Errors
    /// See [`SubstitutionError`].
    pub fn new(pattern: &str, replacement: &str) -> Result<Substitution, SubstitutionError> {
        let (_, _, engine) = unanchored(pattern)?;
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = replacement.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                literal.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'\\') => literal.push(b'\\'),
                Some(digit @ b'0'..=b'9') => {
                    let group = usize::from(digit - b'0');
                    if group >= engine.captures_len() {
                        return Err(SubstitutionError::Group(group));
                    }
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                    parts.push(Part::Group(group));
                }
                _ => return Err(SubstitutionError::Escape),
            }
        }
        parts.push(Part::Literal(literal.into()));
        let groups = Mutex::new(engine.capture_locations());
        Ok(Substitution { engine, parts: parts.into(), groups })
    }

    /// Append `text` to `out` with every occurrence replaced.
    pub fn apply(&self, text: &[u8], out: &mut Vec<u8>) {
        match self.groups.try_lock() {
            Ok(mut groups) => self.replace(text, out, &mut groups),
            Err(TryLockError::Poisoned(groups)) => {
                self.replace(text, out, &mut groups.into_inner());
            }
            // Another thread asks the same copy: the admin page that explains a request.
            Err(TryLockError::WouldBlock) => {
                self.replace(text, out, &mut self.engine.capture_locations());
            }
        }
    }

    fn replace(&self, text: &[u8], out: &mut Vec<u8>, groups: &mut CaptureLocations) {
        let (mut at, mut copied, mut last_end) = (0, 0, None);
        while at <= text.len()
            && let Some(whole) = self.engine.captures_read_at(groups, text, at)
        {
            // An empty match directly behind another one is none.
            if whole.is_empty() && last_end == Some(whole.end()) {
                at = whole.end() + 1;
                continue;
            }
            out.extend_from_slice(&text[copied..whole.start()]);
            for part in &self.parts {
                match part {
                    Part::Literal(literal) => out.extend_from_slice(literal),
                    Part::Group(group) => {
                        let found = groups.get(*group).unwrap_or_default();
                        out.extend_from_slice(&text[found.0..found.1]);
                    }
                }
            }
            (at, copied, last_end) = (whole.end(), whole.end(), Some(whole.end()));
        }
        out.extend_from_slice(&text[copied..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(pattern: &str, replacement: &str, text: &str) -> String {
        let substitution = Substitution::new(pattern, replacement).expect("good").clone();
        let mut out = Vec::new();
        substitution.apply(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_occurrence_is_replaced() {
        assert_eq!(apply("a", "b", "/a/a"), "/b/b");
        assert_eq!(
            apply("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/x/v1"),
            "/v1/instance/x"
        );
        assert_eq!(apply("/one/two", r"[\0]", "/one/two/three"), "[/one/two]/three");
        assert_eq!(apply("(x)|y", r"<\1\\>", "y"), r"<\>");
        assert_eq!(apply("nothing", "b", "/a"), "/a");
    }

    proptest::proptest! {
        /// The engine's own replacement says what is right.
        #[test]
        fn it_replaces_as_the_engine_does(
            pattern in "(a|b|\\(a\\)|\\(b\\|c\\)|c\\*|x\\?|\\^/|d\\+|\\$){1,5}",
            text in "[abcdx/]{0,12}",
        ) {
            let Ok(substitution) = Substitution::new(&pattern, r"<\0>") else { return Ok(()) };
            let mut out = Vec::new();
            substitution.apply(text.as_bytes(), &mut out);
            let expected = substitution.engine.replace_all(text.as_bytes(), &b"<${0}>"[..]);
            proptest::prop_assert_eq!(out, expected.into_owned());
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(Substitution::new("a", r"\1").err(), Some(SubstitutionError::Group(1)));
        assert_eq!(Substitution::new("a", r"\x").err(), Some(SubstitutionError::Escape));
        assert!(matches!(Substitution::new("(", "").err(), Some(SubstitutionError::Pattern(_))));
    }
}
