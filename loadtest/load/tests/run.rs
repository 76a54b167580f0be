//! The real binary against servers that behave, and against those that do not.

mod support;

use std::fs;
use std::time::Duration;

use support::{Manner, Server, load, run_json};

/// Options of a short run.
const SHORT: &[&str] = &["-d", "1s", "--warmup", "100ms", "-q"];
/// Against targets that do not answer.
const IMPATIENT: &[&str] = &["--timeout", "300ms"];

#[test]
fn an_open_loop_makes_every_request_that_fell_due() {
    let server = Server::start(Manner::Good);
    let mut arguments = vec!["run", server.url(), "-R", "200", "-c", "4"];
    arguments.extend(SHORT);
    let run = run_json(&arguments);
    assert_eq!(run["counts"]["offered"], 200, "{run:#}");
    assert_eq!(run["counts"]["completed"], 200);
    assert_eq!(run["counts"]["statuses"]["200"], 200);
    assert_eq!(run["counts"]["connections"], 4);
    assert_eq!(run["times"]["latency"]["count"], 200);
    assert_eq!(run["measured_seconds"], 1.0);
    let latency = &run["times"]["latency"]["min_nanoseconds"];
    assert!(latency.as_u64().is_some_and(|nanoseconds| nanoseconds > 1000), "{latency}");
}

#[test]
fn several_threads_under_epoll_share_the_load() {
    let server = Server::start(Manner::Good);
    let mut arguments =
        vec!["run", server.url(), "-R", "150", "-c", "5", "-t", "2", "--driver", "epoll"];
    arguments.extend(SHORT);
    arguments.extend(["--arrivals", "poisson"]);
    let run = run_json(&arguments);
    assert_eq!(run["driver"], "epoll");
    assert_eq!(run["workers"].as_array().map(Vec::len), Some(2));
    let (offered, completed) = (&run["counts"]["offered"], &run["counts"]["completed"]);
    assert_eq!(offered, completed, "{run:#}");
    assert!(offered.as_u64().is_some_and(|count| (75..300).contains(&count)), "{offered}");
}

#[test]
fn a_closed_loop_with_a_connection_for_each_request() {
    let server = Server::start(Manner::Good);
    let mut arguments = vec!["run", server.url(), "-c", "2", "--no-keep-alive"];
    arguments.extend(SHORT);
    let run = run_json(&arguments);
    let completed = run["counts"]["completed"].as_u64().unwrap_or(0);
    let connections = run["counts"]["connections"].as_u64().unwrap_or(0);
    assert!(completed > 0, "{run:#}");
    assert!(connections >= completed, "{connections} connections, {completed} responses");
    assert_eq!(run["counts"]["unstarted"], 0);
}

#[test]
fn every_way_to_fail_is_counted_as_what_it_is() {
    for (manner, kind) in [
        (Manner::Rubbish, "malformed"),
        (Manner::CloseAtOnce, "closed"),
        (Manner::CloseWithin, "closed"),
        (Manner::Silent, "timeout"),
        (Manner::Status(503), "status"),
        (Manner::Surplus, "malformed"),
        (Manner::Reset, "reset"),
    ] {
        let server = Server::start(manner);
        let mut arguments = vec!["run", server.url(), "-R", "20", "-c", "20"];
        arguments.extend(SHORT);
        if matches!(manner, Manner::Silent) {
            arguments.extend(IMPATIENT);
        }
        let run = run_json(&arguments);
        assert_eq!(run["counts"]["completed"], 0, "{manner:?}: {run:#}");
        assert_eq!(run["counts"]["offered"], 20, "{manner:?}: {run:#}");
        let failed = run["counts"]["failed"].as_object().cloned().unwrap_or_default();
        let kinds: Vec<_> = failed.keys().map(String::as_str).collect();
        // What the kernel makes of a connection that the server has closed is a matter of moments, and
        // so is whether the end comes before a time-out.
        let alike = [&["closed", "reset", "send"][..], &["timeout", "unfinished"]];
        let is_right = |found: &&str| {
            *found == kind
                || alike.iter().any(|alike| alike.contains(&kind) && alike.contains(found))
        };
        assert!(!kinds.is_empty() && kinds.iter().all(is_right), "{manner:?}: {kinds:?}");
    }
}

#[test]
fn a_connection_that_the_server_ended_while_idle_is_no_failure() {
    let server = Server::start(Manner::EndWhenIdle);
    let run =
        run_json(&["run", server.url(), "-R", "2", "-c", "1", "-d", "2s", "--warmup", "0s", "-q"]);
    assert_eq!(run["counts"]["completed"], 4, "{run:#}");
    assert_eq!(run["counts"]["connections"], 4);
}

#[test]
fn a_target_that_refuses_is_counted_and_ends_in_time() {
    let url = Server::url_of_nobody();
    let mut arguments = vec!["run", &url, "-R", "50", "-c", "5"];
    arguments.extend(SHORT);
    let run = run_json(&arguments);
    assert_eq!(run["counts"]["failed"]["connect_refused"], 50, "{run:#}");
}

#[test]
fn a_target_that_does_not_even_connect_is_counted_and_ends_in_time() {
    let full = support::FullQueue::new();
    let mut arguments = vec!["run", full.url(), "-R", "30", "-c", "300"];
    arguments.extend(SHORT);
    arguments.extend(IMPATIENT);
    let run = run_json(&arguments);
    assert_eq!(run["counts"]["completed"], 0, "{run:#}");
    assert_eq!(run["counts"]["offered"], 30, "{run:#}");
    // A few are queued before it is full, and wait for an answer.
    let timeouts = run["counts"]["failed"]["connect_timeout"].as_u64().unwrap_or(0);
    assert!(timeouts > 10, "{run:#}");
}

#[test]
fn a_silent_target_leaves_lower_bounds_not_holes() {
    let server = Server::start(Manner::Silent);
    let run =
        run_json(&["run", server.url(), "-R", "40", "-c", "2", "-d", "1s", "--warmup", "0s", "-q"]);
    // Two requests are sent and never answered; the others fall due behind them.
    assert_eq!(run["counts"]["offered"], 40, "{run:#}");
    assert_eq!(
        run["counts"]["failed"]["unfinished"].as_u64().or(Some(0)).map(|few| few <= 2),
        Some(true)
    );
    assert_eq!(run["counts"]["unstarted"], 38);
    assert_eq!(run["counts"]["lower_bounds"], 40);
    assert_eq!(run["times"]["latency"]["count"], 40);
}

#[test]
fn checks_of_the_body_and_mixes_come_from_a_scenario() {
    let server = Server::start(Manner::Chunked);
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("mix.yaml");
    let text = format!(
        "target: {}\nrate: 100\nconnections: 4\nduration: 1s\nwarmup: 0s\nseed_comment: 1\n",
        server.url()
    );
    fs::write(&scenario, &text).expect("written");
    let path = scenario.display().to_string();
    let (code, _, errors) = load(&["run", "-f", &path, "-q"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("mix.yaml:6:1: ") && errors.contains("seed_comment"), "{errors}");

    let text = text.replace("seed_comment: 1\n", "")
        + "
requests:
  - name: good
    weight: 3
    expect: {contains: hello}
  - name: bad
    path: /other
    expect: {body: something else}
";
    fs::write(&scenario, text).expect("written");
    let run = run_json(&["run", "-f", &path, "-q"]);
    let bad = run["counts"]["failed"]["body"].as_u64().unwrap_or(0);
    let good = run["counts"]["completed"].as_u64().unwrap_or(0);
    assert_eq!(good + bad, 100, "{run:#}");
    assert!((10..45).contains(&bad), "a quarter of the mix: {bad}");
    assert_eq!(run["by_request"]["good"]["count"], good);
}

#[test]
fn a_rate_rises_over_the_run_and_a_seed_repeats_it() {
    let server = Server::start(Manner::Good);
    let ramp = |seed: &str| {
        run_json(&[
            "run",
            server.url(),
            "-R",
            "20..180",
            "-c",
            "4",
            "-d",
            "2s",
            "--warmup",
            "0s",
            "-q",
            "--arrivals",
            "poisson",
            "--seed",
            seed,
        ])
    };
    let (one, same, other) = (ramp("7"), ramp("7"), ramp("8"));
    assert_eq!(one["plan"]["rates"], "20..180", "{one:#}");
    assert_eq!(one["counts"]["offered"], same["counts"]["offered"]);
    assert_ne!(one["counts"]["offered"], other["counts"]["offered"]);
    let seconds = one["seconds"].as_array().cloned().unwrap_or_default();
    let completed = |index: usize| seconds[index]["completed"].as_u64().unwrap_or(0);
    // 60 and 140 on the average.
    assert!(completed(0) < 95 && completed(1) > 100, "{one:#}");
}

#[test]
fn ctrl_c_ends_with_the_report_of_what_was_measured() {
    let server = Server::start(Manner::Good);
    let run = support::interrupted(
        &["run", server.url(), "-R", "100", "-c", "2", "-d", "60s", "--warmup", "0s", "--json"],
        Duration::from_millis(2500),
    );
    assert_eq!(run["interrupted"], true, "{run:#}");
    let completed = run["counts"]["completed"].as_u64().unwrap_or(0);
    assert!((50..1000).contains(&completed), "{completed}");
}

#[test]
fn ctrl_c_ends_a_run_that_is_still_connecting() {
    let full = support::FullQueue::new();
    // Each connection would be tried for longer than the test waits for the end.
    let run = support::interrupted(
        &["run", full.url(), "-R", "100", "-c", "300", "--timeout", "10m", "--json"],
        Duration::from_millis(1000),
    );
    assert_eq!(run["interrupted"], true, "{run:#}");
    assert_eq!(run["counts"]["completed"], 0);
}

#[test]
fn ctrl_c_ends_the_wait_for_the_last_responses() {
    let server = Server::start(Manner::Silent);
    let run = support::interrupted(
        &["run", server.url(), "-R", "10", "-c", "20", "-d", "1s", "--warmup", "0s", "--json"],
        Duration::from_millis(2500),
    );
    assert_eq!(run["measured_seconds"], 1.0, "it was interrupted after the end");
    assert_eq!(run["interrupted"], true, "{run:#}");
    assert_eq!(run["counts"]["failed"]["unfinished"], 10);
}

#[test]
fn bytes_that_come_after_a_response_are_not_the_next_one() {
    let server = Server::start(Manner::LateSurplus);
    let run =
        run_json(&["run", server.url(), "-R", "20", "-c", "1", "-d", "1s", "--warmup", "0s", "-q"]);
    let malformed = run["counts"]["failed"]["malformed"].as_u64().unwrap_or(0);
    let completed = run["counts"]["completed"].as_u64().unwrap_or(0);
    assert_eq!(malformed + completed, 20, "{run:#}");
    // After each response a whole one more comes: each second request finds it.
    assert!((8..=10).contains(&malformed), "{run:#}");
}

#[test]
fn connections_of_the_warm_up_do_not_count_without_keep_alive() {
    let server = Server::start(Manner::Good);
    let run = run_json(&[
        "run",
        server.url(),
        "-R",
        "50",
        "-c",
        "4",
        "--no-keep-alive",
        "-d",
        "1s",
        "--warmup",
        "1s",
        "-q",
    ]);
    let connections = run["counts"]["connections"].as_u64().unwrap_or(0);
    // One of the warm-up may be so late that it falls into the measured time.
    assert!((50..=54).contains(&connections), "{run:#}");
    // 43 bytes with the head.
    assert_eq!(run["counts"]["body_bytes"], 50 * 5);
    let bytes = run["counts"]["bytes"].as_u64().unwrap_or(0);
    assert!((50 * 43..=54 * 43).contains(&bytes), "{bytes}");
}

#[test]
fn what_cannot_be_run_is_told_before_anything_is_sent() {
    for (arguments, part) in [
        (&["run", "http://192.0.2.1/"][..], "--i-own-this-target"),
        (&["run"], "no target"),
        (&["run", "http://127.0.0.1:1/", "-d", "25h"], "24h"),
        (&["run", "http://127.0.0.1:1/", "-c", "100001"], "100000"),
        (&["run", "-f", "/none.yaml"], "/none.yaml"),
        (&["compare", "/none.hlog"], "/none.hlog"),
        (&["run", "http://127.0.0.1:1/", "--cores", "9999"], "core 9999"),
        (&["run", "http://127.0.0.1:1/", "-o", "/proc"], "/proc"),
    ] {
        let (code, output, errors) = load(arguments);
        assert!(matches!(code, Some(1 | 2)), "{arguments:?}: {code:?}");
        assert!(errors.contains(part) && output.is_empty(), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_runs_folder_holds_all_and_runs_are_compared() {
    let server = Server::start(Manner::Good);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    for round in ["1", "2"] {
        let out = at(round);
        let mut arguments = vec!["run", server.url(), "-R", "300", "-c", "4", "-o", &out];
        arguments.extend(SHORT);
        let (code, output, errors) = load(&arguments);
        assert!(matches!(code, Some(0 | 3)), "{errors}");
        assert!(output.contains("p99.9") && output.contains("Completed"), "{output}");
    }
    let files = [
        "run.json",
        "run.hlog",
        "latency.hgrm",
        "service_time.hgrm",
        "report.html",
        "effective.yaml",
    ];
    for file in files {
        let text = fs::read_to_string(at(&format!("1/{file}"))).expect(file);
        assert!(text.len() > 200, "{file}: {text}");
    }
    let out = at("1");
    let (code, _, errors) = load(&["run", server.url(), "-o", &out]);
    assert!(code == Some(1) && errors.contains("not empty"), "{errors}");

    // The scenario that a run leaves makes the same run again.
    let again = at("1/effective.yaml");
    let run = run_json(&["run", "-f", &again, "-q", "--slo", "errors<50%,max<1h"]);
    assert_eq!(run["counts"]["offered"], 300, "{run:#}");
    let (code, _, errors) = load(&["run", "-f", &again, "-q", "--slo", "p50<1us"]);
    assert!(matches!(code, Some(2 | 3)) && errors.contains("objective missed"), "{errors}");

    let (one, two) = (format!("a={}", at("1")), format!("a={}", at("2")));
    let (log, text) = (at("2/run.hlog"), at("1/latency.hgrm"));
    let page = at("compare.html");
    let (code, output, errors) = load(&["compare", &one, &two, &log, &text, "-o", &page]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(output.contains("A a: 2 rounds, 600 samples"), "{output}");
    assert!(output.contains("B run: 1 round, 300 samples"), "{output}");
    assert!(output.contains("C latency: 1 round, 300 samples"), "{output}");
    let html = fs::read_to_string(&page).expect("written");
    assert!(html.contains("<svg") && html.contains("p99.99"));
}
