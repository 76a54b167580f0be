//! Opening a connection to the target.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use monoio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::board::Board;
use crate::failure::Failure;
use crate::runtime::Driver;

/// Opens a connection; the deadline is the caller's.
///
/// It is begun by a system call on a non-blocking socket and only its end is awaited: an operation that
/// is given up closes the socket.
pub(super) async fn connect(board: &Board) -> Result<TcpStream, Failure> {
    open(board).await.map_err(|error| kind(&error))
}

async fn open(board: &Board) -> io::Result<TcpStream> {
    let address = board.plan.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = board.next_source() {
        without_port_at_bind(&socket)?;
        socket.bind(&SockAddr::from(std::net::SocketAddr::new(source, 0)))?;
    }
    let in_progress = match socket.connect(&address.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(socket.into())?;
    if in_progress {
        stream.writable(false).await?;
    }
    let lent = Lent(&stream);
    let socket = SockRef::from(&lent);
    if in_progress && let Some(error) = socket.take_error()? {
        return Err(error);
    }
    if board.driver != Driver::Epoll {
        // A ring waits for a blocking descriptor itself and fails at once on the other kind.
        socket.set_nonblocking(false)?;
    }
    Ok(stream)
}

/// What became of a connection on which nothing was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// It can be used.
    Open,
    /// The peer has ended it.
    Ended,
    /// Bytes came that no request had asked for.
    Surplus,
}

/// Looks at an idle connection. A system call; what has come stays where it is.
pub(super) fn look(stream: &TcpStream) -> Idle {
    let mut byte = [MaybeUninit::uninit()];
    let lent = Lent(stream);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    match SockRef::from(&lent).recv_with_flags(&mut byte, flags) {
        Ok(0) => Idle::Ended,
        Ok(_) => Idle::Surplus,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Open,
        Err(_) => Idle::Ended,
    }
}

/// Takes bytes that [`look`] has seen: it does not wait.
pub(super) fn take_seen(stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let lent = Lent(stream);
    (&*SockRef::from(&lent)).read(into)
}

/// The port is chosen when the connection is made, so that one may serve several destinations.
fn without_port_at_bind(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lends the descriptor of a runtime stream to `socket2`.
struct Lent<'s>(&'s TcpStream);

impl AsFd for Lent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream keeps its descriptor open for as long as it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

fn kind(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => {
            Failure::LocalResources
        }
        Some(libc::ECONNREFUSED) => Failure::ConnectRefused,
        Some(libc::ETIMEDOUT) => Failure::ConnectTimeout,
        _ => Failure::Connect,
    }
}
