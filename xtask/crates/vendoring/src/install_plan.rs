//! The plan of an installation: the toolkit, its entries in files of the repository, starter files, the manifest
//! `VENDORED.toml`, and the edits that remain to be made manually. Nothing is written to the worktree.
//!
//! ```text
//! VendorPlan { toolkit_files: 212, created: ["justfile", "setup/sync.toml"], edited: [".cargo/config.toml"],
//!              kept: ["deployment/README.md"], by_hand: [...], notes: [...], .. }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::target::VendorTarget;
use super::templates::{RenderedTemplate, TASKS_FILE, render_templates};
use walkdir::{DirEntry, WalkDir};
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_config::DEPLOYMENT_FOLDER;
use xtask_config::toolchain::{self, TOOLCHAIN_FILES};
use xtask_detect::repo_facts::{
    DetectedRemote, DetectionInput, ManualEdit, RepoFacts, detect_repo,
};
use xtask_git::{self as repo, AllPaths, FileMode, Repo, TreeChange};
use xtask_upgrade::cargo_alias::{self, LauncherTargetDir};
use xtask_upgrade::cargo_entries::{self, CargoEdit, CargoPackage};
use xtask_upgrade::manifest::{MANIFEST_NAME, VendorManifest, compute_checksum};
use xtask_upgrade::parts::ToolkitParts;
use xtask_upgrade::toolkit::Toolkit;

/// Planned changes of a repository.
pub struct VendorPlan {
    /// All files, as changes of the tree of HEAD.
    pub changes: Vec<TreeChange>,
    /// Number of files of the toolkit itself, with the manifest.
    pub toolkit_files: usize,
    /// Parts of the toolkit, e.g. `sync,hooks,checks`.
    pub parts: ToolkitParts,
    /// Paths of new files outside the toolkit.
    pub created: Vec<String>,
    /// Paths of existing files that get additional lines.
    pub edited: Vec<String>,
    /// Paths of starter files that already exist and are kept.
    pub kept: Vec<String>,
    /// Edits that remain to be made manually.
    pub by_hand: Vec<ManualEdit>,
    /// Whether `cargo xtask` runs there only after some of these edits.
    pub needs_cargo_edits: bool,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Whether the repository has a remote.
    pub has_remote: bool,
}

/// Facts about the repository that are not in its files.
pub struct VendorContext {
    /// Branch from which other branches start, e.g. `main`.
    pub default_branch: String,
    pub remote: Option<DetectedRemote>,
    /// URL of the toolkit for `upgrade`, if other machines can reach it.
    pub source: Option<String>,
    /// Branches without automatic commits; `None` means `default_branch`.
    pub protected: Option<Vec<String>>,
}

/// Files planned so far, with mode and content.
struct PlannedFiles {
    texts: BTreeMap<RepoPath, (FileMode, Vec<u8>)>,
    edited: Vec<String>,
    by_hand: Vec<ManualEdit>,
    obstacles: Vec<String>,
}

/// Returns the default parts for a repository: with `services` only if it has layers or recognized services.
pub fn detect_parts(target: &VendorTarget, around: &VendorContext) -> Result<ToolkitParts> {
    let paths: Vec<RepoPath> = list_tracked(target)?.into_keys().collect();
    let facts = detect_facts(target, NAME, &paths, around);
    let has_layers = facts.layout.folders.iter().any(|folder| folder == DEPLOYMENT_FOLDER);
    Ok(ToolkitParts::default_parts(!facts.services.is_empty() || has_layers))
}

/// Plans the installation. The blobs are written into `into`, which may be in memory (dry run).
///
/// Returns an error of kind `Negative` that lists all obstacles, such as an alias of the same name.
pub fn plan_install(
    target: &VendorTarget,
    into: &Repo,
    toolkit: &Toolkit,
    around: VendorContext,
) -> Result<VendorPlan> {
    let listed = list_tracked(target)?;
    let links = listed.iter().filter(|(_, entry)| entry.mode == FileMode::Gitlink);
    let mut others: Vec<String> = links.map(|(path, _)| path.to_string()).collect();
    others.extend(find_packages_on_disk(target.repo.root()));
    let paths: Vec<RepoPath> = listed.into_keys().collect();
    let mut facts = detect_facts(target, &toolkit.spec.name, &paths, &around);
    // Where git ignores tasks, each user has their own.
    let tasks = RepoPath::new(TASKS_FILE);
    facts.layout.has_vscode &= !target.repo.read_ignore_rules()?.is_ignored(&tasks, false);
    let read = |path: &str| target.read_on_disk(path);
    let protected = around.protected.unwrap_or_else(|| vec![around.default_branch.clone()]);
    let starters = render_templates(&facts, &read, &toolkit.spec, &protected);
    let mut files = PlannedFiles {
        texts: BTreeMap::new(),
        edited: Vec::new(),
        by_hand: Vec::new(),
        obstacles: target.obstacles.clone(),
    };
    plan_cargo_entries(target, &paths, &others, &toolkit.spec.name, &mut files)?;
    files.ensure_no_obstacles()?;
    let needs_cargo_edits = !files.by_hand.is_empty();
    exclude_from_publish(target, &starters.toolkit_paths, &mut files)?;
    let is_new = |path: &String| !files.edited.contains(path);
    let mut created: Vec<String> =
        files.texts.keys().map(ToString::to_string).filter(is_new).collect();
    created.extend(starters.files.iter().map(|starter| starter.path.to_owned()));
    created.sort();
    add_toolkit_files(toolkit, around.source, starters.files, &mut files)?;
    add_manual_lines(target, starters.by_hand, &mut files)?;
    files.edited.sort();
    let changes = files.texts.into_iter().map(|(path, (mode, content))| {
        Ok((path, Some(repo::TreeEntry { mode, id: into.write_blob(&content)? })))
    });
    let mut notes = facts.notes;
    notes.extend(starters.notes);
    Ok(VendorPlan {
        changes: changes.collect::<Result<_>>()?,
        toolkit_files: toolkit.files().len() + 1,
        parts: toolkit.spec.parts.clone(),
        created,
        edited: files.edited,
        // Missing lines of `.gitignore` are in `by_hand` or `edited`.
        kept: starters.kept.into_iter().filter(|path| path != ".gitignore").collect(),
        by_hand: files.by_hand,
        needs_cargo_edits,
        notes,
        has_remote: around.remote.is_some(),
    })
}

fn list_tracked(target: &VendorTarget) -> Result<BTreeMap<RepoPath, repo::TreeEntry>> {
    target.tree.map_or(Ok(BTreeMap::new()), |tree| target.repo.list_tree(tree, &AllPaths))
}

fn detect_facts(
    target: &VendorTarget,
    name: &str,
    paths: &[RepoPath],
    around: &VendorContext,
) -> RepoFacts {
    let read = |path: &str| target.read_on_disk(path);
    let (default_branch, remote) = (&around.default_branch, around.remote.clone());
    detect_repo(&DetectionInput { name, paths, read: &read, default_branch, remote })
}

impl PlannedFiles {
    fn ensure_no_obstacles(&self) -> Result<()> {
        if self.obstacles.is_empty() {
            return Ok(());
        }
        let refused = Error::negative("cannot vendor the toolkit; nothing was changed");
        Err(self
            .obstacles
            .iter()
            .fold(refused, Error::with_detail)
            .with_hint("move the obstacles away, commit, and try again")
            .with_hint("or give it another name: `--name NAME` puts all of it under `NAME/` and `cargo NAME`"))
    }
}

/// Excludes the paths of the toolkit from the package in the root, if it is published.
fn exclude_from_publish(
    target: &VendorTarget,
    toolkit_paths: &[String],
    files: &mut PlannedFiles,
) -> Result<()> {
    let cargo = RepoPath::new("Cargo.toml");
    let text = match files.texts.get(&cargo) {
        Some((_, content)) => String::from_utf8(content.clone()).ok(),
        None => target.read_text("Cargo.toml")?,
    };
    let edited = text.and_then(|text| cargo_entries::exclude_from_publish(&text, toolkit_paths));
    if let Some(text) = edited {
        if !files.edited.contains(&"Cargo.toml".to_owned()) {
            files.edited.push("Cargo.toml".to_owned());
        }
        files.texts.insert(cargo, (target.file_mode("Cargo.toml")?, text.into_bytes()));
    }
    Ok(())
}

/// Adds the files of the toolkit, the starter files, and the manifest that lists them.
fn add_toolkit_files(
    toolkit: &Toolkit,
    source: Option<String>,
    starters: Vec<RenderedTemplate>,
    files: &mut PlannedFiles,
) -> Result<()> {
    let mut manifest = VendorManifest {
        version: toolkit.version.clone(),
        source,
        commit: toolkit.commit.to_string(),
        parts: toolkit.spec.parts.clone(),
        files: BTreeMap::new(),
        placed: BTreeMap::new(),
    };
    let mut templates = BTreeMap::new();
    for (path, entry) in toolkit.templates() {
        templates.insert(toolkit.read_content(*entry)?, path.to_string());
    }
    for (path, entry) in toolkit.files() {
        let content = toolkit.read_content(*entry)?;
        let checksum = compute_checksum(&content, entry.mode == FileMode::Executable);
        manifest.files.insert(path.to_string(), checksum);
        files.texts.insert(path.clone(), (entry.mode, content));
    }
    for starter in starters {
        let content = starter.text.into_bytes();
        // A starter that is identical to the toolkit's template is updated by `upgrade` like the toolkit.
        if let Some(template) = templates.get(&content) {
            manifest.files.insert(starter.path.to_owned(), compute_checksum(&content, false));
            manifest.placed.insert(starter.path.to_owned(), template.clone());
        }
        files.texts.insert(RepoPath::new(starter.path), (FileMode::File, content));
    }
    let path = RepoPath::new(format!("{}/{MANIFEST_NAME}", toolkit.spec.name));
    files.texts.insert(path, (FileMode::File, manifest.to_toml().into_bytes()));
    Ok(())
}

/// Appends the lines to files where that is possible, and leaves the others to the user.
fn add_manual_lines(
    target: &VendorTarget,
    edits: Vec<ManualEdit>,
    files: &mut PlannedFiles,
) -> Result<()> {
    for edit in edits {
        match target.read_text(&edit.path)? {
            Some(text) if edit.can_append => {
                files.edited.push(edit.path.clone());
                let file = (target.file_mode(&edit.path)?, append_lines(&text, &edit.lines));
                files.texts.insert(RepoPath::new(edit.path), file);
            }
            _ => files.by_hand.push(edit),
        }
    }
    Ok(())
}

/// Depth below the root of the search for untracked packages.
const MAX_PACKAGE_DEPTH: usize = 4;

/// Returns the folders on the disk with a `Cargo.toml`, tracked or not: generated packages and those in submodules
/// must keep building on their own.
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

/// Plans the entries in `Cargo.toml`, `Cargo.lock` and `.cargo/config.toml`. `others` are folders with packages that
/// are not tracked here.
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
    // If both files exist, cargo reads `.cargo/config` and ignores `.cargo/config.toml`.
    let old = ".cargo/config";
    let config = if target.find_entry(old)?.is_some() { old } else { ".cargo/config.toml" };
    let mut is_toolchain_old = false;
    for name in TOOLCHAIN_FILES {
        let text = target.read_text(name)?;
        let channel = text.as_deref().and_then(toolchain::parse_channel);
        is_toolchain_old |= channel.is_some_and(|channel| toolchain::is_too_old(&channel));
    }
    let alias = cargo_alias::add_alias(
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

/// Adds the result of an edit of `path` to the plan.
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
        CargoEdit::Changed(_) => files.obstacles.push(format!("`{path}` is not a text file")),
        CargoEdit::Manual { reason: why, lines } => {
            files.by_hand.push(ManualEdit { path: path.to_owned(), why, lines, can_append: false })
        }
        CargoEdit::NameTaken(what) => files.obstacles.push(format!("{path}: {what}")),
    }
    Ok(())
}

/// Appends `lines` to `text`, with the line endings (LF or CRLF) of `text`.
fn append_lines(text: &str, lines: &str) -> Vec<u8> {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut whole = text.to_owned();
    if !whole.is_empty() && !whole.ends_with('\n') {
        whole.push_str(end);
    }
    whole.push_str(&lines.replace('\n', end));
    whole.into_bytes()
}
