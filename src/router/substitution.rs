//! `rewrite.uriRegexRewrite`: an RE2 substitution of every occurrence, with `\0` to `\9`.

use regex::bytes::Regex as Engine;

use super::string_match::{PatternError, unanchored};

/// A compiled substitution. A clone has a cache of its own, so that workers do not contend.
#[derive(Clone, Debug)]
pub struct Substitution {
    engine: Engine,
    parts: Box<[Part]>,
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
        Ok(Substitution { engine, parts: parts.into() })
    }

    /// Append `text` to `out` with every occurrence replaced.
    pub fn apply(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        for captures in self.engine.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            out.extend_from_slice(&text[from..whole.start()]);
            for part in &self.parts {
                match part {
                    Part::Literal(literal) => out.extend_from_slice(literal),
                    Part::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(b"", |g| g.as_bytes()));
                    }
                }
            }
            from = whole.end();
        }
        out.extend_from_slice(&text[from..]);
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

    #[test]
    fn mistakes_are_told() {
        assert_eq!(Substitution::new("a", r"\1").err(), Some(SubstitutionError::Group(1)));
        assert_eq!(Substitution::new("a", r"\x").err(), Some(SubstitutionError::Escape));
        assert!(matches!(Substitution::new("(", "").err(), Some(SubstitutionError::Pattern(_))));
    }
}
