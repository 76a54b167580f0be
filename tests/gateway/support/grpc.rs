//! gRPC by the crate `tonic`, with messages that are plain bytes: a server, and what a client of it needs.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Gateway, manifests};

/// A message is its bytes.
#[derive(Clone, Copy)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What a server counts.
#[derive(Default)]
pub struct GrpcCounts {
    /// Calls begun.
    pub calls: AtomicUsize,
    /// Calls of `Hang` that were given up.
    pub cancelled: AtomicUsize,
}

/// A server, which tells of the content-type and `te` that it got in `x-type` and `x-te`. Its methods: `Talk`
/// sends each message back, with the metadata `x-ask` and `x-ask-bin` as `x-reply…`; `Collect` sends one message of all; `Count` as many as the first message says; `Fail` fails
/// with the code that the first message says, `FailLate` after a message; `Flaky` fails so at the first call;
/// `Hang` never ends.
pub struct GrpcUpstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What came.
    pub counts: Arc<GrpcCounts>,
}

impl GrpcUpstream {
    /// Start it on a thread of its own.
    pub fn start() -> GrpcUpstream {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_nonblocking(true).expect("settable");
        let counts = Arc::new(GrpcCounts::default());
        let methods = Methods { counts: Arc::clone(&counts) };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(socket).expect("a listener");
                let incoming = TcpIncoming::from(listener);
                let _ = Server::builder().serve_with_incoming(methods, incoming).await;
            });
        });
        GrpcUpstream { address, counts }
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone)]
struct Methods {
    counts: Arc<GrpcCounts>,
}

impl Service<http::Request<Body>> for Methods {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let number = self.counts.calls.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let method = Method { path, number, counts: Arc::clone(&self.counts) };
        Box::pin(async move {
            let mut grpc =
                tonic::server::Grpc::new(Plain).max_decoding_message_size(64 * 1024 * 1024);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Method {
    path: String,
    number: usize,
    counts: Arc<GrpcCounts>,
}

impl Service<Request<Streaming<Bytes>>> for Method {
    type Response = Response<Messages>;
    type Error = Status;
    type Future = Boxed<Result<Response<Messages>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (path, number, counts) = (self.path.clone(), self.number, Arc::clone(&self.counts));
        Box::pin(async move { answer(&path, number, counts, request).await })
    }
}

/// Counts when a call is given up.
struct Given(Arc<GrpcCounts>);

impl Drop for Given {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

async fn answer(
    path: &str,
    number: usize,
    counts: Arc<GrpcCounts>,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<Messages>, Status> {
    let (asked, _, mut messages) = request.into_parts();
    let one = |message: Bytes| -> Messages { Box::pin(stream::iter([Ok(message)])) };
    let mut answer: Response<Messages> = match path.rsplit('/').next().unwrap_or_default() {
        "Talk" => Response::new(Box::pin(messages)),
        "Collect" => {
            let mut all = Vec::new();
            while let Some(message) = messages.message().await? {
                all.extend_from_slice(&message);
            }
            Response::new(one(all.into()))
        }
        "Count" => {
            let count = said(&mut messages).await?;
            let counted = (0..count).map(|number| Ok(Bytes::from(number.to_string())));
            Response::new(Box::pin(stream::iter(counted)))
        }
        "Fail" => return Err(failure(said(&mut messages).await?)),
        "Flaky" => match said(&mut messages).await? {
            code if number == 0 => return Err(failure(code)),
            _ => Response::new(one(Bytes::from_static(b"again"))),
        },
        "FailLate" => {
            let code = said(&mut messages).await?;
            let first = Ok(Bytes::from_static(b"first"));
            Response::new(Box::pin(stream::iter([first, Err(failure(code))])))
        }
        "Hang" => {
            let given = Given(counts);
            std::future::pending::<()>().await;
            drop(given);
            return Err(Status::internal("it never comes here"));
        }
        _ => return Err(Status::unimplemented("no such method")),
    };
    for (name, reply) in [("x-ask", "x-reply"), ("content-type", "x-type"), ("te", "x-te")] {
        if let Some(value) = asked.get(name) {
            answer.metadata_mut().insert(reply, value.clone());
        }
    }
    if let Some(value) = asked.get_bin("x-ask-bin") {
        answer.metadata_mut().insert_bin("x-reply-bin", value.clone());
    }
    Ok(answer)
}

async fn said(messages: &mut Streaming<Bytes>) -> Result<i32, Status> {
    let message = messages.message().await?.unwrap_or_default();
    let number = std::str::from_utf8(&message).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Status::invalid_argument("no number"))
}

fn failure(code: i32) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-why", MetadataValue::from_static("so"));
    let details = Bytes::from_static(b"\x00details\xff");
    Status::with_details_and_metadata(Code::from(code), "100 % w\u{00f6}rong", details, metadata)
}

/// A client that goes to `address` for `origin`.
pub async fn client(address: SocketAddr, origin: &'static str) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let endpoint = endpoint.origin(origin.parse().expect("an origin"));
    over(endpoint.connect().await.expect("the gateway listens")).await
}

/// A client on a channel.
pub async fn over(channel: Channel) -> Grpc<Channel> {
    let mut client = Grpc::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    client.ready().await.expect("open");
    client
}

/// The path of a method.
pub fn method(name: &str) -> PathAndQuery {
    format!("/test.Echo/{name}").parse().expect("a path")
}

/// Call a method with one message for one.
pub async fn unary(
    client: &mut Grpc<Channel>,
    name: &str,
    message: impl Into<Bytes>,
) -> Result<Response<Bytes>, Status> {
    client.ready().await.expect("open");
    client.unary(Request::new(message.into()), method(name), Plain).await
}

/// All messages of a response, up to its end or its error.
pub async fn all(messages: &mut Streaming<Bytes>) -> (Vec<Bytes>, Option<Status>) {
    let mut all = Vec::new();
    loop {
        match messages.next().await {
            Some(Ok(message)) => all.push(message),
            Some(Err(status)) => return (all, Some(status)),
            None => return (all, None),
        }
    }
}

/// A gateway for every host before these endpoints of gRPC, whose one route has these further fields
/// (indented by four).
pub fn before(endpoints: &[SocketAddr], fields: &str) -> Gateway {
    before_with(endpoints, fields, "HTTP")
}

/// The same with the protocol of its Gateway's server.
pub fn before_with(endpoints: &[SocketAddr], fields: &str, protocol: &str) -> Gateway {
    let service = service(endpoints);
    let routes =
        manifests::any_host(&format!("  - route: [{{destination: {{host: hello}}}}]\n{fields}"));
    let routes = routes.replacen("protocol: HTTP", &format!("protocol: {protocol}"), 1);
    Gateway::start(&[("routes.yaml", &routes), ("service.yaml", &service)])
}

/// The Service `hello` with these endpoints, which speak gRPC.
pub fn service(endpoints: &[SocketAddr]) -> String {
    let port = "{name: http, port: 80, appProtocol: grpc}";
    manifests::hello_service(endpoints).replacen("{name: http, port: 80}", port, 1)
}
