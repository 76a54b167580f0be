//! Services whose endpoints are names: what is resolved when, and what the clients see of it
//! (behaviour 5). The names are those of a server that the test runs itself.

use crate::support::dns::{DnsServer, Reply};
use crate::support::gateway::{ringress, wait_until};
use crate::support::raw::{Raw, Response};
use crate::support::{Gateway, Upstream, manifests};

const HOST: &str = "api.example.com";
const CLUSTER: &str = "outbound|80||api.example.com";

/// Routes of every host to `api.example.com`.
fn routes() -> String {
    manifests::any_host(&format!("  - route: [{{destination: {{host: {HOST}}}}}]\n"))
        + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: turns}\n\
           spec:\n  host: api.example.com\n  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n"
}

/// The addresses of the cluster's endpoints, as the admin page shows them.
fn endpoints(gateway: &Gateway) -> Vec<String> {
    let dump = gateway.json("/config_dump");
    let clusters = dump.pointer("/snapshot/clusters").expect("clusters");
    let cluster = clusters.as_array().expect("a list").iter();
    cluster
        .filter(|cluster| cluster["name"] == CLUSTER)
        .flat_map(|cluster| cluster["endpoints"].as_array().expect("a list"))
        .map(|endpoint| endpoint["address"].as_str().expect("text").to_owned())
        .collect()
}

/// The ServiceEntry of `api.example.com` whose endpoints listen on this port.
fn entry(resolution: &str, port: u16, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: api}}\n\
         spec:\n  hosts: [{HOST}]\n  resolution: {resolution}\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n{more}"
    )
}

fn gateway(entry: &str, server: &DnsServer) -> Gateway {
    let server = format!("--dns-server={}", server.address);
    let arguments = ["--dns-family=v4", &server];
    Gateway::start_with(&[("routes.yaml", &routes()), ("entry.yaml", entry)], &arguments)
}

/// A client whose requests all go through one worker, which has connections of its own.
fn client(gateway: &Gateway) -> Raw {
    Raw::connect(gateway.address)
}

fn get(client: &mut Raw) -> Response {
    client.send("GET / HTTP/1.1\r\nHost: shop.com\r\n\r\n");
    client.response()
}

/// Who answers.
fn answer(client: &mut Raw) -> String {
    let response = get(client);
    response.header("x-upstream").map_or_else(|| response.status.to_string(), str::to_owned)
}

/// Two upstreams on one port of two addresses.
fn two() -> (Upstream, Upstream) {
    for _ in 0..20 {
        let one = Upstream::start("one");
        if let Some(two) = Upstream::start_at("two", ([127, 0, 0, 2], one.address.port()).into()) {
            return (one, two);
        }
    }
    panic!("no port is free on both addresses");
}

fn failures(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("ringress_dns_lookup_failures_total", &[])
}

/// Have all names looked up anew, and wait until that failed.
fn wait_for_a_failure(gateway: &Gateway) {
    let before = failures(gateway);
    gateway.signal(libc::SIGHUP);
    wait_until("a lookup that fails", || failures(gateway) > before);
}

#[test]
fn all_addresses_of_a_name_are_endpoints() {
    let (one, two) = two();
    let server = DnsServer::start(&[(HOST, &["127.0.0.1", "127.0.0.2"])]);
    let gateway = gateway(&entry("DNS", one.address.port(), ""), &server);
    let mut client = client(&gateway);
    let mut answers: Vec<String> = (0..4).map(|_| answer(&mut client)).collect();
    answers.sort();
    assert_eq!(answers, ["one", "one", "two", "two"]);
    // Behaviour 5.4: what is resolved does not change what is asked for.
    assert_eq!(one.last().header("host"), Some("shop.com"));
    assert_eq!(two.last().header("host"), Some("shop.com"));
    assert_eq!(gateway.metrics().sum("ringress_dns_names", &[]), 1.0);
    assert_eq!(gateway.metrics().sum("ringress_dns_names_unresolved", &[]), 0.0);
}

#[test]
fn a_change_is_followed_and_what_stays_keeps_its_connections() {
    let (one, two) = two();
    let server = DnsServer::start(&[(HOST, &["127.0.0.1"])]);
    let gateway = gateway(&entry("DNS", one.address.port(), ""), &server);
    let mut client = client(&gateway);
    assert_eq!(answer(&mut client), "one");
    server.answer(HOST, &["127.0.0.2", "127.0.0.1"]);
    wait_until("an answer of the second address", || answer(&mut client) == "two");
    gateway.wait_for_line(&format!("addresses changed: {HOST} is 127.0.0.2 127.0.0.1"));
    assert_eq!((answer(&mut client), one.connections()), ("one".to_owned(), 1));
    // The same addresses in another order change nothing.
    let generation = gateway.generation();
    server.answer(HOST, &["127.0.0.1", "127.0.0.2"]);
    let asked = server.asked(HOST);
    wait_until("three lookups", || server.asked(HOST) >= asked + 3);
    assert_eq!(gateway.generation(), generation);
    server.answer(HOST, &["127.0.0.2"]);
    wait_until("the end of the first address", || {
        [answer(&mut client), answer(&mut client)] == ["two", "two"]
    });
    assert_eq!(two.connections(), 1);
}

#[test]
fn the_last_good_answer_stays_when_there_is_none() {
    let upstream = Upstream::start("api");
    let server = DnsServer::start(&[(HOST, &["127.0.0.1"])]);
    let gateway = gateway(&entry("DNS", upstream.address.port(), ""), &server);
    let mut client = client(&gateway);
    assert_eq!(answer(&mut client), "api");
    for reply in [Reply::Failure, Reply::NoSuchName, Reply::Addresses(Vec::new(), 1)] {
        server.reply(HOST, reply.clone());
        wait_for_a_failure(&gateway);
        assert_eq!(answer(&mut client), "api", "{reply:?}");
    }
    let log = gateway.log();
    let told = log.matches("`api.example.com` cannot be resolved any longer").count();
    assert_eq!(told, 1, "told once:\n{log}");
    assert!(!log.contains("addresses changed"), "{log}");
    server.answer(HOST, &["127.0.0.1"]);
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_line("`api.example.com` is resolved again, to the addresses of before");
    assert_eq!(answer(&mut client), "api");
}

#[test]
fn a_name_that_is_not_there_yet_is_waited_for() {
    let upstream = Upstream::start("api");
    let server = DnsServer::start(&[]);
    let gateway = gateway(&entry("DNS", upstream.address.port(), ""), &server);
    let mut client = client(&gateway);
    let response = get(&mut client);
    assert_eq!(response.status, 503);
    assert_eq!(response.body, b"no healthy upstream");
    assert_eq!(gateway.metrics().sum("ringress_dns_names_unresolved", &[]), 1.0);
    let log = gateway.log();
    assert!(log.contains("cannot be resolved: there is no such name (NXDOMAIN)"), "{log}");
    server.answer(HOST, &["127.0.0.1"]);
    wait_until("its address", || answer(&mut client) == "api");
    assert_eq!(gateway.metrics().sum("ringress_dns_names_unresolved", &[]), 0.0);
}

#[test]
fn a_server_that_does_not_answer_does_not_keep_the_gateway_from_serving() {
    let upstream = Upstream::start("api");
    let server = DnsServer::start(&[]);
    server.reply(HOST, Reply::Silence);
    let gateway = gateway(&entry("DNS", upstream.address.port(), ""), &server);
    let mut client = client(&gateway);
    assert_eq!(get(&mut client).status, 503);
    server.answer(HOST, &["127.0.0.1"]);
    wait_until("its address", || answer(&mut client) == "api");
}

#[test]
fn with_dns_round_robin_the_first_address_is_used() {
    let (one, two) = two();
    let server = DnsServer::start(&[(HOST, &["127.0.0.2", "127.0.0.1"])]);
    let gateway = gateway(&entry("DNS_ROUND_ROBIN", one.address.port(), ""), &server);
    let mut client = client(&gateway);
    assert_eq!([answer(&mut client), answer(&mut client)], ["two", "two"]);
    // Another order is another first address.
    server.answer(HOST, &["127.0.0.1", "127.0.0.2"]);
    wait_until("the other address", || answer(&mut client) == "one");
    assert_eq!([answer(&mut client), answer(&mut client)], ["one", "one"]);
    assert_eq!(two.connections(), 1);
}

#[test]
fn names_and_addresses_may_stand_side_by_side() {
    let (one, _two) = two();
    let other = Upstream::start("other");
    let server = DnsServer::start(&[("db.example.com", &["127.0.0.2"])]);
    let endpoints = format!(
        "  endpoints:\n  - {{address: 127.0.0.1, ports: {{http: {}}}}}\n  \
         - {{address: DB.example.com}}\n",
        other.address.port()
    );
    let gateway = gateway(&entry("DNS", one.address.port(), &endpoints), &server);
    let mut client = client(&gateway);
    let mut answers: Vec<String> = (0..4).map(|_| answer(&mut client)).collect();
    answers.sort();
    assert_eq!(answers, ["other", "other", "two", "two"]);
    assert_eq!(server.asked(HOST), 0, "its own name is not an endpoint");
}

#[test]
fn a_reload_waits_for_the_names_that_it_brings() {
    let (before, after) = (Upstream::start("before"), Upstream::start("after"));
    let server = DnsServer::start(&[(HOST, &["127.0.0.1"])]);
    let listed = entry("STATIC", before.address.port(), "  endpoints: [{address: 127.0.0.1}]\n");
    let gateway = gateway(&listed, &server);
    let mut client = client(&gateway);
    assert_eq!(answer(&mut client), "before");
    assert_eq!(server.asked(HOST), 0);
    let generation = gateway.generation();
    gateway.write("entry.yaml", &entry("DNS", after.address.port(), ""));
    gateway.wait_for_generation(generation + 1);
    assert_eq!(gateway.generation(), generation + 1, "one publication, with the answer");
    assert_eq!(answer(&mut client), "after");
    // A name that is not wanted any longer is not asked for any longer.
    gateway.write("entry.yaml", &listed);
    gateway.wait_for_generation(generation + 2);
    assert_eq!(answer(&mut client), "before");
    assert_eq!(gateway.metrics().sum("ringress_dns_names", &[]), 0.0);
}

#[test]
fn an_external_name_service_is_resolved() {
    let upstream = Upstream::start("api");
    let server = DnsServer::start(&[("my_db.example.com", &["127.0.0.1"])]);
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\nspec:\n  type: ExternalName\n  \
         externalName: my_db.example.com\n  ports: [{{name: http, port: {}, targetPort: 1}}]\n",
        upstream.address.port()
    );
    let routes = manifests::any_host("  - route: [{destination: {host: db}}]\n");
    let server = format!("--dns-server={}", server.address);
    let files = [("routes.yaml", routes.as_str()), ("service.yaml", &service)];
    let gateway = Gateway::start_with(&files, &["--dns-family=v4", &server]);
    let mut client = client(&gateway);
    assert_eq!(answer(&mut client), "api");
}

#[test]
fn an_answer_that_does_not_fit_a_datagram_is_fetched_over_tcp() {
    let server = DnsServer::start(&[]);
    let addresses = (0..250).map(|number| [10, 0, 0, number].into()).collect();
    server.reply(HOST, Reply::Large(addresses));
    let gateway = gateway(&entry("DNS", 8080, ""), &server);
    assert_eq!(endpoints(&gateway).len(), 250);
}

#[test]
fn an_alias_of_a_name_is_followed() {
    let upstream = Upstream::start("api");
    let server = DnsServer::start(&[("my_db.example.com", &["127.0.0.1"])]);
    server.reply(HOST, Reply::Alias("my_db.example.com"));
    let gateway = gateway(&entry("DNS", upstream.address.port(), ""), &server);
    assert_eq!(answer(&mut client(&gateway)), "api");
}

#[test]
fn names_of_the_hosts_file_need_no_server() {
    let upstream = Upstream::start("api");
    let endpoints = "  endpoints: [{address: localhost}]\n";
    let entry = entry("DNS", upstream.address.port(), endpoints);
    let files = [("routes.yaml", &*routes()), ("entry.yaml", &entry)];
    let gateway = Gateway::start_with(&files, &["--dns-family=v4"]);
    assert_eq!(answer(&mut client(&gateway)), "api");
}

#[test]
fn addresses_of_both_families_are_endpoints_unless_one_is_asked_for() {
    let server = DnsServer::start(&[(HOST, &["192.0.2.1", "2001:db8::1"])]);
    for (family, expected) in [
        ("all", &["192.0.2.1:8080", "[2001:db8::1]:8080"][..]),
        ("v4", &["192.0.2.1:8080"]),
        ("v6", &["[2001:db8::1]:8080"]),
    ] {
        let (server, family) =
            (format!("--dns-server={}", server.address), format!("--dns-family={family}"));
        let files = [("routes.yaml", &*routes()), ("entry.yaml", &entry("DNS", 8080, ""))];
        let gateway = Gateway::start_with(&files, &[&server, &family]);
        assert_eq!(endpoints(&gateway), expected, "{family}");
    }
}

#[test]
fn explain_and_check_need_no_server() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let manifests = format!("{}---\n{}", routes(), entry("DNS", 8080, ""));
    std::fs::write(directory.path().join("a.yaml"), manifests).expect("written");
    let path = directory.path().display().to_string();
    let output = ringress(&["explain", &path, "http://shop.com/"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("resolved at run time: api.example.com\n"), "{text}");
    assert!(!text.contains("503"), "{text}");
    let output = ringress(&["check", &path, "--strict"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
