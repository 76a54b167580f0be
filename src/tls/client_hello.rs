//! The first bytes of a client: is it TLS, which server does it ask for, which protocols does it offer?
//! Read before a server is chosen, and for connections that are passed through unopened.
//!
//! Pure: the same bytes may be parsed again with more behind them. Nothing that a client sends makes it
//! fail in another way than [`Parsed::NotTls`].

/// The longest ClientHello that is read, in bytes of the handshake message.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

const RECORD_HEADER_BYTES: usize = 5;
/// A record carries at most 2^14 bytes (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// The longest host name (RFC 1035), and the longest ALPN list that is kept, in names.
const HOST_BYTES_MAX: usize = 253;
const PROTOCOLS_MAX: usize = 32;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host of the server name extension in lower case, without a dot at its end.
    pub server_name: Option<String>,
    /// The protocols it offers (ALPN), first the one it likes best; names that are not ASCII are left out.
    pub alpn: Vec<String>,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a ClientHello, or one that is malformed or too long.
    NotTls,
    /// The beginning of one: read more.
    Incomplete,
    /// A whole ClientHello.
    Hello(ClientHello),
}

/// Read the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    match message(bytes) {
        Ok(Some(body)) => hello(&body).map_or(Parsed::NotTls, Parsed::Hello),
        Ok(None) => Parsed::Incomplete,
        Err(Malformed) => Parsed::NotTls,
    }
}

struct Malformed;

/// The body of the ClientHello out of its records; none yet: more must come.
fn message(bytes: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>, Malformed> {
    use std::borrow::Cow;
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        // Whatever is there must fit: a client of another protocol is told apart by its first byte.
        let expected: [&dyn Fn(u8) -> bool; 3] =
            [&|byte| byte == HANDSHAKE, &|byte| byte == 3, &|byte| byte <= 4];
        if expected.iter().zip(rest).any(|(fits, byte)| !fits(*byte)) {
            return Err(Malformed);
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Malformed);
        }
        let part = &after[..length.min(after.len())];
        if joined.is_empty() {
            joined = Cow::Borrowed(part);
        } else {
            joined.to_mut().extend_from_slice(part);
        }
        if joined.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Malformed);
        }
        if let [_, high, middle, low, ..] = *joined {
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if length > HELLO_BYTES_MAX {
                return Err(Malformed);
            }
            if joined.len() - 4 >= length {
                let body = match joined {
                    Cow::Borrowed(joined) => Cow::Borrowed(&joined[4..4 + length]),
                    Cow::Owned(joined) => Cow::Owned(joined[4..4 + length].to_vec()),
                };
                return Ok(Some(body));
            }
        }
        let Some(next) = after.get(length..) else { return Ok(None) };
        rest = next;
    }
}

/// A cursor that gives parts from the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A vector with its length in `bytes` bytes before it.
    fn vector(&mut self, bytes: usize) -> Option<Reader<'b>> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // version and random
    reader.vector(1)?; // session
    reader.vector(2)?; // cipher suites
    reader.vector(1)?; // compression
    if reader.0.is_empty() {
        return Some(hello); // a client without extensions
    }
    let mut extensions = reader.vector(2)?;
    let (mut saw_name, mut saw_alpn) = (false, false);
    while !extensions.0.is_empty() {
        let kind = u16::try_from(extensions.number(2)?).ok()?;
        let mut content = extensions.vector(2)?;
        // An extension that comes twice could be read in one way here and in another behind us.
        match kind {
            EXTENSION_SERVER_NAME if saw_name => return None,
            EXTENSION_SERVER_NAME => {
                saw_name = true;
                hello.server_name = server_name(&mut content)?;
            }
            EXTENSION_ALPN if saw_alpn => return None,
            EXTENSION_ALPN => {
                saw_alpn = true;
                hello.alpn = protocols(&mut content)?;
            }
            _ => {}
        }
    }
    Some(hello)
}

/// `Some(None)`: well formed, but not a host name that could be served.
fn server_name(content: &mut Reader<'_>) -> Option<Option<String>> {
    let mut names = content.vector(2)?;
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.number(1)?;
        let name = names.vector(2)?;
        if kind == 0 && found.is_none() {
            found = Some(name.0);
        }
    }
    Some(found.and_then(host))
}

/// A host name in lower case.
fn host(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > HOST_BYTES_MAX || !name.iter().all(good) {
        return None;
    }
    if name.split(|byte| *byte == b'.').any(|label| label.is_empty() || label.len() > 63) {
        return None;
    }
    Some(String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn protocols(content: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut list = content.vector(2)?;
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector(1)?.0;
        if name.iter().all(u8::is_ascii_graphic) && found.len() < PROTOCOLS_MAX {
            found.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello that rustls sends.
    fn hello_of(name: &str, alpn: &[&str]) -> Vec<u8> {
        let mut config =
            rustls::ClientConfig::builder_with_provider(super::super::crypto::provider())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection =
            rustls::ClientConnection::new(config.into(), name).expect("a connection");
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).expect("a vector takes all");
        bytes
    }

    /// The same message in records of `size` bytes.
    fn split(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut records = Vec::new();
        for part in bytes[RECORD_HEADER_BYTES..].chunks(size) {
            let length = u16::try_from(part.len()).expect("short");
            records.extend_from_slice(&[HANDSHAKE, 3, 1]);
            records.extend_from_slice(&length.to_be_bytes());
            records.extend_from_slice(part);
        }
        records
    }

    #[test]
    fn name_and_protocols_are_read() {
        let bytes = hello_of("Shop.Example.COM", &["h2", "http/1.1"]);
        let expected = Parsed::Hello(ClientHello {
            server_name: Some("shop.example.com".to_owned()),
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        });
        assert_eq!(parse(&bytes), expected);
        for size in [1, 7, 100] {
            assert_eq!(parse(&split(&bytes, size)), expected, "records of {size} bytes");
        }
        let mut more = bytes.clone();
        more.extend_from_slice(b"what follows");
        assert_eq!(parse(&more), expected);
        assert_eq!(parse(&hello_of("10.0.0.1", &[])), Parsed::Hello(ClientHello::default()));
    }

    #[test]
    fn every_beginning_is_incomplete() {
        let bytes = hello_of("shop.example.com", &["h2"]);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Parsed::Incomplete, "{length} bytes");
        }
        let records = split(&bytes, 50);
        for length in 0..records.len() {
            assert_eq!(parse(&records[..length]), Parsed::Incomplete, "{length} bytes");
        }
    }

    #[test]
    fn other_protocols_are_not_tls() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", &[22, 2], &[22, 3, 1, 0, 0]] {
            assert_eq!(parse(bytes), Parsed::NotTls);
        }
        // A server's hello, and a hello that is too long.
        assert_eq!(parse(&[22, 3, 1, 0, 9, 2, 0, 0, 5]), Parsed::NotTls);
        assert_eq!(parse(&[22, 3, 1, 64, 0, 1, 0, 64, 1]), Parsed::NotTls);
    }

    #[test]
    fn hosts_are_checked() {
        assert_eq!(host(b"A.example."), Some("a.example".to_owned()));
        for bad in [&b""[..], b".", b"a..b", b"a b", b"a\0", b"\xc3\xa9.example", &[b'a'; 64]] {
            assert_eq!(host(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&bytes);
            let mut framed = vec![HANDSHAKE, 3, 1, 2, 0, CLIENT_HELLO, 0, 1, 200];
            framed.extend_from_slice(&bytes);
            parse(&framed);
        }

        #[test]
        fn a_changed_hello_does_not_panic(at in 0usize..300, to in any::<u8>()) {
            let mut bytes = hello_of("shop.example.com", &["h2"]);
            let at = at % bytes.len();
            bytes[at] = to;
            parse(&bytes);
            parse(&split(&bytes, 33));
        }
    }
}
