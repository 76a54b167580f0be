//! Requests of other origins (Istio's `corsPolicy`, Envoy's CORS filter; the Fetch standard's CORS
//! protocol).

use crate::http::{KnownHeader, RequestHead};
use crate::http1::encode::write_field;
use crate::snapshot::Cors;

/// What becomes of a request with an `Origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsAnswer {
    /// Its response says that the origin may read it.
    Actual,
    /// It is a preflight of an origin that may, and answered here.
    Preflight,
    /// It is a preflight of another origin, and answered here without saying that it may.
    Unmatched,
}

/// What the policy says of a request, with its origin; none when it has nothing to say.
pub fn decide<'h>(policy: &Cors, head: &RequestHead<'h>) -> Option<(CorsAnswer, &'h [u8])> {
    let origin = head.headers.iter().find(|field| field.known == KnownHeader::Origin)?.value;
    if origin.is_empty() {
        return None;
    }
    let asks_method = |name: &[u8]| name.eq_ignore_ascii_case(b"access-control-request-method");
    let is_preflight = head.method == b"OPTIONS"
        && head.headers.iter().any(|field| asks_method(field.name) && !field.value.is_empty());
    let allowed =
        policy.any_origin || policy.origins.iter().any(|allowed| allowed.is_match(origin));
    let answer = match (allowed, is_preflight) {
        (true, true) => CorsAnswer::Preflight,
        (true, false) => CorsAnswer::Actual,
        (false, true) if policy.ignores_unmatched => CorsAnswer::Unmatched,
        (false, _) => return None,
    };
    Some((answer, origin))
}

/// Does the answer say this itself, so that nobody else may?
pub fn is_said(answer: CorsAnswer, policy: &Cors, name: &[u8]) -> bool {
    let said = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
    match answer {
        CorsAnswer::Unmatched => false,
        _ if said("access-control-allow-origin") => true,
        _ if said("access-control-allow-credentials") => policy.credentials,
        _ => lists(answer, policy).iter().any(|(own, value)| !value.is_empty() && said(own)),
    }
}

fn lists(answer: CorsAnswer, policy: &Cors) -> [(&'static str, &str); 3] {
    match answer {
        CorsAnswer::Preflight => [
            ("access-control-allow-methods", &policy.allow_methods),
            ("access-control-allow-headers", &policy.allow_headers),
            ("access-control-max-age", &policy.max_age),
        ],
        _ => [("access-control-expose-headers", &policy.expose_headers), ("", ""), ("", "")],
    }
}

/// The fields of the answer.
pub fn write_fields(out: &mut Vec<u8>, answer: CorsAnswer, policy: &Cors, origin: &[u8]) {
    if answer == CorsAnswer::Unmatched {
        return;
    }
    write_field(out, b"access-control-allow-origin", origin);
    if policy.credentials {
        write_field(out, b"access-control-allow-credentials", b"true");
    }
    for (name, value) in lists(answer, policy).iter().filter(|(_, value)| !value.is_empty()) {
        write_field(out, name.as_bytes(), value.as_bytes());
    }
}
