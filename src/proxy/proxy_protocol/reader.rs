//! The header of the PROXY protocol that a load balancer in front of us sends: who the client is
//! (haproxy's `proxy-protocol.txt`, sections 2.1 and 2.2). The parser is pure; nothing behind the
//! header is looked at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::SIGNATURE;
use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_TIMEOUT};
use crate::net::{Buffer, Stream};
use crate::proxy::context::WorkerContext;

/// First bytes of version 1.
const LINE_START: &[u8] = b"PROXY ";
/// Bytes of a line of version 1 with its end.
const LINE_BYTES_MAX: usize = 107;
/// Bytes of version 2 before the addresses.
const FIXED_BYTES: usize = 16;

/// Why a connection is closed before it said anything else.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It begins with something else.
    #[error(
        "the connection does not begin with a header of the PROXY protocol: make the load balancer \
         in front of this port send one, or leave the port out of --proxy-protocol"
    )]
    Missing,
    /// It begins with something that breaks the protocol.
    #[error("malformed header of the PROXY protocol: {0}")]
    Malformed(&'static str),
    /// It is longer than what is taken.
    #[error("the header of the PROXY protocol is longer than {PROXY_HEADER_BYTES_MAX} bytes")]
    TooLong,
    /// It did not come in time.
    #[error("no header of the PROXY protocol within {} s", PROXY_HEADER_TIMEOUT.as_secs())]
    TimedOut,
    /// The client left before it was complete.
    #[error("the connection ended within the header of the PROXY protocol")]
    Ended,
    /// Receiving failed.
    #[error("receiving the header of the PROXY protocol failed: {0}")]
    Receive(#[from] io::Error),
}

/// What is known of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More is to come.
    Incomplete,
    /// All of it.
    Complete {
        /// Bytes that it takes.
        bytes: usize,
        /// The client; none when the connection is the load balancer's own, or has no address.
        client: Option<SocketAddr>,
    },
}

/// Read the header at the start of `input`.
///
/// # Errors
/// It is none, or breaks the protocol.
pub fn parse(input: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    if begins(input, &SIGNATURE) {
        return parse_binary(input);
    }
    if begins(input, LINE_START) {
        return parse_line(input);
    }
    Err(ProxyHeaderError::Missing)
}

/// Do both begin alike, as far as the shorter goes?
fn begins(input: &[u8], with: &[u8]) -> bool {
    let common = input.len().min(with.len());
    input[..common] == with[..common]
}

fn parse_line(input: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let seen = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match seen.len() < LINE_BYTES_MAX {
            true => Ok(Parsed::Incomplete),
            false => Err(ProxyHeaderError::Malformed("its line does not end")),
        };
    };
    let malformed = ProxyHeaderError::Malformed;
    let line = std::str::from_utf8(&seen[LINE_START.len()..end])
        .map_err(|_| malformed("its line is not text"))?;
    let bytes = end + 2;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // What follows says nothing.
        return Ok(Parsed::Complete { bytes, client: None });
    }
    let mut word = || words.next().ok_or(malformed("its line lacks a part"));
    let (source, destination) = (word()?, word()?);
    let (from, to) = (word()?, word()?);
    if words.next().is_some() {
        return Err(malformed("its line has too many parts"));
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| malformed("not an IPv4 address")),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| malformed("not an IPv6 address")),
        _ => Err(malformed("neither TCP4, TCP6 nor UNKNOWN")),
    };
    let port = |text: &str| {
        // The standard library takes a plus sign too.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or(malformed("not a port"))
    };
    let client = SocketAddr::new(address(source)?, port(from)?);
    address(destination)?;
    port(to)?;
    Ok(Parsed::Complete { bytes, client: Some(client) })
}

fn parse_binary(input: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = FIXED_BYTES + length;
    if version_and_command >> 4 != 2 {
        return Err(ProxyHeaderError::Malformed("its version is not 2"));
    }
    if bytes > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(rest) = rest.get(..length) else { return Ok(Parsed::Incomplete) };
    let client = match version_and_command & 0xf {
        // The load balancer's own connection, such as a health check: what follows says nothing.
        0 => None,
        1 => addresses(family, rest)?,
        _ => return Err(ProxyHeaderError::Malformed("neither LOCAL nor PROXY")),
    };
    Ok(Parsed::Complete { bytes, client })
}

/// The source of a PROXY command; what follows the addresses (TLVs) is passed over.
fn addresses(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let short = || ProxyHeaderError::Malformed("too short for its addresses");
    match family {
        // TCP over IPv4: source, destination, their ports.
        0x11 => {
            let block = rest.first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
            let source = Ipv4Addr::new(a, b, c, d);
            Ok(Some(SocketAddr::from((source, u16::from_be_bytes([high, low])))))
        }
        0x21 => {
            let block = rest.first_chunk::<36>().ok_or_else(short)?;
            let (source, ports) = block.split_first_chunk::<16>().ok_or_else(short)?;
            let port = u16::from_be_bytes([ports[16], ports[17]]);
            Ok(Some(SocketAddr::from((Ipv6Addr::from(*source), port))))
        }
        // A Unix socket: two paths.
        0x31 if rest.len() >= 216 => Ok(None),
        0x31 => Err(short()),
        0x00 => Ok(None),
        _ => Err(ProxyHeaderError::Malformed("neither TCP nor a stream of Unix sockets")),
    }
}

/// Receive the header that a connection must begin with. `buffer` may hold its first bytes. Returns the
/// client that it tells of, if any, and a buffer with what followed it. Failures are counted.
///
/// # Errors
/// No header came, or not in time: the connection is to be closed.
pub async fn read_header(
    context: &WorkerContext,
    stream: &Stream,
    buffer: Buffer,
) -> Result<(Option<SocketAddr>, Buffer), ProxyHeaderError> {
    let reading = crate::net::within(PROXY_HEADER_TIMEOUT, receive_header(context, stream, buffer));
    let read = reading.await.unwrap_or(Err(ProxyHeaderError::TimedOut));
    if read.is_err() {
        context.count(|counters, _| counters.downstream_proxy_protocol_errors += 1);
    }
    read
}

async fn receive_header(
    context: &WorkerContext,
    stream: &Stream,
    mut buffer: Buffer,
) -> Result<(Option<SocketAddr>, Buffer), ProxyHeaderError> {
    loop {
        if let Parsed::Complete { bytes, client } = parse(&buffer)? {
            buffer.advance(bytes);
            return Ok((client, buffer));
        }
        if buffer.is_full() {
            buffer = match context.buffers.grow(buffer) {
                Ok((grown, _)) => grown,
                Err(_) => return Err(ProxyHeaderError::TooLong),
            };
        }
        let (outcome, received) = stream.receive(buffer).await;
        buffer = received;
        if outcome? == 0 {
            return Err(ProxyHeaderError::Ended);
        }
    }
}

#[cfg(test)]
mod tests;
