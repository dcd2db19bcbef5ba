//! The toolkit as one of its commits has it: which files a repository gets, and what they are.
//!
//! A repository gets all of `xtask/` but what its `Cargo.toml` leaves out of the package (`exclude`:
//! the tests and benchmarks of the toolkit itself), and no tests inside of sources either (`given.rs`). Nothing is
//! read from the working tree: what is vendored can always be found again by its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use semver::Version;
use toml::de::{DeTable, DeValue};

use super::given::{TEMPLATES, given};
use super::parts::Parts;
use super::shape::Shape;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::some_of;
use xtask_git::{Below, Entry, Id, Mode, Named, PathPatterns, Repo, unsafe_name};

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
const README: (&str, &str) = ("xtask/COPY.md", "xtask/README.md");

/// The manual that a copy had before it had one of its own.
const MANUAL: &str = "README.md";

/// The toolkit, at a commit.
pub struct Toolkit {
    repo: Repo,
    /// The commit.
    pub commit: Id,
    /// Its version.
    pub version: Version,
    /// How a repository gets it.
    pub shape: Shape,
    /// Whether it can be given in parts.
    pub has_parts: bool,
    /// What a repository gets, by the path that it has there.
    files: BTreeMap<RepoPath, Entry>,
    /// The files to begin with, by the path that they have in the toolkit.
    templates: BTreeMap<RepoPath, Entry>,
    /// The contents that differ from those of the commit.
    given: BTreeMap<Id, Vec<u8>>,
}

impl Toolkit {
    /// The toolkit that a repository holds, at a commit by the name that people give it, or at HEAD; in a
    /// shape.
    pub fn read(repo: Repo, name: Option<&str>, shape: Shape) -> Result<Toolkit> {
        let commit = match name {
            None => repo.head()?.commit,
            Some(name) => one(&repo, name)?,
        };
        let tree = repo.tree_of(commit)?;
        let place = repo.root().display().to_string();
        let Some(package) = repo.entry_at(tree, &RepoPath::new(PACKAGE))? else {
            return Err(no_toolkit(&place, &format!("there is no `{PACKAGE}` in it")));
        };
        if repo.entry_at(tree, &RepoPath::new(COPY))?.is_some() {
            return Err(Error::usage(format!(
                "`{place}` is no checkout of the toolkit: it has been given a copy (`{COPY}`)"
            ))
            .hint("its own changes would go along; use the repository from which it came"));
        }
        let text = repo.blob(package.id)?;
        let Described { version, left_out } = describe(&text).map_err(|why| match why {
            Fault::Other(why) => no_toolkit(&place, &format!("`{PACKAGE}` {why}")),
            Fault::Newer(format) => Error::unable(format!(
                "the toolkit in `{place}` is laid out in a way that this xtask does not know \
                     (format {format}; it knows up to {FORMAT})"
            ))
            .hint("upgrade to an earlier version first, with `--ref`: it knows the next one"),
        })?;
        let has = |path: &str| Ok(repo.entry_at(tree, &RepoPath::new(path))?.is_some());
        if shape.name != SOURCE {
            if !has(NAME_FILE)? {
                return Err(older(&place, "cannot lie under another name"));
            }
            if let Some(lock) = repo.entry_at(tree, &RepoPath::new("xtask/Cargo.lock"))? {
                let lock = String::from_utf8_lossy(&repo.blob(lock.id)?).into_owned();
                if lock.contains(&format!("\nname = \"{}\"\n", shape.name)) {
                    return Err(Error::usage(format!(
                        "the toolkit is built with a package `{}`",
                        shape.name
                    ))
                    .hint("another name, such as `--name tasks`"));
                }
            }
        }
        let has_parts = String::from_utf8_lossy(&text).contains("\n[features]\n");
        if !shape.parts.is_all() && !has_parts {
            return Err(older(&place, "has no parts"));
        }
        let mut contents = Vec::new();
        for (path, entry) in repo.list_tree(tree, &Below(&RepoPath::new("xtask")))? {
            if left_out.decide_with_folders(inner(&path).as_bytes(), false) == Some(true) {
                continue;
            }
            if let Some(why) = unfit(&path, entry) {
                return Err(Error::usage(format!(
                    "the toolkit in `{place}` cannot be vendored: {why}"
                )));
            }
            if path.as_bytes() != README.0.as_bytes() {
                contents.push((path, entry, repo.blob(entry.id)?));
            }
        }
        let absent = |(path, _, content): &(RepoPath, Entry, Vec<u8>)| {
            let text = std::str::from_utf8(content).unwrap_or_default();
            shape.parts.absent_modules(&inner(path), text)
        };
        let modules: BTreeSet<String> = match shape.parts.is_all() {
            true => BTreeSet::new(),
            false => contents.iter().flat_map(absent).collect(),
        };
        let (mut files, mut templates) = (BTreeMap::new(), BTreeMap::new());
        let mut changed = BTreeMap::new();
        let mut fit = |path: &RepoPath, entry: Entry, content: &[u8]| -> Result<Entry> {
            let Some(content) = given(path, content, &shape) else { return Ok(entry) };
            let id = repo.blob_id(&content)?;
            changed.insert(id, content);
            Ok(Entry { id, ..entry })
        };
        for (path, entry, content) in contents {
            let entry = fit(&path, entry, &content)?;
            if path.as_bytes().starts_with(TEMPLATES.as_bytes()) {
                templates.insert(path.clone(), entry);
            }
            if !shape.parts.leaves_out(&inner(&path), &modules) {
                files.insert(RepoPath::new(shape.there(&path.to_string())), entry);
            }
        }
        for name in [README.0, MANUAL] {
            if let Some(entry) = repo.entry_at(tree, &RepoPath::new(name))? {
                let path = RepoPath::new(README.1);
                let entry = fit(&path, entry, &repo.blob(entry.id)?)?;
                files.insert(RepoPath::new(shape.there(README.1)), entry);
                break;
            }
        }
        Ok(Toolkit { repo, commit, version, shape, has_parts, files, templates, given: changed })
    }

    /// The same, in another shape.
    pub fn with(self, shape: Shape) -> Result<Toolkit> {
        if shape == self.shape {
            return Ok(self);
        }
        let commit = self.commit.to_string();
        Toolkit::read(self.repo, Some(&commit), shape)
    }

    /// The repository that holds it.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The paths that a repository gets, with what stands there.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<RepoPath, Entry> {
        &self.files
    }

    /// The files that a repository gets to begin with, by the path that they have in the toolkit.
    #[must_use]
    pub fn templates(&self) -> &BTreeMap<RepoPath, Entry> {
        &self.templates
    }

    /// Whether it has a file, given or not, at a path.
    #[must_use]
    pub fn has(&self, path: &RepoPath) -> bool {
        self.files.contains_key(path) || self.templates.contains_key(path)
    }

    /// The content of one of its files.
    pub fn content(&self, entry: Entry) -> Result<Vec<u8>> {
        match self.given.get(&entry.id) {
            Some(content) => Ok(content.clone()),
            None => self.repo.blob(entry.id),
        }
    }

    /// What a file may have been at an earlier commit, by the path that it has in a repository: as it is given now with
    /// these parts or with all, and as the commit has it, which was given before. Nothing where this clone does not have that commit, or
    /// the commit not that file.
    pub fn earlier(
        &self,
        commit: Id,
        path: &RepoPath,
        parts: &Parts,
    ) -> Result<Vec<(Mode, Vec<u8>)>> {
        let mut found = Vec::new();
        if !self.repo.has_object(commit) {
            return Ok(found);
        }
        let tree = self.repo.tree_of(commit)?;
        let path = &RepoPath::new(self.shape.at_home(&path.to_string()));
        let paths = match path.as_bytes() == README.1.as_bytes() {
            true => vec![RepoPath::new(README.0), RepoPath::new(MANUAL)],
            false => vec![path.clone()],
        };
        for at in paths {
            if let Some(entry) = self.repo.entry_at(tree, &at)? {
                let content = self.repo.blob(entry.id)?;
                let name = &self.shape.name;
                let ways = [parts.clone(), Parts::all()]
                    .map(|parts| given(path, &content, &Shape { name: name.clone(), parts }));
                found.extend(ways.into_iter().flatten().map(|content| (entry.mode, content)));
                found.push((entry.mode, content));
            }
        }
        Ok(found)
    }

    /// How this toolkit stands to one of a commit, by its history.
    pub fn age(&self, commit: Id) -> Result<Age> {
        if commit == self.commit {
            return Ok(Age::Same);
        }
        if !self.repo.has_object(commit) {
            return Ok(Age::Unknown);
        }
        if self.repo.is_ancestor(self.commit, commit)? {
            return Ok(Age::Before);
        }
        Ok(if self.repo.is_ancestor(commit, self.commit)? { Age::After } else { Age::Unknown })
    }

    /// Its version and commit, as people read them.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} ({})", self.version, self.repo.short(self.commit))
    }
}

/// A path from `xtask/` on.
fn inner(path: &RepoPath) -> String {
    let path = path.to_string();
    path.strip_prefix("xtask/").map_or(path.clone(), str::to_owned)
}

/// How one state of the toolkit stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
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
fn unfit(path: &RepoPath, entry: Entry) -> Option<String> {
    let Ok(name) = std::str::from_utf8(path.as_bytes()) else {
        return Some(format!("the name `{path}` is not UTF-8"));
    };
    if name.chars().any(char::is_control) {
        return Some(format!("the name `{}` has control characters", name.escape_debug()));
    }
    if let Some(why) = unsafe_name(path) {
        return Some(format!("`{path}` must not be written: {why}"));
    }
    let is_file = matches!(entry.mode, Mode::File | Mode::Executable);
    (!is_file).then(|| format!("`{path}` is a symlink or a submodule, and only files go along"))
}

/// A repository on this machine that is named as the source.
pub fn open(folder: &Path) -> Result<Repo> {
    Repo::discover(folder).map_err(|cause| {
        Error::usage(format!("`{}` is no checkout of the toolkit", folder.display())).because(cause)
    })
}

/// The files of a toolkit that are not as they are committed, and so do not go along.
pub fn uncommitted(repo: &Repo) -> Result<Vec<String>> {
    let mut found = repo.uncommitted()?;
    found.retain(|path| path.starts_with("xtask/"));
    Ok(found)
}

/// That they do not go along, in words.
#[must_use]
pub fn not_in_it(uncommitted: &[String]) -> String {
    format!("the toolkit goes as it is committed; not yet in it: {}", some_of(uncommitted, 3))
}

fn one(repo: &Repo, name: &str) -> Result<Id> {
    // In a fresh clone only the branch that was checked out has a local name.
    for name in [name.to_owned(), format!("origin/{name}")] {
        if let Ok(Named::One(id)) = repo.named(&name) {
            return Ok(id);
        }
    }
    match repo.named(name)? {
        Named::One(id) => Ok(id),
        Named::Range { .. } => Err(Error::usage(format!("`{name}` names more than one commit"))),
    }
}

fn older(place: &str, what: &str) -> Error {
    Error::usage(format!("the toolkit of that commit in `{place}` {what}"))
        .hint("a newer one can: leave out `--ref`, or name a later commit")
}

fn no_toolkit(place: &str, why: &str) -> Error {
    Error::usage(format!("`{place}` is no checkout of the toolkit: {why}"))
}

struct Described {
    version: Version,
    left_out: PathPatterns,
}

#[derive(Debug)]
enum Fault {
    Newer(i64),
    Other(&'static str),
}

/// What `xtask/Cargo.toml` says of the toolkit.
fn describe(text: &[u8]) -> Result<Described, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Other("is not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|_| Fault::Other("cannot be read"))?;
    let at = |keys: &[&str]| {
        let mut keys = keys.iter();
        let first = table.get_ref().get(*keys.next()?)?.get_ref();
        keys.try_fold(first, |value, key| Some(value.as_table()?.get(*key)?.get_ref()))
    };
    if at(&["package", "name"]).and_then(DeValue::as_str) != Some("xtask") {
        return Err(Fault::Other("is not the package `xtask`"));
    }
    let format = at(&["package", "metadata", "vendor", "format"])
        .and_then(DeValue::as_integer)
        .and_then(|number| number.as_str().parse().ok());
    match format {
        None => {
            return Err(Fault::Other(
                "has no `package.metadata.vendor`, as that of the toolkit has",
            ));
        }
        Some(newer) if newer > FORMAT => return Err(Fault::Newer(newer)),
        Some(_) => {}
    }
    let version = at(&["package", "version"])
        .and_then(DeValue::as_str)
        .and_then(|version| Version::parse(version).ok())
        .ok_or(Fault::Other("has no version"))?;
    let left_out = at(&["package", "exclude"]).and_then(DeValue::as_array);
    let left_out = left_out.into_iter().flatten().filter_map(|one| one.get_ref().as_str());
    Ok(Described { version, left_out: PathPatterns::new(left_out) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_this_very_toolkit_is_understood() {
        let text = include_bytes!("../../../Cargo.toml");
        let Described { version, left_out } = describe(text).unwrap();
        assert_eq!(version.to_string(), env!("CARGO_PKG_VERSION"));
        assert_eq!(left_out.decide_with_folders(b"tests/it/main.rs", false), Some(true));
        assert_eq!(left_out.decide_with_folders(b"src/main.rs", false), None);
    }

    #[test]
    fn what_is_no_toolkit_or_a_newer_one_is_told_apart() {
        let fault = |text: &str| match describe(text.as_bytes()) {
            Err(Fault::Other(why)) => why.to_owned(),
            Err(Fault::Newer(format)) => format!("newer: {format}"),
            Ok(_) => "none".to_owned(),
        };
        assert_eq!(fault("[package]\nname = 'other'\n"), "is not the package `xtask`");
        assert!(fault("[package]\nname = 'xtask'\n").contains("package.metadata.vendor"));
        let newer = "[package]\nname = 'xtask'\nmetadata.vendor.format = 2\n";
        assert_eq!(fault(newer), "newer: 2");
    }
}
