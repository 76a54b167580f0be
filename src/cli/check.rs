//! `ringress check`: what `run` would say of the manifests, without serving them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::options::GatewayOptions;
use crate::config::Severity;

/// Options of `ringress check`.
#[derive(Clone, Debug, Args)]
pub(super) struct CheckOptions {
    /// Manifests: files, or directories that are searched recursively.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    gateway: GatewayOptions,

    /// How to print what was found.
    // `--format` is its name of older versions.
    #[arg(long, alias = "format", value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Exit with 1 on warnings too.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people, with the lines that it is about.
    Text,
    /// One JSON array.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// Check and print. Exit code 1 on errors.
pub(super) fn run(options: &CheckOptions) -> ExitCode {
    let reading = options.gateway.reloader(options.paths.clone()).read();
    let count =
        |severity| reading.diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match options.output {
        Output::Text => {
            let color = std::io::stdout().is_terminal();
            for found in &reading.diagnostics {
                println!("{}\n", found.to_text(color));
            }
            let routes = reading.snapshot.routes.len();
            println!(
                "{errors} error(s), {warnings} warning(s); {} listener(s), {routes} route(s), \
                 {} cluster(s)",
                reading.snapshot.listeners.len(),
                reading.snapshot.clusters.len()
            );
        }
        Output::Json => {
            let list: Vec<_> = reading.diagnostics.iter().map(|found| found.to_json()).collect();
            println!("{}", serde_json::Value::Array(list));
        }
        Output::Sarif => {
            let root = std::env::current_dir().unwrap_or_default();
            let fallback = options.paths.first().map_or(root.as_path(), PathBuf::as_path);
            println!("{}", super::sarif::log(&reading.diagnostics, &root, fallback));
        }
    }
    if errors > 0 || (options.strict && warnings > 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
