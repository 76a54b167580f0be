//! Listening sockets: bound by the control side, served by a worker.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsRawFd, RawFd};

use monoio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::runtime::Driver;
use super::stream::Stream;
use crate::limits::LISTEN_BACKLOG;

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // One wildcard socket serves both families, as Istio's gateway does.
        socket.set_only_v6(address.ip() != IpAddr::from([0u16; 8]))?;
    }
    Ok(socket)
}

/// Is somebody else listening on `address`? Binds without `SO_REUSEPORT`, which would let two
/// processes of one user share the port unnoticed, and lets go again.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    // Only listen() tells that a socket of the same user listens with SO_REUSEADDR.
    socket.listen(1)
}

/// Bind one worker's socket of `address`. Accepted connections inherit `TCP_NODELAY` from it.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// A listening socket on a worker.
pub struct Listener {
    inner: TcpListener,
    descriptor: RawFd,
}

impl Listener {
    /// Take over a bound socket.
    pub fn adopt(socket: StdListener, driver: Driver) -> io::Result<Listener> {
        // A ring waits for a blocking descriptor itself; epoll needs one that does not block.
        socket.set_nonblocking(driver == Driver::Epoll)?;
        let descriptor = socket.as_raw_fd();
        Ok(Listener { inner: TcpListener::from_std(socket)?, descriptor })
    }

    /// The next connection. Never drop this future while it is pending: call [`Listener::stop`]
    /// and let it end.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, peer) = self.inner.accept().await?;
        Ok((Stream::new(socket), peer))
    }

    /// The descriptor, for [`stop`].
    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }
}

/// Do connections wait to be accepted?
pub fn has_waiting(descriptor: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live `pollfd`, and a zero time-out.
    let ready = unsafe { libc::poll(&mut poll, 1, 0) };
    ready == 1 && poll.revents & libc::POLLIN != 0
}

/// Stop listening: a pending accept ends with an error.
pub fn stop(descriptor: RawFd) {
    // SAFETY: a plain system call; the caller holds the listener, so the descriptor is open.
    unsafe { libc::shutdown(descriptor, libc::SHUT_RDWR) };
}
