//! Certificates as `check` and a running gateway judge them: in Secrets and in files, made here.

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::support::gateway::{free_port, ringress, wait_until};
use crate::support::manifests::{any_host, hello_service, policy, service};
use crate::support::tls::{Authority, connect, get};
use crate::support::{Gateway, Upstream};
use crate::tls;

struct Made {
    chain: String,
    key: String,
}

/// A certificate for this name that is valid in these years.
fn made_in(name: &str, years: (i32, i32)) -> Made {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let chain = params.self_signed(&key).expect("signed").pem();
    Made { chain, key: key.serialize_pem() }
}

fn made(name: &str) -> Made {
    made_in(name, (2020, 4000))
}

/// A Secret of the gateway's namespace; its values begin in line 6, each in a line of its own.
fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\n\
         type: kubernetes.io/tls\ndata:\n"
    );
    for (key, value) in values {
        let value = data_encoding::BASE64.encode(value.as_bytes());
        text.push_str(&format!("  {key}: \"{value}\"\n"));
    }
    text
}

fn tls_secret(chain: &str, key: &str) -> String {
    secret("s", &[("tls.crt", chain), ("tls.key", key)])
}

/// A Gateway whose server has these settings: line 9 the host, line 10 and on the settings.
fn server(port: u16, tls: &[&str]) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: secure}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n  \
         - port: {{number: {port}, name: https, protocol: HTTPS}}\n    hosts:\n    \
         - a.com\n    tls:\n{}",
        tls.iter().map(|line| format!("      {line}\n")).collect::<String>()
    )
}

/// `CODE file:line:column severity` of what `check` finds, without what is not honoured yet, and all it
/// printed.
fn check(files: &[(&str, &str)]) -> (Vec<String>, String) {
    let directory = tempfile::TempDir::new().expect("a directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let path = directory.path().display().to_string();
    let output = ringress(&["check", &path, "--output", "json"]);
    let printed = String::from_utf8(output.stdout).expect("text");
    let found: Vec<Value> = serde_json::from_str(&printed).expect("a JSON array");
    let errors = found.iter().any(|found| found["severity"] == "error");
    assert_eq!(output.status.code(), Some(i32::from(errors)), "{printed}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = found
        .iter()
        .filter(|found| found["code"] != "RNG0100")
        .map(|found| {
            assert!(!text(&found["help"]).is_empty(), "{found}");
            let file = text(&found["file"]);
            let file = file.rsplit('/').next().unwrap_or_default();
            let (line, column) = (&found["line"], &found["column"]);
            format!("{} {file}:{line}:{column} {}", text(&found["code"]), text(&found["severity"]))
        })
        .collect();
    lines.sort();
    (lines, printed)
}

#[test]
fn what_is_wrong_with_a_secret_has_its_place() {
    let (good, other) = (made("a.com"), made("b.com"));
    let simple = server(443, &["mode: SIMPLE", "credentialName: s"]);
    let mutual = server(443, &["mode: MUTUAL", "credentialName: s"]);
    let warning = "IST0161 gateway.yaml:12:23 warning".to_owned();
    let error = |place: &str| format!("RNG0310 secret.yaml:{place} error");
    let with_ca =
        |ca: &str| secret("s", &[("tls.crt", &good.chain), ("tls.key", &good.key), ("ca.crt", ca)]);
    for (name, gateway, secret, expected) in [
        ("good", &simple, tls_secret(&good.chain, &good.key), vec![]),
        ("good with a CA", &mutual, with_ca(&other.chain), vec![]),
        (
            "mismatch",
            &simple,
            tls_secret(&good.chain, &other.key),
            vec![warning.clone(), error("7:12")],
        ),
        ("no PEM", &simple, tls_secret("x", &good.key), vec![warning.clone(), error("6:12")]),
        ("empty", &simple, tls_secret(&good.chain, ""), vec![warning.clone(), error("7:3")]),
        ("bad CA", &mutual, with_ca("x"), vec![warning.clone(), error("8:11")]),
        ("no CA", &mutual, tls_secret(&good.chain, &good.key), vec![warning.clone()]),
        (
            "other name",
            &simple,
            tls_secret(&good.chain, &good.key).replace("name: s,", "name: t,"),
            vec!["IST0101 gateway.yaml:12:23 warning".to_owned()],
        ),
        (
            "other host",
            &simple,
            tls_secret(&other.chain, &other.key),
            vec!["RNG0313 gateway.yaml:9:7 warning".to_owned()],
        ),
    ] {
        let (found, printed) = check(&[("gateway.yaml", gateway), ("secret.yaml", &secret)]);
        assert_eq!(found, expected, "{name}: {printed}");
        let body = good.key.lines().nth(1).expect("a line of base64");
        assert!(!printed.contains(body), "{name}: keys are not shown");
    }
}

#[test]
fn certificates_out_of_date_have_their_place() {
    for (years, code) in [((2019, 2020), "IST0161"), ((3900, 3901), "RNG0312")] {
        let made = made_in("a.com", years);
        let gateway = server(443, &["mode: SIMPLE", "credentialName: s"]);
        let secret = tls_secret(&made.chain, &made.key);
        let (found, printed) = check(&[("gateway.yaml", &gateway), ("secret.yaml", &secret)]);
        assert_eq!(found, [format!("{code} gateway.yaml:12:23 warning")], "{printed}");
    }
}

#[test]
fn files_are_looked_for_beside_the_manifest() {
    let (good, other) = (made("a.com"), made("a.com"));
    let tls =
        ["mode: MUTUAL", "serverCertificate: c.pem", "privateKey: k.pem", "caCertificates: ca"];
    let gateway = server(443, &tls);
    let files = |key: &'static str, ca: &'static str| -> Vec<String> {
        let key = if key == "good" { &good.key } else { &other.key };
        let ca = if ca == "good" { other.chain.as_str() } else { ca };
        let all = [("g.yaml", &*gateway), ("c.pem", &good.chain), ("k.pem", key), ("ca", ca)];
        check(&all).0
    };
    assert_eq!(files("good", "good"), Vec::<String>::new());
    assert_eq!(files("other", "good"), ["RNG0311 g.yaml:12:26 warning"]);
    assert_eq!(files("good", "x"), ["RNG0311 g.yaml:14:23 warning"]);
    let (found, printed) = check(&[("g.yaml", &gateway)]);
    assert_eq!(found, ["RNG0311 g.yaml:12:26 warning", "RNG0311 g.yaml:14:23 warning"]);
    assert!(printed.contains("c.pem cannot be read (No such file"), "{printed}");
}

#[test]
fn services_by_tls_have_their_places_too() {
    let rule = policy("a.com", "\n    tls: {mode: MUTUAL, clientCertificate: c, privateKey: k}");
    let (found, printed) = check(&[("rule.yaml", &rule)]);
    assert!(found.contains(&"RNG0311 rule.yaml:7:44 warning".to_owned()), "{found:?}");
    assert!(printed.contains("requests to the service get 503"), "{printed}");
    let rule = policy("a.com", "\n    tls: {mode: SIMPLE, credentialName: s}");
    let bad = secret("s", &[("ca.crt", "x")]);
    let (found, _) = check(&[("rule.yaml", &rule), ("secret.yaml", &bad)]);
    assert!(found.contains(&"IST0161 rule.yaml:7:41 warning".to_owned()), "{found:?}");
    assert!(found.contains(&"RNG0310 secret.yaml:6:11 error".to_owned()), "{found:?}");
}

/// State of an object, and what was found in it: code and message.
fn object(gateway: &Gateway, kind: &str, name: &str) -> (String, Vec<(String, String)>) {
    let dump = gateway.json("/config_dump");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let objects = dump["objects"].as_array().expect("a list");
    let object = objects
        .iter()
        .find(|object| object["kind"] == kind && object["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"));
    let found = object["diagnostics"].as_array().expect("a list").iter();
    let found = found.map(|found| (text(&found["code"]), text(&found["message"])));
    (text(&object["state"]), found.collect())
}

#[test]
fn a_bad_secret_keeps_its_last_good_version() {
    let (good, other) = (made("a.com"), made("a.com"));
    let manifest = server(free_port(), &["mode: SIMPLE", "credentialName: s"]);
    let secret = tls_secret(&good.chain, &good.key);
    let gateway = Gateway::start(&[("gateway.yaml", &manifest), ("secret.yaml", &secret)]);
    let state = || object(&gateway, "Secret", "s");
    let live = state();
    assert_eq!(live.1, []);
    gateway.write("secret.yaml", &tls_secret(&good.chain, &other.key));
    wait_until("the new version is judged", || !state().1.is_empty());
    let kept = state();
    assert_ne!(kept.0, live.0);
    assert_eq!(kept.1.len(), 1, "{kept:?}");
    assert_eq!(kept.1[0].0, "RNG0310");
    assert!(gateway.log().contains("its `tls.key` does not belong to its `tls.crt`"));
    gateway.write("secret.yaml", &tls_secret(&other.chain, &other.key));
    wait_until("the good one is in force", || state() == live);
}

#[test]
fn files_that_change_are_read_again() {
    let (good, other) = (made("a.com"), made("a.com"));
    let tls = ["mode: SIMPLE", "serverCertificate: keys/c.pem", "privateKey: keys/k.pem"];
    let manifest = server(free_port(), &tls);
    let gateway = Gateway::start(&[("gateway.yaml", &manifest)]);
    let told = || -> Option<String> {
        let (_, found) = object(&gateway, "Gateway", "secure");
        found.into_iter().find(|(code, _)| code == "RNG0311").map(|(_, message)| message)
    };
    let first = told().expect("there are no files yet");
    assert!(first.contains("TLS handshakes with this server fail"), "{first}");
    gateway.write("keys/k.pem", &good.key);
    gateway.write("keys/c.pem", &good.chain);
    wait_until("the files are found", || told().is_none());
    // The certificate comes before its key.
    let generation = gateway.generation();
    gateway.write("keys/c.pem", &other.chain);
    wait_until("the mismatch is seen", || told().is_some());
    let kept = told().unwrap_or_default();
    assert!(kept.contains("does not belong to the certificate"), "{kept}");
    assert!(kept.contains("the last good version stays in use"), "{kept}");
    assert!(gateway.log().contains(&kept), "it is in the log");
    gateway.write("keys/k.pem", &other.key);
    wait_until("the pair is whole", || told().is_none());
    assert!(gateway.generation() >= generation + 2, "each was published");
}

#[test]
fn a_service_whose_credentials_are_missing_is_never_called_in_clear_text() {
    let upstream = Upstream::start("hello");
    let routes = any_host("  - route: [{destination: {host: hello}}]\n");
    let rule = policy("hello", "{tls: {mode: SIMPLE, credentialName: missing}}");
    let service = hello_service(&[upstream.address]);
    let gateway = Gateway::start(&[
        ("routes.yaml", &routes),
        ("service.yaml", &service),
        ("rule.yaml", &rule),
    ]);
    let mut raw = crate::support::raw::Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert_eq!(raw.response().status, 503);
    assert!(gateway.log().contains("there is no Secret istio-system/missing"));
    gateway.write("rule.yaml", &policy("hello", "{tls: {mode: DISABLE}}"));
    gateway.wait_for_generation(2);
    raw.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert_eq!(raw.response().status, 200);
}

#[test]
fn what_is_told_is_what_is_served() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com", "b.com"]);
    let ca = authority.pem();
    let own = |name: &str| {
        secret(name, &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &ca)])
    };
    let servers = tls::server("one", "{mode: MUTUAL, credentialName: one}", "a.com")
        + &tls::server("two", "{mode: SIMPLE, credentialName: two}", "b.com");
    let rest = [
        tls::gateway("g", &servers),
        tls::routes("a", "a.com, b.com", "g", "hello"),
        service("hello", &[upstream.address]),
        own("one"),
        // It stands before the CA in the Secret itself, which must not take its place.
        secret("one-cacert", &[("ca.crt", "x")]),
    ]
    .join("---\n");
    let port = free_port();
    let gateway = Gateway::start_with(
        &[("all.yaml", &rest), ("two.yaml", &own("two"))],
        &[&format!("--port-map=443={port}"), "--skip-invalid"],
    );
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let client = authority.client(Some(&pair), &[]);
    let is_served = |name: &str| {
        let answer =
            connect(address, name, &client).and_then(|mut stream| get(&mut stream, name, "/"));
        answer.is_ok()
    };
    let told = || object(&gateway, "Gateway", "g").1;
    assert!(!is_served("a.com"), "nobody says which clients are good");
    let first = told();
    assert_eq!(first.len(), 1, "{first:?}");
    let (code, message) = &first[0];
    assert_eq!(code, "IST0161");
    assert!(message.contains("istio-system/one-cacert: its `ca.crt`"), "{message}");
    assert!(message.ends_with("TLS handshakes with this server fail"), "{message}");
    assert!(is_served("b.com"));
    gateway.write("two.yaml", "");
    wait_until("the Secret is missed", || told().len() == 2);
    let missed = told().into_iter().find(|(code, _)| code == "IST0101").expect("it is told").1;
    assert!(missed.contains("istio-system/two"), "{missed}");
    assert!(missed.ends_with("the last good certificate is served"), "{missed}");
    assert!(is_served("b.com"), "as it is told");
}
