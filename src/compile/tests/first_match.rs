//! Whole route tables, compiled from random Gateways and VirtualServices, against the rules read
//! literally (`rules`): the same route for every request.

use std::cell::Cell;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};

use super::rules::{self, Answer, Asked, Ours};
use super::*;
use crate::config::gateway::{Gateway, Port, Server};
use crate::config::virtual_service::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};
use crate::config::{Object, Resource};
use crate::http::{HeaderField, KnownHeader, RequestHead, Scheme, Version};
use crate::router::Lookup;

/// How many tables are compared; each is asked several requests.
const TABLES: u32 = 1000;

/// Numbers 80 and 81 are one port, as when two ports of a Service have one target.
fn listens_on(number: u32) -> u16 {
    if number == 82 { 82 } else { 8080 }
}

fn texts(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(all).prop_map(str::to_owned)
}

/// Paths over a few letters, so that they meet and nest.
const PATHS: &[&str] =
    &["/", "/a", "/b", "/a/", "/a/a", "/a/b", "/a/ab", "/a/b/a", "/A", "/A/b", "/b/a", "/ab", ""];

fn uri() -> impl Strategy<Value = Option<StringMatch>> {
    let path = || texts(PATHS);
    prop_oneof![
        3 => Just(None),
        6 => path().prop_map(|text| Some(StringMatch::Exact(text))),
        6 => path().prop_map(|text| Some(StringMatch::Prefix(text))),
        3 => texts(&[".*", "/.*", "/a/[ab]+", "(/[ab])*"])
            .prop_map(|text| Some(StringMatch::Regex(text))),
        1 => Just(Some(StringMatch::Empty)),
    ]
}

fn one_of(
    exact: &'static [&'static str],
    prefix: &'static [&'static str],
    regex: &'static [&'static str],
) -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        2 => texts(exact).prop_map(StringMatch::Exact),
        1 => texts(prefix).prop_map(StringMatch::Prefix),
        1 => texts(regex).prop_map(StringMatch::Regex),
    ]
}

/// Set once in `n` times.
fn rarely<T: std::fmt::Debug + Clone>(
    n: u32,
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![n - 1 => Just(None), 1 => value.prop_map(Some)]
}

/// Conditions on fields or parameters; both spellings of a name occur.
fn values(
    names: &'static [&'static str],
    at_most: usize,
) -> impl Strategy<Value = BTreeMap<String, Option<StringMatch>>> {
    let value = prop_oneof![
        1 => Just(None),
        1 => Just(Some(StringMatch::Empty)),
        1 => Just(Some(StringMatch::Regex("*".to_owned()))),
        5 => one_of(&["1", "2", "1,2", ""], &["1", "2"], &["[12]", "1.*", ".*"]).prop_map(Some),
    ];
    btree_map(texts(names), value, 0..=at_most)
}

fn condition() -> impl Strategy<Value = HttpMatchRequest> {
    const FIELDS: &[&str] = &["x-a", "X-A", "x-b", "cookie", ":method", "host", ":path"];
    let line = (
        uri(),
        prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)],
        rarely(8, one_of(&["http", "https", "HTTP"], &["http"], &["https?"])),
        rarely(5, one_of(&["GET", "PUT", "get"], &["P"], &["GET|PUT"])),
        rarely(8, one_of(&["a.foo.com", "a.foo.com:80"], &["a."], &[".*:80"])),
    );
    let maps = prop_oneof![
        3 => Just(Default::default()),
        1 => (values(FIELDS, 2), Just(BTreeMap::new()), Just(BTreeMap::new())),
        1 => (Just(BTreeMap::new()), values(FIELDS, 1), Just(BTreeMap::new())),
        1 => (Just(BTreeMap::new()), Just(BTreeMap::new()), values(&["q", "Q", "r"], 2)),
        1 => (values(FIELDS, 1), values(FIELDS, 1), values(&["q"], 1)),
    ];
    let fixed = (
        rarely(8, select(&[80u32, 81, 82][..])),
        rarely(10, subsequence(vec!["g1", "default/g1", "infra/g2", "./g2"], 1..3)),
        rarely(10, texts(&["ingressgateway", "other"])),
        rarely(10, texts(&["istio-system", "default"])),
    );
    (line, maps, fixed).prop_map(|(line, maps, fixed)| {
        let (uri, ignore_uri_case, scheme, method, authority) = line;
        let (headers, without_headers, query_params) = maps;
        let (port, gateways, label, source_namespace) = fixed;
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        HttpMatchRequest {
            uri,
            ignore_uri_case,
            scheme,
            method,
            authority,
            headers,
            without_headers,
            query_params,
            port,
            gateways: gateways.map(owned).unwrap_or_default(),
            source_labels: label.map(|label| ("istio".to_owned(), label)).into_iter().collect(),
            source_namespace,
            ..HttpMatchRequest::default()
        }
    })
}

/// What distinguishes an object besides its spec.
#[derive(Clone, Debug)]
struct Meta {
    namespace: &'static str,
    /// What its name begins with: not in the order in which objects are made.
    rank: u8,
    created: Option<&'static str>,
}

fn meta() -> impl Strategy<Value = Meta> {
    let created =
        select(&[None, None, Some("2020-01-01T00:00:00Z"), Some("2021-01-01T00:00:00Z")][..]);
    let namespace = select(&["default", "default", "infra", "istio-system"][..]);
    (namespace, 0..4u8, created).prop_map(|(namespace, rank, created)| Meta {
        namespace,
        rank,
        created,
    })
}

const SERVED: &[&str] = &[
    "*",
    "*/*",
    "*.foo.com",
    "*/*.foo.com",
    "a.foo.com",
    "default/*",
    "./*",
    "infra/a.foo.com",
    "*.b.foo.com",
    "*.svc.cluster.local",
    "./b.foo.com",
    "foo.com",
];
const HOSTS: &[&str] =
    &["*", "*.foo.com", "a.foo.com", "A.foo.com", "b.foo.com", "*.b.foo.com", "foo.com", "shop"];

fn server() -> impl Strategy<Value = Server> {
    let hosts = vec(texts(SERVED), 1..4);
    (select(&[80u32, 80, 81, 82][..]), hosts).prop_map(|(number, hosts)| Server {
        port: Some(Port { number, protocol: "HTTP".to_owned(), ..Port::default() }),
        hosts,
        ..Server::default()
    })
}

fn virtual_service() -> impl Strategy<Value = (Meta, VirtualService)> {
    const GATEWAYS: &[&str] = &[
        "default/g1",
        "default/g1",
        "g1",
        "infra/g2",
        "infra/g2",
        "./g2",
        "g1.default",
        "g2.infra.svc.cluster.local",
        "mesh",
    ];
    let export_to = prop_oneof![
        5 => Just(vec![]),
        1 => vec(texts(&["*", ".", "istio-system", "default"]), 1..3),
    ];
    let rules = vec(vec(condition(), 0..4), 1..5);
    (meta(), vec(texts(HOSTS), 1..4), vec(texts(GATEWAYS), 1..4), export_to, rules).prop_map(
        |(meta, hosts, gateways, export_to, rules)| {
            let rules = rules.into_iter().enumerate().map(|(rule, matches)| {
                let named = matches.into_iter().enumerate().map(|(position, condition)| {
                    HttpMatchRequest { name: Some(position.to_string()), ..condition }
                });
                let match_ = named.collect();
                HttpRoute { name: Some(rule.to_string()), match_, ..HttpRoute::default() }
            });
            let http = rules.collect();
            (meta, VirtualService { hosts, gateways, http, export_to, ..VirtualService::default() })
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    const AUTHORITIES: &[&str] = &[
        "a.foo.com",
        "A.Foo.com",
        "a.foo.com:80",
        "b.foo.com",
        "x.b.foo.com:8080",
        "foo.com",
        "x.y.foo.com",
        "shop.default.svc.cluster.local",
        "other.org",
    ];
    let field = (texts(&["x-a", "X-a", "x-b", "Cookie"]), texts(&["1", "2", "12", ""]));
    let query = texts(&["q=1", "q=2&q=1", "q", "r=1&q=12", "Q=1", "qq=1", ""]);
    (
        prop_oneof![3 => Just(8080u16), 1 => Just(82u16)],
        texts(&["GET", "GET", "PUT", "POST"]),
        texts(AUTHORITIES),
        texts(&PATHS[..PATHS.len() - 1]),
        proptest::option::of(query),
        vec(field, 0..3),
    )
        .prop_map(|(port, method, authority, path, query, headers)| Asked {
            port,
            method,
            authority,
            path,
            query,
            headers,
        })
}

/// An object of each kind, for their origins, which only a file gives.
fn templates() -> (Object<Gateway>, Object<VirtualService>) {
    let set = resources(&format!("{GATEWAY}{ROUTES}"));
    let gateway = set.gateways().next().expect("one").clone();
    let service = set.virtual_services().next().expect("one").clone();
    (gateway, service)
}

fn compiled_answer(snapshot: &Snapshot, asked: &Asked) -> Answer {
    let listener = snapshot.listeners.iter().find(|one| one.address.port() == asked.port);
    let Some(listener) = listener else { return Answer::NoVirtualHost };
    let fields = asked.headers.iter().map(|(name, value)| HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    });
    let fields: Vec<HeaderField<'_>> = fields.collect();
    let head = RequestHead {
        method: asked.method.as_bytes(),
        path: asked.path.as_bytes(),
        query: asked.query.as_deref().map(str::as_bytes),
        authority: asked.authority.as_bytes(),
        scheme: Scheme::Http,
        version: Version::Http11,
        headers: &fields,
    };
    match snapshot.route_tables[listener.route_table().expect("it takes requests")].find(&head) {
        Lookup::NoVirtualHost => Answer::NoVirtualHost,
        Lookup::NoRoute(_) => Answer::NoRoute,
        Lookup::Route(_, route) => {
            let names = &snapshot.route(route).names;
            let mut numbers = names.route.split('.').map(|text| text.parse().expect("a number"));
            Answer::Route {
                virtual_service: names.virtual_service.clone(),
                rule: numbers.next().expect("every rule has a name"),
                position: numbers.next().unwrap_or(0),
            }
        }
    }
}

#[test]
fn compiled_tables_answer_as_the_rules_do() {
    let options =
        CompileOptions { port_map: BTreeMap::from([(80, 8080), (81, 8080)]), ..options() };
    let ours = Ours { namespace: &options.namespace, labels: &options.labels, listens_on };
    let (gateway, service) = templates();
    let strategy =
        (vec(server(), 1..4), vec(server(), 0..3), vec(virtual_service(), 1..7), vec(asked(), 24));
    let (routes, later, misses, strangers) = Default::default();
    let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
    let compare = |(one, two, services, requests): (_, _, Vec<(Meta, _)>, Vec<Asked>)| {
        let mut gateways = [gateway.clone(), gateway.clone()];
        for (object, (namespace, name, servers)) in
            gateways.iter_mut().zip([("default", "g1", one), ("infra", "g2", two)])
        {
            object.meta.namespace = namespace.to_owned();
            object.meta.name = name.to_owned();
            object.spec.servers = servers;
        }
        let services = services.into_iter().enumerate().map(|(index, (meta, spec))| {
            let mut object = Object { spec, ..service.clone() };
            object.meta.namespace = meta.namespace.to_owned();
            object.meta.name = format!("v{}-{index}", meta.rank);
            object.meta.creation_timestamp = meta.created.map(str::to_owned);
            object
        });
        let services: Vec<Object<VirtualService>> = services.collect();
        let set = gateways.iter().cloned().map(Resource::Gateway);
        let set = set.chain(services.iter().cloned().map(Resource::VirtualService));
        let set = ResourceSet::from_resources(set);
        let snapshot = compile(
            &set,
            &options,
            &DnsAnswers::default(),
            &CredentialFiles::default(),
            &mut LabelTable::new(),
            &mut TlsSides::default(),
        )
        .snapshot;
        let gateways: Vec<&Object<Gateway>> = gateways.iter().collect();
        let services: Vec<&Object<VirtualService>> = services.iter().collect();
        for asked in &requests {
            let expected = rules::answer(&gateways, &services, &ours, asked);
            match &expected {
                Answer::NoVirtualHost => count(&strangers),
                Answer::NoRoute => count(&misses),
                Answer::Route { rule, .. } => {
                    count(&routes);
                    if *rule > 0 {
                        count(&later);
                    }
                }
            }
            let hosts: Vec<_> = services.iter().map(|one| (rules::key(one), &one.spec)).collect();
            prop_assert_eq!(
                compiled_answer(&snapshot, asked),
                expected,
                "{:?}\n{:#?}",
                asked,
                hosts
            );
        }
        Ok(())
    };
    let mut runner = TestRunner::new(Config { cases: TABLES, ..Config::default() });
    runner.run(&strategy, compare).unwrap_or_else(|error| panic!("{error}"));
    // Each kind of answer came often enough to mean something.
    for counter in [&routes, &later, &misses, &strangers] {
        let counter: &Cell<u32> = counter;
        assert!(counter.get() > TABLES, "{} of {TABLES} tables", counter.get());
    }
}
