//! `ServiceLevelObjective` (ringress.io): what the clients of a host or a route were promised.

use std::fmt;
use std::time::Duration as StdDuration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::scalar::{Duration, parse_duration};

/// Spec of a ServiceLevelObjective.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceLevelObjective {
    /// Requests to this host.
    pub host: Option<String>,
    /// Requests that took this route: its name, `namespace/name` of a VirtualService, or
    /// `namespace/name#route`.
    pub route: Option<String>,
    /// Per cent of requests that are answered, and with less than 500.
    pub availability: Option<f64>,
    /// Per cent of requests that are fast.
    pub latency: Option<LatencyObjective>,
    /// The time that the promise is for.
    pub window: Option<Days>,
}

/// How many requests are how fast.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LatencyObjective {
    /// A request that takes no longer than this is fast.
    pub threshold: Option<Duration>,
    /// Per cent of requests.
    pub target: Option<f64>,
}

/// A duration that may be in days, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub StdDuration);

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Days;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 30d, 12h or 7d")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Days, E> {
                let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
                let days = days.map(|days| StdDuration::from_secs(u64::from(days) * 24 * 60 * 60));
                days.or_else(|| parse_duration(text)).map(Days).ok_or_else(|| {
                    E::custom(format!("`{text}` is not a duration such as 30d, 12h or 7d"))
                })
            }
        }
        deserializer.deserialize_any(Text)
    }
}
