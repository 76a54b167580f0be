use super::*;
use crate::http::{Scheme, Version};
use proptest::prelude::*;

fn fields<'b>(pairs: &[(&'b str, &'b str)]) -> Vec<HeaderField<'b>> {
    pairs
        .iter()
        .map(|(name, value)| HeaderField {
            name: name.as_bytes(),
            value: value.as_bytes(),
            known: KnownHeader::from_name(name.as_bytes()),
        })
        .collect()
}

fn head<'b>(headers: &'b [HeaderField<'b>]) -> RequestHead<'b> {
    RequestHead {
        method: b"GET",
        path: b"/foo",
        query: None,
        authority: b"A.com:80",
        scheme: Scheme::Http,
        version: Version::Http11,
        headers,
    }
}

fn exact(value: &str) -> StringMatch {
    StringMatch::exact(value)
}

fn regex(pattern: &str) -> StringMatch {
    StringMatch::regex(pattern).unwrap()
}

fn with_header(name: &str, value: Option<StringMatch>) -> Matcher {
    Matcher { headers: vec![HeaderMatch::new(name, value)], ..Matcher::default() }
}

fn without_header(name: &str, value: Option<StringMatch>) -> Matcher {
    Matcher { without_headers: vec![HeaderMatch::new(name, value)], ..Matcher::default() }
}

fn with_param(name: &str, value: Option<StringMatch>) -> Matcher {
    Matcher { query: vec![QueryMatch::new(name, value)], ..Matcher::default() }
}

#[test]
fn no_condition_matches_everything() {
    assert!(Matcher::default().applies(&head(&[])));
}

#[test]
fn a_uri_prefix_is_a_plain_string_prefix() {
    let matcher = Matcher { uri: Some(StringMatch::prefix("/foo")), ..Matcher::default() };
    for (path, expected) in [("/foo", true), ("/foobar", true), ("/Foo", false), ("/", false)] {
        assert_eq!(matcher.applies(&RequestHead { path: path.as_bytes(), ..head(&[]) }), expected);
    }
}

#[test]
fn ignore_uri_case_leaves_regex_alone() {
    let with = |uri| Matcher { uri: Some(uri), ignore_uri_case: true, ..Matcher::default() };
    assert!(with(exact("/FOO")).applies(&head(&[])));
    assert!(with(StringMatch::prefix("/FO")).applies(&head(&[])));
    assert!(!with(regex("/FOO")).applies(&head(&[])));
}

#[test]
fn method_scheme_and_authority_are_case_sensitive() {
    let method = |m| Matcher { method: Some(exact(m)), ..Matcher::default() };
    assert_eq!(method("GET").first_mismatch(&head(&[])), None);
    assert_eq!(method("get").first_mismatch(&head(&[])), Some(Mismatch::Method));
    let scheme = |s| Matcher { scheme: Some(exact(s)), ..Matcher::default() };
    assert_eq!(scheme("http").first_mismatch(&head(&[])), None);
    assert_eq!(scheme("HTTP").first_mismatch(&head(&[])), Some(Mismatch::Scheme));
    let authority = |a| Matcher { authority: Some(exact(a)), ..Matcher::default() };
    assert_eq!(authority("A.com:80").first_mismatch(&head(&[])), None);
    for other in ["a.com:80", "A.com"] {
        assert_eq!(authority(other).first_mismatch(&head(&[])), Some(Mismatch::Authority));
    }
}

#[test]
fn header_names_disregard_case_and_values_do_not() {
    let sent = fields(&[("X-User", "Jason"), ("USER-AGENT", "curl")]);
    assert!(with_header("x-user", Some(exact("Jason"))).applies(&head(&sent)));
    assert!(with_header("X-USER", Some(exact("Jason"))).applies(&head(&sent)));
    assert!(with_header("User-Agent", Some(exact("curl"))).applies(&head(&sent)));
    let refused = with_header("x-user", Some(exact("jason")));
    assert_eq!(refused.first_mismatch(&head(&sent)), Some(Mismatch::Header("x-user")));
    assert!(!with_header("x-other", Some(exact(""))).applies(&head(&sent)), "absent is not empty");
    assert!(!with_header("x-envoy-x", Some(regex(".*"))).applies(&head(&sent)));
}

#[test]
fn presence_is_enough_even_with_an_empty_value() {
    let sent = fields(&[("x-a", "")]);
    assert!(with_header("x-a", None).applies(&head(&sent)));
    assert!(with_header("x-a", Some(exact(""))).applies(&head(&sent)));
    assert!(!with_header("x-b", None).applies(&head(&sent)));
}

#[test]
fn fields_of_one_name_are_joined_with_commas() {
    let sent = fields(&[("x-a", "1"), ("x-b", "0"), ("X-A", "2"), ("x-a", "3")]);
    assert!(with_header("x-a", Some(exact("1,2,3"))).applies(&head(&sent)));
    assert!(!with_header("x-a", Some(exact("1"))).applies(&head(&sent)));
    assert!(with_header("x-a", Some(regex("1,.*"))).applies(&head(&sent)));
}

#[test]
fn pseudo_headers_stand_for_the_request_line() {
    let plain = head(&[]);
    let query = RequestHead { query: Some(b"a=1"), ..plain };
    for (name, value) in
        [(":method", "GET"), (":authority", "A.com:80"), ("Host", "A.com:80"), (":scheme", "http")]
    {
        assert!(with_header(name, Some(exact(value))).applies(&plain), "{name}");
        assert!(with_header(name, None).applies(&plain), "{name}");
        assert!(!with_header(name, Some(exact("x"))).applies(&plain), "{name}");
        assert!(!without_header(name, Some(exact(value))).applies(&plain), "{name}");
    }
    assert!(with_header(":path", Some(exact("/foo"))).applies(&plain));
    assert!(with_header(":path", Some(exact("/foo?a=1"))).applies(&query));
    assert!(!with_header(":protocol", None).applies(&plain));
}

/// `withoutHeaders`: condition, then the outcome for value `v`, an empty value, no header.
#[test]
fn without_headers() {
    let cases: [(Option<StringMatch>, [bool; 3]); 5] = [
        (None, [false, false, true]),
        (Some(regex(".*")), [false, false, false]),
        (Some(regex(".+")), [false, true, true]),
        (Some(exact("v")), [false, true, true]),
        (Some(exact("w")), [true, true, true]),
    ];
    for (condition, expected) in cases {
        let matcher = without_header("x-a", condition);
        let outcomes = [&[("X-A", "v")][..], &[("x-a", "")], &[]]
            .map(|pairs| matcher.applies(&head(&fields(pairs))));
        assert_eq!(outcomes, expected, "{matcher:?}");
    }
    let matcher = without_header("x-a", Some(exact("")));
    assert_eq!(matcher.first_mismatch(&head(&[])), Some(Mismatch::WithoutHeader("x-a")));
}

#[test]
fn query_params() {
    let cases: &[(&str, &str, Option<&str>, bool)] = &[
        ("k", "exact:v", Some("k=v"), true),
        ("k", "exact:v", Some("a=b&k=v"), true),
        ("k", "exact:v", Some("k=w&k=v"), false),
        ("k", "exact:v", Some("K=v"), false),
        ("k", "exact:v", Some("kk=v"), false),
        ("k", "exact:v", None, false),
        ("k", "exact:", Some("k"), true),
        ("k", "exact:", Some("k="), true),
        ("k", "exact:", Some("j"), false),
        ("k", "exact:a b", Some("k=a%20b"), false),
        ("k", "exact:a%20b", Some("k=a%20b"), true),
        ("k", "exact:a=b", Some("k=a=b"), true),
        ("k", "prefix:v", Some("k=value"), true),
        ("k", "regex:v.", Some("k=va"), true),
        ("k", "regex:v.", Some("k=val"), false),
        ("k", "present", Some("k"), true),
        ("k", "present", Some("a&&k=1"), true),
        ("k", "present", Some(""), false),
    ];
    for (name, condition, query, expected) in cases {
        let value = match condition.split_once(':') {
            Some(("exact", value)) => Some(exact(value)),
            Some(("prefix", value)) => Some(StringMatch::prefix(value)),
            Some((_, pattern)) => Some(regex(pattern)),
            None => None,
        };
        let head = RequestHead { query: query.map(str::as_bytes), ..head(&[]) };
        assert_eq!(with_param(name, value).applies(&head), *expected, "{condition} {query:?}");
    }
}

#[test]
fn all_conditions_must_hold() {
    let sent = fields(&[("x-a", "1")]);
    let query = RequestHead { query: Some(b"q=1"), ..head(&sent) };
    let matcher = Matcher {
        uri: Some(exact("/foo")),
        method: Some(exact("GET")),
        headers: vec![HeaderMatch::new("x-a", Some(exact("1")))],
        query: vec![QueryMatch::new("q", Some(exact("1")))],
        ..Matcher::default()
    };
    assert!(matcher.applies(&query));
    let other_query = RequestHead { query: Some(b"q=2"), ..query };
    assert_eq!(matcher.first_mismatch(&other_query), Some(Mismatch::QueryParam("q")));
    let other_path = RequestHead { path: b"/", ..query };
    assert_eq!(matcher.first_mismatch(&other_path), Some(Mismatch::Uri));
    let no_header = RequestHead { headers: &[], ..query };
    assert_eq!(matcher.first_mismatch(&no_header), Some(Mismatch::Header("x-a")));
}

#[test]
fn what_is_a_catch_all() {
    let uri = |uri| Matcher { uri: Some(uri), ..Matcher::default() };
    assert!(Matcher::default().is_catch_all());
    assert!(uri(StringMatch::prefix("/")).is_catch_all());
    assert!(uri(StringMatch::prefix("")).is_catch_all());
    assert!(uri(regex(".*")).is_catch_all());
    for other in [StringMatch::prefix("/a"), exact("/"), regex("/.*")] {
        assert!(!uri(other).is_catch_all());
    }
    for limited in [
        with_header("a", None),
        without_header("a", None),
        with_param("a", None),
        Matcher { method: Some(exact("GET")), ..Matcher::default() },
        Matcher { scheme: Some(exact("http")), ..Matcher::default() },
        Matcher { authority: Some(exact("a")), ..Matcher::default() },
    ] {
        assert!(!limited.is_catch_all());
        assert!(!Matcher { uri: Some(StringMatch::prefix("/")), ..limited }.is_catch_all());
    }
}

proptest! {
    #[test]
    fn the_first_value_is_the_one_of_a_plain_parse(
        pairs in prop::collection::vec(("[ab]{1,2}", prop::option::of("[x=]{0,2}")), 0..5),
        name in "[ab]{1,2}",
    ) {
        let text: Vec<String> = pairs
            .iter()
            .map(|(key, value)| match value {
                Some(value) => format!("{key}={value}"),
                None => key.clone(),
            })
            .collect();
        let query = text.join("&");
        let expected = pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone().unwrap_or_default());
        let got = crate::http::first_query_value(query.as_bytes(), name.as_bytes());
        prop_assert_eq!(got, expected.as_deref().map(str::as_bytes));
    }
}
