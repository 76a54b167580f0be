//! A connection: a TCP socket, or a layer over one (TLS, a stream of HTTP/2).

use std::cell::UnsafeCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use pin_project_lite::pin_project;

use super::buffer::Buffer;

/// Bytes both ways over something that is not a bare socket. What a layer has received and nobody
/// took stays in it: a receive that is dropped loses nothing. One task at a time receives, one sends
/// (they may be the same); each is woken by the last waker it was polled with.
pub trait Layer {
    /// Bytes into `into`, which is not empty. 0: the peer has finished sending in order.
    fn poll_receive(&self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Take some of `bytes`, which are not empty. Ready means that they were passed on (to the socket,
    /// or as far as the peer's flow control lets them go), not only stored here.
    fn poll_send(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Shut one direction or both down; who waits in them is woken.
    fn shutdown(&self, how: Shutdown);
    /// Make the close that follows one that the peer cannot take for an orderly end.
    fn reset_on_close(&self);
    /// Has the peer reset, or have both directions been closed?
    fn is_dead(&self) -> bool;
    /// Our end's address.
    fn local_address(&self) -> Option<SocketAddr>;
}

/// A connection. A cheap handle: clones name the same one, which is closed when the last of
/// them, and the last operation in flight, are gone. Reading and writing may run at the same time;
/// two reads, or two writes, may not be in flight together (their bytes would interleave).
#[derive(Clone)]
pub struct Stream {
    // A thin pointer: handles lie in the futures of every request.
    kind: Rc<Kind>,
}

enum Kind {
    Socket(UnsafeCell<TcpStream>),
    Layer(Box<dyn Layer>),
}

impl Stream {
    pub(super) fn new(socket: TcpStream) -> Stream {
        Stream { kind: Rc::new(Kind::Socket(UnsafeCell::new(socket))) }
    }

    /// A connection over a layer.
    pub fn over(layer: impl Layer + 'static) -> Stream {
        Stream { kind: Rc::new(Kind::Layer(Box::new(layer))) }
    }

    /// Receive behind the window of `buffer`. On a socket the operation is submitted at once, before
    /// the future is polled. 0 bytes: the peer has finished sending, or the buffer is full.
    #[inline]
    pub fn receive(
        &self,
        buffer: Buffer,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        match &*self.kind {
            Kind::Socket(socket) => {
                // SAFETY: the exclusive reference lives only for this call: the runtime's `read` submits
                // the operation, and its future owns a counted handle of the descriptor and the buffer,
                // not the stream. No other reference into the cell is alive during the call. (Wrapping
                // the future to hold the stream too would double its size in every future above.)
                let operation = unsafe { &mut *socket.get() }.read(buffer);
                Receiving::Socket { operation }
            }
            Kind::Layer(_) => Receiving::Layer { stream: self.clone(), buffer: Some(buffer) },
        }
    }

    /// Send some of `bytes`; on a socket submitted at once.
    #[inline]
    pub fn send<B: IoBuf>(
        &self,
        bytes: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        match &*self.kind {
            Kind::Socket(socket) => {
                // SAFETY: as in `receive`.
                Sending::Socket { operation: unsafe { &mut *socket.get() }.write(bytes) }
            }
            Kind::Layer(_) => Sending::Layer { stream: self.clone(), bytes: Some(bytes) },
        }
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

    /// Wait until a receive would not have to wait; at once on a layer.
    pub async fn readable(&self) -> io::Result<()> {
        match &*self.kind {
            // SAFETY: a shared reference to the socket; `receive` and `send` make an exclusive one only
            // for the time of a call, and the operation owns its handle of the descriptor.
            Kind::Socket(socket) => unsafe { &*socket.get() }.readable(false).await,
            Kind::Layer(_) => Ok(()),
        }
    }

    /// Wait until a send would not have to wait; at once on a layer.
    pub async fn writable(&self) -> io::Result<()> {
        match &*self.kind {
            // SAFETY: as in `readable`.
            Kind::Socket(socket) => unsafe { &*socket.get() }.writable(false).await,
            Kind::Layer(_) => Ok(()),
        }
    }

    /// The descriptor, of a bare socket.
    pub(super) fn socket_descriptor(&self) -> Option<RawFd> {
        match &*self.kind {
            Kind::Socket(socket) => Some(descriptor(socket)),
            Kind::Layer(_) => None,
        }
    }

    /// Send what the socket takes at once, without waiting: for the last words before a close. Never
    /// while a send is in flight. A layer takes nothing ([`io::ErrorKind::WouldBlock`]). A system
    /// call: not for the hot path.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Kind::Socket(socket) = &*self.kind else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // SAFETY: the pointer and the length are those of a live slice, which the kernel only reads.
        let sent = unsafe {
            libc::send(
                descriptor(socket),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Shut one direction or both down. Operations in flight in that direction end at once: this is
    /// how deadlines and drains wake a waiting connection.
    pub fn shutdown(&self, how: Shutdown) {
        let descriptor = match &*self.kind {
            Kind::Socket(socket) => descriptor(socket),
            Kind::Layer(layer) => return layer.shutdown(how),
        };
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: a plain system call on a descriptor that this handle keeps open. It fails only
        // when the peer is gone already, which the next operation reports.
        unsafe { libc::shutdown(descriptor, how) };
    }

    /// Make the close that follows send a reset instead of an orderly end, so that the peer cannot
    /// take a cut body for a whole one.
    pub fn reset_on_close(&self) {
        let descriptor = match &*self.kind {
            Kind::Socket(socket) => descriptor(socket),
            Kind::Layer(layer) => return layer.reset_on_close(),
        };
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option's value is a live `linger` of exactly the length given.
        unsafe {
            libc::setsockopt(
                descriptor,
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
        let descriptor = match &*self.kind {
            Kind::Socket(socket) => descriptor(socket),
            Kind::Layer(layer) => return layer.is_dead(),
        };
        let mut poll = libc::pollfd { fd: descriptor, events: 0, revents: 0 };
        // SAFETY: one live `pollfd`, and a zero time-out.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        ready == 1 && poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }

    /// Our end's address.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &*self.kind {
            // SAFETY: a reference that lives for this call only; see `receive`.
            Kind::Socket(socket) => unsafe { &*socket.get() }.local_addr().ok(),
            Kind::Layer(layer) => layer.local_address(),
        }
    }
}

fn descriptor(socket: &UnsafeCell<TcpStream>) -> RawFd {
    // SAFETY: a reference that lives for this call only; see `Stream::receive`.
    unsafe { &*socket.get() }.as_raw_fd()
}

pin_project! {
    /// A receive under way.
    #[project = ReceivingState]
    enum Receiving<F> {
        Socket { #[pin] operation: F },
        Layer { stream: Stream, buffer: Option<Buffer> },
    }
}

impl<F: Future<Output = (io::Result<usize>, Buffer)>> Future for Receiving<F> {
    type Output = (io::Result<usize>, Buffer);

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ReceivingState::Socket { operation } => operation.poll(task),
            ReceivingState::Layer { stream, buffer } => {
                let Kind::Layer(layer) = &*stream.kind else { return Poll::Pending };
                let Some(mut receiving) = buffer.take() else { return Poll::Pending };
                let free = receiving.receivable_bytes();
                let polled = match free.is_empty() {
                    true => Poll::Ready(Ok(0)),
                    false => layer.poll_receive(task, free),
                };
                match polled {
                    Poll::Ready(outcome) => {
                        if let Ok(count) = outcome {
                            receiving.received(count);
                        }
                        Poll::Ready((outcome, receiving))
                    }
                    Poll::Pending => {
                        *buffer = Some(receiving);
                        Poll::Pending
                    }
                }
            }
        }
    }
}

pin_project! {
    /// A send under way.
    #[project = SendingState]
    enum Sending<F, B> {
        Socket { #[pin] operation: F },
        Layer { stream: Stream, bytes: Option<B> },
    }
}

impl<B: IoBuf, F: Future<Output = (io::Result<usize>, B)>> Future for Sending<F, B> {
    type Output = (io::Result<usize>, B);

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            SendingState::Socket { operation } => operation.poll(task),
            SendingState::Layer { stream, bytes } => {
                let Kind::Layer(layer) = &*stream.kind else { return Poll::Pending };
                let Some(sending) = bytes.take() else { return Poll::Pending };
                // SAFETY: by the contract of `IoBuf` so many initialised bytes lie there for as long as
                // the value is not moved or changed, and it is neither during the call.
                let slice =
                    unsafe { std::slice::from_raw_parts(sending.read_ptr(), sending.bytes_init()) };
                let polled = match slice.is_empty() {
                    true => Poll::Ready(Ok(0)),
                    false => layer.poll_send(task, slice),
                };
                match polled {
                    Poll::Ready(outcome) => Poll::Ready((outcome, sending)),
                    Poll::Pending => {
                        *bytes = Some(sending);
                        Poll::Pending
                    }
                }
            }
        }
    }
}
