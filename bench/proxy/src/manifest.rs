//! The configuration under test, as manifests: a Gateway, one VirtualService per host, the hello
//! Service and its endpoint.

use std::fmt::Write;

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

/// Name of the Secret with the certificate.
const CREDENTIAL: &str = "hello-credential";

/// The number of the Gateway's port, which `--port-map` maps.
pub(crate) fn port(service: Service) -> u16 {
    match service {
        Service::Http1 | Service::Http2 | Service::Grpc => 80,
        Service::Tls | Service::Http2Tls => 443,
        Service::Tcp => 9000,
    }
}

/// Name and protocol of the Gateway's port, and name of the Service's. Istio reads the protocol of
/// an upstream from that name.
fn names(service: Service) -> (&'static str, &'static str, &'static str) {
    match service {
        Service::Http1 => ("http", "HTTP", "http"),
        Service::Http2 => ("http2", "HTTP2", "http"),
        Service::Tls | Service::Http2Tls => ("https", "HTTPS", "http"),
        Service::Grpc => ("grpc", "GRPC", "grpc"),
        Service::Tcp => ("tcp", "TCP", "tcp"),
    }
}

/// Manifests that route every host, with the path prefix `/`, to a backend on 127.0.0.1; for TCP,
/// every connection.
pub(crate) fn render(
    hosts: &[String],
    service: Service,
    backend_port: u16,
    identity: &Identity,
) -> String {
    let mut text = gateway(service);
    if service.is_tls() {
        text.push_str(&secret(identity));
    }
    for (index, host) in hosts.iter().enumerate() {
        text.push_str(&virtual_service(index, host, service));
    }
    if hosts.iter().any(|host| host == CLUSTER) {
        text.push_str(CLUSTER_RULE);
    }
    let (_, _, name) = names(service);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\
---
apiVersion: v1
kind: Service
metadata: {{name: hello, namespace: default}}
spec:
  selector: {{app: hello}}
  ports:
  - {{name: {name}, port: 80, targetPort: {backend_port}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: hello-1
  namespace: default
  labels: {{kubernetes.io/service-name: hello}}
addressType: IPv4
ports:
- {{name: {name}, port: {backend_port}, protocol: TCP}}
endpoints:
- addresses: [127.0.0.1]
  conditions: {{ready: true}}
"
    );
    text
}

fn gateway(service: Service) -> String {
    let (name, protocol, _) = names(service);
    let number = port(service);
    let mut text = format!(
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: hello-gateway, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {number}, name: {name}, protocol: {protocol}}}
    hosts: [\"*\"]
"
    );
    if service.is_tls() {
        let _ = writeln!(
            text,
            "    tls: {{mode: SIMPLE, credentialName: {CREDENTIAL}, minProtocolVersion: TLSV1_3}}"
        );
    }
    text
}

/// The certificate, in the namespace where gateways run unless told otherwise.
fn secret(identity: &Identity) -> String {
    let indented = |pem: &str| -> String {
        pem.lines().map(|line| format!("    {}\n", line.trim_end())).collect()
    };
    format!(
        "\
---
apiVersion: v1
kind: Secret
metadata: {{name: {CREDENTIAL}, namespace: istio-system}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(&identity.certificate),
        indented(&identity.key)
    )
}

fn virtual_service(index: usize, host: &str, service: Service) -> String {
    let mut text = format!(
        "\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: hello-{index}, namespace: default}}
spec:
  hosts: [\"{host}\"]
  gateways: [hello-gateway]
"
    );
    if service == Service::Tcp {
        text.push_str("  tcp:\n  - route:\n");
    } else {
        let (condition, policy) =
            if host.starts_with("policy") { (POLICY_CONDITION, POLICY_FIELDS) } else { ("", "") };
        let _ = write!(
            text,
            "  http:\n  - match:\n    - uri: {{prefix: /}}\n{condition}{policy}    route:\n"
        );
    }
    text.push_str(
        "    - destination:
        host: hello.default.svc.cluster.local
        port: {number: 80}
",
    );
    text
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
