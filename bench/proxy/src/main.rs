//! Compares the proxy with the floor and the peers.
//!
//! One binary, four parts. Without a subcommand it is the driver ([`compare`]), which starts the
//! other three as processes of their own so that each can be pinned to a core:
//!
//! * `floor`: the yardstick, a byte forwarder on a raw ring;
//! * `backend`: an upstream that every subject proxies to, of HTTP/1.1 or of gRPC;
//! * `load`: the closed-loop generators, which also read the CPU time of the proxy under test.

mod backend;
mod child;
mod compare;
mod distance;
mod floor;
mod grpc;
mod load;
mod machine;
mod manifest;
mod options;
mod peers;
mod proc_stat;
mod report;
mod response;
mod scenario;
mod service;
mod subject;
mod sys;
mod table;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let part = args.peek().cloned().unwrap_or_default();
    let outcome = match part.as_str() {
        "floor" => floor::main(args.skip(1)),
        "backend" => backend::main(args.skip(1)),
        "load" => load::main(args.skip(1)),
        _ => compare::main(args),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("bench-proxy: {message}");
            ExitCode::FAILURE
        }
    }
}
