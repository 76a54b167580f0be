//! Forms of names: hosts, labels, ports.

use std::net::IpAddr;

/// Is it a DNS label (RFC 1123)?
pub(super) fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Is it a domain name, perhaps with a trailing dot? Underscores are taken, as Istio does.
pub(super) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.len() <= 255
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Is it a domain name, `*`, or `*.` before a domain name?
pub(super) fn is_wildcard_domain(name: &str) -> bool {
    match name.strip_prefix('*') {
        Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(is_domain),
        None => is_domain(name),
    }
}

/// Is it a host of a VirtualService or Gateway?
pub(super) fn is_host(name: &str) -> bool {
    is_wildcard_domain(name) || name.parse::<IpAddr>().is_ok()
}

/// Is it a port?
pub(super) fn is_port(number: u32) -> bool {
    (1..=65_535).contains(&number)
}

/// Is it an HTTP field name?
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
