//! What is logged: as the command line says, and as Telemetry resources say over it.

use super::filter::Filter;
use super::format::AccessLogFormat;

/// A whole, in the millionths that shares are written in.
const PPM: u32 = 1_000_000;

/// What the command line says, for the life of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// The form of the lines.
    pub format: AccessLogFormat,
    /// Are requests logged when no Telemetry resource says anything about it?
    pub on: bool,
    /// Which requests, unless a Telemetry resource has a filter of its own; none: all.
    pub filter: Option<Filter>,
    /// Of a million requests that would be logged, how many are.
    pub sample_ppm: u32,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        AccessLogFormat::default().into()
    }
}

impl From<AccessLogFormat> for AccessLogSettings {
    /// All requests, in this format.
    fn from(format: AccessLogFormat) -> AccessLogSettings {
        AccessLogSettings { format, on: true, filter: None, sample_ppm: PPM }
    }
}

/// Whether Telemetry resources have the access log on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSwitch {
    /// They do not say: as the command line has it.
    #[default]
    Unset,
    /// They name a provider that is served here.
    On,
    /// They disable it, or name other providers only.
    Off,
}

/// What the Telemetry resources of this gateway say (`accessLogging`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogPolicy {
    /// On or off.
    pub switch: LogSwitch,
    /// `filter.expression`; none: as the command line has it.
    pub filter: Option<Filter>,
}

impl AccessLogSettings {
    /// Are requests logged under this policy?
    #[inline]
    pub(super) fn is_on(&self, policy: &AccessLogPolicy) -> bool {
        match policy.switch {
            LogSwitch::Unset => self.on,
            LogSwitch::On => true,
            LogSwitch::Off => false,
        }
    }

    /// The filter in force under this policy.
    #[inline]
    pub(super) fn filter<'a>(&'a self, policy: &'a AccessLogPolicy) -> Option<&'a Filter> {
        policy.filter.as_ref().or(self.filter.as_ref())
    }

    /// Is every request that passes the filter logged?
    #[inline]
    pub(super) fn takes_all(&self) -> bool {
        self.sample_ppm >= PPM
    }
}
