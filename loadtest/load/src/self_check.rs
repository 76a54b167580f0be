//! `self-check`: the measured proof that the tool says the truth on this machine.
//!
//! First a server that stalls for 100 ms in every second, whose percentiles can be computed by hand; then a
//! series of rates against a server that does nothing but answer.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crate::machine;
use crate::options::SelfCheckOptions;
use crate::plan::{Circumstances, Plan};
use crate::profile::Profile;
use crate::record::Measure;
use crate::responder::{self, Responder};
use crate::result::RunResult;
use crate::run::{self, Setting};
use crate::runtime::{Driver, DriverChoice};
use crate::schedule::Rate;
use crate::settings::Settings;
use crate::target::Target;
use crate::units::{show_count, show_nanos};

/// Part of every second in which the stalling server answers nothing.
const STALL: Duration = Duration::from_millis(100);
/// Rate against it: low, so that its backlog after a stall is gone at once.
const STALL_RATE: f64 = 1000.0;
/// Connections against it: enough for all requests of a stall.
const STALL_CONNECTIONS: u32 = 200;
/// What the percentiles may differ from what is computed.
const TOLERANCE: f64 = 0.02;
/// What a rate may differ from what was asked for.
const RATE_TOLERANCE: f64 = 0.01;
/// Time before each run counts.
const WARMUP: Duration = Duration::from_secs(1);
/// How much longer a responder lives than its run.
const SPARE: Duration = Duration::from_secs(8);

/// Runs both parts; whether all was as it should be. The error is in words.
pub(crate) fn run(
    options: &SelfCheckOptions,
    interrupted: &'static AtomicBool,
) -> Result<bool, String> {
    let cores = machine::cores();
    println!(
        "self-check on {} core{}: the server on {}, the generator on {}",
        cores.len(),
        if cores.len() == 1 { "" } else { "s" },
        cores.first().map_or_else(|| "any".to_owned(), usize::to_string),
        cores.get(1).or(cores.first()).map_or_else(|| "any".to_owned(), usize::to_string),
    );
    let check = Check { cores, interrupted };
    let stall = check.stall(options.duration)?;
    let rates = check.rates(options)?;
    println!("{}", if stall && rates { "all as it should be" } else { "NOT all as it should be" });
    Ok(stall && rates)
}

struct Check {
    cores: Vec<usize>,
    interrupted: &'static AtomicBool,
}

impl Check {
    /// A run against a responder on the first core.
    fn against(
        &self,
        stall: Option<Duration>,
        rate: Option<Rate>,
        connections: u32,
        duration: Duration,
    ) -> Result<RunResult, String> {
        let words = |error: &dyn std::error::Error| error.to_string();
        let driver = Driver::choose(DriverChoice::Auto).map_err(|error| words(&error))?;
        let listener = responder::listen(0).map_err(|error| words(&error))?;
        let address = listener.local_addr().map_err(|error| words(&error))?;
        let responder = Responder { body: 100, stall, lifetime: WARMUP + duration + SPARE };
        let core = self.cores.first().copied();
        // It ends with its lifetime, or with the process.
        thread::Builder::new()
            .name("responder".to_owned())
            .spawn(move || {
                if let Some(id) = core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                responder::serve(listener, driver, responder)
            })
            .map_err(|error| words(&error))?;
        let settings = Settings {
            target: Target::parse(&format!("http://{address}/")).ok(),
            rate: rate.map(Profile::Constant),
            connections: Some(connections),
            duration: Some(duration),
            warmup: Some(WARMUP),
            ..Settings::default()
        };
        let plan = Plan::new(settings, Circumstances::default()).map_err(|error| words(&error))?;
        let setting = Setting {
            driver: DriverChoice::Auto,
            cores: self.cores.get(1).or(self.cores.first()).copied().into_iter().collect(),
            quiet: true,
            label: "self-check".to_owned(),
            command: Vec::new(),
            interrupted: self.interrupted,
        };
        run::run(plan, &setting).map(|outcome| outcome.result).map_err(|error| words(&error))
    }

    /// The latency of a request that is due `x` into the stall is `STALL - x`: a tenth of all wait, evenly
    /// spread.
    fn stall(&self, duration: Duration) -> Result<bool, String> {
        // Whole seconds hold whole stalls.
        let duration = Duration::from_secs(duration.as_secs().max(1));
        println!(
            "\na server that stalls {} ms of each second, {STALL_RATE} requests/s for {} s:",
            STALL.as_millis(),
            duration.as_secs()
        );
        let rate = Rate::per_second(STALL_RATE);
        let run = self.against(Some(STALL), rate, STALL_CONNECTIONS, duration)?;
        let latency = run.times(Measure::Latency).ok_or("nothing was measured")?;
        println!("  {:<8}{:>12}{:>12}{:>12}", "", "computed", "measured", "difference");
        let mut good = true;
        for percentile in [99.0, 99.9] {
            let part_of_stalled = 1.0 - (100.0 - percentile) / 100.0 / STALL.as_secs_f64();
            let expected = STALL.as_nanos() as f64 * part_of_stalled;
            let measured = latency.at(percentile) as f64;
            let difference = measured / expected - 1.0;
            good &= difference.abs() <= TOLERANCE;
            println!(
                "  {:<8}{:>12}{:>12}{:>10.2} %",
                format!("p{percentile}"),
                show_nanos(expected as u64),
                latency.shown(percentile),
                difference * 100.0
            );
        }
        let service = self.uncorrected(duration)?;
        println!(
            "  for comparison, a closed loop of one connection sees p99 {} and p99.9 {}",
            service.0, service.1
        );
        Ok(good)
    }

    /// What a tool without the correction tells of the same server.
    fn uncorrected(&self, duration: Duration) -> Result<(String, String), String> {
        let run = self.against(Some(STALL), None, 1, duration)?;
        let latency = run.times(Measure::Latency).ok_or("nothing was measured")?;
        Ok((latency.shown(99.0), latency.shown(99.9)))
    }

    fn rates(&self, options: &SelfCheckOptions) -> Result<bool, String> {
        println!("\nrates over 64 connections:");
        println!(
            "  {:>10}{:>13}{:>12}{:>9}{:>12}{:>12}{:>12}{:>12}",
            "asked/s", "completed/s", "difference", "busy", "late p50", "late p99", "p50", "p99"
        );
        let mut good = true;
        let top = options.top.as_f64();
        let series = [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0];
        for rate in series.into_iter().filter(|rate| *rate < top).chain([top]) {
            let run = self.against(None, Rate::per_second(rate), 64, options.duration)?;
            let difference = run.completed_rate / rate - 1.0;
            good &= difference.abs() <= RATE_TOLERANCE && run.counts.all_failed() == 0;
            let at = |measure, percentile| {
                run.times(measure).map_or_else(String::new, |times| times.shown(percentile))
            };
            let busy = run.workers.first().map_or(0.0, |worker| worker.busy);
            println!(
                "  {:>10}{:>13.1}{:>10.2} %{:>7.0} %{:>12}{:>12}{:>12}{:>12}",
                show_count(rate as u64),
                run.completed_rate,
                difference * 100.0,
                busy * 100.0,
                at(Measure::Lateness, 50.0),
                at(Measure::Lateness, 99.0),
                at(Measure::Latency, 50.0),
                at(Measure::Latency, 99.0),
            );
            if difference < -RATE_TOLERANCE && busy < 0.9 {
                println!("    the generator had time left: the server, or its core, was the limit");
            }
        }
        Ok(good)
    }
}
