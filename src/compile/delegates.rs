//! Delegation: a rule of a VirtualService that continues in another one without hosts (behaviour 3.16).
//! The rule's place is taken by the delegate's rules, each with the conditions of both.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::naming::{is_exported, qualified, resolve_gateway};
use crate::config::virtual_service::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};
use crate::config::{Object, ResourceSet};

/// The VirtualServices that others may delegate to, by `namespace/name`.
pub struct Delegates<'r> {
    by_name: HashMap<String, &'r Object<VirtualService>>,
    cluster_domain: &'r str,
}

/// A rule as it is served.
pub struct ServedRule<'r> {
    /// The object that the rule is written in, by whose namespace its destinations are resolved.
    pub owner: &'r Object<VirtualService>,
    /// Its position there.
    pub index: usize,
    /// The rule.
    pub rule: Cow<'r, HttpRoute>,
}

impl<'r> Delegates<'r> {
    /// All of them.
    pub fn new(resources: &'r ResourceSet, cluster_domain: &'r str) -> Delegates<'r> {
        let delegates = resources.virtual_services().filter(|object| object.spec.hosts.is_empty());
        let by_name = delegates.map(|object| (qualified(&object.key()), object)).collect();
        Delegates { by_name, cluster_domain }
    }

    /// The rules of `root`, with those of delegates in the place of the rules that name them. A
    /// delegate that does not exist, or is not exported to the root, takes its rule with it.
    pub fn rules(&self, root: &'r Object<VirtualService>) -> Vec<ServedRule<'r>> {
        let mut served = Vec::new();
        for (index, rule) in root.spec.http.iter().enumerate() {
            let Some(delegate) = &rule.delegate else {
                served.push(ServedRule { owner: root, index, rule: Cow::Borrowed(rule) });
                continue;
            };
            let own = root.meta.namespace.as_str();
            let name = format!("{}/{}", delegate.namespace_for(own), delegate.name);
            let found = self.by_name.get(&name).copied();
            let Some(found) = found
                .filter(|found| is_exported(&found.spec.export_to, &found.meta.namespace, own))
            else {
                continue;
            };
            for (index, inner) in found.spec.http.iter().enumerate() {
                if let Some(merged) = self.merge((root, rule), (found, inner)) {
                    served.push(ServedRule { owner: found, index, rule: Cow::Owned(merged) });
                }
            }
        }
        served
    }

    /// None when no pair of their conditions can hold together.
    fn merge(
        &self,
        (root, outer): (&Object<VirtualService>, &HttpRoute),
        (delegate, inner): (&Object<VirtualService>, &HttpRoute),
    ) -> Option<HttpRoute> {
        let full = |matches: &[HttpMatchRequest], object: &Object<VirtualService>| {
            let all = matches.iter().map(|one| self.with_full_gateways(one, object));
            all.collect::<Vec<_>>()
        };
        let outer_matches = full(&outer.match_, root);
        let inner_matches = full(&inner.match_, delegate);
        let match_ = if outer_matches.is_empty() {
            inner_matches
        } else if inner_matches.is_empty() {
            outer_matches
        } else {
            // In the delegate's order: its first match decides, whichever of the root's it fits.
            let pairs = inner_matches.iter().flat_map(|inner| {
                let fitting = outer_matches.iter().filter(|outer| !conflict(outer, inner));
                fitting.map(|outer| both(outer, inner))
            });
            let pairs: Vec<_> = pairs.collect();
            if pairs.is_empty() {
                return None;
            }
            pairs
        };
        let mut merged = HttpRoute { match_, ..inner.clone() };
        merged.name = joined(outer.name.as_deref(), inner.name.as_deref());
        fn fill<T: Clone>(field: &mut Option<T>, from: &Option<T>) {
            if field.is_none() {
                field.clone_from(from);
            }
        }
        fill(&mut merged.rewrite, &outer.rewrite);
        fill(&mut merged.direct_response, &outer.direct_response);
        fill(&mut merged.timeout, &outer.timeout);
        fill(&mut merged.retries, &outer.retries);
        fill(&mut merged.fault, &outer.fault);
        fill(&mut merged.mirror, &outer.mirror);
        fill(&mut merged.mirror_percent, &outer.mirror_percent);
        fill(&mut merged.mirror_percentage, &outer.mirror_percentage);
        fill(&mut merged.cors_policy, &outer.cors_policy);
        fill(&mut merged.headers, &outer.headers);
        if merged.mirrors.is_empty() {
            merged.mirrors.clone_from(&outer.mirrors);
        }
        Some(merged)
    }

    /// Names of gateways are short in the namespace of the object that they stand in.
    fn with_full_gateways(
        &self,
        condition: &HttpMatchRequest,
        object: &Object<VirtualService>,
    ) -> HttpMatchRequest {
        let full = |name: &String| {
            let resolved = resolve_gateway(name, &object.meta.namespace, self.cluster_domain);
            resolved.map_or_else(|| name.clone(), |(of, name)| format!("{of}/{name}"))
        };
        let gateways = condition.gateways.iter().map(full).collect();
        HttpMatchRequest { gateways, ..condition.clone() }
    }
}

fn joined(outer: Option<&str>, inner: Option<&str>) -> Option<String> {
    let given = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    match (given(outer), given(inner)) {
        (Some(outer), Some(inner)) => Some(format!("{outer}-{inner}")),
        (outer, inner) => outer.or(inner),
    }
}

/// Is the inner condition something that the outer one does not allow?
fn conflict(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> bool {
    let strings = |of: fn(&HttpMatchRequest) -> &Option<StringMatch>| {
        string_conflict(of(outer).as_ref(), of(inner).as_ref())
    };
    let maps = |of: fn(&HttpMatchRequest) -> &BTreeMap<String, Option<StringMatch>>| {
        of(inner).iter().any(|(name, value)| {
            let known = of(outer).get(name).and_then(Option::as_ref);
            string_conflict(known, value.as_ref())
        })
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let differ = |one: Option<String>, other: Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
    strings(|of| &of.uri)
        || strings(|of| &of.scheme)
        || strings(|of| &of.method)
        || strings(|of| &of.authority)
        || maps(|of| &of.headers)
        || maps(|of| &of.without_headers)
        || maps(|of| &of.query_params)
        || outer.ignore_uri_case.unwrap_or(false) != inner.ignore_uri_case.unwrap_or(false)
        || matches!((outer.port, inner.port), (Some(one), Some(other)) if one != other)
        || differ(given(&outer.source_namespace), given(&inner.source_namespace))
        || inner.source_labels.iter().any(|(label, value)| {
            outer.source_labels.get(label).is_some_and(|known| known != value)
        })
        || !outer.gateways.is_empty()
            && inner.gateways.iter().any(|gateway| !outer.gateways.contains(gateway))
}

/// Two regexes cannot be compared, nor one with anything else; the inner text must lie within the outer.
fn string_conflict(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> bool {
    use StringMatch::{Empty, Exact, Prefix, Regex};
    match (outer, inner) {
        (None | Some(Empty), _) | (_, None | Some(Empty)) => false,
        (Some(Regex(_)), Some(_)) | (Some(_), Some(Regex(_))) => true,
        (Some(Exact(outer)), Some(Exact(inner))) => outer != inner,
        (Some(Exact(_)), Some(Prefix(_))) => true,
        (Some(Prefix(outer)), Some(Exact(inner) | Prefix(inner))) => !inner.starts_with(outer),
    }
}

/// The conditions of both; where both say something, the inner one, which is the narrower.
fn both(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> HttpMatchRequest {
    fn united<V: Clone>(
        outer: &BTreeMap<String, V>,
        inner: &BTreeMap<String, V>,
    ) -> BTreeMap<String, V> {
        let mut all = outer.clone();
        all.extend(inner.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
    HttpMatchRequest {
        name: joined(outer.name.as_deref(), inner.name.as_deref()),
        uri: inner.uri.clone().or_else(|| outer.uri.clone()),
        scheme: inner.scheme.clone().or_else(|| outer.scheme.clone()),
        method: inner.method.clone().or_else(|| outer.method.clone()),
        authority: inner.authority.clone().or_else(|| outer.authority.clone()),
        headers: united(&outer.headers, &inner.headers),
        without_headers: united(&outer.without_headers, &inner.without_headers),
        query_params: united(&outer.query_params, &inner.query_params),
        ignore_uri_case: inner.ignore_uri_case,
        port: inner.port.or(outer.port),
        source_labels: united(&outer.source_labels, &inner.source_labels),
        gateways: if inner.gateways.is_empty() { &outer.gateways } else { &inner.gateways }.clone(),
        source_namespace: inner.source_namespace.clone().or_else(|| outer.source_namespace.clone()),
        stat_prefix: inner.stat_prefix.clone().or_else(|| outer.stat_prefix.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_text_lies_within_the_outer() {
        let exact = |text: &str| Some(StringMatch::Exact(text.to_owned()));
        let prefix = |text: &str| Some(StringMatch::Prefix(text.to_owned()));
        let regex = |text: &str| Some(StringMatch::Regex(text.to_owned()));
        for (outer, inner, expected) in [
            (None, exact("/a"), false),
            (exact("/a"), None, false),
            (exact("/a"), exact("/a"), false),
            (exact("/a"), exact("/b"), true),
            (exact("/a"), prefix("/a"), true),
            (prefix("/a"), exact("/a/b"), false),
            (prefix("/a"), exact("/b"), true),
            (prefix("/a"), prefix("/a/b"), false),
            (prefix("/a/b"), prefix("/a"), true),
            (regex("/a"), exact("/a"), true),
            (prefix("/a"), regex("/a.*"), true),
            (regex("/a"), None, false),
        ] {
            let found = string_conflict(outer.as_ref(), inner.as_ref());
            assert_eq!(found, expected, "{outer:?} {inner:?}");
        }
    }
}
