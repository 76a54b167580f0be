//! The protobuf-JSON forms of scalars.

use std::fmt;
use std::time::Duration as StdDuration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// `google.protobuf.Duration` as Go and Istio write it: `1.5s`, `10ms`, `1h2m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub StdDuration);

impl From<Duration> for StdDuration {
    fn from(duration: Duration) -> StdDuration {
        duration.0
    }
}

/// Read a duration; `None` when the text is none.
pub fn parse_duration(text: &str) -> Option<StdDuration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(StdDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    // Whole nanoseconds, so that 0.1s is what it says.
    let nanoseconds = (total * 1e9).round();
    (0.0..=9.2e18).contains(&nanoseconds).then(|| StdDuration::from_nanos(nanoseconds as u64))
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 1.5s, 10ms or 1h2m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                match parse_duration(text) {
                    Some(duration) => Ok(Duration(duration)),
                    None => Err(E::custom(format!(
                        "`{text}` is not a duration such as 1.5s, 10ms or 1h2m"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// `Percent`: 0 to 100, fractions allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Percent {
    /// The number.
    pub value: f64,
}

/// A port number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOrName {
    /// A number.
    Port(u16),
    /// A name.
    Name(String),
}

impl<'de> Deserialize<'de> for PortOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = PortOrName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or name")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortOrName, E> {
                match u16::try_from(number) {
                    Ok(port) if port > 0 => Ok(PortOrName::Port(port)),
                    _ => Err(E::custom(format!("{number} is not a port (1 to 65535)"))),
                }
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<PortOrName, E> {
                Ok(PortOrName::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("1.5s", 1500), ("10ms", 10), ("1h2m", 3_720_000), ("0s", 0), ("0.1s", 100), ("0", 0)]
        {
            assert_eq!(
                parse_duration(text),
                Some(StdDuration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "5", "s", "1x", "-1s", "1s2", "1.2.3s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
