//! `setup`: makes a fresh clone ready: canonical branch, sync, hooks, checks. A second run changes nothing. It ends
//! with e.g. `ready. Next commands:`.

#[cfg(feature = "checks")]
use super::checks;
use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::canonical_checks::find_wanted_hooks;
use crate::cli::SetupArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_git::Repo;
use xtask_hooks::installation::{InstallOptions, ProgramOrigin, install_all};
use xtask_hooks::report::render_installed;
use xtask_report as report;
use xtask_report::Verbosity;
use xtask_sync::context::{self, CanonicalNames};
use xtask_sync::worktree_lock::LockWorktree as _;

pub(super) fn run(session: &Session, args: &SetupArgs) -> CommandResult {
    let code = sync_worktree(session)?;
    let hooks = if args.no_hooks { Ok(true) } else { try_install_hooks(session) };
    let healthy = code;
    #[cfg(feature = "checks")]
    let healthy = if code == SUCCESS { checks::run_setup_checks(session)? } else { healthy };
    if code == SUCCESS {
        print_next_steps(session, matches!(hooks, Ok(true)), healthy == SUCCESS)?;
    }
    hooks.map(|_| healthy)
}

/// Installs the hooks. Returns whether they are installed; if the configuration of this machine or of the canonical
/// branch prevents that, a warning is printed and the result is `false`. Other failures are errors.
fn try_install_hooks(session: &Session) -> Result<bool> {
    let repo = session.open_repo()?;
    if session.world.is_truthy("CI") {
        session.print_info("hooks are not installed: `CI` is set, where they do nothing");
        return Ok(true);
    }
    let context = context::read_context(&repo)?;
    let options = InstallOptions {
        program_origin: ProgramOrigin::Canonical,
        force: false,
        dry_run: false,
        wanted: find_wanted_hooks(&repo, Some(&context))?,
    };
    match install_all(&session.hook_builder(&repo), &context, options) {
        Ok(done) => {
            report::print_output(&render_installed(&done, session.verbosity))?;
            Ok(true)
        }
        Err(refused) if refused.kind() == ErrorKind::Negative => {
            report::print_warning(refused.message());
            for detail in refused.details() {
                report::print_warning(detail);
            }
            for hint in refused.hints() {
                session.print_info(hint);
            }
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

fn sync_worktree(session: &Session) -> CommandResult {
    let repo = session.open_repo()?;
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&repo)?;
    session.warn_recovered(mended);
    session.print_requests(&repo);
    let head = repo.head()?;
    let names = context::find_canonical_names(&repo)?;
    let made = ensure_canonical(session, &repo, &names)?;
    context::save_canonical_names(&repo, &names)?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    if made {
        let short = repo.short_id(head.commit);
        let push = if repo.has_remote(&names.remote) {
            format!("`git push -u {} {}` pushes it", names.remote, names.branch)
        } else {
            format!("there is no remote `{}` to push it to", names.remote)
        };
        session.print_info(&format!(
            "created `{}` from {short} of this clone. It is not on the remote yet; {push}",
            names.branch
        ));
    }
    session.sync_best_effort(&repo, context)?;
    Ok(SUCCESS)
}

/// Creates the canonical branch from HEAD if it exists nowhere, and returns whether it did. The remote is asked
/// first, because a clone of a single branch does not know the others.
fn ensure_canonical(session: &Session, repo: &Repo, names: &CanonicalNames) -> Result<bool> {
    let is_known = || Ok(repo.resolve_canonical(&names.branch, &names.remote)?.is_some());
    if is_known()? {
        return Ok(false);
    }
    if repo.has_remote(&names.remote) {
        session.print_info(&format!("asking `{}` for `{}` …", names.remote, names.branch));
        repo.fetch(&names.remote, &[&names.branch]).map_err(|failure| {
            failure.with_hint(format!(
                "to start without the remote: `git branch {}` creates the canonical branch here",
                names.branch
            ))
        })?;
        if is_known()? {
            return Ok(false);
        }
    }
    if let Some(other) = context::list_other_remotes(repo, names).first() {
        let CanonicalNames { branch, remote } = names;
        return Err(Error::unable(format!(
            "`{remote}` has no `{branch}`, but `{other}` has one; a second one is not created"
        ))
        .with_hint(context::other_remote_hint(other, branch))
        .with_hint(format!(
            "if it is not: `git branch {branch}` creates the canonical branch here"
        )));
    }
    let head = repo.head()?;
    if repo.is_shallow() {
        return Err(Error::unable("shallow clone, and no canonical branch exists")
            .with_hint("`git fetch --unshallow` first, so that the branch has its history"));
    }
    let reference = format!("refs/heads/{}", names.branch);
    repo.create_ref(&reference, head.commit, "xtask: setup from HEAD")?;
    Ok(true)
}

fn print_next_steps(session: &Session, has_hooks: bool, is_healthy: bool) -> Result<()> {
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let repo = session.open_repo()?;
    let names = context::find_canonical_names(&repo)?;
    let is_on_canonical = repo.current_branch().as_ref() == Some(&names.branch);
    session.print_info(match (is_healthy, has_hooks) {
        (true, true) => "ready. Next commands:",
        (true, false) => "not ready yet: the hooks are not installed, for the reason above. These commands work:",
        (false, _) => {
            "not ready yet: a check failed; `cargo xtask validate --interactive` asks about each fix. These commands work:"
        }
    });
    let canonical = format!("git switch {}", names.branch);
    let width = canonical.len().max(24);
    let line =
        |command: &str, what: &str| session.print_info(&format!("  {command:<width$}  {what}"));
    line("cargo xtask status", "show the state of this branch");
    if is_on_canonical {
        line("git switch -c my-feature", "work on a branch; this one is canonical");
    } else {
        line("cargo xtask sync", "update its managed files");
    }
    line(&canonical, "change what all branches share");
    Ok(())
}
