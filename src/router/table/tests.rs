use super::*;
use crate::http::{Scheme, Version};
use crate::router::StringMatch;
use crate::router::matcher::Mismatch;
use proptest::prelude::*;

fn head<'b>(authority: &'b str, path: &'b str) -> RequestHead<'b> {
    RequestHead {
        method: b"GET",
        path: path.as_bytes(),
        query: None,
        authority: authority.as_bytes(),
        scheme: Scheme::Http,
        version: Version::Http11,
        headers: &[],
    }
}

fn domains(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn prefix(text: &str) -> Matcher {
    Matcher { uri: Some(StringMatch::prefix(text)), ..Matcher::default() }
}

fn table() -> RouteTable {
    let mut table = RouteTable::default();
    let routes = vec![(prefix("/api"), RouteId(7)), (prefix("/"), RouteId(8))];
    table.add_virtual_host("hello:80".into(), domains(&["Hello.com", "[::1]"]), routes).unwrap();
    let routes = vec![(prefix("/api"), RouteId(9))];
    table.add_virtual_host("wild:80".into(), domains(&["*.hello.com"]), routes).unwrap();
    table
}

#[test]
fn host_then_route() {
    let table = table();
    let (hello, wild) = (VirtualHostId(0), VirtualHostId(1));
    for (authority, path, expected) in [
        ("hello.com", "/api/x", Lookup::Route(hello, RouteId(7))),
        ("hello.com", "/x", Lookup::Route(hello, RouteId(8))),
        ("HELLO.com.:8080", "/api", Lookup::Route(hello, RouteId(7))),
        ("[::1]:80", "/", Lookup::Route(hello, RouteId(8))),
        ("a.hello.com:1", "/api", Lookup::Route(wild, RouteId(9))),
        // The wildcard's routes are not tried for a host that has its own, nor the other way round.
        ("a.hello.com", "/x", Lookup::NoRoute(wild)),
        ("hello.org", "/api", Lookup::NoVirtualHost),
        ("", "/api", Lookup::NoVirtualHost),
    ] {
        assert_eq!(table.find(&head(authority, path)), expected, "{authority} {path}");
    }
    assert_eq!(RouteTable::default().find(&head("a", "/")), Lookup::NoVirtualHost);
}

#[test]
fn a_host_that_is_too_long_is_served_by_any_only() {
    let mut table = RouteTable::default();
    let routes = vec![(Matcher::default(), RouteId(0))];
    table.add_virtual_host("any".into(), domains(&["*"]), routes).unwrap();
    let longest = "A".repeat(HOST_BYTES_MAX);
    assert_eq!(table.find(&head(&longest, "/")), Lookup::Route(VirtualHostId(0), RouteId(0)));
    assert_eq!(table.find(&head(&format!("{longest}a"), "/")), table.find(&head("a", "/")));
    assert_eq!(
        self::table().find(&head(&format!("{longest}.hello.com"), "/")),
        Lookup::NoVirtualHost
    );
    assert_eq!(table.find(&head(&format!("{longest}:80"), "/")), table.find(&head("a", "/")));
}

/// A first route for everything is answered from the host alone; for `OPTIONS *` only by a route that
/// takes more than prefix `/`.
#[test]
fn a_catch_all_that_comes_first_hides_the_others() {
    let mut table = RouteTable::default();
    let one = |first: Matcher| vec![(first, RouteId(1)), (prefix("/a"), RouteId(2))];
    table.add_virtual_host("slash".into(), domains(&["slash"]), one(prefix("/"))).unwrap();
    table.add_virtual_host("all".into(), domains(&["all"]), one(Matcher::default())).unwrap();
    let limited = Matcher { method: Some(StringMatch::exact("PUT")), ..prefix("/") };
    table.add_virtual_host("put".into(), domains(&["put"]), one(limited)).unwrap();
    for (host, path, expected) in [
        ("slash", "/a", Some(1)),
        ("slash", "*", None),
        ("all", "/a", Some(1)),
        ("all", "*", Some(1)),
        ("put", "/a", Some(2)),
        ("put", "/b", None),
    ] {
        let found = match table.find(&head(host, path)) {
            Lookup::Route(_, route) => Some(route.0),
            _ => None,
        };
        assert_eq!(found, expected, "{host} {path}");
    }
}

#[test]
fn virtual_hosts_keep_their_names() {
    let table = table();
    let hello = table.virtual_host(VirtualHostId(0)).unwrap();
    assert_eq!(
        (hello.name.as_str(), &hello.domains),
        ("hello:80", &domains(&["Hello.com", "[::1]"]))
    );
    assert_eq!(table.virtual_hosts().len(), 2);
    assert!(table.virtual_host(VirtualHostId(2)).is_none());
    assert_eq!(hello.routes.iter().map(|entry| entry.route.0).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn a_refused_virtual_host_leaves_nothing() {
    let mut table = RouteTable::default();
    let route = || vec![(Matcher::default(), RouteId(0))];
    table.add_virtual_host("one".into(), domains(&["a.com"]), route()).unwrap();
    let error = table
        .add_virtual_host("two".into(), domains(&["b.com", "*.b.com", "*", "A.com"]), route())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "domain `A.com` of virtual host `two` is already served by `one`"
    );
    let error =
        table.add_virtual_host("three".into(), domains(&["c.com", "C.com."]), route()).unwrap_err();
    assert!(matches!(error, BuildError::DuplicateDomain { by, .. } if by == "three"));
    let error = table.add_virtual_host("four".into(), domains(&["d.*"]), route()).unwrap_err();
    assert!(matches!(error, BuildError::MalformedDomain { .. }));
    let added = table.add_virtual_host("five".into(), domains(&["b.com"]), route());
    assert_eq!(added, Ok(VirtualHostId(1)));
    for host in ["x.b.com", "c.com", "d.com"] {
        assert_eq!(table.find(&head(host, "/")), Lookup::NoVirtualHost, "{host}");
    }
    assert_eq!(table.find(&head("b.com", "/")), Lookup::Route(VirtualHostId(1), RouteId(0)));
}

#[test]
fn an_explanation_names_what_did_not_match() {
    let mut table = RouteTable::default();
    let post = Matcher { method: Some(StringMatch::exact("POST")), ..prefix("/a") };
    let routes = vec![
        (prefix("/b"), RouteId(3)),
        (post, RouteId(4)),
        (prefix("/a"), RouteId(5)),
        (Matcher::default(), RouteId(6)),
    ];
    table.add_virtual_host("one".into(), domains(&["a.com"]), routes).unwrap();
    let explained = table.find_explained(&head("a.com", "/a"));
    assert_eq!(explained.virtual_host, Some(VirtualHostId(0)));
    let outcomes: Vec<_> = explained.routes.iter().map(|r| (r.route.0, r.mismatch)).collect();
    assert_eq!(outcomes, [(3, Some(Mismatch::Uri)), (4, Some(Mismatch::Method)), (5, None)]);
    let unknown = table.find_explained(&head("b.com", "/a"));
    assert_eq!((unknown.virtual_host, unknown.routes.len()), (None, 0));
}

proptest! {
    #[test]
    fn find_and_its_explanation_agree(
        hosts in prop::collection::vec((r"(\*\.)?[ab](\.[ab])?|\*", prop::collection::vec("(/[ab]?){0,2}", 0..4)), 0..6),
        authority in "[abAB.]{0,5}(:[0-9]{1,3})?",
        path in "(/[ab]?){1,3}",
    ) {
        let mut table = RouteTable::default();
        for (at, (domain, paths)) in hosts.into_iter().enumerate() {
            let routes = paths.iter().enumerate().map(|(n, path)| (prefix(path), RouteId((at * 10 + n) as u32)));
            // A domain may come twice: the second is refused, and all else stays as it was.
            let _ = table.add_virtual_host(domain.clone(), vec![domain], routes.collect());
        }
        let head = head(&authority, &path);
        let explained = table.find_explained(&head);
        let matched = explained.routes.last().filter(|last| last.mismatch.is_none());
        let expected = match (explained.virtual_host, matched) {
            (None, _) => Lookup::NoVirtualHost,
            (Some(host), None) => Lookup::NoRoute(host),
            (Some(host), Some(outcome)) => Lookup::Route(host, outcome.route),
        };
        prop_assert_eq!(table.find(&head), expected);
    }
}
