//! `loadBalancer.consistentHash` → what is hashed and the table over the endpoints that are ready
//! (behaviour 4.3).

use std::time::Duration;

use crate::config::destination_rule::{ConsistentHashLb, HttpCookie};
use crate::snapshot::{ConsistentHash, Endpoint, HashCookie, HashKey, HashTable};

/// Envoy's sizes when none is given.
const RING_LEAST: u64 = 1024;
const MAGLEV_SIZE: u64 = 65_537;

/// None for settings that validation refuses.
pub fn compile(settings: &ConsistentHashLb, endpoints: &[Endpoint]) -> Option<ConsistentHash> {
    let key = if let Some(name) = &settings.http_header_name {
        HashKey::Header(name.to_ascii_lowercase().into())
    } else if let Some(cookie) = &settings.http_cookie {
        HashKey::Cookie(Box::new(HashCookie {
            name: cookie.name.as_str().into(),
            attributes: cookie.ttl.map(|ttl| cookie_attributes(cookie, ttl.into()).into()),
        }))
    } else if let Some(name) = &settings.http_query_parameter_name {
        HashKey::QueryParameter(name.as_str().into())
    } else if settings.use_source_ip == Some(true) {
        HashKey::SourceAddress
    } else {
        return None;
    };
    let usable: Vec<_> = endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| endpoint.healthy)
        .map(|(position, endpoint)| (position as u32, endpoint.address, endpoint.weight))
        .collect();
    let table = match &settings.maglev {
        Some(maglev) => {
            let size = maglev.table_size.filter(|size| *size > 0).unwrap_or(MAGLEV_SIZE);
            HashTable::maglev(&usable, usize::try_from(size).ok()?)
        }
        None => {
            let of_ring = settings.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size);
            let least = of_ring.or(settings.minimum_ring_size).filter(|least| *least > 0);
            HashTable::ring(&usable, usize::try_from(least.unwrap_or(RING_LEAST)).ok()?)
        }
    };
    Some(ConsistentHash { key, table })
}

/// What follows a cookie's value, in Envoy's order. A ttl of 0 makes it one of the session.
fn cookie_attributes(cookie: &HttpCookie, ttl: Duration) -> String {
    let mut text = String::new();
    if ttl.as_secs() > 0 {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if let Some(path) = cookie.path.as_deref().filter(|path| !path.is_empty()) {
        text.push_str(&format!("; Path={path}"));
    }
    for attribute in &cookie.attributes {
        match attribute.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => text.push_str(&format!("; {}={value}", attribute.name)),
            None => text.push_str(&format!("; {}", attribute.name)),
        }
    }
    text.push_str("; HttpOnly");
    text.retain(|letter| !letter.is_ascii_control());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::destination_rule::CookieAttribute;

    #[test]
    fn cookies_have_their_attributes() {
        let attribute = |name: &str, value: Option<&str>| CookieAttribute {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let cookie = HttpCookie {
            name: "u".to_owned(),
            path: Some("/x".to_owned()),
            attributes: vec![attribute("SameSite", Some("Lax")), attribute("Secure", None)],
            ..HttpCookie::default()
        };
        let text = |seconds| cookie_attributes(&cookie, Duration::from_secs(seconds));
        assert_eq!(text(60), "; Max-Age=60; Path=/x; SameSite=Lax; Secure; HttpOnly");
        assert_eq!(text(0), "; Path=/x; SameSite=Lax; Secure; HttpOnly");
    }
}
