//! Every bound of the gateway in one place. A queue, buffer, loop or retry that is not bounded here
//! is a defect.

use std::time::Duration;

/// Bytes of a request or response head, first line and final empty line included (Envoy's
/// `max_request_headers_kb`, 60 KiB).
pub const HEAD_BYTES_MAX: usize = 60 * 1024;
/// Bytes of a request line.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one head (Envoy's `max_headers_count`).
pub const HEADERS_MAX: usize = 100;
/// Field names that the `Connection` fields of one head may name: every forwarded field is compared
/// with them.
pub const CONNECTION_OPTIONS_MAX: usize = 16;
/// Bytes of the extensions of one chunk.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Bytes of the extensions of all chunks of one body (CVE-2023-39326 class).
pub const BODY_EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the trailer section of one body.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request's body that are kept for retries and mirrors (Envoy's
/// `per_connection_buffer_limit_bytes`, 1 MiB).
pub const RECORDED_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Mirrors that one route may have.
pub const MIRRORS_OF_ROUTE_MAX: usize = 64;
/// Interim (1xx) responses that one upstream response may have.
pub const INTERIM_RESPONSES_MAX: u32 = 32;

/// Bytes of the buffer that an idle downstream connection waits with; a head that does not fit goes
/// on in a pooled buffer.
pub const IDLE_BUFFER_BYTES: usize = 1024;
/// Bytes of a pooled buffer, headroom included.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes of the large pooled buffer that long bodies are moved with.
pub const LARGE_BUFFER_BYTES: usize = 128 * 1024;
/// Bytes of a pipe that sockets are spliced through, as far as the system allows.
pub const PIPE_BYTES: usize = 256 * 1024;
/// Bytes of a header of the PROXY protocol version 2 with all that it tells (version 1: 107).
pub const PROXY_HEADER_BYTES_MAX: usize = 8 * 1024;
/// Pipes of one worker; tunnels beyond move their bytes through buffers.
pub const PIPES_MAX: usize = 128;
/// Free pipes that one worker keeps.
pub const FREE_PIPES_MAX: usize = 16;
/// A tunnel lets others have their turn when it moved so many bytes in a row.
pub const TUNNEL_TURN_BYTES: usize = 1024 * 1024;
/// Bytes kept free before the received bytes of a pooled buffer: a rewritten head or a chunk size
/// is put there, so that head and first body bytes leave in one send.
pub const BUFFER_HEADROOM_BYTES: usize = 1024;

/// Streams that a client may have open on one HTTP/2 connection (Envoy since 1.36).
pub const HTTP2_STREAMS_MAX: u32 = 1024;
/// Bytes of a request's body that a client may send on one stream before they are taken. What is
/// behind it waits in our memory: a quarter of the connection's, so that one stream that nobody reads
/// does not stop the others.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a client's connection: the most that it can make us hold (Envoy's
/// `per_connection_buffer_limit_bytes`, 1 MiB; its own window of 24 MiB is no bound of that kind).
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of a response's body that an upstream may send on one stream before the client takes them. A
/// client that reads nothing holds as much per stream: a quarter of what it may send itself.
pub const HTTP2_UPSTREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams of a client's connection whose responses may wait for it in buffers of
/// [`LARGE_BUFFER_BYTES`]: a mebibyte together. Those that begin while there are more have
/// [`BUFFER_BYTES`].
pub const HTTP2_LARGE_BUFFERS_MAX: usize = 8;
/// Bytes of one stream that are framed and wait for the socket: two frames of the usual size, of which
/// one can be filled while the other leaves.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Streams that a client has reset before we looked at them (CVE-2023-44487).
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we reset for errors of the peer (CVE-2025-8671).
pub const HTTP2_LOCAL_RESETS_MAX: usize = 1024;
/// From so many streams on a connection is ended when more than half of them were reset by the client
/// before they had their response (Envoy's `premature_reset_total_stream_count`).
pub const HTTP2_PREMATURE_RESETS_FROM: u64 = 500;

/// A request head must be complete this long after its first byte.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Default of `--tls-handshake-timeout`: a TLS handshake must be over this long after the connection was
/// accepted (Istio's gateway: 15 s).
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// A body or a write must make progress within this time.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle keep-alive connection is closed after this time (Istio: 1 h).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// An idle upstream connection is closed after this time (Istio: `http.idleTimeout`, 1 h).
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Connections that are routed as a whole are closed when no byte moved for this long (Istio's
/// `connectionPool.tcp.idleTimeout`, 1 h).
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// An idle upstream connection that serves one client only (PROXY protocol) is closed after this time.
pub const PROXIED_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Where the PROXY protocol is asked for, its header must be complete after this time.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `connectionPool.tcp.connectTimeout` (mesh `connectTimeout`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle upstream connections kept per endpoint and worker.
pub const IDLE_UPSTREAM_CONNECTIONS_MAX: usize = 1024;
/// After an accept failed for want of descriptors or memory, wait this long before the next.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Backlog of a listening socket.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Default of `--drain-timeout`.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts that follow the first one when no retry policy is written (Istio's mesh default).
pub const DEFAULT_RETRIES: u32 = 2;

/// Different (code, flags, protocol) series that one set of metric labels may have; requests beyond
/// are counted as dropped from the metrics.
pub const SERIES_PER_SLOT_MAX: usize = 256;
/// Latency histograms of the process (about 85 KiB each, twice per worker that uses one, and 170 KiB
/// once); routes beyond share one.
pub const HISTOGRAMS_MAX: usize = 256;
/// Of these, those that hosts may use for requests that matched no route of theirs; hosts beyond count
/// with requests that matched no host.
pub const HISTOGRAMS_OF_HOSTS_MAX: usize = 64;
/// Seconds of the history of requests, one step each: ten minutes, and ten that wait to be put together.
pub const HISTORY_STEPS_MAX: usize = 610;
/// Steps of ten seconds that the history has of the time before: an hour.
pub const HISTORY_COARSE_STEPS_MAX: usize = 360;
/// Bytes of the history of requests; when it would be more, its steps become coarser or fewer.
pub const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Service level objectives (about 50 KiB each); further ones are left out and told.
pub const OBJECTIVES_MAX: usize = 256;
/// Shortest and longest window of a service level objective.
pub const OBJECTIVE_WINDOW_MIN: Duration = Duration::from_secs(60 * 60);
/// See [`OBJECTIVE_WINDOW_MIN`].
pub const OBJECTIVE_WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often the stats thread collects the workers' numbers when nobody asks.
pub const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// A scrape waits this long for a worker that does not answer, then shows what is there.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of access log that a worker gathers before it hands them to the writer.
pub const ACCESS_LOG_BUFFER_BYTES: usize = 32 * 1024;
/// Access log buffers that may wait for the writer; when all wait, lines are dropped and counted.
pub const ACCESS_LOG_QUEUE_MAX: usize = 64;
/// Emptied access log buffers that one worker keeps.
pub const ACCESS_LOG_SPARE_BUFFERS_MAX: usize = 4;
/// Spans that a worker gathers before it hands them to the exporter.
pub const TRACE_BATCH_SPANS: usize = 64;
/// Batches of spans that may wait for the exporter; when all wait, spans are dropped and counted.
pub const TRACE_QUEUE_BATCHES_MAX: usize = 128;
/// Spans from which on the exporter waits for no more before it sends them.
pub const TRACE_EXPORT_SPANS_MAX: usize = 512;
/// Exemplars that a worker keeps between two collections; the newest displace the oldest.
pub const EXEMPLARS_MAX: usize = 256;
/// Bytes of a file with certificates, a key or revocation lists.
pub const CREDENTIAL_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a question to `/explain` of the admin server: a head and its first line.
pub const EXPLAIN_REQUEST_BYTES_MAX: usize = HEAD_BYTES_MAX + REQUEST_LINE_BYTES_MAX;
/// Ways through routes that the service graph shows; those without traffic are left out first.
pub const GRAPH_ROUTES_MAX: usize = 1000;
/// Endpoints that the service graph shows.
pub const GRAPH_ENDPOINTS_MAX: usize = 1000;
/// Questions to `/explain` that may wait.
pub const EXPLAIN_QUESTIONS_MAX: usize = 8;
/// Bytes of an answer of `/explain` that the command line reads.
pub const EXPLAIN_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a line of a file of requests.
pub const REQUEST_FILE_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Different requests that one comparison keeps (some hundred bytes each); further ones are counted.
pub const COMPARED_REQUESTS_MAX: usize = 1_000_000;
/// Lines of a file of requests that are named when they cannot be read; further ones are counted.
pub const UNREADABLE_LINES_NAMED_MAX: usize = 100;
/// Admin connections still open this long after shutdown was asked for are dropped.
pub const ADMIN_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Taps (`/tap`) that may be open.
pub const TAPS_MAX: usize = 4;
/// Requests of a tap that may wait for its reader; further ones are dropped and counted.
pub const TAP_EVENTS_MAX: usize = 1024;
/// Requests in a second that one worker passes on to a tap, unless it asks for another number.
pub const TAP_RATE: u32 = 100;
/// The most that it may ask for.
pub const TAP_RATE_MAX: u32 = 10_000;
/// Requests that a tap shows before it ends, unless it asks for another number.
pub const TAP_LINES: u64 = 10_000;
/// The most that it may ask for.
pub const TAP_LINES_MAX: u64 = 10_000_000;
/// How long a tap stays open, unless it asks for another time.
pub const TAP_DURATION: Duration = Duration::from_secs(300);
/// The most that it may ask for.
pub const TAP_DURATION_MAX: Duration = Duration::from_secs(3600);
/// Fields of requests that a tap may ask for.
pub const TAP_HEADERS_MAX: usize = 16;
/// How often a tap tells what it has seen, while requests match.
pub const TAP_STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Orders of the admin port that may wait for the control loop.
pub const ADMIN_ORDERS_MAX: usize = 8;
/// Bytes of a compiled `?filter=` of `/stats`.
pub const STATS_FILTER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the directives that `/logging` sets.
pub const LOG_DIRECTIVES_BYTES_MAX: usize = 4096;

const _: () = assert!(BUFFER_HEADROOM_BYTES < BUFFER_BYTES);
const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(IDLE_BUFFER_BYTES <= BUFFER_BYTES);
