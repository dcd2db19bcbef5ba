//! Git access: the only crate that knows the gix library or starts the `git` program.
//!
//! All other crates work with `Id`, `TreeEntry` and `RepoPath`. gix reads and writes objects, refs
//! and the index in this process; the `git` program runs only for commands that a user would see it
//! run (fetch, switch, diff, reset) and for data that gix cannot read, e.g. a `reftable`.
//!
//! ```text
//! Repo::discover("/work/app/src") -> Repo { root: "/work/app", common: "/work/app/.git" }
//! ```

// Makes cargo rebuild this crate if checkouts that share a target folder have different sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_GIT");

mod abort_operation;
mod canonical;
mod canonical_history;
mod changed_paths;
mod checkout_tree;
mod commits;
mod export;
mod file_globs;
mod filters;
mod git_cli;
mod head;
mod hooks_folder;
mod index;
mod local_git;
mod merge;
mod merge_preview;
mod operation_state;
mod pack;
mod partial_clone;
mod patterns;
mod push;
mod ref_writer;
pub mod reflog_messages;
mod refs;
mod reftable;
mod remotes;
mod replace_file;
mod restage;
mod revspec;
mod safe_directory;
mod shared_permissions;
mod side_refs;
mod source_repo;
mod staged_changes;
mod staged_export;
mod stat_record;
mod state_format;
mod temp_worktree;
mod tools;
mod tree;
mod unsafe_paths;
mod worktree_changes;
mod worktree_file;
mod worktrees;

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use abort_operation::OperationSnapshot;
pub use canonical::{CanonicalChoice, CanonicalCommit};
pub use canonical_history::{CanonicalHistory, EverCanonical};
pub use changed_paths::ChangedPaths;
pub use checkout_tree::can_write_in;
pub use commits::{CommitInfo, MergeBaseFinder, NewCommit, ReplayedCommit, Signature};
pub use file_globs::{FileGlobs, FoundFiles, IgnoreRules, SearchScope, may_match_behind_link};
pub use filters::Filters;
pub use git_cli::{GIT, PUSHING, PushHookMode, RefPushPreview, is_git};
pub use gix::ObjectId as Id;
pub use head::{Head, branch_of_ref, short_ref};
pub use hooks_folder::{HooksFolder, HooksPathScope};
pub use index::{Index, IndexStamp, IndexStatus, IndexUpdate};
pub use merge::{MergeAttributes, MergeDriver, TextMerge, count_changed_lines, merge_three_way};
pub use merge_preview::MergePreview;
pub use operation_state::{Operation, OperationKind};
pub use pack::Pack;
pub use patterns::{BranchPattern, PathPatterns};
pub use push::{PushStatus, RefPush};
pub use ref_writer::RefUpdate;
pub use refs::{RefSnapshot, UnusableRef};
pub use remotes::RemoteUrl;
pub use replace_file::{KnownFile, read_regular_file, replace_unchanged};
pub use restage::{FixedFile, RestagedFile};
pub use revspec::Revision;
pub use shared_permissions::run_scheduled_sharing;
pub use staged_changes::StagedChange;
pub use stat_record::{NO_STAT, StatData, StatRecord, stat_data_from_metadata};
pub use tools::Tools;
pub use tree::{
    AllPaths, EntryPair, FileMode, PathScope, PathsBelow, TreeChange, TreeComparer, TreeEntry,
    TreeItem,
};
pub use unsafe_paths::{find_case_collisions, unsafe_path_reason};
pub use worktree_changes::{IndexChange, WorktreeChanges};
pub use worktree_file::{
    FileStat, PathCache, PathLookup, WorktreeFile, WorktreeItem, read_raw_file,
};
pub use worktrees::{BranchInUse, Worktree};

use partial_clone::PromisorState;
use reftable::RefCache;

use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::worktree_paths::{WorktreePaths, state_folder_in};

/// Size of gix's cache of decoded objects, in bytes: enough for the trees of a few hundred commits.
const OBJECT_CACHE: usize = 8 << 20;

/// A repository, seen from one of its worktrees.
pub struct Repo {
    git: gix::Repository,
    root: PathBuf,
    common: PathBuf,
    promises: PromisorState,
    /// Whether git finds the repository from its files only with `GIT_DIR` and `GIT_WORK_TREE` set.
    needs_git_dir: bool,
    /// The permission bits to add for other users, from `core.sharedRepository`; set by
    /// `schedule_sharing`.
    shared_mode: Cell<Option<u32>>,
    ref_cache: RefCache,
    /// Whether there is a commit graph, once somebody has asked.
    has_commit_graph: OnceCell<bool>,
}

impl Repo {
    /// Opens the repository that contains `folder`, searching upwards as git does.
    pub fn discover(folder: &Path) -> Result<Repo> {
        Repo::discover_or_hint(folder, Some(OUTSIDE_HINT))
    }

    /// Like [`Repo::discover`] for a folder that an argument names: `-C` would not help.
    pub fn discover_argument(folder: &Path) -> Result<Repo> {
        Repo::discover_or_hint(folder, None)
    }

    /// Opens the repository of `folder`. Returns an error with `hint` if there is none.
    fn discover_or_hint(folder: &Path, hint: Option<&str>) -> Result<Repo> {
        let options = || {
            let mut options = gix::open::Options::default();
            // Git checks the round trip of line ends (`core.safecrlf`) on `git add`, not when it
            // compares.
            let no_check = ["core.safecrlf=false"];
            options.modify(|options| options.bail_if_untrusted(true).config_overrides(no_check));
            options
        };
        let trust = gix::sec::trust::Mapping { full: options(), reduced: options() };
        let opened = gix::ThreadSafeRepository::discover_opts(folder, Default::default(), trust);
        let is_own = |git: &gix::ThreadSafeRepository| {
            let tree = git.to_thread_local().workdir().map(Path::to_path_buf);
            let tree = tree.into_iter().flat_map(|tree| [tree.join(".git"), tree]);
            tree.chain([git.git_dir().to_path_buf()])
                .all(|path| safe_directory::is_owned_by_user(&path))
        };
        let git = match opened {
            Ok(git) if is_own(&git) => git,
            Err(cause) if !safe_directory::is_trust_error(&cause) => {
                return Err(open_error(folder, cause, hint));
            }
            // Git decides by `safe.directory` whether a repository of another user is trusted.
            _ => {
                let found = safe_directory::find_trusted_git_dir(folder)?;
                let options = options().with(gix::sec::Trust::Full).bail_if_untrusted(false);
                let opened = gix::ThreadSafeRepository::open_opts(found, options);
                opened.map_err(|cause| open_error(folder, cause, hint))?
            }
        };
        Repo::from_gix(git.to_thread_local())
    }

    /// Opens the repository for which git runs a hook: the one around the current folder, or the
    /// one that `GIT_DIR`, `--git-dir` or `core.worktree` selects, which may be anywhere.
    pub fn discover_for_hook(world: &Environment) -> Result<Repo> {
        let variable =
            |name: &str| world.variables.get(OsStr::new(name)).filter(|value| !value.is_empty());
        let Some(told) = variable("GIT_DIR") else { return Repo::discover(&world.cwd) };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let told = real(&world.cwd.join(told));
        let tree = variable("GIT_WORK_TREE").map(|tree| real(&world.cwd.join(tree)));
        match Repo::discover(&world.cwd) {
            Ok(repo)
                if real(repo.git_folder()) == told
                    && tree.as_ref().is_none_or(|tree| *tree == repo.root()) =>
            {
                return Ok(repo);
            }
            _ => {}
        }
        let open =
            |tree: Option<&Path>| {
                let mut overrides: Vec<gix::bstr::BString> = vec!["core.safecrlf=false".into()];
                overrides.extend(tree.map(|tree| {
                    [&b"core.worktree="[..], tree.as_os_str().as_bytes()].concat().into()
                }));
                let options = gix::open::Options::default().with(gix::sec::Trust::Full);
                let options = options.config_overrides(overrides);
                gix::ThreadSafeRepository::open_opts(&told, options)
                    .map_err(|cause| open_error(&told, cause, Some(OUTSIDE_HINT)))
            };
        let git = match &tree {
            Some(tree) => open(Some(tree))?,
            // `core.worktree` may name the worktree; if unset, git runs hooks in its root.
            None => {
                let git = open(None)?;
                let is_told =
                    git.to_thread_local().config_snapshot().string("core.worktree").is_some();
                if is_told { git } else { open(Some(&real(&world.cwd)))? }
            }
        };
        let mut repo = Repo::from_gix(git.to_thread_local())?;
        repo.needs_git_dir = true;
        Ok(repo)
    }

    fn from_gix(mut git: gix::Repository) -> Result<Repo> {
        git.object_cache_size_if_unset(OBJECT_CACHE);
        let Some(root) = git.workdir().map(Path::to_path_buf) else {
            return Err(Error::unable(format!(
                "`{}` is a bare repository: this command needs a working tree",
                git.git_dir().display()
            ))
            .with_hint("run this in one of its worktrees; `git worktree add` creates one"));
        };
        let root = if root.is_absolute() { root } else { git.current_dir().join(root) };
        let root =
            root.canonicalize().with_context(|| format!("cannot read `{}`", root.display()))?;
        // In a linked worktree, gix returns a path with `..`, relative to the worktree's own git
        // folder.
        let common = git.common_dir();
        let common = common.canonicalize().unwrap_or_else(|_| common.to_path_buf());
        // With `core.worktree` set, git cannot find the repository from the root of the worktree.
        let is_elsewhere = match root.join(".git").canonicalize() {
            Err(_) => true,
            Ok(found) if found.is_dir() => {
                git.config_snapshot().string("core.worktree").is_some()
                    && git.git_dir().canonicalize().is_ok_and(|own| own != found)
            }
            Ok(_) => false,
        };
        Ok(Repo {
            git,
            root,
            common,
            promises: PromisorState::default(),
            needs_git_dir: is_elsewhere,
            shared_mode: Cell::default(),
            ref_cache: RefCache::default(),
            has_commit_graph: OnceCell::new(),
        })
    }

    /// Returns a handle that keeps written objects in memory and drops them with the handle: for dry
    /// runs that need the id of a result, and for `Pack::take_from`.
    #[must_use]
    pub fn in_memory(&self) -> Repo {
        let again = self.clone_handle();
        Repo { git: again.git.with_object_memory(), ..again }
    }

    /// Returns whether `core.worktree` or `GIT_WORK_TREE` points to the root of another repository.
    #[must_use]
    pub fn is_in_another_repo(&self) -> bool {
        self.needs_git_dir && self.root.join(".git").symlink_metadata().is_ok()
    }

    fn clone_handle(&self) -> Repo {
        let (git, root, common) = (self.git.clone(), self.root.clone(), self.common.clone());
        Repo {
            git,
            root,
            common,
            promises: self.promises.clone(),
            needs_git_dir: self.needs_git_dir,
            shared_mode: Cell::default(),
            ref_cache: RefCache::default(),
            has_commit_graph: OnceCell::new(),
        }
    }

    /// Returns the root of the worktree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the git folder of this worktree, e.g. `.git` or `.git/worktrees/NAME`.
    #[must_use]
    pub fn git_folder(&self) -> &Path {
        self.git.git_dir()
    }

    /// Returns the git folder that all worktrees share (`git rev-parse --git-common-dir`).
    #[must_use]
    pub fn common_folder(&self) -> &Path {
        &self.common
    }

    /// Returns `root`, `git_folder` and `common_folder` together.
    #[must_use]
    pub fn folders(&self) -> WorktreePaths {
        WorktreePaths {
            root: self.root.clone(),
            git_dir: self.git.git_dir().to_path_buf(),
            common_dir: self.common.clone(),
        }
    }

    /// Returns the folder for state of this worktree, `xtask` in `git_folder`. It may not exist
    /// yet.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        state_folder_in(self.git.git_dir())
    }

    /// Returns the folder for state of all worktrees, `xtask` in `common_folder`. It may not exist
    /// yet.
    #[must_use]
    pub fn shared_state_folder(&self) -> PathBuf {
        state_folder_in(&self.common)
    }

    /// Returns the first 10 hex digits of `id`.
    #[must_use]
    pub fn short_id(&self, id: Id) -> String {
        id.to_hex_with_len(10).to_string()
    }

    /// Returns the null id (all zeros) in this repository's hash kind, SHA-1 or SHA-256.
    #[must_use]
    pub fn null_id(&self) -> Id {
        Id::null(self.git.object_hash())
    }

    /// Returns the id of the empty tree.
    #[must_use]
    pub fn empty_tree(&self) -> Id {
        Id::empty_tree(self.git.object_hash())
    }

    /// Returns whether this is a shallow clone.
    #[must_use]
    pub fn is_shallow(&self) -> bool {
        self.git.is_shallow().unwrap_or(false)
    }

    /// Returns the value of `key` in git's configuration, e.g. `user.name`.
    #[must_use]
    pub fn config_value(&self, key: &str) -> Option<String> {
        self.git.config_snapshot().string(key).map(|value| value.to_string())
    }

    /// Returns the boolean `key` of git's configuration, or `otherwise` if unset or invalid.
    #[must_use]
    pub fn config_bool(&self, key: &str, otherwise: bool) -> bool {
        self.git.config_snapshot().boolean(key).unwrap_or(otherwise)
    }

    /// Returns whether `core.fsync` leaves it to the system when files reach the disk: its last
    /// component is `none`.
    #[must_use]
    pub fn skips_fsync(&self) -> bool {
        let setting = self.config_value("core.fsync").unwrap_or_default();
        setting.rsplit(',').map(str::trim).find(|word| !word.is_empty()) == Some("none")
    }

    /// Reads the content of a blob; in a partial clone, fetches the blob first if `may_fetch`.
    pub fn read_blob(&self, id: Id) -> Result<Vec<u8>> {
        if !self.has_object(id) && self.is_partial() {
            self.fetch_objects([(id, id.to_string())])?;
        }
        let mut blob = self.git.find_blob(id).map_err(|cause| self.unreadable_error(id, cause))?;
        Ok(std::mem::take(&mut blob.data))
    }

    /// Returns the size of an object in bytes, without reading its content.
    pub fn object_size(&self, id: Id) -> Result<u64> {
        Ok(self.git.find_header(id).map_err(|cause| self.unreadable_error(id, cause))?.size())
    }

    /// Writes a blob and returns its id.
    pub fn write_blob(&self, content: &[u8]) -> Result<Id> {
        let id = self.git.write_blob(content).with_context(|| "cannot write an object")?;
        self.share_object(id.detach());
        Ok(id.detach())
    }

    /// Returns whether the object exists in this clone.
    #[must_use]
    pub fn has_object(&self, id: Id) -> bool {
        self.git.has_object(id)
    }

    /// Computes the id of `content` as a blob, without writing it.
    pub fn blob_id(&self, content: &[u8]) -> Result<Id> {
        gix::objs::compute_hash(self.git.object_hash(), gix::objs::Kind::Blob, content)
            .with_context(|| "cannot compute an object id")
    }

    fn unreadable_error(
        &self,
        id: Id,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let error = Error::unable(format!("cannot read object `{id}`")).with_cause(cause);
        if self.is_partial() {
            error.with_hint(
                "this is a partial clone; `git fetch --refetch --no-filter` completes it",
            )
        } else {
            error.with_hint("`git fsck` checks the repository")
        }
    }
}

/// The hint if the working folder is in no repository.
const OUTSIDE_HINT: &str = "change to the repository, or name a folder of it with -C";

fn open_error(folder: &Path, cause: gix::Error, hint: Option<&str>) -> Error {
    let text = format!("{cause:?}");
    if cause.is_not_found() && text.contains("Could not find a git repository") {
        let error = Error::unable(format!("`{}` is not inside a git repository", folder.display()));
        return hint.into_iter().fold(error, Error::with_hint);
    }
    Error::unable(format!("cannot open the repository at `{}`", folder.display())).with_cause(cause)
}
