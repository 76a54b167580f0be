//! Request head → route. Pure: no I/O, no clock, no randomness (a random number is an argument),
//! and no allocation per lookup in the usual case.
//!
//! [`host`] finds the virtual host, [`path_index`] the routes whose path can match, [`matcher`]
//! decides; the first route in order wins. Neither step grows with the number of hosts, or of exact
//! and prefix routes.

pub mod host;
pub mod matcher;
pub mod path_index;
pub mod string_match;
pub mod weighted;

pub use matcher::{HeaderMatch, Matcher, QueryMatch};
pub use string_match::{PatternError, StringMatch};

use crate::http::RequestHead;
use crate::ids::{RouteId, VirtualHostId};
use host::{HostEntry, HostTable};
use path_index::PathIndex;

/// The routes of one port.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: HostTable,
    virtual_hosts: Vec<VirtualHost>,
}

/// A group of domains and their routes, in order.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `<domain>:<port>` as Istio names it.
    pub name: String,
    /// Its domains.
    pub domains: Vec<String>,
    /// Its routes, in order.
    pub routes: Vec<RouteEntry>,
    index: PathIndex,
}

/// A route of a virtual host.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    /// When it applies.
    pub matcher: Matcher,
    /// Which route of the snapshot it is.
    pub route: RouteId,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No virtual host has the request's host.
    NoVirtualHost,
    /// The virtual host has no route for it.
    NoRoute(VirtualHostId),
    /// The first route that applies.
    Route(VirtualHostId, RouteId),
}

/// A table cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// Two virtual hosts have the same domain.
    #[error("domain `{0}` is in two virtual hosts of one port")]
    DuplicateDomain(String),
}

impl RouteTable {
    /// Add a virtual host.
    ///
    /// # Errors
    /// When another one has one of its domains; then nothing is added.
    pub fn add_virtual_host(
        &mut self,
        name: String,
        domains: Vec<String>,
        routes: Vec<(Matcher, RouteId)>,
    ) -> Result<VirtualHostId, BuildError> {
        if let Some(taken) = domains.iter().find(|domain| self.hosts.contains(domain)) {
            return Err(BuildError::DuplicateDomain(taken.clone()));
        }
        let id = VirtualHostId(self.virtual_hosts.len() as u32);
        let always =
            routes.first().filter(|(matcher, _)| matcher.is_catch_all()).map(|(_, route)| *route);
        for domain in &domains {
            self.hosts.insert(domain, HostEntry { virtual_host: id, always });
        }
        let routes: Vec<RouteEntry> =
            routes.into_iter().map(|(matcher, route)| RouteEntry { matcher, route }).collect();
        let index = PathIndex::new(&routes);
        self.virtual_hosts.push(VirtualHost { name, domains, routes, index });
        Ok(id)
    }

    /// The first route that applies to `head`, whose path is normalised.
    #[inline]
    pub fn find(&self, head: &RequestHead<'_>) -> Lookup {
        let Some(entry) = self.hosts.find(head.authority) else { return Lookup::NoVirtualHost };
        let id = entry.virtual_host;
        // `*`, the path of `OPTIONS *`, begins with no prefix.
        if let Some(route) = entry.always
            && head.path.first() == Some(&b'/')
        {
            return Lookup::Route(id, route);
        }
        let Some(virtual_host) = self.virtual_hosts.get(id.index()) else {
            return Lookup::NoVirtualHost;
        };
        let found = virtual_host.index.first(head.path, |position| {
            virtual_host.routes.get(position).is_some_and(|entry| entry.matcher.applies(head))
        });
        match found.and_then(|position| virtual_host.routes.get(position)) {
            Some(entry) => Lookup::Route(id, entry.route),
            None => Lookup::NoRoute(id),
        }
    }

    /// A virtual host by its id.
    pub fn virtual_host(&self, id: VirtualHostId) -> Option<&VirtualHost> {
        self.virtual_hosts.get(id.index())
    }

    /// All virtual hosts.
    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }
}

#[cfg(test)]
mod tests;
