//! Two built-in services, so that a fresh clone has something to start: a page that shows the state
//! of the stack, and an API with a health route.
//!
//! Neither holds any state: each request is forwarded to the status endpoint of the supervisor. If
//! that fails, they respond with 502 and the reason, and stay healthy.
//!
//! ```text
//! GET /api/status -> 200 {"schema":"xtask.ps/1",…}
//!                 or 502 {"error":"no status on port 8199: …"}
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::status::SCHEMA_NAME;
use xtask_base::error::Result;
use xtask_base::http::{HttpReply, HttpRequest, HttpServer, RequestHandler, ServerHandle, get};

/// Timeout of the status endpoint: two seconds.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// HTML of the page, with a placeholder for the name of the project.
const PAGE_TEMPLATE: &str = include_str!("page.html");

/// Placeholder in `PAGE_TEMPLATE`.
const NAME_PLACEHOLDER: &str = "{{name}}";

/// Routes of the API.
const ROUTES: [&str; 3] = ["GET /", "GET /api/health", "GET /api/status"];

/// Built-in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltinService {
    /// HTML page of the stack's status, on `/`.
    Page,
    /// JSON API, on `/api/health` and `/api/status`.
    Api,
}

impl BuiltinService {
    /// Returns the name of the service.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BuiltinService::Page => "page",
            BuiltinService::Api => "api",
        }
    }
}

/// Serves on `port` until the returned handle is dropped. `status` is the port of the supervisor's
/// status endpoint, `name` that of the project.
pub fn serve_builtin(
    what: BuiltinService,
    port: u16,
    status: Option<u16>,
    name: &str,
) -> Result<ServerHandle> {
    let server = HttpServer::bind(port)?;
    let answer: Arc<RequestHandler> = match what {
        BuiltinService::Page => {
            let page = PAGE_TEMPLATE.replace(NAME_PLACEHOLDER, &escape_html(name));
            Arc::new(move |request| page_reply(request, &page, status))
        }
        BuiltinService::Api => Arc::new(move |request| api_reply(request, status)),
    };
    server.serve(answer)
}

fn page_reply(request: &HttpRequest, page: &str, status: Option<u16>) -> HttpReply {
    match request.path.as_str() {
        "/" => HttpReply::html(200, page),
        "/health" => HttpReply::json(200, &json!({ "status": "healthy" })),
        "/status.json" => status_reply(status),
        _ => HttpReply::text(404, "not found; the only page is `/`\n"),
    }
}

fn api_reply(request: &HttpRequest, status: Option<u16>) -> HttpReply {
    match request.path.as_str() {
        "/" => HttpReply::json(200, &json!({ "service": "api", "routes": ROUTES })),
        "/api/health" => HttpReply::json(200, &json!({ "status": "healthy", "service": "api" })),
        "/api/status" => status_reply(status),
        _ => HttpReply::json(404, &json!({ "error": "no such route", "routes": ROUTES })),
    }
}

/// Forwards the status of the stack, or responds with 502 and the reason.
fn status_reply(port: Option<u16>) -> HttpReply {
    match fetch_status(port) {
        Ok(body) => HttpReply::new(200, "application/json", body),
        Err(why) => HttpReply::json(502, &json!({ "error": why })),
    }
}

fn fetch_status(port: Option<u16>) -> std::result::Result<Vec<u8>, String> {
    let Some(port) = port else {
        return Err(
            "the port of the supervisor's status page is not set: use `--status N` or the \
                    variable `XTASK_STATUS_PORT`"
                .to_owned(),
        );
    };
    let asked = get(port, "/status", STATUS_TIMEOUT);
    let answer = asked.map_err(|why| format!("no status on port {port}: {why}"))?;
    if answer.status != 200 {
        return Err(format!("no status on port {port}: unexpected HTTP status {}", answer.status));
    }
    let read = serde_json::from_slice::<Value>(&answer.body).ok();
    let is_ours = read.is_some_and(|value| {
        value
            .get("schema")
            .and_then(Value::as_str)
            .is_some_and(|one| one.split_once('/').is_some_and(|(name, _)| name == SCHEMA_NAME))
    });
    // Another program may have taken the port.
    if is_ours {
        Ok(answer.body)
    } else {
        Err(format!("unexpected response on port {port} (not an xtask status)"))
    }
}

/// Escapes a text for HTML.
fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"schema":"xtask.ps/1","services":[{"service":"api","port":1}]}"#;

    fn ask(serving: &ServerHandle, path: &str) -> (u16, String) {
        let answer = get(serving.port(), path, Duration::from_secs(60)).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    /// A supervisor that says this at `/status`.
    fn supervisor(status: u16, text: &'static str) -> ServerHandle {
        let answer = move |request: &HttpRequest| match request.path.as_str() {
            "/status" => HttpReply::text(status, text),
            _ => HttpReply::text(404, ""),
        };
        HttpServer::bind(0).unwrap().serve(Arc::new(answer)).unwrap()
    }

    #[test]
    fn both_are_healthy_and_hand_on_what_the_supervisor_says() {
        let supervisor = supervisor(200, STATUS);
        let page = serve_builtin(BuiltinService::Page, 0, Some(supervisor.port()), "demo").unwrap();
        assert_eq!(ask(&page, "/health"), (200, r#"{"status":"healthy"}"#.to_owned()));
        assert_eq!(ask(&page, "/status.json"), (200, STATUS.to_owned()));
        assert_eq!(ask(&page, "/favicon.ico").0, 404);
        let api = serve_builtin(BuiltinService::Api, 0, Some(supervisor.port()), "demo").unwrap();
        let health = r#"{"service":"api","status":"healthy"}"#.to_owned();
        assert_eq!(ask(&api, "/api/health?deep=1"), (200, health));
        assert_eq!(ask(&api, "/api/status"), (200, STATUS.to_owned()));
        let (code, routes) = ask(&api, "/");
        assert!(code == 200 && ROUTES.iter().all(|route| routes.contains(route)), "{routes}");
        let (code, text) = ask(&api, "/nothing");
        assert!(code == 404 && text.contains(r#""error":"#), "{text}");
    }

    #[test]
    fn where_there_is_no_status_they_say_why_and_are_well() {
        let of = |port: Option<u16>| {
            let page = serve_builtin(BuiltinService::Page, 0, port, "demo").unwrap();
            assert_eq!(ask(&page, "/health").0, 200);
            let (code, text) = ask(&page, "/status.json");
            let value: Value = serde_json::from_str(&text).unwrap();
            (code, value["error"].as_str().unwrap().to_owned())
        };
        let (code, why) = of(None);
        assert!(code == 502 && why.contains("`XTASK_STATUS_PORT`"), "{why}");
        for (status, text, said) in [
            (503, STATUS, "unexpected HTTP status 503"),
            (200, "hello", "unexpected response"),
            (200, r#"{"schema":"else/1"}"#, "unexpected response"),
            (200, r#"["xtask.ps/1"]"#, "unexpected response"),
        ] {
            let stranger = supervisor(status, text);
            let (code, why) = of(Some(stranger.port()));
            assert!(code == 502 && why.contains(said), "{why}");
        }
        // One that was free a moment ago may be another test's by now; 1 is no server's today.
        let (code, why) = of(Some(1));
        assert!(code == 502 && why.ends_with("connection refused"), "{why}");
    }

    #[test]
    fn the_page_takes_no_markup_from_outside() {
        let page = serve_builtin(BuiltinService::Page, 0, None, r#"<b>&"x""#).unwrap();
        let (code, text) = ask(&page, "/");
        assert_eq!(code, 200);
        assert!(text.contains("<title>&lt;b&gt;&amp;&quot;x&quot;"), "{text}");
        assert!(!text.contains(NAME_PLACEHOLDER) && !text.contains("<b>&"));
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "https://"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
