//! The routes of one port: virtual hosts by domain, each with its ordered routes.

use super::host::{DomainError, HostEntry, HostIndex};
use super::matcher::Matcher;
use super::path_index::{PathIndex, ROUTES_MAX};
use crate::http::RequestHead;
use crate::http::authority::{HOST_BYTES_MAX, canonical_host, host};
use crate::ids::{HistogramSlot, RouteId, VirtualHostId};

/// Routes of one port (Istio's `http.<port>`). A clone shares nothing that is written to.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: HostIndex<HostEntry>,
    /// One per virtual host, apart from them: most lookups read no more of a virtual host than this.
    indexes: Vec<PathIndex>,
    virtual_hosts: Vec<VirtualHost>,
}

/// A group of domains and their routes.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Its name (Istio's `<host>:<port>`).
    pub name: String,
    /// Its domains as given: names, `*.suffix` or `*`.
    pub domains: Vec<String>,
    /// Its routes, in order.
    pub routes: Vec<RouteEntry>,
    /// What requests for it count under that no route matches.
    pub unrouted: HistogramSlot,
}

/// A route of a virtual host.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    /// When it applies.
    pub matcher: Matcher,
    /// Which route of the snapshot it is.
    pub route: RouteId,
}

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Nobody serves this host (404, flag NR).
    NoVirtualHost,
    /// The host is served, but no route of it matches (404, flag NR).
    NoRoute(VirtualHostId),
    /// The first route that matches.
    Route(VirtualHostId, RouteId),
}

/// Why a virtual host was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two virtual hosts, or one twice, claim the same domain.
    #[error("domain `{domain}` of virtual host `{name}` is already served by `{by}`")]
    DuplicateDomain {
        /// The domain as given.
        domain: String,
        /// The virtual host that was to be added.
        name: String,
        /// The virtual host that has it.
        by: String,
    },
    /// Not a host name, `*.suffix` or `*`.
    #[error("domain `{domain}` of virtual host `{name}` is not a host name, `*.suffix` or `*`")]
    MalformedDomain {
        /// The domain as given.
        domain: String,
        /// The virtual host that was to be added.
        name: String,
    },
    /// More routes than a virtual host can number.
    #[error("virtual host `{name}` has {routes} routes; at most {max} are possible", max = ROUTES_MAX)]
    TooManyRoutes {
        /// The virtual host that was to be added.
        name: String,
        /// Its routes.
        routes: usize,
    },
}

impl RouteTable {
    /// The route of `head`, whose path is normalised already. The port of the authority and its case
    /// do not matter for the virtual host; a host of more than [`HOST_BYTES_MAX`] bytes is served by `*`
    /// only.
    #[inline]
    pub fn find(&self, head: &RequestHead<'_>) -> Lookup {
        let Some(entry) = self.find_host(head.authority) else {
            return Lookup::NoVirtualHost;
        };
        let virtual_host = entry.virtual_host;
        // `*`, the path of `OPTIONS *`, begins with no prefix.
        if let Some(route) = entry.always
            && head.path.first() == Some(&b'/')
        {
            return Lookup::Route(virtual_host, route);
        }
        let at = virtual_host.index();
        match (self.indexes.get(at), self.virtual_hosts.get(at)) {
            (Some(index), Some(of)) => match index.find(head, of) {
                Some(route) => Lookup::Route(virtual_host, route),
                None => Lookup::NoRoute(virtual_host),
            },
            _ => Lookup::NoVirtualHost,
        }
    }

    /// The virtual host that serves `authority` (`host[:port]`).
    #[inline]
    pub fn find_virtual_host(&self, authority: &[u8]) -> Option<VirtualHostId> {
        self.find_host(authority).map(|entry| entry.virtual_host)
    }

    #[inline]
    fn find_host(&self, authority: &[u8]) -> Option<HostEntry> {
        // As sent, hosts are in lower case nearly always: then nothing is copied.
        let host = host(authority);
        if host.len() > HOST_BYTES_MAX {
            return self.hosts.any();
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut buffer = [0; HOST_BYTES_MAX];
            return self.hosts.find(canonical_host(authority, &mut buffer)?);
        }
        self.hosts.find(host)
    }

    /// A virtual host by its id; None for an id of another table.
    pub fn virtual_host(&self, id: VirtualHostId) -> Option<&VirtualHost> {
        self.virtual_hosts.get(id.index())
    }

    /// All virtual hosts, in the order of their ids.
    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }

    /// Add a virtual host; its routes are tried in this order. The ids of virtual hosts count up
    /// from 0 in the order of successful calls.
    ///
    /// # Errors
    /// See [`BuildError`]. Nothing of the virtual host is added then.
    pub fn add_virtual_host(
        &mut self,
        name: String,
        domains: Vec<String>,
        routes: Vec<(Matcher, RouteId)>,
    ) -> Result<VirtualHostId, BuildError> {
        if routes.len() > ROUTES_MAX {
            return Err(BuildError::TooManyRoutes { name, routes: routes.len() });
        }
        let id = VirtualHostId(self.virtual_hosts.len() as u32);
        let first = routes.first().filter(|(matcher, _)| matcher.is_catch_all());
        let entry = HostEntry { virtual_host: id, always: first.map(|(_, route)| *route) };
        for (at, domain) in domains.iter().enumerate() {
            let Err(error) = self.hosts.insert(domain, entry) else { continue };
            for added in &domains[..at] {
                self.hosts.remove(added);
            }
            let domain = domain.clone();
            return Err(match error {
                DomainError::Malformed => BuildError::MalformedDomain { domain, name },
                DomainError::Taken(by) => {
                    let taken = self.virtual_hosts.get(by.virtual_host.index());
                    let by = taken.map_or(&name, |taken| &taken.name).clone();
                    BuildError::DuplicateDomain { domain, name, by }
                }
            });
        }
        let routes: Vec<RouteEntry> =
            routes.into_iter().map(|(matcher, route)| RouteEntry { matcher, route }).collect();
        self.indexes.push(PathIndex::new(&routes));
        let unrouted = HistogramSlot::UNROUTED;
        self.virtual_hosts.push(VirtualHost { name, domains, routes, unrouted });
        Ok(id)
    }

    /// Count requests for this virtual host that no route matches under `slot`.
    pub fn count_unrouted(&mut self, id: VirtualHostId, slot: HistogramSlot) {
        if let Some(of) = self.virtual_hosts.get_mut(id.index()) {
            of.unrouted = slot;
        }
    }
}

#[cfg(test)]
mod tests;
