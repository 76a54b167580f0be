//! Numbers that no worker counts: reloads, the access log's writer, the exporter of spans. Rarely written, so atomics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the control thread, the access log writer, the exporter of spans and the stats thread.
#[derive(Debug, Default)]
pub struct ControlStats {
    /// Configurations that were published.
    pub reloads_succeeded: AtomicU64,
    /// Configurations of which nothing could be published.
    pub reloads_failed: AtomicU64,
    /// Objects refused, summed over all reloads.
    pub object_refusals: AtomicU64,
    /// Objects whose newest version is refused now (gauge).
    pub objects_refused: AtomicU64,
    /// Generation of the newest published snapshot (gauge).
    pub generation: AtomicU64,
    /// Names that were asked for, once for each time.
    pub dns_lookups: AtomicU64,
    /// Of these, those that brought no address.
    pub dns_lookup_failures: AtomicU64,
    /// Names that are kept resolved (gauge).
    pub dns_names: AtomicU64,
    /// Of these, those without an address (gauge).
    pub dns_names_unresolved: AtomicU64,
    /// Access log lines written.
    pub access_log_written: AtomicU64,
    /// Access log lines that the writer could not write.
    pub access_log_lost: AtomicU64,
    /// Failed writes and openings of the access log.
    pub access_log_errors: AtomicU64,
    /// Spans that the collector took.
    pub trace_spans_exported: AtomicU64,
    /// Spans that it did not get or did not take.
    pub trace_spans_dropped: AtomicU64,
    /// Tries to send spans that failed.
    pub trace_export_failures: AtomicU64,
}

impl ControlStats {
    /// Count a published configuration with `refused` objects left out of it.
    pub fn reload_succeeded(&self, generation: u64, refused: u64) {
        self.reloads_succeeded.fetch_add(1, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        self.refused(refused);
    }

    /// Count a configuration that was not published, with `refused` objects.
    pub fn reload_failed(&self, refused: u64) {
        self.reloads_failed.fetch_add(1, Ordering::Relaxed);
        self.refused(refused);
    }

    /// Note a configuration that was published because addresses changed.
    pub fn renewed(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    fn refused(&self, refused: u64) {
        self.object_refusals.fetch_add(refused, Ordering::Relaxed);
        self.objects_refused.store(refused, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_objects_are_a_sum_and_a_gauge() {
        let stats = ControlStats::default();
        stats.reload_succeeded(1, 2);
        stats.reload_failed(3);
        stats.reload_succeeded(2, 0);
        assert_eq!(stats.object_refusals.load(Ordering::Relaxed), 5);
        assert_eq!(stats.objects_refused.load(Ordering::Relaxed), 0);
        assert_eq!(stats.reloads_succeeded.load(Ordering::Relaxed), 2);
        assert_eq!(stats.reloads_failed.load(Ordering::Relaxed), 1);
        assert_eq!(stats.generation.load(Ordering::Relaxed), 2);
    }
}
