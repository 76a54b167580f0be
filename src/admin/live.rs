//! `/api/live` and `/api/curve`: rates, errors and latencies of now. The numbers are read from a copy that
//! shares the steps of the history, and put together on a thread that serves no request.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::live_stats::{LiveView, SeriesPoint, Stats, series, service_and_subset, stable_key};
use super::state::AdminState;
use crate::ids::HistogramSlot;
use crate::metrics::HistogramKey;
use crate::metrics::history::{STEPS_OF_COARSE, Summary, Window};

/// Seconds that a page asks for when it does not say.
const WINDOW_DEFAULT_S: u64 = 60;
/// Seconds that it may ask for.
const WINDOW_S: std::ops::RangeInclusive<u64> = 5..=3600;
/// Points of a percentile curve for each halving of what is above.
const TICKS_PER_HALF: u32 = 5;

/// What a live page is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Seconds.
    window: Option<u64>,
    /// A route, by its key.
    key: Option<String>,
    /// A host.
    host: Option<String>,
    /// End of the window, milliseconds since the Unix epoch.
    until: Option<u64>,
}

impl Asked {
    pub(super) fn window(&self) -> Duration {
        let asked = self.window.unwrap_or(WINDOW_DEFAULT_S);
        Duration::from_secs(asked.clamp(*WINDOW_S.start(), *WINDOW_S.end()))
    }

    /// Is it asked for?
    fn picks(&self, key: &HistogramKey) -> bool {
        self.key.as_ref().is_none_or(|asked| *asked == stable_key(key))
            && self.host.as_ref().is_none_or(|asked| *asked == key.virtual_host)
    }
}

#[derive(Serialize)]
struct LivePage {
    now_unix_ms: u64,
    window_s: u64,
    /// How much of the window there is.
    covered_s: f64,
    /// How far back the numbers reach.
    kept_s: f64,
    step_s: u64,
    uptime_s: u64,
    generation: u64,
    total: Stats,
    hosts: Vec<HostRow>,
    routes: Vec<RouteRow>,
    series: Vec<SeriesPoint>,
}

#[derive(Serialize)]
struct HostRow {
    host: String,
    #[serde(flatten)]
    stats: Stats,
}

#[derive(Serialize)]
struct RouteRow {
    host: String,
    route: String,
    virtual_service: String,
    destination: String,
    service: String,
    subset: String,
    key: String,
    #[serde(flatten)]
    stats: Stats,
}

#[derive(Serialize)]
struct CurvePage {
    key: Option<String>,
    host: Option<String>,
    from_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
    count: u64,
    /// Quantile and microseconds.
    points: Vec<(f64, u64)>,
}

pub(super) async fn live(State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    let uptime_s = state.info.started.elapsed().as_secs();
    let generation = state.status.load().generation;
    answer(&state, move |view| Ok(live_page(&view, &asked, uptime_s, generation))).await
}

pub(super) async fn curve(State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    answer(&state, move |view| curve_page(view, asked)).await
}

/// Take a copy of the history, make a page of it aside, and send that.
pub(super) async fn answer<P: Serialize>(
    state: &AdminState,
    make: impl FnOnce(LiveView) -> Result<P, String> + Send + 'static,
) -> Response {
    let Some(view) = view(state).await else { return super::exposition::stopped() };
    let made = tokio::task::spawn_blocking(move || {
        make(view).map(|page| serde_json::to_string(&page).map_err(|error| error.to_string()))
    });
    match made.await {
        Ok(Ok(Ok(text))) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(Ok(Err(error))) => failed(&error),
        Ok(Err(unknown)) => (StatusCode::NOT_FOUND, unknown).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

/// A copy of the history; none when the statistics thread has stopped.
pub(super) async fn view(state: &AdminState) -> Option<LiveView> {
    let (sender, receiver) = oneshot::channel();
    // What there is now: the steps are closed by the clock, not by who asks.
    state.stats.collect(Duration::ZERO, move |collected| {
        let keys = collected.labels.histogram_keys().to_vec();
        // The client may have gone.
        let _ = sender.send(LiveView { history: collected.totals.history.view(), keys });
    });
    receiver.await.ok()
}

fn failed(error: &str) -> Response {
    let text = format!("cannot render the page: {error}\n");
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

/// What each slot had in a window. Index: `HistogramSlot`; none without requests.
pub(super) fn by_slot(window: Window<'_>, slots: usize) -> Vec<Option<Summary>> {
    let mut summaries: Vec<Option<Summary>> = (0..slots).map(|_| None).collect();
    for route in window.steps.iter().flat_map(|step| &step.routes) {
        if let Some(summary) = summaries.get_mut(route.slot.index()) {
            summary.get_or_insert_default().add(route);
        }
    }
    summaries
}

fn live_page(view: &LiveView, asked: &Asked, uptime_s: u64, generation: u64) -> LivePage {
    let window = view.history.window(asked.window(), asked.until);
    let covered = window.covered();
    let mut total = Summary::default();
    let mut hosts: BTreeMap<&str, Summary> = BTreeMap::new();
    let mut routes = Vec::new();
    for (key, summary) in view.keys.iter().zip(by_slot(window, view.keys.len())) {
        let Some(summary) = summary else { continue };
        total.merge(&summary);
        hosts.entry(&key.virtual_host).or_default().merge(&summary);
        let (service, subset) = service_and_subset(&key.destination);
        routes.push(RouteRow {
            host: key.virtual_host.clone(),
            route: key.route.clone(),
            virtual_service: key.virtual_service.clone(),
            destination: key.destination.clone(),
            service: service.to_owned(),
            subset: subset.to_owned(),
            key: stable_key(key),
            stats: Stats::of(&summary, covered),
        });
    }
    let hosts = hosts.into_iter().map(|(host, summary)| HostRow {
        host: host.to_owned(),
        stats: Stats::of(&summary, covered),
    });
    let step_s = if window.coarse { STEPS_OF_COARSE } else { 1 };
    let picked: Vec<bool> = view.keys.iter().map(|key| asked.picks(key)).collect();
    LivePage {
        now_unix_ms: now_unix_ms(),
        window_s: asked.window().as_secs(),
        covered_s: covered.as_secs_f64(),
        kept_s: view.history.kept().as_secs_f64(),
        step_s,
        uptime_s,
        generation,
        total: Stats::of(&total, covered),
        hosts: hosts.collect(),
        routes,
        series: series(window, step_s, &|slot| picked.get(slot).copied().unwrap_or(false)),
    }
}

fn curve_page(view: LiveView, asked: Asked) -> Result<CurvePage, String> {
    let picked = view.keys.iter().enumerate().filter(|(_, key)| asked.picks(key));
    let picked: Vec<HistogramSlot> = picked.map(|(slot, _)| HistogramSlot(slot as u32)).collect();
    if picked.is_empty() {
        return Err(
            "no route has this key or host; /api/live lists those that had requests\n".to_owned()
        );
    }
    let window = view.history.window(asked.window(), asked.until);
    let mut summary = Summary::default();
    for step in window.steps {
        picked.iter().filter_map(|slot| step.route(*slot)).for_each(|route| summary.add(route));
    }
    let points = summary.latencies.iter_quantiles(TICKS_PER_HALF);
    let points =
        points.map(|point| (point.quantile_iterated_to(), point.value_iterated_to())).collect();
    Ok(CurvePage {
        key: asked.key,
        host: asked.host,
        from_unix_ms: window.from_unix_ms(),
        until_unix_ms: window.steps.last().map(|step| step.end_unix_ms),
        count: summary.requests(),
        points,
    })
}

fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
