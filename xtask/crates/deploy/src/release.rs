//! A release: a commit exported into its own folder, built there once, and sealed.
//!
//! The export uses the commit alone, never the working tree. The manifest lists mode and digest, or link target, of
//! every file; it is written last, so a folder without a manifest is not a release. A sealed release never
//! changes; files that services add are not part of it. Its configuration is stored with it, for a rollback.
//! An example of a manifest:
//!
//! ```text
//! {"release": "20250310T101500Z-4cfd10e1a2b3", "layer": "prod", "commit": "4cfd10e...", "snapshot": "9f86...",
//!  "files": {"bin/app": "0755 2c26b4...", "current.cfg": "-> prod.cfg"}}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DeployContext;
use super::engine_settings::EngineSettings;
use super::target::DeployTarget;
use xtask_base::digest;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::pluralize;
use xtask_git::{AllPaths, FileMode, Id, Repo};
use xtask_services::spec::ServiceSpec;

/// Format identifier of the manifest.
const MANIFEST_KIND: &str = "xtask.deploy-manifest/1";

/// Format identifier of the snapshot.
const SNAPSHOT_KIND: &str = "xtask.deploy-snapshot/1";

/// Number of faults that an error lists.
const MAX_SHOWN: usize = 20;

/// Name and folder of a release, sealed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Time and commit, e.g. `20250310T101500Z-4cfd10e1a2b3`.
    pub name: String,
    pub folder: PathBuf,
}

/// Manifest of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseManifest {
    /// Name of the release.
    pub release: String,
    pub layer: String,
    /// Commit, in full.
    pub commit: String,
    /// SHA-256 digest of the file `snapshot`.
    pub snapshot: String,
    /// Path with non-ASCII bytes escaped, to mode and digest (`0644 2c26b4...`) or link target (`-> prod.cfg`).
    pub files: BTreeMap<String, String>,
}

/// Resolved configuration of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseSnapshot {
    /// Specs of the services, with the ports of the layer.
    pub specs: Vec<ServiceSpec>,
    /// Port of the status page; `None` if it is off, 0 for any free port.
    pub status: Option<u16>,
    /// Length of the watch, in milliseconds.
    pub watch_ms: u64,
    /// Every value of the layer with its source.
    pub values: Vec<SnapshotValue>,
    /// Settings of the tool, for the engines `compose` and `kubernetes`.
    #[serde(default)]
    pub outside: Option<EngineSettings>,
}

/// A value of the layer, e.g. `service.api.port` = `8000` from `deployment/prod.toml:12`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotValue {
    /// Key path.
    pub key: String,
    /// Value in TOML syntax.
    pub value: String,
    /// File and line.
    pub from: String,
}

impl Release {
    /// Returns the release `name` in `target`, whether it exists or not.
    #[must_use]
    pub fn in_target(target: &DeployTarget, name: &str) -> Release {
        Release { name: name.to_owned(), folder: target.releases_folder().join(name) }
    }

    /// Returns a free name in `target` from time and commit.
    #[must_use]
    pub fn choose_name_in(target: &DeployTarget, commit: Id, now: i64) -> String {
        Release::choose_name(commit, now, &|name| !target.releases_folder().join(name).exists())
    }

    /// Returns the first name that `is_free`: `TIME-COMMIT`, `TIME-COMMIT-2` and so on. `now` is in seconds since the
    /// epoch.
    #[must_use]
    pub fn choose_name(commit: Id, now: i64, is_free: &dyn Fn(&str) -> bool) -> String {
        let name = format!("{}-{}", format_compact_time(now), &commit.to_string()[..12]);
        let is_free = |name: &String| is_free(name);
        let more = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(more).find(is_free).unwrap_or(name)
    }

    /// Returns the folder of its files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Reports whether it has a valid manifest under its own name.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let manifest = record::read_record::<ReleaseManifest>(&self.manifest_path(), MANIFEST_KIND);
        // A renamed copy made by the user has a manifest with the old name, and does not count.
        self.is_folder()
            && matches!(manifest, LoadedRecord::Valid(found) if found.release == self.name)
    }

    /// Reports whether its path is a folder, and not a symlink.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.folder.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    }

    fn manifest_path(&self) -> PathBuf {
        self.folder.join("manifest")
    }

    fn snapshot_path(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    /// Exports `commit` into its folder. Returns an error if the commit contains a submodule.
    pub fn export_commit(
        &self,
        repo: &Repo,
        commit: Id,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        let failed = || format!("cannot create the release `{}`", self.folder.display());
        let tree = repo.tree_of(commit)?;
        let entries = repo.list_tree(tree, &AllPaths)?;
        let mut modules = entries.iter().filter(|(_, entry)| entry.mode == FileMode::Gitlink);
        if let Some((path, _)) = modules.next() {
            return Err(Error::negative(format!(
                "`{path}` is a submodule: releases cannot contain submodules"
            ))
            .with_hint("remove it from the branch, and fetch its files in a `build` step"));
        }
        deploy_ctx.disk.make_folder(&self.folder).with_context(failed)?;
        deploy_ctx.disk.make_folder(&self.files()).with_context(failed)?;
        repo.export_tree(tree, &AllPaths, &self.files(), deploy_ctx.disk)
    }

    /// Writes snapshot and manifest, and flushes all files to the disk. From here on the folder is a release.
    pub fn seal(
        &self,
        layer: &str,
        commit: &str,
        snapshot: &ReleaseSnapshot,
        deploy_ctx: &DeployContext<'_>,
    ) -> Result<()> {
        let failed = || format!("cannot seal the release `{}`", self.folder.display());
        let path = self.snapshot_path();
        record::write_record(deploy_ctx.disk, &path, SNAPSHOT_KIND, snapshot)
            .with_context(failed)?;
        let manifest = ReleaseManifest {
            release: self.name.clone(),
            layer: layer.to_owned(),
            commit: commit.to_owned(),
            snapshot: digest::to_hex(&digest::hash_bytes(
                &std::fs::read(&path).with_context(failed)?,
            )),
            files: scan_files(&self.files(), &|_| true)?,
        };
        deploy_ctx.disk.check_gate("write the release to the disk").with_context(failed)?;
        flush(&self.folder).with_context(failed)?;
        record::write_record(deploy_ctx.disk, &self.manifest_path(), MANIFEST_KIND, &manifest)
            .with_context(failed)
    }

    /// Moves an uploaded release from `from` to its folder.
    pub fn move_from(&self, from: &Path, deploy_ctx: &DeployContext<'_>) -> Result<()> {
        let failed = || format!("cannot import the release `{}`", self.folder.display());
        // rsync wrote the files, possibly without flushing them.
        deploy_ctx.disk.check_gate("write the release to the disk").with_context(failed)?;
        flush(from).with_context(failed)?;
        deploy_ctx.disk.rename_noreplace(from, &self.folder).with_context(failed)
    }

    /// Returns the manifest if snapshot and files match it.
    ///
    /// Returns an error of kind `Negative` that lists missing and changed files. Unlisted files are ignored.
    pub fn verify_manifest(&self) -> Result<ReleaseManifest> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let mut faults = Vec::new();
        let snapshot = std::fs::read(self.snapshot_path());
        if snapshot.map(|bytes| digest::to_hex(&digest::hash_bytes(&bytes))).ok().as_ref()
            != Some(&manifest.snapshot)
        {
            faults.push("the configuration in `snapshot` differs".to_owned());
        }
        // Files that services add are not part of the release, and may be large and changing.
        let found = scan_files(&self.files(), &|name| manifest.files.contains_key(name))?;
        for (name, line) in &manifest.files {
            match found.get(name) {
                None => faults.push(format!("`{name}` is missing")),
                Some(found) if found != line => faults.push(format!("`{name}` differs")),
                Some(_) => {}
            }
        }
        if faults.is_empty() {
            return Ok(manifest);
        }
        let count = pluralize(faults.len(), "fault");
        let error = Error::negative(format!("the release `{}` is not intact: {count}", self.name));
        Err(faults.into_iter().take(MAX_SHOWN).fold(error, Error::with_detail))
    }

    /// Returns the files that differ from the manifest, relative to its files.
    pub fn changed_files(&self) -> Result<Vec<PathBuf>> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let found = scan_files(&self.files(), &|name| manifest.files.contains_key(name))?;
        let differs = manifest
            .files
            .iter()
            .filter(|(name, line)| found.get(*name).is_some_and(|found| found != *line));
        Ok(differs.map(|(name, _)| PathBuf::from(name)).collect())
    }

    /// Returns the files that the manifest does not list, relative to its files.
    pub fn unlisted_files(&self) -> Result<Vec<PathBuf>> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let root = self.files();
        let mut strangers = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let below = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_path_buf();
            let failed = || format!("cannot read `{}`", folder.display());
            let entries = match std::fs::read_dir(&folder) {
                // A folder that is private to a service contains its data.
                Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                    strangers.push(below(&folder));
                    continue;
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.with_context(failed)?,
            };
            for entry in entries {
                let entry = entry.with_context(failed)?;
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                let name = below(&path).as_os_str().as_bytes().escape_ascii().to_string();
                if kind.is_dir() {
                    folders.push(path);
                } else if (kind.is_file() || kind.is_symlink())
                    && !manifest.files.contains_key(&name)
                {
                    strangers.push(below(&path));
                }
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    /// Returns the folders that contain files of the manifest.
    pub fn manifest_folders(&self) -> Result<BTreeSet<PathBuf>> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let mut folders = BTreeSet::new();
        for name in manifest.files.keys() {
            folders.extend(Path::new(name).ancestors().skip(1).map(Path::to_path_buf));
        }
        Ok(folders)
    }

    /// Reads its configuration.
    pub fn read_snapshot(&self) -> Result<ReleaseSnapshot> {
        read_release_record(&self.snapshot_path(), SNAPSHOT_KIND, &self.name)
    }

    /// Removes the release: the manifest first, so that a partial removal leaves no release.
    pub fn remove(&self, deploy_ctx: &DeployContext<'_>) -> Result<()> {
        let failed = || format!("cannot remove the release `{}`", self.folder.display());
        if std::fs::symlink_metadata(&self.folder).is_err() {
            return Ok(());
        }
        deploy_ctx.disk.remove_file(&self.manifest_path()).with_context(failed)?;
        deploy_ctx.disk.remove_folder(&self.folder).with_context(failed)
    }
}

fn read_release_record<T: serde::de::DeserializeOwned>(
    path: &Path,
    kind: &str,
    release: &str,
) -> Result<T> {
    match record::read_record(path, kind) {
        LoadedRecord::Valid(value) => Ok(value),
        LoadedRecord::Newer => Err(record::newer_record_error("the release", path)),
        LoadedRecord::Missing => Err(Error::negative(format!(
            "the release `{release}` is not intact: it has no manifest"
        ))),
        LoadedRecord::Corrupt(why) => {
            Err(Error::negative(format!("the release `{release}` is not intact: {why}"))
                .with_detail(path.display().to_string()))
        }
    }
}

/// Returns mode and digest, or link target, of every wanted file below `root`.
fn scan_files(root: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = || format!("cannot read `{}`", folder.display());
        let entries = match std::fs::read_dir(&folder) {
            // A service has removed the folder concurrently, or made it private.
            Err(cause) if folder != root && is_gone_or_denied(&cause) => continue,
            other => other.with_context(failed)?,
        };
        for entry in entries {
            let path = entry.with_context(failed)?.path();
            let failed = || format!("cannot read `{}`", path.display());
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = below.as_os_str().as_bytes().escape_ascii().to_string();
            let meta = match std::fs::symlink_metadata(&path) {
                Err(cause) if is_gone_or_denied(&cause) => continue,
                other => other.with_context(failed)?,
            };
            if !meta.is_dir() && !is_wanted(&name) {
                continue;
            }
            let line = if meta.is_dir() {
                folders.push(path);
                continue;
            } else if meta.is_symlink() {
                let to = std::fs::read_link(&path).with_context(failed)?;
                format!("-> {}", to.as_os_str().as_bytes().escape_ascii())
            } else if meta.is_file() {
                let mode = meta.permissions().mode() & 0o7777;
                format!("{mode:04o} {}", digest_file(&path).with_context(failed)?)
            } else {
                // Sockets and pipes have no content.
                continue;
            };
            found.insert(name, line);
        }
    }
    Ok(found)
}

/// Reports whether an unreadable path can be skipped; a missing file is found by comparing with the manifest.
fn is_gone_or_denied(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

fn digest_file(path: &Path) -> std::io::Result<String> {
    Ok(digest::to_hex(&digest::hash_stream(File::open(path)?)?))
}

/// Flushes the file system of `folder` to the disk.
#[cfg(target_os = "linux")]
fn flush(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Does nothing: without `syncfs` only the manifest is flushed, and its digests reveal incomplete files.
#[cfg(not(target_os = "linux"))]
fn flush(_: &Path) -> std::io::Result<()> {
    Ok(())
}
