//! A comparison in text and as a page.

use std::fmt::Write;

use super::{Comparison, Row, Spread};
use crate::chart::{self, escape};
use crate::page;
use crate::result::show_founded;
use crate::units::{show_count, show_nanos};

/// Width of a column in text.
const COLUMN: usize = 32;

fn letter(index: usize) -> char {
    char::from(b'A' + (index % 26) as u8)
}

fn show_percentile(row: &Row) -> String {
    if row.percentile >= 100.0 { "max".to_owned() } else { format!("p{}", row.percentile) }
}

/// `1.25 ms (1.20 ms to 1.31 ms)`, marked where few samples stand for it.
fn show_spread(spread: &Spread, rounds: usize, percentile: f64) -> String {
    let median = show_founded(spread.median as u64, spread.is_founded(percentile));
    if rounds < 2 {
        return median;
    }
    let (low, high) = (show_nanos(spread.low as u64), show_nanos(spread.high as u64));
    format!("{median} ({low} to {high})")
}

/// From so many rounds of each group on one that is below the others in all of them is called the lowest. Equal
/// ones lie apart like this by chance in 3 of 100 cases with four rounds of each, with three in 10.
const ROUNDS_THAT_TELL: usize = 4;

/// Who is lower than all others, and how much that says; `name` calls a group by its number.
fn verdict(comparison: &Comparison, row: &Row, name: impl Fn(usize) -> String) -> String {
    if comparison.groups.len() < 2 {
        return String::new();
    }
    if !row.spreads.iter().all(|spread| spread.is_founded(row.percentile)) {
        return "too few samples".to_owned();
    }
    let fewest = comparison.groups.iter().map(|group| group.rounds).min().unwrap_or(0);
    match row.best {
        Some(best) if fewest >= ROUNDS_THAT_TELL => format!("{} lowest", name(best)),
        Some(best) if fewest > 1 => format!("{} lower, {fewest} rounds", name(best)),
        Some(best) => format!("{} lower, once", name(best)),
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
            let shown = show_spread(spread, group.rounds, row.percentile);
            let _ = write!(cells, "{shown:<COLUMN$}");
        }
        line(&format!(
            "  {:<9}{cells}{}",
            show_percentile(row),
            verdict(comparison, row, |index| letter(index).to_string())
        ));
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
            let shown = show_spread(spread, group.rounds, row.percentile);
            let _ = write!(html, "<td>{shown}");
        }
        let label = |index: usize| comparison.groups[index].label.clone();
        let verdict = verdict(comparison, row, label);
        let _ = write!(html, "<td>{}", escape(&verdict));
    }
    html += "</table>\n";
    page::page("Comparison of load tests", &html)
}
