//! The thread of a worker: pin, build the runtime, serve the mailbox, drain.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::accept::Accepting;
use super::mailbox::{Command, Mailbox, WorkerEvent, WorkerHandle, mailbox};
use crate::access_log::AccessLogSink;
use crate::ids::WorkerId;
use crate::net::listener::Listener;
use crate::net::oneshot;
use crate::net::runtime::{self, Driver, RuntimeError};
use crate::net::ticker::Ticker;
use crate::net::usage::ThreadHandle;
use crate::proxy::{ChainSlots, ListenerSlot, Replica, WorkerContext};
use crate::snapshot::Snapshot;
use crate::trace::Tracer;
use crate::upstream::{ClusterState, ClusterStates, SharedClusters};

/// Access log lines wait at most this long on the worker.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at the deadlines.
const SWEEP_TICKS: u64 = 5;
/// Ticks between two looks at the clock and the idle upstream connections.
const SECOND_TICKS: u64 = 10;
/// When draining, idle keep-alive connections may send one more request for at most this long.
const DRAIN_IDLE_MAX: Duration = Duration::from_secs(5);

/// What a worker is started with.
pub struct WorkerConfig {
    /// Which worker.
    pub id: WorkerId,
    /// The core to run on; none: wherever the kernel likes.
    pub core: Option<usize>,
    /// What its I/O runs on.
    pub driver: Driver,
    /// Downstream connections that it may hold.
    pub connections_max: usize,
    /// Where its access log lines go.
    pub access_log: Option<AccessLogSink>,
    /// What it traces requests with.
    pub tracer: Option<Tracer>,
    /// Where it reports.
    pub events: mpsc::Sender<WorkerEvent>,
    /// Where it says by what its use of the machine can be followed, before it serves anything.
    pub thread: Arc<OnceLock<ThreadHandle>>,
}

/// Start a worker. It accepts nothing before its first [`Command::Publish`].
pub fn spawn(config: WorkerConfig) -> io::Result<(WorkerHandle, JoinHandle<()>)> {
    let (handle, mailbox) = mailbox(config.id)?;
    let name = format!("worker-{}", config.id.0);
    let thread = std::thread::Builder::new().name(name).spawn(move || run(config, mailbox))?;
    Ok((handle, thread))
}

fn run(config: WorkerConfig, mailbox: Mailbox) {
    if let Some(core) = config.core {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
    }
    let (id, events) = (config.id, config.events.clone());
    let event = match runtime::run(config.driver, worker(config, mailbox)) {
        Ok(Ok(cut)) => WorkerEvent::Drained(id, cut),
        Ok(Err(error)) => WorkerEvent::Failed(id, format!("its mailbox failed: {error}")),
        Err(RuntimeError::Build(error)) => {
            WorkerEvent::Failed(id, format!("its runtime could not be built: {error}"))
        }
        Err(RuntimeError::Panicked(message)) => WorkerEvent::Panicked(id, message),
    };
    // Nobody listens only when the process is ending anyway.
    let _ = events.send(event);
}

/// The listeners of a worker.
#[derive(Default)]
struct Listeners {
    accepting: Vec<Accepting>,
    /// Slots of listeners that went away while connections of theirs were open: should the listener
    /// come back, these connections are routed again.
    retired: Vec<Rc<ListenerSlot>>,
    /// Slots of chains, those that went away while connections of theirs were open included.
    chains: Vec<Rc<ListenerSlot>>,
    /// Nothing is accepted any more, whatever is published.
    stopped: bool,
}

async fn worker(config: WorkerConfig, mailbox: Mailbox) -> io::Result<usize> {
    let WorkerConfig { id, driver, connections_max, access_log, tracer, events, thread, .. } =
        config;
    if let Some(handle) = ThreadHandle::current() {
        // Nobody else sets it.
        let _ = thread.set(handle);
    }
    let context = WorkerContext::new(id, driver, access_log);
    context.tracer.replace(tracer);
    let listeners = Rc::new(RefCell::new(Listeners::default()));
    crate::net::spawn(tick(Rc::clone(&context)));
    crate::net::spawn(expire_requests(Rc::clone(&context)));
    let (draining, drained) = oneshot::channel();
    let mut draining = Some(draining);
    let handle = |command| match command {
        Command::Publish { snapshot, shared, sockets } => {
            let generation = snapshot.generation;
            let replica = replica(&context, &listeners.borrow().chains, *snapshot, &shared);
            let event = match publish(&context, &listeners, replica, sockets, connections_max) {
                Ok(()) => WorkerEvent::Published(id, generation),
                Err(error) => WorkerEvent::Failed(id, error.to_string()),
            };
            let _ = events.send(event);
        }
        Command::SwapMetrics(request) => request.answer(&context.metrics),
        Command::Tap(order) => context.taps.obey(order),
        Command::StopListening(after) => {
            let (context, listeners) = (Rc::clone(&context), Rc::clone(&listeners));
            crate::net::spawn(stop_listening(context, listeners, after));
        }
        Command::Drain(timeout) => {
            let Some(done) = draining.take() else { return };
            let (context, listeners) = (Rc::clone(&context), Rc::clone(&listeners));
            crate::net::spawn(async move {
                let cut = drain(&context, &listeners, timeout).await;
                let _ = done.send(cut);
            });
        }
        #[cfg(debug_assertions)]
        Command::Panic => panic!("asked to panic"),
    };
    let mut orders = pin!(mailbox.serve(driver, handle));
    let mut drained = pin!(drained.receive());
    let cut = std::future::poll_fn(|task| {
        if let Poll::Ready(cut) = drained.as_mut().poll(task) {
            return Poll::Ready(Ok(cut.unwrap_or(0)));
        }
        match orders.as_mut().poll(task) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Nobody can order anything any more: the process is ending.
            Poll::Ready(Ok(())) => Poll::Ready(Ok(0)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    if let Some(sink) = context.access_log.borrow_mut().as_mut() {
        sink.flush();
    }
    if let Some(tracer) = context.tracer.borrow_mut().as_mut() {
        tracer.sink.flush();
    }
    Ok(cut)
}

/// `snapshot` with this worker's state of its clusters and chains.
fn replica(
    context: &WorkerContext,
    chains: &[Rc<ListenerSlot>],
    snapshot: Snapshot,
    shared: &SharedClusters,
) -> Replica {
    let previous = context.replica.borrow();
    let mut random = context.random.borrow_mut();
    let now_ms = context.clock.milliseconds(Instant::now());
    let clusters =
        ClusterStates::new(&snapshot, shared, Some(&previous.clusters), &mut random, now_ms);
    let chains = ChainSlots::new(&snapshot, chains);
    Replica { snapshot, clusters, chains }
}

/// Route by `replica` from now on: take the new sockets, stop the listeners that it no longer has,
/// and re-route the others.
fn publish(
    context: &Rc<WorkerContext>,
    listeners: &RefCell<Listeners>,
    replica: Replica,
    sockets: Vec<(SocketAddr, TcpListener)>,
    connections_max: usize,
) -> io::Result<()> {
    let snapshot = &replica.snapshot;
    let mut listeners = listeners.borrow_mut();
    let mut kept = Vec::new();
    let mut retired: Vec<Rc<ListenerSlot>> = listeners.retired.drain(..).collect();
    for accepting in listeners.accepting.drain(..) {
        accepting.slot.follow(snapshot);
        match accepting.slot.listener.get() {
            Some(_) => kept.push(accepting),
            None => {
                retired.push(Rc::clone(&accepting.slot));
                crate::net::spawn(accepting.stop());
            }
        }
    }
    // Only those that a connection still holds.
    retired.retain(|slot| Rc::strong_count(slot) > 1);
    listeners.chains.retain(|slot| Rc::strong_count(slot) > 1);
    for slot in retired.iter().chain(&listeners.chains) {
        slot.follow(snapshot);
    }
    for slot in replica.chains.iter() {
        if !listeners.chains.iter().any(|known| Rc::ptr_eq(known, slot)) {
            listeners.chains.push(Rc::clone(slot));
        }
    }
    listeners.accepting = kept;
    let generation = snapshot.generation;
    // Sockets that are not taken are closed.
    let sockets = if listeners.stopped { Vec::new() } else { sockets };
    for (address, socket) in sockets {
        let known = retired.iter().position(|slot| slot.address == address);
        let slot = match known {
            Some(position) => retired.swap_remove(position),
            None => Rc::new(ListenerSlot::new(address, snapshot)),
        };
        let listener = Listener::adopt(socket, context.driver)?;
        listeners.accepting.push(Accepting::start(context, listener, slot, connections_max));
    }
    listeners.retired = retired;
    let replica = Rc::new(replica);
    let previous = context.replica.replace(Rc::clone(&replica));
    let closed = previous.clusters.retire_all_but(&replica.clusters);
    context.count(|counters, gauges| {
        counters.upstream_closed += closed;
        gauges.upstream_idle -= closed;
        counters.snapshot_swaps += 1;
        gauges.generation = generation;
    });
    // Makes the room that the look of every second needs.
    look_at_clusters(context, &replica);
    Ok(())
}

/// Accept no more, after a while in which clients are asked to leave; none: only ask them. What was accepted
/// is served on, by every configuration to come.
async fn stop_listening(
    context: Rc<WorkerContext>,
    listeners: Rc<RefCell<Listeners>>,
    after: Option<Duration>,
) {
    if after != Some(Duration::ZERO) {
        context.draining.set(true);
        context.downstreams.call_all();
    }
    let Some(after) = after else { return };
    crate::net::sleep(after).await;
    let accepting: Vec<Accepting> = {
        let mut listeners = listeners.borrow_mut();
        listeners.stopped = true;
        let accepting: Vec<Accepting> = listeners.accepting.drain(..).collect();
        listeners.retired.extend(accepting.iter().map(|accepting| Rc::clone(&accepting.slot)));
        accepting
    };
    for accepting in accepting {
        accepting.stop().await;
    }
}

/// Stop accepting and wait for what is in flight. Returns how many connections had to be cut.
async fn drain(
    context: &Rc<WorkerContext>,
    listeners: &RefCell<Listeners>,
    timeout: Duration,
) -> usize {
    context.draining.set(true);
    context.downstreams.call_all();
    let accepting: Vec<Accepting> = listeners.borrow_mut().accepting.drain(..).collect();
    for accepting in accepting {
        accepting.stop().await;
    }
    // What was accepted last has yet to enter the table.
    crate::net::sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    let idle_until = DRAIN_IDLE_MAX.min(timeout / 3);
    let mut idle_closed = false;
    while !context.downstreams.is_empty() {
        if started.elapsed() >= timeout {
            let left = context.downstreams.len();
            context.downstreams.cut_all();
            crate::net::sleep(Duration::from_millis(50)).await;
            return left;
        }
        if started.elapsed() >= idle_until {
            // Once all of them, then those that became idle since (a response was on its way).
            context.downstreams.close_idle();
            idle_closed = true;
        }
        crate::net::sleep(Duration::from_millis(if idle_closed { 50 } else { 10 })).await;
    }
    0
}

/// End the requests and attempts whose time is up.
async fn expire_requests(context: Rc<WorkerContext>) {
    loop {
        let now_ms = context.clock.milliseconds(Instant::now());
        let next_ms = context.downstreams.expire_requests(now_ms);
        let earlier = context.downstreams.earlier_deadline(next_ms);
        if next_ms == u64::MAX {
            earlier.await;
        } else {
            crate::net::within(Duration::from_millis(next_ms - now_ms), earlier).await;
        }
    }
}

/// What happens by the clock.
async fn tick(context: Rc<WorkerContext>) {
    let ticker = Ticker::new(TICK);
    let mut ticks = 0u64;
    loop {
        ticker.tick().await;
        ticks += 1;
        context.clock.tick();
        let dropped = match context.access_log.borrow_mut().as_mut() {
            Some(sink) => {
                sink.flush();
                sink.take_dropped()
            }
            None => 0,
        };
        if let Some(tracer) = context.tracer.borrow_mut().as_mut() {
            tracer.sink.flush();
        }
        if dropped > 0 {
            context.count(|counters, _| counters.access_log_dropped += dropped);
        }
        if ticks.is_multiple_of(SWEEP_TICKS) {
            let now_ms = context.clock.milliseconds(Instant::now());
            let swept = context.downstreams.sweep(now_ms);
            if swept != Default::default() {
                context.count(|counters, _| {
                    counters.downstream_idle_timeouts += swept.idle;
                    counters.downstream_head_timeouts += swept.heads;
                    counters.downstream_progress_timeouts += swept.stalled;
                    counters.downstream_io_errors += swept.gone;
                });
            }
        }
        if ticks.is_multiple_of(SECOND_TICKS) {
            context.clock.follow_wall_clock();
            sweep_upstreams(&context);
        }
    }
}

/// Close idle connections whose time is over, bring ejected endpoints back, let new ones warm up; then
/// put down what is open.
fn sweep_upstreams(context: &WorkerContext) {
    let replica = Rc::clone(&context.replica.borrow());
    let now = Instant::now();
    let now_ms = context.clock.milliseconds(now);
    let (mut gone, mut closed_by_upstream, mut returned) = (0, 0, 0);
    for (cluster, configured) in replica.clusters.iter().zip(&replica.snapshot.clusters) {
        let idle_timeout_ms = configured.idle_timeout_ms.unwrap_or(u64::MAX);
        let duration_max_ms = configured.connection_duration_max_ms.unwrap_or(u64::MAX);
        for pool in cluster.pools() {
            let (expired, closed) = pool.sweep(now_ms, idle_timeout_ms, duration_max_ms);
            gone += expired + closed;
            closed_by_upstream += closed;
        }
        if let Some(shared) = cluster.shared()
            && let Some(detector) = &shared.detector
        {
            returned += detector.sweep(shared.milliseconds(now));
        }
        cluster.warm(configured, now_ms, &mut context.random.borrow_mut());
    }
    context.count(|counters, gauges| {
        counters.outlier_returns += returned;
        counters.upstream_closed += gone;
        counters.upstream_closed_idle += closed_by_upstream;
        gauges.upstream_idle -= gone;
    });
    look_at_clusters(context, &replica);
}

/// Put down what is open to each cluster.
fn look_at_clusters(context: &WorkerContext, replica: &Replica) {
    let clusters = replica.clusters.iter().map(ClusterState::gauges);
    context.metrics.look_at_clusters(replica.snapshot.generation, clusters);
}
