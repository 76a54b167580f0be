//! gRPC-Web on ports whose server has that protocol: over HTTP/1.1 by hand, over HTTP/2 by the crate `h2`,
//! before a server of the crate `tonic`.

use std::io::Write;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use data_encoding::BASE64;

use crate::support::gateway::{free_port, wait_until};
use crate::support::grpc::{GrpcUpstream, before, before_with, client, unary};
use crate::support::http2::{self, call, read_body};
use crate::support::raw::{Raw, Response};
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on, pattern};

fn web(upstream: &GrpcUpstream) -> Gateway {
    before_with(&[upstream.address], "", "GRPC-WEB")
}

/// A message in its frame.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// The messages of a body and its trailers.
fn read(body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut rest) = (Vec::new(), body);
    while let Some((head, behind)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, behind) = behind.split_at(length);
        rest = behind;
        if head[0] == 0x80 {
            assert!(rest.is_empty(), "the trailers are the end");
            return (messages, String::from_utf8(message.to_vec()).expect("text"));
        }
        messages.push(message.to_vec());
    }
    panic!("no trailers in {body:?}");
}

fn post(raw: &mut Raw, name: &str, kind: &str, fields: &str, body: &[u8]) -> Response {
    raw.send(format!(
        "POST /test.Echo/{name} HTTP/1.1\r\nHost: hello.com\r\nContent-Type: application/{kind}\r\n\
         {fields}Content-Length: {}\r\n\r\n",
        body.len()
    ));
    raw.send(body);
    raw.response()
}

#[test]
fn calls_in_binary_and_text_over_http1() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    // One connection serves them all, and what is no gRPC-Web between them.
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..2 {
        let answer = post(&mut raw, "Count", "grpc-web+proto", "X-Grpc-Web: 1\r\n", &frame(b"3"));
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
        assert_eq!(answer.header("x-type"), Some("application/grpc+proto"));
        assert_eq!((answer.header("x-te"), answer.trailers.as_str()), (Some("trailers"), ""));
        let (messages, trailers) = read(&answer.body);
        assert_eq!(messages, [b"0", b"1", b"2"]);
        assert_eq!(trailers, "grpc-status: 0\r\n");
        let mut text = BASE64.encode(&frame(b"one"));
        // A second piece with its own padding.
        text.push_str(&BASE64.encode(&frame(b"another")));
        let answer = post(&mut raw, "Talk", "grpc-web-text", "", text.as_bytes());
        assert_eq!(answer.header("content-type"), Some("application/grpc-web-text+proto"));
        let (messages, trailers) = read(&BASE64.decode(&answer.body).expect("base64"));
        assert_eq!(messages, [&b"one"[..], b"another"]);
        assert_eq!(trailers, "grpc-status: 0\r\n");
        raw.send("GET /none HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        let answer = raw.response();
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("grpc-status"), Some("12"), "{}", answer.head);
    }
    gateway.wait_for_metrics("four calls", |metrics| {
        let labels = [("request_protocol", "grpc"), ("grpc_response_status", "0")];
        metrics.sum("istio_requests_total", &labels) == 4.0
            && metrics.sum("istio_response_messages_total", &[]) == 10.0
    });
}

#[test]
fn requests_may_come_in_any_pieces() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    let text = BASE64.encode(&frame(b"one"));
    let (first, second) = text.split_at(5);
    let request = format!(
        "POST /test.Echo/Talk HTTP/1.1\r\nHost: hello.com\r\ncontent-type: application/grpc-web-text\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    let mut raw = Raw::connect(gateway.address);
    for size in [7, 50, 1000] {
        for piece in request.as_bytes().chunks(size) {
            raw.send(piece);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let answer = raw.response();
        let (messages, _) = read(&BASE64.decode(&answer.body).expect("base64"));
        assert_eq!(messages, [b"one"], "{size}");
    }
    // Pipelined.
    raw.send(request.repeat(3));
    for _ in 0..3 {
        let answer = raw.response();
        assert_eq!(read(&BASE64.decode(&answer.body).expect("base64")).0, [b"one"]);
    }
}

#[test]
fn calls_over_http2() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    block_on(async {
        let connection = http2::connect(gateway.address).await;
        for text in [false, true] {
            let kind = if text { "application/grpc-web-text" } else { "application/grpc-web" };
            let message = pattern(3 * 1024 * 1024);
            let body = match text {
                true => BASE64.encode(&frame(&message)).into_bytes(),
                false => frame(&message),
            };
            let request = http2::request("POST", "/test.Echo/Talk").header("content-type", kind);
            let answer = call(&connection, request, body, None).await.expect("an answer");
            assert!(answer.trailers.is_empty());
            let kind = format!("{kind}+proto");
            assert_eq!(answer.headers["content-type"], kind.as_str());
            let body = match text {
                true => BASE64.decode(&answer.body).expect("base64"),
                false => answer.body,
            };
            let (messages, trailers) = read(&body);
            assert!(messages == [message], "{} messages", messages.len());
            assert_eq!(trailers, "grpc-status: 0\r\n");
        }
        // gRPC on the same port stays gRPC.
        let mut client = client(gateway.address, "http://hello.com").await;
        let answer = unary(&mut client, "Talk", "one").await.expect("an answer");
        assert_eq!(&answer.get_ref()[..], b"one");
    });
}

#[test]
fn messages_stream_while_the_request_goes_on() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    block_on(async {
        let mut connection = http2::connect(gateway.address).await.ready().await.expect("open");
        let request = http2::request("POST", "/test.Echo/Talk")
            .header("content-type", "application/grpc-web-text")
            .body(())
            .expect("a request");
        let (response, mut sender) = connection.send_request(request, false).expect("sent");
        let mut body = response.await.expect("an answer").into_body();
        for _ in 0..5 {
            let text = Bytes::from(BASE64.encode(&frame(b"turn")));
            sender.send_data(text.clone(), false).expect("sent");
            let mut heard = Vec::new();
            while BASE64.decode(&heard).map_or(0, |bytes| bytes.len()) < 9 {
                let data = body.data().await.expect("more").expect("no error");
                heard.extend_from_slice(&data);
            }
            assert_eq!(BASE64.decode(&heard).expect("base64"), frame(b"turn"));
        }
        sender.send_data(Bytes::new(), true).expect("sent");
        let (rest, _) = read_body(&mut body).await.expect("an end");
        assert_eq!(read(&BASE64.decode(&rest).expect("base64")).1, "grpc-status: 0\r\n");
    });
}

#[test]
fn errors_say_their_status() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    let mut raw = Raw::connect(gateway.address);
    // In the head, where nothing follows.
    let answer = post(&mut raw, "Fail", "grpc-web", "", &frame(b"9"));
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("9")), "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!((answer.header("x-why"), answer.body.len()), (Some("so"), 0));
    let answer = post(&mut raw, "FailLate", "grpc-web", "", &frame(b"9"));
    let (messages, trailers) = read(&answer.body);
    assert_eq!(messages, [b"first"]);
    assert!(trailers.contains("grpc-status: 9\r\n") && trailers.contains("x-why: so\r\n"));
    let closed = ([127, 0, 0, 1], free_port()).into();
    let gateway = before_with(&[closed], "", "GRPC-WEB");
    let mut raw = Raw::connect(gateway.address);
    let answer = post(&mut raw, "Talk", "grpc-web-text", "", b"");
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")), "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/grpc-web-text+proto"));
}

#[test]
fn bad_base64_is_refused() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    for body in ["AAAA A==", "AAAAA"] {
        let mut raw = Raw::connect(gateway.address);
        let answer = post(&mut raw, "Collect", "grpc-web-text", "", body.as_bytes());
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("13")), "{body}");
        assert!(raw.is_closed());
    }
}

#[test]
fn cors_is_the_routes() {
    let upstream = GrpcUpstream::start();
    let cors = "    corsPolicy:\n      allowOrigins: [{exact: 'http://page.com'}]\n      \
                allowHeaders: [content-type, x-grpc-web]\n      exposeHeaders: [grpc-status]\n";
    let gateway = before_with(&[upstream.address], cors, "GRPC-WEB");
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "OPTIONS /test.Echo/Talk HTTP/1.1\r\nHost: hello.com\r\nOrigin: http://page.com\r\n\
         Access-Control-Request-Method: POST\r\n\r\n",
    );
    let answer = raw.response();
    assert_eq!((answer.status, upstream.counts.calls.load(Ordering::SeqCst)), (200, 0));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-grpc-web"));
    let answer = post(&mut raw, "Talk", "grpc-web", "Origin: http://page.com\r\n", &frame(b"a"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://page.com"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("grpc-status"));
    assert_eq!(read(&answer.body).0, [b"a"]);
}

#[test]
fn other_ports_translate_nothing() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    let mut raw = Raw::connect(gateway.address);
    let answer = post(&mut raw, "Talk", "grpc-web", "", &frame(b"a"));
    assert_eq!(answer.header("x-type"), Some("application/grpc-web"));
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!((answer.body, answer.trailers.as_str()), (frame(b"a"), "grpc-status: 0\r\n"));
    // A reload is all that it takes.
    let routes = crate::support::manifests::any_host(ROUTE);
    gateway.write("routes.yaml", &routes.replacen("protocol: HTTP", "protocol: GRPC-WEB", 1));
    gateway.wait_for_generation(2);
    let mut raw = Raw::connect(gateway.address);
    let answer = post(&mut raw, "Talk", "grpc-web", "", &frame(b"a"));
    assert_eq!(read(&answer.body).0, [b"a"]);
}

#[test]
fn tunnels_are_not_looked_into() {
    let upstream = Scripted::start(|_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n",
        );
        let mut echo = stream.try_clone().expect("a socket");
        let _ = std::io::copy(&mut stream, &mut echo);
    });
    let service = crate::support::manifests::hello_service(&[upstream.address]);
    let routes = crate::support::manifests::any_host(ROUTE).replacen(
        "protocol: HTTP",
        "protocol: GRPC-WEB",
        1,
    );
    let gateway = Gateway::start(&[("routes.yaml", &routes), ("service.yaml", &service)]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n");
    assert_eq!(raw.response_head().status, 101);
    for said in ["POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\n\r\n", "\0"] {
        raw.send(said);
        assert_eq!(raw.read_exact(said.len()), said.as_bytes());
    }
}

#[test]
fn a_slow_head_is_answered_408() {
    let service = crate::support::manifests::hello_service(&[]);
    let routes = crate::support::manifests::any_host(ROUTE).replacen(
        "protocol: HTTP",
        "protocol: GRPC-WEB",
        1,
    );
    let gateway = Gateway::start_with(
        &[("routes.yaml", &routes), ("service.yaml", &service)],
        &["--request-head-timeout", "300ms"],
    );
    for start in ["G", "\r\nGET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: a\r\n"] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(start);
        assert_eq!(raw.response().status, 408, "{start:?}");
    }
}

/// A route for all requests.
const ROUTE: &str = "  - route: [{destination: {host: hello}}]\n";

#[test]
fn what_is_no_grpc_web_passes_unchanged() {
    let upstream = Upstream::echo();
    let service = crate::support::manifests::hello_service(&[upstream.address]);
    let routes = crate::support::manifests::any_host(ROUTE).replacen(
        "protocol: HTTP",
        "protocol: GRPC-WEB",
        1,
    );
    let gateway = Gateway::start(&[("routes.yaml", &routes), ("service.yaml", &service)]);
    let mut raw = Raw::connect(gateway.address);
    let body = pattern(300_000);
    for _ in 0..2 {
        raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        raw.send(&body);
        assert!(raw.response().body == body);
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(10_000) {
            raw.send(format!("{:x};a=b\r\n", piece.len()));
            raw.send(piece);
            raw.send("\r\n");
        }
        raw.send("0\r\nX-End: 1\r\n\r\n");
        assert!(raw.response().body == body);
        assert_eq!(upstream.last().trailers, [("x-end".to_owned(), "1".to_owned())]);
    }
    assert_eq!(upstream.connections(), 1);
    // A head that does not end is answered in time; what is malformed, at once.
    raw.send("GET / HTTP/1.1\r\nBad Header: x\r\n\r\n");
    assert_eq!(raw.response().status, 400);
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    let upstream = GrpcUpstream::start();
    let gateway = web(&upstream);
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "POST /test.Echo/Hang HTTP/1.1\r\nHost: hello.com\r\ncontent-type: application/grpc-web\r\n\
         content-length: 5\r\n\r\n\0\0\0\0\0",
    );
    wait_until("the call", || upstream.counts.calls.load(Ordering::SeqCst) == 1);
    socket2::SockRef::from(&raw.try_clone())
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("settable");
    drop(raw);
    wait_until("its end", || upstream.counts.cancelled.load(Ordering::SeqCst) == 1);
}
