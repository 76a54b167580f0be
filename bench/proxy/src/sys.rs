//! Thin safe wrappers over the system calls that the standard library lacks. Nothing here knows
//! what a proxy is.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The result of a system call: a negative value is the error in `errno`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Binds the calling thread, and every thread and process it starts from now on, to one core.
pub(crate) fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the set is plain data for which all zeroes is the empty set; `core` is within it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

/// Puts the calling thread before every ordinary one on its core. It must not run for long.
pub(crate) fn before_other_threads() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) })?;
    Ok(())
}

/// Cores on which this process may run.
pub(crate) fn allowed_cores() -> Vec<usize> {
    // SAFETY: as above; the kernel fills the set we pass with its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

/// Descriptors that the largest part of a run may need: 10,000 connections each way and some room.
const WANTED_FILES: libc::rlim_t = 65_536;

/// Raises the limit of open files as far as we are allowed to, and returns it.
///
/// Only system calls, no allocation: it also runs between fork and exec.
pub(crate) fn raise_file_limit() -> u64 {
    // SAFETY: both calls read or write the structure that we own.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let hard = limit.rlim_max.max(WANTED_FILES);
        let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
            return hard;
        }
        // Not allowed to raise the hard limit: go up to it.
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_cur
    }
}

/// Makes the calling process a group of its own that is asked to end when its parent's thread ends.
///
/// Only system calls: it runs between fork and exec.
pub(crate) fn own_group_ending_with_parent() -> io::Result<()> {
    // SAFETY: neither call takes a pointer.
    unsafe {
        check(libc::setpgid(0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
    }
    Ok(())
}

/// Kills every process of a group. A group that is gone is no error.
pub(crate) fn kill_group(leader: u32) {
    let Ok(group) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: no pointers; the caller names the leader of a group that it started.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM only set a flag, see [`interrupted`].
pub(crate) fn catch_interrupts() {
    let handler = note_interrupt as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe {
            libc::signal(signal, handler as libc::sighandler_t);
        }
    }
}

/// Whether SIGINT or SIGTERM came since [`catch_interrupts`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits until the descriptor can be read (or is at its end); false when the time is up.
pub(crate) fn wait_readable(fd: RawFd, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one entry, which outlives the call.
    match check(unsafe { libc::poll(&mut entry, 1, millis) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// The unit of the times in `/proc/PID/stat`: ticks per second.
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Today in UTC as `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    // SAFETY: plain data; both calls get structures that we own.
    let (year, month, day) = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&now, &mut parts);
        (parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday)
    };
    format!("{year:04}-{month:02}-{day:02}")
}

/// Where `needle` begins in `haystack`.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    // SAFETY: both ranges are valid for reads of their length.
    let found = unsafe {
        libc::memmem(haystack.as_ptr().cast(), haystack.len(), needle.as_ptr().cast(), needle.len())
    };
    if found.is_null() { None } else { Some(found as usize - haystack.as_ptr() as usize) }
}

fn socket_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// The kernel's form of an IPv4 address, at a stable place for operations that are under way.
pub(crate) fn boxed_socket_address(address: SocketAddrV4) -> Box<libc::sockaddr_in> {
    Box::new(socket_address(address))
}

/// A TCP socket with TCP_NODELAY; `flags` are SOCK_NONBLOCK and the like.
pub(crate) fn tcp_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that was just made has no other owner.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags,
            0,
        ))?)
    };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option's value is one int that outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Begins to connect without waiting; the socket becomes writable when it is connected.
///
/// With a source address the port is chosen at connect time, so that the same port may serve
/// several destinations.
pub(crate) fn start_connect(from: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = tcp_socket(libc::SOCK_NONBLOCK)?;
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    if let Some(ip) = from {
        set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let source = socket_address(SocketAddrV4::new(ip, 0));
        // SAFETY: an address of the length that is passed with it.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const source).cast(), length) })?;
    }
    let target = socket_address(to);
    // SAFETY: as above.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const target).cast(), length) }) {
        Ok(_) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Takes up to `limit` bytes from a socket's receive queue without copying them (`MSG_TRUNC`).
pub(crate) fn discard(fd: RawFd, limit: usize) -> io::Result<usize> {
    // SAFETY: for TCP, MSG_TRUNC makes the kernel drop the bytes: the buffer is not written.
    let taken = unsafe { libc::recv(fd, std::ptr::null_mut(), limit, libc::MSG_TRUNC) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// Whether the other end still holds the connection open and has sent nothing more.
pub(crate) fn is_open_and_quiet(fd: RawFd) -> bool {
    let mut byte = 0_u8;
    // SAFETY: room for the one byte that is asked for.
    let seen =
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    seen < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// A listening socket on loopback with a backlog that a burst of 10,000 connects does not fill.
pub(crate) fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = tcp_socket(0)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let address = socket_address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    // SAFETY: an address of the length that is passed with it.
    unsafe {
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        ))?;
        check(libc::listen(socket.as_raw_fd(), 4096))?;
    }
    Ok(socket.into())
}

/// An epoll instance whose tokens are 64-bit numbers of the caller.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a descriptor that was just made has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// Watches a descriptor until it is closed; `interest` is a set of EPOLL flags.
    pub(crate) fn add(&self, fd: RawFd, interest: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: the event outlives the call.
        check(unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event)
        })?;
        Ok(())
    }

    /// Waits for events, at most `timeout_ms` (−1: for ever), and returns how many there are.
    pub(crate) fn wait(&mut self, timeout_ms: libc::c_int) -> io::Result<usize> {
        // SAFETY: room for as many events as the call is told.
        let ready = check(unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                timeout_ms,
            )
        });
        match ready {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The token and flags of event number `index` of the last [`Self::wait`].
    pub(crate) fn event(&self, index: usize) -> (u64, libc::c_int) {
        let event = self.events[index];
        (event.u64, event.events as libc::c_int)
    }
}

/// The host's name for a signal, for messages about a child that was killed.
pub(crate) fn signal_name(signal: i32) -> String {
    // SAFETY: strsignal returns a string that stays valid until the next call on this thread.
    unsafe {
        let text = libc::strsignal(signal);
        if text.is_null() {
            format!("signal {signal}")
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
