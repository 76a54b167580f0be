//! One worker: an OS thread pinned to a core with its own runtime, listeners, replica of the
//! configuration, connection pools and counters. The [`mailbox`] is the only door between it and
//! the rest of the process.

pub mod accept;
pub mod mailbox;
pub mod thread;

pub use mailbox::{Command, WorkerEvent, WorkerHandle};
pub use thread::{WorkerConfig, spawn};
