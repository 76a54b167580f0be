//! `ringress slo`: the objectives of a running gateway as a table, and the rules for Prometheus of those
//! in manifests.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::live;
use super::options::GatewayOptions;
use crate::admin::slo_rules;
use crate::config::Severity;

/// Options of `ringress slo`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SloOptions {
    #[command(subcommand)]
    command: Option<SloCommand>,

    /// Admin port of the gateway.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
}

#[derive(Clone, Debug, Subcommand)]
enum SloCommand {
    /// Print recording and alerting rules for Prometheus, made from the objectives of manifests.
    Rules(RulesOptions),
}

#[derive(Clone, Debug, Args)]
struct RulesOptions {
    /// Manifests: a file, or a directory that is searched recursively. May be given several times.
    #[arg(long = "config", value_name = "PATH", required = true)]
    config: Vec<PathBuf>,

    #[command(flatten)]
    gateway: Box<GatewayOptions>,
}

/// Print. Exit code 1 when the gateway cannot be asked, or an objective is not good.
pub(super) fn run(options: &SloOptions) -> ExitCode {
    match &options.command {
        Some(SloCommand::Rules(options)) => rules(options),
        None => match live::get(options.admin, "/api/slos").map_err(|error| error.to_string()) {
            Ok(text) => show(&text),
            Err(message) => {
                eprintln!("ringress: {message}");
                ExitCode::FAILURE
            }
        },
    }
}

fn rules(options: &RulesOptions) -> ExitCode {
    let reading = options.gateway.reloader(options.config.clone()).read();
    let of_objectives = |code: &str| code.starts_with("RNG04") || code.starts_with("RNG000");
    let of_objects = |found: &crate::config::Diagnostic| {
        let kind = found.resource.as_ref().map(|key| key.kind);
        kind == Some(crate::config::Kind::ServiceLevelObjective)
    };
    let found = reading.diagnostics.iter().filter(|found| {
        found.severity != Severity::Info && (of_objectives(found.code) || of_objects(found))
    });
    let mut errors = false;
    for found in found {
        errors |= found.severity == Severity::Error;
        eprintln!("{}\n", found.to_text(false));
    }
    print!("{}", slo_rules::rules(&reading.snapshot.objectives));
    if errors { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(text: &str) -> ExitCode {
    let page: Value = match serde_json::from_str(text) {
        Ok(page) => page,
        Err(error) => {
            eprintln!("ringress: the gateway's answer cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    };
    print!("{}", table(&page));
    ExitCode::SUCCESS
}

/// The page as a table.
fn table(page: &Value) -> String {
    let empty = Vec::new();
    let slos = page["slos"].as_array().unwrap_or(&empty);
    let mut out = String::new();
    if slos.is_empty() {
        out.push_str(
            "no objectives: add ServiceLevelObjectives to the manifests, see docs/slo.md\n",
        );
    } else {
        let header = ["OBJECTIVE", "OF", "GOAL", "GOOD", "REQUESTS", "BUDGET", "BURN 1h", "ALERT"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(slos.iter().map(row));
        out.push_str(&super::columns::aligned(&rows, 3));
    }
    for error in page["errors"].as_array().unwrap_or(&empty) {
        let _ = writeln!(out, "{}", error.as_str().unwrap_or_default());
    }
    out
}

fn row(slo: &Value) -> [String; 8] {
    let text = |name: &str| slo[name].as_str().unwrap_or("-").to_owned();
    let percent = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{:.digits$}%", value * 100.0))
    };
    let of = slo["host"].as_str().or(slo["route"].as_str()).unwrap_or("-").to_owned();
    let goal = percent(slo["objective"].as_f64(), 3);
    let goal = goal.trim_end_matches('%').trim_end_matches('0').trim_end_matches('.').to_owned();
    let goal = match slo["threshold_ms"].as_f64() {
        Some(threshold) => format!("{goal}% <= {threshold} ms"),
        None => format!("{goal}%"),
    };
    let empty = Vec::new();
    let mut burns = slo["burn_rates"].as_array().unwrap_or(&empty).iter();
    let hour = burns.find(|burn| burn["window_s"] == 3600).and_then(|burn| burn["rate"].as_f64());
    [
        text("name"),
        of,
        goal,
        percent(slo["ratio"].as_f64(), 3),
        slo["total"].as_u64().unwrap_or(0).to_string(),
        percent(slo["budget_remaining"].as_f64(), 1),
        hour.map_or("-".to_owned(), |rate| format!("{rate:.2}")),
        text("alert"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_what_matters() {
        let page = json!({
            "slos": [{
                "name": "hello-fast", "host": "hello.com", "route": null, "kind": "latency",
                "objective": 0.99, "threshold_ms": 250.0, "total": 1000, "good": 980, "ratio": 0.98,
                "budget_remaining": -1.0, "alert": "ticket",
                "burn_rates": [{"window_s": 300, "rate": null}, {"window_s": 3600, "rate": 2.0}],
            }, {
                "name": "idle", "host": null, "route": "default/a#b", "kind": "availability",
                "objective": 0.9995, "threshold_ms": null, "total": 0, "good": 0, "ratio": null,
                "budget_remaining": null, "alert": null, "burn_rates": [],
            }],
            "errors": ["slo.yaml:3:9: spec.host: no request is counted for a host `x`"],
        });
        let text = table(&page);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "hello-fast",
                "hello.com",
                "99% <= 250 ms",
                "98.000%",
                "1000",
                "-100.0%",
                "2.00",
                "ticket"
            ]
        );
        assert_eq!(lines[2], ["idle", "default/a#b", "99.95%", "-", "0", "-", "-", "-"]);
        assert!(text.ends_with("a host `x`\n"));
        assert!(table(&json!({"slos": [], "errors": []})).starts_with("no objectives"));
    }
}
