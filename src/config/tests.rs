//! Manifests as people write them, and as they should not.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod schema;

fn load_text(text: &str) -> Loaded {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("written");
    load(&[directory.path().to_owned()])
}

fn errors(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for file in &loaded.files {
        match &file.outcome {
            Err(diagnostic) => found.push(diagnostic.clone()),
            Ok(documents) => {
                for document in documents {
                    if let Err(diagnostics) = &document.result {
                        found.extend(diagnostics.iter().cloned());
                    }
                }
            }
        }
    }
    found
}

fn resources(loaded: Loaded) -> ResourceSet {
    let documents = loaded.files.into_iter().filter_map(|file| file.outcome.ok()).flatten();
    ResourceSet::from_resources(documents.filter_map(|document| document.result.ok()))
}

#[test]
fn the_hello_manifests_load_as_written() {
    let loaded = load_text(include_str!("../../config/hello/gateway.yaml"));
    assert_eq!(errors(&loaded), []);
    let set = resources(loaded);
    let gateway = set.gateways().next().expect("one");
    assert_eq!(gateway.meta.namespace, "default");
    assert_eq!(gateway.spec.servers[0].hosts, ["hello.com"]);
    let routes = set.virtual_services().next().expect("one");
    let destination = routes.spec.http[0].route[0].destination.as_ref().expect("one");
    assert_eq!(destination.host, "hello.default.svc.cluster.local");
    assert_eq!(destination.port.as_ref().map(|port| port.number), Some(80));
}

#[test]
fn mistakes_name_file_line_and_column_and_show_the_line() {
    let cases = [
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
             spec:\n  http:\n  - retires: {attempts: 3}\n",
            (6, 5),
            "unknown field `retires`",
            "did you mean `retries`?",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n\
             spec:\n  servers:\n  - port: {number: many}\n",
            (6, 20),
            "found the string `many`",
            "",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: []\n  ports: []\n",
            (6, 3),
            "duplicate key `ports`",
            "",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
             spec:\n  http:\n  - match: [{uri: {exact: /a, prefix: /b}}]\n",
            (6, 14),
            "only one of `exact`, `prefix`, `regex`",
            "",
        ),
        ("apiVersion: v1\nkind: Service\nspec: {}\n", (1, 1), "without `metadata.name`", ""),
        ("just: text\n", (1, 1), "without `apiVersion` and `kind`", ""),
        ("a: [\n", (2, 1), "not valid YAML", ""),
    ];
    for (text, (line, column), message, help) in cases {
        let loaded = load_text(text);
        let found = errors(&loaded);
        let first = found.first().unwrap_or_else(|| panic!("no error in {text}"));
        let place = first.place.as_ref().expect("a place");
        assert!(first.message.contains(message), "{}", first.message);
        assert!(first.help.as_deref().unwrap_or("").contains(help), "{:?}", first.help);
        if !message.contains("not valid YAML") {
            let position = (place.position.line, place.position.column);
            assert_eq!(position, (line, column), "{message}");
        }
        let shown = first.to_text(false);
        assert!(shown.contains("a.yaml:"), "{shown}");
        let wrong_line = text.lines().nth(place.position.line - 1).unwrap_or("");
        assert!(shown.contains(wrong_line.trim()), "{shown}");
    }
}

#[test]
fn one_bad_document_leaves_the_others() {
    let loaded = load_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: good}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspek: {}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: good}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n",
    );
    let found = errors(&loaded);
    assert_eq!(found.len(), 2);
    assert!(found[0].resource.as_ref().is_some_and(|key| key.name == "bad"));
    assert!(found[1].message.contains("a second Service default/good"), "{}", found[1].message);
    assert!(loaded.notices[0].message.contains("kind Deployment"), "{:?}", loaded.notices);
    assert_eq!(resources(loaded).services().count(), 1);
}

#[test]
fn lists_are_flattened() {
    let loaded = load_text(
        "apiVersion: v1\nkind: List\nitems:\n\
         - {apiVersion: v1, kind: Service, metadata: {name: a}}\n\
         - {apiVersion: v1, kind: Secret, metadata: {name: b}, data: {tls.key: eA==}}\n",
    );
    assert_eq!(errors(&loaded), []);
    let set = resources(loaded);
    assert_eq!((set.services().count(), set.secrets().count()), (1, 1));
    let secret = format!("{:?}", set.secrets().next().expect("one").spec);
    assert!(!secret.contains("eA=="), "{secret}");
}

#[test]
fn istios_order_is_time_name_namespace() {
    let object = |name: &str, namespace: &str, time: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n{}---\n",
            if time.is_empty() {
                String::new()
            } else {
                format!("  creationTimestamp: \"{time}\"\n")
            }
        )
    };
    let text = [
        object("b", "x", "2026-01-01T00:00:00Z"),
        object("c", "a", ""),
        object("a", "z", ""),
        object("z", "a", "2025-01-01T00:00:00Z"),
        object("a", "b", ""),
    ]
    .concat();
    let set = resources(load_text(&text));
    let order: Vec<String> = set
        .services()
        .map(|object| format!("{}/{}", object.meta.namespace, object.meta.name))
        .collect();
    assert_eq!(order, ["b/a", "z/a", "a/c", "a/z", "x/b"]);
}

/// Istio's own samples, copied into the tests.
fn samples(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio").join(folder)
}

#[test]
fn istios_samples_load() {
    let loaded = load(&[samples("samples")]);
    assert!(loaded.files.len() > 30, "the samples are there");
    let problems: Vec<Diagnostic> = errors(&loaded)
        .into_iter()
        // The samples define some objects several times, for one to be applied at a time.
        .filter(|found| found.code != "RNG0006")
        .collect();
    assert_eq!(problems, []);
}

#[test]
fn istios_analyzer_examples_load() {
    let loaded = load(&[samples("analyzers")]);
    assert!(loaded.files.len() > 50, "the examples are there");
    // The examples are apart from each other; some names are used again.
    let problems: Vec<Diagnostic> =
        errors(&loaded).into_iter().filter(|found| found.code != "RNG0006").collect();
    assert_eq!(problems, []);
}

#[test]
fn secrets_are_never_shown() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    for (text, hidden) in [
        ("stringData: {a: 12345678}\n", "12345678"),
        ("data: [topsecret]\n", "topsecret"),
        ("data: {a: eA==, a: topsecret}\n", "topsecret"),
        ("data: {a: \"topsecret*\"}\n", "topsecret"),
        ("data: {a: topsecret}]\n", "topsecret"),
        ("dat: {a: topsecret}\n", "topsecret"),
    ] {
        for found in errors(&load_text(&format!("{secret}{text}"))) {
            let shown = format!("{} {}", found.to_text(false), found.to_json());
            assert!(shown.contains("a.yaml"), "{shown}");
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: \
                {name: s}\n  data: {a: eA==, a: topsecret}\n";
    for found in errors(&load_text(list)) {
        assert!(!found.to_text(false).contains("topsecret"), "{}", found.to_text(false));
    }
}

#[test]
fn protobuf_spellings_are_read() {
    let loaded = load_text(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  \
         host: a\n  traffic_policy: {connection_pool: {tcp: {connect_timeout: 1.5s}}}\n",
    );
    assert_eq!(errors(&loaded), []);
    let set = resources(loaded);
    let rule = set.destination_rules().next().expect("one");
    let place = rule.origin.locate("spec.trafficPolicy.connectionPool.tcp.connectTimeout");
    assert_eq!(place.position, Position { line: 6, column: 61 });
}

#[test]
fn a_misspelt_istio_kind_is_an_error() {
    for (head, help) in [
        ("apiVersion: networking.istio.io/v1\nkind: Gatway\n", "did you mean `Gateway`"),
        ("apiVersion: networking.istio.io/v2\nkind: Gateway\n", "v1beta1"),
    ] {
        let loaded = load_text(&format!("{head}metadata: {{name: a}}\n"));
        let found = errors(&loaded);
        assert!(
            found.first().is_some_and(|f| f.help.as_deref().unwrap_or("").contains(help)),
            "{found:?}"
        );
    }
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\n";
    assert_eq!(errors(&load_text(sidecar)), []);
}

#[test]
fn links_that_loop_are_followed_once() {
    let directory = TempDir::new().expect("a directory");
    let root = directory.path();
    fs::write(root.join("a.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
        .expect("written");
    for name in ["x", "y", "z"] {
        std::os::unix::fs::symlink(root, root.join(name)).expect("linked");
    }
    let loaded = load(&[root.to_owned()]);
    assert_eq!(errors(&loaded), []);
    assert_eq!(resources(loaded).services().count(), 1);
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let loaded = load(&[PathBuf::from("/nonexistent/manifests")]);
    let found = errors(&loaded);
    assert!(found[0].message.contains("/nonexistent/manifests"), "{}", found[0].message);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[ -~\n\t]{0,200}") {
        let _ = errors(&load_text(&text));
    }

    /// A manifest with a piece cut out or put in twice.
    #[test]
    fn mutated_manifests_are_survived(at in 0usize..600, length in 0usize..40, twice in any::<bool>()) {
        let text = include_str!("../../config/hello/gateway.yaml");
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        let changed = match twice {
            true => format!("{}{}", &text[..end], &text[start..]),
            false => format!("{}{}", &text[..start], &text[end..]),
        };
        for found in errors(&load_text(&changed)) {
            prop_assert!(!found.to_text(false).is_empty());
        }
    }
}
