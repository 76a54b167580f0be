//! h2load of nghttp2 as a client: many requests in many shapes, none of which may fail. Where it is not
//! installed (`nghttp2-client` of Debian) these tests are left out; `.ci/run` installs it if it can.

use std::net::SocketAddr;
use std::process::Command;

use crate::http2::before_http2;
use crate::support::http2::Http2Upstream;
use crate::support::tls::Authority;
use crate::support::{Gateway, Upstream, pattern};
use crate::tls::{simple, start};

/// Files whose bytes are sent.
struct Bodies {
    folder: tempfile::TempDir,
}

impl Bodies {
    fn new() -> Bodies {
        let folder = tempfile::TempDir::new().expect("a folder");
        for (name, size) in [("small", 3000), ("large", 1024 * 1024)] {
            std::fs::write(folder.path().join(name), pattern(size)).expect("written");
        }
        Bodies { folder }
    }

    /// Send every shape to `url`, which is at `address`.
    fn send(&self, address: SocketAddr, url: &str) {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let (small, large) = (path("small"), path("large"));
        let fields: Vec<String> = (0..40)
            .map(|index| format!("-Hx-field-{index}: {}", "v".repeat(1 + index * 5)))
            .collect();
        let mut heavy = vec!["-c5", "-m20"];
        heavy.extend(fields.iter().map(String::as_str));
        let shapes: [(u64, &[&str]); 7] = [
            (2000, &["-c10", "-m10"]),
            (2000, &["-c2", "-m100"]),
            (500, &["-c10", "-m10", "-d", &small]),
            (30, &["-c3", "-m10", "-d", &large]),
            // Windows that are much smaller than a body.
            (30, &["-c3", "-m10", "-w14", "-W16", "-d", &large]),
            (500, &heavy),
            (500, &["-c10", "--h1"]),
        ];
        for (requests, shape) in shapes {
            let output = Command::new("h2load")
                .args(["-t1", "-T60", "-N60", "-n"])
                .arg(requests.to_string())
                .arg(format!("--connect-to={address}"))
                .args(shape)
                .arg(url)
                .output()
                .expect("h2load runs");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            let done = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
            let answers = format!("{requests} 2xx, 0 3xx, 0 4xx, 0 5xx");
            assert!(
                output.status.success() && printed.contains(&done) && printed.contains(&answers),
                "{url} {shape:?}: {printed}{errors}"
            );
        }
    }
}

/// False: its tests are to be left out.
fn is_installed() -> bool {
    let installed = Command::new("h2load").arg("--version").output().is_ok();
    if !installed {
        eprintln!("no h2load here: its tests are left out");
    }
    installed
}

#[test]
fn no_request_in_clear_text_fails() {
    if !is_installed() {
        return;
    }
    let bodies = Bodies::new();
    let http1 = Upstream::echo();
    bodies.send(Gateway::before(&[http1.address], &[]).address, "http://hello.com/");
    let http2 = Http2Upstream::start();
    bodies.send(before_http2(&http2).address, "http://hello.com/");
}

#[test]
fn no_request_in_tls_fails() {
    if !is_installed() {
        return;
    }
    let upstream = Upstream::echo();
    let (_gateway, address) = start(&simple(&upstream, &Authority::new()), &[]);
    Bodies::new().send(address, "https://a.com/");
}
