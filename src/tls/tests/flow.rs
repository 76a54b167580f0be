//! What flows in a connection once hands are shaken, and how it ends.

use super::*;

#[test]
fn much_goes_both_ways_at_once() {
    const BYTES: usize = 10 * 1024 * 1024;
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        connection.complete_io(&mut socket).expect("a handshake");
        socket.set_nonblocking(true).expect("non-blocking");
        let sent = pattern(BYTES, 1);
        let expected = pattern(BYTES, 2);
        let (mut sent_bytes, mut received, mut finished) = (0, Vec::new(), false);
        while !finished || sent_bytes < BYTES || connection.wants_write() {
            if connection.wants_write() {
                let _ = connection.write_tls(&mut socket);
            } else if sent_bytes < BYTES {
                let next = &sent[sent_bytes..(sent_bytes + 40_000).min(BYTES)];
                sent_bytes += connection.writer().write(next).expect("taken");
                if sent_bytes == BYTES {
                    connection.send_close_notify();
                }
            }
            if connection.read_tls(&mut socket).is_ok() {
                connection.process_new_packets().expect("good records");
            }
            let mut part = vec![0; 70_000];
            while let Ok(count) = connection.reader().read(&mut part) {
                received.extend_from_slice(&part[..count]);
                finished |= count == 0;
                if count == 0 {
                    break;
                }
            }
        }
        assert!(received == expected, "all came, in order");
    };
    let received = converse(Some(8192), peer, async |stream, pools| {
        let sender = stream.clone();
        let (finished, done) = crate::net::oneshot::channel();
        crate::net::spawn(async move {
            sender.send_all(pattern(BYTES, 2)).await.0.expect("sent");
            sender.shutdown(Shutdown::Write);
            let _ = finished.send(());
        });
        let mut received = Vec::new();
        loop {
            let part = receive_some(&stream, &pools).await.expect("good records");
            if part.is_empty() {
                break;
            }
            received.extend_from_slice(&part);
        }
        done.receive().await.expect("all was sent");
        received
    });
    assert!(received == pattern(BYTES, 1), "all came, in order");
}

#[test]
fn an_end_that_is_not_told_is_an_error() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(b"half").expect("sent");
        socket.shutdown(Shutdown::Write).expect("shut");
    };
    converse(None, peer, async |stream, pools| {
        assert_eq!(receive_some(&stream, &pools).await.expect("bytes"), b"half");
        let error = receive_some(&stream, &pools).await.expect_err("cut");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_side_may_finish_while_the_other_goes_on() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.flush().expect("a handshake");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an orderly end");
        assert_eq!(all, b"all of it");
        stream.write_all(b"thanks").expect("sent");
        stream.conn.send_close_notify();
        stream.flush().expect("sent");
    };
    converse(None, peer, async |stream, pools| {
        stream.send_all(b"all of it".to_vec()).await.0.expect("sent");
        stream.shutdown(Shutdown::Write);
        assert!(stream.send_all(b"more".to_vec()).await.0.is_err());
        assert_eq!(receive_some(&stream, &pools).await.expect("bytes"), b"thanks");
        assert_eq!(receive_some(&stream, &pools).await.expect("the end"), b"");
    });
}

#[test]
fn dropping_the_last_handle_is_an_orderly_end_unless_it_resets() {
    for reset in [false, true] {
        let peer = move |mut connection: ClientConnection, mut socket: TcpStream| {
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            let mut all = Vec::new();
            stream.flush().expect("a handshake");
            assert_eq!(stream.read_to_end(&mut all).is_err(), reset);
        };
        converse(None, peer, async |stream, _| {
            stream.send_all(b"bytes".to_vec()).await.0.expect("sent");
            if reset {
                stream.reset_on_close();
            }
        });
    }
}

#[test]
fn a_changed_record_is_refused_with_an_alert() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        connection.complete_io(&mut socket).expect("a handshake");
        connection.writer().write_all(b"pay 10").expect("taken");
        let mut records = Vec::new();
        connection.write_tls(&mut records).expect("taken");
        let last = records.len() - 1;
        records[last] ^= 1;
        socket.write_all(&records).expect("sent");
        let error = loop {
            match connection.complete_io(&mut socket) {
                Ok(_) if connection.wants_read() => {}
                Ok(_) => panic!("no alert came"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("BadRecordMac"), "{error}");
    };
    converse(None, peer, async |stream, pools| {
        let error = receive_some(&stream, &pools).await.expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("changed on its way"), "{error}");
    });
}

#[test]
fn keys_are_changed_on_the_way() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        for _ in 0..3 {
            stream.write_all(b"ping").expect("sent");
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).expect("answered");
            stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        stream.conn.send_close_notify();
        stream.flush().expect("sent");
    };
    converse(None, peer, async |stream, pools| {
        for _ in 0..3 {
            assert_eq!(receive_some(&stream, &pools).await.expect("bytes"), b"ping");
            stream.send_all(b"pong".to_vec()).await.0.expect("sent");
        }
        assert_eq!(receive_some(&stream, &pools).await.expect("the end"), b"");
    });
}

#[test]
fn shutting_down_wakes_who_waits() {
    let peer = |mut connection: ClientConnection, mut socket: TcpStream| {
        connection.complete_io(&mut socket).expect("a handshake");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    };
    converse(None, peer, async |stream, pools| {
        let handle = stream.clone();
        crate::net::spawn(async move { handle.shutdown(Shutdown::Both) });
        assert_eq!(receive_some(&stream, &pools).await.expect("ours"), b"");
        assert!(stream.send_all(b"late".to_vec()).await.0.is_err());
    });
}

#[test]
fn garbage_and_silence_are_no_handshake() {
    let authority = Authority::new();
    let tls = ServerTls::new(&server(&authority)).expect("good settings");
    for (bytes, reason) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], "not_tls"), (b"", "closed")] {
        let error = in_runtime(async |driver, pools| {
            let (ours, mut theirs) = loopback_pair(driver, None).await;
            theirs.write_all(bytes).expect("sent");
            theirs.shutdown(Shutdown::Write).expect("shut");
            super::super::server::accept(ours, &tls, pools.buffers.take(), &pools).await.err()
        });
        assert_eq!(error.expect("refused").reason(), reason);
    }
}
