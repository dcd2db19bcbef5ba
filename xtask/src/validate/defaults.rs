//! The checks of a project without `setup/validate.toml`, by what lies in its root.
//!
//! They are written as that file would have them, so that they can be the beginning of one. None of
//! them runs tests or changes a file.

/// What every repository has.
const ALWAYS: &str = r#"[phase.environment]
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

/// What there is where there is a canonical branch.
const WITH_CANONICAL: &str = r#"
[[check]]
name = "hooks"
phase = "platform"
built-in = "hooks"
ci = false
"#;

/// What files in the root bring with them: the files (`!` where one must not be there), and the checks.
const MORE: [(&[&str], &str); 11] = [
    (
        &["Cargo.toml"],
        r#"
[[check]]
name = "cargo"
phase = "environment"
tool = "cargo"
ttl = "1h"
"#,
    ),
    (
        &["Cargo.toml", "Cargo.lock"],
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
        &["Cargo.toml"],
        r#"
[[check]]
name = "format"
phase = "quality"
run = "cargo fmt --all --check"
inputs = ["**/*.rs", "**/Cargo.toml", "rustfmt.toml", ".rustfmt.toml"]
ttl = "10m"
"#,
    ),
    (
        &["pyproject.toml"],
        r#"
[[check]]
name = "python"
phase = "environment"
tool = "python3"
ttl = "1h"
"#,
    ),
    (
        &["pyproject.toml", "uv.lock"],
        r#"
[[check]]
name = "uv"
phase = "environment"
tool = "uv"
ttl = "1h"

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
        &["ruff.toml", "!uv.lock"],
        r#"
[[check]]
name = "ruff"
phase = "quality"
run = "ruff check ."
inputs = ["**/*.py", "**/*.pyi", "**/pyproject.toml", "**/ruff.toml", "**/.ruff.toml"]
ttl = "10m"
"#,
    ),
    (
        &["ruff.toml", "uv.lock"],
        r#"
[[check]]
name = "ruff"
phase = "quality"
run = "uv run --no-sync ruff check ."
inputs = ["**/*.py", "**/*.pyi", "**/pyproject.toml", "**/ruff.toml", "**/.ruff.toml", "uv.lock"]
tools = [".venv/bin/ruff"]
ttl = "10m"
"#,
    ),
    (
        &["package.json"],
        r#"
[[check]]
name = "node"
phase = "environment"
tool = "node"
ttl = "1h"

[[check]]
name = "npm"
phase = "environment"
tool = "npm"
ttl = "1h"
"#,
    ),
    (
        &["package.json", "package-lock.json"],
        r#"
[[check]]
name = "node-modules"
phase = "dependencies"
file = "node_modules/.package-lock.json"
needs = ["npm"]
ttl = "30m"
fix = { run = "npm ci", risk = "risky" }
"#,
    ),
    (
        &["package.json", "tsconfig.json"],
        r#"
[[check]]
name = "types"
phase = "quality"
run = "npx --no-install tsc --noEmit"
inputs = ["**/*.{ts,tsx,mts,cts}", "**/tsconfig*.json", "package-lock.json"]
tools = ["node_modules/.bin/tsc"]
ttl = "10m"
"#,
    ),
    (
        &["go.mod"],
        r#"
[[check]]
name = "go"
phase = "environment"
tool = "go"
ask = "go version"
ttl = "1h"
"#,
    ),
];

/// The checks for a root in which `has` says what there is, as the text of a configuration.
#[must_use]
pub fn text(has: &dyn Fn(&str) -> bool, has_canonical: bool) -> String {
    let more = MORE.iter().filter(|(files, _)| files.iter().all(|file| has(file)));
    let hooks = if has_canonical { WITH_CANONICAL } else { "" };
    [ALWAYS, hooks].into_iter().chain(more.map(|(_, checks)| *checks)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ValidateConfig;

    #[test]
    fn every_set_can_be_read() {
        let mut all: Vec<&str> = MORE.iter().flat_map(|(files, _)| files.iter().copied()).collect();
        all.retain(|name| !name.starts_with('!'));
        all.sort_unstable();
        all.dedup();
        for subset in 0..(1_u32 << all.len().min(16)) {
            let is_there = |file: &str| {
                let mut known = all.iter().take(16).enumerate();
                known.any(|(at, known)| *known == file && subset >> at & 1 == 1)
            };
            let has = |name: &str| match name.strip_prefix('!') {
                Some(name) => !is_there(name),
                None => is_there(name),
            };
            if subset % 97 == 0 || subset.count_ones() <= 1 {
                let text = text(&has, subset % 2 == 0);
                let read = ValidateConfig::parse("default", &text);
                assert!(
                    read.is_ok(),
                    "{text}\n{:?}",
                    read.map_err(|error| error.details().to_vec())
                );
            }
        }
        let everything =
            ValidateConfig::parse("default", &text(&|name| !name.starts_with('!'), true)).unwrap();
        assert!(everything.checks.len() > 15);
        assert_eq!(
            ValidateConfig::parse("default", &text(&|_| false, true)).unwrap().checks.len(),
            5
        );
    }
}
