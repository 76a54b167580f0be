//! Host and route lookup: `cargo bench --bench routing`. What matters is that the figures hardly grow
//! from 1 to 10,000 hosts or routes; what is left is the price of colder memory.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringress::http::{RequestHead, Scheme, Version};
use ringress::ids::RouteId;
use ringress::router::{HeaderMatch, Lookup, Matcher, RouteTable, StringMatch};

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

criterion_group!(benches, hosts, routes, conditions);
criterion_main!(benches);
