use super::*;
use crate::stream_info::StreamInfo;
use std::sync::Mutex;

/// A worker on a thread of its own: counts a request for each `()`, answers swaps.
enum Command {
    Request,
    Swap(SwapRequest),
    Finish,
}

fn worker(id: WorkerId) -> (Sender<Command>, JoinHandle<WorkerMetrics>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let metrics = WorkerMetrics::new(id);
        metrics.update(|_, gauges| gauges.downstream_active = 7);
        for command in receiver {
            match command {
                Command::Request => {
                    let mut info = StreamInfo::new(Instant::now(), 0);
                    info.response_code = 200;
                    metrics.record(&info);
                    metrics.update(|counters, _| counters.downstream_accepted += 1);
                }
                Command::Swap(request) => request.answer(&metrics),
                Command::Finish => break,
            }
        }
        metrics
    });
    (sender, thread)
}

fn mailbox(sender: &Sender<Command>) -> Box<dyn ShardSource> {
    let sender = Mutex::new(sender.clone());
    Box::new(move |request: SwapRequest| {
        let _ = sender.lock().unwrap().send(Command::Swap(request));
    })
}

fn start(interval: Duration) -> StatsThread {
    StatsThread::start(StatsOptions {
        labels: LabelTable::shared(),
        source: SourceLabels::default(),
        control: Arc::default(),
        version: "test".to_owned(),
        interval,
    })
    .unwrap()
}

const LONG: Duration = Duration::from_secs(60);

/// Requests, connections accepted, connections active, silent workers.
fn numbers(handle: &StatsHandle, timeout: Duration) -> (u64, u64, u64, usize) {
    let (sender, receiver) = mpsc::channel();
    handle.collect(timeout, move |collected| {
        let totals = collected.totals;
        sender
            .send((
                totals.series.iter().map(|(_, _, series)| series.requests).sum(),
                totals.counters.downstream_accepted,
                totals.gauges().iter().map(|(_, gauges)| gauges.downstream_active).sum(),
                collected.silent_workers,
            ))
            .unwrap();
    });
    receiver.recv().unwrap()
}

#[test]
fn a_scrape_sees_everything_counted_before_it() {
    // The short interval makes rounds of its own overlap with those of the scrapes.
    let stats = start(Duration::from_micros(200));
    let handle = stats.handle();
    let workers: Vec<_> = (0..3).map(|id| worker(WorkerId(id))).collect();
    for (id, (sender, _)) in workers.iter().enumerate() {
        handle.register_worker(WorkerId(id as u32), mailbox(sender));
    }
    for round in 1..=200u64 {
        for (sender, _) in &workers {
            sender.send(Command::Request).unwrap();
        }
        assert_eq!(numbers(&handle, LONG), (3 * round, 3 * round, 21, 0));
    }
    for (sender, thread) in workers {
        sender.send(Command::Request).unwrap();
        sender.send(Command::Finish).unwrap();
        handle.deposit(thread.join().unwrap().into_shard());
    }
    // The workers are gone: what they deposited is there, and nobody waits for them.
    assert_eq!(numbers(&handle, LONG), (603, 603, 21, 3));
    stats.shutdown();
}

#[test]
fn a_stuck_worker_does_not_hang_a_scrape_and_its_numbers_come_later() {
    let stats = start(LONG);
    let handle = stats.handle();
    let (sender, thread) = worker(WorkerId(0));
    handle.register_worker(WorkerId(0), mailbox(&sender));
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    handle.register_worker(
        WorkerId(1),
        Box::new(move |request: SwapRequest| keep.lock().unwrap().push(request)),
    );
    let stuck = WorkerMetrics::new(WorkerId(1));
    stuck.update(|counters, _| counters.downstream_accepted += 10);

    sender.send(Command::Request).unwrap();
    assert_eq!(numbers(&handle, Duration::from_millis(5)), (1, 1, 7, 1));
    assert_eq!(numbers(&handle, Duration::from_millis(5)), (1, 1, 7, 1));
    let mut requests = std::mem::take(&mut *held.lock().unwrap());
    assert_eq!(requests.len(), 1, "a second spare while the first is out");
    requests.pop().unwrap().answer(&stuck);
    // The late answer is absorbed, and the round that waited behind it is asked for.
    let (_, accepted, ..) = numbers(&handle, Duration::from_millis(5));
    assert_eq!(accepted, 11);
    assert_eq!(held.lock().unwrap().len(), 1);

    held.lock().unwrap().clear();
    sender.send(Command::Finish).unwrap();
    thread.join().unwrap();
    stats.shutdown();
}

#[test]
fn a_stopped_thread_drops_the_question() {
    let stats = start(LONG);
    let handle = stats.handle();
    stats.shutdown();
    let (sender, receiver) = mpsc::channel();
    handle.scrape(LONG, move |text| sender.send(text).unwrap());
    assert!(receiver.recv().is_err());
}
