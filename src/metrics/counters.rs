//! Numbers of one worker that belong to no route: connections, pools, tunnels.

use super::names::{self, Metric};

/// One number of a worker and how it is shown.
#[derive(Debug)]
pub struct Field<T: 'static> {
    /// The family.
    pub metric: Metric,
    /// A label that tells fields of one family apart, name and value; empty for most.
    pub label: Option<(&'static str, &'static str)>,
    /// Reads the field.
    pub read: fn(&T) -> u64,
}

macro_rules! worker_numbers {
    (
        $(#[$struct_doc:meta])* $name:ident, $table:ident:
        $($(#[$doc:meta])* $field:ident = $metric:ident $(, $label:literal $value:literal)?;)*
    ) => {
        $(#[$struct_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// How each field is shown; fields of one family stand together.
        pub const $table: &[Field<$name>] = &[$(Field {
            metric: names::$metric,
            label: worker_numbers!(@label $($label $value)?),
            read: |numbers: &$name| numbers.$field,
        },)*];

        impl $name {
            /// Add the numbers of `other`.
            pub fn add(&mut self, other: &$name) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
    (@label) => { None };
    (@label $label:literal $value:literal) => { Some(($label, $value)) };
}

worker_numbers! {
    /// Counters of one worker since the last hand-over.
    WorkerCounters, COUNTERS:
    /// Downstream connections accepted.
    downstream_accepted = DOWNSTREAM_ACCEPTED;
    /// Downstream connections that ended, for whatever reason.
    downstream_closed = DOWNSTREAM_CLOSED;
    /// The client broke the protocol.
    downstream_protocol_errors = DOWNSTREAM_ERRORS, "kind" "protocol_error";
    /// A request head was not complete in time.
    downstream_head_timeouts = DOWNSTREAM_ERRORS, "kind" "head_timeout";
    /// A keep-alive or TCP connection was idle for too long, or as old as it may be.
    downstream_idle_timeouts = DOWNSTREAM_ERRORS, "kind" "idle_timeout";
    /// A body or write made no progress.
    downstream_progress_timeouts = DOWNSTREAM_ERRORS, "kind" "progress_timeout";
    /// The client reset or left in the middle of a request.
    downstream_io_errors = DOWNSTREAM_ERRORS, "kind" "io_error";
    /// A client sent more frames without use than are borne, or reset too many streams.
    downstream_http2_floods = DOWNSTREAM_ERRORS, "kind" "http2_flood";
    /// A connection did not begin with the header of the PROXY protocol, where that is asked for.
    downstream_proxy_protocol_errors = DOWNSTREAM_ERRORS, "kind" "proxy_protocol";
    /// Downstream connections that speak HTTP/2.
    downstream_http2_connections = DOWNSTREAM_HTTP2;
    /// TLS handshakes with clients that succeeded.
    tls_handshakes = TLS_HANDSHAKES;
    /// Of those: they went on from an earlier session.
    tls_resumptions = TLS_RESUMPTIONS;
    /// The client did not finish its handshake in time.
    tls_failed_timeout = TLS_FAILED, "reason" "timeout";
    /// The client closed or reset during its handshake.
    tls_failed_closed = TLS_FAILED, "reason" "closed";
    /// What came was no TLS.
    tls_failed_not_tls = TLS_FAILED, "reason" "not_tls";
    /// No server of the port has the name that the client asked for.
    tls_failed_no_server = TLS_FAILED, "reason" "no_server";
    /// The server has no usable certificate.
    tls_failed_no_certificate = TLS_FAILED, "reason" "no_server_certificate";
    /// The client sent no certificate where one is needed, or one that is not good.
    tls_failed_client_certificate = TLS_FAILED, "reason" "client_certificate";
    /// The client refused: it sent an alert.
    tls_failed_alert = TLS_FAILED, "reason" "alert";
    /// No version, suite or protocol in common, or the protocol was broken.
    tls_failed_protocol = TLS_FAILED, "reason" "protocol";
    /// `accept` failed.
    accept_errors = ACCEPT_ERRORS;
    /// Accepting was paused (EMFILE, ENFILE, ENOMEM).
    accept_pauses = ACCEPT_PAUSES;
    /// Upstream connections established.
    upstream_opened = UPSTREAM_OPENED;
    /// Upstream connections that ended.
    upstream_closed = UPSTREAM_CLOSED;
    /// Connects that were refused or otherwise failed.
    upstream_connect_failures = UPSTREAM_FAILED, "kind" "failure";
    /// Connects that took too long.
    upstream_connect_timeouts = UPSTREAM_FAILED, "kind" "timeout";
    /// Requests sent on a connection that had served before.
    upstream_reused = UPSTREAM_REUSED;
    /// Idle connections closed by the upstream.
    upstream_closed_idle = UPSTREAM_CLOSED_IDLE;
    /// Attempts that followed a failed one.
    upstream_retries = RETRIES;
    /// Retries that were wanted and that a limit did not allow.
    upstream_retry_overflows = RETRY_OVERFLOWS;
    /// Requests that a limit of their cluster refused.
    upstream_overflows = OVERFLOWS;
    /// Endpoints taken out by outlier detection.
    outlier_ejections = OUTLIER_CHANGES, "change" "ejected";
    /// Endpoints that came back.
    outlier_returns = OUTLIER_CHANGES, "change" "returned";
    /// Copies of requests sent to mirrors.
    mirrors_sent = MIRRORS, "outcome" "sent";
    /// Copies that were not sent: too many were under way, or the body was still coming.
    mirrors_dropped = MIRRORS, "outcome" "dropped";
    /// Responses that broke the protocol.
    upstream_protocol_errors = UPSTREAM_PROTOCOL_ERRORS;
    /// Connections upgraded to a tunnel.
    tunnels_opened = TUNNELS_OPENED;
    /// Access log lines dropped (`AccessLogSink::take_dropped`).
    access_log_dropped = ACCESS_LOG_DROPPED;
    /// Snapshots put in place.
    snapshot_swaps = SNAPSHOT_SWAPS;
    /// Requests left out of the Istio metrics (`limits::SERIES_PER_SLOT_MAX`).
    series_overflow = SERIES_OVERFLOW;
}

worker_numbers! {
    /// Gauges of one worker. They survive a hand-over: the next shard goes on from their values.
    WorkerGauges, GAUGES:
    /// Downstream connections open.
    downstream_active = DOWNSTREAM_ACTIVE;
    /// Requests in flight.
    requests_active = REQUESTS_ACTIVE;
    /// Upstream connections in use.
    upstream_active = UPSTREAM_ACTIVE;
    /// Upstream connections kept for the next request.
    upstream_idle = UPSTREAM_IDLE;
    /// Tunnels open.
    tunnels_active = TUNNELS_ACTIVE;
    /// Generation of the snapshot in place.
    generation = WORKER_GENERATION;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_family_stand_together_and_differ_by_label() {
        for (index, field) in COUNTERS.iter().enumerate() {
            let before = &COUNTERS[..index];
            if let Some(first) = before.iter().position(|other| other.metric == field.metric) {
                for other in &before[first..] {
                    assert_eq!(other.metric, field.metric);
                    assert_ne!(other.label, field.label);
                    assert!(field.label.is_some() && other.label.is_some());
                }
            }
        }
    }

    #[test]
    fn every_field_is_read_and_added() {
        let mut sum = WorkerCounters { upstream_retries: 2, ..WorkerCounters::default() };
        sum.add(&WorkerCounters { upstream_retries: 3, tunnels_opened: 1, ..Default::default() });
        let shown: u64 = COUNTERS.iter().map(|field| (field.read)(&sum)).sum();
        assert_eq!(shown, 6);
        assert_eq!(sum.upstream_retries, 5);
    }
}
