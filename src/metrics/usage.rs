//! What workers and process use of the machine. Asked for by the stats thread and by the pages, never by
//! a worker; how it is asked for is the business of whoever registers a probe.

use std::time::{Duration, Instant};

use crate::ids::WorkerId;

/// Shortest time that a busy ratio is worked out over.
const BUSY_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// What a worker has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    /// CPU time of its thread.
    pub cpu: Duration,
    /// What went through its ring; none with epoll.
    pub ring: Option<RingUsage>,
}

/// What went through a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingUsage {
    /// Operations submitted.
    pub submissions: u64,
    /// Completions.
    pub completions: u64,
}

/// Asks for a worker's usage; none when it cannot be told.
pub type UsageProbe = Box<dyn FnMut() -> Option<WorkerUsage> + Send>;

/// What the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// When it started, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Memory in RAM, bytes.
    pub resident_bytes: u64,
    /// Address space, bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Descriptors that may be open.
    pub max_fds: u64,
}

/// What is known of one worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShownUsage {
    /// Which worker.
    pub worker: WorkerId,
    /// Its usage when it was asked for last.
    pub usage: WorkerUsage,
    /// Share of the time between the last two questions in which it had a core, 0 to 1.
    pub busy: f64,
}

struct Probed {
    probe: UsageProbe,
    at: Instant,
    shown: ShownUsage,
}

/// The probes of the workers and what they said.
#[derive(Default)]
pub struct UsageTable(Vec<Probed>);

impl std::fmt::Debug for UsageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl UsageTable {
    /// Ask `probe` for the usage of `worker` from now on.
    pub(super) fn register(&mut self, worker: WorkerId, mut probe: UsageProbe, now: Instant) {
        self.0.retain(|probed| probed.shown.worker != worker);
        let Some(usage) = probe() else { return };
        let shown = ShownUsage { worker, usage, busy: 0.0 };
        let position = self.0.partition_point(|probed| probed.shown.worker < worker);
        self.0.insert(position, Probed { probe, at: now, shown });
    }

    /// Ask those that were not asked within the last half second.
    pub(super) fn refresh(&mut self, now: Instant) {
        for probed in &mut self.0 {
            let elapsed = now.saturating_duration_since(probed.at);
            if elapsed < BUSY_INTERVAL_MIN {
                continue;
            }
            // A worker that has ended keeps its last numbers.
            let Some(usage) = (probed.probe)() else { continue };
            let used = usage.cpu.saturating_sub(probed.shown.usage.cpu);
            probed.shown.busy = (used.as_secs_f64() / elapsed.as_secs_f64()).min(1.0);
            probed.shown.usage = usage;
            probed.at = now;
        }
    }

    /// What is known, ordered by worker.
    pub fn iter(&self) -> impl Iterator<Item = &ShownUsage> {
        self.0.iter().map(|probed| &probed.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_the_share_of_the_time_between_two_questions() {
        let mut table = UsageTable::default();
        let start = Instant::now();
        let mut answers = [1000, 1250, 9000].map(Duration::from_millis).into_iter();
        let probe = move || {
            let ring = Some(RingUsage { submissions: 7, completions: 6 });
            answers.next().map(|cpu| WorkerUsage { cpu, ring })
        };
        table.register(WorkerId(1), Box::new(probe), start);
        table.register(WorkerId(0), Box::new(|| Some(WorkerUsage::default())), start);
        table.register(WorkerId(2), Box::new(|| None), start);
        table.refresh(start + Duration::from_millis(400));
        let busy = |table: &UsageTable| -> Vec<(u32, f64)> {
            table.iter().map(|shown| (shown.worker.0, shown.busy)).collect()
        };
        assert_eq!(busy(&table), [(0, 0.0), (1, 0.0)], "too early");
        table.refresh(start + Duration::from_secs(1));
        assert_eq!(busy(&table), [(0, 0.0), (1, 0.25)]);
        table.refresh(start + Duration::from_secs(2));
        assert_eq!(busy(&table), [(0, 0.0), (1, 1.0)], "never above 1");
        table.refresh(start + Duration::from_secs(3));
        let last = table.iter().last().expect("worker 1");
        assert_eq!(last.usage.cpu, Duration::from_secs(9), "the worker has ended");
        assert_eq!(last.usage.ring, Some(RingUsage { submissions: 7, completions: 6 }));
    }
}
