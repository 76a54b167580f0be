//! The header of the PROXY protocol, which tells an endpoint whose requests a connection carries
//! (Istio's `proxyProtocol`; haproxy's `proxy-protocol.txt`, sections 2.1 and 2.2).

pub mod reader;

use std::net::IpAddr;

use crate::snapshot::ProxyProtocolVersion;
use crate::upstream::ClientAddresses;

/// First bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The header for a connection on behalf of `client`, its address and ours that it called; none for one
/// that is on nobody's behalf.
pub fn header(version: ProxyProtocolVersion, client: Option<&ClientAddresses>) -> Vec<u8> {
    let addresses = client.map(|(source, destination)| {
        let ips = (source.ip().to_canonical(), destination.ip().to_canonical());
        (ips, source.port(), destination.port())
    });
    match version {
        ProxyProtocolVersion::V1 => match addresses {
            Some((ips @ (IpAddr::V4(_), IpAddr::V4(_)), from, to)) => line("TCP4", ips, from, to),
            Some((ips @ (IpAddr::V6(_), IpAddr::V6(_)), from, to)) => line("TCP6", ips, from, to),
            _ => b"PROXY UNKNOWN\r\n".to_vec(),
        },
        ProxyProtocolVersion::V2 => {
            let mut header = SIGNATURE.to_vec();
            match addresses {
                Some(((IpAddr::V4(source), IpAddr::V4(destination)), from, to)) => {
                    // Version 2, PROXY; TCP over IPv4; 12 bytes.
                    header.extend_from_slice(&[0x21, 0x11, 0, 12]);
                    header.extend_from_slice(&source.octets());
                    header.extend_from_slice(&destination.octets());
                    header.extend_from_slice(&from.to_be_bytes());
                    header.extend_from_slice(&to.to_be_bytes());
                }
                Some(((IpAddr::V6(source), IpAddr::V6(destination)), from, to)) => {
                    header.extend_from_slice(&[0x21, 0x21, 0, 36]);
                    header.extend_from_slice(&source.octets());
                    header.extend_from_slice(&destination.octets());
                    header.extend_from_slice(&from.to_be_bytes());
                    header.extend_from_slice(&to.to_be_bytes());
                }
                // Version 2, LOCAL; no addresses.
                _ => header.extend_from_slice(&[0x20, 0, 0, 0]),
            }
            header
        }
    }
}

fn line(family: &str, (source, destination): (IpAddr, IpAddr), from: u16, to: u16) -> Vec<u8> {
    format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProxyProtocolVersion::{V1, V2};

    fn pair(source: &str, destination: &str) -> Option<ClientAddresses> {
        Some((source.parse().expect("an address"), destination.parse().expect("an address")))
    }

    #[test]
    fn version_1_is_a_line() {
        for (client, expected) in [
            (pair("10.1.2.3:5000", "10.0.0.1:80"), "PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\n"),
            (
                pair("[::ffff:10.1.2.3]:5000", "[::ffff:10.0.0.1]:80"),
                "PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\n",
            ),
            (
                pair("[2001:db8::1]:1", "[2001:db8::2]:2"),
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
            ),
            (pair("[2001:db8::1]:1", "10.0.0.1:80"), "PROXY UNKNOWN\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&header(V1, client.as_ref())), expected);
        }
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = header(V2, pair("10.1.2.3:5000", "10.0.0.1:80").as_ref());
        assert_eq!(v4[..12], SIGNATURE);
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 10, 1, 2, 3, 10, 0, 0, 1, 0x13, 0x88, 0, 80]);
        let v6 = header(V2, pair("[::1]:1", "[::2]:2").as_ref());
        assert_eq!((v6[12], v6[13], v6[15], v6.len()), (0x21, 0x21, 36, 16 + 36));
        assert_eq!(header(V2, None)[12..], [0x20, 0, 0, 0]);
    }
}
