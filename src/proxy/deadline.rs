//! How long a request may take: the route's timeout and what a gRPC client asks for.

use crate::http::RequestHead;

/// The timeout of a request, ms: its route's; for gRPC `grpc-timeout`, which the route's caps.
pub fn timeout_ms(head: &RequestHead<'_>, is_grpc: bool, of_route_ms: Option<u64>) -> Option<u64> {
    if !is_grpc {
        return of_route_ms;
    }
    let asked = head
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(b"grpc-timeout"))
        .and_then(|field| grpc_timeout_ms(field.value));
    match (asked, of_route_ms) {
        (Some(asked), Some(of_route)) => Some(asked.min(of_route)),
        (asked, of_route) => asked.or(of_route),
    }
}

/// `TimeoutValue TimeoutUnit` of gRPC over HTTP/2; none when malformed. At least 1 ms.
fn grpc_timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    let milliseconds = match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1000,
        b'm' => number,
        b'u' => number.div_ceil(1000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(milliseconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts() {
        let cases: [(&str, Option<u64>); 12] = [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3000)),
            ("250m", Some(250)),
            ("1500u", Some(2)),
            ("1n", Some(1)),
            ("0m", Some(1)),
            ("99999999H", Some(359_999_996_400_000)),
            ("100000000m", None),
            ("1", None),
            ("1x", None),
            ("-1S", None),
        ];
        for (text, expected) in cases {
            assert_eq!(grpc_timeout_ms(text.as_bytes()), expected, "{text}");
        }
    }
}
