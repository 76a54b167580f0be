//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use monoio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::runtime::Driver;
use super::stream::Stream;

/// Connect to `address` within `timeout` ([`io::ErrorKind::TimedOut`] after that).
///
/// The connect itself is begun by a system call on a non-blocking socket and only its end is waited
/// for on the ring: the socket stays ours all the time, so that giving up closes it (a dropped
/// connect operation of the runtime would leak it).
pub async fn connect(
    address: SocketAddr,
    timeout: Duration,
    driver: Driver,
    keepalive: Option<&TcpKeepalive>,
) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = keepalive {
        socket.set_tcp_keepalive(&keepalive.of_socket())?;
    }
    socket.set_nonblocking(true)?;
    let in_progress = match socket.connect(&address.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(socket.into())?;
    if in_progress {
        match super::within(timeout, stream.writable(false)).await {
            Some(ready) => ready?,
            None => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    let borrowed = StreamDescriptor(&stream);
    let socket = SockRef::from(&borrowed);
    if in_progress && let Some(error) = socket.take_error()? {
        return Err(error);
    }
    if driver != Driver::Epoll {
        // A ring waits for a blocking descriptor itself and fails at once on the other kind.
        socket.set_nonblocking(false)?;
    }
    Ok(Stream::new(stream))
}

/// Probes of the kernel on a connection that is idle; none: the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<Duration>,
    /// Time between them.
    pub interval: Option<Duration>,
}

impl TcpKeepalive {
    fn of_socket(&self) -> socket2::TcpKeepalive {
        let mut keepalive = socket2::TcpKeepalive::new();
        // The kernel counts whole seconds, at least one.
        let seconds = |time: Duration| time.max(Duration::from_secs(1));
        if let Some(time) = self.time {
            keepalive = keepalive.with_time(seconds(time));
        }
        if let Some(interval) = self.interval {
            keepalive = keepalive.with_interval(seconds(interval));
        }
        if let Some(probes) = self.probes {
            keepalive = keepalive.with_retries(probes);
        }
        keepalive
    }
}

/// Lends the descriptor of a runtime stream to `socket2`.
struct StreamDescriptor<'s>(&'s TcpStream);

impl AsFd for StreamDescriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream keeps its descriptor open for as long as it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

/// For tests: a connection of ours and its other end. With `receive_buffer_bytes` the other end takes
/// so little that a send waits for its reader.
#[cfg(test)]
pub async fn loopback_pair(
    driver: Driver,
    receive_buffer_bytes: Option<usize>,
) -> (Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    if let Some(bytes) = receive_buffer_bytes {
        SockRef::from(&listener).set_recv_buffer_size(bytes).expect("a buffer size");
    }
    let address = listener.local_addr().expect("bound");
    let ours = connect(address, Duration::from_secs(10), driver, None).await.expect("it listens");
    (ours, listener.accept().expect("connected").0)
}
