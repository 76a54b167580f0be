//! The unary gRPC call of the comparison: its messages, and their framing in a body.

use bytes::Bytes;

/// Path of the call.
pub(crate) const PATH: &str = "/hello.Greeter/SayHello";
/// Content type of requests and responses.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";
/// Trailer with the outcome of the call, "0" when it is good.
pub(crate) const STATUS: &str = "grpc-status";

/// Bytes before each message: a flag for compression and a length of four bytes.
const PREFIX: usize = 5;
/// Name in the reply: with what is before it the body has 100 bytes.
const REPLY_NAME: usize = 93;

/// The body of a request: one message that says `world`, 12 bytes.
pub(crate) fn request() -> Bytes {
    frame(&hello(b"world"))
}

/// The body of a reply, 100 bytes.
pub(crate) fn reply() -> Bytes {
    frame(&hello(&[b'x'; REPLY_NAME]))
}

/// A message whose field 1 is a text shorter than 128 bytes, in protobuf.
fn hello(name: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a, name.len() as u8];
    message.extend_from_slice(name);
    message
}

fn frame(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

/// Why a body is not one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadBody {
    /// The body ends within the prefix or the message.
    Short,
    /// There is more after the message.
    Long,
    /// The message is compressed, or the flag is none.
    Flag,
}

/// The message of a body that holds exactly one, not compressed.
pub(crate) fn message(body: &[u8]) -> Result<&[u8], BadBody> {
    let (prefix, message) = body.split_at_checked(PREFIX).ok_or(BadBody::Short)?;
    let [flag, length @ ..] = prefix else { return Err(BadBody::Short) };
    if *flag != 0 {
        return Err(BadBody::Flag);
    }
    let length = length.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    match (message.len() as u64).cmp(&length) {
        std::cmp::Ordering::Less => Err(BadBody::Short),
        std::cmp::Ordering::Equal => Ok(message),
        std::cmp::Ordering::Greater => Err(BadBody::Long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_one_message_of_the_length_that_they_say() {
        assert_eq!(message(&request()), Ok(&b"\x0a\x05world"[..]));
        assert_eq!(reply().len(), 100);
        let reply = reply();
        let read = message(&reply).expect("one message");
        assert_eq!(usize::from(read[1]), read.len() - 2);
    }

    #[test]
    fn what_is_not_one_plain_message_is_refused() {
        for (body, error) in [
            (&b""[..], BadBody::Short),
            (b"\0\0\0\0", BadBody::Short),
            (b"\0\0\0\0\x02a", BadBody::Short),
            (b"\0\xff\xff\xff\xffa", BadBody::Short),
            (b"\0\0\0\0\x01ab", BadBody::Long),
            (b"\x01\0\0\0\x01a", BadBody::Flag),
        ] {
            assert_eq!(message(body), Err(error), "{body:?}");
        }
        assert_eq!(message(b"\0\0\0\0\0"), Ok(&b""[..]));
    }
}
