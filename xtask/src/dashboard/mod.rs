//! The dashboard: one page about drift, checks, services, deploys, branches, hooks and backups, for `dashboard`.
//!
//! It only looks: nothing is written, and whatever would change something is a command to copy. Each section is
//! rendered by itself; if its part of the repository cannot be read, it says why, and the others are shown.

mod chart;
#[cfg(feature = "checks")]
mod checks;
#[cfg(feature = "deploy")]
mod deploys;
mod diff_html;
mod drift;
mod drift_html;
mod groups;
mod html;
mod page;
pub mod render;
mod repository;
mod rules;
pub mod server;
#[cfg(feature = "services")]
mod service_log;
#[cfg(feature = "services")]
mod services;

use self::drift::{BranchDrift, Drift, read_drift};
use self::drift_html::{
    BranchFilter, count_branches, link_here, render_details, render_drift, render_operation,
    render_update_all,
};
use self::html::{escape_message, escape_name, render_failure};
pub use self::page::GENERATOR;
use self::page::{PageHead, PageTarget, Section, Tone, render_page};
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_git::{Repo, Tools};
use xtask_sync::classify::PathClass;
use xtask_sync::context;

/// How many bytes a file may have, so that it can be mailed. What is not about single branches is never left out.
const MAX_FILE_BYTES: usize = 990_000;

/// Renders the dashboard as one file, which needs no server and no network. With `is_remote`, branches are those of the
/// remote, as last fetched.
pub fn render_file(repo: &Repo, is_remote: bool, tools: &Tools<'_>) -> String {
    let filter = BranchFilter::default();
    let (drift, sections) = read_sections(repo, is_remote, &filter, PageTarget::File, tools);
    let now = tools.world.now_seconds();
    let head = page_head(repo, drift.as_ref(), PageTarget::File, now);
    let rest = render_page(&head, &sections, "", PageTarget::File);
    let room = MAX_FILE_BYTES.saturating_sub(rest.len());
    let details = drift.as_ref().map_or(String::new(), |drift| render_details(drift, now, room));
    render_page(&head, &sections, &details, PageTarget::File)
}

fn page_head(repo: &Repo, drift: Option<&Drift>, target: PageTarget, now: i64) -> PageHead {
    let name = repo.root().file_name().unwrap_or(repo.root().as_os_str());
    let branch = repo.current_branch().unwrap_or_else(|| "detached HEAD".to_owned());
    PageHead {
        name: name.to_string_lossy().into_owned(),
        place: format!("{branch} · {}", repo.root().display()),
        here: drift.and_then(|drift| link_here(drift, target)),
        time: format_rfc3339(now),
    }
}

/// Reads all sections, and the drift if there is a canonical branch.
fn read_sections(
    repo: &Repo,
    is_remote: bool,
    filter: &BranchFilter,
    target: PageTarget,
    tools: &Tools<'_>,
) -> (Option<Drift>, Vec<Section>) {
    let now = tools.world.now_seconds();
    let context = context::read_context(repo);
    let drift = context.as_ref().map(|context| read_drift(repo, context, is_remote, tools));
    let mut sections = vec![render_drift_section(&drift, filter, now, target)];
    #[cfg(feature = "checks")]
    sections.push(checks::render_checks(repo, now, target));
    #[cfg(feature = "services")]
    sections.push(services::render_services(
        &repo.folders(),
        tools.world,
        &mut services::UsageSamples::default(),
        target,
    ));
    #[cfg(feature = "deploy")]
    sections.push(deploys::render_deploys(repo, tools.world));
    let drift = drift.ok().and_then(Result::ok);
    let context = context.as_ref();
    if let Ok(context) = context {
        let rules = rules::render_rules(repo, context, now, target);
        sections.push(or_failed(("rules", "Branch rules"), rules));
    }
    sections.push(or_failed(("hooks", "Hooks"), repository::render_hooks(repo, context, tools)));
    sections.push(or_failed(("backups", "Backups"), repository::render_backups(repo, now, target)));
    (drift, sections)
}

/// Returns the section, or one that says why it cannot be shown.
fn or_failed((id, title): (&'static str, &'static str), section: Result<Section>) -> Section {
    section.unwrap_or_else(|failure| Section {
        id,
        title,
        tone: Tone::Bad,
        summary: escape_message(&failure.to_string()),
        body: render_failure(&failure),
    })
}

fn render_drift_section(
    drift: &Result<Result<Drift>, &Error>,
    filter: &BranchFilter,
    now: i64,
    target: PageTarget,
) -> Section {
    let section =
        |tone, summary, body| Section { id: "drift", title: "Drift", tone, summary, body };
    match drift {
        Ok(Ok(drift)) => {
            let need = drift.branches.iter().filter(|branch| branch.needs_attention()).count();
            let tone = match (drift.branches.is_empty(), need) {
                _ if drift.operation_here.is_some() => Tone::Wait,
                (true, _) => Tone::Off,
                (false, 0) => Tone::Good,
                (false, _) => Tone::Wait,
            };
            let mut summary = describe_drift(drift);
            let mut body = String::new();
            if let Some(here) = &drift.operation_here {
                let name = escape_message(here.operation.name);
                summary.push_str(&format!("; {name} is in progress in this worktree"));
                body.push_str(&render_operation(here, true));
            }
            body.push_str(&render_drift(drift, filter, now, target));
            body.push_str(&render_update_all(drift));
            section(tone, summary, body)
        }
        Ok(Err(failure)) => {
            section(Tone::Bad, escape_message(&failure.to_string()), render_failure(failure))
        }
        // Without a canonical branch there is nothing to compare with, which somebody should know.
        Err(failure) => {
            section(Tone::Wait, escape_message(failure.message()), render_failure(failure))
        }
    }
}

/// Describes the drift in a line: how many branches are behind, and the first of them.
fn describe_drift(drift: &Drift) -> String {
    let behind: Vec<&BranchDrift> =
        drift.branches.iter().filter(|branch| branch.count(PathClass::Behind) > 0).collect();
    let all = pluralize(drift.branches.len(), "branch");
    match behind.first() {
        None if drift.branches.is_empty() => "there is no other branch".to_owned(),
        None => {
            let counts = count_branches(drift);
            let words: Vec<String> =
                counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            format!("{all}: {}", words.join(", "))
        }
        Some(first) => {
            let faults = drift.branches.iter().filter(|branch| branch.fault.is_some()).count();
            let faults =
                if faults > 0 { format!(", {faults} not inspected") } else { String::new() };
            format!(
                "{} of {all} behind, most of all <code>{}</code>{faults}",
                behind.len(),
                escape_name(&first.name)
            )
        }
    }
}
