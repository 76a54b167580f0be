//! The PROXY protocol towards endpoints.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// What an endpoint that expects the header reads of it.
fn header(stream: &mut TcpStream, version: u8) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    loop {
        let ended = match version {
            1 => bytes.ends_with(b"\r\n"),
            _ => bytes.len() >= 16 && bytes.len() == 16 + length(&bytes),
        };
        if ended {
            return Some(bytes);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
}

#[test]
fn every_connection_begins_with_its_client() {
    for (policy, version) in [
        ("{proxyProtocol: {}}", 1),
        ("{proxyProtocol: {version: V1}}", 1),
        ("{proxyProtocol: {version: V2}}", 2),
    ] {
        let (came, comes) = channel();
        let upstream = Scripted::start(move |_, mut stream: TcpStream| {
            let Some(header) = header(&mut stream, version) else { return };
            let _ = came.send(header);
            while read_head(&mut stream).is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let routes = manifests::any_host("  - route: [{destination: {host: up}}]\n");
        let gateway = Gateway::start(&[
            ("rule.yaml", &manifests::policy("up", policy)),
            ("routes.yaml", &routes),
            ("service.yaml", &manifests::service("up", &[upstream.address])),
        ]);
        let mut raws: Vec<Raw> = (0..3).map(|_| Raw::connect(gateway.address)).collect();
        for _ in 0..2 {
            for raw in &mut raws {
                raw.send(GET);
                assert_eq!(raw.response().status, 200);
            }
        }
        let to = gateway.address;
        for raw in &raws {
            let from = raw.local_address();
            let expected = match version {
                1 => format!(
                    "PROXY TCP4 {} {} {} {}\r\n",
                    from.ip(),
                    to.ip(),
                    from.port(),
                    to.port()
                )
                .into_bytes(),
                _ => {
                    let mut bytes =
                        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
                    bytes.extend_from_slice(&from.port().to_be_bytes());
                    bytes.extend_from_slice(&to.port().to_be_bytes());
                    bytes
                }
            };
            let got = comes.recv_timeout(Duration::from_secs(20)).expect("a connection");
            assert_eq!(got, expected, "{policy}");
        }
        // Each client has a connection of its own, which its second request used again.
        assert_eq!(upstream.connections(), 3);
    }
}
