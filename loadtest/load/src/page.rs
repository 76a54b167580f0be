//! The HTML page of a run: one file, no script, readable without a network.

use std::fmt::Write;

use crate::chart::{self, Series, escape};
use crate::hgrm;
use crate::hlog;
use crate::record::Measure;
use crate::result::{Gravity, PERCENTILES, Percentile, RunResult, Second, Times};
use crate::summary;
use crate::units::{show_count, show_nanos};

/// The style of all pages.
const STYLE: &str = "\
:root{--back:#fff;--text:#1f2328;--soft:#59636e;--line:#d1d9e0;--warn:#9a6700;--bad:#cf222e}\
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--soft:#9198a1;--line:#30363d;\
--warn:#d29922;--bad:#f85149}}\
body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:60em;\
margin:2em auto;padding:0 1em}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25em .8em;border-bottom:1px solid var(--line);text-align:right}\
th:first-child,td:first-child{text-align:left}\
.soft,.few{color:var(--soft)}.few::before{content:'~'}\
.warning{color:var(--warn)}.invalid{color:var(--bad);font-weight:600}\
pre{overflow:auto;border:1px solid var(--line);padding:.8em;font-size:12px}\
@media print{body{max-width:none}}";

/// A whole page around its content.
pub(crate) fn page(title: &str, content: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}{}</style></head>\n<body><h1>{title}</h1>\n{content}</body></html>\n",
        chart::STYLE
    )
}

/// The page of a run; `scenario` is the file that it was made from.
pub(crate) fn of_run(run: &RunResult, scenario: &str) -> String {
    let mut html = String::new();
    let mut put = |text: String| html.push_str(&text);
    put(format!("<p>{}</p>\n", escape(&summary::headline(run))));
    put(findings(run));
    put(counts(run));
    put(format!("<h2>Percentiles</h2>\n{}", percentile_table(run)));
    put(curves(run));
    put(time_charts(run));
    put(requests(run));
    put(origin(run, scenario));
    page(&format!("Load test: {}", run.label), &html)
}

fn findings(run: &RunResult) -> String {
    let mut html = String::from("<ul>");
    if run.is_valid() {
        html.push_str("<li>Nothing shows the generator to have been the bottleneck.</li>");
    }
    for finding in &run.findings {
        let (class, word) = match finding.gravity {
            Gravity::Note => ("soft", "Note"),
            Gravity::Warning => ("warning", "Warning"),
            Gravity::Invalid => ("invalid", "Invalid"),
        };
        let _ = write!(html, "<li class=\"{class}\">{word}: {}</li>", escape(&finding.text));
    }
    html + "</ul>\n"
}

fn counts(run: &RunResult) -> String {
    let counts = &run.counts;
    let mut html = String::from("<h2>Counts</h2>\n<table>");
    let mut row = |name: &str, value: String, note: String| {
        let (name, note) = (escape(name), escape(&note));
        let _ = write!(html, "<tr><td>{name}<td>{value}<td class=\"soft\">{note}");
    };
    if run.plan.model == "open" {
        let rate = counts.offered as f64 / run.measured_seconds.max(1e-9);
        row("offered", show_count(counts.offered), format!("{rate:.2}/s"));
    }
    row("completed", show_count(counts.completed), format!("{:.2}/s", run.completed_rate));
    row("failed", show_count(counts.all_failed()), String::new());
    for (kind, count) in &counts.failed {
        let meaning = crate::failure::Failure::ALL.into_iter().find(|known| known.name() == kind);
        let meaning = meaning.map_or("", crate::failure::Failure::meaning);
        row(&format!("– {kind}"), show_count(*count), meaning.to_owned());
    }
    row("not sent", show_count(counts.unstarted), String::new());
    let bodies = format!("{} of bodies", show_count(counts.body_bytes));
    row("bytes received", show_count(counts.bytes), bodies);
    row("connections opened", show_count(counts.connections), String::new());
    if run.plan.resume_tls {
        row("TLS sessions resumed", show_count(counts.resumed), String::new());
    }
    for (status, count) in &counts.statuses {
        row(&format!("status {status}"), show_count(*count), String::new());
    }
    html + "</table>\n"
}

fn columns(run: &RunResult) -> Vec<(&'static str, &Times)> {
    [
        ("Latency", Measure::Latency),
        ("Service time", Measure::Service),
        ("First byte", Measure::FirstByte),
        ("Connect", Measure::Connect),
        ("Send lag", Measure::SendLag),
        ("Own lateness", Measure::Lateness),
    ]
    .into_iter()
    .filter_map(|(title, measure)| Some((title, run.times(measure)?)))
    .collect()
}

/// A percentile in a table, marked where few samples stand for it.
fn cell(found: Option<&Percentile>) -> String {
    let Some(found) = found else { return "<td>".to_owned() };
    let class = if found.founded { "" } else { " class=\"few\"" };
    format!("<td{class}>{}", show_nanos(found.nanoseconds))
}

fn percentile_table(run: &RunResult) -> String {
    let columns = columns(run);
    let mut html = String::from("<table><tr><th>");
    for (title, _) in &columns {
        let _ = write!(html, "<th>{title}");
    }
    for (index, percentile) in PERCENTILES.iter().enumerate() {
        let _ = write!(html, "<tr><td>p{percentile}");
        for (_, times) in &columns {
            if let Some(found) = times.percentiles.get(index) {
                let _ = write!(html, "{}", cell(Some(found)));
            }
        }
    }
    let mut row = |name: &str, value: &dyn Fn(&Times) -> String| {
        let _ = write!(html, "<tr><td>{name}");
        for (_, times) in &columns {
            let _ = write!(html, "<td>{}", value(times));
        }
    };
    row("max", &|times| show_nanos(times.max_nanoseconds));
    row("mean", &|times| show_nanos(times.mean_nanoseconds as u64));
    row("samples", &|times| show_count(times.count));
    html + "</table>\n<p class=\"soft\">Latency counts from the moment a request was due, service time from \
            the moment it was sent. A tilde marks values with fewer than 10 samples beyond them.</p>\n"
}

fn curves(run: &RunResult) -> String {
    let series: Vec<_> = columns(run)
        .into_iter()
        .filter_map(|(title, times)| {
            let histogram = hlog::decode(&times.histogram).ok()?;
            Some(Series {
                label: title.to_owned(),
                points: hgrm::points(&histogram),
                band: Vec::new(),
            })
        })
        .collect();
    let count = run.times(Measure::Latency).map_or(0, |times| times.count);
    let labels = series.iter().map(|series| series.label.clone());
    chart::percentiles("Times by percentile", &series, chart::nines_of(count))
        + &chart::legend(labels)
}

fn time_charts(run: &RunResult) -> String {
    if run.seconds.len() < 2 {
        return String::new();
    }
    let curve = |value: fn(&Second) -> u64| -> Vec<(f64, f64)> {
        let points = run.seconds.iter().map(|second| (second.start_seconds, value(second) as f64));
        points.collect()
    };
    let few = |founded: fn(&Second) -> bool| run.seconds.iter().filter(|one| !founded(one)).count();
    let (few_p50, few_p99) = (few(|second| second.p50_founded), few(|second| second.p99_founded));
    let label = |name: &str, few: usize| match few {
        0 => name.to_owned(),
        few => format!("~{name} (too few samples in {few} of {} seconds)", run.seconds.len()),
    };
    let curves = [
        (label("p50", few_p50), curve(|second| second.p50)),
        (label("p99", few_p99), curve(|second| second.p99)),
        ("max".to_owned(), curve(|second| second.max)),
    ];
    // The end may be a fraction of a second, whose rate means little.
    let whole = run.seconds.iter().filter(|second| second.length_seconds > 0.5);
    let rates: Vec<_> = whole
        .map(|second| (second.start_seconds, second.completed as f64 / second.length_seconds))
        .collect();
    let labels = curves.iter().map(|(label, _)| label.clone());
    format!(
        "<h2>Latency over time</h2>\n{}{}<h2>Completed per second</h2>\n{}",
        chart::over_time("Latency by second", &curves),
        chart::legend(labels),
        chart::rate_over_time("Completed responses per second", &rates)
    )
}

fn requests(run: &RunResult) -> String {
    let mut html = String::from(
        "<h2>Requests</h2>\n<table><tr><th>Name<th>Weight<th>Samples<th>p50<th>p99<th>p99.9<th>Request",
    );
    for request in &run.plan.requests {
        let times = run.by_request.get(&request.name);
        let times = times.or(run.times(Measure::Latency));
        let of = |percentile| cell(times.and_then(|times| times.percentile(percentile)));
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>{}{}{}{}<td>{}",
            escape(&request.name),
            request.weight,
            show_count(times.map_or(0, |times| times.count)),
            of(50.0),
            of(99.0),
            of(99.9),
            escape(&request.request)
        );
    }
    html + "</table>\n"
}

fn origin(run: &RunResult, scenario: &str) -> String {
    let mut html = String::from("<h2>Where this comes from</h2>\n<table>");
    let machine = &run.machine;
    let rows = [
        ("started", run.started.clone()),
        ("tool", format!("{} {} ({})", run.tool.name, run.tool.version, run.tool.revision)),
        ("command", run.command.join(" ")),
        ("address", run.plan.address.clone()),
        ("cpu", machine.cpu.clone()),
        ("cores allowed", format!("{:?}", machine.cores)),
        ("governor", machine.governor.clone()),
        ("kernel", machine.kernel.clone()),
        ("driver", run.driver.clone()),
        ("seed", run.plan.seed.to_string()),
        ("timeout", format!("{} s", run.plan.timeout_seconds)),
    ];
    for (name, value) in rows {
        let _ = write!(html, "<tr><td>{name}<td style=\"text-align:left\">{}", escape(&value));
    }
    html.push_str("</table>\n");
    for worker in &run.workers {
        let core = worker.core.map_or_else(|| "any core".to_owned(), |core| format!("core {core}"));
        let (busy, waited) = (worker.busy * 100.0, worker.waited * 100.0);
        let _ = writeln!(
            html,
            "<p class=\"soft\">Worker on {core}: busy {busy:.0} %, waited for it {waited:.1} %.</p>"
        );
    }
    html + &format!("<h2>Scenario</h2>\n<pre>{}</pre>\n", escape(scenario))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;

    #[test]
    fn the_page_stands_alone_and_says_where_it_comes_from() {
        let mut run = run(5000, 3_000_000);
        run.label = "<script>".to_owned();
        run.seconds.push(run.seconds[0].clone());
        run.findings = crate::verdict::findings(&run);
        let html = of_run(&run, "target: <x>\n");
        assert!(!html.contains("<script"), "labels are text");
        assert!(!html.contains("src=") && !html.contains("href="), "nothing is loaded");
        for part in ["p99.9", "target: &lt;x&gt;", "class=\"few\"", "<svg", "too few samples"] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg class=\"chart\"").count(), 3);
    }

    #[test]
    fn few_samples_are_marked_in_every_table_and_curve() {
        let mut run = run(50, 3_000_000);
        let requests = requests(&run);
        let marked = "<td>50<td>1.50 ms<td class=\"few\">3.00 ms<td class=\"few\">3.00 ms<td>GET /";
        assert!(requests.contains(marked), "{requests}");
        run.seconds.push(run.seconds[0].clone());
        let charts = time_charts(&run);
        assert!(charts.contains("~p99 (too few samples in 2 of 2 seconds)"), "{charts}");
        assert!(!charts.contains("~p50"), "{charts}");
    }
}
