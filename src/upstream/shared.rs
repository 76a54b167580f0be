//! What all workers share of the clusters that have limits or outlier detection: counts of the whole
//! process. Made when a snapshot is published, once, and handed to every worker beside its own copy.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::limits::Limiter;
use super::outlier::OutlierDetector;
use crate::ids::ClusterId;
use crate::snapshot::Snapshot;

/// What the workers share of one cluster.
#[derive(Debug)]
pub struct SharedCluster {
    /// Its limits, if it has any.
    pub limiter: Option<Limiter>,
    /// Its outlier detection, if it has one.
    pub detector: Option<OutlierDetector>,
    epoch: Instant,
}

impl SharedCluster {
    /// Milliseconds that the times of the detector are in.
    pub fn milliseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

/// Those of a snapshot. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct SharedClusters {
    by_name: Arc<HashMap<String, Arc<SharedCluster>>>,
    /// Index: [`ClusterId`].
    by_id: Arc<[Option<Arc<SharedCluster>>]>,
}

impl SharedClusters {
    /// For `snapshot`. What `previous` counts of clusters with the same name goes on.
    pub fn new(snapshot: &Snapshot, previous: &SharedClusters) -> SharedClusters {
        let mut by_name = HashMap::new();
        let mut by_id = Vec::with_capacity(snapshot.clusters.len());
        for cluster in &snapshot.clusters {
            if cluster.limits.is_none() && cluster.outlier_detection.is_none() {
                by_id.push(None);
                continue;
            }
            let before = previous.by_name.get(&cluster.name);
            let limiter = cluster.limits.as_deref().map(|limits| {
                Limiter::new(*limits, before.and_then(|before| before.limiter.as_ref()))
            });
            let detector = cluster.outlier_detection.as_deref().map(|settings| {
                let addresses = cluster.endpoints.iter().map(|endpoint| endpoint.address);
                let before = before.and_then(|before| before.detector.as_ref());
                OutlierDetector::new(settings, addresses, before)
            });
            let epoch = before.map_or_else(Instant::now, |before| before.epoch);
            let shared = Arc::new(SharedCluster { limiter, detector, epoch });
            by_id.push(Some(Arc::clone(&shared)));
            by_name.insert(cluster.name.clone(), shared);
        }
        SharedClusters { by_name: Arc::new(by_name), by_id: by_id.into() }
    }

    /// Has outlier detection taken an endpoint out, by its position in the cluster?
    pub fn is_ejected(&self, id: ClusterId, position: usize) -> bool {
        let detector = self.get(id).and_then(|shared| shared.detector.as_ref());
        detector.is_some_and(|detector| detector.is_ejected(position))
    }

    /// That of a cluster, if it has any.
    pub fn get(&self, id: ClusterId) -> Option<&Arc<SharedCluster>> {
        self.by_id.get(id.index())?.as_ref()
    }
}

/// Those of the newest snapshot, for pages that show them.
#[derive(Debug, Default)]
pub struct SharedClustersCell(RwLock<SharedClusters>);

impl SharedClustersCell {
    /// Show these from now on.
    pub fn set(&self, shared: SharedClusters) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// Those set last.
    pub fn load(&self) -> SharedClusters {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
