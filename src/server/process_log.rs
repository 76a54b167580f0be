//! The process log: structured events on standard error, of which `RUST_LOG` and later `/logging` choose.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::admin::ProcessLog;
use crate::cli::options::ProcessLogFormat;

/// What is logged when nobody says.
const DEFAULT_DIRECTIVES: &str = "info";
/// The variable that says what is logged.
const VARIABLE: &str = "RUST_LOG";

/// A way to replace the filter.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The log while it runs.
pub(super) struct RunningLog {
    directives: Mutex<String>,
    replace: Replace,
}

/// Start it. A variable that cannot be understood is told, and the default holds.
pub(super) fn start(format: ProcessLogFormat) -> RunningLog {
    let (directives, mistake) = match std::env::var(VARIABLE) {
        Ok(text) if text.trim().is_empty() => (DEFAULT_DIRECTIVES.to_owned(), None),
        Ok(text) => match filter(&text) {
            Ok(_) => (text, None),
            Err(error) => (DEFAULT_DIRECTIVES.to_owned(), Some(error)),
        },
        Err(std::env::VarError::NotPresent) => (DEFAULT_DIRECTIVES.to_owned(), None),
        Err(std::env::VarError::NotUnicode(_)) => {
            (DEFAULT_DIRECTIVES.to_owned(), Some("it is no UTF-8".to_owned()))
        }
    };
    let filter = EnvFilter::builder().parse_lossy(&directives);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    // Another subscriber is there only when the library is embedded: then that one is right, and
    // replacing our filter fails with a word about it.
    let replace: Replace = match format {
        ProcessLogFormat::Text => {
            let builder = builder.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.finish().try_init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        ProcessLogFormat::Json => {
            let builder = builder.with_target(true).json().flatten_event(true);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.finish().try_init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    if let Some(mistake) = mistake {
        tracing::warn!(
            "{VARIABLE} cannot be understood ({mistake}); `{DEFAULT_DIRECTIVES}` holds. Write a level \
             (error, warn, info, debug, trace, off), or a list such as info,ringress::control=debug"
        );
    }
    RunningLog { directives: Mutex::new(directives), replace }
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

impl ProcessLog for RunningLog {
    fn directives(&self) -> String {
        self.directives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, directives: &str) -> Result<(), String> {
        let mut held = self.directives.lock().unwrap_or_else(PoisonError::into_inner);
        (self.replace)(filter(directives)?)?;
        directives.clone_into(&mut held);
        Ok(())
    }
}
