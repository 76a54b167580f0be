//! The gateway as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::manifests;
use super::metrics::Metrics;
use super::raw::Raw;

const BINARY: &str = env!("CARGO_BIN_EXE_ringress");
/// Only keeps a hang from blocking the suite.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    /// Where it listens for Gateway port 80.
    pub address: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    directory: TempDir,
    log: Arc<Mutex<String>>,
    lines: Receiver<String>,
}

/// A port that nobody uses: each is given once, from below the range out of which the kernel takes
/// ports for outgoing connections, and every process of tests has its own hundred.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_240 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Wait until what is counted has begun and stands still: nobody takes any more. Returns the count.
pub fn wait_for_standstill(count: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    wait_until("a standstill", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = count.load(Ordering::SeqCst);
        let stopped = now > 0 && now == last;
        last = now;
        stopped
    });
    last
}

/// Wait until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The binary with arguments, for commands that end by themselves.
pub fn ringress(arguments: &[&str]) -> std::process::Output {
    Command::new(BINARY).args(arguments).env_remove("RUST_LOG").output().expect("the binary runs")
}

impl Gateway {
    /// Start with these manifests and wait until it is ready.
    pub fn start(manifests: &[(&str, &str)]) -> Gateway {
        Gateway::start_with(manifests, &[])
    }

    /// Start with further arguments.
    pub fn start_with(manifests: &[(&str, &str)], arguments: &[&str]) -> Gateway {
        let mut gateway = Gateway::launch(manifests, arguments, |_| {});
        gateway.wait_until_ready();
        gateway
    }

    /// Start with the tutorial's manifests before these endpoints of `hello`.
    pub fn before(endpoints: &[SocketAddr], arguments: &[&str]) -> Gateway {
        let service = manifests::hello_service(endpoints);
        Gateway::start_with(
            &[("gateway.yaml", manifests::HELLO), ("service.yaml", &service)],
            arguments,
        )
    }

    /// Start without waiting; `change` may change the command (variables, limits).
    pub fn launch(
        manifests: &[(&str, &str)],
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Gateway {
        let directory = TempDir::new().expect("a directory");
        for (name, text) in manifests {
            write(directory.path(), name, text);
        }
        let port = free_port();
        let mut command = Command::new(BINARY);
        command
            .arg("run")
            .arg("--config")
            .arg(directory.path())
            .args(["--bind", "127.0.0.1", "--admin-only", "--admin-port", "0"])
            .arg(format!("--port-map=80={port}"))
            .args(arguments)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !arguments.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        change(&mut command);
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        for stream in [
            Box::new(child.stderr.take().expect("piped")) as Box<dyn Read + Send>,
            Box::new(child.stdout.take().expect("piped")),
        ] {
            let (sender, log) = (sender.clone(), Arc::clone(&log));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut log = log.lock().expect("not poisoned");
                    log.push_str(&line);
                    log.push('\n');
                    drop(log);
                    let _ = sender.send(line);
                }
            });
        }
        Gateway {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            directory,
            log,
            lines,
        }
    }

    /// Wait until it serves.
    pub fn wait_until_ready(&mut self) {
        let ready = self.wait_for_line("ready: ");
        self.admin = ready
            .split_once("admin=")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no admin address in {ready:?}"));
    }

    /// Wait for a line of output that contains `text`.
    pub fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} in:\n{}", self.log())
                }
            }
        }
    }

    /// Wait for a line of a JSON access log that fits.
    pub fn wait_for_log(
        &self,
        file: &Path,
        fits: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let found = lines.find_map(|line| {
                let line = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
                fits(&line).then_some(line)
            });
            if let Some(line) = found {
                return line;
            }
            assert!(Instant::now() < deadline, "no such line in:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// GET an admin page: status and body.
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut raw = Raw::connect(self.admin);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"));
        let response = raw.response();
        (response.status, String::from_utf8(response.body).expect("text"))
    }

    /// GET an admin page that is JSON.
    pub fn json(&self, path: &str) -> serde_json::Value {
        let (status, text) = self.page(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// The metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.page("/stats/prometheus").1)
    }

    /// Wait until the metrics are as wanted.
    pub fn wait_for_metrics(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) {
        wait_until(what, || wanted(&self.metrics()));
    }

    /// Wait until every worker routes by this generation or a later one.
    pub fn wait_for_generation(&self, generation: u64) {
        self.wait_for_metrics(&format!("generation {generation}"), |metrics| {
            let workers = metrics.find("ringress_worker_config_generation", &[]);
            !workers.is_empty() && workers.iter().all(|worker| worker.value >= generation as f64)
        });
    }

    /// The generation of the configuration that was published last.
    pub fn generation(&self) -> u64 {
        self.metrics().sum("ringress_config_generation", &[]) as u64
    }

    /// All output so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// `http://…` of a path on the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Replace or add a manifest the way editors do: write beside, then rename.
    pub fn write(&self, name: &str, text: &str) {
        write(self.directory.path(), name, text);
    }

    /// Delete a manifest.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.directory.path().join(name)).expect("it exists");
    }

    /// Send a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a plain system call on our own child.
        let outcome = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(outcome, 0, "the child is there");
    }

    /// Wait for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
        }
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a directory");
    }
    let beside = directory.join(format!(".{}.new", name.replace('/', "-")));
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, &path).expect("renamed");
}
