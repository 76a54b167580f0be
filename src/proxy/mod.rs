//! The story of a connection and of a request, on one worker. Read in this order:
//!
//! 1. [`listener`]: where it came in; [`downstream`]: a client's connection, its deadline, and the table of all of them;
//! 2. [`exchange`]: one request and its response, from first byte to record: read this first;
//! 3. [`request`]: head → route → destination; [`upstream_head`]: the head that goes upstream;
//! 4. [`forward`]: the attempts of a request; [`attempt`]: pick an endpoint, get a connection;
//! 5. [`response`]: the upstream's head → the client's head, and the body behind it;
//! 6. [`receiver`], [`request_body`], [`tunnel`]: bytes that stream beside that;
//! 7. [`http2_connection`]: the streams of a client's HTTP/2 connection; [`tls_connection`]: which
//!    server a client asks for; [`grpc_web`]: gRPC-Web in and out; [`tcp`]: a connection that is routed as
//!    a whole;
//! 8. [`local_reply`], [`error`], [`reason`]: what the gateway answers itself;
//! 9. [`record`], [`trace`]: what is told of a request when it has ended; [`tap`]: requests as they pass, for
//!    whoever watches.
//!
//! Nothing here may block, lock, allocate per request, or know a manifest.

pub mod arrival;
pub mod attempt;
pub mod context;
pub mod cors;
pub mod deadline;
pub mod downstream;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod grpc_web;
pub mod hash_key;
pub mod header_edits;
pub mod http2_connection;
pub mod http2_upstream;
pub mod in_flight;
pub mod listener;
pub mod local_reply;
pub mod mirror;
pub mod proxy_protocol;
pub mod reason;
pub mod receiver;
pub mod record;
pub mod recording;
pub mod redirect;
pub mod request;
pub mod request_body;
pub mod response;
pub mod response_body;
pub mod retry;
pub mod rewrite;
pub mod scratch;
pub mod tap;
pub mod tcp;
pub mod tls_connection;
pub mod trace;
pub mod tunnel;
pub mod upstream_head;

pub use context::{Replica, WorkerContext};
pub use downstream::DownstreamTable;
pub use listener::{ChainSlots, ListenerSlot};
