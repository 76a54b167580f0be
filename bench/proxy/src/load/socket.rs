//! A client's socket: the connection itself, or TLS over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::Plan;

/// Bytes read from a TLS connection at once: a record of the largest size and a little more.
const CIPHERTEXT: usize = 32 * 1024;

/// A connection on which requests are sent and responses received.
pub(super) struct Socket {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
}

struct Tls {
    connection: ClientConnection,
    /// Ciphertext that has been received; that between `begin` and `end` is still to be read.
    received: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Socket {
    /// Takes a connection that is open or being opened.
    pub(super) fn new(stream: TcpStream, plan: &Plan) -> io::Result<Self> {
        let Some(config) = &plan.tls else { return Ok(Self { stream, tls: None }) };
        let name = ServerName::try_from(plan.first_host().to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let received = vec![0; CIPHERTEXT].into_boxed_slice();
        let tls = Box::new(Tls { connection, received, begin: 0, end: 0 });
        Ok(Self { stream, tls: Some(tls) })
    }

    /// The connection, when nothing is between it and the responses.
    pub(super) fn clear(&self) -> Option<&TcpStream> {
        self.tls.is_none().then_some(&self.stream)
    }

    /// Sends a request whole; over TLS that waits within us for the end of the handshake, which
    /// [`Self::receive`] drives.
    pub(super) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            // A hundred bytes always fit into an empty send queue.
            None => match self.stream.write(request)? {
                written if written == request.len() => Ok(()),
                _ => Err(io::Error::from(ErrorKind::WriteZero)),
            },
            Some(tls) => {
                tls.connection.writer().write_all(request)?;
                tls.flush(&mut self.stream)
            }
        }
    }

    /// Bytes of responses, 0 at the end of the connection.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(buffer),
            Some(tls) => tls.receive(&mut self.stream, buffer),
        }
    }
}

impl Tls {
    fn receive(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end here is an orderly one; without a word it is an error.
                other => return other,
            }
            if self.begin == self.end {
                let length = stream.read(&mut self.received)?;
                if length == 0 {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof));
                }
                (self.begin, self.end) = (0, length);
            }
            self.begin += self.connection.read_tls(&mut &self.received[self.begin..self.end])?;
            self.connection.process_new_packets().map_err(io::Error::other)?;
            self.flush(stream)?;
        }
    }

    fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            // A full send queue cannot be: a request and a handshake are smaller by far.
            self.connection.write_tls(stream)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use rustls::{ServerConnection, StreamOwned};

    use super::*;
    use crate::load::request;
    use crate::response::{Finished, ResponseReader};
    use crate::service::Protocol;
    use crate::tls;
    use crate::tls::testing::Directory;

    /// Longer than several records and reads.
    const BODY: usize = 300_000;

    /// Answers two requests over TLS; the end is told only when it is `orderly`.
    fn serve(listener: &TcpListener, directory: &Directory, orderly: bool) {
        let (stream, _) = listener.accept().expect("a client");
        let connection = ServerConnection::new(directory.server()).expect("a server");
        let mut stream = StreamOwned::new(connection, stream);
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").expect("sent");
            stream.write_all(&vec![b'x'; BODY]).expect("sent");
        }
        if orderly {
            stream.conn.send_close_notify();
        }
        stream.flush().expect("sent");
    }

    fn next(socket: &mut Socket, reader: &mut ResponseReader) -> Finished {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = socket.receive(&mut buffer).expect("more of the response");
            let (used, finished) = reader.feed(&buffer[..length]).expect("a response");
            if let Some(finished) = finished {
                assert_eq!(used, length, "nothing but the response");
                return finished;
            }
        }
    }

    #[test]
    fn responses_come_whole_over_tls_and_a_cut_is_no_end() {
        let directory = Directory::new("socket");
        for orderly in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("bound");
            thread::scope(|scope| {
                scope.spawn(|| serve(&listener, &directory, orderly));
                let tls = tls::client(&directory.certificate(), Protocol::Http1).expect("good");
                let plan = Plan { tls: Some(tls), ..Plan::new() };
                let stream = TcpStream::connect(address).expect("connected");
                let mut socket = Socket::new(stream, &plan).expect("a socket");
                assert!(socket.clear().is_none(), "its bytes are ciphertext");
                let mut reader = ResponseReader::default();
                for _ in 0..2 {
                    socket.send(&request("/", "hello.com", false)).expect("sent");
                    let expected = Finished { status: 200, close: false };
                    assert_eq!(next(&mut socket, &mut reader), expected);
                }
                let end = socket.receive(&mut [0; 16]).map_err(|error| error.kind());
                let expected = if orderly { Ok(0) } else { Err(ErrorKind::UnexpectedEof) };
                assert_eq!(end, expected);
            });
        }
    }
}
