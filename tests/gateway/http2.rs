//! HTTP/2 on either side of the gateway, with the client and the server of the crate `h2`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue};

use crate::support::gateway::{wait_for_standstill, wait_until};
use crate::support::http2::{
    Http2Upstream, call, connect, connect_and_drive, read_body, request, send_body,
};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on, frames, hello, manifests, pattern};

/// A gateway before an endpoint that speaks HTTP/2.
pub fn before_http2(upstream: &Http2Upstream) -> Gateway {
    before_http2_with(upstream, "", &[])
}

/// The same with a DestinationRule's policy in flow style, and arguments.
pub fn before_http2_with(upstream: &Http2Upstream, policy: &str, arguments: &[&str]) -> Gateway {
    let service = manifests::hello_service(&[upstream.address]).replacen(
        "{name: http, port: 80}",
        "{name: http, port: 80, appProtocol: grpc}",
        1,
    );
    let rule = match policy {
        "" => String::new(),
        policy => manifests::policy("hello", policy),
    };
    Gateway::start_with(
        &[("gateway.yaml", manifests::HELLO), ("service.yaml", &service), ("rule.yaml", &rule)],
        arguments,
    )
}

fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn http2_clients_are_served_by_http1_upstreams() {
    let (upstream, gateway) = hello(&[]);
    block_on(async {
        let client = connect(gateway.address).await;
        let request = request("GET", "/a?b=c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-own", "kept");
        let answer = call(&client, request, "", None).await.expect("an answer");
        assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
        assert_eq!(answer.headers["server"], "istio-envoy");
        for name in ["connection", "keep-alive", "transfer-encoding"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
    });
    let seen = upstream.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(seen.all("host"), ["hello.com"]);
    assert_eq!(seen.all("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.all("te"), ["trailers"]);
    assert_eq!(seen.all("x-own"), ["kept"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert!(seen.all("transfer-encoding").is_empty());
}

#[test]
fn long_bodies_go_both_ways_between_all_versions() {
    let body = Bytes::from(pattern(10 * 1024 * 1024));
    let http1 = Upstream::echo();
    let http2 = Http2Upstream::start();
    let gateways = [Gateway::before(&[http1.address], &[]), before_http2(&http2)];
    for gateway in &gateways {
        block_on(async {
            let client = connect(gateway.address).await;
            let answer = call(&client, request("POST", "/"), body.clone(), None).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "chunked, {} bytes", answer.body.len());
            let sized = request("POST", "/").header("content-length", body.len());
            let answer = call(&client, sized, body.clone(), None).await.expect("an answer");
            assert!(answer.body == body, "of known length, {} bytes", answer.body.len());
            let response = reqwest::Client::new()
                .post(gateway.url("/"))
                .header("host", "hello.com")
                .body(body.clone())
                .send()
                .await
                .expect("an answer");
            assert_eq!(response.status(), 200);
            assert!(response.bytes().await.expect("a body") == body, "from HTTP/1");
        });
    }
    assert_eq!(http1.last().body.len(), body.len());
    assert_eq!(http2.counts.requests.load(Ordering::SeqCst), 3);
}

#[test]
fn trailers_go_both_ways() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2(&http2);
    block_on(async {
        let client = connect(gateway.address).await;
        let sent = trailers(&[("grpc-status", "0"), ("x-end", "1")]);
        let call = call(
            &client,
            request("POST", "/")
                .header("content-type", "application/grpc")
                .header("te", "trailers"),
            "message",
            Some(sent.clone()),
        );
        let answer = call.await.expect("an answer");
        assert_eq!((&*answer.body, &answer.trailers), (&b"message"[..], &sent));
        assert_eq!(answer.headers["x-te"], "trailers");
        assert_eq!(answer.headers["x-authority"], "hello.com");
        assert!(!answer.headers.contains_key("x-of-connection"));
    });
    let http1 = Upstream::echo();
    let gateway = Gateway::before(&[http1.address], &[]);
    block_on(async {
        let client = connect(gateway.address).await;
        let sent = Some(trailers(&[("x-end", "1")]));
        let answer = call(&client, request("POST", "/"), "body", sent).await.expect("an answer");
        assert_eq!(&*answer.body, b"body");
    });
    assert_eq!(http1.last().trailers, [("x-end".to_owned(), "1".to_owned())]);
    let scripted = Scripted::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 3\r\n\r\n",
        false,
    );
    let gateway = Gateway::before(&[scripted.address], &[]);
    block_on(async {
        let client = connect(gateway.address).await;
        let answer = call(&client, request("GET", "/"), "", None).await.expect("an answer");
        assert_eq!(
            (&*answer.body, answer.trailers["grpc-status"].as_bytes()),
            (&b"ok"[..], &b"3"[..])
        );
    });
}

#[test]
fn interim_responses_come_first() {
    let http2 = Http2Upstream::start();
    let scripted = Scripted::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        false,
    );
    let gateways = [Gateway::before(&[scripted.address], &[]), before_http2(&http2)];
    for gateway in &gateways {
        block_on(async {
            let mut client = connect(gateway.address).await.ready().await.expect("open");
            let request = request("GET", "/interim").body(()).expect("a request");
            let (mut response, _) = client.send_request(request, true).expect("sent");
            let interim = std::future::poll_fn(|task| response.poll_informational(task)).await;
            let interim = interim.expect("one").expect("well-formed");
            assert_eq!(interim.status(), 103);
            assert_eq!(interim.headers()["link"], "</a>");
            assert_eq!(response.await.expect("an answer").status(), 200);
        });
        // HTTP/1 clients get it too.
        let mut raw = Raw::connect(gateway.address);
        raw.send("GET /interim HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response_head().status, 103);
        assert_eq!(raw.response_head().status, 200);
    }
}

#[test]
fn answers_of_the_gateway_are_http2() {
    let (_upstream, gateway) = hello(&[]);
    block_on(async {
        let client = connect(gateway.address).await;
        let elsewhere = http::Request::builder().uri("http://elsewhere.com/");
        assert_eq!(call(&client, elsewhere, "", None).await.expect("an answer").status, 404);
        let long = request("GET", &format!("/{}", "a".repeat(20_000)));
        assert_eq!(call(&client, long, "", None).await.expect("an answer").status, 414);
        let many = (0..120)
            .fold(request("GET", "/"), |request, index| request.header(format!("x-{index}"), "1"));
        assert_eq!(call(&client, many, "", None).await.expect("an answer").status, 431);
        let mut grpc = http::Request::builder().method("POST").uri("http://elsewhere.com/");
        grpc = grpc.header("content-type", "application/grpc");
        // Its body is still to come when it is answered.
        let mut sender = client.clone().ready().await.expect("open");
        let (response, _body) =
            sender.send_request(grpc.body(()).expect("one"), false).expect("sent");
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "12");
        assert!(response.body().is_end_stream(), "its head is its end");
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(call(&client, request("GET", "/"), "", None).await.expect("one").status, 200);
    });
}

#[test]
fn a_reset_of_the_client_ends_the_work_upstream() {
    let http2 = Http2Upstream::start();
    let (sender, ends) = std::sync::mpsc::channel();
    let scripted = Scripted::start(move |_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = sender.send(());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let _ = sender.send(());
    });
    let gateways = [Gateway::before(&[scripted.address], &[]), before_http2(&http2)];
    for (index, gateway) in gateways.iter().enumerate() {
        block_on(async {
            let mut client = connect(gateway.address).await.ready().await.expect("open");
            let request = request("GET", "/hang").body(()).expect("a request");
            let (response, mut stream) = client.send_request(request, true).expect("sent");
            match index {
                0 => ends.recv().expect("the request"),
                _ => {
                    wait_until("the request", || http2.counts.requests.load(Ordering::SeqCst) == 1)
                }
            }
            stream.send_reset(Reason::CANCEL);
            assert!(response.await.is_err());
            match index {
                0 => ends.recv().expect("the end"),
                _ => wait_until("the end", || http2.counts.cancelled.load(Ordering::SeqCst) == 1),
            }
        });
    }
}

#[test]
fn resets_of_the_upstream_are_seen() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2(&http2);
    block_on(async {
        let client = connect(gateway.address).await;
        let error = call(&client, request("GET", "/reset"), "", None).await.expect_err("cut");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        // The connections live on.
        assert_eq!(call(&client, request("GET", "/"), "", None).await.expect("one").status, 200);
    });
    assert_eq!(http2.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn refused_streams_are_tried_again() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, "", &["--explain-header"]);
    block_on(async {
        let client = connect(gateway.address).await;
        // Of a body without a length that is still to come nobody knows that it can be sent again.
        let sized = request("POST", "/refuse").header("content-length", "4");
        let answer = call(&client, sized, "body", None).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(http2.counts.requests.load(Ordering::SeqCst), 2);
        let answer = call(&client, request("GET", "/refuse-all"), "", None).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 503);
        let told = answer.headers["x-ringress-reason"].to_str().expect("text");
        let reason = "upstream_reset_before_response_started{remote_refused_stream_reset}";
        assert!(told.starts_with(reason), "{told}");
    });
    // Istio's two retries.
    assert_eq!(http2.counts.requests.load(Ordering::SeqCst), 5);
}

#[test]
fn a_connection_that_goes_away_is_followed_by_another() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, "", &["--workers", "1"]);
    block_on(async {
        let client = connect(gateway.address).await;
        for _ in 0..3 {
            for path in ["/", "/goaway"] {
                let answer = call(&client, request("POST", path), "body", None).await;
                let answer = answer.expect("an answer");
                assert_eq!((answer.status, &*answer.body), (200, &b"body"[..]));
            }
        }
    });
    assert!(http2.counts.connections.load(Ordering::SeqCst) >= 3);
}

#[test]
fn many_streams_share_connections() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, "", &["--workers", "1"]);
    block_on(async {
        let client = connect(gateway.address).await;
        let calls = (0..500).map(|index| {
            let client = client.clone();
            async move {
                let body = index.to_string().repeat(100);
                let answer = call(&client, request("POST", "/"), body.clone(), None).await;
                assert!(answer.expect("an answer").body == body.as_bytes());
            }
        });
        futures_util::future::join_all(calls).await;
    });
    assert_eq!(http2.counts.requests.load(Ordering::SeqCst), 500);
    let connections = http2.counts.connections.load(Ordering::SeqCst);
    assert!(connections <= 10, "{connections}");
}

#[test]
fn the_settings_of_a_connection_pool_hold() {
    let http2 = Http2Upstream::start();
    let policy = "{connectionPool: {http: {maxConcurrentStreams: 1}}}";
    let gateway = before_http2_with(&http2, policy, &["--workers", "1"]);
    block_on(async {
        let client = connect(gateway.address).await;
        let begin = |path: &str| {
            let (mut client, request) = (client.clone(), request("GET", path));
            client.send_request(request.body(()).expect("a request"), true).expect("sent")
        };
        let _hanging = [begin("/hang"), begin("/hang"), begin("/hang")];
        wait_until("three", || http2.counts.requests.load(Ordering::SeqCst) == 3);
    });
    assert_eq!(http2.counts.connections.load(Ordering::SeqCst), 3);
}

#[test]
fn an_upstream_that_answers_no_ping_is_given_up() {
    let mute = Scripted::start(|_, mut stream| {
        let _ = stream.write_all(&frames::frame(4, 0, 0, b""));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let policy = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, \
                  http2KeepAlive: {interval: 100ms, timeout: 100ms}}}}";
    let gateway = Gateway::start(&[
        ("gateway.yaml", manifests::HELLO),
        ("service.yaml", &manifests::hello_service(&[mute.address])),
        ("rule.yaml", &manifests::policy("hello", policy)),
    ]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    assert_eq!(raw.response().status, 503);
    gateway.wait_for_metrics("no connection left", |metrics| {
        metrics.sum("ringress_upstream_connections_active", &[]) == 0.0
    });
}

#[test]
fn clients_choose_the_version_where_they_may() {
    let http2 = Http2Upstream::start();
    let http1 = Upstream::start("one");
    for (upstream, policy, by_http2) in [
        (http2.address, "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}", false),
        (http2.address, "{connectionPool: {http: {useClientProtocol: true}}}", true),
        (http1.address, "{connectionPool: {http: {useClientProtocol: true}}}", false),
    ] {
        let gateway = Gateway::start(&[
            ("gateway.yaml", manifests::HELLO),
            ("service.yaml", &manifests::hello_service(&[upstream])),
            ("rule.yaml", &manifests::policy("hello", policy)),
        ]);
        if by_http2 {
            block_on(async {
                let client = connect(gateway.address).await;
                let answer = call(&client, request("GET", "/"), "", None).await;
                assert_eq!(answer.expect("an answer").status, 200, "{policy}");
            });
        } else {
            let mut raw = Raw::connect(gateway.address);
            raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
            assert_eq!(raw.response().status, 200, "{policy}");
        }
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, "", &["--workers", "1"]);
    block_on(async {
        let mut sender = connect(gateway.address).await.ready().await.expect("open");
        let endless = request("GET", "/endless").body(()).expect("a request");
        let (response, _) = sender.send_request(endless, true).expect("sent");
        let response = response.await.expect("a head");
        let sent = tokio::task::block_in_place(|| wait_for_standstill(&http2.counts.sent));
        assert!(sent < 4 * 1024 * 1024, "{sent}");
        // Others on the same connection to the upstream are served.
        let client = connect(gateway.address).await;
        let answer = call(&client, request("POST", "/"), "body", None).await.expect("an answer");
        assert_eq!(&*answer.body, b"body");
        drop(response);
    });
    assert_eq!(http2.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_upstream_that_does_not_read_stops_the_client() {
    let scripted = Scripted::start(|_, mut stream| {
        let _ = read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(20));
    });
    let gateway = Gateway::before(&[scripted.address], &[]);
    block_on(async {
        let mut client = connect(gateway.address).await.ready().await.expect("open");
        let request = request("POST", "/").body(()).expect("a request");
        let (_response, mut stream) = client.send_request(request, false).expect("sent");
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&sent);
        let sending = tokio::spawn(async move {
            let piece = Bytes::from(vec![b'x'; 16 * 1024]);
            while send_body(&mut stream, piece.clone(), false).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::SeqCst);
            }
        });
        let taken = tokio::task::block_in_place(|| wait_for_standstill(&sent));
        assert!(taken < 16 * 1024 * 1024, "{taken}");
        sending.abort();
    });
}

#[test]
fn a_drain_ends_what_is_in_flight() {
    let http2 = Http2Upstream::start();
    let mut gateway = before_http2(&http2);
    block_on(async {
        let (client, driving) = connect_and_drive(gateway.address).await;
        let mut sender = client.clone().ready().await.expect("open");
        let post = request("POST", "/").body(()).expect("a request");
        let (response, mut stream) = sender.send_request(post, false).expect("sent");
        let mut response = response.await.expect("a head");
        gateway.signal(libc::SIGTERM);
        tokio::task::block_in_place(|| gateway.wait_for_line("draining"));
        // No new streams, but the old one goes on to its end.
        while client.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        send_body(&mut stream, Bytes::from_static(b"the end"), true).await.expect("sent");
        let (body, _) = read_body(response.body_mut()).await.expect("a body");
        assert_eq!(body, b"the end");
        drop((client, sender, stream, response));
        driving.await.expect("no panic").expect("an orderly end");
    });
    assert!(gateway.wait().success());
}

#[test]
fn a_reload_disturbs_no_stream() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2(&http2);
    block_on(async {
        let client = connect(gateway.address).await;
        let mut sender = client.clone().ready().await.expect("open");
        let post = request("POST", "/").body(()).expect("a request");
        let (response, mut stream) = sender.send_request(post, false).expect("sent");
        let mut response = response.await.expect("a head");
        let other = Upstream::start("other");
        let generation = gateway.generation();
        gateway.write("service.yaml", &manifests::hello_service(&[other.address]));
        tokio::task::block_in_place(|| gateway.wait_for_generation(generation + 1));
        let answer = call(&client, request("GET", "/"), "", None).await.expect("an answer");
        assert_eq!(&*answer.body, b"other");
        send_body(&mut stream, Bytes::from_static(b"the end"), true).await.expect("sent");
        let (body, _) = read_body(response.body_mut()).await.expect("a body");
        assert_eq!(body, b"the end");
    });
}

#[test]
fn websockets_cross_versions() {
    let http2 = Http2Upstream::start();
    let http1 = Scripted::start(|_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        assert!(head.to_ascii_lowercase().contains("sec-websocket-key: "), "{head}");
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: x\r\n\r\n",
        );
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..count]);
        }
    });
    let gateways = [Gateway::before(&[http1.address], &[]), before_http2(&http2)];
    for gateway in &gateways {
        block_on(async {
            let client = connect(gateway.address).await;
            // The settings must have come.
            while !client.is_extended_connect_protocol_enabled() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut sender = client.ready().await.expect("open");
            let mut connect = request("CONNECT", "/chat")
                .header("sec-websocket-version", "13")
                .body(())
                .expect("a request");
            connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (response, mut stream) = sender.send_request(connect, false).expect("sent");
            let mut response = response.await.expect("an answer");
            assert_eq!(response.status(), 200);
            for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
                assert!(!response.headers().contains_key(name), "{name}");
            }
            for text in ["one", "two"] {
                send_body(&mut stream, Bytes::from_static(text.as_bytes()), false)
                    .await
                    .expect("sent");
                let data = response.body_mut().data().await.expect("data").expect("well");
                assert_eq!(&*data, text.as_bytes());
            }
            send_body(&mut stream, Bytes::from_static(b"end"), true).await.expect("sent");
            let (body, _) = read_body(response.body_mut()).await.expect("an orderly end");
            assert_eq!(body, b"end");
        });
    }
    // From HTTP/1 to HTTP/2, with a client that checks the proof.
    let stream = TcpStream::connect(gateways[1].address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    let url = "ws://hello.com/chat";
    let (mut socket, response) = tungstenite::client(url, stream).expect("the upgrade");
    assert_eq!(response.status(), 101);
    // The upstream sends frames back as they are; a client's are masked, so look at the bytes.
    let stream = socket.get_mut();
    stream.write_all(b"bytes").expect("sent");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("echoed");
    assert_eq!(&back, b"bytes");
}

#[test]
fn an_upgrade_that_the_upstream_cannot_take_is_answered() {
    // Its settings do not allow extended CONNECT.
    let plain = Scripted::start(|_, mut stream| {
        let _ = stream.write_all(&frames::frame(4, 0, 0, b""));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let service = manifests::hello_service(&[plain.address])
        .replacen("name: http,", "name: http2,", 1)
        .replacen("- {name: http,", "- {name: http2,", 1);
    let gateway = Gateway::start(&[("gateway.yaml", manifests::HELLO), ("service.yaml", &service)]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "GET /chat HTTP/1.1\r\nHost: hello.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    assert_eq!(raw.response().status, 503);
    assert_eq!(plain.connections(), 1);
}

#[test]
fn the_access_log_names_the_version() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let file = log.display().to_string();
    let upstream = Upstream::start("hello");
    let arguments = ["--access-log", &file, "--access-log-format", "json"];
    let gateway = Gateway::before(&[upstream.address], &arguments);
    block_on(async {
        let client = connect(gateway.address).await;
        call(&client, request("GET", "/logged"), "", None).await.expect("an answer");
    });
    let line = gateway.wait_for_log(&log, |line| line["path"] == "/logged");
    assert_eq!(line["protocol"], "HTTP/2");
    assert_eq!(line["authority"], "hello.com");
}

#[test]
fn requests_that_are_reset_at_once_are_borne_for_a_while_only() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2(&http2);
    block_on(async {
        let (client, driving) = connect_and_drive(gateway.address).await;
        // Many more than are borne: the gateway may be slow to answer on a busy machine.
        for _ in 0..100_000 {
            let Ok(mut sender) = client.clone().ready().await else { break };
            let request = request("GET", "/hang").body(()).expect("a request");
            let Ok((_response, mut stream)) = sender.send_request(request, true) else { break };
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
        }
        drop(client);
        let error = driving.await.expect("no panic").expect_err("it was ended");
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    });
    let begun = http2.counts.requests.load(Ordering::SeqCst);
    assert!(begun < 1500, "{begun}");
}
