//! A question to the admin port of a running gateway.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::limits::EXPLAIN_ANSWER_BYTES_MAX;

/// A gateway that is there answers at once; one that is busy may compile a large configuration.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    /// Nobody is there, or it went away.
    #[error(
        "cannot ask the gateway at {0}: {1}; its admin address is printed when it starts (admin=…)"
    )]
    Unreachable(SocketAddr, io::Error),
    /// It refuses.
    #[error("the gateway says: {0}")]
    Refused(String),
    /// It is no gateway, or one of another version.
    #[error("what answers at {0} is no admin port of a ringress that knows this: {1}")]
    Stranger(SocketAddr, String),
}

/// POST `body` to a page; the text of its answer.
pub(super) fn post(admin: SocketAddr, page: &str, body: &str) -> Result<String, LiveError> {
    // An HTTP/1.0 answer ends with the connection and is not in chunks.
    let request = format!(
        "POST {page} HTTP/1.0\r\nhost: {admin}\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(admin, &request)
}

/// GET a page; its text.
pub(super) fn get(admin: SocketAddr, page: &str) -> Result<String, LiveError> {
    ask(admin, &format!("GET {page} HTTP/1.0\r\nhost: {admin}\r\n\r\n"))
}

fn ask(admin: SocketAddr, request: &str) -> Result<String, LiveError> {
    let unreachable = |error| LiveError::Unreachable(admin, error);
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT).map_err(unreachable)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(unreachable)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(unreachable)?;
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut answer = Vec::new();
    stream.take(EXPLAIN_ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(unreachable)?;
    let text = String::from_utf8_lossy(&answer);
    let first = text.lines().next().unwrap_or_default();
    let stranger = || LiveError::Stranger(admin, first.to_owned());
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(stranger)?;
    let status = head.split(' ').nth(1).filter(|_| head.starts_with("HTTP/1."));
    match status {
        Some("200") => Ok(body.to_owned()),
        Some("400" | "413" | "500" | "503") => Err(LiveError::Refused(body.trim().to_owned())),
        _ => Err(stranger()),
    }
}
