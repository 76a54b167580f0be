//! Bringing a snapshot to every worker: bind what is new, hand each its own copy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::net::listener;
use crate::snapshot::Snapshot;
use crate::upstream::{SharedClusters, SharedClustersCell};
use crate::worker::{Command, WorkerHandle};

/// How often a port that is in use is tried again, and how long between.
const PROBE_TRIES: usize = 5;
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// A listener whose address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {gateways}: {reason}{remedy}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The Gateways that asked for it.
    pub gateways: String,
    /// Why not.
    pub reason: io::Error,
    remedy: String,
}

impl BindError {
    fn new(address: SocketAddr, gateways: &[String], reason: io::Error) -> BindError {
        let port = address.port();
        let remedy = match reason.kind() {
            io::ErrorKind::AddrInUse => {
                format!("; find who has the port with: ss -ltnp 'sport = :{port}'")
            }
            io::ErrorKind::PermissionDenied => format!(
                "; map the port with --port-map {port}={}, or give the binary \
                 CAP_NET_BIND_SERVICE",
                u32::from(port) + 8000
            ),
            io::ErrorKind::AddrNotAvailable => {
                "; the address is not one of this machine's: see `bind` of the server, or --bind"
                    .to_owned()
            }
            _ => String::new(),
        };
        BindError { address, gateways: gateways.join(", "), reason, remedy }
    }
}

/// The addresses that the workers listen on, and the workers.
pub struct Publisher {
    workers: Vec<WorkerHandle>,
    bound: BTreeSet<SocketAddr>,
    shared: Arc<SharedClustersCell>,
}

/// Sockets bound for a snapshot, one per worker each.
#[derive(Default)]
pub struct Bound(BTreeMap<SocketAddr, Vec<TcpListener>>);

impl Publisher {
    /// Nothing is bound yet.
    pub fn new(workers: Vec<WorkerHandle>) -> Publisher {
        Publisher { workers, bound: BTreeSet::new(), shared: Arc::default() }
    }

    /// The workers.
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// What the workers share of the clusters, as it was published last.
    pub fn shared(&self) -> Arc<SharedClustersCell> {
        Arc::clone(&self.shared)
    }

    /// Bind what `snapshot` listens on and is not bound yet. What cannot be bound is an error each;
    /// the others are bound all the same.
    pub fn bind(&self, snapshot: &Snapshot) -> (Bound, Vec<BindError>) {
        let mut bound = BTreeMap::new();
        let mut errors = Vec::new();
        for wanted in &snapshot.listeners {
            let address = wanted.address;
            if self.bound.contains(&address) || bound.contains_key(&address) {
                continue;
            }
            // A socket of ours on another address of the port is no stranger's.
            let ours = self.bound.iter().any(|bound| bound.port() == address.port());
            match bind_for_all(address, self.workers.len(), ours) {
                Ok(sockets) => {
                    bound.insert(address, sockets);
                }
                Err(reason) => errors.push(BindError::new(address, &wanted.gateways, reason)),
            }
        }
        (Bound(bound), errors)
    }

    /// Give every worker its copy of `snapshot` and its sockets. Listeners without a socket are
    /// left out. Returns what the workers route by now. A worker that has ended takes nothing; it
    /// reports that itself.
    pub fn publish(&mut self, mut snapshot: Snapshot, bound: Bound) -> Arc<Snapshot> {
        let mut sockets = bound.0;
        snapshot.listeners.retain(|listener| {
            self.bound.contains(&listener.address) || sockets.contains_key(&listener.address)
        });
        self.bound = snapshot.listeners.iter().map(|listener| listener.address).collect();
        let shared = SharedClusters::new(&snapshot, &self.shared.load());
        self.shared.set(shared.clone());
        for worker in &self.workers {
            let own: Vec<(SocketAddr, TcpListener)> = sockets
                .iter_mut()
                .filter_map(|(address, sockets)| Some((*address, sockets.pop()?)))
                .collect();
            let command = Command::Publish {
                snapshot: Box::new(snapshot.clone()),
                shared: shared.clone(),
                sockets: own,
            };
            worker.send(command);
        }
        Arc::new(snapshot)
    }
}

fn bind_for_all(address: SocketAddr, workers: usize, ours: bool) -> io::Result<Vec<TcpListener>> {
    if !ours {
        probe(address)?;
    }
    (0..workers).map(|_| listener::bind(address)).collect()
}

/// Is the port free? One that a reload has just given up may take a moment.
fn probe(address: SocketAddr) -> io::Result<()> {
    for _ in 0..PROBE_TRIES {
        match listener::probe(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(PROBE_PAUSE);
            }
            outcome => return outcome,
        }
    }
    listener::probe(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Listener;

    fn snapshot(address: SocketAddr) -> Snapshot {
        let listener = Listener {
            address,
            name: "http.80".into(),
            numbers: vec![80],
            serves: crate::snapshot::Serves::Requests { route_table: 0, grpc_web: false },
            gateways: vec!["default/hello-gateway (gateway.yaml:1:1)".into()],
        };
        Snapshot { listeners: vec![listener], ..Snapshot::default() }
    }

    #[test]
    fn a_port_in_use_names_the_port_and_the_gateway() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let (bound, errors) = Publisher::new(Vec::new()).bind(&snapshot(address));
        assert!(bound.0.is_empty());
        let text = errors.first().expect("an error").to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains("default/hello-gateway (gateway.yaml:1:1)"), "{text}");
        assert!(text.contains("ss -ltnp"), "{text}");
    }

    #[test]
    fn a_port_shared_by_reuseport_is_in_use_too() {
        let first = listener::bind("127.0.0.1:0".parse().expect("an address")).expect("free");
        let address = first.local_addr().expect("bound");
        assert!(listener::bind(address).is_ok(), "one process may share it");
        let (_, errors) = Publisher::new(Vec::new()).bind(&snapshot(address));
        assert_eq!(errors.len(), 1);
    }
}
