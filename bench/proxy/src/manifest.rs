//! The configuration under test, as manifests: a Gateway, one VirtualService per host, the hello
//! Service and its endpoint.

use std::fmt::Write;

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

/// Manifests that route every host, with the path prefix `/`, to a backend on 127.0.0.1.
pub(crate) fn render(hosts: &[String], backend_port: u16) -> String {
    let mut text = String::from(
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: hello-gateway, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [\"*\"]
",
    );
    for (index, host) in hosts.iter().enumerate() {
        let (condition, policy) =
            if host.starts_with("policy") { (POLICY_CONDITION, POLICY_FIELDS) } else { ("", "") };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: hello-{index}, namespace: default}}
spec:
  hosts: [\"{host}\"]
  gateways: [hello-gateway]
  http:
  - match:
    - uri: {{prefix: /}}
{condition}{policy}    route:
    - destination:
        host: hello.default.svc.cluster.local
        port: {{number: 80}}
"
        );
    }
    if hosts.iter().any(|host| host == CLUSTER) {
        text.push_str(CLUSTER_RULE);
    }
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
  - {{name: http, port: 80, targetPort: {backend_port}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: hello-1
  namespace: default
  labels: {{kubernetes.io/service-name: hello}}
addressType: IPv4
ports:
- {{name: http, port: {backend_port}, protocol: TCP}}
endpoints:
- addresses: [127.0.0.1]
  conditions: {{ready: true}}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_virtual_service_per_host() {
        let hosts: Vec<String> = (0..3).map(host).collect();
        let text = render(&hosts, 9999);
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), 6);
        for host in &hosts {
            let naming = documents.iter().filter(|text| text.contains(host.as_str())).count();
            assert_eq!(naming, 1, "{host}");
        }
        assert!(!text.contains("rewrite"));
        assert!(
            render(&[POLICY.to_owned()], 9999).contains("    - uri: {prefix: /}\n      headers")
        );
        assert!(!text.contains("DestinationRule"));
        assert!(render(&[CLUSTER.to_owned()], 9999).contains("consistentHash"));
        assert!(text.contains("targetPort: 9999}"));
        assert!(text.contains("port: 9999, protocol"));
    }
}
