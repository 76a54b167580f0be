//! `ringress-load`: an HTTP load tester that takes latency from the moment a request was due.
//!
//! | part | modules |
//! | --- | --- |
//! | what is asked for | [`options`], [`scenario`], [`settings`], [`target`], [`units`], [`plan`], [`effective`] |
//! | what is due when, and who sends it | [`profile`], [`schedule`], [`dispatch`] |
//! | doing it | [`worker`], [`runtime`], [`pace`], [`tls`], [`response`] |
//! | what is recorded | [`failure`], [`record`], [`collect`] |
//! | what it means | [`result`], [`verdict`], [`objective`], [`machine`] |
//! | what is shown and stored | [`progress`], [`summary`], [`hgrm`], [`hlog`], [`chart`], [`page`], [`folder`] |
//! | whole commands | [`run`], [`compare`], [`responder`], [`self_check`], [`interrupt`] |

mod chart;
mod collect;
mod compare;
mod dispatch;
mod effective;
mod failure;
mod folder;
mod hgrm;
mod hlog;
mod interrupt;
mod machine;
mod objective;
mod options;
mod pace;
mod page;
mod plan;
mod profile;
mod progress;
mod record;
mod responder;
mod response;
mod result;
mod run;
mod runtime;
mod scenario;
mod schedule;
mod self_check;
mod settings;
#[cfg(test)]
mod simulation;
mod summary;
mod target;
mod tls;
mod units;
mod verdict;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options, ResponderOptions, RunOptions};
use plan::{Circumstances, Plan};
use responder::Responder;
use runtime::{Driver, DriverChoice};
use settings::Settings;

/// An objective was missed.
const EXIT_MISSED: u8 = 2;
/// The figures are not to be believed: see the findings.
const EXIT_INVALID: u8 = 3;

fn main() -> ExitCode {
    let outcome = match Options::parse().command {
        Command::Run(options) => make_run(&options),
        Command::Responder(options) => respond(&options),
        Command::Compare(options) => {
            compare::run(&options).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::SelfCheck(options) => {
            machine::raise_file_limit();
            self_check::run(&options, interrupt::watch())
                .map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("ringress-load: {message}");
        ExitCode::FAILURE
    })
}

fn make_run(options: &RunOptions) -> Result<ExitCode, String> {
    let (file, text) = match &options.scenario {
        Some(path) => {
            let (settings, text) = scenario::load(path).map_err(|error| error.to_string())?;
            (settings, Some(text))
        }
        None => (Settings::default(), None),
    };
    let circumstances =
        Circumstances { owned: options.i_own_this_target, sources: options.sources.clone() };
    let settings = options.settings(file)?;
    let plan = Plan::new(settings.clone(), circumstances).map_err(|error| error.to_string())?;
    let effective = effective::scenario(&settings, &plan).map_err(|error| error.to_string())?;
    let files = machine::raise_file_limit();
    if u64::from(plan.connections) + 64 > files {
        return Err(format!(
            "{} connections need more open files than the {files} that are allowed: raise the limit \
             (ulimit -n) or take fewer",
            plan.connections
        ));
    }
    let setting = run::Setting {
        driver: options.driver,
        cores: options.cores.clone(),
        quiet: options.quiet,
        label: options.label.clone().unwrap_or_else(|| plan.target.origin()),
        command: std::env::args().collect(),
        interrupted: interrupt::watch(),
    };
    if let Some(out) = &options.out {
        folder::prepare(out).map_err(|error| error.to_string())?;
    }
    let outcome = run::run(plan, &setting).map_err(|error| error.to_string())?;
    if options.json {
        print!("{}", folder::to_json(&outcome.result));
    } else {
        print!("{}", summary::show(&outcome.result));
    }
    if let Some(out) = &options.out {
        let written = folder::write(out, &outcome, text.as_deref(), &effective);
        written.map_err(|error| error.to_string())?;
        eprintln!("written: {}", out.display());
    }
    let missed = options.objectives.iter().filter_map(|one| one.missed(&outcome.result));
    let missed = missed.inspect(|words| eprintln!("{words}")).count();
    Ok(match (outcome.result.is_valid(), missed) {
        (false, _) => ExitCode::from(EXIT_INVALID),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(EXIT_MISSED),
    })
}

fn respond(options: &ResponderOptions) -> Result<ExitCode, String> {
    let listener = responder::listen(options.port)
        .map_err(|error| format!("port {} cannot be opened: {error}", options.port))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let driver = Driver::choose(DriverChoice::Auto).map_err(|error| error.to_string())?;
    if let Some(id) = options.core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    println!("listening on http://{address}/");
    let (body, stall, lifetime) = (options.body, options.stall, options.lifetime);
    responder::serve(listener, driver, Responder { body, stall, lifetime })?;
    Ok(ExitCode::SUCCESS)
}
