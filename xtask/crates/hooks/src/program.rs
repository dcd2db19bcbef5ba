//! The installed program that the shims run, independent of the checked-out branch.
//!
//! The program is built from the canonical commit, in a folder outside of every repository, so that neither the files
//! nor the cargo configuration of a branch influence it. Updates replace the link `xtask` in one step.
//!
//! ```text
//! <common git folder>/xtask/bin/xtask                    link to the present program
//! <common git folder>/xtask/bin/xtask-0123456789abcdef   program, named after the digest of its sources
//! <common git folder>/xtask/bin/record                   file name, digest and size of the program
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program_build::VERSION_WAIT;
use super::program_store;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk, FileId, is_executable};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::process::Program;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{Id, Repo, TreeEntry, TreeItem};
use xtask_sync::context::SyncContext;

const KIND: &str = "xtask.program/1";

/// The paths that determine how the program is built.
pub(super) const SOURCE_PATHS: [&str; 4] =
    [NAME, ".cargo/config.toml", "rust-toolchain.toml", "rust-toolchain"];

/// The number of old programs to keep, for hooks that are running at this moment.
const OLD_PROGRAMS_KEPT: usize = 1;

/// The record of the installed program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRecord {
    pub file: String,
    /// The key of its sources; `None` for a copy of a running program.
    pub sources: Option<String>,
    /// The canonical commit from which the program was built.
    pub commit: Option<String>,
    /// The digest of the file, as hex.
    pub digest: String,
    /// The size in bytes.
    pub size: u64,
}

/// How thoroughly the installed program is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Name, size and permissions: cheap enough for `status`.
    Metadata,
    /// The digest of the content as well.
    Content,
}

/// The state of the installed program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstalledProgram {
    /// Not installed.
    Missing,
    /// Unusable, for this reason.
    Broken(String),
    /// Identical to the program that was installed.
    Intact(ProgramRecord),
}

impl InstalledProgram {
    /// Returns whether it was built from other sources than the present canonical ones. `None` if that is unknown: it is
    /// missing or broken, a copy of a running program, or the canonical commit has no sources.
    pub fn is_outdated(&self, repo: &Repo, context: &SyncContext) -> Result<Option<bool>> {
        let InstalledProgram::Intact(ProgramRecord { sources: Some(built), .. }) = self else {
            return Ok(None);
        };
        Ok(compute_source_key(repo, context)?.map(|present| present != *built))
    }
}

/// Returns the folder of the installed programs.
#[must_use]
pub fn program_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("bin")
}

/// Returns the path that the shims run.
#[must_use]
pub fn program_link(repo: &Repo) -> PathBuf {
    program_folder(repo).join("xtask")
}

fn record_path(repo: &Repo) -> PathBuf {
    program_folder(repo).join("record")
}

/// Inspects the installed program.
#[must_use]
pub fn inspect_program(repo: &Repo, care: VerifyDepth) -> InstalledProgram {
    let record = match record::read_record::<ProgramRecord>(&record_path(repo), KIND) {
        LoadedRecord::Missing if program_link(repo).symlink_metadata().is_err() => {
            return InstalledProgram::Missing;
        }
        LoadedRecord::Missing => {
            return InstalledProgram::Broken("its record is missing".to_owned());
        }
        LoadedRecord::Newer => return InstalledProgram::Broken(record::NEWER_MESSAGE.to_owned()),
        LoadedRecord::Corrupt(why) => return InstalledProgram::Broken(why),
        LoadedRecord::Valid(record) => record,
    };
    let points_to = fs::read_link(program_link(repo)).ok();
    if points_to.as_deref() != Some(Path::new(&record.file)) {
        return InstalledProgram::Broken(
            "the link does not point to the installed program".to_owned(),
        );
    }
    let Ok(meta) = fs::metadata(program_link(repo)) else {
        return InstalledProgram::Broken("its file is missing".to_owned());
    };
    if !is_executable(&meta) {
        return InstalledProgram::Broken("its file is not executable".to_owned());
    }
    if meta.len() != record.size {
        return InstalledProgram::Broken("the size of its file has changed".to_owned());
    }
    if care == VerifyDepth::Metadata {
        return InstalledProgram::Intact(record);
    }
    match fs::read(program_link(repo)) {
        Ok(bytes) if hex_digest(&bytes) == record.digest => InstalledProgram::Intact(record),
        Ok(_) => InstalledProgram::Broken("its file has changed".to_owned()),
        Err(cause) => InstalledProgram::Broken(cause.to_string()),
    }
}

/// Returns the key of all sources of the program, or `None` if the canonical commit has no sources.
pub fn compute_source_key(repo: &Repo, context: &SyncContext) -> Result<Option<String>> {
    let tree = context.canonical.tree;
    if repo.entry_at(tree, &RepoPath::new(in_toolkit!("Cargo.toml")))?.is_none() {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for name in SOURCE_PATHS {
        let id = find_id(repo, tree, name)?;
        parts.push(id.map_or_else(Vec::new, |id| id.as_slice().to_vec()));
    }
    let key = digest::hash_parts(parts.iter().map(Vec::as_slice));
    Ok(Some(digest::to_hex(&key)[..16].to_owned()))
}

/// Returns the id of a file or folder in a tree.
fn find_id(repo: &Repo, tree: Id, name: &str) -> Result<Option<Id>> {
    Ok(match repo.find_in_tree(tree, &RepoPath::new(name))? {
        Some(TreeItem::Entry(TreeEntry { id, .. }) | TreeItem::Folder(id)) => Some(id),
        None => None,
    })
}

/// Builds and installs the program.
pub struct ProgramInstaller<'a> {
    pub repo: &'a Repo,
    pub world: &'a Environment,
    pub disk: &'a Disk<'a>,
    /// Whether cargo runs with `--quiet`.
    pub is_quiet: bool,
}

impl ProgramInstaller<'_> {
    /// Returns whether the program with the key `sources`, or a copy of the running program if `None`, is installed and
    /// intact. Returns an error if a newer xtask has installed its program, which must not be replaced.
    pub fn is_up_to_date(&self, sources: Option<&str>) -> Result<bool> {
        let file = record_path(self.repo);
        if let LoadedRecord::Newer = record::read_record::<ProgramRecord>(&file, KIND) {
            return Err(record::newer_record_error("the record of the installed program", &file));
        }
        // If the installed program is the running file itself, no comparison is needed.
        if sources.is_none() && self.is_running_program() {
            return Ok(matches!(
                inspect_program(self.repo, VerifyDepth::Metadata),
                InstalledProgram::Intact(_)
            ));
        }
        let InstalledProgram::Intact(record) = inspect_program(self.repo, VerifyDepth::Content)
        else {
            return Ok(false);
        };
        match sources {
            Some(sources) => Ok(record.sources.as_deref() == Some(sources)),
            None => Ok(record.digest == hex_digest(&self.read_running_program()?.1)),
        }
    }

    /// Builds the program from the canonical sources and installs it.
    ///
    /// If the program store has a program of exactly these sources, that one is used: its key identifies the sources, and
    /// another compilation would not prove more.
    pub fn install_canonical(&self, context: &SyncContext, sources: &str) -> Result<()> {
        let record = || ProgramRecord {
            file: format!("xtask-{sources}"),
            sources: Some(sources.to_owned()),
            commit: Some(context.canonical.commit.to_string()),
            digest: String::new(),
            size: 0,
        };
        let kept = self.find_store_entry(context.canonical.tree)?;
        if let Some((store, name)) = &kept
            && let Some(program) = program_store::find_program(store, name)
        {
            return self.install_program(&program, record());
        }
        let place = self.make_build_folder()?;
        let built = self.build_program(context.canonical.tree, &place).and_then(|built| {
            let built = built.ok_or_else(|| {
                Error::unable(format!(
                    "the program could not be built from `{}`; see the output of cargo above",
                    context.config.branch
                ))
                .with_hint(
                    "fix it there, then run `cargo xtask install-hooks`; the hooks are unchanged",
                )
            })?;
            if let Some((store, name)) = &kept {
                // If this fails, the next installation builds again.
                drop(program_store::keep_program(
                    self.disk,
                    program_store::system_time(self.world),
                    store,
                    name,
                    &built,
                ));
            }
            self.install_program(&built, record())
        });
        // The build folder is ours and is recreated on demand.
        drop(self.disk.remove_folder(&place));
        built
    }

    /// Returns the store and the key under which the launcher would keep the program of `tree`. Returns `None` if there is
    /// no store, or if `tree` configures cargo or the toolchain differently from this worktree, for which the running
    /// program was built.
    fn find_store_entry(&self, tree: Id) -> Result<Option<(PathBuf, String)>> {
        for name in SOURCE_PATHS.iter().filter(|name| **name != NAME) {
            let there = find_id(self.repo, tree, name)?;
            let here = match fs::read(self.repo.root().join(name)) {
                Ok(content) => Some(self.repo.blob_id(&content)?),
                Err(_) => None,
            };
            if there != here {
                return Ok(None);
            }
        }
        let Some(store) = program_store::find_store(self.world) else { return Ok(None) };
        let Some(sources) = program_store::digest_sources(self.repo, tree)? else {
            return Ok(None);
        };
        Ok(program_store::program_key(self.world, &sources.workspace).map(|name| (store, name)))
    }

    /// Installs a copy of the running program.
    pub fn install_running(&self) -> Result<()> {
        let (this, bytes) = self.read_running_program()?;
        let file = format!("xtask-{}", &hex_digest(&bytes)[..16]);
        let record =
            ProgramRecord { file, sources: None, commit: None, digest: String::new(), size: 0 };
        self.install_program(&this, record)
    }

    /// Returns whether the installed program and the running program are the same file.
    fn is_running_program(&self) -> bool {
        let this = FileId::at(&self.world.program);
        this.is_some() && this == FileId::at(&program_link(self.repo))
    }

    fn read_running_program(&self) -> Result<(PathBuf, Vec<u8>)> {
        let this = self.world.program.clone();
        let bytes = fs::read(&this).with_context(|| format!("cannot read `{}`", this.display()))?;
        Ok((this, bytes))
    }

    /// Installs a copy of `from`: written, verified and tested before the link points to it.
    fn install_program(&self, from: &Path, mut record: ProgramRecord) -> Result<()> {
        let folder = program_folder(self.repo);
        let failed = || format!("cannot install the program in `{}`", folder.display());
        let bytes = fs::read(from).with_context(failed)?;
        record.digest = hex_digest(&bytes);
        record.size = bytes.len() as u64;
        fs::create_dir_all(&folder).with_context(failed)?;
        let number = std::process::id();
        let beside = folder.join(format!("new-{number}"));
        self.disk.remove_file(&beside).with_context(failed)?;
        let placed = self.write_program(&bytes, &beside, &folder, &record);
        if placed.is_err() {
            drop(self.disk.remove_file(&beside));
        }
        placed?;
        drop(self.prune_programs(&folder, &record.file));
        Ok(())
    }

    fn write_program(
        &self,
        bytes: &[u8],
        beside: &Path,
        folder: &Path,
        record: &ProgramRecord,
    ) -> Result<()> {
        let failed = || format!("cannot install the program in `{}`", folder.display());
        self.disk.create_file(beside, bytes, CreateMode::Executable).with_context(failed)?;
        let written = fs::read(beside).with_context(failed)?;
        self.disk.fsync(beside).with_context(failed)?;
        if hex_digest(&written) != record.digest {
            return Err(Error::unable(failed()).with_hint("verification after write failed"));
        }
        let tried = Program::new(beside, folder)
            .args(["--version"])
            // The variable points to the sources of the running program, not of this one.
            .env_remove("CARGO_MANIFEST_DIR")
            .run_with_timeout(VERSION_WAIT)?;
        if !tried.status.success() || !tried.stdout.contains(NAME) {
            return Err(Error::unable(failed())
                .with_detail(tried.stderr)
                .with_hint("the new program does not run here; is the folder mounted `noexec`?"));
        }
        self.disk.replace_file(beside, &folder.join(&record.file)).with_context(failed)?;
        let link = folder.join(format!("link-{}", std::process::id()));
        self.disk.remove_file(&link).with_context(failed)?;
        self.disk.create_symlink(Path::new(&record.file), &link).with_context(failed)?;
        self.disk.replace_file(&link, &folder.join("xtask")).with_context(failed)?;
        record::write_record(self.disk, &record_path(self.repo), KIND, record).with_context(failed)
    }

    fn prune_programs(&self, folder: &Path, present: &str) -> std::io::Result<()> {
        let mut old = Vec::new();
        for found in fs::read_dir(folder)? {
            let found = found?;
            let name = found.file_name().to_string_lossy().into_owned();
            if name.starts_with("xtask-") && name != present {
                old.push((found.metadata()?.modified()?, found.path()));
            }
        }
        old.sort();
        let surplus = old.len().saturating_sub(OLD_PROGRAMS_KEPT);
        for (_, path) in old.into_iter().take(surplus) {
            self.disk.remove_file(&path)?;
        }
        Ok(())
    }
}

/// Removes all installed programs.
pub fn remove_programs(repo: &Repo, disk: &Disk<'_>) -> Result<()> {
    let folder = program_folder(repo);
    disk.remove_folder(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}

fn hex_digest(bytes: &[u8]) -> String {
    digest::to_hex(&digest::hash_parts([bytes]))
}
