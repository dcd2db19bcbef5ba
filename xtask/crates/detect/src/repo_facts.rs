//! Facts about a repository that vendoring needs, from the list of tracked files and the content of a few
//! *(pure)*.
//!
//! An unreadable file counts as absent, with a note. Obstacles to the toolkit's files are reported before any
//! is written. For example:
//!
//! ```text
//! ["Cargo.toml", "setup"] -> RepoFacts { rust: Some(..), obstacles: [`setup` is a file, NotAFolder], .. }
//! ```

use std::collections::{BTreeMap, BTreeSet};

pub use super::detected::{ManualEdit, RustProject};
pub use super::node::{NodePackageManager, NodeProject};
use super::packaging::Packaging;
pub use super::python::{PythonPackageManager, PythonProject};
pub use super::services::DetectedService;
use super::tree::{FileTree, ReadFile, find_table, find_value, list_keys, list_strings};
use super::{node, packaging, python, services, setuptools, tool_versions, unchecked_tools};
use xtask_base::path::RepoPath;
use xtask_config::Forge;

/// The paths that vendoring may write.
pub const VENDOR_PATHS: [&str; 17] = [
    ".cargo/config.toml",
    ".gitattributes",
    ".github/PULL_REQUEST_TEMPLATE/orchestration-pr.md",
    ".github/workflows/orchestration.yml",
    ".gitignore",
    ".gitlab-ci.yml",
    ".gitlab/merge_request_templates/orchestration-pr.md",
    ".gitlab/orchestration.yml",
    ".vscode/tasks.json",
    "Cargo.lock",
    "Cargo.toml",
    "deployment/README.md",
    "deployment/local.toml",
    "justfile",
    "setup/branches.toml",
    "setup/sync.toml",
    "setup/validate.toml",
];

/// Folders with third-party or sample sources, which are ignored by the detection.
const FOREIGN_FOLDERS: [&str; 13] = [
    "xtask",
    "target",
    "vendor",
    "third_party",
    "node_modules",
    "docs",
    "example",
    "examples",
    "fixtures",
    "templates",
    "test",
    "testdata",
    "tests",
];

/// The number of subfolders with a project of their own that get checks.
const MAX_FOLDERS: usize = 5;

pub struct DetectionInput<'a> {
    /// The name of the toolkit's folder, e.g. `xtask`.
    pub name: &'a str,
    /// The files that git tracks.
    pub paths: &'a [RepoPath],
    /// Reads one of `paths`.
    pub read: ReadFile<'a>,
    pub default_branch: &'a str,
    pub remote: Option<DetectedRemote>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedRemote {
    pub name: String,
    /// The forge, if the URL of the remote reveals it.
    pub forge: Option<Forge>,
}

/// Why a path cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObstacleKind {
    /// A file or a symlink at the path of a folder.
    NotAFolder,
    /// A folder at the path of a file.
    IsAFolder,
    /// A name that differs only in case, and is the same on case-insensitive file systems.
    CaseDiffers,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathObstacle {
    /// One of `VENDOR_PATHS`.
    pub place: &'static str,
    /// The existing path that conflicts.
    pub existing: String,
    pub kind: ObstacleKind,
}

impl PathObstacle {
    #[must_use]
    pub fn describe(&self) -> String {
        let PathObstacle { place, existing: by, kind: why } = self;
        match why {
            ObstacleKind::NotAFolder => {
                format!("`{by}` is a file or a symlink, but a folder is needed there for `{place}`")
            }
            ObstacleKind::IsAFolder => format!("`{by}` is a folder, but a file is needed there"),
            ObstacleKind::CaseDiffers => format!("`{by}` differs from `{place}` by case alone"),
        }
    }
}

/// A project in a subfolder, such as `backend/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubProject {
    /// The folder, relative to the root.
    pub folder: String,
    pub python: Option<PythonProject>,
    pub node: Option<NodeProject>,
    /// Whether there is a `go.mod`.
    pub has_go: bool,
    /// The required versions of programs, from the files of the folder.
    pub versions: BTreeMap<&'static str, String>,
}

/// What exists where the toolkit adds files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoLayout {
    /// Those of `deployment`, `scripts` and `setup` that exist: the toolkit adds files there, or branches
    /// often share them.
    pub folders: Vec<String>,
    pub has_github: bool,
    pub has_gitlab_ci: bool,
    /// Whether settings of VS Code are tracked.
    pub has_vscode: bool,
    /// The justfile, under the name it has.
    pub justfile: Option<String>,
    /// The files in the root, and the existing `VENDOR_PATHS`.
    pub files: Vec<String>,
    pub obstacles: Vec<PathObstacle>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoFacts {
    pub default_branch: String,
    pub remote: Option<DetectedRemote>,
    /// The Rust project in the root; `None` if the `Cargo.toml` is the toolkit's own.
    pub rust: Option<RustProject>,
    /// Whether the `Cargo.toml` in the root belongs to the toolkit alone, or does not exist yet.
    pub is_cargo_ours: bool,
    /// The outermost folders with a `Cargo.toml`, if the root has no Rust project.
    pub rust_folders: Vec<String>,
    pub python: Option<PythonProject>,
    pub node: Option<NodeProject>,
    /// Whether there is a `go.mod` in the root.
    pub has_go: bool,
    /// Projects in subfolders, of the languages that the root lacks.
    pub subprojects: Vec<SubProject>,
    /// The required versions by program, e.g. `"python3" -> ">=3.9"`.
    pub versions: BTreeMap<&'static str, String>,
    pub layout: RepoLayout,
    pub services: Vec<DetectedService>,
    pub packaging: Packaging,
    /// The `pyproject.toml` edit that keeps the toolkit out of a Python package, if necessary.
    pub setuptools: Option<ManualEdit>,
    /// Remarks for the user, e.g. about unreadable files.
    pub notes: Vec<String>,
}

/// Detects the facts of a repository.
#[must_use]
pub fn detect_repo(look: &DetectionInput<'_>) -> RepoFacts {
    let tree = FileTree::new(look.paths, look.read);
    let (rust, is_cargo_ours) = detect_rust(&tree, look.name);
    let rust_folders =
        if rust.is_none() && is_cargo_ours { find_rust_folders(&tree) } else { Vec::new() };
    let python = python::detect_python(&tree);
    let node = node::detect_node(&tree);
    let mut services =
        services::detect_services(&tree, rust.as_ref(), python.as_ref(), node.as_ref());
    let has_go = tree.has("go.mod");
    let folders_with =
        detect_subprojects(&tree, (python.is_some(), node.is_some(), has_go), &mut services);
    let versions = tool_versions::detect_versions(&tree, python.as_ref());
    unchecked_tools::note_unchecked_tools(&tree);
    let setuptools = setuptools::suggest_edit(&tree);
    RepoFacts {
        default_branch: look.default_branch.to_owned(),
        remote: look.remote.clone(),
        rust,
        is_cargo_ours,
        rust_folders,
        python,
        node,
        has_go,
        subprojects: folders_with,
        versions,
        layout: detect_layout(&tree, look.paths),
        services,
        packaging: packaging::detect_packaging(&tree),
        setuptools,
        notes: tree.into_notes(),
    }
}

fn detect_layout(tree: &FileTree<'_>, paths: &[RepoPath]) -> RepoLayout {
    let is_just = |name: &&str| {
        let name = name.to_ascii_lowercase();
        name == "justfile" || name == ".justfile"
    };
    let justfile = tree.root_files().find(is_just).map(str::to_owned);
    let mut files: Vec<String> = tree.root_files().map(str::to_owned).collect();
    files.extend(
        VENDOR_PATHS
            .iter()
            .filter(|path| path.contains('/') && tree.has(path))
            .map(|path| (*path).to_owned()),
    );
    files.sort();
    let folders = ["deployment", "scripts", "setup"].into_iter();
    RepoLayout {
        folders: folders.filter(|folder| tree.has_folder(folder)).map(str::to_owned).collect(),
        has_github: tree.has_folder(".github"),
        has_gitlab_ci: tree.has(".gitlab-ci.yml"),
        has_vscode: tree.has_folder(".vscode"),
        files,
        obstacles: find_obstacles(paths, justfile.is_some()),
        justfile,
    }
}

impl RepoFacts {
    /// Whether `path`, in the root or one of `VENDOR_PATHS`, exists.
    #[must_use]
    pub fn has_file(&self, path: &str) -> bool {
        self.layout.files.iter().any(|file| file == path)
    }

    /// Returns the obstacle to writing `path`, if any.
    #[must_use]
    pub fn find_obstacle(&self, path: &str) -> Option<&PathObstacle> {
        self.layout.obstacles.iter().find(|taken| {
            let by = taken.existing.as_str();
            let begins = path.get(..by.len()).is_some_and(|start| start.eq_ignore_ascii_case(by));
            let rest = path.get(by.len()..).unwrap_or_default();
            match taken.kind {
                ObstacleKind::NotAFolder => begins && rest.starts_with('/'),
                ObstacleKind::IsAFolder => begins && rest.is_empty(),
                ObstacleKind::CaseDiffers => begins && (rest.is_empty() || rest.starts_with('/')),
            }
        })
    }

    /// Whether a word of `default_checks::CONDITIONS` holds; `canonical` and `tests` are decided by the
    /// caller.
    #[must_use]
    pub fn meets_condition(&self, word: &str) -> bool {
        let rust = |is: fn(&RustProject) -> bool| self.rust.as_ref().is_some_and(is);
        match word {
            "rust" => rust(|_| true),
            "cargo-lock" => rust(|rust| rust.has_lock),
            "clippy" => rust(|rust| rust.has_clippy),
            word => meets_condition(word, self.python.as_ref(), self.node.as_ref(), self.has_go),
        }
    }
}

impl SubProject {
    /// Whether a word of `default_checks::CONDITIONS` holds in this folder.
    #[must_use]
    pub fn meets_condition(&self, word: &str) -> bool {
        meets_condition(word, self.python.as_ref(), self.node.as_ref(), self.has_go)
    }
}

fn meets_condition(
    word: &str,
    python: Option<&PythonProject>,
    node: Option<&NodeProject>,
    has_go: bool,
) -> bool {
    let has_manager = |word: &str| node.is_some_and(|node| node.manager.name() == word);
    let python = |is: fn(&PythonProject) -> bool| python.is_some_and(is);
    let node = |is: fn(&NodeProject) -> bool| node.is_some_and(is);
    match word {
        "python" => python(|_| true),
        "uv" => python(|python| python.manager == PythonPackageManager::Uv),
        "poetry" => python(|python| python.manager == PythonPackageManager::Poetry),
        "requirements" => python(|python| python.has_requirements),
        "ruff" => python(|python| python.has_ruff),
        "mypy" => python(|python| python.has_mypy),
        "mypy-files" => python(|python| python.has_mypy_files),
        "pytest" => python(|python| python.has_pytest),
        "node" => node(|_| true),
        "node-lock" => node(|node| node.has_lock),
        "node-packages" => node(|node| !node.packages.is_empty()),
        "typescript" => node(|node| node.has_typescript),
        "lint-script" => node(|node| node.has_lint_script),
        "eslint" => node(|node| node.has_eslint),
        "test-script" => node(|node| node.has_test_script),
        "go" => has_go,
        manager => has_manager(manager),
    }
}

/// Detects the Rust project in the root, and whether the `Cargo.toml` belongs to the toolkit alone; an
/// unreadable one does not.
fn detect_rust(tree: &FileTree<'_>, name: &str) -> (Option<RustProject>, bool) {
    if !tree.has("Cargo.toml") {
        return (None, true);
    }
    let launcher = format!("{name}/launcher");
    let found = tree.read_toml("Cargo.toml", |file| {
        let package = find_value(file, &["package", "name"]).and_then(|name| name.as_str());
        let is_package = find_table(file, &["package"]).is_some();
        let members = list_strings(file, &["workspace", "members"]);
        if !is_package && members == [launcher.as_str()] {
            return None;
        }
        let has_bin = find_value(file, &["bin"]).is_some();
        let lints = [&["lints"][..], &["workspace", "lints"]];
        Some(RustProject {
            package: package.map(str::to_owned),
            has_program: is_package && (has_bin || tree.has("src/main.rs")),
            is_workspace: find_table(file, &["workspace"]).is_some(),
            has_lock: tree.has("Cargo.lock"),
            has_clippy: tree.has("clippy.toml")
                || tree.has(".clippy.toml")
                || lints.iter().any(|path| list_keys(file, path).contains(&"clippy")),
            is_server: list_keys(file, &["dependencies"])
                .iter()
                .any(|name| services::SERVER_CRATES.contains(name)),
        })
    });
    match found {
        Some(None) => (None, true),
        Some(Some(rust)) => (Some(rust), false),
        None => (None, false),
    }
}

/// Detects projects in subfolders, of the languages (Python, Node, Go) that the root lacks.
fn detect_subprojects(
    tree: &FileTree<'_>,
    (python, node, go): (bool, bool, bool),
    services: &mut Vec<DetectedService>,
) -> Vec<SubProject> {
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, is_in_root) in [
        ("pyproject.toml", python),
        ("requirements.txt", python),
        ("package.json", node),
        ("go.mod", go),
    ] {
        let folders = if is_in_root { Vec::new() } else { find_outermost_folders(tree, file) };
        for folder in folders {
            kinds.entry(folder).or_default().insert(file);
        }
    }
    let is_plain = |folder: &str| {
        folder.len() <= 80
            && folder.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
    };
    if kinds.len() > MAX_FOLDERS {
        tree.add_note(format!(
            "there are {} folders with a project of their own; `setup/validate.toml` has checks for the first {MAX_FOLDERS}",
            kinds.len()
        ));
    }
    let mut found = Vec::new();
    for (folder, files) in
        kinds.into_iter().filter(|(folder, _)| is_plain(folder)).take(MAX_FOLDERS)
    {
        let inside = tree.subtree(folder);
        let is_python = files.contains("pyproject.toml") || files.contains("requirements.txt");
        let python = if is_python { python::detect_python(&inside) } else { None };
        let one = SubProject {
            folder: folder.to_owned(),
            versions: tool_versions::detect_versions(&inside, python.as_ref()),
            python,
            node: if files.contains("package.json") { node::detect_node(&inside) } else { None },
            has_go: files.contains("go.mod"),
        };
        let more = services::detect_services(&inside, None, one.python.as_ref(), one.node.as_ref());
        services::merge_services(services, more, folder);
        for note in inside.into_notes() {
            tree.add_note(format!("in `{folder}/`: {note}"));
        }
        found.push(one);
    }
    found
}

fn find_rust_folders(tree: &FileTree<'_>) -> Vec<String> {
    let mut found = find_outermost_folders(tree, "Cargo.toml");
    if found.len() > MAX_FOLDERS {
        tree.add_note(format!(
            "there are {} folders with a `Cargo.toml`; `setup/validate.toml` has checks for the first {MAX_FOLDERS}",
            found.len()
        ));
        found.truncate(MAX_FOLDERS);
    }
    found.into_iter().map(str::to_owned).collect()
}

/// Returns the folders that contain a file `name`, without those nested in another.
fn find_outermost_folders<'a>(tree: &FileTree<'a>, name: &str) -> Vec<&'a str> {
    let ending = format!("/{name}");
    let is_ours = |folder: &&str| {
        !folder.split('/').any(|part| FOREIGN_FOLDERS.contains(&part) || part.starts_with('.'))
            && !folder.contains(|c: char| c.is_control())
    };
    let folders = tree.all_paths().filter_map(|path| path.strip_suffix(&ending[..]));
    let folders: BTreeSet<&str> = folders.filter(is_ours).collect();
    let is_outermost =
        |folder: &&str| !folder.match_indices('/').any(|(at, _)| folders.contains(&folder[..at]));
    folders.iter().copied().filter(is_outermost).collect()
}

/// Finds the obstacles to `VENDOR_PATHS`, each once. A justfile of any spelling is found by just, so an
/// existing one is no obstacle.
fn find_obstacles(paths: &[RepoPath], has_justfile: bool) -> Vec<PathObstacle> {
    let mut found: Vec<PathObstacle> = Vec::new();
    for path in paths {
        for place in VENDOR_PATHS.into_iter().filter(|place| *place != "justfile" || !has_justfile)
        {
            let Some((by, why)) = path_obstacle(path, place) else { continue };
            let is_same = |known: &PathObstacle| {
                known.kind == why && known.existing.eq_ignore_ascii_case(&by)
            };
            if !found.iter().any(is_same) {
                found.push(PathObstacle { place, existing: by, kind: why });
            }
        }
    }
    found.sort();
    found
}

/// Returns how the file `path` conflicts with `place`, if so.
fn path_obstacle(path: &RepoPath, place: &str) -> Option<(String, ObstacleKind)> {
    let mut wanted = place.split('/').map(str::as_bytes);
    let mut there = path.components();
    let mut length = 0;
    loop {
        let (want, part) = match (wanted.next(), there.next()) {
            (None, None) => return None,
            (Some(_), None) => {
                return Some((render_prefix(path, length), ObstacleKind::NotAFolder));
            }
            (None, Some(_)) => return Some((render_prefix(path, length), ObstacleKind::IsAFolder)),
            (Some(want), Some(part)) => (want, part),
        };
        if !part.eq_ignore_ascii_case(want) {
            return None;
        }
        length += part.len() + usize::from(length > 0);
        if part != want {
            return Some((render_prefix(path, length), ObstacleKind::CaseDiffers));
        }
    }
}

fn render_prefix(path: &RepoPath, length: usize) -> String {
    String::from_utf8_lossy(&path.as_bytes()[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_checks::CONDITIONS;

    /// A made-up tree: paths with their contents.
    fn look_at(files: &[(&str, &str)]) -> RepoFacts {
        let paths: Vec<RepoPath> = files.iter().map(|(path, _)| RepoPath::new(*path)).collect();
        let read = |path: &str| {
            let found = files.iter().find(|(known, _)| *known == path);
            found.map(|(_, text)| text.as_bytes().to_vec())
        };
        detect_repo(&DetectionInput {
            name: "xtask",
            paths: &paths,
            read: &read,
            default_branch: "main",
            remote: None,
        })
    }

    /// The words that hold.
    fn words(facts: &RepoFacts) -> String {
        let holds =
            CONDITIONS.iter().map(|(word, _)| *word).filter(|word| facts.meets_condition(word));
        holds.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_empty_repository_is_nothing() {
        let facts = look_at(&[]);
        assert_eq!(words(&facts), "");
        assert!(facts.is_cargo_ours && facts.layout.obstacles.is_empty() && facts.notes.is_empty());
        let only_text = look_at(&[("README.md", "x"), ("setup/run.sh", ""), (".github/x", "")]);
        assert_eq!(words(&only_text), "");
        assert!(only_text.layout.has_github && only_text.layout.folders == ["setup"]);
    }

    #[test]
    fn python_is_known_by_who_installs_it_and_tools_only_where_they_are_installed() {
        let project = "[project]\nname = 'x'\ndependencies = ['FastAPI>=0.1', 'uvicorn[standard]']\n\
                       [dependency-groups]\ndev = ['ruff', {include-group = 'test'}]\n\
                       test = ['pytest>=8']\nother = ['mypy']\n\
                       [tool.ruff]\n[tool.mypy]\n[tool.pytest.ini_options]\n";
        let uv = look_at(&[("pyproject.toml", project), ("uv.lock", "")]);
        assert_eq!(words(&uv), "python uv ruff pytest");
        assert!(
            uv.notes[0].starts_with("`mypy` is configured, but not installed"),
            "{:?}",
            uv.notes
        );
        let named = format!("{project}files = ['src']\n[tool.uv]\ndefault-groups = 'all'\n");
        let named = named.replace("[tool.mypy]\n", "").replace("files", "[tool.mypy]\nfiles");
        let all = look_at(&[("pyproject.toml", &named), ("uv.lock", "")]);
        assert_eq!(words(&all), "python uv ruff mypy mypy-files pytest");
        let pip = look_at(&[("pyproject.toml", project)]);
        assert_eq!(
            words(&pip),
            "python ruff pytest",
            "what is optional is not installed by everybody"
        );
        let poetry = look_at(&[(
            "pyproject.toml",
            "[tool.poetry.dependencies]\nflask = '*'\n[tool.poetry.group.dev.dependencies]\n\
             Ruff = '*'\n[tool.poetry.group.docs]\noptional = true\n\
             [tool.poetry.group.docs.dependencies]\npytest = '*'\n[tool.ruff]\n[tool.pytest]\n",
        )]);
        assert_eq!(words(&poetry), "python poetry ruff");
        let requirements = look_at(&[
            ("requirements.txt", "# all\nflask==3\n-r other.txt\n"),
            ("requirements-dev.txt", "pytest\nmypy ; python_version > '3'\n"),
            ("setup.cfg", "[tool:pytest]\n[mypy]\n"),
        ]);
        assert_eq!(words(&requirements), "python requirements mypy pytest");
        assert!(requirements.python.unwrap().packages.contains(&"flask".to_owned()));
        assert_eq!(words(&look_at(&[("setup.py", "")])), "python");
        // A circle of groups ends.
        let circle = "[dependency-groups]\ndev = [{include-group = 'dev'}, 'ruff']\n[tool.ruff]\n";
        assert!(look_at(&[("pyproject.toml", circle)]).meets_condition("ruff"));
    }

    #[test]
    fn node_is_known_by_its_manager_and_its_scripts() {
        let package = r#"{"scripts": {"dev": "vite", "test": "vitest run", "lint": "eslint ."},
            "devDependencies": {"typescript": "5", "eslint": "9", "vite": "6"}}"#;
        let with = |lock: &str| {
            let files = [("package.json", package), ("tsconfig.json", "{}"), (lock, "")];
            words(&look_at(&files))
        };
        let rest = "node-lock node-packages typescript lint-script test-script";
        assert_eq!(with("package-lock.json"), format!("node npm {rest}"));
        assert_eq!(with("pnpm-lock.yaml"), format!("node pnpm {rest}"));
        assert_eq!(with("yarn.lock"), format!("node yarn {rest}"));
        assert_eq!(with("bun.lock"), format!("node bun {rest}"));
        assert_eq!(with("README"), format!("node npm {}", rest.replace("node-lock ", "")));
        let berry = |settings: &str| {
            let files = [("package.json", package), ("yarn.lock", ""), (".yarnrc.yml", settings)];
            words(&look_at(&files))
        };
        assert!(berry("nodeLinker: node-modules\n").contains("berry"));
        assert!(berry("").contains("plug-n-play"));
        let named = r#"{"packageManager": "pnpm@9.1.0", "dependencies": {"x": "1"}}"#;
        let both = look_at(&[("package.json", named), ("package-lock.json", "")]);
        assert_eq!(words(&both), "node pnpm node-packages");
        assert!(both.notes[0].contains("`package-lock.json` as well"), "{:?}", both.notes);
        let wrong = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1",
            "lint": "eslint --fix ."}, "devDependencies": {"eslint": "9"}}"#;
        let wrong = look_at(&[("package.json", wrong), ("eslint.config.js", "")]);
        assert_eq!(
            words(&wrong),
            "node npm node-packages eslint",
            "what changes files or is no test is no check"
        );
        let watch = look_at(&[("package.json", r#"{"scripts": {"test": "jest --watch"}}"#)]);
        assert_eq!(words(&watch), "node npm");
    }

    #[test]
    fn rust_is_looked_for_in_the_root_and_else_in_folders() {
        let workspace = "[workspace]\nmembers = ['a']\n[workspace.lints.clippy]\nall = 'warn'\n";
        let root = look_at(&[("Cargo.toml", workspace), ("Cargo.lock", ""), ("a/Cargo.toml", "")]);
        assert_eq!(words(&root), "rust cargo-lock clippy");
        assert!(!root.is_cargo_ours && root.rust_folders.is_empty());
        let package = look_at(&[("Cargo.toml", "[package]\nname = 'p'\n"), ("src/main.rs", "")]);
        assert_eq!(package.rust.as_ref().unwrap().package.as_deref(), Some("p"));
        assert!(package.rust.unwrap().has_program);
        let folders = look_at(&[
            ("backend/Cargo.toml", ""),
            ("backend/core/Cargo.toml", ""),
            ("backend-two/Cargo.toml", ""),
            ("vendor/x/Cargo.toml", ""),
            ("xtask/Cargo.toml", ""),
        ]);
        assert_eq!(folders.rust_folders, ["backend", "backend-two"]);
        assert!(folders.rust.is_none() && folders.is_cargo_ours);
        let ours = look_at(&[("Cargo.toml", "[workspace]\nmembers = [\"xtask/launcher\"]\n")]);
        assert!(ours.rust.is_none() && ours.is_cargo_ours, "the toolkit's own is no project");
        let broken = look_at(&[("Cargo.toml", "[package\n")]);
        assert!(broken.rust.is_none() && !broken.is_cargo_ours, "{:?}", broken.notes);
    }

    #[test]
    fn services_are_recognised() {
        let one = |files: &[(&str, &str)]| {
            let facts = look_at(files);
            facts.services.iter().map(|service| service.table.clone()).collect::<String>()
        };
        let vite = r#"{"scripts": {"dev": "vite"}, "devDependencies": {"vite": "6"}}"#;
        let vite = one(&[("package.json", vite), ("pnpm-lock.yaml", "")]);
        assert!(
            vite.contains("run = \"pnpm exec vite --host 127.0.0.1 --port {port} --strictPort\"")
        );
        let start = one(&[("package.json", r#"{"scripts": {"start": "node x"}}"#)]);
        assert!(start.contains("run = \"npm run start\""), "{start}");
        let fast = "from fastapi import FastAPI\n\nserver: FastAPI = FastAPI()\n";
        let fast = one(&[("requirements.txt", "fastapi\n"), ("app/main.py", fast)]);
        assert!(fast.contains("python3 -m uvicorn app.main:server --host"), "{fast}");
        let flask =
            one(&[("requirements.txt", "Flask\n"), ("app/__init__.py", "app = Flask(__name__)")]);
        assert!(flask.contains("python3 -m flask --app app:app run --host"), "{flask}");
        let django = one(&[("requirements.txt", "Django\n"), ("manage.py", "")]);
        assert!(
            django.contains("python3 manage.py runserver --noreload 127.0.0.1:{port}"),
            "{django}"
        );
        let package = "[package]\nname = 'p'\n[dependencies]\n";
        let cargo =
            |more: &str| one(&[("Cargo.toml", &format!("{package}{more}")), ("src/main.rs", "")]);
        assert!(cargo("axum = '0.8'\n").contains("cargo run --quiet --package p"));
        // A tool is no service, nor is what a library does while one works on it.
        assert_eq!(cargo("clap = '4'\n"), "");
        for scripts in [
            r#"{"scripts": {"dev": "tsc --watch"}}"#,
            r#"{"scripts": {"start": "node cli.js"}, "bin": {"p": "cli.js"}}"#,
        ] {
            assert_eq!(one(&[("package.json", scripts)]), "", "{scripts}");
        }
        // In folders of their own, at ports and under names of their own.
        let both = one(&[
            ("web/package.json", r#"{"scripts": {"start": "node server.js"}}"#),
            ("admin/package.json", r#"{"scripts": {"start": "node server.js"}}"#),
        ]);
        for wanted in [
            "[service.frontend]\nrun = \"npm run start\"\ndir = \"admin\"\nport = 3001\n",
            "[service.frontend-web]\nrun = \"npm run start\"\ndir = \"web\"\nport = 3002\n",
        ] {
            assert!(both.contains(wanted), "{both}");
        }
        assert_eq!(
            one(&[("main.py", "x = FastAPI()"), ("setup.py", "")]),
            "",
            "it is not installed"
        );
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let said = |path: &[u8]| {
            let paths = [RepoPath::new(path)];
            let look = DetectionInput {
                name: "xtask",
                paths: &paths,
                read: &|_| None,
                default_branch: "main",
                remote: None,
            };
            let facts = detect_repo(&look);
            facts.layout.obstacles.iter().map(PathObstacle::describe).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(
            said(b"setup"),
            "`setup` is a file or a symlink, but a folder is needed there for `setup/branches.toml`"
        );
        assert!(
            said(b"Deployment/a")
                .starts_with("`Deployment` differs from `deployment/README.md` by")
        );
        assert_eq!(
            said(b"setup/sync.toml/a"),
            "`setup/sync.toml` is a folder, but a file is needed there"
        );
        assert!(said(b"SETUP/\xff").starts_with("`SETUP` differs"));
        for fine in
            [&b"setup/mine"[..], b"Justfile", b"setups", b"\xff\xfe", b"src/setup", b"xtask/a"]
        {
            assert_eq!(said(fine), "", "{}", String::from_utf8_lossy(fine));
        }
        let facts = look_at(&[("Setup/x", "")]);
        assert!(
            facts.find_obstacle("setup/sync.toml").is_some()
                && facts.find_obstacle("setup/validate.toml").is_some()
        );
        assert!(facts.find_obstacle("deployment/local.toml").is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_counts_as_absent_and_is_told() {
        let broken = look_at(&[
            ("package.json", "{"),
            ("pyproject.toml", "[tool"),
            ("Cargo.toml", "= 1"),
            ("package-lock.json", ""),
        ]);
        assert_eq!(words(&broken), "");
        let text = broken.notes.join("\n");
        for name in
            ["package.json` is not JSON", "pyproject.toml` is not TOML", "Cargo.toml` is not TOML"]
        {
            assert!(text.contains(name), "{text}");
        }
        assert!(look_at(&[("package.json", "[]")]).notes[0].contains("not a JSON object"));
        let paths = [RepoPath::new("package.json"), RepoPath::new(b"\xff/package.json".to_vec())];
        let of = |bytes: Vec<u8>| {
            let read = move |_: &str| Some(bytes.clone());
            detect_repo(&DetectionInput {
                name: "xtask",
                paths: &paths,
                read: &read,
                default_branch: "main",
                remote: None,
            })
        };
        assert!(of(b"\xff".to_vec()).notes[0].contains("is not UTF-8"));
        assert!(of(vec![b' '; 4_000_001]).notes[0].contains("too large"));
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(of(deep.into_bytes()).notes[0].contains("is not JSON"));
        let unread = detect_repo(&DetectionInput {
            name: "xtask",
            paths: &paths,
            read: &|_| None,
            default_branch: "",
            remote: None,
        });
        assert!(unread.notes[0].contains("cannot read `package.json`"), "{:?}", unread.notes);
    }

    #[test]
    fn a_huge_list_is_no_matter() {
        let mut paths: Vec<RepoPath> = (0..100_000)
            .map(|number| RepoPath::new(format!("crates/c{number}/Cargo.toml")))
            .collect();
        paths.extend((0..1000).map(|number| RepoPath::new(format!("SETUP/{number}"))));
        let look = DetectionInput {
            name: "xtask",
            paths: &paths,
            read: &|_| None,
            default_branch: "main",
            remote: None,
        };
        let facts = detect_repo(&look);
        assert_eq!((facts.rust_folders.len(), facts.layout.obstacles.len()), (MAX_FOLDERS, 1));
        assert!(facts.notes[0].contains("100000 folders"), "{:?}", facts.notes);
    }
}
