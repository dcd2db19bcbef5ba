//! `branch new`: a branch from the newest state of its base, under a name that the rules accept.

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
    for warning in &context.warnings {
        report::print_warning(warning);
    }
    let name = &args.name;
    check_name(&repo, &context, name)?;
    if !overlay::read_overlay(&repo)?.paths.is_empty() {
        return Err(Error::negative("files that sync has laid over this branch would come along")
            .with_hint("`cargo xtask undo` takes them away"));
    }
    let base = choose_base(&repo, &context, name)?;
    if !args.no_fetch {
        fetch_base(session, &repo, &context, name, &base)?;
    }
    let remote = &context.config.remote;
    let Some(source) = SharedBranch::find(&repo, remote, &base)? else {
        return Err(Error::unable(format!("the base `{base}` is neither here nor at `{remote}`"))
            .with_hint(format!("`{BRANCHES_FILE}` says which it is, as `base` of a rule")));
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
        // Git has said why, and has made nothing.
        return Ok(ErrorKind::Unable.exit_code());
    }
    let at = session.world.now_seconds();
    let made = BranchCreation { branch: name.clone(), at, from: source.commit.to_string() };
    if let Err(failure) = created_at::write_creation_record(&repo, session.tools().disk, &made) {
        report::print_warning(&format!("{failure}; its first commit will say how old it is"));
    }
    let commit = repo.short_id(source.commit);
    report::print_output(&format!("`{name}` begins at `{}` ({commit})\n", source.display_name))?;
    Ok(SUCCESS)
}

/// Refuses a name that cannot be, that somebody has, or that the rules do not accept.
fn check_name(repo: &Repo, context: &SyncContext, name: &str) -> Result<()> {
    let rules = &context.branches.rules;
    let with_proposal = |refusal: Error| {
        let found = suggest_name(rules, name, &|name| is_name_free(repo, context, name));
        match found {
            Some(other) => refusal.with_hint(format!(
                "`cargo xtask branch new {}` would do",
                quote_for_shell(&other)
            )),
            None => refusal,
        }
    };
    let is_ref = name.starts_with("refs/");
    if !repo.is_branch_name(name) || name.starts_with('-') || name == "HEAD" || is_ref {
        let refusal = Error::usage(format!("`{name}` is not a name that git accepts for a branch"));
        return Err(with_proposal(refusal));
    }
    if repo.resolve_ref(&format!("refs/heads/{name}"))?.is_some() {
        return Err(Error::negative(format!("there is a branch `{name}` already"))
            .with_hint(format!("`cargo xtask switch {}` goes there", quote_for_shell(name))));
    }
    if is_shared(context, name) {
        return Err(Error::negative(format!("`{name}` is a branch that all share, by its name"))
            .with_hint(format!("`{BRANCHES_FILE}` and `setup/sync.toml` say which are")));
    }
    let Some(rule) = find_rule(rules, name) else { return Ok(()) };
    match &rule.name {
        Some(wanted) if !wanted.accepts(name) => Err(with_proposal(
            Error::negative(format!(
                "`{name}` is not named as the rule for `{}` asks: `{}`",
                rule.name_glob, wanted.pattern
            ))
            .with_detail(format!("`{BRANCHES_FILE}` on `{}`", context.config.branch)),
        )),
        _ => Ok(()),
    }
}

/// The base that the rule says, or else the first protected branch that is known here.
fn choose_base(repo: &Repo, context: &SyncContext, name: &str) -> Result<String> {
    let rule = find_rule(&context.branches.rules, name);
    if let Some(base) = rule.and_then(|rule| rule.base.clone()) {
        return Ok(base);
    }
    for base in &context.branches.protected {
        // One with a wildcard in it is the name of no branch.
        if repo.is_branch_name(base)
            && SharedBranch::find(repo, &context.config.remote, base)?.is_some()
        {
            return Ok(base.clone());
        }
    }
    Err(Error::usage(format!("no rule says from where `{name}` comes"))
        .with_hint(format!("write a rule with a `base` into `{BRANCHES_FILE}`"))
        .with_hint(format!(
            "`git switch -c {}` makes it from the current commit",
            quote_for_shell(name)
        )))
}

/// Fetches the base, and learns whether the remote has a branch of the new name.
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
            .with_hint("`--no-fetch` takes the base as it was last fetched")
    })?;
    if there.iter().any(|found| found == name) {
        return Err(Error::negative(format!("`{remote}` has a branch `{name}` already"))
            .with_hint(format!("`cargo xtask switch {}` goes there", quote_for_shell(name))));
    }
    if !there.iter().any(|found| found == base) {
        report::print_warning(&format!("`{remote}` has no `{base}`; what is known here counts"));
    }
    Ok(())
}
