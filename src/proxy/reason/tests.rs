use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::http1::{RequestError, ResponseError};
use crate::metrics::{counters, names};
use crate::snapshot::FaultStatus;

/// Every reason once; those that the route's text decides with an example.
fn every() -> Vec<Reason> {
    let mut errors: Vec<ProxyError> =
        RequestError::ALL.iter().map(|error| ProxyError::Request(*error)).collect();
    errors.extend([
        ProxyError::RequestHeadTimeout,
        ProxyError::RequestBodyTimeout,
        ProxyError::RequestBody,
        ProxyError::LowVersion,
        ProxyError::PathNormalization,
        ProxyError::ConnectNotAllowed,
        ProxyError::NoRoute,
        ProxyError::Misdirected,
        ProxyError::NoCluster,
        ProxyError::NoHealthyUpstream,
        ProxyError::UpstreamOverflow,
        ProxyError::UpstreamConnect,
        ProxyError::UpstreamConnectTimeout,
        ProxyError::UpstreamClosed,
        ProxyError::UpstreamRefused,
        ProxyError::UpstreamUnsupported,
    ]);
    errors.extend(ResponseError::ALL.iter().map(|error| ProxyError::UpstreamProtocol(*error)));
    errors.extend([
        ProxyError::UpstreamInterim,
        ProxyError::UpstreamTruncated,
        ProxyError::RequestTimeout,
        ProxyError::PerTryTimeout,
        ProxyError::FaultAbort(FaultStatus::Http(503)),
        ProxyError::DownstreamGone,
    ]);
    let errors = errors.into_iter().map(Reason::Error);
    errors.chain([Reason::Redirect, Reason::DirectResponse, Reason::Preflight]).collect()
}

/// `NoRoute` of `Error(NoRoute)`, `Request` of `Error(Request(LineEnd))`.
fn variant(reason: Reason) -> String {
    let text = format!("{reason:?}");
    let text = text.strip_prefix("Error(").unwrap_or(&text);
    text.split(['(', ')']).next().unwrap_or_default().to_owned()
}

/// The variants of an enumeration as its source has them.
fn variants_of(source: &str, name: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once(&format!("pub enum {name} {{\n")).expect("it is there");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines
        .filter_map(|line| line.split(['(', ',']).next())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_reason_is_missing_here() {
    let mut known = variants_of(include_str!("../error.rs"), "ProxyError");
    known.extend(variants_of(include_str!("../reason.rs"), "Reason"));
    known.remove("Error");
    assert!(known.len() > 15, "{known:?}");
    let listed: BTreeSet<String> = every().into_iter().map(variant).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_reason_has_status_details_and_a_metric_that_exists() {
    let series: BTreeSet<String> = counters::COUNTERS
        .iter()
        .map(|field| match field.label {
            Some((label, value)) => format!("{}{{{label}=\"{value}\"}}", field.metric.name),
            None => field.metric.name.to_owned(),
        })
        .collect();
    assert!(names::ALL.contains(&names::REQUESTS), "what counts all of them");
    for reason in every() {
        let answer = reason.answer();
        let of_route = matches!(reason, Reason::Redirect | Reason::DirectResponse);
        let nobody_there = reason == Reason::Error(ProxyError::DownstreamGone);
        assert_eq!(answer.status == 0, of_route || nobody_there, "{reason:?}");
        assert!(!answer.details.is_empty() && answer.details.is_ascii(), "{reason:?}");
        assert!(!answer.details.contains([' ', ';', ',']), "one word in the log: {reason:?}");
        if let Some(metric) = reason.metric() {
            assert!(series.contains(metric), "{reason:?}: {metric}");
        }
    }
}

#[test]
fn details_tell_reasons_apart() {
    let mut seen = BTreeSet::new();
    for reason in every() {
        // Envoy's details do not tell these two apart: the status does.
        if reason != Reason::DirectResponse {
            assert!(seen.insert(reason.answer().details), "{reason:?}");
        }
    }
}

/// The table of `docs/answers.md`.
fn table() -> String {
    let mut text = String::from(
        "| details | status | flag | also counted in | reason |\n| --- | --- | --- | --- | --- |\n",
    );
    for reason in every() {
        let answer = reason.answer();
        let status = match reason {
            Reason::Redirect => "the redirect's".to_owned(),
            Reason::DirectResponse => "the response's".to_owned(),
            Reason::Error(ProxyError::FaultAbort(_)) => "the fault's".to_owned(),
            Reason::Error(ProxyError::DownstreamGone) => "0: nobody to answer".to_owned(),
            _ => answer.status.to_string(),
        };
        let flag = match answer.flags {
            ResponseFlags::NONE => "`-`".to_owned(),
            flags => format!("`{flags}`"),
        };
        let metric = reason.metric().map_or_else(|| "-".to_owned(), |metric| format!("`{metric}`"));
        // The bar would end the cell.
        let details = answer.details.replace('|', "\\|");
        let text_of = meaning(reason);
        text.push_str(&format!("| `{details}` | {status} | {flag} | {metric} | {text_of} |\n"));
    }
    text
}

/// What happened, for people.
fn meaning(reason: Reason) -> String {
    let error = match reason {
        Reason::Redirect => return "the route has a `redirect`".to_owned(),
        Reason::DirectResponse => return "the route has a `directResponse`".to_owned(),
        Reason::Preflight => return "a preflight, answered by the route's `corsPolicy`".to_owned(),
        Reason::Error(error) => error,
    };
    match error {
        ProxyError::Request(error) => error.to_string(),
        ProxyError::UpstreamProtocol(error) => format!("response: {error}"),
        ProxyError::RequestHeadTimeout => "the head did not arrive in time".to_owned(),
        ProxyError::RequestBodyTimeout => "the body made no progress".to_owned(),
        ProxyError::RequestBody => "the chunked body is malformed".to_owned(),
        ProxyError::LowVersion => "HTTP/1.0, with `--http10 reject`".to_owned(),
        ProxyError::PathNormalization => "the path cannot be made canonical".to_owned(),
        ProxyError::ConnectNotAllowed => "`CONNECT`, which no Gateway allows".to_owned(),
        ProxyError::NoRoute => "no virtual host or no route of it matches".to_owned(),
        ProxyError::Misdirected => {
            "another server of the TLS port has the host, or the server asks something else of client certificates than when the connection was made: it needs another connection"
                .to_owned()
        }
        ProxyError::NoCluster => "the destination's host, port or subset does not exist".to_owned(),
        ProxyError::NoHealthyUpstream => "the destination has no usable endpoint".to_owned(),
        ProxyError::UpstreamOverflow => "a limit of the `connectionPool` is reached".to_owned(),
        ProxyError::UpstreamConnect => "connecting failed".to_owned(),
        ProxyError::UpstreamConnectTimeout => "connecting took too long".to_owned(),
        ProxyError::UpstreamClosed => "the upstream closed before its response".to_owned(),
        ProxyError::UpstreamRefused => {
            "the upstream refused the stream, or was going away (HTTP/2)".to_owned()
        }
        ProxyError::UpstreamUnsupported => {
            "the request cannot be sent in HTTP/2: an upgrade without RFC 8441, or an odd head"
                .to_owned()
        }
        ProxyError::UpstreamInterim => "response: too many interim responses".to_owned(),
        ProxyError::UpstreamTruncated => "response: the upstream closed within the head".to_owned(),
        ProxyError::RequestTimeout => "the route's `timeout` ran out".to_owned(),
        ProxyError::PerTryTimeout => "the last attempt took longer than `perTryTimeout`".to_owned(),
        ProxyError::FaultAbort(_) => "the route has a `fault.abort`".to_owned(),
        ProxyError::DownstreamGone => "the client went away".to_owned(),
    }
}

#[test]
fn the_document_has_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/answers.md");
    let text = std::fs::read_to_string(&path).expect("readable");
    let start = text.find("| details |").expect("a table");
    let written: String = text[start..]
        .lines()
        .take_while(|line| line.starts_with('|'))
        .fold(String::new(), |text, line| text + line + "\n");
    let table = table();
    if std::env::var_os("RINGRESS_UPDATE_DOCS").is_some() {
        std::fs::write(&path, text.replace(&written, &table)).expect("written");
        return;
    }
    assert_eq!(written, table, "run with RINGRESS_UPDATE_DOCS=1 to write it anew");
}

#[test]
fn names_cannot_end_the_header() {
    let mut of_route = Vec::new();
    let names = RouteNames {
        route: "a\r\nx: 1; b".to_owned(),
        virtual_service: "default/näme".to_owned(),
        ..RouteNames::default()
    };
    write_route(&mut of_route, &names);
    let mut out = b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n\r\n\r\n".to_vec();
    let mut spare = b"what was here before".to_vec();
    write_header((&mut out, &mut spare), "route_not_found", &of_route);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\
         x-ringress-reason: route_not_found; route=a__x:_1__b; virtual-service=default/n__me\r\n\
         \r\n\r\n\r\n"
    );
}
