//! One run: every check that was asked for, each when it may, as many side by side as there are jobs.
//!
//! A check is skipped only if the state in which it is now has passed before. A pass is written down
//! only if nothing on which it depends has looked different since before the check began. What a fix
//! has changed is checked again, also where it had passed. Fixes run alone.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::fix::Fixes;
use super::key::differences;
use super::kinds::{self, Finding, Surroundings};
use super::log::{Level, Log};
use super::outcome::{Ended, FixDone, FixFate, Outcome, judged, plain};
use super::plan::{Chosen, Ready, Stage, ready};
use super::programs;
use super::store::{Pass, Store};
use super::view::{Need, Observer, View};
use xtask_base::error::Result;
use xtask_base::group::GroupEnd;
use xtask_base::process::{BECOME, Program};
use xtask_base::words::count;
use xtask_base::world::ago;
use xtask_config::{Check, CommandLine, Fix, Kind, ValidateConfig};
use xtask_git::Repo;
use xtask_git::Tools;

/// How often the run looks up from waiting: to see an interrupt, and to let clocks be drawn.
const TICK: Duration = Duration::from_millis(50);

/// Who sees a run go on.
pub trait Watcher {
    /// A check begins.
    fn started(&self, check: &Check);
    /// A check has ended.
    fn ended(&self, check: &Check, ended: &Ended);
    /// A moment has passed.
    fn tick(&self);
    /// A fix waits for consent; nothing where there is nobody to ask.
    fn consents(&self, check: &Check, fix: &Fix, failed: &Ended) -> bool;
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
    /// The passes.
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

pub(super) struct Run<'a, 'o, 'l> {
    pub(super) site: &'a Site<'a>,
    pub(super) options: Options,
    pub(super) observer: &'a mut Observer<'o>,
    pub(super) log: &'a mut Log<'l>,
    pub(super) stages: Vec<Stage>,
    pub(super) views: Vec<Option<View>>,
    pub(super) whys: Vec<Vec<String>>,
    pub(super) ended: Vec<Option<Ended>>,
    /// Fixes of checks that have to run again.
    pub(super) past_fixes: Vec<Option<FixDone>>,
    /// Checks that do not belong to the run, so that what they leave behind is not known.
    is_unknown: Vec<bool>,
    /// Checks that failed and whose fix is to run.
    pub(super) to_fix: Vec<(usize, Ended)>,
    /// Checks whose fix was tried.
    pub(super) is_fix_tried: Vec<bool>,
    pub(super) fixes: usize,
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
        past_fixes: vec![None; checks.len()],
        is_unknown: vec![false; checks.len()],
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
            Chosen::No(why) | Chosen::NotHere(why) => {
                run.stages[at] = Stage::Out;
                run.is_unknown[at] = matches!(chosen, Chosen::No(_));
                run.ended[at] = Some(plain(Outcome::LeftOut, why));
            }
            Chosen::For(name) => run.whys[at].push(format!("`{name}` needs it")),
            Chosen::Yes => {}
        }
    }
    let wanted: Vec<usize> =
        (0..checks.len()).filter(|at| run.stages[*at] == Stage::Waiting).collect();
    let _held = site.tools.interrupts.hold_off();
    run.observer.prepare(site.config, &wanted)?;
    std::thread::scope(|scope| run.all(scope))?;
    run.finish()
}

impl<'a> Run<'a, '_, '_> {
    pub(super) fn config(&self) -> &'a ValidateConfig {
        self.site.config
    }

    pub(super) fn check(&self, at: usize) -> &'a Check {
        &self.site.config.checks[at]
    }

    pub(super) fn is_interrupted(&self) -> bool {
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
                        if running > 0 {
                            // What runs may be installing another one at this moment.
                            self.observer.forget_programs();
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
                    self.observer.forget_programs();
                    let ended = self.judge(done.at, done.result, done.duration_ms)?;
                    self.settle_end(done.at, ended);
                }
                self.site.watcher.tick();
            } else if !has_moved {
                return Ok(());
            }
        }
    }

    /// What a check needs, as it stands now.
    pub(super) fn needs(&mut self, at: usize) -> Result<Vec<Need>> {
        let mut needs = Vec::new();
        for need in &self.check(at).needs {
            if self.views[*need].is_none() {
                // It does not belong to the run; its state counts all the same.
                let below = self.needs(*need)?;
                self.views[*need] = Some(self.observer.view(self.config(), *need, below)?);
            }
            let name = self.check(*need).name.clone();
            let unknown = self.unknown_below(*need);
            let view = self.views[*need].as_ref();
            let key = view.map(|view| view.key.clone()).unwrap_or_default();
            needs.push(Need { name, key, unknown });
        }
        Ok(needs)
    }

    /// Why what a check leaves behind is not known, or what one leaves behind that it needs.
    fn unknown_below(&self, start: usize) -> Option<String> {
        let mut open = vec![start];
        let mut seen = vec![false; self.views.len()];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let check = self.check(at);
            if self.is_unknown[at] {
                return Some(format!("`{}`, which it needs, was left out", check.name));
            }
            if !matches!(check.kind, Kind::Run(_)) {
                // It leaves nothing behind itself, but stands between.
                open.extend(&check.needs);
            } else if self.views[at].as_ref().is_some_and(|view| view.unknown.is_some()) {
                let name = &check.name;
                return Some(format!("it needs `{name}`, whose state is not known, so it runs"));
            }
        }
        None
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
        let needs = self.needs(at)?;
        let view = self.observer.view(self.config(), at, needs)?;
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
        let program = self.program(check, command);
        self.observer.forget_sets();
        match program {
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
                    let stop = || tools.interrupts.arrived();
                    let result = run_without_terminal(program, longest, &stop);
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
    pub(super) fn prepare(&mut self, at: usize) {
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
    pub(super) fn program(&self, check: &Check, command: &CommandLine) -> Result<Program, String> {
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
        // A check has no terminal on which it could wait for somebody: where there is one, it leaves its session.
        let program = match has_terminal() {
            true => {
                Program::new(&world.program, &folder).args([BECOME.as_ref(), found.as_os_str()])
            }
            false => Program::new(found, &folder),
        };
        let program = program.args(&command.argv[1..]);
        let program = program.variable("XTASK_ROOT", root);
        Ok(match self.observer.ceiling() {
            // A git that is started there finds no repository, wherever that folder lies.
            Some(above) => program.variable("GIT_CEILING_DIRECTORIES", above),
            None => program,
        })
    }

    /// A check without a command.
    pub(super) fn look(&mut self, at: usize) -> Ended {
        let check = self.check(at);
        let site = self.site;
        let (root, world) = (self.observer.root(), site.tools.world);
        let view = self.views[at].as_ref();
        let found: Option<Finding> =
            view.and_then(|view| kinds::look(check, view, site.repo, world, root, site.around));
        match found {
            Some(Ok(words)) => plain(Outcome::Passed, &words),
            Some(Err(words)) => plain(Outcome::Failed, &words),
            None => plain(Outcome::Failed, "it runs a command"),
        }
    }

    pub(super) fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let clock = self.site.tools.world.clock;
        let begun = clock();
        let result = work(self);
        (result, ms(clock().saturating_sub(begun)))
    }

    /// What the end of a command means.
    pub(super) fn judge(
        &mut self,
        at: usize,
        result: Result<GroupEnd>,
        duration_ms: u64,
    ) -> Result<Ended> {
        let ended = match result {
            Ok(end) => judged(self.check(at), end),
            Err(failure) => plain(Outcome::Failed, &failure.to_string()),
        };
        self.with_state(at, Ended { duration_ms, ..ended })
    }

    /// Adds to an end what is known of its state, and writes a pass down if nothing has moved.
    pub(super) fn with_state(&mut self, at: usize, mut ended: Ended) -> Result<Ended> {
        let Some(view) = &self.views[at] else { return Ok(ended) };
        ended.inputs = view.file_count();
        ended.key = Some(view.key.clone());
        ended.notes.extend(view.notes.iter().cloned());
        if ended.outcome != Outcome::Passed {
            // Somebody else may have written a pass meanwhile; the last result is this one.
            if let Err(cause) = self.site.store.forget(self.site.tools.disk, &view.key) {
                self.cannot_save(&cause.to_string());
            }
            return Ok(ended);
        }
        if view.unknown.is_some() {
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

    /// A check has ended for good.
    pub(super) fn end(&mut self, at: usize, mut ended: Ended) {
        let check = self.check(at);
        if let Some(view) = self.views[at].as_ref() {
            ended.inputs = view.file_count();
            ended.key = Some(view.key.clone());
            if ended.notes.is_empty() {
                ended.notes.extend(view.notes.iter().cloned());
            }
        }
        ended.why = self.whys[at].clone();
        if ended.fix.is_none()
            && let Some(fix) = self.past_fixes[at].take()
        {
            let is_applied = fix.fate == FixFate::Applied;
            if is_applied && matches!(ended.outcome, Outcome::Passed | Outcome::Cached) {
                ended.outcome = Outcome::Fixed;
            }
            ended.fix = Some(fix);
        }
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

/// Runs the program of a check or a fix, as `program` has made it.
pub(super) fn run_without_terminal(
    program: Program,
    longest: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<GroupEnd> {
    if has_terminal() {
        program.run_in_session(longest, stop)
    } else {
        program.run_in_group(longest, stop)
    }
}

/// Whether this process has a terminal, from which what it starts could read a password.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
