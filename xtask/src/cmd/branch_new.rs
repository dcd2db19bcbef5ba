//! `branch new`: a branch from the newest state of its base, under a name that the rules accept.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::BranchNew;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::words::{count, typed};
use xtask_branches::check::{is_free, is_shared};
use xtask_branches::facts::Source;
use xtask_branches::made::{self, Made};
use xtask_branches::names::{rule_for, would_do};
use xtask_config::BRANCHES_FILE;
use xtask_git::Repo;
use xtask_report as report;
use xtask_sync::context::{self, Context};
use xtask_sync::overlay;

pub(super) fn run(session: &Session, args: &BranchNew) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let name = &args.name;
    check_name(&repo, &context, name)?;
    if !overlay::read(&repo)?.paths.is_empty() {
        return Err(Error::no("files that sync has laid over this branch would come along")
            .hint("`cargo xtask undo` takes them away"));
    }
    let base = base_name(&repo, &context, name)?;
    if !args.no_fetch {
        fetch(session, &repo, &context, name, &base)?;
    }
    let remote = &context.config.remote;
    let Some(source) = Source::find(&repo, remote, &base)? else {
        return Err(Error::unable(format!("the base `{base}` is neither here nor at `{remote}`"))
            .hint(format!("`{BRANCHES_FILE}` says which it is, as `base` of a rule")));
    };
    if let Some(local) = source.local {
        let only_here = repo.beyond(&[source.commit], local)?.len();
        if only_here > 0 {
            report::warn(&format!(
                "{} of your `{base}` {} not pushed, and not in the new branch",
                count(only_here, "commit"),
                if only_here == 1 { "is" } else { "are" }
            ));
        }
    }
    if !repo.switch_to_new(name, source.commit)?.success() {
        // Git has said why, and has made nothing.
        return Ok(Kind::Unable.code());
    }
    let at = session.world.now_seconds();
    let made = Made { branch: name.clone(), at, from: source.commit.to_string() };
    if let Err(failure) = made::note(&repo, session.tools().disk, &made) {
        report::warn(&format!("{failure}; its first commit will say how old it is"));
    }
    let commit = repo.short(source.commit);
    report::answer(&format!("`{name}` begins at `{}` ({commit})\n", source.typed))?;
    Ok(DONE)
}

/// Refuses a name that cannot be, that somebody has, or that the rules do not accept.
fn check_name(repo: &Repo, context: &Context, name: &str) -> Result<()> {
    let rules = &context.branches.rules;
    let with_proposal = |refusal: Error| {
        let found = would_do(rules, name, &|name| is_free(repo, context, name));
        match found {
            Some(other) => {
                refusal.hint(format!("`cargo xtask branch new {}` would do", typed(&other)))
            }
            None => refusal,
        }
    };
    let is_ref = name.starts_with("refs/");
    if !repo.is_branch_name(name) || name.starts_with('-') || name == "HEAD" || is_ref {
        let refusal = Error::usage(format!("`{name}` is not a name that git accepts for a branch"));
        return Err(with_proposal(refusal));
    }
    if repo.resolve(&format!("refs/heads/{name}"))?.is_some() {
        return Err(Error::no(format!("there is a branch `{name}` already"))
            .hint(format!("`cargo xtask switch {}` goes there", typed(name))));
    }
    if is_shared(context, name) {
        return Err(Error::no(format!("`{name}` is a branch that all share, by its name"))
            .hint(format!("`{BRANCHES_FILE}` and `setup/sync.toml` say which are")));
    }
    let Some(rule) = rule_for(rules, name) else { return Ok(()) };
    match &rule.name {
        Some(wanted) if !wanted.accepts(name) => Err(with_proposal(
            Error::no(format!(
                "`{name}` is not named as the rule for `{}` asks: `{}`",
                rule.matches, wanted.text
            ))
            .detail(format!("`{BRANCHES_FILE}` on `{}`", context.config.branch)),
        )),
        _ => Ok(()),
    }
}

/// The base that the rule says, or else the first protected branch that is known here.
fn base_name(repo: &Repo, context: &Context, name: &str) -> Result<String> {
    let rule = rule_for(&context.branches.rules, name);
    if let Some(base) = rule.and_then(|rule| rule.base.clone()) {
        return Ok(base);
    }
    for base in &context.branches.protected {
        // One with a wildcard in it is the name of no branch.
        if repo.is_branch_name(base) && Source::find(repo, &context.config.remote, base)?.is_some()
        {
            return Ok(base.clone());
        }
    }
    Err(Error::usage(format!("no rule says from where `{name}` comes"))
        .hint(format!("write a rule with a `base` into `{BRANCHES_FILE}`"))
        .hint(format!("`git switch -c {}` makes it from the current commit", typed(name))))
}

/// Fetches the base, and learns whether the remote has a branch of the new name.
fn fetch(session: &Session, repo: &Repo, context: &Context, name: &str, base: &str) -> Result<()> {
    let remote = &context.config.remote;
    if !repo.has_remote(remote) {
        return Ok(());
    }
    session.story(&format!("fetching `{base}` of `{remote}` …"));
    let there = repo.fetch(remote, &[base, name]).map_err(|failure| {
        Error::unable(failure.what().to_owned())
            .hint("`--no-fetch` takes the base as it was last fetched")
    })?;
    if there.iter().any(|found| found == name) {
        return Err(Error::no(format!("`{remote}` has a branch `{name}` already"))
            .hint(format!("`cargo xtask switch {}` goes there", typed(name))));
    }
    if !there.iter().any(|found| found == base) {
        report::warn(&format!("`{remote}` has no `{base}`; what is known here counts"));
    }
    Ok(())
}
