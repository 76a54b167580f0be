//! What precedes the requests of a connection and does not come: the rest of a TLS handshake, a header of
//! the PROXY protocol.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustls::pki_types::ServerName;

use crate::support::manifests::service;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, connect, get, secret_of, status};
use crate::support::{Gateway, Upstream, block_on};
use crate::tls::{gateway, routes, server, simple, start};

/// The first flight of a client that asks for `a.com`.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from("a.com").expect("a name");
    let mut client =
        rustls::ClientConnection::new(authority.client(None, &[]), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    hello
}

fn wait_for(gateway: &Gateway, name: &str, labels: &[(&str, &str)], count: f64) {
    gateway.wait_for_metrics(&format!("{count} of {name} {labels:?}"), |metrics| {
        metrics.sum(name, labels) == count
    });
}

#[test]
fn a_handshake_that_stops_is_closed_wherever_it_stops() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (gateway, address) = start(&manifests, &["--tls-handshake-timeout", "500ms"]);
    let config = authority.client(None, &[]);
    let mut served = connect(address, "a.com", &config).expect("TLS");
    let whole = hello(&authority);
    let mut stopped: Vec<Raw> = [&[][..], &whole[..3], &whole[..whole.len() - 1], &whole]
        .iter()
        .map(|bytes| {
            let mut raw = Raw::connect(address);
            raw.send(bytes);
            raw
        })
        .collect();
    for raw in &mut stopped {
        // The last one gets the gateway's part of the handshake before.
        raw.read_to_end();
    }
    wait_for(&gateway, "ringress_downstream_tls_failures_total", &[("reason", "timeout")], 4.0);
    let metrics = gateway.metrics();
    let errors = "ringress_downstream_connection_errors_total";
    for kind in ["idle_timeout", "progress_timeout", "head_timeout"] {
        assert_eq!(metrics.sum(errors, &[("kind", kind)]), 0.0, "it has a reason already: {kind}");
    }
    // The time of a handshake is not that of its connection.
    let answer = get(&mut served, "a.com", "/").expect("an answer");
    assert_eq!(status(&answer), 200);
}

#[test]
fn a_handshake_that_goes_on_slowly_has_the_same_time() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (gateway, address) = start(&manifests, &["--tls-handshake-timeout", "1s"]);
    let whole = hello(&authority);
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_nodelay(true).expect("settable");
    // A byte now and then does not prolong it.
    let mut sent = 0;
    for byte in whole.iter().cycle() {
        if socket.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        if sent == whole.len() - 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(sent < whole.len() - 1, "it took all of them");
    wait_for(&gateway, "ringress_downstream_tls_failures_total", &[("reason", "timeout")], 1.0);
}

/// `a.com` on ports 443 (TLS), 80 (requests) and 3306 (bytes).
fn three_ports(upstream: &Upstream, authority: &Authority) -> Vec<String> {
    let servers = server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")
        + "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.com]}\n"
        + "  - {port: {number: 3306, name: db, protocol: TCP}, hosts: ['*']}\n";
    vec![
        gateway("g", &servers),
        routes("a", "a.com", "g", "hello"),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bytes}\nspec: \
         {hosts: ['*'], gateways: [g], tcp: [{match: [{port: 3306}], route: [{destination: \
         {host: hello}}]}]}\n"
            .to_owned(),
        service("hello", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ]
}

#[test]
fn a_header_of_the_proxy_protocol_that_does_not_come_ends_the_connection() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let bytes = crate::support::gateway::free_port();
    let map = format!("--port-map=3306={bytes}");
    let (gateway, address) =
        start(&three_ports(&upstream, &authority), &[&map, "--proxy-protocol=all"]);
    let bytes = SocketAddr::from(([127, 0, 0, 1], bytes));
    let mut raws: Vec<Raw> = Vec::new();
    for address in [gateway.address, address, bytes] {
        for begun in ["", "PROXY TCP4 10."] {
            let mut raw = Raw::connect(address);
            raw.send(begun);
            raws.push(raw);
        }
    }
    for raw in &mut raws {
        assert!(raw.is_closed(), "without a word");
    }
    let errors = "ringress_downstream_connection_errors_total";
    wait_for(&gateway, errors, &[("kind", "proxy_protocol")], 6.0);
    assert_eq!(upstream.connections(), 0);
    wait_for(&gateway, "ringress_downstream_connections_active", &[], 0.0);
}

#[test]
fn a_header_that_does_not_come_does_not_hold_the_drain() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let bytes = format!("--port-map=3306={}", crate::support::gateway::free_port());
    let arguments = [&bytes, "--proxy-protocol=all", "--drain-timeout=3s"];
    let (mut gateway, address) = start(&three_ports(&upstream, &authority), &arguments);
    let mut silent: Vec<Raw> = [gateway.address, address].map(Raw::connect).into();
    // Another that speaks shows that those before it were accepted, or will be.
    let mut raw = Raw::connect(gateway.address);
    raw.send("PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert_eq!(raw.response().status, 200);
    gateway.signal(libc::SIGTERM);
    for raw in &mut silent {
        assert!(raw.is_closed());
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

/// The request of an HTTP/2 client on a connection that begins with this header.
async fn http2_behind(
    address: SocketAddr,
    header: &str,
    tls: Option<&Authority>,
) -> Result<u16, Box<dyn std::error::Error>> {
    use tokio::io::AsyncWriteExt;
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.write_all(header.as_bytes()).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = http::Request::get(format!("{scheme}://a.com/")).body(())?;
    let (sender, driver) = match tls {
        None => {
            let (sender, connection) = h2::client::handshake(socket).await?;
            (sender, tokio::spawn(async move { connection.await.err() }))
        }
        Some(authority) => {
            let connector = tokio_rustls::TlsConnector::from(authority.client(None, &["h2"]));
            let name = ServerName::try_from("a.com")?;
            let stream = connector.connect(name, socket).await?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            (sender, tokio::spawn(async move { connection.await.err() }))
        }
    };
    let mut sender = sender.ready().await?;
    let (response, _) = sender.send_request(request, true)?;
    let status = response.await?.status().as_u16();
    drop(sender);
    assert!(driver.await?.is_none(), "the connection ended in order");
    Ok(status)
}

#[test]
fn http2_follows_a_header_of_the_proxy_protocol() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let bytes = format!("--port-map=3306={}", crate::support::gateway::free_port());
    let arguments = [&bytes, "--proxy-protocol=all"];
    let (gateway, address) = start(&three_ports(&upstream, &authority), &arguments);
    for (address, tls) in [(gateway.address, None), (address, Some(&authority))] {
        let header = "PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\n";
        let status = block_on(http2_behind(address, header, tls)).expect("an answer");
        assert_eq!(status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("x-forwarded-for"), Some("10.1.2.3"));
        assert!(block_on(http2_behind(address, "", tls)).is_err(), "no header, no service");
    }
}
