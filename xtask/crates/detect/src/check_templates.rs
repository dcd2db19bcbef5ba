//! The texts of the default checks, in the format of `setup/validate.toml` *(pure)*.
//!
//! A placeholder such as `<manager>` is replaced when the check is rendered, e.g. `<exec> eslint .` becomes
//! `pnpm exec eslint .`.

/// The checks of every repository.
pub(super) const BASE_CHECKS: &str = r#"[phase.environment]
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

/// Checks, and the conditions that must all hold; `!` negates one.
pub(super) const CONDITIONAL_CHECKS: [(&[&str], &str); 33] = [
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
