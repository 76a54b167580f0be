use super::*;
use crate::access_log::{LineContext, RequestFields};
use crate::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use crate::stream_info::{ResponseFlags, StreamInfo};
use crate::tls::settings::TlsVersion;
use crate::tls::{PeerCertificate, TlsInfo};
use std::time::Instant;

/// Write a line of a request with everything that a request can have.
fn line(template: &Template) -> String {
    let header = |name: &'static str, value: &'static str| HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    };
    let headers = [
        header("User-Agent", "curl \"x\"\u{1b}"),
        header("X-Team", "shop"),
        header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let head = RequestHead {
        method: b"POST",
        path: b"/a",
        query: Some(b"b=c"),
        authority: b"hello.com",
        scheme: Scheme::Https,
        version: Version::Http2,
        headers: &headers,
    };
    let mut fields = RequestFields::new();
    fields.capture(&head, Some(b"192.0.2.9"), Some(b"an-id"));
    fields.capture_first(&head, template.request_headers());
    if template.wants_trace_id() {
        fields.capture_trace_id(&head);
    }
    // 2026-11-24T12:00:00.123456Z
    let mut info = StreamInfo::new(Instant::now(), 1_795_521_600_123_456);
    info.version = Version::Http2;
    info.duration_us = 5_999;
    info.upstream_service_time_us = Some(4_321);
    info.response_code = 200;
    info.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
    info.details = "via upstream";
    info.grpc_status = Some(3);
    (info.request_body_bytes, info.response_body_bytes) = (10, 1_000);
    (info.request_bytes, info.response_bytes) = (110, 1_100);
    info.attempts = 2;
    info.upstream_address = Some("10.1.2.3:8080".parse().expect("an address"));
    info.upstream_local_address = Some("10.1.2.1:54321".parse().expect("an address"));
    let mut peer = PeerCertificate { sha256: "ab01".to_owned(), ..PeerCertificate::default() };
    peer.certificate.subject = "CN=client,O=\"A\"".to_owned();
    peer.certificate.issuer = "CN=ca".to_owned();
    peer.certificate.serial = "0f".to_owned();
    peer.certificate.uris = vec!["spiffe://a/b".to_owned()];
    let tls = TlsInfo {
        version: TlsVersion::V1_3,
        cipher: "TLS_AES_128_GCM_SHA256",
        alpn: Some("h2"),
        server_name: Some("hello.com".to_owned()),
        resumed: false,
        client_certificate: Some(peer),
    };
    let context = LineContext {
        route_name: "main",
        cluster_name: "outbound|80||hello",
        downstream_local_address: Some("[2001:db8::1]:443".parse().expect("an address")),
        downstream_remote_address: Some("192.0.2.1:4711".parse().expect("an address")),
        requested_server_name: Some(b"hello.com"),
        connection_termination_details: Some("gone in between"),
        upstream_transport_failure_reason: Some("said no"),
        tls: Some(&tls),
        response_head: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
        ..LineContext::default()
    };
    let mut out = Vec::new();
    template.write(&mut out, &Line { info: &info, fields: &fields, context: &context });
    String::from_utf8(out).expect("text")
}

fn text(format: &str) -> String {
    let template = Template::text(format).unwrap_or_else(|error| panic!("{format}: {error}"));
    line(&template)
}

#[test]
fn every_operator_has_its_value() {
    let hostname = crate::net::hostname();
    for (format, expected) in [
        ("START_TIME", "2026-11-24T12:00:00.123Z"),
        ("START_TIME(%s.%3f %Y/%m/%d)", "1795521600.123 2026/11/24"),
        ("START_TIME()", "2026-11-24T12:00:00.123Z"),
        ("REQ(:METHOD)", "POST"),
        ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", "/a?b=c"),
        ("REQ(:PATH):2", "/a"),
        ("REQ(:AUTHORITY)", "hello.com"),
        ("REQ(:SCHEME)", "https"),
        ("REQ(X-FORWARDED-FOR)", "192.0.2.9"),
        ("REQ(USER-AGENT)", "curl \\x22x\\x22\\x1b"),
        ("REQ(X-REQUEST-ID)", "an-id"),
        ("REQ(x-team)", "shop"),
        ("REQ(X-NONE?X-TEAM):3", "sho"),
        ("REQ(X-NONE)", "-"),
        ("REQ(X-NONE?X-OTHER)", "-"),
        ("RESP(content-type)", "text/plain"),
        ("RESP(X-NONE?CONTENT-TYPE):4", "text"),
        ("RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", "4"),
        ("RESP(:STATUS)", "200"),
        ("PROTOCOL", "HTTP/2"),
        ("RESPONSE_CODE", "200"),
        ("RESPONSE_CODE_DETAILS", "via_upstream"),
        ("RESPONSE_FLAGS", "UF,URX"),
        ("RESPONSE_FLAGS_LONG", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"),
        ("CONNECTION_TERMINATION_DETAILS", "gone_in_between"),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", "said no"),
        ("BYTES_RECEIVED", "10"),
        ("BYTES_SENT", "1000"),
        ("DOWNSTREAM_WIRE_BYTES_RECEIVED", "110"),
        ("DOWNSTREAM_WIRE_BYTES_SENT", "1100"),
        ("DURATION", "5"),
        ("UPSTREAM_HOST", "10.1.2.3:8080"),
        ("UPSTREAM_REMOTE_ADDRESS", "10.1.2.3:8080"),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "10.1.2.3"),
        ("UPSTREAM_REMOTE_PORT", "8080"),
        ("UPSTREAM_LOCAL_ADDRESS", "10.1.2.1:54321"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "10.1.2.1"),
        ("UPSTREAM_LOCAL_PORT", "54321"),
        ("UPSTREAM_CLUSTER", "outbound|80||hello"),
        ("UPSTREAM_CLUSTER_RAW", "outbound|80||hello"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "2"),
        ("DOWNSTREAM_REMOTE_ADDRESS", "192.0.2.1:4711"),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "192.0.2.1"),
        ("DOWNSTREAM_REMOTE_PORT", "4711"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "192.0.2.1:4711"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "192.0.2.1"),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", "4711"),
        ("DOWNSTREAM_LOCAL_ADDRESS", "[2001:db8::1]:443"),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "2001:db8::1"),
        ("DOWNSTREAM_LOCAL_PORT", "443"),
        ("DOWNSTREAM_TLS_VERSION", "TLSv1.3"),
        ("DOWNSTREAM_TLS_CIPHER", "TLS_AES_128_GCM_SHA256"),
        ("DOWNSTREAM_PEER_SUBJECT", "CN=client,O=\\x22A\\x22"),
        ("DOWNSTREAM_PEER_ISSUER", "CN=ca"),
        ("DOWNSTREAM_PEER_SERIAL", "0f"),
        ("DOWNSTREAM_PEER_FINGERPRINT_256", "ab01"),
        ("DOWNSTREAM_PEER_URI_SAN", "spiffe://a/b"),
        ("DOWNSTREAM_PEER_DNS_SAN", "-"),
        ("REQUESTED_SERVER_NAME", "hello.com"),
        ("ROUTE_NAME", "main"),
        ("VIRTUAL_CLUSTER", "-"),
        ("VIRTUAL_CLUSTER_NAME", "-"),
        ("TRACE_ID", "0af7651916cd43dd8448eb211c80319c"),
        ("GRPC_STATUS", "InvalidArgument"),
        ("GRPC_STATUS(CAMEL_STRING)", "InvalidArgument"),
        ("GRPC_STATUS(SNAKE_STRING)", "INVALID_ARGUMENT"),
        ("GRPC_STATUS(NUMBER)", "3"),
        ("GRPC_STATUS_NUMBER", "3"),
        ("HOSTNAME", hostname.as_str()),
        ("ENVIRONMENT(CARGO_PKG_NAME)", "ringress"),
        ("ENVIRONMENT(CARGO_PKG_NAME):4", "ring"),
        ("ENVIRONMENT(NO_SUCH_VARIABLE)", "-"),
    ] {
        assert_eq!(text(&format!("<%{format}%>")), format!("<{expected}>\n"), "{format}");
    }
    let tested = std::fs::read_to_string(file!()).expect("this file");
    let page = std::fs::read_to_string("docs/observability.md").expect("the page");
    for (name, _) in operator::Simple::ALL {
        assert!(tested.contains(&format!("(\"{name}\", ")), "{name} is not tested");
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/observability.md");
    }
}

#[test]
fn a_text_line_is_what_stands_around_the_operators() {
    assert_eq!(text("100%% %PROTOCOL%%RESPONSE_CODE% \"é\"\n"), "100% HTTP/2200 \"é\"\n");
    assert_eq!(text(""), "\n");
}

fn object(entries: &[(&str, JsonShape)]) -> JsonShape {
    JsonShape::Object(
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    )
}

fn shape(value: &str) -> JsonShape {
    JsonShape::Text(value.to_owned())
}

#[test]
fn json_has_types_and_keeps_the_order_of_its_keys() {
    let form = object(&[
        ("z \"", shape("%DURATION%")),
        ("agent", shape("%REQ(USER-AGENT)%")),
        ("none", shape("%REQ(X-NONE)%")),
        ("flags", shape("%RESPONSE_FLAGS%")),
        ("start", shape("%START_TIME%")),
        ("host", shape("%UPSTREAM_HOST%")),
        ("mixed", shape("a \"%REQ(USER-AGENT)%\" %RESPONSE_CODE% %REQ(X-NONE)%")),
        ("package", shape("%ENVIRONMENT(CARGO_PKG_NAME)%")),
        ("plain", shape("100%%")),
        ("list", JsonShape::List(vec![shape("%PROTOCOL%"), JsonShape::Literal("1".to_owned())])),
        ("inner", object(&[("code", shape("%RESPONSE_CODE%"))])),
    ]);
    let text = line(&Template::json(&form).expect("known"));
    assert_eq!(
        text,
        "{\"z \\\"\":5,\"agent\":\"curl \\\"x\\\"\\u001b\",\"none\":null,\"flags\":\"UF,URX\",\
         \"start\":\"2026-11-24T12:00:00.123Z\",\"host\":\"10.1.2.3:8080\",\
         \"mixed\":\"a \\\"curl \\\"x\\\"\\u001b\\\" 200 -\",\"package\":\"ringress\",\
         \"plain\":\"100%\",\"list\":[\"HTTP/2\",1],\"inner\":{\"code\":200}}\n"
    );
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["inner"]["code"], 200);
}

#[test]
fn mistakes_are_named_with_their_column() {
    for (format, column, part) in [
        ("%NOPE%", 1, "`%NOPE%` is no operator that is known"),
        ("ü %BYTES%", 3, "there is BYTES_RECEIVED, BYTES_SENT"),
        ("a %", 3, "without its partner"),
        ("50% off", 3, "without its partner"),
        ("%REQ(a%", 1, "without its partner"),
        ("%REQ%", 1, "names no header"),
        ("%REQ()%", 1, "names no header"),
        ("%REQ(a):x%", 1, "no operator"),
        ("%PROTOCOL(a)%", 1, "no operator"),
        ("%protocol%", 1, "no operator"),
        ("%START_TIME(%Q)%", 1, "no time format"),
        ("%TRAILER(a)%", 1, "not supported: trailers"),
        ("%REQUEST_DURATION%", 1, "not supported"),
        ("%DYNAMIC_METADATA(a:b)%", 1, "not supported"),
        ("%ENVIRONMENT%", 1, "no operator"),
    ] {
        let error = Template::text(format).expect_err(format);
        assert!(
            error.column == column && error.message.contains(part),
            "{format}: {error}, not column {column}: {part}"
        );
    }
    let form = object(&[("a", JsonShape::List(vec![object(&[("b", shape("x %NOPE%"))])]))]);
    let error = Template::json(&form).expect_err("not known").to_string();
    assert!(error.starts_with("`a[0].b`, column 3: `%NOPE%`"), "{error}");
}
