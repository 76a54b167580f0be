//! The names that the access log shows beside the record's numbers.

use super::downstream::Downstream;
use crate::access_log::LineContext;
use crate::snapshot::Snapshot;
use crate::stream_info::StreamInfo;

/// Look up what `info` refers to.
pub fn line_context<'a>(
    snapshot: &'a Snapshot,
    info: &StreamInfo,
    connection: &'a Downstream,
    transport_failure: &'a str,
    response: &'a [u8],
) -> LineContext<'a> {
    LineContext {
        route_name: info.route.map_or("", |route| snapshot.route(route).names.route.as_str()),
        cluster_name: info.cluster.map_or("", |cluster| snapshot.cluster(cluster).name.as_str()),
        downstream_local_address: connection.stream.local_address(),
        downstream_remote_address: Some(connection.peer),
        requested_server_name: connection
            .tls()
            .and_then(|tls| tls.server_name.as_deref())
            .map(str::as_bytes),
        tls: connection.tls(),
        // Without a code nothing was answered: what lies there is an earlier response.
        response_head: if info.response_code == 0 { &[] } else { response },
        upstream_transport_failure_reason: Some(transport_failure)
            .filter(|reason| !reason.is_empty()),
        ..LineContext::default()
    }
}
