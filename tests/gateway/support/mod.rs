//! What the tests share: the gateway as a child process, scripted upstreams, a raw client.

#![allow(unreachable_pub, reason = "a test binary exports nothing; `pub` marks what is shared")]

pub mod gateway;
pub mod manifests;
pub mod metrics;
pub mod raw;
pub mod upstream;

pub use gateway::Gateway;
pub use upstream::Upstream;

use std::future::Future;

/// Run an async test body with a deadline that only keeps a hang from blocking the suite.
pub fn block_on<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(60), body).await.expect("the test hung")
    })
}

/// Wait for something that must come; the deadline only keeps a hang from blocking the suite.
#[track_caller]
pub fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it never came");
}
