//! `setup/validate.toml`: the checks, their phases, and the bounds of a run.
//!
//! A configuration that was read is whole: every name is known, every check says what it does in
//! exactly one way, and what a check needs leads neither back to it nor into a later phase.

use std::collections::BTreeMap;
use std::ops::Range;

use semver::VersionReq;

use super::command::{CommandLine, read_command};
use super::cycles::find_cycles;
use super::reader::{Faults, TableReader, suggest_nearest};
use super::value_syntax::{INSIDE, is_variable_name, parse_inner_path};
use xtask_base::environment::parse_seconds;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{expand_braces, parse_size};

/// The phases of a file that declares none, and whether each is a gate.
const DEFAULT_PHASES: [(&str, bool); 4] =
    [("environment", true), ("dependencies", true), ("quality", false), ("platform", false)];

/// The phase of a check that names none, where the file declares no phases either.
const DEFAULT_PHASE: &str = "quality";

/// How long a command may take that sets no `timeout`: ten minutes.
const DEFAULT_TIMEOUT_S: u64 = 600;

/// The least that must be free on disk, where nothing else is said: 1 GB.
const DEFAULT_DISK_FREE: u64 = 1_000_000_000;

/// How long a run waits for another one: 30 seconds.
const DEFAULT_LOCK_WAIT_S: u64 = 30;

/// How many logs are kept.
const DEFAULT_LOGS: u64 = 20;

/// The longest name of a check.
const LONGEST_NAME: usize = 100;

/// The systems that `os` can name, as Rust names them.
const SYSTEMS: [(&str, &str); 3] = [("linux", "linux"), ("macos", "macos"), ("windows", "windows")];

/// The most checks: what is more is a mistake.
const MOST_CHECKS: usize = 2000;

/// The keys of which a check has exactly one.
const KIND_KEYS: [&str; 7] = ["run", "tool", "file", "env-var", "disk", "port-free", "built-in"];

/// What a check does.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// Runs a command, which must end with 0.
    Run(CommandLine),
    /// Finds a program on PATH, and asks it for its version.
    Tool {
        /// Its name.
        tool: String,
        /// The versions that will do.
        version: Option<VersionReq>,
        /// How it is asked, where it is not by `--version`.
        version_command: Option<CommandLine>,
    },
    /// Files that must be there.
    File(Vec<RepoPath>),
    /// Variables that must be set, and not to nothing.
    EnvVar(Vec<String>),
    /// So many bytes must be free where a run writes.
    Disk(u64),
    /// Nobody listens on these ports.
    PortFree(Vec<u16>),
    /// Git knows who commits.
    GitIdentity,
    /// The hooks are installed and will fire here.
    Hooks,
    /// No managed path is behind.
    Sync,
    /// The branch that is checked out keeps to the rules.
    Branches,
}

/// A built-in check, made with the least that must be free on disk.
type MakeBuiltIn = fn(u64) -> CheckKind;

/// The built-in checks that take no value.
const BUILT_IN_CHECKS: [(&str, MakeBuiltIn); 5] = [
    ("git-identity", |_| CheckKind::GitIdentity),
    ("hooks", |_| CheckKind::Hooks),
    ("sync", |_| CheckKind::Sync),
    ("branches", |_| CheckKind::Branches),
    ("disk", CheckKind::Disk),
];

/// How a check that failed can be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What to run.
    pub command: CommandLine,
    /// Whether it waits for consent.
    pub is_risky: bool,
    /// The files and folders that it may change, which are backed up first.
    pub writes: Vec<RepoPath>,
    /// How long it may take, in seconds.
    pub timeout_s: u64,
}

/// A check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Its phase, as an index into the phases.
    pub phase: usize,
    /// What it does.
    pub kind: CheckKind,
    /// The folder in which its command runs; the root where there is none.
    pub cwd: Option<RepoPath>,
    /// The files on which its result depends, as globs from the root.
    pub inputs: Vec<String>,
    /// The variables on which it depends.
    pub env: Vec<String>,
    /// The programs on which it depends, besides the one that it runs.
    pub tools: Vec<String>,
    /// The checks that must pass before it begins, as indices.
    pub needs: Vec<usize>,
    /// For how long a pass counts, in seconds.
    pub ttl_s: Option<u64>,
    /// How long its command may take, in seconds.
    pub timeout_s: u64,
    /// Whether it runs tests, which `--skip-tests` leaves out.
    pub runs_tests: bool,
    /// The systems on which it runs; everywhere where there are none.
    pub os: Vec<String>,
    /// Words by which it can be chosen.
    pub tags: Vec<String>,
    /// Whether it also runs where `CI` is set.
    pub runs_in_ci: bool,
    /// Whether it runs before a commit.
    pub before_commit: bool,
    /// How a failure can be put right.
    pub fix: Option<Fix>,
    /// The line of the file on which it stands.
    pub line: usize,
}

/// A phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPhase {
    /// Its name.
    pub name: String,
    /// Whether a failure in it stops the phases after it.
    pub is_gate: bool,
}

/// The whole file, with defaults where it is silent.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidateConfig {
    /// How long a run waits for another one, in seconds.
    pub lock_wait_s: u64,
    /// How many logs are kept.
    pub logs_kept: usize,
    /// Where the end of a run is told: an address, or `$NAME` of a variable that holds one.
    pub webhook: Option<String>,
    /// The phases, in their order.
    pub phases: Vec<CheckPhase>,
    /// The checks, in the order of the file.
    pub checks: Vec<Check>,
}

/// A check as it was read, before what it needs was looked up.
struct CheckDraft {
    check: Option<Check>,
    name: Option<String>,
    needs: Vec<String>,
    span: Range<usize>,
}

impl ValidateConfig {
    /// Reads the text of the file; `source` names where it came from.
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
                file.add_fault("check", "it has no [[check]]: nothing would be checked");
            }
            let seconds = |key: &str, default| {
                let read = |text: &str| parse_seconds(text).and_then(|s| u64::try_from(s).ok());
                file.read_parsed(key, "a time such as `30s`", read).unwrap_or(default)
            };
            let webhook = file.read_parsed("webhook", WEBHOOK_WANTED, |text| {
                is_webhook(text).then(|| text.to_owned())
            });
            let logs = file.read_number("logs-kept", 1..=10_000).unwrap_or(DEFAULT_LOGS);
            ValidateConfig {
                lock_wait_s: seconds("lock-wait", DEFAULT_LOCK_WAIT_S),
                logs_kept: usize::try_from(logs).unwrap_or(usize::MAX),
                webhook,
                phases,
                checks,
            }
        })
    }
}

/// What `disk-free-min` asks for, it asks for also where no check repeats it.
fn add_disk_check(checks: &mut Vec<Check>, bytes: u64, line: usize) {
    if checks.iter().any(|check| matches!(check.kind, CheckKind::Disk(_)) || check.name == "disk") {
        return;
    }
    let disk = Check { kind: CheckKind::Disk(bytes), line, ..new_check("disk".to_owned()) };
    checks.push(disk);
}

const WEBHOOK_WANTED: &str = "an address that begins with `https://` (`http://` to this machine \
                              alone), or `$NAME` for a variable that holds one";

/// Whether this can be told the end of a run: what it says goes over the net encrypted or not at
/// all.
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

/// A check that does nothing yet.
fn new_check(name: String) -> Check {
    Check {
        name,
        phase: 0,
        kind: CheckKind::GitIdentity,
        cwd: None,
        inputs: Vec::new(),
        env: Vec::new(),
        tools: Vec::new(),
        needs: Vec::new(),
        ttl_s: None,
        timeout_s: DEFAULT_TIMEOUT_S,
        runs_tests: false,
        runs_in_ci: true,
        os: Vec::new(),
        tags: Vec::new(),
        before_commit: false,
        fix: None,
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
    let name = check.read_parsed(
        "name",
        "a word without spaces or commas, and not the name of a phase",
        |text| {
            let is_word = !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',');
            let is_word = is_word && !phases.iter().any(|phase| phase.name == text);
            (is_word && text.len() <= LONGEST_NAME && !text.starts_with('-'))
                .then(|| text.to_owned())
        },
    );
    let names: Vec<(&str, usize)> =
        phases.iter().enumerate().map(|(at, phase)| (phase.name.as_str(), at)).collect();
    if is_declared {
        check.require_key("phase");
    }
    let default = phases.iter().position(|phase| phase.name == DEFAULT_PHASE).unwrap_or(0);
    let phase = check.read_choice("phase", &names).unwrap_or(default);
    let kind = read_check_kind(check, disk);
    let is_command = matches!(kind, Some(CheckKind::Run(_)));
    let runs_something = is_command || check.has_key("fix");
    if !runs_something && kind.is_some() && check.has_key("cwd") {
        check.add_fault("cwd", "`cwd` is for checks that `run` a command or have a `fix`");
    }
    let only_commands = ["tools", "shell", "timeout"];
    for key in
        only_commands.iter().filter(|key| !is_command && kind.is_some() && check.has_key(key))
    {
        check.add_fault(key, format!("`{key}` is for checks that `run` a command"));
    }
    let seconds = |key: &str| {
        let read = |text: &str| parse_seconds(text).and_then(|s| u64::try_from(s).ok());
        check.read_parsed(key, "a time such as `90s`, `10m` or `1h`", read)
    };
    let cwd = check.read_parsed("cwd", INSIDE, parse_inner_path).filter(|_| runs_something);
    let timeout_s = seconds("timeout").unwrap_or(DEFAULT_TIMEOUT_S);
    let inputs = check.read_texts("inputs").unwrap_or_default();
    for pattern in &inputs {
        let literal = pattern.strip_prefix('!').unwrap_or(pattern);
        if parse_inner_path(literal).is_none() {
            check.add_fault("inputs", format!("`inputs` has `{pattern}`; it must be {INSIDE}"));
        } else if expand_braces(literal).is_none() {
            check.add_fault("inputs", "the braces of `inputs` stand for too many patterns");
        }
    }
    let env = check.read_texts("env").unwrap_or_default();
    for name in env.iter().filter(|name| !is_variable_name(name)) {
        check.add_fault("env", format!("`env` has `{name}`, which is no name of a variable"));
    }
    let os = check.read_text_or_list("os").unwrap_or_default();
    for name in os.iter().filter(|name| !SYSTEMS.iter().any(|(known, _)| known == name)) {
        let near = suggest_nearest(name, SYSTEMS.iter().map(|(known, _)| *known));
        check
            .add_fault("os", format!("`os` has `{name}`; it knows linux, macos and windows{near}"));
    }
    let fix = check.read_table("fix", |fix| {
        fix.require_key("run");
        fix.require_key("risk");
        let command = read_command(fix, "run", fix.read_bool("shell").unwrap_or(false));
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
                        "`writes` has `{path}`; it must be {INSIDE}, not a glob, and not git's"
                    ),
                );
            }
            found
        });
        let writes = paths.collect();
        Some(Fix { command: command?, is_risky, writes, timeout_s })
    });
    // All of them are read, also where there is a fault already: all faults are told at once.
    let tools = check.read_texts("tools").unwrap_or_default();
    let ttl_s = seconds("ttl");
    let tests = check.read_bool("tests").unwrap_or(false);
    let ci = check.read_bool("ci").unwrap_or(true);
    let tags = check.read_texts("tags").unwrap_or_default();
    let before_commit = check.read_choice("hook", &[("pre-commit", true)]).unwrap_or(false);
    check.has_key("shell");
    let draft = name.clone().zip(kind).map(|(name, kind)| Check {
        phase,
        kind,
        cwd,
        inputs,
        env,
        tools,
        ttl_s,
        timeout_s,
        runs_tests: tests,
        runs_in_ci: ci,
        os,
        tags,
        before_commit,
        fix: fix.flatten(),
        line: check.key_line("name"),
        ..new_check(name)
    });
    let needs = check.read_texts("needs").unwrap_or_default();
    CheckDraft { check: draft, name, needs, span: check.key_span("needs", "name") }
}

/// What a check does: exactly one of the ways there are.
fn read_check_kind(check: &TableReader<'_>, disk: u64) -> Option<CheckKind> {
    let there: Vec<&str> = KIND_KEYS.into_iter().filter(|key| check.has_key(key)).collect();
    let is_tool = there == ["tool"];
    for key in ["version", "ask"].into_iter().filter(|key| !is_tool && check.has_key(key)) {
        check.add_fault(key, format!("`{key}` is for checks of a `tool`"));
    }
    match there[..] {
        [] => {
            check
                .add_fault("name", format!("it does nothing: say one of {}", KIND_KEYS.join(", ")));
            None
        }
        ["run"] => read_command(check, "run", check.read_bool("shell").unwrap_or(false))
            .map(CheckKind::Run),
        ["tool"] => {
            let version = check.read_parsed("version", VERSION_WANTED, |text| {
                VersionReq::parse(&text.replace(' ', ",").replace(",,", ",")).ok()
            });
            let ask = check.has_key("ask").then(|| read_command(check, "ask", false)).flatten();
            let tool = check.read_parsed("tool", "the name of one program", |text| {
                (!text.contains(char::is_whitespace)).then(|| text.to_owned())
            });
            Some(CheckKind::Tool { tool: tool?, version, version_command: ask })
        }
        ["file"] => {
            let paths = require_non_empty(check, "file", check.read_text_or_list("file")?)?;
            let read = paths.iter().map(|path| {
                let found = parse_inner_path(path);
                if found.is_none() {
                    check.add_fault("file", format!("`file` has `{path}`; it must be {INSIDE}"));
                }
                found
            });
            // All of them are looked at, so that all faults are found.
            read.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>().map(CheckKind::File)
        }
        ["env-var"] => {
            let names = require_non_empty(check, "env-var", check.read_text_or_list("env-var")?)?;
            for name in names.iter().filter(|name| !is_variable_name(name)) {
                check.add_fault("env-var", format!("`{name}` is no name of a variable"));
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
        ["built-in"] => check.read_choice("built-in", &BUILT_IN_CHECKS).map(|make| make(disk)),
        _ => {
            check.add_fault(there[1], format!("it does several things: {}", there.join(", ")));
            None
        }
    }
}

/// A list that is to name something.
fn require_non_empty<T>(check: &TableReader<'_>, key: &str, list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() {
        check.add_fault(key, format!("`{key}` names nothing"));
        return None;
    }
    Some(list)
}

const VERSION_WANTED: &str = "a range of versions such as `>=3.12` or `>=18, <21`";

/// Looks up what each check needs, and finds names that are taken, unknown needs and circles.
fn resolve_needs(file: &TableReader<'_>, drafts: Vec<CheckDraft>) -> Vec<Check> {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.name else { continue };
        if by_name.contains_key(name.as_str()) {
            file.add_fault_at(draft.span.clone(), format!("there are two checks named `{name}`"));
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
                    is_later.then(|| {
                        format!("`{need}`, which it needs, is in a phase that comes later")
                    })
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
    // Where a check could not be read there is a fault, and nobody sees this list.
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
            f:2: `webhook` is `http://example.com/`; it must be an address that begins with `https://` (`http://` to this machine alone), or `$NAME` for a variable that holds one
            f:4: `check.name` is `a b`; it must be a word without spaces or commas, and not the name of a phase
            f:5: `run` has `&&`, which needs a shell: add `shell = true`
            f:9: it does several things: run, tool
            f:12: `needs` has `on`, and there is no such check; did you mean `one`?
            f:12: these checks need each other: two → three → two
            f:13: `run` has a quote that is not closed
            f:18: it does several things: file, port-free
            f:21: `check.port-free` must be from 1 to 65535
            f:21: `port-free` names nothing
            f:22: `inputs` has `/etc/x`; it must be a path inside the repository, from its root
            f:23: `os` has `linus`; it knows linux, macos and windows; did you mean `linux`?
            f:25: there are two checks named `four`
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
            f:20: `a`, which it needs, is in a phase that comes later
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
