//! Metadata of Kubernetes objects.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// `metadata`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Name of the object.
    pub name: String,
    /// Its namespace; `default` when none is written.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it was made, RFC 3339; objects are merged in this order.
    pub creation_timestamp: Option<String>,
    // What a cluster adds and a gateway has no use for.
    generate_name: Option<IgnoredAny>,
    uid: Option<IgnoredAny>,
    resource_version: Option<IgnoredAny>,
    generation: Option<IgnoredAny>,
    deletion_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<IgnoredAny>,
    owner_references: Option<IgnoredAny>,
    finalizers: Option<IgnoredAny>,
    managed_fields: Option<IgnoredAny>,
    self_link: Option<IgnoredAny>,
    cluster_name: Option<IgnoredAny>,
}

fn default_namespace() -> String {
    "default".to_owned()
}
