//! Rendering of `setup/sync.toml`: the managed paths, and files that are often shared as comments *(pure)*.
//!
//! ```text
//! placed: justfile, setup/branches.toml  ->  include = ["/.cargo/config.toml", "/justfile", "/setup/", "/xtask/"]
//! ```

use super::templates::{ATTRIBUTES_FILE, GITHUB_FILE, RenderedTemplate, push_line};
use xtask_config::SYNC_FILE;
use xtask_detect::repo_facts::RepoFacts;
use xtask_upgrade::toml_edits::quote_toml;

const SYNC_TEMPLATE: &str = include_str!("starters/sync.toml");

/// Files that are often the same on every branch; they are suggested as comments, not managed by default.
const OFTEN_SHARED: [&str; 36] = [
    ".editorconfig",
    ".eslintrc.json",
    ".flake8",
    ".gitattributes",
    ".gitignore",
    ".gitlab-ci.yml",
    ".node-version",
    ".nvmrc",
    ".pre-commit-config.yaml",
    ".prettierrc",
    ".pylintrc",
    ".python-version",
    ".ruff.toml",
    "Makefile",
    "clippy.toml",
    "components.json",
    "drizzle.config.ts",
    "eslint.config.js",
    "eslint.config.mjs",
    "justfile",
    "launch.py",
    "mypy.ini",
    "package.json",
    "pyproject.toml",
    "pytest.ini",
    "requirements-dev.txt",
    "requirements.txt",
    "ruff.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "setup.cfg",
    "tailwind.config.ts",
    "tox.ini",
    "tsconfig.json",
    "uv.lock",
    "vite.config.ts",
];

/// Renders `setup/sync.toml`, with the `placed` files as managed paths.
pub(super) fn render_sync_config(facts: &RepoFacts, placed: &[RenderedTemplate]) -> String {
    let theirs: Vec<&str> = facts.layout.folders.iter().map(String::as_str).collect();
    let mut include = String::new();
    let workflow = format!("/{GITHUB_FILE}");
    for path in &list_managed(facts, placed, &theirs) {
        if *path == workflow {
            // The default token of GitHub Actions cannot push workflows, so every push of `propagate` would fail.
            push_line(
                &mut include,
                "  # GitHub lets CI push this one only with a token that may write workflows:",
            );
            push_line(&mut include, &format!("  # {},", quote_toml(path)));
        } else {
            push_line(&mut include, &format!("  {},", quote_toml(path)));
        }
    }
    let mut shared: Vec<String> = theirs.iter().map(|folder| format!("{folder}/")).collect();
    shared.extend(OFTEN_SHARED.into_iter().filter(|path| facts.has_file(path)).map(str::to_owned));
    if !shared.is_empty() {
        push_line(
            &mut include,
            "  # These are here, and often the same on every branch; take in what should be:",
        );
    }
    for path in shared {
        push_line(&mut include, &format!("  # {},", quote_toml(&format!("/{path}"))));
    }
    let remote = facts.remote.as_ref();
    let name = remote.map_or("origin", |remote| remote.name.as_str());
    let forge = if remote.is_some_and(|remote| remote.forge.is_none()) {
        "# forge = \"github\" # or gitlab, bitbucket: the name of the host does not tell\n"
    } else {
        ""
    };
    // The remote name is replaced last, because it may contain any text, such as a placeholder.
    SYNC_TEMPLATE
        .replace("[\"<include>\"]", &format!("[\n{include}]"))
        .replace("# <forge>\n", forge)
        .replace("\"<remote>\"", &quote_toml(name))
}

/// Returns the managed paths: the toolkit, and the `placed` files. In a folder of `theirs`, which the repository already
/// has, only the added files are managed.
fn list_managed(facts: &RepoFacts, placed: &[RenderedTemplate], theirs: &[&str]) -> Vec<String> {
    let mut managed: Vec<&str> = vec!["/.cargo/config.toml", "/xtask/"];
    managed.extend(
        [("deployment", "/deployment/"), ("setup", "/setup/")]
            .into_iter()
            .filter(|(folder, _)| !theirs.contains(folder))
            .filter(|(_, rule)| placed.iter().any(|file| file.path.starts_with(&rule[1..])))
            .map(|(_, rule)| rule),
    );
    if facts.is_cargo_ours {
        managed.extend(["/Cargo.lock", "/Cargo.toml"]);
    }
    let mut managed: Vec<String> = managed.into_iter().map(str::to_owned).collect();
    let is_covered = |path: &str| {
        let folder = path.split_once('/').map_or("", |(folder, _)| folder);
        matches!(folder, "setup" | "deployment") && !theirs.contains(&folder)
            || path == ATTRIBUTES_FILE
    };
    let others = placed.iter().map(|file| file.path).filter(|path| !is_covered(path));
    // `setup/sync.toml` itself is not in `placed` yet.
    let itself = theirs.contains(&"setup").then_some(SYNC_FILE);
    let others = others.chain(itself);
    managed.extend(others.map(|path| format!("/{path}")));
    managed.sort();
    managed
}
