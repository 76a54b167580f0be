//! Whole connections whose records are changed, cut, split, doubled, swapped and left out on their way,
//! in both directions and on both sides: they end well or in an error, never in a panic. The library
//! beneath panics when it is shown other bytes than those it looked at before; this is what holds us to it.

use std::time::Duration;

use super::*;

/// Cases in a run of the suite; more by `RINGRESS_TLS_CASES=5000 cargo test --lib mangled`.
const CASES: u64 = 120;
/// A peer that waits so long for records that were left out closes.
const PEER_PATIENCE: Duration = Duration::from_millis(25);

/// Records so small that handshake messages, tickets too, are cut over several.
const SMALL_RECORD_BYTES: usize = 48;

/// What happens to a record.
#[derive(Clone, Copy, Debug)]
enum Mangling {
    /// A bit of it changes, in the header perhaps.
    Flip,
    /// Its end is cut off, and its length tells so.
    Shorten,
    /// Its end is cut off, and its length does not tell.
    Cut,
    /// It becomes two records.
    Split,
    /// It comes byte by byte, or nearly.
    Drip,
    /// It comes twice.
    Double,
    /// It does not come.
    Drop,
    /// It comes after the next.
    Delay,
    /// A record of another kind comes before it.
    Insert,
    /// Its content type changes.
    Retype,
}

const MANGLINGS: [Mangling; 10] = [
    Mangling::Flip,
    Mangling::Shorten,
    Mangling::Cut,
    Mangling::Split,
    Mangling::Drip,
    Mangling::Double,
    Mangling::Drop,
    Mangling::Delay,
    Mangling::Insert,
    Mangling::Retype,
];

const HEADER: usize = 5;

/// A socket of the peer's that mangles what passes.
struct Mangler {
    socket: TcpStream,
    random: fastrand::Rng,
    /// By which record of the peer's what happens.
    plan: Vec<(usize, Mangling)>,
    record: usize,
    delayed: Vec<u8>,
    /// Which byte to the peer changes.
    flip_incoming: Option<usize>,
    incoming: usize,
}

impl Mangler {
    fn mangle(&mut self, what: Mangling, record: &mut Vec<u8>) -> Vec<Vec<u8>> {
        let random = &mut self.random;
        match what {
            Mangling::Flip => {
                let at = random.usize(..record.len());
                record[at] ^= 1 << random.u32(..8);
            }
            Mangling::Shorten => {
                record.truncate(random.usize(HEADER..=record.len()));
                set_length(record);
            }
            Mangling::Cut => record.truncate(random.usize(..record.len())),
            Mangling::Split => {
                let at = random.usize(HEADER..=record.len());
                let mut second = record[..HEADER].to_vec();
                second.extend_from_slice(&record[at..]);
                record.truncate(at);
                set_length(record);
                set_length(&mut second);
                return vec![std::mem::take(record), second];
            }
            Mangling::Drip => {
                let step = 1 + record.len() / random.usize(2..40);
                return record.chunks(step).map(<[u8]>::to_vec).collect();
            }
            Mangling::Double => return vec![record.clone(), std::mem::take(record)],
            Mangling::Drop => record.clear(),
            Mangling::Delay => self.delayed.append(record),
            Mangling::Insert => {
                let kind = [20, 21, 22, 23, 24, 0][random.usize(..6)];
                let content: &[u8] = match random.u32(..5) {
                    0 => &[],
                    1 => &[1],
                    2 => &[1, 0],
                    3 => &[2, 40],
                    // The beginning of a handshake message that goes on.
                    _ => &[11, 0, 1, 0, 0],
                };
                let mut other = vec![kind, 3, 3, 0, 0];
                other.extend_from_slice(content);
                set_length(&mut other);
                return vec![other, std::mem::take(record)];
            }
            Mangling::Retype => record[0] = [20, 21, 22, 23, 24, 0, 255][random.usize(..7)],
        }
        vec![std::mem::take(record)]
    }
}

fn set_length(record: &mut [u8]) {
    let length = u16::try_from(record.len() - HEADER).expect("a record").to_be_bytes();
    record[3..HEADER].copy_from_slice(&length);
}

impl Write for Mangler {
    /// What the library writes at once are whole records.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = HEADER + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            let (record, next) = rest.split_at(length);
            rest = next;
            let mut record = record.to_vec();
            let planned = self.plan.iter().find(|(at, _)| *at == self.record).copied();
            self.record += 1;
            let delayed = std::mem::take(&mut self.delayed);
            let pieces = match planned {
                Some((_, what)) => self.mangle(what, &mut record),
                None => vec![record],
            };
            for piece in pieces {
                self.socket.write_all(&piece)?;
                if self.random.u32(..4) == 0 {
                    // So that the next comes by itself.
                    std::thread::yield_now();
                }
            }
            self.socket.write_all(&delayed)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Mangler {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let limit = into.len().min(self.random.usize(1..5000));
        let count = self.socket.read(&mut into[..limit])?;
        if let Some(at) = self.flip_incoming
            && (self.incoming..self.incoming + count).contains(&at)
        {
            into[at - self.incoming] ^= 1 << self.random.u32(..8);
        }
        self.incoming += count;
        Ok(count)
    }
}

/// Talk as the peer does, and say something behind an end of the other side, too.
fn talk<C, D>(connection: &mut C, mut socket: Mangler)
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    if converse_and_end(connection, &mut socket).is_err() && !connection.is_handshaking() {
        for _ in 0..2 {
            socket.plan.push((socket.record, MANGLINGS[socket.random.usize(..MANGLINGS.len())]));
            let _ = connection.writer().write(b"late");
            let _ = connection.write_tls(&mut socket);
        }
    }
}

/// Data of several sizes, new keys, the end.
fn converse_and_end<C, D>(connection: &mut C, socket: &mut Mangler) -> std::io::Result<()>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    for round in 0..3 {
        let sent = pattern([4, 3000, 40_000][socket.random.usize(..3)], round);
        let mut stream = rustls::Stream::new(connection, socket);
        stream.write_all(&sent)?;
        stream.flush()?;
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back)?;
        if back != sent {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        if socket.random.bool() {
            // (Not in TLS 1.2.)
            let _ = connection.refresh_traffic_keys();
        }
    }
    connection.send_close_notify();
    rustls::Stream::new(connection, socket).flush()
}

/// Send back what comes, until the end or an error; give up early at times.
async fn echo(stream: Stream, pools: &TlsPools, random: &mut fastrand::Rng) -> bool {
    let patient = random.u32(..4) > 0;
    for _ in 0..60 {
        let mut receiving = Box::pin(receive_some(&stream, pools));
        if !patient && random.bool() {
            // A send while a receive is in flight, with part of a message before it perhaps.
            let mut polled = std::future::poll_fn(|task| {
                std::task::Poll::Ready(std::future::Future::poll(receiving.as_mut(), task))
            });
            match std::pin::Pin::new(&mut polled).await {
                std::task::Poll::Ready(_) => return false,
                std::task::Poll::Pending => {}
            }
            crate::net::sleep(Duration::from_millis(random.u64(..3))).await;
            if stream.send_all(b"aside".to_vec()).await.0.is_err() {
                return false;
            }
        }
        let Ok(bytes) = receiving.await else { return false };
        if bytes.is_empty() {
            return true;
        }
        if stream.send_all(bytes).await.0.is_err() {
            return false;
        }
        match random.u32(..8) {
            // What still comes is received behind our own end.
            0 if !patient => stream.shutdown(Shutdown::Write),
            1 if !patient => return false,
            _ => {}
        }
    }
    false
}

/// What all cases share.
struct Cast {
    servers: Vec<ServerTls>,
    clients: Vec<ClientTls>,
    client_peers: Vec<Arc<ClientConfig>>,
    server_peers: Vec<Arc<ServerConfig>>,
}

impl Cast {
    fn new() -> Cast {
        let authority = Authority::new();
        let (own, foreign) = (authority.issue(7), Authority::new().issue(8));
        let trust = || Trust { authorities: Some(authority.pem()), ..Trust::default() };
        let mut client_peers = Vec::new();
        for own in [None, Some(&own), Some(&foreign)] {
            for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
                let config = client_config(&authority, own, |_| {}, &[version]);
                let mut small = (*config).clone();
                small.max_fragment_size = Some(SMALL_RECORD_BYTES);
                client_peers.extend([config, Arc::new(small)]);
            }
        }
        let client = |identity| {
            let settings = ClientSettings { trust: trust(), identity, ..ClientSettings::default() };
            ClientTls::new(&settings).expect("good settings")
        };
        let mut server_peers = vec![
            server_config(&authority.issue(3), None),
            server_config(&authority.issue(3), Some(&authority)),
            server_config(&foreign, None),
        ];
        for at in 0..server_peers.len() {
            let mut small = (*server_peers[at]).clone();
            small.max_fragment_size = Some(SMALL_RECORD_BYTES);
            small.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("keys");
            server_peers.push(Arc::new(small));
        }
        Cast {
            servers: [NotAsked, Optional, Required]
                .map(|asked| asking(&authority, asked, trust()))
                .to_vec(),
            clients: vec![
                client(None),
                client(Some(own.identity())),
                client(Some(foreign.identity())),
            ],
            client_peers,
            server_peers,
        }
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    broken: usize,
    complete: usize,
}

/// One connection.
async fn one_case(seed: u64, cast: &Cast, driver: Driver, pools: &TlsPools, sum: &mut Outcomes) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (ours, theirs) = loopback_pair(driver, None).await;
    theirs.set_read_timeout(Some(PEER_PATIENCE)).expect("a time");
    theirs.set_nodelay(true).expect("set");
    let manglings = if seed.is_multiple_of(8) { 0 } else { random.usize(1..4) };
    let plan = (0..manglings).map(|_| {
        let records = if random.bool() { 5 } else { 14 };
        (random.usize(..records), MANGLINGS[random.usize(..MANGLINGS.len())])
    });
    let plan: Vec<_> = plan.collect();
    let flip_incoming = (manglings > 0 && random.u32(..6) == 0).then(|| random.usize(..4000));
    let mangler = Mangler {
        socket: theirs,
        random: random.fork(),
        plan,
        record: 0,
        delayed: Vec::new(),
        flip_incoming,
        incoming: 0,
    };
    let as_server = random.bool();
    let (peer, opened) = if as_server {
        let config = Arc::clone(&cast.client_peers[random.usize(..cast.client_peers.len())]);
        let peer = std::thread::spawn(move || {
            let name = ServerName::try_from(HOST).expect("a name");
            let mut connection = ClientConnection::new(config, name).expect("a connection");
            talk(&mut connection, mangler);
        });
        let tls = &cast.servers[random.usize(..cast.servers.len())];
        (peer, super::super::server::accept(ours, tls, pools.buffers.take(), pools).await)
    } else {
        let config = Arc::clone(&cast.server_peers[random.usize(..cast.server_peers.len())]);
        let peer = std::thread::spawn(move || {
            let mut connection = ServerConnection::new(config).expect("a connection");
            talk(&mut connection, mangler);
        });
        let tls = &cast.clients[random.usize(..cast.clients.len())];
        (peer, super::super::client::connect(ours, tls, HOST, Spoken::Http1, pools).await)
    };
    match opened {
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.reason().is_empty());
            sum.refused += 1;
        }
        Ok((stream, _)) => {
            let complete = echo(stream, pools, &mut random).await;
            sum.complete += usize::from(complete);
            sum.broken += usize::from(!complete);
        }
    }
    // A panic of the peer's (the library asserts in it, too) is not ours.
    let _ = ended(peer).await;
}

fn run(seeds: std::ops::Range<u64>) -> Outcomes {
    let cast = Cast::new();
    in_runtime(async |driver, pools| {
        let mut sum = Outcomes::default();
        for seed in seeds {
            one_case(seed, &cast, driver, &pools, &mut sum).await;
        }
        sum
    })
}

#[test]
fn no_bytes_and_no_order_of_bytes_make_it_panic() {
    let cases = std::env::var("RINGRESS_TLS_CASES").ok().and_then(|count| count.parse().ok());
    let outcomes = run(0..cases.unwrap_or(CASES));
    // All three ways were gone.
    assert!(outcomes.refused > 0 && outcomes.broken > 0 && outcomes.complete > 0, "{outcomes:?}");
}
