//! `%START_TIME%`: RFC 3339 in UTC with milliseconds, without a call into the system.

/// The last millisecond of the year 9999.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;
const TEXT_BYTES: usize = 24;

/// Append `2026-11-24T12:00:00.000Z`. `unix_us`: microseconds since the Unix epoch; years beyond
/// 9999 show as 9999.
pub fn append(out: &mut Vec<u8>, unix_us: u64) {
    let unix_ms = (unix_us / 1000).min(UNIX_MS_MAX);
    out.extend_from_slice(&text(unix_ms));
}

/// The text of the second that was written last: nearly all times are of the same one.
#[derive(Clone, Debug)]
pub struct TimestampCache {
    unix_second: u64,
    text: [u8; TEXT_BYTES],
}

impl Default for TimestampCache {
    fn default() -> Self {
        TimestampCache { unix_second: 0, text: text(0) }
    }
}

impl TimestampCache {
    /// As [`append`].
    #[inline]
    pub fn append(&mut self, out: &mut Vec<u8>, unix_us: u64) {
        let unix_ms = (unix_us / 1000).min(UNIX_MS_MAX);
        let (second, ms) = (unix_ms / 1000, (unix_ms % 1000) as u32);
        if second != self.unix_second {
            self.unix_second = second;
            self.text = text(unix_ms);
        }
        digits(&mut self.text[20..23], ms);
        out.extend_from_slice(&self.text);
    }
}

fn text(unix_ms: u64) -> [u8; TEXT_BYTES] {
    let (seconds, ms) = (unix_ms / 1000, (unix_ms % 1000) as u32);
    let (days, second_of_day) = ((seconds / 86_400) as u32, (seconds % 86_400) as u32);
    let (year, month, day) = civil(days);

    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second_of_day / 3600);
    digits(&mut text[14..16], second_of_day / 60 % 60);
    digits(&mut text[17..19], second_of_day % 60);
    digits(&mut text[20..23], ms);
    text
}

#[inline]
fn digits(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the day that comes `days` after 1970-01-01, in the Gregorian calendar.
pub fn civil(days: u32) -> (u32, u32, u32) {
    // Count from 0000-03-01: then the leap day is the last day of a year, and months have the
    // lengths 31, 30, 31, 30, 31 repeating, which (153 m + 2) / 5 gives without a table.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn text(unix_us: u64) -> String {
        let mut out = Vec::new();
        append(&mut out, unix_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_cache_changes_nothing() {
        let mut cache = TimestampCache::default();
        let base = 1_795_521_600_000_000;
        for unix_us in [base, base + 999_999, base + 1_000_000, base - 1, 0, u64::MAX, base] {
            let mut out = Vec::new();
            cache.append(&mut out, unix_us);
            assert_eq!(String::from_utf8(out).unwrap(), text(unix_us));
        }
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_123_999), "2000-02-29T00:00:00.123Z");
        assert_eq!(text(1_795_521_600_000_000), "2026-11-24T12:00:00.000Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        /// The same date as the `httpdate` crate finds.
        #[test]
        fn agrees_with_httpdate(seconds in 0u64..253_402_300_800) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let ours = text(seconds * 1_000_000);
            let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = months.find(&http[8..11]).unwrap() / 3 + 1;
            let (year, day, time) = (&http[12..16], &http[5..7], &http[17..25]);
            let expected = format!("{year}-{month:02}-{day}T{time}.000Z");
            prop_assert_eq!(ours, expected);
        }
    }
}
