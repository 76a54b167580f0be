//! HTTP/2 by the crate `h2`: a client, and an upstream whose answer depends on the path.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: HeaderMap,
}

/// A connection of a client.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    connect_and_drive(address).await.0
}

/// The same, with what its end was.
pub async fn connect_and_drive(
    address: SocketAddr,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

/// A request for `hello.com`.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://hello.com{path}"))
}

/// Send a body as the peer takes it.
pub async fn send_body(
    stream: &mut SendStream<Bytes>,
    mut body: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let capacity = match stream.capacity() {
            0 => match std::future::poll_fn(|task| stream.poll_capacity(task)).await {
                Some(capacity) => capacity?,
                None => return Ok(()),
            },
            capacity => capacity,
        };
        let piece = body.split_to(capacity.min(body.len()));
        let last = end && body.is_empty();
        stream.send_data(piece, last)?;
    }
    Ok(())
}

/// Read a body to its end.
pub async fn read_body(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        all.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((all, body.trailers().await?.unwrap_or_default()))
}

/// Send a request with a body and trailers, and read the response.
pub async fn call(
    sender: &SendRequest<Bytes>,
    request: http::request::Builder,
    body: impl Into<Bytes>,
    trailers: Option<HeaderMap>,
) -> Result<Answer, h2::Error> {
    let body = body.into();
    let mut sender = sender.clone().ready().await?;
    let request = request.body(()).expect("a request");
    let ended = body.is_empty() && trailers.is_none();
    let (response, mut stream) = sender.send_request(request, ended)?;
    let sending = async move {
        send_body(&mut stream, body, trailers.is_none()).await?;
        match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => Ok(()),
        }
    };
    let receiving = async {
        let (head, mut body) = response.await?.into_parts();
        let (body, trailers) = read_body(&mut body).await?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
    };
    // The response may come before the request has been taken.
    let (_, answer) = futures_util::future::join(sending, receiving).await;
    answer
}

/// What an upstream counts.
#[derive(Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: AtomicUsize,
    /// Requests begun.
    pub requests: AtomicUsize,
    /// Requests that the gateway gave up.
    pub cancelled: AtomicUsize,
    /// Bytes of `/endless` that were taken.
    pub sent: AtomicUsize,
}

/// An upstream. By path: `/hang` never answers, `/refuse` refuses the first stream, `/refuse-all`
/// every one, `/reset` ends in the
/// middle of its body, `/goaway` ends its connection with the answer, `/interim` begins with a 103,
/// `/endless` has no end; others, and tunnels, send back what they get, with its trailers.
pub struct Http2Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What came.
    pub counts: Arc<Counts>,
}

impl Http2Upstream {
    /// Start it on a thread of its own.
    pub fn start() -> Http2Upstream {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_nonblocking(true).expect("settable");
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(socket).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            });
        });
        Http2Upstream { address, counts }
    }
}

async fn serve(stream: TcpStream, counts: Arc<Counts>) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol().max_concurrent_streams(2000);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let last = request.uri().path() == "/goaway";
        tokio::spawn(answer(request, respond, Arc::clone(&counts)));
        if last {
            connection.graceful_shutdown();
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    counts: Arc<Counts>,
) {
    let number = counts.requests.fetch_add(1, Ordering::SeqCst);
    let (head, mut body) = request.into_parts();
    let mut response = Response::builder()
        .header("x-method", head.method.as_str())
        .header("x-te", head.headers.get("te").map_or("", |te| te.to_str().unwrap_or("?")))
        .header("x-authority", head.uri.authority().map_or("", |authority| authority.as_str()));
    let of_connection = ["connection", "transfer-encoding", "keep-alive", "upgrade", "host"];
    if of_connection.iter().any(|name| head.headers.contains_key(*name)) {
        response = response.header("x-of-connection", "1");
    }
    let response = response.body(()).expect("a response");
    match head.uri.path() {
        "/hang" => {
            let reset = std::future::poll_fn(|task| respond.poll_reset(task)).await;
            if reset.is_ok() {
                counts.cancelled.fetch_add(1, Ordering::SeqCst);
            }
        }
        "/refuse-all" => respond.send_reset(Reason::REFUSED_STREAM),
        "/refuse" if number == 0 => respond.send_reset(Reason::REFUSED_STREAM),
        "/reset" => {
            let Ok(mut stream) = respond.send_response(response, false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"a part"), false);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "/endless" => {
            let Ok(mut stream) = respond.send_response(response, false) else { return };
            let piece = Bytes::from(vec![b'x'; 16 * 1024]);
            while send_body(&mut stream, piece.clone(), false).await.is_ok() {
                counts.sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
        path => {
            if path == "/interim" {
                let interim = Response::builder().status(103).header("link", "</a>").body(());
                let _ = respond.send_informational(interim.expect("a response"));
            }
            let Ok(mut stream) = respond.send_response(response, false) else { return };
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                if send_body(&mut stream, data, false).await.is_err() {
                    return;
                }
            }
            let _ = match body.trailers().await {
                Ok(Some(trailers)) => stream.send_trailers(trailers),
                _ => stream.send_data(Bytes::new(), true),
            };
        }
    }
}
