//! The proxies under test: where they are, how they are started, what version they are.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::Pinned;
use crate::load::{self, Plan};
use crate::options::Options;
use crate::service::Service;
use crate::tls::{self, CERTIFICATE_FILE, Identity};
use crate::{manifest, peers, sys};

/// How long a proxy may take from its start to its first response; 10,000 hosts take a while.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A proxy that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Floor,
    Ringress,
    Nginx,
    Haproxy,
    Envoy,
}

impl Subject {
    /// Every subject, in the order of the tables.
    pub(crate) const ALL: [Self; 5] =
        [Self::Floor, Self::Ringress, Self::Nginx, Self::Haproxy, Self::Envoy];

    /// Its name, which for peers is also their program's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ringress => "ringress",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// The subject of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Ours, whose failure fails the run; a peer's is only reported.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Floor | Self::Ringress)
    }
}

/// A subject that is here, and its version in its own words.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) subject: Subject,
    pub(crate) version: String,
    program: PathBuf,
}

/// Finds a subject's program; an error says why there is none.
pub(crate) fn find(subject: Subject, options: &Options) -> Result<Installed, String> {
    let (program, version) = match subject {
        Subject::Floor => {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            (program, format!("bench-proxy {}", env!("CARGO_PKG_VERSION")))
        }
        Subject::Ringress => {
            let program = ringress(options)?;
            let version = version_line(&program, "--version");
            (program, version)
        }
        Subject::Nginx | Subject::Haproxy | Subject::Envoy => {
            let program = on_path(subject.name()).ok_or_else(|| "not installed".to_owned())?;
            let flag = if subject == Subject::Envoy { "--version" } else { "-v" };
            let version = version_line(&program, flag);
            (program, version)
        }
    };
    Ok(Installed { subject, version, program })
}

/// Ringress beside ourselves in the target directory; built there if it is missing.
fn ringress(options: &Options) -> Result<PathBuf, String> {
    if let Some(path) = &options.ringress {
        return if path.is_file() {
            Ok(path.clone())
        } else {
            Err(format!("{} does not exist", path.display()))
        };
    }
    let ours = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = ours.with_file_name("ringress");
    if !program.is_file() {
        eprintln!("{} is missing: building it", program.display());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "-p", "ringress"])
            .current_dir(root)
            .status()
            .map_err(|error| format!("cannot run cargo to build it: {error}"))?;
        if !status.success() || !program.is_file() {
            return Err(format!("cargo did not build {}", program.display()));
        }
    }
    Ok(program)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Daemons often lie where only root's PATH looks.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
}

/// What a program says about its version, in its own words.
fn version_line(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "unknown".to_owned() };
    let said = [output.stdout, output.stderr].concat();
    version_in(&String::from_utf8_lossy(&said)).to_owned()
}

/// The first line with words in it, from the version on where it is announced as `version:`, and
/// without a trailing address.
fn version_in(said: &str) -> &str {
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown");
    let line = line.split_once("version:").map_or(line, |(_, version)| version);
    line.split(" - http").next().unwrap_or(line).trim()
}

/// What a start needs to know.
pub(crate) struct Surroundings<'a> {
    pub(crate) options: &'a Options,
    /// Where configurations and logs are written, and the files of the certificate are.
    pub(crate) directory: &'a Path,
    /// What every proxy shows to clients by TLS.
    pub(crate) identity: &'a Identity,
    /// Ports of the upstreams on 127.0.0.1.
    pub(crate) http1_port: u16,
    pub(crate) grpc_port: u16,
}

impl Surroundings<'_> {
    /// The port of the upstream that a service has.
    pub(crate) fn upstream_port(&self, service: Service) -> u16 {
        if service == Service::Grpc { self.grpc_port } else { self.http1_port }
    }
}

/// A proxy that answers.
pub(crate) struct Running {
    pub(crate) process: Pinned,
    pub(crate) port: u16,
}

impl Installed {
    /// Starts the proxy with this service for these hosts (peers serve only [`manifest::HELLO`])
    /// and `arguments` (for Ringress; without any it has no admin port), and waits until it answers a request for the first with 200.
    pub(crate) fn start(
        &self,
        around: &Surroundings<'_>,
        service: Service,
        hosts: &[String],
        arguments: &[String],
    ) -> Result<Running, String> {
        let name = self.subject.name();
        let port = free_port()?;
        let mut trial = Plan::new();
        trial.port = port;
        trial.protocol = service.protocol();
        trial.hosts = vec![hosts.first().map_or(manifest::HELLO, String::as_str).to_owned()];
        if service.is_tls() {
            let trusted = around.directory.join(CERTIFICATE_FILE);
            trial.tls = Some(tls::client(&trusted, service.protocol())?);
        }
        let command = self.command(around, service, hosts, arguments, port)?;
        let log = around.directory.join(format!("{name}.log"));
        let core = around.options.proxy_core;
        let mut running =
            Running { process: Pinned::start(name, command, core, &log, false)?, port };
        let deadline = Instant::now() + START_PATIENCE;
        let mut last = String::new();
        while Instant::now() < deadline {
            running.process.still_runs()?;
            if sys::interrupted() {
                return Err("interrupted".to_owned());
            }
            match load::probe(&trial) {
                Ok(200) => return Ok(running),
                Ok(status) => last = format!("status {status}"),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{name}: no 200 within {START_PATIENCE:?}; the last try gave: {last}"))
    }

    fn command(
        &self,
        around: &Surroundings<'_>,
        service: Service,
        hosts: &[String],
        arguments: &[String],
        port: u16,
    ) -> Result<Command, String> {
        let mut command = Command::new(&self.program);
        let write = |name: &str, text: &str| {
            let path = around.directory.join(name);
            fs::write(&path, text).map(|()| path).map_err(|error| format!("{name}: {error}"))
        };
        let upstream = around.upstream_port(service);
        let peer = peers::configuration(self.subject, service, around, port).unwrap_or_default();
        match self.subject {
            Subject::Floor => {
                command.args(["floor", "--port", &port.to_string()]);
                command.args(["--upstream", &upstream.to_string()]);
            }
            Subject::Ringress => {
                let text = manifest::render(hosts, service, upstream, around.identity);
                let file = write("ringress.yaml", &text)?;
                command.arg("run").arg("--config").arg(file);
                command.args(["--port-map", &format!("{}={port}", manifest::port(service))]);
                command.args(["--bind", "127.0.0.1"]);
                if arguments.is_empty() {
                    command.arg("--no-admin");
                }
                command.args(arguments);
                command.args(["--cores", &around.options.proxy_core.to_string()]);
                command.args(&around.options.ringress_args);
            }
            Subject::Nginx => {
                let file = write("nginx.conf", &peer)?;
                command.arg("-p").arg(around.directory).arg("-e").arg("stderr").arg("-c").arg(file);
            }
            Subject::Haproxy => {
                let file = write("haproxy.cfg", &peer)?;
                command.args(["-db", "-q", "-f"]).arg(file);
            }
            Subject::Envoy => {
                let file = write("envoy.yaml", &peer)?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]);
                command.arg(file);
            }
        }
        Ok(command)
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("nginx version: nginx/1.22.1\n", "nginx/1.22.1"),
            ("\n/opt/envoy  version: 9e55/1.40.0/Clean\n\n", "9e55/1.40.0/Clean"),
            ("HAProxy version 2.6.12 - https://haproxy.org/\nStatus: x", "HAProxy version 2.6.12"),
            ("ringress 0.1.0\n", "ringress 0.1.0"),
            ("", "unknown"),
        ] {
            assert_eq!(version_in(said), version);
        }
    }

    #[test]
    fn names_lead_back_to_their_subject() {
        for subject in Subject::ALL {
            assert_eq!(Subject::named(subject.name()), Some(subject));
        }
        assert_eq!(Subject::named("apache"), None);
    }
}
