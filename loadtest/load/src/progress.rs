//! The line that shows how a run gets on, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::result::{Second, show_founded};
use crate::units::{show_count, show_nanos};

/// Width of the bar, letters.
const WIDTH: usize = 24;

/// Shows, or does not.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    total: Duration,
    last: Option<Second>,
    failed: u64,
}

impl Progress {
    /// Of a run of this length; nothing is shown when it is `quiet` or nobody looks.
    pub(crate) fn new(quiet: bool, total: Duration) -> Progress {
        let shown = !quiet && std::io::stderr().is_terminal();
        Progress { shown, total, last: None, failed: 0 }
    }

    /// A second is over.
    pub(crate) fn second(&mut self, second: Second) {
        self.failed += second.failed;
        self.last = Some(second);
    }

    /// Draws the line; `elapsed` with the warm-up.
    pub(crate) fn draw(&self, elapsed: Duration) {
        if self.shown {
            let line = self.line(elapsed);
            let mut out = std::io::stderr().lock();
            // Whether somebody sees it changes nothing.
            let _ = write!(out, "\r{line}\x1b[K");
            let _ = out.flush();
        }
    }

    /// Removes the line.
    pub(crate) fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let part = (elapsed.as_secs_f64() / self.total.as_secs_f64().max(1e-9)).min(1.0);
        let full = (part * WIDTH as f64) as usize;
        let mut line = format!(
            "[{}{}] {:.0}/{:.0} s",
            "#".repeat(full),
            "-".repeat(WIDTH - full),
            elapsed.as_secs_f64().min(self.total.as_secs_f64()),
            self.total.as_secs_f64()
        );
        match &self.last {
            None => line += "  warming up",
            Some(last) => {
                let rate = last.completed as f64 / last.length_seconds.max(1e-9);
                line += &format!(
                    "  {}/s  p50 {}  p99 {}  max {}  failed {}",
                    show_count(rate.round() as u64),
                    show_founded(last.p50, last.p50_founded),
                    show_founded(last.p99, last.p99_founded),
                    show_nanos(last.max),
                    show_count(self.failed)
                );
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_time_rate_and_latency() {
        let mut progress = Progress::new(true, Duration::from_secs(10));
        let line = progress.line(Duration::from_secs(5));
        assert_eq!(line, "[############------------] 5/10 s  warming up");
        progress.second(Second {
            start_seconds: 0.0,
            length_seconds: 1.0,
            completed: 12_345,
            failed: 2,
            samples: 500,
            p50: 250_000,
            p50_founded: true,
            p99: 1_200_000,
            p99_founded: false,
            max: 9_000_000,
        });
        let line = progress.line(Duration::from_secs(20));
        assert!(line.starts_with("[########################] 10/10 s  12,345/s"), "{line}");
        assert!(line.ends_with("p50 250 µs  p99 ~1.20 ms  max 9.00 ms  failed 2"), "{line}");
    }
}
