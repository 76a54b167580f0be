//! HTTP/2 inside TLS, on both sides: ALPN, coalesced connections, client certificates. The peers are `h2` over
//! `tokio-rustls`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::manifests::{any_host, policy, service};
use crate::support::tls::{Authority, Pair, connect, get, secret, secret_of, status};
use crate::support::{Gateway, Upstream, block_on};
use crate::tls::{gateway, routes, server, simple, start};

/// A client that has shaken hands and agreed on HTTP/2.
async fn client(
    address: SocketAddr,
    name: &'static str,
    config: Arc<ClientConfig>,
) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from(name).expect("a name");
    let stream = TlsConnector::from(config).connect(name, socket).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(async move {
        // The test looks at answers only.
        let _ = connection.await;
    });
    sender
}

/// The status of a GET, and its body.
async fn call(sender: &SendRequest<Bytes>, url: &str) -> (u16, String) {
    let mut sender = sender.clone().ready().await.expect("open");
    let request = Request::get(url).body(()).expect("a request");
    let (response, _) = sender.send_request(request, true).expect("sent");
    let (head, mut body) = response.await.expect("an answer").into_parts();
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.expect("data");
        body.flow_control().release_capacity(piece.len()).expect("taken");
        read.extend_from_slice(&piece);
    }
    (head.status.as_u16(), String::from_utf8_lossy(&read).into_owned())
}

#[test]
fn requests_come_by_alpn_and_a_coalesced_one_is_sent_on() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com", "b.com", "c.com"]);
    let manifests = [
        gateway("one", &server("one", "{mode: SIMPLE, credentialName: cert}", "a.com, d.com")),
        gateway("two", &server("two", "{mode: SIMPLE, credentialName: cert}", "b.com")),
        routes("a", "a.com", "one", "hello"),
        routes("b", "b.com", "two", "hello"),
        service("hello", &[upstream.address]),
        secret_of("cert", &pair),
    ];
    let (gateway, address) = start(&manifests, &["--access-log", "-"]);
    block_on(async {
        let sender = client(address, "a.com", authority.client(None, &["h2", "http/1.1"])).await;
        for (host, expected) in
            [("a.com", 200), ("b.com", 421), ("c.com", 404), ("d.com", 404), ("a.com", 200)]
        {
            let (status, body) = call(&sender, &format!("https://{host}/x")).await;
            assert_eq!(status, expected, "{host}: {body}");
        }
    });
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    crate::support::gateway::wait_until("the log names both", || {
        gateway.log().contains("\"GET /x HTTP/2\" 421") && gateway.log().contains(" a.com ")
    });
}

/// Everything that the gateway says to `bytes` after a handshake that agreed on `protocol`.
fn said_to(bytes: &[u8], protocol: &str) -> Vec<u8> {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let (_gateway, address) = start(&simple(&upstream, &authority), &[]);
    let config = authority.client(None, &[protocol]);
    let mut stream = crate::support::tls::connect(address, "a.com", &config).expect("a handshake");
    assert_eq!(stream.conn.alpn_protocol(), Some(protocol.as_bytes()));
    stream.write_all(bytes).expect("sent");
    let mut said = Vec::new();
    // However the connection ends, what counts is what came before.
    let _ = stream.read_to_end(&mut said);
    said
}

#[test]
fn what_was_agreed_on_is_spoken_whatever_comes_first() {
    // The preface of neither version: no answer of HTTP/1.1 may come over a connection of HTTP/2.
    let garbage = b"INVALID CONNECTION PREFACE\r\n\r\n";
    for bytes in [&garbage[..], b"GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"] {
        let said = said_to(bytes, "h2");
        assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&said));
    }
    // And the other way round.
    let said = said_to(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "http/1.1");
    assert!(said.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn many_streams_share_a_connection_in_tls() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (_gateway, address) = start(&manifests, &[]);
    block_on(async {
        let sender = client(address, "a.com", authority.client(None, &["h2"])).await;
        let calls = (0..200).map(|_| call(&sender, "https://a.com/"));
        for (status, _) in futures_util::future::join_all(calls).await {
            assert_eq!(status, 200);
        }
    });
    assert_eq!(upstream.seen().len(), 200);
}

#[test]
fn the_certificate_of_a_client_is_told_for_every_stream() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let with_ca = secret(
        "cert",
        &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority.pem())],
    );
    let manifests = [
        gateway("g", &server("https", "{mode: MUTUAL, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
        with_ca,
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let own = authority.issue_client("spiffe://mesh/one");
    block_on(async {
        let sender = client(address, "a.com", authority.client(Some(&own), &["h2"])).await;
        for _ in 0..2 {
            assert_eq!(call(&sender, "https://a.com/").await.0, 200);
            let seen = upstream.last();
            let told = seen.header("x-forwarded-client-cert").expect("told");
            assert!(told.contains(";URI=spiffe://mesh/one"), "{told}");
        }
    });
}

/// A server of HTTP/2 in TLS; what it was asked for is kept. It must be started on the runtime.
async fn http2_server(pair: &Pair, asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    asked.lock().expect("not poisoned").push(request.uri().to_string());
                    let mut body =
                        respond.send_response(Response::new(()), false).expect("answered");
                    body.send_data(Bytes::from_static(b"over two"), true).expect("sent");
                }
            });
        }
    });
    address
}

#[test]
fn upstreams_speak_http2_in_tls() {
    let authority = Authority::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    block_on(async {
        let address = http2_server(&authority.issue(&["a.com"]), Arc::clone(&asked)).await;
        let text = [
            any_host("  - route: [{destination: {host: backend}}]\n"),
            service("backend", &[address]),
            policy(
                "backend",
                "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, \
                 tls: {mode: SIMPLE, credentialName: ca}}",
            ),
            secret("ca", &[("ca.crt", &authority.pem())]),
        ]
        .join("---\n");
        let gateway = Gateway::start(&[("all.yaml", &text)]);
        let client = reqwest::Client::new();
        for _ in 0..3 {
            let url = format!("http://{}/y", gateway.address);
            let answer = client.get(url).header("host", "a.com").send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text().await.expect("a body"), "over two");
        }
    });
    let asked = asked.lock().expect("not poisoned");
    assert!(asked.iter().all(|url| url.ends_with("://a.com/y")), "{asked:?}");
    assert_eq!(asked.len(), 3);
}

#[test]
fn http1_is_spoken_by_those_who_do_not_offer_more() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (_gateway, address) = start(&manifests, &[]);
    // What is offered and not known here is passed over, as by Envoy.
    for protocols in [&[][..], &["http/1.1"], &["foo"], &["foo", "http/1.1"]] {
        let mut client =
            connect(address, "a.com", &authority.client(None, protocols)).expect("TLS");
        let agreed = protocols.contains(&"http/1.1").then_some(&b"http/1.1"[..]);
        assert_eq!(client.conn.alpn_protocol(), agreed, "{protocols:?}");
        assert_eq!(status(&get(&mut client, "a.com", "/").expect("an answer")), 200);
    }
}
