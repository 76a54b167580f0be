//! Istio's own examples for its analyzers: what is marked there as wrong is found here, and nothing
//! else of its kind.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ResourceSet, ValidateOptions, validate};
use crate::config::load;

/// The objects that get a code for a field (any, when empty) in a file.
fn hit(file: &str, code: &str, field: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio/analyzers").join(file);
    let loaded = load(&[path]);
    let documents = loaded.files.into_iter().flat_map(|file| file.outcome.expect("YAML"));
    let set = ResourceSet::from_resources(documents.filter_map(|document| document.result.ok()));
    validate(&set, &ValidateOptions::default())
        .into_iter()
        .filter(|found| found.code == code && found.field.ends_with(field))
        .filter_map(|found| found.resource)
        .map(|key| format!("{}/{}", key.namespace, key.name))
        .collect()
}

#[track_caller]
fn assert_hit(file: &str, code: &str, field: &str, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(hit(file, code, field), expected, "{file} {code}");
}

#[test]
fn gateways_that_do_not_exist() {
    assert_hit("virtualservice_gateways.yaml", "IST0101", "", &["default/httpbin-bogus"]);
}

#[test]
fn hosts_that_no_gateway_has() {
    for file in [
        "virtualservice_host_not_found_gateway.yaml",
        "virtualservice_host_not_found_gateway_beta.yaml",
    ] {
        let expected = [
            "default/testing-service-02-test-01",
            "default/testing-service-02-test-02",
            "default/testing-service-03-test-04",
        ];
        assert_hit(file, "IST0132", "", &expected);
    }
    for file in [
        "virtualservice_host_not_found_gateway_with_ns_prefix.yaml",
        "virtualservice_host_not_found_gateway_with_ns_prefix_beta.yaml",
    ] {
        assert_hit(file, "IST0132", "", &["default/testing-service-01-test-01"]);
    }
}

#[test]
fn destinations_that_do_not_exist() {
    let file = "virtualservice_destinationhosts.yaml";
    let expected = [
        "default/reviews-bogushost",
        "default/reviews-bookinfo-other",
        "default/reviews-mirror-bogushost",
        "istio-system/cross-namespace-details",
    ];
    assert_hit(file, "IST0101", "host", &expected);
    assert_hit(file, "IST0101", "port.number", &["default/reviews-bogusport"]);
    assert_hit(file, "IST0112", "", &["default/reviews-2port-missing"]);
}

#[test]
fn subsets_that_do_not_exist() {
    let file = "virtualservice_destinationrules.yaml";
    // There is no service in the file, and the subset of an unknown host is not looked for.
    let expected = [
        "default/reviews",
        "default/reviews-bogussubset",
        "default/reviews-fqdn",
        "default/reviews-mirror",
        "default/reviews-mirror-bogussubset",
    ];
    assert_hit(file, "IST0101", "host", &expected);
    assert_hit("destinationrule-with-fake-host.yaml", "IST0174", "", &["default/fake-host"]);
}

#[test]
fn gateways_that_conflict() {
    for file in ["conflicting-gateways.yaml", "conflicting-gateways-multiple-ports.yaml"] {
        assert_hit(file, "IST0145", "", &["default/beta"]);
    }
    assert_hit("conflicting-gateways-invalid-port.yaml", "IST0145", "", &[]);
}

#[test]
fn rules_that_are_never_reached() {
    let expected = [
        "default/duplicate-empty-tcp",
        "default/duplicate-match",
        "default/duplicate-tcp-match",
        "foo/sample-foo-cluster01",
        "none/tls-routing",
    ];
    assert_hit("virtualservice_dupmatches.yaml", "IST0130", "", &expected);
    let expected = [
        "default/almost-duplicate-match",
        "default/almost-duplicate-tcp-match",
        "none/tls-routing-almostmatch",
    ];
    assert_hit("virtualservice_dupmatches.yaml", "IST0131", "", &expected);
}

#[test]
fn matches_that_overlap() {
    let expected = [
        "default/non-method-get",
        "default/overlapping-in-single-match",
        "default/overlapping-in-two-matches",
        "default/overlapping-mathes-with-different-methods",
        "default/uri-with-prefix-exact",
    ];
    assert_hit("virtualservice_overlappingmatches.yaml", "IST0131", "", &expected);
    assert_hit("virtualservice_overlappingmatches.yaml", "IST0130", "", &[]);
}
