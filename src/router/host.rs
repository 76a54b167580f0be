//! From a host to its virtual host: exact name, then the longest `*.suffix`, then `*`.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::http::authority::HOST_BYTES_MAX;
use crate::ids::{RouteId, VirtualHostId};

/// Where a domain leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its virtual host.
    pub virtual_host: VirtualHostId,
    /// The first route, when it is a catch-all: then a request with a path needs to look at nothing
    /// else of the virtual host. Most hosts are like this.
    pub always: Option<RouteId>,
}

type NameMap<V> = HashMap<Box<[u8]>, V, RandomState>;

/// Domains and what they stand for. A lookup costs one hash for an exact name and one more per dot
/// at which a wildcard could begin, however many domains there are.
#[derive(Clone, Debug)]
pub struct HostIndex<V> {
    exact: NameMap<V>,
    /// Keyed by the suffix with its dot: `.foo.com` for `*.foo.com`.
    wildcard: NameMap<V>,
    /// Which lengths the suffixes have: others are not hashed, so that a host made of dots does not
    /// cost more than the table deserves.
    wildcard_lengths: [bool; HOST_BYTES_MAX + 1],
    any: Option<V>,
}

impl<V> Default for HostIndex<V> {
    fn default() -> Self {
        HostIndex {
            exact: NameMap::default(),
            wildcard: NameMap::default(),
            wildcard_lengths: [false; HOST_BYTES_MAX + 1],
            any: None,
        }
    }
}

/// Why a domain was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError<V> {
    /// It already stands for this.
    Taken(V),
    /// It is empty, too long, or has an asterisk that is neither all of it nor its first label.
    Malformed,
}

impl<V: Copy> HostIndex<V> {
    /// Forget `domain`, in any of the spellings that [`HostIndex::insert`] takes for the same.
    pub fn remove(&mut self, domain: &str) {
        let name = canonical(domain);
        if name == "*" {
            self.any = None;
        } else if let Some(suffix) = name.strip_prefix('*') {
            // Its length stays marked: that costs a hash, not a wrong answer.
            self.wildcard.remove(suffix.as_bytes());
        } else {
            self.exact.remove(name.as_bytes());
        }
    }

    /// Let `domain` stand for `value`: a host name, `*.suffix` or `*`. Its case does not matter, nor a
    /// dot at its end; an IPv6 address may have its brackets or not.
    ///
    /// # Errors
    /// See [`DomainError`]; the index is unchanged then.
    pub fn insert(&mut self, domain: &str, value: V) -> Result<(), DomainError<V>> {
        let name = canonical(domain);
        if name == "*" {
            if let Some(taken) = self.any {
                return Err(DomainError::Taken(taken));
            }
            self.any = Some(value);
            return Ok(());
        }
        let suffix =
            name.strip_prefix('*').filter(|suffix| suffix.len() > 1 && suffix.starts_with('.'));
        let key = suffix.unwrap_or(&name);
        if key.is_empty() || key.contains('*') || key.len() > HOST_BYTES_MAX {
            return Err(DomainError::Malformed);
        }
        let map = if suffix.is_some() { &mut self.wildcard } else { &mut self.exact };
        if let Some(taken) = map.get(key.as_bytes()) {
            return Err(DomainError::Taken(*taken));
        }
        map.insert(key.as_bytes().into(), value);
        if suffix.is_some() {
            self.wildcard_lengths[key.len()] = true;
        }
        Ok(())
    }

    /// What `*` stands for.
    pub fn any(&self) -> Option<V> {
        self.any
    }

    /// What `host` stands for: lower case, without port and final dot, at most
    /// [`HOST_BYTES_MAX`] bytes (`http::authority::canonical_host` makes it so).
    #[inline]
    pub fn find(&self, host: &[u8]) -> Option<V> {
        if let Some(value) = self.exact.get(host) {
            return Some(*value);
        }
        if !self.wildcard.is_empty()
            && let Some(value) = self.find_wildcard(host)
        {
            return Some(value);
        }
        self.any
    }

    /// The longest suffix comes first. A dot at the very front has nothing for the asterisk.
    fn find_wildcard(&self, host: &[u8]) -> Option<V> {
        let after_first = host.get(1..)?;
        memchr::memchr_iter(b'.', after_first).find_map(|dot| {
            let suffix = &after_first[dot..];
            let possible = self.wildcard_lengths.get(suffix.len()).is_some_and(|has| *has);
            if possible { self.wildcard.get(suffix).copied() } else { None }
        })
    }
}

fn canonical(domain: &str) -> String {
    let lower = domain.to_ascii_lowercase();
    if lower.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("[{lower}]");
    }
    match lower.strip_suffix('.') {
        Some(name) if !name.is_empty() && name != "*" => name.to_owned(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(domains: &[&str]) -> HostIndex<usize> {
        let mut index = HostIndex::default();
        for (at, domain) in domains.iter().enumerate() {
            index.insert(domain, at).unwrap();
        }
        index
    }

    #[test]
    fn exact_before_longest_suffix_before_any() {
        let domains = ["*", "*.foo.com", "*.b.foo.com", "a.foo.com", "[::1]"];
        let index = index(&domains);
        for (host, domain) in [
            ("a.foo.com", "a.foo.com"),
            ("c.foo.com", "*.foo.com"),
            ("x.y.foo.com", "*.foo.com"),
            ("x.b.foo.com", "*.b.foo.com"),
            ("b.foo.com", "*.foo.com"),
            ("foo.com", "*"),
            (".foo.com", "*"),
            ("xfoo.com", "*"),
            ("..foo.com", "*.foo.com"),
            ("[::1]", "[::1]"),
            ("", "*"),
        ] {
            assert_eq!(index.find(host.as_bytes()).map(|at| domains[at]), Some(domain), "{host}");
        }
    }

    #[test]
    fn without_any_others_are_unknown() {
        let index = index(&["a.com", "*.a.com"]);
        assert_eq!(index.find(b"b.com"), None);
        assert_eq!(index.find(b""), None);
        assert_eq!(HostIndex::<u32>::default().find(b"a.com"), None);
    }

    #[test]
    fn domains_are_canonical() {
        let index = index(&["A.Com.", "*.B.com", "2001:DB8::1", "[2001:db8::2]"]);
        for (at, host) in ["a.com", "x.b.com", "[2001:db8::1]", "[2001:db8::2]"].iter().enumerate()
        {
            assert_eq!(index.find(host.as_bytes()), Some(at), "{host}");
        }
    }

    #[test]
    fn a_domain_stands_for_one_thing() {
        let mut index = index(&["a.com", "*.a.com", "*"]);
        for (at, domain) in ["A.com.", "*.A.COM", "*"].into_iter().enumerate() {
            assert_eq!(index.insert(domain, 9), Err(DomainError::Taken(at)), "{domain}");
        }
    }

    #[test]
    fn malformed_domains_are_refused() {
        let mut index = HostIndex::default();
        let long = format!("{}.com", "a".repeat(300));
        for domain in ["", "*foo.com", "foo.*", "*.", "**", "a.*.com", "*.*.com", &long] {
            assert_eq!(index.insert(domain, 1), Err(DomainError::Malformed), "{domain}");
        }
        assert_eq!(index.find(b"foo.com"), None);
    }

    /// The rule, read over all domains.
    fn model(domains: &[String], host: &str) -> Option<usize> {
        let rank = |domain: &str| match domain.strip_prefix('*') {
            None => (domain == host).then_some(usize::MAX),
            Some(suffix) => (suffix.is_empty()
                || host.len() > suffix.len() && host.ends_with(suffix))
            .then_some(suffix.len()),
        };
        (0..domains.len())
            .filter_map(|at| rank(&domains[at]).map(|rank| (rank, at)))
            .max()
            .map(|(_, at)| at)
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(
            domains in prop::collection::vec(r"\*|(\*\.)?[ab]{1,2}(\.[ab]){0,3}", 0..12),
            hosts in prop::collection::vec(r"[ab.]{0,10}", 1..20),
        ) {
            let mut index = HostIndex::default();
            let mut kept = Vec::new();
            for domain in domains {
                if index.insert(&domain, kept.len()).is_ok() {
                    kept.push(domain);
                }
            }
            for host in hosts {
                prop_assert_eq!(index.find(host.as_bytes()), model(&kept, &host), "{}", host);
            }
        }
    }
}
