use super::*;
use crate::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use crate::stream_info::ResponseFlags;
use proptest::prelude::*;
use serde_json::Value;
use std::time::Instant;

fn capture(
    method: &[u8],
    path: &[u8],
    query: Option<&[u8]>,
    authority: &[u8],
    headers: &[(&str, &[u8])],
) -> RequestFields {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| HeaderField {
            name: name.as_bytes(),
            value,
            known: KnownHeader::from_name(name.as_bytes()),
        })
        .collect();
    let head = RequestHead {
        method,
        path,
        query,
        authority,
        scheme: Scheme::Http,
        version: Version::Http11,
        headers: &headers,
    };
    let mut fields = RequestFields::new();
    fields.capture(&head, None, None);
    fields
}

fn served() -> (StreamInfo, RequestFields, LineContext<'static>) {
    let mut info = StreamInfo::new(Instant::now(), 1_795_521_600_123_456);
    info.duration_us = 5_999;
    info.upstream_service_time_us = Some(4_321);
    info.response_code = 200;
    info.details = "via_upstream";
    info.request_body_bytes = 10;
    info.response_body_bytes = 1_000;
    info.upstream_address = Some("10.1.2.3:8080".parse().unwrap());
    info.upstream_local_address = Some("10.1.2.1:54321".parse().unwrap());
    let fields = capture(
        b"GET",
        b"/get",
        Some(b"a=b"),
        b"hello.com",
        &[
            ("x-forwarded-for", b"192.0.2.7"),
            ("user-agent", b"curl/8.5.0 (x)"),
            ("x-request-id", b"0c9e"),
        ],
    );
    let context = LineContext {
        route_name: "main",
        cluster_name: "outbound|80||hello.default.svc.cluster.local",
        downstream_local_address: Some("10.0.0.1:80".parse().unwrap()),
        downstream_remote_address: Some("[2001:db8::1]:4711".parse().unwrap()),
        ..LineContext::default()
    };
    (info, fields, context)
}

fn line(
    format: AccessLogFormat,
    info: &StreamInfo,
    fields: &RequestFields,
    context: &LineContext<'_>,
) -> String {
    let mut out = Vec::new();
    LineWriter::new(format).write(&mut out, info, fields, context);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_served_request_as_text() {
    let (info, fields, context) = served();
    assert_eq!(
        line(AccessLogFormat::Text, &info, &fields, &context),
        "[2026-11-24T12:00:00.123Z] \"GET /get?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 10 \
         1000 5 4 \
         \"192.0.2.7\" \"curl/8.5.0 (x)\" \"0c9e\" \"hello.com\" \"10.1.2.3:8080\" \
         outbound|80||hello.default.svc.cluster.local 10.1.2.1:54321 10.0.0.1:80 \
         [2001:db8::1]:4711 - main\n"
    );
}

#[test]
fn an_unreadable_request_as_text() {
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.response_code = 400;
    info.flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
    info.details = "bad head";
    let context = LineContext {
        connection_termination_details: Some("gone in between"),
        upstream_transport_failure_reason: Some("said \"no\""),
        ..LineContext::default()
    };
    assert_eq!(
        line(AccessLogFormat::Text, &info, &RequestFields::new(), &context),
        "[1970-01-01T00:00:00.000Z] \"- - HTTP/1.1\" 400 DPE bad_head gone_in_between \
         \"said \\x22no\\x22\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -\n"
    );
}

const KEYS: [&str; 24] = [
    "start_time",
    "route_name",
    "method",
    "path",
    "protocol",
    "response_code",
    "response_flags",
    "response_code_details",
    "connection_termination_details",
    "bytes_received",
    "bytes_sent",
    "duration",
    "upstream_service_time",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "authority",
    "upstream_host",
    "upstream_cluster",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "requested_server_name",
    "upstream_transport_failure_reason",
];

#[test]
fn a_served_request_as_json() {
    let (info, fields, context) = served();
    let text = line(AccessLogFormat::Json, &info, &fields, &context);
    let mut from = 0;
    for key in KEYS {
        let at = text[from..].find(&format!("\"{key}\":"));
        from += at.unwrap_or_else(|| panic!("{key} is missing or out of order"));
    }
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 24);
    assert_eq!(value["start_time"], "2026-11-24T12:00:00.123Z");
    assert_eq!(value["response_code"], 200);
    assert_eq!(value["response_flags"], "-");
    assert_eq!(value["duration"], 5);
    assert_eq!(value["upstream_service_time"], "4");
    assert_eq!(value["path"], "/get?a=b");
    assert_eq!(value["upstream_host"], "10.1.2.3:8080");
    assert_eq!(value["downstream_remote_address"], "[2001:db8::1]:4711");
    assert_eq!(value["requested_server_name"], Value::Null);
    assert_eq!(value["connection_termination_details"], Value::Null);
}

#[test]
fn missing_values_are_null_in_json() {
    let info = StreamInfo::new(Instant::now(), 0);
    let text = line(AccessLogFormat::Json, &info, &RequestFields::new(), &LineContext::default());
    let value: Value = serde_json::from_str(&text).unwrap();
    let nulls = KEYS.iter().filter(|key| value[**key].is_null()).count();
    assert_eq!(nulls, 17, "{text}");
    assert_eq!(value["response_code"], 0);
}

/// Split a text line as a log pipeline would: at spaces outside of quotes and brackets.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    for character in line.trim_end_matches('\n').chars() {
        match character {
            '"' => inside = !inside,
            ' ' if !inside => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let hostile = prop::sample::select(b"\n\r\" \\\x00\x1b\x7f\x85{}[],-".to_vec());
    prop::collection::vec(prop_oneof![any::<u8>(), hostile], 0..30)
}

proptest! {
    /// Whatever the client sends, the line stays one line with every field in its place.
    #[test]
    fn a_client_cannot_forge_a_line(
        method in bytes(), path in bytes(), query in prop::option::of(bytes()),
        authority in bytes(), forwarded in bytes(), agent in bytes(), id in bytes(), sni in bytes(),
    ) {
        let (info, _, context) = served();
        let context = LineContext { requested_server_name: Some(&sni), ..context };
        let fields = capture(&method, &path, query.as_deref(), &authority, &[
            ("x-forwarded-for", &forwarded), ("user-agent", &agent), ("x-request-id", &id),
        ]);
        let text = line(AccessLogFormat::Text, &info, &fields, &context);
        prop_assert!(text.bytes().take(text.len() - 1).all(|b| (0x20..0x7f).contains(&b)));
        prop_assert!(text.ends_with('\n'));
        prop_assert_eq!(text.bytes().filter(|b| *b == b'"').count(), 14);
        let words = split(&text);
        prop_assert_eq!(words.len(), 22);
        prop_assert_eq!(words[1].split(' ').count(), 3);
        prop_assert_eq!(&words[2], "200");
        prop_assert_eq!(&words[21], "main");

        let text = line(AccessLogFormat::Json, &info, &fields, &context);
        prop_assert_eq!(text.bytes().filter(|b| *b < 0x20).count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value.as_object().unwrap().len(), 24);
        prop_assert_eq!(&value["response_code"], 200);
        prop_assert_eq!(value["user_agent"].as_str().unwrap(), String::from_utf8_lossy(&agent));
    }
}

proptest! {
    #[test]
    fn addresses_are_written_as_the_library_does(ip in any::<[u8; 4]>(), port in any::<u16>()) {
        let socket = SocketAddr::from((ip, port));
        let mut out = Vec::new();
        address(&mut out, Some(socket));
        prop_assert_eq!(String::from_utf8(out).unwrap(), socket.to_string());
    }
}
