//! Whether the state of a check can be known at all, judged by its configuration alone *(pure)*.
//!
//! Guarantee: a check whose result may depend on unlisted inputs is never cached. For example:
//!
//! ```text
//! run = "make test", tools = []  ->  Some("`tools` does not list the programs that `make` runs, so it always runs")
//! ```

use super::plan::walk_needs;
use xtask_config::{Check, CheckKind, MESSAGE_WORD, ValidateConfig};

/// Programs that run other programs, so that their own version is no evidence, and the subcommands with which
/// they do so; an empty list means always.
const WRAPPER_PROGRAMS: [(&str, &[&str]); 135] = [
    ("act", &[]),
    ("asdf", &["exec"]),
    ("aws-vault", &["exec"]),
    ("bazel", &["run", "test"]),
    ("bun", &[]),
    ("bundle", &["exec"]),
    ("bunx", &[]),
    ("busybox", &[]),
    ("bwrap", &[]),
    ("cargo-make", &[]),
    ("chronic", &[]),
    ("chroot", &[]),
    ("chrt", &[]),
    ("cmake", &["--build"]),
    ("composer", &["exec", "run", "run-script"]),
    ("concurrently", &[]),
    ("conda", &["run"]),
    ("corepack", &[]),
    ("coverage", &["run"]),
    ("cross-env", &[]),
    ("cross-env-shell", &[]),
    ("ctest", &[]),
    ("deno", &["run", "task"]),
    ("devbox", &["run"]),
    ("devenv", &["shell"]),
    ("direnv", &["exec"]),
    ("distrobox", &[]),
    ("doas", &[]),
    ("docker", &[]),
    ("doppler", &["run"]),
    ("dotenv", &[]),
    ("dotnet", &["tool", "run"]),
    ("entr", &[]),
    ("env", &[]),
    ("env-cmd", &[]),
    ("fab", &[]),
    ("faketime", &[]),
    ("firejail", &[]),
    ("flock", &[]),
    ("fnm", &["exec"]),
    ("gdb", &[]),
    ("go-task", &[]),
    ("goenv", &["exec"]),
    ("guix", &["shell"]),
    ("hatch", &["run"]),
    ("hk", &["run", "check", "fix"]),
    ("husky", &[]),
    ("hyperfine", &[]),
    ("infisical", &["run"]),
    ("inv", &[]),
    ("invoke", &[]),
    ("ionice", &[]),
    ("jenv", &["exec"]),
    ("just", &[]),
    ("lefthook", &["run"]),
    ("lerna", &[]),
    ("lint-staged", &[]),
    ("ltrace", &[]),
    ("make", &[]),
    ("mask", &[]),
    ("meson", &["test", "compile"]),
    ("mise", &["run", "exec", "x"]),
    ("moon", &[]),
    ("nice", &[]),
    ("ninja", &[]),
    ("nix", &["run", "develop", "shell"]),
    ("nix-shell", &[]),
    ("nodemon", &[]),
    ("nodenv", &["exec"]),
    ("nohup", &[]),
    ("nox", &[]),
    ("npm", &["run", "run-script", "test", "t", "start", "exec", "x"]),
    ("npm-run-all", &[]),
    ("npx", &[]),
    ("nx", &[]),
    ("op", &["run"]),
    ("parallel", &[]),
    ("pdm", &["run"]),
    ("perf", &["record", "stat"]),
    ("pipenv", &["run"]),
    ("pipx", &["run"]),
    ("pixi", &["run"]),
    ("plenv", &["exec"]),
    ("pnpm", &[]),
    ("podman", &[]),
    ("poe", &[]),
    ("poetry", &["run"]),
    ("pre-commit", &["run"]),
    ("prek", &["run"]),
    ("prlimit", &[]),
    ("ptw", &[]),
    ("pyenv", &["exec"]),
    ("pypy", &["-m"]),
    ("pypy3", &["-m"]),
    ("pytest-watch", &[]),
    ("python", &["-m"]),
    ("python2", &["-m"]),
    ("python3", &["-m"]),
    ("rake", &[]),
    ("rbenv", &["exec"]),
    ("ruby", &["-S"]),
    ("run-p", &[]),
    ("run-s", &[]),
    ("runuser", &[]),
    ("rustup", &["run"]),
    ("rye", &["run"]),
    ("script", &[]),
    ("setpriv", &[]),
    ("setsid", &[]),
    ("sops", &["exec-env", "exec-file"]),
    ("ssh", &[]),
    ("stdbuf", &[]),
    ("strace", &[]),
    ("su", &[]),
    ("sudo", &[]),
    ("task", &[]),
    ("taskset", &[]),
    ("time", &[]),
    ("timeout", &[]),
    ("toolbox", &["run"]),
    ("tox", &[]),
    ("ts-node", &[]),
    ("tsx", &[]),
    ("turbo", &[]),
    ("unbuffer", &[]),
    ("unshare", &[]),
    ("uv", &["run", "tool"]),
    ("uvx", &[]),
    ("valgrind", &[]),
    ("volta", &["run"]),
    ("watch", &[]),
    ("wireit", &[]),
    ("xargs", &[]),
    ("xvfb-run", &[]),
    ("yarn", &[]),
];

/// Programs whose first non-option argument is a script or a package with tools of its own.
const SCRIPT_RUNNERS: [&str; 2] = ["node", "nodejs"];

/// Built-in commands of cargo; any other is a separate program, e.g. `cargo-nextest`.
const CARGO_BUILTINS: [&str; 31] = [
    "add",
    "b",
    "bench",
    "build",
    "c",
    "check",
    "clean",
    "clippy",
    "d",
    "doc",
    "fetch",
    "fix",
    "fmt",
    "generate-lockfile",
    "help",
    "info",
    "locate-project",
    "metadata",
    "miri",
    "package",
    "pkgid",
    "r",
    "remove",
    "run",
    "rustc",
    "rustdoc",
    "t",
    "test",
    "tree",
    "update",
    "version",
];

/// Shells, which exist to run other programs.
const SHELLS: [&str; 6] = ["bash", "dash", "fish", "ksh", "sh", "zsh"];

/// Returns why the check at index `at` cannot be cached, or `None` if it can.
#[must_use]
pub fn uncacheable_reason(config: &ValidateConfig, at: usize) -> Option<String> {
    let check = &config.checks[at];
    if let Some(why) = own_uncacheable_reason(check) {
        return Some(why);
    }
    if !matches!(check.kind, CheckKind::Run(_)) {
        return None;
    }
    // The products of an uncacheable command are unknown, and so are those of all that need it.
    let needed = walk_needs(config, at, |_| false).into_iter().skip(1);
    let is_uncacheable = |needed: &&Check| {
        matches!(needed.kind, CheckKind::Run(_)) && own_uncacheable_reason(needed).is_some()
    };
    let needed = needed.map(|at| &config.checks[at]).find(is_uncacheable)?;
    let name = &needed.name;
    Some(format!("it needs `{name}`, which cannot be cached, so it always runs"))
}

/// Like `uncacheable_reason`, but ignores `needs`.
pub(super) fn own_uncacheable_reason(check: &Check) -> Option<String> {
    match &check.kind {
        CheckKind::Run(_) if check.inputs.is_empty() && check.tools.is_empty() => {
            Some("it names no `inputs` and no `tools`, so it always runs".to_owned())
        }
        CheckKind::Run(command)
            if check.tools.is_empty() && (command.shell || is_wrapper_command(&command.argv)) =>
        {
            Some(format!(
                "`tools` does not list the programs that {} runs, so it always runs",
                if command.shell {
                    "the shell".to_owned()
                } else {
                    format!("`{}`", command.argv[0])
                }
            ))
        }
        CheckKind::Run(command) if command.text.contains(MESSAGE_WORD) => {
            Some("its result depends on the message of a commit, so it always runs".to_owned())
        }
        CheckKind::Run(_)
        | CheckKind::Tool { .. }
        | CheckKind::File(_)
        | CheckKind::EnvVar(_)
        | CheckKind::FileRules { .. } => None,
        _ => Some("its result depends on more than files, so it always runs".to_owned()),
    }
}

/// Whether a command line runs a program other than `argv[0]`, such as `npx eslint` or `python -m pytest`.
pub(super) fn is_wrapper_command(argv: &[String]) -> bool {
    let program = argv[0].rsplit('/').next().unwrap_or_default();
    // At any position: options before the subcommand may take values.
    let has_one_of = |words: &[&str]| argv[1..].iter().any(|word| words.contains(&word.as_str()));
    let is_named = WRAPPER_PROGRAMS
        .iter()
        .any(|(name, firsts)| *name == program && (firsts.is_empty() || has_one_of(firsts)));
    // `python3.11` counts as `python`.
    let family = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_python = ["python", "pypy"].contains(&family) && has_one_of(&["-m"]);
    let first = argv[1..].iter().find(|word| !word.starts_with(['-', '+']));
    let is_script = SCRIPT_RUNNERS.contains(&program) && first.is_some();
    let is_cargo =
        program == "cargo" && first.is_some_and(|word| !CARGO_BUILTINS.contains(&word.as_str()));
    is_named || is_python || is_script || is_cargo || SHELLS.contains(&program)
}

/// Lists the parts of a check's own configuration that can change its result, as pairs of name and value,
/// e.g. `("argument", "--strict")`.
pub(super) fn collect_definition(config: &ValidateConfig, check: &Check) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    put("name", &check.name);
    match &check.kind {
        CheckKind::Run(command) => {
            put("kind", if command.shell { "shell" } else { "run" });
            command.argv.iter().for_each(|argument| put("argument", argument));
        }
        CheckKind::Tool { tool, version, version_command: ask } => {
            put("kind", "tool");
            put("tool", tool);
            put("version", &version.as_ref().map(ToString::to_string).unwrap_or_default());
            put("ask", ask.as_ref().map_or("", |ask| &ask.text));
        }
        CheckKind::File(paths) => {
            put("kind", "file");
            paths.iter().for_each(|path| put("file", &path.to_string()));
        }
        CheckKind::EnvVar(_) => put("kind", "env-var"),
        CheckKind::Disk(_) => put("kind", "disk"),
        CheckKind::PortFree(_) => put("kind", "port-free"),
        CheckKind::GitIdentity => put("kind", "git-identity"),
        CheckKind::Hooks => put("kind", "hooks"),
        CheckKind::Sync => put("kind", "sync"),
        CheckKind::Branches => put("kind", "branches"),
        CheckKind::FileRules { rules, max_size } => {
            put("kind", "file-rules");
            rules.iter().for_each(|rule| put("rule", rule.name()));
            put("max-size", &max_size.to_string());
        }
    }
    if let Some(files) = &check.files {
        files.globs.iter().for_each(|glob| put("files", glob));
        files.interpreters.iter().for_each(|name| put("files", &format!("#!{name}")));
    }
    put("cwd", &check.cwd.as_ref().map(ToString::to_string).unwrap_or_default());
    check.inputs.iter().for_each(|pattern| put("inputs", pattern));
    check.tools.iter().for_each(|name| put("tools", name));
    check.env.iter().for_each(|name| put("env", name));
    check.needs.iter().for_each(|need| put("needs", &config.checks[*need].name));
    all
}
