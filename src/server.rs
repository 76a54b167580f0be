//! Assembly, in start-up order: process → manifests → sockets → workers → stats → admin → the loop.

mod controls;
mod process_log;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::access_log::{AccessLogError, AccessLogOutput, AccessLogWriter};
use crate::admin::{
    self, AdminConfig, AdminError, AdminRole, AdminState, Readiness, ReadinessFlag, ServerInfo,
    SnapshotCell, StatusCell,
};
use crate::cli::RunOptions;
use crate::cli::access_log_flags::LogFormatError;
use crate::cli::options::{Http10, PortOrOff};
use crate::compile::CompileOptions;
use crate::config::Diagnostic;
use crate::control::dns::NameTable;
use crate::control::publish::{BindError, Publisher};
use crate::control::reload::Reloader;
use crate::control::signals::Signals;
use crate::control::store::ObjectStatus;
use crate::control::supervisor::{self, Observer, Supervisor, SupervisorError};
use crate::control::watch::ManifestWatcher;
use crate::explain::ExplainService;
use crate::ids::WorkerId;
use crate::metrics::{ControlStats, LabelTable, SourceLabels, StatsOptions, StatsThread};
use crate::net::runtime::Driver;
use crate::net::usage::ThreadProbe;
use crate::snapshot::{Settings, Snapshot, TelemetryPolicy};
use crate::trace::{Propagation, SpanExporter, Tracer};
use crate::validate::ValidateOptions;
use crate::worker::{self, WorkerConfig, WorkerEvent, WorkerHandle};

/// How long the workers may take to begin serving.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first answers of names are waited for; names without one get 503 until there is one.
const FIRST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);
/// Descriptors kept for upstreams, logs and admin: one in this many.
const DESCRIPTOR_RESERVE_SHARE: u64 = 4;

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The manifests have errors, which were printed.
    #[error(
        "{0} error(s) in the manifests, printed above; mend them, or start with what is good: \
         --skip-invalid"
    )]
    Manifests(usize),
    /// Ports that cannot be bound.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nringress: "))]
    Bind(Vec<BindError>),
    /// io_uring was asked for and is refused.
    #[error("io_uring is refused here: {0}; see `ringress doctor`, or use --driver auto")]
    Driver(io::Error),
    /// The system refuses something.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// Its lines cannot look as they are asked to.
    #[error(transparent)]
    AccessLogFormat(#[from] LogFormatError),
    /// The admin ports cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The files cannot be followed.
    #[error("cannot watch the manifests: {0}; raise fs.inotify.max_user_watches, or --no-watch")]
    Watch(#[from] notify::Error),
    /// A core that does not exist or is not allowed.
    #[error("core {0} is not one of those that this process may use ({1})")]
    Core(usize, String),
    /// The workers did not begin to serve.
    #[error("worker {0} did not start: {1}")]
    Worker(u32, String),
    /// A worker failed while running.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The demo's own parts.
    #[error("the demo cannot start: {0}")]
    Demo(io::Error),
}

/// What was started.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens.
    pub listeners: Vec<SocketAddr>,
    /// Its admin port.
    pub admin: Option<SocketAddr>,
}

impl Started {
    /// The listeners as text.
    pub fn listener_text(&self) -> String {
        let texts: Vec<String> = self.listeners.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "nowhere".to_owned() } else { texts.join(", ") }
    }
}

/// Serve until a signal asks to stop.
pub fn run(options: &RunOptions) -> Result<(), ServerError> {
    run_until_stopped(options, |_| {})
}

/// The same; `ready` is called once everything serves.
pub fn run_until_stopped(
    options: &RunOptions,
    ready: impl FnOnce(&Started),
) -> Result<(), ServerError> {
    let process_log = process_log::start(options.log_format);
    let descriptors = raise_descriptor_limit();
    let (driver, refused) = Driver::choose(options.driver.into()).map_err(ServerError::Driver)?;
    if let Some(reason) = refused {
        tracing::warn!(
            "io_uring is not available ({reason}): running on epoll, at more CPU per request; \
             `ringress doctor` tells why"
        );
    }
    let cores = worker_cores(options)?;

    let labels = LabelTable::shared();
    let mut reloader = Reloader::new(
        options.config.clone(),
        validate_options(options),
        compile_options(options),
        Arc::clone(&labels),
    )
    .with_mesh_folder(options.mesh_certificates.clone());
    // Watch before the first reading, so that no change falls between the two.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ServerError::System("cannot start the control runtime", error))?;
    let _entered = runtime.enter();
    let signals =
        Signals::new().map_err(|error| ServerError::System("cannot take signals", error))?;
    let (controls, orders) = controls::new(process_log, options.drain_timeout);
    let signals = signals.with_orders(orders);
    let watcher = match options.no_watch {
        true => None,
        false => Some(ManifestWatcher::new(&options.config)?),
    };
    let mut reading = reloader.read();
    supervisor::report(&reading);
    let errors = reading.errors();
    if errors > 0 && !options.skip_invalid {
        return Err(ServerError::Manifests(errors));
    }

    let stats = Arc::new(ControlStats::default());
    let mut names = NameTable::new(options.dns.options(), Arc::clone(&stats));
    if names.follow(&reading.snapshot) {
        runtime.block_on(names.settled(FIRST_ANSWERS_TIMEOUT));
        reloader.set_answers(names.answers().0);
        reading = reloader.compile_again(reading);
    }
    let access_log = start_access_log(options, &stats)?;
    let (traces, propagation) = start_traces(options, &stats)?;
    let (events_sender, events) = mpsc::channel();
    let connections_max = connections_max(descriptors, cores.len());
    let (mut workers, mut threads) = (Vec::new(), Vec::new());
    for (index, core) in cores.iter().enumerate() {
        let config = WorkerConfig {
            id: WorkerId(index as u32),
            core: *core,
            driver,
            connections_max,
            access_log: access_log.as_ref().map(|writer| writer.handle().sink()),
            tracer: traces.as_ref().map(|exporter| Tracer { propagation, sink: exporter.sink() }),
            events: events_sender.clone(),
            thread: Arc::new(OnceLock::new()),
        };
        threads.push((config.id, Arc::clone(&config.thread)));
        let (handle, _) = worker::spawn(config)
            .map_err(|error| ServerError::System("cannot start a worker thread", error))?;
        workers.push(handle);
    }
    drop(events_sender);
    let mut publisher = Publisher::new(workers);
    let (bound, failed) = publisher.bind(&reading.snapshot);
    if !failed.is_empty() {
        return Err(ServerError::Bind(failed));
    }
    let diagnostics = reading.diagnostics.clone();
    let (snapshot, objects) = reloader.commit(reading);
    let snapshot = publisher.publish(snapshot, bound);
    wait_for_workers(&events, cores.len())?;
    stats.reload_succeeded(snapshot.generation, reloader.refused_count() as u64);

    let stats_thread = StatsThread::start(StatsOptions {
        labels,
        source: source_labels(options),
        control: Arc::clone(&stats),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        interval: crate::limits::STATS_INTERVAL,
    })
    .map_err(|error| ServerError::System("cannot start the stats thread", error))?;
    for worker in publisher.workers() {
        stats_thread.handle().register_worker(worker.id, Box::new(WorkerHandle::clone(worker)));
    }
    for (worker, thread) in threads {
        // Every worker has published, and said before who it is.
        if let Some(thread) = thread.get() {
            let mut probe = ThreadProbe::new(*thread);
            stats_thread.handle().observe_worker(worker, Box::new(move || probe.usage()));
        }
    }
    let state = AdminState {
        status: Arc::new(StatusCell::default()),
        snapshot: Arc::new(SnapshotCell::default()),
        clusters: publisher.shared(),
        explain: Arc::new(ExplainService::default()),
        stats: stats_thread.handle(),
        readiness: Arc::new(ReadinessFlag::default()),
        info: Arc::new(ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Instant::now(),
            workers: cores.len(),
            io_driver: driver.to_string(),
            envoy_metrics: options.envoy_metrics,
            labels: options.labels.0.clone().into_iter().collect(),
        }),
        controls: controls::connected(controls, publisher.workers()),
    };
    let page = AdminPage { state: state.clone(), paths: options.config.clone() };
    page.published(Arc::clone(&snapshot), &objects, &diagnostics);
    let mut admin_address = None;
    let (stop_admin, admin_stopped) = tokio::sync::oneshot::channel::<()>();
    if let Some(config) = admin_config(options) {
        let listeners = config.listen()?;
        let addresses = listeners.addresses();
        admin_address = addresses
            .iter()
            .find(|(role, _)| *role == AdminRole::Admin)
            .map(|(_, address)| *address);
        let stopped = async {
            // The sender is dropped at the end, which is as good as a word.
            let _ = admin_stopped.await;
        };
        let pages = admin::serve(listeners, state.clone(), stopped);
        runtime.spawn(async move {
            if let Err(error) = pages.await {
                tracing::error!("{error}");
            }
        });
    }
    state.readiness.set(Readiness::Ready);

    let started = Started {
        listeners: snapshot.listeners.iter().map(|listener| listener.address).collect(),
        admin: admin_address,
    };
    if started.listeners.is_empty() {
        tracing::warn!(
            "no Gateway selects this gateway (--labels) with a server that is served: nothing \
             listens"
        );
    }
    let admin_text = admin_address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    tracing::info!(
        "ready: listening on {} with {} worker(s) on {driver}, admin={admin_text}",
        started.listener_text(),
        cores.len()
    );
    ready(&started);

    let supervisor = Supervisor {
        reloader,
        names,
        publisher,
        events,
        stats,
        access_log: access_log.as_ref().map(AccessLogWriter::handle),
        watcher,
        signals,
        drain_timeout: options.drain_timeout,
        observer: page,
    };
    let outcome = runtime.block_on(supervisor.run());
    drop(stop_admin);
    if let Some(writer) = access_log
        && !writer.shutdown(Duration::from_secs(2))
    {
        tracing::warn!("the access log could not be written to its end");
    }
    if let Some(exporter) = traces
        && !exporter.shutdown(Duration::from_secs(2))
    {
        tracing::warn!("the last spans could not be sent");
    }
    outcome.map_err(ServerError::from)
}

/// Shows what the supervisor does on the admin pages.
struct AdminPage {
    state: AdminState,
    paths: Vec<PathBuf>,
}

impl Observer for AdminPage {
    fn published(
        &self,
        snapshot: Arc<Snapshot>,
        objects: &[ObjectStatus],
        diagnostics: &[Diagnostic],
    ) {
        self.state.status.publish(status::report(&snapshot, objects, diagnostics, &self.paths));
        self.state.stats.set_objectives(Arc::clone(&snapshot.objectives));
        self.state.stats.set_overrides(snapshot.settings.telemetry.metrics.clone());
        self.state.snapshot.publish(snapshot);
    }

    fn draining(&self) {
        self.state.readiness.set(Readiness::Draining);
    }
}

/// Raise the soft limit of descriptors to the hard one; returns the limit.
fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: system calls on a live structure.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max
        {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                limit = raised;
            }
        }
    }
    limit.rlim_cur
}

/// Downstream connections per worker: what the descriptor limit leaves after a reserve.
fn connections_max(descriptors: u64, workers: usize) -> usize {
    let usable = descriptors - descriptors / DESCRIPTOR_RESERVE_SHARE;
    usize::try_from(usable / workers.max(1) as u64).unwrap_or(usize::MAX).max(16)
}

/// The core of each worker.
fn worker_cores(options: &RunOptions) -> Result<Vec<Option<usize>>, ServerError> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    if !options.cores.is_empty() {
        if let Some(core) = options.cores.iter().find(|core| !allowed.contains(core)) {
            let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            return Err(ServerError::Core(*core, list.join(", ")));
        }
        let workers = options.workers.unwrap_or(options.cores.len());
        return Ok((0..workers)
            .map(|index| options.cores.get(index % options.cores.len()).copied())
            .collect());
    }
    let workers = options.workers.unwrap_or(allowed.len()).max(1);
    // More workers than cores float; else each has its own.
    let pin = workers <= allowed.len();
    Ok((0..workers).map(|index| allowed.get(index).copied().filter(|_| pin)).collect())
}

fn validate_options(options: &RunOptions) -> ValidateOptions {
    ValidateOptions {
        labels: options.labels.0.clone(),
        namespace: options.namespace.clone(),
        cluster_domain: options.cluster_domain.clone(),
    }
}

fn compile_options(options: &RunOptions) -> CompileOptions {
    // What Telemetry resources ask for comes over it.
    let mut telemetry = TelemetryPolicy::default();
    telemetry.tracing.sampling_ppm = options.tracing.sampling_ppm;
    CompileOptions {
        labels: options.labels.0.clone(),
        namespace: options.namespace.clone(),
        locality: options.locality.clone(),
        cluster_domain: options.cluster_domain.clone(),
        port_map: options.port_map.iter().copied().collect::<BTreeMap<u16, u16>>(),
        bind: options.bind.unwrap_or_else(any_address),
        settings: Settings {
            reject_http10: options.http10 == Http10::Reject,
            trusted_proxies: options.trusted_proxies,
            idle_timeout: options.idle_timeout,
            request_head_timeout: options.request_head_timeout,
            tls_handshake_timeout: options.tls_handshake_timeout,
            progress_timeout: options.progress_timeout,
            explain_header: options.explain_header,
            requests_uncounted: options.no_metrics,
            proxy_protocol: options.proxy_protocol.clone().unwrap_or_default(),
            hostname: crate::net::hostname().into(),
            telemetry,
            ..Settings::default()
        },
    }
}

/// All addresses: both families where this machine has IPv6.
fn any_address() -> IpAddr {
    let dual = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match crate::net::listener::probe(SocketAddr::new(dual, 0)) {
        Ok(()) => dual,
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// The gateway's own labels: of its pod where they are given, else those of Istio's gateway.
fn source_labels(options: &RunOptions) -> SourceLabels {
    let label = |names: &[&str]| names.iter().find_map(|name| options.labels.0.get(*name)).cloned();
    let defaults = SourceLabels::default();
    SourceLabels {
        source_canonical_service: label(&[
            "service.istio.io/canonical-name",
            "app.kubernetes.io/name",
            "app",
        ])
        .unwrap_or_else(|| options.workload.clone()),
        source_canonical_revision: label(&[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or(defaults.source_canonical_revision),
        source_workload: options.workload.clone(),
        source_workload_namespace: options.namespace.clone(),
        source_app: label(&["app"]).unwrap_or(defaults.source_app),
        source_version: label(&["version"]).unwrap_or(defaults.source_version),
        source_cluster: options.cluster_id.clone(),
        ..defaults
    }
}

fn start_access_log(
    options: &RunOptions,
    stats: &Arc<ControlStats>,
) -> Result<Option<AccessLogWriter>, ServerError> {
    let asked = options.access_log.as_deref();
    let settings = options.access_log_lines.settings(asked.is_some())?;
    let output = asked.map_or(AccessLogOutput::Stdout, AccessLogOutput::from_path);
    match AccessLogWriter::start(output, settings, Arc::clone(stats)) {
        Ok(writer) => Ok(Some(writer)),
        // A Telemetry may turn the log on later; until then nobody needs it.
        Err(error) if asked.is_none() => {
            tracing::info!("Telemetry resources cannot turn the access log on: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The exporter of spans, if there is a collector, and the formats of contexts.
fn start_traces(
    options: &RunOptions,
    stats: &Arc<ControlStats>,
) -> Result<(Option<SpanExporter>, Propagation), ServerError> {
    let flags = &options.tracing;
    let formats: Vec<_> = flags.propagation.iter().map(|format| (*format).into()).collect();
    let propagation = Propagation::new(&formats);
    let Some(endpoint) = &flags.otlp else { return Ok((None, propagation)) };
    let service = flags.service_name.clone().unwrap_or_else(|| {
        let source = source_labels(options);
        format!("{}.{}", source.source_workload, source.source_workload_namespace)
    });
    let exporter = SpanExporter::start(endpoint.clone(), service, Arc::clone(stats))
        .map_err(|error| ServerError::System("cannot start the exporter of spans", error))?;
    Ok((Some(exporter), propagation))
}

fn admin_config(options: &RunOptions) -> Option<AdminConfig> {
    if options.no_admin {
        return None;
    }
    let beside = |port: PortOrOff| if options.admin_only { None } else { port.0 };
    let config = AdminConfig {
        bind: options.admin_bind,
        admin_port: options.admin_port.0,
        stats_port: beside(options.stats_port),
        prometheus_port: beside(options.prometheus_port),
        health_port: beside(options.health_port),
    };
    Some(config)
}

/// Wait until every worker routes.
fn wait_for_workers(
    events: &mpsc::Receiver<WorkerEvent>,
    workers: usize,
) -> Result<(), ServerError> {
    for _ in 0..workers {
        match events.recv_timeout(START_TIMEOUT) {
            Ok(WorkerEvent::Published(..)) => {}
            Ok(WorkerEvent::Failed(worker, message) | WorkerEvent::Panicked(worker, message)) => {
                return Err(ServerError::Worker(worker.0, message));
            }
            Ok(WorkerEvent::Drained(worker, _)) => {
                return Err(ServerError::Worker(worker.0, "it ended at once".to_owned()));
            }
            Err(_) => return Err(ServerError::Worker(0, "no answer in 30 s".to_owned())),
        }
    }
    Ok(())
}
