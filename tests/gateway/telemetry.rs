//! Telemetry resources of the running gateway: the access log is turned on, filtered and turned off.

use crate::support::Gateway;
use crate::support::gateway::wait_until;
use crate::support::manifests::any_host;
use crate::support::raw::Raw;

fn telemetry(rule: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: log, namespace: \
         istio-system}}\nspec: {{accessLogging: [{rule}]}}\n"
    )
}

fn routes() -> String {
    any_host(
        "  - match: [{uri: {prefix: /broken}}]\n    directResponse: {status: 500}\n  \
         - directResponse: {status: 404}\n",
    )
}

fn get(gateway: &Gateway, path: &str) -> u16 {
    let mut raw = Raw::connect(gateway.address);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\nConnection: close\r\n\r\n"));
    raw.response().status
}

#[test]
fn a_telemetry_turns_the_log_on_filters_it_and_turns_it_off() {
    let routes = routes();
    let arguments = ["--access-log-format-string", "line %REQ(:PATH)%"];
    let gateway = Gateway::start_with(&[("routes.yaml", &routes)], &arguments);
    // The default: no log.
    assert_eq!(get(&gateway, "/1"), 404);
    let apply = |rule: &str| {
        let generation = gateway.generation();
        gateway.write("telemetry.yaml", &telemetry(rule));
        gateway.wait_for_generation(generation + 1);
    };
    apply("{providers: [{name: envoy}]}");
    assert_eq!(get(&gateway, "/2"), 404);
    gateway.wait_for_line("line /2");
    apply("{providers: [{name: envoy}], filter: {expression: response.code >= 500}}");
    assert_eq!((get(&gateway, "/3"), get(&gateway, "/broken")), (404, 500));
    gateway.wait_for_line("line /broken");
    apply("{disabled: true}");
    assert_eq!(get(&gateway, "/broken/4"), 500);
    // Another mode than that of a gateway says nothing: again the default, which is no log.
    apply("{match: {mode: SERVER}, providers: [{name: envoy}]}");
    assert_eq!(get(&gateway, "/broken/5"), 500);
    apply("{providers: [{name: envoy}]}");
    assert_eq!(get(&gateway, "/6"), 404);
    gateway.wait_for_line("line /6");
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("line ")).collect();
    assert_eq!(lines, ["/2", "/broken", "/6"]);
}

#[test]
fn a_telemetry_stands_over_the_command_line() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let rule = telemetry("{filter: {expression: \"request.path == '/b'\"}}");
    let gateway = Gateway::start_with(
        &[("routes.yaml", &routes()), ("telemetry.yaml", &rule)],
        &[
            "--access-log",
            &path,
            "--access-log-format-string",
            "%REQ(:PATH)%",
            "--access-log-filter",
            "response.code == 500",
            "--workers",
            "1",
        ],
    );
    for path in ["/broken", "/a", "/b"] {
        get(&gateway, path);
    }
    let mut text = String::new();
    wait_until("the line", || {
        text = std::fs::read_to_string(log.path()).expect("readable");
        !text.is_empty()
    });
    assert_eq!(text, "/b\n");
    // Without it what the command line says is in force again.
    let generation = gateway.generation();
    gateway.remove("telemetry.yaml");
    gateway.wait_for_generation(generation + 1);
    for path in ["/b", "/broken"] {
        get(&gateway, path);
    }
    wait_until("the other line", || {
        text = std::fs::read_to_string(log.path()).expect("readable");
        text.lines().count() > 1
    });
    assert_eq!(text, "/b\n/broken\n");
}

#[test]
fn a_telemetry_that_is_wrong_is_refused_alone() {
    let rule = telemetry("{filter: {expression: response.cod >= 500}}");
    let gateway = Gateway::start_with(
        &[("routes.yaml", &routes()), ("telemetry.yaml", &rule)],
        &["--skip-invalid"],
    );
    assert_eq!(get(&gateway, "/"), 404);
    let log = gateway.log();
    assert!(log.contains("`response.cod` is not supported"), "{log}");
}
