//! What Istio's webhook accepts and refuses, by the inputs of its own tests.

use std::collections::BTreeMap;

use ringress::config::{Diagnostic, ResourceSet, Severity, load};
use ringress::validate::{ValidateOptions, validate};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    /// Does Istio accept it?
    valid: bool,
    /// Does Istio warn, too?
    #[serde(default)]
    warning: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Why it is judged otherwise here.
    differs: Option<String>,
    spec: serde_json::Value,
}

/// Everything that is found in an object of a case.
fn judge(case: &Case) -> Vec<Diagnostic> {
    let object = serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": case.kind,
        "metadata": {"name": "foo", "namespace": "bar", "labels": case.labels},
        "spec": case.spec,
    });
    let directory = tempfile::TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("case.json"), object.to_string()).expect("written");
    let loaded = load(&[directory.path().to_owned()]);
    let (mut found, mut resources) = (loaded.notices, Vec::new());
    for document in loaded.files.into_iter().flat_map(|file| file.outcome.expect("JSON")) {
        match document.result {
            Ok(resource) => resources.push(resource),
            Err(errors) => found.extend(errors),
        }
    }
    found.extend(validate(&ResourceSet::from_resources(resources), &ValidateOptions::default()));
    found
}

#[test]
fn what_the_webhook_refuses_is_an_error_and_nothing_else_is() {
    let text = include_str!("../data/istio/validation.yaml");
    let cases: Vec<Case> = serde_saphyr::from_str(text).expect("cases");
    assert!(cases.len() > 350, "{}", cases.len());
    let mut problems = Vec::new();
    for case in &cases {
        let found = judge(case);
        let errors: Vec<String> = found
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .map(|found| format!("{}: {}", found.field, found.message))
            .collect();
        let alike = errors.is_empty() == case.valid;
        match (alike, &case.differs) {
            (false, None) => {
                problems.push(format!("{}: valid: {}, but {errors:?}", case.name, case.valid));
            }
            (true, Some(_)) => problems.push(format!("{}: differs no more", case.name)),
            _ => {}
        }
        // Fields that are not honoured yet are warned about too: they do not count.
        let warned = found
            .iter()
            .any(|found| found.severity == Severity::Warning && found.code.starts_with("IST"));
        if case.warning && !warned {
            problems.push(format!("{}: Istio warns", case.name));
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), cases.len(), problems.join("\n"));
}
