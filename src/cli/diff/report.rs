//! What a comparison came to.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::outcome::Change;
use super::requests::{Requests, Wanted};

/// Requests of one method and URL that differ in the same way.
struct Group {
    request: String,
    /// Fields of the first of them.
    fields: Vec<String>,
    /// The line of the first of them.
    line: u64,
    /// How many different requests.
    requests: u64,
    /// How many lines.
    lines: u64,
    changes: Vec<Change>,
}

/// What a comparison came to.
pub(super) struct Report {
    path: String,
    requests: u64,
    lines: u64,
    unreadable: Vec<(u64, String)>,
    unreadable_count: u64,
    left_out: u64,
    groups: Vec<Group>,
    known: HashMap<(String, Vec<Change>), usize>,
}

impl Report {
    /// Nothing was compared yet.
    pub(super) fn new(requests: &Requests) -> Report {
        Report {
            path: requests.path.display().to_string(),
            requests: 0,
            lines: 0,
            unreadable: requests.unreadable.clone(),
            unreadable_count: requests.unreadable_count,
            left_out: requests.left_out,
            groups: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Note what differs for a request.
    pub(super) fn add(&mut self, wanted: &Wanted, changes: Vec<Change>) {
        self.requests += 1;
        self.lines += wanted.count;
        if changes.is_empty() {
            return;
        }
        let key = (wanted.asked.summary(), changes);
        if let Some(group) = self.known.get(&key).and_then(|at| self.groups.get_mut(*at)) {
            group.requests += 1;
            group.lines += wanted.count;
            return;
        }
        self.known.insert(key.clone(), self.groups.len());
        let (request, changes) = key;
        self.groups.push(Group {
            request,
            fields: wanted.asked.fields(),
            line: wanted.line,
            requests: 1,
            lines: wanted.count,
            changes,
        });
    }

    /// How many requests differ.
    pub(super) fn differ(&self) -> u64 {
        self.groups.iter().map(|group| group.requests).sum()
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for group in &self.groups {
            let mut of = Vec::new();
            if group.requests > 1 {
                of.push(format!("{} requests", group.requests));
            }
            if group.lines > group.requests {
                of.push(format!("{} lines", group.lines));
            }
            of.push(format!("{}:{}", self.path, group.line));
            text.push_str(&format!("{}  ({})\n", group.request, of.join(", ")));
            for field in &group.fields {
                text.push_str(&format!("    {field}\n"));
            }
            for change in &group.changes {
                let Change { what, old, new } = change;
                text.push_str(&format!("  {what}\n"));
                for (sign, lines) in [('-', old), ('+', new)] {
                    for line in lines.lines() {
                        text.push_str(&format!("    {sign} {line}\n"));
                    }
                }
            }
            text.push('\n');
        }
        let repeated = match self.lines {
            lines if lines > self.requests => format!(" ({lines} lines)"),
            _ => String::new(),
        };
        let mut summary = format!("{} requests{repeated}, {} differ", self.requests, self.differ());
        for (count, what) in
            [(self.unreadable_count, "cannot be read"), (self.left_out, "were not compared")]
        {
            if count > 0 {
                summary.push_str(&format!("; {count} lines {what}"));
            }
        }
        text.push_str(&summary);
        text.push('\n');
        text
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let changes = |group: &Group| -> Vec<Value> {
            let all = group.changes.iter();
            all.map(|change| json!({ "what": change.what, "old": change.old, "new": change.new }))
                .collect()
        };
        let differences: Vec<Value> = self
            .groups
            .iter()
            .map(|group| {
                json!({
                    "request": group.request,
                    "fields": group.fields,
                    "line": group.line,
                    "requests": group.requests,
                    "lines": group.lines,
                    "changes": changes(group),
                })
            })
            .collect();
        let unreadable: Vec<Value> = self
            .unreadable
            .iter()
            .map(|(line, reason)| json!({ "line": line, "reason": reason }))
            .collect();
        json!({
            "file": self.path,
            "requests": self.requests,
            "lines": self.lines,
            "differ": self.differ(),
            "unreadable": self.unreadable_count,
            "unreadableLines": unreadable,
            "leftOut": self.left_out,
            "differences": differences,
        })
    }
}
