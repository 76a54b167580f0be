//! `ringress doctor`: what on this machine would slow the gateway down or stop it, and the command
//! that mends it. Reads only; changes nothing.

use std::fmt;
use std::fs;
use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::net::listener;
use crate::net::runtime::{Driver, DriverChoice, RingFlags};

/// Options of `ringress doctor`.
#[derive(Clone, Debug, Args)]
pub(super) struct DoctorOptions {
    /// Connections that the gateway is to hold at the same time, for the check of limits.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: u64,

    /// Ports that the gateway is to listen on.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    Slower,
    Broken,
}

struct Finding {
    grade: Grade,
    subject: &'static str,
    fact: String,
    remedy: Option<String>,
}

impl Finding {
    fn good(subject: &'static str, fact: String) -> Finding {
        Finding { grade: Grade::Good, subject, fact, remedy: None }
    }

    fn slower(subject: &'static str, fact: String, remedy: impl Into<String>) -> Finding {
        Finding { grade: Grade::Slower, subject, fact, remedy: Some(remedy.into()) }
    }

    fn broken(subject: &'static str, fact: String, remedy: impl Into<String>) -> Finding {
        Finding { grade: Grade::Broken, subject, fact, remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.grade {
            Grade::Good => "ok  ",
            Grade::Slower => "SLOW",
            Grade::Broken => "FAIL",
        };
        write!(f, "{mark} {:<14} {}", self.subject, self.fact)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\n     {:<14} -> {remedy}", "")?;
        }
        Ok(())
    }
}

/// Print the findings. Exit code 1 when something would stop the gateway.
pub(super) fn run(options: &DoctorOptions) -> ExitCode {
    let mut findings = vec![kernel(), io_uring(), ring_flags(), seccomp(), memlock()];
    findings.push(open_files(options.connections));
    findings.extend(cores());
    findings.push(backlog());
    findings.push(local_ports());
    findings.extend(options.ports.iter().map(|port| port_is_free(*port)));
    for finding in &findings {
        println!("{finding}");
    }
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Good);
    println!();
    match worst {
        Grade::Good => println!("This machine is fit."),
        Grade::Slower => println!("The gateway runs here, but not at its best."),
        Grade::Broken => println!("The gateway does not run here as asked."),
    }
    if worst == Grade::Broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn read_number(path: &str) -> Option<u64> {
    read(path)?.split_whitespace().next()?.parse().ok()
}

/// Major and minor version of the running kernel.
fn kernel_version() -> Option<(u32, u32)> {
    parse_version(&read("/proc/sys/kernel/osrelease")?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let fact = format!("Linux {release}");
    match kernel_version() {
        Some(version) if version >= (6, 1) => Finding::good("kernel", fact),
        Some(version) if version >= (5, 19) => Finding::slower(
            "kernel",
            format!("{fact}: no IORING_SETUP_DEFER_TASKRUN"),
            "Linux 6.1 or newer saves about 15 % of the CPU per request",
        ),
        Some(version) if version >= (5, 6) => Finding::slower(
            "kernel",
            format!("{fact}: io_uring without the cheap completion modes"),
            "Linux 6.1 or newer saves about a third of the CPU per request",
        ),
        _ => Finding::slower(
            "kernel",
            format!("{fact}: io_uring is missing or too old"),
            "the gateway uses epoll here; Linux 6.1 or newer is better",
        ),
    }
}

fn io_uring() -> Finding {
    let disabled = read_number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let remedy = match disabled {
        2 => "sysctl -w kernel.io_uring_disabled=0",
        1 => {
            "sysctl -w kernel.io_uring_disabled=0, or add the user's group to \
             kernel.io_uring_group"
        }
        _ => {
            "a seccomp profile refuses io_uring_setup (containers' default profiles do since \
             2023): run with a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register (docker: --security-opt seccomp=FILE; Kubernetes: \
             securityContext.seccompProfile)"
        }
    };
    match Driver::choose(DriverChoice::IoUring) {
        Ok(_) => Finding::good("io_uring", "allowed".into()),
        Err(error) => Finding::slower(
            "io_uring",
            format!("refused: {error} (kernel.io_uring_disabled = {disabled}); epoll is used"),
            remedy,
        ),
    }
}

fn ring_flags() -> Finding {
    let outcomes: Vec<(RingFlags, io::Result<()>)> =
        RingFlags::ALL.iter().map(|flags| (*flags, flags.probe())).collect();
    let text: Vec<String> = outcomes
        .iter()
        .map(|(flags, outcome)| match outcome {
            Ok(()) => format!("{flags}: yes"),
            Err(error) => format!("{flags}: no ({error})"),
        })
        .collect();
    let fact = text.join("; ");
    match outcomes.first() {
        Some((_, Ok(()))) => Finding::good("ring flags", fact),
        _ => Finding::slower("ring flags", fact, "see the lines on kernel, io_uring and memlock"),
    }
}

fn seccomp() -> Finding {
    let status = read("/proc/self/status").unwrap_or_default();
    let mode =
        status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map_or("unknown", str::trim);
    let fact = match mode {
        "0" => "no filter".to_owned(),
        "2" => "a filter is active".to_owned(),
        other => format!("mode {other}"),
    };
    // Whether the filter matters is told by the io_uring line.
    Finding::good("seccomp", fact)
}

fn limit(resource: libc::__rlimit_resource_t) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that fills the structure it is given.
    let outcome = unsafe { libc::getrlimit(resource, &mut limit) };
    (outcome == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

fn memlock() -> Finding {
    let Some((soft, _)) = limit(libc::RLIMIT_MEMLOCK) else {
        return Finding::good("memlock", "unknown".into());
    };
    let fact = if soft == libc::RLIM_INFINITY {
        "unlimited".to_owned()
    } else {
        format!("{} KiB", soft / 1024)
    };
    // Since 5.12 rings are charged to the memory cgroup instead.
    let counts = kernel_version().is_some_and(|version| version < (5, 12));
    if counts && soft < 64 * 1024 * 1024 {
        return Finding::slower(
            "memlock",
            format!("{fact}: rings of this kernel count against it"),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
        );
    }
    Finding::good("memlock", fact)
}

fn open_files(connections: u64) -> Finding {
    let Some((soft, hard)) = limit(libc::RLIMIT_NOFILE) else {
        return Finding::good("open files", "unknown".into());
    };
    let fact =
        format!("soft {soft}, hard {hard} (the gateway raises the soft one to the hard one)");
    // One descriptor downstream, one upstream, and some for everything else.
    let needed = connections * 2 + 256;
    if hard < needed {
        return Finding::broken(
            "open files",
            format!("{fact}: {connections} connections need about {needed}"),
            format!("ulimit -Hn {needed}, or LimitNOFILE={needed} in the systemd unit"),
        );
    }
    Finding::good("open files", fact)
}

fn cores() -> Vec<Finding> {
    let allowed = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    let mut findings =
        vec![Finding::good("cores", format!("{allowed} allowed, so that many workers"))];
    let quota = read("/sys/fs/cgroup/cpu.max").unwrap_or_default();
    let mut parts = quota.split_whitespace().map(str::parse::<f64>);
    if let (Some(Ok(quota)), Some(Ok(period))) = (parts.next(), parts.next())
        && period > 0.0
    {
        let share = quota / period;
        findings.push(if share + 0.01 < allowed as f64 {
            Finding::slower(
                "cgroup quota",
                format!("{share:.2} CPUs for {allowed} workers: they would be throttled"),
                format!("run with --workers {}, or raise the CPU limit", share.max(1.0) as usize),
            )
        } else {
            Finding::good("cgroup quota", format!("{share:.2} CPUs"))
        });
    }
    findings
}

fn backlog() -> Finding {
    let somaxconn = read_number("/proc/sys/net/core/somaxconn").unwrap_or(0);
    let wanted = crate::limits::LISTEN_BACKLOG as u64;
    let fact = format!("net.core.somaxconn = {somaxconn}");
    if somaxconn < wanted {
        return Finding::slower(
            "backlog",
            format!("{fact}: bursts of new connections may be refused"),
            format!("sysctl -w net.core.somaxconn={wanted}"),
        );
    }
    Finding::good("backlog", fact)
}

fn local_ports() -> Finding {
    let range = read("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return Finding::good("local ports", "unknown".into());
    };
    let count = last.saturating_sub(first) + 1;
    let fact = format!("{count} for connections to one endpoint");
    if count < 20_000 {
        return Finding::slower(
            "local ports",
            fact,
            "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
        );
    }
    Finding::good("local ports", fact)
}

fn port_is_free(port: u16) -> Finding {
    match listener::probe(([0, 0, 0, 0], port).into()) {
        Ok(()) => Finding::good("port", format!("{port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::broken(
            "port",
            format!("{port} is in use"),
            format!("find who has it with: ss -ltnp 'sport = :{port}'"),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::broken(
            "port",
            format!("{port} needs a privilege"),
            format!(
                "map it with --port-map {port}={}, or: setcap cap_net_bind_service=+ep on the \
                 binary, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit",
                u32::from(port) + 8000
            ),
        ),
        Err(error) => {
            Finding::broken("port", format!("{port} cannot be bound: {error}"), "see the error")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(parse_version("6.18.44-generic"), Some((6, 18)));
        assert_eq!(parse_version("5.4.0"), Some((5, 4)));
        assert_eq!(parse_version("weird"), None);
    }

    #[test]
    fn a_port_that_is_taken_is_said_to_be() {
        let socket = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        let finding = port_is_free(port);
        assert_eq!(finding.grade, Grade::Broken);
        assert!(finding.fact.contains("in use"));
    }

    #[test]
    fn too_few_descriptors_are_a_failure() {
        let finding = open_files(u64::MAX / 4);
        assert_eq!(finding.grade, Grade::Broken);
        assert!(finding.remedy.is_some());
    }
}
