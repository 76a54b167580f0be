//! A result on the terminal.

use std::fmt::Write;

use crate::record::Measure;
use crate::result::{Gravity, PERCENTILES, Percentile, RunResult, Times, mark_explained};
use crate::units::{show_count, show_nanos};

/// What was asked for, in a line.
pub(crate) fn headline(run: &RunResult) -> String {
    let plan = &run.plan;
    let rate = plan.rates.clone().or(plan.rate.map(|rate| rate.to_string()));
    let load = match (rate, plan.arrivals.as_deref()) {
        (Some(rate), Some(arrivals)) => format!("{rate} requests/s ({arrivals})"),
        _ => "closed loop".to_owned(),
    };
    let streams = match plan.streams {
        1 => String::new(),
        streams => format!(" x {streams} streams"),
    };
    format!(
        "{} of {}, {load}, {} connections{streams}{}, {} thread{}, {:.1} s after {:.1} s of warm-up, {}",
        plan.protocol,
        plan.target,
        plan.connections,
        if plan.keep_alive { "" } else { " (a new one for each request)" },
        plan.threads,
        if plan.threads == 1 { "" } else { "s" },
        run.measured_seconds,
        plan.warmup_seconds,
        run.driver
    )
}

/// The whole summary.
pub(crate) fn show(run: &RunResult) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(headline(run));
    line(String::new());
    let counts = &run.counts;
    let seconds = run.measured_seconds.max(1e-9);
    if run.plan.model == "open" {
        line(format!(
            "  Offered    {:>12}  {:>14.2}/s",
            show_count(counts.offered),
            counts.offered as f64 / seconds
        ));
    }
    line(format!(
        "  Completed  {:>12}  {:>14.2}/s",
        show_count(counts.completed),
        run.completed_rate
    ));
    line(format!("  Failed     {:>12}", show_count(counts.all_failed())));
    for (kind, count) in &counts.failed {
        let meaning = crate::failure::Failure::ALL.into_iter().find(|known| known.name() == kind);
        let meaning = meaning.map_or("", crate::failure::Failure::meaning);
        line(format!("    {kind:<16} {:>7}  {meaning}", show_count(*count)));
    }
    if run.plan.model == "open" {
        line(format!("  Not sent   {:>12}", show_count(counts.unstarted)));
    }
    line(format!(
        "  Received   {:>12} bytes, {} of bodies; {} connections opened",
        show_count(counts.bytes),
        show_count(counts.body_bytes),
        show_count(counts.connections)
    ));
    if run.plan.resume_tls {
        line(format!("  Resumed    {:>12} TLS sessions", show_count(counts.resumed)));
    }
    let statuses: Vec<_> = counts
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {}", show_count(*count)))
        .collect();
    line(format!("  Statuses   {}", statuses.join(", ")));
    line(String::new());
    percentiles(run, &mut line);
    by_request(run, &mut line);
    line(workers(run));
    if run.times.values().chain(run.by_request.values()).any(Times::has_unfounded) {
        line(format!("  {}", mark_explained()));
    }
    for finding in &run.findings {
        let mark = match finding.gravity {
            Gravity::Note => "note",
            Gravity::Warning => "warning",
            Gravity::Invalid => "INVALID",
        };
        line(format!("  {mark}: {}", finding.text));
    }
    text
}

fn percentiles(run: &RunResult, line: &mut impl FnMut(String)) {
    let columns: Vec<(&str, &Times)> = [
        ("Latency", Measure::Latency),
        ("Service time", Measure::Service),
        ("First byte", Measure::FirstByte),
        ("Connect", Measure::Connect),
    ]
    .into_iter()
    .filter_map(|(title, measure)| Some((title, run.times(measure)?)))
    .collect();
    if columns.is_empty() {
        return;
    }
    let row = |title: String, cell: &dyn Fn(&Times) -> String| {
        let cells: String =
            columns.iter().map(|(_, times)| format!("{:>14}", cell(times))).collect();
        format!("  {title:<9}{cells}")
    };
    let titles: String = columns.iter().map(|(title, _)| format!("{title:>14}")).collect();
    line(format!("  {:<9}{titles}", ""));
    for (index, percentile) in PERCENTILES.into_iter().enumerate() {
        // A tilde marks what few values stand for.
        let cell = |times: &Times| {
            times.percentiles.get(index).map_or_else(String::new, Percentile::shown)
        };
        let beyond = columns[0].1.percentiles.get(index).map_or(0, |found| found.beyond);
        let note = match beyond {
            beyond if beyond >= crate::result::BEYOND_ENOUGH => String::new(),
            beyond => format!("   (only {beyond} samples beyond)"),
        };
        line(row(format!("p{percentile}"), &cell) + &note);
    }
    line(row("max".to_owned(), &|times| show_nanos(times.max_nanoseconds)));
    line(row("mean".to_owned(), &|times| show_nanos(times.mean_nanoseconds as u64)));
    line(row("samples".to_owned(), &|times| show_count(times.count)));
    let explained = if run.plan.model == "open" {
        "  Latency counts from the moment a request was due, service time from the moment it was sent."
    } else {
        "  Closed loop: latency counts from the moment a connection was free."
    };
    line(explained.to_owned());
    line(String::new());
}

fn by_request(run: &RunResult, line: &mut impl FnMut(String)) {
    if run.by_request.is_empty() {
        return;
    }
    let shown = [50.0, 99.0, 99.9];
    line(format!(
        "  {:<24}{:>12}{:>12}{:>12}{:>12}",
        "Latency by request", "samples", "p50", "p99", "p99.9"
    ));
    for (name, times) in &run.by_request {
        let cells: String =
            shown.iter().map(|&percentile| format!("{:>12}", times.shown(percentile))).collect();
        line(format!("  {name:<24}{:>12}{cells}", show_count(times.count)));
    }
    line(String::new());
}

fn workers(run: &RunResult) -> String {
    let workers = run.workers.iter().map(|worker| {
        let core = worker.core.map_or_else(|| "any core".to_owned(), |core| format!("core {core}"));
        format!("{core}: busy {:.0} %, waited {:.1} %", worker.busy * 100.0, worker.waited * 100.0)
    });
    let lag = run.times(Measure::Lateness).map_or_else(String::new, |late| {
        format!("; own lateness p50 {}, p99 {}", late.shown(50.0), late.shown(99.0))
    });
    format!("  Generator  {}{lag}", workers.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;
    use crate::verdict;

    #[test]
    fn the_summary_says_what_few_samples_stand_for() {
        let mut run = run(5_000, 2_000_000);
        run.counts.failed.insert("timeout".to_owned(), 7);
        run.findings = verdict::findings(&run);
        let text = show(&run);
        assert!(text.contains("p99             1.98 ms\n"), "{text}");
        assert!(text.contains("p99.9          ~2.00 ms   (only 5 samples beyond)"), "{text}");
        assert!(text.contains("timeout                7  no complete response"), "{text}");
        assert!(text.contains("note: too few samples for p99.9"), "{text}");
    }

    #[test]
    fn every_percentile_is_marked_where_few_samples_stand_for_it() {
        let few = run(50, 2_000_000).times["latency"].clone();
        let mut run = run(100_000, 2_000_000);
        run.times.insert("connect".to_owned(), few.clone());
        run.times.insert("lateness".to_owned(), few.clone());
        run.by_request.insert("rare".to_owned(), few);
        let text = show(&run);
        assert!(text.contains("p99             1.98 ms      ~2.00 ms\n"), "{text}");
        let by_request = "rare                              50     1.00 ms    ~2.00 ms    ~2.00 ms";
        assert!(text.contains(by_request), "{text}");
        assert!(text.contains("own lateness p50 1.00 ms, p99 ~2.00 ms"), "{text}");
        assert!(text.contains("  ~ too few samples for this percentile: fewer than 10"), "{text}");
    }
}
