//! Driving a handshake to its end over a socket, and telling what was agreed.

use rustls::{HandshakeKind, ProtocolVersion};

use super::cipher_suites;
use super::error::TlsError;
use super::peer::PeerCertificate;
use super::plaintext::Plaintext;
use super::pools::TlsPools;
use super::session::Session;
use super::settings::TlsVersion;
use super::stream::TlsStream;
use crate::net::{Buffer, Stream};

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// Version.
    pub version: TlsVersion,
    /// Cipher suite: OpenSSL's name for TLS 1.2, the standard's for TLS 1.3.
    pub cipher: &'static str,
    /// The protocol that was chosen (ALPN): `h2`, `http/1.1`, or none.
    pub alpn: Option<&'static str>,
    /// The host that the client asked for (a server side), in lower case; none too when the ClientHello
    /// had not come wholly before the handshake was begun.
    pub server_name: Option<String>,
    /// Was an earlier session resumed?
    pub resumed: bool,
    /// The client's certificate (a server side), if it sent one.
    pub client_certificate: Option<PeerCertificate>,
}

/// The most bytes of one side of a handshake that lie unprocessed here: rustls bounds a message by 64 KiB.
const PENDING_BYTES_MAX: usize = 80 * 1024;

/// Shake hands over `socket`. `received` holds what came already.
pub(super) async fn run(
    socket: Stream,
    mut session: Session,
    received: Buffer,
    pools: &TlsPools,
) -> Result<(Stream, Session, TlsInfo, Leftover), TlsError> {
    let mut received = received;
    let mut plaintext = Plaintext::default();
    let outcome = exchange(&socket, &mut session, &mut received, &mut plaintext, pools).await;
    match outcome {
        Ok(peer_finished) => {
            let info = info(&session);
            Ok((socket, session, info, Leftover { received, plaintext, peer_finished }))
        }
        Err(error) => {
            pools.buffers.give(received);
            plaintext.give_back(&pools.buffers);
            Err(error)
        }
    }
}

/// What came behind the handshake.
pub(super) struct Leftover {
    received: Buffer,
    plaintext: Plaintext,
    /// The peer said all that it has to say, and its end, with the last part of its handshake.
    peer_finished: bool,
}

/// The encrypted stream.
pub(super) fn stream(
    socket: Stream,
    session: Session,
    leftover: Leftover,
    pools: &TlsPools,
) -> Stream {
    let Leftover { received, plaintext, peer_finished } = leftover;
    let pools = pools.clone();
    Stream::over(TlsStream::new(socket, session, received, plaintext, peer_finished, pools))
}

/// True: the peer has finished sending already.
async fn exchange(
    socket: &Stream,
    session: &mut Session,
    received: &mut Buffer,
    plaintext: &mut Plaintext,
    pools: &TlsPools,
) -> Result<bool, TlsError> {
    loop {
        let mut answer = Vec::new();
        let keep = &mut |bytes: &[u8]| plaintext.put(bytes, &pools.buffers);
        let outcome = session.receive(received, keep, &mut answer);
        if !answer.is_empty() {
            let (sent, _) = socket.send_all(answer).await;
            // On an error of the handshake that is what is told.
            if outcome.is_ok() {
                sent.map_err(|(error, _)| error)?;
            }
        }
        let progress = outcome.map_err(TlsError::Handshake)?;
        if received.len() > PENDING_BYTES_MAX || plaintext.overflowed() {
            return Err(TlsError::TooLarge);
        }
        if progress.may_send && !session.common().is_handshaking() {
            return Ok(progress.peer_finished);
        }
        if progress.peer_finished {
            return Err(TlsError::Closed);
        }
        make_room(received, pools)?;
        let buffer = std::mem::replace(received, Buffer::idle());
        let (outcome, buffer) = socket.receive(buffer).await;
        *received = buffer;
        if outcome? == 0 {
            return Err(TlsError::Closed);
        }
    }
}

fn make_room(received: &mut Buffer, pools: &TlsPools) -> Result<(), TlsError> {
    if received.spare() > received.capacity() / 4 {
        return Ok(());
    }
    let full = std::mem::replace(received, Buffer::idle());
    match pools.buffers.grow(full) {
        Ok((larger, _)) => {
            *received = larger;
            Ok(())
        }
        Err(full) => {
            *received = full;
            Err(TlsError::TooLarge)
        }
    }
}

fn info(session: &Session) -> TlsInfo {
    let common = session.common();
    let client_certificate = match session {
        Session::Client(_) => None,
        Session::Server(_) => common.peer_certificates().and_then(PeerCertificate::of),
    };
    TlsInfo {
        version: match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        },
        cipher: common
            .negotiated_cipher_suite()
            .map_or("unknown", |suite| cipher_suites::name(suite.suite())),
        alpn: match common.alpn_protocol() {
            Some(b"h2") => Some("h2"),
            Some(b"http/1.1") => Some("http/1.1"),
            _ => None,
        },
        server_name: None,
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        client_certificate,
    }
}
