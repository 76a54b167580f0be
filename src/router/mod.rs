//! From a request head to a route: virtual host by authority, then the first route that matches.
//!
//! What lives here is compiled, immutable and pure: no I/O, no clock, and in the usual case no
//! allocation per lookup. Nothing here knows a manifest (the compiler builds the tables) or what a
//! route does (`RouteId` is all it answers).

pub mod explain;
pub mod host;
pub mod matcher;
pub mod path_index;
pub mod string_match;
pub mod substitution;
pub mod table;
pub mod weighted;

pub use matcher::{HeaderMatch, Matcher, QueryMatch};
pub use string_match::{PatternError, StringMatch};
pub use substitution::{Substitution, SubstitutionError};
pub use table::{BuildError, Lookup, RouteEntry, RouteTable, VirtualHost};

#[cfg(test)]
mod tests;
