//! `/stats`: every number as a line, as Envoy shows them: `name: value`.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::Response;
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Number;

use super::exposition;
use super::parameters::{Parameters, QueryError, text};
use super::server::json;
use super::state::AdminState;
use crate::limits::STATS_FILTER_BYTES_MAX;
use crate::metrics;

const PARAMETERS: &[&str] = &["filter", "format", "type", "usedonly"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Prometheus,
}

struct Asked {
    format: Format,
    filter: Option<Regex>,
    /// `counter`, `gauge` or `histogram`; none: all.
    kind: Option<&'static str>,
    used_only: bool,
}

impl Asked {
    fn of(mut query: Parameters) -> Result<Asked, QueryError> {
        let format = query.parsed("format", "text, json or prometheus", |text| match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            "prometheus" => Some(Format::Prometheus),
            _ => None,
        })?;
        let filter = query.take("filter")?.map(|pattern| {
            let built = RegexBuilder::new(&pattern).size_limit(STATS_FILTER_BYTES_MAX).build();
            built.map_err(|error| QueryError(format!("`filter` is no regular expression: {error}")))
        });
        let wanted = "Counters, Gauges, Histograms or All";
        let kind =
            query.parsed("type", wanted, |text| match text.to_ascii_lowercase().as_str() {
                "counters" => Some(Some("counter")),
                "gauges" => Some(Some("gauge")),
                "histograms" => Some(Some("histogram")),
                "all" => Some(None),
                _ => None,
            })?;
        let used_only = query.flag("usedonly")?;
        query.end(PARAMETERS)?;
        let asked = Asked {
            format: format.unwrap_or(Format::Text),
            filter: filter.transpose()?,
            kind: kind.flatten(),
            used_only,
        };
        if asked.format == Format::Prometheus
            && (asked.filter.is_some() || asked.kind.is_some() || asked.used_only)
        {
            let text = "format=prometheus shows everything: filter, type and usedonly are of text and json";
            return Err(QueryError(text.to_owned()));
        }
        Ok(asked)
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Stat<'a> {
    /// With its labels.
    name: &'a str,
    value: Number,
}

#[derive(Serialize)]
struct StatsPage<'a> {
    stats: Vec<Stat<'a>>,
}

/// The page.
pub(super) async fn stats(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    let asked = Asked::of(query)?;
    let Some(all) = exposition::exposition(&state, metrics::Format::Prometheus).await else {
        return Ok(exposition::stopped());
    };
    if asked.format == Format::Prometheus {
        return Ok(exposition::page(all, metrics::Format::Prometheus));
    }
    // With thousands of destinations this takes a while: readiness is not to wait for it.
    let page = tokio::task::spawn_blocking(move || {
        let lines = String::from_utf8_lossy(&all.flatten().collect::<Vec<u8>>()).into_owned();
        let stats = of_exposition(&lines, &asked);
        match asked.format {
            Format::Json => json(&StatsPage { stats }),
            _ => {
                let line = |stat: &Stat<'_>| format!("{}: {}\n", stat.name, stat.value);
                text(stats.iter().map(line).collect())
            }
        }
    });
    Ok(page.await.unwrap_or_else(|_| exposition::stopped()))
}

/// The samples that are asked for. Of histograms the buckets are left out: `/stats/prometheus` has them.
fn of_exposition<'a>(exposition: &'a str, asked: &Asked) -> Vec<Stat<'a>> {
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    let mut stats = Vec::new();
    for line in exposition.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            kinds.extend(typed.split_once(' '));
            continue;
        }
        let Some((name, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let family = name.split('{').next().unwrap_or(name);
        let parts = ["_bucket", "_sum", "_count"];
        let mut bases = parts.iter().filter_map(|part| Some((*part, family.strip_suffix(part)?)));
        let of_histogram = bases.find(|(_, base)| kinds.get(base) == Some(&"histogram"));
        let kind = match of_histogram {
            Some(("_bucket", _)) => continue,
            Some(_) => Some("histogram"),
            None => kinds.get(family).copied(),
        };
        let shown = asked.kind.is_none_or(|wanted| kind == Some(wanted))
            && asked.filter.as_ref().is_none_or(|filter| filter.is_match(name));
        let whole = value.parse::<u64>().ok().map(Number::from);
        let value = whole.or_else(|| Number::from_f64(value.parse().ok()?));
        match value {
            Some(value) if shown && !(asked.used_only && value.as_f64() == Some(0.0)) => {
                stats.push(Stat { name, value });
            }
            _ => {}
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSITION: &str = "\
# HELP a_total Things.
# TYPE a_total counter
a_total{path=\"/a b\"} 3
a_total 0
# TYPE g gauge
g 7
# TYPE h_ms histogram
h_ms_bucket{le=\"1\"} 1
h_ms_sum{x=\"y\"} 1.250
h_ms_count{x=\"y\"} 2
";

    fn names(asked: &Asked) -> Vec<&'static str> {
        of_exposition(EXPOSITION, asked).into_iter().map(|stat| stat.name).collect()
    }

    #[test]
    fn samples_become_names_and_values() {
        let all = Asked { format: Format::Text, filter: None, kind: None, used_only: false };
        let stats = of_exposition(EXPOSITION, &all);
        let text: Vec<String> =
            stats.iter().map(|stat| format!("{}: {}", stat.name, stat.value)).collect();
        assert_eq!(
            text,
            [
                "a_total{path=\"/a b\"}: 3",
                "a_total: 0",
                "g: 7",
                "h_ms_sum{x=\"y\"}: 1.25",
                "h_ms_count{x=\"y\"}: 2"
            ]
        );
        assert_eq!(names(&Asked { used_only: true, ..all }).len(), 4);
        let all =
            Asked { format: Format::Text, filter: None, kind: Some("gauge"), used_only: false };
        assert_eq!(names(&all), ["g"]);
        let histograms = Asked { kind: Some("histogram"), ..all };
        assert_eq!(names(&histograms), ["h_ms_sum{x=\"y\"}", "h_ms_count{x=\"y\"}"]);
        let filter = Regex::new("^a.*path").ok();
        assert_eq!(names(&Asked { filter, kind: None, ..histograms }), ["a_total{path=\"/a b\"}"]);
    }
}
