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
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
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

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Metric = Metric { name: $name, help: $help, kind: Kind::$kind };
        )*

        /// Every family.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
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
    OBJECTS_REFUSED_TOTAL = Counter "ringress_config_objects_refused_total",
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for (index, metric) in ALL.iter().enumerate() {
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
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']));
            assert!(ALL[..index].iter().all(|other| other.name != metric.name), "{}", metric.name);
        }
    }
}
