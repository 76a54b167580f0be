//! Child processes that never outlive the driver.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// A process in a group of its own, pinned to a core. Dropping it kills the whole group.
pub(crate) struct Pinned {
    child: Child,
    name: String,
    /// Where its messages go.
    log: PathBuf,
    /// Output read beyond the last line asked for.
    unread: Vec<u8>,
}

impl Pinned {
    /// Starts a program on `core` with its messages (and its output, unless it is `talking`) in
    /// `log`. A talking child's output and input are pipes to us.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        core: usize,
        log: &Path,
        talking: bool,
    ) -> Result<Self, String> {
        let explain = |error: io::Error| format!("{name}: cannot be started: {error}");
        let messages = File::create(log).map_err(explain)?;
        if talking {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(messages.try_clone().map_err(explain)?);
        }
        command.stderr(messages);
        // SAFETY: only system calls, no allocation or lock, between fork and exec.
        unsafe {
            command.pre_exec(move || {
                sys::own_group_ending_with_parent()?;
                sys::raise_file_limit();
                sys::pin_to_core(core)
            });
        }
        let child = command.spawn().map_err(explain)?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), unread: Vec::new() })
    }

    /// The process id, also that of its group.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the reason if the process has ended.
    pub(crate) fn still_runs(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// The next line of a talking child's output.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String, String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let Some(output) = &mut self.child.stdout else {
                return Err(format!("{}: its output goes elsewhere", self.name));
            };
            if sys::interrupted() {
                return Err("interrupted".to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{}: said nothing for {patience:?}", self.name));
            }
            let readable = sys::wait_readable(output.as_raw_fd(), left)
                .map_err(|error| format!("{}: {error}", self.name))?;
            if !readable {
                continue;
            }
            let mut buffer = [0; 1024];
            match output.read(&mut buffer) {
                Ok(0) => {
                    let status = self.child.wait().map_err(|error| error.to_string())?;
                    return Err(self.ended(status));
                }
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
    }

    /// Ends a talking child's input, which tells it to finish.
    pub(crate) fn end_input(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.flush();
        }
    }

    fn ended(&self, status: ExitStatus) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => sys::signal_name(signal),
            (None, None) => "an unknown cause".to_owned(),
        };
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        let said = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
        format!("{}: ended with {how}: {said}", self.name)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The leader is reaped only afterwards, so that its number cannot have been given away;
        // if it has ended already its group may still hold workers.
        sys::kill_group(self.child.id());
        let _ = self.child.wait();
    }
}
