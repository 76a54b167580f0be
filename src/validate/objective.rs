//! Rules of a ServiceLevelObjective. Whether what it names exists is seen when routes are compiled.

use std::time::Duration;

use super::Findings;
use crate::config::Severity;
use crate::config::objective::ServiceLevelObjective;
use crate::limits::{OBJECTIVE_WINDOW_MAX, OBJECTIVE_WINDOW_MIN};
use crate::metrics::shard::LATENCY_US_MAX;

const CODE: &str = "RNG0401";

pub(super) fn validate(findings: &mut Findings<'_, ServiceLevelObjective>) {
    let spec = &findings.object.spec;
    let mut error = |field: &str, message: &str, help: &str| {
        findings.add(Severity::Error, CODE, field, message, help);
    };
    match (&spec.host, &spec.route) {
        (Some(_), Some(_)) => {
            error("spec.route", "both `host` and `route`", "an objective is about one of them");
        }
        (None, None) => error(
            "spec",
            "neither `host` nor `route`",
            "name what is promised: `host: hello.com` or `route: default/hello#main`",
        ),
        (Some(name), None) if name.is_empty() => error("spec.host", "no host", ""),
        (None, Some(name)) if name.is_empty() => error("spec.route", "no route", ""),
        _ => {}
    }
    let mut target = |field: &str, value: f64| {
        if !(value > 0.0 && value < 100.0) {
            let message =
                format!("{value} per cent is no objective: write more than 0 and less than 100");
            error(field, &message, "99.9 leaves one request of a thousand; 100 would leave none");
        }
    };
    match (spec.availability, &spec.latency) {
        (Some(_), Some(_)) => error(
            "spec.latency",
            "both `availability` and `latency`",
            "write two objects: each has its own budget",
        ),
        (None, None) => error(
            "spec",
            "neither `availability` nor `latency`",
            "write `availability: 99.9`, or `latency: {threshold: 250ms, target: 99}`",
        ),
        (Some(availability), None) => target("spec.availability", availability),
        (None, Some(latency)) => {
            match latency.target {
                Some(value) => target("spec.latency.target", value),
                None => {
                    error("spec.latency", "no `target`", "write how many per cent: `target: 99`")
                }
            }
            let longest = Duration::from_micros(LATENCY_US_MAX);
            match latency.threshold {
                Some(threshold) if threshold.0.is_zero() || threshold.0 > longest => error(
                    "spec.latency.threshold",
                    "not a latency that is told apart",
                    "write 1us to 10m",
                ),
                Some(_) => {}
                None => error(
                    "spec.latency",
                    "no `threshold`",
                    "write what is fast: `threshold: 250ms`",
                ),
            }
        }
    }
    if let Some(window) = spec.window
        && !(OBJECTIVE_WINDOW_MIN..=OBJECTIVE_WINDOW_MAX).contains(&window.0)
    {
        error("spec.window", "not a window that is kept", "write 1h to 30d");
    }
}
