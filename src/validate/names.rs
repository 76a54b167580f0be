//! Forms of names: hosts, labels, ports, addresses.

use std::net::IpAddr;

/// Is it a DNS label (RFC 1123, either case)?
pub(super) fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Is it a name of a Kubernetes object: labels with dots between them?
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// Is it a domain name, perhaps with a trailing dot? The last label is not a number: that is an
/// address, or a part of one.
pub(super) fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 255
        && name.split('.').all(is_dns_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Is it a domain name, `*`, or a domain name whose first label is, or begins with, `*`?
pub(super) fn is_wildcard_domain(name: &str) -> bool {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let label = first.strip_prefix("*-").or_else(|| first.strip_prefix('*')).unwrap_or(first);
    let first_is_good = first == "*" || (first.len() <= 63 && is_dns_label(label));
    name.len() <= 255 && first_is_good && rest.is_none_or(|rest| rest.is_empty() || is_domain(rest))
}

/// Does `*` stand for a part of a label, as in `*foo.com`?
pub(super) fn is_partial_wildcard(name: &str) -> bool {
    name.contains('*') && name != "*" && !name.starts_with("*.")
}

/// Is it a host of a VirtualService or Gateway? Partial wildcards are none here.
pub(super) fn is_host(name: &str) -> bool {
    (is_wildcard_domain(name) && !is_partial_wildcard(name)) || is_address(name)
}

/// Is it an IP address?
pub(super) fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

/// Is it an IP address, or a range of them (`10.0.0.0/8`)?
pub(super) fn is_subnet(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return is_address(text) };
    let bits = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    // As Go reads it: `/08` and `/+8` are no lengths.
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (length == "0" || !length.starts_with('0'));
    plain && length.parse::<u32>().is_ok_and(|length| length <= bits)
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

/// Is it the path of a unix socket, as it stands behind `unix://`?
pub(super) fn is_socket_path(path: &str) -> bool {
    path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/'))
}

/// Is it the key of a Kubernetes label: a name, perhaps with a domain and `/` before it?
pub(super) fn is_label_key(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some((domain, name)) if is_subdomain(domain) => name,
        Some(_) => return false,
        None => key,
    };
    !name.is_empty() && is_label_value(name)
}

/// Is it the value of a Kubernetes label? Istio does not limit its length.
pub(super) fn is_label_value(value: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(value.bytes().next())
        && ends(value.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_wildcards() {
        let long = "x".repeat(64);
        for (name, domain, wildcard) in [
            ("a.com", true, true),
            ("a.com.", true, true),
            ("localhost", true, true),
            ("*", false, true),
            ("*.a.com", false, true),
            ("*foo", false, true),
            ("*-foo.a.com", false, true),
            ("a.*.com", false, false),
            ("foo*.a.com", false, false),
            ("a_b.com", false, false),
            ("1.1.1.1", false, false),
            ("a.1", false, false),
            ("a..com", false, false),
            ("", false, false),
            (&long, false, false),
        ] {
            assert_eq!(is_domain(name), domain, "{name}");
            assert_eq!(is_wildcard_domain(name), wildcard, "{name}");
        }
        assert!(is_host("*.a.com") && is_host("::1") && is_host("1.1.1.1") && !is_host("*a.com"));
    }

    #[test]
    fn addresses_and_labels() {
        for good in ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0"] {
            assert!(is_subnet(good), "{good}");
        }
        for bad in ["", "a", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "1.1.1.1/+1", "::/129"] {
            assert!(!is_subnet(bad), "{bad}");
        }
        assert!(is_label_key("app.kubernetes.io/name") && is_label_key("version"));
        assert!(
            !is_label_key("") && !is_label_key("a/") && !is_label_key("@") && !is_label_key("-a")
        );
        assert!(is_label_value("") && is_label_value("v1.2_3") && !is_label_value("v1*"));
        assert!(is_socket_path("/a") && is_socket_path("@a") && !is_socket_path("a"));
        assert!(!is_socket_path("/a/"));
    }
}
