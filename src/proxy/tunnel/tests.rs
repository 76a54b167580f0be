//! Tunnels between real sockets, spliced and copied.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use crate::ids::WorkerId;
use crate::net::connect::loopback_pair;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::proxy::ListenerSlot;

/// A worker, a client's connection and one to an upstream, and their other ends.
struct Ends {
    context: Rc<WorkerContext>,
    connection: Rc<Downstream>,
    upstream: Stream,
    client_end: TcpStream,
    upstream_end: TcpStream,
}

async fn ends(driver: Driver, receive_buffer_bytes: Option<usize>) -> Ends {
    let context = WorkerContext::new(WorkerId(0), driver, None);
    let (client, client_end) = loopback_pair(driver, receive_buffer_bytes).await;
    let (upstream, upstream_end) = loopback_pair(driver, receive_buffer_bytes).await;
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let slot = ListenerSlot::new(address, &crate::snapshot::Snapshot::default());
    let connection = context.downstreams.insert(Downstream::new(client, address, Rc::new(slot)));
    connection.set_upstream(Some(upstream.clone()));
    Ends { context, connection, upstream, client_end, upstream_end }
}

/// As [`run`] between layers, or as between sockets.
async fn run_as(spliced: bool, watch: &Watch<'_>, upstream: &Stream) -> Tunnelled {
    if spliced {
        return run(watch, upstream, Buffer::idle(), Buffer::idle()).await;
    }
    let client = &watch.connection.stream;
    watch.active();
    let up = copy(watch, Way::Up, client, upstream, Buffer::idle());
    let down = copy(watch, Way::Down, upstream, client, Buffer::idle());
    let failed = !both(up, down).await;
    Tunnelled { up_bytes: watch.up_bytes.get(), down_bytes: watch.down_bytes.get(), failed }
}

/// For both ways of moving bytes, on the cheapest driver and on epoll.
fn everywhere(test: impl AsyncFn(Driver, bool)) {
    let (best, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
    for (driver, spliced) in [(best, true), (best, false), (Driver::Epoll, true)] {
        runtime::run(driver, test(driver, spliced)).expect("the runtime works");
    }
}

/// Bytes that show when some are lost, doubled or out of order.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place / 7 + place / 1021) as u8).collect()
}

#[test]
fn bytes_go_both_ways_and_each_end_is_passed_on() {
    const BYTES: usize = 5_000_000;
    everywhere(async |driver, spliced| {
        let Ends { context, connection, upstream, client_end, upstream_end } =
            ends(driver, None).await;
        let halves = [(client_end, 0), (upstream_end, 1)].map(|(mut end, extra)| {
            std::thread::spawn(move || {
                let mut sending = end.try_clone().expect("a descriptor");
                let sender = std::thread::spawn(move || {
                    sending.write_all(&pattern(BYTES + extra)).expect("open");
                    sending.shutdown(Shutdown::Write).expect("open");
                });
                let mut received = Vec::new();
                end.read_to_end(&mut received).expect("an end, not a reset");
                sender.join().expect("it sent all");
                received
            })
        });
        let watch = Watch::new(&context, &connection);
        let moved = run_as(spliced, &watch, &upstream).await;
        let (up_bytes, down_bytes) = (BYTES as u64, BYTES as u64 + 1);
        assert_eq!(moved, Tunnelled { up_bytes, down_bytes, failed: false });
        let [at_client, at_upstream] = halves.map(|half| half.join().expect("it received all"));
        assert!(at_client == pattern(BYTES + 1) && at_upstream == pattern(BYTES));
        assert_eq!(context.pipes.lent(), 0);
    });
}

#[test]
fn a_side_that_takes_nothing_ends_the_tunnel() {
    everywhere(async |driver, spliced| {
        let Ends { context, connection, upstream, client_end, mut upstream_end } =
            ends(driver, Some(4096)).await;
        // Until the tunnel ends.
        let writer =
            std::thread::spawn(move || while upstream_end.write_all(&[1; 65536]).is_ok() {});
        let mut watch = Watch::new(&context, &connection);
        watch.stall = Some(Duration::from_millis(20));
        let moved = run_as(spliced, &watch, &upstream).await;
        connection.cut();
        // As after a request: closed with bytes unread it is reset. Only shut down it would leave a writer whose
        // window is full waiting.
        connection.set_upstream(None);
        drop((client_end, upstream));
        while !writer.is_finished() {
            crate::net::sleep(Duration::from_millis(1)).await;
        }
        writer.join().expect("it ended");
        assert!(moved.failed && moved.up_bytes == 0 && moved.down_bytes > 0, "{moved:?}");
        assert_eq!(context.pipes.lent(), 0);
    });
}

#[test]
fn a_quiet_tunnel_ends_at_its_deadline_and_holds_no_pipe() {
    everywhere(async |driver, spliced| {
        let Ends { context, connection, upstream, mut client_end, mut upstream_end } =
            ends(driver, None).await;
        let mut watch = Watch::new(&context, &connection);
        watch.idle_ms = Some(5000);
        let mut tunnel = pin!(run_as(spliced, &watch, &upstream));
        let mut sweeping = pin!(async {
            client_end.write_all(b"x").expect("open");
            while watch.up_bytes.get() == 0 {
                crate::net::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(context.downstreams.sweep(4999), Default::default());
            assert_eq!(context.pipes.lent(), 0);
            assert_eq!(context.downstreams.sweep(5000).idle, 1);
            std::future::pending::<()>().await;
        });
        let moved = std::future::poll_fn(|task| {
            let _ = sweeping.as_mut().poll(task);
            tunnel.as_mut().poll(task)
        })
        .await;
        assert_eq!((moved.up_bytes, moved.down_bytes), (1, 0));
        assert!(connection.expired());
        let mut at_upstream = Vec::new();
        upstream_end.read_to_end(&mut at_upstream).expect("an end");
        assert_eq!(at_upstream, b"x");
    });
}

/// A splice stops before urgent data for ever; the tunnel copies past it.
#[test]
fn urgent_data_does_not_stop_a_tunnel() {
    everywhere(async |driver, spliced| {
        let Ends { context, connection, upstream, mut client_end, mut upstream_end } =
            ends(driver, None).await;
        let sender = std::thread::spawn(move || {
            client_end.write_all(b"before").expect("open");
            // SAFETY: one live byte.
            let urgent = unsafe {
                libc::send(client_end.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB)
            };
            assert_eq!(urgent, 1);
            client_end.write_all(b"after").expect("open");
            client_end.shutdown(Shutdown::Write).expect("open");
            let mut received = Vec::new();
            upstream_end.read_to_end(&mut received).expect("an end");
            received
        });
        let watch = Watch::new(&context, &connection);
        // Only keeps a hang from blocking the suite.
        let tunnel = run_as(spliced, &watch, &upstream);
        let moved = crate::net::within(Duration::from_secs(30), tunnel).await.expect("it ends");
        assert_eq!((moved.up_bytes, moved.failed), (11, false));
        assert_eq!(sender.join().expect("it received all"), b"beforeafter");
    });
}
