//! A finding about what the user wrote: what, where, and what to do.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::{Position, ResourceKey, codes};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or a part of it, is not served.
    Error,
    /// Served, but perhaps not as meant.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// `error`, `warning`, `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<PathBuf>,
    /// Its text, to show the line.
    pub text: Arc<str>,
    /// Line and column, from 1.
    pub position: Position,
    /// The line may hold a secret: it is not shown.
    pub hidden: bool,
}

impl Place {
    /// Column after the word that the place points to; columns count characters from 1.
    pub fn end_column(&self) -> usize {
        let Position { line, column } = self.position;
        let Some(text) = self.text.lines().nth(line.saturating_sub(1)) else { return column + 1 };
        let word = text.get(span(text, column)).unwrap_or_default();
        column + word.chars().count().max(1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.position.line, self.position.column)
    }
}

impl fmt::Debug for Place {
    /// Without the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One of [`super::codes::CODES`].
    pub code: &'static str,
    /// The object that it is about.
    pub resource: Option<ResourceKey>,
    /// Path of the field, `spec.http[0].route[0]`.
    pub field: String,
    /// Where.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What to do, when more can be said than the code's mend.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding about no place in a file.
    pub fn without_place(severity: Severity, code: &'static str, message: String) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            resource: None,
            field: String::new(),
            place: None,
            message,
            help: None,
        }
    }

    /// What is said: object, field, message.
    pub fn title(&self) -> String {
        let mut title = String::new();
        if let Some(resource) = &self.resource {
            title.push_str(&resource.to_string());
            title.push_str(": ");
        }
        if !self.field.is_empty() {
            title.push_str(&self.field);
            title.push_str(": ");
        }
        title.push_str(&self.message);
        title
    }

    /// What to do: of the finding itself, or else what its code has. Good news needs none.
    pub fn mend(&self) -> Option<&str> {
        let of_code = || codes::find(self.code).map(|code| code.mend);
        let needed = self.severity != Severity::Info;
        self.help.as_deref().or_else(|| of_code().filter(|_| needed))
    }

    /// As text with the line that it is about, in the manner of rustc.
    pub fn to_text(&self, color: bool) -> String {
        let title = self.title();
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Info => Level::INFO,
        };
        let primary = level.primary_title(title).id(self.code);
        let mut group = Group::with_title(primary);
        if let Some(place) = &self.place {
            let path = place.file.display().to_string();
            let Position { line, column } = place.position;
            // The line alone: a diagnostic costs the same in a long file as in a short one.
            group = match place.text.lines().nth(line.saturating_sub(1)) {
                Some(text) if !place.hidden => group.element(
                    Snippet::source(text)
                        .path(path)
                        .line_start(line)
                        .annotation(AnnotationKind::Primary.span(span(text, column))),
                ),
                _ => group
                    .element(annotate_snippets::Origin::path(path).line(line).char_column(column)),
            };
        }
        if let Some(help) = self.mend() {
            group = group.element(Level::HELP.message(help.to_owned()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// As a JSON object with stable names.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity,
            "code": self.code,
            "resource": self.resource.as_ref().map(ToString::to_string),
            "field": self.field,
            "file": self.place.as_ref().map(|place| place.file.display().to_string()),
            "line": self.place.as_ref().map(|place| place.position.line),
            "column": self.place.as_ref().map(|place| place.position.column),
            "message": self.message,
            "help": self.mend(),
        })
    }
}

/// The bytes of the word at a column of a line; what stands in quotes is one word.
fn span(line: &str, column: usize) -> std::ops::Range<usize> {
    let start = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let rest = &line[start..];
    if let Some(quote) = rest.chars().next().filter(|letter| matches!(letter, '"' | '\''))
        && let Some(end) = rest[1..].find(quote)
    {
        return start..start + end + 2;
    }
    let length = rest.find([' ', ',', ':', '}', ']', '#']).unwrap_or(rest.len());
    let length = if length == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { length };
    start..start + length
}
