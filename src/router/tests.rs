//! The router against a naive one, and the cases that Istio documents.

use proptest::prelude::*;

use super::*;
use crate::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use crate::ids::RouteId;

fn head<'h>(
    method: &'h str,
    authority: &'h str,
    target: &'h str,
    headers: &'h [HeaderField<'h>],
) -> RequestHead<'h> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    RequestHead {
        method: method.as_bytes(),
        path: path.as_bytes(),
        query,
        authority: authority.as_bytes(),
        scheme: Scheme::Http,
        version: Version::Http11,
        headers,
    }
}

fn field<'h>(name: &'h str, value: &'h str) -> HeaderField<'h> {
    HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    }
}

fn uri(uri: StringMatch) -> Matcher {
    Matcher { uri: Some(uri), ..Matcher::default() }
}

fn table(domains: &[&str]) -> RouteTable {
    let mut table = RouteTable::default();
    for (index, domain) in domains.iter().enumerate() {
        let routes = vec![(Matcher::default(), RouteId(index as u32))];
        table
            .add_virtual_host((*domain).into(), vec![(*domain).into()], routes)
            .expect("domains differ");
    }
    table
}

fn host(table: &RouteTable, authority: &str) -> Option<String> {
    match table.find(&head("GET", authority, "/", &[])) {
        Lookup::Route(id, _) => table.virtual_host(id).map(|host| host.name.clone()),
        _ => None,
    }
}

#[test]
fn exact_before_longest_wildcard_before_any() {
    let table = table(&["a.foo.com", "*.foo.com", "*.b.foo.com", "*", "UPPER.com"]);
    for (authority, expected) in [
        ("a.foo.com", "a.foo.com"),
        ("A.Foo.com:8080", "a.foo.com"),
        ("x.foo.com", "*.foo.com"),
        ("x.y.foo.com", "*.foo.com"),
        ("x.b.foo.com", "*.b.foo.com"),
        ("b.foo.com", "*.foo.com"),
        ("foo.com", "*"),
        (".foo.com", "*"),
        ("", "*"),
        ("upper.com.", "UPPER.com"),
    ] {
        assert_eq!(host(&table, authority).as_deref(), Some(expected), "{authority}");
    }
    assert_eq!(host(&self::table(&["a.com"]), "b.com"), None);
}

#[test]
fn one_domain_one_virtual_host() {
    let mut table = table(&["a.com", "*.b.com"]);
    for domain in ["A.com", "*.B.com"] {
        let error =
            table.add_virtual_host("again".into(), vec![domain.into()], vec![]).expect_err("taken");
        assert!(matches!(error, BuildError::DuplicateDomain { domain: of, .. } if of == domain));
    }
}

fn single(matcher: Matcher) -> RouteTable {
    let mut table = RouteTable::default();
    table.add_virtual_host("v".into(), vec!["*".into()], vec![(matcher, RouteId(0))]).expect("one");
    table
}

fn applies(matcher: Matcher, head: &RequestHead<'_>) -> bool {
    matches!(single(matcher).find(head), Lookup::Route(..))
}

#[test]
fn conditions_of_one_match_are_all_of() {
    let matcher = Matcher {
        uri: Some(StringMatch::prefix("/api")),
        method: Some(StringMatch::exact("POST")),
        authority: Some(StringMatch::exact("a.com:80")),
        scheme: Some(StringMatch::exact("http")),
        ..Matcher::default()
    };
    assert!(applies(matcher.clone(), &head("POST", "a.com:80", "/apix", &[])));
    assert!(!applies(matcher.clone(), &head("post", "a.com:80", "/api", &[])));
    assert!(!applies(matcher.clone(), &head("POST", "a.com", "/api", &[])));
    assert!(!applies(matcher, &head("POST", "a.com:80", "/ap", &[])));
}

#[test]
fn headers_by_presence_value_and_joined() {
    let fields = [field("X-A", "1"), field("x-a", "2"), field("X-B", "")];
    let head = head("GET", "a", "/p?q=1", &fields);
    let with = |name, value| Matcher {
        headers: vec![HeaderMatch::new(name, value)],
        ..Matcher::default()
    };
    assert!(applies(with("x-a", Some(StringMatch::exact("1,2"))), &head));
    assert!(!applies(with("x-a", Some(StringMatch::exact("1"))), &head));
    assert!(applies(with("X-B", None), &head));
    assert!(!applies(with("x-c", None), &head));
    assert!(!applies(with("x-c", Some(StringMatch::regex(".*").expect("valid"))), &head));
    assert!(applies(with(":method", Some(StringMatch::exact("GET"))), &head));
    assert!(applies(with(":path", Some(StringMatch::exact("/p?q=1"))), &head));
}

#[test]
fn without_headers_treats_missing_as_empty() {
    let fields = [field("x-a", "v"), field("x-e", "")];
    let head = head("GET", "a", "/", &fields);
    let without = |name, value| Matcher {
        without_headers: vec![HeaderMatch::new(name, value)],
        ..Matcher::default()
    };
    let any = || Some(StringMatch::regex(".*").expect("valid"));
    assert!(!applies(without("x-a", None), &head));
    assert!(applies(without("x-b", None), &head));
    assert!(!applies(without("x-b", any()), &head), "missing counts as empty");
    assert!(applies(without("x-b", Some(StringMatch::exact("v"))), &head));
    assert!(!applies(without("x-a", Some(StringMatch::exact("v"))), &head));
}

#[test]
fn query_parameters_by_their_first_value() {
    let with =
        |name, value| Matcher { query: vec![QueryMatch::new(name, value)], ..Matcher::default() };
    let applies = |matcher, target| self::applies(matcher, &head("GET", "a", target, &[]));
    assert!(applies(with("k", Some(StringMatch::exact("1"))), "/?k=1&k=2"));
    assert!(!applies(with("k", Some(StringMatch::exact("2"))), "/?k=1&k=2"));
    assert!(applies(with("k", Some(StringMatch::exact(""))), "/?k"));
    assert!(applies(with("k", Some(StringMatch::exact(""))), "/?k="));
    assert!(applies(with("k", None), "/?a=b&k=x"));
    assert!(!applies(with("k", None), "/"));
    assert!(applies(with("k", Some(StringMatch::exact("a%20b"))), "/?k=a%20b"));
}

#[test]
fn catch_alls_are_recognised() {
    let regex = |text| StringMatch::regex(text).expect("valid");
    for matcher in [
        Matcher::default(),
        uri(StringMatch::prefix("/")),
        uri(StringMatch::prefix("")),
        uri(regex(".*")),
    ] {
        assert!(matcher.is_catch_all());
    }
    let with_method =
        Matcher { method: Some(StringMatch::exact("GET")), ..uri(StringMatch::prefix("/")) };
    for matcher in [uri(StringMatch::prefix("/a")), uri(StringMatch::exact("/")), with_method] {
        assert!(!matcher.is_catch_all());
    }
}

/// A matcher over a small alphabet, so that prefixes nest and paths collide.
fn any_matcher() -> impl Strategy<Value = Matcher> {
    let path = "/[ab]{0,3}(/[ab]{0,2})?";
    let uri = prop_oneof![
        Just(None),
        path.prop_map(|text| Some(StringMatch::exact(&text))),
        path.prop_map(|text| Some(StringMatch::prefix(&text))),
        Just(Some(StringMatch::prefix(""))),
        "/[ab]{1,2}(\\.\\*)?".prop_map(|text| StringMatch::regex(&text).ok()),
    ];
    let method = prop_oneof![
        3 => Just(None),
        1 => Just(Some(StringMatch::exact("GET"))),
        1 => Just(Some(StringMatch::exact("PUT"))),
    ];
    let header = prop_oneof![4 => Just(false), 1 => Just(true)];
    (uri, any::<bool>(), method, header).prop_map(|(uri, ignore_uri_case, method, header)| {
        let headers = if header { vec![HeaderMatch::new("x-a", None)] } else { Vec::new() };
        Matcher { uri, ignore_uri_case, method, headers, ..Matcher::default() }
    })
}

proptest! {
    #[test]
    fn the_first_route_in_order_wins(
        matchers in proptest::collection::vec(any_matcher(), 0..24),
        paths in proptest::collection::vec("/[abAB]{0,3}(/[ab]{0,3})?", 1..16),
        with_header in any::<bool>(),
        put in any::<bool>(),
    ) {
        let mut table = RouteTable::default();
        let routes = matchers
            .iter()
            .enumerate()
            .map(|(index, matcher)| (matcher.clone(), RouteId(index as u32)))
            .collect();
        let id = table.add_virtual_host("v".into(), vec!["*".into()], routes).expect("one");
        let fields = [field("X-A", "1")];
        let fields = if with_header { &fields[..] } else { &[] };
        for path in &paths {
            let head = head(if put { "PUT" } else { "GET" }, "any", path, fields);
            let naive = matchers
                .iter()
                .position(|matcher| matcher.applies(&head))
                .map_or(Lookup::NoRoute(id), |at| Lookup::Route(id, RouteId(at as u32)));
            prop_assert_eq!(table.find(&head), naive, "{}", path);
        }
    }
}
