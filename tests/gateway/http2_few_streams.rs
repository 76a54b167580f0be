//! Endpoints that take few requests at a time on an HTTP/2 connection, and refuse what is beyond.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use tokio::net::{TcpListener, TcpStream};

use crate::support::http2::{call, connect, read_body, request};
use crate::support::{Gateway, block_on, manifests, pattern};

/// Requests that the endpoint takes at a time on a connection.
const AT_A_TIME: u32 = 4;

/// An endpoint that answers with the number of bytes that it got.
fn endpoint() -> SocketAddr {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    socket.set_nonblocking(true).expect("settable");
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(socket).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

async fn serve(stream: TcpStream) {
    // Far away: requests are there long before its settings are.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(AT_A_TIME).max_concurrent_reset_streams(1000);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let Ok((body, _)) = read_body(&mut request.into_body()).await else { return };
            let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
            let _ = stream.send_data(body.len().to_string().into(), true);
        });
    }
}

/// A gateway that has no connection yet gets many requests at once, each with a body of this size.
fn at_once(requests: usize, bytes: usize) {
    let service = manifests::hello_service(&[endpoint()]).replacen(
        "{name: http, port: 80}",
        "{name: http, port: 80, appProtocol: http2}",
        1,
    );
    let manifests = [("gateway.yaml", manifests::HELLO), ("service.yaml", &*service)];
    let gateway = Gateway::start_with(&manifests, &["--workers", "1"]);
    let body = Bytes::from(pattern(bytes));
    block_on(async {
        let client = connect(gateway.address).await;
        let calls = (0..requests).map(|_| call(&client, request("POST", "/"), body.clone(), None));
        for answer in join_all(calls).await {
            let answer = answer.expect("an answer");
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!((answer.status, said), (200, bytes.to_string()));
        }
    });
}

#[test]
fn requests_that_come_at_once_are_spread_over_connections() {
    at_once(80, 0);
}

#[test]
fn bodies_that_come_at_once_are_spread_over_connections() {
    // More than the windows of the client's connection hold: those that wait must not take the room of
    // those that go on.
    at_once(12, 1024 * 1024);
}

#[test]
fn an_endpoint_that_says_nothing_holds_up_nobody_for_long() {
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = silent.local_addr().expect("bound");
    let good = endpoint();
    std::thread::spawn(move || {
        // The first connection is to somebody who hangs, the others reach an endpoint.
        let (_hanging, _) = silent.accept().expect("a connection");
        while let Ok((mut from, _)) = silent.accept() {
            let mut to = std::net::TcpStream::connect(good).expect("it listens");
            let (mut back_from, mut back_to) =
                (to.try_clone().expect("a handle"), from.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
        }
    });
    let routes = "  - route: [{destination: {host: mute}}]\n";
    let policy =
        "{connectionPool: {tcp: {connectTimeout: 200ms}, http: {h2UpgradePolicy: UPGRADE}}}";
    let gateway = Gateway::start_with(
        &[
            ("routes.yaml", &manifests::any_host(routes)),
            ("service.yaml", &manifests::service("mute", &[address])),
            ("rule.yaml", &manifests::policy("mute", policy)),
        ],
        &["--workers", "1"],
    );
    block_on(async {
        let client = connect(gateway.address).await;
        let mut first = client.clone().ready().await.expect("open");
        let hanging = request("GET", "/").body(()).expect("a request");
        let (_waits, _) = first.send_request(hanging, true).expect("sent");
        gateway_has_connected(&gateway);
        let answer = call(&client, request("GET", "/"), "", None).await.expect("an answer");
        assert_eq!(answer.status, 200);
    });
}

/// Wait until it has opened a connection to the endpoint.
fn gateway_has_connected(gateway: &Gateway) {
    tokio::task::block_in_place(|| {
        gateway.wait_for_metrics("a connection to the endpoint", |metrics| {
            metrics.sum("ringress_upstream_connections_opened_total", &[]) >= 1.0
        });
    });
}
