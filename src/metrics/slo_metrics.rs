//! Objectives as metrics.

use std::fmt::Write;

use super::names::{self, Metric};
use super::prometheus::{head, label};
use super::slo::{BURN_WINDOWS, SloBook, Tracked};

/// Append the families of all objectives; nothing without any.
pub(super) fn render(out: &mut String, book: &SloBook) {
    let objectives: Vec<(String, &Tracked)> =
        book.objectives().iter().map(|tracked| (labels(tracked), tracked)).collect();
    if objectives.is_empty() {
        return;
    }
    let mut family = |metric: Metric, read: fn(&Tracked) -> Option<f64>| {
        head(out, metric);
        for (labels, tracked) in &objectives {
            if let Some(value) = read(tracked) {
                let _ = writeln!(out, "{}{{{labels}}} {value}", metric.name);
            }
        }
    };
    family(names::SLO_OBJECTIVE, |tracked| Some(tracked.objective().share()));
    family(names::SLO_GOOD, |tracked| Some(tracked.sums().good as f64));
    family(names::SLO_EVENTS, |tracked| Some(tracked.sums().total as f64));
    family(names::SLO_BUDGET, Tracked::budget_remaining);
    head(out, names::SLO_BURN_RATE);
    for (labels, tracked) in &objectives {
        for (window, seconds) in BURN_WINDOWS {
            if let Some(rate) = tracked.burn_rate(seconds) {
                let name = names::SLO_BURN_RATE.name;
                let _ = writeln!(out, "{name}{{{labels},window=\"{window}\"}} {rate}");
            }
        }
    }
}

/// What an objective is about that it does not name is told by a dash: an empty label would be none.
fn labels(tracked: &Tracked) -> String {
    let objective = tracked.objective();
    let mut labels = String::new();
    label(&mut labels, "slo", &objective.name);
    label(&mut labels, "host", objective.host().unwrap_or("-"));
    label(&mut labels, "route", objective.route().as_deref().unwrap_or("-"));
    label(&mut labels, "kind", objective.measure.as_str());
    labels
}
