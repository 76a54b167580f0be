//! A TLS connection of rustls, of either side, over buffers of ours: what comes in is decrypted in the
//! buffer that received it, what goes out is encrypted into the buffer that is sent.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use crate::net::Buffer;

/// The most that a TLS 1.3 or 1.2 record adds to its content, header included.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 5 + 256;
/// The most plaintext in a record.
pub(super) const RECORD_PLAINTEXT_BYTES: usize = 1 << 14;
/// The longest record.
pub(super) const RECORD_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES + RECORD_OVERHEAD_BYTES;
const RECORD_HEADER_BYTES: usize = 5;

/// Either side.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How far the received bytes brought the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Application data may be sent.
    pub(super) may_send: bool,
    /// The peer has finished sending, in order.
    pub(super) peer_finished: bool,
}

impl Session {
    /// Use up all whole records of `received`: their plaintext goes to `plaintext`, what must be sent in
    /// answer is put behind `answer` (on an error too: the alert). The beginning of a record stays.
    pub(super) fn receive(
        &mut self,
        received: &mut Buffer,
        plaintext: &mut dyn FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        match self {
            Session::Server(connection) => receive(&mut **connection, received, plaintext, answer),
            Session::Client(connection) => receive(&mut **connection, received, plaintext, answer),
        }
    }

    /// Encrypt `bytes` behind the window of `into`, and before them what waits to be sent. `received`
    /// holds what [`Session::receive`] left (empty, if nothing can be there). False: it does not fit, or
    /// the connection may not send.
    pub(super) fn encrypt(
        &mut self,
        received: &mut [u8],
        bytes: &[u8],
        into: &mut Buffer,
    ) -> Result<bool, Error> {
        match self {
            Session::Server(connection) => encrypt(&mut **connection, received, bytes, into),
            Session::Client(connection) => encrypt(&mut **connection, received, bytes, into),
        }
    }

    /// Put our orderly end behind `answer`.
    pub(super) fn finish(&mut self, received: &mut [u8], answer: &mut Vec<u8>) {
        match self {
            Session::Server(connection) => finish(&mut **connection, received, answer),
            Session::Client(connection) => finish(&mut **connection, received, answer),
        }
    }

    /// What was agreed.
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Session::Server(connection) => connection,
            Session::Client(connection) => connection,
        }
    }
}

/// Does the window begin with a whole record, although [`Session::receive`] has seen it? Then it holds
/// a handshake message whose rest is in the next record, and rustls will look at it again.
pub(super) fn holds_a_whole_record(window: &[u8]) -> bool {
    wanted(window).is_some_and(|length| window.len() >= length)
}

/// Bytes of the record at the beginning of the window, header included; none: its header is cut.
pub(super) fn wanted(window: &[u8]) -> Option<usize> {
    let header = window.get(..RECORD_HEADER_BYTES)?;
    Some(RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]])))
}

/// The two sides are two types to rustls.
trait Side {
    type Data;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// Are there records to be sent, which the next call gives out before it looks at what came?
    fn has_waiting_records(&self) -> bool;
}

impl Side for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn has_waiting_records(&self) -> bool {
        self.wants_write()
    }
}

impl Side for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn has_waiting_records(&self) -> bool {
        self.wants_write()
    }
}

fn receive<S: Side>(
    connection: &mut S,
    received: &mut Buffer,
    plaintext: &mut dyn FnMut(&[u8]),
    answer: &mut Vec<u8>,
) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut received[..]);
        let mut used = discard;
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    used += record.discard;
                    plaintext(record.payload);
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(answer, |into| data.encode(into));
                true
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                progress.peer_finished = true;
                true
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                progress.may_send = true;
                false
            }
            // Closed both ways, or more must come. (Early data is not taken: it is never offered.)
            Ok(_) => false,
            Err(error) => {
                // Applied first: rustls looks again at the messages that are left.
                received.advance(used);
                alert(connection, &mut received[..], answer);
                return Err(error);
            }
        };
        received.advance(used);
        if !goes_on {
            return Ok(progress);
        }
    }
}

/// After an error: the alert that tells the peer, behind what waits before it. Only as long as something
/// waits: asked further, rustls would go on to the bytes behind the refused ones.
fn alert<S: Side>(connection: &mut S, received: &mut [u8], answer: &mut Vec<u8>) {
    while connection.has_waiting_records() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process(received).state
        else {
            return;
        };
        encode(answer, |into| data.encode(into));
    }
}

/// Let `write` put its bytes behind `answer`; it first tells how many they are.
fn encode(answer: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let length = answer.len();
    let Err(EncodeError::InsufficientSize(needed)) = write(&mut []) else { return };
    answer.resize(length + needed.required_size, 0);
    let written = write(&mut answer[length..]).unwrap_or(0);
    answer.truncate(length + written);
}

fn encrypt<S: Side>(
    connection: &mut S,
    received: &mut [u8],
    bytes: &[u8],
    into: &mut Buffer,
) -> Result<bool, Error> {
    loop {
        let written = match connection.process(received).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                match traffic.encrypt(bytes, into.receivable_bytes()) {
                    Ok(written) => {
                        into.received(written);
                        return Ok(true);
                    }
                    Err(EncryptError::InsufficientSize(_)) => return Ok(false),
                    Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
                }
            }
            ConnectionState::EncodeTlsData(mut data) => {
                match data.encode(into.receivable_bytes()) {
                    Ok(written) => written,
                    Err(_) => return Ok(false),
                }
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                0
            }
            ConnectionState::PeerClosed => 0,
            _ => return Ok(false),
        };
        into.received(written);
    }
}

fn finish<S: Side>(connection: &mut S, received: &mut [u8], answer: &mut Vec<u8>) {
    loop {
        match connection.process(received).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let length = answer.len();
                answer.resize(length + CLOSE_BYTES_MAX, 0);
                let written = traffic.queue_close_notify(&mut answer[length..]).unwrap_or(0);
                answer.truncate(length + written);
                return;
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(answer, |into| data.encode(into));
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            _ => return,
        }
    }
}

/// Room for an alert, with what may wait before it.
const CLOSE_BYTES_MAX: usize = 2 * 1024;
