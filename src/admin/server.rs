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

use super::ports::{AdminError, AdminListeners, AdminRole};
use super::state::{AdminState, Readiness};
use super::{dashboard, explain, graph, live, slos, stats};

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
    ("/clusters", "clusters and their endpoints (JSON)"),
    ("/config_dump", "generation, sources, objects with their diagnostics, snapshot (JSON)"),
    ("/dashboard/", "a page for browsers: traffic, graph, latencies, objectives, problems"),
    ("/explain", "POST a request, as `GET http://hello.com/`: where it goes and why"),
    ("/healthz/ready", "200 when ready, 503 with the reason when not"),
    ("/listeners", "bound addresses and the Gateways that asked for them (JSON)"),
    ("/ready", "as /healthz/ready"),
    ("/server_info", "version, state, workers, labels (JSON)"),
    (
        "/stats/histograms",
        "latency percentiles per route and destination (JSON; ?format=hgrm, hlog)",
    ),
    ("/stats/prometheus", "all metrics (Prometheus text format, or OpenMetrics)"),
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
        AdminRole::Prometheus => router.route("/stats/prometheus", get(stats::prometheus)),
        AdminRole::Stats => router
            .route("/healthz/ready", get(ready))
            .route("/stats/prometheus", get(stats::prometheus)),
        AdminRole::Admin => router
            .route("/", get(index))
            .route("/api/curve", get(live::curve))
            .route("/api/graph", get(graph::graph))
            .route("/api/live", get(live::live))
            .route("/api/slos", get(slos::slos))
            .route("/api/slos/rules", get(slos::rules))
            .route("/clusters", get(clusters))
            .route("/config_dump", get(config_dump))
            .route("/dashboard", get(dashboard::to_page))
            .route(dashboard::PATH, get(dashboard::page))
            .route("/dashboard/{name}", get(dashboard::file))
            .route("/explain", explain::route())
            .route("/healthz/ready", get(ready))
            .route("/listeners", get(listeners_page))
            .route("/ready", get(ready))
            .route("/server_info", get(server_info))
            .route("/stats/histograms", get(stats::histograms))
            .route("/stats/prometheus", get(stats::prometheus))
            .fallback(not_found),
    }
}

fn index_text() -> String {
    let width = PAGES.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    PAGES.iter().map(|(path, shows)| format!("{path:width$}  {shows}\n")).collect()
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

async fn config_dump(State(state): State<AdminState>) -> Response {
    json(&*state.status.load())
}

async fn clusters(State(state): State<AdminState>) -> Response {
    json(&state.status.load().snapshot.clusters)
}

async fn listeners_page(State(state): State<AdminState>) -> Response {
    json(&state.status.load().snapshot.listeners)
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
