//! Whose limit was it? What speaks against taking a run's figures for the target's.

use crate::failure::Failure;
use crate::record::Measure;
use crate::result::{Finding, Gravity, RunResult};
use crate::units::show_count;

/// A worker that ran for so much of the time had no time left.
const BUSY: f64 = 0.95;
/// A worker that waited for its core for so much of the time was not alone on it.
const CROWDED: f64 = 0.02;
/// Up to this, nanoseconds, lateness is what a timer of the kernel has.
const LATE: u64 = 50_000;
/// The part of the latency that the generator's own lateness may be.
const LATE_PART: f64 = 0.1;
/// A part of the offered requests that may be missing.
const MISSING: f64 = 0.01;

/// Everything that is to be known about a run before its figures are believed.
pub(crate) fn findings(run: &RunResult) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |gravity, text: String| findings.push(Finding { gravity, text });
    let open = run.plan.model == "open";
    if run.interrupted {
        let seconds = run.measured_seconds;
        find(Gravity::Note, format!("the run was ended after {seconds:.1} measured seconds"));
    }
    if run.counts.offered == 0 {
        find(Gravity::Invalid, "nothing was measured: no request fell due".to_owned());
        return findings;
    }

    for (index, worker) in run.workers.iter().enumerate() {
        let (busy, waited) = (worker.busy * 100.0, worker.waited * 100.0);
        if worker.busy >= BUSY {
            let text = format!(
                "worker {index} of the generator was busy {busy:.0} % of the time: {}; use more \
                 threads on cores that are free",
                if open {
                    "the latencies contain its own delays"
                } else {
                    "the rate may be its limit, not the target's"
                }
            );
            find(if open { Gravity::Invalid } else { Gravity::Warning }, text);
        }
        if worker.waited >= CROWDED {
            let text = format!(
                "something else had the core of worker {index} for {waited:.0} % of the time while it \
                 wanted to run: give it a core of its own"
            );
            find(Gravity::Warning, text);
        }
    }
    if run.workers.iter().any(|worker| worker.core.is_none()) {
        let text =
            "the generator was not bound to cores: the scheduler may have moved it (--cores)";
        find(Gravity::Note, text.to_owned());
    }
    if open {
        lateness(run, &mut find);
    }
    let local = run.counts.failed.get(Failure::LocalResources.name()).copied().unwrap_or(0);
    if local > 0 {
        let text = format!(
            "{} requests found no free local port or descriptor: this machine was the limit; use \
             keep-alive, more --source addresses or a higher limit of open files",
            show_count(local)
        );
        find(Gravity::Invalid, text);
    }

    let counts = &run.counts;
    if counts.unstarted as f64 > counts.offered as f64 * MISSING {
        let text = format!(
            "{} of {} requests were due and never sent, as every connection was busy: the target (or {} \
             connections) cannot keep up with the rate, and the latencies grow with the length of the run",
            show_count(counts.unstarted),
            show_count(counts.offered),
            run.plan.connections
        );
        find(Gravity::Warning, text);
    }
    if counts.all_failed() > 0 {
        let part = counts.all_failed() as f64 * 100.0 / counts.offered as f64;
        let kinds: Vec<_> = counts.failed.keys().map(String::as_str).collect();
        let text = format!(
            "{} requests ({part:.2} %) failed: {}",
            show_count(counts.all_failed()),
            kinds.join(", ")
        );
        find(if part >= 1.0 { Gravity::Warning } else { Gravity::Note }, text);
    }
    if counts.lower_bounds > 0 {
        let text = format!(
            "{} latencies are lower bounds: those requests were never answered, and waited at least as \
             long as is recorded",
            show_count(counts.lower_bounds)
        );
        find(Gravity::Note, text);
    }
    if !open {
        let text = "closed loop: each connection waits for its answer before it asks again, so that a slow \
                    target is asked less and the latencies are service times";
        find(Gravity::Note, text.to_owned());
    }
    let unfounded = run
        .times(Measure::Latency)
        .and_then(|times| times.percentiles.iter().find(|percentile| !percentile.founded));
    if let Some(percentile) = unfounded {
        let text = format!(
            "too few samples for p{} and beyond: only {} lie beyond it",
            percentile.percentile, percentile.beyond
        );
        find(Gravity::Note, text);
    }
    findings
}

/// Was the generator late where a connection was free?
fn lateness(run: &RunResult, find: &mut impl FnMut(Gravity, String)) {
    let (Some(late), Some(latency)) = (run.times(Measure::Lateness), run.times(Measure::Latency))
    else {
        return;
    };
    for percentile in [50.0, 99.0] {
        let (own, all) = (late.at(percentile), latency.at(percentile));
        if late.count > 0 && own as f64 > all as f64 * LATE_PART {
            let text = format!(
                "the generator itself was late: at p{percentile} it sent {} after a request was due, \
                 though a connection was free, of a latency of {}",
                late.shown(percentile),
                latency.shown(percentile)
            );
            let gravity = if own <= LATE {
                Gravity::Note
            } else if own as f64 > all as f64 * 0.5 {
                Gravity::Invalid
            } else {
                Gravity::Warning
            };
            find(gravity, text);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;
    use crate::result::{Times, WorkerShare};

    fn has(run: &RunResult, gravity: Gravity, part: &str) -> bool {
        findings(run).iter().any(|found| found.gravity == gravity && found.text.contains(part))
    }

    #[test]
    fn a_good_run_has_nothing_against_it() {
        let run = run(100_000, 1_000_000);
        assert!(findings(&run).iter().all(|found| found.gravity == Gravity::Note));
    }

    #[test]
    fn the_generators_own_limits_make_a_run_invalid() {
        let good = run(100_000, 1_000_000);
        let mut busy = good.clone();
        busy.workers = vec![WorkerShare { core: Some(1), busy: 0.99, waited: 0.0 }];
        assert!(has(&busy, Gravity::Invalid, "busy 99 %"));
        busy.plan.model = "closed".to_owned();
        assert!(has(&busy, Gravity::Warning, "may be its limit"), "a closed loop is always busy");
        let mut loose = good.clone();
        loose.workers = vec![WorkerShare { core: None, busy: 0.5, waited: 0.0 }];
        assert!(has(&loose, Gravity::Note, "not bound"));
        let mut crowded = good.clone();
        crowded.workers = vec![WorkerShare { core: Some(1), busy: 0.5, waited: 0.1 }];
        assert!(has(&crowded, Gravity::Warning, "core of its own"));
        let mut late = good.clone();
        let lateness = run(100_000, 800_000).times["latency"].clone();
        late.times.insert("lateness".to_owned(), lateness);
        assert!(has(&late, Gravity::Invalid, "itself was late"));
        let mut ports = good.clone();
        ports.counts.failed.insert("local_resources".to_owned(), 3);
        assert!(has(&ports, Gravity::Invalid, "local port"));
    }

    #[test]
    fn what_the_target_did_is_told_too() {
        let mut run = run(100_000, 1_000_000);
        run.counts.unstarted = 5000;
        run.counts.lower_bounds = 5000;
        assert!(has(&run, Gravity::Warning, "cannot keep up"));
        assert!(has(&run, Gravity::Note, "lower bounds"));
        run.counts.failed.insert("status".to_owned(), 50_000);
        assert!(has(&run, Gravity::Warning, "failed"));
        run.counts.offered = 0;
        assert!(has(&run, Gravity::Invalid, "nothing was measured"));
    }

    #[test]
    fn percentiles_without_samples_are_named() {
        let run = run(2_000, 1_000_000);
        assert!(has(&run, Gravity::Note, "too few samples for p99.9"));
        let times = Times::of(&crate::record::new_histogram());
        assert!(times.percentiles.iter().all(|percentile| !percentile.founded));
    }
}
