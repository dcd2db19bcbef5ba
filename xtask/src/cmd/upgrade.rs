//! `upgrade`: merges a newer version of the toolkit into a vendored copy, keeping local changes, as one commit on the
//! canonical branch.
//!
//! ```text
//! xtask 0.1.0 (1a2b3c4d5e) to 0.2.0 (5e4d3c2b1a):
//!   merge   xtask/src/cli.rs
//! ```

use std::time::Duration;

use super::session::{Session, print_push_steps};
use super::{CommandResult, SUCCESS};
use crate::cli::UpgradeArgs as Args;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::lock::Lock;
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::temp_folder::TempFolder;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_changes::cherry_pick::PathChange;
use xtask_git::Repo;
use xtask_hooks::installation;
use xtask_report::{self as report, Verbosity};
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_upgrade::cargo_entries::{self, CargoEdit};
use xtask_upgrade::conflict_files::{UpgradeConflict, describe_conflict, write_conflict_files};
use xtask_upgrade::copy_spec::CopySpec;
use xtask_upgrade::merge_paths::ConflictResolution;
use xtask_upgrade::parts::ToolkitParts;
use xtask_upgrade::toolkit::{self, Toolkit};
use xtask_upgrade::upgrade::{UpgradePlan, commit_upgrade, plan_upgrade, read_canonical_manifest};

/// How often the upgrade is repeated if the canonical branch moves concurrently.
const MAX_ROUNDS: u32 = 8;

/// How long to wait for another upgrade: longer than a build takes.
const LOCK_WAIT: Duration = Duration::from_secs(600);

pub(super) fn run(session: &Session, args: &Args) -> CommandResult {
    let repo = session.open_repo()?;
    let sides = parse_sides(session, &repo, args)?;
    let parts = match args.parts.is_empty() {
        true => read_canonical_manifest(&repo)?.parts,
        false => ToolkitParts::parse(&args.parts)?,
    };
    let scratch = TempFolder::new(&session.world, "upgrade")?;
    let source = open_toolkit_repo(session, &repo, args, &scratch)?;
    let address = source.public_url("origin");
    let uncommitted = toolkit::list_uncommitted(&source)?;
    if !uncommitted.is_empty() {
        report::print_warning(&toolkit::describe_uncommitted(&uncommitted));
    }
    let toolkit = Toolkit::read_commit(
        source,
        args.reference.as_deref(),
        CopySpec { name: NAME.to_owned(), parts },
    )?;
    let looked =
        plan_upgrade(&repo.in_memory(), &toolkit, address.clone(), &sides, &session.tools())?;
    session.warn_about_context(&looked.context);
    note_left_alone(session, &looked);
    if looked.is_current() {
        if !args.check && !args.dry_run {
            // An earlier run may have been interrupted while writing its last files.
            let (_lock, mended) = session.tools().lock_worktree(&repo)?;
            session.warn_recovered(mended);
        }
        session.print_info(&format!(
            "xtask {} is up to date; nothing to do",
            looked.describe_old_version()
        ));
        return Ok(SUCCESS);
    }
    note_removed_parts(session, &repo, &looked)?;
    if args.check {
        report::print_output(&format!(
            "xtask {} is behind {}\n",
            looked.describe_old_version(),
            looked.describe_new_version()
        ))?;
        return Ok(ErrorKind::Negative.exit_code());
    }
    show_changes(session, &looked)?;
    if !args.dry_run {
        return upgrade_with_retries(session, &repo, &toolkit, address, &sides, args);
    }
    if looked.conflicts.is_empty() {
        session.print_info("nothing was written");
        return Ok(SUCCESS);
    }
    let lines = looked.conflicts.iter().map(|UpgradeConflict { conflict, .. }| {
        format!("{}: {}", conflict.path, describe_conflict(&conflict.kind))
    });
    Err(conflict_error(&looked, lines)
        .with_hint("without `--dry-run` their texts are written to files that you can edit"))
}

/// Prints the files outside of `xtask/` that are not updated, and the new source of upgrades.
fn note_left_alone(session: &Session, plan: &UpgradePlan) {
    for (path, from) in &plan.left_alone {
        session.print_info(&match from {
            Some(from) => format!(
                "`{path}` has changed in the toolkit, but is not a managed path and was not updated. Compare \
                 it with `{from}` of the new version"
            ),
            None => format!("`{path}` is no longer part of the toolkit; it is kept, and is yours now"),
        });
    }
    if plan.new.source != plan.old.source
        && let Some(source) = &plan.new.source
    {
        session.print_info(&format!("the new source of upgrades is {source}"));
    }
}

/// Prints what removing parts of the toolkit means. Fails if services run and would not be shown any more.
fn note_removed_parts(session: &Session, repo: &Repo, plan: &UpgradePlan) -> Result<()> {
    let is_removed = |part: &str| plan.old.parts.has_part(part) && !plan.new.parts.has_part(part);
    if is_removed("services") {
        refuse_while_services_run(session, repo)?;
        session.print_info(
            "`deployment/` and the recipes that start services are kept, but no command runs them any more",
        );
    }
    if is_removed("checks") {
        session.print_info(
            "`setup/validate.toml` is kept, but commits are not checked by it any more",
        );
    }
    Ok(())
}

/// Fails if services run here: a program without the part `services` could neither show nor stop them.
fn refuse_while_services_run(session: &Session, repo: &Repo) -> Result<()> {
    #[cfg(feature = "services")]
    {
        let (known, _) =
            xtask_services::observe::list_known_stacks(&repo.folders(), &session.world);
        if let Some((stack, _)) = known.iter().find(|(_, page)| page.is_up()) {
            return Err(Error::negative(format!(
                "services of layer `{}` are running here",
                stack.layer
            ))
            .with_hint("run `cargo xtask stop` first: it needs the part `services`"));
        }
    }
    let _ = (session, repo);
    Ok(())
}

/// Opens the repository of the toolkit: the folder of `--from`, or a clone of its URL in `scratch`.
fn open_toolkit_repo(
    session: &Session,
    repo: &Repo,
    args: &Args,
    scratch: &TempFolder,
) -> Result<Repo> {
    let address = match &args.from {
        Some(named) => {
            let folder = session.world.cwd.join(named);
            match (folder.is_dir(), folder.join("HEAD").is_file()) {
                (true, false) => return toolkit::open_checkout(&folder),
                // A bare repository has no working tree, so it is cloned.
                (true, true) => folder.display().to_string(),
                _ => named.clone(),
            }
        }
        None => read_canonical_manifest(repo)?.source.ok_or_else(|| {
            Error::usage("the source of the toolkit is not recorded")
                .with_hint("use `--from` with a checkout of the toolkit or its URL")
        })?,
    };
    if address.split_once("::").is_some_and(|(word, _)| !word.contains(['/', ':', '@'])) {
        return Err(Error::usage(format!("unsupported address `{address}`"))
            .with_hint("`--from` accepts https, ssh and git URLs, and folders"));
    }
    session.print_info(&format!("fetching {} …", address.escape_debug()));
    Repo::clone_no_checkout(&address, &scratch.path().join("toolkit"))
}

fn parse_sides(session: &Session, repo: &Repo, args: &Args) -> Result<ConflictResolution> {
    let paths = |typed| Ok::<_, Error>(session.repo_paths(repo, typed)?.into_iter().collect());
    let sides = ConflictResolution { ours: paths(&args.ours)?, theirs: paths(&args.theirs)? };
    match sides.ours.intersection(&sides.theirs).next() {
        None => Ok(sides),
        Some(both) => Err(Error::usage(format!("`{both}` cannot be both `--ours` and `--theirs`"))),
    }
}

/// Plans, builds and commits the upgrade, again if the canonical branch moves concurrently.
fn upgrade_with_retries(
    session: &Session,
    repo: &Repo,
    toolkit: &Toolkit,
    address: Option<String>,
    sides: &ConflictResolution,
    args: &Args,
) -> CommandResult {
    let tools = session.tools();
    // The committer is checked before the build, which takes long.
    repo.committer(session.world.now_seconds())?;
    let who = format!("pid {}", std::process::id());
    let file = repo.shared_state_folder().join("upgrade.lock");
    let _lock = Lock::acquire(&file, &who, LOCK_WAIT, |holder| (tools.on_wait)(holder))?;
    for _ in 0..MAX_ROUNDS {
        // The process that held the lock may have been a newer xtask.
        repo.check_state_format()?;
        let upgrade = plan_upgrade(repo, toolkit, address.clone(), sides, &tools)?;
        if upgrade.is_current() {
            session.print_info("already done by another process; nothing to do");
            return Ok(SUCCESS);
        }
        if !upgrade.conflicts.is_empty() {
            let lines = write_conflict_files(repo, &upgrade.conflicts, &tools)?;
            return Err(conflict_error(&upgrade, lines.into_iter())
                .with_hint(format!(
                    "edit the files named above until no marker is left, then run `{}` again",
                    repeat_command(args)
                ))
                .with_hint(
                    "or add `--ours PATH` (the version here) or `--theirs PATH` (the new version)",
                ));
        }
        build_new_version(session, repo, &upgrade)?;
        repo.check_state_format()?;
        if let Some(commit) = commit_upgrade(repo, &upgrade, &tools)? {
            report::print_output(&format!(
                "xtask {} on `{}`, now {}\n",
                upgrade.describe_new_version(),
                upgrade.canonical_branch.branch,
                repo.short_id(commit)
            ))?;
            print_push_steps(session, repo, &upgrade.canonical_branch.branch);
            session.print_info("`cargo xtask install-hooks` rebuilds the program of the hooks");
            return Ok(SUCCESS);
        }
    }
    Err(Error::unable("the canonical branch keeps moving")
        .with_hint("nothing was changed; try again"))
}

/// Builds the new version. The hooks' build folder is used, so that the build also serves the hooks' program.
fn build_new_version(session: &Session, repo: &Repo, upgrade: &UpgradePlan) -> Result<()> {
    session.print_info("building the new version …");
    let _installing = installation::lock_installation(repo)?;
    let built = session.hook_builder(repo).try_build(upgrade.tree, &build_launcher_workspace());
    let said = built.map_err(|failure| {
        let (version, why) = (upgrade.describe_new_version(), failure.message());
        let refused = Error::new(
            failure.kind(),
            format!("xtask {version} was not installed, and nothing has changed: {why}"),
        );
        failure.details().iter().chain(failure.hints()).fold(refused, Error::with_detail)
    })?;
    session.print_info(&format!("built: {said}"));
    Ok(())
}

/// Returns the command as typed, without `--ours` and `--theirs`.
fn repeat_command(args: &Args) -> String {
    let mut command = "cargo xtask upgrade".to_owned();
    for (name, value) in [("--from", &args.from), ("--ref", &args.reference)] {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {}", quote_for_shell(value)));
        }
    }
    if !args.parts.is_empty() {
        command.push_str(&format!(" --parts {}", args.parts.join(",")));
    }
    command
}

/// Returns the `Cargo.toml` and `Cargo.lock` of a workspace with only the launcher, as in a repository without Rust.
fn build_launcher_workspace() -> Vec<(&'static str, String)> {
    let files = [
        ("Cargo.toml", cargo_entries::add_workspace_member(None, &[], NAME)),
        ("Cargo.lock", cargo_entries::add_locked_package(None, NAME)),
    ];
    let texts = files.into_iter().filter_map(|(name, entry)| match entry {
        CargoEdit::Changed(text) => Some((name, text)),
        _ => None,
    });
    texts.collect()
}

fn conflict_error(upgrade: &UpgradePlan, lines: impl Iterator<Item = String>) -> Error {
    let refused = Error::negative(format!(
        "{} between local changes and xtask {}; nothing was changed on `{}`",
        pluralize(upgrade.conflicts.len(), "conflict"),
        upgrade.describe_new_version(),
        upgrade.canonical_branch.branch
    ));
    lines.fold(refused, Error::with_detail)
}

/// Prints the files that an upgrade changes.
fn show_changes(session: &Session, upgrade: &UpgradePlan) -> Result<()> {
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let mut text = format!(
        "xtask {} to {}:\n",
        upgrade.describe_old_version(),
        upgrade.describe_new_version()
    );
    if upgrade.moved_count > 0 {
        text.push_str(&format!(
            "  {} moved in the new version; local changes in them move along\n",
            pluralize(upgrade.moved_count, "file")
        ));
    }
    let mut line = |what: &str, path: &RepoPath| text.push_str(&format!("  {what:<8}{path}\n"));
    let is_loud = session.verbosity == Verbosity::Verbose;
    for path in &upgrade.merged {
        line("merge", path);
    }
    for three in &upgrade.resolved {
        line("decide", &three.path);
    }
    for path in &upgrade.kept {
        line("keep", path);
    }
    let is_told = |path: &RepoPath| {
        upgrade.merged.contains(path) || upgrade.resolved.iter().any(|three| three.path == *path)
    };
    let plain: Vec<&PathChange> =
        upgrade.changed.iter().filter(|change| !is_told(&change.path)).collect();
    if is_loud {
        for change in &plain {
            line(&change.action().to_string(), &change.path);
        }
    } else if !plain.is_empty() {
        text.push_str(&format!(
            "  {} without local changes (`-v` lists them)\n",
            pluralize(plain.len(), "file")
        ));
    }
    report::print_output(&text)
}
