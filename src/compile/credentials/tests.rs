//! Manifests, Secrets and files in, plain settings out. What the parts hold does not matter here.

use super::*;
use crate::compile::TlsSides;
use crate::compile::tests::resources;
use crate::config::ResourceSet;
use crate::config::credential_files::{
    CredentialFile, CredentialFiles, FileContent, FileState, MeshFolders, named_by,
};
use crate::tls::settings::{Bytes, Identity, Trust};

fn server(protocol: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  servers:\n  \
         - {{port: {{number: 80, name: a, protocol: HTTP}}, hosts: [\"*\"]}}\n  \
         - port: {{number: 443, name: b, protocol: {protocol}}}\n    hosts: [a.com]\n    \
         tls: {{{tls}}}\n---\n"
    )
}

/// A Secret of which every value is `NAME/KEY`.
fn secret(namespace: &str, name: &str, keys: &[&str]) -> String {
    let values: Vec<String> = keys.iter().map(|key| format!("{key}: {name}/{key}")).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         stringData: {{{}}}\n---\n",
        values.join(", ")
    )
}

/// A Secret of the gateway's namespace with a pair and these.
fn pair(name: &str, keys: &[&str]) -> String {
    secret("istio-system", name, &[&["tls.crt", "tls.key"], keys].concat())
}

fn bytes(text: &str) -> Bytes {
    Bytes(text.as_bytes().to_vec())
}

fn of_secret(name: &str) -> Identity {
    let (chain, key) = (bytes(&format!("{name}/tls.crt")), bytes(&format!("{name}/tls.key")));
    Identity { chain, key, ocsp_staple: None }
}

/// Every file holds its own path, but for those that are `missing`.
fn files(resources: &ResourceSet, missing: &str) -> CredentialFiles {
    let read = |file: CredentialFile| {
        let paths: Vec<Bytes> =
            file.paths().map(|path| bytes(&path.display().to_string())).collect();
        let content = match &paths[..] {
            [chain, key] => FileContent::Identity(Identity {
                chain: chain.clone(),
                key: key.clone(),
                ocsp_staple: None,
            }),
            [list] => FileContent::List(list.clone()),
            _ => panic!("one or two"),
        };
        let is_missing = !missing.is_empty() && file.to_string().contains(missing);
        let content = Some(content).filter(|_| !is_missing);
        let problem = is_missing.then(|| "gone".to_owned());
        (file, FileState { content, problem })
    };
    named_by(resources, &MeshFolders::default()).into_iter().map(read).collect()
}

/// Settings of the second server of the only Gateway, or field, code and words of the finding.
fn settings(text: &str, missing: &str) -> Result<ServerSettings, (String, &'static str, String)> {
    let resources = resources(text);
    let files = files(&resources, missing);
    let parts = Parts::new(&resources, &files, "istio-system");
    let gateway = resources.gateways().next().expect("a Gateway");
    let side = ServerSide { server: &gateway.spec.servers[1], gateway, effect: HANDSHAKES_FAIL };
    server_settings(&side, &parts).map_err(|found| {
        assert_eq!(found.severity, Severity::Warning);
        (found.field, found.code, found.message)
    })
}

#[track_caller]
fn assert_missing(text: &str, field: &str, code: &str) {
    let (at, found, message) = settings(text, "gone").expect_err("missing");
    let dot = if field.is_empty() { "" } else { "." };
    assert_eq!((at, found), (format!("spec.servers[1]{dot}{field}"), code));
    assert!(message.contains("TLS handshakes with this server fail"), "{message}");
}

#[test]
fn simple_servers_have_certificates_of_secrets() {
    let simple = server("HTTPS", "mode: SIMPLE, credentialName: s, subjectAltNames: [x]");
    let made = settings(&format!("{simple}{}", pair("s", &["ca.crt"])), "").expect("all there");
    let expected = ServerSettings {
        identities: vec![of_secret("s")],
        http: true,
        ..ServerSettings::default()
    };
    assert_eq!(made, expected);
    let tls = server("TLS", "mode: SIMPLE, credentialName: s, minProtocolVersion: TLSV1_3");
    let made = settings(&format!("{tls}{}", pair("s", &["tls.ocsp-staple"])), "").expect("there");
    assert!(!made.http);
    assert_eq!((made.version_min, made.version_max), (Some(TlsVersion::V1_3), None));
    assert_eq!(made.identities[0].ocsp_staple, Some(bytes("s/tls.ocsp-staple")));
    let two = server(
        "HTTPS",
        "mode: SIMPLE, credentialNames: [s, t], maxProtocolVersion: TLSV1_2, cipherSuites: [x]",
    );
    let made = settings(&format!("{two}{}{}", pair("s", &[]), pair("t", &[])), "").expect("both");
    assert_eq!(made.identities, [of_secret("s"), of_secret("t")]);
    assert_eq!(made.version_max, Some(TlsVersion::V1_2));
    assert_eq!(made.cipher_suites, ["x"]);
}

#[test]
fn a_part_that_is_missing_has_a_place() {
    let simple = server("HTTPS", "mode: SIMPLE, credentialName: s");
    assert_missing(&simple, "tls.credentialName", "IST0101");
    // Only Secrets of the gateway's own namespace count.
    let elsewhere = secret("default", "s", &["tls.crt", "tls.key"]);
    assert_missing(&format!("{simple}{elsewhere}"), "tls.credentialName", "IST0101");
    let half = secret("istio-system", "s", &["tls.crt"]);
    assert_missing(&format!("{simple}{half}"), "tls.credentialName", "IST0161");
    let two = server("HTTPS", "mode: SIMPLE, credentialNames: [s, t]");
    let first = format!("{two}{}", pair("s", &[]));
    assert_missing(&first, "tls.credentialNames[1]", "IST0101");
    let other = server("HTTPS", "mode: SIMPLE, credentialName: \"kubernetes-gateway://a/b\"");
    assert_missing(&other, "tls.credentialName", "RNG0100");
    let files = server("HTTPS", "mode: SIMPLE, serverCertificate: /c, privateKey: /gone");
    assert_missing(&files, "tls.serverCertificate", "RNG0311");
    assert_missing(&server("HTTPS", "mode: SIMPLE"), "tls", "IST0106");
    assert_missing(&server("HTTPS", "mode: PASSTHROUGH"), "", "IST0106");
    let old = server("HTTPS", "mode: SIMPLE, credentialName: s, maxProtocolVersion: TLSV1_1");
    let old = format!("{old}{}", pair("s", &[]));
    assert_missing(&old, "tls.maxProtocolVersion", "RNG0315");
}

#[test]
fn clients_are_asked_as_the_mode_says() {
    let text = |rest: &str| server("HTTPS", &format!("credentialName: s, {rest}"));
    let own = pair("s", &["cacert", "crl", "ca.crt", "ca.crl"]);
    let mutual = "mode: MUTUAL, subjectAltNames: [x, y], verifyCertificateHash: [h], \
                  verifyCertificateSpki: [k]";
    let made = settings(&format!("{}{own}", text(mutual)), "").expect("all there");
    assert_eq!(made.client_certificates, ClientCertificates::Required);
    let expected = Trust {
        authorities: Some(bytes("s/cacert")),
        revocations: Some(bytes("s/crl")),
        subject_alt_names: vec!["x".to_owned(), "y".to_owned()],
        key_pins: vec!["k".to_owned()],
        certificate_pins: vec!["h".to_owned()],
        ..Trust::default()
    };
    assert_eq!(made.trust, expected);
    // The Secret beside it comes first, one of its own before both.
    let beside = secret("istio-system", "s-cacert", &["ca.crt"]);
    let optional = format!("{}{own}{beside}", text("mode: OPTIONAL_MUTUAL"));
    let made = settings(&optional, "").expect("all there");
    assert_eq!(made.client_certificates, ClientCertificates::Optional);
    assert_eq!(made.trust.authorities, Some(bytes("s-cacert/ca.crt")));
    assert_eq!(made.trust.revocations, None);
    let named = format!(
        "{}{own}{beside}{}",
        text("mode: MUTUAL, caCertCredentialName: c"),
        secret("istio-system", "c", &["ca.crt", "ca.crl"])
    );
    let made = settings(&named, "").expect("all there");
    assert_eq!(made.trust.authorities, Some(bytes("c/ca.crt")));
    assert_eq!(made.trust.revocations, Some(bytes("c/ca.crl")));
    // Nobody is let in because the authorities are missing.
    let without = format!("{}{}", text("mode: MUTUAL"), pair("s", &[]));
    assert_missing(&without, "tls.credentialName", "IST0161");
    let open = format!("{}{}", text("mode: MUTUAL, insecureSkipVerify: true"), pair("s", &[]));
    let made = settings(&open, "").expect("nothing is missing");
    assert_eq!(made.client_certificates, ClientCertificates::Required);
    assert!(made.trust.skip_verification && made.trust.authorities.is_none());
}

#[test]
fn files_and_the_mesh_are_sources_too() {
    let mutual =
        "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /r";
    let made = settings(&server("HTTPS", mutual), "").expect("all there");
    let identity = |chain: &str, key: &str| Identity {
        chain: bytes(chain),
        key: bytes(key),
        ocsp_staple: None,
    };
    assert_eq!(made.identities, [identity("/c", "/k")]);
    assert_eq!(made.trust.authorities, Some(bytes("/ca")));
    assert_eq!(made.trust.revocations, Some(bytes("/r")));
    let two = "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}, \
               {serverCertificate: /d, privateKey: /l}]";
    let made = settings(&server("HTTPS", two), "").expect("all there");
    assert_eq!(made.identities, [identity("/c", "/k"), identity("/d", "/l")]);
    let mesh = server("HTTPS", "mode: ISTIO_MUTUAL");
    let made = settings(&mesh, "").expect("all there");
    let folder = "/var/run/secrets/workload-spiffe-credentials";
    let first = identity(&format!("{folder}/cert-chain.pem"), &format!("{folder}/key.pem"));
    assert_eq!(made.identities, [first]);
    assert_eq!(made.trust.authorities, Some(bytes(&format!("{folder}/root-cert.pem"))));
    assert_eq!(made.client_certificates, ClientCertificates::Required);
    let made = settings(&mesh, "spiffe").expect("the other folder");
    assert_eq!(made.identities, [identity("/etc/certs/cert-chain.pem", "/etc/certs/key.pem")]);
    assert_eq!(settings(&mesh, "/").expect_err("neither").1, "RNG0311");
}

/// Settings of the only DestinationRule's `tls`.
fn client(
    tls: &str,
    more: &str,
    missing: &str,
) -> Result<Option<ClientSettings>, (String, String)> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d}}\nspec:\n  \
         host: a.com\n  trafficPolicy: {{tls: {{{tls}}}}}\n---\n{more}"
    );
    let resources = resources(&text);
    let files = files(&resources, missing);
    let parts = Parts::new(&resources, &files, "istio-system");
    let rule = resources.destination_rules().next().expect("a rule");
    let settings = rule.spec.traffic_policy.as_ref().and_then(|policy| policy.tls.as_ref());
    let side = ClientSide {
        cluster: "outbound|443|v1|a.com",
        service_names: &["of.entry".to_owned()],
        rule,
    };
    client_settings(settings.expect("tls"), &side, &parts)
        .map_err(|found| (found.field, found.code.to_owned()))
}

#[test]
fn services_are_called_as_their_rule_says() {
    let made = |tls: &str, more: &str| client(tls, more, "").expect("all there");
    assert_eq!(made("mode: DISABLE, sni: x", ""), None);
    let simple = made("mode: SIMPLE", "").expect("TLS");
    let names = vec!["of.entry".to_owned()];
    let trust = Trust { subject_alt_names: names, ..Trust::default() };
    assert_eq!(simple, ClientSettings { trust, ..ClientSettings::default() });
    let own = made("mode: SIMPLE, sni: x, subjectAltNames: [y], caCertificates: system", "");
    let own = own.expect("TLS");
    assert_eq!(own.server_name.as_deref(), Some("x"));
    assert_eq!(own.trust.subject_alt_names, ["y"]);
    assert_eq!(own.trust.authorities, None);
    let files =
        "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /r";
    let files = made(files, "").expect("TLS");
    assert_eq!(files.identity.map(|identity| identity.key), Some(bytes("/k")));
    assert_eq!(files.trust.authorities, Some(bytes("/ca")));
    assert_eq!(files.trust.revocations, Some(bytes("/r")));
    let simple = made("mode: SIMPLE, credentialName: s", &pair("s", &["ca.crt"])).expect("TLS");
    assert_eq!(simple.identity, None);
    assert_eq!(simple.trust.authorities, Some(bytes("s/ca.crt")));
    let mutual = made("mode: MUTUAL, credentialName: s", &pair("s", &["ca.crt"])).expect("TLS");
    assert_eq!(mutual.identity, Some(of_secret("s")));
    let open = made("mode: SIMPLE, insecureSkipVerify: true", "").expect("TLS");
    assert!(open.trust.skip_verification);
    let mesh = made("mode: ISTIO_MUTUAL", "").expect("TLS");
    assert_eq!(mesh.server_name.as_deref(), Some("outbound_.443_.v1_.a.com"));
    assert!(mesh.identity.is_some() && mesh.trust.authorities.is_some());
    assert!(!mesh.trust.any_name, "the ServiceEntry names one");
}

#[test]
fn a_service_without_its_credentials_has_no_settings() {
    let field = |name: &str| format!("spec.trafficPolicy.tls.{name}");
    for (tls, more, at, code) in [
        ("mode: SIMPLE, credentialName: s", String::new(), "credentialName", "IST0101"),
        ("mode: SIMPLE, credentialName: s", pair("s", &[]), "credentialName", "IST0161"),
        ("mode: MUTUAL, credentialName: s", pair("t", &[]), "credentialName", "IST0101"),
        ("mode: SIMPLE, caCertificates: /gone", String::new(), "caCertificates", "RNG0311"),
        ("mode: SIMPLE, caCrl: /gone", String::new(), "caCrl", "RNG0311"),
        (
            "mode: MUTUAL, clientCertificate: /gone, privateKey: /k",
            String::new(),
            "clientCertificate",
            "RNG0311",
        ),
    ] {
        let found = client(tls, &more, "gone").expect_err(tls);
        assert_eq!(found, (field(at), code.to_owned()), "{tls}");
    }
    assert_eq!(client("mode: ISTIO_MUTUAL", "", "/").expect_err("no mesh").1, "RNG0311");
}

/// The clusters of a VirtualService that sends to two subsets and the whole of `a.com`.
fn clusters(policy: &str, more: &str) -> (Vec<crate::snapshot::Cluster>, TlsSides) {
    let destination = |subset: &str| format!("{{destination: {{host: a.com{subset}}}, weight: 1}}");
    let route = ["", ", subset: v1", ", subset: v2"].map(destination).join(", ");
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  servers:\n  \
         - {{port: {{number: 80, name: a, protocol: HTTP}}, hosts: [\"*\"]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  \
         {{hosts: [a.com], gateways: [g], http: [{{route: [{route}]}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec:\n  \
         {{hosts: [a.com], ports: [{{number: 443, name: http}}], resolution: STATIC,\n  \
         subjectAltNames: [of.entry], endpoints: [{{address: 192.0.2.1}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d}}\nspec:\n  \
         {{host: a.com, {policy}}}\n---\n{more}"
    );
    let resources = resources(&text);
    let files = files(&resources, "");
    let mut sides = TlsSides::default();
    let compiled = crate::compile::compile(
        &resources,
        &crate::compile::tests::options(),
        &crate::compile::DnsAnswers::default(),
        &files,
        &mut crate::metrics::LabelTable::new(),
        &mut sides,
    );
    assert_eq!(compiled.diagnostics, []);
    (compiled.snapshot.clusters, sides)
}

#[test]
fn the_settings_of_a_cluster_are_those_of_its_policy() {
    let policy = "trafficPolicy: {tls: {mode: SIMPLE, sni: whole}, portLevelSettings: [{port: \
                  {number: 80}, tls: {mode: SIMPLE, sni: other}}]}, subsets: [{name: v1, \
                  trafficPolicy: {tls: {mode: DISABLE}}}, {name: v2, trafficPolicy: \
                  {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, sni: port, \
                  subjectAltNames: [own]}}]}}]";
    let (made, sides) = clusters(policy, "");
    let settings: Vec<Option<(&str, &str)>> = made
        .iter()
        .map(|cluster| {
            assert_eq!(cluster.endpoints.len(), 1, "{}", cluster.name);
            let settings = sides.settings_of(&cluster.tls.as_ref()?.side).expect("kept");
            let name = settings.server_name.as_deref().expect("given");
            Some((name, settings.trust.subject_alt_names[0].as_str()))
        })
        .collect();
    assert_eq!(settings, [Some(("whole", "of.entry")), None, Some(("port", "own"))]);
}

#[test]
fn what_is_to_be_sent_by_tls_is_never_sent_in_clear_text() {
    let policy = "trafficPolicy: {tls: {mode: SIMPLE, credentialName: s}}, subsets: [{name: v1, \
                  trafficPolicy: {tls: {mode: DISABLE}}}, {name: v2}]";
    let endpoints = |more: &str| -> Vec<(usize, bool)> {
        let (made, _) = clusters(policy, more);
        let count =
            |cluster: &crate::snapshot::Cluster| (cluster.endpoints.len(), cluster.tls.is_some());
        made.iter().map(count).collect()
    };
    assert_eq!(endpoints(""), [(0, false), (1, false), (0, false)]);
    let made = rcgen::generate_simple_self_signed(["a.com".to_owned()]).expect("a certificate");
    let lines: Vec<String> = made.cert.pem().lines().map(|line| format!("    {line}\n")).collect();
    let good = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: istio-system}}\n\
         stringData:\n  ca.crt: |\n{}",
        lines.concat()
    );
    assert_eq!(endpoints(&good), [(1, true), (1, false), (1, true)]);
}
