//! What there is of Node in the root of a repository: who keeps the packages, and which scripts and
//! tools are really set up *(pure)*.

use serde_json::{Map, Value};

use super::services;
use super::tree::Tree;

/// Who keeps the packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// `npm`, also where nobody says anything.
    Npm,
    /// `pnpm`.
    Pnpm,
    /// `yarn` 1.
    Yarn,
    /// `yarn` 2 or later, with `node_modules`.
    Berry,
    /// `yarn` 2 or later, without.
    PlugAndPlay,
    /// `bun`.
    Bun,
}

impl Manager {
    /// The word for it among those of the checks.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Manager::Npm => "npm",
            Manager::Pnpm => "pnpm",
            Manager::Yarn => "yarn",
            Manager::Berry => "berry",
            Manager::PlugAndPlay => "plug-n-play",
            Manager::Bun => "bun",
        }
    }

    /// How a script is run.
    #[must_use]
    pub fn run(self) -> &'static str {
        match self {
            Manager::Npm => "npm run",
            Manager::Pnpm => "pnpm run",
            Manager::Yarn | Manager::Berry | Manager::PlugAndPlay => "yarn run",
            Manager::Bun => "bun run",
        }
    }

    /// How a program of a package is run.
    #[must_use]
    pub fn exec(self) -> &'static str {
        match self {
            Manager::Npm => "npx --no-install",
            Manager::Pnpm => "pnpm exec",
            other => other.run(),
        }
    }
}

/// What there is of Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Who keeps its packages.
    pub manager: Manager,
    /// Whether it has packages, and a lock file for them.
    pub has_lock: bool,
    /// Whether TypeScript is set up.
    pub has_typescript: bool,
    /// Whether eslint is set up.
    pub has_eslint: bool,
    /// Whether there is a script `lint` that changes no file.
    pub has_lint: bool,
    /// Whether there is a script `test` that ends by itself.
    pub has_test: bool,
    /// Whether there is a script `dev`.
    pub has_dev: bool,
    /// Whether there is a script `start`.
    pub has_start: bool,
    /// Whether the one of both that would be run starts something that serves.
    pub serves: bool,
    /// What it depends on, by name.
    pub packages: Vec<String>,
}

/// The lock files, and whose they are.
const LOCKS: [(&str, Manager); 6] = [
    ("pnpm-lock.yaml", Manager::Pnpm),
    ("yarn.lock", Manager::Yarn),
    ("bun.lock", Manager::Bun),
    ("bun.lockb", Manager::Bun),
    ("package-lock.json", Manager::Npm),
    ("npm-shrinkwrap.json", Manager::Npm),
];

/// Where packages are named.
const DEPENDENCIES: [&str; 4] =
    ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

/// What in a script says that it changes files, or does not end.
const CHANGING: [&str; 4] = ["--fix", "--write", "--watch", "--apply"];

/// Programs that run scripts of packages by their names.
const RUNNERS: [&str; 13] = [
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

/// How many turns scripts are followed that run others.
const TURNS: usize = 5;

/// A script and all that it may run: which package it means is not always told, so scripts of that name count in each.
fn with_those_it_runs(tree: &Tree<'_>, script: &str) -> Vec<String> {
    let is_package = |path: &&str| {
        path.rsplit('/').next() == Some("package.json") && !path.contains("node_modules/")
    };
    let mut known: Vec<(String, String)> = Vec::new();
    let mut is_read = false;
    let mut all = vec![script.to_owned()];
    let mut from = 0;
    for _ in 0..TURNS {
        let now = all.len();
        for at in from..now {
            let text = all[at].clone();
            let words: Vec<&str> =
                text.split(|c: char| c.is_whitespace() || "'\"&|;()".contains(c)).collect();
            let runs = words.iter().any(|word| RUNNERS.contains(word));
            if !runs {
                continue;
            }
            if !is_read {
                is_read = true;
                for file in tree.all().filter(is_package) {
                    let scripts = tree.json(file).and_then(|mut file| file.remove("scripts"));
                    let scripts = scripts.as_ref().and_then(Value::as_object);
                    let texts = scripts.into_iter().flatten();
                    known.extend(texts.filter_map(|(name, text)| {
                        Some((name.clone(), text.as_str()?.to_owned()))
                    }));
                }
            }
            for (name, text) in &known {
                // A pattern such as `lint:*` means those that begin so.
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

/// Looks at the root.
pub(super) fn look(tree: &Tree<'_>) -> Option<Node> {
    let file = tree.json("package.json")?;
    let mut packages: Vec<String> = Vec::new();
    for key in DEPENDENCIES {
        let names = file.get(key).and_then(Value::as_object);
        packages.extend(names.into_iter().flat_map(|names| names.keys().cloned()));
    }
    packages.sort();
    packages.dedup();
    let (manager, lock) = manager(tree, &file);
    let has = |name: &str| packages.iter().any(|package| package == name);
    let script = |name: &str| {
        let script = file.get("scripts").and_then(|scripts| scripts.get(name));
        script.and_then(Value::as_str)
    };
    let has_tsconfig = tree.has("tsconfig.json");
    if has_tsconfig && !has("typescript") {
        tree.note(
            "there is a `tsconfig.json`, and `typescript` is not among the packages: it has no check in \
             `setup/validate.toml`"
                .to_owned(),
        );
    }
    let lint = script("lint").filter(|lint| {
        let all = with_those_it_runs(tree, lint);
        let is_changing =
            CHANGING.iter().any(|word| all.iter().any(|script| script.contains(word)));
        if is_changing {
            tree.note(format!(
                "the script `lint` (`{lint}`) changes files or does not end: it has no check"
            ));
        }
        !is_changing
    });
    let test = script("test").filter(|test| {
        let all = with_those_it_runs(tree, test);
        let is_endless = all
            .iter()
            .any(|script| script.contains("--watch") && !script.contains("--watch=false"));
        if is_endless {
            tree.note(format!(
                "the script `test` (`{test}`) does not end by itself: it has no check"
            ));
        }
        !is_endless && !test.contains("no test specified")
    });
    let is_eslint_file =
        |name: &str| name.starts_with("eslint.config.") || name.starts_with(".eslintrc");
    let is_configured = file.contains_key("eslintConfig") || tree.in_root().any(is_eslint_file);
    Some(Node {
        manager,
        has_lock: lock && (!packages.is_empty() || file.contains_key("workspaces")),
        has_typescript: has_tsconfig && has("typescript"),
        has_eslint: lint.is_none() && is_configured && has("eslint"),
        has_lint: lint.is_some(),
        has_test: test.is_some(),
        has_dev: script("dev").is_some(),
        has_start: script("start").is_some(),
        // A package with a program of its own is a tool.
        serves: !file.contains_key("bin")
            && script("dev").or(script("start")).is_some_and(services::is_service),
        packages,
    })
}

/// Who keeps the packages, and whether there is a lock file of it: what `packageManager` names, or else
/// who has a lock file.
fn manager(tree: &Tree<'_>, file: &Map<String, Value>) -> (Manager, bool) {
    let there: Vec<(&str, Manager)> =
        LOCKS.into_iter().filter(|(name, _)| tree.has(name)).collect();
    let named = file.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    let (name, version) = named.split_once('@').unwrap_or((named, ""));
    let named = match name {
        "npm" => Some(Manager::Npm),
        "pnpm" => Some(Manager::Pnpm),
        "yarn" => Some(Manager::Yarn),
        "bun" => Some(Manager::Bun),
        _ => None,
    };
    let chosen = named.or_else(|| there.first().map(|(_, manager)| *manager));
    let chosen = chosen.unwrap_or(Manager::Npm);
    let has_lock = there.iter().any(|(_, manager)| *manager == chosen);
    if let Some((other, _)) = there.iter().find(|(_, manager)| *manager != chosen) {
        tree.note(format!("there is `{other}` as well; the checks are made for {}", chosen.word()));
    }
    let is_one = version.starts_with("1.") || (named.is_none() && !tree.has(".yarnrc.yml"));
    if chosen != Manager::Yarn || is_one {
        return (chosen, has_lock);
    }
    let settings = tree.text(".yarnrc.yml").unwrap_or_default();
    let linker = settings.lines().find_map(|line| line.strip_prefix("nodeLinker:"));
    let linker = linker.map(|linker| linker.trim().trim_matches(['"', '\'']));
    match linker {
        Some("node-modules" | "pnpm") => (Manager::Berry, has_lock),
        _ => (Manager::PlugAndPlay, has_lock),
    }
}
