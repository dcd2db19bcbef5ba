//! `recover`: the way out of a broken morning. The plan, then everything saved, then the parts in order: the
//! services end, git goes to a good state, the environment, the services begin. One part that fails does not
//! keep the others from being put right; what is still wrong is told at the end.

use std::time::Duration;

use super::diagnosis::{Diagnosis, broken, diagnose, name};
use super::session::Session;
use super::{DONE, Exit, checks, saved, stack as shared, starting, syncing};
use crate::cli::{Recover, RecoverStep, Start};
use xtask_base::digest;
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::ports;
use xtask_git::Repo;
use xtask_recovery::copies::{self, Back, Copy};
use xtask_recovery::save::{BOUNDS, Saved, Wish, look, save};
use xtask_recovery::variables::{Broken, Instead};
use xtask_recovery::{goal, leave};
use xtask_report as report;
use xtask_report::recovery;
use xtask_services::plan;
use xtask_services::port_plan;
use xtask_services::stack::Stack;
use xtask_sync::context;
use xtask_sync::enter::Enter as _;

/// How long each service may take to get ready, as for `start`.
const READY: Duration = Duration::from_secs(60);

pub(super) fn run(session: &Session, args: &Recover) -> Exit {
    let repo = session.repo()?;
    if args.to.is_some() && !args.steps.is_empty() && !args.steps.contains(&RecoverStep::Git) {
        return Err(Error::usage("`--to` says where git goes, and `git` is not among the steps"));
    }
    let found = diagnose(session, &repo, args)?;
    if found.is_well() {
        session.story(&nothing_wrong(&found));
        return Ok(DONE);
    }
    report::answer(&recovery::plan(&found.parts))?;
    if args.dry_run {
        return Ok(DONE);
    }
    if found.leaves && repo.index_is_locked() {
        let lock = repo.index_lock().display().to_string();
        return Err(Error::unable(
            "the index is locked, and nobody can say whether that git still lives",
        )
        .hint("wait until it has ended")
        .hint(format!("if none is at work here: `rm '{lock}'`, and run this again")));
    }
    if !session.confirm("do this?", args.yes)? {
        return Err(Error::no("nothing was changed"));
    }
    let mut faults = Vec::new();
    let saved = put_right(session, &repo, &found, args.to.as_deref(), &mut faults)?;
    drop(repo);
    // Another commit may be checked out now.
    let repo = session.repo()?;
    begin_services(session, &repo, &found, &mut faults);
    tell_end(session, saved.as_ref(), faults)
}

fn nothing_wrong(found: &Diagnosis) -> String {
    let steps =
        [RecoverStep::Git, RecoverStep::Environment, RecoverStep::Ports, RecoverStep::Services];
    let asked: Vec<String> = steps.into_iter().filter(|step| found.asks(*step)).map(name).collect();
    let mut text = format!("nothing is wrong that can be seen: {}", asked.join(", "));
    if found.asks(RecoverStep::Environment) {
        text.push_str("; `cargo xtask validate` looks further");
    }
    text
}

/// All but the start of the services: everything is saved first.
fn put_right(
    session: &Session,
    repo: &Repo,
    found: &Diagnosis,
    to: Option<&str>,
    faults: &mut Vec<Error>,
) -> Result<Option<Saved>> {
    let tools = session.tools();
    let replaces = found.asks(RecoverStep::Environment) && !found.broken.is_empty();
    let mut saved = None;
    let mut is_leaving = found.leaves;
    if found.leaves || replaces {
        let (_lock, mended) = tools.enter(repo)?;
        session.tell_mended(mended);
        // What was shown and said yes to is what is done, and nothing else.
        let seen = look(repo, &found.secrets)?;
        if seen != found.seen || goal::find(repo, to)? != found.goal {
            return Err(Error::no(
                "something has changed since the plan was made; nothing was changed",
            )
            .hint("run this again"));
        }
        let leaves = found.leaves.then(|| found.goal.moved());
        let wish = Wish { purpose: "recover", label: None, leaves, bounds: BOUNDS, touches: &[] };
        let made = save(repo, &tools, &seen, &wish)?;
        session.story(&format!("{}, as {}", saved::words(&made), made.id));
        saved::tell_left_out(&made);
        // One part that cannot be done keeps no other from being done.
        if is_leaving && let Err(refused) = leave::check(repo, &made, &found.goal) {
            faults.push(refused);
            is_leaving = false;
        }
        saved = Some(made);
    }
    // Services hold files and ports: they end before anything is replaced under them.
    if found.does(RecoverStep::Services) || found.does(RecoverStep::Ports) {
        end_services(session, repo, found, faults);
    }
    if let Some(saved) = &saved {
        let (_lock, _) = tools.enter(repo)?;
        if is_leaving {
            // Services begin again wherever git stands then.
            match leave::go(repo, &tools, saved, &found.goal) {
                Ok(kept) => {
                    session.story(&format!("went to {}", found.goal.words(repo)));
                    for kept in kept {
                        session.story(&format!("commits that were only here are on `{kept}`"));
                    }
                }
                Err(failure) => faults.push(failure),
            }
        }
        if replaces {
            // Another commit may have put one right.
            match broken_now(repo, found) {
                Ok(broken) => {
                    let done = broken.iter().map(|one| replace(session, repo, one, saved));
                    faults.extend(done.filter_map(Result::err));
                }
                Err(failure) => faults.push(failure),
            }
        }
    }
    if found.does(RecoverStep::Environment) {
        let repo = session.repo()?;
        environment(session, &repo, faults);
    }
    Ok(saved)
}

/// The files of variables that still cannot be read.
fn broken_now(repo: &Repo, found: &Diagnosis) -> Result<Vec<Broken>> {
    let loaded: Vec<_> =
        found.layers.iter().filter_map(|name| shared::load(repo, name).ok()).collect();
    let now = broken(repo, &loaded.iter().collect::<Vec<_>>())?;
    // What is put in its place is what the plan said; our own backup holds what is broken.
    let still = |one: &&Broken| now.iter().any(|other| other.path == one.path);
    Ok(found.broken.iter().filter(still).cloned().collect())
}

/// Puts what can be read in the place of a file of variables that cannot.
fn replace(session: &Session, repo: &Repo, one: &Broken, saved: &Saved) -> Result<()> {
    let path = &one.path;
    let (content, bits, from) = match &one.instead {
        None => {
            return Err(Error::no(one.why.clone()).hint(format!("put `{path}` right by hand")));
        }
        Some(Instead::Copy { backup, name, at, .. }) => {
            let list = copies::list(repo, name)?;
            let copy = list.get(*at).ok_or_else(|| Error::unable("the list of copies is torn"))?;
            let content = copies::content(repo, name, *at, copy)?;
            (content, copy.bits, format!("backup {backup}"))
        }
        Some(Instead::Example(example)) => {
            let failed = || format!("`{example}` cannot be read");
            (
                std::fs::read(example.on_disk(repo.root())).unable(failed)?,
                0o600,
                format!("`{example}`"),
            )
        }
    };
    let digest = digest::of_parts([&content[..]]);
    let copy = Copy { path: path.clone(), is_link: false, bits, digest, is_gone: false };
    match copies::put_back(repo, session.tools().disk, &copy, &content, &saved.copies)? {
        Back::Restored | Back::Same => {
            session.story(&format!("`{path}` is from {from} now"));
            Ok(())
        }
        Back::Unsaved => Err(Error::no(format!("`{path}` stays as it is: {}", copies::UNSAVED))),
        Back::Kept(why) => Err(Error::no(format!("`{path}` stays as it is: {why}"))),
    }
}

fn end_services(session: &Session, repo: &Repo, found: &Diagnosis, faults: &mut Vec<Error>) {
    for stack in Stack::all(&repo.folders()) {
        let is_meant = found.layers.contains(&stack.layer);
        let ended = || -> Result<()> {
            let page = xtask_services::client::glance(&stack, &session.world)?;
            if !is_meant || !page.is_some_and(|page| shared::is_up(&page)) {
                return Ok(());
            }
            let _lock = shared::lock(&stack, "recover")?;
            shared::stop_all(session, &stack)?;
            session.story(&format!("layer `{}` has ended", stack.layer));
            Ok(())
        };
        if let Err(failure) = ended() {
            faults.push(failure);
        }
    }
}

fn environment(session: &Session, repo: &Repo, faults: &mut Vec<Error>) {
    let synced = || -> Exit {
        let tools = session.tools();
        let (_lock, mended) = tools.enter(repo)?;
        session.tell_mended(mended);
        match context::names(repo).and_then(|names| context::find(repo, &names))? {
            Some(context) => syncing::as_far_as_allowed(session, repo, context),
            None => Ok(DONE),
        }
    };
    if let Err(failure) = synced() {
        faults.push(failure);
    }
    match checks::mend(session, "recover") {
        Ok(DONE) => {}
        Ok(_) => faults
            .push(Error::no("not all checks pass").hint("`cargo xtask validate --fast` says more")),
        Err(failure) => faults.push(failure),
    }
}

/// Starts the layers anew, each service whose port somebody else has on another one.
fn begin_services(session: &Session, repo: &Repo, found: &Diagnosis, faults: &mut Vec<Error>) {
    if !found.does(RecoverStep::Services) {
        let words = |one: &port_plan::Obstacle| {
            let wanted = vec![(one.service.clone(), one.port)];
            port_plan::obstacles(&wanted, None).map(|found| found.into_iter().next())
        };
        for one in found.obstacles.iter().filter(|_| found.asks(RecoverStep::Ports)) {
            match words(one) {
                Ok(None) => session.story(&format!("port {} is free again", one.port)),
                Ok(Some(left)) => faults.push(Error::no(left.words)),
                Err(failure) => faults.push(failure),
            }
        }
        return;
    }
    for name in &found.layers {
        if let Err(failure) = begin(session, repo, name) {
            faults.push(failure);
        }
    }
}

fn begin(session: &Session, repo: &Repo, name: &str) -> Result<()> {
    let layer = shared::load(repo, name)?;
    let disk = session.tools().disk;
    let wanted = port_plan::assign(&repo.folders(), disk, &layer, &Default::default(), true)?;
    let mut wanted: Vec<(String, u16)> = wanted
        .services
        .into_iter()
        .chain(wanted.status.filter(|port| *port != 0).map(|port| ("status".to_owned(), port)))
        .collect();
    let mut moved = Vec::new();
    for one in port_plan::obstacles(&wanted, None)? {
        let numbers: Vec<u16> = wanted.iter().map(|(_, port)| *port).collect();
        let port = port_plan::suggestion(one.port, &numbers);
        let who = ports::words(one.port, &one.owners);
        session.story(&format!("{who}: {} starts on {port} this time", one.service));
        wanted.push((one.service.clone(), port));
        moved.push((one.service, port));
    }
    let args = Start {
        services: Vec::new(),
        layer: Some(name.to_owned()),
        clean: true,
        check_ports: false,
        verify: false,
        port: moved,
        take_over: Vec::new(),
        fallback: Vec::new(),
        timeout: READY,
        foreground: false,
        dry_run: false,
        json: false,
    };
    let chosen = plan::choose(&layer, &[])?;
    match starting::start(session, repo, &layer, &chosen, &args)? {
        DONE => Ok(()),
        code => Err(Error::new(
            if code == Kind::Interrupted.code() { Kind::Interrupted } else { Kind::No },
            format!("layer `{name}` was not started"),
        )),
    }
}

fn tell_end(session: &Session, saved: Option<&Saved>, faults: Vec<Error>) -> Exit {
    if let Some(saved) = saved {
        session.story(&format!(
            "all that was replaced is saved: `cargo xtask restore {}` brings it back",
            saved.id
        ));
    }
    let mut faults = faults.into_iter();
    let Some(first) = faults.next() else {
        let is_whole = saved.is_none_or(|saved| saved.left_out.is_empty());
        return Ok(if is_whole { DONE } else { Kind::No.code() });
    };
    if let Some(interrupted) = [&first].into_iter().find(|one| one.kind() == Kind::Interrupted) {
        return Err(Error::new(Kind::Interrupted, interrupted.what().to_owned()));
    }
    let rest: Vec<Error> = faults.collect();
    let is_unable = |one: &Error| one.kind() == Kind::Unable;
    let kind = match is_unable(&first) || rest.iter().any(is_unable) {
        true => Kind::Unable,
        false => Kind::No,
    };
    let mut error = Error::new(kind, "recovery incomplete");
    for fault in std::iter::once(&first).chain(&rest) {
        error = error.detail(fault.to_string());
        error = fault.details().iter().fold(error, |error, line| error.detail(format!("  {line}")));
    }
    let hints = std::iter::once(&first).chain(&rest).flat_map(Error::hints);
    Err(hints.fold(error, |error, hint| error.hint(hint.clone())))
}
