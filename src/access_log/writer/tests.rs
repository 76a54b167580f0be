use super::*;
use crate::access_log::{AccessLogFormat, AccessLogPolicy, LineContext, RequestFields};
use crate::stream_info::StreamInfo;

const LONG: Duration = Duration::from_secs(60);

fn log(sink: &mut AccessLogSink, name: &str) {
    let info = StreamInfo::new(Instant::now(), 0);
    let context = LineContext { route_name: name, ..LineContext::default() };
    sink.record(&AccessLogPolicy::default(), &info, &RequestFields::new(), &context);
}

fn start(output: &Path) -> (AccessLogWriter, Arc<ControlStats>) {
    let control = Arc::new(ControlStats::default());
    let output = AccessLogOutput::from_path(output);
    let writer =
        AccessLogWriter::start(output, AccessLogFormat::Text.into(), Arc::clone(&control)).unwrap();
    (writer, control)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn lines_of_many_workers_reach_the_file_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    std::fs::write(&path, "before\n").unwrap();
    let (writer, control) = start(&path);
    let dropped: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let mut sink = writer.handle().sink();
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        log(&mut sink, &format!("route{worker}"));
                    }
                    sink.flush();
                    sink.take_dropped()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(writer.shutdown(LONG));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("before"), "the file is appended to");
    let count = lines
        .inspect(|line| {
            assert!(line.starts_with("[1970-") && line[..line.len() - 1].ends_with("route"))
        })
        .count() as u64;
    assert_eq!(count, control.access_log_written.load(Ordering::Relaxed));
    assert_eq!(count + dropped + control.access_log_lost.load(Ordering::Relaxed), 8_000);
}

#[test]
fn a_rotated_file_is_followed_and_reopened_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let (writer, control) = start(&path);
    let handle = writer.handle();
    let mut sink = handle.sink();
    log(&mut sink, "one");
    sink.flush();
    wait_until("the first line", || control.access_log_written.load(Ordering::Relaxed) == 1);

    let old = directory.path().join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    handle.reopen();
    wait_until("reopening", || path.exists());
    log(&mut sink, "two");
    sink.flush();
    wait_until("the second line", || control.access_log_written.load(Ordering::Relaxed) == 2);
    assert!(std::fs::read_to_string(&old).unwrap().ends_with(" one\n"));

    // Nobody asks: the writer notices by itself.
    std::fs::rename(&path, &old).unwrap();
    wait_until("following the rotation", || path.exists());
    log(&mut sink, "three");
    drop(sink);
    assert!(writer.shutdown(LONG));
    assert!(std::fs::read_to_string(&old).unwrap().ends_with(" two\n"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(" three\n") && text.lines().count() == 1);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let (writer, control) = start(Path::new("/dev/full"));
    let mut sink = writer.handle().sink();
    for expected in 1..=3 {
        log(&mut sink, "lost");
        sink.flush();
        wait_until("the failure", || control.access_log_lost.load(Ordering::Relaxed) == expected);
    }
    assert!(writer.shutdown(LONG));
    assert_eq!(control.access_log_errors.load(Ordering::Relaxed), 3);
    assert_eq!(control.access_log_written.load(Ordering::Relaxed), 0);
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let (writer, control) = start(&path);
    let handle = writer.handle();
    let mut sink = handle.sink();
    // More than the pipe, the queue and the buffer hold.
    let mut logged = 0u64;
    let dropped = loop {
        log(&mut sink, "line");
        logged += 1;
        let dropped = sink.take_dropped();
        if dropped > 0 {
            break dropped;
        }
        assert!(logged < 10_000_000, "lines are dropped in the end");
    };
    handle.reopen();
    drop(sink);
    assert!(writer.shutdown(LONG), "the writer ends although nobody reads");
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let lost = count(&control.access_log_lost);
    assert_eq!(count(&control.access_log_written) + dropped + lost, logged);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let output = AccessLogOutput::from_path(Path::new("/nonexistent/access.log"));
    let error =
        AccessLogWriter::start(output, AccessLogFormat::Text.into(), Arc::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/access.log"), "{error}");
    for path in ["/dev/stdout", "-"] {
        assert_eq!(AccessLogOutput::from_path(Path::new(path)), AccessLogOutput::Stdout);
    }
}

/// Takes so many bytes, then fails.
struct Limited {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.room).min(3);
        self.room -= count;
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_torn_line_spoils_no_other() {
    let stop = AtomicBool::new(false);
    let mut output = Limited { bytes: Vec::new(), room: 7 };
    let mut torn = false;
    let (written, result) = append(&mut output, b"one\ntwo\nsix\n", &mut torn, &stop);
    assert_eq!((written, torn), (7, true));
    assert!(result.is_err());
    assert!(append(&mut output, b"ten\n", &mut torn, &stop).1.is_err());
    assert!(torn);
    output.room = 100;
    let (written, result) = append(&mut output, b"ten\n", &mut torn, &stop);
    assert!(result.is_ok());
    assert_eq!((written, torn), (4, false));
    assert_eq!(output.bytes, b"one\ntwo\nten\n");
}
