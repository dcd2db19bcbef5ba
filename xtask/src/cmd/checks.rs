//! What every command that runs checks has in common: where they come from, who sees them run, and
//! what is reported.

use super::session::Session;
use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt as _;
use xtask_base::error::{Context as _, Error, Kind as ErrorKind, Result};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::words::{count, some_of, typed};
use xtask_base::world::{ago, rfc3339};
use xtask_branches::check::{check, is_asked, is_shared};
use xtask_branches::facts::Look as BranchLook;
use xtask_branches::rules::Weight;
use xtask_config::{BranchesConfig, Check, Fix, Kind, VALIDATE_FILE, ValidateConfig};
use xtask_detect::defaults;
use xtask_detect::fit::{Look, facts};
use xtask_git::Tools;
use xtask_git::{NamePattern, Repo};
use xtask_hooks::health::health;
use xtask_hooks::program::Care;
use xtask_report::live::Live;
use xtask_report::validate::{
    CheckLine, Detail, FixLine, FixOutcome, Outcome as Shown, ValidateReport,
};
use xtask_report::{self as report, Loudness};
use xtask_sync::classify::Class;
use xtask_sync::context::{self, Context};
use xtask_sync::gather::Depth;
use xtask_sync::run::{Looked, Wishes, is_only_protected, look, road_to_protected};
use xtask_validate::fix::{Fixes, Phase};
use xtask_validate::kinds::{Finding, Surroundings};
use xtask_validate::outcome::{Ended, FixFate, Outcome};
use xtask_validate::perform::{Order, Performed, Place, enter, fixes_folder, perform};
use xtask_validate::plan::{Here, Wish, choose};
use xtask_validate::run::{FixMode, Options, Watcher};

/// How many lines of what a check has printed are shown before it is asked about its fix.
const SHOWN_BEFORE_ASKING: usize = 20;

/// The largest configuration that is read: 4 MB.
const LARGEST: u64 = 4_000_000;

/// How long another run is waited for where nobody can say it: half a minute.
const LOCK_WAIT_S: u64 = 30;

/// The checks of a worktree.
pub(super) struct Checks {
    /// As they were read.
    pub(super) config: ValidateConfig,
    /// The file; nothing where there is none, and the usual set stands in.
    pub(super) file: Option<String>,
}

/// Reads the checks of the working tree, or takes the usual set where there is no file.
pub(super) fn of_worktree(repo: &Repo) -> Result<Checks> {
    let root = repo.root();
    let path = root.join(VALIDATE_FILE);
    let failed = || format!("`{VALIDATE_FILE}` cannot be read");
    match std::fs::metadata(&path) {
        Err(cause)
            if cause.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            return usual(repo);
        }
        Err(cause) => return Err(Error::unable(failed()).because(cause)),
        Ok(meta) if !meta.is_file() => return Err(Error::usage(format!("{}: no file", failed()))),
        Ok(meta) if meta.len() > LARGEST => {
            return Err(Error::usage(format!("{}: it is too large", failed())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).unable(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage(format!("{}: it is not UTF-8", failed())))?;
    read(&text)
}

/// Reads checks from the text of the file.
pub(super) fn read(text: &str) -> Result<Checks> {
    let config = ValidateConfig::parse(VALIDATE_FILE, text)?;
    Ok(Checks { config, file: Some(VALIDATE_FILE.to_owned()) })
}

fn usual(repo: &Repo) -> Result<Checks> {
    let root = repo.root();
    let has_canonical = context::of_canonical(repo)?.is_some();
    let entries =
        std::fs::read_dir(root).unable(|| format!("`{}` cannot be listed", root.display()))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let paths: Vec<RepoPath> =
        files.map(|entry| RepoPath::new(entry.file_name().as_bytes())).collect();
    let read = |path: &str| {
        let path = root.join(path);
        let is_small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= LARGEST);
        if is_small { std::fs::read(path).ok() } else { None }
    };
    // Neither the branch nor the remote makes a difference to the checks.
    let look = Look { name: NAME, paths: &paths, read: &read, default_branch: "", remote: None };
    let facts = facts(&look);
    let text = defaults::text(&|word| match word {
        "canonical" => has_canonical,
        // What nobody has asked for should be quick.
        "tests" => false,
        word => facts.holds(word),
    });
    let text = defaults::with_versions(&text, &facts.versions);
    let config = ValidateConfig::parse("the usual checks", &text)?;
    Ok(Checks { config, file: None })
}

/// Hooks, sync and branches, as this program sees them.
pub(super) struct Around<'a> {
    pub(super) repo: &'a Repo,
    pub(super) tools: Tools<'a>,
}

fn in_words(failure: &Error) -> String {
    let hints = failure.hints().iter().map(|hint| format!("; {hint}"));
    std::iter::once(failure.to_string()).chain(hints).collect()
}

impl Around<'_> {
    /// What the rule for a branch says of it.
    fn by_rule(&self, context: &Context, branch: &str) -> Result<Finding> {
        let look = BranchLook::new(self.repo, context, self.tools.world.now_seconds())?;
        let checked = check(&look, branch, Ok(self.repo.head()?.commit));
        let lines = checked.lines().join("\n");
        Ok(match checked.worst() {
            None => Ok(checked.summary()),
            Some(Weight::Note) => Ok(lines),
            Some(Weight::Unknown | Weight::Broken) => Err(lines),
        })
    }
}

impl Surroundings for Around<'_> {
    fn hooks(&self) -> Finding {
        let find = || {
            let context = context::of_canonical(self.repo)?;
            health(self.repo, self.tools.world, context.as_ref(), Care::Look)
        };
        let health = find().map_err(|failure| in_words(&failure))?;
        let all_fire = health.hooks.iter().all(|hook| health.fires(hook));
        if all_fire { Ok(health.summary()) } else { Err(health.summary()) }
    }

    fn sync(&self) -> Finding {
        let find = || {
            let Some(context) = context::of_canonical(self.repo)? else { return Ok(None) };
            let looked =
                look(self.repo, context, &Wishes::plain(), Depth::Everything, &self.tools)?;
            Ok(Some(looked))
        };
        let looked = find().map_err(|failure: Error| in_words(&failure))?;
        let decided = match looked {
            None => return Ok("there is no canonical branch to compare with".to_owned()),
            Some(Looked::OnCanonical(context)) => {
                return Ok(format!("`{}` is the canonical branch", context.config.branch));
            }
            Some(Looked::Decided(decided)) => decided,
        };
        let behind = decided.plan.count(Class::Behind) + decided.plan.count(Class::Sparse);
        let unknown = decided.plan.count(Class::Unknown);
        let own = decided.plan.count(Class::Customised);
        if behind + unknown > 0 {
            if unknown == 0 && is_only_protected(self.repo, &decided) {
                let branch = decided.head.branch.as_deref().unwrap_or_default();
                return Ok(format!(
                    "{} behind, and `{branch}` is protected: {}",
                    count(behind, "managed file"),
                    road_to_protected(self.repo, &decided.context, branch)
                ));
            }
            let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
            return Err(format!(
                "{} behind{unknown}: `cargo xtask sync` brings it up to date",
                count(behind, "managed file")
            ));
        }
        Ok(if own > 0 { format!("in sync, {own} customised") } else { "in sync".to_owned() })
    }

    /// Whether the branch keeps to its rule; and where no rule is about it, whether it has a base at all,
    /// and how far that has gone ahead. What is not known never passes.
    fn branches(&self) -> Finding {
        let find = || -> Result<Finding> {
            let Some(branch) = self.repo.branch_name() else {
                return Ok(Err("HEAD is detached: no branch is known".to_owned()));
            };
            let context = context::of_canonical(self.repo)?;
            let protected = context.as_ref().map_or_else(
                || BranchesConfig::default().protected,
                |context| context.branches.protected.clone(),
            );
            let is_protected =
                |name: &str| protected.iter().any(|p| NamePattern::new(p).matches(name));
            if is_protected(&branch) || context.as_ref().is_some_and(|c| is_shared(c, &branch)) {
                return Ok(Ok(format!("`{branch}` is shared")));
            }
            if let Some(context) = context.filter(|context| is_asked(context, &branch)) {
                return self.by_rule(&context, &branch);
            }
            if self.repo.is_shallow() {
                return Ok(Err("the history is cut off here: its base is not known".to_owned()));
            }
            let head = self.repo.head()?.commit;
            let remote = context::usual_names(self.repo).remote;
            let prefixes = ["refs/heads/".to_owned(), format!("refs/remotes/{remote}/")];
            for prefix in &prefixes {
                for (name, id) in self.repo.refs_below(prefix)? {
                    let short = name.strip_prefix(prefix.as_str()).unwrap_or(&name);
                    if !is_protected(short) {
                        continue;
                    }
                    let Some(base) = self.repo.merge_base(head, id)? else {
                        return Ok(Err(format!(
                            "`{branch}` has no history in common with `{short}`"
                        )));
                    };
                    let behind = self.repo.count_between(base, id)?;
                    let own = self.repo.count_between(base, head)?;
                    return Ok(Ok(format!(
                        "{} on `{short}`, which is {} ahead",
                        count(own, "commit"),
                        count(behind, "commit")
                    )));
                }
            }
            Ok(Err(format!("none of the protected branches ({}) is here", protected.join(", "))))
        };
        find().unwrap_or_else(|failure| Err(in_words(&failure)))
    }
}

/// Shows a run as it goes on: live lines on a terminal, and a line for each end where those are wanted.
pub(super) struct Shower {
    live: Live,
    /// How wide names are; nothing where ends are not shown one by one.
    width: Option<usize>,
    phases: Vec<String>,
    is_quiet: bool,
    file: Option<String>,
    failure: RefCell<Option<Error>>,
}

impl Shower {
    pub(super) fn new(checks: &Checks, loudness: Loudness, shows_ends: bool) -> Shower {
        let config = &checks.config;
        let width = config.checks.iter().map(|check| check.name.chars().count()).max();
        Shower {
            live: Live::new(loudness > Loudness::Quiet),
            width: shows_ends.then_some(width.unwrap_or(0)),
            phases: config.phases.iter().map(|phase| phase.name.clone()).collect(),
            is_quiet: loudness == Loudness::Quiet,
            file: checks.file.clone(),
            failure: RefCell::new(None),
        }
    }

    /// Why an end could not be shown, if one could not.
    pub(super) fn failure(self) -> Result<()> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }
}

impl Watcher for Shower {
    fn started(&self, check: &Check) {
        self.live.started(&check.name);
    }

    fn ended(&self, check: &Check, ended: &Ended) {
        self.live.ended(&check.name);
        let Some(width) = self.width else { return };
        let is_hidden = match ended.outcome {
            Outcome::LeftOut => true,
            outcome => self.is_quiet && outcome.is_good(),
        };
        if is_hidden {
            return;
        }
        let line = check_line(check, &self.phases[check.phase], ended, &self.file, "");
        let detail = Detail { all: false, quiet: self.is_quiet, why: false };
        let under = line.under(detail).into_iter().map(|under| format!("          {under}\n"));
        let text: String = std::iter::once(line.line(width) + "\n").chain(under).collect();
        let shown = self.live.aside(|| report::answer(&text));
        if let Err(failure) = shown {
            self.failure.borrow_mut().get_or_insert(failure);
        }
    }

    fn tick(&self) {
        self.live.tick();
    }

    fn consents(&self, check: &Check, fix: &Fix, failed: &Ended) -> bool {
        let risk = if fix.is_risky { "a risky fix" } else { "a fix" };
        let question =
            format!("`{}` failed. Run {risk} for it, `{}`?", check.name, fix.command.text);
        let output: Vec<&str> = failed.output.trim_end().lines().collect();
        self.live.aside(|| {
            for line in &output[output.len().saturating_sub(SHOWN_BEFORE_ASKING)..] {
                report::hook_line(&format!("  {line}"));
            }
            report::hook_line(&format!("`{}`: {}", check.name, failed.reason));
            report::ask(&question)
        }) == Some(true)
    }
}

/// What a check does, in a line.
pub(super) fn does(check: &Check) -> String {
    let list = |names: &[String]| names.join(", ");
    match &check.kind {
        Kind::Run(command) => command.text.clone(),
        Kind::Tool { tool, version: Some(version), .. } => format!("{tool} {version} on PATH"),
        Kind::Tool { tool, version: None, .. } => format!("{tool} on PATH"),
        Kind::File(paths) => {
            list(&paths.iter().map(ToString::to_string).collect::<Vec<_>>()) + " there"
        }
        Kind::EnvVar(names) => list(names) + " set",
        Kind::Disk(bytes) => format!("{} free on disk", xtask_base::words::size(*bytes)),
        Kind::PortFree(ports) => {
            format!("ports {} free", list(&ports.iter().map(u16::to_string).collect::<Vec<_>>()))
        }
        Kind::GitIdentity => "git knows who commits".to_owned(),
        Kind::Hooks => "the hooks will fire here".to_owned(),
        Kind::Sync => "no managed file is behind".to_owned(),
        Kind::Branches => "the branch keeps to its rule".to_owned(),
    }
}

fn check_line(
    check: &Check,
    phase: &str,
    ended: &Ended,
    file: &Option<String>,
    run: &str,
) -> CheckLine {
    let outcome = match ended.outcome {
        Outcome::Passed => Shown::Passed,
        Outcome::Cached => Shown::Cached,
        Outcome::Fixed => Shown::Fixed,
        Outcome::Failed => Shown::Failed,
        Outcome::Blocked => Shown::Blocked,
        Outcome::LeftOut => Shown::LeftOut,
        Outcome::Interrupted => Shown::Interrupted,
        Outcome::Planned => Shown::Planned,
    };
    let fix = check.fix.as_ref().zip(ended.fix.as_ref()).map(|(fix, done)| FixLine {
        command: fix.command.text.clone(),
        risk: risk(fix),
        outcome: match done.fate {
            FixFate::Advised => FixOutcome::Advised,
            FixFate::Applied => FixOutcome::Applied,
            FixFate::Restored => FixOutcome::Restored,
            FixFate::Left => FixOutcome::Left,
        },
        reason: done.reason.clone(),
        undo: (done.can_be_undone && !run.is_empty()).then(|| run.to_owned()),
        paths: done.paths.iter().map(ToString::to_string).collect(),
    });
    // The usual checks name what a project may have; nobody has written that by mistake.
    let is_told = |note: &&String| file.is_some() || !note.starts_with("`inputs` ");
    CheckLine {
        name: check.name.clone(),
        phase: phase.to_owned(),
        outcome,
        reason: ended.reason.clone(),
        why: ended.why.clone(),
        notes: ended.notes.iter().filter(is_told).cloned().collect(),
        command: does(check),
        runs_command: matches!(check.kind, Kind::Run(_)),
        duration_ms: ended.duration_ms,
        exit_code: ended.exit_code,
        output: ended.output.clone(),
        inputs: ended.inputs,
        key: ended.key.clone(),
        fix,
        line: file.as_ref().map(|_| check.line),
    }
}

/// `safe` or `risky`.
pub(super) fn risk(fix: &Fix) -> &'static str {
    if fix.is_risky { "risky" } else { "safe" }
}

/// The report of a run, its checks in the order of phases.
pub(super) fn describe(
    repo: &Repo,
    checks: &Checks,
    done: &Performed,
    is_fast: bool,
    is_look: bool,
) -> ValidateReport {
    let config = &checks.config;
    let ends = config.checks.iter().zip(&done.outcomes.checks);
    let mut lines: Vec<(usize, CheckLine)> = ends
        .map(|(check, ended)| {
            let phase = &config.phases[check.phase].name;
            (check.phase, check_line(check, phase, ended, &checks.file, &done.run))
        })
        .collect();
    lines.sort_by_key(|(phase, _)| *phase);
    ValidateReport {
        schema: "xtask.validate/1",
        run: done.run.clone(),
        worktree: repo.root().display().to_string(),
        branch: repo.branch_name(),
        config: checks.file.clone(),
        started: rfc3339(done.at),
        duration_ms: done.duration_ms,
        fast: is_fast,
        dry_run: is_look,
        ok: done.is_ok(),
        checks: lines.into_iter().map(|(_, line)| line).collect(),
        warnings: done.outcomes.warnings.clone(),
        log: done.log.as_ref().map(|path| path.display().to_string()),
    }
}

/// Takes back what the fixes of a run changed.
pub(super) fn undo_fixes(session: &Session, repo: &Repo, run: &str, is_look: bool) -> super::Exit {
    let tools = session.tools();
    let _lock = if is_look {
        None
    } else {
        // Also where the configuration cannot be read there is a way back.
        let wait_s = of_worktree(repo).map_or(LOCK_WAIT_S, |checks| checks.config.lock_wait_s);
        let command = format!("undo {}", typed(run));
        let (lock, warning) = enter(repo, &tools, &command, wait_s, &|text| report::warn(text))?;
        warning.iter().for_each(|text| report::warn(text));
        lock
    };
    let fixes = Fixes { folder: fixes_folder(repo), root: repo.root(), disk: tools.disk };
    let records = fixes.of_run(run)?;
    if records.is_empty() {
        session.story("the fixes of this run have been taken back already");
        return Ok(super::DONE);
    }
    let mut kept = Vec::new();
    let mut has_failed = false;
    for record in records {
        let what = format!("`{}` for `{}`", record.command, record.check);
        let paths: Vec<String> = record.paths().iter().map(ToString::to_string).collect();
        if is_look {
            session.story(&format!("{what} changed {}", some_of(&paths, 5)));
            continue;
        }
        if !record.has_something_to_take_back() {
            session.story(&format!("{what} changed nothing that it names as `writes`: it stays"));
            continue;
        }
        let when = ago(session.world.now_seconds(), record.at);
        let was_cut_short = record.phase == Phase::Open;
        let done = fixes.put_back(record)?;
        session.story(&format!("{what}, {when}: {} put back", count(done.restored.len(), "file")));
        if let Some(folder) = done.saved {
            let why = if was_cut_short { "it had been cut short; " } else { "" };
            session.story(&format!("{why}what was there is kept in {}", folder.display()));
        }
        done.failures.iter().for_each(|failure| report::warn(failure));
        if done.leaves_new_things {
            session.story("it left more than can be looked at: what is new stays");
        }
        has_failed |= !done.failures.is_empty();
        kept.extend(done.kept.iter().map(ToString::to_string));
    }
    for path in &kept {
        report::warn(&format!("`{path}` was changed since, and stays"));
    }
    if kept.is_empty() && !has_failed {
        return Ok(super::DONE);
    }
    session.story(&format!("what it was before the fix is kept below {}", fixes.folder.display()));
    Ok(ErrorKind::No.code())
}

/// The exit code of a run.
pub(super) fn code(done: &Performed) -> u8 {
    if done.outcomes.is_interrupted {
        ErrorKind::Interrupted.code()
    } else if done.is_ok() {
        super::DONE
    } else {
        ErrorKind::No.code()
    }
}

/// Says whether the environment is healthy: the checks of the phases that are gates, as far as they
/// have not passed yet in this very state. What it says of the code is not asked here.
pub(super) fn gates(session: &Session, by: &'static str, fixes: bool) -> super::Exit {
    let wish = Wish { gates_only: true, skip_tests: true, ..Wish::default() };
    run_checks(session, by, fixes, false, &wish)
}

#[cfg(feature = "deploy")]
/// Says whether all is healthy, tests included, as far as it has not passed yet in this very state. It
/// puts nothing right.
pub(super) fn everything(session: &Session, by: &'static str) -> super::Exit {
    run_checks(session, by, false, false, &Wish::default())
}

#[cfg(feature = "services")]
/// The same without tests, and with fixes that are safe. It counts as the last word on this checkout.
pub(super) fn mend(session: &Session, by: &'static str) -> super::Exit {
    run_checks(session, by, true, true, &Wish { skip_tests: true, ..Wish::default() })
}

fn run_checks(
    session: &Session,
    by: &'static str,
    fixes: bool,
    is_remembered: bool,
    wish: &Wish,
) -> super::Exit {
    let repo = session.repo()?;
    let checks = of_worktree(&repo)?;
    let is_ci = session.world.says_yes("CI");
    let here = Here { system: std::env::consts::OS, is_ci };
    let chosen = choose(&checks.config, wish, here)?;
    let fixes = if is_ci || !fixes { FixMode::Off } else { FixMode::Safe };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let order = Order {
        config: &checks.config,
        chosen: &chosen,
        options: Options { fast: true, dry_run: false, why: false, fixes, jobs },
        place: Place::Worktree,
        by,
        // A second one changes nothing.
        keeps_log: false,
        is_remembered,
        waits: true,
        command: by.to_owned(),
    };
    let shower = Shower::new(&checks, session.loudness, false);
    let tools = session.tools();
    let around = Around { repo: &repo, tools };
    let done = perform(&repo, &tools, order, &around, &shower, &|text| report::warn(text))?;
    let report = describe(&repo, &checks, &done, true, false);
    let detail = Detail { all: false, quiet: session.loudness == Loudness::Quiet, why: false };
    for warning in &done.outcomes.warnings {
        report::warn(warning);
    }
    if done.is_ok() {
        session.story(report.end(detail).trim_end());
    } else {
        report::answer(&format!("{}{}", report.table(detail), report.end(detail)))?;
    }
    Ok(code(&done))
}
