//! TLS and HTTP/2 against servers of other makers' libraries.

#[allow(dead_code, reason = "the servers of the other tests")]
mod support;

use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{load, run_json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Options of a short run.
const SHORT: &[&str] = &["-R", "200", "-c", "4", "-d", "1s", "--warmup", "100ms", "-q"];
/// Longer than a window of flow control and many records.
const BODY: usize = 3_000_000;

/// A certificate for `hello.test`, its file, and a server that shows it.
struct Identity {
    folder: tempfile::TempDir,
    config: Arc<ServerConfig>,
}

impl Identity {
    fn new(protocol: &str) -> Identity {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["hello.test".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("trust.pem"), cert.pem()).expect("written");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Identity { folder, config: Arc::new(config) }
    }

    fn trust(&self) -> String {
        let path: PathBuf = self.folder.path().join("trust.pem");
        path.display().to_string()
    }
}

/// Serves on a thread of its own; the port.
fn serve(identity: Option<&Identity>, http2: bool, body: usize) -> u16 {
    let acceptor = identity.map(|identity| TlsAcceptor::from(Arc::clone(&identity.config)));
    let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    listener.set_nonblocking(true).expect("set");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime.expect("a runtime"), async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::task::spawn_local(async move {
                    match acceptor {
                        None => answer(stream, http2, body).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, http2, body).await;
                            }
                        }
                    }
                });
            }
        });
    });
    port
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, http2: bool, body: usize) {
    if http2 {
        answer_http2(stream, body).await;
    } else {
        answer_http1(stream, body).await;
    }
}

async fn answer_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: usize) {
    let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {body}\r\n\r\n").into_bytes();
    response.resize(response.len() + body, b'x');
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        head.extend_from_slice(&buffer[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(&response).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Echoes request bodies; to requests without one it answers `body` bytes. `/reset` gets a reset.
async fn answer_http2(stream: impl AsyncRead + AsyncWrite + Unpin, body: usize) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/reset" {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            continue;
        }
        tokio::task::spawn_local(async move {
            let mut received = Vec::new();
            let mut incoming = request.into_body();
            while let Some(Ok(piece)) = incoming.data().await {
                let _ = incoming.flow_control().release_capacity(piece.len());
                received.extend_from_slice(&piece);
            }
            let answer = if received.is_empty() { vec![b'x'; body] } else { received };
            let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else {
                return;
            };
            let _ = stream.send_data(Bytes::from(answer), true);
        });
    }
}

fn run(url: &str, more: &[&str]) -> serde_json::Value {
    let mut arguments = vec!["run", url];
    arguments.extend(SHORT);
    arguments.extend(more);
    run_json(&arguments)
}

#[test]
fn http1_over_tls_with_a_trusted_certificate() {
    let identity = Identity::new("http/1.1");
    let url = format!("https://127.0.0.1:{}/", serve(Some(&identity), false, 100));
    let trust = identity.trust();
    let run = run(&url, &["--trust", &trust, "--host", "hello.test"]);
    assert_eq!(run["counts"]["completed"], 200, "{run:#}");
    assert_eq!(run["counts"]["connections"], 4);
    assert_eq!(run["times"]["connect"]["count"], 4);
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_tls_failure_unless_any_will_do() {
    let (identity, other) = (Identity::new("http/1.1"), Identity::new("http/1.1"));
    let url = format!("https://127.0.0.1:{}/", serve(Some(&identity), false, 100));
    let trust = other.trust();
    let refused = run(&url, &["--trust", &trust, "--host", "hello.test"]);
    assert_eq!(refused["counts"]["failed"]["tls"], 200, "{refused:#}");
    let run = run(&url, &["--insecure"]);
    assert_eq!(run["counts"]["completed"], 200, "{run:#}");
}

#[test]
fn clear_text_behind_an_https_url_is_a_tls_failure() {
    let url = format!("https://127.0.0.1:{}/", serve(None, false, 100));
    let run = run(&url, &["--insecure", "--timeout", "300ms", "-R", "20"]);
    assert_eq!(run["counts"]["completed"], 0, "{run:#}");
    assert_eq!(run["counts"]["offered"], 20, "{run:#}");
    let failed = run["counts"]["failed"].as_object().cloned().unwrap_or_default();
    let expected = ["tls", "connect_timeout", "unfinished"];
    assert!(failed.keys().all(|kind| expected.contains(&kind.as_str())), "{run:#}");
}

#[test]
fn a_handshake_for_each_request() {
    let identity = Identity::new("http/1.1");
    let url = format!("https://127.0.0.1:{}/", serve(Some(&identity), false, 100));
    let run = run(&url, &["--insecure", "--no-keep-alive", "-R", "50"]);
    assert_eq!(run["counts"]["completed"], 50, "{run:#}");
    let connections = run["counts"]["connections"].as_u64().unwrap_or(0);
    assert!(connections >= 50, "{connections}");
}

#[test]
fn tls_sessions_are_resumed_only_where_that_is_asked_for() {
    let identity = Identity::new("http/1.1");
    let url = format!("https://127.0.0.1:{}/", serve(Some(&identity), false, 100));
    let full = run(&url, &["--insecure", "--no-keep-alive", "-R", "50"]);
    assert_eq!(full["counts"]["resumed"], 0, "{full:#}");
    let resumed = run(&url, &["--insecure", "--no-keep-alive", "-R", "50", "--resume-tls"]);
    assert_eq!(resumed["counts"]["completed"], 50, "{resumed:#}");
    let count = resumed["counts"]["resumed"].as_u64().unwrap_or(0);
    // Those whose session another connection has used are made in full.
    assert!(count >= 25, "{resumed:#}");
}

#[test]
fn http2_in_clear_text_and_over_tls() {
    let identity = Identity::new("h2");
    let clear = format!("http://127.0.0.1:{}/", serve(None, true, 100));
    let encrypted = format!("https://127.0.0.1:{}/", serve(Some(&identity), true, 100));
    for driver in ["auto", "epoll"] {
        for url in [&clear, &encrypted] {
            let more = ["--http2", "--streams", "5", "--insecure", "--driver", driver];
            let run = run(url, &more);
            assert_eq!(run["counts"]["completed"], 200, "{url}: {run:#}");
            assert_eq!(run["counts"]["connections"], 4, "{url}: {run:#}");
            assert_eq!(run["counts"]["body_bytes"], 200 * 100);
            let bytes = run["counts"]["bytes"].as_u64().unwrap_or(0);
            // A frame has a head of 9 bytes, and each response two frames at least.
            assert!((200 * 118..200 * 200).contains(&bytes), "{url}: {bytes}");
            assert_eq!(run["plan"]["protocol"], "HTTP/2");
        }
    }
}

#[test]
fn large_bodies_pass_flow_control_both_ways() {
    let identity = Identity::new("h2");
    let tls = format!("https://127.0.0.1:{}/", serve(Some(&identity), true, BODY));
    let received = run(&tls, &["--http2", "--insecure", "-R", "5", "-c", "2"]);
    assert_eq!(received["counts"]["completed"], 5, "{received:#}");
    assert_eq!(received["counts"]["body_bytes"], 5 * BODY);
    let body = "y".repeat(100_000);
    let sent = run(&tls, &["--http2", "--insecure", "-m", "POST", "-b", &body, "-R", "5"]);
    assert_eq!(sent["counts"]["body_bytes"], 5 * 100_000, "{sent:#}");
    let http1 = Identity::new("http/1.1");
    let tls = format!("https://127.0.0.1:{}/", serve(Some(&http1), false, BODY));
    let received = run(&tls, &["--insecure", "-R", "5", "-c", "2"]);
    assert_eq!(received["counts"]["completed"], 5, "{received:#}");
}

#[test]
fn http2_streams_that_are_reset_and_servers_that_speak_http1_are_counted() {
    let reset = format!("http://127.0.0.1:{}/reset", serve(None, true, 100));
    let resets = run(&reset, &["--http2"]);
    assert_eq!(resets["counts"]["failed"]["stream"], 200, "{resets:#}");
    assert_eq!(resets["counts"]["connections"], 4, "a reset stream leaves its connection");
    let identity = Identity::new("http/1.1");
    let url = format!("https://127.0.0.1:{}/", serve(Some(&identity), false, 100));
    let run = run(&url, &["--http2", "--insecure", "-R", "20"]);
    assert_eq!(run["counts"]["failed"]["tls"], 20, "the protocols do not agree: {run:#}");
}

#[test]
fn tls_mistakes_are_told_before_the_run() {
    let (code, _, errors) = load(&["run", "https://127.0.0.1:1/", "--trust", "/none.pem"]);
    assert!(code == Some(1) && errors.contains("/none.pem"), "{errors}");
}
