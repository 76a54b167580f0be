//! The HTTP/1.1 upstream: one thread, epoll, answers prepared in advance.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::response::value_of;
use crate::sys::{Epoll, find};

/// Token of the listener; connections have the number of their descriptor.
const LISTENER: u64 = u64::MAX;
/// Token of standard input, whose end stops the backend.
const STDIN: u64 = u64::MAX - 1;
/// Longest request head, bytes.
const HEAD_LIMIT: usize = 64 * 1024;

const IN: i32 = libc::EPOLLIN;
const GONE: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// What can be asked for, each answer as it goes on the wire.
struct Answers {
    /// By path: with the connection kept, and with it closed.
    found: [(&'static [u8], [Vec<u8>; 2]); 3],
    bad: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let pair =
            |length: usize| [answer("200 OK", length, false), answer("200 OK", length, true)];
        Self {
            found: [(b"/", pair(100)), (b"/10k", pair(10 * 1024)), (b"/1m", pair(1024 * 1024))],
            bad: answer("400 Bad Request", 0, true),
        }
    }

    fn bytes(&self, which: Which) -> &[u8] {
        match which {
            Which::Found { path, close } => &self.found[path].1[usize::from(close)],
            Which::Bad => &self.bad,
        }
    }
}

fn answer(status: &str, length: usize, close: bool) -> Vec<u8> {
    let close = if close { "connection: close\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\n{close}content-length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Found { path: usize, close: bool },
    Bad,
}

impl Which {
    fn closes(self) -> bool {
        matches!(self, Self::Bad | Self::Found { close: true, .. })
    }
}

struct Connection {
    stream: TcpStream,
    /// A request head that has not ended yet.
    partial: Vec<u8>,
    /// Answers still to be written.
    waiting: VecDeque<Which>,
    /// Bytes of the first of them that have been written.
    written: usize,
}

/// Serves until standard input ends; the number of requests answered completely.
pub(super) fn serve(listener: TcpListener) -> io::Result<u64> {
    listener.set_nonblocking(true)?;
    let answers = Answers::new();
    let mut epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), IN, LISTENER)?;
    // A standard input that cannot be watched (a file) does not end us: a signal must.
    let _ = epoll.add(0, IN, STDIN);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut served = 0;
    loop {
        let ready = epoll.wait(-1)?;
        for index in 0..ready {
            let (token, flags) = epoll.event(index);
            match token {
                LISTENER => accept(&listener, &epoll, &mut connections)?,
                STDIN => {
                    if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                        return Ok(served);
                    }
                }
                _ => {
                    let Some(slot) = connections.get_mut(token as usize) else { continue };
                    let Some(connection) = slot else { continue };
                    if !connection.progress(flags, &answers, &mut buffer, &mut served) {
                        *slot = None;
                    }
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let fd = stream.as_raw_fd();
        epoll.add(fd, IN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET, fd as u64)?;
        let slot = fd as usize;
        if connections.len() <= slot {
            connections.resize_with(slot + 1, || None);
        }
        connections[slot] =
            Some(Connection { stream, partial: Vec::new(), waiting: VecDeque::new(), written: 0 });
    }
}

impl Connection {
    /// Reads, answers and writes what can be; false when the connection is to be closed.
    fn progress(
        &mut self,
        flags: i32,
        answers: &Answers,
        buffer: &mut [u8],
        served: &mut u64,
    ) -> bool {
        if flags & (IN | GONE) != 0 {
            loop {
                match self.stream.read(buffer) {
                    Ok(0) => return false,
                    Ok(length) => {
                        if !self.take(&buffer[..length], answers) {
                            return false;
                        }
                        // A read that left room has emptied the queue; the end of the stream,
                        // if it is there already, must still be seen.
                        if length < buffer.len() && flags & GONE == 0 {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
            }
        }
        self.write(answers, served)
    }

    /// Finds the requests in the bytes that came; false when a head is too long.
    fn take(&mut self, bytes: &[u8], answers: &Answers) -> bool {
        if self.partial.is_empty() {
            let used = find_requests(bytes, answers, &mut self.waiting);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let used = find_requests(&self.partial, answers, &mut self.waiting);
            self.partial.drain(..used);
        }
        self.partial.len() <= HEAD_LIMIT
    }

    fn write(&mut self, answers: &Answers, served: &mut u64) -> bool {
        while let Some(&which) = self.waiting.front() {
            let bytes = answers.bytes(which);
            match self.stream.write(&bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.written == bytes.len() {
                *served += 1;
                self.written = 0;
                self.waiting.pop_front();
                if which.closes() {
                    return false;
                }
            }
        }
        true
    }
}

/// Appends an answer for each complete request head; the number of bytes they took.
fn find_requests(bytes: &[u8], answers: &Answers, waiting: &mut VecDeque<Which>) -> usize {
    let mut used = 0;
    while let Some(end) = find(&bytes[used..], b"\r\n\r\n") {
        waiting.push_back(request(&bytes[used..used + end], answers));
        used += end + 4;
    }
    used
}

fn request(head: &[u8], answers: &Answers) -> Which {
    let path = head.strip_prefix(b"GET ").and_then(|rest| rest.split(|&byte| byte == b' ').next());
    let found = path.and_then(|path| answers.found.iter().position(|(known, _)| *known == path));
    let Some(path) = found else { return Which::Bad };
    // The word is rare enough that the lines are looked at only when it occurs at all.
    let close = find(head, b"close").is_some()
        && head
            .split(|&byte| byte == b'\n')
            .any(|line| value_of(line, b"connection:").is_some_and(|value| value == b"close"));
    Which::Found { path, close }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let answers = Answers::new();
        let mut waiting = VecDeque::new();
        let bytes = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /10k HTTP/1.1\r\nhost: close\r\n\r\n\
            GET /1m HTTP/1.1\r\nConnection: close\r\n\r\nGET / HT";
        let used = find_requests(bytes, &answers, &mut waiting);
        assert_eq!(&bytes[used..], b"GET / HT");
        assert_eq!(
            waiting,
            [
                Which::Found { path: 0, close: false },
                Which::Found { path: 1, close: false },
                Which::Found { path: 2, close: true },
            ]
        );
    }

    #[test]
    fn anything_else_is_a_bad_request() {
        let answers = Answers::new();
        for head in [&b"POST / HTTP/1.1"[..], b"GET /other HTTP/1.1", b"rubbish", b""] {
            assert_eq!(request(head, &answers), Which::Bad);
        }
    }

    #[test]
    fn bodies_have_the_length_that_their_head_says() {
        let answers = Answers::new();
        for (path, length) in [(0, 100), (1, 10 * 1024), (2, 1024 * 1024)] {
            let bytes = answers.bytes(Which::Found { path, close: false });
            let end = find(bytes, b"\r\n\r\n").expect("a head") + 4;
            assert_eq!(bytes.len() - end, length);
            let said = format!("content-length: {length}\r\n");
            assert!(find(&bytes[..end], said.as_bytes()).is_some());
        }
    }
}
