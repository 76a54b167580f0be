//! What the table makes of answers and failures.

use super::*;
use crate::snapshot::{Cluster, ResolvedNames};

fn snapshot(names: &[(&str, bool)]) -> Snapshot {
    let cluster = |(name, first_only): &(&str, bool)| Cluster {
        name: format!("outbound|80||{name}"),
        resolved: Some(Box::new(ResolvedNames {
            names: vec![(*name).to_owned()],
            first_only: *first_only,
        })),
        ..Cluster::default()
    };
    Snapshot { clusters: names.iter().map(cluster).collect(), ..Snapshot::default() }
}

/// A table whose only server is a port that nobody answers on: outcomes come from the test alone.
fn table(runtime: &tokio::runtime::Runtime, names: &[(&str, bool)]) -> NameTable {
    let _entered = runtime.enter();
    let options = DnsOptions {
        servers: vec!["127.0.0.1:1".parse().expect("an address")],
        ..DnsOptions::default()
    };
    let mut table = NameTable::new(options, Arc::default());
    assert!(table.follow(&snapshot(names)));
    table
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn addresses(list: &[&str]) -> Option<Vec<IpAddr>> {
    Some(list.iter().map(|address| address.parse().expect("an address")).collect())
}

fn found(v4: Option<Vec<IpAddr>>, v6: Option<Vec<IpAddr>>) -> Result<Found, LookupError> {
    Ok(Found { v4, v6, valid_for: Duration::from_secs(30) })
}

/// Take an outcome; what has changed since.
fn after(table: &mut NameTable, name: &str, result: Result<Found, LookupError>) -> String {
    table.take(Outcome { name: name.to_owned(), result });
    table.answers().1
}

#[test]
fn only_what_is_served_differently_is_a_change() {
    let runtime = runtime();
    let mut table = table(&runtime, &[("all.com", false), ("first.com", true)]);
    for (name, v4, changes) in [
        ("all.com", &["10.0.0.1", "10.0.0.2"][..], "all.com is 10.0.0.1 10.0.0.2"),
        ("all.com", &["10.0.0.2", "10.0.0.1"], ""),
        ("all.com", &["10.0.0.2"], "all.com is 10.0.0.2"),
        ("first.com", &["10.0.0.1", "10.0.0.2"], "first.com is 10.0.0.1 10.0.0.2"),
        ("first.com", &["10.0.0.1", "10.0.0.3"], ""),
        ("first.com", &["10.0.0.3", "10.0.0.1"], "first.com is 10.0.0.3 10.0.0.1"),
        ("other.com", &["10.0.0.1"], ""),
    ] {
        assert_eq!(after(&mut table, name, found(addresses(v4), addresses(&[]))), changes);
    }
}

#[test]
fn a_failure_keeps_what_was_known() {
    let runtime = runtime();
    let mut table = table(&runtime, &[("a.com", false)]);
    assert_eq!(after(&mut table, "a.com", Err(LookupError::Timeout)), "");
    assert_eq!(table.answers().0.get("a.com"), [] as [IpAddr; 0]);
    let both = found(addresses(&["10.0.0.1"]), addresses(&["fd00::1"]));
    assert_eq!(after(&mut table, "a.com", both), "a.com is 10.0.0.1 fd00::1");
    for error in [LookupError::Timeout, LookupError::NoSuchName, LookupError::NoAddress] {
        assert_eq!(after(&mut table, "a.com", Err(error)), "");
    }
    // One family answers, the other does not, then it has none.
    let unknown = found(addresses(&["10.0.0.2"]), None);
    assert_eq!(after(&mut table, "a.com", unknown), "a.com is 10.0.0.2 fd00::1");
    let none = found(addresses(&["10.0.0.2"]), addresses(&[]));
    assert_eq!(after(&mut table, "a.com", none), "a.com is 10.0.0.2");
    assert_eq!(table.answers().0.get("a.com"), addresses(&["10.0.0.2"]).expect("one"));
    let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    assert_eq!((read(&table.stats.dns_lookups), read(&table.stats.dns_lookup_failures)), (7, 4));
}

#[test]
fn names_come_and_go_with_the_snapshot() {
    let runtime = runtime();
    let mut table = table(&runtime, &[("a.com", false)]);
    after(&mut table, "a.com", found(addresses(&["10.0.0.1"]), None));
    let _entered = runtime.enter();
    assert!(!table.follow(&snapshot(&[("a.com", false), ("a.com", true)])), "it was known");
    assert_eq!(table.answers().0.get("a.com"), addresses(&["10.0.0.1"]).expect("one"));
    assert!(table.follow(&snapshot(&[("b.com", false)])), "b.com is new");
    assert_eq!(table.names.keys().collect::<Vec<_>>(), ["b.com"]);
    assert_eq!(table.stats.dns_names_unresolved.load(Ordering::Relaxed), 1);
    assert!(!table.follow(&snapshot(&[])));
    assert_eq!(table.stats.dns_names.load(Ordering::Relaxed), 0);
}

#[test]
fn a_long_list_of_changes_is_cut() {
    let runtime = runtime();
    let names: Vec<String> = (0..9).map(|number| format!("n{number}.com")).collect();
    let list: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), false)).collect();
    let mut table = table(&runtime, &list);
    for name in &names {
        let result = found(addresses(&["10.0.0.1"]), None);
        table.take(Outcome { name: name.clone(), result });
    }
    let (_, words) = table.answers();
    assert!(words.starts_with("n0.com is 10.0.0.1, n1.com"), "{words}");
    assert!(words.ends_with("n4.com is 10.0.0.1, and 4 more"), "{words}");
}
