use super::*;
use crate::http::{HeaderField, KnownHeader, Scheme, Version};
use crate::router::{HeaderMatch, Matcher};
use proptest::prelude::*;

fn head<'b>(path: &'b [u8], headers: &'b [HeaderField<'b>]) -> RequestHead<'b> {
    RequestHead {
        method: b"GET",
        path,
        query: None,
        authority: b"a.com",
        scheme: Scheme::Http,
        version: Version::Http11,
        headers,
    }
}

fn uri(uri: StringMatch) -> Matcher {
    Matcher { uri: Some(uri), ..Matcher::default() }
}

fn prefix(text: &str) -> Matcher {
    uri(StringMatch::prefix(text))
}

fn exact(text: &str) -> Matcher {
    uri(StringMatch::exact(text))
}

fn regex(pattern: &str) -> Matcher {
    uri(StringMatch::regex(pattern).unwrap())
}

/// The matcher, but only with header `name`.
fn only_with(name: &str, matcher: Matcher) -> Matcher {
    Matcher { headers: vec![HeaderMatch::new(name, None)], ..matcher }
}

/// An index and the virtual host that it is of.
struct Indexed {
    index: PathIndex,
    host: VirtualHost,
}

impl Indexed {
    fn find(&self, head: &RequestHead<'_>) -> Option<RouteId> {
        self.index.find(head, &self.host)
    }
}

fn index(matchers: Vec<Matcher>) -> Indexed {
    let routes: Vec<RouteEntry> = matchers
        .into_iter()
        .zip((0..).map(RouteId))
        .map(|(matcher, route)| RouteEntry { matcher, route })
        .collect();
    let index = PathIndex::new(&routes);
    let unrouted = crate::ids::HistogramSlot::UNROUTED;
    let host = VirtualHost { name: String::new(), domains: Vec::new(), routes, unrouted };
    Indexed { index, host }
}

fn find(index: &Indexed, path: &str) -> Option<u32> {
    index.find(&head(path.as_bytes(), &[])).map(|route| route.0)
}

#[test]
fn no_routes_match_nothing() {
    assert_eq!(find(&index(vec![]), "/"), None);
    assert_eq!(find(&index(Vec::new()), "/x"), None);
}

#[test]
fn order_decides_not_length() {
    let older_first = index(vec![prefix("/a"), prefix("/a/b"), exact("/a/b")]);
    for path in ["/a", "/a/b", "/a/b/c", "/ab"] {
        assert_eq!(find(&older_first, path), Some(0), "{path}");
    }
    let longer_first =
        index(vec![prefix("/a/b"), exact("/a"), prefix("/a"), regex("/.*"), prefix("")]);
    for (path, expected) in
        [("/a/b", 0), ("/a/bc", 0), ("/a", 1), ("/a/", 2), ("/x", 3), ("*", 4), ("", 4)]
    {
        assert_eq!(find(&longer_first, path), Some(expected), "{path}");
    }
}

#[test]
fn a_route_for_every_path_ends_the_search() {
    assert_eq!(find(&index(vec![Matcher::default(), exact("/a")]), "/a"), Some(0));
    assert_eq!(find(&index(vec![prefix("/"), exact("/a")]), "/a"), Some(0));
    let slash = index(vec![prefix("/"), Matcher::default()]);
    assert_eq!(find(&slash, "*"), Some(1));
    let conditional = index(vec![only_with("x", prefix("/")), exact("/a")]);
    assert_eq!(find(&conditional, "/a"), Some(1));
    assert_eq!(find(&conditional, "/b"), None);
}

#[test]
fn a_failed_condition_goes_on_to_the_next_route() {
    let table = index(vec![
        only_with("x", exact("/a")),
        regex("/a.+"),
        only_with("y", prefix("/a")),
        exact("/a"),
        only_with("z", Matcher::default()),
        prefix("/"),
    ]);
    let with = |name: &'static str, path: &'static str| {
        let name = name.as_bytes();
        let fields = [HeaderField { name, value: b"", known: KnownHeader::Other }];
        table.find(&head(path.as_bytes(), &fields)).map(|route| route.0)
    };
    assert_eq!(with("x", "/a"), Some(0));
    assert_eq!(with("y", "/ab"), Some(1));
    assert_eq!(with("y", "/a"), Some(2));
    assert_eq!(with("w", "/a"), Some(3));
    assert_eq!(with("z", "/b"), Some(4));
    assert_eq!(with("w", "/b"), Some(5));
    assert_eq!(with("w", "*"), None);
}

#[test]
fn case_is_ignored_only_where_asked() {
    let loose = |matcher| Matcher { ignore_uri_case: true, ..matcher };
    let table = index(vec![loose(exact("/A")), exact("/b"), loose(prefix("/C/"))]);
    for (path, expected) in
        [("/a", Some(0)), ("/A", Some(0)), ("/b", Some(1)), ("/B", None), ("/c/x", Some(2))]
    {
        assert_eq!(find(&table, path), expected, "{path}");
    }
}

/// Nested prefixes `/`, `/a`, `/aa`, …: all conditional, deepest last.
#[test]
fn nested_conditional_prefixes_stay_small_and_right() {
    const DEPTH: usize = 400;
    let path = |depth: usize| format!("/{}", "a".repeat(depth));
    let matchers: Vec<Matcher> =
        (0..DEPTH).map(|depth| only_with(&format!("x{depth}"), prefix(&path(depth)))).collect();
    let table = index(matchers);
    assert!(table.index.lists.candidates.len() <= DEPTH * (MERGED_MAX + 1));
    let deepest = path(DEPTH);
    for depth in 0..DEPTH {
        let name = format!("x{depth}");
        let fields = [HeaderField { name: name.as_bytes(), value: b"", known: KnownHeader::Other }];
        let found = table.find(&head(deepest.as_bytes(), &fields));
        assert_eq!(found, Some(RouteId(depth as u32)));
    }
    assert_eq!(find(&table, &deepest), None);
}

/// Unconditional nested prefixes keep one candidate each: the first in order.
#[test]
fn lists_end_at_the_first_unconditional_candidate() {
    let path = |depth: usize| format!("/{}", "a".repeat(depth));
    let table = index((0..300).map(|depth| prefix(&path(depth + 1))).collect());
    assert_eq!(table.index.lists.candidates.len(), 300);
    assert_eq!(find(&table, &path(300)), Some(0));
    // Deepest first: each list holds its own route alone.
    let table = index((0..300).rev().map(|depth| prefix(&path(depth + 1))).collect());
    assert_eq!(table.index.lists.candidates.len(), 300);
    assert!(table.index.lists.spans.iter().all(|span| span.link == NONE));
    assert_eq!(find(&table, &path(1)), Some(299));
}

#[test]
fn many_distinct_paths() {
    let matchers = (0..5000)
        .map(|n| if n % 2 == 0 { exact(&format!("/e/{n}")) } else { prefix(&format!("/p/{n}/")) })
        .collect();
    let table = index(matchers);
    for n in 0..5000u32 {
        let path = if n % 2 == 0 { format!("/e/{n}") } else { format!("/p/{n}/x") };
        assert_eq!(find(&table, &path), Some(n), "{path}");
    }
    for path in ["/e/1", "/e/0/", "/p/2/", "/p/1", "/", "/e", ""] {
        assert_eq!(find(&table, path), None, "{path}");
    }
}

/// Paths over a tiny alphabet, so that they nest and collide.
fn text() -> impl Strategy<Value = String> {
    "(/[abA]{0,2}){0,3}"
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let uri = prop_oneof![
        1 => Just(None),
        4 => text().prop_map(|text| Some(StringMatch::exact(text))),
        6 => text().prop_map(|text| Some(StringMatch::prefix(text))),
        1 => text().prop_map(|text| {
            Some(StringMatch::regex(&format!("{text}[/ab]*")).unwrap())
        }),
    ];
    let headers = prop::collection::vec("[xyz]", 0..3);
    (uri, prop::bool::weighted(0.15), headers).prop_map(|(uri, ignore_uri_case, names)| Matcher {
        uri,
        ignore_uri_case,
        headers: names.iter().map(|name| HeaderMatch::new(name, None)).collect(),
        ..Matcher::default()
    })
}

/// More often conditional, on few nested prefixes: long lists and links.
fn nested_matcher() -> impl Strategy<Value = Matcher> {
    ("a{0,12}", "[xyz]", prop::bool::weighted(0.02)).prop_map(|(text, name, unconditional)| {
        let matcher = prefix(&format!("/{text}"));
        if unconditional { matcher } else { only_with(&name, matcher) }
    })
}

fn agrees(matchers: &[Matcher], paths: &[String], names: &[String]) -> Result<(), TestCaseError> {
    let table = index(matchers.to_vec());
    let fields: Vec<HeaderField<'_>> = names
        .iter()
        .map(|name| HeaderField { name: name.as_bytes(), value: b"", known: KnownHeader::Other })
        .collect();
    for path in paths {
        let head = head(path.as_bytes(), &fields);
        let expected = matchers.iter().position(|matcher| matcher.applies(&head));
        let found = table.find(&head).map(RouteId::index);
        prop_assert_eq!(found, expected, "{} {:?}", path, names);
    }
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_a_scan_in_order(
        matchers in prop::collection::vec(matcher(), 0..24),
        paths in prop::collection::vec(text(), 1..24),
        names in prop::collection::vec("[xyz]", 0..3),
    ) {
        agrees(&matchers, &paths, &names)?;
    }

    #[test]
    fn agrees_on_nested_prefixes(
        matchers in prop::collection::vec(nested_matcher(), 0..120),
        names in prop::collection::vec("[wxyz]", 0..2),
    ) {
        let paths: Vec<String> = (0..14).map(|depth| format!("/{}", "a".repeat(depth))).collect();
        agrees(&matchers, &paths, &names)?;
        let bound = matchers.len() + MERGED_MAX * matchers.len();
        prop_assert!(index(matchers).index.lists.candidates.len() <= bound);
    }

    #[test]
    fn the_trie_finds_the_longest_prefix(
        texts in prop::collection::btree_set("[ab/é]{1,6}", 0..20),
        paths in prop::collection::vec("[ab/é]{0,8}", 1..20),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        // Unconditional with longer texts first, so that the head of the list tells the longest.
        let mut places: Vec<usize> = (0..texts.len()).collect();
        places.sort_by_key(|at| std::cmp::Reverse(texts[*at].len()));
        let entries = texts
            .iter()
            .enumerate()
            .map(|(at, text)| {
                let place = places.iter().position(|p| *p == at).unwrap();
                let place = place as u32;
                (text.as_bytes(), Candidate { place, unconditional: true, route: RouteId(place) })
            })
            .collect();
        let mut lists = Lists::default();
        let trie = Trie::new(by_text(entries), &mut lists);
        for path in paths {
            let found = lists.cursor(trie.find(path.as_bytes())).peek().map(|c| texts[places[c.route.index()]]);
            let expected = texts
                .iter()
                .copied()
                .filter(|text| path.as_bytes().starts_with(text.as_bytes()))
                .max_by_key(|text| text.len());
            prop_assert_eq!(found, expected, "{}", path);
        }
    }
}
