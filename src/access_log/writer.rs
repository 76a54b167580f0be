//! The thread that owns the access log's file. It appends whole buffers, follows a rotated file,
//! and goes on when a write fails.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::limits::ACCESS_LOG_QUEUE_MAX;
use crate::metrics::ControlStats;

use super::ring::{AccessLogSink, Message, recycle};
use super::settings::AccessLogSettings;

/// How often to look whether the file was rotated away.
const ROTATION_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before another try when the output is non-blocking and full.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(5);

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// The standard output.
    Stdout,
    /// This file, appended to, created when missing.
    File(PathBuf),
}

impl AccessLogOutput {
    /// `meshConfig.accessLogFile`: `/dev/stdout` and `-` mean the standard output.
    pub fn from_path(path: &Path) -> AccessLogOutput {
        if path == Path::new("/dev/stdout") || path == Path::new("-") {
            AccessLogOutput::Stdout
        } else {
            AccessLogOutput::File(path.to_owned())
        }
    }

    fn open(&self) -> io::Result<File> {
        match self {
            // A descriptor of our own: the library's handle would buffer once more.
            AccessLogOutput::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            AccessLogOutput::File(path) => open_file(path),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        // Open to be read too, a pipe waits for no reader, and outlives each of them.
        return options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    }
    options.append(true).create(true).open(path)
}

impl std::fmt::Display for AccessLogOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AccessLogOutput::Stdout => f.write_str("the standard output"),
            AccessLogOutput::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the access log could not start.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The output cannot be opened.
    #[error(
        "cannot open the access log {output}: {error}; check that its directory exists and that \
         this user may write there"
    )]
    Open {
        /// Where the lines should go.
        output: AccessLogOutput,
        /// What the system said.
        error: io::Error,
    },
    /// The system gave no thread.
    #[error("cannot start the access log writer: {0}; raise the limit of threads (ulimit -u)")]
    Thread(#[source] io::Error),
}

#[derive(Debug, Default)]
struct Flags {
    stop: AtomicBool,
    reopen: AtomicBool,
}

/// The running writer.
#[derive(Debug)]
pub struct AccessLogWriter {
    handle: AccessLogHandle,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// A way to the writer that can be cloned and sent.
#[derive(Clone, Debug)]
pub struct AccessLogHandle {
    settings: AccessLogSettings,
    sender: SyncSender<Message>,
    flags: Arc<Flags>,
    control: Arc<ControlStats>,
}

impl AccessLogHandle {
    /// A new worker's end.
    pub fn sink(&self) -> AccessLogSink {
        AccessLogSink::new(self.settings.clone(), self.sender.clone(), Arc::clone(&self.control))
    }

    /// Open the file anew (SIGUSR1), after what was handed over before is written.
    pub fn reopen(&self) {
        self.flags.reopen.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // A full queue wakes the writer just as well.
        let _ = self.sender.try_send(Message::Wake);
    }
}

impl AccessLogWriter {
    /// Open the output and start the thread.
    pub fn start(
        output: AccessLogOutput,
        settings: AccessLogSettings,
        control: Arc<ControlStats>,
    ) -> Result<AccessLogWriter, AccessLogError> {
        let file = match output.open() {
            Ok(file) => file,
            Err(error) => return Err(AccessLogError::Open { output, error }),
        };
        let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE_MAX);
        let (ended_sender, ended) = sync_channel(1);
        let flags = Arc::new(Flags::default());
        let state = State {
            output,
            file,
            flags: Arc::clone(&flags),
            control: Arc::clone(&control),
            torn: false,
            failing: false,
            checked: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                state.run(&receiver);
                let _ = ended_sender.send(());
            })
            .map_err(AccessLogError::Thread)?;
        let handle = AccessLogHandle { settings, sender, flags, control };
        Ok(AccessLogWriter { handle, thread, ended })
    }

    /// A way to it.
    pub fn handle(&self) -> AccessLogHandle {
        self.handle.clone()
    }

    /// Write what was handed over and end. False when that took longer than `timeout` (a reader of
    /// the standard output that stopped reading): the thread is left behind then.
    pub fn shutdown(self, timeout: Duration) -> bool {
        self.handle.flags.stop.store(true, Ordering::Release);
        self.handle.wake();
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.thread.join().is_ok(),
        }
    }
}

struct State {
    output: AccessLogOutput,
    file: File,
    flags: Arc<Flags>,
    control: Arc<ControlStats>,
    /// The last write ended within a line.
    torn: bool,
    /// The last write failed; said once, not per buffer.
    failing: bool,
    checked: Instant,
}

impl State {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let stopping = self.flags.stop.load(Ordering::Acquire);
            let message = if stopping {
                receiver.try_recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                receiver.recv_timeout(ROTATION_CHECK_INTERVAL)
            };
            match message {
                Ok(Message::Lines { bytes, lines, home }) => {
                    self.follow_rotation();
                    self.write(&bytes, lines);
                    recycle(bytes, &home);
                }
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => self.follow_rotation(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.flags.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
        }
    }

    /// `logrotate` and the like move the file away: open a new one in its place.
    fn follow_rotation(&mut self) {
        if self.checked.elapsed() < ROTATION_CHECK_INTERVAL {
            return;
        }
        self.checked = Instant::now();
        let AccessLogOutput::File(path) = &self.output else { return };
        let in_place = match (std::fs::metadata(path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            (Err(error), _) if error.kind() == ErrorKind::NotFound => false,
            // Unknown: the file that is open is the best there is.
            _ => true,
        };
        if !in_place {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match self.output.open() {
            Ok(file) => {
                self.file = file;
                self.torn = false;
            }
            Err(error) => {
                self.control.access_log_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "cannot open the access log {} again: {error}; going on with the old file",
                    self.output
                );
            }
        }
    }

    fn write(&mut self, bytes: &[u8], lines: u64) {
        let (written, result) = append(&mut self.file, bytes, &mut self.torn, &self.flags.stop);
        let lost = bytes[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.control.access_log_written.fetch_add(lines.saturating_sub(lost), Ordering::Relaxed);
        self.control.access_log_lost.fetch_add(lost, Ordering::Relaxed);
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log {} can be written again", self.output);
            }
            Ok(()) => {}
            Err(error) => {
                self.control.access_log_errors.fetch_add(1, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::warn!(
                        "cannot write the access log {}: {error}; lines are lost and counted until \
                         it can be written again",
                        self.output
                    );
                }
            }
        }
    }
}

/// Write `bytes`, whole lines, and tell how many got out. `torn`: the output ends within a line; a
/// newline goes first then, so that only that one line is spoilt.
fn append(
    output: &mut impl Write,
    bytes: &[u8],
    torn: &mut bool,
    stop: &AtomicBool,
) -> (usize, io::Result<()>) {
    if *torn {
        match write_some(output, b"\n", stop) {
            Ok(_) => *torn = false,
            Err(error) => return (0, Err(error)),
        }
    }
    let mut written = 0;
    while written < bytes.len() {
        match write_some(output, &bytes[written..], stop) {
            Ok(count) => {
                written += count;
                *torn = bytes[written - 1] != b'\n';
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// One write of at least one byte. A non-blocking output that is full is waited for until `stop`.
fn write_some(output: &mut impl Write, bytes: &[u8], stop: &AtomicBool) -> io::Result<usize> {
    loop {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Acquire) =>
            {
                thread::sleep(WOULD_BLOCK_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
