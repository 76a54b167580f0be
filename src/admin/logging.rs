//! `/logging`: what the process log shows, and changing that while it runs.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::controls::ProcessLog;
use super::parameters::{Parameters, QueryError, text};
use super::same_site::guarded;
use super::state::AdminState;
use crate::limits::LOG_DIRECTIVES_BYTES_MAX;

/// How the level of everything without one of its own is shown.
const EVERYTHING: &str = "(all others)";

/// The page.
pub(super) fn route() -> MethodRouter<AdminState> {
    guarded(get(show).post(change))
}

async fn show(State(state): State<AdminState>, query: Parameters) -> Result<Response, QueryError> {
    if let Some((name, _)) = query.rest().first() {
        return Err(QueryError(format!("POST `{name}=LEVEL` to change something")));
    }
    Ok(match &state.controls.process_log {
        Some(log) => text(shown(&log.directives())),
        None => not_ours(),
    })
}

/// `level=debug`, `paths=ringress::control:debug,…` (Envoy's), or `ringress::control=debug`.
async fn change(
    State(state): State<AdminState>,
    mut query: Parameters,
) -> Result<Response, QueryError> {
    let Some(log) = &state.controls.process_log else { return Ok(not_ours()) };
    let mut changes: Vec<(Option<String>, String)> = Vec::new();
    if let Some(level) = query.take("level")? {
        changes.push((None, level));
    }
    if let Some(paths) = query.take("paths")? {
        for path in paths.split(',') {
            let (target, level) = path.rsplit_once(':').ok_or_else(|| {
                QueryError(format!("`paths`: `{path}` is not of the form TARGET:LEVEL"))
            })?;
            changes.push((Some(target.to_owned()), level.to_owned()));
        }
    }
    changes.extend(query.rest().into_iter().map(|(target, level)| (Some(target), level)));
    let shown = apply(log.as_ref(), &changes)?;
    Ok(text(shown))
}

/// Change the log; what it shows then.
fn apply(log: &dyn ProcessLog, changes: &[(Option<String>, String)]) -> Result<String, QueryError> {
    let mut directives = log.directives();
    for (target, level) in changes {
        directives = changed(&directives, target.as_deref(), known_level(level)?)?;
    }
    if directives.len() > LOG_DIRECTIVES_BYTES_MAX {
        return Err(QueryError("the list of targets has become too long: set `level`".to_owned()));
    }
    if !changes.is_empty() {
        log.set(&directives).map_err(QueryError)?;
        tracing::info!("the process log shows `{directives}` from now on");
    }
    Ok(shown(&directives))
}

/// A level by our name or Envoy's.
fn known_level(text: &str) -> Result<&'static str, QueryError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "critical" => "error",
        "off" => "off",
        _ => {
            let text =
                format!("`{text}` is no level: there are trace, debug, info, warning, error, off");
            return Err(QueryError(text));
        }
    })
}

/// `directives` with the level of a target, or of everything: then nothing else is left, as in Envoy.
fn changed(directives: &str, target: Option<&str>, level: &str) -> Result<String, QueryError> {
    let Some(target) = target else { return Ok(level.to_owned()) };
    let named =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':' | '-' | '.');
    if target.is_empty() || !target.chars().all(named) {
        let text = format!("`{target}` is no target: write a module, such as ringress::control");
        return Err(QueryError(text));
    }
    let mut kept: Vec<&str> = parts(directives)
        .into_iter()
        .filter(|part| part.split_once('=').is_none_or(|(own, _)| own.trim() != target))
        .filter(|part| *part != target)
        .collect();
    let own = format!("{target}={level}");
    kept.push(&own);
    Ok(kept.join(","))
}

/// The directives one by one; a comma between brackets or quotes belongs to one of them.
fn parts(directives: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let split = directives.split(|letter| {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    split.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn shown(directives: &str) -> String {
    let mut out = "active loggers:\n".to_owned();
    for part in parts(directives) {
        let (target, level) = match part.rsplit_once('=') {
            Some(pair) => pair,
            None if known_level(part).is_ok() => (EVERYTHING, part),
            None => (part, "trace"),
        };
        out.push_str(&format!("  {target}: {level}\n"));
    }
    out
}

fn not_ours() -> Response {
    let text = "the process log belongs to the program that this gateway is part of\n";
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Held(Mutex<String>);

    impl ProcessLog for Held {
        fn directives(&self) -> String {
            self.0.lock().unwrap().clone()
        }

        fn set(&self, directives: &str) -> Result<(), String> {
            directives.clone_into(&mut self.0.lock().unwrap());
            Ok(())
        }
    }

    fn set(log: &Held, target: Option<&str>, level: &str) -> Result<String, QueryError> {
        apply(log, &[(target.map(str::to_owned), level.to_owned())])
    }

    #[test]
    fn levels_change_alone_and_all_together() {
        let log = Held(Mutex::new("info".to_owned()));
        assert_eq!(apply(&log, &[]).unwrap(), "active loggers:\n  (all others): info\n");
        let shown = set(&log, Some("ringress::control"), "debug").unwrap();
        assert_eq!(shown, "active loggers:\n  (all others): info\n  ringress::control: debug\n");
        set(&log, Some("ringress::control"), "warning").unwrap();
        assert_eq!(log.directives(), "info,ringress::control=warn");
        set(&log, None, "error").unwrap();
        assert_eq!(log.directives(), "error");
        for (target, level) in
            [(None, "loud"), (Some(""), "info"), (Some("a,b"), "info"), (Some("a=b"), "info")]
        {
            assert!(set(&log, target, level).is_err(), "{target:?} {level}");
        }
        assert_eq!(log.directives(), "error");
    }

    #[test]
    fn directives_of_spans_stay_whole() {
        let directives = "warn,[request{a=1,b=2}]=debug,x=info";
        assert_eq!(parts(directives), ["warn", "[request{a=1,b=2}]=debug", "x=info"]);
        let changed = changed(directives, Some("x"), "off").unwrap();
        assert_eq!(changed, "warn,[request{a=1,b=2}]=debug,x=off");
    }
}
