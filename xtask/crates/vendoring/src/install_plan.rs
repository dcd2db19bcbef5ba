//! What a repository is given, and what of it has to be added by hand: the toolkit, the entries that it
//! needs in files of the repository, files to begin with, and the manifest of all of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::target::VendorTarget;
use super::templates::render_templates;
use walkdir::{DirEntry, WalkDir};
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_config::DEPLOYMENT_FOLDER;
use xtask_config::toolchain::{self, TOOLCHAIN_FILES};
use xtask_detect::repo_facts::ManualEdit;
use xtask_detect::repo_facts::{DetectedRemote, DetectionInput, detect_repo};
use xtask_git::{self as repo, AllPaths, FileMode, Repo, TreeChange};
use xtask_upgrade::cargo_entries::{self, CargoEdit, CargoPackage, LauncherTargetDir};
use xtask_upgrade::manifest::{MANIFEST_NAME, VendorManifest, compute_checksum};
use xtask_upgrade::parts::ToolkitParts;
use xtask_upgrade::toolkit::Toolkit;

/// What a repository is to be given.
pub struct VendorPlan {
    /// The files, as changes of its tree.
    pub changes: Vec<TreeChange>,
    /// How many of them are the toolkit itself.
    pub toolkit_files: usize,
    /// Its parts.
    pub parts: ToolkitParts,
    /// The other files that are new.
    pub created: Vec<String>,
    /// Files of the repository that get some lines more.
    pub edited: Vec<String>,
    /// Files that would be new and are there already.
    pub kept: Vec<String>,
    /// What is left to a person.
    pub by_hand: Vec<ManualEdit>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Whether there is a remote to push to.
    pub has_remote: bool,
}

/// What is known of the repository besides its files.
pub struct VendorContext {
    /// The branch from which others come.
    pub default_branch: String,
    /// The remote, if there is one.
    pub remote: Option<DetectedRemote>,
    /// The address of the toolkit, if others can reach it.
    pub source: Option<String>,
    /// The branches on which nothing is to be committed unasked; the one from which others come where it is not said.
    pub protected: Option<Vec<String>>,
}

/// The files so far, with what they hold.
struct PlannedFiles {
    texts: BTreeMap<RepoPath, (FileMode, Vec<u8>)>,
    edited: Vec<String>,
    by_hand: Vec<ManualEdit>,
    obstacles: Vec<String>,
}

/// The parts that fit a repository: services only where it seems to have some.
pub fn detect_parts(target: &VendorTarget, around: &VendorContext) -> Result<ToolkitParts> {
    let listed = match target.tree {
        Some(tree) => target.repo.list_tree(tree, &AllPaths)?,
        None => BTreeMap::new(),
    };
    let paths: Vec<RepoPath> = listed.into_keys().collect();
    let read = |path: &str| target.read_on_disk(path);
    let look = DetectionInput {
        name: NAME,
        paths: &paths,
        read: &read,
        default_branch: &around.default_branch,
        remote: around.remote.clone(),
    };
    let facts = detect_repo(&look);
    let has_layers = facts.folders.iter().any(|folder| folder == DEPLOYMENT_FOLDER);
    Ok(ToolkitParts::default_parts(!facts.services.is_empty() || has_layers))
}

/// Decides what the repository is given. Its objects are written into `into`, which may be in memory.
pub fn plan_install(
    target: &VendorTarget,
    into: &Repo,
    toolkit: &Toolkit,
    around: VendorContext,
) -> Result<VendorPlan> {
    let listed = match target.tree {
        Some(tree) => target.repo.list_tree(tree, &AllPaths)?,
        None => BTreeMap::new(),
    };
    let links = listed.iter().filter(|(_, entry)| entry.mode == FileMode::Gitlink);
    let mut others: Vec<String> = links.map(|(path, _)| path.to_string()).collect();
    others.extend(find_packages_on_disk(target.repo.root()));
    let paths: Vec<RepoPath> = listed.into_keys().collect();
    let read = |path: &str| target.read_on_disk(path);
    let VendorContext { default_branch, remote, source, protected } = around;
    let protected = protected.unwrap_or_else(|| vec![default_branch.clone()]);
    let has_remote = remote.is_some();
    let name = &toolkit.spec.name;
    let look = DetectionInput {
        name,
        paths: &paths,
        read: &read,
        default_branch: &default_branch,
        remote,
    };
    let facts = detect_repo(&look);
    let starters = render_templates(&facts, &read, &toolkit.spec, &protected);
    let mut files = PlannedFiles {
        texts: BTreeMap::new(),
        edited: Vec::new(),
        by_hand: Vec::new(),
        obstacles: target.obstacles.clone(),
    };
    plan_cargo_entries(target, &paths, &others, name, &mut files)?;
    if !files.obstacles.is_empty() {
        let refused = Error::negative("the toolkit cannot be put there; nothing was changed");
        return Err(files
            .obstacles
            .into_iter()
            .fold(refused, Error::with_detail)
            .with_hint("move aside what has its place, commit, and try again")
            .with_hint("or give it another name: `--name NAME` puts all of it under `NAME/` and `cargo NAME`"));
    }
    let cargo = RepoPath::new("Cargo.toml");
    let cargo_text = match files.texts.get(&cargo) {
        Some((_, content)) => String::from_utf8(content.clone()).ok(),
        None => target.read_text("Cargo.toml")?,
    };
    if let Some(text) = cargo_text
        .and_then(|text| cargo_entries::exclude_from_publish(&text, &starters.toolkit_paths))
    {
        if !files.edited.contains(&"Cargo.toml".to_owned()) {
            files.edited.push("Cargo.toml".to_owned());
        }
        files.texts.insert(cargo, (target.file_mode("Cargo.toml")?, text.into_bytes()));
    }
    let mut manifest = VendorManifest {
        version: toolkit.version.clone(),
        source,
        commit: toolkit.commit.to_string(),
        parts: toolkit.spec.parts.clone(),
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
        templates.insert(toolkit.read_content(*entry)?, path.to_string());
    }
    for (path, entry) in toolkit.files() {
        let content = toolkit.read_content(*entry)?;
        manifest.files.insert(
            path.to_string(),
            compute_checksum(&content, entry.mode == FileMode::Executable),
        );
        files.texts.insert(path.clone(), (entry.mode, content));
    }
    for starter in starters.files {
        let content = starter.text.into_bytes();
        // What is as the toolkit has it can be brought up to date like the toolkit.
        if let Some(template) = templates.get(&content) {
            manifest.files.insert(starter.path.to_owned(), compute_checksum(&content, false));
            manifest.placed.insert(starter.path.to_owned(), template.clone());
        }
        created.push(starter.path.to_owned());
        files.texts.insert(RepoPath::new(starter.path), (FileMode::File, content));
    }
    for lines in starters.by_hand {
        match target.read_text(&lines.path)? {
            Some(text) if lines.can_append => {
                files.edited.push(lines.path.clone());
                let file = (target.file_mode(&lines.path)?, append_lines(&text, &lines.lines));
                files.texts.insert(RepoPath::new(lines.path), file);
            }
            _ => files.by_hand.push(lines),
        }
    }
    files.texts.insert(
        RepoPath::new(format!("{name}/{MANIFEST_NAME}")),
        (FileMode::File, manifest.to_toml().into_bytes()),
    );
    created.sort();
    files.edited.sort();
    let changes = files.texts.into_iter().map(|(path, (mode, content))| {
        Ok((path, Some(repo::TreeEntry { mode, id: into.write_blob(&content)? })))
    });
    let mut notes = facts.notes.clone();
    notes.extend(starters.notes);
    Ok(VendorPlan {
        changes: changes.collect::<Result<_>>()?,
        toolkit_files: toolkit.files().len() + 1,
        parts: toolkit.spec.parts.clone(),
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
const MAX_PACKAGE_DEPTH: usize = 4;

/// The folders on the disk with a package, tracked or not: what is generated, or lies in a submodule, must go on to
/// build by itself.
fn find_packages_on_disk(root: &Path) -> Vec<String> {
    let is_looked_into = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !name.starts_with('.') && name != "node_modules"
    };
    let entries =
        WalkDir::new(root).max_depth(MAX_PACKAGE_DEPTH + 1).sort_by_file_name().into_iter();
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
fn plan_cargo_entries(
    target: &VendorTarget,
    paths: &[RepoPath],
    others: &[String],
    name: &str,
    files: &mut PlannedFiles,
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
        let text = target.read_text(&format!("{folder}/Cargo.toml"))?;
        names.push(text.as_deref().and_then(cargo_entries::parse_package_name));
    }
    let packages: Vec<CargoPackage<'_>> = folders
        .iter()
        .zip(&names)
        .map(|(folder, name)| CargoPackage { folder, name: name.as_deref() })
        .collect();
    let manifest = "Cargo.toml";
    let has_workspace = target.find_entry(manifest)?.is_some();
    let builds = match has_workspace || is_rust {
        true => LauncherTargetDir::Workspace,
        false => LauncherTargetDir::Toolkit,
    };
    // Where a file of the old name is, cargo reads that one.
    let old = ".cargo/config";
    let config = if target.find_entry(old)?.is_some() { old } else { ".cargo/config.toml" };
    let mut is_toolchain_old = false;
    for name in TOOLCHAIN_FILES {
        let text = target.read_text(name)?;
        let channel = text.as_deref().and_then(toolchain::parse_channel);
        is_toolchain_old |= channel.is_some_and(|channel| toolchain::is_too_old(&channel));
    }
    let alias = cargo_entries::add_alias(
        target.read_text(config)?.as_deref(),
        builds,
        is_toolchain_old,
        name,
    );
    add_entry(target, config, alias, files)?;
    let member = cargo_entries::add_workspace_member(
        target.read_text(manifest)?.as_deref(),
        &packages,
        name,
    );
    add_entry(target, manifest, member, files)?;
    let lock = "Cargo.lock";
    let has_lock = target.find_entry(lock)?.is_some();
    if has_lock || !has_workspace {
        add_entry(
            target,
            lock,
            cargo_entries::add_locked_package(target.read_text(lock)?.as_deref(), name),
            files,
        )?;
    }
    Ok(())
}

/// Notes what became of a file.
fn add_entry(
    target: &VendorTarget,
    path: &str,
    entry: CargoEdit,
    files: &mut PlannedFiles,
) -> Result<()> {
    let is_there = target.find_entry(path)?.is_some();
    match entry {
        CargoEdit::UpToDate => {}
        CargoEdit::Changed(text) if !is_there || target.read_text(path)?.is_some() => {
            if is_there {
                files.edited.push(path.to_owned());
            }
            let mode = target.file_mode(path)?;
            files.texts.insert(RepoPath::new(path), (mode, text.into_bytes()));
        }
        CargoEdit::Changed(_) => files.obstacles.push(format!("`{path}` is no text file")),
        CargoEdit::Manual { reason: why, lines } => {
            files.by_hand.push(ManualEdit { path: path.to_owned(), why, lines, can_append: false })
        }
        CargoEdit::NameTaken(what) => files.obstacles.push(format!("{path}: {what}")),
    }
    Ok(())
}

/// A text with lines at its end, in its own manner of ending lines.
fn append_lines(text: &str, lines: &str) -> Vec<u8> {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut whole = text.to_owned();
    if !whole.is_empty() && !whole.ends_with('\n') {
        whole.push_str(end);
    }
    whole.push_str(&lines.replace('\n', end));
    whole.into_bytes()
}
