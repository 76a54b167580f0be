//! Rules of a rule of `http` of a VirtualService: its shape, matches, destinations and header
//! operations (behaviour 11.3); what it does besides is in `route_policy`.

use super::names::{is_dns_label, is_header_name};
use super::route_policy::{
    cors_policy, direct_response, fault, mirrors, redirect, retries, rewrite,
};
use super::virtual_service::{check_port, destination, gateway_names, is_at_gateway, weights};
use super::{Findings, metadata};
use crate::config::virtual_service::{
    Headers, HttpMatchRequest, HttpRoute, StringMatch, VirtualService,
};
use crate::router::StringMatch as Compiled;
use crate::snapshot::{HeaderEdits, HeaderText, HeaderTextError};

const PSEUDO_HEADERS: [&str; 5] = [":authority", ":method", ":path", ":scheme", ":status"];
/// Header names that stand for claims of a validated token.
pub(super) const CLAIMS: &str = "@request.auth.claims";

type Of<'o> = Findings<'o, VirtualService>;

pub(super) fn validate(findings: &mut Of<'_>, route: &HttpRoute, field: &str, delegate: bool) {
    shape(findings, route, field, delegate);
    for (index, condition) in route.match_.iter().enumerate() {
        http_match(findings, condition, &format!("{field}.match[{index}]"));
    }
    for (index, weighted) in route.route.iter().enumerate() {
        let field = format!("{field}.route[{index}]");
        match &weighted.destination {
            Some(to) => destination(findings, to, &format!("{field}.destination")),
            None => findings.error(&field, "a destination is missing", "add `destination: {host}`"),
        }
        if let Some(headers) = &weighted.headers {
            header_operations(findings, headers, &format!("{field}.headers"));
        }
    }
    let shares: Vec<_> = route.route.iter().map(|weighted| weighted.weight).collect();
    weights(findings, &shares, field);
    if let Some(headers) = &route.headers {
        header_operations(findings, headers, &format!("{field}.headers"));
    }
    authority(findings, route, field);
    redirect(findings, route, field);
    direct_response(findings, route, field);
    rewrite(findings, route, field);
    metadata::duration(findings, route.timeout, &format!("{field}.timeout"));
    retries(findings, route, field);
    fault(findings, route, field);
    if let Some(cors) = &route.cors_policy {
        cors_policy(findings, cors, &format!("{field}.corsPolicy"));
    }
    mirrors(findings, route, field);
}

fn shape(findings: &mut Of<'_>, route: &HttpRoute, field: &str, delegate: bool) {
    let actions = [
        !route.route.is_empty(),
        route.redirect.is_some(),
        route.direct_response.is_some(),
        route.delegate.is_some(),
    ];
    match actions.iter().filter(|given| **given).count() {
        0 => findings.error(
            field,
            "none of `route`, `redirect`, `directResponse`, `delegate`",
            "say what to do with the requests",
        ),
        1 => {}
        _ => findings.error(
            field,
            "more than one of `route`, `redirect`, `directResponse`, `delegate`",
            "keep one of them",
        ),
    }
    if delegate && route.delegate.is_some() {
        let help = "put the rules here, or delegate to that VirtualService from the root";
        findings.error(&format!("{field}.delegate"), "a delegate cannot delegate further", help);
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        let message = "does not go with an answer of the gateway itself";
        if route.fault.is_some() {
            findings.error(&format!("{field}.fault"), message, "remove `fault`");
        }
        if route.rewrite.is_some() {
            let help = "remove `rewrite`; a redirect has `uri`, `prefixRewrite` and `authority`";
            findings.error(&format!("{field}.rewrite"), message, help);
        }
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        findings.error(field, "`mirror` and `mirrors` exclude each other", "use `mirrors`");
    }
}

/// The host that the upstream sees can be said in one place only.
fn authority(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let rewritten = route.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_deref());
    let mut said = usize::from(rewritten.is_some_and(|authority| !authority.is_empty()));
    let Some(request) = route.headers.as_ref().and_then(|headers| headers.request.as_ref()) else {
        return;
    };
    for (action, map) in [("set", &request.set), ("add", &request.add)] {
        for (name, value) in map {
            if !is_authority(name) {
                continue;
            }
            if said > 0 {
                let field = format!("{field}.headers.request.{action}[{name}]");
                let message = "the host is said in more than one place";
                findings.error(&field, message, "keep `rewrite.authority`, or this");
            }
            said += usize::from(!value.is_empty());
        }
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn http_match(findings: &mut Of<'_>, condition: &HttpMatchRequest, field: &str) {
    let texts = [
        ("uri", &condition.uri),
        ("scheme", &condition.scheme),
        ("method", &condition.method),
        ("authority", &condition.authority),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            string_match(findings, text, &format!("{field}.{name}"), name == "uri");
        }
    }
    let at_gateway = is_at_gateway(&findings.object.spec);
    let maps = [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)];
    for (list, map) in maps {
        for (header, text) in map {
            let field = format!("{field}.{list}[{header}]");
            let claims = header.starts_with(CLAIMS);
            if claims && !at_gateway {
                let message = "routes by claims hold at a gateway only";
                findings.error(&field, message, "add `gateways`");
            }
            if !claims && !is_header_name(header) && !PSEUDO_HEADERS.contains(&header.as_str()) {
                let help = "write one field name, such as `x-user`";
                findings.error(&field, &format!("`{header}` is not a header name"), help);
            }
            match text {
                Some(text) => value_match(findings, text, &field),
                None if list == "headers" => {
                    findings.error(&field, "nothing to match", "use `{}` to ask for presence");
                }
                None => {}
            }
        }
    }
    for (name, text) in &condition.query_params {
        if let Some(text) = text {
            value_match(findings, text, &format!("{field}.queryParams[{name}]"));
        }
    }
    if let Some(port) = condition.port.filter(|port| *port != 0) {
        check_port(findings, port, &format!("{field}.port"));
    }
    metadata::labels(findings, &condition.source_labels, &format!("{field}.sourceLabels"));
    gateway_names(findings, &condition.gateways, &format!("{field}.gateways"));
    if let Some(namespace) = condition.source_namespace.as_deref()
        && !namespace.is_empty()
        && !is_dns_label(namespace)
    {
        let message = format!("`{namespace}` is not a namespace");
        findings.error(&format!("{field}.sourceNamespace"), &message, "write one namespace");
    }
}

/// `*` is no regex: it asks for presence. Istio's webhook takes it in `withoutHeaders` only, its
/// runtime everywhere.
fn value_match(findings: &mut Of<'_>, text: &StringMatch, field: &str) {
    if *text != StringMatch::Regex("*".to_owned()) {
        string_match(findings, text, field, false);
    }
}

pub(super) fn string_match(
    findings: &mut Of<'_>,
    text: &StringMatch,
    field: &str,
    empty_prefix: bool,
) {
    match text {
        StringMatch::Prefix(prefix) if prefix.is_empty() && !empty_prefix => {
            findings.error(field, "an empty prefix", "use `{}` to ask for presence");
        }
        StringMatch::Regex(pattern) => {
            if let Err(error) = Compiled::regex(pattern) {
                let help = "use RE2 syntax: no look-around, no back-references";
                findings.error(&format!("{field}.regex"), &error.to_string(), help);
            }
        }
        _ => {}
    }
}

fn header_operations(findings: &mut Of<'_>, headers: &Headers, field: &str) {
    let sides = [("request", &headers.request), ("response", &headers.response)];
    for (side, operations) in sides {
        let Some(operations) = operations else { continue };
        let field = format!("{field}.{side}");
        for (action, map) in [("set", &operations.set), ("add", &operations.add)] {
            for (name, value) in map {
                let field = format!("{field}.{action}[{name}]");
                if side == "response" && is_authority(name) {
                    let message = format!("a response has no `{name}`");
                    findings.error(&field, &message, "set it on the request");
                } else if !is_authority(name) && !is_header_name(name) {
                    let help = "write one field name, such as `x-user`";
                    findings.error(&field, &format!("`{name}` is not a header name"), help);
                }
                if value.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
                    let message = "the value has control characters";
                    findings.error(&field, message, "write it in one line of plain text");
                }
                match HeaderText::parse(value) {
                    Err(error @ HeaderTextError::Unpaired) => {
                        findings.error(&field, &error.to_string(), "a plain one is `%%`");
                    }
                    Err(error @ HeaderTextError::Unknown(_)) => {
                        let message = format!("not honoured yet: {error}, the field is left out");
                        findings.warn("RNG0100", &field, &message, "");
                    }
                    Ok(_) => {}
                }
                framing(findings, name, &field);
            }
        }
        for (index, name) in operations.remove.iter().enumerate() {
            let field = format!("{field}.remove[{index}]");
            if !is_header_name(name) || name.eq_ignore_ascii_case("host") {
                let help = "remove it from the list; to change the host use `rewrite.authority`";
                findings.error(&field, &format!("`{name}` cannot be removed"), help);
            }
            framing(findings, name, &field);
        }
    }
}

/// Operations on fields that frame a message have no effect here, unlike in Istio.
fn framing(findings: &mut Of<'_>, name: &str, field: &str) {
    if HeaderEdits::is_framing(name) {
        let message = format!("the gateway alone says `{name}`: the operation has no effect");
        findings.warn("RNG0101", field, &message, "");
    }
}
