//! The HTTP/2 upstream: one thread, clear text, the same good answer to every gRPC call and to
//! every `GET /`.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::TcpListener;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use crate::grpc;

/// Longest request body, bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// Body of the answer to a GET.
const BODY: &[u8] = &[b'x'; 100];

/// Serves until standard input ends; the number of requests answered.
pub(super) fn serve(listener: TcpListener) -> io::Result<u64> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = Rc::new(Cell::new(0));
    let (ended, end) = oneshot::channel();
    // A thread, because standard input may be anything, also what cannot be polled.
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while !matches!(io::stdin().read(&mut buffer), Ok(0) | Err(_)) {}
        let _ = ended.send(());
    });
    let counter = served.clone();
    LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(spawn_local(connection(stream, counter.clone()))),
                    Err(error) => eprintln!("backend: no connection was accepted: {error}"),
                }
            }
        });
        // The sender cannot be dropped before it sends.
        let _ = end.await;
        Ok(served.get())
    })
}

/// Serves one connection to its end.
async fn connection(stream: TcpStream, served: Rc<Cell<u64>>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = server::Builder::new().handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let served = served.clone();
        spawn_local(async move {
            match answer(request, respond).await {
                Ok(()) => served.set(served.get() + 1),
                Err(error) => eprintln!("backend: a request was not answered: {error}"),
            }
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
        if body.len() > BODY_LIMIT {
            break;
        }
    }
    let mut response = Response::new(());
    let fields = response.headers_mut();
    match kind(&head, &body) {
        Kind::Call => {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(grpc::reply(), false)?;
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(grpc::STATUS, HeaderValue::from_static("0"));
            stream.send_trailers(trailers)
        }
        Kind::Get => {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(BODY.len()));
            respond.send_response(response, false)?.send_data(Bytes::from_static(BODY), true)
        }
        Kind::Bad => {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            respond.send_response(response, true).map(drop)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Get,
    Bad,
}

fn kind(head: &Parts, body: &[u8]) -> Kind {
    let is = |name, value: &str| head.headers.get(name).is_some_and(|field| field == value);
    // Without the word that trailers are understood the outcome would be lost.
    let is_call = head.method == Method::POST
        && head.uri.path() == grpc::PATH
        && is(header::CONTENT_TYPE, grpc::CONTENT_TYPE)
        && is(header::TE, "trailers");
    if is_call && grpc::message(body).is_ok() {
        Kind::Call
    } else if head.method == Method::GET && head.uri.path() == "/" && body.is_empty() {
        Kind::Get
    } else {
        Kind::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(format!("http://hello.com{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("good").into_parts().0
    }

    #[test]
    fn calls_and_gets_are_told_from_the_rest() {
        let grpc = ("content-type", "application/grpc");
        let trailers = ("te", "trailers");
        let call = grpc::request();
        for (head, body, expected) in [
            (head("POST", grpc::PATH, &[grpc, trailers]), &call[..], Kind::Call),
            (head("POST", grpc::PATH, &[grpc]), &call, Kind::Bad),
            (head("POST", grpc::PATH, &[trailers]), &call, Kind::Bad),
            (head("POST", "/other", &[grpc, trailers]), &call, Kind::Bad),
            (head("POST", grpc::PATH, &[grpc, trailers]), b"rubbish", Kind::Bad),
            (head("GET", "/", &[]), b"", Kind::Get),
            (head("GET", "/", &[]), b"x", Kind::Bad),
            (head("GET", "/10k", &[]), b"", Kind::Bad),
        ] {
            assert_eq!(kind(&head, body), expected, "{head:?}");
        }
    }
}
