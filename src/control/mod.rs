//! The control side's loop: read manifests → validate → compile → publish to the workers, at start
//! and after every change; keep the last good version of what became bad.
//!
//! One thread with a tokio runtime of its own. It may block and allocate; it never touches a
//! request.

pub mod credential_files;
pub mod dns;
pub mod publish;
pub mod reload;
pub mod signals;
pub mod store;
pub mod supervisor;
pub mod watch;
