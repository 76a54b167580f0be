//! `ServiceEntry` and `WorkloadEntry` (networking.istio.io).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Object;

/// Spec of a ServiceEntry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Hosts: each is a service.
    pub hosts: Vec<String>,
    /// Virtual addresses.
    pub addresses: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Inside or outside of the mesh.
    pub location: Option<Location>,
    /// How endpoints are found.
    pub resolution: Option<Resolution>,
    /// Endpoints.
    pub endpoints: Vec<WorkloadEntry>,
    /// Endpoints by labels.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see it.
    pub export_to: Vec<String>,
    /// Names that the server must have one of.
    pub subject_alt_names: Vec<String>,
}

/// The workloads that are endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that they have.
    pub labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// Does a WorkloadEntry have these labels? As in Istio those of the object stand beside those of
    /// its spec, and before them.
    pub fn selects(&self, workload: &Object<WorkloadEntry>) -> bool {
        self.labels.iter().all(|(label, value)| {
            let of_object = workload.meta.labels.get(label);
            of_object.or_else(|| workload.spec.labels.get(label)) == Some(value)
        })
    }
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    /// Number that destinations name.
    pub number: u32,
    /// Protocol.
    pub protocol: Option<String>,
    /// Name.
    pub name: String,
    /// Port of the endpoints.
    pub target_port: Option<u32>,
}

/// `location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum Location {
    MeshExternal,
    MeshInternal,
}

/// `resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

/// An endpoint of a ServiceEntry, and the spec of a WorkloadEntry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// IP address, host name or `unix://` path.
    pub address: String,
    /// Ports by the service port's name.
    pub ports: BTreeMap<String, u32>,
    /// Labels: subsets choose by them.
    pub labels: BTreeMap<String, String>,
    /// Network.
    pub network: Option<String>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
    /// Relative weight.
    pub weight: Option<u32>,
    /// Service account.
    pub service_account: Option<String>,
}
