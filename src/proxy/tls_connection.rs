//! A client's connection to a port that takes TLS or bytes: its first bytes name a server, the server's
//! chain says whether TLS ends here, and what is in it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::context::{Replica, WorkerContext};
use super::downstream::{Downstream, Phase};
use super::exchange;
use super::listener::ListenerSlot;
use super::tcp::{self, Arrived};
use crate::metrics::WorkerCounters;
use crate::net::{Buffer, Stream};
use crate::snapshot::{Chain, ChainContent, Forward, Serves, Snapshot};
use crate::tls::client_hello::{self, ClientHello, Parsed};
use crate::tls::server;

/// The protocols by which the sidecars of a mesh know each other (Istio's ALPN names); one of them is
/// needed where the server name is a cluster's.
const MESH_PROTOCOLS: [&str; 5] =
    ["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// What a connection turned out to be.
enum Opened {
    /// It holds requests.
    Requests(Rc<Downstream>),
    /// It goes on as a whole.
    Bytes(Box<Bytes>),
}

/// A connection that goes on as a whole.
struct Bytes {
    stream: Stream,
    listener: Rc<ListenerSlot>,
    /// What came already.
    received: Buffer,
    server_name: Option<String>,
    of_mesh: bool,
    replica: Rc<Replica>,
    /// Its listener and chain in the replica.
    position: (usize, usize),
}

/// Serve a connection to a port that takes TLS, of which `received` came already, until it ends.
pub async fn serve(
    context: Rc<WorkerContext>,
    socket: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
    received: Buffer,
) {
    // Boxed: what is needed only until the handshake is over must not lie in an idle connection.
    let opened = Box::pin(open(&context, socket, peer, listener, received)).await;
    match opened {
        Some(Opened::Requests(downstream)) => exchange::serve_connection(context, downstream).await,
        Some(Opened::Bytes(bytes)) => {
            let Bytes { stream, listener, received, server_name, of_mesh, replica, position } =
                *bytes;
            let server_name = server_name.as_deref();
            let arrived = Arrived { stream, peer, listener, received, server_name, of_mesh };
            let serving = tcp::serve(&context, arrived, replica, |snapshot| {
                route_of_chain(snapshot, position)
            });
            Box::pin(serving).await;
        }
        None => {}
    }
}

/// Serve a connection to a port of bytes, of which `received` came already, until it ends.
pub async fn serve_bytes(
    context: Rc<WorkerContext>,
    stream: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
    received: Buffer,
) {
    let replica = Rc::clone(&context.replica.borrow());
    let at = listener.listener.get();
    let arrived = Arrived { stream, peer, listener, received, server_name: None, of_mesh: false };
    tcp::serve(&context, arrived, replica, |snapshot| route_of_port(snapshot, at)).await;
}

fn route_of_port(snapshot: &Snapshot, at: Option<usize>) -> Option<&Forward> {
    match &snapshot.listeners.get(at?)?.serves {
        Serves::Bytes(port) => Some(&port.route.forward),
        _ => None,
    }
}

fn route_of_chain(snapshot: &Snapshot, (at, position): (usize, usize)) -> Option<&Forward> {
    let Serves::Tls(port) = &snapshot.listeners.get(at)?.serves else { return None };
    match &port.chains.get(position)?.content {
        ChainContent::Connection(route) => Some(&route.forward),
        ChainContent::Requests { .. } => None,
    }
}

/// Find the chain of a connection and, if TLS ends here, shake hands. None: it failed, which is counted.
async fn open(
    context: &Rc<WorkerContext>,
    socket: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
    received: Buffer,
) -> Option<Opened> {
    let early = Downstream::new(socket.clone(), peer, Rc::clone(&listener));
    let early = context.downstreams.insert(early);
    let timeout = context.replica.borrow().snapshot.settings.tls_handshake_timeout;
    let deadline_ms = context.clock.milliseconds(Instant::now()) + timeout.as_millis() as u64;
    early.wait(Phase::FirstBytes, deadline_ms);
    let begun = || early.wait(Phase::Handshake, deadline_ms);
    let failure = match shake_hands(context, socket, peer, &listener, received, begun).await {
        Ok(opened) => {
            context.downstreams.remove(&early);
            return Some(opened);
        }
        Err(_) if early.expired() => HandshakeFailure::Timeout,
        Err(failure) => failure,
    };
    context.count(|counters, _| failure.count(counters));
    if failure.was_told() {
        // A client of TLS 1.3 has sent its request before it can know: closed with that unread, the
        // alert would be lost on its way.
        exchange::linger(context, &early).await;
    }
    context.downstreams.remove(&early);
    None
}

async fn shake_hands(
    context: &Rc<WorkerContext>,
    socket: Stream,
    peer: SocketAddr,
    listener: &Rc<ListenerSlot>,
    received: Buffer,
    begun: impl Fn(),
) -> Result<Opened, HandshakeFailure> {
    let (hello, received) = read_hello(context, &socket, received, begun).await?;
    let replica = Rc::clone(&context.replica.borrow());
    let name = hello.server_name.as_deref();
    let Some((position, slot, chain)) = find_chain(&replica, listener, name) else {
        context.buffers.give(received);
        return Err(HandshakeFailure::NoServer);
    };
    if chain.of_mesh
        && !hello.alpn.iter().any(|protocol| MESH_PROTOCOLS.contains(&protocol.as_str()))
    {
        context.buffers.give(received);
        return Err(HandshakeFailure::NoServer);
    }
    let (listener, of_mesh) = (Rc::clone(slot), chain.of_mesh);
    let bytes = |stream, received| {
        let (server_name, replica) = (hello.server_name.clone(), Rc::clone(&replica));
        let bytes = Bytes { stream, listener, received, server_name, of_mesh, replica, position };
        Ok(Opened::Bytes(Box::new(bytes)))
    };
    if !chain.ends_tls {
        return bytes(socket, received);
    }
    let Some(tls) = &chain.tls else {
        context.buffers.give(received);
        return Err(HandshakeFailure::NoCertificate);
    };
    let accepted = server::accept(socket, tls, received, &context.tls).await;
    let (stream, info) = accepted.map_err(|error| HandshakeFailure::Refused(error.reason()))?;
    context.count(|counters, _| {
        counters.tls_handshakes += 1;
        counters.tls_resumptions += u64::from(info.resumed);
    });
    match &chain.content {
        ChainContent::Requests { .. } => {
            let downstream = Downstream::over_tls(stream, peer, Rc::clone(slot), Rc::new(info));
            Ok(Opened::Requests(context.downstreams.insert(downstream)))
        }
        ChainContent::Connection(_) => bytes(stream, Buffer::idle()),
    }
}

/// The chain that takes connections with this server name, and its slot.
fn find_chain<'r>(
    replica: &'r Replica,
    listener: &ListenerSlot,
    name: Option<&str>,
) -> Option<((usize, usize), &'r Rc<ListenerSlot>, &'r Chain)> {
    let at = listener.listener.get()?;
    let Serves::Tls(port) = &replica.snapshot.listeners.get(at)?.serves else { return None };
    let position = port.find(name)?;
    Some(((at, position), replica.chains.get(at, position)?, port.chains.get(position)?))
}

/// Receive until the client has said what it wants; `begun` is called when it has begun to.
async fn read_hello(
    context: &WorkerContext,
    socket: &Stream,
    received: Buffer,
    begun: impl Fn(),
) -> Result<(ClientHello, Buffer), HandshakeFailure> {
    let mut buffer = received;
    loop {
        if !buffer.is_empty() {
            begun();
        }
        let failure = match client_hello::parse(&buffer) {
            Parsed::Hello(hello) => return Ok((hello, buffer)),
            Parsed::NotTls => HandshakeFailure::NotTls,
            Parsed::Incomplete => match more(context, socket, buffer).await {
                Ok(longer) => {
                    buffer = longer;
                    continue;
                }
                Err((failure, same)) => {
                    buffer = same;
                    failure
                }
            },
        };
        context.buffers.give(buffer);
        return Err(failure);
    }
}

async fn more(
    context: &WorkerContext,
    socket: &Stream,
    buffer: Buffer,
) -> Result<Buffer, (HandshakeFailure, Buffer)> {
    let mut buffer = buffer;
    if buffer.is_full() {
        buffer = match context.buffers.grow(buffer) {
            Ok((larger, _)) => larger,
            Err(full) => return Err((HandshakeFailure::NotTls, full)),
        };
    }
    match socket.receive(buffer).await {
        (Ok(count), received) if count > 0 => Ok(received),
        (_, received) => Err((HandshakeFailure::Closed, received)),
    }
}

/// Why a connection did not get through its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakeFailure {
    Timeout,
    Closed,
    NotTls,
    NoServer,
    NoCertificate,
    /// As the TLS side words it (`TlsError::reason`).
    Refused(&'static str),
}

impl HandshakeFailure {
    /// Has the client been sent an alert that says why?
    fn was_told(self) -> bool {
        match self {
            HandshakeFailure::Refused(reason) => !matches!(reason, "closed" | "socket" | "alert"),
            _ => false,
        }
    }

    fn count(self, counters: &mut WorkerCounters) {
        let counter = match self {
            HandshakeFailure::Timeout => &mut counters.tls_failed_timeout,
            HandshakeFailure::NotTls => &mut counters.tls_failed_not_tls,
            HandshakeFailure::NoServer => &mut counters.tls_failed_no_server,
            HandshakeFailure::NoCertificate => &mut counters.tls_failed_no_certificate,
            HandshakeFailure::Closed | HandshakeFailure::Refused("closed" | "socket") => {
                &mut counters.tls_failed_closed
            }
            HandshakeFailure::Refused("alert") => &mut counters.tls_failed_alert,
            HandshakeFailure::Refused(
                "no_certificate" | "unknown_authority" | "expired" | "revoked" | "wrong_name"
                | "unknown_revocation" | "not_accepted" | "bad_certificate",
            ) => &mut counters.tls_failed_client_certificate,
            HandshakeFailure::Refused(_) => &mut counters.tls_failed_protocol,
        };
        *counter += 1;
    }
}
