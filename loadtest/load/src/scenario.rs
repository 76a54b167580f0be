//! Scenario files: what a run does, in YAML. A mistake is told with its file, line and column.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::profile::Profile;
use crate::schedule::{Arrivals, Rate};
use crate::settings::{
    self, Check, Protocol, RequestSettings, Settings, check_header, check_host, check_method,
    check_path,
};
use crate::target::Target;
use crate::units::parse_duration;

/// The largest scenario file, bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// The most requests in a mix: each has a histogram of its own in every interval.
const REQUESTS_MAX: usize = 32;

/// Why a scenario file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// It cannot be read.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no YAML, or has a key or a kind of value that does not belong there.
    #[error("{}:{place}{message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// `line:column: ` if it is known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value cannot be.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    protocol: Option<Spanned<String>>,
    rate: Option<Spanned<f64>>,
    rates: Option<Spanned<String>>,
    arrivals: Option<Spanned<String>>,
    connections: Option<Spanned<u32>>,
    streams: Option<Spanned<u32>>,
    threads: Option<Spanned<u32>>,
    duration: Option<Spanned<String>>,
    warmup: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    keep_alive: Option<bool>,
    trust: Option<String>,
    insecure: Option<bool>,
    resume_tls: Option<bool>,
    seed: Option<u64>,
    #[serde(default)]
    headers: Vec<Spanned<String>>,
    #[serde(default)]
    requests: Vec<Spanned<Request>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: Option<Spanned<String>>,
    weight: Option<Spanned<u32>>,
    method: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    #[serde(default)]
    headers: Vec<Spanned<String>>,
    body: Option<String>,
    body_file: Option<Spanned<String>>,
    expect: Option<Expect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    status: Vec<Spanned<String>>,
    body: Option<String>,
    contains: Option<String>,
    length: Option<u64>,
}

/// Where values stand, for messages.
struct Reader<'p> {
    path: &'p Path,
}

impl Reader<'_> {
    fn wrong<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ScenarioError {
        ScenarioError::Value {
            path: self.path.to_owned(),
            line: at.referenced.line(),
            column: at.referenced.column(),
            message: message.into(),
        }
    }

    /// The value after `read`, or the mistake with its place.
    fn read<T, V, E: ToString>(
        &self,
        from: Option<&Spanned<T>>,
        read: impl FnOnce(&T) -> Result<V, E>,
    ) -> Result<Option<V>, ScenarioError> {
        let value = |at: &Spanned<T>| {
            read(&at.value).map_err(|message| self.wrong(at, message.to_string()))
        };
        from.map(value).transpose()
    }

    fn count(&self, key: &str, from: Option<&Spanned<u32>>) -> Result<Option<u32>, ScenarioError> {
        self.read(from, |&count| match count {
            0 => Err(format!("{key} must be at least 1")),
            count => Ok(count),
        })
    }

    fn headers(&self, from: &[Spanned<String>]) -> Result<Vec<(String, String)>, ScenarioError> {
        let header = |at: &Spanned<String>| {
            let parsed = settings::parse_header(&at.value);
            let (name, value) = parsed.map_err(|message| self.wrong(at, message))?;
            check_header(&name, &value).map_err(|message| self.wrong(at, message))?;
            if name == "host" {
                return Err(self.wrong(at, "the host has a key of its own: host"));
            }
            Ok((name, value))
        };
        from.iter().map(header).collect()
    }

    fn file(&self, file: &File) -> Result<Settings, ScenarioError> {
        let text = |check: fn(&str) -> Result<(), String>| {
            move |text: &String| check(text).map(|()| text.clone())
        };
        if let Some(surplus) = file.requests.get(REQUESTS_MAX) {
            let message = format!("a mix has at most {REQUESTS_MAX} requests");
            return Err(self.wrong(surplus, message));
        }
        let requests = file.requests.iter().enumerate();
        let requests = requests.map(|(index, request)| self.request(index, request));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        for (index, request) in requests.iter().enumerate() {
            if requests[..index].iter().any(|before| before.name == request.name) {
                let message = format!("there is another request called \"{}\"", request.name);
                return Err(self.wrong(&file.requests[index], message));
            }
        }
        if let Some(first) = file.requests.first()
            && requests.iter().all(|request| request.weight == 0)
        {
            return Err(self.wrong(first, "no request has a weight above 0"));
        }
        if let (Some(_), Some(rates)) = (&file.rate, &file.rates) {
            return Err(self.wrong(rates, "rate and rates exclude each other"));
        }
        let rate = self.read(file.rate.as_ref(), |&rate| {
            let rate = Rate::per_second(rate)
                .ok_or_else(|| format!("a rate of {rate} is not between 0.001 and 10,000,000"));
            rate.map(Profile::Constant)
        })?;
        let rates = self.read(file.rates.as_ref(), |text| Profile::parse(text))?;
        Ok(Settings {
            target: self.read(file.target.as_ref(), |url| Target::parse(url))?,
            host: self.read(file.host.as_ref(), text(check_host))?,
            protocol: self.read(file.protocol.as_ref(), |text| Protocol::parse(text))?,
            rate: rate.or(rates),
            arrivals: self.read(file.arrivals.as_ref(), |text| match text.as_str() {
                "constant" => Ok(Arrivals::Constant),
                "poisson" => Ok(Arrivals::Poisson),
                other => Err(format!("arrivals are constant or poisson, not \"{other}\"")),
            })?,
            connections: self.count("connections", file.connections.as_ref())?,
            streams: self.count("streams", file.streams.as_ref())?,
            threads: self.count("threads", file.threads.as_ref())?,
            duration: self.read(file.duration.as_ref(), |text| parse_duration(text))?,
            warmup: self.read(file.warmup.as_ref(), |text| parse_duration(text))?,
            timeout: self.read(file.timeout.as_ref(), |text| parse_duration(text))?,
            keep_alive: file.keep_alive,
            trust: file.trust.as_ref().map(|file| self.beside(file)),
            insecure: file.insecure,
            resume_tls: file.resume_tls,
            seed: file.seed,
            headers: self.headers(&file.headers)?,
            requests,
        })
    }

    /// A file that is named relative to the scenario's.
    fn beside(&self, name: &str) -> PathBuf {
        self.path.parent().map_or_else(|| name.into(), |folder| folder.join(name))
    }

    fn request(
        &self,
        index: usize,
        at: &Spanned<Request>,
    ) -> Result<RequestSettings, ScenarioError> {
        let request = &at.value;
        let name = self.read(request.name.as_ref(), |name| {
            let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
            if !name.is_empty() && name.chars().all(is_fine) {
                Ok(name.clone())
            } else {
                Err("a name consists of letters, digits, - _ . and /")
            }
        })?;
        let method = self.read(request.method.as_ref(), |method| {
            check_method(method).map(|()| method.clone())
        })?;
        let body = match (&request.body, &request.body_file) {
            (Some(_), Some(file)) => {
                return Err(self.wrong(file, "body and body_file exclude each other"));
            }
            (Some(body), None) => body.clone().into_bytes(),
            (None, Some(file)) => fs::read(self.beside(&file.value)).map_err(|error| {
                self.wrong(file, format!("\"{}\" cannot be read: {error}", file.value))
            })?,
            (None, None) => Vec::new(),
        };
        let mut check = Check::default();
        if let Some(expect) = &request.expect {
            for status in &expect.status {
                let range = Check::parse_status(&status.value);
                check.statuses.push(range.map_err(|message| self.wrong(status, message))?);
            }
            check.body = expect.body.clone().map(String::into_bytes);
            check.contains = expect.contains.clone().map(String::into_bytes);
            check.length = expect.length;
        }
        Ok(RequestSettings {
            name: name.unwrap_or_else(|| format!("request-{}", index + 1)),
            weight: request.weight.as_ref().map_or(1, |weight| weight.value),
            method: method.unwrap_or_else(|| "GET".to_owned()),
            path: self
                .read(request.path.as_ref(), |path| check_path(path).map(|()| path.clone()))?,
            host: self
                .read(request.host.as_ref(), |host| check_host(host).map(|()| host.clone()))?,
            headers: self.headers(&request.headers)?,
            body,
            check,
        })
    }
}

/// Reads a scenario's text; `path` is for messages and for files that it names.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Settings, ScenarioError> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|at| format!("{}:{}: ", at.line(), at.column()));
        let message = error.to_string();
        // The place stands in front, once.
        let message = message.split(" at line ").next().unwrap_or_default();
        ScenarioError::Syntax {
            path: path.to_owned(),
            place: place.unwrap_or_else(|| " ".to_owned()),
            message: message.to_owned(),
        }
    })?;
    Reader { path }.file(&file)
}

/// Reads a scenario file: what it asks for, and its text for the record.
pub(crate) fn load(path: &Path) -> Result<(Settings, String), ScenarioError> {
    let unreadable = |error| ScenarioError::Unreadable { path: path.to_owned(), error };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_MAX {
        let message = format!("a scenario has at most {FILE_MAX} bytes");
        return Err(unreadable(std::io::Error::other(message)));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok((parse(path, &text)?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
target: http://127.0.0.1:8080/base
host: hello.com
rate: 2500
arrivals: poisson
connections: 32
duration: 30s
warmup: 500ms
keep_alive: false
headers: ['accept: */*']
requests:
  - name: index
    weight: 9
  - name: order
    method: POST
    path: /orders?x=1
    headers:
      - 'content-type: application/json'
    body: '{}'
    expect: {status: [201, 4xx], contains: id}
";

    #[test]
    fn a_scenario_says_all_that_a_run_needs() {
        let settings = parse(Path::new("a.yaml"), GOOD).expect("good");
        assert_eq!(settings.rate, Rate::per_second(2500.0).map(Profile::Constant));
        assert_eq!(settings.arrivals, Some(Arrivals::Poisson));
        assert_eq!(settings.keep_alive, Some(false));
        assert_eq!(settings.warmup, Some(std::time::Duration::from_millis(500)));
        let [index, order] = settings.requests.as_slice() else { panic!("two requests") };
        assert_eq!((index.weight, index.method.as_str(), &index.path), (9, "GET", &None));
        assert_eq!(order.body, b"{}");
        assert_eq!(order.check.statuses, [(201, 201), (400, 499)]);
        assert_eq!(order.headers, [("content-type".to_owned(), "application/json".to_owned())]);
    }

    #[test]
    fn the_scenarios_of_the_repository_are_good() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
        let yaml = files.filter(|path| path.extension().is_some_and(|name| name == "yaml"));
        let read = yaml.inspect(|path| {
            load(path).map(drop).unwrap_or_else(|error| panic!("{error}"));
        });
        assert!(read.count() >= 1);
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (text, place, part) in [
            ("rate: 5\nconections: 3\n", "s.yaml:2:", "conections"),
            ("rate: fast\n", "s.yaml:1:7: ", "floating point"),
            ("\n\nrate: -5\n", "s.yaml:3:7:", "between"),
            ("target: http://a b\n", "s.yaml:1:9:", "%-encoded"),
            ("rate: 1\nconnections: 0\n", "s.yaml:2:14:", "at least 1"),
            ("requests:\n  - path: /a\n  - path: b\n", "s.yaml:3:11:", "begin with /"),
            ("requests:\n  - weight: 0\n", "s.yaml:2:", "weight above 0"),
            ("requests:\n  - method: get\n", "s.yaml:2:13:", "no method"),
            ("requests:\n  - headers:\n    - 'a: b'\n    - c\n", "s.yaml:4:7:", "name: value"),
            ("requests:\n  - expect:\n      status: [2000]\n", "s.yaml:3:16:", "no status"),
            ("requests:\n  - body_file: none.bin\n", "s.yaml:2:16:", "none.bin"),
            ("requests:\n  - name: a\n  - path: /\n  - name: a\n", "s.yaml:4:", "another request"),
            ("duration: 3 weeks\n", "s.yaml:1:11:", "unit of time"),
            ("rate: [\n", "s.yaml:", ""),
            ("rate: 1\nrates: 1..2\n", "s.yaml:2:8:", "exclude"),
            ("rates: 1..x\n", "s.yaml:1:8:", "no rate"),
            ("rate: 1\nrate: 2\n", "s.yaml:2:", "rate"),
        ] {
            let error = parse(Path::new("s.yaml"), text).expect_err(text).to_string();
            assert!(error.starts_with(place), "{text:?}: {error}");
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }
}
