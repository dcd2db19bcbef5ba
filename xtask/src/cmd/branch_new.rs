//! `branch new`: creates a branch from the latest state of its base, under a name that the rules accept, and switches
//! to it. For example, `branch new feature/login` prints ``"`feature/login` starts at `origin/main` (1a2b3c4d5e)"``.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::BranchNewArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_branches::check::{is_name_free, is_shared};
use xtask_branches::created_at::{self, BranchCreation};
use xtask_branches::facts::SharedBranch;
use xtask_branches::names::{find_rule, suggest_name};
use xtask_config::BRANCHES_FILE;
use xtask_git::Repo;
use xtask_report as report;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::overlay;

pub(super) fn run(session: &Session, args: &BranchNewArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let name = &args.name;
    check_name(&repo, &context, name)?;
    if !overlay::read_overlay(&repo)?.paths.is_empty() {
        return Err(Error::negative(
            "this branch has an overlay of `sync --no-commit`, which would come along",
        )
        .with_hint("`cargo xtask undo` removes it"));
    }
    let base = choose_base(&repo, &context, name)?;
    if !args.no_fetch {
        fetch_base(session, &repo, &context, name, &base)?;
    }
    let remote = &context.config.remote;
    let Some(source) = SharedBranch::find(&repo, remote, &base)? else {
        return Err(Error::unable(format!(
            "no such base branch: `{base}`, neither here nor on `{remote}`"
        ))
        .with_hint(format!("set another `base` in the rule in `{BRANCHES_FILE}`")));
    };
    if let Some(local) = source.local {
        let only_here = repo.commits_beyond(&[source.commit], local)?.len();
        if only_here > 0 {
            report::print_warning(&format!(
                "{} of your `{base}` {} not pushed, and not in the new branch",
                pluralize(only_here, "commit"),
                if only_here == 1 { "is" } else { "are" }
            ));
        }
    }
    if !repo.switch_to_new(name, source.commit)?.success() {
        // Git has printed the reason and created no branch.
        return Ok(ErrorKind::Unable.exit_code());
    }
    let at = session.world.now_seconds();
    let made = BranchCreation { branch: name.clone(), at, from: source.commit.to_string() };
    if let Err(failure) = created_at::write_creation_record(&repo, session.tools().disk, &made) {
        report::print_warning(&format!("{failure}; its age will be that of its first commit"));
    }
    let commit = repo.short_id(source.commit);
    report::print_output(&format!("`{name}` starts at `{}` ({commit})\n", source.display_name))?;
    Ok(SUCCESS)
}

/// Refuses a name that is invalid, taken, or against the rules; proposes a free one if there is one.
fn check_name(repo: &Repo, context: &SyncContext, name: &str) -> Result<()> {
    let rules = &context.branches.rules;
    let with_proposal = |refusal: Error| {
        let found = suggest_name(rules, name, &|name| is_name_free(repo, context, name));
        match found {
            Some(other) => refusal
                .with_hint(format!("try `cargo xtask branch new {}`", quote_for_shell(&other))),
            None => refusal,
        }
    };
    let is_ref = name.starts_with("refs/");
    if !repo.is_branch_name(name) || name.starts_with('-') || name == "HEAD" || is_ref {
        let refusal = Error::usage(format!("invalid branch name `{name}`"));
        return Err(with_proposal(refusal));
    }
    if repo.resolve_ref(&format!("refs/heads/{name}"))?.is_some() {
        return Err(Error::negative(format!("branch `{name}` already exists"))
            .with_hint(format!("`cargo xtask switch {}` switches to it", quote_for_shell(name))));
    }
    if is_shared(context, name) {
        return Err(Error::negative(format!("`{name}` is the name of a shared branch")).with_hint(
            format!("shared branches are listed in `{BRANCHES_FILE}` and `setup/sync.toml`"),
        ));
    }
    let Some(rule) = find_rule(rules, name) else { return Ok(()) };
    match &rule.name {
        Some(wanted) if !wanted.accepts(name) => Err(with_proposal(
            Error::negative(format!(
                "invalid branch name `{name}`: the rule for `{}` requires `{}`",
                rule.name_glob, wanted.pattern
            ))
            .with_detail(format!("`{BRANCHES_FILE}` on `{}`", context.config.branch)),
        )),
        _ => Ok(()),
    }
}

/// Returns the `base` of the rule for `name`, or else the first protected branch that exists.
fn choose_base(repo: &Repo, context: &SyncContext, name: &str) -> Result<String> {
    let rule = find_rule(&context.branches.rules, name);
    if let Some(base) = rule.and_then(|rule| rule.base.clone()) {
        return Ok(base);
    }
    for base in &context.branches.protected {
        // A pattern with a wildcard names no branch.
        if repo.is_branch_name(base)
            && SharedBranch::find(repo, &context.config.remote, base)?.is_some()
        {
            return Ok(base.clone());
        }
    }
    Err(Error::usage(format!("no rule gives a base for `{name}`"))
        .with_hint(format!("add a rule with a `base` to `{BRANCHES_FILE}`"))
        .with_hint(format!(
            "`git switch -c {}` creates it from the current commit",
            quote_for_shell(name)
        )))
}

/// Fetches the base, and refuses `name` if the remote already has a branch of that name.
fn fetch_base(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    name: &str,
    base: &str,
) -> Result<()> {
    let remote = &context.config.remote;
    if !repo.has_remote(remote) {
        return Ok(());
    }
    session.print_info(&format!("fetching `{base}` of `{remote}` …"));
    let there = repo.fetch(remote, &[base, name]).map_err(|failure| {
        Error::unable(failure.message().to_owned())
            .with_hint("`--no-fetch` uses the base as it was last fetched")
    })?;
    if there.iter().any(|found| found == name) {
        return Err(Error::negative(format!("branch `{name}` already exists on `{remote}`"))
            .with_hint(format!("`cargo xtask switch {}` switches to it", quote_for_shell(name))));
    }
    if !there.iter().any(|found| found == base) {
        report::print_warning(&format!("`{remote}` has no `{base}`; using the local state"));
    }
    Ok(())
}
