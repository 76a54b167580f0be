//! The meaning of the slots that workers count under. Control side only: a worker sees numbers.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::overrides::MetricOverrides;
use super::text::label;
use crate::ids::{HistogramSlot, MetricSlot};
use crate::limits::{HISTOGRAMS_MAX, HISTOGRAMS_OF_HOSTS_MAX};

/// Value of a label that is not known (Istio's word for it).
pub const UNKNOWN: &str = "unknown";
/// Value of a canonical revision that is not known.
pub const LATEST: &str = "latest";
/// Istio's `DefaultClusterName`.
pub const DEFAULT_CLUSTER: &str = "Kubernetes";

/// The destination labels of Istio's standard metrics. No value may be empty: to Prometheus an
/// empty label is an absent one, and Kiali skips series that lack any of these.
/// [`LabelTable::metric_slot`] replaces empty values by their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricLabels {
    /// Owner of the endpoint's pod, such as the Deployment.
    pub destination_workload: String,
    /// Namespace of the endpoint's pod.
    pub destination_workload_namespace: String,
    /// SPIFFE id that the endpoint proved by mutual TLS.
    pub destination_principal: String,
    /// Pod label `app`.
    pub destination_app: String,
    /// Pod label `version`.
    pub destination_version: String,
    /// Host of the route's destination, fully qualified.
    pub destination_service: String,
    /// `service.istio.io/canonical-name` of the endpoint's pod, or what stands in for it.
    pub destination_canonical_service: String,
    /// `service.istio.io/canonical-revision` of the endpoint's pod, or what stands in for it.
    pub destination_canonical_revision: String,
    /// Short name of the service.
    pub destination_service_name: String,
    /// Namespace of the service as seen from the endpoint.
    pub destination_service_namespace: String,
    /// Cluster (in the sense of Kubernetes) of the endpoint.
    pub destination_cluster: String,
}

impl Default for MetricLabels {
    /// Every label `unknown`, the revision `latest` (behaviour of Istio for requests without
    /// route).
    fn default() -> Self {
        let unknown = || UNKNOWN.to_owned();
        MetricLabels {
            destination_workload: unknown(),
            destination_workload_namespace: unknown(),
            destination_principal: unknown(),
            destination_app: unknown(),
            destination_version: unknown(),
            destination_service: unknown(),
            destination_canonical_service: unknown(),
            destination_canonical_revision: LATEST.to_owned(),
            destination_service_name: unknown(),
            destination_service_namespace: unknown(),
            destination_cluster: unknown(),
        }
    }
}

impl MetricLabels {
    /// Labels of requests for a service of which no endpoint was chosen: only the service is known.
    /// `short_name` is the service's name (for a ServiceEntry its host).
    pub fn of_service(host: &str, short_name: &str) -> MetricLabels {
        let mut labels = MetricLabels {
            destination_service: host.to_owned(),
            destination_service_name: short_name.to_owned(),
            ..MetricLabels::default()
        };
        labels.fill_defaults();
        labels
    }

    /// Names and values in the order in which Istio shows them.
    pub fn pairs(&self) -> [(&'static str, &str); 11] {
        [
            ("destination_workload", &self.destination_workload),
            ("destination_workload_namespace", &self.destination_workload_namespace),
            ("destination_principal", &self.destination_principal),
            ("destination_app", &self.destination_app),
            ("destination_version", &self.destination_version),
            ("destination_service", &self.destination_service),
            ("destination_canonical_service", &self.destination_canonical_service),
            ("destination_canonical_revision", &self.destination_canonical_revision),
            ("destination_service_name", &self.destination_service_name),
            ("destination_service_namespace", &self.destination_service_namespace),
            ("destination_cluster", &self.destination_cluster),
        ]
    }

    fn fill_defaults(&mut self) {
        let revision_is_empty = self.destination_canonical_revision.is_empty();
        if revision_is_empty {
            self.destination_canonical_revision.push_str(LATEST);
        }
        for value in [
            &mut self.destination_workload,
            &mut self.destination_workload_namespace,
            &mut self.destination_principal,
            &mut self.destination_app,
            &mut self.destination_version,
            &mut self.destination_service,
            &mut self.destination_canonical_service,
            &mut self.destination_service_name,
            &mut self.destination_service_namespace,
            &mut self.destination_cluster,
        ] {
            if value.is_empty() {
                value.push_str(UNKNOWN);
            }
        }
    }
}

/// The source labels: the gateway itself, the same for every series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLabels {
    /// Name of the gateway's Deployment; Istio's Performance dashboard asks for the default.
    pub source_workload: String,
    /// Canonical service of the gateway.
    pub source_canonical_service: String,
    /// Canonical revision of the gateway.
    pub source_canonical_revision: String,
    /// Namespace of the gateway.
    pub source_workload_namespace: String,
    /// SPIFFE id of the gateway when it speaks mutual TLS to upstreams.
    pub source_principal: String,
    /// Label `app` of the gateway.
    pub source_app: String,
    /// Label `version` of the gateway.
    pub source_version: String,
    /// Kubernetes cluster; never `unknown`, Kiali would call the series bad.
    pub source_cluster: String,
}

impl Default for SourceLabels {
    fn default() -> Self {
        SourceLabels {
            source_workload: "istio-ingressgateway".to_owned(),
            source_canonical_service: "istio-ingressgateway".to_owned(),
            source_canonical_revision: LATEST.to_owned(),
            source_workload_namespace: "istio-system".to_owned(),
            source_principal: UNKNOWN.to_owned(),
            source_app: "istio-ingressgateway".to_owned(),
            source_version: UNKNOWN.to_owned(),
            source_cluster: DEFAULT_CLUSTER.to_owned(),
        }
    }
}

impl SourceLabels {
    /// Names and values in the order in which Istio shows them; an empty value shows its default.
    pub fn pairs(&self) -> [(&'static str, &str); 8] {
        fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
            if value.is_empty() { default } else { value }
        }
        [
            ("source_workload", or(&self.source_workload, UNKNOWN)),
            ("source_canonical_service", or(&self.source_canonical_service, UNKNOWN)),
            ("source_canonical_revision", or(&self.source_canonical_revision, LATEST)),
            ("source_workload_namespace", or(&self.source_workload_namespace, UNKNOWN)),
            ("source_principal", or(&self.source_principal, UNKNOWN)),
            ("source_app", or(&self.source_app, UNKNOWN)),
            ("source_version", or(&self.source_version, UNKNOWN)),
            ("source_cluster", or(&self.source_cluster, DEFAULT_CLUSTER)),
        ]
    }
}

/// Destination of answers that the gateway gives itself.
pub const OWN_ANSWER: &str = "-";

/// What one latency histogram measures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HistogramKey {
    /// `statPrefix` of its match, else the name of the route, possibly empty.
    pub route: String,
    /// `namespace/name` of the VirtualService.
    pub virtual_service: String,
    /// The virtual host (its first domain).
    pub virtual_host: String,
    /// Istio's name of the destination's cluster; [`OWN_ANSWER`] for what the gateway answers itself.
    pub destination: String,
}

impl HistogramKey {
    /// Requests for a virtual host that no route of it matched.
    pub fn unrouted_of(virtual_host: &str) -> HistogramKey {
        HistogramKey {
            virtual_host: virtual_host.to_owned(),
            destination: OWN_ANSWER.to_owned(),
            ..HistogramKey::all(UNKNOWN)
        }
    }

    fn all(text: &str) -> HistogramKey {
        HistogramKey {
            route: text.to_owned(),
            virtual_service: text.to_owned(),
            virtual_host: text.to_owned(),
            destination: text.to_owned(),
        }
    }
}

/// The labels of a slot with their text. The text is made once, when the slot is given: a scrape with
/// thousands of series only copies it.
#[derive(Debug)]
pub struct SlotLabels {
    /// The labels.
    pub labels: MetricLabels,
    /// The same as the exposition shows them, `name="value"` with commas between.
    pub text: Box<str>,
}

impl SlotLabels {
    fn new(labels: MetricLabels) -> SlotLabels {
        let mut text = String::with_capacity(512);
        for (name, value) in labels.pairs() {
            label(&mut text, name, value);
        }
        SlotLabels { labels, text: text.into() }
    }
}

/// Interns label sets and histogram keys into slots. Grows only, so that the same labels keep the
/// same slot, and with it their counts, for the life of the process.
#[derive(Debug)]
pub struct LabelTable {
    labels: Vec<Arc<SlotLabels>>,
    overrides: Arc<MetricOverrides>,
    slots: HashMap<MetricLabels, MetricSlot>,
    histograms: Vec<HistogramKey>,
    histogram_slots: HashMap<HistogramKey, HistogramSlot>,
    histograms_max: usize,
    /// Histograms given by [`LabelTable::unrouted_slot`].
    of_hosts: usize,
}

/// The table as control thread (writes while compiling) and stats thread (reads while rendering)
/// share it. Workers never touch it.
pub type SharedLabels = Arc<RwLock<LabelTable>>;

impl Default for LabelTable {
    fn default() -> Self {
        LabelTable::new()
    }
}

impl LabelTable {
    /// All routes beyond [`HISTOGRAMS_MAX`] count in this one histogram.
    pub const OTHER_ROUTES: HistogramSlot = HistogramSlot(1);

    /// A table that holds slot 0 (everything unknown, no route) and [`LabelTable::OTHER_ROUTES`].
    pub fn new() -> LabelTable {
        LabelTable::with_histograms_max(HISTOGRAMS_MAX)
    }

    fn with_histograms_max(histograms_max: usize) -> LabelTable {
        let mut table = LabelTable {
            labels: Vec::new(),
            overrides: Arc::default(),
            slots: HashMap::new(),
            histograms: vec![HistogramKey::all(UNKNOWN), HistogramKey::all("other")],
            histogram_slots: HashMap::new(),
            histograms_max,
            of_hosts: 0,
        };
        let unknown = table.metric_slot(&MetricLabels::default());
        debug_assert_eq!(unknown, MetricSlot::UNKNOWN);
        table
    }

    /// The table in the form that threads share.
    pub fn shared() -> SharedLabels {
        Arc::new(RwLock::new(LabelTable::new()))
    }

    /// The slot of `labels`, a new one when they were never seen. Empty values count as their
    /// defaults.
    pub fn metric_slot(&mut self, labels: &MetricLabels) -> MetricSlot {
        if let Some(slot) = self.slots.get(labels) {
            return *slot;
        }
        let mut labels = labels.clone();
        labels.fill_defaults();
        if let Some(slot) = self.slots.get(&labels) {
            return *slot;
        }
        let slot = MetricSlot(self.labels.len() as u32);
        self.labels.push(Arc::new(SlotLabels::new(labels.clone())));
        self.slots.insert(labels, slot);
        slot
    }

    /// The histogram of `key`. When [`HISTOGRAMS_MAX`] exist already, a new key gets the shared
    /// [`LabelTable::OTHER_ROUTES`] (a histogram is large).
    pub fn histogram_slot(&mut self, key: &HistogramKey) -> HistogramSlot {
        if let Some(slot) = self.histogram_slots.get(key) {
            return *slot;
        }
        if self.histograms.len() >= self.histograms_max {
            return LabelTable::OTHER_ROUTES;
        }
        let slot = HistogramSlot(self.histograms.len() as u32);
        self.histograms.push(key.clone());
        self.histogram_slots.insert(key.clone(), slot);
        slot
    }

    /// The histogram of requests for `virtual_host` that no route of it matched. Such hosts have
    /// [`HISTOGRAMS_OF_HOSTS_MAX`] at most, so that there are some for routes; a host beyond gets that of
    /// requests without host.
    pub fn unrouted_slot(&mut self, virtual_host: &str) -> HistogramSlot {
        let key = HistogramKey::unrouted_of(virtual_host);
        if let Some(slot) = self.histogram_slots.get(&key) {
            return *slot;
        }
        if self.of_hosts >= HISTOGRAMS_OF_HOSTS_MAX {
            return HistogramSlot::UNROUTED;
        }
        match self.histogram_slot(&key) {
            LabelTable::OTHER_ROUTES => HistogramSlot::UNROUTED,
            slot => {
                self.of_hosts += 1;
                slot
            }
        }
    }

    /// What each histogram measures; index: `HistogramSlot`.
    pub fn histogram_keys(&self) -> &[HistogramKey] {
        &self.histograms
    }

    /// The labels of a slot; those of slot 0 for a slot that this table did not give.
    pub fn labels(&self, slot: MetricSlot) -> &MetricLabels {
        &self.slot_labels(slot).labels
    }

    /// The labels of a slot with their text; those of slot 0 for a slot that this table did not give.
    pub fn slot_labels(&self, slot: MetricSlot) -> &Arc<SlotLabels> {
        // Slot 0 is there from the start.
        self.labels.get(slot.index()).unwrap_or(&self.labels[0])
    }

    /// What Telemetry resources change about Istio's metrics, from the next scrape on.
    pub fn set_overrides(&mut self, overrides: MetricOverrides) {
        if *self.overrides != overrides {
            self.overrides = Arc::new(overrides);
        }
    }

    /// What was set last; nothing at first.
    pub fn overrides(&self) -> &Arc<MetricOverrides> {
        &self.overrides
    }

    /// What a histogram measures; slot 0 for a slot that this table did not give.
    pub fn histogram_key(&self, slot: HistogramSlot) -> &HistogramKey {
        self.histograms.get(slot.index()).unwrap_or(&self.histograms[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_stable_and_zero_is_unknown() {
        let mut table = LabelTable::new();
        assert_eq!(table.metric_slot(&MetricLabels::default()), MetricSlot::UNKNOWN);
        let hello = MetricLabels::of_service("hello.default.svc.cluster.local", "hello");
        let slot = table.metric_slot(&hello);
        assert_eq!(slot, MetricSlot(1));
        table.metric_slot(&MetricLabels::of_service("other", "other"));
        assert_eq!(table.metric_slot(&hello), slot);
        assert_eq!(table.labels(slot).destination_service_name, "hello");
        assert_eq!(table.labels(MetricSlot(99)), &MetricLabels::default());
    }

    #[test]
    fn empty_values_become_defaults() {
        let mut table = LabelTable::new();
        let mut labels = MetricLabels::of_service("a", "");
        labels.destination_canonical_revision.clear();
        labels.destination_app.clear();
        let slot = table.metric_slot(&labels);
        assert_eq!(table.metric_slot(&labels), slot);
        assert!(table.labels(slot).pairs().iter().all(|(_, value)| !value.is_empty()));
        assert_eq!(table.labels(slot).destination_canonical_revision, "latest");
        assert_eq!(table.labels(slot).destination_app, "unknown");
    }

    #[test]
    fn an_empty_source_label_shows_its_default() {
        let source = SourceLabels { source_cluster: String::new(), ..SourceLabels::default() };
        assert_eq!(source.pairs()[7], ("source_cluster", "Kubernetes"));
    }

    #[test]
    fn histograms_are_bounded() {
        let mut table = LabelTable::with_histograms_max(3);
        let first = table.histogram_slot(&HistogramKey::all("a"));
        assert_eq!(first, HistogramSlot(2));
        assert_eq!(table.histogram_slot(&HistogramKey::all("b")), LabelTable::OTHER_ROUTES);
        assert_eq!(table.histogram_slot(&HistogramKey::all("a")), first);
        assert_eq!(table.histogram_key(first).route, "a");
        assert_eq!(table.histogram_key(HistogramSlot::UNROUTED).route, "unknown");
        assert_eq!(table.unrouted_slot("c"), HistogramSlot::UNROUTED, "not among the other routes");
    }

    #[test]
    fn hosts_do_not_use_up_the_histograms_of_routes() {
        let mut table = LabelTable::new();
        let first = table.unrouted_slot("0");
        for host in 1..HISTOGRAMS_OF_HOSTS_MAX {
            assert_ne!(table.unrouted_slot(&host.to_string()), HistogramSlot::UNROUTED);
        }
        assert_eq!(table.unrouted_slot("more"), HistogramSlot::UNROUTED);
        assert_eq!(table.unrouted_slot("0"), first);
        assert_eq!(table.histogram_key(first), &HistogramKey::unrouted_of("0"));
        assert_ne!(table.histogram_slot(&HistogramKey::all("a")), LabelTable::OTHER_ROUTES);
    }
}
