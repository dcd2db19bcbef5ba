//! `promote`: collected changes, into the canonical branch.

use std::collections::BTreeSet;

use super::session::{Session, after_landing};
use super::{DONE, Exit};
use crate::base::error::{Error, Result};
use crate::base::words::{count, some_of};
use crate::base::world::rfc3339;
use crate::cli::Promote;
use crate::intake::carry::changes_between;
use crate::intake::collect::{Collected, Waiting, build, waiting};
use crate::intake::land::{Ground, ground, land};
use crate::intake::resolve::moves_on;
use crate::intake::series::{Item, Series, carry_all};
use crate::intake::source::{check_names, takes};
use crate::repo::{Id, Repo};
use crate::report::intake::{CommitLine, conflicts};
use crate::report::{self, Loudness};
use crate::sync::context::{self, Context};
use crate::sync::managed::Managed;

/// How often the canonical branch may move while this runs.
const ROUNDS: usize = 4;

pub(super) fn run(session: &Session, args: &Promote) -> Exit {
    let repo = session.repo()?;
    let choice = Choice::make(&repo.in_memory(), session, &args.branches)?;
    for warning in &choice.context.warnings {
        report::warn(warning);
    }
    let branch = choice.ground.branch.clone();
    if choice.chosen.is_empty() {
        session.story(&format!("nothing is waiting on `{}`", choice.context.config.changes));
        return Ok(DONE);
    }
    show(session, &repo, &choice)?;
    if let Some((at, found)) = choice.series.conflict() {
        let lines: Vec<_> = found.iter().map(|one| (one.words(&branch), one.excerpt())).collect();
        report::answer(&conflicts(&lines))?;
        let name = choice.chosen[at].name();
        let earlier: Vec<String> = choice.left_before(at);
        let refused =
            Error::no(format!("`{name}` cannot go on `{branch}` alone; nothing was changed"));
        return Err(if earlier.is_empty() {
            refused.hint(format!("on `{name}`, `cargo xtask sync --merge`, then extract it again"))
        } else {
            refused.hint(format!("it builds on {}, which was not chosen", some_of(&earlier, 5)))
        });
    }
    let many = choice.series.made();
    if args.dry_run {
        session.story(&format!(
            "{} would go on `{branch}`; nothing was written",
            count(many, "commit")
        ));
        return Ok(DONE);
    }
    repo.committer(session.world.now_seconds())?;
    let question = format!("Put {} on `{branch}`?", count(many, "commit"));
    if many > 0 && !session.confirm(&question, args.yes)? {
        return Err(Error::no("nothing was changed"));
    }
    take(session, &repo, &args.branches, many)
}

/// What was chosen, and what would come of it.
struct Choice {
    context: Context,
    ground: Ground,
    waiting: Waiting,
    chosen: Vec<Collected>,
    items: Vec<Item>,
    series: Series,
}

impl Choice {
    fn make(repo: &Repo, session: &Session, names: &[String]) -> Result<Choice> {
        let context = context::read(repo)?;
        let ground = ground(repo, &context)?;
        let waiting = waiting(repo, &context)?;
        let known: Vec<String> = waiting.commits.iter().map(Collected::name).collect();
        let unknown: Vec<String> =
            names.iter().filter(|name| !known.contains(name)).cloned().collect();
        if !unknown.is_empty() {
            let refused = Error::usage(format!("nothing from {} is waiting", some_of(&unknown, 5)));
            return Err(if known.is_empty() {
                refused.hint(format!(
                    "`{}` has nothing at all; `cargo xtask extract BRANCH` collects",
                    context.config.changes
                ))
            } else {
                refused.hint(format!("waiting: {}", some_of(&known, 10)))
            });
        }
        let is_chosen = |one: &&Collected| names.is_empty() || names.contains(&one.name());
        let chosen: Vec<Collected> = waiting.commits.iter().filter(is_chosen).cloned().collect();
        let items: Result<Vec<Item>> = chosen.iter().map(|one| item(repo, &context, one)).collect();
        let items = items?;
        let committer = repo.committer(session.world.now_seconds()).ok();
        let (disk, none) = (session.tools().disk, std::collections::BTreeMap::new());
        let onto = &ground.branch;
        let series = carry_all(repo, disk, ground.tip, &items, committer.as_ref(), &none, onto)?;
        Ok(Choice { context, ground, waiting, chosen, items, series })
    }

    /// The sources before one of the chosen that were not chosen.
    fn left_before(&self, at: usize) -> Vec<String> {
        let id = self.chosen[at].commit.id;
        let before = self.waiting.commits.iter().take_while(|one| one.commit.id != id);
        let is_chosen =
            |one: &&Collected| self.chosen.iter().any(|own| own.commit.id == one.commit.id);
        before.filter(|one| !is_chosen(one)).map(Collected::name).collect()
    }

    fn gone(&self) -> BTreeSet<Id> {
        self.chosen.iter().map(|one| one.commit.id).collect()
    }
}

/// What of a collected commit may go on the canonical branch: the managed paths alone.
fn item(repo: &Repo, context: &Context, one: &Collected) -> Result<Item> {
    let managed = Managed::new(&context.config, one.branch.as_deref());
    let before = repo.tree_of(one.commit.parents[0])?;
    let (changes, _) = changes_between(repo, Some(before), one.commit.tree, &takes(&managed))?;
    check_names(&changes)?;
    Ok(Item { commit: one.commit.id, changes, trailers: Vec::new(), label: one.name() })
}

fn show(session: &Session, repo: &Repo, choice: &Choice) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    for (one, item) in choice.chosen.iter().zip(&choice.items) {
        let author = &one.commit.author;
        let action = |change: &crate::intake::carry::PathChange| match (change.old, change.new) {
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        };
        let line = CommitLine {
            id: repo.short(one.commit.id),
            subject: one.commit.subject().to_owned(),
            author: format!("{}, {}", author.name, rfc3339(author.seconds)),
            note: None,
            files: item.changes.iter().map(|c| (action(c), c.path.to_string())).collect(),
            left_out: Vec::new(),
        };
        report::answer(&line.text())?;
        let paths: Vec<_> = item.changes.iter().map(|change| change.path.clone()).collect();
        repo.show_change(
            one.commit.parents.first().copied(),
            one.commit.id,
            &paths,
            session.color,
        )?;
    }
    Ok(())
}

fn take(session: &Session, repo: &Repo, names: &[String], shown: usize) -> Exit {
    let tools = session.tools();
    for _ in 0..ROUNDS {
        let choice = Choice::make(repo, session, names)?;
        let Choice { context, ground, series, .. } = &choice;
        if series.conflict().is_some() || series.made() > shown {
            return Err(Error::unable(format!(
                "`{}` has moved meanwhile, and this looks different now; nothing was changed",
                ground.branch
            ))
            .hint("run it again to see how"));
        }
        let message = "xtask: promote";
        if series.made() > 0 && !land(repo, context, ground, series.tip, message, &tools)? {
            continue;
        }
        report::answer(&format!(
            "{} on `{}`, now {}\n",
            count(series.made(), "new commit"),
            ground.branch,
            repo.short(series.tip)
        ))?;
        rebuild(session, repo, &choice)?;
        after_landing(session, repo, &ground.branch);
        return Ok(DONE);
    }
    Err(moves_on())
}

/// The branch of changes, without what was taken, on the new canonical commit. That it stays as it
/// is loses nothing: what has become canonical drops out of it the next time.
fn rebuild(session: &Session, repo: &Repo, choice: &Choice) -> Result<()> {
    let tools = session.tools();
    let context = context::read(repo)?;
    let changes = &context.config.changes;
    let built = build(repo, tools.disk, &context, &choice.waiting, None, &choice.gone())?;
    let stays = |why: &str| {
        report::warn(&format!("`{changes}` stays as it was: {why}; the next extract renews it"));
        Ok(())
    };
    let built = match built {
        Ok(built) => built,
        Err(clashing) => {
            let paths: Vec<String> =
                clashing.conflicts.iter().map(|one| one.path.to_string()).collect();
            return stays(&format!(
                "{} conflicts with what was taken, in {}",
                clashing.branch,
                some_of(&paths, 5)
            ));
        }
    };
    if repo.branches_in_use()?.iter().any(|one| one.branch == *changes) {
        return stays("a worktree has it checked out");
    }
    let name = format!("refs/heads/{changes}");
    let seconds = session.world.now_seconds();
    let old = choice.waiting.local;
    if old != Some(built.tip)
        && !repo.swap_ref(&name, old, Some(built.tip), "xtask: promote", seconds)?
    {
        return stays("somebody else has moved it");
    }
    if !built.waiting.is_empty() {
        session.story(&format!("still waiting: {}", built.waiting.join(", ")));
    }
    Ok(())
}
