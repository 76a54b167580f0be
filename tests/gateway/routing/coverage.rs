//! `tests/conformance/COVERAGE.md`, the list of which case shows which behaviour, is true.

use std::path::Path;

use super::Suite;

/// The names of the cases of a file, or of the tests in a Rust file.
fn names_in(file: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if file.ends_with(".rs") {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
        return functions.map(str::to_owned).collect();
    }
    let path = root.join(format!("tests/conformance/{file}.yaml"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let suite: Result<Suite, _> = serde_saphyr::from_str(&text);
    suite.map(|suite| suite.cases.into_iter().map(|case| case.name).collect()).unwrap_or_default()
}

/// Every case that the list names exists, every row names one or says why not, and no file has two
/// cases of one name.
#[test]
fn the_list_of_what_is_shown_is_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let text = std::fs::read_to_string(folder.join("COVERAGE.md")).expect("the list");
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Item ");
    let rows = text.lines().filter(is_row).filter(|line| !line.starts_with("| --- "));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for row in rows {
        count += 1;
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let references: Vec<(&str, &str)> =
            shown.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(": ")).collect();
        let excused = shown.starts_with("later: ") || shown.starts_with("not here: ");
        if references.is_empty() && !excused {
            wrong.push(format!("nothing shows it: {row}"));
        }
        for (file, name) in references {
            if !names_in(file).iter().any(|known| known == name) {
                wrong.push(format!("there is no `{file}: {name}`"));
            }
        }
    }
    assert!(count > 100, "{count} rows");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let file = entry.expect("an entry").file_name().into_string().expect("text");
        let Some(file) = file.strip_suffix(".yaml") else { continue };
        let mut names = names_in(file);
        cases += names.len();
        names.sort();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        wrong.extend(twice.map(|pair| format!("{file} has two cases called `{}`", pair[0])));
    }
    assert!(cases >= 360, "{cases} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
