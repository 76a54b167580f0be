//! What the tests share: the gateway as a child process, scripted upstreams, a raw client.

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
