//! Parser for `setup/validate.toml`: checks, their phases, and the limits of a run.
//!
//! Guarantees for a [`ValidateConfig`] that was parsed: every referenced name exists, every check has exactly one
//! kind, and `needs` has no cycle and names no check in a later phase.
//!
//! ```text
//! [[check]]
//! name = "tests"
//! run = "cargo test"
//! inputs = ["src/**"]
//! needs = ["rust"]
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::check_files::{CheckFiles, FILES_WORD, MESSAGE_WORD, find_word, read_check_files};
use super::check_hooks::{HookSettings, read_hook_settings};
use super::check_kind::{CheckKind, read_check_kind};
use super::check_share::{ShareConfig, read_share};
use super::command::{CommandLine, read_command};
use super::cycles::find_cycles;
use super::faults::Faults;
use super::reader::{TableReader, suggest_nearest};
use super::value_syntax::{INSIDE, is_variable_name, parse_inner_path};
use xtask_base::environment::parse_seconds;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{expand_braces, parse_size};

/// The default phases, and whether each is a gate.
const DEFAULT_PHASES: [(&str, bool); 4] =
    [("environment", true), ("dependencies", true), ("quality", false), ("platform", false)];

/// The default `phase` of a check if the file declares no phases.
const DEFAULT_PHASE: &str = "quality";

/// The default `timeout` of a command, in seconds: ten minutes.
const DEFAULT_TIMEOUT_S: u64 = 600;

/// The default of `disk-free-min`, in bytes: 1 GB.
const DEFAULT_DISK_FREE: u64 = 1_000_000_000;

/// The default of `lock-wait`, in seconds.
const DEFAULT_LOCK_WAIT_S: u64 = 30;

/// The default of `logs-kept`.
const DEFAULT_LOGS: u64 = 20;

/// The maximum length of the name of a check, in bytes.
const LONGEST_NAME: usize = 100;

/// The values of `os`, named as in Rust's `target_os`.
const SYSTEMS: [&str; 3] = ["linux", "macos", "windows"];

/// The maximum number of checks; a larger number is a mistake.
const MOST_CHECKS: usize = 2000;

/// What repairs a failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FixAction {
    Command(CommandLine),
    /// The repairs of file rules.
    FileRules,
}

/// The automatic fix of a failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    pub action: FixAction,
    /// Whether the fix requires confirmation.
    pub is_risky: bool,
    /// The files and folders that the fix may change. They are backed up first.
    pub writes: Vec<RepoPath>,
    /// The maximum duration, in seconds.
    pub timeout_s: u64,
    /// Whether `pre-commit` runs the fix on the staged files and stages what it changes.
    pub restages: bool,
}

impl Fix {
    /// Returns the command as written, or a description of a built-in fix.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.action {
            FixAction::Command(command) => &command.text,
            FixAction::FileRules => "built-in",
        }
    }

    /// Returns the value of `risk`: `safe` or `risky`.
    #[must_use]
    pub fn risk(&self) -> &'static str {
        if self.is_risky { "risky" } else { "safe" }
    }
}

/// A check (`[[check]]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    /// The phase, as an index into `ValidateConfig::phases`.
    pub phase: usize,
    pub kind: CheckKind,
    /// The files that it is given; `None` if it is given none.
    pub files: Option<CheckFiles>,
    /// The working directory of the command; `None` for the repository root.
    pub cwd: Option<RepoPath>,
    /// Globs for the files on which the result depends, relative to the root.
    pub inputs: Vec<String>,
    /// The environment variables on which the result depends.
    pub env: Vec<String>,
    /// Additional programs on which the result depends.
    pub tools: Vec<String>,
    /// The checks that must pass first, as indices into `ValidateConfig::checks`.
    pub needs: Vec<usize>,
    /// The validity of a cached pass, in seconds.
    pub ttl_s: Option<u64>,
    /// The maximum duration of the command, in seconds.
    pub timeout_s: u64,
    pub conditions: RunConditions,
    /// The automatic fix, if any.
    pub fix: Option<Fix>,
    /// Whether its passes are shared between machines.
    pub share: bool,
    /// The line of the check in the file.
    pub line: usize,
}

/// In which runs a check takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunConditions {
    /// Whether the check runs tests, so that `--skip-tests` skips it.
    pub runs_tests: bool,
    /// The operating systems on which the check runs; if empty, all.
    pub os: Vec<String>,
    /// Tags for selecting checks.
    pub tags: Vec<String>,
    /// Whether the check also runs if `CI` is set.
    pub runs_in_ci: bool,
    /// What git's hooks do with it.
    pub in_hooks: HookSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPhase {
    pub name: String,
    /// Whether a failure in this phase skips the later phases.
    pub is_gate: bool,
}

/// The contents of `setup/validate.toml`; missing keys have their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidateConfig {
    /// How long a run waits for another run, in seconds.
    pub lock_wait_s: u64,
    /// The number of logs to keep.
    pub logs_kept: usize,
    /// The webhook that is notified at the end of a run: a URL, or `$NAME` for a variable that holds one.
    pub webhook: Option<String>,
    /// Where passes of other machines come from.
    pub share: Option<ShareConfig>,
    /// The phases, in order.
    pub phases: Vec<CheckPhase>,
    /// The checks, in file order.
    pub checks: Vec<Check>,
}

/// A check whose `needs` are not resolved yet.
struct CheckDraft {
    check: Option<Check>,
    name: Option<String>,
    needs: Vec<String>,
    span: Range<usize>,
}

impl ValidateConfig {
    /// Parses `text`. `source` names its origin, e.g. `setup/validate.toml`. Returns one usage error with all faults.
    pub fn parse(source: &str, text: &str) -> Result<ValidateConfig> {
        Faults::read_toml(source, text, |file| {
            let is_disk_said = file.has_key("disk-free-min");
            let disk = file.read_parsed("disk-free-min", "a size such as `1 GB`", parse_size);
            let disk = disk.unwrap_or(DEFAULT_DISK_FREE);
            let declared = file.read_named_tables("phase", |name, phase| CheckPhase {
                name: name.to_owned(),
                is_gate: phase.read_bool("gate").unwrap_or(false),
            });
            let default = || {
                let phase = |(name, gate): (&str, bool)| CheckPhase {
                    name: name.to_owned(),
                    is_gate: gate,
                };
                DEFAULT_PHASES.map(phase).to_vec()
            };
            let is_declared = declared.is_some();
            let phases = declared.unwrap_or_else(default);
            let drafts =
                file.read_tables("check", |check| read_check(check, &phases, is_declared, disk));
            if drafts.len() > MOST_CHECKS {
                file.add_fault("check", format!("there are more than {MOST_CHECKS} checks"));
            }
            let mut checks = resolve_needs(file, drafts);
            if is_disk_said && !phases.is_empty() {
                add_disk_check(&mut checks, disk, file.key_line("disk-free-min"));
            } else if !file.has_key("check") {
                file.add_fault("check", "no [[check]] found: nothing would be checked");
            }
            let lock_wait_s = read_seconds(file, "lock-wait", "a time such as `30s`");
            let webhook = file.read_parsed("webhook", WEBHOOK_WANTED, |text| {
                is_webhook(text).then(|| text.to_owned())
            });
            let share = file.read_table("share", read_share).flatten();
            let logs = file.read_number("logs-kept", 1..=10_000).unwrap_or(DEFAULT_LOGS);
            ValidateConfig {
                lock_wait_s: lock_wait_s.unwrap_or(DEFAULT_LOCK_WAIT_S),
                logs_kept: usize::try_from(logs).unwrap_or(usize::MAX),
                webhook,
                share,
                phases,
                checks,
            }
        })
    }
}

/// Adds a disk check for `disk-free-min` unless the file already has one.
fn add_disk_check(checks: &mut Vec<Check>, bytes: u64, line: usize) {
    if checks.iter().any(|check| matches!(check.kind, CheckKind::Disk(_)) || check.name == "disk") {
        return;
    }
    let disk = Check { kind: CheckKind::Disk(bytes), line, ..new_check("disk".to_owned()) };
    checks.push(disk);
}

const TIME_WANTED: &str = "a time such as `90s`, `10m` or `1h`";

const WEBHOOK_WANTED: &str = "a URL that begins with `https://` (`http://` only for this \
                              machine), or `$NAME` for a variable with a URL";

/// Returns whether `text` is a valid webhook. The report must be encrypted in transit, so `http://` is accepted only
/// for this machine.
#[must_use]
pub fn is_webhook(text: &str) -> bool {
    let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let is_local = local.iter().any(|host| {
        let rest = text.strip_prefix(host);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    let is_variable = text.strip_prefix('$').is_some_and(is_variable_name);
    is_plain && (is_local || is_variable || text.starts_with("https://") && text.len() > 8)
}

/// Returns a check with default values.
fn new_check(name: String) -> Check {
    Check {
        name,
        phase: 0,
        kind: CheckKind::GitIdentity,
        files: None,
        cwd: None,
        inputs: Vec::new(),
        env: Vec::new(),
        tools: Vec::new(),
        needs: Vec::new(),
        ttl_s: None,
        timeout_s: DEFAULT_TIMEOUT_S,
        conditions: RunConditions {
            runs_tests: false,
            runs_in_ci: true,
            os: Vec::new(),
            tags: Vec::new(),
            in_hooks: HookSettings::default(),
        },
        fix: None,
        share: false,
        line: 0,
    }
}

fn read_check(
    check: &TableReader<'_>,
    phases: &[CheckPhase],
    is_declared: bool,
    disk: u64,
) -> CheckDraft {
    check.require_key("name");
    let name = read_name(check, phases);
    let names: Vec<(&str, usize)> =
        phases.iter().enumerate().map(|(at, phase)| (phase.name.as_str(), at)).collect();
    if is_declared {
        check.require_key("phase");
    }
    let default = phases.iter().position(|phase| phase.name == DEFAULT_PHASE).unwrap_or(0);
    let phase = check.read_choice("phase", &names).unwrap_or(default);
    let kind = read_check_kind(check, disk);
    let runs_something = matches!(kind, Some(CheckKind::Run(_))) || check.has_key("fix");
    if let Some(kind) = &kind {
        refuse_command_keys(check, kind, runs_something);
    }
    let (has_files, has_message) = match &kind {
        Some(CheckKind::Run(command)) => (
            find_word(check, "run", command, FILES_WORD),
            find_word(check, "run", command, MESSAGE_WORD),
        ),
        _ => (false, false),
    };
    if has_files && has_message {
        check.add_fault("run", "`run` has `{files}` and `{message}`; only one of them is possible");
    }
    let files = read_check_files(check, kind.as_ref(), has_files);
    // These are read even after a fault, so that all faults are reported at once.
    let cwd = check.read_parsed("cwd", INSIDE, parse_inner_path).filter(|_| runs_something);
    let timeout_s = read_seconds(check, "timeout", TIME_WANTED).unwrap_or(DEFAULT_TIMEOUT_S);
    let inputs = read_inputs(check);
    let env = check.read_texts("env").unwrap_or_default();
    for name in env.iter().filter(|name| !is_variable_name(name)) {
        check.add_fault("env", format!("`env` has the invalid variable name `{name}`"));
    }
    let os = read_systems(check);
    let fix = read_check_fix(check, kind.as_ref(), files.as_ref(), timeout_s);
    let tools = check.read_texts("tools").unwrap_or_default();
    let ttl_s = read_seconds(check, "ttl", TIME_WANTED);
    let conditions = RunConditions {
        runs_tests: check.read_bool("tests").unwrap_or(false),
        runs_in_ci: check.read_bool("ci").unwrap_or(true),
        os,
        tags: check.read_texts("tags").unwrap_or_default(),
        in_hooks: read_hook_settings(check, has_message),
    };
    check.has_key("shell");
    let share = check.read_bool("share").unwrap_or(false);
    if share && !matches!(kind, None | Some(CheckKind::Run(_) | CheckKind::FileRules { .. })) {
        check.add_fault("share", "`share` is for checks with `run` or rules for files");
    }
    let draft = name.clone().zip(kind).map(|(name, kind)| Check {
        phase,
        kind,
        files,
        cwd,
        inputs,
        env,
        tools,
        ttl_s,
        timeout_s,
        conditions,
        fix,
        share,
        line: check.key_line("name"),
        ..new_check(name)
    });
    let needs = check.read_texts("needs").unwrap_or_default();
    CheckDraft { check: draft, name, needs, span: check.key_span("needs", "name") }
}

fn read_name(check: &TableReader<'_>, phases: &[CheckPhase]) -> Option<String> {
    let wanted = "a word without spaces or commas, and not the name of a phase";
    check.read_parsed("name", wanted, |text| {
        let is_word = !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',');
        let is_word = is_word && !phases.iter().any(|phase| phase.name == text);
        (is_word && text.len() <= LONGEST_NAME && !text.starts_with('-')).then(|| text.to_owned())
    })
}

fn read_seconds(table: &TableReader<'_>, key: &str, wanted: &str) -> Option<u64> {
    let read = |text: &str| parse_seconds(text).and_then(|seconds| u64::try_from(seconds).ok());
    table.read_parsed(key, wanted, read)
}

/// Reports the keys that only checks with a command can have.
fn refuse_command_keys(check: &TableReader<'_>, kind: &CheckKind, runs_something: bool) {
    if !runs_something && check.has_key("cwd") {
        check.add_fault("cwd", "`cwd` is for checks that `run` a command or have a `fix`");
    }
    let is_command = matches!(kind, CheckKind::Run(_));
    for key in ["tools", "shell", "timeout"].iter().filter(|key| !is_command && check.has_key(key))
    {
        check.add_fault(key, format!("`{key}` is for checks that `run` a command"));
    }
}

fn read_inputs(check: &TableReader<'_>) -> Vec<String> {
    let inputs = check.read_texts("inputs").unwrap_or_default();
    for pattern in &inputs {
        let literal = pattern.strip_prefix('!').unwrap_or(pattern);
        if parse_inner_path(literal).is_none() {
            check.add_fault("inputs", format!("`inputs` has `{pattern}`; it must be {INSIDE}"));
        } else if expand_braces(literal).is_none() {
            check.add_fault("inputs", "the braces in `inputs` expand to too many patterns");
        }
    }
    inputs
}

fn read_systems(check: &TableReader<'_>) -> Vec<String> {
    let os = check.read_text_or_list("os").unwrap_or_default();
    for name in os.iter().filter(|name| !SYSTEMS.contains(&name.as_str())) {
        let near = suggest_nearest(name, SYSTEMS.into_iter());
        check.add_fault(
            "os",
            format!("`os` has `{name}`; it must be one of {}{near}", SYSTEMS.join(", ")),
        );
    }
    os
}

/// Reads the fix of a check: `fix`, or the repairs of its file rules unless `fix = false`.
fn read_check_fix(
    check: &TableReader<'_>,
    kind: Option<&CheckKind>,
    files: Option<&CheckFiles>,
    timeout_s: u64,
) -> Option<Fix> {
    let restages = check.read_bool("restage").unwrap_or(false);
    let fix = match kind {
        Some(CheckKind::FileRules { rules, .. }) => {
            let can_fix = rules.iter().any(|rule| rule.can_fix());
            let is_wanted = check.read_bool("fix").unwrap_or(true);
            (can_fix && is_wanted).then(|| Fix {
                action: FixAction::FileRules,
                is_risky: false,
                writes: Vec::new(),
                timeout_s,
                restages,
            })
        }
        _ => {
            let read = |fix: &TableReader<'_>| read_fix(fix, files.is_some(), timeout_s);
            let fix = check.read_table("fix", read).flatten();
            fix.map(|fix| Fix { restages, ..fix })
        }
    };
    if restages && files.is_none() {
        let wanted = "`restage` is for checks with `files`, or with `{files}` in `run`";
        check.add_fault("restage", wanted);
    } else if restages && fix.is_none() && !check.has_key("fix") {
        check.add_fault("restage", "`restage` requires a `fix`");
    }
    fix
}

fn read_fix(fix: &TableReader<'_>, has_files: bool, timeout_s: u64) -> Option<Fix> {
    fix.require_key("run");
    fix.require_key("risk");
    let command = read_command(fix, "run", fix.read_bool("shell").unwrap_or(false));
    if let Some(command) = &command
        && find_word(fix, "run", command, FILES_WORD)
        && !has_files
    {
        fix.add_fault("run", "`{files}` requires `files` in the check");
    }
    let is_risky = fix.read_choice("risk", &[("safe", false), ("risky", true)]).unwrap_or(true);
    let writes = fix.read_text_or_list("writes").unwrap_or_default();
    let paths = writes.iter().filter_map(|path| {
        let is_gits = |path: &RepoPath| path.components().any(|part| part == b".git");
        let found = parse_inner_path(path)
            .filter(|path| !path.as_bytes().contains(&b'*') && !is_gits(path));
        if found.is_none() {
            fix.add_fault(
                "writes",
                format!(
                    "`writes` has `{path}`; it must be {INSIDE}, not a glob, and not inside `.git`"
                ),
            );
        }
        found
    });
    let writes = paths.collect();
    let action = FixAction::Command(command?);
    Some(Fix { action, is_risky, writes, timeout_s, restages: false })
}

/// Resolves `needs`, and reports duplicate names, unknown needs and cycles.
fn resolve_needs(file: &TableReader<'_>, drafts: Vec<CheckDraft>) -> Vec<Check> {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.name else { continue };
        if by_name.contains_key(name.as_str()) {
            file.add_fault_at(draft.span.clone(), format!("duplicate check name `{name}`"));
        } else {
            by_name.insert(name, at);
        }
    }
    let mut needs: Vec<Vec<usize>> = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        let mut found = Vec::new();
        for need in &draft.needs {
            let fault = match by_name.get(need.as_str()) {
                None => {
                    let near = suggest_nearest(need, by_name.keys().copied());
                    Some(format!("`needs` has `{need}`, and there is no such check{near}"))
                }
                Some(needed) if *needed == at => Some(format!("`{need}` needs itself")),
                Some(needed) if found.contains(needed) => None,
                Some(needed) => {
                    found.push(*needed);
                    let phase = |at: usize| drafts[at].check.as_ref().map(|check| check.phase);
                    let is_later = phase(*needed) > phase(at) && phase(at).is_some();
                    is_later.then(|| format!("`needs` has `{need}`, which is in a later phase"))
                }
            };
            if let Some(fault) = fault {
                file.add_fault_at(draft.span.clone(), fault);
            }
        }
        needs.push(found);
    }
    let name = |at: usize| drafts[at].name.clone().unwrap_or_default();
    for circle in find_cycles(&needs) {
        let names: Vec<String> = circle.iter().chain(&circle[..1]).map(|at| name(*at)).collect();
        let span = drafts[circle[0]].span.clone();
        file.add_fault_at(span, format!("these checks need each other: {}", names.join(" → ")));
    }
    // A check that could not be read has caused a fault, so this list is discarded.
    let checks = drafts.into_iter().zip(needs);
    checks.filter_map(|(draft, needs)| Some(Check { needs, ..draft.check? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let refused = ValidateConfig::parse("f", text).expect_err("there are faults");
        refused.details().to_vec()
    }

    fn read(text: &str) -> ValidateConfig {
        ValidateConfig::parse("f", text).unwrap_or_else(|error| panic!("{:?}", error.details()))
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = read(
            "disk-free-min = '2 GB'\nlock-wait = '5s'\nlogs-kept = 3\nwebhook = '$HOOK'\n\
             [phase.b]\ngate = true\n[phase.a]\n\
             [[check]]\nname = 'one'\nphase = 'b'\nrun = \"cc 'a b' c\"\nttl = '1h'\n\
             [[check]]\nname = 'two'\nphase = 'a'\ntool = 'uv'\nversion = '>=3.12 <4'\n\
             needs = ['one']\nfix = { run = 'x', risk = 'safe', writes = ['uv.lock'] }\n",
        );
        let names: Vec<&str> = config.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["b", "a"], "in the order of the file");
        assert_eq!((config.lock_wait_s, config.logs_kept), (5, 3));
        let [one, two, disk] = &config.checks[..] else { panic!("{:?}", config.checks) };
        let CheckKind::Run(command) = &one.kind else { panic!("{:?}", one.kind) };
        assert_eq!(command.argv, ["cc", "a b", "c"]);
        assert_eq!((one.ttl_s, two.needs.as_slice()), (Some(3600), &[0][..]));
        let CheckKind::Tool { version: Some(version), .. } = &two.kind else {
            panic!("{:?}", two.kind)
        };
        assert!(version.matches(&semver::Version::new(3, 12, 1)));
        assert!(!version.matches(&semver::Version::new(4, 0, 0)));
        assert_eq!(two.fix.as_ref().unwrap().writes, [RepoPath::new("uv.lock")]);
        assert_eq!((&disk.kind, disk.phase), (&CheckKind::Disk(2_000_000_000), 0));
    }

    #[test]
    fn all_faults_are_found_at_once_with_their_lines() {
        let found = faults(
            "logs-kept = 0\nwebhook = 'http://example.com/'\n\
             [[check]]\nname = 'a b'\nrun = 'x && y'\n\
             [[check]]\nname = 'one'\nrun = 'x'\ntool = 'y'\n\
             [[check]]\nname = 'two'\nneeds = ['three', 'on']\nrun = \"x 'y\"\n\
             [[check]]\nname = 'three'\nneeds = ['two']\nfile = '../x'\nport-free = 70000\n\
             [[check]]\nname = 'four'\nport-free = 70000\ninputs = ['/etc/x']\nos = 'linus'\n\
             [[check]]\nname = 'four'\ntool = 'x'\nversion = 'new'\nttl = 'soon'\nrunn = 1\n\
             fix = { risk = 'none' }\n",
        );
        expect_test::expect![[r#"
            f:1: `logs-kept` must be from 1 to 10000
            f:2: `webhook` is `http://example.com/`; it must be a URL that begins with `https://` (`http://` only for this machine), or `$NAME` for a variable with a URL
            f:4: `check.name` is `a b`; it must be a word without spaces or commas, and not the name of a phase
            f:5: `run` has `&&`, which needs a shell: add `shell = true`
            f:9: a check has exactly one kind, but this has run, tool
            f:12: `needs` has `on`, and there is no such check; did you mean `one`?
            f:12: these checks need each other: two → three → two
            f:13: `run` has an unclosed quote
            f:18: a check has exactly one kind, but this has file, port-free
            f:21: `check.port-free` must be from 1 to 65535
            f:21: `port-free` must not be empty
            f:22: `inputs` has `/etc/x`; it must be a path inside the repository, from its root
            f:23: `os` has `linus`; it must be one of linux, macos, windows; did you mean `linux`?
            f:25: duplicate check name `four`
            f:27: `check.version` is `new`; it must be a range of versions such as `>=3.12` or `>=18, <21`
            f:28: `check.ttl` is `soon`; it must be a time such as `90s`, `10m` or `1h`
            f:29: unknown key `check.runn`; did you mean `run`?
            f:30: `check.fix.run` is missing
            f:30: `check.fix.risk` is `none`; it must be one of safe, risky"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn needs_that_lead_in_a_circle_or_ahead_are_refused() {
        let check = |name: &str, phase: &str, needs: &str| {
            format!("[[check]]\nname = '{name}'\nphase = '{phase}'\nrun = 'x'\nneeds = [{needs}]\n")
        };
        let found = faults(
            &[
                check("a", "quality", "'c'"),
                check("b", "quality", "'a'"),
                check("c", "quality", "'b'"),
                check("d", "environment", "'a'"),
                check("e", "quality", "'e'"),
            ]
            .concat(),
        );
        expect_test::expect![[r#"
            f:5: these checks need each other: a → c → b → a
            f:20: `needs` has `a`, which is in a later phase
            f:25: `e` needs itself"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn what_is_told_goes_encrypted_or_stays_here() {
        for good in ["https://a.example/x", "http://127.0.0.1:9/x", "http://localhost", "$X_1"] {
            assert!(is_webhook(good), "{good}");
        }
        for bad in ["http://a.example/", "http://localhost.evil/", "ftp://x", "https://", "$", "$1"]
        {
            assert!(!is_webhook(bad), "{bad}");
        }
    }
}
