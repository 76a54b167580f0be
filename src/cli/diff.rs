//! `ringress diff`: requests, or an access log, replayed through two sets of manifests by the code
//! that the workers run. Nothing is sent. Reading order: here, `requests` (the file), `log` (lines of
//! an access log), `outcome` (what is compared), `report`.

mod log;
mod outcome;
mod report;
mod requests;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::explain::{self, Output};
use super::options::GatewayOptions;
use crate::explain::{ExplainError, Explainer, Question, Table};
use crate::net::runtime::{self, Driver};
use crate::snapshot::Snapshot;
use outcome::Outcome;
use report::Report;
use requests::{Requests, Wanted};

/// Options of `ringress diff`.
#[derive(Clone, Debug, Args)]
pub(super) struct DiffOptions {
    /// The manifests as they are: a file, or a directory that is searched recursively.
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The manifests as they are to be.
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// The requests, one a line: `GET http://host/path -H 'name: value'`, or lines of an access log,
    /// text or JSON. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,

    /// The port that all of them come in on. Default: that of the log line, else that of the URL.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Address of the client.
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    client: IpAddr,

    #[command(flatten)]
    gateway: GatewayOptions,

    /// How to print what was found.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("{} has {errors} error(s), printed above: mend them first", path.display())]
    Manifests { path: PathBuf, errors: usize },
    #[error("cannot read the requests of {}: {error}", path.display())]
    Requests { path: PathBuf, error: io::Error },
    #[error("{} has no request that can be read", .0.display())]
    NoRequest(PathBuf),
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

/// Compare and print. Exit code 0 when all requests fare alike, 1 when some do not, 2 on errors.
pub(super) fn run(options: &DiffOptions) -> ExitCode {
    match compare(options) {
        Ok(report) => {
            match options.output {
                Output::Text => print!("{}", report.to_text()),
                Output::Json => println!("{:#}", report.to_json()),
            }
            ExitCode::from(u8::from(report.differ() > 0))
        }
        Err(error) => {
            eprintln!("ringress: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(options: &DiffOptions) -> Result<Report, DiffError> {
    let snapshot = |path: &PathBuf| -> Result<Snapshot, DiffError> {
        match explain::read(&options.gateway, path) {
            (snapshot, 0) => Ok(snapshot),
            (_, errors) => Err(DiffError::Manifests { path: path.clone(), errors }),
        }
    };
    let (old, new) = (snapshot(&options.old)?, snapshot(&options.new)?);
    let path = &options.requests;
    let requests =
        Requests::read(path).map_err(|error| DiffError::Requests { path: path.clone(), error })?;
    requests.tell_unreadable();
    if requests.list.is_empty() {
        return Err(DiffError::NoRequest(path.clone()));
    }
    let ways = Ways { port: options.port, client: options.client, at: Instant::now() };
    let replayed = runtime::run(Driver::Epoll, async move {
        let explainer = Explainer::new(Driver::Epoll).await.map_err(ExplainError::from)?;
        let (old, new) = (explainer.load(old), explainer.load(new));
        let mut report = Report::new(&requests);
        for wanted in &requests.list {
            let before = ways.outcome(&explainer, &old, wanted);
            let after = ways.outcome(&explainer, &new, wanted);
            report.add(wanted, before.changes(&after));
        }
        Ok::<Report, ExplainError>(report)
    });
    Ok(replayed.map_err(ExplainError::from)??)
}

/// How every request comes.
struct Ways {
    port: Option<u16>,
    client: IpAddr,
    at: Instant,
}

impl Ways {
    fn outcome(&self, explainer: &Explainer, table: &Table, wanted: &Wanted) -> Outcome {
        let question = Question {
            asked: wanted.asked.clone(),
            port: self.port,
            // A log tells the socket: it counts where one listens there too.
            bound_port: wanted.port.filter(|_| self.port.is_none()),
            client: self.client,
            at: self.at,
        };
        match explainer.outcome(table, &question) {
            Ok(answer) => Outcome::of(&answer),
            Err(error) => Outcome::of_error(&error),
        }
    }
}
