//! What a repository is given, and what of it has to be added by hand: the toolkit, the entries that it
//! needs in files of the repository, files to begin with, and the manifest of all of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::starters::starters;
use super::target::Target;
use walkdir::{DirEntry, WalkDir};
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_config::DEPLOYMENT_FOLDER;
use xtask_config::toolchain::{self, TOOLCHAIN_FILES};
use xtask_detect::fit::ByHand;
use xtask_detect::fit::{Look, Remote, facts};
use xtask_git::{self as repo, Everything, Mode, Repo, TreeChange};
use xtask_upgrade::entries::{self, Builds, Entry, Package};
use xtask_upgrade::manifest::{MANIFEST_NAME, Manifest, mark};
use xtask_upgrade::parts::Parts;
use xtask_upgrade::toolkit::Toolkit;

/// What a repository is to be given.
pub struct Plan {
    /// The files, as changes of its tree.
    pub changes: Vec<TreeChange>,
    /// How many of them are the toolkit itself.
    pub toolkit: usize,
    /// Its parts.
    pub parts: Parts,
    /// The other files that are new.
    pub created: Vec<String>,
    /// Files of the repository that get some lines more.
    pub edited: Vec<String>,
    /// Files that would be new and are there already.
    pub kept: Vec<String>,
    /// What is left to a person.
    pub by_hand: Vec<ByHand>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Whether there is a remote to push to.
    pub has_remote: bool,
}

/// What is known of the repository besides its files.
pub struct Around {
    /// The branch from which others come.
    pub default_branch: String,
    /// The remote, if there is one.
    pub remote: Option<Remote>,
    /// The address of the toolkit, if others can reach it.
    pub source: Option<String>,
    /// The branches on which nothing is to be committed unasked; the one from which others come where it is not said.
    pub protected: Option<Vec<String>>,
}

/// The files so far, with what they hold.
struct Files {
    texts: BTreeMap<RepoPath, (Mode, Vec<u8>)>,
    edited: Vec<String>,
    by_hand: Vec<ByHand>,
    taken: Vec<String>,
}

/// The parts that fit a repository: services only where it seems to have some.
pub fn usual_parts(target: &Target, around: &Around) -> Result<Parts> {
    let listed = match target.tree {
        Some(tree) => target.repo.list_tree(tree, &Everything)?,
        None => BTreeMap::new(),
    };
    let paths: Vec<RepoPath> = listed.into_keys().collect();
    let read = |path: &str| target.lies_at(path);
    let look = Look {
        name: NAME,
        paths: &paths,
        read: &read,
        default_branch: &around.default_branch,
        remote: around.remote.clone(),
    };
    let facts = facts(&look);
    let has_layers = facts.folders.iter().any(|folder| folder == DEPLOYMENT_FOLDER);
    Ok(Parts::usual(!facts.services.is_empty() || has_layers))
}

/// Decides what the repository is given. Its objects are written into `into`, which may be in memory.
pub fn plan(target: &Target, into: &Repo, toolkit: &Toolkit, around: Around) -> Result<Plan> {
    let listed = match target.tree {
        Some(tree) => target.repo.list_tree(tree, &Everything)?,
        None => BTreeMap::new(),
    };
    let links = listed.iter().filter(|(_, entry)| entry.mode == Mode::Gitlink);
    let mut others: Vec<String> = links.map(|(path, _)| path.to_string()).collect();
    others.extend(packages_on_disk(target.repo.root()));
    let paths: Vec<RepoPath> = listed.into_keys().collect();
    let read = |path: &str| target.lies_at(path);
    let Around { default_branch, remote, source, protected } = around;
    let protected = protected.unwrap_or_else(|| vec![default_branch.clone()]);
    let has_remote = remote.is_some();
    let name = &toolkit.shape.name;
    let look = Look { name, paths: &paths, read: &read, default_branch: &default_branch, remote };
    let facts = facts(&look);
    let starters = starters(&facts, &read, &toolkit.shape, &protected);
    let mut files = Files {
        texts: BTreeMap::new(),
        edited: Vec::new(),
        by_hand: Vec::new(),
        taken: target.obstacles.clone(),
    };
    entries(target, &paths, &others, name, &mut files)?;
    if !files.taken.is_empty() {
        let refused = Error::no("the toolkit cannot be put there; nothing was changed");
        return Err(files
            .taken
            .into_iter()
            .fold(refused, Error::detail)
            .hint("move aside what has its place, commit, and try again")
            .hint("or give it another name: `--name NAME` puts all of it under `NAME/` and `cargo NAME`"));
    }
    let cargo = RepoPath::new("Cargo.toml");
    let cargo_text = match files.texts.get(&cargo) {
        Some((_, content)) => String::from_utf8(content.clone()).ok(),
        None => target.text("Cargo.toml")?,
    };
    if let Some(text) = cargo_text.and_then(|text| entries::unpublished(&text, &starters.ours)) {
        if !files.edited.contains(&"Cargo.toml".to_owned()) {
            files.edited.push("Cargo.toml".to_owned());
        }
        files.texts.insert(cargo, (target.mode("Cargo.toml")?, text.into_bytes()));
    }
    let mut manifest = Manifest {
        version: toolkit.version.clone(),
        source,
        commit: toolkit.commit.to_string(),
        parts: toolkit.shape.parts.clone(),
        files: BTreeMap::new(),
        placed: BTreeMap::new(),
    };
    let mut created: Vec<String> = files
        .texts
        .keys()
        .map(ToString::to_string)
        .filter(|path| !files.edited.contains(path))
        .collect();
    let mut templates = BTreeMap::new();
    for (path, entry) in toolkit.templates() {
        templates.insert(toolkit.content(*entry)?, path.to_string());
    }
    for (path, entry) in toolkit.files() {
        let content = toolkit.content(*entry)?;
        manifest.files.insert(path.to_string(), mark(&content, entry.mode == Mode::Executable));
        files.texts.insert(path.clone(), (entry.mode, content));
    }
    for starter in starters.files {
        let content = starter.text.into_bytes();
        // What is as the toolkit has it can be brought up to date like the toolkit.
        if let Some(template) = templates.get(&content) {
            manifest.files.insert(starter.path.to_owned(), mark(&content, false));
            manifest.placed.insert(starter.path.to_owned(), template.clone());
        }
        created.push(starter.path.to_owned());
        files.texts.insert(RepoPath::new(starter.path), (Mode::File, content));
    }
    for lines in starters.by_hand {
        match target.text(&lines.path)? {
            Some(text) if lines.fits_at_end => {
                files.edited.push(lines.path.clone());
                let file = (target.mode(&lines.path)?, with_lines(&text, &lines.lines));
                files.texts.insert(RepoPath::new(lines.path), file);
            }
            _ => files.by_hand.push(lines),
        }
    }
    files.texts.insert(
        RepoPath::new(format!("{name}/{MANIFEST_NAME}")),
        (Mode::File, manifest.text().into_bytes()),
    );
    created.sort();
    files.edited.sort();
    let changes = files.texts.into_iter().map(|(path, (mode, content))| {
        Ok((path, Some(repo::Entry { mode, id: into.write_blob(&content)? })))
    });
    let mut notes = facts.notes.clone();
    notes.extend(starters.notes);
    Ok(Plan {
        changes: changes.collect::<Result<_>>()?,
        toolkit: toolkit.files().len() + 1,
        parts: toolkit.shape.parts.clone(),
        created,
        edited: files.edited,
        // What it lacks of lines is told by itself.
        kept: starters.kept.into_iter().filter(|path| path != ".gitignore").collect(),
        by_hand: files.by_hand,
        notes,
        has_remote,
    })
}

/// How deep below the root packages are looked for that git does not track.
const DEPTH: usize = 4;

/// The folders on the disk with a package, tracked or not: what is generated, or lies in a submodule, must go on to
/// build by itself.
fn packages_on_disk(root: &Path) -> Vec<String> {
    let is_looked_into = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !name.starts_with('.') && name != "node_modules"
    };
    let entries = WalkDir::new(root).max_depth(DEPTH + 1).sort_by_file_name().into_iter();
    let packages = entries.filter_entry(is_looked_into).flatten().filter(|entry| {
        entry.depth() > 1 && entry.file_name() == "Cargo.toml" && !entry.file_type().is_dir()
    });
    let folders = packages.filter_map(|entry| {
        Some(entry.path().parent()?.strip_prefix(root).ok()?.to_str()?.to_owned())
    });
    folders.collect()
}

/// The entries in `Cargo.toml`, `Cargo.lock` and cargo's configuration. `others` are folders that may hold packages of
/// which git knows nothing here.
fn entries(
    target: &Target,
    paths: &[RepoPath],
    others: &[String],
    name: &str,
    files: &mut Files,
) -> Result<()> {
    let mut folders: Vec<String> = paths
        .iter()
        .filter_map(|path| path.to_string().strip_suffix("/Cargo.toml").map(str::to_owned))
        .collect();
    let is_rust = !folders.is_empty();
    for other in others {
        if !folders.contains(other) {
            folders.push(other.clone());
        }
    }
    let mut names = Vec::new();
    for folder in &folders {
        let text = target.text(&format!("{folder}/Cargo.toml"))?;
        names.push(text.as_deref().and_then(entries::package_name));
    }
    let packages: Vec<Package<'_>> = folders
        .iter()
        .zip(&names)
        .map(|(folder, name)| Package { folder, name: name.as_deref() })
        .collect();
    let manifest = "Cargo.toml";
    let has_workspace = target.entry(manifest)?.is_some();
    let builds = match has_workspace || is_rust {
        true => Builds::WithTheRest,
        false => Builds::InTheToolkit,
    };
    // Where a file of the old name is, cargo reads that one.
    let old = ".cargo/config";
    let config = if target.entry(old)?.is_some() { old } else { ".cargo/config.toml" };
    let mut is_toolchain_old = false;
    for name in TOOLCHAIN_FILES {
        let text = target.text(name)?;
        let channel = text.as_deref().and_then(toolchain::channel);
        is_toolchain_old |= channel.is_some_and(|channel| toolchain::is_too_old(&channel));
    }
    let alias = entries::alias(target.text(config)?.as_deref(), builds, is_toolchain_old, name);
    add(target, config, alias, files)?;
    let member = entries::member(target.text(manifest)?.as_deref(), &packages, name);
    add(target, manifest, member, files)?;
    let lock = "Cargo.lock";
    let has_lock = target.entry(lock)?.is_some();
    if has_lock || !has_workspace {
        add(target, lock, entries::lock(target.text(lock)?.as_deref(), name), files)?;
    }
    Ok(())
}

/// Notes what became of a file.
fn add(target: &Target, path: &str, entry: Entry, files: &mut Files) -> Result<()> {
    let is_there = target.entry(path)?.is_some();
    match entry {
        Entry::There => {}
        Entry::Changed(text) if !is_there || target.text(path)?.is_some() => {
            if is_there {
                files.edited.push(path.to_owned());
            }
            let mode = target.mode(path)?;
            files.texts.insert(RepoPath::new(path), (mode, text.into_bytes()));
        }
        Entry::Changed(_) => files.taken.push(format!("`{path}` is no text file")),
        Entry::ByHand { why, lines } => {
            files.by_hand.push(ByHand { path: path.to_owned(), why, lines, fits_at_end: false })
        }
        Entry::Taken(what) => files.taken.push(format!("{path}: {what}")),
    }
    Ok(())
}

/// A text with lines at its end, in its own manner of ending lines.
fn with_lines(text: &str, lines: &str) -> Vec<u8> {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut whole = text.to_owned();
    if !whole.is_empty() && !whole.ends_with('\n') {
        whole.push_str(end);
    }
    whole.push_str(&lines.replace('\n', end));
    whole.into_bytes()
}
