//! The Kubernetes kinds that are read: Service, EndpointSlice, Endpoints, Secret. Fields that a
//! gateway has no use for are known, so that a misspelt one is still an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use super::scalar::PortOrName;

/// `Service` (v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    status: Option<IgnoredAny>,
    /// Its spec.
    pub spec: ServiceSpec,
}

/// Spec of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Labels of its Pods.
    pub selector: BTreeMap<String, String>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Target of an ExternalName.
    pub external_name: Option<String>,
    /// Use endpoints that are not ready.
    pub publish_not_ready_addresses: Option<bool>,
    /// `Cluster` or `Local`: endpoints of the own node only.
    pub internal_traffic_policy: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<IgnoredAny>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<IgnoredAny>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<IgnoredAny>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<IgnoredAny>,
    load_balancer_source_ranges: Option<IgnoredAny>,
    load_balancer_class: Option<IgnoredAny>,
    allocate_load_balancer_node_ports: Option<IgnoredAny>,
    session_affinity: Option<IgnoredAny>,
    session_affinity_config: Option<IgnoredAny>,
    external_traffic_policy: Option<IgnoredAny>,
    health_check_node_port: Option<IgnoredAny>,
    ip_families: Option<IgnoredAny>,
    ip_family: Option<IgnoredAny>,
    ip_family_policy: Option<IgnoredAny>,
    topology_keys: Option<IgnoredAny>,
    traffic_distribution: Option<IgnoredAny>,
}

impl ServiceSpec {
    /// The name that a Service of type ExternalName stands for.
    pub fn alias(&self) -> Option<&str> {
        let name = self.external_name.as_deref().filter(|name| !name.is_empty());
        name.filter(|_| self.kind.as_deref() == Some("ExternalName"))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    /// Name, unique in the Service.
    pub name: Option<String>,
    /// `TCP` when unset.
    pub protocol: Option<String>,
    /// Number.
    pub port: u16,
    /// Port of the Pods.
    pub target_port: Option<PortOrName>,
    /// What is spoken on it.
    pub app_protocol: Option<String>,
    node_port: Option<IgnoredAny>,
}

/// `EndpointSlice` (discovery.k8s.io/v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointSlice {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    /// `IPv4`, `IPv6`, `FQDN`.
    pub address_type: Option<String>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Ports of all of them.
    pub ports: Vec<EndpointPort>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses.
    pub addresses: Vec<String>,
    /// Its state.
    pub conditions: Option<EndpointConditions>,
    /// What it is, usually a Pod.
    pub target_ref: Option<ObjectReference>,
    /// Zone.
    pub zone: Option<String>,
    /// Node.
    pub node_name: Option<String>,
    hostname: Option<IgnoredAny>,
    deprecated_topology: Option<IgnoredAny>,
    topology: Option<IgnoredAny>,
    hints: Option<IgnoredAny>,
}

/// State of an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Takes requests; true when unset.
    pub ready: Option<bool>,
    /// Takes requests although it may be ending.
    pub serving: Option<bool>,
    /// Is ending.
    pub terminating: Option<bool>,
}

/// A port of a slice, or of Endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointPort {
    /// Name of the Service's port.
    pub name: Option<String>,
    /// Number.
    pub port: Option<u16>,
    /// `TCP` when unset.
    pub protocol: Option<String>,
    /// What is spoken on it.
    pub app_protocol: Option<String>,
}

/// Reference to an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectReference {
    /// Kind.
    pub kind: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    uid: Option<IgnoredAny>,
    api_version: Option<IgnoredAny>,
    resource_version: Option<IgnoredAny>,
    field_path: Option<IgnoredAny>,
}

/// `Endpoints` (v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoints {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    /// Addresses and ports.
    pub subsets: Vec<EndpointSubset>,
}

/// Addresses that share their ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Ready.
    pub addresses: Vec<EndpointAddress>,
    /// Not ready.
    pub not_ready_addresses: Vec<EndpointAddress>,
    /// Ports.
    pub ports: Vec<EndpointPort>,
}

/// An address of Endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointAddress {
    /// Address.
    pub ip: String,
    /// What it is, usually a Pod.
    pub target_ref: Option<ObjectReference>,
    hostname: Option<IgnoredAny>,
    node_name: Option<IgnoredAny>,
}

/// `Secret` (v1).
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Secret {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    immutable: Option<IgnoredAny>,
    /// Values in base64.
    pub data: BTreeMap<String, String>,
    /// Values as text.
    pub string_data: BTreeMap<String, String>,
    /// Type.
    #[serde(rename = "type")]
    pub kind_of_secret: Option<String>,
}

impl Secret {
    /// Has it a value of this name?
    pub fn has(&self, name: &str) -> bool {
        self.data.contains_key(name) || self.string_data.contains_key(name)
    }

    /// Path of the value of this name, to point at it.
    pub fn field(&self, name: &str) -> String {
        match self.string_data.contains_key(name) {
            true => format!("stringData[{name}]"),
            false => format!("data[{name}]"),
        }
    }

    /// The value of this name; text comes before base64, as at the API server. `Some(None)`: it is not
    /// base64.
    pub fn value(&self, name: &str) -> Option<Option<Vec<u8>>> {
        if let Some(text) = self.string_data.get(name) {
            return Some(Some(text.clone().into_bytes()));
        }
        let mut plain = self.data.get(name)?.clone();
        plain.retain(|letter| !letter.is_ascii_whitespace());
        Some(data_encoding::BASE64.decode(plain.as_bytes()).ok())
    }
}

impl std::fmt::Debug for Secret {
    /// Names only: values never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.data.keys().chain(self.string_data.keys());
        f.debug_list().entries(names).finish()
    }
}
