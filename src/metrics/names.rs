//! Every metric name once, with its help text. Istio's standard names first, then ours.

/// Kind of a metric in the exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Only grows, under a name of others that does not say so (Envoy's).
    Untyped,
}

impl Kind {
    /// The word after `# TYPE` in the text format of Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        }
    }
}

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name of the family.
    pub name: &'static str,
    /// One line for `# HELP`.
    pub help: &'static str,
    /// Kind for `# TYPE`.
    pub kind: Kind,
}

/// Units that a family's name may end with, as OpenMetrics wants them.
const UNITS: [&str; 4] = ["seconds", "milliseconds", "bytes", "ratio"];

impl Metric {
    /// Name of the family in OpenMetrics, where `_total` belongs to the sample.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram | Kind::Untyped => self.name,
        }
    }

    /// The unit that the name ends with, where OpenMetrics is told of it. It may be left out, and some
    /// readers refuse it of histograms.
    pub fn unit(&self) -> Option<&'static str> {
        if self.kind == Kind::Histogram {
            return None;
        }
        let last = self.family().rsplit('_').next()?;
        UNITS.into_iter().find(|unit| *unit == last)
    }
}

macro_rules! metrics {
    ($all:ident, $about:literal: $($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Metric = Metric { name: $name, help: $help, kind: Kind::$kind };
        )*

        #[doc = $about]
        pub const $all: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    ALL, "Every family that is shown without being asked for.":
    REQUESTS = Counter "istio_requests_total",
        "Requests that ended, local replies and aborted ones included.";
    REQUEST_DURATION = Histogram "istio_request_duration_milliseconds",
        "First request byte to last response byte, milliseconds.";
    REQUEST_BYTES = Histogram "istio_request_bytes",
        "Request bytes on the wire, head included.";
    RESPONSE_BYTES = Histogram "istio_response_bytes",
        "Response bytes on the wire, head included.";
    REQUEST_MESSAGES = Counter "istio_request_messages_total",
        "Messages of gRPC requests that ended.";
    RESPONSE_MESSAGES = Counter "istio_response_messages_total",
        "Messages of gRPC responses that ended.";
    TCP_SENT_BYTES = Counter "istio_tcp_sent_bytes_total",
        "Bytes sent to clients on TCP connections.";
    TCP_RECEIVED_BYTES = Counter "istio_tcp_received_bytes_total",
        "Bytes received from clients on TCP connections.";
    TCP_CONNECTIONS_OPENED = Counter "istio_tcp_connections_opened_total",
        "TCP connections opened.";
    TCP_CONNECTIONS_CLOSED = Counter "istio_tcp_connections_closed_total",
        "TCP connections closed.";
    BUILD = Gauge "istio_build", "Component and version, always 1.";

    DOWNSTREAM_ACCEPTED = Counter "ringress_downstream_connections_accepted_total",
        "Downstream connections accepted.";
    DOWNSTREAM_CLOSED = Counter "ringress_downstream_connections_closed_total",
        "Downstream connections that ended.";
    DOWNSTREAM_ERRORS = Counter "ringress_downstream_connection_errors_total",
        "Downstream connections that ended by an error or a timer, by kind.";
    DOWNSTREAM_HTTP2 = Counter "ringress_downstream_http2_connections_total",
        "Downstream connections that speak HTTP/2.";
    TLS_HANDSHAKES = Counter "ringress_downstream_tls_handshakes_total",
        "TLS handshakes with clients that succeeded.";
    TLS_RESUMPTIONS = Counter "ringress_downstream_tls_resumptions_total",
        "TLS handshakes with clients that went on from an earlier session.";
    TLS_FAILED = Counter "ringress_downstream_tls_failures_total",
        "TLS handshakes with clients that failed, by reason.";
    ACCEPT_ERRORS = Counter "ringress_accept_errors_total",
        "Calls to accept that failed.";
    ACCEPT_PAUSES = Counter "ringress_accept_pauses_total",
        "Pauses of accepting for want of file descriptors or memory.";
    UPSTREAM_OPENED = Counter "ringress_upstream_connections_opened_total",
        "Upstream connections established.";
    UPSTREAM_CLOSED = Counter "ringress_upstream_connections_closed_total",
        "Upstream connections that ended.";
    UPSTREAM_FAILED = Counter "ringress_upstream_connect_failures_total",
        "Upstream connects that failed, by kind.";
    UPSTREAM_REUSED = Counter "ringress_upstream_connections_reused_total",
        "Requests sent on an upstream connection that had served before.";
    UPSTREAM_CLOSED_IDLE = Counter "ringress_upstream_connections_closed_idle_total",
        "Idle upstream connections that the upstream closed.";
    RETRIES = Counter "ringress_upstream_retries_total",
        "Attempts that followed a failed one.";
    RETRY_OVERFLOWS = Counter "ringress_upstream_retry_overflows_total",
        "Retries that a limit of the cluster did not allow (maxRetries, retryBudget).";
    OVERFLOWS = Counter "ringress_upstream_overflows_total",
        "Requests that a limit of their cluster refused (connectionPool).";
    OUTLIER_CHANGES = Counter "ringress_outlier_changes_total",
        "Endpoints that outlier detection took out, and those that came back.";
    MIRRORS = Counter "ringress_mirrored_requests_total",
        "Copies of requests for mirrors, by what became of them.";
    UPSTREAM_PROTOCOL_ERRORS = Counter "ringress_upstream_protocol_errors_total",
        "Responses that broke the protocol.";
    TUNNELS_OPENED = Counter "ringress_tunnels_opened_total",
        "Connections upgraded to a tunnel (WebSocket).";
    ACCESS_LOG_DROPPED = Counter "ringress_access_log_lines_dropped_total",
        "Access log lines dropped because the writer did not keep up.";
    SNAPSHOT_SWAPS = Counter "ringress_worker_snapshot_swaps_total",
        "Configurations that workers put in place, counted per worker.";
    SERIES_OVERFLOW = Counter "ringress_metric_series_overflow_total",
        "Requests left out of the Istio metrics because their label set had too many series.";

    DOWNSTREAM_ACTIVE = Gauge "ringress_downstream_connections_active",
        "Downstream connections open.";
    REQUESTS_ACTIVE = Gauge "ringress_requests_active",
        "Requests in flight.";
    UPSTREAM_ACTIVE = Gauge "ringress_upstream_connections_active",
        "Upstream connections in use.";
    UPSTREAM_IDLE = Gauge "ringress_upstream_connections_idle",
        "Upstream connections kept for the next request.";
    TUNNELS_ACTIVE = Gauge "ringress_tunnels_active",
        "Tunnels open.";
    WORKER_GENERATION = Gauge "ringress_worker_config_generation",
        "Generation of the configuration that the worker serves.";

    WORKERS = Gauge "ringress_workers", "Worker threads.";
    WORKERS_SILENT = Gauge "ringress_workers_silent",
        "Workers that did not answer this scrape in time; their numbers are older.";
    RELOADS = Counter "ringress_config_reloads_total",
        "Configurations read, by result.";
    OBJECT_REFUSALS = Counter "ringress_config_object_refusals_total",
        "Objects refused, counted at each reload.";
    OBJECTS_REFUSED = Gauge "ringress_config_objects_refused",
        "Objects whose newest version is refused now.";
    CONFIG_GENERATION = Gauge "ringress_config_generation",
        "Generation of the configuration that was published last.";
    DNS_LOOKUPS = Counter "ringress_dns_lookups_total",
        "Names of services that were asked for, once for each time.";
    DNS_LOOKUP_FAILURES = Counter "ringress_dns_lookup_failures_total",
        "Lookups of names that brought no address.";
    DNS_NAMES = Gauge "ringress_dns_names",
        "Names of services that are kept resolved.";
    DNS_NAMES_UNRESOLVED = Gauge "ringress_dns_names_unresolved",
        "Names of services without an address, now or earlier: requests to them get 503.";
    SLO_OBJECTIVE = Gauge "ringress_slo_objective",
        "Share of requests that is to be good, 0 to 1.";
    SLO_GOOD = Counter "ringress_slo_good_total",
        "Requests that were good in the sense of the objective.";
    SLO_EVENTS = Counter "ringress_slo_events_total",
        "Requests that the objective is about.";
    SLO_BUDGET = Gauge "ringress_slo_error_budget_remaining",
        "What is left of the error budget in the objective's window, as far as this process saw it.";
    SLO_BURN_RATE = Gauge "ringress_slo_burn_rate",
        "How many times as fast as it may the error budget was used, as far as this process saw it.";
    ACCESS_LOG_WRITTEN = Counter "ringress_access_log_lines_written_total",
        "Access log lines written.";
    ACCESS_LOG_LOST = Counter "ringress_access_log_lines_lost_total",
        "Access log lines that could not be written.";
    ACCESS_LOG_ERRORS = Counter "ringress_access_log_write_errors_total",
        "Writes and openings of the access log that failed.";
    TRACE_SPANS_EXPORTED = Counter "ringress_trace_spans_exported_total",
        "Spans that the collector took.";
    TRACE_SPANS_DROPPED = Counter "ringress_trace_spans_dropped_total",
        "Spans dropped because the collector was away, too slow, or refused them.";
    TRACE_EXPORT_FAILURES = Counter "ringress_trace_export_failures_total",
        "Tries to send spans to the collector that failed.";

    WORKER_CPU = Counter "ringress_worker_cpu_seconds_total",
        "CPU time that the worker's thread has used.";
    WORKER_BUSY = Gauge "ringress_worker_busy_ratio",
        "Share of the last second or so in which the worker's thread had a core.";
    RING_SUBMISSIONS = Counter "ringress_worker_io_uring_submissions_total",
        "Operations given to the worker's ring; absent with epoll.";
    RING_COMPLETIONS = Counter "ringress_worker_io_uring_completions_total",
        "Completions that the worker's ring has brought; absent with epoll.";

    CLUSTER_REQUESTS_ACTIVE = Gauge "ringress_cluster_requests_active",
        "Requests and TCP connections that the endpoints of a cluster serve now, as of the last second.";
    CLUSTER_IDLE = Gauge "ringress_cluster_connections_idle",
        "HTTP/1 connections to a cluster that are kept for the next request, as of the last second.";
    CLUSTER_HTTP2 = Gauge "ringress_cluster_http2_connections",
        "HTTP/2 connections to a cluster, as of the last second.";
    CLUSTER_EJECTED = Gauge "ringress_cluster_endpoints_ejected",
        "Endpoints of a cluster that outlier detection keeps out now.";

    PROCESS_CPU = Counter "process_cpu_seconds_total", "CPU time that the process has used.";
    PROCESS_START = Gauge "process_start_time_seconds",
        "When the process started, seconds since the Unix epoch.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes", "Memory of the process in RAM.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes", "Address space of the process.";
    PROCESS_THREADS = Gauge "process_threads", "Threads of the process.";
    PROCESS_FDS = Gauge "process_open_fds", "File descriptors that are open.";
    PROCESS_FDS_MAX = Gauge "process_max_fds", "File descriptors that may be open.";
}

metrics! {
    ENVOY, "Families under Envoy's names, shown with `--envoy-metrics`.":
    ENVOY_UPTIME = Gauge "envoy_server_uptime", "Seconds since the process started.";
    ENVOY_LIVE = Gauge "envoy_server_live", "1 while requests are served.";
    ENVOY_CONCURRENCY = Gauge "envoy_server_concurrency", "Worker threads.";
    ENVOY_DOWNSTREAM_ACTIVE = Gauge "envoy_listener_downstream_cx_active",
        "Downstream connections open.";
    ENVOY_DOWNSTREAM_TOTAL = Counter "envoy_listener_downstream_cx_total",
        "Downstream connections accepted.";
    ENVOY_DOWNSTREAM_REQUESTS = Untyped "envoy_listener_http_downstream_rq",
        "Requests that ended.";
    ENVOY_UPSTREAM_ACTIVE = Gauge "envoy_cluster_upstream_cx_active",
        "Connections to a cluster that are open, as of the last second.";
    ENVOY_UPSTREAM_REQUESTS_ACTIVE = Gauge "envoy_cluster_upstream_rq_active",
        "Requests that the endpoints of a cluster serve now, as of the last second.";
    ENVOY_UPSTREAM_REQUESTS = Counter "envoy_cluster_upstream_rq_total",
        "Requests to a cluster that ended.";
    ENVOY_EJECTIONS_ACTIVE = Gauge "envoy_cluster_outlier_detection_ejections_active",
        "Endpoints of a cluster that outlier detection keeps out now.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_documented() {
        let text = include_str!("../../docs/observability.md");
        for metric in ALL.iter().chain(ENVOY) {
            let row =
                format!("| `{}` | {} | {} |\n", metric.name, metric.kind.as_str(), metric.help);
            assert!(text.contains(&row), "docs/observability.md lacks the row {row}");
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let every: Vec<Metric> = ALL.iter().chain(ENVOY).copied().collect();
        for (index, metric) in every.iter().enumerate() {
            assert!(
                metric
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                metric.name
            );
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '"']));
            // OpenMetrics tells families apart without `_total`.
            let before = &every[..index];
            assert!(
                before.iter().all(|other| other.family() != metric.family()),
                "{}",
                metric.name
            );
        }
    }
}
