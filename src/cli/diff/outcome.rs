//! What becomes of a request, in words that can be compared.

use serde_json::Value;

use crate::explain::ExplainError;

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Name and value, in the order in which people ask.
    facts: Vec<(&'static str, String)>,
    /// The head that goes upstream and what is done to the response, by cluster.
    destinations: Vec<(String, [String; 2])>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Change {
    /// What differs.
    pub(super) what: String,
    /// Before. Several lines: only those that are gone.
    pub(super) old: String,
    /// After. Several lines: only those that are new.
    pub(super) new: String,
}

/// Fields of what the gateway answers itself.
const HEADERS: &str = "headers of the answer";
/// What the two sides of a destination are called.
const SIDES: [&str; 2] = ["upstream request", "response"];

impl Outcome {
    /// The outcome of an explanation.
    pub(super) fn of(answer: &Value) -> Outcome {
        let mut outcome = Outcome::default();
        let reply = &answer["reply"];
        let said = match reply {
            Value::Null => "sent upstream".to_owned(),
            reply => said(reply),
        };
        outcome.fact("answer", said);
        let listener = &answer["listener"];
        outcome.fact(
            "listener",
            format!("{} ({})", text(&listener["address"]), text(&listener["name"])),
        );
        outcome.fact(
            "virtual host",
            match &answer["virtualHost"]["name"] {
                Value::Null => "none".to_owned(),
                name => text(name),
            },
        );
        outcome.fact(
            "route",
            match &answer["route"] {
                Value::Null => "none".to_owned(),
                route => match text(&route["name"]) {
                    name if name.is_empty() => {
                        format!("unnamed of {}", text(&route["virtualService"]))
                    }
                    name => format!("`{name}` of {}", text(&route["virtualService"])),
                },
            },
        );
        outcome.destinations(answer);
        outcome.fact("timeout", time(&answer["timeoutMs"]));
        if let Some(retries) = answer["retries"].as_object() {
            let list = |value: &Value| {
                let values = value.as_array().into_iter().flatten().map(text);
                values.collect::<Vec<_>>().join(",")
            };
            outcome.fact(
                "retries",
                format!(
                    "{} on {} {} each {}",
                    retries["attempts"],
                    list(&retries["on"]),
                    list(&retries["statusCodes"]),
                    time(&retries["perTryTimeoutMs"]),
                ),
            );
        }
        let mirrors = answer["mirrors"].as_array().into_iter().flatten();
        let mirrors: Vec<String> = mirrors
            .map(|mirror| format!("{} {}%", text(&mirror["cluster"]), mirror["percent"]))
            .collect();
        outcome.fact("mirrors", or_none(mirrors.join(", ")));
        outcome.fact(
            "fault",
            match &answer["fault"] {
                Value::Null => "none".to_owned(),
                fault => format!(
                    "{}% wait {} ms, {}% get {}",
                    fault["delayPercent"],
                    fault["delayMs"],
                    fault["abortPercent"],
                    fault["abortStatus"]
                ),
            },
        );
        // Told already: where it leads and how long its body is.
        let headers = lines(&reply["headers"], "");
        let told =
            |line: &&str| line.starts_with("location: ") || line.starts_with("content-length: ");
        let headers: Vec<&str> = headers.lines().filter(|line| !told(line)).collect();
        outcome.fact(HEADERS, headers.join("\n"));
        outcome
    }

    /// The outcome of a request that has no explanation.
    pub(super) fn of_error(error: &ExplainError) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.fact("answer", error.to_string());
        outcome
    }

    fn fact(&mut self, what: &'static str, value: String) {
        self.facts.push((what, value));
    }

    fn destinations(&mut self, answer: &Value) {
        let mut shown = Vec::new();
        for destination in answer["destinations"].as_array().into_iter().flatten() {
            let cluster = match &destination["cluster"] {
                Value::Null => "one that does not exist".to_owned(),
                cluster => text(cluster),
            };
            let error = match &destination["reply"] {
                Value::Null => String::new(),
                reply => format!(" ({})", said(reply)),
            };
            shown.push(format!("{cluster} {}%{error}", destination["percent"]));
            if let Some(head) = destination["request"].as_str() {
                let response = &destination["response"];
                let response =
                    [lines(&response["add"], "add "), lines(&response["remove"], "drop ")];
                let response = response.join("\n").trim().to_owned();
                // The same cluster may be named twice, with other headers.
                let twice = self.destinations.iter().filter(|(known, _)| *known == cluster).count();
                let name = if twice == 0 { cluster } else { format!("{cluster} ({})", twice + 1) };
                self.destinations.push((name, [without_chance(head), response]));
            }
        }
        self.fact("destinations", or_none(shown.join(", ")));
    }

    /// What differs in `new`.
    pub(super) fn changes(&self, new: &Outcome) -> Vec<Change> {
        let mut changes = Vec::new();
        let value = |outcome: &Outcome, what: &str| {
            let fact = outcome.facts.iter().find(|(name, _)| *name == what);
            fact.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (more, less) =
            if self.facts.len() >= new.facts.len() { (self, new) } else { (new, self) };
        // One that has no explanation says only why: the rest of the other is no news then.
        let facts = if less.facts.len() == 1 { &more.facts[..1] } else { &more.facts[..] };
        for (what, _) in facts {
            let (old, new) = (value(self, what), value(new, what));
            // Where only one of them answers itself, that is the news.
            if *what == HEADERS && (old.is_empty() || new.is_empty()) {
                continue;
            }
            push(&mut changes, (*what).to_owned(), &old, &new);
        }
        match (&self.destinations[..], &new.destinations[..]) {
            // Where there is one each, what upstreams see is compared wherever they are.
            ([(_, old)], [(_, new)]) => {
                for (side, what) in SIDES.iter().enumerate() {
                    push(&mut changes, (*what).to_owned(), &old[side], &new[side]);
                }
            }
            (before, after) => {
                for (cluster, old) in before {
                    let Some((_, new)) = after.iter().find(|(name, _)| name == cluster) else {
                        continue;
                    };
                    for (side, what) in SIDES.iter().enumerate() {
                        push(&mut changes, format!("{what}, {cluster}"), &old[side], &new[side]);
                    }
                }
            }
        }
        changes
    }
}

fn push(changes: &mut Vec<Change>, what: String, old: &str, new: &str) {
    if old == new {
        return;
    }
    if !old.contains('\n') && !new.contains('\n') {
        changes.push(Change { what, old: old.to_owned(), new: new.to_owned() });
        return;
    }
    let only = |of: &str, other: &str| {
        let mut other: Vec<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| match other.iter().position(|known| known == line) {
            Some(at) => {
                other.remove(at);
                false
            }
            None => true,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (gone, come) = (only(old, new), only(new, old));
    // The same lines in another order: then all of them are shown.
    let (old, new) = if gone == come { (old.to_owned(), new.to_owned()) } else { (gone, come) };
    changes.push(Change { what, old, new });
}

/// What the gateway says itself.
fn said(reply: &Value) -> String {
    let mut words = vec![text(&reply["status"])];
    words.extend([text(&reply["flags"])].into_iter().filter(|flags| flags != "-"));
    words.push(text(&reply["details"]));
    if let Some(location) = reply["location"].as_str() {
        words.push(format!("to {location}"));
    }
    if let Some(body) = reply["body"].as_str().filter(|body| !body.is_empty()) {
        words.push(format!("{body:?}"));
    }
    words.join(" ")
}

/// A head without what is drawn anew for every request, and without its last, empty line.
fn without_chance(head: &str) -> String {
    let name = "x-request-id: ";
    let id = head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let head = if id.is_empty() { head.to_owned() } else { head.replace(id, "(drawn)") };
    head.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn lines(fields: &Value, before: &str) -> String {
    let fields = fields.as_array().into_iter().flatten();
    fields
        .map(|field| without_cookie(&format!("{before}{}", text(field))))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The value of a cookie by which requests stick is drawn too: sixteen hexadecimal digits in quotes.
fn without_cookie(field: &str) -> String {
    let at =
        field.find("set-cookie: ").and_then(|at| field[at..].find("=\"").map(|to| at + to + 2));
    let value = at.and_then(|at| Some((at, field.get(at..at + 16)?)));
    match value {
        Some((at, value)) if value.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{}(drawn){}", &field[..at], &field[at + 16..])
        }
        _ => field.to_owned(),
    }
}

fn time(value: &Value) -> String {
    value.as_u64().map_or_else(|| "none".to_owned(), |milliseconds| format!("{milliseconds} ms"))
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_only_those_that_differ_are_told() {
        let mut changes = Vec::new();
        push(&mut changes, "x".to_owned(), "a\nb\nb\nc", "a\nb\nd");
        push(&mut changes, "order".to_owned(), "a\nb", "b\na");
        push(&mut changes, "same".to_owned(), "a\nb", "a\nb");
        let told: Vec<(&str, &str)> =
            changes.iter().map(|change| (&*change.old, &*change.new)).collect();
        assert_eq!(told, [("b\nc", "d"), ("a\nb", "b\na")]);
    }

    #[test]
    fn what_is_drawn_is_no_difference() {
        let head = "GET / HTTP/1.1\r\nx-request-id: 1-2\r\nx-copy: 1-2\r\n\r\n";
        let expected = "GET / HTTP/1.1\nx-request-id: (drawn)\nx-copy: (drawn)";
        assert_eq!(without_chance(head), expected);
        let field = |value: &str| without_cookie(&format!("set-cookie: a=\"{value}\"; Path=/"));
        assert_eq!(field("0123456789abcdef"), field("fedcba9876543210"));
        assert_ne!(field("0123456789abcdex"), field("0123456789abcdef"));
    }
}
