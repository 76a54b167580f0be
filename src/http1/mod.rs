//! HTTP/1 codec: bytes in, heads and frames out, and back. Sans I/O: no sockets, no clock, no
//! routing. What is refused here is refused for good: a head that this module accepts has exactly
//! one reading (RFC 9112, with the tolerances of its section 2.2 and 6.3 turned off).
//!
//! * [`parse_request`], [`parse_response`]: a head as views into the receive buffer;
//! * [`HeadScanner`]: is it worth parsing yet, for heads that arrive in pieces;
//! * [`chunked`]: chunked bodies, decoded in place, and the lines to write them;
//! * [`encode`]: status lines, replies made by the gateway itself.
//!
//! Private files: `framing` decides how long a body is, `target` reads request targets and checks
//! authorities, `connection` reads `Connection` and knows the hop-by-hop fields.

pub mod chunked;
pub mod encode;

mod connection;
mod error;
mod framing;
mod parse;
mod scanner;
mod target;
#[cfg(test)]
mod tests;

pub use chunked::{ChunkError, ChunkedDecoder, Decoded};
pub use connection::{ConnectionNominated, is_hop_by_hop, is_proxy_field};
pub use error::{RequestError, ResponseError};
pub use parse::{HeaderStorage, ParsedRequest, ParsedResponse, parse_request, parse_response};
pub use scanner::HeadScanner;
