//! Ringress: an Istio-compatible ingress gateway in one binary.
//!
//! The modules in the order in which they may import each other (a module imports only what stands
//! before it; `tests/tidy.rs` checks it):
//!
//! | layer | modules | side |
//! | --- | --- | --- |
//! | 0 | [`limits`], [`ids`] | both |
//! | 1 | [`http`], [`stream_info`], [`net`], [`metrics`] | data |
//! | 2 | [`http1`], [`http2`], [`tls`], [`router`], [`access_log`], [`trace`] | data |
//! | 3 | [`snapshot`] | both: what the two sides exchange |
//! | 4 | [`upstream`] | data |
//! | 5 | [`proxy`] | data |
//! | 6 | [`worker`] | data |
//! | C1 | [`config`] | control |
//! | C2 | [`validate`] | control |
//! | C3 | [`compile`] | control |
//! | C4 | [`control`] | control |
//! | C5 | [`explain`] | control |
//! | C6 | [`admin`] | control |
//! | top | [`server`], [`cli`] | both |

pub mod ids;
pub mod limits;

pub mod http;
pub mod metrics;
pub mod net;
pub mod stream_info;

pub mod access_log;
pub mod http1;
pub mod http2;
pub mod router;
pub mod tls;
pub mod trace;

pub mod snapshot;

pub mod proxy;
pub mod upstream;
pub mod worker;

pub mod admin;
pub mod compile;
pub mod config;
pub mod control;
pub mod explain;
pub mod validate;

pub mod cli;
pub mod server;
