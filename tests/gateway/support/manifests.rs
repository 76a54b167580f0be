//! Manifests that most tests start from.

use std::net::SocketAddr;

/// The two manifests of the tutorial, exactly as a user writes them.
pub const HELLO: &str = include_str!("../../../config/hello/gateway.yaml");

/// A Gateway `gateway` for every host on port 80; further servers may be appended.
pub const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [\"*\"]
";

/// The `hello` Service with these endpoints.
pub fn hello_service(endpoints: &[SocketAddr]) -> String {
    service("hello", endpoints)
}

/// A Service `name` in `default` with port 80 and one EndpointSlice per endpoint (endpoints of one
/// slice share their port).
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  ports:\n  - {{name: http, port: 80}}\n"
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: {name}-{index}\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: {name}}}\n\
             addressType: IPv4\nports:\n- {{name: http, port: {port}}}\n\
             endpoints:\n- addresses: [{ip}]\n",
            port = endpoint.port(),
            ip = endpoint.ip()
        ));
    }
    text
}

/// A DestinationRule for the Service `host` with this `trafficPolicy`, in flow style.
pub fn policy(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}}}\n\
         spec:\n  host: {host}\n  trafficPolicy: {policy}\n"
    )
}

/// A Gateway for every host and a VirtualService `name` with this `http` block (indented by two).
pub fn any_host(http: &str) -> String {
    format!(
        "{GATEWAY}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: routes}}\nspec:\n  hosts: [\"*\"]\n  gateways: [gateway]\n  http:\n{http}"
    )
}
