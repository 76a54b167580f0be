//! Objectives as metrics.

use super::names::{self, Metric};
use super::slo::{BURN_WINDOWS, SloBook, Tracked};
use super::text::{Writer, label};

/// A family with its samples: labels, and the value.
pub(super) type SloFamily = (Metric, Vec<(String, f64)>);

/// The families of all objectives; nothing without any. Those of which nothing can be said yet are left out.
pub(super) fn families(book: &SloBook) -> Vec<SloFamily> {
    let objectives: Vec<(String, &Tracked)> =
        book.objectives().iter().map(|tracked| (labels(tracked), tracked)).collect();
    if objectives.is_empty() {
        return Vec::new();
    }
    let family = |metric: Metric, read: fn(&Tracked) -> Option<f64>| -> SloFamily {
        let values = objectives.iter().map(|(labels, tracked)| (labels, read(tracked)));
        (metric, values.filter_map(|(labels, value)| Some((labels.clone(), value?))).collect())
    };
    let burns = objectives.iter().flat_map(|(labels, tracked)| {
        BURN_WINDOWS.into_iter().filter_map(move |(window, seconds)| {
            let mut labels = labels.clone();
            label(&mut labels, "window", window);
            Some((labels, tracked.burn_rate(seconds)?))
        })
    });
    let mut families = vec![
        family(names::SLO_OBJECTIVE, |tracked| Some(tracked.objective().share())),
        family(names::SLO_GOOD, |tracked| Some(tracked.sums().good as f64)),
        family(names::SLO_EVENTS, |tracked| Some(tracked.sums().total as f64)),
        family(names::SLO_BUDGET, Tracked::budget_remaining),
        (names::SLO_BURN_RATE, burns.collect()),
    ];
    families.retain(|(_, samples)| !samples.is_empty());
    families
}

/// Write them.
pub(super) fn write(writer: &mut Writer, families: &[SloFamily]) {
    for (metric, samples) in families {
        writer.head(*metric);
        for (labels, value) in samples {
            writer.fraction(metric.name, labels.as_bytes(), *value);
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
