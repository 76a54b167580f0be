//! What a figure depends on and a reader must know: machine, kernel, revision.

use std::fs;
use std::process::Command;

/// The processor's name and the number of cores.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{name}, {cores} cores")
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The revision of the source tree, with a mark when it has changes that are not committed.
pub(crate) fn revision() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(args)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short", "HEAD"]) {
        None => "unknown".to_owned(),
        Some(head) => {
            let changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
            format!("{head}{}", if changed { " with uncommitted changes" } else { "" })
        }
    }
}
