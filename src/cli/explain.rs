//! `ringress explain`: where a request goes and why, without sending it; by manifests, or by the
//! configuration that a running gateway has in force.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::live;
use super::options::GatewayOptions;
use crate::config::Severity;
use crate::explain::{self, Asked, AskedConnection, ExplainError, Explainer, Question};
use crate::net::runtime::{self, Driver};
use crate::snapshot::Snapshot;

/// Options of `ringress explain`.
#[derive(Clone, Debug, Args)]
#[command(allow_missing_positional = true)]
pub(super) struct ExplainOptions {
    /// Manifests: a file, or a directory that is searched recursively.
    #[arg(value_name = "PATH", required_unless_present = "live", conflicts_with = "live")]
    path: Option<PathBuf>,

    /// The request: a method and a URL, such as `GET http://hello.com/a?b=c`; or a connection, such as
    /// `tls://hello.com:443` or `tcp://:3306`.
    #[arg(value_name = "REQUEST", required = true)]
    request: String,

    /// Ask a running gateway at its admin port, such as 127.0.0.1:15000: it answers by what it has in
    /// force.
    #[arg(
        long,
        value_name = "IP:PORT",
        conflicts_with_all = ["labels", "namespace", "cluster_domain"]
    )]
    live: Option<SocketAddr>,

    /// A field of the request, `name: value`. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// The port that it comes in on, as the Gateway writes it. Default: that of the URL, or 80.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Address of the client.
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    client: IpAddr,

    #[command(flatten)]
    gateway: GatewayOptions,

    /// How to print the answer.
    #[arg(long, alias = "format", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Explain and print. Exit code 1 when there is nothing to explain; 0 whatever the answer is.
pub(super) fn run(options: &ExplainOptions) -> ExitCode {
    let answer = match (options.live, &options.path) {
        (Some(admin), _) => ask_live(options, admin),
        (None, path) => explain(options, path.as_deref().unwrap_or(Path::new(""))),
    };
    match answer {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("ringress: {message}");
            ExitCode::FAILURE
        }
    }
}

fn explain(options: &ExplainOptions, path: &Path) -> Result<String, String> {
    let answer = explain_manifests(options, path).map_err(|error| error.to_string())?;
    Ok(match options.output {
        Output::Text => explain::to_text(&answer),
        Output::Json => format!("{answer:#}\n"),
    })
}

fn explain_manifests(options: &ExplainOptions, path: &Path) -> Result<Value, ExplainError> {
    let connection = AskedConnection::new(&options.request).transpose()?;
    let (snapshot, errors) = read(&options.gateway, path);
    if errors > 0 {
        eprintln!("ringress: {errors} error(s): this is the answer of what is left");
    }
    if let Some(asked) = connection {
        return explain::connection::connection(&snapshot, &asked);
    }
    let asked = Asked::new(&options.request, &options.headers)?;
    let question = Question {
        asked,
        port: options.port,
        bound_port: None,
        client: options.client,
        at: Instant::now(),
    };
    runtime::run(Driver::Epoll, async move {
        let explainer = Explainer::new(Driver::Epoll).await?;
        let table = explainer.load(snapshot);
        explainer.explain(&table, &question)
    })?
}

/// The manifests, compiled, and how many errors they have; problems are told on standard error.
pub(super) fn read(gateway: &GatewayOptions, path: &Path) -> (Snapshot, usize) {
    let reading = gateway.reloader(vec![path.to_owned()]).read();
    let errors = reading.errors();
    for found in reading.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        eprintln!("{}\n", found.to_text(false));
    }
    (reading.snapshot, errors)
}

fn ask_live(options: &ExplainOptions, admin: SocketAddr) -> Result<String, String> {
    // What is no request is told here, as without a gateway.
    Asked::new(&options.request, &options.headers).map_err(|error| error.to_string())?;
    let output = match options.output {
        Output::Text => "text",
        Output::Json => "json",
    };
    let mut page = format!("/explain?output={output}&client={}", options.client);
    if let Some(port) = options.port {
        page.push_str(&format!("&port={port}"));
    }
    let lines: Vec<&str> =
        [&options.request].into_iter().chain(&options.headers).map(|line| line.trim()).collect();
    if lines.iter().any(|line| line.contains(['\r', '\n'])) {
        return Err("a field cannot hold a line end".to_owned());
    }
    live::post(admin, &page, &lines.join("\n")).map_err(|error| error.to_string())
}
