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

    /// Send some of `bytes`. What a socket takes at once is sent by this call; only when it takes nothing
    /// does the ring wait for room. The ring would send when every task of the round has run, and the peer
    /// would wait for those, and then get all their answers in one burst (`docs/decisions`, 0014).
    #[inline]
    pub fn send<B: IoBuf>(
        &self,
        bytes: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        match &*self.kind {
            Kind::Socket(socket) => {
                // SAFETY: by the contract of `IoBuf` so many initialised bytes lie there, and the value is
                // neither moved nor changed during the call.
                let taken = unsafe {
                    send_at_once(descriptor(socket), bytes.read_ptr(), bytes.bytes_init())
                };
                match taken {
                    Err(error) if must_wait(&error) => {
                        // SAFETY: as in `receive`.
                        let operation = unsafe { &mut *socket.get() }.write(bytes);
                        Sending::Socket { operation }
                    }
                    outcome => Sending::Done { outcome: Some((outcome, bytes)) },
                }
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
    /// while a send is in flight. A layer takes nothing ([`io::ErrorKind::WouldBlock`]).
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Kind::Socket(socket) = &*self.kind else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // SAFETY: the pointer and the length are those of a live slice.
        unsafe { send_at_once(descriptor(socket), bytes.as_ptr(), bytes.len()) }
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

/// Send what the socket takes of `length` bytes without waiting.
///
/// # Safety
///
/// So many initialised bytes must lie at `bytes` for the time of the call. The kernel only reads them.
unsafe fn send_at_once(socket: RawFd, bytes: *const u8, length: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the caller's promise; every descriptor that is none, or no socket, is an error.
    let sent = unsafe { libc::send(socket, bytes.cast(), length, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Did a send fail only because it would have had to wait?
fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
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
    /// A send under way, or done before it was waited for.
    #[project = SendingState]
    enum Sending<F, B> {
        Done { outcome: Option<(io::Result<usize>, B)> },
        Socket { #[pin] operation: F },
        Layer { stream: Stream, bytes: Option<B> },
    }
}

impl<B: IoBuf, F: Future<Output = (io::Result<usize>, B)>> Future for Sending<F, B> {
    type Output = (io::Result<usize>, B);

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            // Polled again after its end it never ends again.
            SendingState::Done { outcome } => outcome.take().map_or(Poll::Pending, Poll::Ready),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::pin::pin;

    use crate::net::connect::loopback_pair;
    use crate::net::runtime::{self, Driver, DriverChoice};

    fn usual() -> Driver {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        driver
    }

    /// What comes of a future that is polled once.
    async fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        let mut future = Some(future);
        std::future::poll_fn(|task| {
            let polled = future.take().map(|future| future.poll(task));
            Poll::Ready(polled.unwrap_or(Poll::Pending))
        })
        .await
    }

    /// The other side has the bytes before the task that sent them has waited for anything.
    fn sends_before_it_is_waited_for(driver: Driver) {
        let read = runtime::run(driver, async {
            let (stream, mut end) = loopback_pair(driver, None).await;
            let sending = stream.send(b"at once".to_vec());
            let mut read = [0; 7];
            end.read_exact(&mut read).expect("sent");
            let (outcome, bytes) = sending.await;
            assert_eq!(outcome.expect("sent"), bytes.len());
            read
        })
        .expect("the runtime works");
        assert_eq!(&read, b"at once");
    }

    #[test]
    fn the_usual_driver_sends_before_it_is_waited_for() {
        sends_before_it_is_waited_for(usual());
    }

    #[test]
    fn epoll_sends_before_it_is_waited_for() {
        sends_before_it_is_waited_for(Driver::Epoll);
    }

    /// When the socket takes no more, a send waits for room, and no byte is lost or sent twice.
    fn waits_for_room(driver: Driver) {
        const PIECE: usize = 64 * 1024;
        let (sent, read) = runtime::run(driver, async {
            let (stream, mut end) = loopback_pair(driver, None).await;
            let mut sent = Vec::new();
            for number in 0u8.. {
                let mut sending = pin!(stream.send(vec![number; PIECE]));
                if let Poll::Ready((outcome, bytes)) = once(sending.as_mut()).await {
                    sent.extend_from_slice(&bytes[..outcome.expect("sent")]);
                    continue;
                }
                let reader = std::thread::spawn(move || {
                    let mut read = Vec::new();
                    end.read_to_end(&mut read).expect("the end of the stream");
                    read
                });
                let (outcome, bytes) = sending.await;
                sent.extend_from_slice(&bytes[..outcome.expect("sent")]);
                stream.shutdown(Shutdown::Write);
                return (sent, reader.join().expect("does not panic"));
            }
            (sent, Vec::new())
        })
        .expect("the runtime works");
        assert!(sent.len() > PIECE);
        assert!(sent == read, "{} bytes sent, {} read, or others", sent.len(), read.len());
    }

    #[test]
    fn the_usual_driver_waits_for_room() {
        waits_for_room(usual());
    }

    #[test]
    fn epoll_waits_for_room() {
        waits_for_room(Driver::Epoll);
    }

    #[test]
    fn a_send_on_a_closed_side_is_an_error() {
        let driver = usual();
        let error = runtime::run(driver, async {
            let (stream, _end) = loopback_pair(driver, None).await;
            stream.shutdown(Shutdown::Write);
            let (outcome, bytes) = stream.send(b"too late".to_vec()).await;
            assert_eq!(bytes, b"too late");
            outcome
        })
        .expect("the runtime works")
        .expect_err("nothing can be sent");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
