//! WebSockets inside TLS: HTTP/1.1 by ALPN, then bytes both ways through both layers.

use std::net::SocketAddr;
use std::sync::mpsc::channel;

use tungstenite::{Bytes, Message, WebSocket};

use crate::support::manifests::{policy, service};
use crate::support::pattern;
use crate::support::tls::{Authority, Connection, connect, secret, secret_of, server_config};
use crate::support::upstream::Scripted;
use crate::tls::{gateway, routes, server, start};

/// Serve a WebSocket that sends every message back, in whatever the bytes go through.
fn echo(stream: impl std::io::Read + std::io::Write) {
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
}

fn before(address: SocketAddr, authority: &Authority, more: &[String]) -> Vec<String> {
    let mut manifests = vec![
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "chat"),
        service("chat", &[address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ];
    manifests.extend_from_slice(more);
    manifests
}

fn open(address: SocketAddr, authority: &Authority, protocols: &[&str]) -> WebSocket<Connection> {
    let stream = connect(address, "a.com", &authority.client(None, protocols)).expect("TLS");
    let (socket, response) = tungstenite::client("wss://a.com/chat", stream).expect("the upgrade");
    assert_eq!(response.status(), 101);
    socket
}

fn next(socket: &mut WebSocket<Connection>) -> Message {
    loop {
        let message = socket.read().expect("a message");
        if message.is_text() || message.is_binary() {
            return message;
        }
    }
}

fn talk(socket: &mut WebSocket<Connection>) {
    for text in ["", "hello", "grüße", &"long ".repeat(50_000)] {
        socket.send(Message::text(text)).expect("sent");
        assert!(next(socket) == Message::text(text), "a text of {} bytes", text.len());
    }
    for size in [1, 16 * 1024 - 1, 16 * 1024, 300_000] {
        let bytes = Bytes::from(pattern(size));
        socket.send(Message::binary(bytes.clone())).expect("sent");
        assert!(next(socket) == Message::binary(bytes), "{size} bytes");
    }
}

/// Close, and read to the end of the connection, which must be one of TLS.
fn close(mut socket: WebSocket<Connection>) {
    socket.close(None).expect("sent");
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            Ok(message) => panic!("{message:?} after the close"),
            Err(tungstenite::Error::ConnectionClosed) => return,
            Err(error) => panic!("no orderly close: {error}"),
        }
    }
}

#[test]
fn messages_go_both_ways_in_tls() {
    let upstream = Scripted::start(|_, stream| echo(stream));
    let authority = Authority::new();
    let manifests = before(upstream.address, &authority, &[]);
    let (gateway, address) = start(&manifests, &[]);
    for protocols in [&[][..], &["http/1.1"]] {
        let mut sockets: Vec<_> = (0..3).map(|_| open(address, &authority, protocols)).collect();
        for socket in &mut sockets {
            talk(socket);
        }
        sockets.into_iter().for_each(close);
    }
    assert_eq!(upstream.connections(), 6);
    gateway.wait_for_metrics("the upgrades as requests", |metrics| {
        metrics.sum("istio_requests_total", &[("response_code", "101")]) == 6.0
    });
}

#[test]
fn messages_go_through_tls_on_both_sides() {
    let authority = Authority::new();
    let config = std::sync::Arc::new(server_config(&authority.issue(&["a.com"]), None));
    let upstream = Scripted::start(move |_, socket| {
        let connection = rustls::ServerConnection::new(config.clone()).expect("a server");
        echo(rustls::StreamOwned::new(connection, socket));
    });
    let more = [
        policy("chat", "{tls: {mode: SIMPLE, credentialName: ca}}"),
        secret("ca", &[("ca.crt", &authority.pem())]),
    ];
    let (_gateway, address) = start(&before(upstream.address, &authority, &more), &[]);
    let mut socket = open(address, &authority, &["http/1.1"]);
    talk(&mut socket);
    close(socket);
}

#[test]
fn the_end_of_an_upstream_is_passed_on() {
    let (ended, ends) = channel();
    let upstream = Scripted::start(move |_, stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let _ = socket.send(Message::text("goodbye"));
        let _ = socket.close(None);
        while socket.read().is_ok() {}
        let _ = ended.send(());
    });
    let authority = Authority::new();
    let (_gateway, address) = start(&before(upstream.address, &authority, &[]), &[]);
    let mut socket = open(address, &authority, &[]);
    assert_eq!(next(&mut socket), Message::text("goodbye"));
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("no orderly close: {error}"),
        }
    }
    ends.recv_timeout(std::time::Duration::from_secs(20)).expect("both sides have ended");
}
