//! `ringress check` and the command line itself.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::gateway::ringress;
use crate::support::manifests::HELLO;

const SERVICE: &str = include_str!("../../config/hello/service.yaml");

fn root(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("written");
    }
    directory
}

fn check(path: &Path, arguments: &[&str]) -> Output {
    let path = path.display().to_string();
    ringress(&[&["check", &path], arguments].concat())
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What `--output json` finds.
fn findings(path: &Path) -> Vec<Value> {
    let output = check(path, &["--output", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a JSON array");
    let errors = found.iter().any(|found| found["severity"] == "error");
    assert_eq!(output.status.code(), Some(i32::from(errors)), "{found:?}");
    // Whatever is wrong, something can be done about it.
    for finding in found.iter().filter(|found| found["severity"] != "info") {
        assert!(finding["help"].as_str().is_some_and(|help| !help.is_empty()), "{finding}");
    }
    found
}

#[test]
fn good_manifests_pass() {
    let directory = directory(&[("a/hello.yaml", HELLO), ("b/service.yml", SERVICE)]);
    let output = check(directory.path(), &["--strict"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let summary = "0 error(s), 0 warning(s); 1 listener(s), 1 route(s), 1 cluster(s)";
    assert_eq!(text(&output).trim_end(), summary);
    assert_eq!(findings(directory.path()), Vec::<Value>::new());
}

#[test]
fn a_single_file_can_be_checked() {
    let directory = directory(&[("hello.yaml", HELLO), ("bad.yaml", "kind: [")]);
    let output = check(&directory.path().join("hello.yaml"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn the_older_name_of_the_output_option_still_works() {
    let directory = directory(&[("hello.yaml", HELLO)]);
    let [new, old] = ["--output", "--format"].map(|option| {
        let output = check(directory.path(), &[option, "json"]);
        assert_eq!(output.status.code(), Some(0), "{option}");
        text(&output)
    });
    assert_eq!(new, old);
    let help = text(&ringress(&["check", "--help"]));
    assert!(help.contains("--output") && !help.contains("--format"), "{help}");
}

/// What GitHub's code scanning asks of a SARIF file, besides the schema.
#[test]
fn findings_can_be_uploaded_to_code_scanning() {
    let wrong = HELLO.replace("\n  hosts:", "\n  host:");
    assert_ne!(wrong, HELLO);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, name: s}\n";
    let files = [
        ("a/x y.yaml", wrong.as_str()),
        ("b.yaml", ": ["),
        ("c.yaml", SERVICE),
        ("s.yaml", secret),
    ];
    let directory = directory(&files);
    let run = |paths: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringress"));
        command.arg("check").args(paths).args(["--output", "sarif"]);
        let output = command.current_dir(directory.path()).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let log = run(&[".", "missing"]);
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|schema| schema.contains("sarif-2.1.0")));
    let runs = log["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 1);
    let driver = &runs[0]["tool"]["driver"];
    assert_eq!(driver["name"], "ringress");
    assert_eq!(driver["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(runs[0]["columnKind"], "unicodeCodePoints");
    let root = runs[0]["originalUriBaseIds"]["%SRCROOT%"]["uri"].as_str().expect("a root");
    assert!(root.starts_with("file:///") && root.ends_with('/'), "{root}");
    let rules = driver["rules"].as_array().expect("rules");
    assert!(rules.len() > 30);
    for rule in rules {
        for part in
            ["/id", "/name", "/shortDescription/text", "/fullDescription/text", "/help/text"]
        {
            let text = rule.pointer(part).and_then(Value::as_str);
            assert!(text.is_some_and(|text| !text.is_empty()), "{part} of {rule}");
        }
        let level = rule["defaultConfiguration"]["level"].as_str().expect("a level");
        assert!(["error", "warning", "note"].contains(&level), "{rule}");
    }
    let results = runs[0]["results"].as_array().expect("results");
    let json = {
        let path = directory.path().display().to_string();
        let output = ringress(&["check", &path, "missing", "--output", "json"]);
        serde_json::from_slice::<Vec<Value>>(&output.stdout).expect("JSON")
    };
    assert_eq!(results.len(), json.len(), "as many as in the other forms");
    for (result, finding) in results.iter().zip(&json) {
        assert_eq!(result["ruleId"], finding["code"]);
        let index = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let level = match finding["severity"].as_str() {
            Some("info") => "note",
            Some(level) => level,
            None => panic!("{finding}"),
        };
        assert_eq!(result["level"], level);
        let message = result["message"]["text"].as_str().expect("a text");
        assert!(message.contains(finding["message"].as_str().expect("a message")), "{message}");
        assert!(result["partialFingerprints"]["ringressFinding/v1"].is_string());
        let location = &result["locations"][0]["physicalLocation"];
        let uri = location["artifactLocation"]["uri"].as_str().expect("a file");
        assert!(!uri.is_empty() && !uri.contains([' ', '\\']), "{uri}");
        let region = &location["region"];
        assert!(region["startLine"].as_u64() >= Some(1), "{result}");
        if finding["line"].is_null() {
            continue;
        }
        assert_eq!(region["startLine"], finding["line"]);
        assert_eq!(region["startColumn"], finding["column"]);
        assert!(region["endColumn"].as_u64() > region["startColumn"].as_u64(), "{region}");
        assert_eq!(location["artifactLocation"]["uriBaseId"], "%SRCROOT%", "below the root");
        assert!(region.get("snippet").is_none(), "no text of the files, they may hold secrets");
    }
    let uris: Vec<&str> = results
        .iter()
        .filter_map(|result| {
            result.pointer("/locations/0/physicalLocation/artifactLocation/uri")?.as_str()
        })
        .collect();
    for expected in ["a/x%20y.yaml", "b.yaml", "s.yaml"] {
        assert!(uris.contains(&expected), "{expected}: {uris:?}");
    }
    // The word that is wrong, not its line.
    let place = results.iter().find(|result| result["ruleId"] == "IST0106").expect("a typo");
    let region = &place["locations"][0]["physicalLocation"]["region"];
    let columns = |name: &str| region[name].as_u64().expect("a column");
    assert_eq!(columns("endColumn") - columns("startColumn"), "host".len() as u64, "{region}");
}

#[test]
fn suggestions_name_what_was_most_likely_meant() {
    let typo = HELLO.replace("host: hello", "host: helo");
    assert_ne!(typo, HELLO);
    let directory = directory(&[("hello.yaml", &typo), ("service.yaml", SERVICE)]);
    let found = findings(directory.path());
    let finding = found.iter().find(|found| found["code"] == "IST0101").expect("a missing host");
    let help = "did you mean `hello.default.svc.cluster.local`?";
    assert_eq!(finding["help"], help, "{finding}");
    let shown = text(&check(directory.path(), &[]));
    assert!(shown.contains(help), "{shown}");
    let strict = check(directory.path(), &["--output", "json", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
}

/// One thing each that is wrong, and where.
#[test]
fn every_error_has_its_place() {
    let virtual_service = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                           metadata: {name: a}\nspec:\n  hosts: [a.com]\n  gateways: [g]\n  http:\n";
    let cases = [
        ("unknown field", "  - rout: []\n".to_owned(), 8, 5, "rout"),
        ("wrong type", "  - route: 5\n".to_owned(), 8, 12, "expected a list"),
        (
            "wrong type deep inside",
            "  - route: [{destination: {port: {number: x}}}]\n".to_owned(),
            8,
            43,
            "expected a whole number from 0 to 4294967295, found the string `x`",
        ),
        (
            "two matches in one",
            "  - match: [{uri: {exact: /a, prefix: /b}}]\n    route: [{destination: {host: a}}]\n"
                .to_owned(),
            8,
            0,
            "",
        ),
        (
            "a regex that is none",
            "  - match: [{uri: {regex: \"a(\"}}]\n    route: [{destination: {host: a}}]\n"
                .to_owned(),
            8,
            0,
            "uri",
        ),
        ("duplicate key", "  - name: a\n    name: b\n".to_owned(), 9, 5, "name"),
        ("not YAML", "  - }\n".to_owned(), 8, 0, "YAML"),
    ];
    for (what, rest, line, column, message) in cases {
        let directory = directory(&[("a.yaml", &format!("{virtual_service}{rest}"))]);
        let file = directory.path().join("a.yaml").display().to_string();
        let found = findings(directory.path());
        let error = found
            .iter()
            .find(|found| found["severity"] == "error")
            .unwrap_or_else(|| panic!("{what}: no error in {found:?}"));
        assert_eq!(error["file"], file.as_str(), "{what}: {error}");
        assert_eq!(error["line"], line, "{what}: {error}");
        if column > 0 {
            assert_eq!(error["column"], column, "{what}: {error}");
        }
        assert!(error.to_string().contains(message), "{what}: {error}");
        let output = check(directory.path(), &[]);
        let shown = text(&output);
        let column = error["column"].as_u64().expect("a number");
        assert!(shown.contains(&format!("{file}:{line}:{column}")), "{what}:\n{shown}");
        assert!(shown.contains(&format!("\n{line} |")), "it shows the line:\n{shown}");
        assert!(shown.contains("1 error(s)"), "{what}:\n{shown}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn all_problems_of_all_files_are_shown_at_once() {
    let bad = |name: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
             spec:\n  hosts: [a.com]\n  unknown1: 1\n  unknown2: 2\n"
        )
    };
    let both = format!("{}---\n{}", bad("a"), bad("b"));
    let directory = directory(&[("1.yaml", &both), ("2.yaml", &bad("c")), ("3.yaml", ": [")]);
    let found = findings(directory.path());
    let errors: Vec<&Value> = found.iter().filter(|found| found["severity"] == "error").collect();
    for resource in ["a", "b", "c"] {
        let name = format!("VirtualService default/{resource}");
        assert!(
            errors.iter().any(|error| error["resource"] == name.as_str()),
            "{name}: {errors:?}"
        );
    }
    assert!(
        errors.iter().any(|error| error["file"].as_str().is_some_and(|f| f.ends_with("3.yaml")))
    );
}

#[test]
fn warnings_pass_unless_strict() {
    let claim = "  - match: [{headers: {'@request.auth.claims.x': {exact: y}}}]\n    route:";
    let routes = HELLO.replace("  - route:", claim);
    assert_ne!(routes, HELLO);
    let directory = directory(&[("hello.yaml", &routes), ("service.yaml", SERVICE)]);
    let found = findings(directory.path());
    // A field that is not honoured yet is named.
    let named = |found: &&Value| found["code"] == "RNG0100";
    let finding = found.iter().find(named).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(finding["severity"], "warning");
    assert_eq!(check(directory.path(), &[]).status.code(), Some(0));
    assert_eq!(check(directory.path(), &["--strict"]).status.code(), Some(1));
}

#[test]
fn references_are_resolved() {
    let directory = directory(&[("hello.yaml", HELLO)]);
    let found = findings(directory.path());
    let missing = |found: &&Value| found["code"] == "IST0101";
    let finding = found.iter().find(missing).unwrap_or_else(|| panic!("{found:?}"));
    assert!(finding["message"].as_str().is_some_and(|text| text.contains("hello.default")));
}

#[test]
fn kinds_of_others_are_skipped_with_a_notice() {
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {what: ever}\n";
    let directory = directory(&[
        ("hello.yaml", HELLO),
        ("service.yaml", SERVICE),
        ("other.yaml", &format!("{other}---\n{other}")),
    ]);
    let found = findings(directory.path());
    assert_eq!(found.len(), 1, "one notice for both: {found:?}");
    assert_eq!(found[0]["severity"], "info");
    assert!(found[0]["message"].as_str().is_some_and(|text| text.contains("Deployment")));
}

#[test]
fn what_is_not_there_is_an_error() {
    let output = ringress(&["check", "/does/not/exist"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/does/not/exist"), "{}", text(&output));
}

/// The samples have several versions of some objects, one to be applied after the other: besides
/// those duplicates nothing is wrong with them.
#[test]
fn the_samples_of_istio_load() {
    let found = findings(Path::new(&root("tests/data/istio/samples")));
    let errors: Vec<&Value> = found
        .iter()
        .filter(|found| found["severity"] == "error" && found["code"] != "RNG0006")
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn each_sample_of_istio_is_good_by_itself() {
    let mut folders = vec![std::path::PathBuf::from(root("tests/data/istio/samples"))];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                files += 1;
                let output = check(&path, &[]);
                assert_eq!(output.status.code(), Some(0), "{}:\n{}", path.display(), text(&output));
            }
        }
    }
    assert!(files > 25, "{files}");
}

/// The examples are the folders of `config` with manifests in them.
#[test]
fn every_example_is_good() {
    let is_manifest = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml");
    let entries = |path: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut examples = 0;
    for path in entries(Path::new(&root("config"))) {
        if path.is_dir() && entries(&path).iter().any(|path| is_manifest(path)) {
            examples += 1;
            let output = check(&path, &["--strict"]);
            assert_eq!(output.status.code(), Some(0), "{}:\n{}", path.display(), text(&output));
        }
    }
    assert!(examples > 0);
}

#[test]
fn help_names_every_command_and_option() {
    let output = ringress(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for command in ["run", "demo", "check", "doctor", "--version"] {
        assert!(text(&output).contains(command), "{command}");
    }
    let output = ringress(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    for option in ["--config", "--port-map", "--labels", "--drain-timeout", "--skip-invalid"] {
        assert!(text(&output).contains(option), "{option}");
    }
    let output = ringress(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output).trim_end(), concat!("ringress ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_stops_early_is_no_failure_of_ours() {
    let samples = root("tests/data/istio/samples");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ringress"))
        .args(["check", &samples])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let said = child.wait_with_output().expect("our child").stderr;
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn unusable_arguments_are_told() {
    for (arguments, part) in [
        (&["run"][..], "--config"),
        (&["run", "--config", "x", "--port-map", "80"], "NUMBER=PORT"),
        (&["run", "--config", "x", "--drain-timeout", "soon"], "30s"),
        (&["nonsense"], "nonsense"),
        (&[], "Usage"),
    ] {
        let output = ringress(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
