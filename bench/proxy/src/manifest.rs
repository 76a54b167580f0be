//! The configuration under test, as manifests: a Gateway, one VirtualService per host, the hello
//! Service and its endpoint. Templates of `loadtest/peers/ringress`, and what a bare route has not.

use crate::peers::{fill, words};
use crate::service::Service;
use crate::tls::Identity;

/// The host of single-host runs.
pub(crate) const HELLO: &str = "hello.com";

/// The host whose route has a condition on a field, rewrite, header operations, timeout and retries.
pub(crate) const POLICY: &str = "policy.com";

/// The host whose route has all of that, before a cluster with a hash, limits and outlier detection.
pub(crate) const CLUSTER: &str = "policy-cluster.com";

/// Host number `index` of many-host runs.
pub(crate) fn host(index: usize) -> String {
    format!("h{index:05}.example.com")
}

const POLICY_CONDITION: &str = "      headers: {host: {prefix: policy}}\n";
const POLICY_FIELDS: &str = "    rewrite: {uri: /, authority: inner.example}
    timeout: 15s
    retries: {attempts: 3, retryOn: 5xx, perTryTimeout: 5s}
    headers:
      request: {set: {x-peer: '%DOWNSTREAM_REMOTE_ADDRESS%'}, remove: [x-internal]}
      response: {set: {x-served-by: edge}, remove: [x-powered-by]}
";

const CLUSTER_RULE: &str = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hello, namespace: default}
spec:
  host: hello
  trafficPolicy:
    loadBalancer: {consistentHash: {useSourceIp: true}}
    connectionPool: {tcp: {maxConnections: 10000}, http: {http2MaxRequests: 10000}}
    outlierDetection: {consecutive5xxErrors: 5}
    retryBudget: {percent: 20}
";

const GATEWAY: &str = include_str!("../../../loadtest/peers/ringress/gateway.yaml");
const SECRET: &str = include_str!("../../../loadtest/peers/ringress/secret.yaml");
const VIRTUAL_SERVICE: &str = include_str!("../../../loadtest/peers/ringress/virtual-service.yaml");
const VIRTUAL_SERVICE_TCP: &str =
    include_str!("../../../loadtest/peers/ringress/virtual-service-tcp.yaml");
const SERVICE: &str = include_str!("../../../loadtest/peers/ringress/service.yaml");
const ENDPOINT: &str = include_str!("../../../loadtest/peers/ringress/endpoint.yaml");
/// What differs between services in these templates.
const WORDS: &str = include_str!("../../../loadtest/peers/ringress/words");

/// The number of the Gateway's port, which `--port-map` maps.
pub(crate) fn port(service: Service) -> &'static str {
    let words = words(WORDS, service);
    words.into_iter().find(|(word, _)| *word == "@NUMBER@").map_or("", |(_, number)| number)
}

/// Manifests that route every host, with the path prefix `/`, to a backend on 127.0.0.1; for TCP,
/// every connection.
pub(crate) fn render(
    hosts: &[String],
    service: Service,
    backend_port: u16,
    identity: &Identity,
) -> String {
    let mut text = GATEWAY.to_owned();
    if service.is_tls() {
        let words = [
            ("@CERTIFICATE_TEXT@", indented(&identity.certificate)),
            ("@KEY_TEXT@", indented(&identity.key)),
        ];
        text.push_str(&fill(SECRET, &words));
    }
    for (index, host) in hosts.iter().enumerate() {
        text.push_str(&virtual_service(index, host, service));
    }
    if hosts.iter().any(|host| host == CLUSTER) {
        text.push_str(CLUSTER_RULE);
    }
    text.push_str(SERVICE);
    text.push_str(ENDPOINT);
    let text = fill(&text, &words(WORDS, service));
    fill(&text, &[("@BACKEND_PORT@", backend_port.to_string())])
}

/// A PEM text as the template of the Secret takes it.
fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn virtual_service(index: usize, host: &str, service: Service) -> String {
    let template = if service == Service::Tcp { VIRTUAL_SERVICE_TCP } else { VIRTUAL_SERVICE };
    let policy = if host.starts_with("policy") {
        format!("{POLICY_CONDITION}{POLICY_FIELDS}")
    } else {
        String::new()
    };
    let words =
        [("@POLICY@\n", policy), ("@INDEX@", index.to_string()), ("@HOST@", host.to_owned())];
    fill(template, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { certificate: "-BEGIN-\nAAAA\n".to_owned(), key: "-KEY-\r\nBBBB\r\n".to_owned() }
    }

    fn render_http1(hosts: &[String]) -> String {
        render(hosts, Service::Http1, 9999, &identity())
    }

    #[test]
    fn there_is_one_virtual_service_per_host() {
        let hosts: Vec<String> = (0..3).map(host).collect();
        let text = render_http1(&hosts);
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), 6);
        for host in &hosts {
            let naming = documents.iter().filter(|text| text.contains(host.as_str())).count();
            assert_eq!(naming, 1, "{host}");
        }
        assert!(!text.contains("rewrite"));
        assert!(
            render_http1(&[POLICY.to_owned()]).contains("    - uri: {prefix: /}\n      headers")
        );
        assert!(!text.contains("DestinationRule"));
        assert!(render_http1(&[CLUSTER.to_owned()]).contains("consistentHash"));
        assert!(text.contains("targetPort: 9999}"));
        assert!(text.contains("port: 9999, protocol"));
    }

    #[test]
    fn only_services_over_tls_have_a_secret_and_name_it() {
        for service in Service::ALL {
            let text = render(&[HELLO.to_owned()], service, 9999, &identity());
            let has_secret = text.contains(
                "stringData:\n  tls.crt: |\n    -BEGIN-\n    AAAA\n  tls.key: |\n    -KEY-\n    BBBB\n---",
            );
            assert_eq!(has_secret, service.is_tls(), "{service:?}: {text}");
            let named = text.contains("tls: {mode: SIMPLE, credentialName: hello-credential");
            assert_eq!(named, service.is_tls(), "{service:?}: {text}");
        }
    }

    #[test]
    fn no_word_is_left_open() {
        for service in Service::ALL {
            let text = render(&[HELLO.to_owned()], service, 9999, &identity());
            assert!(!text.contains('@'), "{service:?}: {text}");
            assert!(text.contains(&format!("number: {},", port(service))), "{service:?}: {text}");
        }
    }

    #[test]
    fn protocols_are_those_of_the_service() {
        let text = |service| render(&[HELLO.to_owned()], service, 9999, &identity());
        let grpc = text(Service::Grpc);
        assert!(grpc.contains("{number: 80, name: grpc, protocol: GRPC}"), "{grpc}");
        assert_eq!(grpc.matches("- {name: grpc, port: ").count(), 2, "{grpc}");
        let tcp = text(Service::Tcp);
        assert!(tcp.contains("{number: 9000, name: tcp, protocol: TCP}"), "{tcp}");
        assert!(tcp.contains("  tcp:\n  - route:\n    - destination:\n"), "{tcp}");
        assert!(!tcp.contains("http:"), "{tcp}");
        assert!(text(Service::Http2).contains("- {name: http, port: 80,"), "HTTP/1.1 upstream");
    }
}
