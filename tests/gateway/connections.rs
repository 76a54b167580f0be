//! Where connections go that are routed as a whole: `tls` and `tcp` routes, as `explain` tells them.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::ringress;
use crate::support::manifests;

const GATEWAYS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    tls: {mode: PASSTHROUGH}
    hosts: ['*.example.com', other.org]
  - port: {number: 8443, name: https, protocol: HTTPS}
    tls: {mode: PASSTHROUGH}
    hosts: ['*.example.com']
  - port: {number: 3306, name: mysql, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 3306, name: mysql, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-names}
spec:
  hosts: ['*.example.com']
  gateways: [gateway]
  tls:
  - match: [{sniHosts: ['*.example.com']}]
    route: [{destination: {host: wild}}]
  - match: [{port: 8443, sniHosts: [a.example.com]}, {sniHosts: [b.example.com]}]
    route:
    - {destination: {host: one}, weight: 30}
    - {destination: {host: two}, weight: 70}
    - {destination: {host: wild}, weight: 0}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b-late}
spec:
  hosts: [b.example.com]
  gateways: [gateway]
  tls:
  - match: [{sniHosts: [b.example.com]}]
    route: [{destination: {host: wild}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: c-elsewhere}
spec:
  hosts: [c.example.com]
  gateways: [gateway]
  tls:
  - match: [{gateways: [second], sniHosts: [c.example.com]}]
    route: [{destination: {host: two}}]
  - match: [{port: 8443, sniHosts: [c.example.com]}]
    route: [{destination: {host: one}, weight: 30}, {destination: {host: two}, weight: 0}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: d-bytes}
spec:
  hosts: [db.example.com]
  gateways: [gateway, second]
  tcp:
  - match: [{port: 5432}]
    route: [{destination: {host: two}}]
  - match: [{port: 3306}]
    route: [{destination: {host: one}}]
  - route: [{destination: {host: wild}}]
";

fn directory() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let endpoint = ["127.0.0.1:9".parse().expect("an address")];
    let services = ["wild", "one", "two"].map(|name| manifests::service(name, &endpoint));
    let text = format!("{GATEWAYS}---\n{}", services.join("---\n"));
    std::fs::write(directory.path().join("all.yaml"), text).expect("written");
    directory
}

fn explain(directory: &TempDir, connection: &str) -> Result<Value, String> {
    let path = directory.path().to_str().expect("text");
    let output = ringress(&["explain", path, connection, "--output", "json"]);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The rule that a connection takes, and its destinations with their shares.
fn taken(answer: &Value) -> (String, Vec<(String, f64)>) {
    let routes = answer["routes"].as_array().expect("a list").iter();
    let rule = routes
        .filter(|route| route["mismatch"].is_null())
        .map(|route| format!("{} {}", route["virtualService"], route["name"]).replace('"', ""))
        .collect();
    let destinations = answer["destinations"].as_array().expect("a list").iter();
    let share = |destination: &Value| {
        let cluster = destination["cluster"].as_str().expect("a cluster");
        let host = cluster.rsplit('|').next().and_then(|host| host.split('.').next());
        let percent = destination["percent"].as_f64().expect("a number");
        (host.unwrap_or_default().to_owned(), percent)
    };
    (rule, destinations.map(share).collect())
}

#[test]
fn connections_go_where_their_name_or_port_says() {
    let directory = directory();
    let one = |host: &str| vec![(host.to_owned(), 100.0)];
    let shared = || vec![("one".to_owned(), 30.0), ("two".to_owned(), 70.0)];
    for (connection, rule, destinations) in [
        ("tls://x.example.com:443", "default/a-names spec.tls[0].match[0]", one("wild")),
        ("tls://A.example.com", "default/a-names spec.tls[0].match[0]", one("wild")),
        ("tls://a.example.com:8443", "default/a-names spec.tls[1].match[0]", shared()),
        // Of two rules for one name the first VirtualService's counts.
        ("tls://b.example.com:443", "default/a-names spec.tls[1].match[1]", shared()),
        ("tls://c.example.com:443", "default/a-names spec.tls[0].match[0]", one("wild")),
        // One of several that has a weight gets all.
        ("tls://c.example.com:8443", "default/c-elsewhere spec.tls[1].match[0]", one("one")),
        ("tls://other.org:443", "", vec![]),
        ("tcp://:3306", "default/d-bytes spec.tcp[1]", one("one")),
    ] {
        let answer = explain(&directory, connection).expect("a port");
        assert_eq!(taken(&answer), (rule.to_owned(), destinations), "{connection}");
    }
    for connection in ["tcp://:443", "tls://a.example.com:3306", "tcp://:x"] {
        assert!(explain(&directory, connection).is_err(), "{connection}");
    }
}

/// The manifests of a test: Gateways, VirtualServices, and the Services `wild`, `one` and `two`.
fn of(text: &str) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let endpoint = ["127.0.0.1:9".parse().expect("an address")];
    let services = ["wild", "one", "two"].map(|name| manifests::service(name, &endpoint));
    let text = format!("{text}---\n{}", services.join("---\n"));
    std::fs::write(directory.path().join("all.yaml"), text).expect("written");
    directory
}

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n"
    )
}

fn findings(directory: &TempDir, code: &str) -> Vec<Value> {
    let path = directory.path().to_str().expect("text");
    let found = ringress(&["check", path, "--output", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&found.stdout).expect("JSON");
    found.into_iter().filter(|found| found["code"] == code).collect()
}

const PASSTHROUGH_443: &str = "  - port: {number: 443, name: tls, protocol: TLS}\n    \
     tls: {mode: PASSTHROUGH}\n    hosts: ['*']\n";

#[test]
fn a_match_of_which_one_name_is_taken_is_left_out_whole() {
    let text = gateway("gateway", PASSTHROUGH_443)
        + &virtual_service(
            "a",
            "{hosts: ['*'], gateways: [gateway], tls: [{match: [{sniHosts: [x.com]}], \
             route: [{destination: {host: one}}]}]}",
        )
        + &virtual_service(
            "b",
            "{hosts: ['*'], gateways: [gateway], tls: [{match: [{sniHosts: [y.com, x.com]}, \
             {sniHosts: [z.com]}], route: [{destination: {host: two}}]}]}",
        );
    let directory = of(&text);
    let of_y = explain(&directory, "tls://y.com:443").expect("a port");
    assert_eq!(taken(&of_y).0, "", "its match is left out");
    assert_eq!(of_y["note"], "no server of the port has this name: the connection is closed");
    let mismatch = of_y["routes"][1]["mismatch"].as_str().expect("a reason");
    assert!(mismatch.contains("`x.com` is of default/a spec.tls[0].match[0]"), "{mismatch}");
    let of_z = explain(&directory, "tls://z.com:443").expect("a port");
    assert_eq!(taken(&of_z).0, "default/b spec.tls[0].match[1]", "the other match stays");
    let told = findings(&directory, "RNG0207");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["field"], "spec.tls[0].match[0].sniHosts");
}

#[test]
fn a_mode_that_is_not_given_passes_through() {
    for protocol in ["TLS", "HTTPS"] {
        let server = format!(
            "  - port: {{number: 443, name: tls, protocol: {protocol}}}\n    tls: {{}}\n    \
             hosts: ['*']\n"
        );
        let text = gateway("gateway", &server)
            + &virtual_service(
                "a",
                "{hosts: ['*'], gateways: [gateway], tls: [{match: [{sniHosts: [x.com]}], \
                 route: [{destination: {host: one}}]}], tcp: [{route: [{destination: {host: two}}]}]}",
            );
        let directory = of(&text);
        let answer = explain(&directory, "tls://x.com:443").expect("a port");
        assert_eq!(taken(&answer).0, "default/a spec.tls[0].match[0]", "{protocol}");
        let other = explain(&directory, "tls://y.com:443").expect("a port");
        assert_eq!(taken(&other).0, "", "{protocol}: `tcp` routes are of TLS that ends here");
    }
}

#[test]
fn a_rule_that_two_servers_of_a_port_bring_in_counts_once() {
    let servers = "  - port: {number: 443, name: one, protocol: TLS}\n    tls: {mode: PASSTHROUGH}\n    \
         hosts: [a.com]\n  - port: {number: 443, name: two, protocol: TLS}\n    \
         tls: {mode: PASSTHROUGH}\n    hosts: [b.com]\n";
    let text = gateway("gateway", servers)
        + &virtual_service(
            "a",
            "{hosts: [a.com, b.com], gateways: [gateway], tls: [{match: [{sniHosts: [a.com, b.com]}], \
             route: [{destination: {host: one}}]}]}",
        );
    let directory = of(&text);
    for name in ["a.com", "b.com"] {
        let answer = explain(&directory, &format!("tls://{name}:443")).expect("a port");
        assert_eq!(answer["routes"].as_array().map(Vec::len), Some(1));
        assert_eq!(taken(&answer).0, "default/a spec.tls[0].match[0]");
    }
    assert_eq!(findings(&directory, "RNG0207"), Vec::<Value>::new());
}

#[test]
fn the_first_server_of_a_port_says_what_it_speaks() {
    let http = "  - port: {number: 8080, name: http, protocol: HTTP}\n    hosts: ['*']\n";
    let tcp = "  - port: {number: 8080, name: tcp, protocol: TCP}\n    hosts: ['*']\n";
    let tls = "  - port: {number: 8080, name: tls, protocol: TLS}\n    tls: {mode: PASSTHROUGH}\n    \
         hosts: ['*']\n";
    let routes = virtual_service(
        "a",
        "{hosts: ['*'], gateways: [a, b], http: [{route: [{destination: {host: one}}]}], \
         tcp: [{route: [{destination: {host: one}}]}], \
         tls: [{match: [{sniHosts: [x.com]}], route: [{destination: {host: one}}]}]}",
    );
    let asked = ["http://x.com:8080/", "tcp://:8080", "tls://x.com:8080"];
    for (first, second, answered) in [
        (http, tcp, 0),
        (tcp, http, 1),
        (tls, http, 2),
        (http, tls, 0),
        (tls, tcp, 2),
        (tcp, tls, 1),
    ] {
        let text = gateway("a", first) + "---\n" + &gateway("b", second) + &routes;
        let directory = of(&text);
        for (position, asked) in asked.iter().enumerate() {
            let answer = explain(&directory, asked);
            assert_eq!(answer.is_ok(), position == answered, "{asked}: {answer:?}\n{text}");
        }
        assert_eq!(findings(&directory, "RNG0208").len(), 1, "the other is told");
    }
}

#[test]
fn a_tcp_port_is_its_first_servers_even_without_a_route() {
    let server = |name: &str| {
        gateway(name, "  - port: {number: 3306, name: mysql, protocol: TCP}\n    hosts: ['*']\n")
    };
    let text = server("a")
        + "---\n"
        + &server("b")
        + &virtual_service(
            "routes",
            "{hosts: ['*'], gateways: [b], tcp: [{route: [{destination: {host: one}}]}]}",
        );
    let directory = of(&text);
    // Without a route nothing listens.
    let answer = explain(&directory, "tcp://:3306");
    assert!(answer.as_ref().is_err_and(|error| error.contains("nothing listens")), "{answer:?}");
}

#[test]
fn every_rule_is_told_with_its_own_reason() {
    let directory = directory();
    let answer = explain(&directory, "tls://a.example.com:8443").expect("a port");
    let reasons: Vec<String> = answer["routes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|route| {
            let reason = route["mismatch"].as_str().unwrap_or("matches");
            format!("{} {}: {reason}", route["virtualService"], route["name"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "default/a-names spec.tls[0].match[0]: `*.example.com` fits, but default/a-names \
             spec.tls[1].match[0] has a nearer name (a.example.com)",
            "default/a-names spec.tls[1].match[0]: matches",
            "default/a-names spec.tls[1].match[1]: none of its server names fits (b.example.com)",
            "default/b-late spec.tls[0].match[0]: it is left out: server name `b.example.com` is of \
             default/a-names spec.tls[1].match[1]",
            "default/c-elsewhere spec.tls[0].match[0]: it is for second",
            "default/c-elsewhere spec.tls[1].match[0]: none of its server names fits (c.example.com)",
        ]
    );
    let answer = explain(&directory, "tcp://:3306").expect("a port");
    let told = answer["routes"].to_string();
    assert!(told.contains("it is for port 5432"), "{told}");
    assert!(told.contains("its server takes one `tcp` route"), "{told}");
}

#[test]
fn servers_that_end_tls_have_their_names_and_tables() {
    let server = |port: &str, hosts: &str| {
        format!(
            "  - port: {{number: 443, name: {port}, protocol: HTTPS}}\n    \
             tls: {{mode: SIMPLE, credentialName: c}}\n    hosts: [{hosts}]\n"
        )
    };
    let text = gateway("a", &(server("one", "a.com, b.com") + PASSTHROUGH_443))
        + "---\n"
        // One of its hosts is taken: all of it is left out (behaviour 2.3.1).
        + &gateway("b", &server("two", "b.com, c.com"))
        + "---\n"
        + &gateway("c", &server("three", "'*.d.com'"))
        + &virtual_service(
            "names",
            "{hosts: ['*'], gateways: [a], tls: [{match: [{sniHosts: [a.com]}], \
             route: [{destination: {host: one}}]}, {match: [{sniHosts: [c.com]}], \
             route: [{destination: {host: two}}]}]}",
        );
    let directory = of(&text);
    let note = |name: &str| {
        let answer = explain(&directory, &format!("tls://{name}:443")).expect("a port");
        format!("{} {}", answer["note"], taken(&answer).0)
    };
    assert!(note("a.com").contains("https.443.one.a.default routes"), "{}", note("a.com"));
    assert!(note("x.d.com").contains("https.443.three.c.default"), "{}", note("x.d.com"));
    let request = explain(&directory, "https://x.d.com/").expect("a server");
    assert_eq!(request["listener"]["numbers"], serde_json::json!([443]));
    for (asked, reason) in [
        ("https://c.com/", "go on as they are: ask tls://c.com:443"),
        ("https://nobody.org/", "no server of port 443 has the name nobody.org"),
    ] {
        let error = explain(&directory, asked).expect_err("no requests");
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(note("c.com"), "null default/names spec.tls[1].match[0]");
    let left_out = findings(&directory, "RNG0208");
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0]["message"].as_str().is_some_and(|text| text.contains("`b.com` is of")));
    assert_eq!(findings(&directory, "RNG0207").len(), 1, "a.com is of the server that ends TLS");
}

#[test]
fn a_port_on_several_addresses_is_told_for_each() {
    let bound = |address: &str| {
        format!(
            "  - port: {{number: 3306, name: mysql, protocol: TCP}}\n    bind: {address}\n    \
             hosts: ['*']\n"
        )
    };
    let text = gateway("a", &bound("127.0.0.1"))
        + "---\n"
        + &gateway("b", &bound("127.0.0.2"))
        + &virtual_service(
            "one",
            "{hosts: ['*'], gateways: [a], tcp: [{route: [{destination: {host: one}}]}]}",
        )
        + &virtual_service(
            "two",
            "{hosts: ['*'], gateways: [b], tcp: [{route: [{destination: {host: two}}]}]}",
        );
    let answer = explain(&of(&text), "tcp://:3306").expect("a port");
    assert_eq!(taken(&answer).0, "default/one spec.tcp[0]");
    assert_eq!(taken(&answer["alsoOn"][0]).0, "default/two spec.tcp[0]");
    assert_eq!(answer["alsoOn"][0]["listener"]["address"], "127.0.0.2:3306");
}

#[test]
fn a_name_that_is_taken_is_told() {
    let directory = directory();
    let path = directory.path().to_str().expect("text");
    let text = ringress(&["explain", path, "tls://b.example.com:443"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for line in ["default/b-late", "default/a-names: matches", "(70%)"] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let found = ringress(&["check", path, "--output", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&found.stdout).expect("JSON");
    let taken = found.iter().find(|found| found["code"] == "RNG0207").expect("a finding");
    assert_eq!(taken["field"], "spec.tls[0].match[0].sniHosts");
    assert!(taken["resource"].as_str().is_some_and(|name| name.contains("b-late")));
    let listeners = ringress(&["check", path]);
    let summary = String::from_utf8_lossy(&listeners.stdout).into_owned();
    assert!(summary.contains("3 listener(s)"), "{summary}");
}
