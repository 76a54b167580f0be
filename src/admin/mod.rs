//! The admin server: readiness, metrics, and what configuration is live. Loopback by default.
//!
//! It shows what the control loop put into [`AdminState`] and what the stats thread collects; it
//! holds nothing of its own but open taps, and changes only what [`Controls`] lets it. It runs on the
//! control side's tokio runtime and knows no internals of control, workers or manifests.
//!
//! Reading order: `ports` (which port serves what, and binding), `state`, `controls`, `report`, `server`;
//! then the pages: `configuration` (`/config_dump`, `/clusters`, `/listeners`), `exposition` and `histograms`
//! (for machines), `stats`, `certs`, `memory`, `explain`; of live traffic `live_stats`, `live`, `graph`,
//! `slo_rules`, `slos`, `dashboard`; those that act: `parameters` and `same_site` (who may ask for what),
//! `drain`, `logging`; and `taps`, `tap`: requests as they pass.

mod certs;
mod configuration;
pub mod controls;
mod dashboard;
mod drain;
mod explain;
mod exposition;
mod graph;
mod histograms;
mod live;
mod live_stats;
mod logging;
mod memory;
pub mod parameters;
pub mod ports;
pub mod report;
mod same_site;
pub mod server;
pub mod slo_rules;
mod slos;
pub mod state;
mod stats;
mod tap;
pub mod taps;

pub use controls::{Controls, ListenersEnd, Order, Orders, ProcessLog};
pub use ports::{AdminConfig, AdminError, AdminListeners, AdminRole};
pub use server::serve;
pub use state::{AdminState, Readiness, ReadinessFlag, ServerInfo, SnapshotCell, StatusCell};
pub use taps::{Taps, ToWorker};
