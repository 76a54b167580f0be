//! The driver's command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::seconds;
use crate::scenario::Scenario;
use crate::subject::Subject;
use crate::table::Style;

pub(crate) const HELP: &str = "\
CPU per request of Ringress against the floor and the proxies that are installed

Usage: cargo run --release -p bench-proxy -- [OPTIONS]

  --scenarios LIST       of keepalive, 10k, 1m, connect, tls, tls-handshake, tls-1m, h2, h2-tls,
                         grpc, tcp, hosts, policy, telemetry, idle
                         [default: keepalive,1m,hosts,idle]
  --subjects LIST        of floor, ringress, nginx, haproxy, envoy [default: all]
  --rounds N             interleaved rounds; the table has their median [default: 3]
  --seconds S            length of each measured window [default: 5]
  --warmup S             load before each window [default: 1]
  --connections N        connections of the load generator [default: 64]; HTTP/2 has 10
                         with 10 streams each
  --hosts N              hosts of the `hosts` scenario [default: 10000]
  --idle-connections N   connections of the `idle` scenario [default: 10000]
  --proxy-core N         core of the proxy under test [default: 0]
  --load-core N          core of load generator and backend [default: 1]
  --ringress PATH        the program to test [default: target/release/ringress]
  --ringress-arg ARG     one more argument for `ringress run`; may be repeated
  --markdown             print the tables as Markdown, for bench/RESULTS.md
  -h, --help             print this help

Subcommands that the driver starts by itself: floor, backend, load.
";

/// What to run and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) warmup: Duration,
    pub(crate) connections: usize,
    pub(crate) hosts: usize,
    pub(crate) idle_connections: usize,
    pub(crate) proxy_core: usize,
    pub(crate) load_core: usize,
    pub(crate) ringress: Option<PathBuf>,
    pub(crate) ringress_args: Vec<String>,
    pub(crate) style: Style,
}

impl Options {
    /// Reads the arguments; `None` when help was asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            scenarios: Scenario::DEFAULT.to_vec(),
            subjects: Subject::ALL.to_vec(),
            rounds: 3,
            window: Duration::from_secs(5),
            warmup: Duration::from_secs(1),
            connections: 64,
            hosts: 10_000,
            idle_connections: 10_000,
            proxy_core: 0,
            load_core: 1,
            ringress: None,
            ringress_args: Vec::new(),
            style: Style::Plain,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--markdown" => {
                    options.style = Style::Markdown;
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{arg} needs a value, or is unknown"))?;
            let number = || positive(&arg, &value);
            let time = || seconds(&value).ok_or_else(|| format!("{arg} cannot be {value:?}"));
            match arg.as_str() {
                "--scenarios" => options.scenarios = list(&value, "scenario", Scenario::named)?,
                "--subjects" => options.subjects = list(&value, "subject", Subject::named)?,
                "--rounds" => options.rounds = number()?,
                "--seconds" => options.window = time()?,
                "--warmup" => options.warmup = time()?,
                "--connections" => options.connections = number()?,
                "--hosts" => options.hosts = number()?,
                "--idle-connections" => options.idle_connections = number()?,
                "--proxy-core" => options.proxy_core = core(&arg, &value)?,
                "--load-core" => options.load_core = core(&arg, &value)?,
                "--ringress" => options.ringress = Some(PathBuf::from(value)),
                "--ringress-arg" => options.ringress_args.push(value),
                _ => return Err(format!("unknown option {arg}; --help lists them")),
            }
        }
        if options.window.is_zero() {
            return Err("--seconds must be more than 0".to_owned());
        }
        if options.proxy_core == options.load_core {
            return Err("--proxy-core and --load-core must differ".to_owned());
        }
        Ok(Some(options))
    }
}

fn positive(arg: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err(format!("{arg} takes a number from 1 to 100000, not {value:?}")),
    }
}

fn core(arg: &str, value: &str) -> Result<usize, String> {
    let allowed = crate::sys::allowed_cores();
    match value.parse() {
        Ok(core) if allowed.contains(&core) => Ok(core),
        _ => Err(format!("{arg} takes one of the cores {allowed:?}, not {value:?}")),
    }
}

fn list<T>(value: &str, what: &str, named: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    value
        .split(',')
        .map(|name| named(name).ok_or_else(|| format!("no {what} is called {name:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, String> {
        Options::parse(text.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn defaults_and_lists() {
        let options = parse("").expect("good").expect("no help");
        assert_eq!(options.scenarios, Scenario::DEFAULT);
        assert_eq!(options.rounds, 3);
        let options = parse("--scenarios 1m,idle --subjects floor --seconds 0.5 --markdown")
            .expect("good")
            .expect("no help");
        assert_eq!(options.scenarios, [Scenario::Body1m, Scenario::Idle]);
        assert_eq!(options.subjects, [Subject::Floor]);
        assert_eq!(options.window, Duration::from_millis(500));
        assert_eq!(options.style, Style::Markdown);
        assert!(parse("--rounds 2 --help").expect("good").is_none());
    }

    #[test]
    fn every_scenario_and_subject_is_in_the_help() {
        let words: Vec<&str> = HELP.split(|c: char| c == ',' || c.is_whitespace()).collect();
        let scenarios = Scenario::ALL.map(Scenario::name);
        for name in scenarios.into_iter().chain(Subject::ALL.map(Subject::name)) {
            assert!(words.contains(&name), "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("--scenarios fast", "\"fast\""),
            ("--subjects floor,apache", "\"apache\""),
            ("--rounds 0", "--rounds"),
            ("--rounds", "--rounds"),
            ("--seconds 0", "--seconds"),
            ("--sekonds 3", "--sekonds"),
            ("--proxy-core 100000", "--proxy-core"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
