//! TLS over [`crate::net::Stream`]: the only module that names rustls. Both sides are made of plain
//! [`settings`]; nothing here knows a manifest or reads a file.

pub mod settings;
