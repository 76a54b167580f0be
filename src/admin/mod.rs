//! The admin server: readiness, metrics, and what configuration is live. Loopback by default.
//!
//! It shows what the control loop put into [`AdminState`] and what the stats thread collects; it
//! holds nothing of its own and changes nothing. It runs on the control side's tokio runtime and
//! knows no internals of control, workers or manifests.
//!
//! Reading order: `ports` (which port serves what, and binding), `state`, `report`, `explain`,
//! `histograms`, `stats`, `live_stats`, `live`, `graph`, `slo_rules`, `slos`, `dashboard`, `server`.

mod dashboard;
mod explain;
mod graph;
mod histograms;
mod live;
mod live_stats;
pub mod ports;
pub mod report;
pub mod server;
pub mod slo_rules;
mod slos;
pub mod state;
mod stats;

pub use ports::{AdminConfig, AdminError, AdminListeners, AdminRole};
pub use server::serve;
pub use state::{AdminState, Readiness, ReadinessFlag, ServerInfo, SnapshotCell, StatusCell};
