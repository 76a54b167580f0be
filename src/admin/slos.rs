//! `/api/slos` and `/api/slos/rules`: what was promised, what is left of it, and Prometheus' rules for it.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::exposition::stopped;
use super::report::{DiagnosticReport, StatusReport};
use super::server::json;
use super::slo_rules;
use super::state::AdminState;
use crate::metrics::slo::{BURN_WINDOWS, Measure, Tracked};

#[derive(Serialize)]
struct SlosPage {
    slos: Vec<SloRow>,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct SloRow {
    name: String,
    host: Option<String>,
    route: Option<String>,
    kind: &'static str,
    /// 0 to 1.
    objective: f64,
    threshold_ms: Option<f64>,
    window_s: u64,
    /// How much of the window this process has seen.
    observed_s: u64,
    good: u64,
    total: u64,
    ratio: Option<f64>,
    budget_remaining: Option<f64>,
    burn_rates: Vec<BurnRate>,
    alert: Option<&'static str>,
}

#[derive(Serialize)]
struct BurnRate {
    window_s: u64,
    rate: Option<f64>,
}

impl SloRow {
    fn of(tracked: &Tracked) -> SloRow {
        let objective = tracked.objective();
        let sums = tracked.in_window();
        let burn_rates = BURN_WINDOWS.iter();
        SloRow {
            name: objective.name.clone(),
            host: objective.host().map(str::to_owned),
            route: objective.route(),
            kind: objective.measure.as_str(),
            objective: objective.share(),
            threshold_ms: match objective.measure {
                Measure::Availability => None,
                Measure::Latency { threshold_us } => Some(threshold_us as f64 / 1000.0),
            },
            window_s: objective.window.as_secs(),
            observed_s: tracked.observed().min(objective.window).as_secs(),
            good: sums.good,
            total: sums.total,
            ratio: (sums.total > 0).then(|| sums.good as f64 / sums.total as f64),
            budget_remaining: tracked.budget_remaining(),
            burn_rates: burn_rates
                .map(|(_, window_s)| BurnRate {
                    window_s: *window_s,
                    rate: tracked.burn_rate(*window_s),
                })
                .collect(),
            alert: tracked.alert().map(|alert| alert.as_str()),
        }
    }
}

pub(super) async fn slos(State(state): State<AdminState>) -> Response {
    let (sender, receiver) = oneshot::channel();
    state.stats.collect(Duration::ZERO, move |collected| {
        let rows: Vec<SloRow> = collected.slos.objectives().iter().map(SloRow::of).collect();
        // The client may have gone.
        let _ = sender.send(rows);
    });
    match receiver.await {
        Ok(slos) => json(&SlosPage { slos, errors: errors(&state.status.load()) }),
        Err(_) => stopped(),
    }
}

/// What was found in the objects of objectives.
fn errors(status: &StatusReport) -> Vec<String> {
    let objects = status.objects.iter().filter(|object| object.kind == "ServiceLevelObjective");
    let found = objects.flat_map(|object| &object.diagnostics);
    let text = |found: &DiagnosticReport| {
        format!("{}:{}:{}: {}", found.file, found.line, found.column, found.message)
    };
    found.map(text).collect()
}

pub(super) async fn rules(State(state): State<AdminState>) -> Response {
    let snapshot = state.snapshot.load();
    let objectives = snapshot.as_ref().map_or(&[][..], |snapshot| &*snapshot.objectives);
    ([(header::CONTENT_TYPE, "application/yaml")], slo_rules::rules(objectives)).into_response()
}
