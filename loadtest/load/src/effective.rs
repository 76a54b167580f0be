//! A run's settings as a scenario file that makes the same run again: the file that was given, the command
//! line and the defaults put together.

use serde::Serialize;
use serde_json::Value;

use crate::plan::{Plan, PlanError};
use crate::settings::{Check, Protocol, RequestSettings, Settings};

/// Bodies that are longer stand in a file of their own, bytes.
const INLINE_BODY_MAX: usize = 1024;

#[derive(Serialize)]
struct File {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrivals: Option<String>,
    connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<u32>,
    threads: u32,
    duration: String,
    warmup: String,
    timeout: String,
    keep_alive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_tls: Option<bool>,
    seed: u64,
    headers: Vec<String>,
    requests: Vec<Value>,
}

/// The scenario, and the files that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective {
    /// JSON, which is YAML too.
    pub(crate) text: String,
    /// Name and content.
    pub(crate) bodies: Vec<(String, Vec<u8>)>,
}

/// Writes down what a plan was made from.
pub(crate) fn scenario(settings: &Settings, plan: &Plan) -> Result<Effective, PlanError> {
    let record = plan.record();
    let mut bodies = Vec::new();
    let single = [RequestSettings::default()];
    let requests = if settings.requests.is_empty() { &single[..] } else { &settings.requests };
    let requests = requests.iter().map(|given| request(given, &mut bodies)).collect();
    let seconds = |seconds: f64| format!("{seconds}s");
    let is_http2 = plan.protocol == Protocol::Http2;
    let trust = settings.trust.as_ref().map(|path| {
        // The scenario is going to stand elsewhere.
        std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
    });
    let file = File {
        target: format!("{}{}", record.target, plan.target.path),
        host: settings.host.clone(),
        protocol: if is_http2 { "http2" } else { "http1" },
        rate: if record.rates.is_some() { None } else { record.rate },
        rates: record.rates,
        arrivals: record.arrivals,
        connections: record.connections,
        streams: is_http2.then_some(record.streams),
        threads: record.threads,
        duration: seconds(record.duration_seconds),
        warmup: seconds(record.warmup_seconds),
        timeout: seconds(record.timeout_seconds),
        keep_alive: record.keep_alive,
        trust,
        insecure: settings.insecure,
        resume_tls: settings.resume_tls,
        seed: record.seed,
        headers: lines(&settings.headers),
        requests,
    };
    let text = serde_json::to_string_pretty(&file);
    let text = text.map_err(|error| PlanError::Value(error.to_string()))? + "\n";
    Ok(Effective { text, bodies })
}

fn lines(headers: &[(String, String)]) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn request(given: &RequestSettings, bodies: &mut Vec<(String, Vec<u8>)>) -> Value {
    let mut request = serde_json::Map::new();
    let mut put = |key: &str, value: Value| request.insert(key.to_owned(), value);
    put("name", given.name.clone().into());
    put("weight", given.weight.into());
    put("method", given.method.clone().into());
    if let Some(path) = &given.path {
        put("path", path.clone().into());
    }
    if let Some(host) = &given.host {
        put("host", host.clone().into());
    }
    if !given.headers.is_empty() {
        put("headers", lines(&given.headers).into());
    }
    if !given.body.is_empty() {
        match std::str::from_utf8(&given.body) {
            Ok(body) if body.len() <= INLINE_BODY_MAX => put("body", body.into()),
            _ => {
                let name = format!("body-{}.bin", bodies.len() + 1);
                bodies.push((name.clone(), given.body.clone()));
                put("body_file", name.into())
            }
        };
    }
    if given.check != Check::default() {
        put("expect", expect(&given.check));
    }
    Value::Object(request)
}

fn expect(check: &Check) -> Value {
    let mut expect = serde_json::Map::new();
    let statuses = check.statuses.iter().map(|(low, high)| format!("{low}-{high}"));
    expect.insert("status".to_owned(), statuses.collect::<Vec<_>>().into());
    // These came from text.
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    if let Some(body) = &check.body {
        expect.insert("body".to_owned(), text(body).into());
    }
    if let Some(part) = &check.contains {
        expect.insert("contains".to_owned(), text(part).into());
    }
    if let Some(length) = check.length {
        expect.insert("length".to_owned(), length.into());
    }
    Value::Object(expect)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::Circumstances;
    use crate::scenario::parse;

    #[test]
    fn an_effective_scenario_makes_the_same_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let body = "x".repeat(5000);
        std::fs::write(folder.path().join("large.txt"), &body).expect("written");
        let text = "
target: http://127.0.0.1:8080/a?b
host: hello.com
rate: 12.5
connections: 3
protocol: http2
streams: 4
timeout: 250ms
headers: ['x-a: 1']
requests:
  - {name: one, weight: 2, headers: ['x-b: 2'], body: '{}', expect: {status: [2xx], contains: ok}}
  - {name: two, method: PUT, path: /p, host: other.com, body_file: large.txt, expect: {length: 7}}
";
        let given = parse(&folder.path().join("given.yaml"), text).expect("good");
        let plan = |settings| Plan::new(settings, Circumstances::default()).expect("a plan");
        let first = plan(given.clone());
        let written = scenario(&given, &first).expect("written");
        assert_eq!(written.bodies, [("body-1.bin".to_owned(), body.into_bytes())]);
        for (name, content) in &written.bodies {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let again = parse(&folder.path().join("effective.yaml"), &written.text).expect("good");
        assert_eq!(again.requests, given.requests);
        let second = plan(again);
        let wire = |plan: &Plan| plan.requests.iter().map(|one| one.wire).collect::<Vec<_>>();
        assert_eq!(wire(&first), wire(&second));
        let shown = |plan: &Plan| serde_json::to_value(plan.record()).expect("JSON");
        assert_eq!(shown(&first), shown(&second));
        assert!(parse(Path::new("x"), &written.text).is_err(), "the body's file is not there");
    }

    #[test]
    fn seed_rates_and_resumption_stay() {
        let text = "target: http://127.0.0.1:1/\nrates: 10..20.5\narrivals: poisson\nseed: 77\n\
                    resume_tls: true\n";
        let given = parse(Path::new("given.yaml"), text).expect("good");
        let plan = |settings| Plan::new(settings, Circumstances::default()).expect("a plan");
        let written = scenario(&given, &plan(given.clone())).expect("written");
        let again = parse(Path::new("effective.yaml"), &written.text).expect("good");
        assert_eq!(again.rate, given.rate);
        assert_eq!((again.seed, again.resume_tls), (Some(77), Some(true)));
        let record = plan(again).record();
        assert_eq!((record.rates.as_deref(), record.rate), (Some("10..20.5"), Some(15.25)));
    }
}
