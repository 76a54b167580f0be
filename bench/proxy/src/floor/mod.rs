//! The yardstick: a byte forwarder on a raw ring. It knows no HTTP; its figure is what the kernel
//! asks for moving the same bytes, and no proxy on this kind of ring can cost less.
//!
//! One upstream connection per downstream connection. Multishot accept, multishot receive into a
//! ring of provided buffers, and one send per direction under way, which takes all buffers that
//! wait. `buffers` owns the memory, `connection` the state of a pair, this file the loop.

mod buffers;
mod connection;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::sys;
use buffers::Buffers;
use connection::{Connection, DOWN, Send, UP};

/// Exit code when the kernel offers no ring of the kind that the floor needs.
pub(crate) const NO_RING: u8 = 3;

/// Submission entries; the completion queue has four times as many.
const ENTRIES: u32 = 1024;
/// The id of our ring of provided buffers.
const GROUP: u16 = 0;

const ACCEPT: u64 = 0;
const CONNECT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;

/// `floor --upstream PORT [--port N]`: prints `listening PORT` and forwards until it is killed.
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let (mut port, mut upstream) = (0, 0);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next().and_then(|value| value.parse().ok())) {
            ("--port", Some(value)) => port = value,
            ("--upstream", Some(value)) => upstream = value,
            _ => return Err(format!("floor: cannot use {arg:?}; see bench/README.md")),
        }
    }
    sys::raise_file_limit();
    let listener = sys::listen(port).map_err(|error| format!("floor: port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut floor = match Floor::new(listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, upstream)) {
        Ok(floor) => floor,
        Err(error) => {
            eprintln!(
                "floor: no io_uring with provided buffer rings here ({error}); it needs \
                 Linux 5.19, and 6.1 to be at its best, and a sandbox that allows it"
            );
            return Ok(ExitCode::from(NO_RING));
        }
    };
    println!("listening {}", address.port());
    floor.run().map_err(|error| format!("floor: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

struct Floor {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    /// Where the kernel reads the upstream's address while a connect is under way.
    upstream: Box<libc::sockaddr_in>,
    connections: Vec<Connection>,
    free: Vec<usize>,
    /// Receives that ended for want of a buffer: connection and side.
    starved: Vec<(usize, usize)>,
}

impl Floor {
    fn new(listener: TcpListener, upstream: SocketAddrV4) -> io::Result<Self> {
        let ring = build_ring()?;
        let buffers = Buffers::register(&ring, GROUP)?;
        Ok(Self {
            ring,
            buffers,
            listener,
            upstream: sys::boxed_socket_address(upstream),
            connections: Vec::new(),
            free: Vec::new(),
            starved: Vec::new(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        self.arm_accept()?;
        let mut batch = Vec::with_capacity(ENTRIES as usize);
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
            batch.extend(
                self.ring
                    .completion()
                    .map(|entry| (entry.user_data(), entry.result(), entry.flags())),
            );
            for (user_data, result, flags) in batch.drain(..) {
                self.complete(user_data, result, flags)?;
            }
            if self.buffers.publish() && !self.starved.is_empty() {
                for (slot, side) in std::mem::take(&mut self.starved) {
                    let connection = &mut self.connections[slot];
                    if std::mem::take(&mut connection.sides[side].starved) {
                        connection.in_flight -= 1;
                        self.arm_receive(slot, side)?;
                    }
                }
            }
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> io::Result<()> {
        let (operation, slot, side) = unpack(user_data);
        match operation {
            ACCEPT => self.accepted(result, flags),
            CONNECT => {
                let connection = &mut self.connections[slot];
                connection.in_flight -= 1;
                connection.connecting = false;
                if result < 0 {
                    connection.abort();
                } else {
                    connection.pass_on_end(UP);
                    self.arm_receive(slot, UP)?;
                    self.send_waiting(slot, UP)?;
                }
                self.finish(slot);
                Ok(())
            }
            RECEIVE => self.received(slot, side, result, flags),
            _ => self.sent(slot, side, result),
        }
    }

    fn accepted(&mut self, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            self.arm_accept()?;
        }
        if result < 0 {
            // The other end gave up, or there are no descriptors left: the next accept tells.
            return Ok(());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let down = unsafe { OwnedFd::from_raw_fd(result) };
        let up = sys::tcp_socket(0)?;
        let target = Fd(up.as_raw_fd());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::default());
            self.connections.len() - 1
        });
        self.connections[slot].open(down, up);
        self.connections[slot].in_flight += 1;
        let address: *const libc::sockaddr_in = &*self.upstream;
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let entry = opcode::Connect::new(target, address.cast(), length).build();
        self.push(entry.user_data(pack(CONNECT, slot, UP)))?;
        // What the downstream sends meanwhile waits for the connect to end.
        self.arm_receive(slot, DOWN)
    }

    fn received(&mut self, slot: usize, side: usize, result: i32, flags: u32) -> io::Result<()> {
        let more = cqueue::more(flags);
        let buffer = cqueue::buffer_select(flags);
        let connection = &mut self.connections[slot];
        connection.in_flight -= u32::from(!more);
        let other = 1 - side;
        match (result, buffer) {
            (1.., Some(buffer)) if !connection.aborted => {
                connection.sides[other].waiting.push((buffer, result as u32));
                self.send_waiting(slot, other)?;
                if !more {
                    self.arm_receive(slot, side)?;
                }
            }
            (_, Some(buffer)) => self.buffers.give_back(buffer),
            (0, None) => {
                connection.sides[side].ended = true;
                connection.pass_on_end(other);
            }
            (error, None) if error == -libc::ENOBUFS => {
                if !connection.aborted {
                    // It stays counted, so that the slot is not freed under it.
                    connection.in_flight += 1;
                    connection.sides[side].starved = true;
                    self.starved.push((slot, side));
                }
            }
            _ => connection.abort(),
        }
        self.finish(slot);
        Ok(())
    }

    fn sent(&mut self, slot: usize, side: usize, result: i32) -> io::Result<()> {
        let connection = &mut self.connections[slot];
        connection.in_flight -= 1;
        let to = &mut connection.sides[side];
        let expected = to.sending_bytes;
        to.sending_bytes = 0;
        for (buffer, _) in to.sending.drain(..) {
            self.buffers.give_back(buffer);
        }
        // With MSG_WAITALL the kernel goes on after a short send: less than all is an error.
        if result != expected {
            connection.abort();
        } else {
            connection.pass_on_end(side);
            self.send_waiting(slot, side)?;
        }
        self.finish(slot);
        Ok(())
    }

    /// Sends all that waits for a side, unless a send to it (or its connect) is under way.
    fn send_waiting(&mut self, slot: usize, side: usize) -> io::Result<()> {
        let connection = &mut self.connections[slot];
        if connection.aborted || (side == UP && connection.connecting) {
            return Ok(());
        }
        let Some((fd, send)) = connection.sides[side].take_waiting(&self.buffers) else {
            return Ok(());
        };
        connection.in_flight += 1;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = match send {
            Send::One(start, length) => {
                opcode::Send::new(Fd(fd), start, length).flags(flags).build()
            }
            Send::Many(message) => {
                opcode::SendMsg::new(Fd(fd), message).flags(flags as u32).build()
            }
        };
        self.push(entry.user_data(pack(SEND, slot, side)))
    }

    fn arm_accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry.user_data(pack(ACCEPT, 0, 0)))
    }

    /// Asks for all that a side receives from now on.
    fn arm_receive(&mut self, slot: usize, side: usize) -> io::Result<()> {
        let connection = &mut self.connections[slot];
        let Some(fd) = connection.sides[side].raw_fd() else { return Ok(()) };
        if connection.aborted {
            return Ok(());
        }
        connection.in_flight += 1;
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        self.push(entry.user_data(pack(RECEIVE, slot, side)))
    }

    /// Frees the slot of a connection that is done and has no operation under way.
    fn finish(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if connection.is_over() {
            connection.close(&mut self.buffers);
            self.free.push(slot);
        }
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what entries point to (buffers, the address, message headers) lives until
            // the operation has completed: a slot is freed only when nothing is in flight.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The best ring that this kernel gives: completions run by us alone (6.1), or at least without
/// interrupting us (5.19).
fn build_ring() -> io::Result<IoUring> {
    let best = IoUring::builder()
        .setup_cqsize(ENTRIES * 4)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES);
    if best.is_ok() {
        return best;
    }
    eprintln!("floor: no DEFER_TASKRUN on this kernel, falling back to COOP_TASKRUN");
    IoUring::builder().setup_cqsize(ENTRIES * 4).setup_coop_taskrun().build(ENTRIES)
}

fn pack(operation: u64, slot: usize, side: usize) -> u64 {
    operation | (side as u64) << 8 | (slot as u64) << 16
}

fn unpack(user_data: u64) -> (u64, usize, usize) {
    (user_data & 0xff, (user_data >> 16) as usize, (user_data >> 8 & 1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_holds_operation_slot_and_side() {
        for operation in [ACCEPT, CONNECT, RECEIVE, SEND] {
            for slot in [0, 1, 255, 65_536, 1 << 40] {
                for side in [DOWN, UP] {
                    assert_eq!(unpack(pack(operation, slot, side)), (operation, slot, side));
                }
            }
        }
    }
}
