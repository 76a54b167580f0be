//! `ringress explain` as a person sees it, by manifests and by a running gateway. That it answers what
//! the gateway does is shown by the conformance cases, which go through both (`routing`).

use crate::support::Gateway;
use crate::support::gateway::{free_port, ringress};
use crate::support::manifests::{self, HELLO};
use crate::support::raw::Raw;

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
        (&["GET ftp://hello.com/"][..], "`ftp` is not served"),
        (&["GET https://hello.com/"], "opens a port that takes HTTPS"),
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

/// The answer of a running gateway.
fn live(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = gateway.admin.to_string();
    let output = ringress(&[&["explain", "--live", &admin], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn start(arguments: &[&str]) -> Gateway {
    let service = manifests::hello_service(&[([10, 0, 0, 1], 8080).into()]);
    Gateway::start_with(
        &[("hello.yaml", HELLO), ("rules.yaml", RULES), ("service.yaml", &service)],
        arguments,
    )
}

#[test]
fn a_running_gateway_tells_what_it_has_in_force() {
    let gateway = start(&["--no-watch"]);
    let arguments = ["GET http://hello.com/a?q", "-H", "X-User: jason"];
    let (code, text, errors) = live(&gateway, &arguments);
    assert_eq!(code, Some(0), "{errors}");
    let listener = format!("listener      {} of Gateway default/hello-gateway (", gateway.address);
    for part in [
        "generation    1\n",
        &listener,
        "route `beta` of default/a-rules: matches\n",
        "timeout       3000 ms\n",
        "GET /b?q HTTP/1.1\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // The file is another, but nobody has read it.
    gateway.write("rules.yaml", &RULES.replace("timeout: 3s", "timeout: 7s"));
    let (_, still, _) = live(&gateway, &arguments);
    assert!(still.contains("timeout       3000 ms\n"), "{still}");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_generation(2);
    crate::support::gateway::wait_until("it explains by the new table", || {
        let (_, text, _) = live(&gateway, &arguments);
        text.contains("generation    2\n") && text.contains("timeout       7000 ms\n")
    });
}

#[test]
fn both_print_json() {
    let gateway = start(&[]);
    let (_, text, _) = live(&gateway, &["http://hello.com/old", "--output", "json"]);
    let of_gateway: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(of_gateway["generation"], 1);
    let (_, text, _) = explain(&["http://hello.com/old", "--output", "json"]);
    let of_files: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(of_files["reply"]["location"], "http://hello.com/new");
    for part in ["reply", "routes"] {
        assert_eq!(of_gateway[part], of_files[part], "{part}");
    }
}

#[test]
fn a_question_that_a_gateway_cannot_answer_is_an_error() {
    let gateway = start(&[]);
    let (code, _, errors) = live(&gateway, &["GET https://hello.com/"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("opens a port that takes HTTPS"), "{errors}");
    let nobody = format!("127.0.0.1:{}", free_port());
    let output = ringress(&["explain", "--live", &nobody, "http://hello.com/"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("cannot ask the gateway at 127.0.0.1:"), "{errors}");
    // The port of the gateway instead of its admin port.
    let wrong = gateway.address.to_string();
    let output = ringress(&["explain", "--live", &wrong, "http://hello.com/"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("no admin port"), "{errors}");
    // What `--live` makes no use of is refused, not ignored.
    let (code, _, errors) = live(&gateway, &["http://hello.com/", "--namespace", "x"]);
    assert_eq!(code, Some(2), "{errors}");
    let (code, _, errors) = live(&gateway, &["/etc", "http://hello.com/"]);
    assert_eq!(code, Some(2), "{errors}");
}

/// Ask the admin page itself.
fn post(gateway: &Gateway, page: &str, body: &str) -> (u16, String) {
    let mut raw = Raw::connect(gateway.admin);
    raw.send(format!(
        "POST {page} HTTP/1.1\r\nHost: admin\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let response = raw.response();
    (response.status, String::from_utf8(response.body).expect("text"))
}

#[test]
fn the_page_takes_what_a_person_types_and_bounds_it() {
    let gateway = start(&[]);
    let line = "GET http://hello.com/a -H 'x-user: jason'";
    let (status, text) = post(&gateway, "/explain", line);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("route `beta` of default/a-rules: matches\n"), "{text}");
    assert_eq!(post(&gateway, "/explain", "GET http://hello.com/a\nx-user: jason"), (200, text));
    let (status, text) = post(&gateway, "/explain?output=json&client=198.51.100.7", line);
    assert_eq!(status, 200);
    assert!(text.contains("198.51.100.7"), "{text}");
    let huge = format!("GET http://hello.com/ -H 'x: {}'", "a".repeat(200_000));
    for (page, body, status, part) in [
        ("/explain", "", 400, "method and a URL"),
        ("/explain", "GET http://hello.com/ -H 'x", 400, "does not end"),
        ("/explain?output=yaml", line, 400, "output"),
        ("/explain?colour=red", line, 400, "colour"),
        ("/explain", &huge, 413, ""),
    ] {
        let (got, text) = post(&gateway, page, body);
        assert_eq!(got, status, "{page}: {text}");
        assert!(text.contains(part), "{page}: {text}");
    }
    let (status, text) = gateway.page("/explain");
    assert_eq!(status, 200);
    assert!(text.contains("curl -d"), "{text}");
    // And the gateway goes on.
    assert_eq!(post(&gateway, "/explain", line).0, 200);
}

#[test]
fn a_route_tells_what_each_destination_gets_and_answers() {
    let rules = RULES.replace(
        "{destination: {host: nobody}, weight: 1}",
        "{destination: {host: hello, port: \
                  {number: 80}}, weight: 1, headers: {request: {set: {x-part: second}}, \
                  response: {add: {x-from: second}, remove: [x-old]}}}",
    );
    let directory = tempfile::TempDir::new().expect("a directory");
    let service = manifests::hello_service(&[([10, 0, 0, 1], 8080).into()]);
    for (name, text) in [("hello.yaml", HELLO), ("rules.yaml", &rules), ("service.yaml", &service)]
    {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let path = directory.path().display().to_string();
    let request = ["GET http://hello.com/a", "-H", "x-user: jason", "--output", "json"];
    let output = ringress(&[&["explain", path.as_str()], &request[..]].concat());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let [first, second] = answer["destinations"].as_array().expect("a list").as_slice() else {
        panic!("{answer:#}");
    };
    assert_eq!((&first["percent"], &second["percent"]), (&75.0.into(), &25.0.into()));
    let head = |of: &serde_json::Value| of["request"].as_str().expect("a head").to_owned();
    assert!(!head(first).contains("x-part") && head(second).contains("x-part: second\r\n"));
    assert_eq!(first["response"], serde_json::json!({"add": [], "remove": []}));
    assert_eq!(
        second["response"],
        serde_json::json!({"add": ["x-from: second"], "remove": ["x-old"]})
    );
    assert!(answer["reply"].is_null(), "{answer:#}");
}

#[test]
fn a_port_is_meant_as_gateways_write_it() {
    let both = format!(
        "{}  - port: {{number: 81, name: more, protocol: HTTP}}\n    hosts: [\"*\"]\n---\n{}",
        manifests::GATEWAY,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: more}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gateway]\n  http:\n  - match: [{port: 81}]\n    \
         directResponse: {status: 281}\n"
    );
    let bound = free_port();
    let gateway =
        Gateway::start_with(&[("both.yaml", &both)], &[&format!("--port-map=81={bound}")]);
    for (arguments, status) in [
        (&["http://a.com:81/"][..], 281),
        (&["http://a.com/"], 404),
        (&["http://a.com/", "--port", "81"], 281),
        (&[&format!("http://a.com:{bound}/")], 281),
    ] {
        let (code, text, errors) = live(&gateway, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        assert!(text.contains(&format!("answered here {status}\n")), "{arguments:?}: {text}");
    }
    let (code, _, errors) = live(&gateway, &["http://a.com:82/"]);
    assert_eq!(code, Some(1));
    let expected = format!("81 (127.0.0.1:{bound})");
    assert!(errors.contains("nothing listens on port 82; open are "), "{errors}");
    assert!(errors.contains(&expected), "{errors}");
}
