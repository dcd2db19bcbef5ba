//! One run of sync in one worktree: look, decide, and, unless only looking, write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::apply;
use super::backup::{self, Intent};
use super::batch::{Batch, Change, FileChange};
use super::classify::Class;
use super::commit;
use super::context::{self, BESIDE, Context};
use super::enter::Enter as _;
use super::gather::{Clean, Depth, Found, Gathered, Question, gather};
use super::managed::Managed;
use super::merge::{self, Merges};
use super::overlay::{Laid, Overlay, Under};
use super::plan::{Action, Beyond, Item, MergeOutcome, Plan, WriteMode, plan};
use super::upstream::{Ahead, Standing, move_to, standing};
use xtask_base::error::{Error, Result};
use xtask_base::halves::in_halves;
use xtask_base::path::RepoPath;
use xtask_git::{
    CleanLook, Entry, FileStat, Head, Id, Index, NOT_CLEAN, OnceCanonical, Repo, Scope, Tools,
    Work, look_of_metadata,
};

/// How old the time of a file must be, in nanoseconds, so that the file cannot be changed without its
/// time changing: two seconds where it may be of the coarsest clock of any file system, which counts
/// whole ones; 20 ms where it says more than seconds, since no system's clock ticks slower than every 10.
fn settles_in(time_ns: i64) -> i64 {
    if time_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 }
}

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// How to write.
    pub mode: WriteMode,
    /// What beyond the rules.
    pub beyond: Beyond,
    /// Only these paths; all where it is empty.
    pub only: Vec<RepoPath>,
    /// Commit on protected branches, too.
    pub allow_protected: bool,
    /// Delete more than half of the managed files, too.
    pub allow_mass_deletion: bool,
    /// List what is in sync, too.
    pub lists_in_sync: bool,
}

impl Wishes {
    /// What a plain `sync` wants.
    #[must_use]
    pub fn plain() -> Self {
        Wishes {
            mode: WriteMode::Commit,
            beyond: Beyond::Nothing,
            only: Vec::new(),
            allow_protected: false,
            allow_mass_deletion: false,
            lists_in_sync: false,
        }
    }

    fn purpose(&self) -> String {
        let mut purpose = String::from("sync");
        match self.beyond {
            Beyond::Nothing => {}
            Beyond::Merge => purpose.push_str(" --merge"),
            Beyond::Force => purpose.push_str(" --force"),
        }
        if self.mode == WriteMode::Worktree {
            purpose.push_str(" --no-commit");
        }
        purpose
    }
}

/// What was found and decided, before anything is written.
pub struct Decided {
    /// What is checked out.
    pub head: Head,
    /// What sync goes by.
    pub context: Context,
    /// The plan.
    pub plan: Plan,
    /// What merging came to, if it was asked for.
    pub merges: Merges,
    gathered: Rest,
}

/// What was read on the way and is needed to write.
struct Rest {
    index: Option<Index>,
    once: Option<OnceCanonical>,
    overlay: Overlay,
    clean: Option<Clean>,
    looked_at_ns: i64,
}

impl Decided {
    /// The managed paths that are in sync and not in the plan.
    #[must_use]
    pub fn in_sync(&self) -> Vec<RepoPath> {
        let planned: BTreeSet<&RepoPath> = self.plan.items.iter().map(Item::path).collect();
        let mut paths = self.gathered.clean.as_ref().map_or(Vec::new(), Clean::paths);
        paths.retain(|path| !planned.contains(path));
        paths
    }
}

/// What came of looking.
pub enum Looked {
    /// The canonical branch itself is checked out: there is nothing to sync into it.
    OnCanonical(Box<Context>),
    /// A plan.
    Decided(Box<Decided>),
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Done {
    /// The commit that was made.
    pub commit: Option<Id>,
    /// The backup with which it can be taken back.
    pub undo: Option<String>,
    /// Where the merged texts of conflicts lie, by path.
    pub conflicts: Vec<(RepoPath, PathBuf)>,
    /// Whether something of the run was left lying about, for the next one to tidy up.
    pub is_untidy: bool,
}

/// Looks at the checked-out branch and decides. Nothing is written.
pub fn look(
    repo: &Repo,
    context: Context,
    wishes: &Wishes,
    depth: Depth,
    tools: &Tools<'_>,
) -> Result<Looked> {
    let head = repo.head()?;
    if head.branch.as_deref() == Some(context.config.branch.as_str()) {
        return Ok(Looked::OnCanonical(Box::new(context)));
    }
    let managed = Managed::new(&context.config, head.branch.as_deref());
    for path in &wishes.only {
        check_wanted(repo, &head, &context, &managed, path)?;
    }
    let question = Question {
        repo,
        head: &head,
        context: &context,
        managed: &managed,
        only: &wishes.only,
        depth,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    };
    let Gathered { states, clean, index, once, overlay } = gather(&question)?;
    let merges = match (&once, wishes.beyond) {
        (Some(once), Beyond::Merge) => merge::attempt(repo, &head, &context, once, &states)?,
        _ => Merges::default(),
    };
    let plan = plan(states, wishes.mode, wishes.beyond, &merges.outcomes);
    let looked_at_ns = question.now_ns;
    let gathered = Rest { index, once, overlay, clean, looked_at_ns };
    Ok(Looked::Decided(Box::new(Decided { head, context, plan, merges, gathered })))
}

/// A path that was named must be managed, or hold something that is.
fn check_wanted(
    repo: &Repo,
    head: &Head,
    context: &Context,
    managed: &Managed,
    path: &RepoPath,
) -> Result<()> {
    let is_managed = managed.holds(path.as_bytes()) || managed.enters(path.as_bytes());
    let is_there = is_managed
        && (repo.look_up(head.tree, path)?.is_some()
            || repo.look_up(context.canonical.tree, path)?.is_some());
    if is_there {
        return Ok(());
    }
    let what = if is_managed {
        format!("`{path}` is neither on this branch nor on `{}`", context.config.branch)
    } else {
        format!("`{path}` is not managed")
    };
    Err(Error::usage(what).hint("`cargo xtask sync --dry-run -v` lists the managed paths"))
}

/// Whether git is in the middle of something, or the index is in conflict.
pub fn check_gates(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    if let Some(operation) = repo.operation().filter(|found| Some(found.kind) != tools.ending) {
        return Err(Error::unable(format!(
            "{} is in progress; nothing was written",
            operation.name
        ))
        .hint(if operation.ends_with == operation.aborts_with {
            format!("end it first: `{}`", operation.ends_with)
        } else {
            format!("end it first: `{}` or `{}`", operation.ends_with, operation.aborts_with)
        }));
    }
    if repo.awaits_checkout() {
        return Err(Error::unable("nothing is checked out here yet; nothing was written")
            .hint("`git checkout` does it"));
    }
    if repo.index_is_locked() {
        return Err(Error::unable("the index is locked: another git process is at work here")
            .detail(repo.index_lock().display().to_string())
            .hint("wait until it has ended; if none is running, remove that file"));
    }
    if repo.index()?.has_conflicts() {
        return Err(Error::unable("there are unmerged paths; nothing was written")
            .hint("`git status` lists them; resolve them and commit first"));
    }
    Ok(())
}

/// Looks in order to write: where the upstream has gone ahead and the branch may follow, it does so
/// first, and is looked at again. Answers with the commit to which it moved, too. The caller holds
/// the lock of the worktree.
pub fn look_to_write(
    repo: &Repo,
    context: Context,
    wishes: &Wishes,
    tools: &Tools<'_>,
) -> Result<(Looked, Option<Id>)> {
    let looked = look(repo, context, wishes, Depth::Everything, tools)?;
    let Looked::Decided(decided) = &looked else { return Ok((looked, None)) };
    check_gates(repo, tools)?;
    let Some(ahead) = wants_to_move(repo, decided, wishes)? else { return Ok((looked, None)) };
    check_rules(repo, decided, wishes)?;
    move_to(repo, &ahead)?;
    let looked = look(repo, decided.context.clone(), wishes, Depth::Everything, tools)?;
    Ok((looked, Some(ahead.commit)))
}

/// Where a branch that follows an upstream should move before it is synced.
pub fn wants_to_move(repo: &Repo, decided: &Decided, wishes: &Wishes) -> Result<Option<Ahead>> {
    if wishes.mode != WriteMode::Commit || is_barred(decided, wishes) {
        return Ok(None);
    }
    Ok(match standing(repo, &decided.head, &decided.context)? {
        Standing::OnlySyncCommits(ahead) => Some(ahead),
        // A commit of ours on a tip that is out of date would only make the branch diverge.
        Standing::Behind(ahead) if !decided.plan.tree_changes().is_empty() => Some(ahead),
        Standing::Behind(_) | Standing::Stays => None,
    })
}

fn is_barred(decided: &Decided, wishes: &Wishes) -> bool {
    !wishes.allow_protected
        && decided.head.branch.as_ref().is_some_and(|branch| decided.context.is_protected(branch))
}

/// Makes the plan true. The caller holds the lock of the worktree.
pub fn write(
    repo: &Repo,
    mut decided: Decided,
    wishes: &Wishes,
    tools: &Tools<'_>,
) -> Result<Done> {
    let index = decided.gathered.index.take();
    let Decided { head, context, plan, merges, gathered, .. } = &decided;
    let mut done = Done::default();
    if let Some(once) = &gathered.once {
        repo.save_once_canonical(tools.disk, once)?;
    }
    if wishes.beyond == Beyond::Merge {
        merge::write_marked(repo, tools.disk, merges)?;
    }
    done.conflicts =
        merges.marked.keys().map(|path| (path.clone(), merge::marked_file(repo, path))).collect();
    if plan.writes().next().is_none() {
        // The record is for speed alone.
        drop(remember_clean(repo, gathered.clean.as_ref(), tools));
        return Ok(done);
    }
    check_rules(repo, &decided, wishes)?;
    for (_, content) in &merges.contents {
        repo.write_blob(content)?;
    }
    let moves = match wishes.mode {
        WriteMode::Commit => commit::write(repo, tools.disk, head, context, plan)?,
        WriteMode::Worktree => None,
    };
    let changes = changes(plan, wishes.mode, gathered.looked_at_ns);
    let overlay = overlay_after(&gathered.overlay, plan, wishes.mode);
    let purpose = wishes.purpose();
    let index = index.map_or_else(|| repo.index(), Ok)?;
    tools.disk.other("save what is replaced").map_err(|cause| {
        Error::unable("what would be replaced cannot be saved first").because(cause)
    })?;
    let saved = backup::save(
        repo,
        &Intent {
            purpose: &purpose,
            head,
            moves: moves.as_ref(),
            changes: &changes,
            index: &index,
            overlay: &gathered.overlay,
            now: tools.world.now_seconds(),
        },
    )?;
    done.commit = moves.as_ref().map(|moves| moves.new);
    let batch = Batch { purpose, changes, head: moves, overlay, backup: Some(saved) };
    let applied = apply::apply(&tools.applier(repo), &batch, Some(index))?;
    done.undo = applied.backup;
    done.is_untidy = applied.is_untidy;
    // The record is for speed alone, and so is tidiness: both can wait for another run.
    if wishes.mode == WriteMode::Commit && !done.is_untidy {
        drop(note_clean(repo, &decided, done.commit, &applied.looks, tools));
    }
    drop(backup::prune(repo, tools.world.now_seconds()));
    Ok(done)
}

/// Notes how clean files look, so that the next look need not read the index.
fn remember_clean(repo: &Repo, clean: Option<&Clean>, tools: &Tools<'_>) -> Result<()> {
    match clean {
        Some(Clean { content, found: Found::ByIndex(seen) }) => {
            repo.write_clean_record(tools.disk, *content, seen)
        }
        _ => Ok(()),
    }
}

/// Notes how clean files look after a run: those that it wrote as it left them, the others as they were
/// found. Where not all were looked at, they are now.
fn note_clean(
    repo: &Repo,
    decided: &Decided,
    commit: Option<Id>,
    looks: &BTreeMap<RepoPath, CleanLook>,
    tools: &Tools<'_>,
) -> Result<()> {
    let Decided { head, context, plan, gathered, .. } = decided;
    let managed = Managed::new(&context.config, head.branch.as_deref());
    let repo_root = repo.root();
    if let Some(clean) = &gathered.clean {
        let mut files = clean.looks();
        for (path, target) in plan.tree_changes() {
            match target {
                Some(_) => files.insert(path, NOT_CLEAN),
                None => files.remove(&path),
            };
        }
        let written = plan.writes().filter(|item| item.target.is_some()).map(Item::path);
        let written: Vec<&RepoPath> = written.collect();
        let now_ns = tools.now_ns();
        // Whoever changes one from now on changes its times; who did before has changed them since.
        let still = in_halves(&written, |half| {
            let is_settled = |meta: &FileStat| meta.ctime_ns < now_ns - settles_in(meta.ctime_ns);
            let look = |path: &&RepoPath| {
                let meta = path.on_disk(repo_root).symlink_metadata().ok()?;
                is_settled(&FileStat::of(&meta)).then(|| look_of_metadata(&meta))
            };
            half.iter().map(look).collect()
        });
        for (path, still) in written.into_iter().zip(still) {
            let look = still.filter(|still| looks.get(path) == Some(still));
            files.insert(path.clone(), look.unwrap_or(NOT_CLEAN));
        }
        let tree = commit.map_or(Ok(head.tree), |commit| repo.tree_of(commit))?;
        let content = repo.managed_fingerprint(tree, &managed, managed.rules())?;
        return repo.write_clean_record(tools.disk, content, &files);
    }
    let head = repo.head()?;
    let gathered = gather(&Question {
        repo,
        head: &head,
        context,
        managed: &managed,
        only: &[],
        depth: Depth::Everything,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    })?;
    remember_clean(repo, gathered.clean.as_ref(), tools)
}

/// Whether the rules let a plan be made true: protected branches, and deletions of very much.
pub fn check_rules(repo: &Repo, decided: &Decided, wishes: &Wishes) -> Result<()> {
    let Decided { head, context, plan, .. } = decided;
    let commits = wishes.mode == WriteMode::Commit && !plan.tree_changes().is_empty();
    if commits && is_barred(decided, wishes) {
        let branch = head.branch.as_deref().unwrap_or_default();
        return Err(Error::no(format!(
            "`{branch}` is protected: nothing is committed there unasked, so nothing was synced"
        ))
        .hint(road_to_protected(repo, context, branch))
        .hint(
            "or `cargo xtask sync --no-commit` writes the files alone; `--allow-protected` commits",
        ));
    }
    if wishes.allow_mass_deletion { Ok(()) } else { check_deletions(repo, head, context, plan) }
}

/// Whether what keeps a plan from being made true is that its branch is protected.
#[must_use]
pub fn is_only_protected(repo: &Repo, decided: &Decided) -> bool {
    let wishes = Wishes::plain();
    is_barred(decided, &wishes)
        && check_rules(repo, decided, &Wishes { allow_protected: true, ..wishes }).is_ok()
}

/// How a protected branch is brought up to date: by a branch beside it and a merge.
#[must_use]
pub fn road_to_protected(repo: &Repo, context: &Context, branch: &str) -> String {
    let push = if repo.has_remote(&context.config.remote) { " --remote --push" } else { "" };
    format!("`cargo xtask propagate{push}`, then merge `{BESIDE}{branch}` into `{branch}`")
}

/// More than half of the managed files of a branch go only if somebody says so.
pub fn check_deletions(repo: &Repo, head: &Head, context: &Context, plan: &Plan) -> Result<()> {
    let (goes, comes) = plan.goes_and_comes();
    if goes.is_empty() {
        return Ok(());
    }
    let managed = Managed::new(&context.config, head.branch.as_deref());
    let all = repo.list_tree(head.tree, &managed)?.len();
    if goes.len() * 2 <= all {
        return Ok(());
    }
    let deletions = goes.len() - moved(repo, &goes, &comes)?;
    if deletions * 2 > all {
        return Err(Error::usage(format!(
            "{deletions} of the {all} managed files would be deleted; nothing was synced"
        ))
        .hint("`--dry-run` lists them; `--yes` deletes them"));
    }
    Ok(())
}

/// How many of the files that go are made elsewhere: under the same name, with half of their lines or more.
fn moved(repo: &Repo, goes: &[&Item], comes: &[&Item]) -> Result<usize> {
    let name = |item: &Item| item.path().parts().last().map(<[u8]>::to_vec);
    let mut made: BTreeMap<Option<Vec<u8>>, Vec<Vec<u8>>> = BTreeMap::new();
    for item in comes {
        if let Some(entry) = item.target {
            made.entry(name(item)).or_default().push(repo.blob(entry.id)?);
        }
    }
    let mut count = 0;
    for item in goes {
        let Some(news) = made.get_mut(&name(item)) else { continue };
        let Some(entry) = item.state.head else { continue };
        let old = repo.blob(entry.id)?;
        if let Some(at) = news.iter().position(|new| is_much_of(&old, new)) {
            news.remove(at);
            count += 1;
        }
    }
    Ok(count)
}

/// Whether half of the lines of one text, or more, stand in another one. Nothing is all of nothing.
fn is_much_of(old: &[u8], new: &[u8]) -> bool {
    if old == new {
        return true;
    }
    let lines = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.map(<[u8]>::to_vec).collect()
    };
    let (old, new): (_, BTreeSet<Vec<u8>>) = (lines(old), lines(new).into_iter().collect());
    let kept = old.iter().filter(|line| new.contains(*line)).count();
    kept > 0 && kept * 2 >= old.len()
}

pub(super) fn changes(plan: &Plan, mode: WriteMode, looked_at_ns: i64) -> Vec<Change> {
    plan.writes()
        .map(|item| {
            let file = match (item.writes_file, item.target) {
                (false, _) => FileChange::None,
                (true, Some(entry)) => FileChange::CheckOut(entry),
                (true, None) => FileChange::Remove,
            };
            let found = match &item.state.work {
                Work::Present(found) => Some(found),
                _ => None,
            };
            let is_settled =
                |look: &FileStat| look.mtime_ns < looked_at_ns - settles_in(look.mtime_ns);
            let look = found.map(|found| found.look).filter(is_settled);
            Change {
                path: item.path().clone(),
                file,
                expects: found.map(|found| found.raw),
                look,
                stages: (mode == WriteMode::Commit).then_some(item.target),
                is_sparse: item.state.is_sparse,
            }
        })
        .collect()
}

fn raw_of(work: &Work) -> Option<Entry> {
    match work {
        Work::Present(found) => Some(found.raw),
        _ => None,
    }
}

/// The overlay once the plan is true; nothing where it does not change.
fn overlay_after(before: &Overlay, plan: &Plan, mode: WriteMode) -> Option<Overlay> {
    let mut after = before.clone();
    for item in plan.writes() {
        match mode {
            WriteMode::Worktree => {
                // What lies under an overlay that is renewed still lies under it.
                let under = match before.paths.get(item.path()) {
                    Some(laid) if item.state.is_overlay => laid.under,
                    _ if item.replaces_work() && item.class != Class::Customised => {
                        Under::Work(raw_of(&item.state.work))
                    }
                    _ => Under::Head,
                };
                after
                    .paths
                    .insert(item.path().clone(), Laid { wrote: item.target, under, look: None });
            }
            WriteMode::Commit => {
                after.paths.remove(item.path());
            }
        }
    }
    (after != *before).then_some(after)
}

/// Reads the context, after fetching if that is wanted.
pub fn read_context(repo: &Repo, fetch: bool) -> Result<Context> {
    if fetch {
        let names = context::names(repo)?;
        let branch = repo.branch_name();
        let follows = branch.as_ref().and_then(|branch| {
            let remote = repo.setting(&format!("branch.{branch}.remote"))?;
            let merge = repo.setting(&format!("branch.{branch}.merge"))?;
            let name = merge.strip_prefix("refs/heads/")?.to_owned();
            (remote == names.remote).then_some(name)
        });
        let mut branches = vec![names.branch.as_str()];
        branches.extend(follows.as_deref());
        repo.fetch(&names.remote, &branches)?;
    }
    context::read(repo)
}

/// Whether a plan leaves anything that `--check` should call drift.
#[must_use]
pub fn has_drift(plan: &Plan, strict: bool) -> bool {
    plan.items.iter().any(|item| match item.class {
        Class::Behind | Class::Sparse => true,
        Class::Customised | Class::Edited | Class::Untracked => strict,
        Class::InSync | Class::Excluded | Class::Unknown => false,
    })
}

/// Whether a run leaves as it is what it was to write: what is behind or is forced and cannot be written,
/// and whatever was asked for by its very name.
#[must_use]
pub fn leaves_behind(plan: &Plan, wishes: &Wishes) -> bool {
    let is_forced = wishes.beyond == Beyond::Force;
    plan.items.iter().any(|item| match (item.action, item.class) {
        (Action::Refuse, Class::Behind | Class::Sparse) => true,
        (Action::Refuse, _) if is_forced => true,
        (Action::Keep | Action::Refuse, _) => {
            wishes.only.contains(item.path()) && item.merge != Some(MergeOutcome::NothingNew)
        }
        _ => false,
    })
}
