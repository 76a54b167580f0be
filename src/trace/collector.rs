//! The way to a collector: one HTTP/1.1 connection in clear text that is kept.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The path of traces (OTLP specification, section on HTTP).
const PATH: &str = "/v1/traces";
/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
/// One try must be over after this time.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

/// What is wrong with an address of a collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL of that kind.
    #[error("`{0}` is not an address such as http://collector:4318")]
    Malformed(String),
    /// It asks for TLS.
    #[error(
        "spans are sent in clear text only, not by https: give the address of an OpenTelemetry collector or \
         agent beside the gateway, which sends them on"
    )]
    Tls,
}

impl Endpoint {
    /// Read `http://host[:port][/path]`. Spans go to `/v1/traces` below the path, or to the path itself
    /// when it ends so.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(EndpointError::Tls),
            _ => return Err(malformed()),
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty()
        {
            return Err(malformed());
        }
        // Without digits behind the colon there is no port.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => PORT,
            None => return Err(malformed()),
        };
        let below = uri.path().trim_end_matches('/');
        let path = if below.ends_with(PATH) { below.to_owned() } else { format!("{below}{PATH}") };
        Ok(Endpoint { host: authority.host().to_owned(), port, path })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Why a collector did not take spans.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// There is no connection to it.
    #[error("it cannot be connected to: {0}")]
    Connect(std::io::Error),
    /// The exchange broke.
    #[error("the exchange with it failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// It answered with an error.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// Its answer is no answer.
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes, or ended too early")]
    Answer,
    /// Nothing came.
    #[error("it did not answer in {} s", TRY_TIMEOUT.as_secs())]
    Silent,
    /// The process is ending.
    #[error("the gateway ends")]
    Ending,
}

impl PostError {
    /// May the same spans be taken if they are sent again (OTLP specification, section on failures)?
    pub(super) fn is_transient(&self) -> bool {
        match self {
            PostError::Connect(_) | PostError::Exchange(_) | PostError::Silent => true,
            PostError::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            PostError::Answer | PostError::Ending => false,
        }
    }
}

/// A collector with the connection to it.
pub(super) struct Collector {
    endpoint: Endpoint,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Collector {
    /// Not connected yet.
    pub(super) fn new(endpoint: Endpoint) -> Collector {
        Collector { endpoint, kept: None }
    }

    /// Send an encoded request; the body of the answer.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<Bytes, PostError> {
        let whole = async {
            if let Some(kept) = self.kept.take() {
                // It may have closed the connection meanwhile, which is no fault of it.
                match self.exchange(kept, body.clone()).await {
                    Err(PostError::Exchange(_)) => {}
                    outcome => return outcome,
                }
            }
            let connection = self.connect().await?;
            self.exchange(connection, body).await
        };
        tokio::time::timeout(TRY_TIMEOUT, whole).await.unwrap_or(Err(PostError::Silent))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, PostError> {
        let host = self.endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let stream =
            TcpStream::connect((host, self.endpoint.port)).await.map_err(PostError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // What goes wrong is told to the sender of a request.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn exchange(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        body: Bytes,
    ) -> Result<Bytes, PostError> {
        connection.ready().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        let headers = request.headers_mut();
        let host = format!("{}:{}", self.endpoint.host, self.endpoint.port);
        // Both were part of a URL that could be read.
        if let Ok(host) = host.parse() {
            headers.insert(header::HOST, host);
        }
        let protobuf = header::HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, protobuf);
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static("ringress"));
        if let Ok(path) = self.endpoint.path.parse() {
            *request.uri_mut() = path;
        }
        let response = connection.send_request(request).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let answer = answer.map_err(|_| PostError::Answer)?.to_bytes();
        self.kept = Some(connection);
        if status.is_success() { Ok(answer) } else { Err(PostError::Status(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_completed() {
        for (text, whole) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://127.0.0.1:80/otlp/", "http://127.0.0.1:80/otlp/v1/traces"),
            ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
        ] {
            let endpoint = Endpoint::parse(text).map(|endpoint| endpoint.to_string());
            assert_eq!(endpoint.as_deref(), Ok(whole), "{text}");
        }
        for bad in ["", "collector:4318", "/v1", "http://", "http://a:b", "http://a:", "http://u@a"]
        {
            let outcome = Endpoint::parse(bad);
            assert!(matches!(outcome, Err(EndpointError::Malformed(_))), "{bad}: {outcome:?}");
        }
        assert_eq!(Endpoint::parse("https://collector"), Err(EndpointError::Tls));
    }

    #[test]
    fn only_failures_that_may_pass_are_tried_again() {
        for (status, transient) in
            [(400, false), (404, false), (429, true), (500, false), (503, true)]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(PostError::Status(status).is_transient(), transient, "{status}");
        }
        assert!(PostError::Silent.is_transient());
    }
}
