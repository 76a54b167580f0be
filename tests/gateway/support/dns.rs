//! A small DNS server whose answers a test changes as it goes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What the server does when it is asked for a name.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These addresses, good for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Another name, with its addresses.
    Alias(&'static str),
    /// There is no such name, as of every name that nothing was said about.
    NoSuchName,
    /// These addresses, which only an answer over TCP has room for.
    Large(Vec<IpAddr>),
    /// The server fails.
    Failure,
    /// Nothing at all.
    Silence,
}

/// The server, on a thread of its own.
pub struct DnsServer {
    /// Where it listens.
    pub address: SocketAddr,
    zone: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DnsServer {
    /// Start it with these addresses, good for a second.
    pub fn start(names: &[(&str, &[&str])]) -> DnsServer {
        let (socket, listener) = bind();
        let server = DnsServer {
            address: socket.local_addr().expect("bound"),
            zone: Arc::default(),
            asked: Arc::default(),
        };
        for (name, addresses) in names {
            server.answer(name, addresses);
        }
        let (zone, asked) = (Arc::clone(&server.zone), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((size, from)) = socket.recv_from(&mut buffer) {
                let Ok(query) = Message::from_vec(&buffer[..size]) else { continue };
                if let Some(response) = respond(&zone, &asked, query, false) {
                    // The gateway may be gone.
                    let _ = socket.send_to(&response, from);
                }
            }
        });
        let (zone, asked) = (Arc::clone(&server.zone), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (zone, asked) = (Arc::clone(&zone), Arc::clone(&asked));
                std::thread::spawn(move || serve_stream(stream, &zone, &asked));
            }
        });
        server
    }

    /// From now on answer with these addresses, good for a second.
    pub fn answer(&self, name: &str, addresses: &[&str]) {
        let parse = |address: &&str| address.parse().expect("an address");
        self.reply(name, Reply::Addresses(addresses.iter().map(parse).collect(), 1));
    }

    /// From now on reply so.
    pub fn reply(&self, name: &str, reply: Reply) {
        self.zone.lock().expect("not poisoned").insert(name.to_owned(), reply);
    }

    /// How often it was asked for the IPv4 addresses of a name.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("not poisoned").iter().filter(|asked| *asked == name).count()
    }
}

/// A socket for datagrams and one for connections on the same port.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..20 {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        if let Ok(listener) = TcpListener::bind(socket.local_addr().expect("bound")) {
            return (socket, listener);
        }
    }
    panic!("no port is free for both");
}

/// Messages with their lengths before them, until the peer closes.
fn serve_stream(
    mut stream: TcpStream,
    zone: &Mutex<BTreeMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut bytes).is_err() {
            return;
        }
        let Ok(query) = Message::from_vec(&bytes) else { return };
        let Some(response) = respond(zone, asked, query, true) else { continue };
        let length = u16::try_from(response.len()).expect("a short answer").to_be_bytes();
        if stream.write_all(&[&length, &*response].concat()).is_err() {
            return;
        }
    }
}

fn respond(
    zone: &Mutex<BTreeMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
    query: Message,
    over_tcp: bool,
) -> Option<Vec<u8>> {
    let question = query.queries.first()?.clone();
    let (name, kind) = (question.name(), question.query_type());
    let text = name.to_ascii().trim_end_matches('.').to_lowercase();
    if kind == RecordType::A {
        asked.lock().expect("not poisoned").push(text.clone());
    }
    let zone = zone.lock().expect("not poisoned");
    let mut response =
        Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    response.add_query(question.clone());
    let mut name = name.clone();
    let mut reply = zone.get(&text).unwrap_or(&Reply::NoSuchName);
    if let Reply::Alias(target) = reply {
        let alias = Name::from_ascii(format!("{target}.")).expect("a name");
        let data = RData::CNAME(CNAME(alias.clone()));
        response.add_answer(Record::from_rdata(name, 1, data));
        name = alias;
        reply = zone.get(*target).unwrap_or(&Reply::NoSuchName);
    }
    match reply {
        Reply::Silence => return None,
        Reply::Failure => response.metadata.response_code = ResponseCode::ServFail,
        Reply::NoSuchName => response.metadata.response_code = ResponseCode::NXDomain,
        Reply::Alias(_) => panic!("an alias of an alias"),
        Reply::Large(_) if !over_tcp => response.metadata.truncation = true,
        Reply::Large(addresses) => add_answers(&mut response, &name, kind, addresses, 1),
        Reply::Addresses(addresses, seconds) => {
            add_answers(&mut response, &name, kind, addresses, *seconds);
        }
    }
    Some(response.to_vec().expect("a message"))
}

fn add_answers(
    response: &mut Message,
    name: &Name,
    kind: RecordType,
    addresses: &[IpAddr],
    seconds: u32,
) {
    for address in addresses {
        let fits = match address {
            IpAddr::V4(_) => kind == RecordType::A,
            IpAddr::V6(_) => kind == RecordType::AAAA,
        };
        if fits {
            let data = RData::from(*address);
            response.add_answer(Record::from_rdata(name.clone(), seconds, data));
        }
    }
}
