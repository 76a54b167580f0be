//! What ends something, or says that we are not ready: `/drain_listeners`, `/quitquitquit`,
//! `/healthcheck/fail`, `/healthcheck/ok`; and `/reset_counters`, which does nothing here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::controls::{ListenersEnd, Order};
use super::parameters::{Parameters, QueryError};
use super::state::AdminState;

/// `/quitquitquit`
pub(super) async fn quit(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    query.end(&[])?;
    tracing::warn!("asked to end, by /quitquitquit");
    Ok(ordered(&state, Order::Quit, "draining; the process ends when its requests are done\n"))
}

/// `/drain_listeners`
pub(super) async fn drain_listeners(
    State(state): State<AdminState>,
    mut query: Parameters,
) -> Result<Response, QueryError> {
    let graceful = query.flag("graceful")?;
    let stay = query.flag("skip_exit")?;
    if query.flag("inboundonly")? {
        let text = "`inboundonly` drains the inbound listeners of a sidecar; a gateway has none: every \
                    listener of it faces clients. Call without it";
        return Err(QueryError(text.to_owned()));
    }
    query.end(&["graceful", "skip_exit"])?;
    let (end, text) = match (graceful, stay) {
        (false, false) => (ListenersEnd::Now, "no more connections are accepted\n"),
        (true, false) => (
            ListenersEnd::AfterDrain,
            "clients are asked to leave; after --drain-timeout no more connections are accepted\n",
        ),
        (true, true) => (ListenersEnd::Never, "clients are asked to leave\n"),
        (false, true) => {
            return Err(QueryError("`skip_exit` goes with `graceful`".to_owned()));
        }
    };
    Ok(ordered(&state, Order::StopListening(end), text))
}

/// `/healthcheck/fail`
pub(super) async fn fail(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    query.end(&[])?;
    tracing::warn!("asked to say that we are not ready, by /healthcheck/fail");
    state.controls.set_failed(true);
    Ok("readiness answers 503 until /healthcheck/ok\n".into_response())
}

/// `/healthcheck/ok`
pub(super) async fn recover(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    query.end(&[])?;
    tracing::info!("readiness is what it is again, by /healthcheck/ok");
    state.controls.set_failed(false);
    Ok("readiness is what it is again\n".into_response())
}

/// `/reset_counters`
pub(super) async fn reset_counters() -> Response {
    let text = "not supported: counters only grow, and who scrapes them relies on it. Differences come from \
                two scrapes (rate() in Prometheus)\n";
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

fn ordered(state: &AdminState, order: Order, text: &'static str) -> Response {
    if state.controls.order(order) {
        return text.into_response();
    }
    let text = "the control loop takes no order now: it ends, or has too many; try again\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
