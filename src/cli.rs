//! The command line.

pub mod access_log_flags;
mod check;
mod columns;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod doctor;
mod explain;
mod live;
pub mod options;
mod sarif;
mod slo;
mod tap;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use options::RunOptions;

/// An Istio-compatible ingress gateway in one binary.
///
/// Ringress reads Istio's Gateway, VirtualService, DestinationRule and ServiceEntry manifests and
/// Kubernetes Services and endpoints from files, and serves them itself: one worker per core,
/// io_uring, nothing shared.
#[derive(Debug, Parser)]
#[command(name = "ringress", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the manifests of a file or directory, and follow their changes.
    Run(Box<RunOptions>),
    /// Serve `hello.com` from an embedded backend on loopback, and print the command to try.
    #[cfg(feature = "demo")]
    Demo(demo::DemoOptions),
    /// Read manifests, resolve their references, and print every problem with its place.
    Check(check::CheckOptions),
    /// Say where a request would go and why, and what the upstream would see, without sending it.
    Explain(explain::ExplainOptions),
    /// Replay requests through two sets of manifests and say which would be answered differently.
    Diff(diff::DiffOptions),
    /// Show requests of a running gateway as they pass.
    Tap(tap::TapOptions),
    /// Show the service level objectives of a running gateway, or make alert rules for Prometheus of them.
    Slo(slo::SloOptions),
    /// Watch the traffic of a running gateway in the terminal: rate, errors, latencies per route.
    Top(top::TopOptions),
    /// Look for what on this machine would slow the gateway down or stop it, and say what mends it.
    Doctor(doctor::DoctorOptions),
}

/// Parse the arguments, do what they say, and turn the outcome into an exit code: 0 done, 1 failed,
/// 2 unusable arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(options) => report(crate::server::run(&options)),
        #[cfg(feature = "demo")]
        Command::Demo(options) => report(demo::run(&options)),
        Command::Check(options) => {
            end_with_the_reader();
            check::run(&options)
        }
        Command::Explain(options) => {
            end_with_the_reader();
            explain::run(&options)
        }
        Command::Diff(options) => {
            end_with_the_reader();
            diff::run(&options)
        }
        Command::Tap(options) => {
            end_with_the_reader();
            tap::run(&options)
        }
        Command::Top(options) => {
            if options.prints_once() {
                end_with_the_reader();
            }
            top::run(&options)
        }
        Command::Slo(options) => {
            end_with_the_reader();
            slo::run(&options)
        }
        Command::Doctor(options) => {
            end_with_the_reader();
            doctor::run(&options)
        }
    }
}

/// For commands that only print: whoever reads the output may stop early (`| head`), which is no
/// reason for a panic. Never for a server: there a closed connection is an error to handle.
fn end_with_the_reader() {
    // SAFETY: a plain system call; no other thread was started yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn report(outcome: Result<(), crate::server::ServerError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringress: {error}");
            ExitCode::FAILURE
        }
    }
}
