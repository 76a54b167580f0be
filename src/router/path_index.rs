//! Path → routes that can match, in order, without looking at the others.
//!
//! Routes with an exact path are found by a hash, routes with a prefix by walking a trie, and the
//! rest (regular expressions, no path, ignored case) is a list that is tried in order. Each exact
//! path and each node of the trie holds the positions of *all* exact and prefix routes that its
//! path satisfies, ascending, cut behind the first one without further conditions, because nothing
//! behind that one can win. A lookup merges two ascending lists and stops at the first hit.
//!
//! Memory: the cut keeps lists short. Only prefixes that are nested *and* carry further conditions
//! repeat in the lists below them, once per level.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::RouteEntry;
use super::string_match::StringMatch;

/// Positions of routes in their virtual host, ascending.
type Positions = Box<[u32]>;

/// The index of one virtual host.
#[derive(Clone, Debug, Default)]
pub struct PathIndex {
    exact: HashMap<Box<[u8]>, Positions, RandomState>,
    /// Node 0 is the root (the empty prefix).
    nodes: Vec<Node>,
    /// Positions of the routes that neither of them finds.
    scanned: Positions,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Children by the first byte of their label, ascending.
    children: Vec<(u8, u32)>,
    /// The bytes from the parent to here.
    label: Box<[u8]>,
    /// Routes whose prefix is the path from the root to here, or a part of it.
    positions: Positions,
}

impl PathIndex {
    /// Index these routes.
    pub fn new(routes: &[RouteEntry]) -> PathIndex {
        let mut exact: HashMap<Box<[u8]>, Vec<u32>, RandomState> = HashMap::default();
        let mut prefixes: Vec<(Box<[u8]>, Vec<u32>)> = Vec::new();
        let mut prefix_at: HashMap<Box<[u8]>, usize, RandomState> = HashMap::default();
        let mut scanned = Vec::new();
        for (position, entry) in routes.iter().enumerate() {
            let position = position as u32;
            let matcher = &entry.matcher;
            match &matcher.uri {
                Some(StringMatch::Exact(path)) if !matcher.ignore_uri_case => {
                    exact.entry(path.clone()).or_default().push(position);
                }
                Some(StringMatch::Prefix(prefix)) if !matcher.ignore_uri_case => {
                    let at = *prefix_at.entry(prefix.clone()).or_insert_with(|| {
                        prefixes.push((prefix.clone(), Vec::new()));
                        prefixes.len() - 1
                    });
                    prefixes[at].1.push(position);
                }
                _ => scanned.push(position),
            }
            // Nothing behind a catch-all can win.
            if matcher.is_catch_all() {
                break;
            }
        }
        let cut = |mut positions: Vec<u32>| -> Positions {
            positions.sort_unstable();
            let end = positions
                .iter()
                .position(|position| routes[*position as usize].matcher.is_path_only())
                .map_or(positions.len(), |at| at + 1);
            positions.truncate(end);
            positions.into()
        };
        // Shorter prefixes first, so that a node's ancestors are complete when it is made.
        prefixes.sort_by_key(|(prefix, _)| prefix.len());
        let mut index = PathIndex { nodes: vec![Node::default()], ..PathIndex::default() };
        for (prefix, positions) in prefixes {
            index.insert(&prefix, |inherited| {
                let mut all = positions.clone();
                all.extend_from_slice(inherited);
                cut(all)
            });
        }
        index.exact = exact
            .into_iter()
            .map(|(path, mut positions)| {
                positions.extend_from_slice(index.deepest(&path));
                (path, cut(positions))
            })
            .collect();
        index.scanned = scanned.into();
        index
    }

    /// Make the node of `prefix`; `positions` gets those of its nearest ancestor.
    fn insert(&mut self, prefix: &[u8], positions: impl Fn(&[u32]) -> Positions) {
        let mut node = 0usize;
        let mut rest = prefix;
        loop {
            let Some(first) = rest.first() else {
                let merged = positions(&self.nodes[node].positions);
                self.nodes[node].positions = merged;
                return;
            };
            let slot = self.nodes[node].children.binary_search_by_key(first, |(byte, _)| *byte);
            let child = match slot {
                Err(at) => {
                    let inherited = self.nodes[node].positions.clone();
                    let leaf = Node {
                        children: Vec::new(),
                        label: rest.into(),
                        positions: positions(&inherited),
                    };
                    let id = self.nodes.len() as u32;
                    self.nodes.push(leaf);
                    self.nodes[node].children.insert(at, (*first, id));
                    return;
                }
                Ok(at) => self.nodes[node].children[at].1 as usize,
            };
            let label = &self.nodes[child].label;
            let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < label.len() {
                // Split the edge: a node in between takes the common part.
                let (upper, lower) = label.split_at(common);
                let (upper, lower): (Box<[u8]>, Box<[u8]>) = (upper.into(), lower.into());
                let between = Node {
                    children: vec![(lower[0], child as u32)],
                    label: upper,
                    positions: self.nodes[node].positions.clone(),
                };
                let id = self.nodes.len() as u32;
                self.nodes.push(between);
                self.nodes[child].label = lower;
                if let Ok(at) = slot {
                    self.nodes[node].children[at].1 = id;
                }
                node = id as usize;
            } else {
                node = child;
            }
            rest = &rest[common..];
        }
    }

    /// Positions of the prefix routes that `path` satisfies.
    #[inline]
    fn deepest(&self, path: &[u8]) -> &[u32] {
        let Some(mut node) = self.nodes.first() else { return &[] };
        let mut rest = path;
        while let Some(first) = rest.first() {
            let next = match node.children.as_slice() {
                [] => break,
                [(byte, id)] if byte == first => *id,
                [_] => break,
                children => match children.binary_search_by_key(first, |(byte, _)| *byte) {
                    Ok(at) => children[at].1,
                    Err(_) => break,
                },
            };
            let Some(child) = self.nodes.get(next as usize) else { break };
            match rest.strip_prefix(&*child.label) {
                Some(behind) => {
                    rest = behind;
                    node = child;
                }
                None => break,
            }
        }
        &node.positions
    }

    /// The first position, ascending, among those whose path can match, for which `applies`.
    #[inline]
    pub fn first(&self, path: &[u8], applies: impl Fn(usize) -> bool) -> Option<usize> {
        let mut indexed = match self.exact.get(path) {
            Some(positions) => positions,
            None => self.deepest(path),
        }
        .iter();
        let mut scanned = self.scanned.iter();
        let (mut left, mut right) = (indexed.next(), scanned.next());
        loop {
            let position = match (left, right) {
                (None, None) => return None,
                (Some(a), Some(b)) if a < b => {
                    left = indexed.next();
                    *a
                }
                (Some(a), None) => {
                    left = indexed.next();
                    *a
                }
                (_, Some(b)) => {
                    right = scanned.next();
                    *b
                }
            } as usize;
            if applies(position) {
                return Some(position);
            }
        }
    }
}
