//! A comparison in text and as a page.

use std::fmt::Write;

use super::{Comparison, Row, Spread};
use crate::chart::{self, escape};
use crate::page;
use crate::result::BEYOND_ENOUGH;
use crate::units::{show_count, show_nanos};

/// Width of a column in text.
const COLUMN: usize = 32;

fn letter(index: usize) -> char {
    char::from(b'A' + (index % 26) as u8)
}

fn show_percentile(row: &Row) -> String {
    if row.percentile >= 100.0 { "max".to_owned() } else { format!("p{}", row.percentile) }
}

/// `1.25 ms (1.20 ms to 1.31 ms)`.
fn show_spread(spread: &Spread, rounds: usize, is_max: bool) -> String {
    let mark = if is_max || spread.beyond >= BEYOND_ENOUGH { "" } else { "~" };
    let median = show_nanos(spread.median as u64);
    if rounds < 2 {
        return format!("{mark}{median}");
    }
    let (low, high) = (show_nanos(spread.low as u64), show_nanos(spread.high as u64));
    format!("{mark}{median} ({low} to {high})")
}

/// Who is best by so much that it is no chance.
/// From so many rounds of each group on one that is below the others in all of them is called the lowest.
const ROUNDS_THAT_TELL: usize = 4;

fn verdict(comparison: &Comparison, row: &Row) -> String {
    if comparison.groups.len() < 2 {
        return String::new();
    }
    // With four rounds of each, equal ones lie apart like this by chance in 3 of 100 cases, with three in 10.
    let fewest = comparison.groups.iter().map(|group| group.rounds).min().unwrap_or(0);
    match row.best {
        Some(best) if fewest >= ROUNDS_THAT_TELL => format!("{} lowest", letter(best)),
        Some(best) if fewest > 1 => format!("{} lower, {fewest} rounds", letter(best)),
        Some(best) => format!("{} lower, once", letter(best)),
        None => "no single lowest".to_owned(),
    }
}

pub(super) fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(&format!("{} by percentile", comparison.measure));
    line("");
    line(chart::percentiles_in_text(&comparison.series, comparison.nines).as_str());
    for (index, group) in comparison.groups.iter().enumerate() {
        let rate = group.completed_rate.map_or_else(String::new, |rate| format!(", {rate:.1}/s"));
        let failed = group.failed.filter(|&failed| failed > 0);
        let failed =
            failed.map_or_else(String::new, |failed| format!(", {} failed", show_count(failed)));
        line(&format!(
            "  {} {}: {} round{}, {} samples{rate}{failed}",
            letter(index),
            group.label,
            group.rounds,
            if group.rounds == 1 { "" } else { "s" },
            show_count(group.samples)
        ));
    }
    line("");
    let titles: String =
        (0..comparison.groups.len()).map(|index| format!("{:<COLUMN$}", letter(index))).collect();
    line(&format!("  {:<9}{titles}", ""));
    for row in &comparison.rows {
        let mut cells = String::new();
        for (spread, group) in row.spreads.iter().zip(&comparison.groups) {
            let shown = show_spread(spread, group.rounds, row.percentile >= 100.0);
            let _ = write!(cells, "{shown:<COLUMN$}");
        }
        line(&format!("  {:<9}{cells}{}", show_percentile(row), verdict(comparison, row)));
    }
    line("");
    for remark in &comparison.remarks {
        line(&format!("  {remark}"));
    }
    text
}

pub(super) fn html(comparison: &Comparison) -> String {
    let mut html = String::new();
    let title = format!("{} by percentile", comparison.measure);
    html += &chart::percentiles(&title, &comparison.series, comparison.nines);
    html += &chart::legend(comparison.series.iter().map(|series| series.label.clone()));
    html += "<p class=\"soft\">Line: median of the rounds. Shade: their range.</p>\n<ul>";
    for remark in &comparison.remarks {
        let _ = write!(html, "<li>{}</li>", escape(remark));
    }
    html += "</ul>\n<table><tr><th>";
    for group in &comparison.groups {
        let _ = write!(html, "<th>{}", escape(&group.label));
    }
    html += "<th>Difference";
    let mut row = |name: &str, cell: &dyn Fn(&super::Head) -> String| {
        let _ = write!(html, "<tr><td>{name}");
        for group in &comparison.groups {
            let _ = write!(html, "<td>{}", cell(group));
        }
        html += "<td>";
    };
    row("rounds", &|group| group.rounds.to_string());
    row("samples", &|group| show_count(group.samples));
    row("completed", &|group| {
        group.completed_rate.map_or_else(String::new, |rate| format!("{rate:.1}/s"))
    });
    row("failed", &|group| group.failed.map_or_else(String::new, show_count));
    for row in &comparison.rows {
        let _ = write!(html, "<tr><td>{}", show_percentile(row));
        for (spread, group) in row.spreads.iter().zip(&comparison.groups) {
            let shown = show_spread(spread, group.rounds, row.percentile >= 100.0);
            let _ = write!(html, "<td>{shown}");
        }
        let verdict = match row.best.and_then(|best| comparison.groups.get(best)) {
            Some(best) => format!("{} lower", best.label),
            None => verdict(comparison, row),
        };
        let _ = write!(html, "<td>{}", escape(&verdict));
    }
    html += "</table>\n<p class=\"soft\">A tilde marks values with fewer than 10 samples beyond them.</p>\n";
    page::page("Comparison of load tests", &html)
}
