use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::ids::WorkerId;
use crate::net::connect::loopback_pair;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::proxy::ListenerSlot;
use crate::proxy::mirror::Copies;
use crate::proxy::request_body::Progress;
use crate::proxy::retry::Retries;
use crate::snapshot::RetryPolicy;
use crate::snapshot::Snapshot;
use crate::stream_info::StreamInfo;

fn plan() -> Plan {
    Plan {
        head_bytes: 0,
        body: BodyLength::Empty,
        keep_alive: true,
        version: Version::Http11,
        is_head: false,
        idempotent: true,
        upgrade: false,
        expect_continue: false,
        te_trailers: false,
    }
}

/// The client of a stream of events is not cut because the events are far apart: each send has a
/// whole deadline of its own.
#[test]
fn a_late_piece_of_a_body_has_a_whole_send_deadline() {
    const EVENT_BYTES: usize = 8 * 1024 * 1024;
    let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
    let swept = runtime::run(driver, async {
        let context = WorkerContext::new(WorkerId(0), driver, None);
        let (client, mut client_end) = loopback_pair(driver, Some(4096)).await;
        let (upstream, mut upstream_end) = loopback_pair(driver, Some(4096)).await;
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let slot = ListenerSlot::new(address, &Snapshot::default());
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let downstream = context.downstreams.insert(Downstream::new(client, peer, Rc::new(slot)));
        let mut upstream = Connection::new(upstream, &context.receives, context.buffers.take(), 0);
        let (plan, progress, policy) = (plan(), Progress::default(), RetryPolicy::default());
        progress.request_done.set(true);
        let mut scratch = Scratch::new(StreamInfo::new(Instant::now(), 0));
        upstream_end
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8388609\r\n\r\n1")
            .expect("a small write");
        let (context_here, downstream_here) = (Rc::clone(&context), Rc::clone(&downstream));
        let mut relaying = pin!(async {
            let replica = Rc::default();
            let flight = InFlight {
                context: &context_here,
                downstream: &downstream_here,
                replica: &replica,
                plan: &plan,
                progress,
                retries: Retries::new(&context_here, &policy, None, false, None),
                copies: Copies::new(&context_here, &[]),
            };
            relay(&flight, &mut upstream, &mut scratch, Instant::now()).await;
        });
        let mut watching = pin!(async {
            // The head and the first byte go out; then the upstream is silent.
            client_end.set_nonblocking(true).expect("a socket");
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n1") {
                // Would block until it is there.
                let _ = client_end.read_to_end(&mut seen);
                crate::net::sleep(Duration::from_millis(1)).await;
            }
            crate::net::sleep(Duration::from_millis(20)).await;
            let late_ms = context.clock.milliseconds(Instant::now());
            std::thread::spawn(move || {
                // Ends with an error when the other side has seen enough.
                let _ = upstream_end.write_all(&vec![b'2'; EVENT_BYTES]);
            });
            // A piece is on its way to a client that does not read.
            let mut swept = 0;
            for _ in 0..50 {
                crate::net::sleep(Duration::from_millis(1)).await;
                let just_before = late_ms + context.progress_timeout_ms() - 1;
                swept += context.downstreams.sweep(just_before).stalled;
            }
            downstream.cut();
            swept
        });
        let mut relayed = false;
        std::future::poll_fn(|task| {
            relayed = relayed || relaying.as_mut().poll(task).is_ready();
            watching.as_mut().poll(task)
        })
        .await
    })
    .expect("the runtime works");
    assert_eq!(swept, 0);
}
