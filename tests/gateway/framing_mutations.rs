//! One property: however a stream of requests is damaged, gateway and upstream agree on what a
//! request is.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};

/// Requests that mutations start from, together one pipelined stream.
const STREAM: &str = "GET /1 HTTP/1.1\r\nHost: hello.com\r\nAccept: */*\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 42\r\n\r\n\
    GET /in-body HTTP/1.1\r\nHost: hello.com\r\n\r\n\
    POST /3 HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n1c;x=y\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\nX-T: 1\r\n\r\n\
    PUT /4 HTTP/1.1\r\nHost: hello.com\r\nConnection: x-a\r\nX-A: b\r\nContent-Length: 0\r\n\r\n\
    GET http://hello.com/5 HTTP/1.1\r\nHost: hello.com\r\n\r\n";

/// One change of the stream.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(usize, u8),
    Insert(usize, &'static str),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Mutation {
    fn apply(&self, stream: &mut Vec<u8>) {
        let at = |position: usize| position % stream.len().max(1);
        match self {
            Mutation::Replace(position, byte) => {
                let position = at(*position);
                if let Some(old) = stream.get_mut(position) {
                    *old = *byte;
                }
            }
            Mutation::Insert(position, text) => {
                let position = at(*position);
                stream.splice(position..position, text.bytes());
            }
            Mutation::Remove(position, length) => {
                let position = at(*position);
                let end = (position + length).min(stream.len());
                stream.drain(position..end);
            }
            Mutation::Repeat(position, length) => {
                let position = at(*position);
                let end = (position + length).min(stream.len());
                let part = stream[position..end].to_vec();
                stream.splice(position..position, part);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = 0..STREAM.len();
    let pieces = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        ",",
        ";",
        "0",
        "5",
        "\r\n\r\n",
        "\r\nContent-Length: 5",
        "\r\nContent-Length: 0",
        "\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: identity",
        "\r\nTransfer-Encoding:\x0bchunked",
        "\r\nConnection: close, content-length",
        "\r\n folded",
        "\r\nHost: evil.com",
        "0\r\n\r\n",
        "\r\nExpect: 100-continue",
        "\r\nConnection: upgrade\r\nUpgrade: websocket",
    ]);
    prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (place.clone(), pieces).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (place.clone(), 1..40usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (place, 1..60usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
    ]
}

/// However a stream is damaged: the requests that the upstream took for complete are those, in
/// order, whose answers the client got.
#[test]
fn the_upstream_sees_the_requests_that_the_client_got_answers_to() {
    let upstream = Upstream::start_with("hello", |seen| {
        let mut response = hyper::Response::new(Default::default());
        if let Ok(value) = seen.target.parse() {
            response.headers_mut().insert("x-target", value);
        }
        response
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut runner =
        TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let strategy = (prop::collection::vec(mutation(), 0..4), 1..STREAM.len());
    runner
        .run(&strategy, |(mutations, split)| {
            let mut stream = STREAM.as_bytes().to_vec();
            for mutation in &mutations {
                mutation.apply(&mut stream);
            }
            upstream.forget();
            let mut raw = Raw::connect(gateway.address);
            let (first, rest) = stream.split_at(split.min(stream.len()));
            raw.send(first);
            raw.send(rest);
            raw.finish_sending();
            let bytes = raw.read_to_end();
            let answered: Vec<String> = String::from_utf8_lossy(&bytes)
                .lines()
                .filter_map(|line| line.strip_prefix("x-target: ").map(str::to_owned))
                .collect();
            let complete: Vec<String> = upstream
                .seen()
                .into_iter()
                .filter(|seen| seen.complete)
                .map(|seen| seen.target)
                .collect();
            prop_assert_eq!(&complete, &answered, "{:?}", String::from_utf8_lossy(&stream));
            if mutations.is_empty() {
                prop_assert_eq!(complete, ["/1", "/2", "/3", "/4", "/5"]);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
