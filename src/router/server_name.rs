//! From a TLS server name to a route: the exact name, then the longest wildcard, then any (behaviour
//! 2.8.3). Connections without names, plain TCP, take the route for any.

use std::collections::HashMap;

/// Routes by server name, numbered by whoever builds it.
#[derive(Clone, Debug, Default)]
pub struct ServerNameTable {
    exact: HashMap<Box<str>, usize>,
    /// `.example.com` of `*.example.com`, the longest first.
    wildcards: Vec<(Box<str>, usize)>,
    any: Option<usize>,
}

impl ServerNameTable {
    /// Give connections for `pattern` (a name, `*.suffix` or `*`) to `route`. False: it is taken already,
    /// and stays as it is.
    pub fn insert(&mut self, pattern: &str, route: usize) -> bool {
        let pattern = pattern.to_ascii_lowercase();
        if pattern == "*" {
            let free = self.any.is_none();
            self.any.get_or_insert(route);
            return free;
        }
        let Some(suffix) = pattern.strip_prefix('*') else {
            let free = !self.exact.contains_key(pattern.as_str());
            self.exact.entry(pattern.into()).or_insert(route);
            return free;
        };
        if self.wildcards.iter().any(|(known, _)| **known == *suffix) {
            return false;
        }
        let longer = |(known, _): &(Box<str>, usize)| known.len() >= suffix.len();
        let at = self.wildcards.partition_point(longer);
        self.wildcards.insert(at, (suffix.into(), route));
        true
    }

    /// The route of a connection that names this server; none: it names none.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return self.any };
        let name = name.to_ascii_lowercase();
        let exact = self.exact.get(name.as_str()).copied();
        let wildcard = || {
            // Something must stand before the suffix.
            let fits = |(suffix, _): &&(Box<str>, usize)| {
                name.len() > suffix.len() && name.ends_with(&**suffix)
            };
            self.wildcards.iter().find(fits).map(|(_, route)| *route)
        };
        exact.or_else(wildcard).or(self.any)
    }

    /// Does no connection get a route?
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.any.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_most_exact_name_wins_and_the_first_of_a_name() {
        let mut table = ServerNameTable::default();
        assert!(table.is_empty());
        for (route, pattern) in
            ["*", "*.com", "*.b.com", "a.b.com", "A.B.com", "*.com", "*"].into_iter().enumerate()
        {
            assert_eq!(table.insert(pattern, route), route < 4, "{pattern}");
        }
        for (name, route) in [
            (Some("a.b.com"), 3),
            (Some("A.b.COM"), 3),
            (Some("x.b.com"), 2),
            (Some("y.x.b.com"), 2),
            (Some("b.com"), 1),
            (Some(".b.com"), 1),
            (Some("b.org"), 0),
            (None, 0),
        ] {
            assert_eq!(table.find(name), Some(route), "{name:?}");
        }
        let mut one = ServerNameTable::default();
        one.insert("a.com", 0);
        assert_eq!((one.find(None), one.find(Some("b.com"))), (None, None));
    }

    proptest! {
        /// Against a look at every pattern.
        #[test]
        fn it_finds_what_a_scan_finds(
            patterns in prop::collection::vec("(\\*|(\\*\\.)?([ab]\\.){0,2}[ab])", 0..8),
            name in "([ab]\\.){0,3}[ab]",
        ) {
            let mut table = ServerNameTable::default();
            for (route, pattern) in patterns.iter().enumerate() {
                table.insert(pattern, route);
            }
            let fits = |pattern: &str| match pattern.strip_prefix('*') {
                None => pattern == name,
                Some(suffix) => name.ends_with(suffix) && name.len() > suffix.len(),
            };
            let rank = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
            let best = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| fits(pattern))
                .max_by_key(|(route, pattern)| (rank(pattern), std::cmp::Reverse(*route)));
            prop_assert_eq!(table.find(Some(&name)), best.map(|(route, _)| route));
        }
    }
}
