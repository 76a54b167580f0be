//! One worker's view of the clusters: which endpoint next, and the connections kept to it. Nothing
//! here is shared with another core but what `shared` says, and nothing here knows a route or a
//! downstream connection.

pub mod cluster;
pub mod connection;
pub mod http2;
pub mod limits;
pub mod load_balancer;
pub mod outlier;
pub mod pool;
pub mod selection;
pub mod shared;

pub use cluster::{ClusterState, ClusterStates};
pub use connection::{ClientAddresses, Connection, OwnPurpose, Purpose};
pub use http2::{Http2Connection, Http2Connections, Http2Limits, Opened};
pub use limits::{Counted, Limiter, Ticket};
pub use outlier::Outcome;
pub use pool::{CheckedIn, ConnectionPlace, EndpointPool, Freed};
pub use selection::Pick;
pub use shared::{SharedCluster, SharedClusters, SharedClustersCell};
