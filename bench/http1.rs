//! HTTP/1.1 codec: one head, one chunked body. No sockets.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringress::http::Scheme;
use ringress::http1::{ChunkedDecoder, HeadScanner, HeaderStorage, parse_request, parse_response};
use ringress::proxy::upstream_head::{Forwarded, write_upstream_head};

/// Eight fields, as a browser-like client sends them to a service.
const REQUEST: &[u8] = b"GET /api/v1/products/42?currency=eur HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Referer: https://shop.example.com/products\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

/// What load generators send.
const SMALL_REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: hello.example.com\r\n\r\n";

const POST: &[u8] = b"POST /api/v1/orders HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    X-Request-Id: 6f9619ff-8b86-d011-b42d-00c04fc964ff\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 57\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n\
    Server: app\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1234\r\n\
    Cache-Control: no-store\r\n\
    ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\r\n";

/// The head that goes upstream, written from the parsed one.
fn rewrite(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1_rewrite");
    let mut out = Vec::with_capacity(4096);
    for (name, bytes) in [("request_8_fields", REQUEST), ("request_1_field", SMALL_REQUEST)] {
        group.bench_function(name, |b| {
            let mut storage = HeaderStorage::new();
            let Ok(Some(parsed)) = parse_request(bytes, &mut storage, Scheme::Http) else {
                panic!("the head is well-formed");
            };
            let forwarded = Forwarded {
                client_certificate: None,
                authority: None,
                path: None,
                expected_timeout_ms: None,
                trace: None,
                peer_text: b"203.0.113.7",
                trusted_proxies: 0,
                operation: b"shop.default.svc.cluster.local:80/*",
                request_id: 0x0123_4567_89ab_cdef,
            };
            b.iter(|| {
                write_upstream_head(&mut out, black_box(&parsed), &parsed.head, &forwarded);
                black_box(out.len())
            })
        });
    }
    group.finish();
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1_head");
    for (name, bytes) in
        [("request_8_fields", REQUEST), ("request_1_field", SMALL_REQUEST), ("post_7_fields", POST)]
    {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut storage = HeaderStorage::new();
                let parsed = parse_request(black_box(bytes), &mut storage, Scheme::Http);
                black_box(&parsed);
                matches!(parsed, Ok(Some(_)))
            })
        });
    }
    // The floor: the same head through `httparse` alone.
    group.bench_function("httparse_alone_8_fields", |b| {
        b.iter(|| {
            let mut fields = [const { std::mem::MaybeUninit::uninit() }; 100];
            let mut request = httparse::Request::new(&mut []);
            let parsed = request.parse_with_uninit_headers(black_box(REQUEST), &mut fields);
            black_box(&request);
            parsed.is_ok()
        })
    });
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response_6_fields", |b| {
        b.iter(|| {
            let mut storage = HeaderStorage::new();
            let parsed = parse_response(black_box(RESPONSE), &mut storage, false);
            black_box(&parsed);
            matches!(parsed, Ok(Some(_)))
        })
    });
    group.bench_function("scanner_8_fields", |b| {
        b.iter(|| HeadScanner::new().may_be_complete(black_box(REQUEST)))
    });
    group.finish();
}

fn chunked(c: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..8 {
        body.extend_from_slice(b"400\r\n");
        body.extend_from_slice(&[b'x'; 1024]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut group = c.benchmark_group("http1_chunked");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("decode_8_chunks_of_1_kib", |b| {
        b.iter_batched_ref(
            || body.clone(),
            |buffer| ChunkedDecoder::new().decode(buffer),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(benches, heads, rewrite, chunked);
criterion_main!(benches);
