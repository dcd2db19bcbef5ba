//! The status page of a running stack: `/status`, `/health` and `/metrics` on a loopback address.

use std::sync::Arc;

use serde_json::json;

use super::status::StackStatus;
use xtask_base::error::Result;
use xtask_base::http::{HttpReply, HttpRequest, HttpServer, ServerHandle};

/// How the page is asked for: nothing where the supervisor is ending.
pub type StatusProvider = Arc<dyn Fn() -> Option<StackStatus> + Send + Sync>;

/// Binds the port; 0 takes any.
pub fn bind_server(port: u16) -> Result<HttpServer> {
    HttpServer::bind(port)
}

/// Serves until the answer is dropped.
pub fn serve_status(server: HttpServer, look: StatusProvider) -> Result<ServerHandle> {
    server.serve(Arc::new(move |request: &HttpRequest| match look() {
        Some(page) => route_request(&request.path, &page),
        None => HttpReply::json(503, &json!({"status": "unhealthy", "reasons": ["it is ending"]})),
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
        _ => HttpReply::text(404, "there are /status, /health and /metrics\n"),
    }
}
