use super::*;
use crate::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use proptest::prelude::*;
use std::time::Instant;

/// A request for `/shop/cart?id=7` that was answered with 503 after 1.5 s.
fn answer(expression: &str) -> bool {
    let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let header = |name: &'static str, value: &'static str| HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    };
    let headers =
        [header("User-Agent", "kube-probe/1.30"), header("X-Team", "a"), header("x-team", "b")];
    let head = RequestHead {
        method: b"GET",
        path: b"/shop/cart",
        query: Some(b"id=7"),
        authority: b"shop.example.com",
        scheme: Scheme::Http,
        version: Version::Http11,
        headers: &headers,
    };
    let mut fields = RequestFields::new();
    fields.capture(&head, None, Some(b"an-id"));
    // What a format asked for comes first.
    fields.capture_first(&head, &[FieldName::new("x-team")]);
    fields.capture_joined(&head, filter.request_headers());
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.response_code = 503;
    info.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    info.details = "upstream_reset";
    info.duration_us = 1_500_000;
    info.request_body_bytes = 10;
    info.attempts = 2;
    info.upstream_address = Some("[::ffff:10.0.0.1]:8080".parse().expect("an address"));
    let context = LineContext {
        route_name: "main",
        downstream_remote_address: Some("192.0.2.1:4711".parse().expect("an address")),
        response_head: b"HTTP/1.1 503 Service Unavailable\r\nx-kind: slow\r\n\r\n",
        ..LineContext::default()
    };
    filter.test(&info, &fields, &context, 1)
}

#[test]
fn expressions_say_what_they_say_in_cel() {
    for (expression, expected) in [
        ("response.code >= 400", true),
        ("response.code == 200 || response.code == 503", true),
        ("response.code in [500, 503]", true),
        ("!(response.code in [500, 502])", true),
        ("response.code in []", false),
        ("response.code > 400 && response.code < 500", false),
        ("response.code != 503", false),
        ("response.code > -1 && response.code <= 0x1f7", true),
        ("request.duration > duration('1s')", true),
        ("response.duration >= duration('1.5s')", true),
        ("request.duration < duration(\"1s400ms\")", false),
        ("response.flags != 0", true),
        ("response.flags == 32", true),
        ("response.code_details == 'upstream_reset'", true),
        ("request.method == 'GET'", true),
        ("request.path == '/shop/cart?id=7'", true),
        ("request.url_path == '/shop/cart' && request.query == 'id=7'", true),
        ("request.url_path.startsWith('/shop')", true),
        ("request.host.endsWith('.example.com')", true),
        ("request.headers['user-agent'].contains('probe')", true),
        ("!request.headers['User-Agent'].startsWith('kube-probe')", false),
        ("request.useragent.matches('probe/[0-9]+')", true),
        ("request.useragent.matches('^probe')", false),
        ("request.headers['x-team'] == 'a,b'", true),
        ("'x-team' in request.headers", true),
        ("has(request.headers.nothing)", false),
        ("has(request.headers['nothing']) || true", true),
        ("response.headers['x-kind'] == 'slow'", true),
        ("'x-other' in response.headers", false),
        ("request.id == r'an-id'", true),
        ("request.method in ['POST', \"GET\"]", true),
        ("request.size == 10", true),
        ("upstream.request_attempt_count > 1", true),
        ("upstream.address == '10.0.0.1:8080' && upstream.port == 8080", true),
        ("source.address == '192.0.2.1:4711'", true),
        ("xds.route_name == 'main'", true),
        ("has(connection.requested_server_name)", false),
        ("connection.mtls", false),
        ("!connection.mtls == true", true),
        ("(response.code == 503) != connection.mtls", true),
        ("request.path < 'a' && 'b' > 'a'", true),
        ("request.path == '\\x2fshop/cart?id=\\u0037'", true),
        ("true && (false || true)", true),
    ] {
        assert_eq!(answer(expression), expected, "{expression}");
    }
}

#[test]
fn what_is_not_there_has_no_value() {
    for (expression, expected) in [
        ("request.headers['nothing'] == 'a'", false),
        ("request.headers['nothing'] != 'a'", false),
        ("!(request.headers['nothing'] == 'a')", false),
        ("request.headers['nothing'] == 'a' || response.code == 503", true),
        ("response.code == 503 || request.headers['nothing'] == 'a'", true),
        ("!(request.headers['nothing'] == 'a' && response.code == 200)", true),
        ("response.grpc_status > 0", false),
        ("has(response.grpc_status)", false),
        ("destination.port == 80", false),
    ] {
        assert_eq!(answer(expression), expected, "{expression}");
    }
}

#[test]
fn mistakes_are_named_with_their_column() {
    for (expression, column, part) in [
        ("", 1, "expected a value, found the end"),
        ("response.code", 1, "expected true or false here, found a number"),
        ("response.code >= '400'", 15, "a number is compared with a text"),
        ("request.duration > 1000", 18, "write a duration as duration('500ms')"),
        ("response.cod >= 400", 1, "`response.cod` is not supported"),
        ("request.headers['a']", 1, "found a text"),
        ("request.headers[1] == 'a'", 17, "in quotes"),
        ("request.path.lower() == 'a'", 14, "`lower` is not supported"),
        ("request.path.contains() == true", 23, "literal text"),
        ("request.path.matches('(')", 22, "not valid RE2"),
        ("request.path.matches('a)|(b')", 22, "not valid RE2"),
        ("request.path == 'a", 17, "without its closing quote"),
        ("request.path == '\\q'", 19, "is no escape"),
        ("response.code == 200 ? true : false", 22, "`? :` is not supported"),
        ("response.code + 1 == 200", 15, "`+` is not supported"),
        ("(response.code == 200", 22, "expected `)`"),
        ("response.code == 200 response.code", 22, "expected an operator"),
        ("response.code == 99999999999999999999", 18, "not a whole number"),
        ("response.code == 1.5", 18, "not a whole number"),
        ("response.code in ['a']", 15, "a number in a list"),
        ("response.code in [request.size]", 19, "literal numbers"),
        ("connection.mtls < true", 17, "have no order"),
        ("duration('1x') < request.duration", 10, "is not a duration"),
        ("has('a')", 1, "`has` asks for"),
        ("request.path.size() > 1", 14, "`size` is not supported"),
        ("$", 1, "means nothing"),
    ] {
        let error = Filter::parse(expression).expect_err(expression);
        assert!(
            error.column == column && error.message.contains(part),
            "{expression}: {error}, not column {column}: {part}"
        );
    }
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    assert!(Filter::parse(&deep).expect_err("deep").message.contains("too deeply"));
    let negated = format!("{}true", "!".repeat(200));
    assert!(Filter::parse(&negated).expect_err("deep").message.contains("too deeply"));
    let long = format!("request.path == '{}'", "a".repeat(9000));
    assert!(Filter::parse(&long).expect_err("long").message.contains("longer"));
}

#[test]
fn flags_have_the_bits_of_envoy_each_its_own() {
    let bits: Vec<u64> = ResponseFlags::ALL.iter().map(|(flag, _)| flag_bits(*flag)).collect();
    assert!(bits.iter().all(|bits| bits.count_ones() == 1), "{bits:?}");
    assert_eq!(bits.iter().fold(0, |all, bit| all | bit).count_ones() as usize, bits.len());
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "[a-z.'\"()\\[\\]!&|=<>0-9 \\\\,ü-]{0,60}") {
        let _ = Filter::parse(&text);
    }
}
