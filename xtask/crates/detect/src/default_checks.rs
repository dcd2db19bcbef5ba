//! The default checks of a repository, in the format of `setup/validate.toml` *(pure)*.
//!
//! Used without such a file, and as the first version of it in vendoring. No check changes files, and checks
//! that run tests need the condition `tests`. Every block depends on `CONDITIONS`, so a tool that is not in
//! use has no check. For example:
//!
//! ```text
//! ["rust", "cargo-lock"] -> [[check]] name = "cargo-lock", run = "cargo metadata --locked --format-version 1"
//! ```

use std::collections::BTreeMap;

/// The checks of every repository.
const BASE_CHECKS: &str = r#"[phase.environment]
gate = true
[phase.dependencies]
gate = true
[phase.quality]
[phase.platform]

[[check]]
name = 'git'
phase = "environment"
tool = 'git'
ttl = "1h"

[[check]]
name = "git-identity"
phase = "environment"
built-in = "git-identity"
ci = false

[[check]]
name = "disk"
phase = "environment"
built-in = "disk"

[[check]]
name = "sync"
phase = "platform"
built-in = "sync"
"#;

/// The conditions on which checks depend, with their meaning.
pub const CONDITIONS: [(&str, &str); 27] = [
    ("canonical", "it has a canonical branch, or will have one"),
    ("tests", "checks that run tests are included"),
    ("rust", "the root has a Cargo package or workspace other than the toolkit's"),
    ("cargo-lock", "`Cargo.lock` is tracked"),
    ("python", "it is a Python project"),
    ("uv", "uv manages its packages"),
    ("poetry", "poetry manages its packages"),
    ("requirements", "it has a requirements.txt"),
    ("ruff", "ruff is configured and installed by default"),
    ("mypy", "mypy is configured and installed by default"),
    ("mypy-files", "`[tool.mypy]` lists the files to read"),
    ("pytest", "pytest is configured and installed by default"),
    ("node", "it has a package.json"),
    ("npm", "npm manages its packages (the default)"),
    ("pnpm", "pnpm manages them"),
    ("yarn", "yarn 1 manages them"),
    ("berry", "yarn 2 or later manages them in node_modules"),
    ("plug-n-play", "yarn 2 or later manages them without node_modules"),
    ("bun", "bun manages them"),
    ("node-lock", "it has packages, and their lock file is tracked"),
    ("node-packages", "it has packages"),
    ("typescript", "TypeScript is configured and a dependency"),
    ("lint-script", "it has a script `lint` that changes no files"),
    ("eslint", "eslint is configured and a dependency, and there is no such script"),
    ("test-script", "it has a script `test` that ends without intervention"),
    ("go", "there is a `go.mod` in the root"),
    ("clippy", "clippy is configured"),
];

/// Checks, and the conditions that must all hold; `!` negates one.
const CONDITIONAL_CHECKS: [(&[&str], &str); 33] = [
    (
        &["canonical"],
        r#"
[[check]]
name = "hooks"
phase = "platform"
built-in = "hooks"
ci = false
"#,
    ),
    (
        &["rust"],
        r#"
[[check]]
name = "cargo"
phase = "environment"
tool = "cargo"
ttl = "1h"
"#,
    ),
    (
        &["rust", "cargo-lock"],
        r#"
[[check]]
name = "cargo-lock"
phase = "dependencies"
run = "cargo metadata --locked --format-version 1"
inputs = ["Cargo.lock", "**/Cargo.toml"]
ttl = "5m"
"#,
    ),
    (
        &["rust"],
        r#"
[[check]]
name = "format"
phase = "quality"
run = "cargo fmt --all --check"
inputs = ["**/{*.rs,Cargo.toml,rustfmt.toml,.rustfmt.toml}"]
tools = ["rustfmt"]
ttl = "10m"
"#,
    ),
    (
        &["rust", "clippy"],
        r#"
[[check]]
name = "clippy"
phase = "quality"
run = "cargo clippy --workspace --all-targets"
inputs = ["**"]
env = ["RUSTFLAGS"]
tools = ["rustc", "clippy-driver"]
timeout = "30m"
"#,
    ),
    (
        &["rust", "tests"],
        r#"
[[check]]
name = "cargo-test"
phase = "quality"
run = "cargo test --workspace"
inputs = ["**"]
env = ["RUSTFLAGS"]
tools = ["rustc"]
timeout = "30m"
tests = true
"#,
    ),
    (
        &["python"],
        r#"
[[check]]
name = "python"
phase = "environment"
tool = "python3"
ttl = "1h"
"#,
    ),
    (
        &["uv"],
        r#"
[[check]]
name = "uv"
phase = "environment"
tool = "uv"
ttl = "1h"
fix = { run = "pipx install uv", risk = "risky" }

[[check]]
name = "uv-lock"
phase = "dependencies"
run = "uv lock --check"
inputs = ["pyproject.toml", "uv.lock"]
needs = ["uv"]
ttl = "5m"
fix = { run = "uv lock", risk = "safe", writes = ["uv.lock"] }

[[check]]
name = "virtual-environment"
phase = "dependencies"
file = ".venv/pyvenv.cfg"
needs = ["uv-lock"]
ttl = "10m"
fix = { run = "uv sync --frozen", risk = "safe", writes = [".venv"] }

[[check]]
name = "uv-sync"
phase = "dependencies"
run = "uv sync --frozen --check"
inputs = ["pyproject.toml", "uv.lock", ".venv/pyvenv.cfg"]
needs = ["virtual-environment"]
ttl = "30m"
fix = { run = "uv sync --frozen", risk = "safe" }
"#,
    ),
    (
        &["poetry"],
        r#"
[[check]]
name = "poetry"
phase = "environment"
tool = "poetry"
ttl = "1h"
fix = { run = "pipx install poetry", risk = "risky" }

# Only poetry knows the folder of the packages, so checks that need them always run.
[[check]]
name = "virtual-environment"
phase = "dependencies"
run = "poetry env info --path"
needs = ["poetry"]
fix = { run = "poetry install", risk = "risky" }
"#,
    ),
    (
        &["ruff", "uv"],
        r#"
[[check]]
name = "ruff"
phase = "quality"
run = "uv run --no-sync ruff check ."
inputs = ["**/{*.py,*.pyi,pyproject.toml,ruff.toml,.ruff.toml}", "uv.lock"]
tools = [".venv/bin/ruff"]
ttl = "10m"
"#,
    ),
    (
        &["ruff", "poetry"],
        r#"
[[check]]
name = "ruff"
phase = "quality"
run = "poetry run ruff check ."
"#,
    ),
    (
        &["ruff", "!uv", "!poetry"],
        r#"
# It uses the packages of the first python3 on PATH. They are unknown, so the check always runs.
[[check]]
name = "ruff"
phase = "quality"
run = "python3 -m ruff check ."
fix = { run = "python3 -m pip install ruff", risk = "risky" }
"#,
    ),
    (
        &["mypy", "uv"],
        r#"
[[check]]
name = "mypy"
phase = "quality"
run = "uv run --no-sync mypy<files>"
inputs = ["**/{*.py,*.pyi,pyproject.toml,mypy.ini,.mypy.ini,setup.cfg}", "uv.lock"]
tools = [".venv/bin/mypy"]
ttl = "10m"
"#,
    ),
    (
        &["mypy", "poetry"],
        r#"
[[check]]
name = "mypy"
phase = "quality"
run = "poetry run mypy<files>"
"#,
    ),
    (
        &["mypy", "!uv", "!poetry"],
        r#"
[[check]]
name = "mypy"
phase = "quality"
run = "python3 -m mypy<files>"
fix = { run = "python3 -m pip install mypy", risk = "risky" }
"#,
    ),
    (
        &["pytest", "tests", "uv"],
        r#"
[[check]]
name = "pytest"
phase = "quality"
run = "uv run --no-sync pytest -q"
inputs = ["**"]
tools = [".venv/bin/pytest"]
needs = ["uv-sync"]
timeout = "20m"
tests = true
"#,
    ),
    (
        &["pytest", "tests", "poetry"],
        r#"
[[check]]
name = "pytest"
phase = "quality"
run = "poetry run pytest -q"
timeout = "20m"
tests = true
"#,
    ),
    (
        &["pytest", "tests", "!uv", "!poetry"],
        r#"
[[check]]
name = "pytest"
phase = "quality"
run = "python3 -m pytest -q"
timeout = "20m"
tests = true
fix = { run = "python3 -m pip install<requirements> pytest", risk = "risky" }
"#,
    ),
    (
        &["node"],
        r#"
[[check]]
name = "node"
phase = "environment"
tool = "node"
ttl = "1h"
"#,
    ),
    (
        &["node", "npm"],
        r#"
[[check]]
name = "npm"
phase = "environment"
tool = "npm"
ttl = "1h"
"#,
    ),
    (
        &["node", "!npm"],
        r#"
[[check]]
name = "<manager>"
phase = "environment"
tool = "<manager>"
ttl = "1h"
fix = { run = "<get>", risk = "risky" }
"#,
    ),
    (
        &["node", "node-lock"],
        r#"
[[check]]
name = "node-modules"
phase = "dependencies"
file = "<modules>"
needs = ["<manager>"]
ttl = "30m"
fix = { run = "<install>", risk = "risky" }
"#,
    ),
    (
        &["node", "node-packages", "!node-lock"],
        r#"
[[check]]
name = "node-modules"
phase = "dependencies"
file = "node_modules"
needs = ["<manager>"]
fix = { run = "<manager> install", risk = "risky" }
"#,
    ),
    (
        &["node", "typescript", "node-lock", "!plug-n-play"],
        r#"
[[check]]
name = "types"
phase = "quality"
run = "<exec> tsc --noEmit"
inputs = ["**/*.{ts,tsx,mts,cts}", "**/tsconfig*.json", "<lock>"]
tools = ["node_modules/.bin/tsc"]
ttl = "10m"
"#,
    ),
    (
        &["node", "typescript", "node-lock", "plug-n-play"],
        r#"
[[check]]
name = "types"
phase = "quality"
run = "<exec> tsc --noEmit"
"#,
    ),
    (
        &["node", "typescript", "!node-lock"],
        r#"
[[check]]
name = "types"
phase = "quality"
run = "<exec> tsc --noEmit"
needs = ["node-modules"]
"#,
    ),
    (
        &["node", "lint-script"],
        r#"
[[check]]
name = "lint"
phase = "quality"
run = "<manager> run lint"
"#,
    ),
    (
        &["node", "eslint", "node-lock", "!plug-n-play"],
        r#"
[[check]]
name = "eslint"
phase = "quality"
run = "<exec> eslint ."
inputs = [
  "**/{*.js,*.jsx,*.mjs,*.cjs,*.ts,*.tsx,*.mts,*.cts,*.vue,*.json,.eslintrc*,.eslintignore}",
  "<lock>",
]
tools = ["node_modules/.bin/eslint"]
ttl = "10m"
"#,
    ),
    (
        &["node", "eslint", "node-lock", "plug-n-play"],
        r#"
[[check]]
name = "eslint"
phase = "quality"
run = "<exec> eslint ."
"#,
    ),
    (
        &["node", "eslint", "!node-lock"],
        r#"
[[check]]
name = "eslint"
phase = "quality"
run = "<exec> eslint ."
needs = ["node-modules"]
"#,
    ),
    (
        &["node", "test-script", "tests"],
        r#"
[[check]]
name = "<manager>-test"
phase = "quality"
run = "<manager> run test"
timeout = "20m"
tests = true
"#,
    ),
    (
        &["go"],
        r#"
[[check]]
name = "go"
phase = "environment"
tool = "go"
ask = "go version"
ttl = "1h"

[[check]]
name = "go-vet"
phase = "quality"
run = "go vet ./..."
inputs = ["**"]
env = ["GOFLAGS"]
tools = ["go"]
timeout = "20m"
"#,
    ),
    (
        &["go", "tests"],
        r#"
[[check]]
name = "go-test"
phase = "quality"
run = "go test ./..."
inputs = ["**"]
env = ["GOFLAGS"]
tools = ["go"]
timeout = "30m"
tests = true
"#,
    ),
];

/// The commands of a Node package manager.
struct ManagerCommands {
    /// The condition that selects it.
    name: &'static str,
    program: &'static str,
    /// The command that installs the package manager itself.
    install_self: &'static str,
    /// The command that runs a program of an installed package.
    exec: &'static str,
    /// The path that exists once packages are installed.
    installed_marker: &'static str,
    /// The command that installs the packages exactly as locked.
    install: &'static str,
    lock: &'static str,
}

const PACKAGE_MANAGERS: [ManagerCommands; 6] = [
    ManagerCommands {
        name: "npm",
        program: "npm",
        install_self: "",
        exec: "npx --no-install",
        installed_marker: "node_modules/.package-lock.json",
        install: "npm ci",
        lock: "package-lock.json",
    },
    ManagerCommands {
        name: "pnpm",
        program: "pnpm",
        install_self: "npm install --global pnpm",
        exec: "pnpm exec",
        installed_marker: "node_modules/.modules.yaml",
        install: "pnpm install --frozen-lockfile",
        lock: "pnpm-lock.yaml",
    },
    ManagerCommands {
        name: "yarn",
        program: "yarn",
        install_self: "npm install --global yarn",
        exec: "yarn run",
        installed_marker: "node_modules/.yarn-integrity",
        install: "yarn install --frozen-lockfile",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "berry",
        program: "yarn",
        install_self: "corepack enable",
        exec: "yarn run",
        installed_marker: "node_modules/.yarn-state.yml",
        install: "yarn install --immutable",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "plug-n-play",
        program: "yarn",
        install_self: "corepack enable",
        exec: "yarn run",
        installed_marker: ".pnp.cjs",
        install: "yarn install --immutable",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "bun",
        program: "bun",
        install_self: "npm install --global bun",
        exec: "bun run",
        installed_marker: "node_modules",
        install: "bun install --frozen-lockfile",
        lock: "{bun.lock,bun.lockb}",
    },
];

/// Returns the checks of a repository as TOML. `is` decides whether a condition in `CONDITIONS` holds.
#[must_use]
pub fn render_checks(is: &dyn Fn(&str) -> bool) -> String {
    format!("{BASE_CHECKS}{}", render_conditional_checks(is))
}

/// Like `render_checks`, without `BASE_CHECKS`.
#[must_use]
pub fn render_conditional_checks(is: &dyn Fn(&str) -> bool) -> String {
    let holds = |word: &&str| match word.strip_prefix('!') {
        Some(word) => !is(word),
        None => is(word),
    };
    let more = CONDITIONAL_CHECKS.iter().filter(|(words, _)| words.iter().all(&holds));
    let checks: String = more.map(|(_, checks)| *checks).collect();
    let manager =
        PACKAGE_MANAGERS.iter().find(|manager| is(manager.name)).unwrap_or(&PACKAGE_MANAGERS[0]);
    checks
        .replace("<manager>", manager.program)
        .replace("<get>", manager.install_self)
        .replace("<exec>", manager.exec)
        .replace("<modules>", manager.installed_marker)
        .replace("<install>", manager.install)
        .replace("<lock>", manager.lock)
        .replace("<files>", if is("mypy-files") { "" } else { " ." })
        .replace("<requirements>", if is("requirements") { " -r requirements.txt" } else { "" })
}

/// Adds `version` to the `tool` checks in `text`.
#[must_use]
pub fn with_versions(text: &str, versions: &BTreeMap<&'static str, String>) -> String {
    let mut found = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        found.push_str(line);
        let tool = line.strip_prefix("tool = ").map(|tool| tool.trim().trim_matches(['"', '\'']));
        if let Some(range) = tool.and_then(|tool| versions.get(tool)) {
            found.push_str(&format!("version = \"{range}\"\n"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use xtask_config::{Check, ValidateConfig};

    fn checks(words: &[&str]) -> Vec<Check> {
        let text = render_checks(&|word| words.contains(&word));
        let read = ValidateConfig::parse("default", &text);
        read.unwrap_or_else(|faults| panic!("{text}\n{:?}", faults.details())).checks
    }

    #[test]
    fn every_word_is_known_and_used() {
        let known: BTreeSet<&str> = CONDITIONS.iter().map(|(word, _)| *word).collect();
        let in_table = CONDITIONAL_CHECKS.iter().flat_map(|(words, _)| words.iter().copied());
        let in_table = in_table.map(|word| word.trim_start_matches('!'));
        let managers = PACKAGE_MANAGERS.iter().map(|manager| manager.name);
        let used: BTreeSet<&str> =
            in_table.chain(managers).chain(["mypy-files", "requirements"]).collect();
        assert_eq!(known, used);
        assert_eq!(known.len(), CONDITIONS.len());
    }

    #[test]
    fn every_set_can_be_read() {
        assert_eq!(checks(&[]).len(), 4);
        assert_eq!(checks(&["canonical"]).len(), 5);
        let pythons = [&["python"][..], &["python", "uv"], &["python", "poetry"]];
        let mut seen = BTreeSet::new();
        for python in pythons {
            for manager in PACKAGE_MANAGERS.iter().map(|manager| manager.name) {
                let others = CONDITIONS.iter().map(|(word, _)| *word).filter(|word| {
                    let is_manager = PACKAGE_MANAGERS.iter().any(|manager| manager.name == *word);
                    !is_manager && !["uv", "poetry"].contains(word)
                });
                let all: Vec<&str> =
                    others.chain(python.iter().copied()).chain([manager]).collect();
                // All together, and each of them left out once; whoever has node has a manager.
                for without in
                    CONDITIONS.iter().map(|(word, _)| *word).filter(|word| *word != manager)
                {
                    let some: Vec<&str> =
                        all.iter().copied().filter(|word| *word != without).collect();
                    seen.extend(checks(&some).into_iter().map(|check| check.name));
                }
                let all = checks(&all);
                assert!(all.len() > 17, "{}", all.len());
                assert!(!render_checks(&|_| true).contains("<m"), "every blank is filled");
            }
        }
        for name in ["cargo-test", "pytest", "yarn-test", "poetry", "uv-sync", "eslint", "types"] {
            assert!(seen.contains(name), "{name}");
        }
    }

    #[test]
    fn what_runs_tests_can_be_left_out_and_is_only_there_when_asked_for() {
        let words: Vec<&str> = CONDITIONS.iter().map(|(word, _)| *word).collect();
        let words: Vec<&str> =
            words.into_iter().filter(|word| !["uv", "poetry"].contains(word)).collect();
        let named = |checks: Vec<Check>| -> Vec<String> {
            checks
                .into_iter()
                .filter(|check| check.conditions.runs_tests)
                .map(|check| check.name)
                .collect()
        };
        assert_eq!(named(checks(&words)), ["cargo-test", "pytest", "npm-test", "go-test"]);
        let none: Vec<&str> = words.into_iter().filter(|word| *word != "tests").collect();
        assert!(named(checks(&none)).is_empty());
        assert!(!checks(&none).iter().any(|check| check.name.contains("test")));
    }
}
