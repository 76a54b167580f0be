//! The format of `%START_TIME(…)%`: the conversions of strftime that make sense in UTC, and Envoy's `%f`
//! and `%3f` for parts of a second.

use std::io::Write;

use super::timestamp::civil;

/// A format, taken apart when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Year,
    YearOfCentury,
    Month,
    MonthName,
    MonthShort,
    Day,
    DayPadded,
    DayOfYear,
    WeekdayName,
    WeekdayShort,
    Hour,
    Minute,
    Second,
    UnixSeconds,
    /// So many digits of the fraction of the second.
    Fraction(usize),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1970-01-01 was the fifth of them.
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MICROSECONDS: u64 = 1_000_000;
/// The last second of the year 9999.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

impl TimeFormat {
    /// Take a format apart; none when it has a conversion that is not known.
    pub fn parse(format: &str) -> Option<TimeFormat> {
        let mut parts = Vec::new();
        parse_into(format, &mut parts)?;
        Some(TimeFormat(parts.into()))
    }

    /// Append a time, microseconds since the Unix epoch.
    pub fn write(&self, out: &mut Vec<u8>, unix_us: u64) {
        let unix_seconds = (unix_us / MICROSECONDS).min(UNIX_SECONDS_MAX);
        let days = (unix_seconds / 86_400) as u32;
        let second_of_day = unix_seconds % 86_400;
        let (year, month, day) = civil(days);
        let month_name = MONTHS[(month as usize - 1) % 12];
        let weekday = WEEKDAYS[(days as usize + 4) % 7];
        for part in &self.0 {
            // Writing to a vector cannot fail.
            let _ = match part {
                Part::Literal(text) => out.write_all(text.as_bytes()),
                Part::Year => write!(out, "{year:04}"),
                Part::YearOfCentury => write!(out, "{:02}", year % 100),
                Part::Month => write!(out, "{month:02}"),
                Part::MonthName => out.write_all(month_name.as_bytes()),
                Part::MonthShort => out.write_all(&month_name.as_bytes()[..3]),
                Part::Day => write!(out, "{day:02}"),
                Part::DayPadded => write!(out, "{day:2}"),
                Part::DayOfYear => write!(out, "{:03}", day_of_year(year, month, day)),
                Part::WeekdayName => out.write_all(weekday.as_bytes()),
                Part::WeekdayShort => out.write_all(&weekday.as_bytes()[..3]),
                Part::Hour => write!(out, "{:02}", second_of_day / 3600),
                Part::Minute => write!(out, "{:02}", second_of_day / 60 % 60),
                Part::Second => write!(out, "{:02}", second_of_day % 60),
                Part::UnixSeconds => write!(out, "{unix_seconds}"),
                Part::Fraction(digits) => {
                    let at = out.len();
                    write!(out, "{:06}000", unix_us % MICROSECONDS)
                        .map(|()| out.truncate(at + digits))
                }
            };
        }
    }
}

fn parse_into(format: &str, parts: &mut Vec<Part>) -> Option<()> {
    let mut literal = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            literal.push(letter);
            continue;
        }
        let conversion = letters.next()?;
        match conversion {
            '%' => {
                literal.push('%');
                continue;
            }
            'Z' => {
                literal.push_str("UTC");
                continue;
            }
            'z' => {
                literal.push_str("+0000");
                continue;
            }
            _ => {}
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        let part = match conversion {
            'Y' => Part::Year,
            'y' => Part::YearOfCentury,
            'm' => Part::Month,
            'B' => Part::MonthName,
            'b' | 'h' => Part::MonthShort,
            'd' => Part::Day,
            'e' => Part::DayPadded,
            'j' => Part::DayOfYear,
            'A' => Part::WeekdayName,
            'a' => Part::WeekdayShort,
            'H' => Part::Hour,
            'M' => Part::Minute,
            'S' => Part::Second,
            's' => Part::UnixSeconds,
            'f' => Part::Fraction(9),
            digit @ '1'..='9' if letters.next() == Some('f') => {
                Part::Fraction(digit as usize - '0' as usize)
            }
            'F' => {
                parse_into("%Y-%m-%d", parts)?;
                continue;
            }
            'T' => {
                parse_into("%H:%M:%S", parts)?;
                continue;
            }
            'R' => {
                parse_into("%H:%M", parts)?;
                continue;
            }
            'D' => {
                parse_into("%m/%d/%y", parts)?;
                continue;
            }
            _ => return None,
        };
        parts.push(part);
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Some(())
}

fn day_of_year(year: u32, month: u32, day: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Days before the first of each month.
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[(month as usize - 1) % 12] + day + u32::from(leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn text(format: &str, unix_us: u64) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).expect("known").write(&mut out, unix_us);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn conversions() {
        // 2024-02-29T03:04:05.678901Z, a Thursday.
        let at = 1_709_175_845_678_901;
        for (format, expected) in [
            ("%Y-%m-%dT%H:%M:%S.%3fZ", "2024-02-29T03:04:05.678Z"),
            ("%F %T %z %Z", "2024-02-29 03:04:05 +0000 UTC"),
            ("%D %R", "02/29/24 03:04"),
            ("%s.%f %6f %1f", "1709175845.678901000 678901 6"),
            ("%a %A %b %B %h", "Thu Thursday Feb February Feb"),
            ("%e|%j|%y|%%|", "29|060|24|%|"),
            ("", ""),
        ] {
            assert_eq!(text(format, at), expected, "{format}");
        }
        assert_eq!(text("%e %j", 0), " 1 001");
        assert_eq!(text("%F %j", 1_735_603_200_000_000), "2024-12-31 366");
        assert_eq!(text("%F", u64::MAX), "9999-12-31");
        for bad in ["%", "%Q", "%3", "%3d", "%0f", "a%"] {
            assert_eq!(TimeFormat::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        /// The same weekday, month and time as the `httpdate` crate finds.
        #[test]
        fn agrees_with_httpdate(seconds in 0u64..253_402_300_800) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            prop_assert_eq!(text("%a, %d %b %Y %T GMT", seconds * 1_000_000), http);
        }
    }
}
