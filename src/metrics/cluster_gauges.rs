//! What a worker has open to each cluster. Looked at once a second by the worker's own sweep, which goes
//! through the pools anyway: nothing is counted when a request passes.

/// One worker's numbers of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterGauges {
    /// Requests and TCP connections that its endpoints serve.
    pub requests_active: u64,
    /// HTTP/1 connections that are kept for the next request.
    pub idle: u64,
    /// HTTP/2 connections.
    pub http2: u64,
    /// Those of `requests_active` whose endpoint has HTTP/2 connections, which they share.
    pub http2_requests: u64,
    /// Endpoints that outlier detection keeps out. Every worker sees the same ones.
    pub ejected: u64,
}

impl ClusterGauges {
    /// Connections that are open: an HTTP/1 request has one of its own.
    pub fn connections(&self) -> u64 {
        self.requests_active.saturating_sub(self.http2_requests) + self.idle + self.http2
    }

    fn add(&mut self, other: &ClusterGauges) {
        self.requests_active += other.requests_active;
        self.idle += other.idle;
        self.http2 += other.http2;
        self.http2_requests += other.http2_requests;
        self.ejected = self.ejected.max(other.ejected);
    }
}

/// One worker's numbers of all clusters of the snapshot that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTable {
    /// Generation of the snapshot; 0: nothing was looked at yet.
    pub generation: u64,
    /// Index: `ClusterId` in that snapshot.
    pub clusters: Vec<ClusterGauges>,
}

impl ClusterTable {
    /// The sum of those `tables` that are of `generation`; `count` clusters.
    pub fn sum(tables: &[ClusterTable], generation: u64, count: usize) -> Vec<ClusterGauges> {
        let mut sums = vec![ClusterGauges::default(); count];
        for table in tables.iter().filter(|table| table.generation == generation) {
            for (sum, gauges) in sums.iter_mut().zip(&table.clusters) {
                sum.add(gauges);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_ejected_endpoints_are_not() {
        let one =
            ClusterGauges { requests_active: 3, idle: 2, http2: 1, http2_requests: 3, ejected: 2 };
        let other = ClusterGauges { requests_active: 4, ejected: 1, ..ClusterGauges::default() };
        let table = |generation, gauges| ClusterTable { generation, clusters: vec![gauges] };
        let tables = [table(2, one), table(2, other), table(1, one)];
        let sums = ClusterTable::sum(&tables, 2, 2);
        assert_eq!(sums.len(), 2);
        assert_eq!((sums[0].requests_active, sums[0].ejected), (7, 2));
        assert_eq!(sums[0].connections(), 4 + 2 + 1);
        assert_eq!(sums[1], ClusterGauges::default());
    }
}
