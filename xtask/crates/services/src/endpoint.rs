//! The status page of a running stack: `/status`, `/health` and `/metrics` on a loopback address.

use std::sync::Arc;

use serde_json::json;

use super::page::Page;
use xtask_base::error::Result;
use xtask_base::http::{Reply, Request, Server, Serving};

/// How the page is asked for: nothing where the supervisor is ending.
pub type Look = Arc<dyn Fn() -> Option<Page> + Send + Sync>;

/// Binds the port; 0 takes any.
pub fn bind(port: u16) -> Result<Server> {
    Server::bind(port)
}

/// Serves until the answer is dropped.
pub fn serve(server: Server, look: Look) -> Result<Serving> {
    server.serve(Arc::new(move |request: &Request| match look() {
        Some(page) => answer(&request.path, &page),
        None => Reply::json(503, &json!({"status": "unhealthy", "reasons": ["it is ending"]})),
    }))
}

fn answer(path: &str, page: &Page) -> Reply {
    match path {
        "/" => Reply::text(200, "/status\n/health\n/metrics\n"),
        "/status" => Reply::json(200, page),
        "/health" => match page.complaints() {
            reasons if reasons.is_empty() => Reply::json(200, &json!({"status": "healthy"})),
            reasons => Reply::json(503, &json!({"status": "unhealthy", "reasons": reasons})),
        },
        "/metrics" => Reply::text(200, page.metrics()),
        _ => Reply::text(404, "there are /status, /health and /metrics\n"),
    }
}
