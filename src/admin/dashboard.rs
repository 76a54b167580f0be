//! `/dashboard/`: the page that shows what the live pages tell, in a browser. Its files are part of the
//! binary and ask nothing of any other server; `docs/dashboard.md` says what each view shows.
//!
//! The page is the one thing here that shows names which come from the network, so that browsers are told
//! to run nothing but these files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

/// Where the page is.
pub(super) const PATH: &str = "/dashboard/";

/// Scripts, styles, pictures and connections of this server alone; no frame around the page, and no form
/// that goes anywhere.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Name, type, and content of a file.
macro_rules! files {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("dashboard/", $name)))),+]
    };
}

/// Every file of the page.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "icon.svg": PICTURE,
    "style.css": STYLE,
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "curve_chart.js": SCRIPT,
    "curves.js": SCRIPT,
    "dom.js": SCRIPT,
    "explain.js": SCRIPT,
    "format.js": SCRIPT,
    "graph.js": SCRIPT,
    "graph_layout.js": SCRIPT,
    "health.js": SCRIPT,
    "overview.js": SCRIPT,
    "problems.js": SCRIPT,
    "scale.js": SCRIPT,
    "slo.js": SCRIPT,
    "spark.js": SCRIPT,
    "table.js": SCRIPT,
    "timechart.js": SCRIPT,
    "traffic.js": SCRIPT,
};

/// One tag for all files: they belong together, and a browser that has them asks only whether they
/// are still these.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    FILES.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
});

/// Without the slash the page's addresses, which are relative, would be wrong.
pub(super) async fn to_page() -> Redirect {
    Redirect::permanent(PATH)
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

/// Does the client want pages rather than text? Browsers name the type, curl takes anything.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let types = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    types.flat_map(|value| value.split(',')).any(|range| {
        range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("text/html"))
    })
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(file, ..)| *file == name) else {
        let text = "the page has no such file; it begins at /dashboard/\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|value| value.split(','))
        .any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == *TAG);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, *kind)], *text).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in protections() {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn protections() -> [(HeaderName, &'static str); 5] {
    [
        // Kept, but asked for each time: another version of the gateway has other files.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // For browsers that do not know frame-ancestors.
        (header::X_FRAME_OPTIONS, "DENY"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn browsers_want_the_page_and_others_the_text() {
        let accept = |value: &str| is_wanted(&headers(header::ACCEPT, value));
        assert!(accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(accept("application/json, TEXT/HTML;q=0.5"));
        for other in ["*/*", "text/*", "text/plain", "application/json", "text/htmlx", ""] {
            assert!(!accept(other), "{other}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let whole = answer("app.js", &HeaderMap::new());
        assert_eq!(whole.status(), StatusCode::OK);
        let tag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()]
        {
            let again = answer("app.js", &headers(header::IF_NONE_MATCH, &known));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[header::ETAG], tag);
        }
        let old = answer("app.js", &headers(header::IF_NONE_MATCH, "\"other\""));
        assert_eq!(old.status(), StatusCode::OK);
    }

    #[test]
    fn every_file_is_protected_and_there_are_no_others() {
        for (name, kind, text) in FILES {
            let response = answer(name, &HeaderMap::new());
            assert_eq!(response.headers()[header::CONTENT_TYPE], *kind);
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'self'"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
            // What would put text in as markup.
            for bad in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(bad), "{name} has {bad}");
            }
        }
        for name in ["", "../server.rs", "none.js"] {
            assert_eq!(answer(name, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let mut served: Vec<_> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        served.sort();
        assert_eq!(there, served);
    }
}
