//! A YAML document as a tree in which every key and value knows its place. Typed resources are read
//! from it, and later findings about a field find their place in it.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Nodes that one file may have.
const NODES_MAX: usize = 5_000_000;
/// Nodes that the anchors and aliases of one file may copy ("billion laughs").
const ALIASED_NODES_MAX: usize = 100_000;
/// From this many keys on a mapping's keys are compared by a hash.
const HASHED_KEYS_MIN: usize = 16;
/// How deep nodes may nest.
const DEPTH_MAX: usize = 128;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    fn of(span: Span) -> Position {
        Position { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A scalar.
    Scalar {
        /// Its text.
        text: String,
        /// Without quotes: `80` is then a number, `true` a boolean.
        plain: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in order; keys are unique.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// The value.
    pub value: Node,
}

/// A text is not the YAML that we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub position: Position,
    /// Why.
    pub message: String,
}

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its root; none for an empty document.
    pub root: Option<Node>,
    /// Keys that occur twice in one mapping.
    pub duplicates: Vec<SyntaxError>,
}

impl Node {
    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of a scalar that is there.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, plain } if !(*plain && is_null(text)) => Some(text),
            _ => None,
        }
    }

    /// Is it nothing (`~`, `null`, empty)?
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// The place of the field at `path` (`spec.http[0].match[1].headers[x-a]`), or of the deepest
    /// part of it that exists.
    pub fn locate(&self, path: &str) -> Position {
        let mut node = self;
        let mut position = self.position;
        for part in parts(path) {
            let next = match (&node.value, part.parse::<usize>()) {
                (Value::Sequence(items), Ok(index)) => {
                    items.get(index).map(|item| (item, item.position))
                }
                (Value::Mapping(entries), _) => node
                    .entry(part)
                    .or_else(|| entries.iter().find(|entry| snake_to_camel(&entry.key) == part))
                    .map(|entry| (&entry.value, entry.position)),
                _ => None,
            };
            let Some((child, at)) = next else { break };
            node = child;
            position = at;
        }
        // A value says more about a mistake than its key, unless it spans lines.
        match &node.value {
            Value::Scalar { text, .. } if !text.is_empty() => node.position,
            _ => position,
        }
    }
}

/// `a.b[0].c[x.y]` → `a`, `b`, `0`, `c`, `x.y`.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            parts.push(&inner[..end]);
            rest = inner.get(end + 1..).unwrap_or("");
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            parts.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
    parts
}

/// `connect_timeout` → `connectTimeout`, protobuf's JSON name of a field.
pub(super) fn snake_to_camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if upper {
            camel.extend(letter.to_uppercase());
            upper = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

/// The spellings of nothing in YAML's core schema.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

struct Builder<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    duplicates: Vec<SyntaxError>,
    nodes: usize,
    aliased: usize,
}

/// Parse all documents of a text. The error is that of the first place that is not YAML.
///
/// # Errors
/// A syntax error, or a text that is too large or too deep when its aliases are expanded.
pub fn parse(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let parser = Parser::new_from_str(text);
    let mut builder =
        Builder { parser, anchors: HashMap::new(), duplicates: Vec::new(), nodes: 0, aliased: 0 };
    let mut documents = Vec::new();
    loop {
        let Some((event, _)) = builder.next()? else { return Ok(documents) };
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(..) => {
                builder.anchors.clear();
                let root = builder.node(0)?;
                let root = root.filter(|root| !root.is_null());
                let duplicates = std::mem::take(&mut builder.duplicates);
                documents.push(Document { root, duplicates });
            }
            _ => {}
        }
    }
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        // Comments are among the events; they are no part of the tree.
        let found =
            self.parser.by_ref().find(|event| !matches!(event, Ok((Event::Comment(..), _))));
        match found {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => {
                let marker = error.marker();
                Err(SyntaxError {
                    position: Position { line: marker.line(), column: marker.col() + 1 },
                    message: error.info(),
                })
            }
        }
    }

    /// The next node; `None` at the end of the document.
    fn node(&mut self, depth: usize) -> Result<Option<Node>, SyntaxError> {
        let Some((event, span)) = self.next()? else { return Ok(None) };
        self.node_of(event, span, depth)
    }

    fn node_of(
        &mut self,
        event: Event<'t>,
        span: Span,
        depth: usize,
    ) -> Result<Option<Node>, SyntaxError> {
        let position = Position::of(span);
        let fail = |message: &str| SyntaxError { position, message: message.to_owned() };
        self.nodes += 1;
        if depth > DEPTH_MAX {
            return Err(fail("nested too deeply"));
        }
        if self.nodes > NODES_MAX {
            return Err(fail("too many values"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (anchor, Value::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.extend(self.node_of(event, span, depth + 1)?);
                }
                (anchor, Value::Sequence(items))
            }
            Event::MappingStart(_, anchor, _) => (anchor, Value::Mapping(self.mapping(depth)?)),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(fail("alias without an anchor"));
                };
                let mut node = copy(node, &mut self.aliased, depth).map_err(fail)?;
                node.position = position;
                return Ok(Some(node));
            }
            _ => return Ok(None),
        };
        let node = Node { position, value };
        if anchor > 0 {
            let kept = copy(&node, &mut self.aliased, depth).map_err(fail)?;
            self.anchors.insert(anchor, kept);
        }
        Ok(Some(node))
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let Some(key) = self.node_of(event, span, depth + 1)? else { break };
            let Value::Scalar { text, .. } = key.value else {
                return Err(SyntaxError {
                    position: key.position,
                    message: "a key must be a scalar".to_owned(),
                });
            };
            let Some(value) = self.node(depth + 1)? else { break };
            if text == "<<" {
                merge(&mut merged, value);
                continue;
            }
            if entries.len() >= HASHED_KEYS_MIN && known.is_empty() {
                known = entries.iter().enumerate().map(|(at, e)| (e.key.clone(), at)).collect();
            }
            let first = match known.is_empty() {
                true => entries.iter().find(|entry| entry.key == text),
                false => known.get(&text).and_then(|at| entries.get(*at)),
            };
            if let Some(first) = first {
                self.duplicates.push(SyntaxError {
                    position: key.position,
                    message: format!(
                        "duplicate key `{text}`: it is also on line {}",
                        first.position.line
                    ),
                });
                continue;
            }
            if !known.is_empty() {
                known.insert(text.clone(), entries.len());
            }
            entries.push(Entry { key: text, position: key.position, value });
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// `<<: *anchor` or a list of them.
fn merge(into: &mut Vec<Entry>, value: Node) {
    match value.value {
        Value::Mapping(entries) => into.extend(entries),
        Value::Sequence(items) => {
            for item in items {
                merge(into, item);
            }
        }
        Value::Scalar { .. } => {}
    }
}

/// Copy a node to a depth, within the bounds of what a file may copy.
fn copy(node: &Node, copied: &mut usize, depth: usize) -> Result<Node, &'static str> {
    let (count, levels) = extent(node);
    *copied = copied.saturating_add(count);
    if *copied > ALIASED_NODES_MAX {
        return Err("too many values (aliases expanded)");
    }
    if depth + levels > DEPTH_MAX {
        return Err("nested too deeply (aliases expanded)");
    }
    Ok(node.clone())
}

/// Nodes and levels of a tree.
fn extent(node: &Node) -> (usize, usize) {
    let mut children: Vec<&Node> = Vec::new();
    match &node.value {
        Value::Scalar { .. } => {}
        Value::Sequence(items) => children.extend(items),
        Value::Mapping(entries) => children.extend(entries.iter().map(|entry| &entry.value)),
    }
    let below = children.into_iter().map(extent);
    let (count, levels) = below.fold((0, 0), |(a, b), (count, levels)| (a + count, b.max(levels)));
    (count + 1, levels + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_know_their_places() {
        let text = "kind: A\nspec:\n  http:\n  - match:\n    - headers:\n        x-a: {exact: b}\n---\n\
                    kind: B\n";
        let documents = parse(text).expect("YAML");
        assert_eq!(documents.len(), 2);
        let root = documents[0].root.as_ref().expect("not empty");
        let at = |path| root.locate(path);
        assert_eq!(at("kind"), Position { line: 1, column: 7 });
        assert_eq!(
            at("spec.http[0].match[0].headers[x-a].exact"),
            Position { line: 6, column: 22 }
        );
        assert_eq!(at("spec.http[0].match[0].headers[x-a]"), Position { line: 6, column: 9 });
        assert_eq!(at("spec.http[7].route"), Position { line: 3, column: 3 });
        let second = documents[1].root.as_ref().expect("not empty");
        assert_eq!(second.locate("kind"), Position { line: 8, column: 7 });
    }

    #[test]
    fn duplicates_are_told_and_aliases_followed() {
        let documents = parse("a: &x {k: 1}\nb: *x\na: 2\nc: {<<: *x, j: 2}\n").expect("YAML");
        let duplicate = documents[0].duplicates.first().expect("one");
        assert_eq!(duplicate.position, Position { line: 3, column: 1 });
        let root = documents[0].root.as_ref().expect("not empty");
        assert_eq!(root.get("b").and_then(|b| b.get("k")).and_then(Node::as_str), Some("1"));
        assert_eq!(root.get("c").and_then(|c| c.get("k")).and_then(Node::as_str), Some("1"));
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&bomb).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
        // Anchors cost a copy each: nested around a long list they are a bomb of their own.
        let anchors: String = (0..100).map(|level| format!("&a{level} [")).collect();
        let list = "x,".repeat(50_000);
        assert!(parse(&format!("{anchors}{list}{}", "]".repeat(100))).is_err());
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..200 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(parse(&chain).expect_err("deep").message.contains("nested too deeply"));
        assert!(parse("a: [\n").is_err());
        assert!(parse("a: b: c\n").is_err());
    }
}
