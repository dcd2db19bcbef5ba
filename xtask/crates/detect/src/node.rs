//! The Node project in the root: its package manager, and the scripts and tools that are set up *(pure)*.
//!
//! ```text
//! package.json {"scripts": {"test": "vitest run"}} + pnpm-lock.yaml
//!   -> NodeProject { manager: Pnpm, has_lock: true, has_test_script: true, .. }
//! ```

use serde_json::{Map, Value};

use super::services;
use super::tree::FileTree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePackageManager {
    /// `npm`, also the default.
    Npm,
    Pnpm,
    /// Yarn 1.
    Yarn,
    /// Yarn 2 or later, with `node_modules`.
    Berry,
    /// Yarn 2 or later, without `node_modules`.
    PlugAndPlay,
    Bun,
}

impl NodePackageManager {
    /// Returns the word in `default_checks::CONDITIONS`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NodePackageManager::Npm => "npm",
            NodePackageManager::Pnpm => "pnpm",
            NodePackageManager::Yarn => "yarn",
            NodePackageManager::Berry => "berry",
            NodePackageManager::PlugAndPlay => "plug-n-play",
            NodePackageManager::Bun => "bun",
        }
    }

    /// Returns the command that runs a script of `package.json`.
    #[must_use]
    pub fn run_command(self) -> &'static str {
        match self {
            NodePackageManager::Npm => "npm run",
            NodePackageManager::Pnpm => "pnpm run",
            NodePackageManager::Yarn
            | NodePackageManager::Berry
            | NodePackageManager::PlugAndPlay => "yarn run",
            NodePackageManager::Bun => "bun run",
        }
    }

    /// Returns the command that runs a program of an installed package.
    #[must_use]
    pub fn exec_command(self) -> &'static str {
        match self {
            NodePackageManager::Npm => "npx --no-install",
            NodePackageManager::Pnpm => "pnpm exec",
            other => other.run_command(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProject {
    pub manager: NodePackageManager,
    /// Whether there are dependencies or workspaces, and a lock file of `manager`.
    pub has_lock: bool,
    /// Whether there is a `tsconfig.json`, and `typescript` is a dependency.
    pub has_typescript: bool,
    /// Whether eslint is configured and a dependency, and no `lint` script is usable.
    pub has_eslint: bool,
    /// Whether there is a script `lint` that changes no files.
    pub has_lint_script: bool,
    /// Whether there is a script `test` that ends without intervention.
    pub has_test_script: bool,
    pub has_dev_script: bool,
    pub has_start_script: bool,
    /// Whether the script `dev`, or else `start`, runs a server.
    pub is_server: bool,
    /// The names of all dependencies.
    pub packages: Vec<String>,
}

/// The lock files and their package managers.
const LOCK_FILES: [(&str, NodePackageManager); 6] = [
    ("pnpm-lock.yaml", NodePackageManager::Pnpm),
    ("yarn.lock", NodePackageManager::Yarn),
    ("bun.lock", NodePackageManager::Bun),
    ("bun.lockb", NodePackageManager::Bun),
    ("package-lock.json", NodePackageManager::Npm),
    ("npm-shrinkwrap.json", NodePackageManager::Npm),
];

/// The keys of `package.json` that list dependencies.
const DEPENDENCY_KEYS: [&str; 4] =
    ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

/// Options with which a script changes files or does not end.
const MUTATING_FLAGS: [&str; 4] = ["--fix", "--write", "--watch", "--apply"];

/// Programs that run npm scripts by name.
const SCRIPT_RUNNERS: [&str; 13] = [
    "bun",
    "concurrently",
    "lerna",
    "moon",
    "npm",
    "npm-run-all",
    "nx",
    "pnpm",
    "rush",
    "run-p",
    "run-s",
    "turbo",
    "yarn",
];

/// The depth to which scripts that run other scripts are followed.
const MAX_EXPANSIONS: usize = 5;

/// Returns a script and all scripts that it may run. The package of a script is not always known, so scripts
/// of the same name in all packages count.
fn expand_script(tree: &FileTree<'_>, script: &str) -> Vec<String> {
    let is_package = |path: &&str| {
        path.rsplit('/').next() == Some("package.json") && !path.contains("node_modules/")
    };
    let mut known: Vec<(String, String)> = Vec::new();
    let mut is_read = false;
    let mut all = vec![script.to_owned()];
    let mut from = 0;
    for _ in 0..MAX_EXPANSIONS {
        let now = all.len();
        for at in from..now {
            let text = all[at].clone();
            let words: Vec<&str> =
                text.split(|c: char| c.is_whitespace() || "'\"&|;()".contains(c)).collect();
            let runs = words.iter().any(|word| SCRIPT_RUNNERS.contains(word));
            if !runs {
                continue;
            }
            if !is_read {
                is_read = true;
                for file in tree.all_paths().filter(is_package) {
                    let scripts = tree.read_json(file).and_then(|mut file| file.remove("scripts"));
                    let scripts = scripts.as_ref().and_then(Value::as_object);
                    let texts = scripts.into_iter().flatten();
                    known.extend(texts.filter_map(|(name, text)| {
                        Some((name.clone(), text.as_str()?.to_owned()))
                    }));
                }
            }
            for (name, text) in &known {
                // A pattern such as `lint:*` matches all names with that prefix.
                let is_named = words.iter().any(|word| {
                    *word == name
                        || word.strip_suffix('*').is_some_and(|start| name.starts_with(start))
                });
                if is_named && !all.contains(text) {
                    all.push(text.clone());
                }
            }
        }
        from = now;
    }
    all
}

pub(super) fn detect_node(tree: &FileTree<'_>) -> Option<NodeProject> {
    let file = tree.read_json("package.json")?;
    let mut packages: Vec<String> = Vec::new();
    for key in DEPENDENCY_KEYS {
        let names = file.get(key).and_then(Value::as_object);
        packages.extend(names.into_iter().flat_map(|names| names.keys().cloned()));
    }
    packages.sort();
    packages.dedup();
    let (manager, lock) = detect_package_manager(tree, &file);
    let has = |name: &str| packages.iter().any(|package| package == name);
    let script = |name: &str| {
        let script = file.get("scripts").and_then(|scripts| scripts.get(name));
        script.and_then(Value::as_str)
    };
    let has_tsconfig = tree.has("tsconfig.json");
    if has_tsconfig && !has("typescript") {
        tree.add_note(
            "there is a `tsconfig.json`, but `typescript` is not a dependency: it has no check in \
             `setup/validate.toml`"
                .to_owned(),
        );
    }
    let lint = script("lint").filter(|lint| is_checking(tree, lint));
    let test = script("test").filter(|test| is_ending(tree, test));
    let is_eslint_file =
        |name: &str| name.starts_with("eslint.config.") || name.starts_with(".eslintrc");
    let is_configured = file.contains_key("eslintConfig") || tree.root_files().any(is_eslint_file);
    Some(NodeProject {
        manager,
        has_lock: lock && (!packages.is_empty() || file.contains_key("workspaces")),
        has_typescript: has_tsconfig && has("typescript"),
        has_eslint: lint.is_none() && is_configured && has("eslint"),
        has_lint_script: lint.is_some(),
        has_test_script: test.is_some(),
        has_dev_script: script("dev").is_some(),
        has_start_script: script("start").is_some(),
        // A package with a `bin` is a command-line tool.
        is_server: !file.contains_key("bin")
            && script("dev").or(script("start")).is_some_and(services::is_service_script),
        packages,
    })
}

/// Whether the script `lint` changes no files and ends; adds a note if not.
fn is_checking(tree: &FileTree<'_>, lint: &str) -> bool {
    let all = expand_script(tree, lint);
    let is_changing =
        MUTATING_FLAGS.iter().any(|word| all.iter().any(|script| script.contains(word)));
    if is_changing {
        tree.add_note(format!(
            "the script `lint` (`{lint}`) changes files or does not end: it has no check"
        ));
    }
    !is_changing
}

/// Whether the script `test` runs tests and ends by itself; adds a note if it does not end.
fn is_ending(tree: &FileTree<'_>, test: &str) -> bool {
    let all = expand_script(tree, test);
    let is_endless =
        all.iter().any(|script| script.contains("--watch") && !script.contains("--watch=false"));
    if is_endless {
        tree.add_note(format!(
            "the script `test` (`{test}`) does not end by itself: it has no check"
        ));
    }
    !is_endless && !test.contains("no test specified")
}

/// Detects the package manager, by `packageManager` or else by a lock file, and whether its lock file exists.
fn detect_package_manager(
    tree: &FileTree<'_>,
    file: &Map<String, Value>,
) -> (NodePackageManager, bool) {
    let there: Vec<(&str, NodePackageManager)> =
        LOCK_FILES.into_iter().filter(|(name, _)| tree.has(name)).collect();
    let named = file.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    let (name, version) = named.split_once('@').unwrap_or((named, ""));
    let named = match name {
        "npm" => Some(NodePackageManager::Npm),
        "pnpm" => Some(NodePackageManager::Pnpm),
        "yarn" => Some(NodePackageManager::Yarn),
        "bun" => Some(NodePackageManager::Bun),
        _ => None,
    };
    let chosen = named.or_else(|| there.first().map(|(_, manager)| *manager));
    let chosen = chosen.unwrap_or(NodePackageManager::Npm);
    let has_lock = there.iter().any(|(_, manager)| *manager == chosen);
    if let Some((other, _)) = there.iter().find(|(_, manager)| *manager != chosen) {
        tree.add_note(format!("there is `{other}` as well; the checks use {}", chosen.name()));
    }
    let is_one = version.starts_with("1.") || (named.is_none() && !tree.has(".yarnrc.yml"));
    if chosen != NodePackageManager::Yarn || is_one {
        return (chosen, has_lock);
    }
    let settings = tree.read_text(".yarnrc.yml").unwrap_or_default();
    let linker = settings.lines().find_map(|line| line.strip_prefix("nodeLinker:"));
    let linker = linker.map(|linker| linker.trim().trim_matches(['"', '\'']));
    match linker {
        Some("node-modules" | "pnpm") => (NodePackageManager::Berry, has_lock),
        _ => (NodePackageManager::PlugAndPlay, has_lock),
    }
}
