//! A target for trials: the same response to every request, at next to no cost.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, TcpStream};

use crate::runtime::{self, Driver};

/// Bytes of the buffer for requests.
const BUFFER: usize = 4 * 1024;
/// How much of each second a server may stall.
const STALL_MAX: Duration = Duration::from_millis(900);

/// What it answers and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Responder {
    pub(crate) body: usize,
    /// For so long in every second nothing is answered.
    pub(crate) stall: Option<Duration>,
    pub(crate) lifetime: Duration,
}

/// Opens the port that [`serve`] serves.
pub(crate) fn listen(port: u16) -> io::Result<StdListener> {
    StdListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Serves on this thread until its lifetime is over. The error is in words.
pub(crate) fn serve(
    listener: StdListener,
    driver: Driver,
    responder: Responder,
) -> Result<(), String> {
    let served = runtime::run(driver, accept(listener, driver, responder))?;
    served.map_err(|error| format!("the responder failed: {error}"))
}

async fn accept(listener: StdListener, driver: Driver, responder: Responder) -> io::Result<()> {
    listener.set_nonblocking(driver == Driver::Epoll)?;
    let listener = TcpListener::from_std(listener)?;
    let mut response =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", responder.body).into_bytes();
    response.resize(response.len() + responder.body, b'x');
    // It lives as long as the process, which serves but once or twice.
    let response: &'static [u8] = Vec::leak(response);
    let gate = Rc::new(Gate::new(responder.stall));
    let over = Rc::new(Cell::new(false));
    monoio::spawn({
        let gate = Rc::clone(&gate);
        let over = Rc::clone(&over);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                if over.get() {
                    break;
                }
                monoio::spawn(answer(stream, response, Rc::clone(&gate)));
            }
        }
    });
    monoio::time::sleep(responder.lifetime).await;
    over.set(true);
    Ok(())
}

/// Closed for a part of every second.
#[derive(Debug)]
struct Gate {
    opened: Instant,
    stall: Option<Duration>,
}

impl Gate {
    fn new(stall: Option<Duration>) -> Gate {
        Gate { opened: Instant::now(), stall: stall.map(|stall| stall.min(STALL_MAX)) }
    }

    async fn pass(&self) {
        let Some(stall) = self.stall else { return };
        let into_second = Duration::from_nanos(self.opened.elapsed().subsec_nanos().into());
        if into_second < stall {
            monoio::time::sleep(stall - into_second).await;
        }
    }
}

/// Answers what looks like the end of a request's head. Requests have no bodies here.
async fn answer(mut stream: TcpStream, response: &'static [u8], gate: Rc<Gate>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut tail = [0_u8; 4];
    loop {
        let (received, filled) = stream.read(buffer).await;
        buffer = filled;
        let Ok(1..) = received else { return };
        let mut ends = 0;
        for &byte in &buffer {
            tail = [tail[1], tail[2], tail[3], byte];
            ends += usize::from(tail == *b"\r\n\r\n");
        }
        gate.pass().await;
        for _ in 0..ends {
            let mut rest = response;
            while !rest.is_empty() {
                let (Ok(sent @ 1..), _) = stream.write(rest).await else { return };
                rest = &rest[sent..];
            }
        }
        if has_close(&buffer) {
            return;
        }
    }
}

fn has_close(request: &[u8]) -> bool {
    const CLOSE: &[u8] = b"connection: close";
    request.windows(CLOSE.len()).any(|window| window.eq_ignore_ascii_case(CLOSE))
}
