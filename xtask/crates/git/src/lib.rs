//! Git: the only place that knows the gix library or starts the git program.
//!
//! Everything above speaks in ids, entries and paths. gix reads and writes objects, refs and the
//! index in this process; the git program is started only for what a user would see git do (fetch,
//! switch, diff, reset).

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_GIT");

mod canonical;
mod changes;
mod clean;
mod commits;
mod export;
mod filters;
mod forecast;
mod format;
mod gates;
mod git;
mod head;
mod history;
mod hooks_folder;
mod index;
mod inputs;
mod laid;
mod leave;
mod merge;
mod pack;
mod partial;
mod paths;
mod patterns;
mod push;
mod put;
mod ref_writer;
mod refs;
mod reftable;
mod remotes;
mod revspec;
mod shared;
mod source;
mod staged;
mod tools;
mod tree;
mod trust;
mod work;
mod workbench;
mod worktrees;

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use canonical::{Canonical, Resolved};
pub use changes::{Changes, InIndex};
pub use clean::{CleanLook, CleanRecord, NOT_CLEAN, look_of_metadata};
pub use commits::{Carried, CommitInfo, Lineage, NewCommit, Stamp};
pub use filters::Filters;
pub use forecast::Forecast;
pub use gates::{Operation, OperationKind};
pub use git::{PUSHING, PushTo, WouldPush, is_git};
pub use gix::ObjectId as Id;
pub use head::Head;
pub use history::{Known, OnceCanonical};
pub use hooks_folder::{HooksFolder, NamedBy};
pub use index::{Index, IndexStamp, Indexed, Staged};
pub use inputs::{Among, FoundFiles, Globs, Ignores, may_lead_through};
pub use leave::Traces;
pub use merge::{MergeAs, MergeRules, Merged, changed_lines, three_way};
pub use pack::Pack;
pub use paths::{collisions, unsafe_name};
pub use patterns::{NamePattern, PathPatterns};
pub use push::{Pushed, RefPush};
pub use put::may_write;
pub use ref_writer::RefChange;
pub use remotes::RemoteUrl;
pub use revspec::Named;
pub use shared::share_all;
pub use staged::StagedChange;
pub use tools::Tools;
pub use tree::{Below, Entry, Everything, LookedUp, Mode, Pair, Scope, TreeChange};
pub use work::{FileStat, OnDisk, Reached, Ways, Work, read_raw};
pub use worktrees::{InUse, Worktree};

use partial::Promises;
use reftable::Said;

use xtask_base::error::{Context, Error, Result};
use xtask_base::folders::{Folders, state_below};
use xtask_base::world::World;

/// How much decoded object data is kept, in bytes: enough for the trees of a few hundred commits.
const OBJECT_CACHE: usize = 8 << 20;

/// A repository as seen from one of its worktrees.
pub struct Repo {
    git: gix::Repository,
    root: PathBuf,
    common: PathBuf,
    promises: Promises,
    /// Whether git finds it from its files only if it is told where it is.
    is_elsewhere: bool,
    /// The permissions that others get on what is made here, once it is known that something is.
    shared: Cell<Option<u32>>,
    said: Said,
}

impl Repo {
    /// The repository that holds `folder`, found upwards as git does.
    pub fn discover(folder: &Path) -> Result<Repo> {
        let options = || {
            let mut options = gix::open::Options::default();
            // Git asks for a safe round trip of line ends when something is added, not when it looks.
            let no_check = ["core.safecrlf=false"];
            options.modify(|options| options.bail_if_untrusted(true).config_overrides(no_check));
            options
        };
        let trust = gix::sec::trust::Mapping { full: options(), reduced: options() };
        let opened = gix::ThreadSafeRepository::discover_opts(folder, Default::default(), trust);
        let is_own = |git: &gix::ThreadSafeRepository| {
            let tree = git.to_thread_local().workdir().map(Path::to_path_buf);
            let tree = tree.into_iter().flat_map(|tree| [tree.join(".git"), tree]);
            tree.chain([git.git_dir().to_path_buf()]).all(|path| trust::is_ours(&path))
        };
        let git = match opened {
            Ok(git) if is_own(&git) => git,
            Err(cause) if !trust::is_about_trust(&cause) => return Err(not_opened(folder, cause)),
            // Whether what belongs to somebody else is trusted is for git to say.
            _ => {
                let found = trust::ask_git(folder)?;
                let options = options().with(gix::sec::Trust::Full).bail_if_untrusted(false);
                let opened = gix::ThreadSafeRepository::open_opts(found, options);
                opened.map_err(|cause| not_opened(folder, cause))?
            }
        };
        Repo::of(git.to_thread_local())
    }

    /// The repository for which git runs a hook: the one around the folder, or the one that git was told of
    /// (`--git-dir`, `GIT_DIR`, `core.worktree`), which may be anywhere.
    pub fn of_hook(world: &World) -> Result<Repo> {
        let variable =
            |name: &str| world.env.get(OsStr::new(name)).filter(|value| !value.is_empty());
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
                    .map_err(|cause| not_opened(&told, cause))
            };
        let git = match &tree {
            Some(tree) => open(Some(tree))?,
            // The configuration may say where the files are; if not, git runs hooks among them.
            None => {
                let git = open(None)?;
                let is_told =
                    git.to_thread_local().config_snapshot().string("core.worktree").is_some();
                if is_told { git } else { open(Some(&real(&world.cwd)))? }
            }
        };
        let mut repo = Repo::of(git.to_thread_local())?;
        repo.is_elsewhere = true;
        Ok(repo)
    }

    fn of(mut git: gix::Repository) -> Result<Repo> {
        git.object_cache_size_if_unset(OBJECT_CACHE);
        let Some(root) = git.workdir().map(Path::to_path_buf) else {
            return Err(Error::unable(format!(
                "`{}` is a bare repository: it has no files to bring up to date",
                git.git_dir().display()
            ))
            .hint("run this in a worktree of it; `git worktree add` makes one"));
        };
        let root = if root.is_absolute() { root } else { git.current_dir().join(root) };
        let root = root.canonicalize().unable(|| format!("`{}` cannot be read", root.display()))?;
        // For a linked worktree it leads up again from the worktree's own git folder.
        let common = git.common_dir();
        let common = common.canonicalize().unwrap_or_else(|_| common.to_path_buf());
        // Where `core.worktree` says where the files are, git finds no way back from there.
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
            promises: Promises::default(),
            is_elsewhere,
            shared: Cell::default(),
            said: Said::default(),
        })
    }

    /// The same repository, where objects that are written stay in memory and are gone with it: for
    /// what only looks and has to know how the result would be called.
    #[must_use]
    pub fn in_memory(&self) -> Repo {
        let again = self.again();
        Repo { git: again.git.with_object_memory(), ..again }
    }

    /// Whether another repository lies where the files of this one are said to be.
    #[must_use]
    pub fn lies_in_another(&self) -> bool {
        self.is_elsewhere && self.root.join(".git").symlink_metadata().is_ok()
    }

    /// The same repository once more.
    fn again(&self) -> Repo {
        let (git, root, common) = (self.git.clone(), self.root.clone(), self.common.clone());
        Repo {
            git,
            root,
            common,
            promises: self.promises.clone(),
            is_elsewhere: self.is_elsewhere,
            shared: Cell::default(),
            said: Said::default(),
        }
    }

    /// The folder that holds the files.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The git folder of this very worktree.
    #[must_use]
    pub fn git_folder(&self) -> &Path {
        self.git.git_dir()
    }

    /// The git folder that all worktrees share.
    #[must_use]
    pub fn common_folder(&self) -> &Path {
        &self.common
    }

    /// All of these folders.
    #[must_use]
    pub fn folders(&self) -> Folders {
        Folders {
            root: self.root.clone(),
            git: self.git.git_dir().to_path_buf(),
            common: self.common.clone(),
        }
    }

    /// Where state of this worktree is kept. It may not exist yet.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        state_below(self.git.git_dir())
    }

    /// Where state that all worktrees share is kept. It may not exist yet.
    #[must_use]
    pub fn shared_state_folder(&self) -> PathBuf {
        state_below(&self.common)
    }

    /// The id of an object, shortened for people.
    #[must_use]
    pub fn short(&self, id: Id) -> String {
        id.to_hex_with_len(10).to_string()
    }

    /// The id of nothing, of this repository's kind.
    #[must_use]
    pub fn null_id(&self) -> Id {
        Id::null(self.git.object_hash())
    }

    /// The id of the tree that holds nothing.
    #[must_use]
    pub fn empty_tree(&self) -> Id {
        Id::empty_tree(self.git.object_hash())
    }

    /// Whether history is cut off somewhere.
    #[must_use]
    pub fn is_shallow(&self) -> bool {
        self.git.is_shallow().unwrap_or(false)
    }

    /// A value of git's configuration.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<String> {
        self.git.config_snapshot().string(key).map(|value| value.to_string())
    }

    /// A yes or no of git's configuration.
    #[must_use]
    pub fn setting_is(&self, key: &str, otherwise: bool) -> bool {
        self.git.config_snapshot().boolean(key).unwrap_or(otherwise)
    }

    /// Whether git was told to leave it to the system when its files reach the disk: `core.fsync`, a
    /// list of what is waited for, says `none` and nothing after it.
    #[must_use]
    pub fn skips_fsync(&self) -> bool {
        let setting = self.setting("core.fsync").unwrap_or_default();
        setting.rsplit(',').map(str::trim).find(|word| !word.is_empty()) == Some("none")
    }

    /// The content of a blob.
    pub fn blob(&self, id: Id) -> Result<Vec<u8>> {
        if !self.has_object(id) && self.is_partial() {
            self.bring([(id, id.to_string())])?;
        }
        let mut blob = self.git.find_blob(id).map_err(|cause| self.unreadable(id, cause))?;
        Ok(std::mem::take(&mut blob.data))
    }

    /// The size of an object in bytes, without its content.
    pub fn object_size(&self, id: Id) -> Result<u64> {
        Ok(self.git.find_header(id).map_err(|cause| self.unreadable(id, cause))?.size())
    }

    /// Writes a blob.
    pub fn write_blob(&self, content: &[u8]) -> Result<Id> {
        let id = self.git.write_blob(content).unable(|| "an object cannot be written")?;
        self.share_object(id.detach());
        Ok(id.detach())
    }

    /// Whether an object is there.
    #[must_use]
    pub fn has_object(&self, id: Id) -> bool {
        self.git.has_object(id)
    }

    /// The id that content would have as a blob; nothing is written.
    pub fn blob_id(&self, content: &[u8]) -> Result<Id> {
        gix::objs::compute_hash(self.git.object_hash(), gix::objs::Kind::Blob, content)
            .unable(|| "an object id cannot be computed")
    }

    fn unreadable(
        &self,
        id: Id,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let error = Error::unable(format!("object `{id}` cannot be read")).because(cause);
        if self.is_partial() {
            error.hint("this is a partial clone; `git fetch --refetch --no-filter` completes it")
        } else {
            error.hint("`git fsck` checks the repository")
        }
    }
}

fn not_opened(folder: &Path, cause: gix::Error) -> Error {
    let text = format!("{cause:?}");
    if cause.is_not_found() && text.contains("Could not find a git repository") {
        return Error::unable(format!("`{}` is not inside a git repository", folder.display()))
            .hint("change to the repository, or name a folder of it with -C");
    }
    Error::unable(format!("the repository at `{}` cannot be opened", folder.display()))
        .because(cause)
}
