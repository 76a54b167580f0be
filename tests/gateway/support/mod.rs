//! What the tests share: the gateway as a child process, scripted upstreams, a raw client.

pub mod browser;
pub mod collector;
pub mod dns;
pub mod frames;
pub mod gateway;
pub mod grpc;
pub mod http2;
pub mod manifests;
pub mod metrics;
pub mod raw;
pub mod tls;
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

/// Bytes that show when a piece is missing, repeated or moved.
pub fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ size as u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// An upstream that tells what it got, and a gateway with the tutorial's manifests before it.
pub fn hello(arguments: &[&str]) -> (Upstream, Gateway) {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::before(&[upstream.address], arguments);
    (upstream, gateway)
}
