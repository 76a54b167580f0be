//! gRPC as its users know it, with the client and the server of the crate `tonic`.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc::Sender;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

use crate::support::gateway::{free_port, wait_until};
use crate::support::grpc::{
    GrpcUpstream, Plain, all, before, client, method, over, service, unary,
};
use crate::support::http2::{self, Http2Upstream, call};
use crate::support::tls::{Authority, secret_of};
use crate::support::{Gateway, block_on, pattern};
use crate::tls;

const HELLO: &str = "http://hello.com";

#[test]
fn calls_of_every_kind_go_through() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let answer = unary(&mut client, "Talk", "one").await.expect("an answer");
        assert_eq!(&answer.get_ref()[..], b"one");
        let sent = stream::iter(["a", "", "bc"].map(|text: &'static str| Bytes::from(text)));
        client.ready().await.expect("open");
        let collected = client.client_streaming(Request::new(sent), method("Collect"), Plain).await;
        assert_eq!(&collected.expect("an answer").get_ref()[..], b"abc");
        client.ready().await.expect("open");
        let request = Request::new(Bytes::from_static(b"100"));
        let counted = client.server_streaming(request, method("Count"), Plain).await;
        let (counted, error) = all(counted.expect("an answer").get_mut()).await;
        let numbers: Vec<Bytes> = (0..100).map(|number| Bytes::from(number.to_string())).collect();
        assert!(counted == numbers && error.is_none(), "{counted:?} {error:?}");
    });
}

#[test]
fn both_sides_talk_in_turn() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let (say, said) = spoken();
        let talking = client.streaming(Request::new(said), method("Talk"), Plain).await;
        let mut heard = talking.expect("an answer before the request ended").into_inner();
        for turn in 0..50 {
            let message = Bytes::from(format!("turn {turn}"));
            say.send(message.clone()).await.expect("the call goes on");
            assert_eq!(heard.message().await.expect("no error"), Some(message));
        }
        drop(say);
        assert_eq!(heard.message().await.expect("no error"), None);
    });
    gateway.wait_for_metrics("the messages of both sides", |metrics| {
        ["request", "response"]
            .iter()
            .all(|side| metrics.sum(&format!("istio_{side}_messages_total"), &[]) == 50.0)
    });
}

/// A sender, and the stream of what it sends.
fn spoken() -> (Sender<Bytes>, impl Stream<Item = Bytes> + Send + 'static) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message| (message, receiver))
    });
    (sender, stream)
}

#[test]
fn metadata_goes_both_ways() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let mut request = Request::new(Bytes::from_static(b"a"));
        request.metadata_mut().insert("x-ask", MetadataValue::from_static("text, more"));
        let binary = MetadataValue::from_bytes(b"\x00\x80\xff");
        request.metadata_mut().insert_bin("x-ask-bin", binary.clone());
        let answer = client.unary(request, method("Talk"), Plain).await.expect("an answer");
        assert_eq!(answer.metadata().get("x-reply").expect("it is there"), "text, more");
        assert_eq!(answer.metadata().get_bin("x-reply-bin"), Some(&binary));
        assert_eq!(answer.metadata().get("server").expect("it is there"), "istio-envoy");
    });
}

#[test]
fn big_messages_go_both_ways() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    let message = Bytes::from(pattern(9 * 1024 * 1024));
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let answer = unary(&mut client, "Talk", message.clone()).await.expect("an answer");
        assert!(*answer.get_ref() == message, "{} bytes", answer.get_ref().len());
    });
    gateway.wait_for_metrics("one message each way", |metrics| {
        metrics.sum("istio_request_messages_total", &[]) == 1.0
            && metrics.sum("istio_response_messages_total", &[]) == 1.0
    });
}

#[test]
fn errors_come_with_their_message_details_and_metadata() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let at_once = unary(&mut client, "Fail", "9").await.expect_err("it fails");
        client.ready().await.expect("open");
        let request = Request::new(Bytes::from_static(b"9"));
        let late = client.server_streaming(request, method("FailLate"), Plain).await;
        let (messages, late) = all(late.expect("a head").get_mut()).await;
        assert_eq!(messages, ["first"]);
        for status in [at_once, late.expect("it fails")] {
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(status.message(), "100 % w\u{00f6}rong");
            assert_eq!(status.details(), b"\x00details\xff");
            assert_eq!(status.metadata().get("x-why").expect("it is there"), "so");
        }
    });
    gateway.wait_for_metrics("both statuses", |metrics| {
        let labels =
            [("request_protocol", "grpc"), ("grpc_response_status", "9"), ("response_code", "200")];
        metrics.sum("istio_requests_total", &labels) == 2.0
    });
}

#[test]
fn statuses_and_messages_are_counted() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        for _ in 0..3 {
            let request = Request::new(Bytes::from_static(b"5"));
            client.ready().await.expect("open");
            let counted = client.server_streaming(request, method("Count"), Plain).await;
            assert_eq!(all(counted.expect("an answer").get_mut()).await.0.len(), 5);
        }
    });
    gateway.wait_for_metrics("three calls", |metrics| {
        let labels = [("request_protocol", "grpc"), ("grpc_response_status", "0")];
        metrics.sum("istio_requests_total", &labels) == 3.0
    });
    let metrics = gateway.metrics();
    let to_hello = [("destination_service", "hello.default.svc.cluster.local")];
    assert_eq!(metrics.sum("istio_request_messages_total", &to_hello), 3.0);
    assert_eq!(metrics.sum("istio_response_messages_total", &to_hello), 15.0);
    for sample in metrics.find("istio_response_messages_total", &[]) {
        assert!(!sample.labels.contains_key("response_code"), "{sample:?}");
    }
}

#[test]
fn a_cancelled_call_ends_at_the_server() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let calling = tokio::spawn(async move { unary(&mut client, "Hang", "a").await });
        wait_until("the call", || upstream.counts.calls.load(Ordering::SeqCst) == 1);
        calling.abort();
        wait_until("its end", || upstream.counts.cancelled.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn deadlines_are_kept_by_the_gateway() {
    let upstream = Http2Upstream::start();
    for (fields, timeout) in [("", "50m"), ("    timeout: 50ms\n", "1H")] {
        let gateway = before(&[upstream.address], fields);
        block_on(async {
            let client = http2::connect(gateway.address).await;
            let request = http2::request("POST", "/hang")
                .header("content-type", "application/grpc")
                .header("grpc-timeout", timeout);
            let answer = call(&client, request, "", None).await.expect("an answer");
            assert_eq!((answer.status, answer.headers["grpc-status"].as_bytes()), (200, &b"4"[..]));
        });
        gateway.wait_for_metrics("the status", |metrics| {
            let labels = [("grpc_response_status", "4"), ("response_flags", "UT")];
            metrics.sum("istio_requests_total", &labels) == 1.0
        });
    }
    wait_until("their ends", || upstream.counts.cancelled.load(Ordering::SeqCst) == 2);
}

#[test]
fn answers_of_the_gateway_have_a_status() {
    let closed = ([127, 0, 0, 1], free_port()).into();
    let abort = "    fault: {abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}}\n";
    let upstream = GrpcUpstream::start();
    let only_hello = |endpoints: &[_]| {
        Gateway::start(&[
            ("gateway.yaml", crate::support::manifests::HELLO),
            ("service.yaml", &service(endpoints)),
        ])
    };
    let cases = [
        (before(&[closed], ""), HELLO, Code::Unavailable, "upstream"),
        (before(&[], ""), HELLO, Code::Unavailable, "no healthy upstream"),
        (only_hello(&[upstream.address]), "http://other.com", Code::Unimplemented, ""),
        (before(&[upstream.address], abort), HELLO, Code::NotFound, "fault filter abort"),
    ];
    for (gateway, origin, code, message) in &cases {
        block_on(async {
            let mut client = client(gateway.address, origin).await;
            let status = unary(&mut client, "Talk", "a").await.expect_err("it fails");
            assert_eq!(status.code(), *code, "{status:?}");
            assert!(status.message().starts_with(message), "{status:?}");
            // A stream whose request goes on is answered too.
            client.ready().await.expect("open");
            let talking =
                client.streaming(Request::new(stream::pending()), method("Talk"), Plain).await;
            assert_eq!(talking.expect_err("it fails").code(), *code);
        });
        gateway.wait_for_metrics("both statuses", |metrics| {
            let number = (*code as i32).to_string();
            let labels = [("request_protocol", "grpc"), ("grpc_response_status", number.as_str())];
            metrics.sum("istio_requests_total", &labels) == 2.0
        });
    }
    assert_eq!(upstream.counts.calls.load(Ordering::SeqCst), 0);
}

#[test]
fn statuses_are_tried_again_as_the_route_says() {
    for (fields, code, again) in [
        ("", Code::Unavailable, true),
        ("", Code::Cancelled, true),
        ("", Code::ResourceExhausted, false),
        ("", Code::Internal, false),
        ("    retries: {attempts: 0}\n", Code::Unavailable, false),
        (
            "    retries: {attempts: 1, retryOn: resource-exhausted}\n",
            Code::ResourceExhausted,
            true,
        ),
        ("    retries: {attempts: 1, retryOn: resource-exhausted}\n", Code::Unavailable, false),
        (
            "    retries: {attempts: 1, retryOn: 'internal,deadline-exceeded'}\n",
            Code::Internal,
            true,
        ),
        ("    retries: {attempts: 1, retryOn: deadline-exceeded}\n", Code::DeadlineExceeded, true),
    ] {
        let upstream = GrpcUpstream::start();
        let gateway = before(&[upstream.address], fields);
        block_on(async {
            let mut client = client(gateway.address, HELLO).await;
            let answer = unary(&mut client, "Flaky", (code as i32).to_string()).await;
            match answer {
                Ok(answer) => assert_eq!((&answer.get_ref()[..], again), (&b"again"[..], true)),
                Err(status) => assert_eq!((status.code(), again), (code, false), "{fields}"),
            }
        });
        let calls = 1 + usize::from(again);
        assert_eq!(upstream.counts.calls.load(Ordering::SeqCst), calls, "{fields} {code:?}");
    }
}

#[test]
fn a_status_in_trailers_is_final() {
    let upstream = GrpcUpstream::start();
    let gateway = before(&[upstream.address], "");
    block_on(async {
        let mut client = client(gateway.address, HELLO).await;
        let request = Request::new(Bytes::from_static(b"14"));
        let late = client.server_streaming(request, method("FailLate"), Plain).await;
        let (messages, error) = all(late.expect("a head").get_mut()).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(error.expect("it fails").code(), Code::Unavailable);
    });
    assert_eq!(upstream.counts.calls.load(Ordering::SeqCst), 1);
}

#[test]
fn calls_go_through_tls() {
    let upstream = GrpcUpstream::start();
    let authority = Authority::new();
    let manifests = [
        tls::gateway("g", &tls::server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        tls::routes("a", "a.com", "g", "hello"),
        service(&[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ];
    let (gateway, address) = tls::start(&manifests, &[]);
    block_on(async {
        let trust = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.pem()))
            .domain_name("a.com");
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        let endpoint = endpoint.tls_config(trust).expect("TLS");
        let endpoint = endpoint.origin("https://a.com".parse().expect("an origin"));
        let mut client = over(endpoint.connect().await.expect("TLS and ALPN")).await;
        let message = Bytes::from(pattern(1024 * 1024));
        let answer = unary(&mut client, "Talk", message.clone()).await.expect("an answer");
        assert!(*answer.get_ref() == message);
        let status = unary(&mut client, "Fail", "5").await.expect_err("it fails");
        assert_eq!(status.code(), Code::NotFound);
    });
    gateway.wait_for_metrics("HTTP/2 by ALPN", |metrics| {
        metrics.sum("ringress_downstream_http2_connections_total", &[]) == 1.0
            && metrics.sum("istio_requests_total", &[("grpc_response_status", "5")]) == 1.0
    });
}
