//! Times as people write and read them.

use std::time::Duration;

/// The longest time that is taken anywhere.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// `250ms`, `30s`, `2m`, `1h`, with a fraction if wanted; a number alone counts seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("\"{other}\" is no unit of time: us, ms, s, m or h")),
    };
    let number: f64 = digits
        .trim_end()
        .parse()
        .map_err(|_| format!("\"{text}\" is no time such as 250ms, 30s or 2m"))?;
    let seconds = number * unit;
    if !(0.0..=DURATION_MAX.as_secs_f64()).contains(&seconds) {
        return Err(format!("{text} is not between 0 and 24h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A time with three significant digits and its unit: `873 µs`, `1.25 ms`, `2.00 s`.
pub(crate) fn show_nanos(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// A number with its thousands set apart.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("30s", 30_000), ("1.5 m", 90_000), ("2h", 7_200_000), ("3", 3000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "5 days", "25h", "NaN", "infs", "1e99s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_to_be_read() {
        let shown = [950, 873_400, 1_250_000, 12_340_000, 2_000_000_000].map(show_nanos);
        assert_eq!(shown, ["0.95 µs", "873 µs", "1.25 ms", "12.3 ms", "2.00 s"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(show_count), ["0", "999", "1,000", "1,234,567"]);
    }
}
