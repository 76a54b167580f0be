//! The names of ServiceEntries and ExternalName Services, kept resolved (behaviour 5).
//!
//! One task per name asks for it when the time to live of its last answer is over; the table keeps
//! the last good answer of each and says when one changed. It runs on the control runtime: workers
//! see addresses only.

mod lookup;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::compile::DnsAnswers;
use crate::metrics::ControlStats;
use crate::snapshot::Snapshot;
use lookup::{Found, LookupError, Resolver};

/// An answer is used for this long at least, whatever its time to live is.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// A name that failed is asked for again after this time, then after twice as long, and so on.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// But not after more than this (mesh `dnsRefreshRate`).
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Names that are asked for at the same moment.
const CONCURRENT_LOOKUPS: usize = 16;
/// Answers that come this close after each other are published together.
const GATHER: Duration = Duration::from_millis(100);
/// How many names a line of the log shows.
const NAMES_SHOWN: usize = 5;

/// Of whom names are asked, and what.
#[derive(Clone, Debug, Default)]
pub struct DnsOptions {
    /// The servers; none: those of the system, after its hosts file.
    pub servers: Vec<SocketAddr>,
    /// The kinds of addresses.
    pub families: Families,
}

/// The kinds of addresses that names are resolved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// Those that this machine has a route for.
    #[default]
    Auto,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    All,
}

/// What became of a lookup.
struct Outcome {
    name: String,
    result: Result<Found, LookupError>,
}

/// A name that is kept resolved.
struct Name {
    task: Task,
    /// Its last good answer.
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Only its first address is used: the order of an answer matters.
    first_only: bool,
    /// There was an outcome.
    asked: bool,
    /// The last outcome was a failure.
    failing: bool,
}

impl Name {
    fn addresses(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }

    /// What tells whether an answer changes what is served.
    fn served(&self) -> Vec<IpAddr> {
        let mut addresses = self.addresses();
        match self.first_only {
            true => addresses.truncate(1),
            false => addresses.sort_unstable(),
        }
        addresses
    }
}

/// Ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All names of the configuration in force with their last good answers.
pub struct NameTable {
    options: DnsOptions,
    resolver: Option<Arc<Resolver>>,
    permits: Arc<Semaphore>,
    names: BTreeMap<String, Name>,
    sender: mpsc::UnboundedSender<Outcome>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// Names whose answers changed since the last [`NameTable::answers`].
    changed: BTreeSet<String>,
    stats: Arc<ControlStats>,
}

impl NameTable {
    /// No name yet. Its methods are called within a tokio runtime.
    pub fn new(options: DnsOptions, stats: Arc<ControlStats>) -> NameTable {
        let (sender, outcomes) = mpsc::unbounded_channel();
        NameTable {
            options,
            resolver: None,
            permits: Arc::new(Semaphore::new(CONCURRENT_LOOKUPS)),
            names: BTreeMap::new(),
            sender,
            outcomes,
            changed: BTreeSet::new(),
            stats,
        }
    }

    /// Keep the names of a snapshot resolved, and no others. True when one is new: its first answer
    /// is awaited by [`NameTable::settled`].
    pub fn follow(&mut self, snapshot: &Snapshot) -> bool {
        let mut wanted: BTreeMap<&str, bool> = BTreeMap::new();
        for resolved in snapshot.clusters.iter().filter_map(|cluster| cluster.resolved.as_ref()) {
            for name in &resolved.names {
                *wanted.entry(name).or_default() |= resolved.first_only;
            }
        }
        self.names.retain(|name, _| wanted.contains_key(name.as_str()));
        let mut is_new = false;
        for (name, first_only) in wanted {
            match self.names.get_mut(name) {
                Some(known) => known.first_only = first_only,
                None => {
                    let Some(task) = self.spawn(name) else { continue };
                    let new = Name {
                        task,
                        v4: Vec::new(),
                        v6: Vec::new(),
                        first_only,
                        asked: false,
                        failing: false,
                    };
                    self.names.insert(name.to_owned(), new);
                    is_new = true;
                }
            }
        }
        self.count();
        is_new
    }

    /// Read the system's settings again, and ask for every name now.
    pub fn start_over(&mut self) {
        self.resolver = None;
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            if let Some(task) = self.spawn(&name)
                && let Some(known) = self.names.get_mut(&name)
            {
                known.task = task;
            }
        }
    }

    fn spawn(&mut self, name: &str) -> Option<Task> {
        let resolver = match &self.resolver {
            Some(resolver) => Arc::clone(resolver),
            None => match Resolver::new(&self.options) {
                Ok(resolver) => Arc::clone(self.resolver.insert(Arc::new(resolver))),
                Err(error) => {
                    tracing::error!("`{name}` cannot be resolved: {error}; see --dns-server");
                    return None;
                }
            },
        };
        let permits = Arc::clone(&self.permits);
        let keep = keep_resolved(name.to_owned(), resolver, permits, self.sender.clone());
        Some(Task(tokio::spawn(keep)))
    }

    /// Wait until every name was asked for once, but not longer than this.
    pub async fn settled(&mut self, timeout: Duration) {
        let all = async {
            while self.names.values().any(|name| !name.asked) {
                // The table holds a sender itself: there is always a next one.
                let Some(outcome) = self.outcomes.recv().await else { return };
                self.take(outcome);
            }
        };
        // Names without an answer by then get 503 until there is one.
        let _ = tokio::time::timeout(timeout, all).await;
    }

    /// Wait until an answer changes what is served, and for those that come with it. May be dropped
    /// and called again: nothing is lost.
    pub async fn changed(&mut self) {
        while self.changed.is_empty() {
            match self.outcomes.recv().await {
                Some(outcome) => self.take(outcome),
                None => std::future::pending().await,
            }
        }
        let gather = async {
            while let Some(outcome) = self.outcomes.recv().await {
                self.take(outcome);
            }
        };
        let _ = tokio::time::timeout(GATHER, gather).await;
    }

    /// The answers of now, and what changed since they were asked for last, in words.
    pub fn answers(&mut self) -> (DnsAnswers, String) {
        let changed = std::mem::take(&mut self.changed);
        let mut words = Vec::new();
        for (name, known) in changed.iter().filter_map(|name| self.names.get_key_value(name)) {
            let addresses: Vec<String> =
                known.addresses().iter().map(ToString::to_string).collect();
            words.push(format!("{name} is {}", addresses.join(" ")));
        }
        let more = words.len().saturating_sub(NAMES_SHOWN);
        words.truncate(NAMES_SHOWN);
        let mut words = words.join(", ");
        if more > 0 {
            words.push_str(&format!(", and {more} more"));
        }
        let answers = self.names.iter().map(|(name, known)| (name.clone(), known.addresses()));
        (answers.collect(), words)
    }

    fn take(&mut self, outcome: Outcome) {
        let Outcome { name, result } = outcome;
        self.stats.dns_lookups.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.stats.dns_lookup_failures.fetch_add(1, Ordering::Relaxed);
        }
        // A name that is not wanted any longer may still have had its answer on the way.
        let Some(known) = self.names.get_mut(&name) else { return };
        let first = !std::mem::replace(&mut known.asked, true);
        let was_failing = std::mem::replace(&mut known.failing, result.is_err());
        match result {
            Ok(found) => {
                let before = known.served();
                if let Some(v4) = found.v4 {
                    known.v4 = v4;
                }
                if let Some(v6) = found.v6 {
                    known.v6 = v6;
                }
                if known.served() != before {
                    self.changed.insert(name);
                } else if was_failing {
                    tracing::info!("`{name}` is resolved again, to the addresses of before");
                }
            }
            // Told once, not at every try.
            Err(_) if was_failing => {}
            Err(error) if known.v4.is_empty() && known.v6.is_empty() => {
                tracing::warn!(
                    "`{name}` cannot be resolved: {error}; requests to it get 503 (UH), it is \
                     tried again"
                );
            }
            Err(error) => tracing::warn!(
                "`{name}` cannot be resolved{}: {error}; its last addresses stay in use",
                if first { "" } else { " any longer" }
            ),
        }
        self.count();
    }

    fn count(&self) {
        let unresolved =
            self.names.values().filter(|name| name.v4.is_empty() && name.v6.is_empty());
        self.stats.dns_names.store(self.names.len() as u64, Ordering::Relaxed);
        self.stats.dns_names_unresolved.store(unresolved.count() as u64, Ordering::Relaxed);
    }
}

/// Ask for a name again and again, as often as its answers say.
async fn keep_resolved(
    name: String,
    resolver: Arc<Resolver>,
    permits: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Outcome>,
) {
    let mut retry = RETRY_MIN;
    loop {
        let result = {
            let Ok(_permit) = permits.acquire().await else { return };
            resolver.lookup(&name).await
        };
        let pause = match &result {
            Ok(found) => {
                retry = RETRY_MIN;
                let known = found.v4.is_some() && found.v6.is_some();
                found.valid_for.max(REFRESH_MIN).min(if known { Duration::MAX } else { RETRY_MAX })
            }
            Err(_) => {
                let pause = retry;
                retry = (retry * 2).min(RETRY_MAX);
                pause
            }
        };
        if sender.send(Outcome { name: name.clone(), result }).is_err() {
            return;
        }
        // Names that were asked for together are not for ever.
        let jitter = pause.min(RETRY_MAX).mul_f64(fastrand::f64() * 0.1);
        tokio::time::sleep(pause.saturating_add(jitter)).await;
    }
}

#[cfg(test)]
mod tests;
