//! Which web pages may ask: CORS for HTTP (the Fetch standard), and the origin of WebSockets, to which CORS does not apply.
//!
//! Programs send no `Origin` and are not concerned. A page of another origin is answered when the configuration names its
//! origin; a browser keeps the answer from any other page, and that page's WebSocket is refused.

use super::service::refusal;
use jsonrpsee::server::{HttpBody, HttpResponse};

/// Seconds that a browser may remember a permission (as geth).
const MAX_AGE_S: &str = "600";

/// What the headers of a request say about the page behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No page of another origin: nothing to say.
    Own,
    /// A page that may; with what the answer must say.
    Allowed(String),
    /// A page that may not.
    Foreign(String),
}

/// The parts of a request that this is about.
pub(crate) struct Asked<'a> {
    pub(crate) origin: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    /// Whether it is a browser's question before the real request.
    pub(crate) preflight: bool,
    /// Headers that the real request will have.
    pub(crate) headers: Option<&'a str>,
    /// Whether it opens a WebSocket.
    pub(crate) websocket: bool,
}

impl Asked<'_> {
    /// What the page may, by the origins that the configuration names: exact, or with one `*` for any text.
    pub(crate) fn judge(&self, allowed: &[String]) -> Origin {
        let Some(origin) = self.origin else { return Origin::Own };
        if allowed.iter().any(|pattern| pattern == "*") {
            return Origin::Allowed("*".into());
        }
        let same = origin.split_once("://").map(|(_, host)| host) == self.host;
        if same {
            return Origin::Own;
        }
        match allowed.iter().any(|pattern| matches(pattern, origin)) {
            true => Origin::Allowed(origin.into()),
            false => Origin::Foreign(origin.into()),
        }
    }

    /// The answer, if the methods are not to be asked.
    pub(crate) fn answer(&self, origin: &Origin) -> Option<HttpResponse> {
        if self.websocket
            && let Origin::Foreign(page) = origin
        {
            let text = format!("web pages of {page} may not connect: the node's cors_origins do not name it");
            return Some(refusal(403, -32600, &text));
        }
        if !self.preflight {
            return None;
        }
        let mut response = HttpResponse::new(HttpBody::default());
        if let Ok(status) = 204u16.try_into() {
            *response.status_mut() = status;
        }
        // Without these headers the browser does not send the real request.
        if matches!(origin, Origin::Allowed(_)) {
            insert(&mut response, "access-control-allow-methods", "POST");
            insert(&mut response, "access-control-allow-headers", self.headers.unwrap_or("content-type"));
            insert(&mut response, "access-control-max-age", MAX_AGE_S);
        }
        Some(response)
    }
}

impl Origin {
    /// Tells the browser that the page may read the answer.
    pub(crate) fn mark(&self, response: &mut HttpResponse) {
        if let Origin::Allowed(value) = self {
            insert(response, "access-control-allow-origin", value);
            if value != "*" {
                insert(response, "vary", "Origin");
            }
        }
    }
}

fn matches(pattern: &str, origin: &str) -> bool {
    let (pattern, origin) = (pattern.to_ascii_lowercase(), origin.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before)
                && origin.ends_with(after)
        }
    }
}

fn insert(response: &mut HttpResponse, name: &'static str, value: &str) {
    // A value that no header can hold is what no browser sent.
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origin: Option<&str>, host: &str, allowed: &[&str]) -> Origin {
        let allowed: Vec<String> = allowed.iter().map(|text| text.to_string()).collect();
        Asked { origin, host: Some(host), preflight: false, headers: None, websocket: false }.judge(&allowed)
    }

    #[test]
    fn only_named_origins_are_allowed() {
        let page = Some("https://app.example");
        assert_eq!(judged(None, "node:8545", &["*"]), Origin::Own);
        assert_eq!(judged(page, "node:8545", &[]), Origin::Foreign("https://app.example".into()));
        assert_eq!(judged(page, "node:8545", &["*"]), Origin::Allowed("*".into()));
        let exact = judged(page, "node:8545", &["https://other", "HTTPS://app.example"]);
        assert_eq!(exact, Origin::Allowed("https://app.example".into()));
        assert_eq!(judged(page, "app.example", &[]), Origin::Own);
        for (pattern, may) in [
            ("https://*.example", true),
            ("https://app.*", true),
            ("http://*.example", false),
            ("https://app.exampl", false),
            ("https://app.example*.example", false),
        ] {
            let allowed = matches!(judged(page, "node", &[pattern]), Origin::Allowed(_));
            assert_eq!(allowed, may, "{pattern}");
        }
    }
}
