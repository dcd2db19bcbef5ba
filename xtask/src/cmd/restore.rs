//! `restore`: bring back what a backup holds.

use std::ffi::OsString;

use super::session::Session;
use super::{DONE, Exit, saved};
use crate::cli::Restore;
use xtask_base::error::{Context as _, Kind, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{harmless, some_of};
use xtask_base::world::ago;
use xtask_git::Tools;
use xtask_git::{Named, Repo};
use xtask_recovery::goal::Goal;
use xtask_recovery::leave;
use xtask_recovery::put_back::{
    Chosen, Meant, Plan, choose, goes, move_back, plan, put_back, returns_to_operation, way_back,
};
use xtask_recovery::save::{BOUNDS, Saved, Wish, look, save};
use xtask_report::{self as report, count};
use xtask_sync::enter::Enter as _;
use xtask_sync::run::check_gates;

/// The longest path that is shown, in characters: as long as paths can be.
const LONGEST: usize = 4096;

/// How many names are told in one line.
const SHOWN: usize = 5;

pub(super) fn run(session: &Session, args: &Restore) -> Exit {
    let repo = session.repo()?;
    let root = repo.root().canonicalize().unable(|| "the worktree cannot be read")?;
    let is_root = |typed: &OsString| {
        session.world.cwd.join(typed).canonicalize().is_ok_and(|path| path == root)
    };
    let named: Vec<OsString> = args.paths.iter().filter(|typed| !is_root(typed)).cloned().collect();
    let paths = session.repo_paths(&repo, &named)?;
    let meant = match (args.paths.len(), named.len()) {
        (0, _) => Meant::Whole,
        (all, some) if all > some => Meant::Files,
        _ => Meant::Paths(&paths),
    };
    if args.dry_run {
        let chosen = choose(&repo, &args.id, meant)?;
        let goal = way_back(&repo, &chosen)?;
        return show(session, &repo, &chosen, goal.as_ref());
    }
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    let chosen = choose(&repo, &args.id, meant)?;
    let goal = way_back(&repo, &chosen)?;
    let is_going = goes(&repo, &chosen, goal.as_ref())?;
    if !is_going && chosen.is_whole {
        check_gates(&repo, &tools).map_err(|refused| {
            refused
                .hint("`cargo xtask recover git` saves and leaves what is under way")
                .hint(format!("`cargo xtask restore {} .` brings the files alone", args.id))
        })?;
    }
    tell_moved(session, &repo, &chosen)?;
    if !is_going && is_there_already(&repo, &chosen)? {
        session.story("all that it holds is there already");
        let is_all = tell_rest(&repo, &chosen, &Plan::default())?;
        return Ok(if is_all { DONE } else { Kind::No.code() });
    }
    let first = save_first(session, &repo, &tools, &chosen, is_going)?;
    let goal = goal.as_ref().filter(|_| is_going);
    match bring_back(session, &repo, &tools, &chosen, goal, &first) {
        Ok(done) => answer(session, &repo, &chosen, &done, &first),
        Err(failure) => Err(failure.hint(format!(
            "what was here is saved: `cargo xtask restore {}` brings it back",
            first.id
        ))),
    }
}

/// Whether nothing would change at all.
fn is_there_already(repo: &Repo, chosen: &Chosen) -> Result<bool> {
    let plan = plan(repo, chosen, None)?;
    let takes_up = chosen.snapshot.operation.is_some() && returns_to_operation(repo, chosen)?;
    Ok(plan.is_nothing() && !takes_up)
}

/// Tells that the branch is not any more where it was: whole files come back as they were then.
fn tell_moved(session: &Session, repo: &Repo, chosen: &Chosen) -> Result<()> {
    let head = repo.head()?;
    let is_same_branch = head.branch.is_some() && head.branch == chosen.record.branch;
    let then = repo.named(&chosen.record.head_before);
    if let (true, Some(branch), Ok(Named::One(then))) = (is_same_branch, &head.branch, then)
        && then != head.commit
    {
        let number = repo.count_between(then, head.commit)?;
        session.story(&format!(
            "`{branch}` has moved on since, by {}: files come back whole, as they were then",
            count(number, "commit")
        ));
    }
    Ok(())
}

/// Saves what is there now, whatever it is: also where there is nothing to save there is a way back then.
fn save_first(
    session: &Session,
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &Chosen,
    leaves: bool,
) -> Result<Saved> {
    let mut secrets = saved::secrets(repo);
    // What comes back as a copy is saved as one, whatever the rules say now.
    secrets.also.extend(chosen.copies.iter().map(|(_, copy)| copy.path.clone()));
    let seen = look(repo, &secrets)?;
    let purpose = format!("restore {}", chosen.id);
    let touches: Vec<RepoPath> = chosen.files.iter().map(|file| file.path.clone()).collect();
    let wish = Wish {
        purpose: &purpose,
        label: None,
        leaves: leaves.then_some(None),
        bounds: BOUNDS,
        // What goes is clean afterwards, and comes back as it was by itself.
        touches: if leaves { &[] } else { &touches },
    };
    let first = save(repo, tools, &seen, &wish)?;
    session.story(&format!("what is here now is saved as {}", first.id));
    saved::tell_left_out(&first);
    Ok(first)
}

fn bring_back(
    session: &Session,
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &Chosen,
    goal: Option<&Goal>,
    saved: &Saved,
) -> Result<Plan> {
    if let Some(goal) = goal {
        let kept = leave::go(repo, tools, saved, goal)?;
        session.story(&format!("went back to {}", goal.words(repo)));
        for kept in kept {
            session.story(&format!("commits that were only here are on `{kept}`"));
        }
    }
    if chosen.is_whole
        && let Some(words) = move_back(repo, tools, chosen)?
    {
        session.story(&words);
    }
    let plan = plan(repo, chosen, Some(saved))?;
    put_back(repo, tools, chosen, plan, saved)
}

fn answer(session: &Session, repo: &Repo, chosen: &Chosen, done: &Plan, saved: &Saved) -> Exit {
    let what = chosen.snapshot.label.as_ref().map_or_else(String::new, |l| format!(" `{l}`"));
    let when = ago(session.world.now_seconds(), chosen.seconds);
    let same = match done.same {
        0 => String::new(),
        number => format!(", {number} as it was already"),
    };
    session.story(&format!(
        "backup{what} of {when}: {} brought back{same}",
        count(done.comes.len(), "path")
    ));
    if let Some(operation) = repo.operation() {
        let ends = match operation.ends_with == operation.aborts_with {
            true => format!("`{}` ends it", operation.ends_with),
            false => format!("`{}` or `{}`", operation.ends_with, operation.aborts_with),
        };
        session.story(&format!("{} is under way again: {ends}", operation.name));
    }
    let mut is_all = tell_rest(repo, chosen, done)?;
    session.story(&format!("`cargo xtask restore {}` takes this back in turn", saved.id));
    tell_kept(done)?;
    is_all &= done.kept.is_empty();
    Ok(if is_all { DONE } else { Kind::No.code() })
}

/// Tells what does not come back besides files; whether there is nothing of that kind.
fn tell_rest(repo: &Repo, chosen: &Chosen, done: &Plan) -> Result<bool> {
    let mut is_all = true;
    let operation = chosen.snapshot.operation.as_ref().and_then(|one| one.name.as_ref());
    if let Some(name) = operation.filter(|_| chosen.is_whole && repo.operation().is_none()) {
        is_all = false;
        let about = chosen.snapshot.operation.as_ref().and_then(|one| one.branch.as_ref());
        let why = match about {
            Some(branch) => format!("`{branch}` has moved on since"),
            None => format!("{} is checked out now", repo.short(repo.head()?.commit)),
        };
        report::warn(&format!("{name} was under way then, and is not taken up again: {why}"));
    }
    if !done.lost_conflicts.is_empty() {
        is_all &= !chosen.is_whole;
        let paths: Vec<String> = done.lost_conflicts.iter().map(ToString::to_string).collect();
        report::warn(&format!(
            "in conflict then, and now plain files as they were: {}",
            some_of(&paths, SHOWN)
        ));
    }
    if let Some(why) = &chosen.lost_copies {
        is_all = false;
        report::warn(why);
    }
    Ok(is_all)
}

fn tell_kept(plan: &Plan) -> Result<()> {
    if plan.kept.is_empty() {
        return Ok(());
    }
    report::warn(&format!("{} not brought back:", count(plan.kept.len(), "path")));
    for (path, why) in &plan.kept {
        report::answer(&format!("{}: {why}\n", harmless(&path.to_string(), LONGEST)))?;
    }
    Ok(())
}

/// A path on a line of its own.
fn shown(path: &RepoPath) -> String {
    format!("{}\n", harmless(&path.to_string(), LONGEST))
}

/// Says what would happen.
fn show(session: &Session, repo: &Repo, chosen: &Chosen, goal: Option<&Goal>) -> Exit {
    let is_going = goes(repo, chosen, goal)?;
    if let Some(goal) = goal.filter(|_| is_going) {
        session.story(&format!("would first go back to {}", goal.words(repo)));
        let files = chosen.files.iter().map(|file| &file.path);
        let copies = chosen.copies.iter().map(|(_, copy)| &copy.path);
        let lines: String = files.chain(copies).map(shown).collect();
        report::answer(&lines)?;
        return Ok(DONE);
    }
    let plan = plan(repo, chosen, None)?;
    let lines: String = plan.comes.iter().map(shown).collect();
    report::answer(&lines)?;
    tell_kept(&plan)?;
    let operation = chosen.snapshot.operation.as_ref().and_then(|one| one.name.as_ref());
    if let Some(name) = operation
        && returns_to_operation(repo, chosen)?
    {
        session.story(&format!("{name} would be under way again"));
    }
    if !plan.kept.is_empty() {
        return Ok(Kind::No.code());
    }
    if plan.comes.is_empty() {
        session.story("all that it holds is there already");
    }
    Ok(DONE)
}
