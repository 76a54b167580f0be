//! `ringress demo`: the first thing that a newcomer runs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::block_on;
use crate::support::gateway::wait_until;

/// Killed when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hello_com_is_served_and_nothing_is_left() {
    let child = Command::new(env!("CARGO_BIN_EXE_ringress"))
        .args(["demo", "--port", "0", "--admin-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut demo = Demo(child);
    let mut lines = BufReader::new(demo.0.stdout.take().expect("piped")).lines();
    let mut printed = String::new();
    while !printed.contains("Stop it:") {
        let line = lines.next().expect("the demo says what it does").expect("text");
        printed.push_str(&line);
        printed.push('\n');
    }
    // Its access log goes to the same pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let word_after = |text: &str| -> String {
        let (_, rest) =
            printed.split_once(text).unwrap_or_else(|| panic!("{text:?} is not in:\n{printed}"));
        rest.split_whitespace().next().expect("a word").to_owned()
    };
    let url = word_after("curl -i -H 'Host: hello.com' ");
    let metrics = word_after("Metrics:    curl ");
    let directory = PathBuf::from(word_after("Manifests:  "));
    assert!(directory.join("gateway.yaml").exists());

    block_on(async {
        let client = reqwest::Client::new();
        let answer = client.get(&url).header("host", "hello.com").send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.expect("a body").starts_with("Hello from the hello service!"));
        let answer = client
            .post(&url)
            .header("host", "hello.com")
            .body("some body")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
        let answer = client.get(&url).header("host", "other.com").send().await.expect("an answer");
        assert_eq!(answer.status(), 404);
        let page = reqwest::get(&metrics).await.expect("metrics").text().await.expect("text");
        assert!(page.contains("istio_requests_total{"), "{page}");
    });

    // SAFETY: a plain system call on our own child.
    let outcome = unsafe { libc::kill(demo.0.id() as libc::pid_t, libc::SIGINT) };
    assert_eq!(outcome, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = demo.0.try_wait().expect("our child") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
    wait_until("the manifests are gone", || !directory.exists());
}
