//! The signals that the process obeys, and the orders of the admin port beside them.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal or an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, SIGINT: drain and end. A second one ends at once.
    Stop,
    /// SIGHUP: read the manifests again.
    Reload,
    /// SIGUSR1: open the access log again.
    ReopenLog,
    /// `/drain_listeners`: accept no more connections, after this time in which clients are asked to leave;
    /// none: only ask them.
    StopListening(Option<Duration>),
}

/// The signals, being listened for.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    orders: Option<mpsc::Receiver<Asked>>,
}

impl Signals {
    /// Start listening.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            orders: None,
        })
    }

    /// Obey these orders too.
    pub fn with_orders(self, orders: mpsc::Receiver<Asked>) -> Signals {
        Signals { orders: Some(orders), ..self }
    }

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        let orders = &mut self.orders;
        let ordered = async {
            match orders {
                Some(orders) => match orders.recv().await {
                    Some(asked) => asked,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::ReopenLog,
            asked = ordered => asked,
        }
    }
}
