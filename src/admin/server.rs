//! The pages and the server.

use std::future::Future;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::limits::ADMIN_SHUTDOWN_TIMEOUT;

use super::configuration::{clusters, config_dump, listeners};
use super::ports::{AdminError, AdminListeners, AdminRole};
use super::same_site::{action, held, read_by_own_pages};
use super::state::{AdminState, Readiness};
use super::{
    certs, dashboard, drain, explain, exposition, graph, live, logging, memory, slos, stats, tap,
};

/// Every page of the admin port with what it shows.
const PAGES: &[(&str, &str)] = &[
    ("/", "this list"),
    ("/api/curve", "percentile curve of a route (`key`) or `host` over `window` seconds (JSON)"),
    (
        "/api/graph",
        "gateway, hosts, routes, services, subsets, endpoints with their traffic (JSON)",
    ),
    ("/api/live", "rates, errors, latencies of the last `window` seconds (JSON)"),
    ("/api/slos", "objectives with what is left of their error budgets (JSON)"),
    ("/api/slos/rules", "recording and alerting rules for the objectives (Prometheus' YAML)"),
    ("/certs", "certificates in use and how long they are good (JSON)"),
    ("/clusters", "clusters and their endpoints (?format=json)"),
    (
        "/config_dump",
        "generation, sources, objects with their diagnostics, snapshot (JSON; ?resource=)",
    ),
    ("/dashboard/", "a page for browsers: traffic, graph, latencies, objectives, problems"),
    ("/explain", "POST a request, as `GET http://hello.com/`: where it goes and why"),
    ("/healthz/ready", "200 when ready, 503 with the reason when not"),
    ("/help", "this list"),
    ("/listeners", "bound addresses (?format=json: with the Gateways that asked for them)"),
    ("/logging", "what the process log shows; POST ?level= or ?TARGET=LEVEL changes it"),
    ("/memory", "what the allocator holds (JSON)"),
    ("/ready", "as /healthz/ready"),
    ("/server_info", "version, state, workers, labels (JSON)"),
    (
        "/stats",
        "all metrics as lines (?filter=REGEX, ?usedonly, ?type=, ?format=json|prometheus|text)",
    ),
    (
        "/stats/histograms",
        "latency percentiles per route and destination (JSON; ?format=hgrm, hlog)",
    ),
    ("/stats/prometheus", "all metrics (Prometheus text format, or OpenMetrics)"),
];

/// Pages that act, or go on, with the method that they want.
const ACTIONS: &[(&str, &str, &str)] = &[
    ("POST", "/drain_listeners", "accept no more connections (?graceful, ?skip_exit)"),
    ("POST", "/healthcheck/fail", "say that we are not ready"),
    ("POST", "/healthcheck/ok", "take it back"),
    ("POST", "/quitquitquit", "drain and end"),
    ("POST", "/reset_counters", "not supported: says why"),
    (
        "GET",
        "/tap",
        "requests as they pass, a JSON object a line, with filters (see `ringress tap`)",
    ),
];

/// Serve until `shutdown` is done, then let open requests finish for
/// [`ADMIN_SHUTDOWN_TIMEOUT`]. Must run within a tokio runtime with I/O and time enabled.
pub async fn serve(
    listeners: AdminListeners,
    state: AdminState,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AdminError> {
    let (stop, stopped) = watch::channel(());
    let mut servers = JoinSet::new();
    for (role, listener) in listeners.listeners {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(AdminError::Runtime)?;
        let router = router(role).with_state(state.clone());
        let mut stopped = stopped.clone();
        servers.spawn(async move {
            let stopped = async move {
                // An error means that the sender was dropped, which is the signal.
                let _ = stopped.changed().await;
            };
            axum::serve(listener, router).with_graceful_shutdown(stopped).await
        });
    }
    shutdown.await;
    drop(stop);
    let ended = async { while servers.join_next().await.is_some() {} };
    // Whoever is left after the timeout (a client that never sends its request) is cut off when the
    // set is dropped.
    let _ = tokio::time::timeout(ADMIN_SHUTDOWN_TIMEOUT, ended).await;
    Ok(())
}

fn router(role: AdminRole) -> Router<AdminState> {
    let router = Router::new();
    match role {
        AdminRole::Health => router.route("/healthz/ready", get(ready)),
        AdminRole::Prometheus => router.route("/stats/prometheus", get(exposition::prometheus)),
        AdminRole::Stats => router
            .route("/healthz/ready", get(ready))
            .route("/stats/prometheus", get(exposition::prometheus)),
        AdminRole::Admin => read_by_own_pages(
            router
                .route("/", get(index))
                .route("/api/curve", get(live::curve))
                .route("/api/graph", get(graph::graph))
                .route("/api/live", get(live::live))
                .route("/api/slos", get(slos::slos))
                .route("/api/slos/rules", get(slos::rules))
                .route("/certs", get(certs::certs))
                .route("/clusters", get(clusters))
                .route("/config_dump", get(config_dump))
                .route("/dashboard", get(dashboard::to_page))
                .route(dashboard::PATH, get(dashboard::page))
                .route("/dashboard/{name}", get(dashboard::file))
                .route("/drain_listeners", action(drain::drain_listeners))
                .route("/explain", explain::route())
                .route("/healthcheck/fail", action(drain::fail))
                .route("/healthcheck/ok", action(drain::recover))
                .route("/healthz/ready", get(ready))
                .route("/help", get(index))
                .route("/listeners", get(listeners))
                .route("/logging", logging::route())
                .route("/memory", get(memory::memory))
                .route("/quitquitquit", action(drain::quit))
                .route("/ready", get(ready))
                .route("/reset_counters", action(drain::reset_counters))
                .route("/server_info", get(server_info))
                .route("/stats", get(stats::stats))
                .route("/stats/histograms", get(exposition::histograms))
                .route("/stats/prometheus", get(exposition::prometheus))
                .route("/tap", held(get(tap::tap)))
                .fallback(not_found),
        ),
    }
}

fn index_text() -> String {
    let actions = ACTIONS.iter().map(|(method, path, does)| (format!("{method} {path}"), *does));
    let pages = PAGES.iter().map(|(path, shows)| ((*path).to_owned(), *shows));
    let all: Vec<(String, &str)> = pages.chain(actions).collect();
    let width = all.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    all.iter().map(|(path, shows)| format!("{path:width$}  {shows}\n")).collect()
}

/// The list; for browsers, which ask for pages, the way to the dashboard.
async fn index(headers: HeaderMap) -> Response {
    let vary = [(header::VARY, "accept")];
    if dashboard::is_wanted(&headers) {
        return (vary, Redirect::temporary(dashboard::PATH)).into_response();
    }
    (vary, index_text()).into_response()
}

async fn not_found() -> Response {
    let text = format!("no such page; there are:\n{}", index_text());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn ready(State(state): State<AdminState>) -> Response {
    match state.readiness.get() {
        Readiness::Ready if state.controls.failed() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "failed by an operator: POST /healthcheck/ok takes it back\n",
        ),
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not started: the workers do not serve a configuration yet\n",
        ),
        Readiness::Draining => (
            StatusCode::SERVICE_UNAVAILABLE,
            "draining: the process is shutting down and takes no new connections\n",
        ),
    }
    .into_response()
}

#[derive(Serialize)]
struct ServerInfoPage<'a> {
    version: &'a str,
    /// Envoy's words.
    state: &'static str,
    pid: u32,
    uptime_s: u64,
    workers: usize,
    io_driver: &'a str,
    generation: u64,
    labels: serde_json::Map<String, serde_json::Value>,
}

async fn server_info(State(state): State<AdminState>) -> Response {
    let info = &state.info;
    let labels = info.labels.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    json(&ServerInfoPage {
        version: &info.version,
        state: match state.readiness.get() {
            Readiness::Starting => "INITIALIZING",
            Readiness::Ready if state.controls.failed() => "DRAINING",
            Readiness::Ready => "LIVE",
            Readiness::Draining => "DRAINING",
        },
        pid: std::process::id(),
        uptime_s: info.started.elapsed().as_secs(),
        workers: info.workers,
        io_driver: &info.io_driver,
        generation: state.status.load().generation,
        labels: labels.collect(),
    })
}

/// Indented, because people read it.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(mut text) => {
            text.push('\n');
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => {
            let text = format!("cannot render the page: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
