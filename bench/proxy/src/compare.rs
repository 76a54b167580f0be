//! The driver: runs scenarios and subjects in interleaved rounds and prints the tables.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::child::Pinned;
use crate::load::Outcome;
use crate::options::{HELP, Options};
use crate::proc_stat::ProcessTree;
use crate::report::{
    IdleRow, Required, Row, Sample, cpu_table, idle_table, ratio, required_table, usual_distance_ns,
};
use crate::scenario::Scenario;
use crate::service::{Protocol, Service};
use crate::subject::{Installed, Subject, Surroundings, find};
use crate::table::{Style, thousands};
use crate::tls::{CERTIFICATE_FILE, Identity};
use crate::{distance, machine, manifest, sys};

/// Time beyond its window that a load run may take: connecting, the last responses, a busy core.
const LOAD_PATIENCE: Duration = Duration::from_secs(20);
/// Longest time for all idle connections to be opened.
const IDLE_PATIENCE: Duration = Duration::from_secs(90);
/// Rounds beyond those asked for, as a multiple, when windows do not count because the cores moved.
const MORE_ROUNDS: usize = 3;
/// Rest before the memory of idle connections is read, for what a proxy frees when it is idle.
const IDLE_REST: Duration = Duration::from_secs(2);

/// Runs what the arguments ask for. Exit code 1 when Ringress or the floor could not be measured.
pub(crate) fn main(args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let args: Vec<String> = args.collect();
    let Some(options) = Options::parse(args.iter().cloned())? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let cores = sys::allowed_cores();
    for core in [options.proxy_core, options.load_core] {
        if !cores.contains(&core) {
            return Err(format!(
                "core {core} is not among {cores:?}: two cores are needed, see --proxy-core"
            ));
        }
    }
    sys::catch_interrupts();
    // What the driver itself does must not disturb the proxy.
    sys::pin_to_core(options.load_core).map_err(|error| format!("cannot pin: {error}"))?;
    let found: Vec<(Subject, Result<Installed, String>)> =
        options.subjects.iter().map(|&subject| (subject, find(subject, &options))).collect();
    let scratch = Scratch::new()?;
    let identity = Identity::new()?;
    identity.write(scratch.path())?;
    let start = |protocol| start_backend(protocol, &options, scratch.path());
    let (_http1_backend, http1_port) = start(Protocol::Http1)?;
    let (_grpc_backend, grpc_port) = start(Protocol::Grpc)?;
    let around = Surroundings {
        options: &options,
        directory: scratch.path(),
        identity: &identity,
        http1_port,
        grpc_port,
    };
    let mut bench = Bench { around, found, measured: Measured::default(), failed: false };
    bench.print_header(&args);
    for &scenario in &options.scenarios {
        bench.run(scenario)?;
    }
    println!("{}", required_table(&bench.measured.required(), options.style));
    Ok(if bench.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A directory of our own that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("bench-proxy-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ourselves(part: &str) -> Result<Command, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.arg(part);
    Ok(command)
}

fn start_backend(
    protocol: Protocol,
    options: &Options,
    directory: &Path,
) -> Result<(Pinned, u16), String> {
    let log = directory.join(format!("backend-{}.log", protocol.name()));
    let mut command = ourselves("backend")?;
    command.args(["--protocol", protocol.name()]);
    let mut backend = Pinned::start("backend", command, options.load_core, &log, true)?;
    let line = backend.line(Duration::from_secs(10))?;
    let port = line
        .strip_prefix("listening ")
        .and_then(|port| port.parse().ok())
        .ok_or_else(|| format!("backend: unexpected words {line:?}"))?;
    Ok((backend, port))
}

/// The medians that the required figures need.
#[derive(Default)]
struct Measured {
    /// Total µs by subject.
    keepalive: Vec<(Subject, f64)>,
    body_1m: Vec<(Subject, f64)>,
    one_host: Option<f64>,
    many_hosts: Option<f64>,
    policy_ratio: Option<f64>,
    idle_bytes: Option<f64>,
}

impl Measured {
    fn required(&self) -> Vec<Required> {
        let of = |list: &[(Subject, f64)], subject| {
            list.iter().find(|(known, _)| *known == subject).map(|&(_, value)| value)
        };
        let against =
            |list: &[(Subject, f64)], base| ratio(of(list, Subject::Ringress), of(list, base));
        let figure = |figure, limit, measured| Required { figure, limit, measured };
        vec![
            figure("CPU per request / floor", 1.25, against(&self.keepalive, Subject::Floor)),
            figure("CPU per request / nginx", 0.90, against(&self.keepalive, Subject::Nginx)),
            figure("CPU per request / Envoy", 0.30, against(&self.keepalive, Subject::Envoy)),
            figure("1 MiB body: CPU per MiB / nginx", 1.0, against(&self.body_1m, Subject::Nginx)),
            figure("many hosts against 1 host", 1.05, ratio(self.many_hosts, self.one_host)),
            figure("route with policies / floor", 1.35, self.policy_ratio),
            figure("resident bytes per idle connection", 2048.0, self.idle_bytes),
        ]
    }
}

struct Bench<'a> {
    around: Surroundings<'a>,
    found: Vec<(Subject, Result<Installed, String>)>,
    measured: Measured,
    /// One of ours could not be measured.
    failed: bool,
}

/// One row of a scenario: a subject, the hosts it is configured for and those asked for.
struct Entry {
    label: String,
    subject: Subject,
    configured: Vec<String>,
    /// How many of the configured hosts are asked for.
    asked: usize,
    service: Service,
    /// More arguments for `ringress run`.
    arguments: Vec<String>,
}

impl Entry {
    /// One host, and what the scenario serves.
    fn of(label: &str, subject: Subject, scenario: Scenario) -> Entry {
        Entry {
            label: label.to_owned(),
            subject,
            configured: vec![manifest::HELLO.to_owned()],
            asked: 1,
            service: scenario.service(),
            arguments: Vec::new(),
        }
    }
}

impl Bench<'_> {
    fn print_header(&self, args: &[String]) {
        let options = self.around.options;
        let markdown = options.style == Style::Markdown;
        let item = if markdown { "- " } else { "" };
        println!("{item}date: {}", sys::today());
        println!("{item}machine: {}", machine::processor());
        println!("{item}kernel: {}", machine::kernel());
        println!("{item}revision: {}", machine::revision());
        let command = format!("cargo run --release -p bench-proxy -- {}", args.join(" "));
        let quote = if markdown { "`" } else { "" };
        println!("{item}command: {quote}{}{quote}", command.trim_end());
        for (subject, found) in &self.found {
            let version = found.as_ref().map_or_else(|reason| reason, |found| &found.version);
            println!("{item}{}: {version}", subject.name());
        }
        println!();
    }

    fn run(&mut self, scenario: Scenario) -> Result<(), String> {
        let options = self.around.options;
        let mark = if options.style == Style::Markdown { "### " } else { "" };
        println!("{mark}{}: {}\n", scenario.name(), scenario.title(options));
        match scenario {
            Scenario::Idle => {
                let rows = self.run_idle()?;
                println!("{}", idle_table(&rows, options.idle_connections, options.style));
            }
            Scenario::Hosts => {
                let rows = self.run_hosts()?;
                let first: Vec<String> = rows.iter().take(1).map(|row| row.label.clone()).collect();
                println!("{}", cpu_table(&rows, &first, options.style));
            }
            Scenario::Policy => {
                let rows = self.run_policy()?;
                let first: Vec<String> = rows.iter().take(2).map(|row| row.label.clone()).collect();
                println!("{}", cpu_table(&rows, &first, options.style));
            }
            Scenario::Telemetry => {
                let rows = self.run_telemetry()?;
                let first: Vec<String> = rows.iter().take(1).map(|row| row.label.clone()).collect();
                println!("{}", cpu_table(&rows, &first, options.style));
            }
            _ => {
                let rows = self.run_subjects(scenario)?;
                let against: Vec<String> = options
                    .subjects
                    .iter()
                    .filter(|&&subject| subject != Subject::Ringress)
                    .map(|subject| subject.name().to_owned())
                    .collect();
                println!("{}", cpu_table(&rows, &against, options.style));
            }
        }
        Ok(())
    }

    fn run_subjects(&mut self, scenario: Scenario) -> Result<Vec<Row>, String> {
        let entries: Vec<Entry> = self
            .around
            .options
            .subjects
            .iter()
            .filter(|&&subject| {
                subject != Subject::Floor || scenario.service().is_same_on_both_sides()
            })
            .map(|&subject| Entry::of(subject.name(), subject, scenario))
            .collect();
        let rows = self.rounds(scenario, &entries)?;
        let totals = entries
            .iter()
            .zip(&rows)
            .filter_map(|(entry, row)| Some((entry.subject, row.total_us()?)))
            .collect();
        match scenario {
            Scenario::Keepalive => self.measured.keepalive = totals,
            Scenario::Body1m => self.measured.body_1m = totals,
            _ => {}
        }
        Ok(rows)
    }

    fn run_hosts(&mut self) -> Result<Vec<Row>, String> {
        let count = self.around.options.hosts;
        let many: Vec<String> = (0..count).map(manifest::host).collect();
        let entry = |label: String, configured: &[String], asked| Entry {
            configured: configured.to_vec(),
            asked,
            ..Entry::of(&label, Subject::Ringress, Scenario::Hosts)
        };
        let number = thousands(count as f64);
        let entries = [
            entry("1 host".to_owned(), &many[..1], 1),
            entry(format!("{number} hosts, one asked for"), &many, 1),
            entry(format!("{number} hosts, each asked for in turn"), &many, count),
        ];
        let rows = self.rounds(Scenario::Hosts, &entries)?;
        self.measured.one_host = rows.first().and_then(Row::total_us);
        self.measured.many_hosts = rows.last().and_then(Row::total_us);
        Ok(rows)
    }

    fn run_policy(&mut self) -> Result<Vec<Row>, String> {
        let entry = |label: &str, subject, host: &str| Entry {
            configured: vec![host.to_owned()],
            ..Entry::of(label, subject, Scenario::Policy)
        };
        let entries = [
            entry("floor", Subject::Floor, manifest::HELLO),
            entry("bare route", Subject::Ringress, manifest::HELLO),
            entry("route with policies", Subject::Ringress, manifest::POLICY),
            entry("and its cluster too", Subject::Ringress, manifest::CLUSTER),
        ];
        let rows = self.rounds(Scenario::Policy, &entries)?;
        let of = |index: usize| rows.get(index).and_then(Row::total_us);
        self.measured.policy_ratio = ratio(of(2), of(0));
        Ok(rows)
    }

    fn run_telemetry(&mut self) -> Result<Vec<Row>, String> {
        let log = self.around.directory.join("access-ringress.log").display().to_string();
        let entry = |label: &str, subject, service, arguments: &[&str]| Entry {
            service,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Entry::of(label, subject, Scenario::Telemetry)
        };
        let ours = Subject::Ringress;
        // Port 0: any free one. The others in the table have no admin port.
        let admin = ["--admin-only", "--admin-port", "0"];
        let mut entries = vec![
            entry(
                "ringress without metrics",
                ours,
                Service::Http1,
                &["--no-metrics", "--no-admin"],
            ),
            entry("ringress", ours, Service::Http1, &admin),
            entry(
                "ringress with access log",
                ours,
                Service::Http1Logged,
                &[&admin[..], &["--access-log", &log]].concat(),
            ),
        ];
        for peer in [Subject::Nginx, Subject::Haproxy, Subject::Envoy] {
            if self.around.options.subjects.contains(&peer) {
                let label = format!("{} with access log", peer.name());
                entries.push(entry(&label, peer, Service::Http1Logged, &[]));
            }
        }
        self.rounds(Scenario::Telemetry, &entries)
    }

    /// Each entry once per round, and again for windows that do not count because the cores were
    /// not as far apart as in most others. A failure ends that entry's part; an interrupt ends everything.
    fn rounds(&mut self, scenario: Scenario, entries: &[Entry]) -> Result<Vec<Row>, String> {
        let rounds = self.around.options.rounds;
        let mut measured: Vec<Vec<Sample>> = vec![Vec::new(); entries.len()];
        let mut failures: Vec<Option<String>> = vec![None; entries.len()];
        let rows = |measured: &[Vec<Sample>], failures: &[Option<String>]| -> Vec<Row> {
            let usual_ns = usual_distance_ns(measured.iter().flatten());
            let all = entries.iter().zip(measured).zip(failures);
            all.map(|((entry, samples), failure)| {
                Row::new(entry.label.clone(), samples, usual_ns, failure.clone())
            })
            .collect()
        };
        for round in 1..=rounds * (1 + MORE_ROUNDS) {
            for (index, entry) in entries.iter().enumerate() {
                let counted = rows(&measured, &failures)[index].samples.len();
                if failures[index].is_some() || counted >= rounds {
                    continue;
                }
                eprintln!("{}, round {round}: {}", scenario.name(), entry.label);
                match self.measure(scenario, entry) {
                    Ok(sample) => measured[index].push(sample),
                    Err(failure) => {
                        stop_if_interrupted()?;
                        self.failed |= entry.subject.is_ours();
                        failures[index] = Some(failure);
                    }
                }
            }
        }
        Ok(rows(&measured, &failures))
    }

    fn installed(&self, subject: Subject) -> Result<&Installed, String> {
        match self.found.iter().find(|(known, _)| *known == subject) {
            Some((_, Ok(installed))) => Ok(installed),
            Some((_, Err(reason))) => Err(reason.clone()),
            None => Err("left out by --subjects".to_owned()),
        }
    }

    fn measure(&self, scenario: Scenario, entry: &Entry) -> Result<Sample, String> {
        let options = self.around.options;
        let service = entry.service;
        let installed = self.installed(entry.subject)?;
        let mut proxy =
            installed.start(&self.around, service, &entry.configured, &entry.arguments)?;
        let mut command = ourselves("load")?;
        command.args(["--port", &proxy.port.to_string(), "--path", scenario.path()]);
        command.args(["--protocol", service.protocol().name()]);
        if service.is_tls() {
            command.arg("--trust").arg(self.around.directory.join(CERTIFICATE_FILE));
        }
        let (connections, streams) = scenario.concurrency(options);
        command.args(["--connections", &connections.to_string()]);
        command.args(["--streams", &streams.to_string()]);
        command.args(["--seconds", &options.window.as_secs_f64().to_string()]);
        command.args(["--warmup", &options.warmup.as_secs_f64().to_string()]);
        command.args(["--cpu-of", &proxy.process.pid().to_string()]);
        if scenario == Scenario::Hosts {
            command.args(["--hosts", &entry.asked.to_string()]);
        } else {
            let host = entry.configured.first().map_or(manifest::HELLO, String::as_str);
            command.args(["--host", host]);
        }
        if scenario.closes() {
            command.arg("--close");
        }
        let log = self.around.directory.join("load.log");
        let mut load = Pinned::start("load", command, options.load_core, &log, true)?;
        let cores = (options.proxy_core, options.load_core);
        let (line, distance) = distance::while_running(cores, || {
            load.line(options.warmup + options.window + LOAD_PATIENCE)
        });
        // If the proxy has ended, that is the reason, whatever the generator says.
        proxy.process.still_runs()?;
        let line = line?;
        let outcome =
            Outcome::from_line(&line).ok_or_else(|| format!("load: unexpected words {line:?}"))?;
        Sample::from_outcome(&outcome, distance)
    }

    fn run_idle(&mut self) -> Result<Vec<IdleRow>, String> {
        let options = self.around.options;
        let mut rows: Vec<IdleRow> = options
            .subjects
            .iter()
            .filter(|&&subject| subject != Subject::Floor)
            .map(|&subject| IdleRow { subject, samples: Vec::new(), failure: None })
            .collect();
        for round in 1..=options.rounds {
            for row in &mut rows {
                if row.failure.is_some() {
                    continue;
                }
                eprintln!("idle, round {round}: {}", row.subject.name());
                match self.measure_idle(row.subject) {
                    Ok(sample) => row.samples.push(sample),
                    Err(failure) => {
                        stop_if_interrupted()?;
                        self.failed |= row.subject.is_ours();
                        row.failure = Some(failure);
                    }
                }
            }
        }
        self.measured.idle_bytes = rows
            .iter()
            .find(|row| row.subject == Subject::Ringress)
            .and_then(|row| row.bytes_per_connection(options.idle_connections));
        Ok(rows)
    }

    /// Resident bytes before and with all connections idle.
    fn measure_idle(&self, subject: Subject) -> Result<(u64, u64), String> {
        let options = self.around.options;
        let count = options.idle_connections;
        let hosts = [manifest::HELLO.to_owned()];
        let mut proxy =
            self.installed(subject)?.start(&self.around, Service::Http1, &hosts, &[])?;
        let tree = ProcessTree::of(proxy.process.pid());
        let resident = || tree.resident_bytes().ok_or_else(|| "it ended".to_owned());
        let before = resident()?;
        let mut command = ourselves("load")?;
        command.args(["--port", &proxy.port.to_string(), "--idle", &count.to_string()]);
        let log = self.around.directory.join("load.log");
        let mut load = Pinned::start("load", command, options.load_core, &log, true)?;
        let line = load.line(IDLE_PATIENCE);
        proxy.process.still_runs()?;
        line?;
        std::thread::sleep(IDLE_REST);
        let with = resident()?;
        load.end_input();
        let line = load.line(Duration::from_secs(10))?;
        if line != format!("held={count}") {
            return Err(format!("not all of {count} connections were kept open: {line}"));
        }
        Ok((before, with))
    }
}

fn stop_if_interrupted() -> Result<(), String> {
    if sys::interrupted() { Err("interrupted".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_figures_come_from_their_scenario() {
        let measured = Measured {
            keepalive: vec![
                (Subject::Floor, 8.0),
                (Subject::Ringress, 9.0),
                (Subject::Envoy, 36.0),
            ],
            body_1m: vec![(Subject::Ringress, 500.0), (Subject::Nginx, 400.0)],
            one_host: Some(10.0),
            many_hosts: Some(10.2),
            policy_ratio: Some(1.3),
            idle_bytes: Some(1500.0),
        };
        let figures: Vec<Option<f64>> =
            measured.required().into_iter().map(|figure| figure.measured).collect();
        let expected =
            [Some(1.125), None, Some(0.25), Some(1.25), Some(1.02), Some(1.3), Some(1500.0)];
        assert_eq!(figures, expected);
    }
}
