//! `/explain`: where a request would go by the configuration in force, and why.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::state::AdminState;
use crate::explain::{Asked, ExplainError, Question, to_text};
use crate::limits::EXPLAIN_REQUEST_BYTES_MAX;

/// A client that no network has (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

const USAGE: &str = "\
POST a request to this page: a method and a URL, then fields, one a line or each after -H:

  curl -d \"GET http://hello.com/a -H 'x-user: jason'\" http://127.0.0.1:15000/explain

?output=json answers in JSON, ?port=80 names the port that it comes in on, ?client=IP the client.
";

/// What the query may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    #[serde(default)]
    output: Output,
    port: Option<u16>,
    client: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Output {
    #[default]
    Text,
    Json,
}

/// The page.
pub(super) fn route() -> MethodRouter<AdminState> {
    get(usage).post(explain).layer(DefaultBodyLimit::max(EXPLAIN_REQUEST_BYTES_MAX))
}

async fn usage() -> &'static str {
    USAGE
}

async fn explain(
    State(state): State<AdminState>,
    Query(query): Query<ExplainQuery>,
    body: String,
) -> Response {
    let asked = match Asked::from_text(&body) {
        Ok(asked) => asked,
        Err(error) => return refuse(&error.into()),
    };
    let Some(snapshot) = state.snapshot.load() else { return refuse(&ExplainError::NotStarted) };
    let client = query.client.unwrap_or(CLIENT);
    let question =
        Question { asked, port: query.port, bound_port: None, client, at: Instant::now() };
    let (sender, receiver) = oneshot::channel();
    let answer = move |answer| {
        // The client may have gone.
        let _ = sender.send(answer);
    };
    if let Err(error) = state.explain.ask(snapshot, question, answer) {
        return refuse(&error);
    }
    match receiver.await {
        Ok(Ok(answer)) => match query.output {
            Output::Text => to_text(&answer).into_response(),
            Output::Json => {
                let text = format!("{answer:#}\n");
                ([(header::CONTENT_TYPE, "application/json")], text).into_response()
            }
        },
        Ok(Err(error)) => refuse(&error),
        Err(_) => {
            let text = "working out the explanation failed; the process log says how\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

fn refuse(error: &ExplainError) -> Response {
    let status = match error {
        ExplainError::Ask(_)
        | ExplainError::Incomplete
        | ExplainError::NoListener(_)
        | ExplainError::NoSuchServer { .. }
        | ExplainError::NotRequests { .. }
        | ExplainError::NoSuchPort { .. } => StatusCode::BAD_REQUEST,
        ExplainError::NotStarted
        | ExplainError::Busy
        | ExplainError::System(_)
        | ExplainError::Runtime(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}
