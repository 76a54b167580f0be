//! `/stats/prometheus` and `/stats/histograms`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::oneshot;

use super::histograms::{self, Counted, HistogramQuery};
use super::live;
use super::state::AdminState;
use crate::limits::SCRAPE_TIMEOUT;
use crate::metrics::{Exposition, Format};
use crate::net::usage::process_usage;

/// A page that is written as its client takes it, a piece at a time. A client that leaves or reads slowly
/// holds a copy of the numbers, never the text.
struct Pieces(Exposition);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

/// All metrics.
pub(super) async fn prometheus(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    // Several fields are one list.
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::negotiate(&accept.collect::<Vec<_>>().join(","));
    match exposition(&state, format).await {
        Some(exposition) => page(exposition, format),
        None => stopped(),
    }
}

/// The page of all metrics.
pub(super) fn page(exposition: Exposition, format: Format) -> Response {
    ([(header::CONTENT_TYPE, format.content_type())], Body::new(Pieces(exposition))).into_response()
}

/// All metrics as they are now; none when the statistics thread has stopped.
pub(super) async fn exposition(state: &AdminState, format: Format) -> Option<Exposition> {
    let (sender, receiver) = oneshot::channel();
    state.stats.scrape(SCRAPE_TIMEOUT, move |reading| {
        // The client may have gone.
        let _ = sender.send(reading);
    });
    let mut reading = receiver.await.ok()?;
    if let Some(snapshot) = state.snapshot.load() {
        let names = snapshot.clusters.iter().map(|cluster| cluster.name.clone());
        reading.name_clusters(snapshot.generation, names);
    }
    if let Some(process) = process_usage() {
        reading.set_process(process);
    }
    let exposition = Exposition::new(reading, format);
    Some(if state.info.envoy_metrics {
        exposition.with_envoy_names(state.info.started.elapsed())
    } else {
        exposition
    })
}

/// Exact latencies, since the start or of a window.
pub(super) async fn histograms(
    State(state): State<AdminState>,
    Query(query): Query<HistogramQuery>,
) -> Response {
    if query.window.is_some() || query.until.is_some() {
        let Some(view) = live::view(&state).await else { return stopped() };
        let page = tokio::task::spawn_blocking(move || {
            histograms::page(&query, &Counted::of_window(&view, &query))
        });
        return page.await.unwrap_or_else(|_| stopped());
    }
    let (sender, receiver) = oneshot::channel();
    state.stats.merged_histograms(SCRAPE_TIMEOUT, move |histograms| {
        let _ = sender.send(histograms);
    });
    let Ok(merged) = receiver.await else { return stopped() };
    let started = state.info.started;
    let page = tokio::task::spawn_blocking(move || {
        histograms::page(&query, &Counted::since_start(merged, started))
    });
    page.await.unwrap_or_else(|_| stopped())
}

pub(super) fn stopped() -> Response {
    let text = "the statistics thread has stopped; the process is shutting down\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
