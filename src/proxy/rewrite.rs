//! What `rewrite` makes of a path.

use crate::snapshot::PathRewrite;

/// Write what `path` becomes. It begins with a slash whatever was configured: a request line would
/// not be one without it.
pub fn write_path(out: &mut Vec<u8>, rewrite: &PathRewrite, path: &[u8]) {
    out.clear();
    match rewrite {
        PathRewrite::Full(replacement) => out.extend_from_slice(replacement.as_bytes()),
        PathRewrite::Prefix { length, replacement } => {
            out.extend_from_slice(replacement.as_bytes());
            out.extend_from_slice(path.get(*length..).unwrap_or_default());
        }
        PathRewrite::Regex(substitution) => substitution.apply(path, out),
    }
    if out.first() != Some(&b'/') {
        out.insert(0, b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Substitution;

    fn rewritten(rewrite: PathRewrite, path: &str) -> String {
        let mut out = b"old".to_vec();
        write_path(&mut out, &rewrite, path.as_bytes());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn paths_are_rewritten() {
        let prefix = |length, to: &str| PathRewrite::Prefix { length, replacement: to.into() };
        assert_eq!(rewritten(prefix(2, "/b"), "/a/c"), "/b/c");
        assert_eq!(rewritten(prefix(2, "/"), "/a/c"), "//c", "as Istio: no slash is cleaned up");
        assert_eq!(rewritten(prefix(1, "/foo"), "/bar"), "/foobar");
        assert_eq!(rewritten(PathRewrite::Full("/new".into()), "/a/c"), "/new");
        assert_eq!(rewritten(PathRewrite::Full("new".into()), "/a/c"), "/new");
        let regex = Substitution::new("^/(a)/.*", r"\1").expect("good");
        assert_eq!(rewritten(PathRewrite::Regex(Box::new(regex)), "/a/c"), "/a");
    }
}
