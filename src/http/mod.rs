//! Version-neutral HTTP: heads, fields, paths, authorities. Pure: no I/O, no clock, no allocation
//! on the data path.
//!
//! There is no hash map of headers here: a head is a short list that is read once, in order, and
//! the names that the gateway itself compares are recognised while parsing ([`KnownHeader`]).

pub mod authority;
pub mod grpc;
pub mod head;
pub mod known_header;
pub mod path;

pub use head::{
    BodyLength, HeaderField, RequestHead, ResponseHead, Scheme, Version, first_query_value,
};
pub use known_header::KnownHeader;
