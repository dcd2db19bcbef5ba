//! HTTP server of a running stack on a loopback address, e.g. `GET /health` ->
//! `503 {"status":"unhealthy","reasons":["api is failed"]}`. The other routes are `/status` and
//! `/metrics`.

use std::sync::Arc;

use serde_json::json;

use super::status::StackStatus;
use xtask_base::error::Result;
use xtask_base::http::{HttpReply, HttpRequest, HttpServer, ServerHandle};

/// Source of the status; returns `None` while the supervisor is shutting down.
pub type StatusProvider = Arc<dyn Fn() -> Option<StackStatus> + Send + Sync>;

/// Binds a port; 0 for any free one.
pub fn bind_server(port: u16) -> Result<HttpServer> {
    HttpServer::bind(port)
}

/// Serves until the returned handle is dropped.
pub fn serve_status(server: HttpServer, look: StatusProvider) -> Result<ServerHandle> {
    server.serve(Arc::new(move |request: &HttpRequest| match look() {
        Some(page) => route_request(&request.path, &page),
        None => HttpReply::json(503, &json!({"status": "unhealthy", "reasons": ["shutting down"]})),
    }))
}

fn route_request(path: &str, page: &StackStatus) -> HttpReply {
    match path {
        "/" => HttpReply::text(200, "/status\n/health\n/metrics\n"),
        "/status" => HttpReply::json(200, page),
        "/health" => match page.unhealthy_reasons() {
            reasons if reasons.is_empty() => HttpReply::json(200, &json!({"status": "healthy"})),
            reasons => HttpReply::json(503, &json!({"status": "unhealthy", "reasons": reasons})),
        },
        "/metrics" => HttpReply::text(200, page.to_prometheus()),
        _ => HttpReply::text(404, "not found; try /status, /health or /metrics\n"),
    }
}
