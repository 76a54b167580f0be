//! Where connections came in, seen from their requests: what stays the same while the configuration
//! changes under them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::http::Scheme;
use crate::snapshot::{Chain, ChainContent, Serves, Snapshot};

/// A listening address on this worker, or a chain of its TLS, and where its requests are routed now.
/// Connections hold it, so that a reload re-routes open connections too, and a listener that goes away
/// cuts none.
#[derive(Debug)]
pub struct ListenerSlot {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which chain of a TLS port (`Chain::name`); none: the address itself.
    pub chain: Option<Box<str>>,
    /// What was asked of the certificates of its clients (`Chain::client_demand`).
    client_demand: Box<str>,
    /// How its requests came.
    pub scheme: Scheme,
    /// Index into `Snapshot::listeners`; none when the configuration no longer has the listener.
    pub listener: Cell<Option<usize>>,
    /// Index into `Snapshot::route_tables`; none when the configuration no longer has the listener or
    /// the chain, or they hold no requests, or the chain asks something else of clients now.
    pub route_table: Cell<Option<usize>>,
    /// Does the chain ask something else of clients now? They are to connect again.
    pub outdated: Cell<bool>,
    /// Is gRPC-Web translated for its clients? Connections and streams that have begun stay as they are.
    pub grpc_web: Cell<bool>,
}

impl ListenerSlot {
    /// The slot of an address in `snapshot`.
    pub fn new(address: SocketAddr, snapshot: &Snapshot) -> ListenerSlot {
        let slot = ListenerSlot {
            address,
            chain: None,
            client_demand: Box::default(),
            scheme: Scheme::Http,
            listener: Cell::new(None),
            route_table: Cell::new(None),
            outdated: Cell::new(false),
            grpc_web: Cell::new(false),
        };
        slot.follow(snapshot);
        slot
    }

    /// The slot of a chain of an address.
    pub fn of_chain(address: SocketAddr, chain: &Chain, snapshot: &Snapshot) -> ListenerSlot {
        let slot = ListenerSlot {
            address,
            chain: Some(chain.name.as_str().into()),
            client_demand: chain.client_demand.as_str().into(),
            scheme: Scheme::Https,
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
        let chain = match (serves, self.chain.as_deref()) {
            (Some(Serves::Tls(port)), Some(name)) => {
                port.chains.iter().find(|chain| chain.name == name)
            }
            _ => None,
        };
        // Where nothing is asked everybody may stay.
        let demand = chain.map_or("", |chain| chain.client_demand.as_str());
        self.outdated.set(!demand.is_empty() && *demand != *self.client_demand);
        self.route_table.set(match (serves, chain.map(|chain| &chain.content)) {
            _ if self.outdated.get() => None,
            (Some(Serves::Requests { route_table, .. }), None) if self.chain.is_none() => {
                Some(*route_table)
            }
            (_, Some(ChainContent::Requests { route_table })) => Some(*route_table),
            _ => None,
        });
    }
}

/// The slots of the chains of a snapshot, by the position of their listener and their own.
#[derive(Debug, Default)]
pub struct ChainSlots(Vec<Box<[Rc<ListenerSlot>]>>);

impl ChainSlots {
    /// Those of `snapshot`: where `known` has the chain already, with the same demand, the same.
    pub fn new(snapshot: &Snapshot, known: &[Rc<ListenerSlot>]) -> ChainSlots {
        let of_listener = |listener: &crate::snapshot::Listener| match &listener.serves {
            Serves::Tls(port) => port
                .chains
                .iter()
                .map(|chain| {
                    let same = |slot: &&Rc<ListenerSlot>| {
                        slot.address == listener.address
                            && slot.chain.as_deref() == Some(chain.name.as_str())
                            && *slot.client_demand == *chain.client_demand
                    };
                    match known.iter().find(same) {
                        Some(slot) => Rc::clone(slot),
                        None => Rc::new(ListenerSlot::of_chain(listener.address, chain, snapshot)),
                    }
                })
                .collect(),
            _ => Box::default(),
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
