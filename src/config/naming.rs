//! Istio's names: fully qualified hosts, clusters, gateways, listeners. What is checked and what is
//! served must read them alike.

use std::collections::BTreeMap;

use super::ResourceKey;

/// The host that `name` stands for in a resource of `namespace` (behaviour 1.4): a name without a
/// dot is a Service of that namespace; names with a dot, `*` and IP literals stay as they are.
pub fn resolve_short_name(name: &str, namespace: &str, cluster_domain: &str) -> String {
    if name.contains('.') || name == "*" || name.parse::<std::net::IpAddr>().is_ok() {
        name.trim_end_matches('.').to_owned()
    } else {
        service_host(name, namespace, cluster_domain)
    }
}

/// `name.namespace.svc.<domain>`.
pub fn service_host(name: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{name}.{namespace}.svc.{cluster_domain}")
}

/// The Gateway that a VirtualService of `namespace` means, as (namespace, name); `None` for `mesh`
/// (behaviour 1.5).
pub fn resolve_gateway<'n>(
    name: &'n str,
    namespace: &'n str,
    cluster_domain: &str,
) -> Option<(&'n str, &'n str)> {
    if name == "mesh" {
        return None;
    }
    if let Some((of, name)) = name.split_once('/') {
        return Some((if of == "." { namespace } else { of }, name));
    }
    // The legacy form: name.namespace or name.namespace.svc.domain.
    let legacy = name.strip_suffix(&format!(".svc.{cluster_domain}")).unwrap_or(name);
    match legacy.split_once('.') {
        Some((name, of)) => Some((of, name)),
        None => Some((namespace, name)),
    }
}

/// `outbound|<port>|<subset>|<host>`.
pub fn cluster(host: &str, port: u32, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The host of a Gateway's server, written `[scope/]host`, if objects of `namespace` may bind to it
/// (behaviour 2.4.1).
pub fn server_host<'h>(
    written: &'h str,
    gateway_namespace: &str,
    namespace: &str,
) -> Option<&'h str> {
    let (scope, host) = written.split_once('/').unwrap_or(("*", written));
    let visible = match scope {
        "*" => true,
        "." => namespace == gateway_namespace,
        other => namespace == other,
    };
    visible.then_some(host)
}

/// The scopes of the annotation `networking.istio.io/exportTo` of a Service.
pub fn service_export_to(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let text = annotations.get("networking.istio.io/exportTo");
    let scopes = text.into_iter().flat_map(|text| text.split(','));
    scopes.map(|scope| scope.trim().to_owned()).collect()
}

/// Is an object of `owner` with this `exportTo` seen from `viewer` (behaviour 1.7)?
pub fn is_exported(export_to: &[String], owner: &str, viewer: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|scope| match scope.as_str() {
            "*" => true,
            "." => owner == viewer,
            "~" => false,
            namespace => namespace == viewer,
        })
}

/// Is it seen only by its own namespace?
pub fn is_private(export_to: &[String], owner: &str) -> bool {
    !export_to.is_empty() && export_to.iter().all(|scope| scope == "." || scope == owner)
}

/// A host of a server without the namespace that may stand before it.
pub fn without_namespace(host: &str) -> String {
    host.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// A server's host with the namespace that `./` means, and without one that says nothing (`*/`), so that
/// equal hosts are equal texts (behaviour 2.3.2).
pub fn normalized_host(host: &str, namespace: &str) -> String {
    match host.split_once('/') {
        Some((".", host)) => format!("{namespace}/{host}"),
        Some(("*", host)) => host.to_owned(),
        _ => host.to_owned(),
    }
}

/// `namespace/name`.
pub fn qualified(key: &ResourceKey) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// Does `host` lie within `pattern` (`*`, `*.suffix` or a name)?
pub fn covers(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.strip_prefix('*') {
        // `*.a.com` covers `x.a.com` and `*.b.a.com`, not `a.com`.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The more specific of two names when they intersect (behaviour 2.4.3).
pub fn intersect<'h>(one: &'h str, other: &'h str) -> Option<&'h str> {
    if covers(one, other) {
        Some(other)
    } else if covers(other, one) {
        Some(one)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_resolve_in_the_namespace_of_their_resource() {
        let resolve = |name| resolve_short_name(name, "shop", "cluster.local");
        assert_eq!(resolve("reviews"), "reviews.shop.svc.cluster.local");
        assert_eq!(resolve("reviews.default"), "reviews.default");
        assert_eq!(resolve("*"), "*");
        assert_eq!(resolve("::1"), "::1");
        assert_eq!(resolve("a.com."), "a.com");
    }

    #[test]
    fn gateways_have_four_spellings() {
        let resolve = |name| resolve_gateway(name, "shop", "cluster.local");
        assert_eq!(resolve("gw"), Some(("shop", "gw")));
        assert_eq!(resolve("./gw"), Some(("shop", "gw")));
        assert_eq!(resolve("infra/gw"), Some(("infra", "gw")));
        assert_eq!(resolve("gw.infra"), Some(("infra", "gw")));
        assert_eq!(resolve("gw.infra.svc.cluster.local"), Some(("infra", "gw")));
        assert_eq!(resolve("mesh"), None);
    }

    #[test]
    fn hosts_intersect_in_the_more_specific_name() {
        assert_eq!(intersect("*.foo.com", "a.foo.com"), Some("a.foo.com"));
        assert_eq!(intersect("a.foo.com", "*.foo.com"), Some("a.foo.com"));
        assert_eq!(intersect("*", "*"), Some("*"));
        assert_eq!(intersect("*.foo.com", "*.b.foo.com"), Some("*.b.foo.com"));
        assert_eq!(intersect("*.foo.com", "foo.com"), None);
        assert_eq!(intersect("a.com", "b.com"), None);
    }

    #[test]
    fn hosts_of_servers_may_be_limited_to_a_namespace() {
        for (written, namespace, host) in [
            ("a.com", "shop", Some("a.com")),
            ("*/a.com", "shop", Some("a.com")),
            ("./a.com", "shop", None),
            ("./a.com", "infra", Some("a.com")),
            ("shop/a.com", "shop", Some("a.com")),
            ("shop/a.com", "infra", None),
        ] {
            assert_eq!(server_host(written, "infra", namespace), host, "{written} {namespace}");
        }
    }

    #[test]
    fn export_scopes() {
        let scopes = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert!(is_exported(&[], "a", "b"));
        assert!(is_exported(&scopes(&["*"]), "a", "b"));
        assert!(!is_exported(&scopes(&["."]), "a", "b"));
        assert!(is_exported(&scopes(&["."]), "a", "a"));
        assert!(is_exported(&scopes(&["b"]), "a", "b"));
        assert!(!is_exported(&scopes(&["~"]), "a", "a"));
        assert!(is_private(&scopes(&["."]), "a"));
        assert!(!is_private(&[], "a"));
    }
}
