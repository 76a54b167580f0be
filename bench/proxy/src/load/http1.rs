//! HTTP/1.1, in clear text or over TLS: one request under way on each connection.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::socket::Socket;
use super::{ERROR_LIMIT, Outcome, PATIENCE, PROBE_PATIENCE, Plan, Watch, request};
use crate::response::{Finished, ResponseReader};
use crate::sys::{self, Epoll};

/// Source addresses that connection-per-request runs take in turn: 127.0.0.1 and those after it.
///
/// Each has 28,000 ports, and a port rests a second after use.
const SOURCES: u32 = 8;
/// Bodies longer than this are dropped in the kernel, not copied to us.
const DISCARD_FROM: u64 = 16 * 1024;
/// Most bytes dropped by one call.
const DISCARD_STEP: u64 = 4 * 1024 * 1024;

const IN: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

struct Connection {
    socket: Socket,
    reader: ResponseReader,
    /// The request has been written and its response is awaited.
    asked: bool,
}

struct Load<'a> {
    plan: &'a Plan,
    requests: Vec<Vec<u8>>,
    next_request: usize,
    next_source: u32,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    stopping: bool,
    outcome: Outcome,
}

/// Runs the plan; an error when nothing can be connected or the watched processes are gone.
pub(super) fn run(plan: &Plan) -> io::Result<Outcome> {
    let watch = Watch::of(plan);
    let mut load = Load {
        plan,
        requests: plan.hosts.iter().map(|host| request(&plan.path, host, plan.close)).collect(),
        next_request: 0,
        next_source: 0,
        epoll: Epoll::new()?,
        connections: (0..plan.connections).map(|_| None).collect(),
        buffer: vec![0; 64 * 1024],
        stopping: false,
        outcome: Outcome::default(),
    };
    for slot in 0..plan.connections {
        load.connect(slot)?;
    }
    load.turn_until(Instant::now() + plan.warmup)?;
    let begin = watch.mark(load.outcome.total)?;
    load.turn_until(begin.at + plan.window)?;
    let end = watch.mark(load.outcome.total)?;
    load.stopping = true;
    load.turn_until(end.at + PATIENCE)?;
    load.outcome.errors +=
        load.connections.iter().flatten().filter(|open| open.asked).count() as u64;
    begin.until(&end, &mut load.outcome);
    Ok(load.outcome)
}

/// Asks on a connection of its own; the status.
pub(super) fn probe(plan: &Plan) -> io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, plan.port));
    let stream = TcpStream::connect_timeout(&address, PROBE_PATIENCE)?;
    stream.set_read_timeout(Some(PROBE_PATIENCE))?;
    let mut socket = Socket::new(stream, plan)?;
    socket.send(&request(&plan.path, plan.first_host(), true))?;
    let mut reader = ResponseReader::default();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.receive(&mut buffer)?;
        match reader.feed(&buffer[..length]) {
            Ok((_, Some(response))) => return Ok(response.status),
            Ok((_, None)) if length > 0 => {}
            other => return Err(io::Error::other(format!("no response: {other:?}"))),
        }
    }
}

impl Load<'_> {
    /// Serves events until the time has come; when stopping, also until no response is awaited.
    fn turn_until(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= until || self.outcome.errors >= ERROR_LIMIT {
                return Ok(());
            }
            if self.stopping && !self.connections.iter().flatten().any(|open| open.asked) {
                return Ok(());
            }
            let left = (until - now).as_millis().clamp(1, 10) as libc::c_int;
            let ready = self.epoll.wait(left)?;
            for index in 0..ready {
                let (token, flags) = self.epoll.event(index);
                self.progress(token as usize, flags)?;
            }
        }
    }

    fn connect(&mut self, slot: usize) -> io::Result<()> {
        let source = self.plan.close.then(|| {
            self.next_source = (self.next_source + 1) % SOURCES;
            Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + self.next_source)
        });
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.plan.port);
        let stream = TcpStream::from(sys::start_connect(source, target)?);
        let interest = IN | libc::EPOLLOUT | libc::EPOLLET;
        self.epoll.add(stream.as_raw_fd(), interest, slot as u64)?;
        let socket = Socket::new(stream, self.plan)?;
        self.connections[slot] =
            Some(Connection { socket, reader: ResponseReader::default(), asked: false });
        Ok(())
    }

    fn progress(&mut self, slot: usize, flags: i32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        if !connection.asked {
            if flags & (libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                return self.failed(slot);
            }
            return if flags & libc::EPOLLOUT != 0 { self.ask(slot) } else { Ok(()) };
        }
        if flags & IN != 0 { self.receive(slot) } else { Ok(()) }
    }

    /// Sends the next request on a connection.
    fn ask(&mut self, slot: usize) -> io::Result<()> {
        if self.stopping {
            return Ok(());
        }
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        let bytes = &self.requests[self.next_request];
        self.next_request = (self.next_request + 1) % self.requests.len();
        connection.asked = true;
        if connection.socket.send(bytes).is_err() {
            return self.failed(slot);
        }
        Ok(())
    }

    /// Reads what has come; asks again when a response is complete.
    fn receive(&mut self, slot: usize) -> io::Result<()> {
        loop {
            let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
            let left = connection.reader.body_left();
            let read = match connection.socket.clear() {
                Some(stream) if left > DISCARD_FROM => {
                    // The last byte is left for an ordinary read, which completes the response.
                    let limit = (left - 1).min(DISCARD_STEP) as usize;
                    match sys::discard(stream.as_raw_fd(), limit) {
                        Ok(taken) if taken > 0 => {
                            connection.reader.skip_body(taken as u64);
                            continue;
                        }
                        other => other,
                    }
                }
                _ => connection.socket.receive(&mut self.buffer),
            };
            let length = match read {
                Ok(0) => return self.failed(slot),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.failed(slot),
            };
            match connection.reader.feed(&self.buffer[..length]) {
                Ok((_, None)) => {}
                // Bytes after the response to the only request would be a framing error.
                Ok((used, Some(response))) if used == length => {
                    return self.finished(slot, response);
                }
                Ok(_) | Err(_) => return self.failed(slot),
            }
        }
    }

    fn finished(&mut self, slot: usize, response: Finished) -> io::Result<()> {
        self.outcome.total += 1;
        self.outcome.non_2xx += u64::from(!(200..300).contains(&response.status));
        if let Some(connection) = &mut self.connections[slot] {
            connection.asked = false;
        }
        if !(self.plan.close || response.close) {
            return self.ask(slot);
        }
        self.connections[slot] = None;
        if self.stopping { Ok(()) } else { self.connect(slot) }
    }

    /// Counts an error and begins anew.
    fn failed(&mut self, slot: usize) -> io::Result<()> {
        self.outcome.errors += 1;
        self.connections[slot] = None;
        if self.stopping || self.outcome.errors >= ERROR_LIMIT {
            return Ok(());
        }
        self.connect(slot)
    }
}
