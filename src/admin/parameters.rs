//! The query of a page: each page says which parameters it knows; others are refused by name, so that
//! none is believed to work that does not.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The parameters that no one has taken yet.
pub(super) struct Parameters(Vec<(String, String)>);

/// What is wrong with a query; the answer is 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}\n")]
pub(super) struct QueryError(pub(super) String);

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.to_string()).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = QueryError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Parameters, QueryError> {
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Parameters(pairs))
            .map_err(|error| QueryError(format!("the query cannot be read: {error}")))
    }
}

impl Parameters {
    /// The value of a parameter, which may be there once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, QueryError> {
        let mut all = self.take_all(name);
        match all.len() {
            0 | 1 => Ok(all.pop()),
            count => Err(QueryError(format!("`{name}` is there {count} times; give it once"))),
        }
    }

    /// Every value of a parameter.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(own, _)| own == name).map(|(_, value)| value).collect()
    }

    /// Is a parameter that needs no value there?
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, QueryError> {
        match self.take(name)?.as_deref() {
            None | Some("0" | "false" | "off") => Ok(false),
            Some("" | "1" | "true" | "on") => Ok(true),
            Some(other) => Err(QueryError(format!(
                "`{name}={other}`: write `{name}` alone, or with true or false"
            ))),
        }
    }

    /// The value of a parameter that is made of text by `parse`; `wanted` says what it should be.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, QueryError> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(QueryError(format!("`{name}={text}` is not {wanted}"))),
        }
    }

    /// Everything that is left.
    pub(super) fn rest(self) -> Vec<(String, String)> {
        self.0
    }

    /// Refuse what nobody took. `known`: the parameters of the page.
    pub(super) fn end(self, known: &[&str]) -> Result<(), QueryError> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let known = match known {
            [] => "it has none".to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        Err(QueryError(format!("`{name}` is no parameter of this page: {known}")))
    }
}

/// How a page of Envoy's is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines.
    Text,
    /// JSON.
    Json,
}

impl Format {
    /// `?format=text` or `?format=json`.
    pub(super) fn of(parameters: &mut Parameters) -> Result<Format, QueryError> {
        let format = parameters.parsed("format", "text or json", |text| match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            _ => None,
        })?;
        Ok(format.unwrap_or(Format::Text))
    }
}

/// Lines as an answer.
pub(super) fn text(lines: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn flags_need_no_value() {
        for (value, set) in [("", true), ("true", true), ("1", true), ("false", false)] {
            assert_eq!(parameters(&[("usedonly", value)]).flag("usedonly"), Ok(set), "{value}");
        }
        assert_eq!(parameters(&[]).flag("usedonly"), Ok(false));
        let error = parameters(&[("usedonly", "maybe")]).flag("usedonly").unwrap_err();
        assert!(error.0.contains("usedonly=maybe"), "{error}");
    }

    #[test]
    fn what_nobody_knows_is_named() {
        let mut all = parameters(&[("format", "json"), ("mask", "x")]);
        assert_eq!(Format::of(&mut all), Ok(Format::Json));
        let error = all.end(&["format"]).unwrap_err();
        assert_eq!(error.0, "`mask` is no parameter of this page: it has format");
        assert!(parameters(&[("a", "1"), ("a", "2")]).take("a").is_err());
        assert!(Format::of(&mut parameters(&[("format", "xml")])).is_err());
    }
}
