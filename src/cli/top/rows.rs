//! What is shown: rows out of `/api/live`, chosen and in order.

use std::cmp::Reverse;

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::columns::aligned;

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SortKey {
    /// Requests per second, the most first.
    Rate,
    /// Errors, the most first.
    Errors,
    /// The 99th percentile, the slowest first.
    P99,
    /// Names.
    Name,
}

impl SortKey {
    pub(super) fn next(self) -> SortKey {
        match self {
            SortKey::Rate => SortKey::Errors,
            SortKey::Errors => SortKey::P99,
            SortKey::P99 => SortKey::Name,
            SortKey::Name => SortKey::Rate,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            SortKey::Rate => "rate",
            SortKey::Errors => "errors",
            SortKey::P99 => "p99",
            SortKey::Name => "name",
        }
    }
}

/// What has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Grouping {
    /// Each route and destination.
    Routes,
    /// Each host.
    Hosts,
}

impl Grouping {
    pub(super) fn next(self) -> Grouping {
        match self {
            Grouping::Routes => Grouping::Hosts,
            Grouping::Hosts => Grouping::Routes,
        }
    }
}

/// Traffic of one route or host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) host: String,
    pub(super) route: String,
    pub(super) destination: String,
    pub(super) rate: f64,
    pub(super) errors: u64,
    pub(super) error_rate: f64,
    /// 50, 90, 99 and 99.9 per cent, microseconds.
    pub(super) percentiles: [Option<u64>; 4],
}

impl Row {
    /// Of an object with what the live page says of some requests.
    pub(super) fn of(stats: &Value) -> Row {
        let text = |name: &str| stats[name].as_str().unwrap_or_default().to_owned();
        let route = text("route");
        Row {
            host: text("host"),
            route: if route.is_empty() { text("virtual_service") } else { route },
            destination: destination(stats),
            rate: stats["rate"].as_f64().unwrap_or(0.0),
            errors: stats["errors"].as_u64().unwrap_or(0),
            error_rate: stats["error_rate"].as_f64().unwrap_or(0.0),
            percentiles: ["p50", "p90", "p99", "p999"].map(|name| stats[name].as_u64()),
        }
    }

    fn includes(&self, text: &str) -> bool {
        [&self.host, &self.route, &self.destination].iter().any(|name| name.contains(text))
    }

    /// Rate, errors and percentiles as they are shown.
    pub(super) fn numbers(&self) -> [String; 6] {
        let [p50, p90, p99, p999] = self.percentiles.map(latency);
        [rate(self.rate), format!("{:.2}%", self.error_rate * 100.0), p50, p90, p99, p999]
    }
}

/// `hello.default/v1`: the service without the suffix of the cluster, and the subset.
fn destination(stats: &Value) -> String {
    let service = stats["service"].as_str().unwrap_or_default();
    if service.is_empty() {
        return stats["destination"].as_str().unwrap_or_default().to_owned();
    }
    let short = service.split_once(".svc.").map_or(service, |(short, _)| short);
    match stats["subset"].as_str().unwrap_or_default() {
        "" => short.to_owned(),
        subset => format!("{short}/{subset}"),
    }
}

/// Requests per second in few characters.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 999_950.0 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 9_999.5 => format!("{:.1}k", rate / 1e3),
        rate if rate >= 99.95 => format!("{rate:.0}"),
        rate => format!("{rate:.1}"),
    }
}

/// Microseconds in few characters.
pub(super) fn latency(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1_000 => format!("{us}us"),
        Some(us) if us < 100_000 => format!("{:.1}ms", us as f64 / 1e3),
        Some(us) if us < 1_000_000 => format!("{:.0}ms", us as f64 / 1e3),
        Some(us) => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// The rows that are shown, in order.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    pub(super) by: Grouping,
}

impl Table {
    pub(super) fn new(page: &Value, by: Grouping, sort: SortKey, filter: &str) -> Table {
        let list = match by {
            Grouping::Routes => &page["routes"],
            Grouping::Hosts => &page["hosts"],
        };
        let all = list.as_array().into_iter().flatten().map(Row::of);
        let mut rows: Vec<Row> = all.filter(|row| row.includes(filter)).collect();
        rows.sort_by(|one, other| {
            let names = |row: &Row| (row.host.clone(), row.route.clone(), row.destination.clone());
            let by_name = || names(one).cmp(&names(other));
            match sort {
                SortKey::Rate => other.rate.total_cmp(&one.rate).then_with(by_name),
                SortKey::Errors => {
                    Reverse(one.errors).cmp(&Reverse(other.errors)).then_with(by_name)
                }
                SortKey::P99 => other.percentiles[2].cmp(&one.percentiles[2]).then_with(by_name),
                SortKey::Name => by_name(),
            }
        });
        Table { rows, by }
    }

    /// For scripts: all of it, however wide.
    pub(super) fn to_text(&self) -> String {
        let numbers = ["RATE", "ERRORS", "P50", "P90", "P99", "P99.9"].map(str::to_owned);
        match self.by {
            Grouping::Routes => {
                let mut rows =
                    vec![columns(["HOST", "ROUTE", "DESTINATION"].map(str::to_owned), numbers)];
                rows.extend(self.rows.iter().map(|row| {
                    columns(
                        [row.host.clone(), row.route.clone(), row.destination.clone()],
                        row.numbers(),
                    )
                }));
                aligned(&rows, 3)
            }
            Grouping::Hosts => {
                let wide = |host: String, [a, b, c, d, e, f]: [String; 6]| [host, a, b, c, d, e, f];
                let mut rows = vec![wide("HOST".to_owned(), numbers)];
                rows.extend(self.rows.iter().map(|row| wide(row.host.clone(), row.numbers())));
                aligned(&rows, 1)
            }
        }
    }
}

fn columns([host, route, destination]: [String; 3], numbers: [String; 6]) -> [String; 9] {
    let [rate, errors, p50, p90, p99, p999] = numbers;
    [host, route, destination, rate, errors, p50, p90, p99, p999]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in super::super) fn page() -> Value {
        let row = |host: &str, route: &str, subset: &str, rate: f64, errors: u64, p99: u64| {
            json!({
                "host": host, "route": route, "virtual_service": "default/hello", "subset": subset,
                "service": "hello.default.svc.cluster.local", "rate": rate, "errors": errors,
                "error_rate": 0.125, "p50": 900, "p90": 1500, "p99": p99, "p999": null,
            })
        };
        json!({
            "window_s": 60, "uptime_s": 3700, "generation": 4,
            "total": {"rate": 31.0, "errors": 3, "error_rate": 0.1, "p50": 900, "p99": 20_000},
            "hosts": [{"host": "hello.com", "rate": 30.0, "errors": 3, "error_rate": 0.1, "p50": 1}],
            "routes": [
                row("hello.com", "main", "v1", 10.0, 0, 2_000_000),
                row("hello.com", "main", "v2", 20.0, 1, 250_000),
                row("other.org", "", "", 1.0, 2, 100),
            ],
        })
    }

    fn order(sort: SortKey, filter: &str) -> Vec<String> {
        let table = Table::new(&page(), Grouping::Routes, sort, filter);
        table.rows.into_iter().map(|row| row.destination).collect()
    }

    #[test]
    fn rows_are_in_the_order_that_is_asked_for() {
        assert_eq!(
            order(SortKey::Rate, ""),
            ["hello.default/v2", "hello.default/v1", "hello.default"]
        );
        assert_eq!(order(SortKey::Errors, "")[0], "hello.default");
        assert_eq!(order(SortKey::P99, "")[0], "hello.default/v1");
        assert_eq!(order(SortKey::Name, "")[2], "hello.default");
        assert_eq!(order(SortKey::Rate, "other.org"), ["hello.default"]);
        assert!(order(SortKey::Rate, "nothing").is_empty());
    }

    #[test]
    fn the_plain_table_has_every_column() {
        let text = Table::new(&page(), Grouping::Routes, SortKey::Rate, "").to_text();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].len(), 9);
        assert_eq!(lines[1][..5], ["hello.com", "main", "hello.default/v2", "20.0", "12.50%"]);
        assert_eq!(lines[1][5..], ["900us", "1.5ms", "250ms", "-"]);
        assert_eq!(lines[3][1], "default/hello", "an unnamed route is called by its object");
        let hosts = Table::new(&page(), Grouping::Hosts, SortKey::Rate, "").to_text();
        assert!(
            hosts.lines().nth(1).is_some_and(|line| line.starts_with("hello.com  30.0  10.00%"))
        );
    }

    #[test]
    fn numbers_take_few_characters() {
        assert_eq!(
            [0.0, 99.94, 123.4, 12_345.0, 2_500_000.0].map(rate),
            ["0.0", "99.9", "123", "12.3k", "2.50M"]
        );
        let shown = [None, Some(999), Some(1_234), Some(123_456), Some(600_000_000)].map(latency);
        assert_eq!(shown, ["-", "999us", "1.2ms", "123ms", "600.0s"]);
    }
}
