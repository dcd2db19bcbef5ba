//! A release: a commit laid out in a folder of its own, built there once, and sealed.
//!
//! It is laid out from the commit alone, never from the working tree. Its manifest names the digest, the
//! mode or the link of every file and is written last: a folder without one is no release. Once sealed
//! nothing of it is changed; what services write beside its files is not of it. What it was configured to be
//! lies in it too, so that it can be served again as it was.

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

/// The kind of the manifest.
const MANIFEST_KIND: &str = "xtask.deploy-manifest/1";

/// The kind of the configuration.
const SNAPSHOT_KIND: &str = "xtask.deploy-snapshot/1";

/// How many faults of a release are told one by one.
const MAX_SHOWN: usize = 20;

/// A release by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// What belongs to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseManifest {
    /// Its name.
    pub release: String,
    /// The layer.
    pub layer: String,
    /// The commit, in full.
    pub commit: String,
    /// The digest of the configuration.
    pub snapshot: String,
    /// Its files: the name, with what is not plain ASCII escaped, and the mode with the digest or the link.
    pub files: BTreeMap<String, String>,
}

/// The configuration of a release, merged and filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseSnapshot {
    /// Its services, on the ports of the layer.
    pub specs: Vec<ServiceSpec>,
    /// The port of the status page: nothing where it is off, 0 where any will do.
    pub status: Option<u16>,
    /// How long it is watched, in milliseconds.
    pub watch_ms: u64,
    /// Every value of the layer, with where it came from.
    pub values: Vec<SnapshotValue>,
    /// What the tool of an engine is told, where the engine has one.
    #[serde(default)]
    pub outside: Option<EngineSettings>,
}

/// A value of the layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotValue {
    /// Where it stands.
    pub key: String,
    /// What it is, as TOML.
    pub value: String,
    /// Where it came from: file and line.
    pub from: String,
}

impl Release {
    /// A release of a target.
    #[must_use]
    pub fn in_target(target: &DeployTarget, name: &str) -> Release {
        Release { name: name.to_owned(), folder: target.releases_folder().join(name) }
    }

    /// A name that is free: when, and which commit.
    #[must_use]
    pub fn choose_name_in(target: &DeployTarget, commit: Id, now: i64) -> String {
        Release::choose_name(commit, now, &|name| !target.releases_folder().join(name).exists())
    }

    /// The same, where somebody else knows which are free.
    #[must_use]
    pub fn choose_name(commit: Id, now: i64, is_free: &dyn Fn(&str) -> bool) -> String {
        let name = format!("{}-{}", format_compact_time(now), &commit.to_string()[..12]);
        let is_free = |name: &String| is_free(name);
        let more = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(more).find(is_free).unwrap_or(name)
    }

    /// Where its files are.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Whether it was ever sealed: only releases have a manifest of this kind.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let manifest = record::read_record::<ReleaseManifest>(&self.manifest_path(), MANIFEST_KIND);
        // A copy that somebody has put beside it is theirs.
        self.is_folder()
            && matches!(manifest, LoadedRecord::Valid(found) if found.release == self.name)
    }

    /// Whether there is a folder of its name, and no link to somewhere else.
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

    /// Lays a commit out.
    pub fn export_commit(&self, repo: &Repo, commit: Id, around: &DeployContext<'_>) -> Result<()> {
        let failed = || format!("the release `{}` cannot be made", self.folder.display());
        let tree = repo.tree_of(commit)?;
        let entries = repo.list_tree(tree, &AllPaths)?;
        let mut modules = entries.iter().filter(|(_, entry)| entry.mode == FileMode::Gitlink);
        if let Some((path, _)) = modules.next() {
            return Err(Error::negative(format!(
                "`{path}` is a submodule, which a release cannot hold"
            ))
            .with_hint("take it out of the branch, and have a `build` step fetch its files"));
        }
        around.disk.make_folder(&self.folder).with_context(failed)?;
        around.disk.make_folder(&self.files()).with_context(failed)?;
        repo.export_tree(tree, &AllPaths, &self.files(), around.disk)
    }

    /// Writes down what belongs to it. From here on it is a release.
    pub fn seal(
        &self,
        layer: &str,
        commit: &str,
        snapshot: &ReleaseSnapshot,
        around: &DeployContext<'_>,
    ) -> Result<()> {
        let failed = || format!("the release `{}` cannot be sealed", self.folder.display());
        let path = self.snapshot_path();
        record::write_record(around.disk, &path, SNAPSHOT_KIND, snapshot).with_context(failed)?;
        let manifest = ReleaseManifest {
            release: self.name.clone(),
            layer: layer.to_owned(),
            commit: commit.to_owned(),
            snapshot: digest::to_hex(&digest::hash_bytes(
                &std::fs::read(&path).with_context(failed)?,
            )),
            files: scan_files(&self.files(), &|_| true)?,
        };
        around.disk.check_gate("write the release to the disk").with_context(failed)?;
        flush(&self.folder).with_context(failed)?;
        record::write_record(around.disk, &self.manifest_path(), MANIFEST_KIND, &manifest)
            .with_context(failed)
    }

    /// Moves it here from where it has arrived.
    pub fn move_from(&self, from: &Path, around: &DeployContext<'_>) -> Result<()> {
        let failed = || format!("the release `{}` cannot be taken in", self.folder.display());
        // What it is moved from was written by another program, and may not be on the disk yet.
        around.disk.check_gate("write the release to the disk").with_context(failed)?;
        flush(from).with_context(failed)?;
        around.disk.rename_noreplace(from, &self.folder).with_context(failed)
    }

    /// Its manifest, if it is whole: every file as it was when it was sealed.
    pub fn verify_manifest(&self) -> Result<ReleaseManifest> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let mut faults = Vec::new();
        let snapshot = std::fs::read(self.snapshot_path());
        if snapshot.map(|bytes| digest::to_hex(&digest::hash_bytes(&bytes))).ok().as_ref()
            != Some(&manifest.snapshot)
        {
            faults.push("its configuration differs".to_owned());
        }
        // What services write beside them is not of the release, and may be large and changing.
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
        let error = Error::negative(format!("the release `{}` is not whole: {count}", self.name));
        Err(faults.into_iter().take(MAX_SHOWN).fold(error, Error::with_detail))
    }

    /// The files of it that are not as they were sealed: names below the folder of its files.
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

    /// What lies among its files and does not belong to it: names below the folder of its files.
    pub fn unlisted_files(&self) -> Result<Vec<PathBuf>> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let root = self.files();
        let mut strangers = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let below = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_path_buf();
            let failed = || format!("`{}` cannot be read", folder.display());
            let entries = match std::fs::read_dir(&folder) {
                // What it keeps to itself is something that it keeps.
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

    /// The folders that hold something of it, as they are named in its manifest.
    pub fn manifest_folders(&self) -> Result<BTreeSet<PathBuf>> {
        let manifest: ReleaseManifest =
            read_release_record(&self.manifest_path(), MANIFEST_KIND, &self.name)?;
        let mut folders = BTreeSet::new();
        for name in manifest.files.keys() {
            folders.extend(Path::new(name).ancestors().skip(1).map(Path::to_path_buf));
        }
        Ok(folders)
    }

    /// Its configuration.
    pub fn read_snapshot(&self) -> Result<ReleaseSnapshot> {
        read_release_record(&self.snapshot_path(), SNAPSHOT_KIND, &self.name)
    }

    /// Removes it: the manifest first, so that half of a release is none.
    pub fn remove(&self, around: &DeployContext<'_>) -> Result<()> {
        let failed = || format!("the release `{}` cannot be removed", self.folder.display());
        if std::fs::symlink_metadata(&self.folder).is_err() {
            return Ok(());
        }
        around.disk.remove_file(&self.manifest_path()).with_context(failed)?;
        around.disk.remove_folder(&self.folder).with_context(failed)
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
            "the release `{release}` is not whole: it has no manifest"
        ))),
        LoadedRecord::Corrupt(why) => {
            Err(Error::negative(format!("the release `{release}` is not whole: {why}"))
                .with_detail(path.display().to_string()))
        }
    }
}

/// Every file below a folder, with its mode and its digest, or where it links to.
fn scan_files(root: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = || format!("`{}` cannot be read", folder.display());
        let entries = match std::fs::read_dir(&folder) {
            // A service has removed it again, or keeps it to itself.
            Err(cause) if folder != root && is_gone_or_denied(&cause) => continue,
            other => other.with_context(failed)?,
        };
        for entry in entries {
            let path = entry.with_context(failed)?.path();
            let failed = || format!("`{}` cannot be read", path.display());
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
                // A socket or a pipe of a service is nobody's content.
                continue;
            };
            found.insert(name, line);
        }
    }
    Ok(found)
}

/// What is missing of a release is found by its manifest.
fn is_gone_or_denied(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

fn digest_file(path: &Path) -> std::io::Result<String> {
    Ok(digest::to_hex(&digest::hash_stream(File::open(path)?)?))
}

/// Has the system write what it holds of this file system to the disk.
#[cfg(target_os = "linux")]
fn flush(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Elsewhere the manifest alone is written to the disk at once; it tells of what is torn.
#[cfg(not(target_os = "linux"))]
fn flush(_: &Path) -> std::io::Result<()> {
    Ok(())
}
