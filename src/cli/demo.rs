//! `ringress demo`: the hello manifests with an embedded backend, on loopback. The backend is the
//! one place where `monoio-http` serves: its bytes come from our own gateway only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Parser};
use http::{Response, StatusCode};
use monoio::io::Splitable;
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::net::TcpStream;
use monoio_http::common::request::Request;
use monoio_http::h1::codec::decoder::{FillPayload, RequestDecoder};
use monoio_http::h1::codec::encoder::GenericEncoder;
use monoio_http::h1::payload::{FixedPayload, Payload};

use super::options::RunOptions;
use crate::server::{self, ServerError};

const GATEWAY: &str = include_str!("../../config/hello/gateway.yaml");
const SERVICE: &str = include_str!("../../config/hello/service.yaml");
/// The backend's port in [`SERVICE`], replaced by the one it got.
const BACKEND_PORT: &str = "9080";

/// Options of `ringress demo`.
#[derive(Clone, Debug, Args)]
pub(super) struct DemoOptions {
    /// Port to listen on; 0: any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    /// Port of the admin pages; 0: any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    admin_port: u16,
}

#[derive(Parser)]
struct Wrapped {
    #[command(flatten)]
    run: RunOptions,
}

/// Serve the demo until it is stopped.
pub(super) fn run(options: &DemoOptions) -> Result<(), ServerError> {
    let backend = start_backend().map_err(ServerError::Demo)?;
    let port = choose_port(options.port).map_err(ServerError::Demo)?;
    let directory = ManifestDirectory::write(backend.port()).map_err(ServerError::Demo)?;
    let arguments = [
        "demo".to_owned(),
        format!("--config={}", directory.0.display()),
        format!("--port-map=80={port}"),
        "--bind=127.0.0.1".to_owned(),
        "--admin-only".to_owned(),
        format!("--admin-port={}", options.admin_port),
        "--drain-timeout=2s".to_owned(),
        "--access-log=-".to_owned(),
    ];
    let run = Wrapped::try_parse_from(arguments)
        .map_err(|error| ServerError::Demo(io::Error::other(error)))?
        .run;
    server::run_until_stopped(&run, |started| {
        println!("The hello manifests are served:");
        println!("  Gateway hello-gateway           port 80, here {}", started.listener_text());
        println!("  VirtualService frontend-ingress hello.com -> hello.default.svc.cluster.local");
        println!("  EndpointSlice hello-1           an embedded backend on {backend}");
        println!();
        println!("Try it:     curl -i -H 'Host: hello.com' http://127.0.0.1:{port}/");
        println!(
            "            curl -i -H 'Host: other.com' http://127.0.0.1:{port}/   (404: no route)"
        );
        if let Some(admin) = started.admin {
            println!("Metrics:    curl http://{admin}/stats/prometheus");
            println!("What it does: curl http://{admin}/config_dump");
        }
        println!("Manifests:  {} (edit them: changes are followed)", directory.0.display());
        println!("Stop it:    Ctrl-C");
        println!();
    })
}

/// The asked port if it is free, else any.
fn choose_port(asked: u16) -> io::Result<u16> {
    let address = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match TcpListener::bind(address(asked)) {
        Ok(socket) => Ok(socket.local_addr()?.port()),
        Err(_) => Ok(TcpListener::bind(address(0))?.local_addr()?.port()),
    }
}

/// A directory of manifests that goes with the process.
struct ManifestDirectory(PathBuf);

impl ManifestDirectory {
    fn write(backend_port: u16) -> io::Result<ManifestDirectory> {
        let path = std::env::temp_dir().join(format!("ringress-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        let directory = ManifestDirectory(path);
        let service = SERVICE.replace(BACKEND_PORT, &backend_port.to_string());
        directory.put("gateway.yaml", GATEWAY)?;
        directory.put("service.yaml", &service)?;
        Ok(directory)
    }

    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.0.join(Path::new(name)), text)
    }
}

impl Drop for ManifestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Start the backend on a thread of its own; returns where it listens.
fn start_backend() -> io::Result<SocketAddr> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::Builder::new().name("hello".into()).spawn(move || {
        let driver = match crate::net::runtime::Driver::choose(Default::default()) {
            Ok((driver, _)) => driver,
            Err(_) => crate::net::runtime::Driver::Epoll,
        };
        let blocking = driver != crate::net::runtime::Driver::Epoll;
        let serve = async move {
            socket.set_nonblocking(!blocking)?;
            let listener = monoio::net::TcpListener::from_std(socket)?;
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    drop(monoio::spawn(serve_connection(stream)));
                }
            }
        };
        let outcome: Result<io::Result<()>, _> = crate::net::runtime::run(driver, serve);
        eprintln!("ringress: the demo's backend ended: {outcome:?}");
    })?;
    Ok(address)
}

async fn serve_connection(stream: TcpStream) {
    let (reader, writer) = stream.into_split();
    let mut requests = RequestDecoder::new(reader);
    let mut responses = GenericEncoder::new(writer);
    while let Some(Ok(request)) = requests.next().await {
        // The whole body is taken before the answer, as the decoder wants it.
        let (head, _unread) = request.into_parts();
        if requests.fill_payload().await.is_err() {
            return;
        }
        let Ok(response) = answer(&Request::from_parts(head, Payload::None)) else { return };
        if responses.send_and_flush(response).await.is_err() {
            return;
        }
    }
}

/// What the backend says: a greeting and the request as the gateway sent it.
fn answer(request: &Request) -> http::Result<Response<Payload>> {
    let mut text = format!(
        "Hello from the hello service!\n\nThe gateway sent:\n{} {}\n",
        request.method(),
        request.uri()
    );
    for (name, value) in request.headers() {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push('\n');
    }
    Response::builder()
        .status(StatusCode::OK)
        .header("content-type", "text/plain")
        .body(Payload::Fixed(FixedPayload::new(Bytes::from(text))))
}
