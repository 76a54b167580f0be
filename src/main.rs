//! The `ringress` program: parse arguments, run, turn the outcome into an exit code.

use std::process::ExitCode;

/// HTTP/2 allocates for each request (`docs/decisions/0005-allocator.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ringress::cli::main()
}
