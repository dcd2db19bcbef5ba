//! The kinds of checks, and the keys of a `[[check]]` that determine its kind.
//!
//! ```text
//! tool = "python3", version = ">=3.12"  ->  CheckKind::Tool { tool: "python3", version: >=3.12, .. }
//! run = "x", tool = "y"                 ->  fault: a check has exactly one kind, but this has run, tool
//! ```

use semver::VersionReq;

use super::command::{CommandLine, read_command};
use super::file_rule::FileRule;
use super::reader::{TableReader, suggest_nearest};
use super::value_syntax::{INSIDE, is_variable_name, parse_inner_path};
use xtask_base::path::RepoPath;
use xtask_base::words::parse_size;

/// The keys that determine the kind of a check. Exactly one must be present.
const KIND_KEYS: [&str; 7] = ["run", "tool", "file", "env-var", "disk", "port-free", "built-in"];

/// The kind of a check.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// A command must exit with code 0.
    Run(CommandLine),
    /// A program must be found in `PATH`, with a matching version.
    Tool {
        /// The name of the program.
        tool: String,
        /// The accepted versions.
        version: Option<VersionReq>,
        /// The command that prints the version, if it differs from `TOOL --version`.
        version_command: Option<CommandLine>,
    },
    /// These files must exist.
    File(Vec<RepoPath>),
    /// These environment variables must be set and not empty.
    EnvVar(Vec<String>),
    /// The minimum free disk space for a run, in bytes.
    Disk(u64),
    /// No process listens on these ports.
    PortFree(Vec<u16>),
    /// `user.name` and `user.email` of git are set.
    GitIdentity,
    /// The git hooks are installed and will run in this worktree.
    Hooks,
    /// All managed files are up to date.
    Sync,
    /// The current branch follows the branch rules.
    Branches,
    /// Rules for single files.
    FileRules {
        rules: Vec<FileRule>,
        /// The limit of [`FileRule::LargeFiles`], in bytes.
        max_size: u64,
    },
}

impl CheckKind {
    /// Whether the check runs a command.
    #[must_use]
    pub fn runs_command(&self) -> bool {
        matches!(self, CheckKind::Run(_))
    }
}

/// The default of `max-size`, in bytes: 500 kB, as in pre-commit-hooks.
const DEFAULT_MAX_SIZE: u64 = 500_000;

/// The constructor of a built-in check, given the minimum free disk space in bytes.
type MakeBuiltIn = fn(u64) -> CheckKind;

/// The values of `built-in`.
const BUILT_IN_CHECKS: [(&str, MakeBuiltIn); 5] = [
    ("git-identity", |_| CheckKind::GitIdentity),
    ("hooks", |_| CheckKind::Hooks),
    ("sync", |_| CheckKind::Sync),
    ("branches", |_| CheckKind::Branches),
    ("disk", CheckKind::Disk),
];

/// Reads the kind of a check: exactly one of [`KIND_KEYS`].
pub(super) fn read_check_kind(check: &TableReader<'_>, disk: u64) -> Option<CheckKind> {
    let there: Vec<&str> = KIND_KEYS.into_iter().filter(|key| check.has_key(key)).collect();
    let is_tool = there == ["tool"];
    for key in ["version", "ask"].into_iter().filter(|key| !is_tool && check.has_key(key)) {
        check.add_fault(key, format!("`{key}` requires `tool`"));
    }
    match there[..] {
        [] => {
            check.add_fault(
                "name",
                format!("the check has no kind: set one of {}", KIND_KEYS.join(", ")),
            );
            None
        }
        ["run"] => read_command(check, "run", check.read_bool("shell").unwrap_or(false))
            .map(CheckKind::Run),
        ["tool"] => read_tool(check),
        ["file"] => read_files(check),
        ["env-var"] => {
            let names = require_non_empty(check, "env-var", check.read_text_or_list("env-var")?)?;
            for name in names.iter().filter(|name| !is_variable_name(name)) {
                check.add_fault("env-var", format!("invalid variable name `{name}`"));
            }
            Some(CheckKind::EnvVar(names))
        }
        ["disk"] => {
            check.read_parsed("disk", "a size such as `2 GB`", parse_size).map(CheckKind::Disk)
        }
        ["port-free"] => {
            let ports = check.read_numbers("port-free", 1..=u64::from(u16::MAX))?;
            let ports = require_non_empty(check, "port-free", ports)?;
            let ports = ports.into_iter().filter_map(|port| u16::try_from(port).ok());
            Some(CheckKind::PortFree(ports.collect()))
        }
        ["built-in"] => read_built_in(check, disk),
        _ => {
            check.add_fault(
                there[1],
                format!("a check has exactly one kind, but this has {}", there.join(", ")),
            );
            None
        }
    }
}

/// Reads `built-in`: one of [`BUILT_IN_CHECKS`], or file rules.
fn read_built_in(check: &TableReader<'_>, disk: u64) -> Option<CheckKind> {
    let words = check.read_text_or_list("built-in")?;
    let words = require_non_empty(check, "built-in", words)?;
    if let [word] = &words[..]
        && let Some((_, make)) = BUILT_IN_CHECKS.iter().find(|(name, _)| name == word)
    {
        return Some(make(disk));
    }
    let max_size = check.read_parsed("max-size", "a size such as `500 KB`", parse_size);
    let mut rules = Vec::new();
    for word in &words {
        match FileRule::from_name(word) {
            Some(rule) => rules.push(rule),
            None if BUILT_IN_CHECKS.iter().any(|(name, _)| name == word) => {
                check.add_fault("built-in", format!("`{word}` must be a check of its own"));
            }
            None => {
                let names = BUILT_IN_CHECKS.iter().map(|(name, _)| *name);
                let names: Vec<&str> = names.chain(FileRule::ALL.map(FileRule::name)).collect();
                let near = suggest_nearest(word, names.iter().copied());
                let names = names.join(", ");
                check.add_fault(
                    "built-in",
                    format!("`built-in` has `{word}`; it must be one of {names}{near}"),
                );
            }
        }
    }
    rules.sort();
    rules.dedup();
    Some(CheckKind::FileRules { rules, max_size: max_size.unwrap_or(DEFAULT_MAX_SIZE) })
}

fn read_tool(check: &TableReader<'_>) -> Option<CheckKind> {
    let version = check.read_parsed("version", VERSION_WANTED, |text| {
        VersionReq::parse(&text.replace(' ', ",").replace(",,", ",")).ok()
    });
    let ask = check.has_key("ask").then(|| read_command(check, "ask", false)).flatten();
    let tool = check.read_parsed("tool", "the name of one program", |text| {
        (!text.contains(char::is_whitespace)).then(|| text.to_owned())
    });
    Some(CheckKind::Tool { tool: tool?, version, version_command: ask })
}

fn read_files(check: &TableReader<'_>) -> Option<CheckKind> {
    let paths = require_non_empty(check, "file", check.read_text_or_list("file")?)?;
    let read = paths.iter().map(|path| {
        let found = parse_inner_path(path);
        if found.is_none() {
            check.add_fault("file", format!("`file` has `{path}`; it must be {INSIDE}"));
        }
        found
    });
    // Collected first, so that every path is checked and all faults are found.
    read.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>().map(CheckKind::File)
}

/// Reports a fault if `list` is empty.
fn require_non_empty<T>(check: &TableReader<'_>, key: &str, list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() {
        check.add_fault(key, format!("`{key}` must not be empty"));
        return None;
    }
    Some(list)
}

const VERSION_WANTED: &str = "a range of versions such as `>=3.12` or `>=18, <21`";
