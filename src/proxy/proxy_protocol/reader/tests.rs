//! Headers that are good, bad, cut and random.

use super::*;
use crate::ids::WorkerId;
use crate::net::connect::loopback_pair;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::proxy::proxy_protocol::header;
use crate::snapshot::ProxyProtocolVersion;
use proptest::prelude::*;

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    header.extend_from_slice(rest);
    header
}

fn client_of(input: &[u8]) -> Option<SocketAddr> {
    match parse(input) {
        Ok(Parsed::Complete { bytes, client }) => {
            assert_eq!(bytes, input.len(), "all of {input:?}");
            client
        }
        other => panic!("{other:?} of {input:?}"),
    }
}

#[test]
fn headers_tell_the_client() {
    let v4 = [10, 1, 2, 3, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 9;
    let with_more = [&v4[..], &[0x04, 0, 2, 7, 7]].concat();
    for (input, client) in [
        (b"PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\n".to_vec(), Some("10.1.2.3:5000")),
        (b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n".to_vec(), Some("[2001:db8::1]:1")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ff:: ::1 1 2\r\n".to_vec(), None),
        (binary(0x21, 0x11, &v4), Some("10.1.2.3:5000")),
        (binary(0x21, 0x11, &with_more), Some("10.1.2.3:5000")),
        (binary(0x21, 0x21, &v6), Some("[::1]:9")),
        (binary(0x21, 0x31, &[0; 216]), None),
        (binary(0x21, 0x00, &[]), None),
        (binary(0x20, 0x11, &v4), None),
        (binary(0x20, 0x00, &[]), None),
    ] {
        assert_eq!(client_of(&input), client.map(|text| text.parse().expect("an address")));
        for cut in 0..input.len() {
            assert_eq!(parse(&input[..cut]).ok(), Some(Parsed::Incomplete), "{cut} of {input:?}");
        }
        let followed = [&input[..], b"\r\nGET"].concat();
        assert!(matches!(
            parse(&followed),
            Ok(Parsed::Complete { bytes, .. }) if bytes == input.len()
        ));
    }
}

#[test]
fn anything_else_is_refused() {
    for bad in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01",
        b"PROXZ",
        b"PROXY  TCP4 10.1.2.3 10.0.0.1 5000 80\r\n",
        b"PROXY TCP5 10.1.2.3 10.0.0.1 5000 80\r\n",
        b"PROXY TCP4 10.1.2.3 10.0.0.1 5000\r\n",
        b"PROXY TCP4 10.1.2.3 10.0.0.1 5000 80 1\r\n",
        b"PROXY TCP4 ::1 ::2 5000 80\r\n",
        b"PROXY TCP6 10.1.2.3 10.0.0.1 5000 80\r\n",
        b"PROXY TCP4 10.1.2.3 10.0.0.1 +5000 80\r\n",
        b"PROXY TCP4 10.1.2.3 10.0.0.1 65536 80\r\n",
        b"PROXY TCP4 10.1.2.3 10.0.0.1 5000 -1\r\n",
        b"PROXY TCP4 \xff\xff\r\n",
        &binary(0x11, 0x11, &[0; 12]),
        &binary(0x22, 0x11, &[0; 12]),
        &binary(0x21, 0x11, &[0; 11]),
        &binary(0x21, 0x21, &[0; 35]),
        &binary(0x21, 0x31, &[0; 215]),
        &binary(0x21, 0x12, &[0; 12]),
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    assert!(matches!(parse(&endless), Err(ProxyHeaderError::Malformed(_))));
    let long = binary(0x20, 0, &vec![0; PROXY_HEADER_BYTES_MAX]);
    assert!(matches!(parse(&long[..FIXED_BYTES]), Err(ProxyHeaderError::TooLong)));
}

proptest! {
    /// What the writer writes is read, and no byte makes the parser fall over or claim bytes that are
    /// not there.
    #[test]
    fn written_headers_are_read(source: SocketAddr, destination: SocketAddr, second: bool) {
        let version = if second { ProxyProtocolVersion::V2 } else { ProxyProtocolVersion::V1 };
        let written = header(version, Some(&(source, destination)));
        let same_family =
            source.ip().to_canonical().is_ipv4() == destination.ip().to_canonical().is_ipv4();
        let expected = SocketAddr::new(source.ip().to_canonical(), source.port());
        prop_assert_eq!(client_of(&written), same_family.then_some(expected));
    }

    #[test]
    fn random_bytes_never_take_more_than_there_is(
        start in prop::sample::select(vec![&b""[..], &SIGNATURE[..], b"PROXY ", b"PROXY TCP4 "]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let input = [start, &rest].concat();
        if let Ok(Parsed::Complete { bytes, .. }) = parse(&input) {
            prop_assert!(bytes <= input.len());
        }
    }
}

#[test]
fn a_header_is_received_in_pieces_and_what_follows_stays() {
    let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
    runtime::run(driver, async {
        let context = WorkerContext::new(WorkerId(0), driver, None);
        let (stream, mut sender) = loopback_pair(driver, None).await;
        // Longer than the buffer of an idle connection.
        let long = binary(0x20, 0, &[0; 4000]);
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            for piece in long.chunks(700) {
                sender.write_all(piece).expect("open");
            }
            sender.write_all(b"hello").expect("open");
            sender
        });
        let read = read_header(&context, &stream, Buffer::idle()).await;
        let (client, mut buffer) = read.expect("a header");
        while buffer.len() < 5 {
            buffer = stream.receive(buffer).await.1;
        }
        assert_eq!((client, &*buffer), (None, &b"hello"[..]));
        drop(writer.join());
        let (stream, mut sender) = loopback_pair(driver, None).await;
        std::io::Write::write_all(&mut sender, b"GET /").expect("open");
        let refused = read_header(&context, &stream, Buffer::idle()).await;
        assert!(matches!(refused, Err(ProxyHeaderError::Missing)));
        let (stream, sender) = loopback_pair(driver, None).await;
        drop(sender);
        let refused = read_header(&context, &stream, Buffer::idle()).await;
        assert!(matches!(refused, Err(ProxyHeaderError::Ended)));
        context.count(|counters, _| assert_eq!(counters.downstream_proxy_protocol_errors, 2));
    })
    .expect("the runtime works");
}
