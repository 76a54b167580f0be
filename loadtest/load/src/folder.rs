//! The folder of a run: all that is needed to question its figures later.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::effective::Effective;
use crate::record::Measure;
use crate::result::RunResult;
use crate::run::Outcome;
use crate::{hgrm, hlog, page};

/// The result as JSON.
pub(crate) const RESULT_FILE: &str = "run.json";
/// Every second's histograms.
pub(crate) const LOG_FILE: &str = "run.hlog";

/// Why a folder is not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Results are not mixed and not overwritten.
    #[error("{} is there already and not empty: each run has a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    /// A file.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// JSON of something else.
    #[error("{} is no result of a run: {error}", .path.display())]
    NoResult {
        /// Which.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::File { path, error }
}

/// Makes the folder, or takes one that is empty: before the run, so that its result is not lost.
pub(crate) fn prepare(folder: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut content = fs::read_dir(folder).map_err(at(folder))?;
    match content.next() {
        Some(_) => Err(FolderError::NotEmpty(folder.to_owned())),
        None => Ok(()),
    }
}

/// Writes everything.
pub(crate) fn write(
    folder: &Path,
    outcome: &Outcome,
    scenario: Option<&str>,
    effective: &Effective,
) -> Result<(), FolderError> {
    let run = &outcome.result;
    let put_bytes = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(at(&path))
    };
    let put = |name: &str, text: &str| put_bytes(name, text.as_bytes());
    let tool = &run.tool;
    let comments = [
        format!("{} {} ({})", tool.name, tool.version, tool.revision),
        format!(
            "Values are nanoseconds; Interval_Max is milliseconds. Run: {}",
            one_line(&run.label)
        ),
    ];
    put(LOG_FILE, &hlog::write(outcome.started, &comments, &outcome.rows))?;
    put(RESULT_FILE, &to_json(run))?;
    for measure in [Measure::Latency, Measure::Service] {
        let histogram = outcome.total.times(measure);
        if !histogram.is_empty() {
            put(&format!("{}.hgrm", measure.name()), &hgrm::write(histogram))?;
        }
    }
    if let Some(scenario) = scenario {
        put("scenario.yaml", scenario)?;
    }
    put("effective.yaml", &effective.text)?;
    for (name, body) in &effective.bodies {
        put_bytes(name, body)?;
    }
    put("report.html", &page::of_run(run, scenario.unwrap_or(&effective.text)))
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The document of a run.
pub(crate) fn to_json(run: &RunResult) -> String {
    // Keys are strings and numbers are finite: nothing can fail.
    serde_json::to_string_pretty(run).unwrap_or_default() + "\n"
}

/// Reads a document of a run.
pub(crate) fn read(path: &Path) -> Result<RunResult, FolderError> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    serde_json::from_str(&text)
        .map_err(|error| FolderError::NoResult { path: path.to_owned(), error })
}
