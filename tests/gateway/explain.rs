//! `ringress explain` as a person sees it. That it answers what the gateway does is shown by the
//! conformance cases, which go through both (`routing`).

use crate::support::gateway::ringress;
use crate::support::manifests::{self, HELLO};

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-rules}
spec:
  hosts: [hello.com]
  gateways: [hello-gateway]
  http:
  - name: old
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - name: beta
    match: [{uri: {prefix: /a}, headers: {x-user: {exact: jason}}}]
    rewrite: {uri: /b}
    mirror: {host: hello}
    mirrorPercentage: {value: 12.5}
    timeout: 3s
    retries: {attempts: 3, retryOn: '5xx,429', perTryTimeout: 1s}
    fault: {abort: {httpStatus: 500, percentage: {value: 0.5}}}
    route:
    - {destination: {host: hello}, weight: 3}
    - {destination: {host: nobody}, weight: 1}
";

fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::TempDir::new().expect("a directory");
    let service = manifests::hello_service(&[([10, 0, 0, 1], 8080).into()]);
    for (name, text) in [("hello.yaml", HELLO), ("rules.yaml", RULES), ("service.yaml", &service)] {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let path = directory.path().display().to_string();
    let output = ringress(&[&["explain", &path], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn each_step_is_told() {
    let (code, text, _) = explain(&["GET http://hello.com/a?q", "-H", "X-User: jason"]);
    assert_eq!(code, Some(0));
    for part in [
        "listener      0.0.0.0:80 of Gateway default/hello-gateway (",
        "virtual host  hello.com:80 (hello.com)\n",
        "route `old` of default/a-rules: no: uri\n",
        "route `beta` of default/a-rules: matches\n",
        "destination   outbound|80||hello.default.svc.cluster.local (75%)\n",
        "endpoint 10.0.0.1:8080\n",
        "a destination that does not exist (503 NC) (25%)\n",
        "mirror        outbound|80||hello.default.svc.cluster.local (12.5%)\n",
        "timeout       3000 ms\n",
        "retries       3 on 5xx, retriable-status-codes (429); each attempt: 1000 ms\n",
        "faults        0.0% wait 0 ms, 0.5% get 500\n",
        "GET /b?q HTTP/1.1\n",
        "X-User: jason\n",
        "x-envoy-original-path: /a?q\n",
    ] {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part}\n{text}");
    }
}

#[test]
fn answers_of_the_gateway_are_told() {
    let (_, text, _) = explain(&["http://hello.com/old"]);
    assert!(text.contains("answered here 301\n"), "{text}");
    assert!(text.contains("location: http://hello.com/new\n"), "{text}");
    let (_, text, _) = explain(&["http://other.com/"]);
    assert!(text.contains("virtual host  none serves this host\n"), "{text}");
    assert!(text.contains("answered here 404\n") && text.contains("flags: NR\n"), "{text}");
    let (_, text, _) = explain(&["GET hello.com/", "-H", "content-length: x"]);
    assert!(text.contains("answered here 400\n"), "{text}");
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    for (arguments, part) in [
        (&["GET https://hello.com/"][..], "not served yet"),
        (&["GET http://hello.com/ x"], "not a method and a URL"),
        (&["GET http://hello.com/", "-H", "x"], "`name: value`"),
    ] {
        let (code, _, errors) = explain(arguments);
        assert_eq!(code, Some(1), "{arguments:?}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
    let output = ringress(&["explain", "/nowhere", "GET http://hello.com/"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no Gateway"), "{output:?}");
}
