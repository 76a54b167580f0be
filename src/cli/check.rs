//! `ringress check`: what `run` would say of the manifests, without serving them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::options::{Labels, parse_labels};
use crate::compile::CompileOptions;
use crate::config::Severity;
use crate::control::reload::Reloader;
use crate::metrics::LabelTable;
use crate::snapshot::Settings;
use crate::validate::ValidateOptions;

/// Options of `ringress check`.
#[derive(Clone, Debug, Args)]
pub(super) struct CheckOptions {
    /// Manifests: files, or directories that are searched recursively.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Labels of the gateway that is to serve them.
    #[arg(long, value_name = "K=V,…", default_value = "istio=ingressgateway", value_parser = parse_labels)]
    labels: Labels,

    /// Namespace of that gateway.
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    namespace: String,

    /// Suffix of the cluster's service names.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,

    /// How to print what was found.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Exit with 1 on warnings too.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, with the lines that it is about.
    Text,
    /// One JSON array.
    Json,
}

/// Check and print. Exit code 1 on errors.
pub(super) fn run(options: &CheckOptions) -> ExitCode {
    let validate = ValidateOptions {
        labels: options.labels.0.clone(),
        namespace: options.namespace.clone(),
        cluster_domain: options.cluster_domain.clone(),
    };
    let compile = CompileOptions {
        labels: options.labels.0.clone(),
        namespace: options.namespace.clone(),
        cluster_domain: options.cluster_domain.clone(),
        port_map: Default::default(),
        bind: std::net::IpAddr::from([0, 0, 0, 0]),
        settings: Settings::default(),
    };
    let labels = LabelTable::shared();
    let reading =
        Reloader::new(options.paths.clone(), validate, compile, Arc::clone(&labels)).read();
    let count =
        |severity| reading.diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match options.format {
        Format::Text => {
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
        Format::Json => {
            let list: Vec<_> = reading.diagnostics.iter().map(|found| found.to_json()).collect();
            println!("{}", serde_json::Value::Array(list));
        }
    }
    if errors > 0 || (options.strict && warnings > 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
