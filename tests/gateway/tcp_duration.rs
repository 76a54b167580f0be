//! `maxConnectionDuration` of connections that are routed as a whole: they end when their time is over,
//! however busy they are.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::manifests::{policy, service};
use crate::support::tls::{Authority, connect, secret_of};
use crate::support::upstream::Scripted;
use crate::tls::{gateway, server, start};

/// Bytes on port 443, in clear text or in TLS, to `address`; with these limits.
fn manifests(
    address: SocketAddr,
    in_tls: bool,
    limits: &str,
    authority: &Authority,
) -> [String; 5] {
    let server = match in_tls {
        true => server("bytes", "{mode: SIMPLE, credentialName: cert}", "'*'")
            .replace("protocol: HTTPS", "protocol: TLS"),
        false => "  - {port: {number: 443, name: bytes, protocol: TCP}, hosts: ['*']}\n".to_owned(),
    };
    [
        gateway("g", &server),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bytes}\nspec: \
         {hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: echo}}]}]}\n"
            .to_owned(),
        service("echo", &[address]),
        policy("echo", &format!("{{connectionPool: {{tcp: {limits}}}}}")),
        secret_of("cert", &authority.issue(&["a.com"])),
    ]
}

/// Send and read back until that fails. The number of round trips, and whether it just stood still.
fn talk_until_the_end(stream: &mut (impl Read + Write)) -> (usize, bool) {
    for round in 0..usize::MAX {
        let mut byte = [b'x'];
        let outcome = stream
            .write_all(&byte)
            .and_then(|()| stream.flush())
            .and_then(|()| stream.read_exact(&mut byte));
        if let Err(error) = outcome {
            return (round, error.kind() == ErrorKind::WouldBlock);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    unreachable!("it talks for ever");
}

#[test]
fn a_busy_connection_ends_when_its_time_is_over() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let authority = Authority::new();
    for in_tls in [false, true] {
        let (ended, ends) = channel();
        let upstream = Scripted::start(move |_, mut stream| {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = ended.send(());
        });
        let limits = "{maxConnectionDuration: 1s, idleTimeout: 3600s}";
        let log = directory.path().join(format!("{in_tls}.log"));
        let file = log.display().to_string();
        let (gateway, address) = start(
            &manifests(upstream.address, in_tls, limits, &authority),
            &["--access-log", &file, "--access-log-format", "json"],
        );
        let (rounds, stood_still) = if in_tls {
            let config = authority.client(None, &[]);
            talk_until_the_end(&mut connect(address, "a.com", &config).expect("TLS"))
        } else {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
            talk_until_the_end(&mut stream)
        };
        assert!(rounds > 0 && !stood_still, "{rounds} round trips");
        ends.recv_timeout(Duration::from_secs(20)).expect("the upstream's side has ended too");
        let line = gateway.wait_for_log(&log, |line| line["response_flags"] == "DT");
        // The end may have come between a byte and its echo.
        let bytes = |name: &str| line[name].as_u64().expect("a number");
        let unanswered = bytes("bytes_received") - bytes("bytes_sent");
        assert!(bytes("bytes_sent") > 0 && unanswered <= 1, "{line}");
        gateway.wait_for_metrics("the end of its duration", |metrics| {
            let labels = [("response_flags", "DT"), ("request_protocol", "tcp")];
            metrics.sum("istio_tcp_connections_closed_total", &labels) == 1.0
        });
    }
}

#[test]
fn an_idle_timeout_before_it_is_not_the_duration() {
    let upstream = Scripted::start(|_, mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let authority = Authority::new();
    let limits = "{maxConnectionDuration: 3600s, idleTimeout: 1s}";
    let directory = tempfile::TempDir::new().expect("a directory");
    let log = directory.path().join("access.log");
    let file = log.display().to_string();
    let (gateway, address) = start(
        &manifests(upstream.address, false, limits, &authority),
        &["--access-log", &file, "--access-log-format", "json"],
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    stream.write_all(b"x").expect("open");
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    let line = gateway.wait_for_log(&log, |_| true);
    assert_eq!(line["response_flags"], "-");
}
