//! HTTP/2 over [`crate::net::Stream`]: the only module that names `h2`. Each of its streams is made a
//! [`crate::net::Layer`] on which HTTP/1.1 is spoken inside the process, so that one story of a request
//! serves every pair of versions.
