//! Rules of what a VirtualService's rule does besides forwarding: redirects, answers, rewrites,
//! retries, faults, CORS, mirrors (behaviour 11.3).

use super::Findings;
use super::http_route::string_match;
use super::metadata::duration;
use super::names::is_header_name;
use super::virtual_service::{check_port, destination};
use crate::config::scalar::{Duration, Percent};
use crate::config::virtual_service::{CorsPolicy, HttpRoute, StringMatch, VirtualService};
use crate::limits::MIRRORS_OF_ROUTE_MAX;
use crate::router::{Substitution, SubstitutionError};
use crate::snapshot::{FaultStatus, RetryConditions};

const DIRECT_BODY_BYTES_MAX: usize = 1024 * 1024;
const DIRECT_BODY_BYTES_USUAL: usize = 100 * 1024;
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

type Of<'o> = Findings<'o, VirtualService>;

fn given(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

pub(super) fn redirect(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(redirect) = &route.redirect else { return };
    let field = format!("{field}.redirect");
    let nothing = !given(&redirect.uri)
        && !given(&redirect.prefix_rewrite)
        && !given(&redirect.authority)
        && redirect.port.is_none()
        && redirect.derive_port.is_none()
        && !given(&redirect.scheme);
    if nothing {
        findings.error(&field, "`redirect` changes nothing", "add `uri`, `authority` or `scheme`");
    }
    if given(&redirect.prefix_rewrite) {
        let other = route.match_.iter().position(|condition| {
            condition.uri.as_ref().is_some_and(|uri| !matches!(uri, StringMatch::Prefix(_)))
        });
        if let Some(index) = other {
            let message = format!("match {index} has a `uri` that is no prefix to be replaced");
            let help = "use `uri.prefix` in every match, or `redirect.uri`";
            findings.error(&format!("{field}.prefixRewrite"), &message, help);
        }
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        findings.error(&field, "`port` and `derivePort` exclude each other", "keep one of them");
    }
    if let Some(port) = redirect.port.filter(|port| *port != 0) {
        check_port(findings, port, &format!("{field}.port"));
    }
    if given(&redirect.uri) && given(&redirect.prefix_rewrite) {
        findings.error(&field, "`uri` and `prefixRewrite` exclude each other", "keep one of them");
    }
    if let Some(code) = redirect.redirect_code
        && !matches!(code, 0 | 301 | 302 | 303 | 307 | 308)
    {
        let message = format!("{code} is not one of 301, 302, 303, 307, 308");
        let help = "use 301 for good, 302 for now, 308 and 307 to keep the method";
        findings.error(&format!("{field}.redirectCode"), &message, help);
    }
    if let Some(scheme) = redirect.scheme.as_deref()
        && !matches!(scheme, "" | "http" | "https")
    {
        let message = format!("`{scheme}` is neither http nor https");
        findings.error(&format!("{field}.scheme"), &message, "write it in lower case");
    }
}

pub(super) fn direct_response(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(direct) = &route.direct_response else { return };
    let field = format!("{field}.directResponse");
    if !(200..=599).contains(&direct.status) {
        let message = format!("status {} is not one of 200 to 599", direct.status);
        findings.error(&format!("{field}.status"), &message, "write a status such as 200 or 503");
    }
    let Some(body) = &direct.body else { return };
    let field = format!("{field}.body");
    if body.string.is_some() == body.bytes.is_some() {
        findings.error(&field, "one of `string` and `bytes` is needed", "keep one of them");
    }
    if let Some(text) = &body.bytes
        && data_encoding::BASE64.decode(text.as_bytes()).is_err()
    {
        let help = "encode it, or write it as `string`";
        findings.error(&format!("{field}.bytes"), "not base64", help);
    }
    // Four characters of base64 are three bytes.
    let bytes = body.string.as_ref().map_or(0, String::len)
        + body.bytes.as_ref().map_or(0, |text| text.len() / 4 * 3);
    let help = "let a service answer";
    if bytes > DIRECT_BODY_BYTES_MAX {
        findings.error(&field, "the body is larger than 1 MiB", help);
    } else if bytes > DIRECT_BODY_BYTES_USUAL {
        findings.warn("IST0133", &field, "a body of more than 100 KiB", help);
    }
}

pub(super) fn rewrite(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(rewrite) = &route.rewrite else { return };
    let field = format!("{field}.rewrite");
    if !given(&rewrite.uri) && !given(&rewrite.authority) && rewrite.uri_regex_rewrite.is_none() {
        findings.error(&field, "`rewrite` says nothing", "add `uri` or `authority`");
    }
    if given(&rewrite.uri) && rewrite.uri_regex_rewrite.is_some() {
        let message = "`uri` and `uriRegexRewrite` exclude each other";
        findings.error(&field, message, "keep one of them");
    }
    let Some(regex) = &rewrite.uri_regex_rewrite else { return };
    let field = format!("{field}.uriRegexRewrite");
    if regex.match_.is_empty() || regex.rewrite.is_empty() {
        findings.error(&field, "both `match` and `rewrite` are needed", "add the other one");
        return;
    }
    let (part, error, help) = match Substitution::new(&regex.match_, &regex.rewrite) {
        Ok(_) => return,
        Err(error @ SubstitutionError::Pattern(_)) => {
            ("match", error, "use RE2 syntax: no look-around, no back-references")
        }
        Err(error) => ("rewrite", error, "`\\1` is the first group of `match`, `\\\\` a backslash"),
    };
    findings.error(&format!("{field}.{part}"), &error.to_string(), help);
}

pub(super) fn retries(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(retries) = &route.retries else { return };
    let field = format!("{field}.retries");
    if retries.attempts < 0 {
        let message = "attempts cannot be negative";
        findings.error(&format!("{field}.attempts"), message, "0 turns retries off");
    }
    let retry_on = retries.retry_on.as_deref().filter(|on| !on.is_empty());
    let more = retries.per_try_timeout.is_some()
        || retry_on.is_some()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && more {
        let help = "set `attempts`, or remove the rest";
        findings.error(&field, "attempts 0 turns retries off: nothing else may be set", help);
    }
    duration(findings, retries.per_try_timeout, &format!("{field}.perTryTimeout"));
    duration(findings, retries.backoff, &format!("{field}.backoff"));
    for condition in retry_on.into_iter().flat_map(|list| list.split(',')) {
        let code = condition.parse::<u16>().is_ok_and(is_registered_status);
        if !code && RetryConditions::named(condition).is_none() {
            findings.error(
                &format!("{field}.retryOn"),
                &format!("unknown condition `{condition}`"),
                "conditions are names or registered statuses, separated by commas without spaces",
            );
        }
    }
}

/// Statuses that have a name; Istio takes no others as a condition for retries.
fn is_registered_status(status: u16) -> bool {
    matches!(
        status,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429
            | 431 | 451 | 500..=508 | 510 | 511
    )
}

fn percent(findings: &mut Of<'_>, value: Option<Percent>, field: &str) {
    if let Some(Percent { value }) = value
        && !(value == 0.0 || (0.0001..=100.0).contains(&value))
    {
        let message = format!("{value} is not a percentage (0, or 0.0001 to 100)");
        findings.error(field, &message, "write 50 for one half");
    }
}

pub(super) fn fault(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let Some(fault) = &route.fault else { return };
    let field = format!("{field}.fault");
    if fault.delay.is_none() && fault.abort.is_none() {
        findings.error(&field, "neither `delay` nor `abort`", "add one of them");
    }
    if let Some(delay) = &fault.delay {
        let field = format!("{field}.delay");
        percent(findings, delay.percentage, &format!("{field}.percentage"));
        if delay.percent.is_some() {
            let help = "use `percentage: {value: …}`";
            findings.warn("IST0002", &format!("{field}.percent"), "deprecated", help);
        }
        if delay.exponential_delay.is_some() {
            let field = format!("{field}.exponentialDelay");
            findings.error(&field, "not supported by Istio", "use `fixedDelay`");
        }
        duration(findings, delay.fixed_delay, &format!("{field}.fixedDelay"));
        if delay.fixed_delay.is_none() && delay.exponential_delay.is_none() {
            let message = "no time to wait: nothing is delayed";
            findings.warn("IST0133", &field, message, "add `fixedDelay`");
        }
    }
    if let Some(abort) = &fault.abort {
        let field = format!("{field}.abort");
        percent(findings, abort.percentage, &format!("{field}.percentage"));
        if let Some(status) = abort.grpc_status.as_deref()
            && FaultStatus::grpc(status).is_none()
        {
            let message = format!("`{status}` is not a gRPC status");
            findings.error(&format!("{field}.grpcStatus"), &message, "such as UNAVAILABLE");
        }
        let kinds =
            [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
        match kinds.iter().filter(|given| **given).count() {
            0 => {
                let help = "add `httpStatus`";
                findings.warn("IST0133", &field, "no status to abort with", help);
            }
            1 => {}
            _ => {
                let message = "`httpStatus`, `grpcStatus` and `http2Error` exclude each other";
                findings.error(&field, message, "keep one of them");
            }
        }
        if abort.http2_error.is_some() {
            let field = format!("{field}.http2Error");
            findings.error(&field, "not supported by Istio", "use `httpStatus`");
        }
        if let Some(status) = abort.http_status
            && !(200..=599).contains(&status)
        {
            let message = format!("{status} is not a status (200 to 599)");
            findings.error(&format!("{field}.httpStatus"), &message, "such as 503");
        }
    }
}

pub(super) fn cors_policy(findings: &mut Of<'_>, cors: &CorsPolicy, field: &str) {
    let max_age = format!("{field}.maxAge");
    if cors.max_age.is_some_and(|Duration(age)| age.subsec_nanos() != 0) {
        findings.error(&max_age, "whole seconds only", "round it to seconds");
    } else {
        duration(findings, cors.max_age, &max_age);
    }
    if !cors.allow_origin.is_empty() {
        let help = "use `allowOrigins: [{exact: …}]`";
        findings.warn("IST0002", &format!("{field}.allowOrigin"), "deprecated", help);
    }
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let empty = match origin {
            StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text) => {
                text.is_empty()
            }
            StringMatch::Empty => true,
        };
        let field = format!("{field}.allowOrigins[{index}]");
        if empty {
            findings.error(&field, "an empty origin", "`exact: \"*\"` allows all");
            continue;
        }
        string_match(findings, origin, &field, false);
    }
    for (index, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let field = format!("{field}.allowMethods[{index}]");
            let help = format!("one of: {}", METHODS.join(", "));
            findings.error(&field, &format!("`{method}` is not a method"), &help);
        }
    }
    for (list, names) in
        [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            if name != "*" && !is_header_name(name) {
                let field = format!("{field}.{list}[{index}]");
                let help = "write one field name an entry, or `*`";
                findings.error(&field, &format!("`{name}` is not a header name"), help);
            }
        }
    }
}

pub(super) fn mirrors(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let share = |findings: &mut Of<'_>, value: Option<Percent>, field: String| {
        if let Some(Percent { value }) = value
            && !(0.0..=100.0).contains(&value)
        {
            let message = format!("{value} is not a percentage (0 to 100)");
            findings.error(&field, &message, "write 50 for one half");
        }
    };
    if let Some(percent) = route.mirror_percent {
        let field = format!("{field}.mirrorPercent");
        if percent > 100 {
            let message = format!("{percent} is not a percentage (0 to 100)");
            findings.error(&field, &message, "write 50 for one half");
        }
        findings.warn("IST0002", &field, "deprecated", "use `mirrorPercentage: {value: …}`");
    }
    share(findings, route.mirror_percentage, format!("{field}.mirrorPercentage"));
    if route.mirrors.len() > MIRRORS_OF_ROUTE_MAX {
        let message = format!("more than {MIRRORS_OF_ROUTE_MAX} mirrors");
        findings.error(&format!("{field}.mirrors"), &message, "remove some");
    }
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let field = format!("{field}.mirrors[{index}]");
        match &mirror.destination {
            Some(to) => destination(findings, to, &format!("{field}.destination")),
            None => {
                findings.error(&field, "a mirror needs a destination", "add `destination: {host}`");
            }
        }
        share(findings, mirror.percentage, format!("{field}.percentage"));
    }
    if let Some(mirror) = &route.mirror {
        destination(findings, mirror, &format!("{field}.mirror"));
    }
}
