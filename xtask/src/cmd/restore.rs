//! `restore`: bring back what a backup holds.

use super::session::Session;
use super::{DONE, Exit, saved};
use crate::base::error::{Kind, Result};
use crate::base::path::RepoPath;
use crate::base::world::ago;
use crate::cli::Restore;
use crate::recovery::goal::Goal;
use crate::recovery::put_back::{
    Chosen, Plan, choose, go_back, goes, move_back, plan, put_back, returns_to_operation, way_back,
};
use crate::recovery::save::{BOUNDS, Saved, Wish, look, save};
use crate::repo::Repo;
use crate::report::{self, count};
use crate::sync::run::{Tools, check_gates};

pub(super) fn run(session: &Session, args: &Restore) -> Exit {
    let repo = session.repo()?;
    let paths = session.repo_paths(&repo, &args.paths)?;
    if args.dry_run {
        let chosen = choose(&repo, &args.id, &paths)?;
        let goal = way_back(&repo, &chosen)?;
        return show(session, &repo, &chosen, goal.as_ref());
    }
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    let chosen = choose(&repo, &args.id, &paths)?;
    let goal = way_back(&repo, &chosen)?;
    let is_going = goes(&repo, goal.as_ref())?;
    if !is_going {
        check_gates(&repo, &tools)?;
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

/// Saves what is there now, whatever it is: also where there is nothing to save there is a way back then.
fn save_first(
    session: &Session,
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &Chosen,
    leaves: bool,
) -> Result<Saved> {
    let mut patterns = saved::patterns(repo);
    // What comes back as a copy is saved as one, whatever the rules say now.
    let literal = |path: &RepoPath| format!("/{}", escaped(&path.to_string()));
    patterns.extend(chosen.copies.iter().map(|(_, copy)| literal(&copy.path)));
    let seen = look(repo, &patterns)?;
    let purpose = format!("restore {}", chosen.id);
    let wish =
        Wish { purpose: &purpose, label: None, leaves: leaves.then_some(None), bounds: BOUNDS };
    let first = save(repo, tools, &seen, &wish)?;
    session.story(&format!("what is here now is saved as {}", first.id));
    saved::tell_left_out(&first);
    Ok(first)
}

/// A path as a pattern that means just it.
fn escaped(path: &str) -> String {
    let is_special = |c: char| matches!(c, '*' | '?' | '[' | '\\' | ' ');
    path.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect()
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
        go_back(repo, tools, saved, goal)?;
        session.story(&format!("went back to {}", goal.words(repo)));
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
        session.story(&format!(
            "{} is under way again: `{}` or `{}`",
            operation.name, operation.ends_with, operation.aborts_with
        ));
    } else if let Some(operation) = chosen.snapshot.operation.as_ref().filter(|_| chosen.is_whole) {
        let name = &operation.name;
        report::warn(&format!(
            "{name} was under way then, and is not taken up again: another commit is checked out now"
        ));
    }
    session.story(&format!("`cargo xtask restore {}` takes this back in turn", saved.id));
    tell_kept(done)?;
    Ok(if done.kept.is_empty() { DONE } else { Kind::No.code() })
}

fn tell_kept(plan: &Plan) -> Result<()> {
    if plan.kept.is_empty() {
        return Ok(());
    }
    report::warn(&format!("{} not brought back:", count(plan.kept.len(), "path")));
    for (path, why) in &plan.kept {
        report::answer(&format!("{path}: {why}\n"))?;
    }
    Ok(())
}

/// Says what would happen.
fn show(session: &Session, repo: &Repo, chosen: &Chosen, goal: Option<&Goal>) -> Exit {
    let is_going = goes(repo, goal)?;
    if let Some(goal) = goal.filter(|_| is_going) {
        session.story(&format!("would first go back to {}", goal.words(repo)));
        let files = chosen.files.iter().map(|file| &file.path);
        let copies = chosen.copies.iter().map(|(_, copy)| &copy.path);
        let lines: String = files.chain(copies).map(|path| format!("{path}\n")).collect();
        report::answer(&lines)?;
        return Ok(DONE);
    }
    let plan = plan(repo, chosen, None)?;
    let lines: String = plan.comes.iter().map(|path| format!("{path}\n")).collect();
    report::answer(&lines)?;
    tell_kept(&plan)?;
    if returns_to_operation(repo, chosen)?
        && let Some(operation) = &chosen.snapshot.operation
    {
        session.story(&format!("{} would be under way again", operation.name));
    }
    if plan.comes.is_empty() {
        session.story("all that it holds is there already");
    }
    Ok(DONE)
}
