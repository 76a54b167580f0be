//! What a rule changes → the policy of its route (behaviour 3.7 and 3.10).

use crate::config::scalar::{Duration, Percent};
use crate::config::virtual_service::{
    CorsPolicy, Destination, HeaderOperations, Headers, HttpFaultInjection, HttpMatchRequest,
    HttpRetry, HttpRewrite, HttpRoute, StringMatch, UnmatchedPreflights, VirtualService,
};
use crate::config::{Diagnostic, Object, Severity};
use crate::router::{StringMatch as Pattern, Substitution};
use crate::snapshot::{
    Cors, DestinationPolicy, Fault, FaultStatus, HeaderEdits, HeaderText, Mirror, PathRewrite,
    RetryConditions, RetryPolicy, RoutePolicy,
};

/// The policy of a rule for one of its matches; `used` are the positions of the destinations that the
/// route has. Mistakes that validation reports are left out here.
pub fn policy(
    object: &Object<VirtualService>,
    index: usize,
    rule: &HttpRoute,
    condition: &HttpMatchRequest,
    used: &[usize],
    mirrors: Box<[Mirror]>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Box<RoutePolicy>> {
    let local = rule.redirect.is_some() || rule.direct_response.is_some();
    let rewrite = rule.rewrite.as_ref().filter(|_| !local);
    let path = rewrite.and_then(|rewrite| match path_rewrite(rewrite, condition) {
        Ok(path) => path,
        Err(message) => {
            let field = format!("spec.http[{index}].rewrite.uriRegexRewrite");
            let help = Some("the path goes on unchanged; use RE2 syntax");
            diagnostics.push(object.diagnostic(Severity::Error, "RNG0203", &field, &message, help));
            None
        }
    });
    let single = rule.route.len() <= 1;
    let of_route = rule.headers.as_ref();
    let of_destination = |position: usize| {
        let own = rule.route.get(position).and_then(|weighted| weighted.headers.as_ref());
        DestinationPolicy {
            authority: if local { None } else { authority(rewrite, of_route, own) },
            request: edits(of_route, own, single, |headers| headers.request.as_ref()),
            response: edits(of_route, own, single, |headers| headers.response.as_ref()),
        }
    };
    let destinations: Box<[DestinationPolicy]> = match used {
        [] => [of_destination(usize::MAX)].into(),
        _ => used.iter().map(|position| of_destination(*position)).collect(),
    };
    let timeout_ms = rule.timeout.map(milliseconds);
    let retries = rule.retries.as_ref().map(retries).unwrap_or_default();
    let fault = rule.fault.as_ref().filter(|_| !local).map(fault);
    let cors = rule.cors_policy.as_ref().filter(|_| !local).map(|cors| Box::new(self::cors(cors)));
    let changes = path.is_some()
        || timeout_ms.is_some()
        || retries != RetryPolicy::default()
        || fault.is_some()
        || cors.is_some()
        || !mirrors.is_empty()
        || destinations.iter().any(|destination| *destination != DestinationPolicy::default());
    changes.then(|| {
        Box::new(RoutePolicy { path, timeout_ms, retries, fault, mirrors, cors, destinations })
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(std::time::Duration::from(duration).as_millis()).unwrap_or(u64::MAX).max(1)
}

fn cors(policy: &CorsPolicy) -> Cors {
    let any = |text: &str| text == "*";
    let is_any = |origin: &StringMatch| matches!(origin, StringMatch::Exact(text) if any(text));
    // The deprecated list counts when the other is empty, as in Istio.
    let deprecated: &[String] =
        if policy.allow_origins.is_empty() { &policy.allow_origin } else { &[] };
    let compiled = policy.allow_origins.iter().filter_map(|origin| match origin {
        StringMatch::Exact(text) => Some(Pattern::exact(text)),
        StringMatch::Prefix(text) => Some(Pattern::prefix(text)),
        // Validation has reported a pattern that cannot be used.
        StringMatch::Regex(pattern) => Pattern::regex(pattern).ok(),
        StringMatch::Empty => None,
    });
    let max_age = policy.max_age.map(|age| std::time::Duration::from(age).as_secs().to_string());
    Cors {
        any_origin: policy.allow_origins.iter().any(is_any)
            || deprecated.iter().any(|origin| any(origin)),
        origins: compiled.chain(deprecated.iter().map(Pattern::exact)).collect(),
        allow_methods: policy.allow_methods.join(",").into(),
        allow_headers: policy.allow_headers.join(",").into(),
        expose_headers: policy.expose_headers.join(",").into(),
        max_age: max_age.unwrap_or_default().into(),
        credentials: policy.allow_credentials == Some(true),
        ignores_unmatched: policy.unmatched_preflights == Some(UnmatchedPreflights::Ignore),
    }
}

/// A percentage in millionths.
fn ppm(percentage: Percent) -> u32 {
    (percentage.value * 10_000.0).round() as u32
}

/// Where copies of a rule's requests go, and how many of a million (behaviour 3.14.1).
pub fn mirrors(rule: &HttpRoute) -> Vec<(&Destination, u32)> {
    const ALL: u32 = 1_000_000;
    let of_one = match (rule.mirror_percentage, rule.mirror_percent) {
        (Some(percentage), _) => ppm(percentage),
        (None, Some(percent)) => ppm(Percent { value: f64::from(percent) }),
        (None, None) => ALL,
    };
    let one = rule.mirror.iter().map(|destination| (destination, of_one));
    let several = rule.mirrors.iter().filter_map(|mirror| {
        Some((mirror.destination.as_ref()?, mirror.percentage.map_or(ALL, ppm)))
    });
    let forwards = rule.redirect.is_none() && rule.direct_response.is_none();
    one.chain(several).filter(|(_, ppm)| forwards && *ppm > 0).collect()
}

/// Without a percentage nothing happens (behaviour 3.13).
fn fault(fault: &HttpFaultInjection) -> Fault {
    let ppm = |percentage: Option<Percent>| percentage.map_or(0, ppm);
    let mut compiled = Fault::default();
    if let Some(delay) = &fault.delay {
        let deprecated = delay.percent.map(|percent| Percent { value: f64::from(percent) });
        compiled.delay_ppm = ppm(delay.percentage.or(deprecated));
        compiled.delay_ms = delay.fixed_delay.map_or(0, milliseconds);
    }
    if let Some(abort) = &fault.abort {
        compiled.abort_ppm = ppm(abort.percentage);
        compiled.abort = match (abort.http_status, &abort.grpc_status) {
            (Some(status), _) => FaultStatus::Http(u16::try_from(status).unwrap_or(503)),
            (None, Some(name)) => FaultStatus::grpc(name).unwrap_or_default(),
            (None, None) => {
                compiled.abort_ppm = 0;
                FaultStatus::default()
            }
        };
    }
    compiled
}

fn retries(retries: &HttpRetry) -> RetryPolicy {
    let mut policy = RetryPolicy {
        attempts: u32::try_from(retries.attempts).unwrap_or(0),
        per_try_timeout_ms: retries.per_try_timeout.map(milliseconds),
        avoids_tried: retries.retry_ignore_previous_hosts,
        remote_localities: retries.retry_remote_localities == Some(true),
        ..RetryPolicy::default()
    };
    if let Some(base) = retries.backoff {
        policy.back_off_ms = milliseconds(base);
    }
    let Some(on) = retries.retry_on.as_deref().filter(|on| !on.is_empty()) else { return policy };
    policy.on = RetryConditions::default();
    let mut codes = Vec::new();
    for condition in on.split(',').map(str::trim) {
        // Istio takes a number for one of `retriable-status-codes`.
        if let Ok(code) = condition.parse() {
            codes.push(code);
            policy.on.insert(RetryConditions::STATUS_CODES);
        } else if let Some(condition) = RetryConditions::named(condition) {
            policy.on.insert(condition);
        }
    }
    policy.status_codes = codes.into();
    policy
}

fn path_rewrite(
    rewrite: &HttpRewrite,
    condition: &HttpMatchRequest,
) -> Result<Option<PathRewrite>, String> {
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        let replacement = encoded(&regex.rewrite);
        return match Substitution::new(&regex.match_, &replacement) {
            Ok(substitution) => Ok(Some(PathRewrite::Regex(Box::new(substitution)))),
            Err(error) => Err(error.to_string()),
        };
    }
    let Some(uri) = rewrite.uri.as_deref().filter(|uri| !uri.is_empty()) else { return Ok(None) };
    let replacement = encoded(uri).into();
    Ok(Some(match &condition.uri {
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => PathRewrite::Full(replacement),
        Some(StringMatch::Prefix(prefix)) => {
            PathRewrite::Prefix { length: prefix.len(), replacement }
        }
        // Istio matches the prefix `/` then, and replaces that.
        Some(StringMatch::Empty) | None => PathRewrite::Prefix { length: 1, replacement },
    }))
}

/// What no path may hold as it is becomes `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The host that goes upstream: that of `rewrite`, else of the route's operations, else of the
/// destination's (behaviour 3.7.5).
fn authority(
    rewrite: Option<&HttpRewrite>,
    route: Option<&Headers>,
    destination: Option<&Headers>,
) -> Option<Box<str>> {
    let of_rewrite = rewrite.and_then(|rewrite| rewrite.authority.as_deref());
    let of_headers = [route, destination].into_iter().flatten().flat_map(|headers| {
        headers.request.iter().flat_map(|operations| {
            [&operations.set, &operations.add].into_iter().filter_map(|map| {
                map.iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.as_str())
            })
        })
    });
    let host = of_rewrite.into_iter().chain(of_headers).find(|host| !host.is_empty())?;
    let clean: String = host.chars().filter(char::is_ascii_graphic).collect();
    Some(clean.into())
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// What has become of each name after all operations, in the order of their first mention.
#[derive(Default)]
struct Outcomes(Vec<Outcome>);

struct Outcome {
    name: Box<str>,
    dropped: bool,
    added: Vec<HeaderText>,
}

impl Outcomes {
    /// None for a name that is no header operation's.
    fn of(&mut self, name: &str) -> Option<&mut Outcome> {
        if name.starts_with(':') || is_host(name) || HeaderEdits::is_framing(name) {
            return None;
        }
        let known = self.0.iter().position(|outcome| outcome.name.eq_ignore_ascii_case(name));
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            let name = name.to_ascii_lowercase().into();
            self.0.push(Outcome { name, dropped: false, added: Vec::new() });
        }
        self.0.get_mut(index)
    }

    /// Whatever there was of that name goes.
    fn clear(&mut self, name: &str) {
        if let Some(outcome) = self.of(name) {
            outcome.dropped = true;
            outcome.added.clear();
        }
    }
}

/// One destination: the lists are one, the route's first. Several: the destination's operations run
/// first, then the route's (behaviour 3.10.2). Within a list removes come before the others.
fn edits(
    route: Option<&Headers>,
    destination: Option<&Headers>,
    single: bool,
    side: fn(&Headers) -> Option<&HeaderOperations>,
) -> HeaderEdits {
    let (route, destination) = (route.and_then(side), destination.and_then(side));
    let both = [route, destination];
    let lists: &[&[Option<&HeaderOperations>]] =
        if single { &[&both] } else { &[&both[1..], &both[..1]] };
    let mut outcomes = Outcomes::default();
    for list in lists {
        for name in list.iter().flatten().flat_map(|operations| &operations.remove) {
            outcomes.clear(name);
        }
        for (name, value, overwrite) in list.iter().flatten().flat_map(|list| written(list)) {
            let Ok(text) = HeaderText::parse(value) else { continue };
            if overwrite {
                outcomes.clear(name);
            }
            if let Some(outcome) = outcomes.of(name) {
                outcome.added.push(text);
            }
        }
    }
    let (mut drop, mut append) = (Vec::new(), Vec::new());
    for outcome in outcomes.0 {
        append.extend(outcome.added.into_iter().map(|text| (outcome.name.clone(), text)));
        if outcome.dropped {
            drop.push(outcome.name);
        }
    }
    HeaderEdits { drop: drop.into(), append: append.into() }
}

/// `set`, then `add`, without empty values, which mean nothing.
fn written(operations: &HeaderOperations) -> impl Iterator<Item = (&String, &String, bool)> {
    let set = operations.set.iter().map(|(name, value)| (name, value, true));
    let add = operations.add.iter().map(|(name, value)| (name, value, false));
    set.chain(add).filter(|(_, value, _)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> Headers {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let remove = remove.iter().map(|name| name.to_string()).collect();
        let request = Some(HeaderOperations { set: map(set), add: map(add), remove });
        Headers { request, response: None }
    }

    fn text(route: &Headers, destination: &Headers, single: bool) -> String {
        let edits = edits(Some(route), Some(destination), single, |side| side.request.as_ref());
        let value = |text: &HeaderText| match &text.0[..] {
            [crate::snapshot::HeaderPart::Literal(literal)] => literal.to_string(),
            other => format!("{other:?}"),
        };
        let added: Vec<String> =
            edits.append.iter().map(|(name, text)| format!("{name}={}", value(text))).collect();
        format!("-{} +{}", edits.drop.join(","), added.join(","))
    }

    #[test]
    fn operations_come_down_to_dropped_and_added_fields() {
        let none = headers(&[], &[], &[]);
        let all =
            headers(&[("X-A", "1")], &[("x-a", "2"), ("x-b", "3"), ("x-e", "")], &["x-a", "x-c"]);
        assert_eq!(text(&all, &none, true), "-x-a,x-c +x-a=1,x-a=2,x-b=3");
        let framing = headers(&[("Content-Length", "1"), ("host", "x")], &[], &["connection"]);
        assert_eq!(text(&framing, &none, true), "- +");
    }

    #[test]
    fn the_last_level_wins() {
        let route = headers(&[("x", "route")], &[], &[]);
        let destination = headers(&[("x", "destination")], &[], &[]);
        assert_eq!(text(&route, &destination, true), "-x +x=destination");
        assert_eq!(text(&route, &destination, false), "-x +x=route");
        let remove = headers(&[], &[], &["x"]);
        assert_eq!(text(&route, &remove, true), "-x +x=route", "removes come first in one list");
        assert_eq!(text(&remove, &destination, false), "-x +", "the route's come after");
    }

    #[test]
    fn the_rewrite_names_the_host_before_the_headers() {
        let rewrite = HttpRewrite { authority: Some("r.com".into()), ..HttpRewrite::default() };
        let route = headers(&[], &[("Host", "route.com")], &[]);
        let destination = headers(&[(":authority", "d.com")], &[], &[]);
        let of = |rewrite, route, destination| authority(rewrite, route, destination).unwrap();
        assert_eq!(&*of(Some(&rewrite), Some(&route), Some(&destination)), "r.com");
        assert_eq!(&*of(None, Some(&route), Some(&destination)), "route.com");
        assert_eq!(&*of(None, None, Some(&destination)), "d.com");
    }

    #[test]
    fn paths_hold_what_paths_may_hold() {
        assert_eq!(encoded("/a b\u{e9}?x"), "/a%20b%C3%A9?x");
    }
}
