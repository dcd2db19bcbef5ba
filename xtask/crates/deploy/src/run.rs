//! One run, step by step, and what is done when a step fails.
//!
//! Each step is written into the journal before it begins. A step that fails is answered at once as
//! `steps.rs` says; where that fails as well, as on a full disk, the journal stays and the next command
//! tries again. Ctrl-C is heard until the new release is verified, and not while something is taken back.

use std::time::Duration;

use super::Around;
use super::engine::Engine;
use super::history::{self, Outcome};
use super::journal::Journal;
use super::make::{self, Workplace, commands};
use super::recover::recover;
use super::release::{Manifest, Release};
use super::state;
use super::steps::{Doing, Step, WayOut, steps, way_out};
use super::switch;
use super::target::Target;
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::lock::Lock;
use xtask_base::words::some_of;
use xtask_config::{Deploy, Layer, StepMoment};
use xtask_git::{Id, Repo};
use xtask_services::spec::Spec;

/// How many places are told.
const SHOWN: usize = 5;

/// A target with those who work on it.
pub struct Site<'a> {
    /// The target.
    pub target: &'a Target,
    /// Who serves releases.
    pub engine: &'a dyn Engine,
    /// The same, deaf to Ctrl-C, for what is taken back.
    pub calm: &'a dyn Engine,
    /// The outside.
    pub around: Around<'a>,
}

/// From what a release is made.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A commit, which is laid out and built in the target.
    Commit(&'a Repo, Id),
    /// A release that was built and sealed elsewhere, and has arrived in a folder of the target.
    Sealed {
        /// Its name.
        name: &'a str,
        /// Its commit, in full.
        commit: &'a str,
    },
}

/// What is deployed.
pub struct Order<'a> {
    /// From what.
    pub source: Source<'a>,
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a Deploy,
    /// How long the release is watched.
    pub watch: Duration,
}

/// A run that ended well.
#[derive(Debug)]
pub struct Done {
    /// The release that serves, verified.
    pub release: String,
    /// What did not go well besides.
    pub warnings: Vec<String>,
}

/// Holds the target's lock, and ends what another run has left; what was done about it is the second answer.
pub fn open(site: &Site<'_>, doing: Doing) -> Result<(Lock, Option<String>)> {
    let lock = site.target.enter(doing.name(), &site.around)?;
    let mended = recover(site)?;
    Ok((lock, mended))
}

/// Deploys a commit.
pub fn deploy(site: &Site<'_>, order: &Order<'_>) -> Result<Done> {
    let now = site.around.world.now_seconds();
    let (name, commit) = match order.source {
        Source::Commit(_, commit) => {
            (Release::free_name(site.target, commit, now), commit.to_string())
        }
        Source::Sealed { name, commit } => (name.to_owned(), commit.to_owned()),
    };
    let release = Release::of(site.target, &name);
    let mut journal = journal(site, Doing::Deploy, &release, &commit, order.watch)?;
    let mut warnings = Vec::new();
    let walked = walk(site, &mut journal, &mut |step, journal| {
        perform(site, step, journal, order, &release, &mut warnings)
    });
    conclude(site, &mut journal, walked)?;
    Ok(Done { release: name, warnings })
}

/// Has a release serve that was verified before: the one that is named, or the one before what serves.
pub fn rollback(site: &Site<'_>, release: &Release, watch: Duration) -> Result<Done> {
    let manifest: Manifest = release.whole()?;
    site.engine.can_serve(release)?;
    let entries = history::read(&site.target.history())?;
    if let Some(served) = history::standing(&entries).0.filter(|served| *served != release.name) {
        let served = Release::of(site.target, served);
        match served.snapshot() {
            Ok(snapshot) => back_up(site, &snapshot.specs, &served)?,
            // The way back from something that is broken must be open.
            Err(failure) => (site.around.tell)(&format!("nothing was saved before: {failure}")),
        }
    }
    let mut journal = journal(site, Doing::Rollback, release, &manifest.commit, watch)?;
    let walked = walk(site, &mut journal, &mut |step, journal| match step {
        Step::Record => record(site, journal),
        step => serve(site, step, journal, release),
    });
    conclude(site, &mut journal, walked)?;
    Ok(Done { release: release.name.clone(), warnings: Vec::new() })
}

/// The release to which `rollback` goes: the named one, if it is still there and was verified, or else the
/// newest verified one that was made before that to which `current` points.
pub fn choose(target: &Target, named: Option<&str>) -> Result<Release> {
    let entries = history::read(&target.history())?;
    let name = choose_of(&kept(target, &entries), &entries, named)?;
    Ok(Release::of(target, &name))
}

/// The same, of the releases that are kept.
pub fn choose_of(
    kept: &[String],
    entries: &[history::Entry],
    named: Option<&str>,
) -> Result<String> {
    let list = || format!("those that can serve are: {}", or_none(kept));
    if let Some(named) = named {
        let was_verified = history::verified(entries).iter().any(|name| name == named);
        return match (kept.iter().any(|name| name == named), was_verified) {
            (true, _) => Ok(named.to_owned()),
            (false, true) => {
                Err(Error::no(format!("the release `{named}` is not kept any more")).hint(list()))
            }
            (false, false) => {
                Err(Error::no(format!("there is no verified release `{named}`")).hint(list()))
            }
        };
    }
    // In the order in which they were deployed, so that twice goes back by two.
    let made = |name: &str| entries.iter().position(|entry| entry.release == name);
    let (current, _) = history::standing(entries);
    let current = current.and_then(made);
    let before = kept.iter().filter_map(|name| Some((made(name)?, name)));
    let before = before.filter(|(at, _)| current.is_none_or(|current| *at < current));
    match before.max() {
        Some((_, name)) => Ok(name.clone()),
        None => Err(Error::no("no verified release is older than that to which `current` points")
            .hint(list())),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The verified releases that are still there, the newest first.
#[must_use]
pub fn kept(target: &Target, entries: &[history::Entry]) -> Vec<String> {
    let is_there = |name: &String| Release::of(target, name).folder.join("manifest").is_file();
    history::verified(entries).into_iter().filter(is_there).collect()
}

fn journal(
    site: &Site<'_>,
    doing: Doing,
    release: &Release,
    commit: &str,
    watch: Duration,
) -> Result<Journal> {
    let entries = history::read(&site.target.history())?;
    let (pointed, served) = history::standing(&entries);
    switch::check(site.target, &[pointed])?;
    let nanos = (site.around.world.clock)().as_nanos();
    // One that somebody has changed is no way back.
    let others = kept(site.target, &entries)
        .into_iter()
        .find(|name| *name != release.name && Release::of(site.target, name).whole().is_ok());
    Ok(Journal {
        id: format!("{nanos}-{}-{}", std::process::id(), entries.len()),
        at: site.around.world.now_seconds(),
        doing,
        by: site.around.by.to_owned(),
        new: release.name.clone(),
        commit: commit.to_owned(),
        old: others,
        pointed: pointed.map(ToOwned::to_owned),
        served: served.map(ToOwned::to_owned),
        watch_ms: u64::try_from(watch.as_millis()).unwrap_or(u64::MAX),
        step: steps(doing)[0],
        why: None,
        printed: Vec::new(),
    })
}

/// Walks the steps, each written down before it begins.
fn walk(
    site: &Site<'_>,
    journal: &mut Journal,
    perform: &mut dyn FnMut(Step, &Journal) -> Result<()>,
) -> Result<()> {
    for step in steps(journal.doing) {
        if site.around.interrupts.arrived() && way_out(*step) != WayOut::Finish {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        journal.begin(*step, site.target, &site.around)?;
        perform(*step, journal)?;
    }
    journal.end(site.target, &site.around)
}

fn perform(
    site: &Site<'_>,
    step: Step,
    journal: &Journal,
    order: &Order<'_>,
    release: &Release,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let around = &site.around;
    let worktree = match order.source {
        Source::Commit(repo, _) => Some(repo.root()),
        Source::Sealed { .. } => None,
    };
    let place = Workplace {
        layer: order.layer,
        deploy: order.deploy,
        commit: &journal.commit,
        target: site.target,
        release,
        worktree,
        around: *around,
    };
    match step {
        Step::Before => commands(&place, StepMoment::Before),
        Step::Build => match order.source {
            Source::Commit(repo, commit) => make::build(&place, repo, commit, order.watch),
            Source::Sealed { commit, .. } => take_in(site, release, commit),
        },
        Step::Release => {
            commands(&place, StepMoment::Release)?;
            release.whole().map(drop)
        }
        Step::Try => {
            (around.tell)("trying it");
            site.engine.try_out(release).map_err(|failure| about(failure, "the candidate"))?;
            release.whole()?;
            site.engine.can_serve(release)?;
            state::check_written(release, order.deploy, site.target, false)
        }
        Step::BackUp => {
            let Some(served) = &journal.pointed else { return Ok(()) };
            let served = Release::of(site.target, served);
            let old = served.snapshot().map_or(Vec::new(), |snapshot| snapshot.specs);
            let ways = state::ways(&release.snapshot()?.specs, &old, &site.around)?;
            back_up(site, &ways, &served)
        }
        Step::Record => record(site, journal),
        Step::After => {
            if let Err(failure) = commands(&place, StepMoment::After) {
                let details = failure.details().join("\n");
                warnings.push(format!("{failure}\n{details}").trim_end().to_owned());
            }
            Ok(())
        }
        Step::Prune => {
            // What serves is verified; what could not be removed is told.
            match prune(site, order.deploy) {
                Ok(stayed) => warnings.extend(stayed),
                Err(failure) => warnings.push(failure.to_string()),
            }
            Ok(())
        }
        Step::Point | Step::ChangeOver | Step::Watch | Step::GoBack => {
            serve(site, step, journal, release)
        }
    }
}

/// Takes a release in that has arrived: it must be whole, and what it is said to be.
fn take_in(site: &Site<'_>, release: &Release, commit: &str) -> Result<()> {
    (site.around.tell)(&format!("taking {} in", release.name));
    release.take(&site.target.incoming().join(&release.name), &site.around)?;
    let manifest = release.whole()?;
    if manifest.layer == site.target.layer
        && manifest.release == release.name
        && manifest.commit == commit
    {
        return Ok(());
    }
    Err(Error::no(format!("what has arrived is not {}", release.name)).detail(format!(
        "it is {} of layer `{}`, commit {}",
        manifest.release, manifest.layer, manifest.commit
    )))
}

/// The steps that a deploy and a rollback have in common.
fn serve(site: &Site<'_>, step: Step, journal: &Journal, release: &Release) -> Result<()> {
    let tell = site.around.tell;
    match step {
        Step::Point => {
            let expected = [journal.pointed.as_deref()];
            switch::point(site.target, Some(&release.name), &expected, &site.around)
        }
        Step::ChangeOver => {
            tell(&format!("changing over to {}", release.name));
            site.engine.serve(release)
        }
        Step::Watch => {
            let longest = Duration::from_millis(journal.watch_ms);
            tell(&format!("watching it for {longest:?}"));
            site.engine.watch(release, longest)
        }
        _ => Ok(()),
    }
}

/// The same failure, with whose it is in front.
fn about(failure: Error, whose: &str) -> Error {
    let error = Error::new(failure.kind(), format!("{whose}: {failure}"));
    let error = failure.details().iter().fold(error, |error, detail| error.detail(detail.clone()));
    failure.hints().iter().fold(error, |error, hint| error.hint(hint.clone()))
}

fn record(site: &Site<'_>, journal: &Journal) -> Result<()> {
    let entry = journal.entry(Outcome::Verified);
    history::append(site.around.disk, &site.target.history(), &entry)
}

/// Removes all but the newest verified releases. The one that serves is always among those that stay, and
/// so is whatever else somebody has put beside them, and one into which services have written: those are
/// the answer.
fn prune(site: &Site<'_>, deploy: &Deploy) -> Result<Vec<String>> {
    let entries = history::read(&site.target.history())?;
    let mut stay = kept(site.target, &entries);
    stay.truncate(deploy.keep);
    stay.extend(history::standing(&entries).0.map(ToOwned::to_owned));
    let folder = site.target.releases();
    let found =
        std::fs::read_dir(&folder).unable(|| format!("`{}` cannot be listed", folder.display()))?;
    let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |name: &String| {
        let release = Release::of(site.target, name);
        let was_deployed = entries.iter().any(|one| one.release == *name);
        release.is_sealed() || release.is_folder() && was_deployed
    };
    let mut gone: Vec<String> =
        names.filter(|name| !stay.contains(name) && is_ours(name)).collect();
    gone.sort();
    let mut stayed = Vec::new();
    for name in gone {
        let release = Release::of(site.target, &name);
        if release.is_sealed() {
            let written = state::written(&release, deploy)?;
            if !written.is_empty() {
                let places = state::places(&release, &written)?;
                stayed.push(format!(
                    "the release {name} is not removed: services have written into it: {}; look there, and \
                     remove `{}` yourself",
                    some_of(&places, SHOWN),
                    release.folder.display()
                ));
                continue;
            }
        }
        site.calm.forget(&release)?;
        release.remove(&site.around)?;
    }
    for name in state::prune_backups(site.target, deploy.keep, &site.around)? {
        (site.around.tell)(&format!("removed the backup {name}: the newest {} stay", deploy.keep));
    }
    Ok(stayed)
}

/// Saves what services keep, and says where.
fn back_up(site: &Site<'_>, specs: &[Spec], served: &Release) -> Result<()> {
    let saved = state::back_up(specs, site.target, served, &site.around).map_err(|failure| {
        failure.hint("it runs before another release takes over; `backup` of the service says how")
    })?;
    for line in saved {
        (site.around.tell)(&format!("saved {line}"));
    }
    Ok(())
}

/// Answers a run that ended: a failure is taken back, or what was verified is finished.
fn conclude(site: &Site<'_>, journal: &mut Journal, walked: Result<()>) -> Result<()> {
    let Err(failure) = walked else { return Ok(()) };
    let written = Journal::read(site.target)?;
    if written.is_none_or(|written| written.id != journal.id) {
        // Nothing was begun that is not written down.
        return Err(failure);
    }
    journal.why = Some(words(&failure));
    journal.printed = printed(&failure);
    match way_out(journal.step) {
        WayOut::Forget => {
            let kind = failure.kind();
            forget(site, journal).map_err(|next| stuck(next, &failure))?;
            let serves = journal.served.as_deref();
            let left = match serves {
                None => "nothing serves, as before".to_owned(),
                Some(name) if site.calm.ask(&Release::of(site.target, name)).is_ok() => {
                    format!("{name} serves, as before")
                }
                // The machine may have been started again since.
                Some(name) => format!(
                    "{name} was to serve, and is not well: `cargo xtask rollback {} {name}` has it serve again",
                    site.target.layer
                ),
            };
            let error = Error::new(kind, failure.what().to_owned());
            let error = failure.causes().into_iter().fold(error, Error::detail);
            let error = failure.details().iter().fold(error, |e, detail| e.detail(detail.clone()));
            let error = failure.hints().iter().fold(error, |e, hint| e.hint(hint.clone()));
            Err(error.detail(left))
        }
        WayOut::GoBack | WayOut::WatchAgain => {
            let is_interrupted = failure.kind() == Kind::Interrupted;
            let outcome =
                go_back(site, journal, !is_interrupted).map_err(|next| stuck(next, &failure))?;
            Err(taken_back(site, journal, outcome, is_interrupted))
        }
        WayOut::Finish => finish(site, journal).map_err(|next| {
            stuck(next, &failure).detail(format!("{} serves, verified", journal.new))
        }),
    }
}

/// The failure of a way out.
fn stuck(next: Error, first: &Error) -> Error {
    let error = Error::unable(format!("{}, and what was begun could not be ended", first.what()));
    error
        .detail(words(first))
        .detail(words(&next))
        .hint("the next `deploy` or `rollback` of this layer ends it")
}

/// What programs have printed about a failure.
fn printed(failure: &Error) -> Vec<String> {
    let lines = failure.details().iter().flat_map(|detail| detail.lines().map(str::trim_start));
    lines.filter(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// A failure in a line, for what is kept. What a program has printed is not: it may hold a secret.
fn words(failure: &Error) -> String {
    let mut text = failure.to_string();
    for detail in failure.details().iter().filter(|detail| !detail.starts_with('|')) {
        text.push_str(&format!("; {}", detail.lines().next().unwrap_or_default()));
    }
    text
}

/// Takes a run back that has not touched what serves.
pub(super) fn forget(site: &Site<'_>, journal: &Journal) -> Result<()> {
    let release = Release::of(site.target, &journal.new);
    site.calm.forget(&release)?;
    // What cannot be removed holds up nobody: it was never sealed, or never served.
    if let Err(failure) = release.remove(&site.around) {
        (site.around.tell)(&failure.to_string());
    }
    let entry = journal.entry(Outcome::Failed);
    history::append(site.around.disk, &site.target.history(), &entry)?;
    journal.end(site.target, &site.around)
}

/// Gives the place back to the release before, as it was configured, and makes sure that it is well.
/// Whether the new one was judged is for the caller to know.
pub(super) fn go_back(site: &Site<'_>, journal: &mut Journal, was_judged: bool) -> Result<Outcome> {
    journal.begin(Step::GoBack, site.target, &site.around)?;
    let to = journal.old.clone().or_else(|| journal.pointed.clone());
    let expected = [journal.pointed.as_deref(), Some(&journal.new), journal.old.as_deref()];
    switch::point(site.target, to.as_deref(), &expected, &site.around)?;
    let outcome = match &journal.old {
        None => {
            site.calm.end_others(None)?;
            Outcome::Failed
        }
        Some(old) => {
            (site.around.tell)(&format!("going back to {old}"));
            let old = Release::of(site.target, old);
            let served = old.whole().map(drop).and_then(|()| site.calm.serve(&old));
            // It was well once. Whether it still is shows only while it is watched.
            let longest = Duration::from_millis(journal.watch_ms);
            let is_well = |()| match was_judged {
                true => site.calm.watch(&old, longest),
                // The new one was only given up: nothing is known against the old one.
                false => site.calm.ask(&old),
            };
            match served.and_then(is_well) {
                Ok(()) if was_judged => Outcome::RolledBack,
                Ok(()) => Outcome::Interrupted,
                Err(failure) if failure.kind() == Kind::No => {
                    let why = journal.why.take().unwrap_or_default();
                    journal.why = Some(format!("{why}; then {}: {}", old.name, words(&failure)));
                    journal.printed.extend(printed(&failure));
                    // Half of the new release must not go on beside it.
                    site.calm.end_others(Some(&old))?;
                    Outcome::RollbackFailed
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    history::append(site.around.disk, &site.target.history(), &journal.entry(outcome))?;
    journal.end(site.target, &site.around)?;
    Ok(outcome)
}

/// The failure of a run that has gone back.
fn taken_back(site: &Site<'_>, journal: &Journal, outcome: Outcome, is_interrupted: bool) -> Error {
    let new = &journal.new;
    let old = journal.old.as_deref().unwrap_or("nothing");
    let (kind, what) = match outcome {
        Outcome::Interrupted => {
            (Kind::Interrupted, format!("{new} was given up, and {old} serves again, verified"))
        }
        Outcome::RolledBack => {
            (Kind::RolledBack, format!("{new} did not hold, and {old} serves again, verified"))
        }
        Outcome::RollbackFailed => (
            Kind::RollbackFailed,
            format!("{new} did not hold, and {old}, to which `current` points now, is not well"),
        ),
        _ if journal.served.is_some() => {
            (Kind::No, format!("{new} did not hold, and nothing serves now"))
        }
        _ => (Kind::No, format!("{new} did not hold, and nothing serves, as before")),
    };
    let is_bad = kind == Kind::RollbackFailed;
    let kind = if is_interrupted && !is_bad { Kind::Interrupted } else { kind };
    let error = Error::new(kind, what).detail(journal.why.clone().unwrap_or_default());
    let error = journal.printed.iter().fold(error, |error, line| error.detail(line.clone()));
    let layer = &site.target.layer;
    let error = match kind {
        Kind::RollbackFailed => error
            .hint(format!("`cargo xtask deploy {layer} --verify` says what runs of it"))
            .hint(format!("`cargo xtask rollback {layer} RELEASE` has another verified one serve")),
        _ => error,
    };
    error.hint(format!("`cargo xtask history {layer}` has what became of each"))
}

/// Does what is left of a run whose release was verified.
pub(super) fn finish(site: &Site<'_>, journal: &Journal) -> Result<()> {
    record(site, journal)?;
    journal.end(site.target, &site.around)
}
