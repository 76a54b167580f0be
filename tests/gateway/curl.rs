//! curl as a client: TLS by OpenSSL, HTTP/2 by nghttp2, neither of which is ours or shares code with us.
//!
//! It must be there, with HTTP/2. Who has none says so by `RINGRESS_TESTS_WITHOUT_CURL=1`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::manifests::service;
use crate::support::tls::{Authority, secret};
use crate::support::{Upstream, pattern};
use crate::tls::{gateway, routes, server, simple, start};

/// False: its tests are to be left out.
fn is_wanted() -> bool {
    if std::env::var_os("RINGRESS_TESTS_WITHOUT_CURL").is_some() {
        eprintln!("left out, as RINGRESS_TESTS_WITHOUT_CURL says");
        return false;
    }
    let version = Command::new("curl").arg("--version").output().map(|output| output.stdout);
    let version = String::from_utf8(version.unwrap_or_default()).expect("text");
    assert!(
        version.contains("HTTP2"),
        "these tests need curl with HTTP/2 (or RINGRESS_TESTS_WITHOUT_CURL=1): {version}"
    );
    true
}

/// What a request is made with.
struct Curl {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Curl {
    fn new(address: SocketAddr, authority: &Authority) -> Curl {
        let folder = tempfile::TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        Curl { folder, address }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// Run it with these flags for `a.com`; what it printed and its exit code. Of each transfer it prints
    /// status and version, then its errors.
    fn run(&self, flags: &[&str], urls: &[&str]) -> (String, Option<i32>) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "30", "-w", "%{http_code} %{http_version}\n"]);
        command.arg("--cacert").arg(self.folder.path().join("ca.pem"));
        command.arg("--connect-to").arg(format!("a.com:443:{}", self.address)).args(flags);
        for (index, url) in urls.iter().enumerate() {
            command.arg("-o").arg(self.body(index)).arg(url);
        }
        let output = command.output().expect("curl runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (printed + &errors, output.status.code())
    }

    /// Where the body of a transfer is put.
    fn body(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("body-{index}"))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn every_version_of_both_protocols_is_agreed_on() {
    if !is_wanted() {
        return;
    }
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let (_gateway, address) = start(&simple(&upstream, &authority), &[]);
    let curl = Curl::new(address, &authority);
    for (flags, spoken) in [
        (&["--http1.1"][..], "1.1"),
        (&["--http2"], "2"),
        (&[], "2"),
        (&["--http1.1", "--tlsv1.2", "--tls-max", "1.2"], "1.1"),
        (&["--http2", "--tlsv1.2", "--tls-max", "1.2"], "2"),
        (&["--http2", "--tlsv1.3"], "2"),
        (&["--no-alpn"], "1.1"),
    ] {
        let (printed, code) = curl.run(flags, &["https://a.com/"]);
        assert_eq!((printed.as_str(), code), (&*format!("200 {spoken}\n"), Some(0)), "{flags:?}");
        assert_eq!(std::fs::read(curl.body(0)).expect("a body"), b"hello");
    }
}

#[test]
fn bodies_go_both_ways_and_a_connection_is_used_again() {
    if !is_wanted() {
        return;
    }
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let (gateway, address) = start(&simple(&upstream, &authority), &[]);
    let curl = Curl::new(address, &authority);
    let sent = pattern(3_000_000);
    let upload = curl.file("upload", &sent);
    let upload = format!("@{}", text(&upload));
    for (index, (version, spoken)) in [("--http2", "2"), ("--http1.1", "1.1")].iter().enumerate() {
        let urls = ["https://a.com/one", "https://a.com/two", "https://a.com/three"];
        let flags = [version, "-H", "Expect:", "--data-binary", &upload];
        let (printed, code) = curl.run(&flags, &urls);
        let expected = format!("200 {spoken}\n").repeat(3);
        assert_eq!((printed, code), (expected, Some(0)));
        for url in 0..urls.len() {
            assert!(std::fs::read(curl.body(url)).expect("a body") == sent, "{version} {url}");
        }
        gateway.wait_for_metrics("one connection for the three", |metrics| {
            let handshakes = metrics.sum("ringress_downstream_tls_handshakes_total", &[]);
            handshakes == (index + 1) as f64
        });
    }
}

#[test]
fn streams_side_by_side_share_a_connection() {
    if !is_wanted() {
        return;
    }
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let (gateway, address) = start(&simple(&upstream, &authority), &[]);
    let curl = Curl::new(address, &authority);
    let urls: Vec<String> = (0..40).map(|index| format!("https://a.com/{index}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let flags = ["--http2", "--parallel", "--parallel-max", "20"];
    let (printed, code) = curl.run(&flags, &urls);
    // Behind it is its progress meter.
    assert!(printed.starts_with(&"200 2\n".repeat(40)) && code == Some(0), "{printed}");
    assert_eq!(upstream.seen().len(), 40);
    let handshakes = gateway.metrics().sum("ringress_downstream_tls_handshakes_total", &[]);
    assert!(handshakes < 40.0, "{handshakes} connections for 40 requests");
}

#[test]
fn a_client_hears_what_is_wrong_with_its_certificate() {
    if !is_wanted() {
        return;
    }
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue_rsa(&["a.com"]);
    let manifests = [
        gateway("g", &server("https", "{mode: MUTUAL, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret(
            "cert",
            &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority.pem())],
        ),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let curl = Curl::new(address, &authority);
    let good = authority.issue_client("spiffe://good");
    let stranger = Authority::new().issue_client("spiffe://good");
    let files = |name: &str, pair: &crate::support::tls::Pair| {
        let certificate = curl.file(&format!("{name}.pem"), &pair.certificate);
        let key = curl.file(&format!("{name}.key"), &pair.key);
        (certificate, key)
    };
    let (certificate, key) = files("good", &good);
    let own = ["--cert", text(&certificate), "--key", text(&key)];
    let (other, other_key) = files("stranger", &stranger);
    let others = ["--cert", text(&other), "--key", text(&other_key)];
    for version in ["--http1.1", "--http2"] {
        for limit in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let run = |flags: &[&str]| {
                let flags = [&[version][..], limit, flags].concat();
                curl.run(&flags, &["https://a.com/"])
            };
            let (printed, code) = run(&own);
            assert!(printed.starts_with("200 ") && code == Some(0), "{printed}");
            // OpenSSL's words for the alerts: the client can be told what to mend.
            let (printed, code) = run(&others);
            assert!(printed.contains("unknown ca") && code != Some(0), "{limit:?}: {printed}");
            let (printed, code) = run(&[]);
            assert!(code != Some(0), "{printed}");
            let alert = match limit[0] {
                "--tlsv1.3" => "certificate required",
                _ => "alert",
            };
            assert!(printed.contains(alert), "{limit:?}: {printed}");
        }
    }
}
