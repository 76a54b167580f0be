//! A target for trials: the same response to every request, at next to no cost.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::pace::PaceTimer;
use crate::runtime::{self, Driver};

/// Bytes of the buffer for requests.
const BUFFER: usize = 4 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
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
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
    let gate = responder.stall.map(Gate::new).transpose()?.map(Rc::new);
    if let Some(gate) = gate.clone() {
        monoio::spawn(async move { gate.keep().await });
    }
    let over = Rc::new(Cell::new(false));
    monoio::spawn({
        let over = Rc::clone(&over);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                if over.get() {
                    break;
                }
                monoio::spawn(answer(stream, response, gate.clone()));
            }
        }
    });
    monoio::time::sleep(responder.lifetime).await;
    over.set(true);
    Ok(())
}

/// Closed for a part of every second.
struct Gate {
    began: Instant,
    stall: Duration,
    timer: PaceTimer,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    fn new(stall: Duration) -> io::Result<Gate> {
        let timer = PaceTimer::new()?;
        Ok(Gate {
            began: Instant::now(),
            stall: stall.min(STALL_MAX),
            timer,
            waiting: RefCell::default(),
        })
    }

    /// How long it is still closed.
    fn closed_for(&self) -> Option<Duration> {
        let into_second = Duration::from_nanos(self.began.elapsed().subsec_nanos().into());
        self.stall.checked_sub(into_second).filter(|left| !left.is_zero())
    }

    async fn pass(&self) {
        poll_fn(|context| {
            if self.closed_for().is_none() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets those pass who wait, when it opens.
    async fn keep(&self) -> io::Result<()> {
        loop {
            let into_second = Duration::from_nanos(self.began.elapsed().subsec_nanos().into());
            let until_next = Duration::from_secs(1) - into_second + self.stall;
            let wait = self.closed_for().unwrap_or(until_next);
            self.timer.wait(wait.as_nanos() as u64).await?;
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Answers what looks like the end of a request's head. Requests have no bodies here.
async fn answer(mut stream: TcpStream, response: &'static [u8], gate: Option<Rc<Gate>>) {
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
        if let Some(gate) = &gate {
            gate.pass().await;
        }
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
