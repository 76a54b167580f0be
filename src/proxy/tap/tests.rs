use super::*;
use crate::http::{HeaderField, KnownHeader, Scheme, Version};
use std::sync::Mutex;

struct Kept(Arc<Mutex<usize>>);

impl TapSink for Kept {
    fn offer(&self, _: TapEvent) -> Offered {
        *self.0.lock().unwrap() += 1;
        Offered::Taken
    }
}

fn tap(id: u64, filter: TapFilter) -> (Tap, Arc<Mutex<usize>>) {
    let taken = Arc::<Mutex<usize>>::default();
    let sink = Box::new(Kept(Arc::clone(&taken)));
    let filter = Arc::new(filter);
    (Tap { id, filter, rate_max: 1, counts: Arc::default(), sink }, taken)
}

fn with_headers(names: &[&str]) -> TapFilter {
    let headers = names.iter().map(|name| TapHeader { name: (*name).to_owned(), value: None });
    TapFilter { headers: headers.collect(), ..TapFilter::default() }
}

fn fields<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<HeaderField<'a>> {
    let field = |(name, value): &(&'a str, &'a str)| HeaderField {
        name: name.as_bytes(),
        value: value.as_bytes(),
        known: KnownHeader::from_name(name.as_bytes()),
    };
    pairs.iter().map(field).collect()
}

fn head<'a>(headers: &'a [HeaderField<'a>]) -> RequestHead<'a> {
    RequestHead {
        method: b"GET",
        path: b"/shop",
        query: Some(b"a=b"),
        authority: b"Shop.Example.com:80",
        scheme: Scheme::Http,
        version: Version::Http11,
        headers,
    }
}

#[test]
fn taps_come_and_go() {
    let taps = WorkerTaps::default();
    assert!(!taps.any());
    let (first, told) = tap(1, TapFilter::default());
    taps.obey(TapOrder::Install(first));
    taps.obey(TapOrder::Install(tap(2, TapFilter::default()).0));
    assert!(taps.any());
    assert_eq!(*told.lock().unwrap(), 1, "it says that it is there");
    taps.obey(TapOrder::Remove(1));
    assert!(taps.any());
    taps.obey(TapOrder::Remove(2));
    assert!(!taps.any());
}

#[test]
fn only_fields_that_are_asked_for_are_kept() {
    let taps = WorkerTaps::default();
    let headers = fields(&[("X-User", "jason"), ("Accept", "*/*"), ("x-user", "other")]);
    let mut lines = Vec::new();
    taps.capture(&head(&headers), &mut lines);
    assert!(lines.is_empty(), "nobody watches");
    taps.obey(TapOrder::Install(tap(1, with_headers(&["x-user"])).0));
    taps.capture(&head(&headers), &mut lines);
    assert_eq!(lines, b"X-User:jason\nx-user:other\n");
}

/// Does a 503 to `GET /shop?a=b` of `Shop.Example.com:80`, 1.5 ms, pass this filter?
fn passes(filter: &TapFilter) -> bool {
    let headers = fields(&[("X-User", "jason")]);
    let head = head(&headers);
    let mut fields = RequestFields::new();
    fields.capture(&head, None, None);
    let mut info = StreamInfo::new(Instant::now(), 0);
    (info.response_code, info.duration_us) = (503, 1500);
    let line = LineContext { route_name: "main", ..LineContext::default() };
    let lines = b"X-User:jason\n";
    Seen { info: &info, fields: &fields, lines, line: &line, virtual_service: "default/shop" }
        .matches(filter)
}

#[test]
fn every_condition_must_hold() {
    let all = TapFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let header = |name: &str, value: Option<&str>| {
        vec![TapHeader { name: name.to_owned(), value: value.map(str::to_owned) }]
    };
    for good in [
        all(),
        TapFilter { host: text("shop.example.com"), ..all() },
        TapFilter { host: text("*.example.com"), ..all() },
        TapFilter { host: text("*"), ..all() },
        TapFilter { route: text("main"), ..all() },
        TapFilter { route: text("default/shop"), ..all() },
        TapFilter { status: Some(TapStatus::Exactly(503)), ..all() },
        TapFilter { status: Some(TapStatus::Class(5)), ..all() },
        TapFilter { duration_us_min: 1500, ..all() },
        TapFilter { method: text("GET"), ..all() },
        TapFilter { path_prefix: text("/shop?a"), ..all() },
        TapFilter { headers: header("x-user", None), ..all() },
        TapFilter { headers: header("x-user", Some("jason")), ..all() },
    ] {
        assert!(passes(&good), "{good:?}");
    }
    for bad in [
        TapFilter { host: text("example.com"), ..all() },
        TapFilter { host: text("*.shop.example.com"), ..all() },
        TapFilter { route: text("shop"), ..all() },
        TapFilter { status: Some(TapStatus::Exactly(500)), ..all() },
        TapFilter { status: Some(TapStatus::Class(4)), ..all() },
        TapFilter { duration_us_min: 1501, ..all() },
        TapFilter { method: text("POST"), ..all() },
        TapFilter { path_prefix: text("/cart"), ..all() },
        TapFilter { headers: header("x-user", Some("jaso")), ..all() },
        TapFilter { headers: header("x-other", None), ..all() },
    ] {
        assert!(!passes(&bad), "{bad:?}");
    }
}

#[test]
fn secrets_are_masked() {
    let headers = fields(&[("Cookie", "session=1"), ("X-User", "jason"), ("authorization", "x")]);
    let head = head(&headers);
    let taps = WorkerTaps::default();
    let filter = with_headers(&["cookie", "x-user", "Authorization"]);
    taps.obey(TapOrder::Install(tap(1, filter.clone()).0));
    let mut lines = Vec::new();
    taps.capture(&head, &mut lines);
    let info = StreamInfo::new(Instant::now(), 0);
    let fields = RequestFields::new();
    let line = LineContext::default();
    let seen =
        Seen { info: &info, fields: &fields, lines: &lines, line: &line, virtual_service: "" };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        seen.record(&filter).headers,
        [pair("Cookie", "…"), pair("X-User", "jason"), pair("authorization", "…")]
    );
}
