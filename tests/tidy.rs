//! The layers of the crate as `src/lib.rs` shows them, and a few other rules that the compiler does
//! not know: each finding names its file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of `src` without its unit tests and comments.
struct Source {
    /// Path from `src`, `proxy/exchange.rs`.
    path: String,
    text: String,
    /// Lines with what was removed left empty.
    code: Vec<String>,
}

impl Source {
    fn new(path: String, text: String) -> Source {
        let is_tests = path.ends_with("tests.rs");
        let mut in_tests = is_tests;
        let lines = text.lines().map(|line| {
            // Unit tests stand at the end of a file.
            in_tests |= line == "#[cfg(test)]";
            match line.split_once("//") {
                _ if in_tests => String::new(),
                Some((code, _)) if !code.ends_with(':') => code.to_owned(),
                _ => line.to_owned(),
            }
        });
        let code = lines.collect();
        Source { path, text, code }
    }

    /// The module of the first level that it belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Lines of code with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below src").display().to_string();
                let text = std::fs::read_to_string(&path).expect("readable");
                found.push(Source::new(name, text));
            }
        }
    }
    assert!(found.len() > 50, "there are sources");
    found
}

/// The rows of the table in `src/lib.rs`: which layer each module is in.
fn layers() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(root().join("lib.rs")).expect("readable");
    let rows = text.lines().filter(|line| line.starts_with("//! |") && line.contains("[`"));
    let mut layers = BTreeMap::new();
    for (layer, row) in rows.enumerate() {
        for part in row.split("[`").skip(1) {
            let name = part.split('`').next().unwrap_or_default();
            layers.insert(name.to_owned(), layer);
        }
    }
    assert!(layers.len() > 15, "the table was read: {layers:?}");
    layers
}

/// The modules of this crate that a line names.
fn named(line: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut names = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(identifier(rest)),
            Some(list) => {
                names.extend(list.split([',', '}']).map(|part| identifier(part.trim())));
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Where a file names a module of a later layer, or of its own layer in a circle.
fn layer_violations(sources: &[Source], layers: &BTreeMap<String, usize>) -> Vec<String> {
    let mut found = Vec::new();
    // Which modules of its own layer a module names, with the first place.
    let mut beside: BTreeMap<(String, String), String> = BTreeMap::new();
    for source in sources {
        let module = source.module().to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(own) = layers.get(&module) else {
            found.push(format!("src/{}:1: `{module}` is not in the table of lib.rs", source.path));
            continue;
        };
        for (number, line) in source.lines() {
            for name in named(line) {
                let place = format!("src/{}:{number}", source.path);
                match layers.get(&name) {
                    _ if name == module => {}
                    Some(other) if other > own => {
                        found.push(format!("{place}: `{module}` names `{name}`, a later layer"));
                    }
                    Some(other) if other == own => {
                        beside.entry((module.clone(), name)).or_insert(place);
                    }
                    _ => {}
                }
            }
        }
    }
    let top = layers.values().max();
    for ((one, other), place) in &beside {
        // The command line starts the server, which takes the command line's options.
        if layers.get(one) != top && beside.contains_key(&(other.clone(), one.clone())) {
            found.push(format!("{place}: `{one}` and `{other}` name each other"));
        }
    }
    found
}

/// Crates that only some places may name.
const CONFINED: &[(&str, &[&str])] = &[
    ("monoio", &["net/", "cli/demo.rs"]),
    ("monoio_http", &["cli/demo.rs"]),
    ("io_uring", &["net/"]),
    ("httparse", &["http1/"]),
    ("rustls", &["tls/"]),
    ("h2", &["http2/"]),
    ("x509_parser", &["tls/"]),
    ("granit_parser", &["config/"]),
    ("serde", &["config/", "admin/"]),
    ("serde_json", &["config/diagnostic.rs", "explain/", "admin/", "cli/"]),
    ("axum", &["admin/"]),
    ("tracing_subscriber", &["server/process_log.rs"]),
    ("tikv_jemalloc_sys", &["admin/memory.rs"]),
    ("futures_core", &["admin/"]),
    ("hickory_resolver", &["control/dns/lookup.rs"]),
    ("notify", &["control/", "server.rs"]),
    ("clap", &["cli.rs", "cli/"]),
    ("opentelemetry_proto", &["trace/otlp.rs"]),
    ("prost", &["trace/otlp.rs"]),
    ("hyper", &["trace/"]),
    ("ratatui", &["cli/top"]),
];

fn confinement_violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.lines() {
            for (name, places) in CONFINED {
                let names = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|letter| {
                        letter.is_alphanumeric() || letter == '_' || letter == ':'
                    })
                });
                if names && !places.iter().any(|place| source.path.starts_with(place)) {
                    let place = format!("src/{}:{number}", source.path);
                    found.push(format!("{place}: `{name}` belongs to {}", places.join(", ")));
                }
            }
        }
    }
    found
}

fn unwraps(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.lines().filter(|(_, line)| line.contains(".unwrap()")) {
            found.push(format!("src/{}:{number}: {}", source.path, line.trim()));
        }
    }
    found
}

fn without_head_comment(sources: &[Source]) -> Vec<String> {
    let bare = sources
        .iter()
        .filter(|source| !source.path.ends_with("tests.rs") && !source.text.starts_with("//! "));
    bare.map(|source| format!("src/{}:1: no comment says what lives here", source.path)).collect()
}

#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn modules_name_only_what_stands_before_them() {
    none(layer_violations(&sources(), &layers()));
}

#[test]
fn crates_stay_where_they_belong() {
    none(confinement_violations(&sources()));
}

#[test]
fn nothing_unwraps_outside_of_tests() {
    none(unwraps(&sources()));
}

#[test]
fn every_file_says_what_it_is() {
    none(without_head_comment(&sources()));
}

#[test]
fn the_rules_find_what_breaks_them() {
    let source = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let layers = layers();
    let bad = [
        source("router/mod.rs", "//! x\nuse crate::http::Head;\nuse crate::{ids, config::Node};\n"),
        source("nowhere.rs", "//! x\n"),
    ];
    let found = layer_violations(&bad, &layers);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("src/router/mod.rs:3: `router` names `config`"), "{found:?}");
    let circle = [
        source("net/a.rs", "use crate::metrics::A;\n"),
        source("metrics/a.rs", "use crate::net::A;\n"),
    ];
    assert_eq!(layer_violations(&circle, &layers).len(), 2);
    let good = source(
        "proxy/a.rs",
        "//! `crate::config`\n// crate::config\nfn f() {} // .unwrap()\n#[cfg(test)]\n\
         mod tests { use crate::config::X; fn f() { g().unwrap(); } }\n",
    );
    assert_eq!(layer_violations(&[good], &layers), Vec::<String>::new());
    let bad = source("proxy/a.rs", "fn f() {\n    monoio::spawn(g().unwrap());\n}\n");
    assert_eq!(confinement_violations(std::slice::from_ref(&bad)).len(), 1);
    assert_eq!(unwraps(std::slice::from_ref(&bad)).len(), 1);
    assert_eq!(without_head_comment(&[bad]).len(), 1);
    let other = source("proxy/a.rs", "use not_monoio::x;\nuse crate::monoio::x;\n");
    assert_eq!(confinement_violations(&[other]), Vec::<String>::new());
}
