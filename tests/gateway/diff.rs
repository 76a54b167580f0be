//! `ringress diff`: which requests a change of the manifests moves.

use std::path::Path;

use serde_json::Value;

use crate::support::Gateway;
use crate::support::gateway::ringress;
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

/// Routes of `a.com`.
const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: rules}
spec:
  hosts: [a.com]
  gateways: [gateway]
  http:
  - {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /new}}
  - {name: tea, match: [{uri: {prefix: /tea}}], directResponse: {status: 418, body: {string: tea}}}
  - name: parts
    match: [{uri: {prefix: /parts}}]
    route:
    - {destination: {host: one}, weight: 90, headers: {request: {set: {x-part: first}}}}
    - {destination: {host: two}, weight: 10}
  - name: main
    match: [{uri: {prefix: /a}}, {uri: {prefix: /b}, headers: {user-agent: {prefix: curl}}}]
    timeout: 3s
    route: [{destination: {host: one}}]
";

/// A directory with manifests and the requests.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    /// Both sides hold `RULES`, changed by `change` on the new one.
    fn new(change: impl Fn(&str) -> String, requests: &str) -> Files {
        let directory = tempfile::TempDir::new().expect("a directory");
        for (side, rules) in [("old", RULES.to_owned()), ("new", change(RULES))] {
            let path = directory.path().join(side);
            std::fs::create_dir(&path).expect("made");
            let one = service("one", &[([10, 0, 0, 1], 80).into()]);
            let two = service("two", &[([10, 0, 0, 2], 80).into()]);
            for (name, text) in [
                ("gateway.yaml", GATEWAY),
                ("rules.yaml", &rules),
                ("a.yaml", &one),
                ("b.yaml", &two),
            ] {
                std::fs::write(path.join(name), text).expect("written");
            }
        }
        std::fs::write(directory.path().join("requests"), requests).expect("written");
        Files { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn diff(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let requests = self.path("requests");
        let (old, new) = (self.path("old"), self.path("new"));
        let all = [&["diff", &old, &new, "--requests", &requests], arguments].concat();
        let output = ringress(&all);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn json(&self) -> Value {
        let (_, text, errors) = self.diff(&["--output", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
    }
}

/// What differs for `request` after `change`, as (what, old, new).
#[track_caller]
fn changes(request: &str, from: &str, to: &str) -> Vec<(String, String, String)> {
    assert!(RULES.contains(from), "{from}");
    let files = Files::new(|rules| rules.replace(from, to), request);
    let answer = files.json();
    assert_eq!(answer["requests"], 1, "{answer:#}");
    let differences = answer["differences"].as_array().expect("a list");
    assert_eq!(answer["differ"], differences.len(), "{answer:#}");
    let all = differences.iter().flat_map(|group| group["changes"].as_array().expect("a list"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.map(|one| (text(&one["what"]), text(&one["old"]), text(&one["new"]))).collect()
}

fn what(changes: &[(String, String, String)]) -> Vec<&str> {
    changes.iter().map(|(what, ..)| what.as_str()).collect()
}

#[test]
fn the_same_manifests_answer_alike() {
    let requests = "\
# every kind of answer
GET http://a.com/old
GET http://a.com/tea
GET http://a.com/parts
GET http://a.com/a?q -H 'x: y'
GET http://a.com/nowhere
GET http://other.com/
GET http://a.com/%00
";
    let files = Files::new(str::to_owned, requests);
    assert_eq!(files.diff(&[]), (Some(0), "7 requests, 0 differ\n".to_owned(), String::new()));
}

#[test]
fn every_part_of_an_answer_is_compared() {
    let one = "outbound|80||one.default.svc.cluster.local";
    let two = "outbound|80||two.default.svc.cluster.local";
    let told = |parts: [&str; 3]| parts.map(str::to_owned).into();
    let single = |request: &str, from: &str, to: &str| {
        let mut found = changes(request, from, to);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    };

    // Answers of the gateway.
    let found = changes("GET http://a.com/old/x", "uri: /new", "uri: /newer");
    assert_eq!(what(&found), ["answer"], "{found:?}");
    assert_eq!(found[0].2, "301 direct_response to http://a.com/newer");
    let found = single("GET http://a.com/tea", "string: tea", "string: mate");
    assert_eq!(
        found,
        told(["answer", "418 direct_response \"tea\"", "418 direct_response \"mate\""])
    );
    let drink = "directResponse: {status: 418, body: {string: tea}}";
    let hot = format!("{drink}, headers: {{response: {{set: {{x-hot: 'yes'}}}}}}");
    let found = single("GET http://a.com/tea", drink, &hot);
    assert_eq!(found, told(["headers of the answer", "", "x-hot: yes"]));
    let found = changes("GET http://a.com/tea", "prefix: /tea", "prefix: /coffee");
    assert_eq!(found[0].2, "404 NR route_not_found");
    let found = changes("GET http://a.com/a", "hosts: [a.com]", "hosts: [b.com]");
    assert_eq!(
        (found[0].1.as_str(), found[0].2.as_str()),
        ("sent upstream", "404 NR route_not_found")
    );
    assert!(what(&found).contains(&"virtual host"), "{found:?}");
    assert!(!what(&found).contains(&"listener"), "{found:?}");

    // Where it goes.
    let main = "timeout: 3s\n    route: [{destination: {host: one}}]";
    let found = changes("GET http://a.com/a", main, &main.replace("one", "two"));
    assert_eq!(
        found[0],
        told(["destinations", &format!("{one} 100.0%"), &format!("{two} 100.0%")])
    );
    let found = changes("GET http://a.com/a", main, &main.replace("one", "nobody"));
    assert!(found[0].2.starts_with("503 NC cluster_not_found"), "{found:?}");
    let found = single("GET http://a.com/a", "name: main", "name: prime");
    assert_eq!(found, told(["route", "`main` of default/rules", "`prime` of default/rules"]));

    // Weights are compared, not what chance picks; heads by destination.
    let found = single("GET http://a.com/parts", "weight: 90", "weight: 30");
    assert_eq!(
        found,
        told([
            "destinations",
            &format!("{one} 90.0%, {two} 10.0%"),
            &format!("{one} 75.0%, {two} 25.0%")
        ])
    );
    let found = single("GET http://a.com/parts", "x-part: first", "x-part: second");
    let of_one = format!("upstream request, {one}");
    assert_eq!(found, told([of_one.as_str(), "x-part: first", "x-part: second"]));

    // How.
    let with = |policy: &str| format!("{main}\n    {policy}");
    let found = single("GET http://a.com/a", main, &with("retries: {attempts: 5, retryOn: 5xx}"));
    assert_eq!(found.0, "retries");
    assert!(found.2.starts_with("5 on 5xx "), "{found:?}");
    let found = single("GET http://a.com/a", main, &with("mirror: {host: two}"));
    assert_eq!(found, told(["mirrors", "none", &format!("{two} 100.0%")]));
    let found = changes("GET http://a.com/a", "timeout: 3s", "timeout: 4s");
    assert_eq!(what(&found), ["timeout", "upstream request"]);
    let fault = "fault: {delay: {fixedDelay: 2s, percentage: {value: 50}}}";
    assert_eq!(single("GET http://a.com/a", main, &with(fault)).0, "fault");
    let abort = "fault: {abort: {httpStatus: 500, percentage: {value: 100}}}";
    assert_eq!(
        changes("GET http://a.com/a", main, &with(abort))[0].2,
        "500 FI fault_filter_abort \"fault filter abort\""
    );
    let found = changes("GET http://a.com/a", main, &with("rewrite: {uri: /z}"));
    assert_eq!(what(&found), ["upstream request"]);
    assert!(found[0].1.contains("GET /a HTTP/1.1") && found[0].2.contains("GET /z HTTP/1.1"));
    let edits = "headers: {response: {add: {x-new: 'yes'}, remove: [x-old]}}";
    let found = single("GET http://a.com/a", main, &with(edits));
    assert_eq!(found, told(["response", "", "add x-new: yes\ndrop x-old"]));
}

#[test]
fn what_is_drawn_for_each_request_is_no_difference() {
    let sticky = "\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one}
spec:
  host: one
  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: stick, ttl: 60s}}}}
";
    let copies = "headers: {request: {set: {x-copy: '%REQ(x-request-id)% %START_TIME% \
                  %DOWNSTREAM_LOCAL_ADDRESS%'}}}\n    timeout: 3s";
    let old = format!("{}{sticky}", RULES.replace("timeout: 3s", copies));
    let files = Files::new(
        // Other weights: chance is asked elsewhere.
        |_| old.replace("name: main", "name: prime").replace("weight: 90", "weight: 5"),
        "GET http://a.com/a\nGET http://a.com/parts\n",
    );
    std::fs::write(files.path("old/rules.yaml"), &old).expect("written");
    let answer = files.json();
    let differences = answer["differences"].as_array().expect("a list");
    let told: Vec<&str> = differences
        .iter()
        .flat_map(|group| group["changes"].as_array().expect("a list"))
        .map(|change| change["what"].as_str().expect("text"))
        .collect();
    assert_eq!(told, ["route", "destinations"], "{answer:#}");
}

#[test]
fn the_report_names_requests_and_counts_them() {
    let requests = "\
GET http://a.com/a -H 'x-user: jason'
GET http://a.com/tea
GET http://a.com/a -H 'x-user: jason'
nonsense in a line
GET http://a.com/a -H 'x-user: paula'
GET ftp://a.com/
";
    let files = Files::new(|rules| rules.replace("name: main", "name: prime"), requests);
    let (code, text, errors) = files.diff(&[]);
    let path = files.path("requests");
    assert_eq!(code, Some(1));
    assert_eq!(
        text,
        format!(
            "GET http://a.com/a  (2 requests, 3 lines, {path}:1)\n    x-user: jason\n  route\n    \
             - `main` of default/rules\n    + `prime` of default/rules\n\n\
             3 requests (4 lines), 2 differ; 2 lines cannot be read\n"
        )
    );
    assert_eq!(
        errors,
        format!(
            "{path}:4: `nonsense in a line` is not a method and a URL\n\
             {path}:6: `ftp` is not served: use an `http://` or `https://` URL\n"
        )
    );
    let answer = files.json();
    assert_eq!(answer["unreadable"], 2);
    assert_eq!(answer["unreadableLines"][0]["line"], 4);
    assert_eq!((&answer["requests"], &answer["lines"]), (&3.into(), &4.into()));
    assert_eq!(answer["differ"], 2);
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let files = Files::new(str::to_owned, "nonsense in a line\n\n");
    let (code, _, errors) = files.diff(&[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("no request that can be read"), "{errors}");
    std::fs::write(files.path("requests"), "GET http://a.com/").expect("written");
    std::fs::write(
        files.path("new/bad.yaml"),
        RULES.replace("hosts:", "hostz:").replace("name: rules", "name: bad"),
    )
    .expect("written");
    let (code, _, errors) = files.diff(&[]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("unknown field `hostz`") && errors.contains("new has 1 error(s)"),
        "{errors}"
    );
    let (code, ..) = files.diff(&["--output", "yaml"]);
    assert_eq!(code, Some(2));
    std::fs::remove_file(files.path("requests")).expect("it was there");
    std::fs::remove_file(files.path("new/bad.yaml")).expect("it was there");
    let (code, _, errors) = files.diff(&[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("cannot read the requests"), "{errors}");
}

#[test]
fn a_port_that_closes_is_told() {
    let files = Files::new(str::to_owned, "GET http://a.com/a\n");
    std::fs::remove_file(files.path("new/gateway.yaml")).expect("it was there");
    // The VirtualService names a Gateway that is gone: a warning, no error.
    let (code, text, errors) = files.diff(&[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        text.contains("- sent upstream\n    + no Gateway of this gateway opens a port that takes HTTP in clear text\n"),
        "{text}"
    );
}

/// The log of a gateway, written by itself, leads back to the requests that it got.
fn from_log_of_a_gateway(format: &str) {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let log = tempfile::NamedTempFile::new().expect("a file");
    let to = format!("--access-log={}", log.path().display());
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", GATEWAY),
            ("rules.yaml", RULES),
            ("a.yaml", &service("one", &[one.address])),
            ("b.yaml", &service("two", &[two.address])),
        ],
        &[&to, &format!("--access-log-format={format}")],
    );
    for request in [
        "GET /a?q=%20x HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a.com\r\nUser-Agent: curl/8 \"q\"\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a.com\r\nUser-Agent: other\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: a.com\r\nUser-Agent: other\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(request);
        raw.response();
    }
    let lines = |path: &Path| std::fs::read_to_string(path).expect("readable");
    crate::support::gateway::wait_until("five lines", || lines(log.path()).lines().count() == 5);
    let files = Files::new(|rules| rules.replace("name: main", "name: prime"), &lines(log.path()));
    let answer = files.json();
    assert_eq!(answer["requests"], 3, "{answer:#}");
    assert_eq!((&answer["lines"], &answer["unreadable"]), (&4.into(), &1.into()), "{answer:#}");
    let request = |group: &Value| group["request"].as_str().expect("text").to_owned();
    // Two workers write the log: its lines stand in any order.
    let mut groups = answer["differences"].as_array().expect("a list").clone();
    groups.sort_by_key(request);
    // The third has no route on either side.
    let told: Vec<String> = groups.iter().map(request).collect();
    assert_eq!(told, ["GET http://a.com/a?q=%20x", "GET http://a.com/b"]);
    let fields = |index: usize| groups[index]["fields"].to_string();
    assert!(fields(0).contains("x-forwarded-for: 10.9.9.9\""), "{}", fields(0));
    assert!(fields(1).contains("curl/8 \\\"q\\\""), "{}", fields(1));
}

#[test]
fn a_text_access_log_is_replayed() {
    from_log_of_a_gateway("text");
}

#[test]
fn a_json_access_log_is_replayed() {
    from_log_of_a_gateway("json");
}
