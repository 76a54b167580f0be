//! A connection that was just accepted is served as its port wants it.

use std::net::SocketAddr;
use std::rc::Rc;

use super::context::WorkerContext;
use super::downstream::{Downstream, Phase};
use super::listener::ListenerSlot;
use super::proxy_protocol::reader::read_header;
use super::{exchange, grpc_web, tls_connection};
use crate::net::{Buffer, Stream};
use crate::snapshot::Serves;

/// What a port does with its connections.
#[derive(Clone, Copy)]
enum Kind {
    Requests,
    Tls,
    Bytes,
}

/// Serve a connection in a task of its own, which is only as large as its kind needs.
pub fn serve(
    context: &Rc<WorkerContext>,
    stream: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
) {
    let replica = context.replica.borrow();
    let configured = listener.listener.get().and_then(|at| replica.snapshot.listeners.get(at));
    // Without one the port went away while the connection was on its way.
    let Some(configured) = configured else { return };
    let kind = match configured.serves {
        Serves::Requests { .. } => Kind::Requests,
        Serves::Tls(_) => Kind::Tls,
        Serves::Bytes(_) => Kind::Bytes,
    };
    let preceded = replica.snapshot.settings.proxy_protocol.include(&configured.numbers);
    drop(replica);
    let context = Rc::clone(context);
    if preceded {
        crate::net::spawn(serve_behind_header(context, stream, peer, listener, kind));
        return;
    }
    match kind {
        Kind::Requests => crate::net::spawn(exchange::serve(context, stream, peer, listener)),
        Kind::Tls => {
            let received = Buffer::idle();
            crate::net::spawn(tls_connection::serve(context, stream, peer, listener, received));
        }
        Kind::Bytes => {
            let received = Buffer::idle();
            crate::net::spawn(tls_connection::serve_bytes(
                context, stream, peer, listener, received,
            ));
        }
    }
}

/// The same where another proxy tells, before anything else, who the client is (behaviour 7.2.3).
async fn serve_behind_header(
    context: Rc<WorkerContext>,
    stream: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
    kind: Kind,
) {
    // In the table: it counts, and a drain waits for it.
    let early = Downstream::new(stream.clone(), peer, Rc::clone(&listener));
    let early = context.downstreams.insert(early);
    early.wait_unbounded(Phase::FirstBytes);
    let read = Box::pin(read_header(&context, &stream, Buffer::idle())).await;
    context.downstreams.remove(&early);
    drop(early);
    let Ok((client, received)) = read else { return };
    let peer = client.unwrap_or(peer);
    match kind {
        Kind::Requests => {
            let (stream, received) = grpc_web::layered(&context, stream, &listener, Some(received));
            let mut downstream = Downstream::new(stream, peer, listener);
            if let Some(received) = received {
                downstream = downstream.with_early(received);
            }
            let downstream = context.downstreams.insert(downstream);
            exchange::serve_connection(context, downstream).await;
        }
        Kind::Tls => tls_connection::serve(context, stream, peer, listener, received).await,
        Kind::Bytes => {
            tls_connection::serve_bytes(context, stream, peer, listener, received).await;
        }
    }
}
