//! Istio's standard HTTP series: what is counted under one label set, by code, flags and protocol.

use crate::ids::MetricSlot;
use crate::limits::SERIES_PER_SLOT_MAX;
use crate::stream_info::{ResponseFlags, StreamInfo};

use super::buckets::{BUCKETS, BYTES, DURATION_US};

/// Highest `grpc-status` that has a meaning; others count as [`GRPC_UNKNOWN`], so that an upstream
/// cannot invent series.
const GRPC_STATUS_MAX: u8 = 16;
const GRPC_UNKNOWN: u8 = 2;

/// Code, flags, protocol and gRPC status in one integer, so that telling series apart is one
/// comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey(u64);

impl SeriesKey {
    /// The key of a request.
    #[inline]
    pub fn of(info: &StreamInfo) -> SeriesKey {
        // 0: not gRPC; 1: gRPC without a status; 2 + status otherwise.
        let grpc = match (info.grpc, info.grpc_status) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(status)) if status <= GRPC_STATUS_MAX => 2 + u64::from(status),
            (true, Some(_)) => 2 + u64::from(GRPC_UNKNOWN),
        };
        SeriesKey(u64::from(info.response_code) | u64::from(info.flags.0) << 16 | grpc << 48)
    }

    /// Status sent to the client, 0 when none was.
    pub fn response_code(self) -> u16 {
        self.0 as u16
    }

    /// The response flags.
    pub fn flags(self) -> ResponseFlags {
        ResponseFlags((self.0 >> 16) as u32)
    }

    /// Was it gRPC?
    pub fn is_grpc(self) -> bool {
        self.0 >> 48 != 0
    }

    /// `grpc-status`, 0..=16, of a gRPC request that had one.
    pub fn grpc_status(self) -> Option<u8> {
        (self.0 >> 48).checked_sub(2).map(|status| status as u8)
    }
}

/// Counts of one bucketed quantity. Its `_count` is the number of requests of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Values per bucket, not cumulative; see [`super::buckets`].
    pub counts: [u64; BUCKETS],
    /// Sum of the values (microseconds or bytes).
    pub sum: u64,
}

impl Buckets {
    #[inline]
    fn record(&mut self, index: usize, value: u64) {
        self.counts[index] += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    pub(super) fn add(&mut self, other: &Buckets) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Everything counted under one label set and key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// `istio_requests_total`, and the count of each histogram.
    pub requests: u64,
    /// `istio_request_duration_milliseconds`, in microseconds.
    pub duration_us: Buckets,
    /// `istio_request_bytes`.
    pub request_bytes: Buckets,
    /// `istio_response_bytes`.
    pub response_bytes: Buckets,
    /// `istio_request_messages_total`.
    pub request_messages: u64,
    /// `istio_response_messages_total`.
    pub response_messages: u64,
}

impl Series {
    /// Add the counts of `other`.
    pub(super) fn add(&mut self, other: &Series) {
        self.requests += other.requests;
        self.duration_us.add(&other.duration_us);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
    }
}

/// The series of one slot. A handful in practice; the one used last is looked at first.
#[derive(Clone, Debug, Default)]
struct SlotSeries {
    last: usize,
    keys: Vec<SeriesKey>,
    series: Vec<Series>,
}

impl SlotSeries {
    /// Index of the series of `key`, created unless there are `max` already.
    #[inline]
    fn index_of(&mut self, key: SeriesKey, max: usize) -> Option<usize> {
        if self.keys.get(self.last) == Some(&key) {
            return Some(self.last);
        }
        self.index_of_other(key, max)
    }

    fn index_of_other(&mut self, key: SeriesKey, max: usize) -> Option<usize> {
        let index = match self.keys.iter().position(|other| *other == key) {
            Some(index) => index,
            None if self.keys.len() < max => {
                self.keys.push(key);
                self.series.push(Series::default());
                self.keys.len() - 1
            }
            None => return None,
        };
        self.last = index;
        Some(index)
    }
}

/// The series of all slots, with a list of those that changed since the last
/// [`SeriesTable::drain_into`].
#[derive(Clone, Debug, Default)]
pub struct SeriesTable {
    slots: Vec<SlotSeries>,
    changed: Vec<(u32, u32)>,
}

impl SeriesTable {
    /// Count one request. False when its slot has [`SERIES_PER_SLOT_MAX`] other series. Allocates
    /// only for a series never seen here.
    #[inline]
    pub fn record(&mut self, info: &StreamInfo) -> bool {
        let slot = info.metric_slot.index();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, SlotSeries::default);
        }
        let entry = &mut self.slots[slot];
        let Some(index) = entry.index_of(SeriesKey::of(info), SERIES_PER_SLOT_MAX) else {
            return false;
        };
        let series = &mut entry.series[index];
        if series.requests == 0 {
            self.changed.push((slot as u32, index as u32));
        }
        series.requests += 1;
        series.duration_us.record(DURATION_US.index(info.duration_us), info.duration_us);
        series.request_bytes.record(BYTES.index(info.request_bytes), info.request_bytes);
        series.response_bytes.record(BYTES.index(info.response_bytes), info.response_bytes);
        series.request_messages += info.request_messages;
        series.response_messages += info.response_messages;
        true
    }

    /// Add all counts to `total` and set them to zero here; the memory of the series stays.
    pub fn drain_into(&mut self, total: &mut SeriesTable) {
        for (slot, index) in self.changed.drain(..) {
            let (slot, index) = (slot as usize, index as usize);
            let source = &mut self.slots[slot];
            let key = source.keys[index];
            if slot >= total.slots.len() {
                total.slots.resize_with(slot + 1, SlotSeries::default);
            }
            let target = &mut total.slots[slot];
            if let Some(position) = target.index_of(key, usize::MAX) {
                target.series[position].add(&source.series[index]);
            }
            source.series[index] = Series::default();
        }
    }

    /// Every series that counted at least one request.
    pub fn iter(&self) -> impl Iterator<Item = (MetricSlot, SeriesKey, &Series)> {
        self.slots.iter().enumerate().flat_map(|(slot, entry)| {
            entry
                .keys
                .iter()
                .zip(&entry.series)
                .filter(|(_, series)| series.requests > 0)
                .map(move |(key, series)| (MetricSlot(slot as u32), *key, series))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn info(code: u16) -> StreamInfo {
        let mut info = StreamInfo::new(Instant::now(), 0);
        info.response_code = code;
        info
    }

    #[test]
    fn keys_give_back_what_they_were_made_of() {
        let mut record = info(503);
        record.flags = ResponseFlags::OVERLOAD_MANAGER;
        record.flags.insert(ResponseFlags::NO_HEALTHY_UPSTREAM);
        let key = SeriesKey::of(&record);
        assert_eq!((key.response_code(), key.flags()), (503, record.flags));
        assert_eq!((key.is_grpc(), key.grpc_status()), (false, None));
        record.grpc = true;
        assert_eq!(SeriesKey::of(&record).grpc_status(), None);
        assert!(SeriesKey::of(&record).is_grpc());
        for (status, shown) in [(0, 0), (16, 16), (17, 2), (255, 2)] {
            record.grpc_status = Some(status);
            let key = SeriesKey::of(&record);
            assert_eq!(key.grpc_status(), Some(shown));
            assert_eq!((key.response_code(), key.flags()), (503, record.flags));
        }
    }

    #[test]
    fn a_request_lands_in_its_buckets() {
        let mut table = SeriesTable::default();
        let mut record = info(200);
        record.duration_us = 1_500;
        record.request_bytes = 100;
        record.response_bytes = 5_000_000;
        assert!(table.record(&record));
        let (_, _, series) = table.iter().next().unwrap();
        assert_eq!(series.duration_us.counts[2], 1);
        assert_eq!(series.request_bytes.counts[6], 1);
        assert_eq!(series.response_bytes.counts[BUCKETS - 1], 1);
        assert_eq!(series.duration_us.sum, 1_500);
        assert_eq!(series.response_bytes.sum, 5_000_000);
    }

    #[test]
    fn a_slot_holds_a_bounded_number_of_series() {
        let mut table = SeriesTable::default();
        for code in 0..SERIES_PER_SLOT_MAX as u16 {
            assert!(table.record(&info(code)));
        }
        assert!(!table.record(&info(9999)));
        assert!(table.record(&info(0)));
        assert_eq!(table.iter().count(), SERIES_PER_SLOT_MAX);
    }

    #[test]
    fn drained_series_keep_their_memory_and_lose_their_counts() {
        let (mut table, mut total) = (SeriesTable::default(), SeriesTable::default());
        for round in 1..=3u64 {
            table.record(&info(200));
            table.record(&info(404));
            table.drain_into(&mut total);
            assert_eq!(table.iter().count(), 0);
            assert_eq!(table.slots[0].keys.len(), 2);
            assert!(total.iter().all(|(_, _, series)| series.requests == round));
        }
        assert_eq!(total.iter().count(), 2);
    }
}
