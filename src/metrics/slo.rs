//! Service level objectives: what was promised, what was kept of it, and how fast the rest is used up.
//!
//! Fed by the steps of the history, so that workers do nothing for it. Of the time before, each objective
//! keeps its two sums at moments that lie further apart the older they are: ten seconds for an hour, five
//! minutes for three days, an hour for thirty days. A window begins at the last such moment before it.
//! All of it is of this process: after a restart it begins anew, and Prometheus has what was before.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::history::{Step, errors};
use super::labels::HistogramKey;
use crate::ids::HistogramSlot;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Spans that burn rates are told for, seconds.
pub const BURN_WINDOWS: [(&str, u64); 7] = [
    ("5m", 5 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", HOUR),
    ("2h", 2 * HOUR),
    ("6h", 6 * HOUR),
    ("1d", DAY),
    ("3d", 3 * DAY),
];

/// When somebody is told: the budget burns this many times as fast as it may, over the long window and
/// still over the short one (Site Reliability Workbook, chapter 5: multiple windows and burn rates).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertRule {
    /// Who.
    pub alert: Alert,
    /// How fast.
    pub burn_rate: f64,
    /// Index into [`BURN_WINDOWS`] of the long window.
    pub long: usize,
    /// Index into [`BURN_WINDOWS`] of the short one.
    pub short: usize,
}

/// The rules, the most urgent first.
pub const ALERT_RULES: [AlertRule; 4] = [
    AlertRule { alert: Alert::Page, burn_rate: 14.4, long: 2, short: 0 },
    AlertRule { alert: Alert::Page, burn_rate: 6.0, long: 4, short: 1 },
    AlertRule { alert: Alert::Ticket, burn_rate: 3.0, long: 5, short: 3 },
    AlertRule { alert: Alert::Ticket, burn_rate: 1.0, long: 6, short: 4 },
];

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Somebody, now.
    Page,
    /// Somebody, during working hours.
    Ticket,
}

impl Alert {
    /// `page` or `ticket`.
    pub fn as_str(self) -> &'static str {
        match self {
            Alert::Page => "page",
            Alert::Ticket => "ticket",
        }
    }
}

/// Whose requests an objective is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A host's: the name that they are counted under.
    Host(String),
    /// A route's.
    Route {
        /// `namespace/name` of the VirtualService; none: any.
        virtual_service: Option<String>,
        /// The route; none: all of the VirtualService.
        route: Option<String>,
    },
}

impl Subject {
    /// A route as it is written: `route`, `namespace/name` or `namespace/name#route`.
    pub fn route(written: &str) -> Subject {
        let (virtual_service, route) = match written.split_once('#') {
            Some((virtual_service, route)) => (Some(virtual_service), Some(route)),
            None if written.contains('/') => (Some(written), None),
            None => (None, Some(written)),
        };
        Subject::Route {
            virtual_service: virtual_service.map(str::to_owned),
            route: route.map(str::to_owned),
        }
    }

    /// Is it about this route of this VirtualService?
    pub fn is_route(&self, of: &str, name: &str) -> bool {
        match self {
            Subject::Host(_) => false,
            Subject::Route { virtual_service, route } => {
                virtual_service.as_ref().is_none_or(|wanted| wanted == of)
                    && route.as_ref().is_none_or(|wanted| wanted == name)
            }
        }
    }

    fn includes(&self, key: &HistogramKey) -> bool {
        match self {
            Subject::Host(host) => *host == key.virtual_host,
            Subject::Route { .. } => self.is_route(&key.virtual_service, &key.route),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Host(host) => f.write_str(host),
            Subject::Route { virtual_service: Some(of), route: Some(route) } => {
                write!(f, "{of}#{route}")
            }
            Subject::Route { virtual_service, route } => {
                f.write_str(virtual_service.as_ref().or(route.as_ref()).map_or("", String::as_str))
            }
        }
    }
}

/// What makes a request a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// It was answered, with less than 500.
    Availability,
    /// It took no longer than this, whatever the answer was.
    Latency {
        /// Microseconds.
        threshold_us: u64,
    },
}

impl Measure {
    /// `availability` or `latency`.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Availability => "availability",
            Measure::Latency { .. } => "latency",
        }
    }
}

/// A promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Name of the object, `namespace/name` outside of the namespace `default`.
    pub name: String,
    /// Whose requests.
    pub subject: Subject,
    /// Which are good.
    pub measure: Measure,
    /// Per cent of them that are to be good.
    pub percent: f64,
    /// Over which time.
    pub window: Duration,
}

impl Objective {
    /// The share that is to be good, 0 to 1.
    pub fn share(&self) -> f64 {
        self.percent / 100.0
    }

    /// The share that may be bad, 0 to 1.
    pub fn budget(&self) -> f64 {
        (100.0 - self.percent) / 100.0
    }

    /// The host that it is about, if it is about one.
    pub fn host(&self) -> Option<&str> {
        match &self.subject {
            Subject::Host(host) => Some(host),
            Subject::Route { .. } => None,
        }
    }

    /// The route that it is about, as it was written.
    pub fn route(&self) -> Option<String> {
        match &self.subject {
            Subject::Host(_) => None,
            route => Some(route.to_string()),
        }
    }
}

/// Sums at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How long there had been data, milliseconds.
    at_ms: u64,
    /// Good requests.
    pub good: u64,
    /// Requests.
    pub total: u64,
}

impl Sums {
    /// The share of bad ones; none without requests.
    fn bad_share(self) -> Option<f64> {
        (self.total > 0).then(|| (self.total - self.good) as f64 / self.total as f64)
    }
}

/// Distance of kept moments and how many are kept, per level.
const LEVELS: [(u64, usize); 3] = [(10 * SECOND, 400), (5 * MINUTE, 900), (HOUR, 722)];

/// An objective and what was counted for it.
#[derive(Debug)]
pub struct Tracked {
    objective: Objective,
    slots: Vec<HistogramSlot>,
    /// Keys of the label table that were looked at.
    keys_seen: usize,
    now: Sums,
    levels: [VecDeque<Sums>; 3],
}

impl Tracked {
    fn new(objective: Objective) -> Tracked {
        let levels = std::array::from_fn(|_| VecDeque::from([Sums::default()]));
        Tracked { objective, slots: Vec::new(), keys_seen: 0, now: Sums::default(), levels }
    }

    fn add(&mut self, step: &Step, keys: &[HistogramKey]) {
        for (slot, key) in keys.iter().enumerate().skip(self.keys_seen) {
            if self.objective.subject.includes(key) {
                self.slots.push(HistogramSlot(slot as u32));
            }
        }
        self.keys_seen = keys.len();
        for route in self.slots.iter().filter_map(|slot| step.route(*slot)) {
            let total: u64 = route.classes.iter().sum();
            self.now.total += total;
            self.now.good += match self.objective.measure {
                Measure::Availability => total - errors(&route.classes),
                Measure::Latency { threshold_us } => route.latencies.up_to(threshold_us).min(total),
            };
        }
        self.now.at_ms += u64::try_from(step.length.as_millis()).unwrap_or(u64::MAX);
        for (level, (distance, kept)) in self.levels.iter_mut().zip(LEVELS) {
            let last = level.back().map_or(0, |last| last.at_ms);
            if self.now.at_ms - last >= distance * 1000 {
                level.push_back(self.now);
                if level.len() > kept {
                    level.pop_front();
                }
            }
        }
    }

    /// What it is.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Counts since the objective is there.
    pub fn sums(&self) -> Sums {
        self.now
    }

    /// How long it was observed.
    pub fn observed(&self) -> Duration {
        Duration::from_millis(self.now.at_ms)
    }

    /// Counts of the last `seconds`, or of what there is of them.
    pub fn last(&self, seconds: u64) -> Sums {
        let start_ms = self.now.at_ms.saturating_sub(seconds.saturating_mul(1000));
        // The finest that reaches back so far; beyond all of them, the oldest moment there is.
        let reaches = |level: &&VecDeque<Sums>| level.front().is_some_and(|s| s.at_ms <= start_ms);
        let level = self.levels.iter().find(reaches).or(self.levels.last());
        let start = level.and_then(|level| {
            let at = level.partition_point(|sums| sums.at_ms <= start_ms);
            level.get(at.saturating_sub(1))
        });
        let start = start.copied().unwrap_or_default();
        Sums {
            at_ms: self.now.at_ms - start.at_ms,
            good: self.now.good - start.good,
            total: self.now.total - start.total,
        }
    }

    /// Counts of its own window.
    pub fn in_window(&self) -> Sums {
        self.last(self.objective.window.as_secs())
    }

    /// What is left of the budget: 1 when it is untouched, less than 0 when it is overspent; none without
    /// requests.
    pub fn budget_remaining(&self) -> Option<f64> {
        Some(1.0 - self.in_window().bad_share()? / self.objective.budget())
    }

    /// How many times as fast as it may the budget was used in the last `seconds`; none without requests.
    pub fn burn_rate(&self, seconds: u64) -> Option<f64> {
        Some(self.last(seconds).bad_share()? / self.objective.budget())
    }

    /// Who is to be told.
    pub fn alert(&self) -> Option<Alert> {
        let burns = |window: usize, rate: f64| {
            self.burn_rate(BURN_WINDOWS[window].1).is_some_and(|burn| burn > rate)
        };
        let mut rules = ALERT_RULES.iter();
        let rule = rules.find(|r| burns(r.long, r.burn_rate) && burns(r.short, r.burn_rate));
        rule.map(|rule| rule.alert)
    }
}

/// All objectives.
#[derive(Debug, Default)]
pub struct SloBook(Vec<Tracked>);

impl SloBook {
    /// From now on measure these. What is as it was goes on; what is new or changed begins anew.
    pub fn set(&mut self, objectives: &[Objective]) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = objectives
            .iter()
            .map(|objective| {
                match before.iter().position(|tracked| tracked.objective == *objective) {
                    Some(at) => before.swap_remove(at),
                    None => Tracked::new(objective.clone()),
                }
            })
            .collect();
    }

    /// Count what a step had. `keys`: what its slots mean.
    pub fn add(&mut self, step: &Step, keys: &[HistogramKey]) {
        for tracked in &mut self.0 {
            tracked.add(step, keys);
        }
    }

    /// The objectives with what was counted.
    pub fn objectives(&self) -> &[Tracked] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
