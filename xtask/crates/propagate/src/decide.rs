//! What happens to each branch: one row a branch, with its new commit written but not yet named by
//! any ref.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::targets::{Fleet, Target, Way};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_git::{Head, Id, Lineage, OnceCanonical, Repo};
use xtask_sync::classify::Class;
use xtask_sync::commit;
use xtask_sync::context::{BESIDE, Context};
use xtask_sync::manner::{is_no_part_of_this, no_part};
use xtask_sync::plan::{Action, Beyond, Plan, WriteMode, plan};
use xtask_sync::run::check_deletions;
use xtask_sync::survey::states;
use xtask_sync::upstream::{Standing, only_sync_commits, standing};

/// What happens to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it has all that the rules let it have.
    Nothing,
    /// A ref gets a new value, or goes.
    Moves,
    /// It was moved, or would be.
    Moved,
    /// It was up to date already, and now is at the remote, too.
    Pushed,
    /// Its worktree sees to it.
    InWorktree,
    /// The rules leave it alone.
    Left,
    /// It needs a yes that was not given.
    Refused,
    /// It could not be done.
    Failed,
}

impl Fate {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fate::Nothing => "none",
            Fate::Moves | Fate::Moved => "update",
            Fate::Pushed => "push",
            Fate::InWorktree => "worktree",
            Fate::Left => "left",
            Fate::Refused => "refused",
            Fate::Failed => "failed",
        }
    }
}

/// A path of a branch that is not in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRow {
    /// The path.
    pub path: String,
    /// Its class.
    pub class: Class,
    /// What happens to it.
    pub action: Action,
}

/// What is decided about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The branch.
    pub branch: String,
    /// The branch whose ref changes: it, or the one beside it.
    pub target: String,
    /// What that ref is now.
    pub old: Option<Id>,
    /// What it becomes; nothing where it goes, or where nothing happens.
    pub new: Option<Id>,
    /// What happens.
    pub fate: Fate,
    /// Why, where that is not plain.
    pub why: Option<String>,
    /// How many paths are of each class.
    pub counts: BTreeMap<Class, usize>,
    /// How many paths are written.
    pub writes: usize,
    /// The paths, if they were asked for.
    pub paths: Vec<PathRow>,
    /// Whether something that was wanted could not be done although the branch itself is as it
    /// should be.
    pub is_short: bool,
}

impl Row {
    /// A row in which nothing happens.
    #[must_use]
    pub fn of(target: &Target) -> Row {
        Row {
            branch: target.branch.clone(),
            target: target.branch.clone(),
            old: target.commit,
            new: None,
            fate: Fate::Nothing,
            why: None,
            counts: BTreeMap::new(),
            writes: 0,
            paths: Vec::new(),
            is_short: false,
        }
    }

    /// The same with another fate, and why.
    #[must_use]
    pub fn but(self, fate: Fate, why: impl Into<String>) -> Row {
        Row { fate, why: Some(why.into()), new: None, ..self }
    }

    /// Adds a word on it.
    pub fn note(&mut self, text: &str) {
        self.why = Some(match self.why.take() {
            Some(why) => format!("{why}; {text}"),
            None => text.to_owned(),
        });
    }

    /// Notes something that could not be done although the branch itself is as it should be.
    pub fn short_of(&mut self, text: &str) {
        self.note(text);
        self.is_short = true;
    }

    /// Takes the numbers, and if wanted the paths, out of a plan.
    pub fn count(&mut self, plan: &Plan, lists: bool) {
        for item in &plan.items {
            *self.counts.entry(item.class).or_insert(0) += 1;
        }
        self.writes = plan.writes().count();
        if lists {
            let row = plan.items.iter().filter(|item| item.class != Class::InSync);
            self.paths = row
                .map(|item| PathRow {
                    path: item.path().to_string(),
                    class: item.class,
                    action: item.action,
                })
                .collect();
        }
    }
}

/// What is the same for all rows.
pub struct Case<'a> {
    /// What sync goes by.
    pub context: &'a Context,
    /// What once was canonical.
    pub once: &'a OnceCanonical,
    /// All branches, for those that stand beside protected ones.
    pub fleet: &'a Fleet,
    /// How many managed files the canonical commit has.
    pub canonical_files: usize,
    /// More than half of the managed files of a branch may go.
    pub allow_mass_deletion: bool,
    /// The paths are listed.
    pub lists: bool,
}

/// What went wrong.
enum Trouble {
    /// Something about this branch.
    Branch(Error),
    /// Objects cannot be written, for this branch or any other.
    Objects(Error),
}

impl From<Error> for Trouble {
    fn from(failure: Error) -> Self {
        Trouble::Branch(failure)
    }
}

/// Decides, a row after the other.
pub struct Judge<'a> {
    repo: &'a Repo,
    disk: &'a Disk<'a>,
    case: &'a Case<'a>,
    lineage: RefCell<Lineage<'a>>,
}

impl<'a> Judge<'a> {
    /// One that writes objects into `repo`, after asking the disk.
    #[must_use]
    pub fn new(repo: &'a Repo, disk: &'a Disk<'a>, case: &'a Case<'a>) -> Self {
        Judge { repo, disk, case, lineage: RefCell::new(repo.lineage()) }
    }
}

impl Judge<'_> {
    /// Decides about a branch. What is wrong with it is its fate, and not the end of the others; that
    /// objects cannot be written is.
    pub fn decide(&self, target: &Target) -> Result<Row> {
        let row = Row::of(target);
        match &target.way {
            Way::Left { why, is_in_the_way } => {
                let fate = if *is_in_the_way { Fate::Failed } else { Fate::Left };
                Ok(row.but(fate, why.clone()))
            }
            Way::Worktree(_) => Ok(Row { fate: Fate::InWorktree, ..row }),
            Way::Ref | Way::Beside => {
                let Some(commit) = target.commit else { return Ok(row) };
                let decided = match &target.way {
                    Way::Ref => self.by_ref(target, commit, row.clone()),
                    _ => self.beside(target, commit, row.clone()),
                };
                decided.or_else(|trouble| match trouble {
                    Trouble::Branch(failure) => Ok(row.but(Fate::Failed, failure.to_string())),
                    Trouble::Objects(failure) => Err(failure),
                })
            }
        }
    }

    fn by_ref(&self, target: &Target, commit: Id, row: Row) -> Result<Row, Trouble> {
        let (repo, context) = (self.repo, self.case.context);
        let mut head = self.head(target, commit)?;
        let mut plan = self.plan(&head)?;
        // Only branches that are here follow others.
        let is_here = self.case.fleet.is_here();
        let standing = if is_here { standing(repo, &head, context)? } else { Standing::Stays };
        let ahead = match standing {
            Standing::OnlySyncCommits(ahead) => Some(ahead.commit),
            Standing::Behind(ahead) if !plan.tree_changes().is_empty() => Some(ahead.commit),
            Standing::Behind(_) | Standing::Stays => None,
        };
        if let Some(commit) = ahead {
            head = self.head(target, commit)?;
            plan = self.plan(&head)?;
        }
        let mut row = row;
        row.count(&plan, self.case.lists);
        if let Some(row) = self.barred(&row, &head, &plan)? {
            return Ok(row);
        }
        if ahead.is_none() && plan.tree_changes().is_empty() {
            return Ok(row);
        }
        let new = self.write(&head, &plan)?.or(ahead);
        Ok(Row { fate: Fate::Moves, new, ..row })
    }

    /// A protected branch: the commit stands on a branch beside it, made anew whenever the protected
    /// one has moved, as long as nobody has put anything on it.
    fn beside(&self, target: &Target, commit: Id, row: Row) -> Result<Row, Trouble> {
        let (repo, context, fleet) = (self.repo, self.case.context, self.case.fleet);
        let name = format!("{BESIDE}{}", target.branch);
        let old = fleet.branches.get(&name).copied();
        let head = self.head(target, commit)?;
        let plan = self.plan(&head)?;
        let mut row = Row { target: name.clone(), old, ..row };
        row.count(&plan, self.case.lists);
        if let Some(row) = self.barred(&row, &head, &plan)? {
            return Ok(row);
        }
        let new = self.write(&head, &plan)?;
        let wants = !plan.tree_changes().is_empty();
        if !wants && old.is_none() {
            return Ok(Row { target: row.branch.clone(), old: Some(commit), ..row });
        }
        if wants && old.is_some() && old == new {
            return Ok(Row { why: Some(format!("waiting to be merged in `{name}`")), ..row });
        }
        if let Some(old) = old {
            if !only_sync_commits(repo, commit, old, context)? {
                let why =
                    format!("`{name}` holds commits that are not xtask's, and stays as it is");
                return Ok(row.but(Fate::Failed, why));
            }
            if fleet.holder(&name).is_some() {
                return Ok(row.but(Fate::Failed, format!("a worktree has `{name}` checked out")));
            }
        }
        let why = if wants {
            format!("it is protected: `{name}` is to be merged into it")
        } else {
            format!("it has all that `{name}` was for, so that goes")
        };
        Ok(Row { fate: Fate::Moves, why: Some(why), new, ..row })
    }

    fn head(&self, target: &Target, commit: Id) -> Result<Head> {
        let tree = self.repo.tree_of(commit)?;
        Ok(Head { branch: Some(target.branch.clone()), commit, tree })
    }

    fn plan(&self, head: &Head) -> Result<Plan> {
        let mut lineage = self.lineage.borrow_mut();
        let states = states(self.repo, self.case.context, self.case.once, head, &mut lineage)?;
        Ok(plan(states, WriteMode::Commit, Beyond::Nothing, &BTreeMap::new()))
    }

    /// Why nothing happens to a branch although there would be something to do.
    fn barred(&self, row: &Row, head: &Head, plan: &Plan) -> Result<Option<Row>> {
        let (repo, context) = (self.repo, self.case.context);
        if is_no_part_of_this(repo, head, context, plan, self.case.canonical_files)? {
            let why =
                format!("{}; `cargo xtask sync` there brings them", no_part(&row.branch, context));
            return Ok(Some(row.clone().but(Fate::Left, why)));
        }
        if self.case.allow_mass_deletion {
            return Ok(None);
        }
        let checked = check_deletions(repo, head, context, plan);
        Ok(checked.err().map(|refused: Error| row.clone().but(Fate::Refused, refused.what())))
    }

    fn write(&self, head: &Head, plan: &Plan) -> Result<Option<Id>, Trouble> {
        let made = commit::write(self.repo, self.disk, head, self.case.context, plan)
            .map_err(Trouble::Objects)?;
        Ok(made.map(|made| made.new))
    }
}
