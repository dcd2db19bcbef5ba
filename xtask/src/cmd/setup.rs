//! `setup`: make a fresh clone ready. A second run changes nothing.

#[cfg(feature = "checks")]
use super::checks;
use super::session::{Session, hook_lines};
use super::{DONE, Exit, syncing};
use crate::cli::Setup;
use xtask_base::error::{Error, Kind, Result};
use xtask_git::Repo;
use xtask_hooks::set_up::{From, Wish, install_all};
use xtask_report as report;
use xtask_report::Loudness;
use xtask_report::hooks::installed;
use xtask_sync::context::{self, Names};
use xtask_sync::enter::Enter as _;

pub(super) fn run(session: &Session, args: &Setup) -> Exit {
    let code = sync(session)?;
    let hooks = if args.no_hooks { Ok(true) } else { install_hooks(session) };
    let healthy = code;
    #[cfg(feature = "checks")]
    let healthy = if code == DONE { checks::gates(session, "setup", true)? } else { healthy };
    if code == DONE {
        next_steps(session, matches!(hooks, Ok(true)), healthy == DONE)?;
    }
    hooks.map(|_| healthy)
}

/// Installs the hooks. What the set-up of this machine or of the canonical branch does not let them
/// be is said, and is no failure of setup; anything else is. Answers whether they are as they should be.
fn install_hooks(session: &Session) -> Result<bool> {
    let repo = session.repo()?;
    if session.world.says_yes("CI") {
        session.story("hooks are left out: `CI` is set, where they would do nothing");
        return Ok(true);
    }
    let context = context::read(&repo)?;
    let wish = Wish { from: From::Canonical, force: false, dry_run: false };
    match install_all(&session.builder(&repo), &context, wish) {
        Ok(done) => {
            let lines = hook_lines(&done.hooks);
            let text = installed(&done.folder, done.is_new_program, &lines, session.loudness);
            report::answer(&text)?;
            Ok(true)
        }
        Err(refused) if refused.kind() == Kind::No => {
            report::warn(refused.what());
            for detail in refused.details() {
                report::warn(detail);
            }
            for hint in refused.hints() {
                session.story(hint);
            }
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

fn sync(session: &Session) -> Exit {
    let repo = session.repo()?;
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    session.tell_requests(&repo);
    let head = repo.head()?;
    let names = context::names(&repo)?;
    let made = make_canonical(session, &repo, &names)?;
    context::remember(&repo, &names)?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    if made {
        let short = repo.short(head.commit);
        let push = if repo.has_remote(&names.remote) {
            format!("`git push -u {} {}` puts it there", names.remote, names.branch)
        } else {
            format!("there is no remote `{}` to put it on", names.remote)
        };
        session.story(&format!(
            "`{}` is new: made from {short} of this clone. It is not on the remote yet; {push}",
            names.branch
        ));
    }
    syncing::as_far_as_allowed(session, &repo, context)
}

/// Makes the canonical branch from HEAD where nobody has one; says whether it did. The remote is
/// asked first: a clone of a single branch does not know what else is there.
fn make_canonical(session: &Session, repo: &Repo, names: &Names) -> Result<bool> {
    let is_known = || Ok(repo.canonical(&names.branch, &names.remote)?.is_some());
    if is_known()? {
        return Ok(false);
    }
    if repo.has_remote(&names.remote) {
        session.story(&format!("asking `{}` for `{}` …", names.remote, names.branch));
        repo.fetch(&names.remote, &[&names.branch]).map_err(|failure| {
            failure.hint(format!(
                "to begin without it: `git branch {}` makes the canonical branch here",
                names.branch
            ))
        })?;
        if is_known()? {
            return Ok(false);
        }
    }
    if let Some(other) = context::seen_elsewhere(repo, names).first() {
        let Names { branch, remote } = names;
        return Err(Error::unable(format!(
            "`{remote}` has no `{branch}`, and `{other}` has one: a second one is not made"
        ))
        .hint(context::counts(other, branch))
        .hint(format!("if it is not: `git branch {branch}` makes the canonical branch here")));
    }
    let head = repo.head()?;
    if repo.is_shallow() {
        return Err(Error::unable("this clone is shallow, and nobody has a canonical branch")
            .hint("`git fetch --unshallow` first, so that the branch has its history"));
    }
    let reference = format!("refs/heads/{}", names.branch);
    repo.create_ref(&reference, head.commit, "xtask: setup from HEAD")?;
    Ok(true)
}

fn next_steps(session: &Session, has_hooks: bool, is_healthy: bool) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    let repo = session.repo()?;
    let names = context::names(&repo)?;
    let is_on_canonical = repo.branch_name().as_ref() == Some(&names.branch);
    session.story(match (is_healthy, has_hooks) {
        (true, true) => "ready. What you will use:",
        (true, false) => "not ready yet: the hooks are not installed, for the reason above. What works:",
        (false, _) => {
            "not ready yet: a check failed; `cargo xtask validate --interactive` asks about each fix. What works:"
        }
    });
    let canonical = format!("git switch {}", names.branch);
    let width = canonical.len().max(24);
    let line = |command: &str, what: &str| session.story(&format!("  {command:<width$}  {what}"));
    line("cargo xtask status", "where this branch stands");
    if is_on_canonical {
        line("git switch -c my-feature", "work on a branch; this one is canonical");
    } else {
        line("cargo xtask sync", "bring its managed files up to date");
    }
    line(&canonical, "change what all branches share");
    Ok(())
}
