//! One worker's view of the clusters: which endpoint next, and the connections kept to it. Nothing
//! here is shared with another core, and nothing here knows a route or a downstream connection.

pub mod cluster;
pub mod connection;
pub mod load_balancer;
pub mod pool;

pub use cluster::{ClusterState, ClusterStates};
pub use connection::Connection;
pub use pool::EndpointPool;
