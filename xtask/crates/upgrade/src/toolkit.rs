//! The files of the toolkit at a commit, as a copy gets them.
//!
//! A copy gets `xtask/` without the files that `exclude` in its `Cargo.toml` names (the toolkit's own tests and
//! benchmarks), and without test modules in sources (`copy_transform`). Everything is read from the commit, never
//! from the working tree, so a vendored file can always be found again. For example:
//!
//! ```text
//! Toolkit { version: 0.2.0, files: { "xtask/src/main.rs": …, "xtask/README.md": … }, templates: { … } }
//! ```

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

/// The newest supported value of `package.metadata.vendor.format`.
const FORMAT: i64 = 1;

/// The description of the toolkit's package.
const PACKAGE: &str = "xtask/Cargo.toml";

/// The folder of the toolkit in its own repository, and the file with its name.
const SOURCE: &str = "xtask";
const NAME_FILE: &str = "xtask/crates/base/src/name.rs";

/// A file that only a copy has.
const COPY: &str = "xtask/VENDORED.toml";

/// The manual of a copy: its path in the toolkit, and in the copy.
const README_PATHS: (&str, &str) = ("xtask/COPY.md", "xtask/README.md");

/// The manual that copies had before `xtask/COPY.md` existed.
const OLD_README: &str = "README.md";

/// The toolkit at a commit.
pub struct Toolkit {
    repo: Repo,
    pub commit: Id,
    pub version: Version,
    /// The name and the parts of the copy.
    pub spec: CopySpec,
    /// Whether this version supports `--parts`.
    pub has_parts: bool,
    /// The files of a copy, by their paths there.
    files: BTreeMap<RepoPath, TreeEntry>,
    /// The templates, by their paths in the toolkit.
    templates: BTreeMap<RepoPath, TreeEntry>,
    /// The contents that differ from the commit.
    transformed: BTreeMap<Id, Vec<u8>>,
}

impl Toolkit {
    /// Reads the toolkit from the commit `name`, or HEAD, for a copy of the given `copy_spec`. Returns an error if the
    /// repository is not that of the toolkit, or the commit does not support the name or the parts.
    pub fn read_commit(repo: Repo, name: Option<&str>, copy_spec: CopySpec) -> Result<Toolkit> {
        let commit = match name {
            None => repo.head()?.commit,
            Some(name) => resolve_commit(&repo, name)?,
        };
        let tree = repo.tree_of(commit)?;
        let place = repo.root().display().to_string();
        let package = read_package_text(&repo, tree, &place)?;
        let ToolkitPackage { version, excluded } =
            parse_package(&package).map_err(|fault| fault.into_error(&place))?;
        if copy_spec.name != SOURCE {
            check_other_name(&repo, tree, &place, &copy_spec.name)?;
        }
        let has_parts = String::from_utf8_lossy(&package).contains("\n[features]\n");
        if !copy_spec.parts.is_all() && !has_parts {
            return Err(too_old_error(&place, "does not support `--parts`"));
        }
        let contents = read_contents(&repo, tree, &place, &excluded)?;
        let (files, templates, transformed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let spec = copy_spec;
        let mut toolkit =
            Toolkit { repo, commit, version, spec, has_parts, files, templates, transformed };
        toolkit.add_contents(contents)?;
        toolkit.add_readme(tree)?;
        Ok(toolkit)
    }

    /// Adds the files of a copy and the templates.
    fn add_contents(&mut self, contents: Vec<FileContent>) -> Result<()> {
        let absent = |(path, _, content): &FileContent| {
            let text = std::str::from_utf8(content).unwrap_or_default();
            self.spec.parts.absent_modules(&path_in_toolkit(path), text)
        };
        let modules: BTreeSet<String> = match self.spec.parts.is_all() {
            true => BTreeSet::new(),
            false => contents.iter().flat_map(absent).collect(),
        };
        for (path, entry, content) in contents {
            let entry = self.transform(&path, entry, &content)?;
            if path.as_bytes().starts_with(TEMPLATES_FOLDER.as_bytes()) {
                self.templates.insert(path.clone(), entry);
            }
            if !self.spec.parts.excludes_file(&path_in_toolkit(&path), &modules) {
                let place = RepoPath::new(self.spec.to_copy_path(&path.to_string()));
                self.files.insert(place, entry);
            }
        }
        Ok(())
    }

    /// Adds the manual of a copy.
    fn add_readme(&mut self, tree: Id) -> Result<()> {
        for name in [README_PATHS.0, OLD_README] {
            if let Some(entry) = self.repo.entry_at(tree, &RepoPath::new(name))? {
                let path = RepoPath::new(README_PATHS.1);
                let content = self.repo.read_blob(entry.id)?;
                let entry = self.transform(&path, entry, &content)?;
                let place = RepoPath::new(self.spec.to_copy_path(README_PATHS.1));
                self.files.insert(place, entry);
                break;
            }
        }
        Ok(())
    }

    /// Returns the entry of a file as a copy gets it; content that differs from the commit is kept.
    fn transform(
        &mut self,
        path: &RepoPath,
        entry: TreeEntry,
        content: &[u8],
    ) -> Result<TreeEntry> {
        let Some(content) = transform_file(path, content, &self.spec) else { return Ok(entry) };
        let id = self.repo.blob_id(&content)?;
        self.transformed.insert(id, content);
        Ok(TreeEntry { id, ..entry })
    }

    /// Reads the same commit for another shape.
    pub fn with_spec(self, copy_spec: CopySpec) -> Result<Toolkit> {
        if copy_spec == self.spec {
            return Ok(self);
        }
        let commit = self.commit.to_string();
        Toolkit::read_commit(self.repo, Some(&commit), copy_spec)
    }

    /// Returns the repository of the toolkit.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Returns the files of a copy, by their paths there.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<RepoPath, TreeEntry> {
        &self.files
    }

    /// Returns the templates of files outside of `xtask/`, by their paths in the toolkit.
    #[must_use]
    pub fn templates(&self) -> &BTreeMap<RepoPath, TreeEntry> {
        &self.templates
    }

    /// Returns whether the toolkit has a file or template at a path.
    #[must_use]
    pub fn has_file(&self, path: &RepoPath) -> bool {
        self.files.contains_key(path) || self.templates.contains_key(path)
    }

    /// Returns the content of a file or template.
    pub fn read_content(&self, entry: TreeEntry) -> Result<Vec<u8>> {
        match self.transformed.get(&entry.id) {
            Some(content) => Ok(content.clone()),
            None => self.repo.read_blob(entry.id),
        }
    }

    /// Returns the possible contents of a file at an earlier commit, by its path in a copy: transformed for these
    /// parts, transformed for all parts, and unchanged, as earlier versions vendored it. The result is empty if
    /// this clone does not have the commit, or the commit does not have the file.
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

    /// Compares the commit of this toolkit with another one, by history.
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

    /// Returns the version and the commit, e.g. `0.2.0 (1a2b3c4d5e)`.
    #[must_use]
    pub fn describe_version(&self) -> String {
        format!("{} ({})", self.version, self.repo.short_id(self.commit))
    }
}

/// A file of the commit, with its content.
type FileContent = (RepoPath, TreeEntry, Vec<u8>);

/// Reads `xtask/Cargo.toml`. Returns an error if the repository is not that of the toolkit.
fn read_package_text(repo: &Repo, tree: Id, place: &str) -> Result<Vec<u8>> {
    let Some(package) = repo.entry_at(tree, &RepoPath::new(PACKAGE))? else {
        return Err(not_toolkit_error(place, &format!("it has no `{PACKAGE}`")));
    };
    if repo.entry_at(tree, &RepoPath::new(COPY))?.is_some() {
        return Err(Error::usage(format!(
            "`{place}` is not a checkout of the toolkit: it has a vendored copy (`{COPY}`)"
        ))
        .with_hint("use the original repository; a copy has local changes"));
    }
    repo.read_blob(package.id)
}

/// Returns an error if the commit does not support another name, or depends on a package of this `name`.
fn check_other_name(repo: &Repo, tree: Id, place: &str, name: &str) -> Result<()> {
    if repo.entry_at(tree, &RepoPath::new(NAME_FILE))?.is_none() {
        return Err(too_old_error(place, "does not support another name"));
    }
    if let Some(lock) = repo.entry_at(tree, &RepoPath::new("xtask/Cargo.lock"))? {
        let lock = String::from_utf8_lossy(&repo.read_blob(lock.id)?).into_owned();
        if lock.contains(&format!("\nname = \"{name}\"\n")) {
            return Err(Error::usage(format!(
                "the toolkit already depends on a package named `{name}`"
            ))
            .with_hint("use another name, such as `--name tasks`"));
        }
    }
    Ok(())
}

/// Reads the files below `xtask/` except the `excluded` ones.
fn read_contents(
    repo: &Repo,
    tree: Id,
    place: &str,
    excluded: &PathPatterns,
) -> Result<Vec<FileContent>> {
    let mut contents = Vec::new();
    for (path, entry) in repo.list_tree(tree, &PathsBelow(&RepoPath::new("xtask")))? {
        if excluded.match_with_folders(path_in_toolkit(&path).as_bytes(), false) == Some(true) {
            continue;
        }
        if let Some(why) = find_path_fault(&path, entry) {
            return Err(Error::usage(format!("cannot vendor the toolkit in `{place}`: {why}")));
        }
        if path.as_bytes() != README_PATHS.0.as_bytes() {
            contents.push((path, entry, repo.read_blob(entry.id)?));
        }
    }
    Ok(contents)
}

/// Returns a path relative to `xtask/`.
fn path_in_toolkit(path: &RepoPath) -> String {
    let path = path.to_string();
    path.strip_prefix("xtask/").map_or(path.clone(), str::to_owned)
}

/// The order of two commits of the toolkit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOrder {
    /// This commit is an ancestor of the other.
    Before,
    /// They are the same.
    Same,
    /// The other is an ancestor of this commit.
    After,
    /// They have diverged, or this clone does not have the other.
    Unknown,
}

/// Returns why a path of the toolkit cannot be vendored, if it cannot.
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
    (!is_file).then(|| {
        format!("`{path}` is a symlink or a submodule; only regular files can be vendored")
    })
}

/// Opens the repository of the toolkit on this machine.
pub fn open_checkout(folder: &Path) -> Result<Repo> {
    Repo::discover(folder).map_err(|cause| {
        Error::usage(format!("`{}` is not a checkout of the toolkit", folder.display()))
            .with_cause(cause)
    })
}

/// Returns the files of the toolkit with uncommitted changes, which are not vendored.
pub fn list_uncommitted(repo: &Repo) -> Result<Vec<String>> {
    let mut found = repo.list_uncommitted()?;
    found.retain(|path| path.starts_with("xtask/"));
    Ok(found)
}

/// Returns the warning about uncommitted changes.
#[must_use]
pub fn describe_uncommitted(uncommitted: &[String]) -> String {
    format!(
        "the toolkit has uncommitted changes, which are not included: {}",
        join_names(uncommitted, 3)
    )
}

fn resolve_commit(repo: &Repo, name: &str) -> Result<Id> {
    // A fresh clone has a local branch only for the one that is checked out.
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
    Error::usage(format!("`{place}` is not a checkout of the toolkit: {why}"))
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

impl PackageFault {
    fn into_error(self, place: &str) -> Error {
        match self {
            PackageFault::Invalid(why) => not_toolkit_error(place, &format!("`{PACKAGE}` {why}")),
            PackageFault::NewerFormat(format) => Error::unable(format!(
                "the toolkit in `{place}` has a layout that this xtask does not know \
                 (format {format}; it knows up to {FORMAT})"
            ))
            .with_hint(
                "first upgrade to an earlier version with `--ref`: it knows the newer layout",
            ),
        }
    }
}

/// Parses `xtask/Cargo.toml`.
fn parse_package(text: &[u8]) -> Result<ToolkitPackage, PackageFault> {
    let text = std::str::from_utf8(text).map_err(|_| PackageFault::Invalid("is not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|_| PackageFault::Invalid("is not valid TOML"))?;
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
            return Err(PackageFault::Invalid("has no `package.metadata.vendor.format`"));
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
