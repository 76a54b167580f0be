//! Puts the git revision that the tool is built from into it: a result names it.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn main() {
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    println!("cargo::rustc-env=LOAD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    for file in ["HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
