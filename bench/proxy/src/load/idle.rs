//! Opens many connections, does one request on each, and holds them idle until told to end.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use super::{Plan, request};
use crate::response::ResponseReader;
use crate::sys;

/// Connections from one source address; the kernel has about 28,000 ports for each.
const PER_SOURCE: usize = 20_000;
/// Longest time that the connections are held without a word from the driver.
const HOLD: Duration = Duration::from_secs(120);
/// Longest wait for one connect or one response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints `ready N` when `count` connections are idle, waits for the end of standard input, then
/// prints `held=N`: how many the proxy still kept open.
pub(super) fn main(plan: &Plan, count: usize) -> Result<ExitCode, String> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let stream = open_one(plan, number)
            .map_err(|error| format!("load: idle connection {} of {count}: {error}", number + 1))?;
        open.push(stream);
    }
    println!("ready {count}");
    sys::wait_readable(0, HOLD).map_err(|error| format!("load: {error}"))?;
    let held = open.iter().filter(|stream| sys::is_open_and_quiet(stream.as_raw_fd())).count();
    println!("held={held}");
    Ok(ExitCode::SUCCESS)
}

fn open_one(plan: &Plan, number: usize) -> io::Result<TcpStream> {
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + (number / PER_SOURCE) as u32);
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, plan.port);
    let mut stream = TcpStream::from(sys::start_connect(Some(source), target)?);
    // Writing to a socket that is still connecting waits for it, within the time-out.
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request(&plan.path, &plan.hosts[number % plan.hosts.len()], false))?;
    let mut reader = ResponseReader::default();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        match reader.feed(&buffer[..length]) {
            Ok((_, None)) => {}
            Ok((_, Some(response))) if response.status == 200 && !response.close => {
                return Ok(stream);
            }
            other => return Err(io::Error::other(format!("no kept-alive 200: {other:?}"))),
        }
    }
}
