//! Connections that are passed on, and all the reasons why one is not.

use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::task::Poll;

use crate::access_log::{AccessLogFormat, AccessLogOutput, AccessLogWriter};
use crate::ids::{ClusterId, HistogramSlot, MetricSlot, WorkerId};
use crate::metrics::{ControlStats, MetricsShard, Totals};
use crate::net::connect::loopback_pair;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::snapshot::{
    ClusterLimits, ConsistentHash, Endpoint, HashTable, OutlierDetection, ProxyProtocolVersion,
};
use crate::upstream::{ClusterStates, SharedClusters};

const CLUSTER_SLOT: MetricSlot = MetricSlot(1);
const ENDPOINT_SLOT: MetricSlot = MetricSlot(2);

/// Label slot, flags; opened, closed, received, sent.
type Sum = (u32, String, [u64; 4]);

fn cluster(endpoints: &[SocketAddr]) -> Cluster {
    Cluster {
        name: "outbound|3306||db.default.svc.cluster.local".into(),
        connect_timeout: Duration::from_secs(10),
        metric_slot: CLUSTER_SLOT,
        endpoints: endpoints
            .iter()
            .map(|address| Endpoint {
                address: *address,
                weight: 1,
                healthy: true,
                group: 0,
                metric_slot: ENDPOINT_SLOT,
            })
            .collect(),
        ..Cluster::default()
    }
}

fn destination(cluster: Option<u32>, weight: u32) -> Destination {
    let cluster = cluster.map(ClusterId);
    Destination { cluster, weight, histogram_slot: HistogramSlot::UNROUTED }
}

/// A worker with an access log, and a configuration.
struct World {
    driver: Driver,
    context: Rc<WorkerContext>,
    replica: Rc<Replica>,
    writer: AccessLogWriter,
    directory: tempfile::TempDir,
    shared: SharedClusters,
}

impl World {
    fn new(driver: Driver, clusters: Vec<Cluster>) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let output = AccessLogOutput::from_path(&directory.path().join("log"));
        let control = Arc::new(ControlStats::default());
        let writer =
            AccessLogWriter::start(output, AccessLogFormat::Text.into(), control).expect("a file");
        let context = WorkerContext::new(WorkerId(0), driver, Some(writer.handle().sink()));
        let snapshot = Snapshot { clusters, ..Snapshot::default() };
        let shared = SharedClusters::new(&snapshot, &SharedClusters::default());
        let mut random = fastrand::Rng::with_seed(1);
        let states = ClusterStates::new(&snapshot, &shared, None, &mut random, 0);
        let replica = Rc::new(Replica { snapshot, clusters: states, ..Replica::default() });
        World { driver, context, replica, writer, directory, shared }
    }

    /// Serve one connection on which the client did `act`; returns its end.
    async fn serve(&self, forward: Option<Forward>, act: impl FnOnce(&mut TcpStream)) -> TcpStream {
        let (stream, mut end) = loopback_pair(self.driver, None).await;
        act(&mut end);
        self.serve_stream(stream, forward).await;
        // The ring closes the descriptor when the worker waits next.
        crate::net::sleep(Duration::from_millis(1)).await;
        end
    }

    async fn serve_stream(&self, stream: Stream, forward: Option<Forward>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 3306));
        let arrived = Arrived {
            stream,
            peer: "10.9.8.7:1234".parse().expect("an address"),
            listener: Rc::new(ListenerSlot::new(address, &crate::snapshot::Snapshot::default())),
            received: Buffer::idle(),
            server_name: Some("db.com"),
            of_mesh: false,
        };
        // As a route of the snapshot: it lives as long as that.
        let forward: Option<&'static Forward> =
            forward.map(|forward| &*Box::leak(Box::new(forward)));
        serve(&self.context, arrived, Rc::clone(&self.replica), |_| forward).await;
        assert!(self.context.downstreams.is_empty());
    }

    /// The lines of the log without their times, and what was counted.
    fn end(self) -> (Vec<String>, Vec<Sum>) {
        drop(self.context.access_log.borrow_mut().take());
        assert!(self.writer.shutdown(Duration::from_secs(30)));
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let line = |line: &str| line.split_once("] ").expect("a time").1.to_owned();
        let mut totals = Totals::new();
        totals.absorb(&mut self.context.metrics.hand_over(MetricsShard::new(WorkerId(0))));
        let counted = totals.tcp.iter().map(|(slot, flags, series)| {
            let TcpSeries { opened, closed, received_bytes, sent_bytes } = *series;
            (slot.0, flags.to_string(), [opened, closed, received_bytes, sent_bytes])
        });
        (text.lines().map(line).collect(), counted.collect())
    }
}

fn with_world<T>(clusters: Vec<Cluster>, test: impl AsyncFnOnce(World) -> T) -> T {
    let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
    runtime::run(driver, async { test(World::new(driver, clusters)).await })
        .expect("the runtime works")
}

/// An upstream that answers `connections` connections with what they sent in capital letters, when
/// they have sent all of it.
fn upstream(connections: usize) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = std::thread::spawn(move || {
        let serve = |_| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an end");
            stream.write_all(text.to_uppercase().as_bytes()).expect("open");
            text
        };
        (0..connections).map(serve).collect()
    });
    (address, serving)
}

/// An address on which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn send_all(end: &mut TcpStream) {
    end.write_all(b"hello").expect("open");
    end.shutdown(Shutdown::Write).expect("open");
}

fn received(mut end: TcpStream) -> String {
    let mut text = String::new();
    end.read_to_string(&mut text).expect("an end, not a reset");
    text
}

#[test]
fn a_connection_is_passed_on_counted_and_logged() {
    let (address, serving) = upstream(1);
    let mut configured = cluster(&[address]);
    configured.proxy_protocol = Some(ProxyProtocolVersion::V1);
    let (lines, counted) = with_world(vec![configured], async |world| {
        let end = world.serve(Some(Forward::One(destination(Some(0), 1))), send_all).await;
        let answer = received(end);
        assert!(answer.starts_with("PROXY TCP4 10.9.8.7 127.0.0.1 1234 "), "{answer}");
        assert!(answer.ends_with("\r\nHELLO"), "{answer}");
        let pool = &world.replica.clusters.get(ClusterId(0)).pools()[0];
        assert_eq!(pool.active_requests(), 0);
        world.end()
    });
    let sent = serving.join().expect("it served")[0].len() as u64;
    assert_eq!(counted, [(2, "-".to_owned(), [1, 1, 5, sent])]);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let start = format!("\"- - -\" 0 - - - \"-\" 5 {sent} ");
    assert!(line.starts_with(&start), "{line}");
    let upstream = format!("\"{address}\" outbound|3306||db.default.svc.cluster.local 127.0.0.1:");
    assert!(line.contains(&upstream), "{line}");
    assert!(line.ends_with(" 10.9.8.7:1234 db.com -"), "{line}");
}

#[test]
fn a_connection_that_cannot_be_passed_on_is_closed_and_says_why() {
    let mut full = cluster(&[nobody()]);
    full.limits =
        Some(Box::new(ClusterLimits { connections_max: Some(0), ..ClusterLimits::default() }));
    let clusters = vec![cluster(&[]), cluster(&[nobody()]), full];
    let (lines, counted) = with_world(clusters, async |world| {
        for forward in [
            None,
            Some(destination(None, 1)),
            Some(destination(Some(0), 1)),
            Some(destination(Some(1), 1)),
            Some(destination(Some(2), 1)),
        ] {
            let end = world.serve(forward.map(Forward::One), |_| {}).await;
            assert_eq!(received(end), "");
        }
        world.context.count(|counters, gauges| {
            assert_eq!(counters.upstream_overflows, 1);
            assert_eq!(counters.upstream_connect_failures, 1);
            assert_eq!((gauges.upstream_active, gauges.downstream_active), (0, 0));
        });
        world.end()
    });
    let start = |line: &String| line.split(" 0 0 ").next().unwrap_or_default().to_owned();
    assert_eq!(
        lines.iter().map(start).collect::<Vec<_>>(),
        [
            "\"- - -\" 0 NR filter_chain_not_found - \"-\"",
            "\"- - -\" 0 NC - - \"-\"",
            "\"- - -\" 0 UH - - \"-\"",
            "\"- - -\" 0 UF,URX - - \"delayed_connect_error:_Connection_refused\"",
            "\"- - -\" 0 UO - - \"-\"",
        ]
    );
    let once = |slot: u32, flags: &str| (slot, flags.to_owned(), [1, 1, 0, 0]);
    let expected = [once(0, "NR"), once(0, "NC"), once(1, "UH"), once(2, "UF,URX"), once(2, "UO")];
    assert_eq!(counted, expected);
}

#[test]
fn a_limit_of_connections_is_given_back_and_failures_eject() {
    let (address, serving) = upstream(3);
    let mut limited = cluster(&[address]);
    limited.limits =
        Some(Box::new(ClusterLimits { connections_max: Some(1), ..ClusterLimits::default() }));
    let mut fragile = cluster(&[nobody()]);
    fragile.outlier_detection = Some(Box::new(OutlierDetection {
        consecutive_5xx: 2,
        ejected_percent_max: 100,
        ..OutlierDetection::default()
    }));
    let (_, counted) = with_world(vec![limited, fragile], async |world| {
        for _ in 0..3 {
            let end = world.serve(Some(Forward::One(destination(Some(0), 1))), send_all).await;
            assert_eq!(received(end), "HELLO");
        }
        for _ in 0..3 {
            world.serve(Some(Forward::One(destination(Some(1), 1))), |_| {}).await;
        }
        let detector = world.shared.get(ClusterId(1)).and_then(|shared| shared.detector.as_ref());
        assert!(detector.is_some_and(|detector| detector.is_ejected(0)));
        world.end()
    });
    serving.join().expect("it served");
    let count =
        |flags: &str| counted.iter().find(|(_, other, _)| other == flags).map(|all| all.2[0]);
    assert_eq!([count("-"), count("UF,URX"), count("UH")], [Some(3), Some(2), Some(1)]);
}

#[test]
fn destinations_are_chosen_by_weight_and_endpoints_by_the_source() {
    let configured: Vec<SocketAddr> = (0..8).map(|_| nobody()).collect();
    let mut hashed = cluster(&configured);
    let positions: Vec<_> =
        configured.iter().enumerate().map(|(at, address)| (at as u32, *address, 1)).collect();
    let table = HashTable::ring(&positions, 1024);
    hashed.consistent_hash = Some(Box::new(ConsistentHash { key: HashKey::SourceAddress, table }));
    let several = || Forward::Several {
        destinations: [destination(Some(1), 1), destination(Some(2), 3)].into(),
        total_weight: 4,
    };
    let (mut first, mut second) = (cluster(&[]), cluster(&[]));
    (first.metric_slot, second.metric_slot) = (MetricSlot(11), MetricSlot(12));
    let (lines, counted) = with_world(vec![hashed, first, second], async |world| {
        for _ in 0..20 {
            world.serve(Some(Forward::One(destination(Some(0), 1))), |_| {}).await;
        }
        for _ in 0..200 {
            world.serve(Some(several()), |_| {}).await;
        }
        world.end()
    });
    let mut upstreams: Vec<&str> = lines[..20]
        .iter()
        .map(|line| line.split('"').find(|part| part.starts_with("127.")).expect("an upstream"))
        .collect();
    upstreams.dedup();
    assert_eq!(upstreams.len(), 1, "one client, one endpoint");
    let of = |slot| counted.iter().find(|all| all.0 == slot).map_or(0, |all| all.2[0]);
    assert_eq!(of(11) + of(12), 200);
    assert!((100..190).contains(&of(12)), "three of four: {}", of(12));
}

#[test]
fn the_limits_are_those_of_the_first_destination() {
    let (mut first, second) = (cluster(&[]), cluster(&[]));
    first.tcp_idle_timeout_ms = Some(7);
    first.connection_duration_max_ms = Some(9);
    let snapshot = Snapshot { clusters: vec![first, second], ..Snapshot::default() };
    let of = |destination| Limits::of(&snapshot, &Forward::One(destination));
    let limits = |idle_ms, duration_max_ms| Limits { idle_ms, duration_max_ms };
    assert_eq!(of(destination(Some(0), 1)), limits(Some(7), Some(9)));
    assert_eq!(of(destination(Some(1), 1)), limits(None, None));
    assert_eq!(of(destination(None, 1)), limits(Some(3_600_000), None));
}

/// Serve a connection that nobody ends, until `sweep` finds it late.
fn cut_by_a_sweep(change: impl FnOnce(&mut Cluster)) -> (Vec<String>, Vec<Sum>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut configured = cluster(&[listener.local_addr().expect("bound")]);
    change(&mut configured);
    with_world(vec![configured], async |world| {
        let (stream, mut end) = loopback_pair(world.driver, None).await;
        end.write_all(b"x").expect("open");
        {
            let forward = Some(Forward::One(destination(Some(0), 1)));
            let mut serving = pin!(world.serve_stream(stream, forward));
            let (mut at_upstream, _) = {
                let mut connecting = pin!(async {
                    while !crate::net::listener::has_waiting(std::os::fd::AsRawFd::as_raw_fd(
                        &listener,
                    )) {
                        crate::net::sleep(Duration::from_millis(1)).await;
                    }
                });
                std::future::poll_fn(|task| {
                    assert!(serving.as_mut().poll(task).is_pending());
                    connecting.as_mut().poll(task)
                })
                .await;
                listener.accept().expect("a connection")
            };
            let mut sweeping = pin!(async {
                while world.context.downstreams.sweep(3_600_000).idle == 0 {
                    crate::net::sleep(Duration::from_millis(1)).await;
                }
                std::future::pending::<()>().await;
            });
            std::future::poll_fn(|task| {
                let _ = sweeping.as_mut().poll(task);
                match serving.as_mut().poll(task) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            let mut seen = Vec::new();
            at_upstream.read_to_end(&mut seen).expect("an end");
            assert!(seen.is_empty() || seen == b"x");
        }
        assert_eq!(received(end), "");
        world.end()
    })
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_too_old() {
    let (lines, counted) = cut_by_a_sweep(|cluster| cluster.tcp_idle_timeout_ms = Some(1000));
    assert!(lines[0].starts_with("\"- - -\" 0 - - - \"-\" "), "{lines:?}");
    assert_eq!((counted[0].1.as_str(), counted[0].2[..2].to_vec()), ("-", vec![1, 1]));
    let (lines, counted) = cut_by_a_sweep(|cluster| cluster.connection_duration_max_ms = Some(0));
    assert!(lines[0].starts_with("\"- - -\" 0 DT - - \"-\" "), "{lines:?}");
    let flags: Vec<&str> = counted.iter().map(|all| all.1.as_str()).collect();
    assert_eq!(flags, ["-", "DT"]);
}
