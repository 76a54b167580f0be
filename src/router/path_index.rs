//! The routes of one virtual host, found by path: the first match in route order, without looking
//! at exact and prefix routes whose path differs.
//!
//! Every route is one *candidate*, its place in the order with a mark when it has no condition
//! besides its path. Candidates are kept in ascending lists: one per distinct exact path, one per
//! distinct prefix (in a radix trie), one for routes that take any path, and one for those whose path
//! must be tested (regex, `ignoreUriCase`). A lookup merges the few lists that its path leads to, in
//! order, and tests the remaining conditions of each candidate until one holds.
//!
//! A list of a path or prefix holds the candidates of the prefixes that cover it too, so that nested
//! prefixes are one list, and ends at its first unconditional candidate, beyond which none is ever
//! reached. Conditional routes on deeply nested prefixes could make such copies grow with the square
//! of their number; therefore a list of more than [`MERGED_MAX`] candidates is not copied on: the
//! list below it starts anew and links to it. Memory is thus bounded by the number of routes plus
//! `MERGED_MAX` per distinct path. Two lists that follow one another by link hold more than
//! `MERGED_MAX` candidates together, so that a lookup follows few links for the conditional
//! candidates that its path really has. Conditional routes for any path, regexes and `ignoreUriCase`
//! routes are the only ones that are tested one after the other.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::string_match::StringMatch;
use super::table::{RouteEntry, VirtualHost};
use crate::http::RequestHead;
use crate::ids::RouteId;

/// Candidates of the longest list that is copied into the lists below it.
const MERGED_MAX: usize = 16;
/// Routes of the largest virtual host.
pub(super) const ROUTES_MAX: usize = (u32::MAX >> 8) as usize;
/// No list, no link.
const NONE: u32 = u32::MAX;

/// Where the ordered routes of one virtual host are found.
#[derive(Clone, Debug, Default)]
pub struct PathIndex {
    exact: HashMap<Box<[u8]>, u32, RandomState>,
    prefixes: Trie,
    any_path: Vec<Candidate>,
    tested: Vec<Tested>,
    /// The texts of [`Tested::front`], one after the other.
    fronts: Vec<u8>,
    lists: Lists,
}

/// A candidate whose path must be tested, and what its paths begin with: most of many regexes are
/// done with by reading these, which lie together, and nothing of the route.
#[derive(Clone, Copy, Debug)]
struct Tested {
    candidate: Candidate,
    front_start: u32,
    front_end: u32,
}

/// A place in the route order, whether the route there is unconditional once its path matches, and
/// which it is, so that an unconditional one is answered without reading more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    place: u32,
    unconditional: bool,
    route: RouteId,
}

impl PathIndex {
    /// Index `routes`, first match first; at most [`ROUTES_MAX`].
    pub fn new(routes: &[RouteEntry]) -> PathIndex {
        let mut index = PathIndex::default();
        let mut exact: Vec<(&[u8], Candidate)> = Vec::new();
        let mut prefix: Vec<(&[u8], Candidate)> = Vec::new();
        for (place, RouteEntry { matcher, route }) in (0..).zip(routes) {
            let unconditional = matcher.is_path_only();
            let candidate = Candidate { place, unconditional, route: *route };
            match &matcher.uri {
                None => index.any_path.push(candidate),
                Some(StringMatch::Prefix(text)) if text.is_empty() => {
                    index.any_path.push(candidate);
                }
                Some(StringMatch::Regex(regex)) => index.test(candidate, regex.front()),
                Some(_) if matcher.ignore_uri_case => index.test(candidate, b""),
                Some(StringMatch::Exact(text)) => exact.push((text, candidate)),
                Some(StringMatch::Prefix(text)) => prefix.push((text, candidate)),
            }
        }
        end_at_unconditional(&mut index.any_path);
        index.prefixes = Trie::new(by_text(prefix), &mut index.lists);
        for (text, candidates) in by_text(exact) {
            let covering = index.prefixes.find(text);
            let list = index.lists.add(candidates, covering);
            index.exact.insert(text.into(), list);
        }
        index.lists.shrink();
        index.any_path.shrink_to_fit();
        index.tested.shrink_to_fit();
        index.fronts.shrink_to_fit();
        index
    }

    fn test(&mut self, candidate: Candidate, front: &[u8]) {
        let front_start = self.fronts.len() as u32;
        self.fronts.extend_from_slice(front);
        self.tested.push(Tested { candidate, front_start, front_end: self.fronts.len() as u32 });
    }

    /// Whether the path begins as those do that `tested` can hold for.
    #[inline]
    fn may_hold(&self, tested: &Tested, path: &[u8]) -> bool {
        let front = tested.front_start as usize..tested.front_end as usize;
        self.fronts.get(front).is_some_and(|front| path.starts_with(front))
    }

    /// The first route of `virtual_host`, whose index this is, that applies to `head`.
    #[inline]
    pub fn find(&self, head: &RequestHead<'_>, virtual_host: &VirtualHost) -> Option<RouteId> {
        let matcher =
            |of: Candidate| virtual_host.routes.get(of.place as usize).map(|r| &r.matcher);
        let list = match self.exact.get(head.path) {
            Some(list) => *list,
            None => self.prefixes.find(head.path),
        };
        let mut by_path = self.lists.cursor(list);
        let mut any_path = self.any_path.as_slice();
        let mut tested = self.tested.as_slice();
        loop {
            // The lists have no place in common: each route is in one source.
            let path = by_path.peek();
            let any = any_path.first().copied();
            let by_then = [path, any].into_iter().flatten().min();
            while let Some(first) = tested.first()
                && by_then.is_none_or(|found| first.candidate < found)
                && !self.may_hold(first, head.path)
            {
                tested = tested.get(1..).unwrap_or_default();
            }
            let test = tested.first().map(|tested| tested.candidate);
            let next = by_then.into_iter().chain(test).min()?;
            let uri_holds = if path == Some(next) {
                by_path.advance(next);
                true
            } else if any == Some(next) {
                any_path = any_path.get(1..).unwrap_or_default();
                true
            } else {
                tested = tested.get(1..).unwrap_or_default();
                matcher(next)?.uri_applies(head.path)
            };
            if uri_holds
                && (next.unconditional || matcher(next)?.first_other_mismatch(head).is_none())
            {
                return Some(next.route);
            }
        }
    }
}

/// Sort by text and gather the candidates of each; they stay in order.
fn by_text(mut entries: Vec<(&[u8], Candidate)>) -> Vec<(&[u8], Vec<Candidate>)> {
    entries.sort_unstable();
    let mut gathered: Vec<(&[u8], Vec<Candidate>)> = Vec::new();
    for (text, candidate) in entries {
        match gathered.last_mut() {
            Some((last, candidates)) if *last == text => candidates.push(candidate),
            _ => gathered.push((text, vec![candidate])),
        }
    }
    gathered
}

fn end_at_unconditional(candidates: &mut Vec<Candidate>) {
    if let Some(end) = candidates.iter().position(|candidate| candidate.unconditional) {
        candidates.truncate(end + 1);
    }
}

/// Ascending lists in one array; a list may go on (out of order) in the one that it links to.
#[derive(Clone, Debug, Default)]
struct Lists {
    candidates: Vec<Candidate>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    link: u32,
}

impl Lists {
    fn span(&self, list: u32) -> Option<&Span> {
        self.spans.get(list as usize)
    }

    fn of(&self, span: &Span) -> &[Candidate] {
        self.candidates.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// A list of `own` and of all that `covering` leads to.
    fn add(&mut self, mut own: Vec<Candidate>, covering: u32) -> u32 {
        end_at_unconditional(&mut own);
        let mut link = covering;
        if let Some(span) = self.span(covering).copied() {
            let mut merged = [self.of(&span), &own].concat();
            merged.sort_unstable();
            end_at_unconditional(&mut merged);
            if merged.len() <= MERGED_MAX {
                own = merged;
                link = span.link;
            }
        }
        // A linked list that begins behind an unconditional end is never reached.
        if let Some(end) = own.last().copied().filter(|last| last.unconditional) {
            while let Some(span) = self.span(link)
                && self.of(span).first().is_none_or(|first| *first > end)
            {
                link = span.link;
            }
        }
        let start = self.candidates.len() as u32;
        self.candidates.extend_from_slice(&own);
        self.spans.push(Span { start, end: self.candidates.len() as u32, link });
        (self.spans.len() - 1) as u32
    }

    fn shrink(&mut self) {
        self.candidates.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    #[inline]
    fn cursor(&self, list: u32) -> Cursor<'_> {
        match self.span(list) {
            Some(span) => Cursor::new(self, self.of(span), span.link),
            None => Cursor::new(self, &[], NONE),
        }
    }
}

/// Ascending walk over a list and all that it links to. The first list has a place kept; the linked
/// ones, which are rare, are searched for the next candidate each time.
struct Cursor<'l> {
    lists: &'l Lists,
    first: &'l [Candidate],
    link: u32,
    linked_next: Option<Candidate>,
}

impl<'l> Cursor<'l> {
    #[inline]
    fn new(lists: &'l Lists, first: &'l [Candidate], link: u32) -> Cursor<'l> {
        let mut cursor = Cursor { lists, first, link, linked_next: None };
        if link != NONE {
            cursor.linked_next = cursor.search_linked(None);
        }
        cursor
    }

    #[inline]
    fn peek(&self) -> Option<Candidate> {
        match (self.first.first().copied(), self.linked_next) {
            (Some(first), Some(linked)) => Some(first.min(linked)),
            (first, linked) => first.or(linked),
        }
    }

    /// Go past `taken`, which [`Cursor::peek`] gave.
    #[inline]
    fn advance(&mut self, taken: Candidate) {
        if self.first.first() == Some(&taken) {
            self.first = self.first.get(1..).unwrap_or_default();
        } else {
            self.linked_next = self.search_linked(Some(taken));
        }
    }

    #[cold]
    fn search_linked(&self, after: Option<Candidate>) -> Option<Candidate> {
        let mut link = self.link;
        let mut next = None;
        while let Some(span) = self.lists.span(link) {
            let list = self.lists.of(span);
            let at = list.partition_point(|candidate| Some(*candidate) <= after);
            if let Some(candidate) = list.get(at).copied() {
                next = Some(next.map_or(candidate, |found: Candidate| found.min(candidate)));
            }
            link = span.link;
        }
        next
    }
}

/// A radix trie of prefixes. The children of a node lie together, and the first byte of each label
/// is kept apart, so that a step reads one short run of bytes.
#[derive(Clone, Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
    first_bytes: Vec<u8>,
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    label_start: u32,
    label_end: u32,
    children_start: u32,
    children_end: u32,
    /// The list of the longest prefix that ends at or above this node.
    list: u32,
}

impl Trie {
    /// Build from distinct sorted non-empty texts; the root is node 0, with an empty label.
    fn new(mut prefixes: Vec<(&[u8], Vec<Candidate>)>, lists: &mut Lists) -> Trie {
        let mut trie = Trie::default();
        if prefixes.is_empty() {
            return trie;
        }
        trie.push(b"", NONE);
        // Nodes in the order in which they were made, each with its texts and the length it stands for.
        let mut to_do = std::collections::VecDeque::from([(0..prefixes.len(), 0)]);
        let mut node = 0;
        while let Some((texts, depth)) = to_do.pop_front() {
            let mut at = texts.start;
            if let Some((text, own)) = prefixes.get_mut(at)
                && text.len() == depth
            {
                trie.nodes[node].list = lists.add(std::mem::take(own), trie.nodes[node].list);
                at += 1;
            }
            let list = trie.nodes[node].list;
            trie.nodes[node].children_start = trie.nodes.len() as u32;
            while at < texts.end {
                let first = prefixes[at].0;
                let same = prefixes[at..texts.end]
                    .partition_point(|(text, _)| text[depth] <= first[depth]);
                let last = prefixes[at + same - 1].0;
                // Sorted: what the first and the last have in common, all have.
                let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                trie.push(&first[depth..common], list);
                to_do.push_back((at..at + same, common));
                at += same;
            }
            trie.nodes[node].children_end = trie.nodes.len() as u32;
            node += 1;
        }
        trie.nodes.shrink_to_fit();
        trie.first_bytes.shrink_to_fit();
        trie.labels.shrink_to_fit();
        trie
    }

    fn push(&mut self, label: &[u8], list: u32) {
        let label_start = self.labels.len() as u32;
        self.labels.extend_from_slice(label);
        self.first_bytes.push(label.first().copied().unwrap_or_default());
        self.nodes.push(Node {
            label_start,
            label_end: self.labels.len() as u32,
            children_start: 0,
            children_end: 0,
            list,
        });
    }

    /// The list of the longest prefix of `path`.
    #[inline]
    fn find(&self, path: &[u8]) -> u32 {
        let Some(mut node) = self.nodes.first() else { return NONE };
        let mut rest = path;
        while let Some(byte) = rest.first() {
            let children = node.children_start as usize..node.children_end as usize;
            let Some(first_bytes) = self.first_bytes.get(children) else { break };
            let Some(child) = memchr::memchr(*byte, first_bytes) else { break };
            let Some(child) = self.nodes.get(node.children_start as usize + child) else { break };
            let label = child.label_start as usize..child.label_end as usize;
            let Some(label) = self.labels.get(label) else { break };
            let Some(below) = rest.strip_prefix(label) else { break };
            rest = below;
            node = child;
        }
        node.list
    }
}

#[cfg(test)]
mod tests;
