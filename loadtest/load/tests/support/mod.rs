//! Servers for the tests, good ones and bad ones, and the binary under test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ringress-load");

/// How a server behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// 200 with a small body.
    Good,
    /// The same in chunks.
    Chunked,
    /// What is no HTTP.
    Rubbish,
    /// The connection ends as soon as a request has come.
    CloseAtOnce,
    /// The connection ends within a body.
    CloseWithin,
    /// No answer, ever.
    Silent,
    /// Another status.
    Status(u16),
    /// More bytes than the response has.
    Surplus,
    /// 200, and a little later the same again.
    LateSurplus,
    /// 200, after which the connection ends without a word.
    EndWhenIdle,
    /// A reset as soon as a request has come.
    Reset,
}

/// A server on a thread of its own, with a thread for each connection; they end with the process.
pub(crate) struct Server {
    url: String,
}

impl Server {
    pub(crate) fn start(manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                thread::spawn(move || serve(stream, manner));
            }
        });
        Server { url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A URL at whose port nobody listens.
    pub(crate) fn url_of_nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/", listener.local_addr().expect("bound"))
    }
}

/// A port whose queue is full: the kernel drops what wants to connect.
pub(crate) struct FullQueue {
    url: String,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl FullQueue {
    pub(crate) fn new() -> FullQueue {
        let socket = || {
            let kind = socket2::Type::STREAM;
            socket2::Socket::new(socket2::Domain::IPV4, kind, None).expect("a socket")
        };
        let listener = socket();
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).expect("a free port");
        listener.listen(1).expect("it listens");
        let address = listener.local_addr().expect("bound");
        let queued = (0..4).map(|_| {
            let socket = socket();
            socket.set_nonblocking(true).expect("set");
            let _ = socket.connect(&address);
            socket
        });
        let queued = queued.collect();
        let address = address.as_socket().expect("IPv4");
        FullQueue { url: format!("http://{address}/"), _listener: listener, _queued: queued }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn serve(mut stream: TcpStream, manner: Manner) {
    let _ = stream.set_nodelay(true);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        let close = String::from_utf8_lossy(&request).contains("connection: close");
        request.clear();
        let response = match manner {
            Manner::Good | Manner::EndWhenIdle | Manner::LateSurplus => {
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned()
            }
            Manner::Chunked => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                    .to_owned()
            }
            Manner::Rubbish => "what do you want?\r\n\r\n".to_owned(),
            Manner::CloseAtOnce => return,
            Manner::CloseWithin => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello".to_owned(),
            Manner::Silent => {
                thread::sleep(Duration::from_secs(30));
                return;
            }
            Manner::Status(status) => {
                format!("HTTP/1.1 {status} Other\r\ncontent-length: 0\r\n\r\n")
            }
            Manner::Surplus => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nhello".to_owned(),
            Manner::Reset => {
                // A socket that is closed with unread bytes resets.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                let socket = std::mem::ManuallyDrop::new(stream);
                reset(&socket);
                return;
            }
        };
        if matches!(manner, Manner::LateSurplus) {
            let _ = stream.write_all(response.as_bytes());
            thread::sleep(Duration::from_millis(5));
        }
        if stream.write_all(response.as_bytes()).is_err()
            || close
            || matches!(manner, Manner::CloseWithin | Manner::EndWhenIdle)
        {
            return;
        }
    }
}

/// Closes a connection by a reset.
fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value outlives the call; the descriptor is open and nobody else closes it.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
        libc::close(stream.as_raw_fd());
    }
}

/// Runs the binary: its exit code, what it printed, and what it complained of.
pub(crate) fn load(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn result(code: Option<i32>, output: &str, errors: &str) -> Value {
    // 3: on a machine that is shared with other tests the generator may be late.
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {errors}");
    serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Makes a run; its result.
pub(crate) fn run_json(arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let (code, output, errors) = load(&arguments);
    result(code, &output, &errors)
}

/// How long a run that was interrupted is awaited.
const END_MAX: Duration = Duration::from_secs(60);

/// Makes a run that is interrupted after some time; its result. It fails if the run goes on.
pub(crate) fn interrupted(arguments: &[&str], after: Duration) -> Value {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    thread::sleep(after);
    let process = libc::pid_t::try_from(child.id()).expect("a process");
    // SAFETY: no pointers; it is our own child, which has not been waited for.
    unsafe {
        libc::kill(process, libc::SIGINT);
    }
    let deadline = std::time::Instant::now() + END_MAX;
    while child.try_wait().expect("our child").is_none() {
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("it did not end after the interrupt");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    result(status.code(), &text(stdout), &text(stderr))
}
