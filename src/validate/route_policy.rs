//! Rules of what a VirtualService's rule does besides forwarding: redirects, timeouts and retries,
//! faults, CORS (behaviour 11.3).

use std::time::Duration;

use super::Findings;
use super::names::{is_header_name, is_port};
use super::virtual_service::string_match;
use crate::config::scalar::Percent;
use crate::config::virtual_service::{CorsPolicy, HttpRoute, StringMatch, VirtualService};
use crate::snapshot::{FaultStatus, RetryConditions};

const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

type Of<'o> = Findings<'o, VirtualService>;

pub(super) fn redirect(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(redirect) = &route.redirect else { return };
    let field = format!("{field}.redirect");
    let nothing = redirect.uri.is_none()
        && redirect.prefix_rewrite.is_none()
        && redirect.authority.is_none()
        && redirect.port.is_none()
        && redirect.derive_port.is_none()
        && redirect.scheme.is_none();
    if nothing {
        findings.error(&field, "`redirect` changes nothing", "add `uri`, `authority` or `scheme`");
    }
    if redirect.prefix_rewrite.is_some() {
        for (index, condition) in route.match_.iter().enumerate() {
            if !matches!(condition.uri, Some(StringMatch::Prefix(_))) {
                let message = "`prefixRewrite` needs a `uri.prefix` in every match";
                findings.error(
                    &format!("{field}.prefixRewrite"),
                    message,
                    &format!("match {index}"),
                );
            }
        }
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        findings.error(&field, "`port` and `derivePort` exclude each other", "");
    }
    if redirect.port.is_some_and(|port| !is_port(port)) {
        findings.error(&format!("{field}.port"), "not a port (1 to 65535)", "");
    }
    if redirect.uri.is_some() && redirect.prefix_rewrite.is_some() {
        findings.error(&field, "`uri` and `prefixRewrite` exclude each other", "");
    }
    if let Some(code) = redirect.redirect_code
        && !matches!(code, 0 | 301 | 302 | 303 | 307 | 308)
    {
        let message = format!("{code} is not one of 301, 302, 303, 307, 308");
        findings.error(&format!("{field}.redirectCode"), &message, "");
    }
    if let Some(scheme) = redirect.scheme.as_deref()
        && !matches!(scheme, "" | "http" | "https")
    {
        let message = format!("`{scheme}` is neither http nor https");
        findings.error(&format!("{field}.scheme"), &message, "");
    }
}

/// Rules of durations (behaviour 11.1).
pub(super) fn duration<S: crate::config::Spec>(
    findings: &mut Findings<'_, S>,
    value: Option<Duration>,
    field: &str,
) {
    let Some(value) = value else { return };
    if value < Duration::from_millis(1) {
        findings.error(field, "a duration of less than 1ms", "leave it out for no limit");
    } else if value.subsec_nanos() % 1_000_000 != 0 {
        findings.error(field, "durations are whole milliseconds", "");
    }
}

pub(super) fn retries(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(retries) = &route.retries else { return };
    let field = format!("{field}.retries");
    if retries.attempts < 0 {
        findings.error(&format!("{field}.attempts"), "attempts cannot be negative", "");
    }
    let more = retries.per_try_timeout.is_some()
        || retries.retry_on.as_deref().is_some_and(|on| !on.is_empty())
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && more {
        findings.error(&field, "attempts 0 turns retries off: nothing else may be set", "");
    }
    duration(findings, retries.per_try_timeout.map(Into::into), &format!("{field}.perTryTimeout"));
    duration(findings, retries.backoff.map(Into::into), &format!("{field}.backoff"));
    for condition in retries.retry_on.as_deref().unwrap_or("").split(',') {
        let code = condition.parse::<u16>().is_ok_and(|code| (100..600).contains(&code));
        if !condition.is_empty() && !code && RetryConditions::named(condition).is_none() {
            findings.error(
                &format!("{field}.retryOn"),
                &format!("unknown condition `{condition}`"),
                "conditions are separated by commas without spaces",
            );
        }
    }
}

pub(super) fn percent(findings: &mut Of<'_>, value: Option<Percent>, field: &str) {
    if let Some(Percent { value }) = value
        && !(value == 0.0 || (0.0001..=100.0).contains(&value))
    {
        let message = format!("{value} is not a percentage (0, or 0.0001 to 100)");
        findings.error(field, &message, "");
    }
}

pub(super) fn fault(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(fault) = &route.fault else { return };
    let field = format!("{field}.fault");
    if fault.delay.is_none() && fault.abort.is_none() {
        findings.error(&field, "neither `delay` nor `abort`", "");
    }
    if let Some(delay) = &fault.delay {
        percent(findings, delay.percentage, &format!("{field}.delay.percentage"));
        if delay.exponential_delay.is_some() {
            let field = format!("{field}.delay.exponentialDelay");
            findings.error(&field, "not supported by Istio", "use `fixedDelay`");
        }
        duration(findings, delay.fixed_delay.map(Into::into), &format!("{field}.delay.fixedDelay"));
        if delay.fixed_delay.is_none() {
            findings.error(&format!("{field}.delay"), "`fixedDelay` is missing", "");
        }
    }
    if let Some(abort) = &fault.abort {
        percent(findings, abort.percentage, &format!("{field}.abort.percentage"));
        if let Some(status) = abort.grpc_status.as_deref()
            && FaultStatus::grpc(status).is_none()
        {
            let message = format!("`{status}` is not a gRPC status");
            findings.error(&format!("{field}.abort.grpcStatus"), &message, "such as UNAVAILABLE");
        }
        if abort.http_status.is_none() && abort.grpc_status.is_none() {
            findings.warn("IST0106", &format!("{field}.abort"), "no status to abort with", "");
        }
        if abort.http2_error.is_some() {
            findings.error(&format!("{field}.abort.http2Error"), "not supported by Istio", "");
        }
        if let Some(status) = abort.http_status
            && !(200..=599).contains(&status)
        {
            let message = format!("{status} is not a status (200 to 599)");
            findings.error(&format!("{field}.abort.httpStatus"), &message, "");
        }
    }
}

pub(super) fn cors_policy(findings: &mut Of<'_>, cors: &CorsPolicy, field: &str) {
    let max_age: Option<Duration> = cors.max_age.map(Into::into);
    if max_age.is_some_and(|age| age.subsec_nanos() != 0) {
        findings.error(&format!("{field}.maxAge"), "whole seconds only", "");
    }
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let empty = match origin {
            StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text) => {
                text.is_empty()
            }
            StringMatch::Empty => true,
        };
        if empty {
            let field = format!("{field}.allowOrigins[{index}]");
            findings.error(&field, "an empty origin", "`exact: \"*\"` allows all");
            continue;
        }
        string_match(findings, origin, &format!("{field}.allowOrigins[{index}]"), false);
    }
    for (index, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let field = format!("{field}.allowMethods[{index}]");
            findings.error(&field, &format!("`{method}` is not a method"), "");
        }
    }
    for (list, names) in
        [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            if name != "*" && !is_header_name(name) {
                let field = format!("{field}.{list}[{index}]");
                findings.error(&field, &format!("`{name}` is not a header name"), "");
            }
        }
    }
}
