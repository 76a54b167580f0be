use super::*;

/// What becomes of `sent`, which comes in pieces of `size` bytes: a letter stands for a byte.
fn turned(expected: Expected, sent: &str, size: usize) -> String {
    let mut responses = Responses::default();
    responses.expect(expected);
    let mut out = Vec::new();
    for piece in sent.as_bytes().chunks(size) {
        assert_eq!(responses.take(piece, &mut out).expect("a response"), piece.len());
    }
    out.into_iter().map(char::from).collect()
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n";

/// The payload of the chunks behind a head.
fn payload(message: &str) -> Vec<u8> {
    let body = message.split_once("\r\n\r\n").expect("a head").1;
    let mut body: Vec<u8> = body.chars().map(|letter| letter as u8).collect();
    let decoded = ChunkedDecoder::new().decode(&mut body).expect("chunks");
    assert!(decoded.done && decoded.consumed == body.len());
    body.truncate(decoded.payload);
    body
}

#[test]
fn trailers_become_a_frame() {
    let sent = format!(
        "HTTP/1.1 103 Early Hints\r\n\r\n{HEAD}transfer-encoding: chunked\r\n\r\n\
         6\r\nabcdef\r\n0\r\nGrpc-Status: 0\r\nX-A: B\r\n\r\n"
    );
    let frame = b"abcdef\x80\x00\x00\x00\x18grpc-status: 0\r\nx-a: B\r\n";
    for size in [1, 5, 1000] {
        let binary = turned(Expected::Web { text: false }, &sent, size);
        let (interim, message) = binary.split_once("\r\n\r\n").expect("a head");
        assert_eq!(interim, "HTTP/1.1 103 Early Hints");
        assert!(message.starts_with(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
             content-type: application/grpc-web+proto\r\n\r\n"
        ));
        assert_eq!(payload(message), frame, "{size}");
        let text = turned(Expected::Web { text: true }, &sent, size);
        let message = text.split_once("\r\n\r\n").expect("a head").1;
        assert!(message.contains("content-type: application/grpc-web-text+proto\r\n"), "{message}");
        let mut decoded = Vec::new();
        let mut decoder = text::Decoder::default();
        decoder.decode(&payload(message), &mut decoded).expect("base64");
        assert!(decoder.is_complete());
        assert_eq!(decoded, frame, "{size}");
    }
}

#[test]
fn a_status_in_the_head_stays_there() {
    let sent = format!("{HEAD}grpc-status: 14\r\ncontent-length: 0\r\n\r\n");
    for (text, kind) in [(false, "grpc-web+proto"), (true, "grpc-web-text+proto")] {
        assert_eq!(
            turned(Expected::Web { text }, &sent, 9),
            format!(
                "HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\
                 content-type: application/{kind}\r\n\r\n"
            )
        );
    }
}

#[test]
fn a_body_of_known_length_becomes_text_in_chunks() {
    let sent = format!("{HEAD}content-length: 5\r\n\r\nabcde");
    let text = turned(Expected::Web { text: true }, &sent, 1000);
    assert!(!text.contains("content-length"), "{text}");
    assert_eq!(payload(&text), b"YWJjZGU=");
    let binary = turned(Expected::Web { text: false }, &sent, 1000);
    assert!(binary.ends_with("+proto\r\n\r\nabcde") && binary.contains("content-length: 5\r\n"));
}

#[test]
fn what_is_no_grpc_passes() {
    let sent = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno";
    for expected in [
        Expected::Web { text: true },
        Expected::Other { may_switch: true },
        Expected::Other { may_switch: false },
    ] {
        assert_eq!(turned(expected, sent, 10), sent);
    }
}

#[test]
fn a_tunnel_is_seen() {
    for (status, switched) in [("101 Switching Protocols", true), ("200 OK", false)] {
        let mut responses = Responses::default();
        responses.expect(Expected::Other { may_switch: true });
        let sent = format!("HTTP/1.1 {status}\r\n\r\n");
        responses.take(sent.as_bytes(), &mut Vec::new()).expect("a response");
        assert_eq!((responses.switched(), responses.switched()), (switched, false));
    }
}
