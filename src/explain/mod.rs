//! Where a request would go and why, without sending it. A request that is asked about runs through
//! the code that the workers run: parse, normalise, look up, pick, write the upstream head. What the
//! gateway would answer itself is written by the code that writes it for clients.
//!
//! Used by `ringress explain` and `ringress diff` on manifests, and by the admin server on the
//! configuration in force. Reading order: `asked` (what can be asked), `answer`, `text`, `service`
//! (the thread behind the admin page).

pub mod answer;
pub mod asked;
pub mod connection;
pub mod service;
pub mod text;

pub use answer::{Explainer, Question, Table};
pub use asked::{AskError, Asked};
pub use connection::AskedConnection;
pub use service::ExplainService;
pub use text::to_text;

use crate::snapshot::Listener;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It is no request.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The bytes of the request do not end.
    #[error("the request is not complete")]
    Incomplete,
    /// No port is open for such requests.
    #[error("no Gateway of this gateway opens a port that takes {0}")]
    NoListener(&'static str),
    /// Several ports are open, and not this one.
    #[error("nothing listens on port {port}; open are {open}")]
    NoSuchPort {
        /// The port that was asked for.
        port: u16,
        /// The addresses that are open.
        open: String,
    },
    /// No server of a TLS port has the host's name.
    #[error("no server of port {port} has the name {host}: the connection is closed")]
    NoSuchServer {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The connections of the host hold no requests that the gateway sees.
    #[error("connections of {host} on port {port} go on as they are: ask tls://{host}:{port}")]
    NotRequests {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// Nothing was published yet.
    #[error("no configuration is in force yet")]
    NotStarted,
    /// Too many ask at once.
    #[error("too many questions at once: ask again")]
    Busy,
    /// The system refuses what an explanation needs.
    #[error("cannot explain: {0}")]
    System(#[from] std::io::Error),
    /// The runtime of the explanation failed.
    #[error("cannot explain: {0}")]
    Runtime(#[from] crate::net::runtime::RuntimeError),
}

/// Ports as Gateways write them, with the addresses that they are.
fn ports<'s>(listeners: impl Iterator<Item = &'s Listener>) -> String {
    let ports: Vec<String> = listeners
        .map(|listener| {
            let numbers: Vec<String> = listener.numbers.iter().map(ToString::to_string).collect();
            format!("{} ({})", numbers.join(", "), listener.address)
        })
        .collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}
