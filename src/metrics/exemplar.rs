//! One request that stands for a bucket of a histogram: the way from a latency to its trace.

/// A sampled request of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Id of the trace.
    pub trace_id: [u8; 16],
    /// Id of the gateway's span in it.
    pub span_id: [u8; 8],
    /// The request's duration, microseconds.
    pub value_us: u64,
    /// When it ended, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Exemplar {
    /// Append it as it stands after a value in OpenMetrics, the duration in milliseconds.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b" # {trace_id=\"");
        hexadecimal(out, &self.trace_id);
        out.extend_from_slice(b"\",span_id=\"");
        hexadecimal(out, &self.span_id);
        let (ms, us) = (self.value_us / 1000, self.value_us % 1000);
        let (seconds, rest) = (self.unix_ms / 1000, self.unix_ms % 1000);
        out.extend_from_slice(format!("\"}} {ms}.{us:03} {seconds}.{rest:03}").as_bytes());
    }
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_times_in_seconds() {
        let exemplar = Exemplar {
            trace_id: [0xab; 16],
            span_id: [1, 2, 3, 4, 5, 6, 7, 0xf0],
            value_us: 1_002,
            unix_ms: 1_795_000_000_004,
        };
        let mut out = Vec::new();
        exemplar.write_to(&mut out);
        let expected = " # {trace_id=\"abababababababababababababababab\",\
                        span_id=\"01020304050607f0\"} 1.002 1795000000.004";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
