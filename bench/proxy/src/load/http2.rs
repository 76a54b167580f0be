//! HTTP/2, in clear text or over TLS, and gRPC on it: several requests under way on each connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, StatusCode, header};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{ERROR_LIMIT, Outcome, PATIENCE, PROBE_PATIENCE, Plan, Watch};
use crate::grpc;
use crate::service::Protocol;

/// Windows of flow control that a run never waits for, bytes: of a stream and of a connection.
const WINDOWS: (u32, u32) = (1 << 20, 1 << 24);
/// Body of every response but gRPC's, bytes.
const BODY: usize = 100;

type Failure = Box<dyn std::error::Error + Send + Sync>;

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Runs the plan; an error when a connection cannot be opened or the watched processes are gone.
pub(super) fn run(plan: &Plan) -> io::Result<Outcome> {
    on_one_thread(run_local(plan))?
}

/// Makes one request on a connection of its own; the status.
pub(super) fn probe(plan: &Plan) -> io::Result<u16> {
    let trial = async {
        let mut sender = open(plan).await?;
        let answer = Question::new(plan)?.ask(&mut sender).await?;
        Ok(if answer.is_good { 200 } else { answer.status.as_u16() })
    };
    // The time-out wants the runtime's clock, which is there only within the runtime.
    let outcome = on_one_thread(async { timeout(PROBE_PATIENCE, trial).await })??;
    outcome.map_err(|failure: Failure| io::Error::other(failure.to_string()))
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, work))
}

/// What the tasks of a run share.
struct Shared {
    questions: Vec<Question>,
    next: Cell<usize>,
    stopping: Cell<bool>,
    outcome: RefCell<Outcome>,
}

async fn run_local(plan: &Plan) -> io::Result<Outcome> {
    let other = |failure: Failure| io::Error::other(failure.to_string());
    let watch = Watch::of(plan);
    let questions = plan.hosts.iter().map(|host| Question::for_host(plan, host));
    let shared = Rc::new(Shared {
        questions: questions.collect::<Result<_, _>>().map_err(other)?,
        next: Cell::new(0),
        stopping: Cell::new(false),
        outcome: RefCell::default(),
    });
    let mut streams = JoinSet::new();
    for _ in 0..plan.connections {
        let sender = timeout(PATIENCE, open(plan)).await?.map_err(other)?;
        for _ in 0..plan.streams {
            streams.spawn_local(keep_asking(sender.clone(), shared.clone()));
        }
    }
    sleep(plan.warmup).await;
    let begin = watch.mark(shared.outcome.borrow().total)?;
    sleep(plan.window).await;
    let end = watch.mark(shared.outcome.borrow().total)?;
    shared.stopping.set(true);
    let all_ended = async { while streams.join_next().await.is_some() {} };
    // Those that are still waiting have lost their response.
    let lost = if timeout(PATIENCE, all_ended).await.is_err() { streams.len() as u64 } else { 0 };
    let mut outcome = *shared.outcome.borrow();
    outcome.errors += lost;
    begin.until(&end, &mut outcome);
    Ok(outcome)
}

/// Asks again and again until the run stops. An error ends this stream: the run is worth nothing.
async fn keep_asking(mut sender: SendRequest<Bytes>, shared: Rc<Shared>) {
    while !shared.stopping.get() && shared.outcome.borrow().errors < ERROR_LIMIT {
        let turn = shared.next.get();
        shared.next.set((turn + 1) % shared.questions.len());
        let answer = shared.questions[turn].ask(&mut sender).await;
        let mut outcome = shared.outcome.borrow_mut();
        match answer {
            Ok(answer) => {
                outcome.total += 1;
                outcome.non_2xx += u64::from(!answer.is_good);
            }
            Err(failure) => {
                if outcome.errors == 0 {
                    eprintln!("load: {failure}");
                }
                outcome.errors += 1;
                return;
            }
        }
    }
}

/// Opens a connection; a task of its own drives it from then on.
async fn open(plan: &Plan) -> Result<SendRequest<Bytes>, Failure> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, plan.port)).await?;
    stream.set_nodelay(true)?;
    let stream: Pin<Box<dyn Duplex>> = match &plan.tls {
        None => Box::pin(stream),
        Some(config) => {
            let name = ServerName::try_from(plan.first_host().to_owned())?;
            let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(plan.protocol.alpn().as_bytes()) {
                return Err("the server did not choose HTTP/2 in the TLS handshake".into());
            }
            Box::pin(stream)
        }
    };
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .handshake(stream)
        .await?;
    spawn_local(async move {
        // Every request under way tells of the end of its connection.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A request that is made many times.
struct Question {
    request: Request<()>,
    /// The body that follows; also what tells a gRPC call.
    body: Option<Bytes>,
    /// The message that a gRPC reply must have.
    reply: Bytes,
}

/// A complete response.
struct Answer {
    status: StatusCode,
    /// The status is 2xx, and 0 at the end of a gRPC call.
    is_good: bool,
}

impl Question {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        Self::for_host(plan, plan.first_host())
    }

    fn for_host(plan: &Plan, host: &str) -> Result<Self, Failure> {
        let is_grpc = plan.protocol == Protocol::Grpc;
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let path = if is_grpc { grpc::PATH } else { &plan.path };
        let mut request = Request::builder().uri(format!("{scheme}://{host}{path}")).body(())?;
        if is_grpc {
            *request.method_mut() = Method::POST;
            let fields = request.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(Self { request, body: is_grpc.then(grpc::request), reply: grpc::reply() })
    }

    /// Makes the request and reads the response to its end. A body other than the one that the
    /// upstream sends with a good status is an error.
    async fn ask(&self, sender: &mut SendRequest<Bytes>) -> Result<Answer, Failure> {
        poll_fn(|context| sender.poll_ready(context)).await?;
        let (response, mut stream) =
            sender.send_request(self.request.clone(), self.body.is_none())?;
        if let Some(body) = &self.body {
            stream.send_data(body.clone(), true)?;
        }
        let response = response.await?;
        let status = response.status();
        let mut incoming = response.into_body();
        let mut first = Bytes::new();
        let mut whole: Vec<u8> = Vec::new();
        while let Some(chunk) = incoming.data().await {
            let chunk = chunk?;
            incoming.flow_control().release_capacity(chunk.len())?;
            if first.is_empty() {
                first = chunk;
            } else {
                // Bodies mostly come in one piece.
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&chunk);
            }
        }
        let trailers = incoming.trailers().await?;
        let body = if whole.is_empty() { &first[..] } else { &whole[..] };
        if !status.is_success() {
            return Ok(Answer { status, is_good: false });
        }
        if self.body.is_none() {
            return if body.len() == BODY {
                Ok(Answer { status, is_good: true })
            } else {
                Err(format!("a body of {} bytes, not {BODY}", body.len()).into())
            };
        }
        let outcome = trailers.as_ref().and_then(|fields| fields.get(grpc::STATUS));
        let is_good = outcome.is_some_and(|value| value == "0");
        match (grpc::message(body), grpc::message(&self.reply)) {
            (Ok(message), Ok(expected)) if message == expected => Ok(Answer { status, is_good }),
            _ if !is_good => Ok(Answer { status, is_good }),
            (message, _) => Err(format!("another message than the reply: {message:?}").into()),
        }
    }
}
