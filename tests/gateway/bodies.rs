//! Bodies of every size and framing go through whole, with their trailers, and messages without one have
//! none.

use std::io::Write;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on, pattern};

/// Sizes at which something may change: nothing, little, around a buffer, many buffers.
const SIZES: [usize; 8] =
    [0, 1, 1000, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100 * 1024, 5 * 1024 * 1024];
const GET: &str = "GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n";

#[test]
fn bodies_of_every_size_go_both_ways() {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(&[upstream.address], &[]);
    block_on(async {
        let client = reqwest::Client::new();
        for size in SIZES {
            let body = pattern(size);
            for chunked in [false, true] {
                let request = client.post(gateway.url("/")).header("host", "hello.com");
                let request = if chunked {
                    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                        body.chunks(10_000).map(|piece| Ok(piece.to_vec())).collect();
                    request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)))
                } else {
                    request.body(body.clone())
                };
                let response = request.send().await.expect("a response");
                assert_eq!(response.status(), 200);
                assert_eq!(response.content_length(), Some(size as u64));
                let got = response.bytes().await.expect("a body");
                assert!(got == body, "{size} bytes came back changed ({})", got.len());
                let seen = upstream.last();
                assert!(seen.body == body, "{size} bytes arrived changed ({})", seen.body.len());
                if size > 0 {
                    assert_eq!(seen.header("transfer-encoding").is_some(), chunked, "{size}");
                    assert_eq!(seen.header("content-length").is_some(), !chunked, "{size}");
                }
                upstream.forget();
            }
        }
    });
    // One client, one connection; and the pool kept what it could.
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}

/// Chunks of the upstream's choosing reach the client whole, with the trailers behind them.
#[test]
fn chunked_responses_and_their_trailers() {
    let body = pattern(100 * 1024);
    let sent = body.clone();
    let upstream = Scripted::start(move |_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let size: usize =
                head.split(['/', ' ']).nth(2).and_then(|text| text.parse().ok()).expect("a size");
            let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                            Trailer: X-Checksum\r\n\r\n"
                .to_vec();
            for piece in sent.chunks(size) {
                let extension = if size < 1000 { "" } else { ";ext=1" };
                out.extend(format!("{:X}{extension}\r\n", piece.len()).bytes());
                out.extend(piece);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\nX-Checksum: abc\r\nContent-Length: 5\r\n\r\n");
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for size in [10, 1000, 16 * 1024, 1024 * 1024] {
        raw.send(format!("GET /{size} HTTP/1.1\r\nHost: hello.com\r\nTE: trailers\r\n\r\n"));
        let response = raw.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-length"), None);
        assert!(response.body == body, "chunks of {size} bytes arrived changed");
        assert_eq!(response.trailers, "X-Checksum: abc\r\n");
    }
    assert_eq!(upstream.connections(), 1, "its connection was kept");
}

/// hyper on both sides, trailers from the client.
#[test]
fn request_trailers_arrive() {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(&[upstream.address], &[]);
    block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a client");
        tokio::spawn(connection);
        for size in [0, 5, 100_000] {
            let mut trailers = hyper::HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().expect("a value"));
            let frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> =
                vec![Ok(Frame::data(Bytes::from(pattern(size)))), Ok(Frame::trailers(trailers))];
            let request = Request::post("/trailers")
                .header("host", "hello.com")
                .header("trailer", "x-checksum")
                .body(StreamBody::new(futures_util::stream::iter(frames)))
                .expect("a request");
            sender.ready().await.expect("the connection is kept");
            let response = sender.send_request(request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(body == pattern(size), "{size}");
            let seen = upstream.last();
            assert!(seen.body == pattern(size), "{size}");
            assert_eq!(seen.trailers, [("x-checksum".to_owned(), "abc".to_owned())]);
        }
    });
}

#[test]
fn responses_without_a_body_have_none() {
    let upstream = Scripted::start(|_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).expect("a target");
            let is_head = head.starts_with("HEAD ");
            let answer = match target {
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
                "/304" => {
                    "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: \"a\"\r\n\r\n"
                }
                "/304-plain" => "HTTP/1.1 304 Not Modified\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/unframed" => "HTTP/1.1 200 OK\r\n\r\n",
                "/zero" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ if is_head => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for (method, target, status, length) in [
        ("HEAD", "/", 200, Some("1234")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/unframed", 200, None),
        ("HEAD", "/zero", 200, Some("0")),
        ("HEAD", "/204", 204, None),
        ("HEAD", "/304", 304, Some("1234")),
        ("GET", "/204", 204, None),
        ("DELETE", "/204", 204, None),
        ("GET", "/304", 304, Some("1234")),
        ("GET", "/304-plain", 304, None),
        ("GET", "/zero", 200, Some("0")),
    ] {
        raw.send(format!("{method} {target} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        let response = raw.response_head();
        assert_eq!(response.status, status, "{method} {target}");
        assert_eq!(response.header("content-length"), length, "{method} {target}");
        if status == 204 {
            assert_eq!(response.header("transfer-encoding"), None, "{method} {target}");
        }
        // Nothing stands between this head and the next response.
        raw.send(GET);
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    }
    // The gateway's own answer to HEAD.
    raw.send("HEAD / HTTP/1.1\r\nHost: none.com\r\n\r\n");
    assert_eq!(raw.response_head().status, 404);
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
}

#[test]
fn bodies_of_unknown_length_are_framed_for_the_client() {
    let body = pattern(100_000);
    let sent = body.clone();
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let chunked = head.starts_with("GET /chunked ");
        let version = if head.starts_with("GET /old ") { "1.0" } else { "1.1" };
        let mut out = format!("HTTP/{version} 200 OK\r\nX-A: 1\r\n").into_bytes();
        if chunked {
            out.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", sent.len()).bytes());
            out.extend(&sent);
            out.extend(b"\r\n0\r\n\r\n");
        } else {
            out.extend(b"\r\n");
            out.extend(&sent);
        }
        let _ = stream.write_all(&out);
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for target in ["/close", "/old", "/chunked"] {
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        let response = raw.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("transfer-encoding"), Some("chunked"), "{target}");
        assert!(response.body == body, "{target}");
        assert_eq!(response.header("connection"), None, "{target}");
    }
    for target in ["/close", "/old", "/chunked"] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!(
            "GET {target} HTTP/1.0\r\nHost: hello.com\r\nConnection: keep-alive\r\n\r\n"
        ));
        let response = raw.response_head();
        assert_eq!(response.header("transfer-encoding"), None, "{target}");
        assert_eq!(response.header("connection"), Some("close"), "{target}");
        assert!(raw.read_to_end() == body, "{target}");
    }
}
