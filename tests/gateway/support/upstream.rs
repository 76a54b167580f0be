//! Upstreams: one on hyper that tells what it got, and one that answers with given bytes.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// A request as an upstream got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which upstream.
    pub name: String,
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// Fields, in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// Did the request end as it should? False: its body was cut or malformed.
    pub complete: bool,
}

impl Seen {
    /// The value of a field, the first one of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The values of all fields of a name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// An HTTP/1.1 upstream on hyper: answers 200 with its name as the body and in `x-upstream`.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

impl Upstream {
    /// Start it on a thread of its own.
    pub fn start(name: &str) -> Upstream {
        Upstream::start_with(name, |seen: &Seen| {
            Response::new(Full::new(Bytes::from(seen.name.clone())))
        })
    }

    /// Start one on this address, if it is free.
    pub fn start_at(name: &str, address: SocketAddr) -> Option<Upstream> {
        let socket = TcpListener::bind(address).ok()?;
        let answer = |seen: &Seen| Response::new(Full::new(Bytes::from(seen.name.clone())));
        Some(Upstream::serve(socket, name, answer))
    }

    /// Start one that sends the request's body back.
    pub fn echo() -> Upstream {
        Upstream::start_with("echo", |seen: &Seen| {
            Response::new(Full::new(Bytes::from(seen.body.clone())))
        })
    }

    /// Start one with its own answers.
    pub fn start_with(
        name: &str,
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Upstream {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Upstream::serve(socket, name, answer)
    }

    fn serve(
        socket: TcpListener,
        name: &str,
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Upstream {
        let address = socket.local_addr().expect("bound");
        socket.set_nonblocking(true).expect("settable");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (name, record, answer) = (name.to_owned(), Arc::clone(&seen), Arc::new(answer));
        let connections = Arc::new(AtomicUsize::new(0));
        let begun = Arc::new(AtomicUsize::new(0));
        let (count, heads) = (Arc::clone(&connections), Arc::clone(&begun));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(socket).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let (name, record, answer) =
                        (name.clone(), Arc::clone(&record), Arc::clone(&answer));
                    let heads = Arc::clone(&heads);
                    let service = service_fn(move |request: Request<Incoming>| {
                        heads.fetch_add(1, Ordering::SeqCst);
                        let (name, record, answer) =
                            (name.clone(), Arc::clone(&record), Arc::clone(&answer));
                        async move {
                            let seen = take(&name, request).await;
                            let mut response = answer(&seen);
                            let value = name.parse().expect("a header value");
                            response.headers_mut().insert("x-upstream", value);
                            record.lock().expect("not poisoned").push(seen);
                            Ok::<_, Infallible>(response)
                        }
                    });
                    tokio::spawn(async move {
                        // The gateway may close at any time.
                        let _ = http1::Builder::new()
                            .half_close(true)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            });
        });
        Upstream { address, seen, connections, begun }
    }

    /// What it got so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Forget what it got so far.
    pub fn forget(&self) {
        self.seen.lock().expect("not poisoned").clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Request heads that came so far, whatever became of their bodies.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// The request that it got last.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("it got a request")
    }
}

async fn take(name: &str, request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    let (body, trailers, complete) = match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes().to_vec(), trailers, true)
        }
        Err(_) => (Vec::new(), Default::default(), false),
    };
    let pairs = |map: &hyper::HeaderMap| {
        map.iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect()
    };
    Seen {
        name: name.to_owned(),
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: pairs(&head.headers),
        body,
        trailers: pairs(&trailers),
        complete,
    }
}

/// An upstream that is scripted byte by byte: `serve` gets each connection, in order.
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<Mutex<usize>>,
}

impl Scripted {
    /// Start it on a thread of its own; each connection gets a thread.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Scripted {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        let connections = Arc::new(Mutex::new(0));
        let count = Arc::clone(&connections);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let index = {
                    let mut count = count.lock().expect("not poisoned");
                    *count += 1;
                    *count - 1
                };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(index, stream));
            }
        });
        Scripted { address, connections }
    }

    /// Answer every request head with these bytes; close after it when `close`.
    pub fn answering(bytes: impl Into<Vec<u8>>, close: bool) -> Scripted {
        let bytes = bytes.into();
        Scripted::start(move |_, mut stream| {
            while read_head(&mut stream).is_some() {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                if close {
                    let _ = stream.shutdown(Shutdown::Write);
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest);
                    return;
                }
            }
        })
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("not poisoned")
    }
}

/// Read up to and including the end of a head; `None` when the peer closed.
pub fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
