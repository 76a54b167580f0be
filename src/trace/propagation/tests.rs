use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn fields<'a>(pairs: &'a [(&'a str, &'a str)]) -> Vec<HeaderField<'a>> {
    let field = |(name, value): &'a (&str, &str)| HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    };
    pairs.iter().map(field).collect()
}

fn read(formats: &[Format], pairs: &[(&str, &str)]) -> Incoming {
    Propagation::new(formats).read(&fields(pairs))
}

fn w3c(value: &str) -> Incoming {
    read(&[Format::W3c], &[("traceparent", value), ("tracestate", "a=b")])
}

fn b3(pairs: &[(&str, &str)]) -> (Option<String>, Option<bool>) {
    let incoming = read(&[Format::B3], pairs);
    (incoming.parent.map(|parent| hex(&parent.trace_id)), incoming.sampled)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    write_hex(&mut out, bytes);
    String::from_utf8(out).expect("digits")
}

#[test]
fn a_traceparent_is_read_to_the_letter() {
    for (value, sampled) in [
        (format!("00-{TRACE}-{SPAN}-01"), true),
        (format!("00-{TRACE}-{SPAN}-00"), false),
        // Flags that have no meaning yet.
        (format!("00-{TRACE}-{SPAN}-fe"), false),
        (format!("00-{TRACE}-{SPAN}-03"), true),
        // A later version, with and without more.
        (format!("cc-{TRACE}-{SPAN}-01"), true),
        (format!("cc-{TRACE}-{SPAN}-01-more"), true),
    ] {
        let incoming = w3c(&value);
        let parent = incoming.parent.unwrap_or_else(|| panic!("{value} is good"));
        assert_eq!((hex(&parent.trace_id), hex(&parent.span_id)), (TRACE.into(), SPAN.into()));
        assert_eq!((incoming.sampled, incoming.keeps_state), (Some(sampled), true), "{value}");
    }
    for value in [
        String::new(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("cc-{TRACE}-{SPAN}-01more"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("00-{TRACE}-{SPAN}-0A"),
        format!("00_{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}_{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}_01"),
        format!(" 00-{TRACE}-{SPAN}-01"),
    ] {
        assert_eq!(w3c(&value), Incoming::default(), "{value:?}");
    }
}

#[test]
fn two_traceparents_are_none() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    let twice = [("traceparent", &*value), ("Traceparent", &*value)];
    assert_eq!(read(&[Format::W3c], &twice), Incoming::default());
}

#[test]
fn b3_is_read_in_both_forms() {
    let known = |sampled| (Some(TRACE.to_owned()), sampled);
    let short = format!("{}{SPAN}", "0".repeat(16));
    let ids = [("X-B3-TraceId", TRACE), ("x-b3-spanid", SPAN)];
    let with = |more: &[(&'static str, &'static str)]| b3(&[&ids[..], more].concat());
    assert_eq!(with(&[]), known(None));
    assert_eq!(with(&[("x-b3-sampled", "1")]), known(Some(true)));
    assert_eq!(with(&[("x-b3-sampled", "false")]), known(Some(false)));
    assert_eq!(with(&[("x-b3-sampled", "0"), ("x-b3-flags", "1")]), known(Some(true)));
    assert_eq!(with(&[("x-b3-sampled", "maybe")]), known(None));
    assert_eq!(b3(&[("x-b3-traceid", SPAN), ("x-b3-spanid", SPAN)]), (Some(short), None));
    assert_eq!(b3(&[("x-b3-sampled", "0")]), (None, Some(false)));
    assert_eq!(b3(&ids[..1]), (None, None));
    assert_eq!(b3(&[("x-b3-traceid", "0000000000000000"), ("x-b3-spanid", SPAN)]), (None, None));

    let single = |value: &str| b3(&[("b3", value)]);
    assert_eq!(single(&format!("{TRACE}-{SPAN}")), known(None));
    assert_eq!(single(&format!("{TRACE}-{SPAN}-d")), known(Some(true)));
    assert_eq!(single(&format!("{TRACE}-{SPAN}-0-{SPAN}")), known(Some(false)));
    assert_eq!(single(&format!("{}-{SPAN}-1", TRACE.to_uppercase())), known(Some(true)));
    assert_eq!(single("0"), (None, Some(false)));
    for bad in ["", "-", "x", &*format!("{TRACE}-{SPAN}-2"), &*format!("{TRACE}-{SPAN}-1-x")] {
        assert_eq!(single(bad), (None, None), "{bad}");
    }
    assert_eq!(single(&format!("{TRACE}-{SPAN}-1-{SPAN}-")), (None, None));
}

#[test]
fn the_first_format_wins_and_the_state_stays_with_its_trace() {
    let other = TRACE.replace('a', "b");
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let single = format!("{other}-{SPAN}-0");
    let both = [("traceparent", &*traceparent), ("b3", &*single)];
    let first = read(&[Format::W3c, Format::B3], &both);
    assert_eq!((first.sampled, first.keeps_state, first.b3_single), (Some(true), true, true));
    let first = read(&[Format::B3, Format::W3c], &both);
    assert_eq!((first.sampled, first.keeps_state), (Some(false), false));
    // A format that was not chosen says nothing.
    let only = read(&[Format::W3c], &both[1..]);
    assert_eq!(only, Incoming::default());
    // One that is malformed leaves the word to the other.
    let broken = [("traceparent", "00-"), ("b3", &*single)];
    assert_eq!(read(&[Format::W3c, Format::B3], &broken).sampled, Some(false));
}

fn context(formats: &[Format], incoming: &Incoming) -> TraceContext {
    TraceContext::new(Propagation::new(formats), incoming, true, || 0x1122_3344_5566_7788, || true)
}

#[test]
fn what_is_written_is_what_was_decided() {
    let incoming = read(&[Format::B3], &[("b3", &format!("{TRACE}-{SPAN}-1"))]);
    let both = [Format::W3c, Format::B3];
    let context = context(&both, &incoming);
    let mut out = Vec::new();
    context.propagation.write(&mut out, &context);
    assert_eq!(
        String::from_utf8(out).expect("text"),
        format!(
            "traceparent: 00-{TRACE}-1122334455667788-01\r\nx-b3-traceid: {TRACE}\r\n\
             x-b3-spanid: 1122334455667788\r\nx-b3-parentspanid: {SPAN}\r\nx-b3-sampled: 1\r\n\
             b3: {TRACE}-1122334455667788-1-{SPAN}\r\n"
        )
    );
}

#[test]
fn only_the_fields_of_chosen_formats_are_replaced() {
    let pairs = [
        ("traceparent", "x"),
        ("tracestate", "a=b"),
        ("b3", "0"),
        ("x-b3-parentspanid", SPAN),
        ("x-b3-other", "1"),
        ("accept", "*/*"),
    ];
    let replaced = |formats: &[Format]| -> Vec<&str> {
        let context = context(formats, &Incoming::default());
        let fields = fields(&pairs);
        let chosen = fields.iter().zip(&pairs);
        let is_replaced = |(field, _): &(&HeaderField<'_>, &(&'static str, &str))| {
            context.propagation.replaces(field, &context)
        };
        chosen.filter(is_replaced).map(|(_, pair)| pair.0).collect()
    };
    assert_eq!(replaced(&[Format::W3c]), ["traceparent", "tracestate"]);
    assert_eq!(replaced(&[Format::B3]), ["b3", "x-b3-parentspanid"]);
    let kept = w3c(&format!("00-{TRACE}-{SPAN}-01"));
    let context = context(&[Format::W3c], &kept);
    let fields = fields(&pairs);
    assert!(!context.propagation.replaces(&fields[1], &context));
}

proptest! {
    /// Every well-formed context is read as it was written.
    #[test]
    fn what_is_written_can_be_read(
        trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>(), sampled in any::<bool>(),
    ) {
        prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
        for format in [Format::W3c, Format::B3] {
            let propagation = Propagation::new(&[format]);
            let context = TraceContext {
                trace_id, span_id, parent_id: None, sampled, keeps_state: false, b3_single: false,
                propagation,
            };
            let mut out = Vec::new();
            propagation.write(&mut out, &context);
            let text = String::from_utf8(out).expect("text");
            let pairs: Vec<(&str, &str)> =
                text.lines().map(|line| line.split_once(": ").expect("a field")).collect();
            let incoming = propagation.read(&fields(&pairs));
            prop_assert_eq!(incoming.parent, Some(Parent { trace_id, span_id }));
            prop_assert_eq!(incoming.sampled, Some(sampled));
        }
    }

    /// One byte that is no lower-case digit in its place makes it none.
    #[test]
    fn one_wrong_byte_spoils_a_traceparent(at in 0usize..55, byte in 0x20u8..0x7f) {
        let good = format!("00-{TRACE}-{SPAN}-01").into_bytes();
        let mut value = good.clone();
        value[at] = byte;
        let separator = matches!(at, 2 | 35 | 52);
        let digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fine = if separator { byte == b'-' } else { digit };
        let version = value.starts_with(b"ff");
        prop_assert_eq!(parse_traceparent(&value).is_some(), fine && !version);
    }

    /// Whatever comes, reading it ends in a context that is good.
    #[test]
    fn anything_may_come(
        traceparent in proptest::collection::vec(any::<u8>(), 0..80),
        single in proptest::collection::vec(prop::sample::select(b"0123456789abcdefABCDEFd-x".to_vec()), 0..80),
    ) {
        let fields = [
            HeaderField { name: b"traceparent", value: &traceparent, known: KnownHeader::Other },
            HeaderField { name: b"b3", value: &single, known: KnownHeader::Other },
        ];
        let both = [Format::W3c, Format::B3];
        let incoming = Propagation::new(&both).read(&fields);
        let context = context(&both, &incoming);
        prop_assert!(context.trace_id != [0; 16] && context.span_id != [0; 8]);
        prop_assert!(!context.keeps_state || incoming.parent.is_some());
    }
}
