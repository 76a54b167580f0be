//! A TCP connection.

use std::cell::UnsafeCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::buffer::Buffer;

/// A TCP connection. A cheap handle: clones name the same socket, which is closed when the last of
/// them, and the last operation in flight, are gone. Reading and writing may run at the same time;
/// two reads, or two writes, may not be in flight together (their bytes would interleave).
#[derive(Clone)]
pub struct Stream {
    socket: Rc<UnsafeCell<TcpStream>>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream) -> Stream {
        Stream { socket: Rc::new(UnsafeCell::new(socket)) }
    }

    /// Receive behind the window of `buffer`. The operation is submitted at once, before the
    /// future is polled. 0 bytes: the peer has finished sending, or the buffer is full.
    #[inline]
    pub fn receive(
        &self,
        buffer: Buffer,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        // SAFETY: the exclusive reference lives only for this call: the runtime's `read` submits
        // the operation, and its future owns a counted handle of the descriptor and the buffer,
        // not the stream. No other reference into the cell is alive during the call. (Wrapping the
        // future to hold the stream too would double its size in every future above.)
        unsafe { &mut *self.socket.get() }.read(buffer)
    }

    /// Send some of `bytes`; submitted at once.
    #[inline]
    pub fn send<B: IoBuf>(
        &self,
        bytes: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        // SAFETY: as in `receive`.
        unsafe { &mut *self.socket.get() }.write(bytes)
    }

    /// Send the whole window of `buffer`, which comes back empty.
    pub async fn send_buffer(&self, mut buffer: Buffer) -> (io::Result<()>, Buffer) {
        loop {
            if buffer.is_empty() {
                buffer.clear();
                return (Ok(()), buffer);
            }
            let (outcome, back) = self.send(buffer).await;
            buffer = back;
            match outcome {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(sent) => buffer.skip(sent),
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    /// Send all of `bytes`, which come back unchanged. On an error the second value tells how many
    /// bytes the kernel had accepted.
    pub async fn send_all(&self, bytes: Vec<u8>) -> (Result<(), (io::Error, usize)>, Vec<u8>) {
        let (outcome, bytes) = self.send(bytes).await;
        let mut sent = match outcome {
            Ok(sent) if sent == bytes.len() => return (Ok(()), bytes),
            Ok(sent) => sent,
            Err(error) => return (Err((error, 0)), bytes),
        };
        let mut bytes = bytes;
        while sent < bytes.len() {
            let (outcome, rest) = self.send(bytes.slice(sent..)).await;
            bytes = rest.into_inner();
            match outcome {
                Ok(0) => return (Err((io::ErrorKind::WriteZero.into(), sent)), bytes),
                Ok(more) => sent += more,
                Err(error) => return (Err((error, sent)), bytes),
            }
        }
        (Ok(()), bytes)
    }

    /// Shut one direction or both down. Operations in flight in that direction end at once: this is
    /// how deadlines and drains wake a waiting connection.
    pub fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: a plain system call on a descriptor that this handle keeps open. It fails only
        // when the peer is gone already, which the next operation reports.
        unsafe { libc::shutdown(self.descriptor(), how) };
    }

    /// Make the close that follows send a reset instead of an orderly end, so that the peer cannot
    /// take a cut body for a whole one.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option's value is a live `linger` of exactly the length given.
        unsafe {
            libc::setsockopt(
                self.descriptor(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                std::ptr::from_ref(&linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
    }

    /// Has the peer reset, or have both directions been closed? (Not when it only finished sending.)
    /// A system call: not for the hot path.
    pub fn is_dead(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.descriptor(), events: 0, revents: 0 };
        // SAFETY: one live `pollfd`, and a zero time-out.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        ready == 1 && poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }

    /// Our end's address.
    pub fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: a reference that lives for this call only; see `receive`.
        unsafe { &*self.socket.get() }.local_addr().ok()
    }

    fn descriptor(&self) -> RawFd {
        // SAFETY: a reference that lives for this call only; see `receive`.
        unsafe { &*self.socket.get() }.as_raw_fd()
    }
}
