//! Rules of a VirtualService that an earlier rule keeps from ever being used, wholly (IST0130) or
//! in one of their matches (IST0131).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use super::Findings;
use crate::config::virtual_service::{HttpMatchRequest, HttpRoute, StringMatch, VirtualService};

/// Matches of one VirtualService up to which each is compared with each; beyond, only equal ones
/// are found.
const COMPARED_MAX: usize = 1000;

pub(super) fn validate(findings: &mut Findings<'_, VirtualService>) {
    let spec = &findings.object.spec;
    let http: Vec<_> =
        spec.http.iter().map(|route| route.match_.iter().map(bare).collect()).collect();
    let catch_all = spec.http.iter().position(takes_everything);
    if let Some(before) = catch_all {
        for index in before + 1..spec.http.len() {
            findings.warn(
                "IST0130",
                &format!("spec.http[{index}]"),
                &format!("never used: rule {before} before it takes every request"),
                "move the rule that takes everything to the end",
            );
        }
    }
    // What stands behind a rule that takes everything is told already.
    let reached = catch_all.map_or(http.len(), |index| index + 1);
    rules(findings, "http", &http[..reached], covers);
    let tls: Vec<_> = spec.tls.iter().map(|route| route.match_.clone()).collect();
    rules(findings, "tls", &tls, |_, _| false);
    let tcp: Vec<_> = spec.tcp.iter().map(|route| route.match_.clone()).collect();
    rules(findings, "tcp", &tcp, |_, _| false);
}

/// Does a rule apply to every request?
fn takes_everything(route: &HttpRoute) -> bool {
    let all = HttpMatchRequest::default();
    route.match_.is_empty() || route.match_.iter().any(|condition| covers(&bare(condition), &all))
}

/// A match without the names that it is only called by.
fn bare(condition: &HttpMatchRequest) -> HttpMatchRequest {
    HttpMatchRequest { name: None, stat_prefix: None, ..condition.clone() }
}

/// Tell of matches that are equal to, or within, one before them.
fn rules<M: Debug>(
    findings: &mut Findings<'_, VirtualService>,
    list: &str,
    rules: &[Vec<M>],
    covers: fn(&M, &M) -> bool,
) {
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut before: Vec<(usize, &M)> = Vec::new();
    let compared = rules.iter().map(Vec::len).sum::<usize>() <= COMPARED_MAX;
    for (index, matches) in rules.iter().enumerate() {
        let field = format!("spec.{list}[{index}]");
        // A rule without a match has the one match that asks for nothing.
        let keys = match matches.is_empty() {
            true => vec![String::new()],
            false => matches.iter().map(|condition| format!("{condition:?}")).collect(),
        };
        let equal: Vec<Option<usize>> = keys.iter().map(|key| known.get(key).copied()).collect();
        if let Some(earlier) = equal.iter().copied().collect::<Option<Vec<_>>>() {
            let earlier = earlier.first().copied().unwrap_or_default();
            findings.warn(
                "IST0130",
                &field,
                &format!("never used: rule {earlier} before it has the same match"),
                "remove it, or make its match another one",
            );
        } else {
            for (at, condition) in matches.iter().enumerate() {
                let same = equal.get(at).copied().flatten();
                let wider = || {
                    let found = before.iter().find(|(_, earlier)| covers(earlier, condition));
                    found.map(|(rule, _)| *rule)
                };
                if let Some(earlier) = same.or_else(wider) {
                    findings.warn(
                        "IST0131",
                        &format!("{field}.match[{at}]"),
                        &format!(
                            "never decides: a match of rule {earlier} before it takes its requests"
                        ),
                        "put the narrower match first",
                    );
                }
                if compared {
                    before.push((index, condition));
                }
            }
        }
        for key in keys {
            known.entry(key).or_insert(index);
        }
    }
}

/// Does every request that meets `narrow` meet `wide`? Errs towards no.
fn covers(wide: &HttpMatchRequest, narrow: &HttpMatchRequest) -> bool {
    let ignore_case = |condition: &HttpMatchRequest| condition.ignore_uri_case == Some(true);
    let uri = match (&wide.uri, &narrow.uri) {
        (None | Some(StringMatch::Empty), _) => true,
        (Some(StringMatch::Regex(pattern)), _) if pattern == ".*" => true,
        (Some(StringMatch::Prefix(prefix)), None) => matches!(prefix.as_str(), "" | "/"),
        (Some(StringMatch::Prefix(prefix)), Some(uri)) => match uri {
            _ if prefix.is_empty() || prefix == "/" => true,
            StringMatch::Prefix(text) | StringMatch::Exact(text) => {
                text.starts_with(prefix) && (ignore_case(wide) || !ignore_case(narrow))
            }
            StringMatch::Regex(_) | StringMatch::Empty => false,
        },
        (wide_uri, narrow_uri) => {
            wide_uri == narrow_uri && ignore_case(wide) == ignore_case(narrow)
        }
    };
    fn text(wide: &Option<StringMatch>, narrow: &Option<StringMatch>) -> bool {
        wide.is_none() || wide == narrow
    }
    fn map<V: PartialEq>(wide: &BTreeMap<String, V>, narrow: &BTreeMap<String, V>) -> bool {
        wide.iter().all(|(name, value)| narrow.get(name) == Some(value))
    }
    uri && text(&wide.scheme, &narrow.scheme)
        && text(&wide.method, &narrow.method)
        && text(&wide.authority, &narrow.authority)
        && map(&wide.headers, &narrow.headers)
        && map(&wide.without_headers, &narrow.without_headers)
        && map(&wide.query_params, &narrow.query_params)
        && (wide.port.is_none() || wide.port == narrow.port)
        && (wide.gateways.is_empty() || wide.gateways == narrow.gateways)
        && map(&wide.source_labels, &narrow.source_labels)
        && (wide.source_namespace.is_none() || wide.source_namespace == narrow.source_namespace)
}
