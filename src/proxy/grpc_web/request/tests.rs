use super::*;

/// All that is passed on of `sent`, which comes in pieces of `size` bytes and is taken with room for `room`;
/// and what was expected of the responses.
fn passed(
    requests: &mut Requests,
    sent: &[u8],
    size: usize,
    room: usize,
) -> (String, Vec<Expected>) {
    let (mut all, mut expected) = (Vec::new(), Vec::new());
    let mut received = Vec::new();
    for piece in sent.chunks(size) {
        received.extend_from_slice(piece);
        loop {
            let mut out = Vec::new();
            let step = requests.step(&received, room, &mut out);
            expected.extend(requests.begun());
            all.extend_from_slice(&out);
            match step {
                Step::Pass(count) => {
                    assert!(count <= room && count > 0, "{count}");
                    all.extend(received.drain(..count));
                }
                Step::Written(count) => drop(received.drain(..count)),
                Step::More => break,
            }
        }
    }
    assert!(received.is_empty(), "left: {:?}", String::from_utf8_lossy(&received));
    // The empty lines that tell of a request that came in pieces.
    let text = String::from_utf8(all).expect("text");
    (text.trim_start_matches("\r\n").replace("\r\n\r\n\r\nPOST", "\r\n\r\nPOST"), expected)
}

fn whole(sent: &str) -> (String, Vec<Expected>) {
    passed(&mut Requests::default(), sent.as_bytes(), usize::MAX, usize::MAX)
}

const OTHER: Expected = Expected::Other { may_switch: false };

#[test]
fn what_is_no_grpc_web_passes_as_it_is() {
    for sent in [
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
         3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "POST / HTTP/1.0\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc-web\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc-webx\r\n\r\n",
    ] {
        for size in [1, 7, usize::MAX] {
            for room in [1, 5, usize::MAX] {
                let got = passed(&mut Requests::default(), sent.as_bytes(), size, room);
                assert_eq!(got.0, sent.trim_start_matches("\r\n"), "{size} {room}");
                assert_eq!(got.1, [OTHER]);
            }
        }
    }
}

#[test]
fn a_request_in_binary_changes_its_head_only() {
    let sent = "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nTE: x\r\n\
                X-Own: 1\r\nContent-Length: 4\r\n\r\nabcdPOST / HTTP/1.1\r\nHost: a\r\n\
                content-type: application/grpc-web-text\r\ntransfer-encoding: chunked\r\n\r\n\
                4\r\nYQ==\r\n4\r\nYmNk\r\n0\r\n\r\n";
    let head = "POST /a.B/C HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nContent-Length: 4\r\n\
                content-type: application/grpc+proto\r\nte: trailers\r\n\r\nabcd";
    let next = "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
                transfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    let (text, expected) = whole(sent);
    assert_eq!(text.replace("1\r\na\r\n3\r\nbcd", "4\r\nabcd"), format!("{head}{next}"));
    assert_eq!(expected, [Expected::Web { text: false }, Expected::Web { text: true }]);
    for size in [1, 2, 3, 50] {
        let (text, _) = passed(&mut Requests::default(), sent.as_bytes(), size, 9);
        assert!(text.contains(head), "{size}: {text}");
    }
}

#[test]
fn what_a_client_accepts_decides_what_it_gets() {
    for (kind, accept, text) in [
        ("-text", "", true),
        ("", "", false),
        ("-text", "Accept: */*\r\n", true),
        ("-text", "Accept: application/grpc-web\r\n", false),
        ("", "Accept: application/json, application/grpc-web-text+proto;q=1\r\n", true),
    ] {
        let sent = format!(
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc-web{kind}\r\n{accept}\
             content-length: 0\r\n\r\n"
        );
        assert_eq!(whole(&sent).1, [Expected::Web { text }], "{kind} {accept}");
    }
}

#[test]
fn bad_base64_becomes_a_malformed_body() {
    for body in ["YQ=", "Y Q=", "YWJj Q"] {
        let length = body.len();
        let sent = format!(
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc-web-text\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let (text, _) = whole(&sent);
        let body = text.split_once("\r\n\r\n").expect("a head").1;
        assert!(ChunkedDecoder::new().decode(&mut body.as_bytes().to_vec()).is_err(), "{body:?}");
    }
}

#[test]
fn a_head_that_comes_slowly_is_told_of() {
    let mut requests = Requests::default();
    let mut out = Vec::new();
    assert_eq!(requests.step(b"GET / HT", 100, &mut out), Step::Written(0));
    assert_eq!(out, b"\r\n");
    assert_eq!(requests.step(b"GET / HT", 100, &mut out), Step::More);
    // Only one empty line may come before a request.
    let sent = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(requests.step(sent, 100, &mut out), Step::Written(2));
    assert_eq!(requests.step(&sent[2..], 100, &mut out), Step::Pass(sent.len() - 2));
    assert_eq!(out, b"\r\n");
}

#[test]
fn what_cannot_be_read_and_http2_pass() {
    for sent in ["GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", "GET / HTTP/9\r\n\r\n"] {
        for size in [1, 100] {
            let (text, expected) = passed(&mut Requests::default(), sent.as_bytes(), size, 100);
            assert_eq!((text.as_str(), expected.len()), (sent, 0), "{size}");
        }
    }
    let mut requests = Requests::default();
    requests.pass_all();
    assert_eq!(passed(&mut requests, b"any\0thing", 3, 2).0, "any\0thing");
}
