//! The smallest honest proxy made of Pingora: `hello.com` with any path goes to one upstream, anything
//! else is 404. Threads, pools and time-outs come from a file of Pingora's own form (`conf.yaml` beside this
//! crate); where to listen and what to speak comes from the command line.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::proxy::http_proxy_service;
use pingora::upstreams::peer::PeerOptions;

/// The host that is served, as in the other peers' configurations.
const HOST: &str = "hello.com";
/// How long idle connections stay on both sides, seconds; too long to matter, as with the other peers.
const IDLE_SECONDS: u64 = 3600;

const USAGE: &str = "\
A minimal proxy built on Pingora

Usage: pingora-peer SERVICE --conf FILE --listen ADDRESS --upstream ADDRESS…
                    [--certificate FILE --key FILE] [--upgrade]
       pingora-peer --version

  SERVICE        http1, tls, http2, http2-tls or grpc
  --upgrade      take the listening sockets over from a process that gets SIGQUIT";

/// What clients and the upstream speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Http1,
    Tls,
    Http2,
    Http2Tls,
    Grpc,
}

impl Service {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "http1" => Self::Http1,
            "tls" => Self::Tls,
            "http2" => Self::Http2,
            "http2-tls" => Self::Http2Tls,
            "grpc" => Self::Grpc,
            _ => return None,
        })
    }
}

struct Arguments {
    service: Service,
    conf: String,
    listen: String,
    /// In turn.
    upstreams: Vec<SocketAddr>,
    /// Certificate and key, PEM files; of services over TLS.
    identity: Option<(String, String)>,
    upgrade: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let service = words.next().ok_or("which service?")?;
        let service =
            Service::named(&service).ok_or_else(|| format!("no service is called {service:?}"))?;
        let (mut conf, mut listen, mut upstreams) = (None, None, Vec::new());
        let (mut certificate, mut key, mut upgrade) = (None, None, false);
        while let Some(word) = words.next() {
            if word == "--upgrade" {
                upgrade = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let place = match word.as_str() {
                "--conf" => &mut conf,
                "--listen" => &mut listen,
                "--upstream" => {
                    upstreams.push(value.parse().map_err(|_| format!("{value:?} is no address"))?);
                    continue;
                }
                "--certificate" => &mut certificate,
                "--key" => &mut key,
                _ => return Err(format!("unknown option {word}")),
            };
            *place = Some(value);
        }
        let identity = certificate.zip(key);
        if matches!(service, Service::Tls | Service::Http2Tls) && identity.is_none() {
            return Err("TLS needs --certificate and --key".to_owned());
        }
        if upstreams.is_empty() {
            return Err("--upstream is missing".to_owned());
        }
        Ok(Self {
            service,
            conf: conf.ok_or("--conf is missing")?,
            listen: listen.ok_or("--listen is missing")?,
            upstreams,
            identity,
            upgrade,
        })
    }
}

/// The one route, to its upstreams in turn.
struct Route {
    peers: Vec<HttpPeer>,
    next: AtomicUsize,
}

impl Route {
    fn new(upstreams: &[SocketAddr], service: Service) -> Self {
        let peer = |upstream: &SocketAddr| {
            let mut options = PeerOptions::new();
            options.connection_timeout = Some(Duration::from_secs(5));
            options.idle_timeout = Some(Duration::from_secs(IDLE_SECONDS));
            if service == Service::Grpc {
                options.set_http_version(2, 2);
                options.max_h2_streams = 100;
            }
            let mut peer = HttpPeer::new(upstream, false, String::new());
            peer.options = options;
            peer
        };
        Self { peers: upstreams.iter().map(peer).collect(), next: AtomicUsize::new(0) }
    }
}

/// Whether a request is for the host that is served.
fn is_for_us(request: &RequestHeader) -> bool {
    // HTTP/2 has the host in the URI, HTTP/1 in a field.
    let host = match request.uri.host() {
        Some(host) => host.as_bytes(),
        None => request.headers.get("host").map_or(&b""[..], |host| host.as_bytes()),
    };
    let name = host.split(|&byte| byte == b':').next().unwrap_or_default();
    name.eq_ignore_ascii_case(HOST.as_bytes())
}

#[async_trait]
impl ProxyHttp for Route {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> Result<bool> {
        session.set_keepalive(Some(IDLE_SECONDS));
        if is_for_us(session.req_header()) {
            return Ok(false);
        }
        session.respond_error(404).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let turn = match self.peers.len() {
            1 => 0,
            several => self.next.fetch_add(1, Ordering::Relaxed) % several,
        };
        Ok(Box::new(self.peers[turn].clone()))
    }

    /// Of several upstreams the next one is tried; its turn has come already.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        (): &mut (),
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(self.peers.len() > 1);
        error
    }
}

fn serve(arguments: Arguments) -> Result<(), String> {
    let explain = |error: Box<Error>| error.to_string();
    let options = Opt { conf: Some(arguments.conf), upgrade: arguments.upgrade, ..Opt::default() };
    let mut server = Server::new(Some(options)).map_err(explain)?;
    server.bootstrap();
    let route = Route::new(&arguments.upstreams, arguments.service);
    let mut service = http_proxy_service(&server.configuration, route);
    if matches!(arguments.service, Service::Http2 | Service::Grpc)
        && let Some(logic) = service.app_logic_mut()
    {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        logic.server_options = Some(options);
    }
    match arguments.identity {
        Some((certificate, key))
            if matches!(arguments.service, Service::Tls | Service::Http2Tls) =>
        {
            let mut settings = TlsSettings::intermediate(&certificate, &key).map_err(explain)?;
            if arguments.service == Service::Http2Tls {
                settings.enable_h2();
            }
            service.add_tls_with_settings(&arguments.listen, None, settings);
        }
        _ => service.add_tcp(&arguments.listen),
    }
    server.add_service(service);
    server.run_forever()
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    match words.peek().map(String::as_str) {
        Some("--version") => {
            println!("pingora {} (rustls)", env!("PINGORA_VERSION"));
            return ExitCode::SUCCESS;
        }
        None | Some("-h" | "--help") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match Arguments::parse(words).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("pingora-peer: {message}");
            ExitCode::FAILURE
        }
    }
}
