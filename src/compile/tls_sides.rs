//! The TLS sides of servers and clusters, kept over compilations: what did not change stays the same, with
//! its session tickets, and what became bad keeps its last good one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::tls::settings::{ClientSettings, ServerSettings};
use crate::tls::{ClientTls, ServerTls, TlsError};

/// Sides by what they are of. It outlives the snapshots.
#[derive(Debug, Default)]
pub struct TlsSides {
    servers: Kept<String, ServerSettings, ServerTls>,
    clients: Kept<ClientSettings, (), ClientTls>,
    round: u64,
}

/// Sides of one kind.
#[derive(Debug)]
struct Kept<K, S, T> {
    sides: HashMap<K, Side<S, T>>,
}

impl<K, S, T> Default for Kept<K, S, T> {
    fn default() -> Self {
        Kept { sides: HashMap::new() }
    }
}

#[derive(Debug)]
struct Side<S, T> {
    /// How it was asked for, as the manifest writes it.
    asked: String,
    settings: S,
    side: Arc<T>,
    /// The compilation that asked for it last.
    round: u64,
}

impl<K: Hash + Eq, S, T> Kept<K, S, T> {
    fn forget_before(&mut self, round: u64) {
        self.sides.retain(|_, side| side.round >= round);
    }
}

impl TlsSides {
    /// The settings that a side was made of.
    #[cfg(test)]
    pub(super) fn settings_of(&self, side: &Arc<ClientTls>) -> Option<&ClientSettings> {
        let mut sides = self.clients.sides.iter();
        sides.find(|(_, known)| Arc::ptr_eq(&known.side, side)).map(|(settings, _)| settings)
    }

    /// A compilation begins.
    pub fn begin(&mut self) {
        self.round += 1;
    }

    /// What the last compilation came to is in force: what it did not ask for is forgotten. Not before: a
    /// reading that is thrown away must not cost what is in force.
    pub fn in_force(&mut self) {
        self.servers.forget_before(self.round);
        self.clients.forget_before(self.round);
    }

    /// The side of the server `name`, which is asked for by a block that is written as `asked`.
    ///
    /// # Errors
    /// The settings are bad. What may be served on with is [`TlsSides::last_server`].
    pub fn server(
        &mut self,
        name: &str,
        asked: &str,
        settings: ServerSettings,
    ) -> Result<Arc<ServerTls>, TlsError> {
        let known = self.servers.sides.get_mut(name);
        if let Some(known) = known {
            known.round = self.round;
            if known.settings == settings {
                asked.clone_into(&mut known.asked);
                return Ok(Arc::clone(&known.side));
            }
        }
        let side = Arc::new(ServerTls::new(&settings)?);
        let asked = asked.to_owned();
        let kept = Side { asked, settings, side: Arc::clone(&side), round: self.round };
        self.servers.sides.insert(name.to_owned(), kept);
        Ok(side)
    }

    /// The last good side of the server `name`, for when what it is made of is bad or gone. Only while the
    /// same is asked of it: one that is to ask for client certificates from now on, or to have another
    /// certificate, must not go on as before.
    pub fn last_server(&mut self, name: &str, asked: &str) -> Option<Arc<ServerTls>> {
        let known = self.servers.sides.get_mut(name).filter(|known| known.asked == asked)?;
        known.round = self.round;
        Some(Arc::clone(&known.side))
    }

    /// The side of connections with these settings. Clusters with equal ones share it and its sessions.
    ///
    /// # Errors
    /// The settings are bad.
    pub fn client(&mut self, settings: &ClientSettings) -> Result<Arc<ClientTls>, TlsError> {
        if let Some(known) = self.clients.sides.get_mut(settings) {
            known.round = self.round;
            return Ok(Arc::clone(&known.side));
        }
        let side = Arc::new(ClientTls::new(settings)?);
        let asked = String::new();
        let kept = Side { asked, settings: (), side: Arc::clone(&side), round: self.round };
        self.clients.sides.insert(settings.clone(), kept);
        Ok(side)
    }
}
