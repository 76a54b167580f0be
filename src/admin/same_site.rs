//! Pages that change something are asked by POST, and by nobody else's web page: a browser on the
//! operator's machine reaches the admin port too.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};

use super::state::AdminState;
use crate::http::authority;

const STRANGE_NAME: &str =
    "refused: from a browser, open the admin port by its address or as localhost\n";

/// A page that does something when it is POSTed to.
pub(super) fn action<H: Handler<T, AdminState>, T: 'static>(
    handler: H,
) -> MethodRouter<AdminState> {
    guarded(post(handler).fallback(told_to_post))
}

/// `pages`, whose methods that change something are refused to other web sites.
pub(super) fn guarded(pages: MethodRouter<AdminState>) -> MethodRouter<AdminState> {
    pages.layer(from_fn(refuse_other_sites))
}

/// `pages`, which are refused to other web sites altogether: they could not read them, but hold them open.
pub(super) fn held(pages: MethodRouter<AdminState>) -> MethodRouter<AdminState> {
    pages.layer(from_fn(refuse_other_sites_everything))
}

/// `router`, no page of which a browser gets under a name that is not ours: somebody may have made that name
/// lead here, so that his page could read them. Programs may use any name.
pub(super) fn read_by_own_pages(router: Router<AdminState>) -> Router<AdminState> {
    router.layer(from_fn(refuse_strange_names))
}

async fn refuse_strange_names(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_browser(headers) && !is_local_or_address(host) {
        return (StatusCode::FORBIDDEN, STRANGE_NAME).into_response();
    }
    next.run(request).await
}

/// Every browser says so, also where it leaves out `Origin` and `Sec-Fetch-Site` (pages without TLS).
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes());
    agent.is_some_and(|agent| agent.starts_with(b"Mozilla/"))
        || headers.contains_key(header::ORIGIN)
        || headers.contains_key("sec-fetch-site")
}

async fn told_to_post() -> Response {
    let text = "this page changes something: POST to it (curl -X POST …)\n";
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], text).into_response()
}

async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    match judge(request.headers()) {
        Err(text) if changes => (StatusCode::FORBIDDEN, text).into_response(),
        _ => next.run(request).await,
    }
}

async fn refuse_other_sites_everything(request: Request, next: Next) -> Response {
    match judge(request.headers()) {
        Err(text) => (StatusCode::FORBIDDEN, text).into_response(),
        // A picture of a foreign page says nothing of whose page it is where there is no TLS.
        Ok(()) if is_browser(request.headers()) && says_nothing(request.headers()) => {
            let text = "refused: a browser that does not say whose page asks\n";
            (StatusCode::FORBIDDEN, text).into_response()
        }
        Ok(()) => next.run(request).await,
    }
}

fn says_nothing(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::ORIGIN) && !headers.contains_key("sec-fetch-site")
}

/// Does this come from a page of ours, or from no browser at all? A browser says in `Origin` or
/// `Sec-Fetch-Site` whose page asks. A name that somebody makes resolve to this machine makes a foreign
/// page look like ours: from browsers the host must be an address, or localhost.
fn judge(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    if origin.is_none() && site.is_none() {
        return Ok(());
    }
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err("refused: another web site asks for this\n");
    }
    let host = text("host").unwrap_or_default();
    if !is_local_or_address(host) {
        return Err(STRANGE_NAME);
    }
    let Some(origin) = origin else { return Ok(()) };
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match own {
        Some(own) if own.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err("refused: another web site asks for this\n"),
    }
}

fn is_local_or_address(host: &str) -> bool {
    let (name, _) = authority::split(host.as_bytes());
    let name = std::str::from_utf8(name).unwrap_or_default();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        judge(&headers).is_ok()
    }

    #[test]
    fn browsers_are_told_from_programs() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            (is_browser(&headers), says_nothing(&headers))
        };
        assert_eq!(of(&[("user-agent", "curl/8.5.0")]), (false, true));
        assert_eq!(of(&[("user-agent", "Mozilla/5.0 (X11)")]), (true, true));
        assert_eq!(of(&[("sec-fetch-site", "none")]), (true, false));
        assert_eq!(of(&[("origin", "null")]), (true, false));
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        assert!(judged(&[("host", "gateway.example")]), "curl, by any name");
        for good in ["127.0.0.1:15000", "localhost:15000", "[::1]:15000", "10.0.0.7"] {
            let origin: &'static str = format!("http://{good}").leak();
            assert!(judged(&[("host", good), ("origin", origin)]), "{good}");
            assert!(judged(&[("host", good), ("sec-fetch-site", "same-origin")]), "{good}");
        }
        for (host, origin) in [
            ("127.0.0.1:15000", "http://evil.example"),
            ("127.0.0.1:15000", "http://127.0.0.1:8080"),
            ("127.0.0.1:15000", "null"),
            ("evil.example:15000", "http://evil.example:15000"),
            ("localhost.evil.example", "http://localhost.evil.example"),
        ] {
            assert!(!judged(&[("host", host), ("origin", origin)]), "{host} {origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!judged(&[("host", "127.0.0.1"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(!judged(&[("origin", "http://127.0.0.1")]), "no host");
    }
}
