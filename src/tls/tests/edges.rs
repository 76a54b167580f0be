//! What a usual conversation does not meet: staples, sends that are given up, full sockets, and peers
//! that show a certificate without having its key.

use std::future::{Future, poll_fn};
use std::sync::Mutex;
use std::task::Poll;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::*;

/// A client's check that keeps the staple.
#[derive(Debug, Default)]
struct Staple(Mutex<Vec<u8>>);

impl ServerCertVerifier for Staple {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("one thread") = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn the_client_sees_the_staple() {
    let authority = Authority::new();
    let mut settings = server(&authority);
    settings.identities[0].ocsp_staple = Some(Bytes(b"a response of the authority".to_vec()));
    let tls = ServerTls::new(&settings).expect("good settings");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let seen = Arc::new(Staple::default());
        let mut config = (*client_config(&authority, None, |_| {}, &[version])).clone();
        config.dangerous().set_certificate_verifier(Arc::clone(&seen) as _);
        serve(&tls, Arc::new(config)).0.expect("accepted");
        assert_eq!(*seen.0.lock().expect("ended"), b"a response of the authority");
    }
}

/// The certificate of one with the key of another.
fn impostor(authority: &Authority) -> Arc<SingleCertAndKey> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(authority.issue(5).key_der()).expect("a key");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![authority.issue(6).der], key)))
}

#[test]
fn a_skipped_verification_still_asks_for_the_key() {
    let authority = Authority::new();
    let lax = || Trust { skip_verification: true, ..Trust::default() };
    let settings = ClientSettings { trust: lax(), ..ClientSettings::default() };
    let tls = ClientTls::new(&settings).expect("good settings");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(impostor(&authority));
        let error = ask(&tls, HOST, Arc::new(config)).expect_err("refused");
        assert_eq!(error.reason(), "bad_certificate");

        let asking = asking(&authority, Required, lax());
        let mut config = (*client_config(&authority, None, |_| {}, &[version])).clone();
        config.client_auth_cert_resolver = impostor(&authority);
        assert_eq!(refused(&asking, Arc::new(config)), "bad_certificate");
    }
}

#[test]
fn a_send_that_is_given_up_breaks_no_later_one() {
    const PIECE: usize = 60_000;
    let (go_on, told) = std::sync::mpsc::channel();
    let peer = move |mut connection: ClientConnection, mut socket: TcpStream| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let mut all = Vec::new();
        stream.flush().expect("a handshake");
        let expected: usize = told.recv().expect("a send was given up");
        stream.read_to_end(&mut all).expect("good records, an orderly end");
        // The given-up bytes were encrypted already: left out they would break the records behind.
        assert_eq!(all.len(), expected);
        assert!(all.ends_with(b"xafter"));
    };
    converse(Some(8192), peer, async |stream, _| {
        let mut taken = 0;
        loop {
            let mut sending = Box::pin(stream.send(vec![b'x'; PIECE]));
            match poll_fn(|task| Poll::Ready(sending.as_mut().poll(task))).await {
                Poll::Ready((outcome, _)) => taken += outcome.expect("sent"),
                // The socket takes no more while nobody receives: this one is given up.
                Poll::Pending => break,
            }
        }
        go_on.send(taken + PIECE + 5).expect("the peer waits");
        stream.send_all(b"after".to_vec()).await.0.expect("sent");
    });
}

#[test]
fn an_end_waits_for_the_send_before_it() {
    const BYTES: usize = 32 * 1024 * 1024;
    let (go_on, told) = std::sync::mpsc::channel();
    let peer = move |mut connection: ClientConnection, mut socket: TcpStream| {
        connection.complete_io(&mut socket).expect("a handshake");
        told.recv().expect("the other side has shut");
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an orderly end");
        assert!(!all.is_empty() && all.len() < BYTES);
        assert!(all == pattern(all.len(), 3), "what came, came in order");
    };
    converse(Some(8192), peer, async |stream, _| {
        let mut sending = Box::pin(stream.send_all(pattern(BYTES, 3)));
        // More than the socket takes while nobody receives: it stays pending.
        for _ in 0..50 {
            let pending =
                poll_fn(|task| Poll::Ready(sending.as_mut().poll(task).is_pending())).await;
            assert!(pending);
            crate::net::sleep(std::time::Duration::from_millis(2)).await;
        }
        stream.shutdown(Shutdown::Write);
        go_on.send(()).expect("the peer waits");
        assert!(sending.await.0.is_err(), "not all was sent");
    });
}

#[test]
fn a_request_and_the_end_may_come_with_the_handshake() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        // All that is to be said, in one piece with the last part of the handshake.
        connection.writer().write_all(b"ping").expect("taken");
        let mut flight = Vec::new();
        connection.write_tls(&mut flight).expect("taken");
        socket.write_all(&flight).expect("sent");
        while connection.is_handshaking() {
            connection.read_tls(&mut socket).expect("an answer");
            connection.process_new_packets().expect("good records");
        }
        connection.send_close_notify();
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).expect("taken");
        }
        socket.write_all(&flight).expect("sent");
        let mut answer = Vec::new();
        rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut answer).expect("all");
        assert_eq!(answer, b"pong");
    };
    converse(None, peer, async |stream, pools| {
        assert_eq!(receive_some(&stream, &pools).await.expect("bytes"), b"ping");
        assert_eq!(receive_some(&stream, &pools).await.expect("the end"), b"");
        stream.send_all(b"pong".to_vec()).await.0.expect("sent");
    });
}

#[test]
fn an_idle_connection_ends_in_order() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.flush().expect("a handshake");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the end is told");
        assert!(all.is_empty());
    };
    converse(None, peer, async |stream, pools| {
        let handle = stream.clone();
        crate::net::spawn(async move {
            handle.shutdown(Shutdown::Write);
            handle.shutdown(Shutdown::Both);
        });
        assert_eq!(receive_some(&stream, &pools).await.expect("ours"), b"");
    });
}
