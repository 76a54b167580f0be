//! The runs of a comparison, from folders and files of this and of other tools.

use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use crate::chart::value_at;
use crate::folder::{self, FolderError, LOG_FILE, RESULT_FILE};
use crate::hgrm::{self, Point};
use crate::hlog;
use crate::plan::PlanRecord;
use crate::record::Measure;
use crate::result::RunResult;

/// Why a run is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The file or folder.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Its content.
    #[error("{}: {message}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A result.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A folder of something else.
    #[error("{} holds neither {RESULT_FILE} nor folders that do", .0.display())]
    NoRuns(PathBuf),
}

/// Latencies as they came.
#[derive(Clone, Debug)]
enum Values {
    Histogram(Box<Histogram<u64>>),
    Points(Vec<Point>),
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Round {
    values: Values,
    pub(super) count: u64,
    /// Completed per second.
    pub(super) rate: Option<f64>,
    pub(super) failed: Option<u64>,
    /// Not limited by the generator, as far as is known.
    pub(super) valid: bool,
    pub(super) closed: bool,
    /// How it was made, by what: runs that differ in it are not made alike. Empty: nothing is known.
    pub(super) load: Vec<(&'static str, String)>,
}

/// All rounds of one label.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) label: String,
    pub(super) rounds: Vec<Round>,
}

impl Round {
    pub(super) fn of_histogram(histogram: Histogram<u64>) -> Round {
        Round {
            count: histogram.len(),
            values: Values::Histogram(Box::new(histogram)),
            rate: None,
            failed: None,
            valid: true,
            closed: false,
            load: Vec::new(),
        }
    }

    fn of_points(points: Vec<Point>, count: u64) -> Round {
        let values = Values::Points(points);
        Round {
            count,
            values,
            rate: None,
            failed: None,
            valid: true,
            closed: false,
            load: Vec::new(),
        }
    }

    fn of_run(run: &RunResult, histogram: Histogram<u64>) -> Round {
        let plan = &run.plan;
        Round {
            rate: Some(run.completed_rate),
            failed: Some(run.counts.all_failed()),
            valid: run.is_valid(),
            closed: plan.model == "closed",
            load: load_of(plan),
            ..Round::of_histogram(histogram)
        }
    }

    /// The value at a quantile, nanoseconds.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        match &self.values {
            Values::Histogram(histogram) => histogram.value_at_quantile(quantile) as f64,
            Values::Points(points) => value_at(points, quantile).unwrap_or(0.0),
        }
    }
}

/// All of a plan that makes latencies differ, but for the target itself.
fn load_of(plan: &PlanRecord) -> Vec<(&'static str, String)> {
    let rate = plan.rates.clone().or(plan.rate.map(|rate| rate.to_string()));
    let rate = rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate}/s"));
    let connections = if plan.keep_alive { "kept" } else { "one for each request" };
    let requests = plan.requests.iter();
    let requests = requests.map(|request| format!("{} × {}", request.weight, request.request));
    let tls = match (plan.target.starts_with("https:"), plan.resume_tls) {
        (false, _) => "no",
        (true, false) => "full handshakes",
        (true, true) => "resumed",
    };
    vec![
        ("protocol", plan.protocol.clone()),
        ("TLS", tls.to_owned()),
        ("rate", rate),
        ("arrivals", plan.arrivals.clone().unwrap_or_else(|| "of a closed loop".to_owned())),
        ("connections", plan.connections.to_string()),
        ("use of connections", connections.to_owned()),
        ("streams", plan.streams.to_string()),
        ("threads", plan.threads.to_string()),
        ("duration", format!("{} s", plan.duration_seconds)),
        ("warm-up", format!("{} s", plan.warmup_seconds)),
        ("time-out", format!("{} s", plan.timeout_seconds)),
        ("requests", requests.collect::<Vec<_>>().join(", ")),
    ]
}

/// In what the rounds were made differently: `rate (1000/s; 2000/s)`.
pub(super) fn differences<'r>(rounds: impl Iterator<Item = &'r Round>) -> Vec<String> {
    let mut seen: Vec<(&str, Vec<&str>)> = Vec::new();
    for (what, value) in rounds.flat_map(|round| &round.load) {
        match seen.iter_mut().find(|(known, _)| known == what) {
            Some((_, values)) if values.contains(&value.as_str()) => {}
            Some((_, values)) => values.push(value),
            None => seen.push((what, vec![value])),
        }
    }
    seen.retain(|(_, values)| values.len() > 1);
    seen.into_iter().map(|(what, values)| format!("{what} ({})", values.join("; "))).collect()
}

/// Reads `PATH` or `LABEL=PATH` arguments; the same label again adds rounds.
pub(super) fn read(arguments: &[String], measure: Measure) -> Result<Vec<Group>, InputError> {
    let mut groups: Vec<Group> = Vec::new();
    for argument in arguments {
        let (label, path) = match argument.split_once('=') {
            Some((label, path)) if !label.contains('/') && !Path::new(argument).exists() => {
                (Some(label), Path::new(path))
            }
            _ => (None, Path::new(argument)),
        };
        for (own, round) in read_path(path, measure)? {
            let label = label.map_or(own, str::to_owned);
            match groups.iter_mut().find(|group| group.label == label) {
                Some(group) => group.rounds.push(round),
                None => groups.push(Group { label, rounds: vec![round] }),
            }
        }
    }
    Ok(groups)
}

/// What a run without a label is called.
fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn read_path(path: &Path, measure: Measure) -> Result<Vec<(String, Round)>, InputError> {
    let content = |message| InputError::Content { path: path.to_owned(), message };
    let unreadable = |error| InputError::Unreadable { path: path.to_owned(), error };
    if fs::metadata(path).map_err(unreadable)?.is_dir() {
        return read_folder(path, measure);
    }
    let extension = path.extension().unwrap_or_default();
    if extension == "json" {
        return Ok(vec![read_result(path, measure)?]);
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let round = if extension == "hgrm" {
        let (points, count) = hgrm::read(&text).map_err(content)?;
        Round::of_points(points, count)
    } else {
        let logged = hlog::read(&text, measure.name()).map_err(content)?;
        Round::of_histogram(logged.histogram)
    };
    Ok(vec![(name_of(path), round)])
}

/// A run's folder, or one with the folders of its rounds.
fn read_folder(path: &Path, measure: Measure) -> Result<Vec<(String, Round)>, InputError> {
    let unreadable = |error| InputError::Unreadable { path: path.to_owned(), error };
    let result = path.join(RESULT_FILE);
    if result.exists() {
        return Ok(vec![read_result(&result, measure)?]);
    }
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let mut results: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path().join(RESULT_FILE))).collect();
    results.retain(|result| result.exists());
    results.sort();
    if results.is_empty() {
        return Err(InputError::NoRuns(path.to_owned()));
    }
    results.iter().map(|result| read_result(result, measure)).collect()
}

/// A result with its histogram: from the log beside it, which holds every second, or from itself.
fn read_result(path: &Path, measure: Measure) -> Result<(String, Round), InputError> {
    let run = folder::read(path)?;
    let content = |message| InputError::Content { path: path.to_owned(), message };
    let log = path.with_file_name(LOG_FILE);
    let histogram = if log.exists() {
        let text = fs::read_to_string(&log)
            .map_err(|error| InputError::Unreadable { path: log.clone(), error })?;
        hlog::read(&text, measure.name())
            .map_err(|message| InputError::Content { path: log, message })?
            .histogram
    } else {
        let times = run.times(measure);
        let times = times.ok_or_else(|| content(format!("it has no {}", measure.name())))?;
        hlog::decode(&times.histogram).map_err(content)?
    };
    Ok((run.label.clone(), Round::of_run(&run, histogram)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;

    #[test]
    fn runs_that_were_not_made_alike_are_told_by_what() {
        let histogram = || hlog::decode(&run(50, 90).times["latency"].histogram).expect("good");
        let same = run(50, 90);
        let mut other = same.clone();
        other.plan.rate = Some(2000.0);
        other.plan.arrivals = Some("poisson".to_owned());
        other.plan.connections = 8;
        other.plan.streams = 3;
        other.plan.duration_seconds = 7.0;
        other.plan.warmup_seconds = 0.5;
        other.plan.protocol = "HTTP/2".to_owned();
        let rounds = [&same, &same, &other].map(|run| Round::of_run(run, histogram()));
        assert_eq!(differences(rounds[..2].iter()), Vec::<String>::new());
        let expected = [
            "protocol (HTTP/1.1; HTTP/2)",
            "rate (1000/s; 2000/s)",
            "arrivals (constant; poisson)",
            "connections (64; 8)",
            "streams (1; 3)",
            "duration (10 s; 7 s)",
            "warm-up (1 s; 0.5 s)",
        ];
        assert_eq!(differences(rounds.iter()), expected);
    }

    #[test]
    fn rounds_are_put_together_by_label_from_all_kinds_of_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let result = run(5000, 2_000_000);
        let histogram = hlog::decode(&result.times["latency"].histogram).expect("good");
        fs::create_dir_all(path("rounds/1")).expect("a folder");
        fs::write(path("rounds/1/run.json"), folder::to_json(&result)).expect("written");
        fs::write(path("b.hgrm"), hgrm::write(&histogram)).expect("written");
        let row = format!("0.0,1.0,2.0,{}\n", hlog::encode(&histogram));
        fs::write(path("c.hlog"), row).expect("written");
        let show = |name: &str| path(name).display().to_string();
        let arguments = [
            format!("x={}", show("rounds")),
            format!("x={}", show("rounds/1")),
            show("rounds/1/run.json"),
            show("b.hgrm"),
            show("c.hlog"),
        ];
        let groups = read(&arguments, Measure::Latency).expect("good");
        let seen: Vec<_> =
            groups.iter().map(|group| (group.label.as_str(), group.rounds.len())).collect();
        assert_eq!(seen, [("x", 2), ("a run", 1), ("b", 1), ("c", 1)]);
        for round in groups.iter().flat_map(|group| &group.rounds) {
            assert_eq!(round.count, 5000);
            assert!((round.at(0.99) / 1.98e6 - 1.0).abs() < 0.01, "{}", round.at(0.99));
        }
        fs::write(path("d.hlog"), "rubbish").expect("written");
        for broken in [show("none"), show("d.hlog"), folder.path().display().to_string()] {
            let error = read(std::slice::from_ref(&broken), Measure::Latency).map(drop);
            let error = error.expect_err(&broken).to_string();
            assert!(error.contains(&*folder.path().to_string_lossy()), "{error}");
        }
    }
}
