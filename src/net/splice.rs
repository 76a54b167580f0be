//! From one socket to another without a copy: the kernel moves pages through a pipe (splice(2)). The
//! ring's own splice operation runs on threads of the kernel and costs more; here the ring only waits
//! for readiness, and the calls themselves never block. `docs/decisions/0012-moving-bytes.md` has the
//! figures.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::buffer::Buffer;
use super::runtime::Driver;
use super::stream::Stream;
use crate::limits::{FREE_PIPES_MAX, PIPE_BYTES, PIPES_MAX};

/// A pipe with the bytes that are in it.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: the array has room for the two descriptors that the call writes.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just made, and nobody else has them.
        let (read, write) =
            unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: a plain call on an open descriptor. Where it fails (a limit of the system for users
        // without privileges) the pipe has the usual size.
        unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES as libc::c_int) };
        Ok(Pipe { read, write, held: 0 })
    }
}

/// One splice that does not wait. None: it would.
fn splice(from: RawFd, to: RawFd, bytes: usize) -> io::Result<Option<usize>> {
    let (nowhere, flags) = (std::ptr::null_mut(), libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK);
    // SAFETY: a plain call on descriptors that the caller keeps open; no offsets are given.
    let moved = unsafe { libc::splice(from, nowhere, to, nowhere, bytes, flags) };
    outcome(moved)
}

/// Has the peer finished sending, and nothing is left to receive?
fn has_finished(socket: RawFd) -> bool {
    let (mut byte, flags) = (0u8, libc::MSG_PEEK | libc::MSG_DONTWAIT);
    // SAFETY: the kernel writes at most the one live byte.
    let seen = unsafe { libc::recv(socket, std::ptr::from_mut(&mut byte).cast(), 1, flags) };
    seen == 0
}

/// What a call that moves bytes returned; none: it would have had to wait.
fn outcome(moved: isize) -> io::Result<Option<usize>> {
    if moved >= 0 {
        return Ok(Some(moved as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// The pipes of one worker. A tunnel holds one only while bytes move.
#[derive(Debug, Default)]
pub struct PipePool {
    free: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
}

impl PipePool {
    /// A pipe; none when the worker has as many as it may, or the system gives no more.
    pub fn lend(&self) -> Option<LentPipe<'_>> {
        if self.lent.get() >= PIPES_MAX {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let pipe = free.or_else(|| Pipe::new().ok())?;
        self.lent.set(self.lent.get() + 1);
        Some(LentPipe { pool: self, pipe: Some(pipe) })
    }

    /// Pipes that are lent now.
    pub fn lent(&self) -> usize {
        self.lent.get()
    }
}

/// A pipe that goes back to its pool when it is dropped, unless bytes are left in it.
pub struct LentPipe<'p> {
    pool: &'p PipePool,
    /// There until it is dropped.
    pipe: Option<Pipe>,
}

impl Drop for LentPipe<'_> {
    fn drop(&mut self) {
        self.pool.lent.set(self.pool.lent.get().saturating_sub(1));
        let mut free = self.pool.free.borrow_mut();
        if let Some(pipe) = self.pipe.take()
            && pipe.held == 0
            && free.len() < FREE_PIPES_MAX
        {
            free.push(pipe);
        }
    }
}

/// What carries bytes from one socket of [`Sockets`] to the other.
pub enum Carrier<'p> {
    /// The kernel moves them.
    Pipe(LentPipe<'p>),
    /// They are copied.
    Buffer(Buffer),
}

impl Carrier<'_> {
    /// Bytes that were taken in and not passed on.
    pub fn held(&self) -> usize {
        match self {
            Carrier::Pipe(lent) => lent.pipe.as_ref().map_or(0, |pipe| pipe.held),
            Carrier::Buffer(buffer) => buffer.len(),
        }
    }

    /// Take in what `from` has. 0: the peer has finished sending. None: nothing is there now, or what
    /// is there cannot be spliced (urgent data).
    pub fn take_in(&mut self, from: &Stream) -> io::Result<Option<usize>> {
        let Some(socket) = from.socket_descriptor() else { return Ok(Some(0)) };
        match self {
            Carrier::Pipe(lent) => {
                let Some(pipe) = lent.pipe.as_mut() else { return Ok(None) };
                let taken = splice(socket, pipe.write.as_raw_fd(), 4 * PIPE_BYTES)?;
                pipe.held += taken.unwrap_or(0);
                match taken {
                    // Before urgent data a splice ends as at the end, once the peer has finished.
                    Some(0) if !has_finished(socket) => Ok(None),
                    taken => Ok(taken),
                }
            }
            Carrier::Buffer(buffer) => {
                buffer.clear();
                let free = buffer.receivable_bytes();
                // SAFETY: the kernel writes at most as many bytes as the slice has.
                let taken = outcome(unsafe {
                    libc::recv(socket, free.as_mut_ptr().cast(), free.len(), libc::MSG_DONTWAIT)
                })?;
                buffer.received(taken.unwrap_or(0));
                Ok(taken)
            }
        }
    }

    /// Pass some of what is held on. None: `to` takes nothing now.
    pub fn pass_on(&mut self, to: &Stream) -> io::Result<Option<usize>> {
        let Some(socket) = to.socket_descriptor() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match self {
            Carrier::Pipe(lent) => {
                let Some(pipe) = lent.pipe.as_mut() else { return Ok(None) };
                let passed = splice(pipe.read.as_raw_fd(), socket, pipe.held)?;
                pipe.held -= passed.unwrap_or(0).min(pipe.held);
                Ok(passed)
            }
            Carrier::Buffer(buffer) => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: the kernel reads the bytes of a live slice.
                let passed = outcome(unsafe {
                    libc::send(socket, buffer.as_ptr().cast(), buffer.len(), flags)
                })?;
                buffer.skip(passed.unwrap_or(0));
                Ok(passed)
            }
        }
    }
}

/// Two bare sockets, neither of which makes a call wait for as long as this lives. Nobody may receive
/// from or send to them by the ring meanwhile.
pub struct Sockets<'s> {
    both: [&'s Stream; 2],
    /// A ring waits for a blocking descriptor itself and fails at once on the other kind.
    restores: bool,
}

impl<'s> Sockets<'s> {
    /// None: one of them is a layer over a socket, or cannot be set so.
    pub fn of(one: &'s Stream, other: &'s Stream, driver: Driver) -> Option<Sockets<'s>> {
        let sockets = Sockets { both: [one, other], restores: driver != Driver::Epoll };
        let set =
            |stream: &&Stream| stream.socket_descriptor().is_some_and(set_nonblocking::<true>);
        sockets.both.iter().all(set).then_some(sockets)
    }
}

impl Drop for Sockets<'_> {
    fn drop(&mut self) {
        if self.restores {
            for descriptor in self.both.iter().filter_map(|stream| stream.socket_descriptor()) {
                set_nonblocking::<false>(descriptor);
            }
        }
    }
}

fn set_nonblocking<const NONBLOCKING: bool>(descriptor: RawFd) -> bool {
    // SAFETY: plain calls on a descriptor that its stream keeps open.
    unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        let wanted = match NONBLOCKING {
            true => flags | libc::O_NONBLOCK,
            false => flags & !libc::O_NONBLOCK,
        };
        flags >= 0 && (flags == wanted || libc::fcntl(descriptor, libc::F_SETFL, wanted) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    use crate::net::BufferPool;
    use crate::net::connect::loopback_pair;
    use crate::net::runtime::{self, DriverChoice};

    /// Both kinds of carrier take the same bytes over, tell the end, and leave the sockets as they were.
    #[test]
    fn carriers_move_what_is_there() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        runtime::run(driver, async {
            let (pipes, buffers) = (PipePool::default(), BufferPool::default());
            for spliced in [true, false] {
                let (from, mut sender) = loopback_pair(driver, None).await;
                let (to, mut receiver) = loopback_pair(driver, None).await;
                let sockets = Sockets::of(&from, &to, driver).expect("both are sockets");
                let mut carrier = match spliced {
                    true => Carrier::Pipe(pipes.lend().expect("a pipe")),
                    false => Carrier::Buffer(buffers.take()),
                };
                assert_eq!(carrier.take_in(&from).expect("open"), None, "nothing is there");
                sender.write_all(b"hello").expect("open");
                from.readable().await.expect("open");
                assert_eq!(carrier.take_in(&from).expect("open"), Some(5));
                assert_eq!(carrier.held(), 5);
                to.writable().await.expect("open");
                assert_eq!(carrier.pass_on(&to).expect("open"), Some(5));
                assert_eq!(carrier.held(), 0);
                let mut bytes = [0; 5];
                receiver.read_exact(&mut bytes).expect("they came");
                assert_eq!(&bytes, b"hello");
                drop(sender);
                from.readable().await.expect("open");
                assert_eq!(carrier.take_in(&from).expect("open"), Some(0));
                drop(sockets);
                assert_eq!(pipes.lent(), usize::from(spliced));
                drop(carrier);
                assert_eq!(pipes.lent(), 0);
                // By the ring again.
                receiver.write_all(b"back").expect("open");
                let (outcome, buffer) = to.receive(buffers.take()).await;
                assert_eq!((outcome.expect("open"), &*buffer), (4, &b"back"[..]));
            }
            assert_eq!(pipes.free.borrow().len(), 1, "the pipe is used again");
        })
        .expect("the runtime works");
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_used_again_and_pipes_are_bounded() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        runtime::run(driver, async {
            let pipes = PipePool::default();
            let (from, mut sender) = loopback_pair(driver, None).await;
            let (to, _receiver) = loopback_pair(driver, None).await;
            let _sockets = Sockets::of(&from, &to, driver).expect("both are sockets");
            let mut carrier = Carrier::Pipe(pipes.lend().expect("a pipe"));
            sender.write_all(b"secret").expect("open");
            from.readable().await.expect("open");
            assert_eq!(carrier.take_in(&from).expect("open"), Some(6));
            drop(carrier);
            assert!(pipes.free.borrow().is_empty());
            let lent: Vec<_> = (0..PIPES_MAX).map_while(|_| pipes.lend()).collect();
            assert!(pipes.lend().is_none());
            drop(lent);
            assert_eq!(pipes.free.borrow().len(), FREE_PIPES_MAX);
        })
        .expect("the runtime works");
    }
}
