//! Branch rules: the checked-out branch in full, the names of all branches, and on a page of its own everything.
//!
//! Age, commits behind and conflicts of one branch take up to half a second, so the page of all sections checks these
//! of one branch only, as `status` does.

use super::html::{escape_message, escape_name};
use super::page::{PageTarget, Section, Tone, render_command};
use xtask_base::error::Result;
use xtask_base::words::pluralize;
use xtask_branches::check::{CheckVerdict, CheckedBranch, check_branch, needs_check};
use xtask_branches::facts::BranchInspector;
use xtask_branches::names::is_name_accepted;
use xtask_branches::selection::{BranchSelection, select_branches};
use xtask_git::Repo;
use xtask_sync::context::SyncContext;

/// How many branches are listed.
const MAX_LISTED: usize = 100;

/// The command that checks every branch.
const CHECK_ALL: &str = "cargo xtask branch check --all";

/// Renders the section: the checked-out branch, and names.
pub(super) fn render_rules(
    repo: &Repo,
    context: &SyncContext,
    now: i64,
    target: PageTarget,
) -> Result<Section> {
    let section = |tone, summary: String, body| Section {
        id: "rules",
        title: "Branch rules",
        tone,
        summary,
        body,
    };
    let rules = &context.branches.rules;
    if rules.is_empty() {
        let summary = "<code>setup/branches.toml</code> on the canonical branch has no rules";
        return Ok(section(Tone::Off, summary.to_owned(), String::new()));
    }
    let branches = repo.branches_below("refs/heads/")?.into_iter();
    let ruled: Vec<String> =
        branches.map(|(name, _)| name).filter(|name| needs_check(context, name)).collect();
    let misnamed: Vec<&String> =
        ruled.iter().filter(|name| !is_name_accepted(rules, name)).collect();
    let here = check_here(repo, context, now)?;
    let verdict = here.as_ref().map_or(CheckVerdict::NotAsked, CheckedBranch::verdict);
    let tone = match (verdict, misnamed.len()) {
        (CheckVerdict::Broken | CheckVerdict::Unknown, _) | (_, 1..) => Tone::Wait,
        _ => Tone::Good,
    };
    let mut summary = match verdict {
        CheckVerdict::NotAsked => "no rule applies to what is checked out here",
        CheckVerdict::Good => "this branch keeps its rule",
        CheckVerdict::Unknown => "this branch could not be checked",
        CheckVerdict::Broken => "this branch breaks its rule",
    }
    .to_owned();
    if !misnamed.is_empty() {
        let verb = if misnamed.len() == 1 { "has" } else { "have" };
        summary.push_str(&format!(
            "; {} of {} {verb} a name against its rule",
            misnamed.len(),
            pluralize(ruled.len(), "branch")
        ));
    }
    let mut body = String::from("<dl class=\"paths\">");
    body.extend(here.iter().map(render_findings));
    body.push_str("</dl>");
    if !misnamed.is_empty() {
        let names =
            misnamed.iter().take(MAX_LISTED).map(|name| format!("<li>{}", escape_name(name)));
        body.push_str(&format!(
            "<details><summary>{} with a name against its rule</summary><ul class=\"names\">{}</ul>{}</details>",
            pluralize(misnamed.len(), "branch"),
            names.collect::<String>(),
            render_rest(misnamed.len())
        ));
    }
    let link = match target {
        PageTarget::Server => " (<a href=\"/rules\">as a page</a>)",
        PageTarget::File => "",
    };
    body.push_str(&format!(
        "<p>Age, commits behind and conflicts of all {} take up to half a second each{link}:</p>{}",
        pluralize(ruled.len(), "branch"),
        render_command(CHECK_ALL)
    ));
    Ok(section(tone, summary, body))
}

/// Checks the checked-out branch; `None` if no rule applies to it.
fn check_here(repo: &Repo, context: &SyncContext, now: i64) -> Result<Option<CheckedBranch>> {
    let branch = repo.current_branch().filter(|branch| needs_check(context, branch));
    let (Some(branch), Some(commit)) = (branch, repo.resolve_ref("HEAD")?) else { return Ok(None) };
    let inspector = BranchInspector::new(repo, context, now)?;
    Ok(Some(check_branch(&inspector, &branch, Ok(commit))))
}

/// Renders the page on which every branch is checked.
pub(super) fn render_all_rules(repo: &Repo, context: &SyncContext, now: i64) -> Result<String> {
    let inspector = BranchInspector::new(repo, context, now)?;
    let selection = BranchSelection { all: true, at: None, branches: &[] };
    let checked: Vec<CheckedBranch> = select_branches(repo, context, &selection)?
        .into_iter()
        .map(|(name, commit)| check_branch(&inspector, &name, commit))
        .collect();
    let count = |verdict| checked.iter().filter(|branch| branch.verdict() == verdict).count();
    let (broken, unknown) = (count(CheckVerdict::Broken), count(CheckVerdict::Unknown));
    let all = pluralize(checked.len() - count(CheckVerdict::NotAsked), "branch");
    let mut html = match (broken, unknown) {
        (1, 0) => format!("<p class=\"summary\">1 of {all} breaks its rule</p>"),
        (_, 0) => format!("<p class=\"summary\">{broken} of {all} break their rule</p>"),
        _ => format!(
            "<p class=\"summary\">{broken} of {all} break a rule; {unknown} could not be checked</p>"
        ),
    };
    let found: Vec<&CheckedBranch> =
        checked.iter().filter(|branch| !branch.findings.is_empty()).collect();
    html.push_str("<dl class=\"paths\">");
    html.extend(found.iter().take(MAX_LISTED).map(|branch| render_findings(branch)));
    html.push_str("</dl>");
    html.push_str(&render_rest(found.len()));
    html.push_str(&format!("<p>The same on a terminal:</p>{}", render_command(CHECK_ALL)));
    Ok(html)
}

fn render_findings(branch: &CheckedBranch) -> String {
    let findings = branch.findings.iter().map(|finding| {
        format!(
            "<dd>it {}: {}</dd>",
            escape_message(&finding.message),
            escape_message(&finding.next_step)
        )
    });
    match branch.findings.is_empty() {
        true => String::new(),
        false => {
            format!("<dt>{}</dt>{}", escape_name(&branch.branch), findings.collect::<String>())
        }
    }
}

/// Says how many branches are not listed.
fn render_rest(count: usize) -> String {
    match count.saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!("<p>And {more} more; the command below lists them.</p>"),
    }
}
