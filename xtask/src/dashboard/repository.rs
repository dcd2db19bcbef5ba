//! Hooks and backups: will the hooks run here, and what can be restored.

use super::html::{escape, escape_message, escape_name};
use super::page::{PageTarget, Section, Tone, render_command};
use crate::canonical_checks::find_wanted_hooks;
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_git::{Repo, Tools};
use xtask_hooks::health::{HooksVerdict, inspect_hooks};
use xtask_hooks::pause::find_pause;
use xtask_hooks::program::VerifyDepth;
use xtask_recovery::backup_list::list_backups;
use xtask_recovery::report::BackupLine;
use xtask_sync::context::SyncContext;

/// How many backups are listed.
const MAX_BACKUPS: usize = 20;

/// Renders the section about the hooks of this worktree.
pub(super) fn render_hooks(
    repo: &Repo,
    context: Result<&SyncContext, &Error>,
    tools: &Tools<'_>,
) -> Result<Section> {
    let wanted = find_wanted_hooks(repo, context.ok())?;
    let has_canonical = context.is_ok();
    let context = context.map(Some);
    let health = inspect_hooks(repo, tools.world, context, VerifyDepth::Metadata, &wanted)?;
    let tone = match health.verdict() {
        HooksVerdict::Installed => Tone::Good,
        HooksVerdict::NotInstalled(_) => Tone::Off,
        HooksVerdict::BrokenProgram(_) | HooksVerdict::MissingProgram => Tone::Bad,
        _ => Tone::Wait,
    };
    let mut body = format!(
        "<p class=\"soft\">Git looks for hooks in <code>{}</code>.</p>",
        escape_name(&health.folder)
    );
    let mut rows = String::new();
    for hook in &health.hooks {
        let (class, word) = match health.will_run(hook) {
            true => ("good", "runs here"),
            false => ("off", "does not run here"),
        };
        let first = if hook.runs_previous { "an earlier hook first" } else { "" };
        rows.push_str(&format!(
            "<tr><th scope=\"row\">{}<td data-l=\"Here\"><span class=\"dot {class}\"></span>{word}<td data-l=\"File\">{}<td>{first}</tr>",
            hook.hook.name(),
            escape(&describe_state(hook.state)),
        ));
    }
    body.push_str(&format!(
        "<div class=\"frame\" role=\"region\" aria-label=\"Hooks\" tabindex=\"0\"><table class=\"cards\"><caption>Hooks</caption>\
         <thead><tr><th scope=\"col\">Hook</th><th scope=\"col\">Here</th><th scope=\"col\">File</th><th scope=\"col\">Runs</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    ));
    for line in health.obstacles.iter().chain(&health.notes).chain(&health.refusal) {
        body.push_str(&format!("<p>{}</p>", escape_message(line)));
    }
    let pause = find_pause(repo, tools.world.now_seconds()).ok().flatten();
    let command = match health.verdict() {
        // The other reasons say what to do, or there is nothing to install.
        _ if !has_canonical => None,
        HooksVerdict::Inactive(_) => pause.map(|(scope, _)| scope.enable_command()),
        HooksVerdict::Installed | HooksVerdict::NotInstalled(Some(_)) => None,
        _ => Some("cargo xtask install-hooks"),
    };
    body.extend(command.map(render_command));
    let summary = escape_message(&health.summary());
    Ok(Section { id: "hooks", title: "Hooks", tone, summary, body })
}

/// Returns the state of a hook file in words, as `hooks status --json` names it.
fn describe_state(state: xtask_hooks::hooks_folder::HookFileState) -> String {
    let name = serde_json::to_value(state).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Renders the section about what can be restored.
pub(super) fn render_backups(repo: &Repo, now: i64, target: PageTarget) -> Result<Section> {
    let lines = list_backups(repo, now)?;
    let summary = match lines.first() {
        None => "nothing is backed up".to_owned(),
        Some(first) => {
            format!("{}, the last {}", pluralize(lines.len(), "backup"), escape(&first.when))
        }
    };
    let tone = if lines.is_empty() { Tone::Off } else { Tone::Good };
    let mut body = String::new();
    if !lines.is_empty() {
        body.push_str(
            "<div class=\"frame\" role=\"region\" aria-label=\"Backups\" tabindex=\"0\"><table class=\"cards\">\
             <caption>Backups, newest first</caption><thead><tr><th scope=\"col\">Backup</th><th scope=\"col\">When</th>\
             <th scope=\"col\">Made by</th><th scope=\"col\">Branch</th><th scope=\"col\">Paths</th>\
             <th scope=\"col\">Restored by</th></tr></thead><tbody>",
        );
        body.extend(lines.iter().take(MAX_BACKUPS).map(render_backup));
        body.push_str("</tbody></table></div>");
        if lines.len() > MAX_BACKUPS {
            body.push_str(&format!("<p>And {} more:</p>", lines.len() - MAX_BACKUPS));
            body.push_str(&render_command("cargo xtask backup --list"));
        }
    } else if target == PageTarget::Server && repo.resolve_ref("HEAD")?.is_some() {
        body.push_str(&render_command("cargo xtask backup"));
    }
    Ok(Section { id: "backups", title: "Backups", tone, summary, body })
}

fn render_backup(line: &BackupLine) -> String {
    let label =
        line.label.as_ref().map_or(String::new(), |label| format!(" “{}”", escape_name(label)));
    format!(
        "<tr><th scope=\"row\">{}{label}<td data-l=\"When\"><time datetime=\"{}\">{}</time><td data-l=\"Made by\">{}\
         <td data-l=\"Branch\">{}<td data-l=\"Paths\">{}<td data-l=\"Restored by\"><code>{}</code></tr>\n",
        escape_name(&line.id),
        escape(&line.time),
        escape(&line.when),
        escape_message(&line.purpose),
        escape_name(&line.branch),
        line.paths,
        escape(&line.back),
    )
}
