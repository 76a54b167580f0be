//! What Telemetry resources change about Istio's standard metrics (`metrics[].overrides`).

use std::collections::BTreeMap;

/// The changes, by the name of the family in the exposition, such as `istio_requests_total`. Families
/// without an entry are shown as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricOverrides(pub BTreeMap<String, FamilyOverride>);

/// Changes of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyOverride {
    /// Do not show it.
    pub disabled: bool,
    /// Changes of its labels, by name.
    pub tags: BTreeMap<String, TagOverride>,
}

/// Change of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOverride {
    /// Leave it out: series that differ in nothing else are added up.
    Remove,
    /// Give it this value, also when it was not there.
    Set(String),
}
