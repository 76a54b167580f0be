//! Host and route lookup: `cargo bench --bench routing`. What matters is that the figures hardly grow
//! from 1 to 10,000 hosts or routes; what is left is the price of colder memory.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringress::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use ringress::ids::RouteId;
use ringress::router::{HeaderMatch, Lookup, Matcher, QueryMatch, RouteTable, StringMatch};

/// Requests that a benchmark cycles through, spread over the whole table.
const REQUESTS: usize = 4096;

fn exact(path: String) -> Matcher {
    Matcher { uri: Some(StringMatch::exact(path)), ..Matcher::default() }
}

fn prefix(path: impl AsRef<[u8]>) -> Matcher {
    Matcher { uri: Some(StringMatch::prefix(path)), ..Matcher::default() }
}

/// `count` virtual hosts, one in ten a wildcard, each with an API prefix and the rest.
fn table_of_hosts(count: usize) -> RouteTable {
    let mut table = RouteTable::default();
    for n in 0..count {
        let domain = if n % 10 == 9 { format!("*.w{n}.example.com") } else { host(n) };
        let id = |k| RouteId((2 * n + k) as u32);
        let routes = vec![(prefix("/api/"), id(0)), (prefix("/"), id(1))];
        table.add_virtual_host(domain.clone(), vec![domain], routes).expect("distinct domains");
    }
    table
}

fn host(n: usize) -> String {
    if n % 10 == 9 { format!("a.w{n}.example.com") } else { format!("service-{n}.example.com") }
}

/// One virtual host of `count` routes: exact and prefix in turn.
fn table_of_routes(count: usize) -> RouteTable {
    let routes = (0..count)
        .map(|n| {
            let matcher =
                if n.is_multiple_of(2) { exact(path(n)) } else { prefix(format!("/svc/{n}/")) };
            (matcher, RouteId(n as u32))
        })
        .collect();
    one_host(routes)
}

fn path(n: usize) -> String {
    if n.is_multiple_of(2) { format!("/svc/{n}/status") } else { format!("/svc/{n}/items/42") }
}

fn one_host(routes: Vec<(Matcher, RouteId)>) -> RouteTable {
    let mut table = RouteTable::default();
    let domains = vec!["service-0.example.com".to_owned()];
    table.add_virtual_host("one".to_owned(), domains, routes).expect("one domain");
    table
}

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

/// Numbers below `count`, without a pattern that a prefetcher would see.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(move || random.usize(..count)).take(REQUESTS)
}

fn run(c: &mut Criterion, group: &str, id: BenchmarkId, table: &RouteTable, heads: &[RequestHead]) {
    for head in heads {
        assert!(matches!(table.find(head), Lookup::Route(..)), "every request has a route");
    }
    measure(c, group, id, table, heads);
}

/// Find the route of each request in turn, if it has one.
fn measure(
    c: &mut Criterion,
    group: &str,
    id: BenchmarkId,
    table: &RouteTable,
    heads: &[RequestHead],
) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(1));
    let mut next = 0;
    group.bench_function(id, |b| {
        b.iter(|| {
            next = (next + 1) % heads.len();
            table.find(black_box(&heads[next]))
        });
    });
    group.finish();
}

fn hosts(c: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let table = table_of_hosts(count);
        let names: Vec<String> = spread(count).map(host).collect();
        let heads: Vec<RequestHead> = names.iter().map(|name| head(name, "/index.html")).collect();
        run(c, "hosts", BenchmarkId::from_parameter(count), &table, &heads);
    }
}

fn routes(c: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let table = table_of_routes(count);
        let paths: Vec<String> = spread(count).map(path).collect();
        let heads: Vec<RequestHead> =
            paths.iter().map(|path| head("service-0.example.com", path)).collect();
        run(c, "routes", BenchmarkId::from_parameter(count), &table, &heads);
    }
}

/// A canary: a header condition that does not hold, then the same path without condition; and a
/// regex before the rest.
fn conditions(c: &mut Criterion) {
    let canary = Matcher {
        headers: vec![HeaderMatch::new("x-canary", Some(StringMatch::exact("1")))],
        ..prefix("/")
    };
    let regex = StringMatch::regex("/users/[0-9]+/.*").expect("a valid regex");
    let regex = Matcher { uri: Some(regex), ..Matcher::default() };
    for (name, first) in [("header", canary), ("regex", regex)] {
        let table = one_host(vec![(first, RouteId(0)), (prefix("/"), RouteId(1))]);
        let heads = [head("service-0.example.com", "/items/42")];
        run(c, "conditions", BenchmarkId::from_parameter(name), &table, &heads);
    }
}

const MIXED: usize = 1_000;
const REGEXES: usize = 100;

/// One host with 1,000 exact, 1,000 prefix and 100 regex routes, each of these after those before it,
/// or the regexes first. What is asked for: the first and the last of a kind, something far below a
/// prefix, nothing at all. Regexes that stand before the route that is found must all be tried.
fn mixed(c: &mut Criterion) {
    let exact = (0..MIXED).map(|n| exact(format!("/exact/{n}/page.html")));
    let prefix = (0..MIXED).map(|n| prefix(format!("/prefix/{n}/")));
    let regex = (0..REGEXES).map(|n| {
        let regex = StringMatch::regex(&format!("/regex/{n}/[0-9]+/items(/.*)?"));
        Matcher { uri: Some(regex.expect("a valid regex")), ..Matcher::default() }
    });
    let number = |matchers: Vec<Matcher>| {
        let ids = (0..).map(RouteId);
        one_host(matchers.into_iter().zip(ids).collect())
    };
    let last = number(exact.clone().chain(prefix.clone()).chain(regex.clone()).collect());
    let first = number(regex.chain(exact).chain(prefix).collect());
    for (group, table) in [("mixed", last), ("mixed, regexes first", first)] {
        for (name, path) in [
            ("first exact", "/exact/0/page.html"),
            ("last exact", "/exact/999/page.html"),
            ("first prefix", "/prefix/0/x"),
            ("deep below a prefix", "/prefix/500/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/index.html"),
            ("first regex", "/regex/0/42/items"),
            ("last regex", "/regex/99/42/items/a"),
            ("miss", "/nothing/here"),
        ] {
            let heads = [head("service-0.example.com", path)];
            let found = matches!(table.find(&heads[0]), Lookup::Route(..));
            assert_eq!(found, name != "miss", "{group} {name}");
            measure(c, group, BenchmarkId::from_parameter(name), &table, &heads);
        }
    }
}

/// A request with ten fields and ten parameters against a route with ten conditions on either, and
/// against a hundred routes of one path that differ in one condition.
fn fields_and_parameters(c: &mut Criterion) {
    let names: Vec<String> = (0..10).map(|n| format!("x-field-{n}")).collect();
    let values: Vec<String> = (0..10).map(|n| format!("value-{n}")).collect();
    let fields: Vec<HeaderField> = names
        .iter()
        .zip(&values)
        .map(|(name, value)| HeaderField {
            name: name.as_bytes(),
            value: value.as_bytes(),
            known: KnownHeader::from_name(name.as_bytes()),
        })
        .collect();
    let pairs = names.iter().zip(&values);
    let query: Vec<String> = pairs.clone().map(|(name, value)| format!("{name}={value}")).collect();
    let query = query.join("&");
    let asked = RequestHead {
        query: Some(query.as_bytes()),
        headers: &fields,
        ..head("service-0.example.com", "/items/42")
    };
    let wanted = |value: &str| Some(StringMatch::exact(value));
    let on_fields: Vec<HeaderMatch> =
        pairs.clone().map(|(name, value)| HeaderMatch::new(name, wanted(value))).collect();
    let on_query: Vec<QueryMatch> =
        pairs.map(|(name, value)| QueryMatch::new(name, wanted(value))).collect();
    let ten_fields = Matcher { headers: on_fields, ..prefix("/items") };
    let ten_parameters = Matcher { query: on_query, ..prefix("/items") };
    let canaries = |n: usize| Matcher {
        headers: vec![HeaderMatch::new("x-field-9", wanted(&format!("value-{}", 108 - n)))],
        ..prefix("/items")
    };
    let route = |matcher: Matcher| one_host(vec![(matcher, RouteId(0))]);
    let hundred = (0..100).map(|n| (canaries(n), RouteId(n as u32))).collect();
    for (name, table) in [
        ("ten fields", route(ten_fields)),
        ("ten parameters", route(ten_parameters)),
        ("one field of 100 routes", one_host(hundred)),
    ] {
        let id = BenchmarkId::from_parameter(name);
        run(c, "fields and parameters", id, &table, std::slice::from_ref(&asked));
    }
}

criterion_group!(benches, hosts, routes, conditions, mixed, fields_and_parameters);
criterion_main!(benches);
