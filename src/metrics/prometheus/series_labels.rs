//! The labels of Istio's series, as they are and as Telemetry resources change them.

use crate::metrics::labels::{SlotLabels, SourceLabels};
use crate::metrics::overrides::{FamilyOverride, TagOverride};
use crate::metrics::series::SeriesKey;
use crate::metrics::text::{Format, is_label_name, label};
use crate::stream_info::ResponseFlags;

/// What a series is told apart by beside its destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail {
    /// Requests.
    Http(SeriesKey),
    /// Connections.
    Tcp(ResponseFlags),
    /// Messages: nothing.
    Messages,
}

/// The gateway's own labels with their text, made once per page.
#[derive(Debug)]
pub(super) struct Source {
    labels: SourceLabels,
    text: String,
}

impl Source {
    pub(super) fn new(labels: SourceLabels) -> Source {
        let mut text = String::new();
        label(&mut text, "reporter", "source");
        for (name, value) in labels.pairs() {
            label(&mut text, name, value);
        }
        Source { labels, text }
    }
}

/// Append all labels of a series in Istio's order. All series of a family in OpenMetrics have the same
/// labels: what does not apply is empty there, which means the same as no label.
pub(super) fn write(
    out: &mut Vec<u8>,
    source: &Source,
    slot: &SlotLabels,
    tail: Tail,
    format: Format,
) {
    out.extend_from_slice(source.text.as_bytes());
    out.push(b',');
    out.extend_from_slice(slot.text.as_bytes());
    let flags = match tail {
        Tail::Messages => return,
        Tail::Tcp(flags) => {
            out.extend_from_slice(b",request_protocol=\"tcp\"");
            flags
        }
        Tail::Http(key) => {
            let protocol = if key.is_grpc() { "grpc" } else { "http" };
            out.extend_from_slice(b",request_protocol=\"");
            out.extend_from_slice(protocol.as_bytes());
            out.extend_from_slice(b"\",response_code=\"");
            out.extend_from_slice(itoa::Buffer::new().format(key.response_code()).as_bytes());
            out.push(b'"');
            if let Some(status) = key.grpc_status() {
                out.extend_from_slice(b",grpc_response_status=\"");
                out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
                out.push(b'"');
            } else if format == Format::OpenMetrics {
                out.extend_from_slice(b",grpc_response_status=\"\"");
            }
            key.flags()
        }
    };
    out.extend_from_slice(b",response_flags=\"");
    flags.write_to(out);
    // Istio knows the policy only where the request arrives, which is not here.
    out.extend_from_slice(b"\",connection_security_policy=\"unknown\"");
}

/// All labels of a series as `changes` wants them.
pub(super) fn changed(
    source: &Source,
    slot: &SlotLabels,
    tail: Tail,
    changes: &FamilyOverride,
    format: Format,
) -> String {
    let mut own = vec![("reporter", "source")];
    own.extend(source.labels.pairs());
    own.extend(slot.labels.pairs());
    let mut of_tail: Vec<(&str, String)> = Vec::new();
    match tail {
        Tail::Messages => {}
        Tail::Tcp(flags) => {
            of_tail.push(("request_protocol", "tcp".to_owned()));
            of_tail.push(("response_flags", flags.to_string()));
        }
        Tail::Http(key) => {
            let protocol = if key.is_grpc() { "grpc" } else { "http" };
            of_tail.push(("request_protocol", protocol.to_owned()));
            of_tail.push(("response_code", key.response_code().to_string()));
            let status = key.grpc_status().map(|status| status.to_string());
            if status.is_some() || format == Format::OpenMetrics {
                of_tail.push(("grpc_response_status", status.unwrap_or_default()));
            }
            of_tail.push(("response_flags", key.flags().to_string()));
        }
    }
    if !matches!(tail, Tail::Messages) {
        of_tail.push(("connection_security_policy", "unknown".to_owned()));
    }
    let own = own.into_iter().chain(of_tail.iter().map(|(name, value)| (*name, value.as_str())));
    let mut out = String::with_capacity(1024);
    let mut written = Vec::new();
    for (name, value) in own {
        written.push(name);
        match changes.tags.get(name) {
            None => label(&mut out, name, value),
            // An empty label is an absent one.
            Some(TagOverride::Set(value)) if !value.is_empty() => label(&mut out, name, value),
            Some(TagOverride::Set(_) | TagOverride::Remove) => {}
        }
    }
    for (name, change) in &changes.tags {
        if let TagOverride::Set(value) = change
            && !value.is_empty()
            && !written.contains(&name.as_str())
            && is_label_name(name)
        {
            label(&mut out, name, value);
        }
    }
    out
}
