//! The pages of the server, each rendered by a process of its own, which ends with it: `dashboard --render TARGET`.
//!
//! So the server stays as small as it was at its start, whatever a page has read, and a page that fails ends nothing
//! else.
//!
//! ```text
//! /branch?n=feature%2Fmenu  ->  200 and the page of `feature/menu`
//! ```

use super::diff_html::{MAX_DIFFS, render_diff};
use super::drift::{BranchDrift, PathDrift, read_one_branch, read_one_worktree};
use super::drift_html::{BranchFilter, command_prefix, render_branch};
use super::html::{escape_message, escape_name, query_value, quote_word, render_failure};
use super::page::{PageTarget, render_command, render_page, render_subpage};
use super::rules::render_all_rules;
#[cfg(feature = "services")]
use super::service_log::ShownLog;
use super::{page_head, read_sections};
use xtask_base::error::Error;
use xtask_base::words::pluralize;
use xtask_git::{Repo, Tools};
use xtask_sync::context;
use xtask_sync::why::explain_commit_path;

/// How many paths of a branch have their history on its page.
const MAX_EXPLAINED: usize = 20;

/// A rendered page.
pub struct RenderedPage {
    /// The HTTP status.
    pub status: u16,
    pub html: String,
}

/// Renders the page at `target`, the path and query of a request.
#[must_use]
pub fn render_target(
    repo: &Repo,
    target: &str,
    is_remote: bool,
    tools: &Tools<'_>,
) -> RenderedPage {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = |key: &str| query_value(query, key).unwrap_or_default();
    let now = tools.world.now_seconds();
    let head = page_head(repo, None, PageTarget::Server, now);
    let subpage = |title: &str, (status, body): (u16, String)| RenderedPage {
        status,
        html: render_subpage(&head, title, &body),
    };
    match path {
        "/" => {
            let filter = BranchFilter {
                name: value("name"),
                owner: value("owner"),
                days: value("days").parse().ok().filter(|days| *days > 0),
                state: value("state"),
            };
            let (drift, sections) =
                read_sections(repo, is_remote, &filter, PageTarget::Server, tools);
            let head = page_head(repo, drift.as_ref(), PageTarget::Server, now);
            let html = render_page(&head, &sections, "", PageTarget::Server);
            RenderedPage { status: 200, html }
        }
        "/branch" => {
            let (name, root) = (value("n"), value("worktree"));
            let (title, wanted) = match root.is_empty() || is_remote {
                true => (name.clone(), WantedBranch::Branch(&name)),
                false => (format!("detached HEAD in {root}"), WantedBranch::Worktree(&root)),
            };
            subpage(&title, render_branch_page(repo, &wanted, is_remote, tools))
        }
        "/rules" => subpage("Branch rules", render_rules_page(repo, now)),
        #[cfg(feature = "checks")]
        "/run" => {
            let id = value("id");
            subpage(&format!("Run {id}"), super::checks::render_run(repo, &id))
        }
        #[cfg(feature = "services")]
        "/log" => {
            let (layer, service) = (value("layer"), value("service"));
            let body = match ShownLog::find(&repo.folders(), &layer, &service) {
                Some(log) => (200, log.render(&value("q"))),
                None => (404, "<p>There is no such log.</p>".to_owned()),
            };
            subpage(&format!("Log of {service}"), body)
        }
        _ => subpage("No such page", (404, String::new())),
    }
}

fn render_rules_page(repo: &Repo, now: i64) -> (u16, String) {
    let rules =
        context::read_context(repo).and_then(|context| render_all_rules(repo, &context, now));
    rules.map_or_else(|failure| render_error(&failure), |html| (200, html))
}

fn render_error(failure: &Error) -> (u16, String) {
    let why = escape_message(&failure.to_string());
    (500, format!("<p>{why}</p>{}", render_failure(failure)))
}

/// Which page of a branch is asked for.
enum WantedBranch<'a> {
    Branch(&'a str),
    /// A worktree whose HEAD is detached.
    Worktree(&'a str),
}

/// Renders the page of one branch: what differs, why, what mends it, and the differences.
fn render_branch_page(
    repo: &Repo,
    wanted: &WantedBranch<'_>,
    is_remote: bool,
    tools: &Tools<'_>,
) -> (u16, String) {
    let found = context::read_context(repo).and_then(|context| {
        let branch = match wanted {
            WantedBranch::Branch(name) => read_one_branch(repo, &context, name, is_remote, tools)?,
            WantedBranch::Worktree(root) => read_one_worktree(repo, &context, root, tools)?,
        };
        Ok((context, branch))
    });
    let (context, branch) = match found {
        Ok((context, Some(branch))) => (context, branch),
        Ok((_, None)) => return (404, "<p>There is no such branch.</p>".to_owned()),
        Err(failure) => return render_error(&failure),
    };
    let now = tools.world.now_seconds();
    let mut html = render_branch(&branch, &context.config.branch, is_remote, now);
    if branch.paths.is_empty() {
        if branch.fault.is_none() {
            html.push_str("<p>It is in sync.</p>");
        }
        return (200, html);
    }
    let there = command_prefix(&branch);
    let name = Some(branch.name.as_str()).filter(|_| !branch.is_detached);
    html.push_str("<h2 id=\"paths\">Why</h2>");
    let paths = unique_paths(&branch);
    for path in paths.iter().take(MAX_EXPLAINED) {
        let lines = explain_commit_path(repo, &context, name, branch.commit, &path.path, tools);
        let lines = lines.map_or_else(
            |failure| escape_message(&failure.to_string()),
            |lines| lines.iter().map(|line| format!("<li>{}", escape_message(line))).collect(),
        );
        html.push_str(&format!(
            "<details open><summary><code>{}</code>: {}</summary><ul>{lines}</ul>{}</details>",
            escape_name(&path.path.to_string()),
            escape_message(&path.reason),
            render_command(&format!("{there} why {}", quote_word(path.path.as_bytes())))
        ));
    }
    if paths.len() > MAX_EXPLAINED {
        let rest = paths.len() - MAX_EXPLAINED;
        let command = render_command(&format!("{there} status -v"));
        html.push_str(&format!(
            "<p>And {}; this lists all:</p>{command}",
            pluralize(rest, "more path")
        ));
    }
    html.push_str(&render_diffs(repo, context.canonical.commit, &branch));
    (200, html)
}

/// Returns each path once: one that is behind and edited is in two classes.
fn unique_paths(branch: &BranchDrift) -> Vec<&PathDrift> {
    let mut paths: Vec<&PathDrift> = branch.paths.iter().collect();
    paths.dedup_by_key(|path| &path.path);
    paths
}

fn render_diffs(repo: &Repo, canonical: xtask_git::Id, branch: &BranchDrift) -> String {
    let mut html = String::from(
        "<h2>Difference from the canonical version</h2><p class=\"soft\">Lines with <code>+</code> are the branch's.</p>",
    );
    let paths = unique_paths(branch);
    for path in paths.iter().take(MAX_DIFFS) {
        html.push_str(&render_diff(repo, canonical, branch.commit, &path.path));
    }
    if paths.len() > MAX_DIFFS {
        let rest = paths.len() - MAX_DIFFS;
        let command = render_command(&format!("{} diff", command_prefix(branch)));
        html.push_str(&format!(
            "<p>And {}; this shows all:</p>{command}",
            pluralize(rest, "more path")
        ));
    }
    html
}
