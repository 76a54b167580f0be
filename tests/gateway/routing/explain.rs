//! The cases of `tests/conformance` through `ringress explain`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::{Case, Suite};
use crate::support::gateway::ringress;
use crate::support::manifests;

/// The same cases through `ringress explain`, which sends nothing: the same answers of the gateway, the
/// same destination, the same head upstream.
pub(super) fn run(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let suite: Suite = serde_saphyr::from_str(&text).expect("read by the other runner too");
    if !suite.arguments.is_empty() {
        return;
    }
    let names = suite.services.iter().chain(&suite.upstreams);
    let addresses: BTreeMap<&str, SocketAddr> = names
        .enumerate()
        .map(|(index, name)| (name.as_str(), ([127, 0, 0, 1], 20_001 + index as u16).into()))
        .collect();
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut config = suite.manifests.clone();
    for (name, address) in &addresses {
        config = config.replace(&format!("@{name}@"), &address.port().to_string());
    }
    std::fs::write(directory.path().join("manifests.yaml"), config).expect("written");
    for name in &suite.services {
        let service = manifests::service(name, &[addresses[name.as_str()]]);
        std::fs::write(directory.path().join(format!("{name}.yaml")), service).expect("written");
    }
    let folder = directory.path().display().to_string();
    let mut failures = Vec::new();
    for case in suite.cases.iter().filter(|case| !case.request.raw) {
        let asked = &case.request;
        let request = format!("{} http://{}{}", asked.method, asked.host, asked.path);
        let port = asked.port.to_string();
        let mut arguments = vec!["explain", &folder, &request, "--format", "json"];
        arguments.extend(["--client", "127.0.0.1", "--port", &port]);
        let fields: Vec<String> =
            asked.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        arguments.extend(fields.iter().flat_map(|field| ["-H", field.as_str()]));
        let output = ringress(&arguments);
        let problem = match serde_json::from_slice(&output.stdout) {
            Ok(answer) => judge_explained(case, &answer, &addresses),
            Err(_) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        };
        failures.extend(problem.map(|problem| format!("{file}: {}: {problem}", case.name)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn judge_explained(
    case: &Case,
    answer: &serde_json::Value,
    addresses: &BTreeMap<&str, SocketAddr>,
) -> Option<String> {
    let expect = &case.expect;
    let several = expect.shares.keys().chain(&expect.sticky);
    let mut expected: Vec<&str> = several.map(String::as_str).collect();
    expected.extend(expect.upstream.as_deref());
    for name in &expected {
        let address = addresses[name].to_string();
        let mut endpoints = answer["destinations"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|destination| destination["endpoints"].as_array().into_iter().flatten());
        if !endpoints.any(|endpoint| endpoint["address"] == address.as_str()) {
            return Some(format!("no destination at {name}: {answer}"));
        }
    }
    if expected.is_empty() {
        let reply = &answer["reply"];
        let status = expect.explained_status.unwrap_or(expect.status);
        if reply["status"] != status {
            return Some(format!("status {} instead of {status}", reply["status"]));
        }
        let details = expect.details.as_deref();
        if details.is_some_and(|details| reply["details"] != details) {
            return Some(format!("{} instead of {details:?}", reply["details"]));
        }
        return None;
    }
    let head = answer["upstreamRequest"].as_str().unwrap_or_default();
    let target = head.split(' ').nth(1);
    if expect.target.is_some() && expect.target.as_deref() != target {
        return Some(format!("target {target:?} instead of {:?}", expect.target));
    }
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    for (name, value) in &expect.seen {
        if field(name) != Some(value) {
            return Some(format!("{name}: {:?} instead of {value:?}", field(name)));
        }
    }
    expect.unseen.iter().find_map(|name| {
        let value = field(name)?;
        Some(format!("{name}: {value}, which was to be absent"))
    })
}
