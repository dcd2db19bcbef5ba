//! `vendor`: copies the toolkit into another repository, staged and not committed, e.g. `vendor ../shop --parts
//! sync,hooks`.

use std::path::Path;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::VendorArgs;
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::words::pluralize;
use xtask_config::{BRANCHES_FILE, SyncConfig};
use xtask_detect::repo_facts::DetectedRemote;
use xtask_git::{Repo, Revision};
use xtask_report::{self as report, Verbosity};
use xtask_review::forge::parse_project;
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_upgrade::copy_spec::CopySpec;
use xtask_upgrade::parts::ToolkitParts;
use xtask_upgrade::toolkit::{self, Toolkit};
use xtask_vendoring::install::{has_pending_install, install_changes, recover_install};
use xtask_vendoring::install_plan::{VendorContext, VendorPlan, detect_parts, plan_install};
use xtask_vendoring::target::VendorTarget;

pub(super) fn run(session: &Session, args: &VendorArgs) -> CommandResult {
    let own = session.open_repo()?;
    let uncommitted = toolkit::list_uncommitted(&own)?;
    let address = own.public_url("origin");
    // Wrong arguments are reported before the repository is inspected.
    let named = (!args.parts.is_empty()).then(|| ToolkitParts::parse(&args.parts)).transpose()?;
    let name = args.name.as_deref().unwrap_or(NAME);
    CopySpec::check_name(name)?;
    let toolkit = Toolkit::read_commit(own, args.reference.as_deref(), CopySpec::with_all_parts())?;
    let folder = session.world.cwd.join(&args.folder);
    undo_earlier_run(session, &folder, args)?;
    let target = VendorTarget::open(&folder, toolkit.repo(), name)?;
    let parts = match named {
        Some(parts) => parts,
        None if !toolkit.has_parts => ToolkitParts::all(),
        None => detect_parts(&target, &build_context(&target, address.clone()))?,
    };
    let toolkit = toolkit.with_spec(CopySpec { name: name.to_owned(), parts })?;
    if !uncommitted.is_empty() {
        report::print_warning(&toolkit::describe_uncommitted(&uncommitted));
    }
    let protected = choose_protected(session, &target, args)?;
    let around = |target: &VendorTarget| VendorContext {
        protected: Some(protected.clone()),
        ..build_context(target, address.clone())
    };
    let memory = target.repo.in_memory();
    let looked = plan_install(&target, &memory, &toolkit, around(&target))?;
    target.check_paths(&looked.changes)?;
    memory.write_tree(target.tree, &looked.changes)?;
    let place = target.repo.root().display().to_string();
    if let Some(note) = note_canonical_branch(&target) {
        session.print_info(&format!("note: {note}"));
    }
    if args.dry_run {
        show_plan(
            session,
            &looked,
            name,
            &format!("xtask {} would be added to {place}:", toolkit.describe_version()),
        )?;
        session.print_info("nothing was written");
        return Ok(SUCCESS);
    }
    // The plan is computed again under the lock.
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&target.repo)?;
    session.warn_recovered(mended);
    let target = VendorTarget::open(&folder, toolkit.repo(), name)?;
    let real = plan_install(&target, &target.repo, &toolkit, around(&target))?;
    target.check_paths(&real.changes)?;
    install_changes(&target.repo, target.tree, &real.changes, tools.disk)?;
    show_plan(
        session,
        &real,
        name,
        &format!(
            "xtask {} was added to {place}, staged and not committed:",
            toolkit.describe_version()
        ),
    )?;
    if address.is_none() {
        session.print_info(
            "note: this checkout of the toolkit has no public `origin`, so an upgrade there needs \
             `--from`",
        );
    }
    print_next_steps(session, &real, &place, &toolkit.spec, &toolkit.version.to_string());
    Ok(SUCCESS)
}

/// Returns the protected branches: from `--protect`, from a prompt, or the default branch.
fn choose_protected(
    session: &Session,
    target: &VendorTarget,
    args: &VendorArgs,
) -> Result<Vec<String>> {
    let is_told = |branches: &[String]| {
        match branches {
        [] => session
            .print_info("no branch is protected: commits and pushes are allowed on all branches"),
        _ => session.print_info(&format!(
            "`{}` is protected: once the hooks are installed, commits on it and pushes to it are refused, and \
             `sync` makes no commits there; use `--protect none` for trunk-based work",
            branches.join("`, `")
        )),
    }
    };
    if target.read_on_disk(BRANCHES_FILE).is_some() {
        return match args.protect.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Error::usage(format!(
                "`{BRANCHES_FILE}` already exists, and lists the protected branches"
            ))
            .with_hint("leave out `--protect`, or edit that file")),
        };
    }
    let branches = match &args.protect[..] {
        [none] if none == "none" => Vec::new(),
        [] => {
            let branch = target.repo.default_branch();
            let question = format!(
                "protect `{branch}`? The hooks then refuse commits on it and pushes to it (answer no for trunk-based \
                 work) [Y/n]"
            );
            let answer = if args.dry_run { None } else { report::prompt_line(&question) };
            match answer.is_some_and(|said| said.to_lowercase().starts_with('n')) {
                true => Vec::new(),
                false => vec![branch],
            }
        }
        named => {
            let is_name = |name: &str| {
                let has_odd = name.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || "~^:?[\\".contains(c)
                });
                !has_odd
                    && !name.contains("..")
                    && !name.starts_with(['-', '/'])
                    && !name.ends_with(['/', '.'])
            };
            if let Some(wrong) = named.iter().find(|name| !is_name(name)) {
                return Err(Error::usage(format!(
                    "invalid branch name `{}`",
                    wrong.escape_debug()
                )));
            }
            if let Some(wrong) = named.iter().find(|name| name.is_empty() || *name == "none") {
                return Err(Error::usage(format!(
                    "invalid `--protect` value `{wrong}`: expected branches, or `none` alone"
                )));
            }
            let plain = |name: &String| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
            let mut branches: Vec<String> = named.iter().map(plain).collect();
            branches.dedup();
            for branch in branches.iter().filter(|branch| !branch.contains('*')) {
                if !matches!(target.repo.parse_revision(branch), Ok(Revision::Commit(_))) {
                    report::print_warning(&format!("no such branch: `{branch}`"));
                }
            }
            branches
        }
    };
    is_told(&branches);
    Ok(branches)
}

/// Returns the facts about a repository that are not in its files.
fn build_context(target: &VendorTarget, source: Option<String>) -> VendorContext {
    VendorContext {
        default_branch: target.repo.default_branch(),
        remote: find_remote(target),
        source,
        protected: None,
    }
}

/// Rolls back an interrupted earlier run of `vendor` in the target repository.
fn undo_earlier_run(session: &Session, folder: &Path, args: &VendorArgs) -> Result<()> {
    let Ok(repo) = Repo::discover(folder) else { return Ok(()) };
    if args.dry_run || !has_pending_install(&repo) {
        return Ok(());
    }
    let tools = session.tools();
    let (_lock, _) = tools.lock_worktree(&repo)?;
    if recover_install(&repo, tools.disk)? {
        report::print_warning(
            "an earlier `vendor` was interrupted there; its changes were rolled back",
        );
    }
    Ok(())
}

/// Returns a note if the canonical branch already exists and is not the current one.
fn note_canonical_branch(target: &VendorTarget) -> Option<String> {
    let branch = SyncConfig::default().branch;
    let head = target.repo.head().ok()?.branch;
    let remotes = target.repo.remote_names();
    let mut names = vec![format!("refs/heads/{branch}")];
    names.extend(remotes.iter().map(|remote| format!("refs/remotes/{remote}/{branch}")));
    let there = names
        .iter()
        .find(|name| matches!(target.repo.parse_revision(name), Ok(Revision::Commit(_))))?;
    if head.as_deref() == Some(&branch) {
        return None;
    }
    let there = there.strip_prefix("refs/heads/").or(there.strip_prefix("refs/remotes/"))?;
    Some(format!(
        "`{there}` already exists, and all other branches get the toolkit from it: add it there \
         (`git switch {branch}`, then vendor), and `cargo xtask propagate` brings it to this branch. On this branch \
         alone hooks cannot be installed"
    ))
}

/// Returns the remote `origin`, or else the first one.
fn find_remote(target: &VendorTarget) -> Option<DetectedRemote> {
    let names = target.repo.remote_names();
    let name = names.iter().find(|name| *name == "origin").or(names.first())?.clone();
    let url = target.repo.fetch_url(&name);
    let forge = url.and_then(|url| parse_project(&url, None)).map(|project| project.forge);
    Some(DetectedRemote { name, forge })
}

fn show_plan(session: &Session, plan: &VendorPlan, name: &str, title: &str) -> Result<()> {
    // Manual steps are printed even with `--quiet`: without them the toolkit may not work.
    for one in &plan.by_hand {
        report::print_warning(&format!(
            "edit `{}` manually: {}. Add these lines:\n{}",
            one.path,
            one.why,
            one.lines.trim_end()
        ));
    }
    if session.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let mut text = format!("{title}\n");
    let mut line = |what: &str, name: &str| text.push_str(&format!("  {what:<7} {name}\n"));
    line(
        "create",
        &format!(
            "{name}/ ({}: {})",
            pluralize(plan.toolkit_files, "file"),
            plan.parts.to_flag_value()
        ),
    );
    for path in &plan.created {
        line("create", path);
    }
    for path in &plan.edited {
        line("edit", path);
    }
    for path in &plan.kept {
        line("keep", &format!("{path}, which already exists"));
    }
    report::print_output(&text)?;
    for note in &plan.notes {
        session.print_info(&format!("note: {note}"));
    }
    Ok(())
}

/// Prints the next commands.
fn print_next_steps(
    session: &Session,
    plan: &VendorPlan,
    place: &str,
    shape: &CopySpec,
    version: &str,
) {
    let command = |words: &str| shape.rename_text(&format!("cargo xtask {words}"));
    let by_hand = plan.by_hand.iter().any(|one| one.path.contains("argo"));
    session.print_info(if by_hand { "after editing and staging these files:" } else { "next:" });
    let place = xtask_base::words::quote_for_shell(place);
    session.print_info(&format!("  cd {place}"));
    session.print_info(&format!("  git commit -m 'Add {} {version}'", shape.name));
    if plan.has_remote {
        session.print_info(
            "  git push                 before the hooks protect the branch; or open a pull request",
        );
    }
    session.print_info(&format!(
        "  {:<25}the first run compiles, which takes a minute or two",
        command("setup")
    ));
    if plan.parts.has_part("services") {
        session.print_info(&format!("  {}", command("start")));
    }
    if !plan.parts.is_all() {
        let upgrade = command("upgrade --parts …");
        session.print_info(&format!("`{upgrade}` there adds or removes parts of the toolkit"));
    }
}
