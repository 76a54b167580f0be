//! The upstreams that every subject proxies to.

mod http1;
mod http2;

use std::process::ExitCode;

use crate::service::Protocol;
use crate::sys;

/// `backend [--port N] [--protocol NAME]`: prints `listening PORT`, serves until standard input
/// ends, then prints `served=N`, the number of requests answered.
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let mut port = 0;
    let mut protocol = Protocol::Http1;
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        let bad = || format!("backend: {arg} cannot be {value:?}");
        match arg.as_str() {
            "--port" => port = value.parse().map_err(|_| bad())?,
            "--protocol" => protocol = Protocol::named(&value).ok_or_else(bad)?,
            _ => return Err(format!("backend: unknown option {arg}")),
        }
    }
    let serve = match protocol {
        Protocol::Http1 => http1::serve,
        Protocol::Http2 | Protocol::Grpc => http2::serve,
    };
    sys::raise_file_limit();
    let listener = sys::listen(port).map_err(|error| format!("backend: port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("listening {}", address.port());
    let served = serve(listener).map_err(|error| format!("backend: {error}"))?;
    println!("served={served}");
    Ok(ExitCode::SUCCESS)
}
