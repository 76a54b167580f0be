//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::objective::Objective;
use crate::profile::Profile;
use crate::runtime::DriverChoice;
use crate::schedule::{Arrivals, Rate};
use crate::settings::{self, Check, Protocol, RequestSettings, Settings};
use crate::target::Target;
use crate::units::parse_duration;

/// An HTTP load tester that takes latency from the moment a request was due.
#[derive(Debug, Parser)]
#[command(name = "ringress-load", version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LOAD_REVISION"), ")"))]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a run against a target.
    Run(Box<RunOptions>),
    /// Compare runs: percentile curves on one plot, and a table with what repeated rounds allow to say.
    Compare(CompareOptions),
    /// Answer every request with the same response; a target for trials, on loopback only.
    Responder(ResponderOptions),
    /// Prove the tool on this machine: a server that stalls, and a series of rates.
    SelfCheck(SelfCheckOptions),
}

/// Of `run`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RunOptions {
    /// http:// or https:// URL of the target
    pub(crate) url: Option<String>,
    /// Scenario file (YAML); what stands on the command line counts more
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Open loop: requests per second, of all threads together; without it the loop is closed. 1000..50000 rises
    /// over the measured time, 1000,2000,5000 are steps of equal length
    #[arg(short = 'R', long, value_name = "PER_SECOND", value_parser = Profile::parse)]
    pub(crate) rate: Option<Profile>,
    /// How the requests of an open loop are spread over time
    #[arg(long, value_enum)]
    pub(crate) arrivals: Option<Arrivals>,
    /// Connections, of all threads together [default: 64]
    #[arg(short = 'c', long, value_name = "COUNT")]
    pub(crate) connections: Option<u32>,
    /// Worker threads, each with its own ring and its share of the connections [default: 1]
    #[arg(short = 't', long, value_name = "COUNT")]
    pub(crate) threads: Option<u32>,
    /// Measured time, at most 24h [default: 10s]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Time before it, that does not count [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) warmup: Option<Duration>,
    /// Longest time for a response, and for a connection [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// HTTP/2 (without TLS: by prior knowledge)
    #[arg(long)]
    pub(crate) http2: bool,
    /// HTTP/2: requests under way on one connection [default: 10]
    #[arg(long, value_name = "COUNT")]
    pub(crate) streams: Option<u32>,
    /// A new connection for each request
    #[arg(long)]
    pub(crate) no_keep_alive: bool,
    /// Method of the request
    #[arg(short = 'm', long)]
    pub(crate) method: Option<String>,
    /// Header field, "name: value"; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = settings::parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Host field and TLS server name, if not the URL's
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Body of the request
    #[arg(short = 'b', long)]
    pub(crate) body: Option<String>,
    /// Statuses that count as good: 200, 2xx, 200-299; may be repeated [default: 200-399]
    #[arg(long, value_name = "STATUS", value_parser = Check::parse_status)]
    pub(crate) expect_status: Vec<(u16, u16)>,
    /// Text that must stand in the body
    #[arg(long, value_name = "TEXT")]
    pub(crate) expect_body: Option<String>,
    /// Trust the authorities in this PEM file, not the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Resume TLS sessions; without it every connection makes a full handshake
    #[arg(long)]
    pub(crate) resume_tls: bool,
    /// Accept any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Write the run's files into this new folder
    #[arg(short = 'o', long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// What the run is called in reports and comparisons
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// What the figures have to be: p99<5ms, max<1s, errors<0.1%; may be repeated, exit code 2 if missed
    #[arg(long = "slo", value_name = "OBJECTIVE", value_delimiter = ',')]
    pub(crate) objectives: Vec<Objective>,
    /// Print the result as JSON instead of the summary
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Cores for the threads, in turn: 1 or 1,3,5
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) cores: Vec<usize>,
    /// What the threads wait on
    #[arg(long, value_enum, default_value_t)]
    pub(crate) driver: DriverChoice,
    /// Local addresses that connections take in turn: more ports for runs without keep-alive
    #[arg(long = "source", value_delimiter = ',', value_name = "ADDRESSES")]
    pub(crate) sources: Vec<IpAddr>,
    /// Of poisson arrivals and of the choice among requests
    /// [default: 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The target may be outside of loopback and private ranges: you may put this load on it
    #[arg(long)]
    pub(crate) i_own_this_target: bool,
}

/// Of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Runs: folders, run.json, .hlog or .hgrm files, as PATH or LABEL=PATH; the same label again is
    /// another round of the same thing
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Write the comparison into this HTML file
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Compare service times, not latencies
    #[arg(long)]
    pub(crate) service_time: bool,
    /// Print the table and the plot as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Of `responder`.
#[derive(Debug, Args)]
pub(crate) struct ResponderOptions {
    /// Port on 127.0.0.1; 0: a free one, which is printed
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Bytes of every body
    #[arg(long, default_value_t = 100)]
    pub(crate) body: usize,
    /// Answer nothing for so long in every second
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// End after this time, at most 24h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub(crate) lifetime: Duration,
    /// Core to run on
    #[arg(long)]
    pub(crate) core: Option<usize>,
}

/// Of `self-check`.
#[derive(Debug, Args)]
pub(crate) struct SelfCheckOptions {
    /// Length of each of its runs
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pub(crate) duration: Duration,
    /// Highest rate of the series, requests per second
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, default_value = "100000")]
    pub(crate) top: Rate,
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("\"{text}\" is no rate from 0.001 to 10,000,000 requests per second");
    text.parse().ok().and_then(Rate::per_second).ok_or_else(wrong)
}

impl RunOptions {
    /// What the command line asks for, over `file`, what the scenario does.
    pub(crate) fn settings(&self, file: Settings) -> Result<Settings, String> {
        let target = self.url.as_deref().map(Target::parse).transpose();
        if let Some(host) = &self.host {
            settings::check_host(host)?;
        }
        if let Some(method) = &self.method {
            settings::check_method(method)?;
        }
        let of_request = self.method.is_some()
            || self.body.is_some()
            || !self.expect_status.is_empty()
            || self.expect_body.is_some();
        if of_request && !file.requests.is_empty() {
            return Err(
                "--method, --body, --expect-status and --expect-body are for runs without \
                 `requests:` in a scenario file"
                    .to_owned(),
            );
        }
        let request = RequestSettings {
            method: self.method.clone().unwrap_or_else(|| "GET".to_owned()),
            body: self.body.clone().unwrap_or_default().into_bytes(),
            check: Check {
                statuses: self.expect_status.clone(),
                contains: self.expect_body.clone().map(String::into_bytes),
                ..Check::default()
            },
            ..RequestSettings::default()
        };
        Ok(file.overlay(Settings {
            target: target.map_err(|error| error.to_string())?,
            host: self.host.clone(),
            protocol: self.http2.then_some(Protocol::Http2),
            rate: self.rate.clone(),
            arrivals: self.arrivals,
            connections: self.connections,
            streams: self.streams,
            threads: self.threads,
            duration: self.duration,
            warmup: self.warmup,
            timeout: self.timeout,
            keep_alive: self.no_keep_alive.then_some(false),
            trust: self.trust.clone(),
            insecure: self.insecure.then_some(true),
            resume_tls: self.resume_tls.then_some(true),
            seed: self.seed,
            headers: self.headers.clone(),
            requests: if of_request { vec![request] } else { Vec::new() },
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings(arguments: &[&str], file: Settings) -> Result<Settings, String> {
        let whole = ["ringress-load", "run"].iter().chain(arguments);
        let options = Options::try_parse_from(whole).map_err(|error| error.to_string())?;
        let Command::Run(run) = options.command else { panic!("run") };
        run.settings(file)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_command_line_counts_more_than_the_file() {
        let file = Settings { connections: Some(5), threads: Some(2), ..Settings::default() };
        let both = settings(&["127.0.0.1:80", "-c", "7", "-R", "10.5", "-d", "2m"], file);
        let both = both.expect("good");
        assert_eq!((both.connections, both.threads), (Some(7), Some(2)));
        assert_eq!(both.rate, Rate::per_second(10.5).map(Profile::Constant));
        assert_eq!(both.duration, Some(Duration::from_secs(120)));
        assert!(both.requests.is_empty());
    }

    #[test]
    fn mistakes_are_told() {
        for (arguments, part) in [
            (&["-R", "0"][..], "no rate"),
            (&["-d", "5 weeks"], "unit of time"),
            (&["-H", "x"], "name: value"),
            (&["http://"], "no URL"),
            (&["-m", "get"], "no method"),
            (&["--expect-status", "9"], "no status"),
        ] {
            let error = settings(arguments, Settings::default()).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        let file = Settings { requests: vec![RequestSettings::default()], ..Settings::default() };
        assert!(settings(&["-b", "x"], file).is_err_and(|error| error.contains("requests:")));
    }
}
