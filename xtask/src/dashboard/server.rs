//! The server of the dashboard, on loopback only. It renders pages in processes of their own (`render.rs`), and sends
//! events about services and logs itself, as long as somebody listens.
//!
//! ```text
//! GET /        the page           GET /events      the services, whenever they change
//! GET /branch  one branch         GET /log-events  new lines of a log
//! GET /rules   all branch rules
//! GET /about   whose it is, as JSON
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::html::escape_message;
#[cfg(feature = "services")]
use super::html::{query_value, render_time};
use super::page::{PageHead, PageTarget, content_policy, render_command, render_subpage};
#[cfg(feature = "services")]
use super::service_log::ShownLog;
#[cfg(feature = "services")]
use super::services::{UsageSamples, render_services, sample_services};
use xtask_base::environment::{Environment, format_rfc3339, read_monotonic_clock};
use xtask_base::error::Result;
#[cfg(feature = "services")]
use xtask_base::http::{EventStream, ServerEvent};
use xtask_base::http::{HttpReply, HttpRequest, HttpServer, get};
use xtask_base::process::{ACTIVE_VAR, Program};
use xtask_base::signals::wait_for_hangup;
use xtask_base::worktree_paths::WorktreePaths;

/// The first port of the main worktree.
const FIRST_PORT: u16 = 8190;

/// How many ports are tried in a row.
const MAX_PORTS: u16 = 10;

/// How long a page may take: two minutes, for thousands of branches on a slow disk.
const RENDER_TIMEOUT: Duration = Duration::from_secs(120);

/// How many pages are rendered at once; others wait.
const MAX_RENDERING: usize = 2;

/// How many pages are kept for those who wait for the same.
const MAX_RECENT: usize = 2;

#[cfg(feature = "services")]
/// How often an open page asks for the state of services.
const SERVICES_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(feature = "services")]
/// How often an open page of a log asks for new lines.
const LOG_INTERVAL: Duration = Duration::from_millis(500);

/// The paths of pages and events; what a build lacks is answered by the page itself.
const PATHS: [&str; 7] = ["/", "/branch", "/rules", "/run", "/log", "/events", "/log-events"];

/// How often the server looks whether it should end, and what services use.
const TICK: Duration = Duration::from_secs(15);

/// How long the answer of another dashboard is waited for.
const ABOUT_TIMEOUT: Duration = Duration::from_millis(500);

/// The hidden option of `dashboard` that renders one page.
pub const RENDER_OPTION: &str = "--render";

/// Whose dashboard a server is, at `/about`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardOwner {
    pub schema: String,
    /// The root of the worktree.
    pub worktree: String,
    /// Whether branches are those of the remote.
    pub remote: bool,
}

impl DashboardOwner {
    fn new(folders: &WorktreePaths, is_remote: bool) -> DashboardOwner {
        DashboardOwner {
            schema: "xtask.dashboard/1".to_owned(),
            worktree: folders.root.display().to_string(),
            remote: is_remote,
        }
    }
}

/// A port for the dashboard.
pub enum DashboardPort {
    /// It is bound.
    Bound(HttpServer),
    /// A dashboard of the same worktree runs there already.
    Running(u16),
}

/// Binds `port`, or the first free one of this worktree, unless its dashboard runs already.
///
/// The main worktree begins at 8190, a linked one at a multiple of ten above, by the place of its git folder: so an
/// address stays the same from one day to the next.
pub fn bind_port(
    folders: &WorktreePaths,
    port: Option<u16>,
    is_remote: bool,
) -> Result<DashboardPort> {
    let own = DashboardOwner::new(folders, is_remote);
    let ports = match port {
        Some(port) => port..=port,
        None => {
            let first = first_port(folders);
            first..=first + (MAX_PORTS - 1)
        }
    };
    // It may have taken a later port while the first one was in use.
    let is_own = |port: &u16| *port != 0 && read_owner(*port).is_some_and(|owner| owner == own);
    if let Some(port) = ports.clone().find(is_own) {
        return Ok(DashboardPort::Running(port));
    }
    let mut failure = None;
    for port in ports {
        match HttpServer::bind(port) {
            Ok(server) => return Ok(DashboardPort::Bound(server)),
            Err(cause) => failure = failure.or(Some(cause)),
        }
    }
    match failure {
        Some(failure) => {
            Err(failure.with_hint("`--port N` takes another port, `--port 0` any free one"))
        }
        None => HttpServer::bind(0).map(DashboardPort::Bound),
    }
}

#[cfg(feature = "services")]
/// Returns by what the pages of a worktree ask for events, so that those of no other worktree come, which may serve at
/// the same address later.
pub(super) fn worktree_key(folders: &WorktreePaths) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let place = xtask_base::digest::hash_bytes(folders.root.as_os_str().as_bytes());
    xtask_base::digest::to_hex(&place)[..16].to_owned()
}

/// Returns the first port that a worktree tries.
fn first_port(folders: &WorktreePaths) -> u16 {
    if folders.git_dir == folders.common_dir {
        return FIRST_PORT;
    }
    use std::os::unix::ffi::OsStrExt as _;
    let place = xtask_base::digest::hash_bytes(folders.git_dir.as_os_str().as_bytes());
    FIRST_PORT + MAX_PORTS * (1 + u16::from(place[0]) % 80)
}

/// Asks whose dashboard a port is.
fn read_owner(port: u16) -> Option<DashboardOwner> {
    let answer = get(port, "/about", ABOUT_TIMEOUT).ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// What the handlers of requests share.
struct Dashboard {
    folders: WorktreePaths,
    world: Environment,
    owner: DashboardOwner,
    /// The number of pages that are being rendered.
    rendering: Mutex<usize>,
    rendered: std::sync::Condvar,
    /// The last pages, each with the time at which its rendering began.
    recent: Mutex<Vec<(String, u64, HttpReply)>>,
    /// The time of the last request or event, in milliseconds of the monotonic clock.
    visited_ms: AtomicU64,
    #[cfg(feature = "services")]
    samples: Mutex<UsageSamples>,
}

/// Serves until nobody has visited for `idle`, or the terminal is gone.
pub fn serve(
    server: HttpServer,
    folders: WorktreePaths,
    world: &Environment,
    is_remote: bool,
    idle: Duration,
) -> Result<()> {
    let dashboard = Arc::new(Dashboard {
        owner: DashboardOwner::new(&folders, is_remote),
        folders,
        world: world.clone(),
        rendering: Mutex::new(0),
        rendered: std::sync::Condvar::new(),
        recent: Mutex::default(),
        visited_ms: AtomicU64::new(now_ms()),
        #[cfg(feature = "services")]
        samples: Mutex::new(UsageSamples::default()),
    });
    let shared = Arc::clone(&dashboard);
    let _serving = server.serve(Arc::new(move |request| answer_request(&shared, request)))?;
    loop {
        // A visit may be noted after the time is read.
        let visited_ms = dashboard.visited_ms.load(Ordering::Relaxed);
        let quiet = Duration::from_millis(now_ms().saturating_sub(visited_ms));
        let Some(left) = idle.checked_sub(quiet).filter(|left| !left.is_zero()) else {
            return Ok(());
        };
        if wait_for_hangup(left.min(TICK)) {
            return Ok(());
        }
        #[cfg(feature = "services")]
        sample_services(&dashboard.folders, &dashboard.world, &mut dashboard.lock_samples());
    }
}

fn now_ms() -> u64 {
    u64::try_from(read_monotonic_clock().as_millis()).unwrap_or(u64::MAX)
}

impl Dashboard {
    fn note_visit(&self) {
        self.visited_ms.store(now_ms(), Ordering::Relaxed);
    }

    #[cfg(feature = "services")]
    fn lock_samples(&self) -> std::sync::MutexGuard<'_, UsageSamples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renders a page in a process of its own.
    fn render(&self, request: &HttpRequest) -> HttpReply {
        let target = match request.query.as_str() {
            "" => request.path.clone(),
            query => format!("{}?{query}", request.path),
        };
        let asked_ms = now_ms();
        let count = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = self
            .rendered
            .wait_while(count, |count| *count >= MAX_RENDERING)
            .unwrap_or_else(PoisonError::into_inner);
        // Whoever has waited while somebody else's was rendered gets that one.
        if let Some(reply) = self.find_recent(&target, asked_ms) {
            return reply;
        }
        *count += 1;
        drop(count);
        let (began_ms, now) = (now_ms(), self.world.now_seconds());
        let remote = self.owner.remote.then_some("--remote");
        let run = Program::new(&self.world.program, &self.folders.root)
            .env_remove(ACTIVE_VAR)
            .args(["dashboard", "--quiet", RENDER_OPTION, &target].into_iter().chain(remote))
            .with_full_output()
            .run_with_timeout(RENDER_TIMEOUT);
        let failed = |why: &str| {
            let html = render_broken_page(&self.folders.root, &request.path, why, now);
            to_reply(500, html.into_bytes())
        };
        let is_late = u128::from(now_ms() - began_ms) >= RENDER_TIMEOUT.as_millis();
        let reply = match run {
            _ if !self.folders.root.is_dir() => failed("the worktree is gone"),
            Ok(done) if done.status.success() => {
                read_page(done.stdout_bytes).unwrap_or_else(|| failed("unexpected output"))
            }
            Ok(done) => failed(&done.stderr),
            Err(_) if is_late => {
                failed(&format!("it took more than {} seconds", RENDER_TIMEOUT.as_secs()))
            }
            Err(failure) => failed(&failure.to_string()),
        };
        self.keep_recent(target, began_ms, &reply);
        *self.rendering.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.rendered.notify_all();
        reply
    }

    /// Returns a page whose rendering began after `asked_ms`.
    fn find_recent(&self, target: &str, asked_ms: u64) -> Option<HttpReply> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().find(|(other, began, _)| other == target && *began >= asked_ms);
        found.map(|(_, _, reply)| reply.clone())
    }

    fn keep_recent(&self, target: String, began_ms: u64, reply: &HttpReply) {
        // Before the other lock, which is taken after this one elsewhere.
        let is_busy =
            *self.rendering.lock().unwrap_or_else(PoisonError::into_inner) >= MAX_RENDERING;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(other, _, _)| *other != target);
        if recent.len() >= MAX_RECENT {
            recent.remove(0);
        }
        // Only what somebody may wait for is worth its memory.
        if is_busy {
            recent.push((target, began_ms, reply.clone()));
        }
    }
}

/// Reads what `--render` prints: the status on the first line, and the page.
fn read_page(mut output: Vec<u8>) -> Option<HttpReply> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let status = std::str::from_utf8(&output[..end]).ok()?.parse().ok()?;
    output.drain(..=end);
    Some(to_reply(status, output))
}

fn to_reply(status: u16, html: Vec<u8>) -> HttpReply {
    let reply = HttpReply::new(status, "text/html; charset=utf-8", html);
    HttpReply { policy: Some(content_policy(PageTarget::Server)), ..reply }
}

/// Renders the page that stands for one that could not be rendered: why, and which commands have no such limit.
fn render_broken_page(root: &Path, path: &str, why: &str, now: i64) -> String {
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy();
    let head = PageHead {
        name: name.into_owned(),
        place: root.display().to_string(),
        here: None,
        time: format_rfc3339(now),
    };
    let (what, command) = match path {
        "/rules" => ("This checks the rules on a terminal", "cargo xtask branch check --all"),
        "/branch" => ("This compares all branches on a terminal", "cargo xtask status --all"),
        _ => (
            "This writes the page to a file, however long it takes",
            "cargo xtask dashboard --html page.html",
        ),
    };
    let body = format!(
        "<p class=\"trouble\">This page could not be rendered: {}</p><p>{what}:</p>{}",
        escape_message(why.trim_end()),
        render_command(command)
    );
    render_subpage(&head, "Not rendered", &body)
}

fn answer_request(dashboard: &Arc<Dashboard>, request: &HttpRequest) -> HttpReply {
    match request.path.as_str() {
        // Who asks whose it is does not look at it.
        "/about" => return HttpReply::json(200, &dashboard.owner),
        path if PATHS.contains(&path) => dashboard.note_visit(),
        // Neither does who looks for something else, e.g. `/favicon.ico`.
        _ => return HttpReply::text(404, "there is no such page; `/` is the dashboard\n"),
    }
    #[cfg(feature = "services")]
    if query_value(&request.query, "of").is_some_and(|of| of != worktree_key(&dashboard.folders)) {
        return HttpReply::text(409, "the page is of another worktree; load it again\n");
    }
    match request.path.as_str() {
        #[cfg(feature = "services")]
        "/events" => follow_services(dashboard),
        #[cfg(feature = "services")]
        "/log-events" => follow_log(dashboard, &request.query),
        _ => dashboard.render(request),
    }
}

#[cfg(feature = "services")]
/// The services as a page shows them.
#[derive(Serialize)]
struct ServicesEvent {
    tone: &'static str,
    summary: String,
    body: String,
}

#[cfg(feature = "services")]
fn follow_services(dashboard: &Arc<Dashboard>) -> HttpReply {
    let dashboard = Arc::clone(dashboard);
    let last = Mutex::new(String::new());
    let next = move || {
        dashboard.note_visit();
        let section = render_services(
            &dashboard.folders,
            &dashboard.world,
            &mut dashboard.lock_samples(),
            PageTarget::Server,
        );
        let event = ServicesEvent {
            tone: section.tone.look().0,
            summary: section.summary,
            body: section.body,
        };
        let data = serde_json::to_string(&event).ok()?;
        // The time alone is no news.
        let time = render_time(&format_rfc3339(dashboard.world.now_seconds()));
        let shown = match serde_json::to_string(&time) {
            Ok(time) => data.replace(time.trim_matches('"'), ""),
            Err(_) => data.clone(),
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == shown {
            return None;
        }
        *last = shown;
        Some(ServerEvent { name: "services", data, id: None })
    };
    HttpReply::events(EventStream { interval: SERVICES_INTERVAL, next: Arc::new(next) })
}

#[cfg(feature = "services")]
fn follow_log(dashboard: &Arc<Dashboard>, query: &str) -> HttpReply {
    let value = |key| query_value(query, key).unwrap_or_default();
    let Some(log) = ShownLog::find(&dashboard.folders, &value("layer"), &value("service")) else {
        return HttpReply::text(404, "there is no such log\n");
    };
    let Ok(from) = value("from").parse() else {
        return HttpReply::text(400, "invalid query: expected a number of bytes as `from`\n");
    };
    let dashboard = Arc::clone(dashboard);
    let at = Mutex::new(from);
    let next = move || {
        dashboard.note_visit();
        let mut at = at.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, next) = log.read_new(*at).ok()?;
        *at = next;
        (!lines.is_empty()).then(|| ServerEvent {
            name: "lines",
            data: lines.join("\n"),
            id: Some(next),
        })
    };
    HttpReply::events(EventStream { interval: LOG_INTERVAL, next: Arc::new(next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_fails_says_what_to_type_instead() {
        let page = |path| render_broken_page(Path::new("/srv/<shop>"), path, "it took `x`\n", 0);
        assert!(page("/").contains("cargo xtask dashboard --html page.html</code>"));
        assert!(page("/rules").contains("cargo xtask branch check --all</code>"));
        let html = page("/branch");
        assert!(html.contains("could not be rendered: it took <code>x</code></p>"), "{html}");
        assert!(html.contains("&lt;shop&gt;") && !html.contains("<shop>"));
    }
}
