//! The toolkit as one of its commits has it: which files a repository gets, and what they are.
//!
//! A repository gets all of `xtask/` but what its `Cargo.toml` leaves out of the package (`exclude`:
//! the tests and benchmarks of the toolkit itself), and no tests inside of sources either (`given.rs`). Nothing is
//! read from the working tree: what is vendored can always be found again by its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use semver::Version;
use toml::de::{DeTable, DeValue};

use super::copy_spec::CopySpec;
use super::copy_transform::{TEMPLATES_FOLDER, transform_file};
use super::parts::ToolkitParts;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_git::{
    FileMode, Id, PathPatterns, PathsBelow, Repo, Revision, TreeEntry, unsafe_path_reason,
};

/// The layout of a toolkit that this program knows how to take in: `package.metadata.vendor.format`.
const FORMAT: i64 = 1;

/// What describes the toolkit.
const PACKAGE: &str = "xtask/Cargo.toml";

/// The toolkit in its own repository, and the file with its name.
const SOURCE: &str = "xtask";
const NAME_FILE: &str = "xtask/crates/base/src/name.rs";

/// What a copy has, and the toolkit has not.
const COPY: &str = "xtask/VENDORED.toml";

/// The manual for who has been given the toolkit, and where it lies there.
const README_PATHS: (&str, &str) = ("xtask/COPY.md", "xtask/README.md");

/// The manual that a copy had before it had one of its own.
const OLD_README: &str = "README.md";

/// The toolkit, at a commit.
pub struct Toolkit {
    repo: Repo,
    /// The commit.
    pub commit: Id,
    /// Its version.
    pub version: Version,
    /// How a repository gets it.
    pub spec: CopySpec,
    /// Whether it can be given in parts.
    pub has_parts: bool,
    /// What a repository gets, by the path that it has there.
    files: BTreeMap<RepoPath, TreeEntry>,
    /// The files to begin with, by the path that they have in the toolkit.
    templates: BTreeMap<RepoPath, TreeEntry>,
    /// The contents that differ from those of the commit.
    transformed: BTreeMap<Id, Vec<u8>>,
}

impl Toolkit {
    /// The toolkit that a repository holds, at a commit by the name that people give it, or at HEAD; in a
    /// shape.
    pub fn read_commit(repo: Repo, name: Option<&str>, shape: CopySpec) -> Result<Toolkit> {
        let commit = match name {
            None => repo.head()?.commit,
            Some(name) => resolve_commit(&repo, name)?,
        };
        let tree = repo.tree_of(commit)?;
        let place = repo.root().display().to_string();
        let Some(package) = repo.entry_at(tree, &RepoPath::new(PACKAGE))? else {
            return Err(not_toolkit_error(&place, &format!("there is no `{PACKAGE}` in it")));
        };
        if repo.entry_at(tree, &RepoPath::new(COPY))?.is_some() {
            return Err(Error::usage(format!(
                "`{place}` is no checkout of the toolkit: it has been given a copy (`{COPY}`)"
            ))
            .with_hint("its own changes would go along; use the repository from which it came"));
        }
        let text = repo.read_blob(package.id)?;
        let ToolkitPackage { version, excluded: left_out } =
            parse_package(&text).map_err(|why| match why {
                PackageFault::Invalid(why) => {
                    not_toolkit_error(&place, &format!("`{PACKAGE}` {why}"))
                }
                PackageFault::NewerFormat(format) => Error::unable(format!(
                    "the toolkit in `{place}` is laid out in a way that this xtask does not know \
                     (format {format}; it knows up to {FORMAT})"
                ))
                .with_hint(
                    "upgrade to an earlier version first, with `--ref`: it knows the next one",
                ),
            })?;
        let has = |path: &str| Ok(repo.entry_at(tree, &RepoPath::new(path))?.is_some());
        if shape.name != SOURCE {
            if !has(NAME_FILE)? {
                return Err(too_old_error(&place, "cannot lie under another name"));
            }
            if let Some(lock) = repo.entry_at(tree, &RepoPath::new("xtask/Cargo.lock"))? {
                let lock = String::from_utf8_lossy(&repo.read_blob(lock.id)?).into_owned();
                if lock.contains(&format!("\nname = \"{}\"\n", shape.name)) {
                    return Err(Error::usage(format!(
                        "the toolkit is built with a package `{}`",
                        shape.name
                    ))
                    .with_hint("another name, such as `--name tasks`"));
                }
            }
        }
        let has_parts = String::from_utf8_lossy(&text).contains("\n[features]\n");
        if !shape.parts.is_all() && !has_parts {
            return Err(too_old_error(&place, "has no parts"));
        }
        let mut contents = Vec::new();
        for (path, entry) in repo.list_tree(tree, &PathsBelow(&RepoPath::new("xtask")))? {
            if left_out.match_with_folders(path_in_toolkit(&path).as_bytes(), false) == Some(true) {
                continue;
            }
            if let Some(why) = find_path_fault(&path, entry) {
                return Err(Error::usage(format!(
                    "the toolkit in `{place}` cannot be vendored: {why}"
                )));
            }
            if path.as_bytes() != README_PATHS.0.as_bytes() {
                contents.push((path, entry, repo.read_blob(entry.id)?));
            }
        }
        let absent = |(path, _, content): &(RepoPath, TreeEntry, Vec<u8>)| {
            let text = std::str::from_utf8(content).unwrap_or_default();
            shape.parts.absent_modules(&path_in_toolkit(path), text)
        };
        let modules: BTreeSet<String> = match shape.parts.is_all() {
            true => BTreeSet::new(),
            false => contents.iter().flat_map(absent).collect(),
        };
        let (mut files, mut templates) = (BTreeMap::new(), BTreeMap::new());
        let mut changed = BTreeMap::new();
        let mut fit = |path: &RepoPath, entry: TreeEntry, content: &[u8]| -> Result<TreeEntry> {
            let Some(content) = transform_file(path, content, &shape) else { return Ok(entry) };
            let id = repo.blob_id(&content)?;
            changed.insert(id, content);
            Ok(TreeEntry { id, ..entry })
        };
        for (path, entry, content) in contents {
            let entry = fit(&path, entry, &content)?;
            if path.as_bytes().starts_with(TEMPLATES_FOLDER.as_bytes()) {
                templates.insert(path.clone(), entry);
            }
            if !shape.parts.excludes_file(&path_in_toolkit(&path), &modules) {
                files.insert(RepoPath::new(shape.to_copy_path(&path.to_string())), entry);
            }
        }
        for name in [README_PATHS.0, OLD_README] {
            if let Some(entry) = repo.entry_at(tree, &RepoPath::new(name))? {
                let path = RepoPath::new(README_PATHS.1);
                let entry = fit(&path, entry, &repo.read_blob(entry.id)?)?;
                files.insert(RepoPath::new(shape.to_copy_path(README_PATHS.1)), entry);
                break;
            }
        }
        Ok(Toolkit {
            repo,
            commit,
            version,
            spec: shape,
            has_parts,
            files,
            templates,
            transformed: changed,
        })
    }

    /// The same, in another shape.
    pub fn with_spec(self, shape: CopySpec) -> Result<Toolkit> {
        if shape == self.spec {
            return Ok(self);
        }
        let commit = self.commit.to_string();
        Toolkit::read_commit(self.repo, Some(&commit), shape)
    }

    /// The repository that holds it.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The paths that a repository gets, with what stands there.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<RepoPath, TreeEntry> {
        &self.files
    }

    /// The files that a repository gets to begin with, by the path that they have in the toolkit.
    #[must_use]
    pub fn templates(&self) -> &BTreeMap<RepoPath, TreeEntry> {
        &self.templates
    }

    /// Whether it has a file, given or not, at a path.
    #[must_use]
    pub fn has_file(&self, path: &RepoPath) -> bool {
        self.files.contains_key(path) || self.templates.contains_key(path)
    }

    /// The content of one of its files.
    pub fn read_content(&self, entry: TreeEntry) -> Result<Vec<u8>> {
        match self.transformed.get(&entry.id) {
            Some(content) => Ok(content.clone()),
            None => self.repo.read_blob(entry.id),
        }
    }

    /// What a file may have been at an earlier commit, by the path that it has in a repository: as it is given now with
    /// these parts or with all, and as the commit has it, which was given before. Nothing where this clone does not have that commit, or
    /// the commit not that file.
    pub fn find_earlier_contents(
        &self,
        commit: Id,
        path: &RepoPath,
        parts: &ToolkitParts,
    ) -> Result<Vec<(FileMode, Vec<u8>)>> {
        let mut found = Vec::new();
        if !self.repo.has_object(commit) {
            return Ok(found);
        }
        let tree = self.repo.tree_of(commit)?;
        let path = &RepoPath::new(self.spec.to_toolkit_path(&path.to_string()));
        let paths = match path.as_bytes() == README_PATHS.1.as_bytes() {
            true => vec![RepoPath::new(README_PATHS.0), RepoPath::new(OLD_README)],
            false => vec![path.clone()],
        };
        for at in paths {
            if let Some(entry) = self.repo.entry_at(tree, &at)? {
                let content = self.repo.read_blob(entry.id)?;
                let name = &self.spec.name;
                let ways = [parts.clone(), ToolkitParts::all()].map(|parts| {
                    transform_file(path, &content, &CopySpec { name: name.clone(), parts })
                });
                found.extend(ways.into_iter().flatten().map(|content| (entry.mode, content)));
                found.push((entry.mode, content));
            }
        }
        Ok(found)
    }

    /// How this toolkit stands to one of a commit, by its history.
    pub fn compare_commit(&self, commit: Id) -> Result<CommitOrder> {
        if commit == self.commit {
            return Ok(CommitOrder::Same);
        }
        if !self.repo.has_object(commit) {
            return Ok(CommitOrder::Unknown);
        }
        if self.repo.is_ancestor(self.commit, commit)? {
            return Ok(CommitOrder::Before);
        }
        Ok(if self.repo.is_ancestor(commit, self.commit)? {
            CommitOrder::After
        } else {
            CommitOrder::Unknown
        })
    }

    /// Its version and commit, as people read them.
    #[must_use]
    pub fn describe_version(&self) -> String {
        format!("{} ({})", self.version, self.repo.short_id(self.commit))
    }
}

/// A path from `xtask/` on.
fn path_in_toolkit(path: &RepoPath) -> String {
    let path = path.to_string();
    path.strip_prefix("xtask/").map_or(path.clone(), str::to_owned)
}

/// How one state of the toolkit stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOrder {
    /// It comes before.
    Before,
    /// They are one.
    Same,
    /// It comes after.
    After,
    /// It is of another line, or this clone does not know the other.
    Unknown,
}

/// Why a path of the toolkit cannot be given to others.
fn find_path_fault(path: &RepoPath, entry: TreeEntry) -> Option<String> {
    let Ok(name) = std::str::from_utf8(path.as_bytes()) else {
        return Some(format!("the name `{path}` is not UTF-8"));
    };
    if name.chars().any(char::is_control) {
        return Some(format!("the name `{}` has control characters", name.escape_debug()));
    }
    if let Some(why) = unsafe_path_reason(path) {
        return Some(format!("`{path}` must not be written: {why}"));
    }
    let is_file = matches!(entry.mode, FileMode::File | FileMode::Executable);
    (!is_file).then(|| format!("`{path}` is a symlink or a submodule, and only files go along"))
}

/// A repository on this machine that is named as the source.
pub fn open_checkout(folder: &Path) -> Result<Repo> {
    Repo::discover(folder).map_err(|cause| {
        Error::usage(format!("`{}` is no checkout of the toolkit", folder.display()))
            .with_cause(cause)
    })
}

/// The files of a toolkit that are not as they are committed, and so do not go along.
pub fn list_uncommitted(repo: &Repo) -> Result<Vec<String>> {
    let mut found = repo.list_uncommitted()?;
    found.retain(|path| path.starts_with("xtask/"));
    Ok(found)
}

/// That they do not go along, in words.
#[must_use]
pub fn describe_uncommitted(uncommitted: &[String]) -> String {
    format!("the toolkit goes as it is committed; not yet in it: {}", join_names(uncommitted, 3))
}

fn resolve_commit(repo: &Repo, name: &str) -> Result<Id> {
    // In a fresh clone only the branch that was checked out has a local name.
    for name in [name.to_owned(), format!("origin/{name}")] {
        if let Ok(Revision::Commit(id)) = repo.parse_revision(&name) {
            return Ok(id);
        }
    }
    match repo.parse_revision(name)? {
        Revision::Commit(id) => Ok(id),
        Revision::Range { .. } => Err(Error::usage(format!("`{name}` names more than one commit"))),
    }
}

fn too_old_error(place: &str, what: &str) -> Error {
    Error::usage(format!("the toolkit of that commit in `{place}` {what}"))
        .with_hint("a newer one can: leave out `--ref`, or name a later commit")
}

fn not_toolkit_error(place: &str, why: &str) -> Error {
    Error::usage(format!("`{place}` is no checkout of the toolkit: {why}"))
}

struct ToolkitPackage {
    version: Version,
    excluded: PathPatterns,
}

#[derive(Debug)]
enum PackageFault {
    NewerFormat(i64),
    Invalid(&'static str),
}

/// What `xtask/Cargo.toml` says of the toolkit.
fn parse_package(text: &[u8]) -> Result<ToolkitPackage, PackageFault> {
    let text = std::str::from_utf8(text).map_err(|_| PackageFault::Invalid("is not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|_| PackageFault::Invalid("cannot be read"))?;
    let at = |keys: &[&str]| {
        let mut keys = keys.iter();
        let first = table.get_ref().get(*keys.next()?)?.get_ref();
        keys.try_fold(first, |value, key| Some(value.as_table()?.get(*key)?.get_ref()))
    };
    if at(&["package", "name"]).and_then(DeValue::as_str) != Some("xtask") {
        return Err(PackageFault::Invalid("is not the package `xtask`"));
    }
    let format = at(&["package", "metadata", "vendor", "format"])
        .and_then(DeValue::as_integer)
        .and_then(|number| number.as_str().parse().ok());
    match format {
        None => {
            return Err(PackageFault::Invalid(
                "has no `package.metadata.vendor`, as that of the toolkit has",
            ));
        }
        Some(newer) if newer > FORMAT => return Err(PackageFault::NewerFormat(newer)),
        Some(_) => {}
    }
    let version = at(&["package", "version"])
        .and_then(DeValue::as_str)
        .and_then(|version| Version::parse(version).ok())
        .ok_or(PackageFault::Invalid("has no version"))?;
    let left_out = at(&["package", "exclude"]).and_then(DeValue::as_array);
    let left_out = left_out.into_iter().flatten().filter_map(|one| one.get_ref().as_str());
    Ok(ToolkitPackage { version, excluded: PathPatterns::new(left_out) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_this_very_toolkit_is_understood() {
        let text = include_bytes!("../../../Cargo.toml");
        let ToolkitPackage { version, excluded: left_out } = parse_package(text).unwrap();
        assert_eq!(version.to_string(), env!("CARGO_PKG_VERSION"));
        assert_eq!(left_out.match_with_folders(b"tests/it/main.rs", false), Some(true));
        assert_eq!(left_out.match_with_folders(b"src/main.rs", false), None);
    }

    #[test]
    fn what_is_no_toolkit_or_a_newer_one_is_told_apart() {
        let fault = |text: &str| match parse_package(text.as_bytes()) {
            Err(PackageFault::Invalid(why)) => why.to_owned(),
            Err(PackageFault::NewerFormat(format)) => format!("newer: {format}"),
            Ok(_) => "none".to_owned(),
        };
        assert_eq!(fault("[package]\nname = 'other'\n"), "is not the package `xtask`");
        assert!(fault("[package]\nname = 'xtask'\n").contains("package.metadata.vendor"));
        let newer = "[package]\nname = 'xtask'\nmetadata.vendor.format = 2\n";
        assert_eq!(fault(newer), "newer: 2");
    }
}
