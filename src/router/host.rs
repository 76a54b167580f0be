//! Host → virtual host: exact name, then the longest wildcard suffix, then `*`. One probe for the
//! exact name and one per label for wildcards, whatever the number of hosts.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::http::authority::{HOST_BYTES_MAX, canonical_host};
use crate::ids::VirtualHostId;

type Names = HashMap<Box<[u8]>, VirtualHostId, RandomState>;

/// The domains of one port.
#[derive(Clone, Debug, Default)]
pub struct HostTable {
    exact: Names,
    /// Suffixes with their leading dot: `*.foo.com` is kept as `.foo.com`.
    suffixes: Names,
    any: Option<VirtualHostId>,
}

enum Domain {
    Any,
    Suffix(Box<[u8]>),
    Exact(Box<[u8]>),
}

fn parse(domain: &str) -> Domain {
    let lower = domain.to_ascii_lowercase();
    if lower == "*" {
        return Domain::Any;
    }
    match lower.strip_prefix('*') {
        Some(suffix) => Domain::Suffix(suffix.as_bytes().into()),
        None => Domain::Exact(lower.trim_end_matches('.').as_bytes().into()),
    }
}

impl HostTable {
    /// Is this domain taken?
    pub fn contains(&self, domain: &str) -> bool {
        match parse(domain) {
            Domain::Any => self.any.is_some(),
            Domain::Suffix(suffix) => self.suffixes.contains_key(&suffix),
            Domain::Exact(name) => self.exact.contains_key(&name),
        }
    }

    /// Let a domain (`*`, `*.suffix`, a name) lead to `id`.
    pub fn insert(&mut self, domain: &str, id: VirtualHostId) {
        match parse(domain) {
            Domain::Any => self.any = Some(id),
            Domain::Suffix(suffix) => {
                self.suffixes.insert(suffix, id);
            }
            Domain::Exact(name) => {
                self.exact.insert(name, id);
            }
        }
    }

    /// The virtual host of a request's authority; its port is ignored.
    #[inline]
    pub fn find(&self, authority: &[u8]) -> Option<VirtualHostId> {
        let mut buffer = [0; HOST_BYTES_MAX + 1];
        let Some(host) = canonical_host(authority, &mut buffer) else { return self.any };
        if let Some(id) = self.exact.get(host) {
            return Some(*id);
        }
        if !self.suffixes.is_empty() {
            // The longest suffix begins at the first dot. At least one byte stands before it.
            for dot in memchr::memchr_iter(b'.', host).filter(|dot| *dot > 0) {
                if let Some(id) = self.suffixes.get(&host[dot..]) {
                    return Some(*id);
                }
            }
        }
        self.any
    }
}
