//! Webhook notification after a run: one POST of a small JSON object, within ten seconds.
//!
//! Sent by the installed `curl`, which knows the machine's proxies and certificates. The URL is often a
//! secret: it is passed on curl's standard input, so that no process list shows it, and never printed. A
//! failure is a warning and does not change the result of the run. The body, for example:
//!
//! ```text
//! {"schema": "xtask.validate.webhook/1", "run": "…", "branch": "main", "ok": false, "failed": ["lint"], …}
//! ```

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use xtask_base::environment::Environment;
use xtask_base::process::Program;
use xtask_base::words::quote_curl_value;
use xtask_config::is_webhook;

/// The longest time for the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time for the connection, in seconds.
const CONNECT_TIMEOUT_S: u64 = 5;

/// The body of the request.
#[derive(Clone, Debug, Serialize)]
pub struct WebhookPayload<'a> {
    /// The name and version of this format.
    pub schema: &'static str,
    pub run: &'a str,
    /// The branch; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The commit at HEAD; `None` before the first commit.
    pub commit: Option<String>,
    /// The start of the run, RFC 3339 in UTC.
    pub started: String,
    pub duration_ms: u64,
    /// Whether every check is good.
    pub ok: bool,
    /// The number of checks by outcome, e.g. `{"passed": 7, "failed": 1}`.
    pub checks: std::collections::BTreeMap<&'static str, usize>,
    /// The names of the failed checks.
    pub failed: Vec<&'a str>,
}

/// Returns the URL that `configured` gives directly or as `$VARIABLE`; `None` if that variable is not set.
/// Fails if its value is not a webhook URL.
pub fn resolve_address(world: &Environment, configured: &str) -> Result<Option<String>, String> {
    let Some(name) = configured.strip_prefix('$') else { return Ok(Some(configured.to_owned())) };
    match world.variable(name) {
        None => Ok(None),
        Some(value) if is_webhook(value) && !value.starts_with('$') => Ok(Some(value.to_owned())),
        Some(_) => Err(format!("invalid webhook URL in `{name}`: expected `https://…`")),
    }
}

/// Sends `told` to `address`. Returns the cause of a failure, without the URL.
pub fn post_webhook(
    world: &Environment,
    folder: &Path,
    address: &str,
    told: &WebhookPayload<'_>,
) -> Result<(), String> {
    let Some(curl) = world.find_program("curl") else {
        return Err("`curl` is not on PATH".to_owned());
    };
    let body = serde_json::to_string(told).map_err(|cause| cause.to_string())?;
    let is_plain = address.starts_with("http://");
    let lines = [
        format!("url = {}", quote_curl_value(address)),
        format!("data-binary = {}", quote_curl_value(&body)),
        "header = \"Content-Type: application/json\"".to_owned(),
        format!("user-agent = \"xtask/{}\"", env!("CARGO_PKG_VERSION")),
        format!("proto = \"={}\"", if is_plain { "http" } else { "https" }),
        format!("connect-timeout = {CONNECT_TIMEOUT_S}"),
        format!("max-time = {}", REQUEST_TIMEOUT.as_secs()),
        "fail\nsilent\nshow-error\noutput = \"/dev/null\"\n".to_owned(),
    ];
    // One second more than curl's own limit, so that curl reports the timeout itself.
    let longest = REQUEST_TIMEOUT + Duration::from_secs(1);
    let done = Program::new(curl, folder)
        .args(["--disable", "--config", "-"])
        .run_with_input(lines.join("\n").as_bytes(), longest)
        .map_err(|failure| failure.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    // curl's errors name the host at most; the URL is removed in case they ever hold more.
    Err(done.stderr.replace(address, "(webhook URL)"))
}
