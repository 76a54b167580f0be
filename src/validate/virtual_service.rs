//! Rules of VirtualService (behaviour 11.3).

use std::collections::BTreeMap;

use super::Findings;
use super::names::{is_dns_label, is_header_name, is_host, is_port};
use super::route_policy::{cors_policy, duration, fault, percent, redirect, retries};
use crate::config::naming::covers;
use crate::config::virtual_service::{
    Destination, Headers, HttpMatchRequest, HttpRoute, StringMatch, VirtualService,
};
use crate::limits::MIRRORS_OF_ROUTE_MAX;
use crate::router::{StringMatch as Compiled, Substitution, SubstitutionError};
use crate::snapshot::{HeaderEdits, HeaderText, HeaderTextError};

const DIRECT_BODY_BYTES_MAX: usize = 1024 * 1024;
const DIRECT_BODY_BYTES_USUAL: usize = 100 * 1024;
const PSEUDO_HEADERS: [&str; 5] = [":authority", ":method", ":path", ":scheme", ":protocol"];

type Of<'o> = Findings<'o, VirtualService>;

pub(super) fn validate(findings: &mut Of<'_>) {
    let spec = &findings.object.spec;
    let delegate = spec.hosts.is_empty();
    if delegate && !(spec.gateways.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty()) {
        findings.error(
            "spec",
            "a VirtualService without hosts is a delegate: it has no gateways, tls or tcp",
            "add `hosts`",
        );
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        findings.error("spec", "none of `http`, `tls`, `tcp`", "add routes");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        if !is_host(host) {
            let message = format!("`{host}` is not a host name, `*.` before one, or `*`");
            findings.error(&field, &message, "wildcards stand for whole leading labels only");
        }
        if spec.hosts[..index].iter().any(|other| overlaps(other, host)) {
            let message = format!("`{host}` overlaps another host of the list");
            findings.error(&field, &message, "remove one of them");
        }
    }
    for (index, gateway) in spec.gateways.iter().enumerate() {
        let valid = match gateway.split_once('/') {
            Some((namespace, name)) => {
                (namespace == "." || is_dns_label(namespace)) && !name.is_empty()
            }
            None => !gateway.is_empty(),
        };
        if !valid {
            let message = format!("`{gateway}` is not `name` or `namespace/name`");
            findings.error(&format!("spec.gateways[{index}]"), &message, "");
        }
    }
    if spec.gateways.iter().all(|gateway| gateway == "mesh") {
        for (index, _) in spec.hosts.iter().enumerate().filter(|(_, host)| *host == "*") {
            let message = "the mesh has no host `*`";
            findings.error(&format!("spec.hosts[{index}]"), message, "bind it to a gateway");
        }
    }
    export_to(findings, &spec.export_to);
    for (index, route) in spec.http.iter().enumerate() {
        http_route(findings, route, &format!("spec.http[{index}]"), delegate);
    }
    super::shadowed::validate(findings);
    for (index, route) in spec.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        if route.match_.is_empty() {
            findings.error(&field, "a tls route needs a match", "add `match: [{sniHosts: […]}]`");
        }
        for (position, condition) in route.match_.iter().enumerate() {
            let field = format!("{field}.match[{position}]");
            if condition.sni_hosts.is_empty() {
                findings.error(&field, "a tls match needs `sniHosts`", "");
            }
            for (at, name) in condition.sni_hosts.iter().enumerate() {
                if !spec.hosts.iter().any(|host| covers(host, name)) {
                    let message = format!("`{name}` is not within the hosts of the VirtualService");
                    findings.error(&format!("{field}.sniHosts[{at}]"), &message, "");
                }
            }
        }
        if route.route.is_empty() {
            findings.error(&field, "a tls route needs destinations", "add `route`");
        }
    }
    for (index, route) in spec.tcp.iter().enumerate() {
        if route.route.is_empty() {
            let field = format!("spec.tcp[{index}]");
            findings.error(&field, "a tcp route needs destinations", "add `route`");
        }
    }
}

fn overlaps(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, host: &str| match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => pattern.eq_ignore_ascii_case(host),
    };
    covers(one, other) || covers(other, one)
}

/// Rules of `exportTo` lists.
pub(super) fn export_to<S: crate::config::Spec>(findings: &mut Findings<'_, S>, scopes: &[String]) {
    let own = findings.object.meta.namespace.clone();
    for (index, scope) in scopes.iter().enumerate() {
        let field = format!("spec.exportTo[{index}]");
        if !matches!(scope.as_str(), "*" | "." | "~") && !is_dns_label(scope) {
            findings.error(&field, &format!("`{scope}` is not a namespace, `.`, `*` or `~`"), "");
        }
        let same = |other: &String| {
            other == scope || (scope == "." && *other == own) || (*other == "." && *scope == own)
        };
        if scopes[..index].iter().any(same) {
            findings.error(&field, &format!("`{scope}` is given twice"), "");
        }
        if matches!(scope.as_str(), "*" | "~") && scopes.len() > 1 {
            findings.error(&field, &format!("`{scope}` stands alone"), "remove the others");
        }
    }
}

fn http_route(findings: &mut Of<'_>, route: &HttpRoute, field: &str, delegate: bool) {
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
        findings.error(&format!("{field}.delegate"), "a delegate cannot delegate further", "");
    }
    let local = route.redirect.is_some() || route.direct_response.is_some();
    if local && (route.fault.is_some() || route.rewrite.is_some()) {
        findings.error(field, "`fault` and `rewrite` do not go with an answer of the gateway", "");
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        findings.error(field, "`mirror` and `mirrors` exclude each other", "use `mirrors`");
    }
    for (index, condition) in route.match_.iter().enumerate() {
        http_match(findings, condition, &format!("{field}.match[{index}]"));
    }
    destinations(findings, route, field);
    if let Some(headers) = &route.headers {
        header_operations(findings, headers, &format!("{field}.headers"));
    }
    redirect(findings, route, field);
    if let Some(direct) = &route.direct_response
        && !(200..=599).contains(&direct.status)
    {
        let message = format!("status {} is not one of 200 to 599", direct.status);
        findings.error(&format!("{field}.directResponse.status"), &message, "");
    }
    if let Some(body) = route.direct_response.as_ref().and_then(|direct| direct.body.as_ref()) {
        let field = format!("{field}.directResponse.body");
        if body.string.is_some() == body.bytes.is_some() {
            findings.error(&field, "one of `string` and `bytes` is needed", "");
        }
        if let Some(text) = &body.bytes
            && data_encoding::BASE64.decode(text.as_bytes()).is_err()
        {
            findings.error(&format!("{field}.bytes"), "not base64", "");
        }
        // Four characters of base64 are three bytes.
        let bytes = body.string.as_ref().map_or(0, String::len)
            + body.bytes.as_ref().map_or(0, |text| text.len() / 4 * 3);
        if bytes > DIRECT_BODY_BYTES_MAX {
            findings.error(&field, "the body is larger than 1 MiB", "");
        } else if bytes > DIRECT_BODY_BYTES_USUAL {
            findings.warn("IST0106", &field, "a body of more than 100 KiB", "");
        }
    }
    if let Some(rewrite) = &route.rewrite {
        let field = format!("{field}.rewrite");
        let uri = rewrite.uri.as_deref().is_some_and(|uri| !uri.is_empty());
        let authority = rewrite.authority.as_deref().is_some_and(|name| !name.is_empty());
        if !uri && !authority && rewrite.uri_regex_rewrite.is_none() {
            findings.error(&field, "`rewrite` says nothing", "add `uri` or `authority`");
        }
        if uri && rewrite.uri_regex_rewrite.is_some() {
            findings.error(&field, "`uri` and `uriRegexRewrite` exclude each other", "");
        }
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            let field = format!("{field}.uriRegexRewrite");
            if regex.match_.is_empty() || regex.rewrite.is_empty() {
                findings.error(&field, "both `match` and `rewrite` are needed", "");
            } else if let Err(error) = Substitution::new(&regex.match_, &regex.rewrite) {
                let part = match error {
                    SubstitutionError::Pattern(_) => "match",
                    SubstitutionError::Escape | SubstitutionError::Group(_) => "rewrite",
                };
                findings.error(&format!("{field}.{part}"), &error.to_string(), "");
            }
        }
    }
    duration(findings, route.timeout.map(Into::into), &format!("{field}.timeout"));
    retries(findings, route, field);
    fault(findings, route, field);
    if let Some(cors) = &route.cors_policy {
        cors_policy(findings, cors, &format!("{field}.corsPolicy"));
    }
    percent(findings, route.mirror_percentage, &format!("{field}.mirrorPercentage"));
    if route.mirrors.len() > MIRRORS_OF_ROUTE_MAX {
        let message = format!("more than {MIRRORS_OF_ROUTE_MAX} mirrors");
        findings.error(&format!("{field}.mirrors"), &message, "remove some");
    }
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let field = format!("{field}.mirrors[{index}]");
        match &mirror.destination {
            Some(to) => destination(findings, to, &format!("{field}.destination")),
            None => findings.error(&field, "a mirror needs a destination", ""),
        }
        percent(findings, mirror.percentage, &format!("{field}.percentage"));
    }
    if let Some(mirror) = &route.mirror {
        destination(findings, mirror, &format!("{field}.mirror"));
    }
}

fn destinations(findings: &mut Of<'_>, route: &HttpRoute, field: &str) {
    let mut total = 0u64;
    for (index, weighted) in route.route.iter().enumerate() {
        let field = format!("{field}.route[{index}]");
        total += u64::from(weighted.weight.unwrap_or(0));
        match &weighted.destination {
            Some(to) => destination(findings, to, &format!("{field}.destination")),
            None => findings.error(&field, "a destination is missing", "add `destination: {host}`"),
        }
        if let Some(headers) = &weighted.headers {
            header_operations(findings, headers, &format!("{field}.headers"));
        }
    }
    if route.route.len() > 1 && total == 0 {
        findings.error(
            &format!("{field}.route"),
            "the weights of several destinations are all 0",
            "give at least one a weight",
        );
    }
}

fn destination(findings: &mut Of<'_>, to: &Destination, field: &str) {
    if to.host == "*" || !is_host(&to.host) || to.host.starts_with('*') {
        let message = format!("`{}` is not the host of a service", to.host);
        findings.error(&format!("{field}.host"), &message, "");
    }
    if let Some(subset) = to.subset.as_deref()
        && !subset.is_empty()
        && !is_dns_label(subset)
    {
        findings.error(&format!("{field}.subset"), &format!("`{subset}` is not a name"), "");
    }
    if let Some(port) = &to.port
        && !is_port(port.number)
    {
        let message = format!("{} is not a port (1 to 65535)", port.number);
        findings.error(&format!("{field}.port.number"), &message, "");
    }
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
    let maps = [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)];
    for (name, map) in maps {
        for (header, text) in map {
            let field = format!("{field}.{name}[{header}]");
            let claims = header.starts_with("@request.auth.claims");
            if !claims && !is_header_name(header) && !PSEUDO_HEADERS.contains(&header.as_str()) {
                findings.error(&field, &format!("`{header}` is not a header name"), "");
            }
            value_match(findings, text.as_ref(), &field);
        }
    }
    value_matches(findings, &condition.query_params, &format!("{field}.queryParams"));
    if let Some(port) = condition.port
        && !is_port(port)
    {
        findings.error(&format!("{field}.port"), &format!("{port} is not a port"), "");
    }
}

fn value_matches(findings: &mut Of<'_>, map: &BTreeMap<String, Option<StringMatch>>, field: &str) {
    for (name, text) in map {
        value_match(findings, text.as_ref(), &format!("{field}[{name}]"));
    }
}

fn value_match(findings: &mut Of<'_>, text: Option<&StringMatch>, field: &str) {
    match text {
        Some(StringMatch::Regex(pattern)) if pattern == "*" => {}
        Some(text) => string_match(findings, text, field, false),
        None => {}
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
                findings.error(field, &error.to_string(), help);
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
                let host = side == "request"
                    && (name.eq_ignore_ascii_case(":authority")
                        || name.eq_ignore_ascii_case("host"));
                if !host && !is_header_name(name) {
                    findings.error(&field, &format!("`{name}` is not a header name"), "");
                }
                if value.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
                    findings.error(&field, "the value has control characters", "");
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
            if !is_header_name(name) || name.eq_ignore_ascii_case("host") {
                let field = format!("{field}.remove[{index}]");
                findings.error(&field, &format!("`{name}` cannot be removed"), "");
            }
            framing(findings, name, &format!("{field}.remove[{index}]"));
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
