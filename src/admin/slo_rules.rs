//! Recording and alerting rules for Prometheus, from the objectives. They read the counters of all gateways
//! that Prometheus scrapes, over restarts: what they say lasts.

use std::fmt::Write;

use crate::metrics::names;
use crate::metrics::slo::{ALERT_RULES, Alert, BURN_WINDOWS, Objective};

/// Prefix of the names of recorded series; the window follows.
const RECORDED: &str = "ringress:slo_bad_ratio:rate";

/// The rules as a file for `rule_files`.
pub fn rules(objectives: &[Objective]) -> String {
    let mut out = String::from(
        "# Rules for Prometheus, made by `ringress slo rules` from ServiceLevelObjectives.\n",
    );
    if objectives.is_empty() {
        out.push_str("groups: []\n");
        return out;
    }
    out.push_str("groups:\n- name: ringress-slo-ratios\n  rules:\n");
    for (window, _) in BURN_WINDOWS {
        let rate = |metric: names::Metric| {
            format!("sum by (slo, host, route, kind) (rate({}[{window}]))", metric.name)
        };
        let (good, events) = (rate(names::SLO_GOOD), rate(names::SLO_EVENTS));
        let _ = writeln!(out, "  - record: {RECORDED}{window}");
        let _ = writeln!(out, "    expr: 1 - {good} / ({events} > 0)");
    }
    out.push_str("- name: ringress-slo-alerts\n  rules:\n");
    for objective in objectives {
        for alert in [Alert::Page, Alert::Ticket] {
            alert_rule(&mut out, objective, alert);
        }
    }
    out
}

fn alert_rule(out: &mut String, objective: &Objective, alert: Alert) {
    let selector = format!("{{slo=\"{}\"}}", in_promql(&objective.name));
    let over = |window: usize, burn_rate: f64| {
        // Enough digits to tell budgets apart, not those of binary fractions.
        let limit = format!("{:.10}", burn_rate * objective.budget());
        let limit = limit.trim_end_matches('0').trim_end_matches('.').to_owned();
        format!("{RECORDED}{}{selector} > {limit}", BURN_WINDOWS[window].0)
    };
    let rules = ALERT_RULES.iter().filter(|rule| rule.alert == alert);
    let conditions: Vec<String> = rules
        .map(|rule| {
            let (long, short) = (over(rule.long, rule.burn_rate), over(rule.short, rule.burn_rate));
            format!("({long} and {short})")
        })
        .collect();
    let name = match alert {
        Alert::Page => "RingressErrorBudgetBurnsFast",
        Alert::Ticket => "RingressErrorBudgetBurns",
    };
    let kind = objective.measure.as_str();
    let (subject, percent) = (&objective.subject, objective.percent);
    let summary = format!("The error budget of {} burns too fast", objective.name);
    let description = for_template(&format!(
        "{kind} of {subject}: {percent}% was promised; the share of bad requests is "
    )) + "{{ $value | humanizePercentage }}.";
    let _ = writeln!(out, "  - alert: {name}");
    let _ = writeln!(out, "    expr: {}", quoted(&conditions.join(" or ")));
    let _ = writeln!(out, "    labels:\n      severity: {}", alert.as_str());
    let _ = writeln!(out, "      slo: {}", quoted(&for_template(&objective.name)));
    let _ = writeln!(out, "    annotations:");
    let _ = writeln!(out, "      summary: {}", quoted(&for_template(&summary)));
    let _ = writeln!(out, "      description: {}", quoted(&description));
}

/// In a string of PromQL in double quotes.
fn in_promql(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Annotations are templates: a name must not begin one.
fn for_template(text: &str) -> String {
    text.replace("{{", "{ {")
}

/// A scalar of YAML in single quotes, on one line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::slo::{Measure, Subject};
    use std::time::Duration;

    fn objective(name: &str) -> Objective {
        Objective {
            name: name.to_owned(),
            subject: Subject::Host("hello.com".to_owned()),
            measure: Measure::Availability,
            percent: 99.9,
            window: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }

    #[test]
    fn the_alerts_are_those_of_the_workbook() {
        let text = rules(&[objective("hello")]);
        let bad = |window: &str| format!("{RECORDED}{window}{{slo=\"hello\"}}");
        let page = format!(
            "expr: '({} > 0.0144 and {} > 0.0144) or ({} > 0.006 and {} > 0.006)'",
            bad("1h"),
            bad("5m"),
            bad("6h"),
            bad("30m")
        );
        assert!(text.contains(&page), "{page} in {text}");
        let ticket = format!("({} > 0.003 and {} > 0.003)", bad("1d"), bad("2h"));
        assert!(text.contains(&ticket), "{ticket} in {text}");
        assert!(text.contains("severity: page") && text.contains("severity: ticket"));
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let text = rules(&[objective("a\"} or vector(1) #'\n- x: {{ bad")]);
        let parsed: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let alerts = parsed["groups"][1]["rules"].as_array().expect("rules");
        assert_eq!(alerts.len(), 2);
        assert!(alerts[0]["expr"].as_str().unwrap().contains("slo=\"a\\\"} or vector(1) #'\\n"));
        assert!(!alerts[0]["annotations"]["summary"].as_str().unwrap().contains("{{"));
    }

    #[test]
    fn no_objectives_are_no_rules() {
        let parsed: serde_json::Value = serde_saphyr::from_str(&rules(&[])).expect("YAML");
        assert_eq!(parsed["groups"], serde_json::json!([]));
    }
}
