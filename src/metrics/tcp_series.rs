//! Istio's standard TCP series: connections and their bytes under one label set, by response flags.

use crate::ids::MetricSlot;
use crate::stream_info::ResponseFlags;

/// Everything counted under one label set and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSeries {
    /// `istio_tcp_connections_opened_total`.
    pub opened: u64,
    /// `istio_tcp_connections_closed_total`.
    pub closed: u64,
    /// `istio_tcp_received_bytes_total`: from clients.
    pub received_bytes: u64,
    /// `istio_tcp_sent_bytes_total`: to clients.
    pub sent_bytes: u64,
}

impl TcpSeries {
    /// Add the counts of `other`.
    pub(super) fn add(&mut self, other: &TcpSeries) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
    }

    fn is_zero(&self) -> bool {
        *self == TcpSeries::default()
    }
}

/// The series of all slots, with a list of those that changed since the last
/// [`TcpSeriesTable::drain_into`]. Flags are the gateway's own words, so that a slot has a handful.
#[derive(Clone, Debug, Default)]
pub struct TcpSeriesTable {
    slots: Vec<Vec<(ResponseFlags, TcpSeries)>>,
    changed: Vec<(u32, u32)>,
}

impl TcpSeriesTable {
    /// Add `counts` to the series of `slot` and `flags`. Allocates only for a series never seen here.
    #[inline]
    pub fn add(&mut self, slot: MetricSlot, flags: ResponseFlags, counts: &TcpSeries) {
        if counts.is_zero() {
            return;
        }
        let slot = slot.index();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        let entry = &mut self.slots[slot];
        let index = match entry.iter().position(|(other, _)| *other == flags) {
            Some(index) => index,
            None => {
                entry.push((flags, TcpSeries::default()));
                entry.len() - 1
            }
        };
        let series = &mut entry[index].1;
        if series.is_zero() {
            self.changed.push((slot as u32, index as u32));
        }
        series.add(counts);
    }

    /// Add all counts to `total` and set them to zero here; the memory of the series stays.
    pub fn drain_into(&mut self, total: &mut TcpSeriesTable) {
        for (slot, index) in self.changed.drain(..) {
            let (flags, series) = &mut self.slots[slot as usize][index as usize];
            total.add(MetricSlot(slot), *flags, series);
            *series = TcpSeries::default();
        }
    }

    /// Every series that counted something.
    pub fn iter(&self) -> impl Iterator<Item = (MetricSlot, ResponseFlags, &TcpSeries)> {
        self.slots.iter().enumerate().flat_map(|(slot, entry)| {
            entry
                .iter()
                .filter(|(_, series)| !series.is_zero())
                .map(move |(flags, series)| (MetricSlot(slot as u32), *flags, series))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_hand_overs_and_keep_their_flags() {
        let (mut table, mut total) = (TcpSeriesTable::default(), TcpSeriesTable::default());
        let opened = TcpSeries { opened: 1, ..TcpSeries::default() };
        let bytes = TcpSeries { received_bytes: 10, sent_bytes: 20, ..TcpSeries::default() };
        let closed = TcpSeries { closed: 1, ..TcpSeries::default() };
        for _ in 0..2 {
            table.add(MetricSlot(2), ResponseFlags::NONE, &opened);
            table.add(MetricSlot(2), ResponseFlags::NONE, &bytes);
            table.drain_into(&mut total);
            assert_eq!(table.iter().count(), 0);
            table.add(MetricSlot(2), ResponseFlags::NONE, &bytes);
            table.add(MetricSlot(2), ResponseFlags::NO_HEALTHY_UPSTREAM, &closed);
            table.add(MetricSlot(0), ResponseFlags::NONE, &TcpSeries::default());
            table.drain_into(&mut total);
        }
        let all: Vec<_> =
            total.iter().map(|(slot, flags, series)| (slot.0, flags, *series)).collect();
        let quiet = TcpSeries { opened: 2, closed: 0, received_bytes: 40, sent_bytes: 80 };
        let refused = TcpSeries { closed: 2, ..TcpSeries::default() };
        assert_eq!(
            all,
            [(2, ResponseFlags::NONE, quiet), (2, ResponseFlags::NO_HEALTHY_UPSTREAM, refused)]
        );
        assert_eq!(table.slots[2].len(), 2, "the memory of the series stays");
    }
}
