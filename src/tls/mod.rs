//! TLS over [`crate::net::Stream`]: the only module that names rustls. Both sides are made of plain
//! [`settings`]; nothing here knows a manifest or reads a file (but for the authorities of the system).
//!
//! [`ServerTls`] and [`ClientTls`] are made once per settings and shared by all workers.
//! [`server::accept`] and [`client::connect`] turn a socket into a stream whose bytes are encrypted, and
//! tell what was agreed ([`TlsInfo`]). [`client_hello`] reads the first bytes of a client before a
//! server is chosen. [`certificate`] tells what a certificate says.

pub mod certificate;
pub mod cipher_suites;
pub mod client;
pub mod client_hello;
mod crypto;
mod error;
mod handshake;
mod identity;
mod peer;
pub mod pem;
mod plaintext;
mod pools;
pub mod server;
mod session;
pub mod settings;
mod stream;

mod trust;

pub use client::ClientTls;
pub use error::TlsError;
pub use handshake::TlsInfo;
pub use peer::PeerCertificate;
pub use pools::TlsPools;
pub use server::ServerTls;

#[cfg(test)]
mod tests;
