//! A client that sends exactly the bytes it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Only keeps a hang from blocking the suite.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response as it was read.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The head, as text.
    pub head: String,
    /// The body: by length, or the payload of the chunks.
    pub body: Vec<u8>,
    /// The trailer section, as text.
    pub trailers: String,
}

impl Response {
    /// The value of a field, the first one of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Raw {
    /// Connect.
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("settable");
        stream.set_nodelay(true).expect("settable");
        Raw { stream, unread: Vec::new() }
    }

    /// Another handle of the connection, to send by from another thread.
    pub fn try_clone(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor")
    }

    /// Our end's address.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    /// Send bytes. A peer that closed meanwhile is not an error here: what it said is read later.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// End our side.
    pub fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Read more; false at the end (an orderly one or a reset).
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the gateway said nothing in time: {error}"),
        }
    }

    /// Read until `ending` has come; what came, `ending` included.
    pub fn read_until(&mut self, ending: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(ending.len()).position(|part| part == ending) {
                return self.unread.drain(..at + ending.len()).collect();
            }
            assert!(
                self.fill(),
                "closed before {:?}: {:?}",
                String::from_utf8_lossy(ending),
                String::from_utf8_lossy(&self.unread)
            );
        }
    }

    /// Read exactly this many bytes.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill(), "closed after {} of {count} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Read a response to a request that was not `HEAD`.
    pub fn response(&mut self) -> Response {
        let mut response = self.response_head();
        if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a number");
            response.body = self.read_exact(length);
        } else if response.header("transfer-encoding").is_some() {
            self.chunks(&mut response);
        }
        response
    }

    fn chunks(&mut self, response: &mut Response) {
        loop {
            let line = String::from_utf8(self.read_until(b"\r\n")).expect("text");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            response.body.extend(self.read_exact(size));
            assert_eq!(self.read_exact(2), b"\r\n");
        }
        loop {
            let line = String::from_utf8(self.read_until(b"\r\n")).expect("text");
            if line == "\r\n" {
                return;
            }
            response.trailers.push_str(&line);
        }
    }

    /// Read a head only.
    pub fn response_head(&mut self) -> Response {
        let head = String::from_utf8(self.read_until(b"\r\n\r\n")).expect("text");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {head:?}"));
        Response { status, head, body: Vec::new(), trailers: String::new() }
    }

    /// Read until the gateway closes; the bytes that came.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// Has the gateway closed, with nothing more to read?
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.fill()
    }
}

/// Send bytes on a fresh connection, end our side, read everything.
pub fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address);
    raw.send(bytes);
    raw.finish_sending();
    String::from_utf8_lossy(&raw.read_to_end()).into_owned()
}
