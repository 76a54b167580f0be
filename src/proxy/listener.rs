//! Where connections came in, seen from their requests: what stays the same while the configuration
//! changes under them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::http::Scheme;
use crate::snapshot::{Chain, ChainContent, Serves, Snapshot, TlsPort};

/// A listening address on this worker, or a chain of its TLS, and where its requests are routed now.
/// Connections hold it, so that a reload re-routes open connections too, and a listener that goes away
/// cuts none.
#[derive(Debug)]
pub struct ListenerSlot {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which chain of a TLS port; none: the address itself.
    pub chain: Option<ChainIdentity>,
    /// How its requests came.
    pub scheme: Scheme,
    /// Index into `Snapshot::listeners`; none when the configuration no longer has the listener.
    pub listener: Cell<Option<usize>>,
    /// Index into `Snapshot::route_tables`; none when the configuration no longer has the listener or
    /// the chain, or they hold no requests.
    pub route_table: Cell<Option<usize>>,
    /// Does its server ask something else of clients than when they were let in?
    pub outdated: Cell<bool>,
    /// Is gRPC-Web translated for its clients? Connections and streams that have begun stay as they are.
    pub grpc_web: Cell<bool>,
}

/// By what a chain is known again after a reload: its name or, when its Gateway or server port was renamed,
/// the server names that it takes and what it asks of clients.
#[derive(Debug)]
pub struct ChainIdentity {
    known: RefCell<Known>,
    /// What was asked of the certificates of the clients that are here (`Chain::client_demand`).
    demand: Box<str>,
}

#[derive(Debug)]
struct Known {
    name: String,
    server_names: Vec<String>,
}

impl ChainIdentity {
    fn new(chain: &Chain) -> ChainIdentity {
        let known = Known { name: chain.name.clone(), server_names: chain.server_names.clone() };
        let demand = chain.client_demand.as_str().into();
        ChainIdentity { known: RefCell::new(known), demand }
    }

    /// Is it this one, by its name?
    pub fn is(&self, chain: &Chain) -> bool {
        self.known.borrow().name == chain.name
    }

    /// Does it ask the same of clients?
    fn asks_the_same(&self, chain: &Chain) -> bool {
        *self.demand == *chain.client_demand
    }

    /// The position of the chain that it is now.
    fn find(&self, port: &TlsPort) -> Option<usize> {
        let known = self.known.borrow();
        let successor = |chain: &Chain| {
            chain.server_names.len() == known.server_names.len()
                && chain.server_names.iter().all(|name| known.server_names.contains(name))
                && self.asks_the_same(chain)
        };
        let same = port.chains.iter().position(|chain| chain.name == known.name);
        same.or_else(|| port.chains.iter().position(successor))
    }

    /// Be known as `chain` is from now on.
    fn follow(&self, chain: &Chain) {
        let mut known = self.known.borrow_mut();
        known.name.clone_from(&chain.name);
        known.server_names.clone_from(&chain.server_names);
    }
}

impl ListenerSlot {
    /// The slot of an address in `snapshot`.
    pub fn new(address: SocketAddr, snapshot: &Snapshot) -> ListenerSlot {
        ListenerSlot::with(address, None, Scheme::Http, snapshot)
    }

    /// The slot of a chain of an address.
    pub fn of_chain(address: SocketAddr, chain: &Chain, snapshot: &Snapshot) -> ListenerSlot {
        ListenerSlot::with(address, Some(ChainIdentity::new(chain)), Scheme::Https, snapshot)
    }

    fn with(
        address: SocketAddr,
        chain: Option<ChainIdentity>,
        scheme: Scheme,
        snapshot: &Snapshot,
    ) -> ListenerSlot {
        let slot = ListenerSlot {
            address,
            chain,
            scheme,
            listener: Cell::new(None),
            route_table: Cell::new(None),
            outdated: Cell::new(false),
            grpc_web: Cell::new(false),
        };
        slot.follow(snapshot);
        slot
    }

    /// Go on by `snapshot`.
    pub fn follow(&self, snapshot: &Snapshot) {
        let at = snapshot.listeners.iter().position(|listener| listener.address == self.address);
        self.listener.set(at);
        let serves = at.and_then(|at| snapshot.listeners.get(at)).map(|listener| &listener.serves);
        self.grpc_web.set(matches!(serves, Some(Serves::Requests { grpc_web: true, .. })));
        self.outdated.set(false);
        self.route_table.set(match (serves, &self.chain) {
            (Some(Serves::Requests { route_table, .. }), None) => Some(*route_table),
            (Some(Serves::Tls(port)), Some(own)) => {
                let chain = own.find(port).and_then(|at| port.chains.get(at));
                chain.and_then(|chain| self.route_table_of(own, chain))
            }
            _ => None,
        });
    }

    fn route_table_of(&self, own: &ChainIdentity, chain: &Chain) -> Option<usize> {
        own.follow(chain);
        // Where nothing is asked everybody may stay.
        self.outdated.set(!chain.client_demand.is_empty() && !own.asks_the_same(chain));
        match chain.content {
            ChainContent::Requests { route_table } => {
                Some(route_table).filter(|_| !self.outdated.get())
            }
            ChainContent::Connection(_) => None,
        }
    }
}

/// The slots of the chains of a snapshot, by the position of their listener and their own.
#[derive(Debug, Default)]
pub struct ChainSlots(Vec<Box<[Rc<ListenerSlot>]>>);

impl ChainSlots {
    /// Those of `snapshot`: where `known` has the chain already, with the same demand, the same.
    pub fn new(snapshot: &Snapshot, known: &[Rc<ListenerSlot>]) -> ChainSlots {
        let of_listener = |listener: &crate::snapshot::Listener| {
            let Serves::Tls(port) = &listener.serves else { return Box::default() };
            let mut slots: Vec<Option<&Rc<ListenerSlot>>> = vec![None; port.chains.len()];
            for slot in known.iter().filter(|slot| slot.address == listener.address) {
                let Some(own) = &slot.chain else { continue };
                let Some(at) = own.find(port) else { continue };
                if !own.asks_the_same(&port.chains[at]) {
                    continue;
                }
                // Should it have left an old name and another slot have its own, that one is the chain's.
                if slots[at].is_none() || own.is(&port.chains[at]) {
                    slots[at] = Some(slot);
                }
            }
            let slot = |(chain, known): (&Chain, Option<&Rc<ListenerSlot>>)| {
                let new = || Rc::new(ListenerSlot::of_chain(listener.address, chain, snapshot));
                known.map_or_else(new, Rc::clone)
            };
            port.chains.iter().zip(slots).map(slot).collect()
        };
        ChainSlots(snapshot.listeners.iter().map(of_listener).collect())
    }

    /// The slot of a chain.
    pub fn get(&self, listener: usize, chain: usize) -> Option<&Rc<ListenerSlot>> {
        self.0.get(listener)?.get(chain)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<ListenerSlot>> {
        self.0.iter().flatten()
    }
}
