//! SARIF 2.1.0: the form in which code scanning takes findings.

use std::path::{Component, Path};

use serde_json::{Value, json};

use crate::config::codes::{CODES, Code};
use crate::config::{Diagnostic, Severity};

/// Where the meaning of every code is written.
const HELP_URI: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/findings.md");

/// One run with all findings. Files below `root` are named from it. `fallback` stands for the place
/// of findings that have none: code scanning drops results without one.
pub(super) fn log(findings: &[Diagnostic], root: &Path, fallback: &Path) -> Value {
    let results: Vec<Value> = findings.iter().map(|found| result(found, root, fallback)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "ringress",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": CODES.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {"%SRCROOT%": {"uri": format!("{}/", absolute_uri(root))}},
            "results": results,
        }],
    })
}

fn rule(code: &Code) -> Value {
    json!({
        "id": code.id,
        "name": code.name,
        "shortDescription": {"text": code.meaning},
        "fullDescription": {"text": code.meaning},
        "help": {"text": code.mend},
        "helpUri": HELP_URI,
        "defaultConfiguration": {"level": level(code.severity)},
    })
}

/// SARIF calls what is only good to know a note.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(found: &Diagnostic, root: &Path, fallback: &Path) -> Value {
    let title = found.title();
    let text = match found.mend() {
        Some(help) => format!("{title} (help: {help})"),
        None => title,
    };
    let file = found.place.as_ref().map_or(fallback, |place| place.file.as_path());
    let region = match &found.place {
        Some(place) => json!({
            "startLine": place.position.line.max(1),
            "startColumn": place.position.column.max(1),
            "endColumn": place.end_column(),
        }),
        None => json!({"startLine": 1}),
    };
    let mut location = json!({
        "physicalLocation": {"artifactLocation": artifact(file, root), "region": region},
    });
    let object = found.resource.as_ref().map(ToString::to_string);
    if let Some(object) = &object {
        let name = match found.field.is_empty() {
            true => object.clone(),
            false => format!("{object} {}", found.field),
        };
        location["logicalLocations"] = json!([{"fullyQualifiedName": name}]);
    }
    let mut result = json!({
        "ruleId": found.code,
        "level": level(found.severity),
        "message": {"text": text},
        "locations": [location],
        // The same finding in another line of the file is still the same.
        "partialFingerprints": {
            "ringressFinding/v1":
                format!("{} {} {}", found.code, object.unwrap_or_default(), found.field),
        },
    });
    if let Some(index) = CODES.iter().position(|code| code.id == found.code) {
        result["ruleIndex"] = json!(index);
    }
    result
}

fn artifact(file: &Path, root: &Path) -> Value {
    let absolute = if file.is_absolute() { file.to_owned() } else { root.join(file) };
    let mut plain = std::path::PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    match plain.strip_prefix(root) {
        // The root itself stands for findings about no file.
        Ok(relative) if relative.as_os_str().is_empty() => {
            json!({"uri": ".", "uriBaseId": "%SRCROOT%"})
        }
        Ok(relative) => json!({"uri": encoded(relative), "uriBaseId": "%SRCROOT%"}),
        Err(_) => json!({"uri": absolute_uri(&plain)}),
    }
}

fn absolute_uri(path: &Path) -> String {
    format!("file://{}", encoded(path))
}

/// A path as part of a URI (RFC 3986): with slashes, other bytes than the unreserved in percent form.
fn encoded(path: &Path) -> String {
    let text = path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
    let mut uri = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_root_where_that_is_possible() {
        let root = Path::new("/repo");
        for (file, uri) in [
            ("a/b.yaml", "a/b.yaml"),
            ("./a.yaml", "a.yaml"),
            (".", "."),
            ("x/../a.yaml", "a.yaml"),
            ("/repo/a b#.yaml", "a%20b%23.yaml"),
            ("../a.yaml", "file:///a.yaml"),
            ("/other/ä.yaml", "file:///other/%C3%A4.yaml"),
        ] {
            let artifact = artifact(Path::new(file), root);
            assert_eq!(artifact["uri"], uri, "{file}");
            assert_eq!(artifact["uriBaseId"].is_string(), !uri.starts_with("file:"), "{file}");
        }
    }
}
