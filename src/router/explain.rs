//! Why a request goes where it goes, for people: the same conditions as a lookup, evaluated for every
//! route of the virtual host up to the one that matches. Allocates; not for the data path.

use super::matcher::Mismatch;
use super::table::RouteTable;
use crate::http::RequestHead;
use crate::ids::{RouteId, VirtualHostId};

/// How a lookup came to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'t> {
    /// The virtual host that serves the request's host, if there is one.
    pub virtual_host: Option<VirtualHostId>,
    /// Its routes in order, up to and with the one that matches.
    pub routes: Vec<RouteOutcome<'t>>,
}

/// What became of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteOutcome<'t> {
    /// The route.
    pub route: RouteId,
    /// The first condition that did not hold; None for the route that matches.
    pub mismatch: Option<Mismatch<'t>>,
}

impl RouteTable {
    /// The way to what [`RouteTable::find`] answers, route by route.
    pub fn find_explained(&self, head: &RequestHead<'_>) -> Explanation<'_> {
        let virtual_host = self.find_virtual_host(head.authority);
        let mut routes = Vec::new();
        for entry in
            virtual_host.and_then(|id| self.virtual_host(id)).iter().flat_map(|of| &of.routes)
        {
            let mismatch = entry.matcher.first_mismatch(head);
            routes.push(RouteOutcome { route: entry.route, mismatch });
            if mismatch.is_none() {
                break;
            }
        }
        Explanation { virtual_host, routes }
    }
}
