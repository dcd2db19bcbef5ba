//! One run: every check that was asked for, each when it may, as many side by side as there are jobs.
//!
//! A check is skipped only if the state in which it is now has passed before. A pass is written down
//! only if nothing on which it depends has looked different since before the check began. What a fix
//! has changed is checked again, also where it had passed. Fixes run alone.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::fix::{Fixes, Purpose};
use super::key::differences;
use super::kinds::{self, Finding, Surroundings};
use super::log::{Level, Log};
use super::plan::{Chosen, Ready, Stage, ready};
use super::programs;
use super::store::{Pass, Store};
use super::view::{Observer, View};
use crate::base::error::Result;
use crate::base::group::{End, GroupEnd};
use crate::base::path::RepoPath;
use crate::base::process::Program;
use crate::base::words::{count, some_of};
use crate::base::world::ago;
use crate::config::{Check, CommandLine, Fix, Kind, ValidateConfig};
use crate::repo::Repo;
use crate::sync::run::Tools;

/// How often the run looks up from waiting: to see an interrupt, and to let clocks be drawn.
const TICK: Duration = Duration::from_millis(50);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and passed.
    Passed,
    /// It was skipped: it has passed in this very state.
    Cached,
    /// It failed, a fix ran, and it passed then.
    Fixed,
    /// It failed.
    Failed,
    /// It did not run, because what must pass before it did not.
    Blocked,
    /// It does not belong to the run.
    LeftOut,
    /// It was to run, and the run was interrupted.
    Interrupted,
    /// It would run, if this were more than a look.
    Planned,
}

impl Outcome {
    /// Its name, as in JSON and in the history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Cached => "cached",
            Outcome::Fixed => "fixed",
            Outcome::Failed => "failed",
            Outcome::Blocked => "blocked",
            Outcome::LeftOut => "left-out",
            Outcome::Interrupted => "interrupted",
            Outcome::Planned => "planned",
        }
    }

    /// Whether all is well, as far as this check can tell.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, Outcome::Failed | Outcome::Blocked | Outcome::Interrupted)
    }
}

/// What became of a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixFate {
    /// It was not run.
    Advised,
    /// It ran, and the check passed then.
    Applied,
    /// It ran in vain, and the files are as they were.
    Restored,
    /// It ran in vain, and not everything could be put back.
    Left,
}

/// A fix, and what became of it.
#[derive(Clone, Debug)]
pub struct FixDone {
    /// What became of it.
    pub fate: FixFate,
    /// Why.
    pub reason: String,
    /// The paths that it changed.
    pub paths: Vec<RepoPath>,
    /// Whether it can be taken back.
    pub can_be_undone: bool,
}

/// How a check ended, and why.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why, or what it found.
    pub reason: String,
    /// Why it ran or was skipped.
    pub why: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// With which code its command ended.
    pub exit_code: Option<i32>,
    /// What it printed.
    pub output: String,
    /// How many files its key covers.
    pub inputs: usize,
    /// The key of its state.
    pub key: Option<String>,
    /// Its fix.
    pub fix: Option<FixDone>,
}

/// Who sees a run go on.
pub trait Watcher {
    /// A check begins.
    fn started(&self, check: &Check);
    /// A check has ended.
    fn ended(&self, check: &Check, ended: &Ended);
    /// A moment has passed.
    fn tick(&self);
    /// A fix waits for consent; nothing where there is nobody to ask.
    fn consents(&self, check: &Check, fix: &Fix) -> bool;
}

/// Which fixes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixMode {
    /// None.
    Off,
    /// Those that are safe.
    Safe,
    /// All of them.
    All,
    /// Those to which somebody says yes.
    Ask,
}

/// How a run is to go.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether checks may be skipped.
    pub fast: bool,
    /// Whether nothing is to happen.
    pub dry_run: bool,
    /// Whether it is wanted to know what has changed since the last pass.
    pub why: bool,
    /// Which fixes run.
    pub fixes: FixMode,
    /// How many checks run side by side.
    pub jobs: usize,
}

/// With what a run works.
pub struct Site<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The checks.
    pub config: &'a ValidateConfig,
    /// The world, the disk, the signals.
    pub tools: &'a Tools<'a>,
    /// The passes; nothing where nothing can be remembered.
    pub store: &'a Store,
    /// The fixes.
    pub fixes: &'a Fixes<'a>,
    /// Hooks, sync and branches.
    pub around: &'a dyn Surroundings,
    /// Who sees it.
    pub watcher: &'a dyn Watcher,
    /// The name of the run.
    pub run: &'a str,
}

/// What a run has come to.
#[derive(Debug)]
pub struct Outcomes {
    /// How each check ended, in the order of the configuration.
    pub checks: Vec<Ended>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Whether it was interrupted.
    pub is_interrupted: bool,
}

/// A command that has ended.
struct Done {
    at: usize,
    result: Result<GroupEnd>,
    duration_ms: u64,
}

struct Run<'a, 'o, 'l> {
    site: &'a Site<'a>,
    options: Options,
    observer: &'a mut Observer<'o>,
    log: &'a mut Log<'l>,
    stages: Vec<Stage>,
    views: Vec<Option<View>>,
    whys: Vec<Vec<String>>,
    ended: Vec<Option<Ended>>,
    /// Checks that failed and whose fix is to run.
    to_fix: Vec<(usize, Ended)>,
    /// Checks whose fix was tried.
    is_fix_tried: Vec<bool>,
    fixes: usize,
    warnings: Vec<String>,
    /// Whether passes can be written down; once they cannot, nobody tries again.
    can_save: bool,
    done: (Sender<Done>, Receiver<Done>),
}

/// Runs the chosen checks.
pub fn run(
    site: &Site<'_>,
    options: Options,
    chosen: &[Chosen],
    observer: &mut Observer<'_>,
    log: &mut Log<'_>,
) -> Result<Outcomes> {
    let checks = &site.config.checks;
    let mut run = Run {
        site,
        options,
        observer,
        log,
        stages: vec![Stage::Waiting; checks.len()],
        views: checks.iter().map(|_| None).collect(),
        whys: vec![Vec::new(); checks.len()],
        ended: vec![None; checks.len()],
        to_fix: Vec::new(),
        is_fix_tried: vec![false; checks.len()],
        fixes: 0,
        warnings: Vec::new(),
        can_save: true,
        done: channel(),
    };
    for (at, chosen) in chosen.iter().enumerate() {
        match chosen {
            Chosen::No(why) => {
                run.stages[at] = Stage::Out;
                run.ended[at] = Some(plain(Outcome::LeftOut, why));
            }
            Chosen::For(name) => run.whys[at].push(format!("`{name}` needs it")),
            Chosen::Yes => {}
        }
    }
    let wanted: Vec<&Check> = checks
        .iter()
        .zip(chosen)
        .filter(|(_, chosen)| !matches!(chosen, Chosen::No(_)))
        .map(|(check, _)| check)
        .collect();
    let _held = site.tools.interrupts.hold_off();
    run.observer.prepare(&wanted);
    std::thread::scope(|scope| run.all(scope))?;
    run.finish()
}

/// An end without a command.
fn plain(outcome: Outcome, reason: &str) -> Ended {
    Ended {
        outcome,
        reason: reason.to_owned(),
        why: Vec::new(),
        notes: Vec::new(),
        duration_ms: 0,
        exit_code: None,
        output: String::new(),
        inputs: 0,
        key: None,
        fix: None,
    }
}

impl<'a> Run<'a, '_, '_> {
    fn config(&self) -> &'a ValidateConfig {
        self.site.config
    }

    fn check(&self, at: usize) -> &'a Check {
        &self.site.config.checks[at]
    }

    fn is_interrupted(&self) -> bool {
        self.site.tools.interrupts.arrived()
    }

    /// Runs until nothing is left to do.
    fn all<'scope>(&mut self, scope: &'scope std::thread::Scope<'scope, '_>) -> Result<()>
    where
        'a: 'scope,
    {
        let mut running = 0;
        let mut phase = None;
        loop {
            let mut has_moved = false;
            for at in 0..self.stages.len() {
                if self.stages[at] != Stage::Waiting || self.is_interrupted() {
                    continue;
                }
                match ready(self.config(), &self.stages, at) {
                    Ready::NotYet => {}
                    Ready::Never(why) => {
                        self.end(at, plain(Outcome::Blocked, &why));
                        has_moved = true;
                    }
                    Ready::Now if running < self.options.jobs && self.to_fix.is_empty() => {
                        let now = self.check(at).phase;
                        if phase != Some(now) {
                            phase = Some(now);
                            self.log.line(Level::Section, &self.config().phases[now].name.clone());
                        }
                        running += usize::from(self.begin(at, scope)?);
                        has_moved = true;
                    }
                    Ready::Now => {}
                }
            }
            if running == 0 && !self.to_fix.is_empty() {
                let (at, failed) = self.to_fix.remove(0);
                self.fix(at, failed)?;
                has_moved = true;
            }
            if running > 0 {
                if let Ok(done) = self.done.1.recv_timeout(TICK) {
                    running -= 1;
                    let ended = self.judge(done.at, done.result, done.duration_ms)?;
                    self.settle_end(done.at, ended);
                }
                self.site.watcher.tick();
            } else if !has_moved {
                return Ok(());
            }
        }
    }

    /// The names and keys of what a check needs.
    fn needed_keys(&mut self, at: usize) -> Result<Vec<(String, String)>> {
        let mut keys = Vec::new();
        for need in &self.check(at).needs {
            if self.views[*need].is_none() {
                // It does not belong to the run; its state counts all the same.
                let needs = self.needed_keys(*need)?;
                let view = self.observer.view(self.config(), self.check(*need), needs)?;
                self.views[*need] = Some(view);
            }
            let key = self.views[*need].as_ref().map(|view| view.key.clone()).unwrap_or_default();
            keys.push((self.check(*need).name.clone(), key));
        }
        Ok(keys)
    }

    /// Begins a check, or skips it. Says whether a command is running now.
    fn begin<'scope>(
        &mut self,
        at: usize,
        scope: &'scope std::thread::Scope<'scope, '_>,
    ) -> Result<bool>
    where
        'a: 'scope,
    {
        let check = self.check(at);
        let needs = self.needed_keys(at)?;
        let view = self.observer.view(self.config(), check, needs)?;
        let (pass, why) = self.decide(check, &view);
        self.whys[at].extend(why);
        self.views[at] = Some(view);
        if let Some(pass) = pass {
            let now = self.site.tools.world.now_seconds();
            self.log
                .line(Level::CacheHit, &format!("{} (passed {})", check.name, ago(now, pass.at)));
            let reason = format!("passed {} in this very state", ago(now, pass.at));
            let ended = Ended { output: pass.output, ..plain(Outcome::Cached, &reason) };
            self.end(at, ended);
            return Ok(false);
        }
        if self.options.dry_run {
            self.end(at, plain(Outcome::Planned, "it would run"));
            return Ok(false);
        }
        self.prepare(at);
        self.stages[at] = Stage::Running;
        self.site.watcher.started(check);
        self.log.line(Level::Status, &format!("{} begins", check.name));
        let Kind::Run(command) = &check.kind else {
            let (ended, duration_ms) = self.timed(|run| run.look(at));
            let ended = self.with_state(at, Ended { duration_ms, ..ended })?;
            self.settle_end(at, ended);
            return Ok(false);
        };
        match self.program(check, command) {
            Err(why) => {
                let ended = self.with_state(at, plain(Outcome::Failed, &why))?;
                self.settle_end(at, ended);
                Ok(false)
            }
            Ok(program) => {
                let (sender, tools) = (self.done.0.clone(), self.site.tools);
                let longest = Duration::from_secs(check.timeout_s);
                scope.spawn(move || {
                    let begun = (tools.world.clock)();
                    let result = program.run_in_group(longest, &|| tools.interrupts.arrived());
                    let duration_ms = ms((tools.world.clock)().saturating_sub(begun));
                    // Whoever waits for it waits until the end of the run.
                    sender.send(Done { at, result, duration_ms }).ok();
                });
                Ok(true)
            }
        }
    }

    /// Whether a check may be skipped: its pass, or why it has to run.
    fn decide(&self, check: &Check, view: &View) -> (Option<Pass>, Vec<String>) {
        let wants_why = self.options.fast || self.options.why || self.options.dry_run;
        if !wants_why {
            return (None, Vec::new());
        }
        let mut why = Vec::new();
        if !self.options.fast {
            why.push("without `--fast` every check runs".to_owned());
        }
        if let Some(unknown) = &view.unknown {
            why.push(unknown.clone());
            return (None, why);
        }
        let Some(pass) = self.site.store.pass(&view.key) else {
            let last = self.site.store.last(self.observer.root(), &check.name);
            let changes = last.map(|last| differences(&last, &view.manifest));
            why.extend(match changes {
                Some(changes) if !changes.is_empty() => changes,
                // It was in this state before; then it was run, and did not pass.
                Some(_) => vec!["it has not passed in this state since".to_owned()],
                None => vec!["no pass of it is remembered".to_owned()],
            });
            return (None, why);
        };
        let now = self.site.tools.world.now_seconds();
        let age = now - pass.at;
        if age < 0 {
            why.push("its pass lies in the future: the clock was set back".to_owned());
            return (None, why);
        }
        if let Some(ttl) = check.ttl_s
            && u64::try_from(age).is_ok_and(|age| age >= ttl)
        {
            why.push(format!("its pass is {age} s old, and counts for {ttl} s"));
            return (None, why);
        }
        if !self.options.fast {
            why.push(format!("with it, it would be skipped: it passed {}", ago(now, pass.at)));
            return (None, why);
        }
        let covers = match view.file_count() {
            0 => String::new(),
            files => format!(", with {} as they were", count(files, "file")),
        };
        (Some(pass.clone()), vec![format!("it passed {}{covers}", ago(now, pass.at))])
    }

    /// Before a check runs: its old pass goes, and a change of what it reads will be seen.
    fn prepare(&mut self, at: usize) {
        let Some(view) = &self.views[at] else { return };
        if view.unknown.is_some() {
            return;
        }
        let forgotten = self.site.store.forget(self.site.tools.disk, &view.key);
        self.observer.settle(view);
        if let Err(cause) = forgotten {
            self.cannot_save(&cause.to_string());
        }
    }

    /// The program of a command, ready to start.
    fn program(&self, check: &Check, command: &CommandLine) -> Result<Program, String> {
        let root = self.observer.root();
        let world = self.site.tools.world;
        let folder = check.cwd.as_ref().map_or(root.to_path_buf(), |cwd| cwd.on_disk(root));
        if !folder.is_dir() {
            return Err(format!("its folder `{}` is not there", folder.display()));
        }
        let name = &command.argv[0];
        let Some(found) = programs::find(world, name, &folder) else {
            return Err(if name.contains('/') {
                format!("`{name}` is not there")
            } else {
                kinds::not_on_path(name, world)
            });
        };
        let program = Program::new(found, &folder).args(&command.argv[1..]);
        Ok(program.variable("XTASK_ROOT", root))
    }

    /// A check without a command.
    fn look(&mut self, at: usize) -> Ended {
        let check = self.check(at);
        let manifest = self.views[at].as_ref().map(|view| view.manifest.clone());
        let manifest = manifest.unwrap_or_default();
        let site = self.site;
        let (root, world) = (self.observer.root(), site.tools.world);
        let found: Option<Finding> =
            kinds::look(check, &manifest, site.repo, world, root, site.around);
        match found {
            Some(Ok(words)) => plain(Outcome::Passed, &words),
            Some(Err(words)) => plain(Outcome::Failed, &words),
            None => plain(Outcome::Failed, "it runs a command"),
        }
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let clock = self.site.tools.world.clock;
        let begun = clock();
        let result = work(self);
        (result, ms(clock().saturating_sub(begun)))
    }

    /// What the end of a command means.
    fn judge(&mut self, at: usize, result: Result<GroupEnd>, duration_ms: u64) -> Result<Ended> {
        let ended = match result {
            Ok(end) => judged(self.check(at), end),
            Err(failure) => plain(Outcome::Failed, &failure.to_string()),
        };
        self.with_state(at, Ended { duration_ms, ..ended })
    }

    /// Adds to an end what is known of its state, and writes a pass down if nothing has moved.
    fn with_state(&mut self, at: usize, mut ended: Ended) -> Result<Ended> {
        let Some(view) = &self.views[at] else { return Ok(ended) };
        ended.inputs = view.file_count();
        ended.key = Some(view.key.clone());
        ended.notes.extend(view.notes.iter().cloned());
        if ended.outcome != Outcome::Passed || view.unknown.is_some() {
            return Ok(ended);
        }
        let moved = self.moved(at)?;
        if !moved.is_empty() {
            ended.notes.push(format!(
                "{} changed while it ran: its pass counts for this run alone",
                some_of_plain(&moved, 3)
            ));
            return Ok(ended);
        }
        if !self.can_save {
            return Ok(ended);
        }
        let check = self.check(at);
        let Some(view) = &self.views[at] else { return Ok(ended) };
        let pass = Pass {
            key: view.key.clone(),
            check: check.name.clone(),
            at: self.site.tools.world.now_seconds(),
            duration_ms: ended.duration_ms,
            reason: ended.reason.clone(),
            output: ended.output.clone(),
        };
        let root = self.observer.root();
        match self.site.store.save(self.site.tools.disk, root, &pass, &view.manifest) {
            Ok(()) => self.log.line(Level::StateSaved, &check.name),
            Err(cause) => self.cannot_save(&cause.to_string()),
        }
        Ok(ended)
    }

    /// What looks different than before a check began: what it depends on itself, and what the checks
    /// depend on that it needs.
    fn moved(&mut self, at: usize) -> Result<Vec<String>> {
        let mut open = vec![at];
        let mut seen = vec![false; self.views.len()];
        let mut all = Vec::new();
        while let Some(next) = open.pop() {
            if std::mem::replace(&mut seen[next], true) {
                continue;
            }
            let check = self.check(next);
            open.extend(&check.needs);
            if let Some(view) = &self.views[next] {
                all.extend(self.observer.moved(check, view)?);
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn cannot_save(&mut self, why: &str) {
        if std::mem::replace(&mut self.can_save, false) {
            let text = format!("passes are not remembered: {why}");
            self.log.line(Level::Warning, &text);
            self.warnings.push(text);
        }
    }

    /// Ends a check that ran, or lets its fix wait for its turn.
    fn settle_end(&mut self, at: usize, mut ended: Ended) {
        let check = self.check(at);
        if ended.outcome == Outcome::Failed
            && let Some(fix) = &check.fix
            && !std::mem::replace(&mut self.is_fix_tried[at], true)
            && !self.is_interrupted()
        {
            let advised = |reason: &str| FixDone {
                fate: FixFate::Advised,
                reason: reason.to_owned(),
                paths: Vec::new(),
                can_be_undone: false,
            };
            let advice = match self.options.fixes {
                FixMode::Off => Some(advised("fixes are off")),
                FixMode::Safe if fix.is_risky => {
                    Some(advised("it is risky: `--interactive` asks, `--yes` says yes"))
                }
                FixMode::Ask if !self.site.watcher.consents(check, fix) => {
                    Some(advised("it was declined"))
                }
                _ => None,
            };
            match advice {
                Some(advice) => ended.fix = Some(advice),
                None => {
                    self.to_fix.push((at, ended));
                    return;
                }
            }
        }
        self.end(at, ended);
    }

    /// A check has ended for good.
    fn end(&mut self, at: usize, mut ended: Ended) {
        let check = self.check(at);
        if let Some(view) = self.views[at].as_ref() {
            ended.inputs = view.file_count();
            ended.key = Some(view.key.clone());
            if ended.notes.is_empty() {
                ended.notes.extend(view.notes.iter().cloned());
            }
        }
        ended.why = self.whys[at].clone();
        self.stages[at] = if ended.outcome.is_good() { Stage::Good } else { Stage::Bad };
        let level = match ended.outcome {
            Outcome::Passed | Outcome::Fixed => Level::Success,
            Outcome::Cached | Outcome::Planned => Level::Info,
            Outcome::Failed => Level::Error,
            Outcome::Blocked | Outcome::LeftOut | Outcome::Interrupted => Level::Skip,
        };
        if ended.outcome != Outcome::Cached {
            let text = format!("{}: {} ({} ms)", check.name, ended.reason, ended.duration_ms);
            self.log.line(level, &text);
        }
        for note in &ended.notes {
            self.log.line(Level::Warning, &format!("{}: {note}", check.name));
        }
        if ended.outcome == Outcome::Failed {
            self.log.line(Level::Info, &ended.output);
        }
        self.site.watcher.ended(check, &ended);
        self.ended[at] = Some(ended);
    }

    /// Runs the fix of a check that failed, and the check again.
    fn fix(&mut self, at: usize, failed: Ended) -> Result<()> {
        let check = self.check(at);
        let Some(fix) = &check.fix else { return Ok(()) };
        self.fixes += 1;
        let site = self.site;
        let purpose = Purpose {
            run: site.run,
            number: self.fixes,
            check: &check.name,
            command: &fix.command.text,
            writes: &fix.writes,
            at: site.tools.world.now_seconds(),
        };
        let mut done = FixDone {
            fate: FixFate::Advised,
            reason: String::new(),
            paths: Vec::new(),
            can_be_undone: false,
        };
        self.log.line(Level::Status, &format!("{}: fix: {}", check.name, fix.command.text));
        let begun = match site.fixes.begin(&purpose) {
            Ok(begun) => begun,
            Err(failure) => {
                done.reason = format!("it was not run: {failure}");
                self.end(at, Ended { fix: Some(done), ..failed });
                return Ok(());
            }
        };
        let program = self.program(check, &fix.command);
        let longest = Duration::from_secs(fix.timeout_s);
        let stop = || site.tools.interrupts.arrived();
        let ran = match program {
            Ok(program) => program.run_in_group(longest, &stop).map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        let record = site.fixes.ended(begun)?;
        done.paths = record.paths();
        self.observer.forget_programs();
        let fixed = ran.and_then(|end| {
            let output = end.output.clone();
            match judged(check, end) {
                Ended { outcome: Outcome::Passed, .. } => Ok(()),
                Ended { reason, .. } => Err(format!("{reason}\n{output}")),
            }
        });
        let again = match &fixed {
            Ok(()) => Some(self.again(at)?),
            Err(_) => None,
        };
        match again {
            Some(ended) if ended.outcome == Outcome::Passed => {
                done.fate = FixFate::Applied;
                done.can_be_undone = !done.paths.is_empty();
                done.reason = match done.paths.len() {
                    0 => "it passed then".to_owned(),
                    changed => format!("it passed then; {} changed", count(changed, "file")),
                };
                let reason = format!("put right by `{}`", fix.command.text);
                let changed = done.paths.clone();
                let ended = Ended { outcome: Outcome::Fixed, reason, fix: Some(done), ..ended };
                self.end(at, ended);
                self.check_again(at, &changed)
            }
            not_passed => {
                let put_back = site.fixes.put_back(record)?;
                done.fate =
                    if put_back.kept.is_empty() { FixFate::Restored } else { FixFate::Left };
                let what = match (&fixed, put_back.restored.len(), put_back.kept.len()) {
                    (_, _, 1..) => {
                        let names: Vec<String> =
                            put_back.kept.iter().map(ToString::to_string).collect();
                        format!("; {} could not be put back", some_of(&names, 3))
                    }
                    (_, 0, 0) => String::new(),
                    (_, restored, 0) => format!("; {} put back", count(restored, "file")),
                };
                done.reason = match &fixed {
                    Ok(()) => format!("it ran, and the check fails all the same{what}"),
                    Err(why) => {
                        format!("it failed{what}: {}", why.lines().next().unwrap_or_default())
                    }
                };
                let mut ended = not_passed.unwrap_or(failed);
                if let Err(why) = &fixed {
                    ended.output.push_str(&format!("\n[the fix: {why}]\n"));
                }
                self.end(at, Ended { fix: Some(done), ..ended });
                Ok(())
            }
        }
    }

    /// Runs a check once more, alone.
    fn again(&mut self, at: usize) -> Result<Ended> {
        let check = self.check(at);
        let needs = self.needed_keys(at)?;
        self.views[at] = Some(self.observer.view(self.config(), check, needs)?);
        self.prepare(at);
        let Kind::Run(command) = &check.kind else {
            let (ended, duration_ms) = self.timed(|run| run.look(at));
            return self.with_state(at, Ended { duration_ms, ..ended });
        };
        let program = match self.program(check, command) {
            Ok(program) => program,
            Err(why) => return Ok(plain(Outcome::Failed, &why)),
        };
        let longest = Duration::from_secs(check.timeout_s);
        let tools = self.site.tools;
        let (result, duration_ms) =
            self.timed(|_| program.run_in_group(longest, &|| tools.interrupts.arrived()));
        self.judge(at, result, duration_ms)
    }

    /// What had passed and depends on what a fix has changed has to pass again.
    fn check_again(&mut self, fixed: usize, changed: &[RepoPath]) -> Result<()> {
        let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let what = match names.len() {
            0 => format!("the fix of `{}` ran", self.check(fixed).name),
            _ => format!("the fix of `{}` changed {}", self.check(fixed).name, some_of(&names, 3)),
        };
        for at in 0..self.stages.len() {
            let is_past = self.stages[at] == Stage::Good && at != fixed;
            let Some(old) = self.views[at].as_ref().filter(|_| is_past) else { continue };
            let (key, is_unknown) = (old.key.clone(), old.unknown.is_some());
            let needs = self.needed_keys(at)?;
            let view = self.observer.view(self.config(), self.check(at), needs)?;
            let is_same = view.key == key && !is_unknown && view.unknown.is_none();
            self.views[at] = Some(view);
            if !is_same {
                self.stages[at] = Stage::Waiting;
                self.ended[at] = None;
                self.whys[at].push(what.clone());
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Outcomes> {
        for (at, failed) in std::mem::take(&mut self.to_fix) {
            self.end(at, failed);
        }
        for at in 0..self.stages.len() {
            if self.ended[at].is_none() {
                self.end(at, plain(Outcome::Interrupted, "the run was interrupted before it"));
            }
        }
        if !self.options.dry_run && self.can_save {
            let views: Vec<&View> = self.views.iter().flatten().collect();
            if let Err(cause) = self.observer.remember(self.site.tools.disk, &views) {
                self.cannot_save(&cause.to_string());
            }
        }
        let is_interrupted = self.is_interrupted();
        let checks = self.ended.into_iter().flatten().collect();
        Ok(Outcomes { checks, warnings: self.warnings, is_interrupted })
    }
}

/// What the end of a command means for its check.
fn judged(check: &Check, end: GroupEnd) -> Ended {
    let (outcome, reason) = match end.end {
        End::Code(0) => (Outcome::Passed, String::new()),
        End::Code(code) => (Outcome::Failed, format!("it ended with {code}")),
        End::Signal(signal) => (Outcome::Failed, format!("signal {signal} ended it")),
        End::TimedOut => {
            let seconds = check.timeout_s;
            (Outcome::Failed, format!("it took longer than {seconds} s (`timeout`) and was ended"))
        }
        End::Stopped => (Outcome::Interrupted, "it was interrupted".to_owned()),
    };
    let mut notes = Vec::new();
    if end.left_others {
        notes.push("it left processes behind, which were ended".to_owned());
    }
    let exit_code = match end.end {
        End::Code(code) => Some(code),
        _ => None,
    };
    Ended { notes, exit_code, output: end.output, ..plain(outcome, &reason) }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Names that have their marks already.
fn some_of_plain(names: &[String], shown: usize) -> String {
    let list = names.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
