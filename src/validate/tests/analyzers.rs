//! Istio's own examples for its analyzers: what is found in each file is pinned, and compared with
//! what Istio's test of the analyzers expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Diagnostic, ResourceSet, ValidateOptions, validate};
use crate::config::load;

/// What `analyzers.expected` has about one file.
#[derive(Debug, Default)]
struct Section {
    /// `with`, the gateway that is looked for.
    with: Option<String>,
    /// What Istio finds: `CODE KIND NAMESPACE/NAME`, and why it is not found here.
    istio: Vec<(String, Option<String>)>,
    /// Why more is found here than Istio's test expects.
    notes: Vec<String>,
    /// What is found here.
    found: Vec<String>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio")
}

/// The comment at the head of the file, and its sections.
fn expected() -> (String, BTreeMap<String, Section>) {
    let text = std::fs::read_to_string(data().join("analyzers.expected")).expect("the expected");
    let (mut head, mut sections, mut current) = (String::new(), BTreeMap::new(), None);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.insert(name.to_owned(), Section::default());
            current = Some(name.to_owned());
            continue;
        }
        let Some(section) = current.as_ref().and_then(|name| sections.get_mut(name)) else {
            head.push_str(line);
            head.push('\n');
            continue;
        };
        match line.split_once(' ') {
            Some(("with", rest)) => section.with = Some(rest.to_owned()),
            Some(("istio", rest)) => {
                let (what, reason) = match rest.split_once(" -- ") {
                    Some((what, reason)) => (what, Some(reason.to_owned())),
                    None => (rest, None),
                };
                section.istio.push((what.to_owned(), reason));
            }
            Some(("note", rest)) => section.notes.push(rest.to_owned()),
            Some(("found", rest)) => section.found.push(rest.to_owned()),
            _ => assert!(line.is_empty(), "{line}"),
        }
    }
    (head.trim_end().to_owned(), sections)
}

/// Everything that is found in a file, as `check` does.
fn findings(file: &str, with: Option<&str>) -> Vec<Diagnostic> {
    let mut options = ValidateOptions::default();
    for setting in with.unwrap_or_default().split(' ').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("labels", pair)) => {
                let (key, value) = pair.split_once('=').expect("key=value");
                options.labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            }
            Some(("namespace", name)) => options.namespace = name.to_owned(),
            _ => panic!("{setting}"),
        }
    }
    let loaded = load(&[data().join("analyzers").join(file)]);
    let mut found = loaded.notices;
    let mut resources = Vec::new();
    for document in loaded.files.into_iter().flat_map(|file| file.outcome.expect("YAML")) {
        match document.result {
            Ok(resource) => resources.push(resource),
            Err(errors) => found.extend(errors),
        }
    }
    found.extend(validate(&ResourceSet::from_resources(resources), &options));
    found
}

/// A line of `found`; without the severity and place it is what Istio's lines have.
fn lines(found: &[Diagnostic]) -> Vec<String> {
    let mut lines: Vec<(usize, String)> = found
        .iter()
        .map(|found| {
            let position = found.place.as_ref().map_or_else(Default::default, |place| {
                (place.position.line, place.position.column)
            });
            let object = found.resource.as_ref().map(ToString::to_string).unwrap_or_default();
            let severity = found.severity.as_str();
            let (line, column) = position;
            let text =
                format!("{} {severity} {line}:{column} {object} {}", found.code, found.field);
            (line, text.trim_end().to_owned())
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// `CODE KIND NAMESPACE/NAME` of a line of `found`.
fn identity(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        [code, _, _, kind, name, ..] => format!("{code} {kind} {name}"),
        _ => line.to_owned(),
    }
}

#[test]
fn the_examples_of_istio_get_what_is_expected() {
    let (head, mut sections) = expected();
    let mut files: Vec<String> = std::fs::read_dir(data().join("analyzers"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert!(files.len() > 50, "{}", files.len());
    let write = std::env::var_os("RINGRESS_WRITE_PAGES").is_some();
    let mut problems = Vec::new();
    for file in &files {
        let section = sections.entry(file.clone()).or_default();
        let found = lines(&findings(file, section.with.as_deref()));
        if write {
            section.found.clone_from(&found);
        }
        for line in found.iter().filter(|line| !section.found.contains(line)) {
            problems.push(format!("{file}: found {line}"));
        }
        for line in section.found.iter().filter(|line| !found.contains(line)) {
            problems.push(format!("{file}: not found {line}"));
        }
        for (what, reason) in &section.istio {
            let here = found.iter().any(|line| identity(line) == *what);
            match (here, reason) {
                (false, None) => problems.push(format!("{file}: Istio finds {what}")),
                (true, Some(_)) => {
                    problems.push(format!("{file}: a reason, but found: {what}"));
                }
                _ => {}
            }
        }
    }
    for name in sections.keys().filter(|name| !files.contains(name)) {
        problems.push(format!("{name}: no such file"));
    }
    if write {
        let mut text = head;
        text.push('\n');
        for (name, section) in &sections {
            text.push_str(&format!("\n[{name}]\n"));
            section.with.iter().for_each(|with| text.push_str(&format!("with {with}\n")));
            for (what, reason) in &section.istio {
                let reason = reason.as_ref().map(|reason| format!(" -- {reason}"));
                text.push_str(&format!("istio {what}{}\n", reason.unwrap_or_default()));
            }
            section.notes.iter().for_each(|note| text.push_str(&format!("note {note}\n")));
            section.found.iter().for_each(|line| text.push_str(&format!("found {line}\n")));
        }
        std::fs::write(data().join("analyzers.expected"), text).expect("written");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
