//! The `ringress` program: parse arguments, run, turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringress::cli::main()
}
