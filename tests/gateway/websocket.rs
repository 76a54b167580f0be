//! Connections that change their protocol: after `101` bytes go both ways, whatever they are.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Bytes, Message, WebSocket};

use crate::support::raw::{Raw, exchange};
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: hello.com\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nX-From-Upstream: 1\r\n\r\n";

fn gateway(upstream: &Scripted) -> Gateway {
    Gateway::before(&[upstream.address], &[])
}

/// A WebSocket server that sends every message back.
fn echo() -> Scripted {
    Scripted::start(|_, stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    })
}

fn connect(gateway: &Gateway) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(gateway.address).expect("the gateway listens");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("settable");
    let request = tungstenite::http::Request::builder()
        .uri("ws://hello.com/chat?room=1")
        .header("Host", "hello.com")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .body(())
        .expect("a request");
    let (socket, response) = tungstenite::client(request, stream).expect("the upgrade");
    assert_eq!(response.status(), 101);
    socket
}

/// The next message that is not of the protocol itself.
fn next(socket: &mut WebSocket<TcpStream>) -> Message {
    loop {
        let message = socket.read().expect("a message");
        if message.is_text() || message.is_binary() {
            return message;
        }
    }
}

#[test]
fn messages_go_both_ways() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let mut socket = connect(&gateway);
    for text in ["", "hello", "grüße", &"long ".repeat(50_000)] {
        socket.send(Message::text(text)).expect("sent");
        assert!(next(&mut socket) == Message::text(text), "a text of {} bytes", text.len());
    }
    for size in [0usize, 1, 125, 126, 65_535, 65_536, 3 * 1024 * 1024] {
        let bytes: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        socket.send(Message::binary(bytes.clone())).expect("sent");
        assert!(next(&mut socket) == Message::binary(bytes), "{size} bytes");
    }
    // Fragments are the endpoints' affair; they must only arrive in order.
    let frames = [
        Frame::message(Bytes::from_static(b"one "), OpCode::Data(Data::Text), false),
        Frame::message(Bytes::from_static(b"two "), OpCode::Data(Data::Continue), false),
        Frame::message(Bytes::from_static(b"three"), OpCode::Data(Data::Continue), true),
    ];
    for frame in frames {
        socket.send(Message::Frame(frame)).expect("sent");
    }
    assert_eq!(next(&mut socket), Message::text("one two three"));
    socket.send(Message::Ping(Bytes::from_static(b"are you there"))).expect("sent");
    assert_eq!(socket.read().expect("a pong"), Message::Pong(Bytes::from_static(b"are you there")));
    socket.close(None).expect("sent");
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            Ok(message) => panic!("{message:?} after the close"),
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("no orderly close: {error}"),
        }
    }
}

#[test]
fn many_connections_are_kept_apart() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let mut sockets: Vec<_> = (0..20).map(|_| connect(&gateway)).collect();
    for round in 0..5 {
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{round}/{index}"))).expect("sent");
        }
        for (index, socket) in sockets.iter_mut().enumerate().rev() {
            assert_eq!(next(socket), Message::text(format!("{round}/{index}")));
        }
    }
    assert_eq!(upstream.connections(), 20);
}

#[test]
fn the_handshake_is_passed_on_whole() {
    let (sender, heads) = std::sync::mpsc::channel();
    let upstream = Scripted::start(move |_, mut stream| {
        let _ = sender.send(read_head(&mut stream));
        let _ = stream.write_all(SWITCH.as_bytes());
    });
    let gateway = gateway(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send(UPGRADE);
    let response = raw.response_head();
    assert_eq!(response.status, 101);
    assert_eq!(
        response.header("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("upgrade")
    );
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("x-from-upstream"), Some("1"));
    assert_eq!(response.header("content-length"), None);
    assert_eq!(response.header("transfer-encoding"), None);
    assert!(raw.is_closed());
    let head = heads.recv().expect("sent").expect("a head").to_ascii_lowercase();
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: aaaaaaaaaaaaaaaaaaaaaa==",
    ] {
        assert_eq!(head.lines().filter(|other| *other == line).count(), 1, "{line}: {head}");
    }
}

#[test]
fn bytes_directly_behind_the_heads_arrive() {
    let upstream = Scripted::start(|_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = stream.write_all([SWITCH.as_bytes(), b"from upstream"].concat().as_slice());
        let mut early = [0; 11];
        if stream.read_exact(&mut early).is_ok() {
            let _ = stream.write_all(&early);
        }
    });
    let gateway = gateway(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send([UPGRADE.as_bytes(), b"from client"].concat());
    assert_eq!(raw.response_head().status, 101);
    assert_eq!(raw.read_exact(24), b"from upstreamfrom client");
    assert!(raw.is_closed());
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let upstream = Upstream::start_with("hello", |seen| {
        let status = if seen.target == "/chat" { 400 } else { 200 };
        let body = hyper::body::Bytes::from(seen.target.clone());
        hyper::Response::builder()
            .status(status)
            .body(http_body_util::Full::new(body))
            .expect("a response")
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..2 {
        raw.send(UPGRADE);
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (400, b"/chat".as_slice()));
        // The connection serves on, and what is sent now is a request.
        raw.send("GET /next HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (200, b"/next".as_slice()));
    }
    // Without a route, too.
    let text = exchange(gateway.address, UPGRADE.replace("hello.com", "elsewhere.com"));
    assert!(text.starts_with("HTTP/1.1 404 "), "{text}");
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let upstream = Scripted::start(|_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = stream.write_all(SWITCH.as_bytes());
        let mut all = Vec::new();
        // Everything until the client has finished, then an answer to it.
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(format!("{} bytes", all.len()).as_bytes());
        }
    });
    let gateway = gateway(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send(UPGRADE);
    assert_eq!(raw.response_head().status, 101);
    for _ in 0..10 {
        raw.send("x".repeat(10_000));
    }
    raw.finish_sending();
    assert_eq!(String::from_utf8_lossy(&raw.read_to_end()), "100000 bytes");

    // The other way round: the upstream finishes first.
    let (sender, received) = std::sync::mpsc::channel();
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = stream.write_all([SWITCH.as_bytes(), b"goodbye"].concat().as_slice());
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    let gateway = self::gateway(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send(UPGRADE);
    assert_eq!(raw.response_head().status, 101);
    assert_eq!(raw.read_to_end(), b"goodbye");
    raw.send("the rest");
    raw.finish_sending();
    assert_eq!(received.recv().expect("it ended"), b"the rest");
}

#[test]
fn a_reset_of_one_side_ends_the_other() {
    let (sender, ended) = std::sync::mpsc::channel();
    let upstream = Scripted::start(move |index, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = stream.write_all(SWITCH.as_bytes());
        if index == 0 {
            let mut byte = [0];
            let _ = stream.read_exact(&mut byte);
            // Unread bytes make this a reset.
            return;
        }
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    let gateway = gateway(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send(UPGRADE);
    assert_eq!(raw.response_head().status, 101);
    raw.send("12");
    assert!(raw.is_closed());
    // And the client's end is the upstream's.
    let mut raw = Raw::connect(gateway.address);
    raw.send(UPGRADE);
    assert_eq!(raw.response_head().status, 101);
    raw.send("last words");
    drop(raw);
    assert_eq!(ended.recv().expect("the upstream's connection ended"), b"last words");
}
