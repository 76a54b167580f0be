//! Exemplars: for each bucket of a request duration the newest traced request that fell into it. Only
//! sampled requests get here.

use std::collections::HashMap;

use crate::ids::MetricSlot;
use crate::limits::EXEMPLARS_MAX;
use crate::stream_info::StreamInfo;

use super::buckets::DURATION_US;
use super::exemplar::Exemplar;
use super::series::SeriesKey;

/// Labels, series and bucket of a duration.
type Place = (MetricSlot, SeriesKey, usize);

/// The exemplars of one worker since the last collection: the last [`EXEMPLARS_MAX`].
#[derive(Debug, Default)]
pub struct RecentExemplars {
    newest: Vec<(Place, Exemplar)>,
    /// Which one is displaced next, once it is full.
    oldest: usize,
}

impl RecentExemplars {
    /// Note a sampled request that ended.
    pub fn record(&mut self, info: &StreamInfo) {
        let place = (info.metric_slot, SeriesKey::of(info), DURATION_US.index(info.duration_us));
        let exemplar = Exemplar {
            trace_id: info.trace_id,
            span_id: info.span_id,
            value_us: info.duration_us,
            unix_ms: info.started_unix_us.saturating_add(info.duration_us) / 1000,
        };
        if self.newest.len() < EXEMPLARS_MAX {
            self.newest.push((place, exemplar));
        } else if let Some(oldest) = self.newest.get_mut(self.oldest) {
            *oldest = (place, exemplar);
            self.oldest = (self.oldest + 1) % EXEMPLARS_MAX;
        }
    }
}

/// The newest exemplar of each bucket.
#[derive(Debug, Default)]
pub struct Exemplars(HashMap<Place, Exemplar>);

impl Exemplars {
    /// Take over what a worker noted.
    pub fn absorb(&mut self, recent: &mut RecentExemplars) {
        recent.oldest = 0;
        for (place, exemplar) in recent.newest.drain(..) {
            let newest = self.0.entry(place).or_insert(exemplar);
            if newest.unix_ms <= exemplar.unix_ms {
                *newest = exemplar;
            }
        }
    }

    /// The exemplar of a bucket (an index as in [`super::buckets`]), if a traced request fell into it.
    pub fn get(&self, slot: MetricSlot, key: SeriesKey, bucket: usize) -> Option<Exemplar> {
        self.0.get(&(slot, key, bucket)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn info(duration_us: u64, ended_ms: u64) -> StreamInfo {
        let mut info = StreamInfo::new(Instant::now(), ended_ms * 1000 - duration_us);
        info.duration_us = duration_us;
        info.response_code = 200;
        info.trace_id = [ended_ms as u8; 16];
        info.trace_sampled = true;
        info
    }

    #[test]
    fn the_newest_of_a_bucket_stands_for_it() {
        let mut all = Exemplars::default();
        // Two workers, whose notes come in any order.
        let (mut one, mut other) = (RecentExemplars::default(), RecentExemplars::default());
        one.record(&info(700, 1_001));
        one.record(&info(600, 1_003));
        other.record(&info(800, 1_002));
        other.record(&info(20_000, 1_004));
        all.absorb(&mut one);
        all.absorb(&mut other);
        let key = SeriesKey::of(&info(1, 1));
        let found = |bucket| all.get(MetricSlot::UNKNOWN, key, bucket);
        let newest = found(1).expect("two fell into it");
        assert_eq!((newest.value_us, newest.unix_ms), (600, 1_003));
        assert_eq!(newest.trace_id, [1_003u64 as u8; 16]);
        assert_eq!(found(4).map(|exemplar| exemplar.value_us), Some(20_000));
        assert_eq!(found(0), None);
        let other_code = SeriesKey::of(&StreamInfo::new(Instant::now(), 0));
        assert_eq!(all.get(MetricSlot::UNKNOWN, other_code, 1), None);
        assert!(one.newest.is_empty());
    }

    #[test]
    fn a_worker_keeps_a_bounded_number_and_the_newest() {
        let mut recent = RecentExemplars::default();
        for number in 1..=2 * EXEMPLARS_MAX as u64 + 1 {
            recent.record(&info(600, 1_000 + number));
        }
        assert_eq!(recent.newest.len(), EXEMPLARS_MAX);
        let mut all = Exemplars::default();
        all.absorb(&mut recent);
        let newest = all.get(MetricSlot::UNKNOWN, SeriesKey::of(&info(1, 1)), 1);
        let last = 1_001 + 2 * EXEMPLARS_MAX as u64;
        assert_eq!(newest.map(|exemplar| exemplar.unix_ms), Some(last));
    }
}
