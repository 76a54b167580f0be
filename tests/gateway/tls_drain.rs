//! SIGTERM for connections in TLS and those that are routed as a whole: what is under way finishes, what is
//! idle is closed in order, what does not end is cut at the deadline.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::task::{JoinHandle, block_in_place};
use tokio_rustls::TlsConnector;

use crate::lifecycle::{Held, wait_until_refused_at};
use crate::support::frames;
use crate::support::manifests::service;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, Connection, connect, secret_of, status};
use crate::support::upstream::Scripted;
use crate::support::{Gateway, block_on};
use crate::tls::{gateway, routes, server, start};

/// `a.com` in TLS before `held`.
fn before(held: &Held, authority: &Authority, arguments: &[&str]) -> (Gateway, SocketAddr) {
    let manifests = [
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "held"),
        service("held", &[held.upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ];
    start(&manifests, arguments)
}

/// Everything that comes until the end, which must be TLS's own: a cut would be an error.
fn read_to_orderly_end(client: &mut Connection) -> String {
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("an end of TLS, not a cut");
    String::from_utf8(read).expect("text")
}

fn send_request(client: &mut Connection) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").expect("open");
    client.flush().expect("open");
}

#[test]
fn requests_in_tls_are_finished_and_their_connections_closed_in_order() {
    let held = Held::start();
    let authority = Authority::new();
    let (mut gateway, address) = before(&held, &authority, &["--drain-timeout", "6s"]);
    let config = authority.client(None, &["http/1.1"]);
    let mut idle = connect(address, "a.com", &config).expect("TLS");
    send_request(&mut idle);
    held.wait_for_request();
    held.release.send(()).expect("it waits");
    assert_eq!(status(&read_answer(&mut idle)), 200);
    let mut in_flight = connect(address, "a.com", &config).expect("TLS");
    send_request(&mut in_flight);
    held.wait_for_request();
    gateway.signal(libc::SIGTERM);
    gateway.wait_for_line("draining");
    wait_until_refused_at(address);
    held.release.send(()).expect("it waits");
    let answer = read_to_orderly_end(&mut in_flight);
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("held"), "{answer}");
    assert_eq!(read_to_orderly_end(&mut idle), "");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

/// A response with a `content-length`.
fn read_answer(client: &mut Connection) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"held") {
        assert_eq!(client.read(&mut byte).expect("an answer"), 1);
        read.push(byte[0]);
    }
    String::from_utf8(read).expect("text")
}

#[test]
fn a_handshake_under_way_is_finished_and_served() {
    let held = Held::start();
    let authority = Authority::new();
    let (mut gateway, address) = before(&held, &authority, &[]);
    let name = ServerName::try_from("a.com").expect("a name");
    let mut connection =
        rustls::ClientConnection::new(authority.client(None, &[]), name).expect("a client");
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    while connection.wants_write() {
        connection.write_tls(&mut socket).expect("open");
    }
    // What comes shows that it was accepted; the client's part is still to follow.
    connection.read_tls(&mut socket).expect("the server's part");
    gateway.signal(libc::SIGTERM);
    wait_until_refused_at(address);
    connection.process_new_packets().expect("good");
    let mut client = rustls::StreamOwned::new(connection, socket);
    send_request(&mut client);
    held.wait_for_request();
    held.release.send(()).expect("it waits");
    let answer = read_to_orderly_end(&mut client);
    assert!(status(&answer) == 200 && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(gateway.wait().code(), Some(0));
}

/// A connection of HTTP/2 in TLS, and what its end will be.
async fn http2_client(
    address: SocketAddr,
    authority: &Authority,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("a.com").expect("a name");
    let connector = TlsConnector::from(authority.client(None, &["h2"]));
    let stream = connector.connect(name, socket).await.expect("TLS");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

async fn begin(sender: &SendRequest<Bytes>) -> ResponseFuture {
    let mut sender = sender.clone().ready().await.expect("open");
    let request = Request::get("https://a.com/").body(()).expect("a request");
    sender.send_request(request, true).expect("sent").0
}

/// The whole answer.
async fn end(response: ResponseFuture) -> (u16, Vec<u8>) {
    let (head, mut body) = response.await.expect("an answer").into_parts();
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the whole body");
        body.flow_control().release_capacity(piece.len()).expect("taken");
        read.extend_from_slice(&piece);
    }
    (head.status.as_u16(), read)
}

#[test]
fn http2_in_tls_says_goodbye_and_finishes_its_streams() {
    let held = Held::start();
    let authority = Authority::new();
    let (mut gateway, address) = before(&held, &authority, &[]);
    block_on(async {
        let (idle, idle_end) = http2_client(address, &authority).await;
        let first = begin(&idle).await;
        block_in_place(|| held.wait_for_request());
        held.release.send(()).expect("it waits");
        assert_eq!(end(first).await, (200, b"held".to_vec()));
        let (busy, busy_end) = http2_client(address, &authority).await;
        let responses = [begin(&busy).await, begin(&busy).await];
        block_in_place(|| {
            held.wait_for_request();
            held.wait_for_request();
            gateway.signal(libc::SIGTERM);
            gateway.wait_for_line("draining");
        });
        // The idle one ends at once. Its client has not been told of an error.
        idle_end.await.expect("driven").expect("an orderly end");
        assert!(idle.ready().await.is_err(), "it takes no more streams");
        for _ in 0..2 {
            held.release.send(()).expect("it waits");
        }
        for response in responses {
            assert_eq!(end(response).await, (200, b"held".to_vec()));
        }
        busy_end.await.expect("driven").expect("an orderly end");
    });
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

#[test]
fn the_goodbye_of_an_idle_http2_connection_comes_before_its_end() {
    let held = Held::start();
    let authority = Authority::new();
    let (mut gateway, address) = before(&held, &authority, &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &["h2"])).expect("TLS");
    client.write_all(&frames::hello()).expect("open");
    client.write_all(&frames::frame(PING, 0, 0, b"8 bytes.")).expect("open");
    client.flush().expect("open");
    // Answered: it is served.
    loop {
        let (kind, payload) = read_frame(&mut client).expect("a frame");
        if kind == PING {
            assert_eq!(payload, b"8 bytes.");
            break;
        }
    }
    gateway.signal(libc::SIGTERM);
    let mut seen = Vec::new();
    while let Some((kind, payload)) = read_frame(&mut client) {
        if kind == PING {
            // It asks whether anything was still on its way when it said goodbye (RFC 9113 section 6.8).
            client.write_all(&frames::frame(PING, ACK, 0, &payload)).expect("open");
            client.flush().expect("open");
        }
        seen.push((kind, payload));
    }
    let goodbyes: Vec<_> = seen.iter().filter(|(kind, _)| *kind == GOAWAY).collect();
    let (_, last) = goodbyes.last().expect("a GOAWAY");
    assert_eq!(last[..8], [0; 8], "no stream was begun, and nothing is wrong: {seen:?}");
    assert_eq!(gateway.wait().code(), Some(0));
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// Kind and payload of the next frame; none: the connection has ended, in order.
fn read_frame(client: &mut Connection) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    if client.read(&mut head[..1]).expect("an end of TLS, not a cut") == 0 {
        return None;
    }
    client.read_exact(&mut head[1..]).expect("a whole head");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    client.read_exact(&mut payload).expect("a whole frame");
    Some((head[3], payload))
}

/// Bytes on port 443, in clear text or in TLS, to an upstream that sends back what comes.
fn before_echo(
    in_tls: bool,
    authority: &Authority,
    timeout: &str,
) -> (Gateway, SocketAddr, Scripted) {
    let upstream = Scripted::start(|_, mut stream| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"goodbye");
    });
    let server = match in_tls {
        true => server("bytes", "{mode: SIMPLE, credentialName: cert}", "'*'")
            .replace("protocol: HTTPS", "protocol: TLS"),
        false => "  - {port: {number: 443, name: bytes, protocol: TCP}, hosts: ['*']}\n".to_owned(),
    };
    let manifests = [
        gateway("g", &server),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bytes}\nspec: \
         {hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: echo}}]}]}\n"
            .to_owned(),
        service("echo", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ];
    let (gateway, address) = start(&manifests, &["--drain-timeout", timeout]);
    (gateway, address, upstream)
}

/// Send and get the same back.
fn ping(stream: &mut (impl Read + Write), text: &[u8]) {
    stream.write_all(text).expect("open");
    stream.flush().expect("open");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, text);
}

#[test]
fn connections_of_bytes_go_on_while_it_drains() {
    let authority = Authority::new();
    let (mut gateway, address, _upstream) = before_echo(false, &authority, "30s");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    ping(&mut client, b"before");
    gateway.signal(libc::SIGTERM);
    wait_until_refused_at(address);
    ping(&mut client, b"while it drains");
    client.shutdown(Shutdown::Write).expect("open");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("an orderly end");
    assert_eq!(rest, "goodbye");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

#[test]
fn connections_of_bytes_in_tls_go_on_while_it_drains() {
    let authority = Authority::new();
    let (mut gateway, address, _upstream) = before_echo(true, &authority, "30s");
    let config = authority.client(None, &[]);
    let mut client = connect(address, "a.com", &config).expect("TLS");
    ping(&mut client, b"before");
    gateway.signal(libc::SIGTERM);
    wait_until_refused_at(address);
    ping(&mut client, b"while it drains");
    client.conn.send_close_notify();
    client.flush().expect("open");
    assert_eq!(read_to_orderly_end(&mut client), "goodbye");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

#[test]
fn connections_that_do_not_end_are_cut_at_the_deadline() {
    let authority = Authority::new();
    for in_tls in [false, true] {
        let (mut gateway, address, _upstream) = before_echo(in_tls, &authority, "300ms");
        if in_tls {
            let config = authority.client(None, &[]);
            let mut client = connect(address, "a.com", &config).expect("TLS");
            ping(&mut client, b"before");
            gateway.signal(libc::SIGTERM);
            let _ = client.read_to_end(&mut Vec::new());
        } else {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
            ping(&mut client, b"before");
            gateway.signal(libc::SIGTERM);
            let ended = client.read_to_end(&mut Vec::new());
            let waited = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!waited, "it was not closed");
        }
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(gateway.log().contains("cut at the deadline"), "{}", gateway.log());
    }
}

#[test]
fn a_handshake_that_does_not_begin_does_not_hold_the_drain() {
    let held = Held::start();
    let authority = Authority::new();
    let (mut gateway, address) = before(&held, &authority, &["--drain-timeout", "3s"]);
    let mut silent = Raw::connect(address);
    drop(connect(address, "a.com", &authority.client(None, &[])).expect("TLS"));
    gateway.signal(libc::SIGTERM);
    assert!(silent.is_closed());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}
