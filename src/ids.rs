//! Small typed indices. An id is an index into the snapshot (or shard) that it was made for.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The index as `usize`.
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A listener of a snapshot.
    ListenerId
);
id!(
    /// A virtual host of one route table.
    VirtualHostId
);
id!(
    /// A route of a snapshot (`Snapshot::routes`).
    RouteId
);
id!(
    /// A cluster of a snapshot (`Snapshot::clusters`).
    ClusterId
);
id!(
    /// A set of Istio metric labels (`metrics::labels::LabelTable`). The same labels keep the same
    /// slot over reloads, so that counters survive them.
    MetricSlot
);
id!(
    /// A latency histogram of one route and destination, stable over reloads like [`MetricSlot`].
    HistogramSlot
);
id!(
    /// A worker thread, counted from 0.
    WorkerId
);

impl MetricSlot {
    /// Requests that reached no cluster: every destination label is `unknown`.
    pub const UNKNOWN: MetricSlot = MetricSlot(0);
}

impl HistogramSlot {
    /// Requests that matched no route.
    pub const UNROUTED: HistogramSlot = HistogramSlot(0);
}
