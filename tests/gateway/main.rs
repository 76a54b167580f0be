//! The real binary over real sockets, with clients and upstreams that we did not write. One test
//! binary; a module per subject.
//!
//! Where a new test goes: what a manifest does to a request → `routing`; bytes on the wire →
//! `framing` (malformed), `http2`, `http2_frames`, `http2_few_streams`, `http2_misuse` and `h2load` (that version), `grpc` and `grpc_web`,
//! `unusual_requests` (well-formed, however odd), `messages` and `bodies`
//! (well-formed) or `back_pressure` (slow readers); a promise about failures → `upstream_faults`;
//! why the gateway answers itself → `answers`; what is logged → `access_log`, `telemetry`; retries, timeouts, injected faults → `retries`; bodies that
//! are sent again → `repeats`; copies → `mirrors`; which endpoint and which connection → `sticky`,
//! `connection_pool`, `http2_pool`, `limits`, `localities`, `outliers`; names of services → `dns`;
//! certificates in Secrets and files → `credentials`; connections routed as a whole → `tcp`, `tcp_duration`;
//! TLS of clients → `tls` (which server, whose certificate), `tls_settings` (what it is made of),
//! `tls_clients` (whose certificate of theirs is good), `tls_handshakes` (what does not come), `tls_routes`, `tls_http2`, `tls_drain`, `websocket_tls`, `curl`; TLS to upstreams →
//! `upstream_tls`, `upstream_tls_settings`; the life of the process → `lifecycle`, `reload`, and what a reload
//! leaves alone → `undisturbed`; trace contexts and spans → `traces`; what is counted → `observability`, `exposition`,
//! and what is asked of it → `dashboards`; what the live pages and `top` show → `live`, the page for browsers →
//! `dashboard`, objectives → `slo`; what operators ask of the admin port → `admin_pages`, `tap`. No test asserts a time.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` says what modules share")]

mod support;

mod access_log;
mod admin_pages;
mod answers;
mod back_pressure;
mod bodies;
mod check;
mod connection_pool;
mod connections;
mod credentials;
mod curl;
mod dashboard;
mod dashboards;
mod demo;
mod diff;
mod dns;
mod explain;
mod exposition;
mod framing;
mod framing_mutations;
mod grpc;
mod grpc_web;
mod h2load;
mod http2;
mod http2_few_streams;
mod http2_frames;
mod http2_misuse;
mod http2_pool;
mod lifecycle;
mod limits;
mod live;
mod localities;
mod messages;
mod mirrors;
mod observability;
mod outliers;
mod proxy_protocol;
mod reload;
mod repeats;
mod retries;
mod routing;
mod slo;
mod sticky;
mod tap;
mod tcp;
mod tcp_duration;
mod telemetry;
mod tls;
mod tls_clients;
mod tls_drain;
mod tls_handshakes;
mod tls_http2;
mod tls_routes;
mod tls_settings;
mod traces;
mod undisturbed;
mod unusual_requests;
mod upstream_faults;
mod upstream_tls;
mod upstream_tls_settings;
mod validation;
mod websocket;
mod websocket_tls;
