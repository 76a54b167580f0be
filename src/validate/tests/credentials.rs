//! Certificates of servers and services, good and bad. They are made here.

use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::config::credential_files::{FileContent, FileState, MeshFolders, named_by};
use crate::tls::settings::{Bytes, Identity};
use crate::validate::credentials;

/// 2025-01-01 00:00:00 UTC.
const NOW: i64 = 1_735_689_600;
const DAY: i64 = 24 * 60 * 60;

struct Made {
    chain: String,
    key: String,
}

/// Valid for these days before and after now.
fn made(names: &[&str], before: i64, after: i64) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let start = rcgen::date_time_ymd(2025, 1, 1);
    let days = |days: i64| std::time::Duration::from_secs((days * DAY).unsigned_abs());
    let at = |offset: i64| if offset < 0 { start - days(offset) } else { start + days(offset) };
    (params.not_before, params.not_after) = (at(-before), at(after));
    let key = KeyPair::generate().expect("a key");
    let chain = params.self_signed(&key).expect("signed").pem();
    Made { chain, key: key.serialize_pem() }
}

fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n"
    );
    for (key, value) in values {
        let value = data_encoding::BASE64.encode(value.as_bytes());
        text.push_str(&format!("  {key}: \"{value}\"\n"));
    }
    text.push_str("---\n");
    text
}

fn tls_secret(name: &str, made: &Made) -> String {
    secret(name, &[("tls.crt", &made.chain), ("tls.key", &made.key)])
}

fn server(hosts: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n  - port: {{number: 443, name: https, \
         protocol: HTTPS}}\n    hosts: [{hosts}]\n    tls: {{{tls}}}\n---\n"
    )
}

fn rule(tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d}}\nspec:\n  \
         host: a.com\n  trafficPolicy: {{tls: {{{tls}}}}}\n---\n"
    )
}

fn loaded(text: &str) -> ResourceSet {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("written");
    let files = load(&[directory.path().to_owned()]).files.into_iter();
    let documents = files.flat_map(|file| file.outcome.expect("YAML"));
    ResourceSet::from_resources(documents.map(|document| document.result.expect("typed")))
}

/// `CODE object field: message` of what is found about credentials.
fn said(text: &str, state: impl Fn() -> FileState) -> Vec<String> {
    let resources = loaded(text);
    let files = named_by(&resources, &MeshFolders::default())
        .into_iter()
        .map(|file| (file, state()))
        .collect();
    let mut found = Vec::new();
    credentials::validate(&resources, &ValidateOptions::default(), &files, NOW, &mut found);
    found
        .into_iter()
        .map(|found| {
            let name = found.resource.map(|key| key.name).unwrap_or_default();
            format!("{} {name} {}: {}", found.code, found.field, found.message)
        })
        .collect()
}

#[track_caller]
fn assert_said(text: &str, expected: &[(&str, &str)]) {
    let found = said(text, FileState::default);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (begins, has)) in found.iter().zip(expected) {
        assert!(found.starts_with(begins) && found.contains(has), "{begins} {has}: {found}");
    }
}

const CREDENTIAL: &str = "g spec.servers[0].tls.credentialName";

#[test]
fn a_key_belongs_to_its_certificate() {
    let (one, other) = (made(&["a.com"], 1, 90), made(&["a.com"], 1, 90));
    let simple = server("a.com", "mode: SIMPLE, credentialName: s");
    assert_said(&format!("{simple}{}", tls_secret("s", &one)), &[]);
    let generic = secret("s", &[("cert", &one.chain), ("key", &one.key), ("tls.crt", "unused")]);
    assert_said(&format!("{simple}{generic}"), &[]);
    let mixed = Made { chain: one.chain.clone(), key: other.key.clone() };
    let whose = "its `tls.key` does not belong to its `tls.crt`";
    assert_said(
        &format!("{simple}{}", tls_secret("s", &mixed)),
        &[(&format!("IST0161 {CREDENTIAL}"), whose), ("RNG0310 s data[tls.key]", whose)],
    );
    let empty = secret("s", &[("tls.crt", &one.chain), ("tls.key", "")]);
    assert_said(
        &format!("{simple}{empty}"),
        &[(&format!("IST0161 {CREDENTIAL}"), "empty"), ("RNG0310 s data[tls.key]", "empty")],
    );
    let staple = [("tls.crt", &*one.chain), ("tls.key", &*one.key), ("tls.ocsp-staple", "")];
    assert_said(
        &format!("{simple}{}", secret("s", &staple)),
        &[("IST0161", "empty"), ("RNG0310 s data[tls.ocsp-staple]", "empty")],
    );
    // One that nobody uses may be anything.
    assert_said(
        &format!("{simple}{}{}", tls_secret("s", &one), secret("t", &[("tls.crt", "")])),
        &[],
    );
}

#[test]
fn a_bad_secret_is_told_once_however_many_use_it() {
    let bad = secret("s", &[("tls.crt", "x"), ("tls.key", "x")]);
    let simple = server("a.com", "mode: SIMPLE, credentialName: s");
    let second = simple.replace("name: g", "name: h");
    let found = said(&format!("{simple}{second}{bad}"), FileState::default);
    let at_secret = found.iter().filter(|line| line.starts_with("RNG0310"));
    assert_eq!((found.len(), at_secret.count()), (3, 1), "{found:#?}");
}

#[test]
fn authorities_stand_beside_or_in_the_secret() {
    let one = made(&["a.com"], 1, 90);
    let mutual = server("a.com", "mode: MUTUAL, credentialName: s");
    let pair = tls_secret("s", &one);
    let without = (format!("IST0161 {CREDENTIAL}"), "no CA");
    assert_said(&format!("{mutual}{pair}"), &[(&without.0, without.1)]);
    let beside = |value: &str| secret("s-cacert", &[("ca.crt", value)]);
    assert_said(&format!("{mutual}{pair}{}", beside(&one.chain)), &[]);
    assert_said(
        &format!("{mutual}{pair}{}", beside("x")),
        &[("IST0161", "its `ca.crt`"), ("RNG0310 s-cacert data[ca.crt]", "its `ca.crt`")],
    );
    let revoked = secret("s-cacert", &[("cacert", &one.chain), ("crl", "x")]);
    assert_said(
        &format!("{mutual}{pair}{revoked}"),
        &[("IST0161", "its `crl`"), ("RNG0310 s-cacert data[crl]", "its `crl`")],
    );
    let named = server("a.com", "mode: MUTUAL, credentialName: s, caCertCredentialName: c");
    let field = "IST0101 g spec.servers[0].tls.caCertCredentialName";
    assert_said(&format!("{named}{pair}"), &[(field, "istio-system/c")]);
    assert_said(&format!("{named}{pair}{}", secret("c", &[("ca.crt", &one.chain)])), &[]);
    let open = server("a.com", "mode: MUTUAL, credentialName: s, insecureSkipVerify: true");
    assert_said(&format!("{open}{pair}"), &[]);
    // What is missing is told once, although it would have had both.
    let other = secret("other", &[]);
    let missing = (format!("IST0101 {CREDENTIAL}"), "TLS handshakes with this server fail");
    assert_said(&format!("{mutual}{other}"), &[(&missing.0, missing.1)]);
}

#[test]
fn names_of_other_namespaces_and_schemes_are_not_read() {
    let one = made(&["a.com"], 1, 90);
    let pair = tls_secret("s", &one);
    for name in ["kubernetes-gateway://istio-system/s", "other/s", "sds://s"] {
        let simple = server("a.com", &format!("mode: SIMPLE, credentialName: \"{name}\""));
        assert_said(&format!("{simple}{pair}"), &[(&format!("RNG0100 {CREDENTIAL}"), name)]);
    }
    let long = server("a.com", "mode: SIMPLE, credentialName: \"kubernetes://s\"");
    assert_said(&format!("{long}{pair}"), &[]);
}

#[test]
fn certificates_out_of_date_are_told() {
    let simple = server("a.com", "mode: SIMPLE, credentialName: s");
    let at = format!(" {CREDENTIAL}");
    for (before, after, code, words) in [
        (10, 31, "", ""),
        (10, 30, "RNG0312", "expires in 30 days"),
        (10, 1, "RNG0312", "expires in 1 day"),
        (10, -1, "IST0161", "expired 1 day ago"),
        (-2, 90, "RNG0312", "not valid for another 2 days"),
    ] {
        let text = format!("{simple}{}", tls_secret("s", &made(&["a.com"], before, after)));
        match code {
            "" => assert_said(&text, &[]),
            code => assert_said(&text, &[(&format!("{code}{at}"), words)]),
        }
    }
}

#[test]
fn certificates_for_other_hosts_are_told() {
    let pair = tls_secret("s", &made(&["a.com", "*.b.com"], 1, 90));
    let hosts = "a.com, \"ns/x.b.com\", \"*.b.com\", \"*\", c.com, \"*.a.com\", x.y.b.com";
    let simple = server(hosts, "mode: SIMPLE, credentialName: s");
    assert_said(
        &format!("{simple}{pair}"),
        &[
            ("RNG0313 g spec.servers[0].hosts[4]", "not for `c.com`, but for a.com, *.b.com"),
            ("RNG0313 g spec.servers[0].hosts[5]", "`*.a.com`"),
            ("RNG0313 g spec.servers[0].hosts[6]", "`x.y.b.com`"),
        ],
    );
}

#[test]
fn services_need_their_credentials_too() {
    let one = made(&["a.com"], 1, 90);
    let field = "d spec.trafficPolicy.tls.credentialName";
    let missing = (format!("IST0101 {field}"), "requests to the service get 503");
    for mode in ["SIMPLE", "MUTUAL"] {
        let text = rule(&format!("mode: {mode}, credentialName: s"));
        assert_said(&text, &[(&missing.0, missing.1)]);
    }
    let simple = rule("mode: SIMPLE, credentialName: s");
    assert_said(&format!("{simple}{}", secret("s", &[("cacert", &one.chain)])), &[]);
    let mutual = rule("mode: MUTUAL, credentialName: s");
    let both = [("ca.crt", &*one.chain), ("tls.crt", &*one.chain), ("tls.key", &*one.key)];
    assert_said(&format!("{mutual}{}", secret("s", &both)), &[]);
    assert_said(
        &format!("{mutual}{}", secret("s", &both[..1])),
        &[(&format!("IST0161 {field}"), "neither"), ("RNG0310 s ", "neither")],
    );
    assert_said(&rule("mode: DISABLE, credentialName: s"), &[]);
    let other = "  workloadSelector: {matchLabels: {app: other}}\n---\n";
    assert_said(&mutual.replace("---\n", other), &[]);
}

#[test]
fn files_are_told_as_they_were_read() {
    let bad = |content: Option<FileContent>| {
        move || FileState {
            content: content.clone(),
            problem: Some("/x cannot be read".to_owned()),
        }
    };
    let simple = server("a.com", "mode: SIMPLE, serverCertificate: /c, privateKey: /k");
    let never = said(&simple, bad(None));
    let field = "RNG0311 g spec.servers[0].tls.serverCertificate";
    assert_eq!(
        never,
        [format!("{field}: /x cannot be read: TLS handshakes with this server fail")]
    );
    let one = made(&["b.com"], 10, 1);
    let bytes = |text: &str| Bytes(text.as_bytes().to_vec());
    let identity = Identity { chain: bytes(&one.chain), key: bytes(&one.key), ocsp_staple: None };
    let kept = said(&simple, bad(Some(FileContent::Identity(identity.clone()))));
    assert_eq!(kept[0], format!("{field}: /x cannot be read: the last good version stays in use"));
    // What stays in use is judged.
    assert!(kept[1].contains("the certificate of /c expires in 1 day"), "{kept:#?}");
    assert!(kept[2].starts_with("RNG0313 g spec.servers[0].hosts[0]"), "{kept:#?}");
    let mutual =
        rule("mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: ca, caCrl: r");
    let found = said(&mutual, bad(None));
    let fields: Vec<&str> = found.iter().filter_map(|line| line.split(": ").next()).collect();
    let at = |name: &str| format!("RNG0311 d spec.trafficPolicy.tls.{name}");
    assert_eq!(fields, [at("clientCertificate"), at("caCertificates"), at("caCrl")]);
    let mesh = said(&server("a.com", "mode: ISTIO_MUTUAL"), bad(None));
    assert_eq!(mesh.len(), 1, "{mesh:#?}");
    assert!(mesh[0].starts_with("RNG0311 g spec.servers[0].tls.mode"), "{mesh:#?}");
    // Where nobody looked, nothing is known.
    assert_eq!(said(&simple, FileState::default), Vec::<String>::new());
}

#[test]
fn relative_paths_begin_where_the_manifest_is() {
    let resources = loaded(&server("a.com", "mode: SIMPLE, serverCertificate: c, privateKey: /k"));
    let files: Vec<PathBuf> = named_by(&resources, &MeshFolders::default())
        .iter()
        .flat_map(|file| file.paths().map(PathBuf::from).collect::<Vec<_>>())
        .collect();
    let manifest = resources.gateways().next().expect("a Gateway").origin.file().to_owned();
    assert_eq!(files, [manifest.with_file_name("c"), PathBuf::from("/k")]);
}

#[test]
fn versions_and_suites_that_are_never_spoken() {
    let codes = |tls: &str| -> Vec<(String, Severity, String)> {
        found(&server("a.com", &format!("mode: SIMPLE, credentialName: s, {tls}")))
            .into_iter()
            .filter(|found| matches!(found.code, "RNG0301" | "RNG0314" | "RNG0315"))
            .map(|found| (found.code.to_owned(), found.severity, found.message))
            .collect()
    };
    let of = |tls: &str| -> Vec<(String, Severity)> {
        codes(tls).into_iter().map(|(code, severity, _)| (code, severity)).collect()
    };
    let error = |code: &str| (code.to_owned(), Severity::Error);
    let warning = |code: &str| (code.to_owned(), Severity::Warning);
    assert_eq!(of("minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3"), []);
    assert_eq!(of("maxProtocolVersion: TLS_AUTO"), []);
    assert_eq!(of("minProtocolVersion: TLSV1_1"), [warning("RNG0301")]);
    assert_eq!(of("maxProtocolVersion: TLSV1_1"), [error("RNG0315")]);
    let crossed = "minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2";
    assert_eq!(of(crossed), [error("RNG0315")]);
    let (good, old) = ("ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA");
    assert_eq!(of(&format!("cipherSuites: [{good}]")), []);
    let mixed = codes(&format!("cipherSuites: [{good}, {old}]"));
    assert_eq!(mixed[0].1, Severity::Warning);
    assert!(mixed[0].2.contains(old) && !mixed[0].2.contains(good), "{mixed:?}");
    assert_eq!(of(&format!("cipherSuites: [{old}]")), [error("RNG0314")]);
    // TLS 1.3 has suites of its own; names that nobody knows are left out, as in Istio.
    let only_13 = format!("cipherSuites: [{old}], minProtocolVersion: TLSV1_3");
    assert_eq!(of(&only_13), [warning("RNG0314")]);
    assert_eq!(of("cipherSuites: [no-such-suite]"), []);
}
