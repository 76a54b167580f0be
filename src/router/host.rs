//! Host → virtual host: exact name, then the longest wildcard suffix, then `*`. One probe for the
//! exact name and one per label for wildcards, whatever the number of hosts.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::http::authority::{HOST_BYTES_MAX, canonical_host};
use crate::ids::{RouteId, VirtualHostId};

/// Where a domain leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its virtual host.
    pub virtual_host: VirtualHostId,
    /// The route of every request to it, when its first route applies to all: then nothing else of
    /// the virtual host needs to be looked at.
    pub always: Option<RouteId>,
}

type Names = HashMap<Box<[u8]>, HostEntry, RandomState>;

/// The domains of one port.
#[derive(Clone, Debug, Default)]
pub struct HostTable {
    exact: Names,
    /// Suffixes with their leading dot: `*.foo.com` is kept as `.foo.com`.
    suffixes: Names,
    any: Option<HostEntry>,
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

    /// Let a domain (`*`, `*.suffix`, a name) lead to `entry`.
    pub fn insert(&mut self, domain: &str, entry: HostEntry) {
        match parse(domain) {
            Domain::Any => self.any = Some(entry),
            Domain::Suffix(suffix) => {
                self.suffixes.insert(suffix, entry);
            }
            Domain::Exact(name) => {
                self.exact.insert(name, entry);
            }
        }
    }

    /// The virtual host of a request's authority; its port is ignored.
    #[inline]
    pub fn find(&self, authority: &[u8]) -> Option<HostEntry> {
        let mut buffer = [0; HOST_BYTES_MAX + 1];
        let Some(host) = canonical_host(authority, &mut buffer) else { return self.any };
        if let Some(entry) = self.exact.get(host) {
            return Some(*entry);
        }
        if !self.suffixes.is_empty() {
            // The longest suffix begins at the first dot. At least one byte stands before it.
            for dot in memchr::memchr_iter(b'.', host).filter(|dot| *dot > 0) {
                if let Some(entry) = self.suffixes.get(&host[dot..]) {
                    return Some(*entry);
                }
            }
        }
        self.any
    }
}
