//! Telling somebody that a run has ended: one POST of a few facts, within ten seconds.
//!
//! It goes by the `curl` of this machine, which knows its proxies and whom it trusts. The address goes
//! in by its standard input, where no list of processes shows it, and is never printed: it often is a
//! secret. That nobody could be told is a warning and changes no result.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use xtask_base::environment::Environment;
use xtask_base::process::Program;
use xtask_config::is_webhook;

/// How long it may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the connection may take, in seconds.
const CONNECT_TIMEOUT_S: u64 = 5;

/// What is told.
#[derive(Clone, Debug, Serialize)]
pub struct WebhookPayload<'a> {
    /// Names this shape.
    pub schema: &'static str,
    /// The run.
    pub run: &'a str,
    /// The branch; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// The commit that is checked out; nothing where there is none.
    pub commit: Option<String>,
    /// When it began, RFC 3339 UTC.
    pub started: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether every check is good.
    pub ok: bool,
    /// How many checks came to which end.
    pub checks: std::collections::BTreeMap<&'static str, usize>,
    /// The checks that failed.
    pub failed: Vec<&'a str>,
}

/// The address that a configuration names; nothing where the variable that it names is not set.
pub fn resolve_address(world: &Environment, configured: &str) -> Result<Option<String>, String> {
    let Some(name) = configured.strip_prefix('$') else { return Ok(Some(configured.to_owned())) };
    match world.variable(name) {
        None => Ok(None),
        Some(value) if is_webhook(value) && !value.starts_with('$') => Ok(Some(value.to_owned())),
        Some(_) => Err(format!("`{name}` holds no address that begins with `https://`")),
    }
}

/// Tells it. The answer is why it could not be told.
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
    // One second more, so that curl can say itself what took too long.
    let longest = REQUEST_TIMEOUT + Duration::from_secs(1);
    let done = Program::new(curl, folder)
        .args(["--disable", "--config", "-"])
        .run_with_input(lines.join("\n").as_bytes(), longest)
        .map_err(|failure| failure.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    // What curl says names the host at most, but who knows.
    Err(done.stderr.replace(address, "(the address)"))
}

/// A value of curl's configuration.
fn quote_curl_value(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
