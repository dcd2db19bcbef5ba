//! Looks at everything that the decision about a path depends on. Nothing is written.
//!
//! Two trees are compared from the root down, and only where they differ is anything else looked
//! at: the index, the file, the history. Where HEAD is canonical, the file is checked by its size
//! and times and read only if those say that it may have changed.
//!
//! What is about to be replaced is always read, never trusted by its times.

use std::collections::BTreeMap;
use std::fs::Metadata;

use super::classify::{Obstacle, PathState};
use super::context::Context;
use super::deletions::known;
use super::managed::Managed;
use super::obstacles::{Where, goes, obstacles};
use super::overlay::{self, Overlay};
use super::way::once_gone;
use xtask_base::digest::Digest;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{
    CleanLook, CleanRecord, Entry, Filters, Head, Index, Indexed, Known, Mode, NOT_CLEAN, OnDisk,
    OnceCanonical, Pair, PathPatterns, Reached, Repo, Ways, Work, look_of_metadata,
};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only the paths at which HEAD is not canonical: what a hook needs.
    Differences,
    /// All managed paths: also files that were changed where HEAD is canonical.
    Everything,
}

/// What was found.
pub struct Gathered {
    /// The paths that are not simply in sync, in order.
    pub states: Vec<PathState>,
    /// How the managed files of HEAD were found clean, where all of them were looked at.
    pub clean: Option<Clean>,
    /// The index, where it was needed.
    pub index: Option<Index>,
    /// The canonical history, where it was needed.
    pub once: Option<OnceCanonical>,
    /// The overlay that is there.
    pub overlay: Overlay,
}

/// The managed files of HEAD and whether each is clean.
pub struct Clean {
    /// Stands for what HEAD holds.
    pub content: Digest,
    /// How it is known.
    pub found: Found,
}

/// How it is known whether files are clean.
pub enum Found {
    /// By a record that fits.
    ByRecord(CleanRecord),
    /// By the index: all managed files of HEAD, and how each looked that is clean.
    ByIndex(BTreeMap<RepoPath, CleanLook>),
}

impl Clean {
    /// All managed files of HEAD, and how each looked that is clean.
    #[must_use]
    pub fn looks(&self) -> BTreeMap<RepoPath, CleanLook> {
        match &self.found {
            Found::ByRecord(record) => record.looks(),
            Found::ByIndex(seen) => seen.clone(),
        }
    }

    /// All managed files of HEAD.
    #[must_use]
    pub fn paths(&self) -> Vec<RepoPath> {
        match &self.found {
            Found::ByRecord(record) => record.paths(),
            Found::ByIndex(seen) => seen.keys().cloned().collect(),
        }
    }
}

/// What to look at.
pub struct Question<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// What is checked out.
    pub head: &'a Head,
    /// What sync goes by.
    pub context: &'a Context,
    /// What is managed.
    pub managed: &'a Managed,
    /// Only these paths and what is below them; all where it is empty.
    pub only: &'a [RepoPath],
    /// How much.
    pub depth: Depth,
    /// What time it is, in nanoseconds since the epoch.
    pub now_ns: i64,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
}

impl Question<'_> {
    fn wants(&self, path: &RepoPath) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| path == one || path.is_below(one))
    }
}

/// Looks.
pub fn gather(question: &Question<'_>) -> Result<Gathered> {
    let Question { repo, head, context, managed, .. } = question;
    let overlay = overlay::read(repo)?;
    let mut differing =
        repo.compare_trees(Some(head.tree), Some(context.canonical.tree), *managed)?;
    differing.retain(|path, _| question.wants(path));
    let mut disk = Look::new(repo);
    let (suspects, clean) = suspects(question, &mut disk, &differing, &overlay)?;
    let obstacles = obstacles(repo, head, context, managed, &differing, Where::OnDisk)?;
    let once = if differing.values().any(|pair| pair.one.is_some()) {
        let tip = context.canonical.commit;
        Some(repo.once_canonical(tip, *managed, managed.rules(), question.progress)?)
    } else {
        None
    };
    let known = known(repo, head, context, once.as_ref(), &differing, &mut repo.lineage())?;
    let total = (differing.len() + suspects.len()) as u64;
    question.progress.begin("comparing files", Some(total));
    let secrets = PathPatterns::new(context.config.backed_up.iter().map(String::as_str));
    let mut states = Vec::new();
    for (path, pair) in differing.iter().chain(&suspects) {
        let (path, pair) = (path.clone(), *pair);
        question.progress.step(1);
        let known = match known.get(&path) {
            _ if pair.one == pair.two => Known::Once,
            known => known.copied().unwrap_or(Known::Unknown),
        };
        let is_excluded = managed.is_kept_by_branch(&path);
        let state = disk.state(path, pair, &overlay, &differing)?;
        let obstacle = obstacles.get(&state.path).cloned().or(state.obstacle.clone());
        let obstacle = obstacle
            .or_else(|| may_be_secret(repo, &secrets, &state).then_some(Obstacle::MayBeSecret));
        let state = PathState { once: known, obstacle, is_excluded, ..state };
        states.push(state);
    }
    question.progress.end();
    states.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(Gathered { states, clean, index: disk.index, once, overlay })
}

/// Whether a file may be secret and is not saved: what is replaced becomes an object of git, and that is
/// for ever and goes where the repository goes.
fn may_be_secret(repo: &Repo, secrets: &PathPatterns, state: &PathState) -> bool {
    let Work::Present(file) = &state.work else { return false };
    let is_known = |entry: &Entry| {
        [state.head, state.canonical, state.index.entry()].contains(&Some(*entry))
            || repo.has_object(entry.id)
    };
    secrets.decide_with_folders(state.path.as_bytes(), false) == Some(true)
        && !is_known(&file.entry)
        && !is_known(&file.raw)
}

/// The paths at which HEAD is canonical and the file may not be, and how the rest is known.
fn suspects(
    question: &Question<'_>,
    disk: &mut Look<'_>,
    differing: &BTreeMap<RepoPath, Pair>,
    overlay: &Overlay,
) -> Result<(BTreeMap<RepoPath, Pair>, Option<Clean>)> {
    let Question { repo, head, managed, .. } = question;
    let mut suspects = BTreeMap::new();
    let mut suspect = |path: RepoPath, entry: Entry| {
        if question.wants(&path) && !differing.contains_key(&path) {
            suspects.insert(path, Pair { one: Some(entry), two: Some(entry) });
        }
    };
    if question.depth == Depth::Differences {
        for path in overlay.paths.keys() {
            if let Some(entry) = repo.entry_at(head.tree, path)? {
                suspect(path.clone(), entry);
            }
        }
        return Ok((suspects, None));
    }
    let content = repo.managed_fingerprint(head.tree, *managed, managed.rules())?;
    if let Some(record) = repo.clean_record(content) {
        for path in record.suspects(repo)? {
            let Some(entry) = repo.entry_at(head.tree, &path)? else { continue };
            let reached = disk.ways.reach(repo.root(), &path)?;
            if matches!(disk.looks(&path, entry, reached)?, Looks::Different) {
                suspect(path, entry);
            }
        }
        return Ok((suspects, Some(Clean { content, found: Found::ByRecord(record) })));
    }
    let mut seen = BTreeMap::new();
    let listed = repo.list_tree(head.tree, *managed)?;
    let reached = Ways::reach_all(repo.root(), &listed.keys().collect::<Vec<_>>());
    for ((path, entry), reached) in listed.into_iter().zip(reached) {
        let look = disk.looks(&path, entry, reached?)?;
        let is_overlay = overlay.paths.contains_key(&path);
        match look {
            Looks::Same(meta) if !is_overlay => {
                seen.insert(path, look_of_metadata(&meta));
            }
            Looks::NoFile if !is_overlay => {
                seen.insert(path, NOT_CLEAN);
            }
            _ => {
                seen.insert(path.clone(), NOT_CLEAN);
                suspect(path, entry);
            }
        }
    }
    Ok((suspects, Some(Clean { content, found: Found::ByIndex(seen) })))
}

/// Looks at the working tree, and at the index once it is needed.
struct Look<'r> {
    repo: &'r Repo,
    ways: Ways,
    index: Option<Index>,
    filters: Option<Filters<'r>>,
    left_out: Option<PathPatterns>,
}

impl<'r> Look<'r> {
    fn new(repo: &'r Repo) -> Self {
        Look { repo, ways: Ways::default(), index: None, filters: None, left_out: None }
    }

    fn prepare(&mut self) -> Result<()> {
        if self.index.is_none() {
            let index = self.repo.index()?;
            self.filters = Some(self.repo.clean_filters(&index)?);
            self.left_out = self.repo.sparse_patterns()?;
            self.index = Some(index);
        }
        Ok(())
    }

    /// How a file looks beside what HEAD holds, by its size and times.
    fn looks(&mut self, path: &RepoPath, entry: Entry, reached: Reached) -> Result<Looks> {
        self.prepare()?;
        let index = self.index.as_ref().expect("because it was just read");
        if entry.mode == Mode::Gitlink {
            return Ok(Looks::NoFile);
        }
        let staged = self.repo.staged(index, path)?;
        Ok(match (staged, reached) {
            (Indexed::Entry { is_skipped: true, .. }, Reached::Not(Work::Absent)) => Looks::NoFile,
            (_, Reached::There(meta))
                if staged.entry() == Some(entry) && index.is_fresh(path, &meta) =>
            {
                Looks::Same(meta)
            }
            _ => Looks::Different,
        })
    }

    fn state(
        &mut self,
        path: RepoPath,
        pair: Pair,
        overlay: &Overlay,
        differing: &BTreeMap<RepoPath, Pair>,
    ) -> Result<PathState> {
        self.prepare()?;
        let index = self.index.as_ref().expect("because it was just read");
        let filters = self.filters.as_mut().expect("because they come with the index");
        let staged = self.repo.staged(index, &path)?;
        let expected = staged.entry().or(pair.one).or(pair.two);
        let work = self.repo.work(&path, expected, &mut self.ways, filters, index)?;
        let is_laid = |path: &RepoPath| {
            let laid = overlay.paths.get(path);
            laid.is_some_and(|laid| laid.is_file_on_disk(self.repo, path))
        };
        let work =
            once_gone(self.repo, &path, work, &|path| goes(path, differing) || is_laid(path))?;
        // What is staged there and does not go is in the way as much as what is committed.
        let obstacle = if pair.one.is_none() && pair.two.is_some() && staged == Indexed::Absent {
            let staged = index.in_the_way(&path);
            staged.into_iter().find(|other| !goes(other, differing)).map(Obstacle::InTheWay)
        } else {
            None
        };
        // A file that still is what sync laid there holds what sync wrote, however it reads now.
        let laid = overlay.paths.get(&path);
        let work = match (work, laid) {
            (Work::Present(file), Some(laid)) if laid.is_still_there(Some(&file)) => {
                Work::Present(OnDisk { entry: laid.wrote.unwrap_or(file.entry), ..file })
            }
            (work, _) => work,
        };
        let found = match &work {
            Work::Present(file) => Some(file),
            _ => None,
        };
        let on_disk = found.map(|file| file.entry);
        let is_sparse = work == Work::Absent
            && match staged {
                Indexed::Entry { is_skipped, .. } => is_skipped,
                Indexed::Absent => self.left_out.as_ref().is_some_and(|patterns| {
                    patterns.decide_with_folders(path.as_bytes(), false) != Some(true)
                }),
                _ => false,
            };
        let is_overlay = on_disk != pair.two
            && matches!(work, Work::Present(_) | Work::Absent)
            && laid.is_some_and(|laid| laid.is_still_there(found))
            && on_disk != pair.one;
        Ok(PathState {
            path,
            head: pair.one,
            canonical: pair.two,
            index: staged,
            work,
            once: Known::Unknown,
            is_overlay,
            is_sparse,
            is_excluded: false,
            obstacle,
        })
    }
}

/// How a file looks beside what HEAD holds.
enum Looks {
    /// As git last saw it with that content.
    Same(Metadata),
    /// There is to be none here: a submodule, or left out by sparse checkout.
    NoFile,
    /// It may have another content.
    Different,
}
