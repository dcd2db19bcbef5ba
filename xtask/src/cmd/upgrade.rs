//! `upgrade`: a newer toolkit, with the changes that were made to it here.

use std::time::Duration;

use super::session::{Session, after_landing};
use super::{DONE, Exit};
use crate::cli::Upgrade as Args;
use xtask_base::error::{Error, Kind, Result};
use xtask_base::lock::Lock;
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::scratch::Scratch;
use xtask_base::words::{count, typed};
use xtask_changes::carry::PathChange;
use xtask_git::Repo;
use xtask_hooks::set_up;
use xtask_report::{self as report, Loudness};
use xtask_sync::enter::Enter as _;
use xtask_upgrade::entries::{self, Entry};
use xtask_upgrade::parts::Parts;
use xtask_upgrade::shape::Shape;
use xtask_upgrade::toolkit::{self, Toolkit};
use xtask_upgrade::upgrade::{Sides, Upgrade, lay_beside, present, propose, take, words};

/// How often the canonical branch may move while this runs.
const ROUNDS: u32 = 8;

/// How long another upgrade is waited for: longer than a build.
const LOCK_WAIT: Duration = Duration::from_secs(600);

pub(super) fn run(session: &Session, args: &Args) -> Exit {
    let repo = session.repo()?;
    let sides = sides(session, &repo, args)?;
    let parts = match args.parts.is_empty() {
        true => present(&repo)?.parts,
        false => Parts::parse(&args.parts)?,
    };
    let scratch = Scratch::new(&session.world, "upgrade")?;
    let source = source(session, &repo, args, &scratch)?;
    let address = source.public_address("origin");
    let uncommitted = toolkit::uncommitted(&source)?;
    if !uncommitted.is_empty() {
        report::warn(&toolkit::not_in_it(&uncommitted));
    }
    let toolkit =
        Toolkit::read(source, args.reference.as_deref(), Shape { name: NAME.to_owned(), parts })?;
    let looked = propose(&repo.in_memory(), &toolkit, address.clone(), &sides, &session.tools())?;
    for warning in &looked.context.warnings {
        report::warn(warning);
    }
    for (path, from) in &looked.left {
        session.story(&match from {
            Some(from) => format!(
                "`{path}` has changed in the toolkit and is left alone: it is no managed path. Compare \
                 it with `{from}` of the new one"
            ),
            None => format!("`{path}` is no longer part of the toolkit; it stays, and is yours now"),
        });
    }
    if looked.new.source != looked.old.source
        && let Some(source) = &looked.new.source
    {
        session.story(&format!("from then on it comes from {source}"));
    }
    if looked.is_current() {
        if !args.check && !args.dry_run {
            // Its last files may be what an earlier run was cut short at.
            let (_lock, mended) = session.tools().enter(&repo)?;
            session.tell_mended(mended);
        }
        session.story(&format!("xtask {} is what is here; nothing to do", looked.from()));
        return Ok(DONE);
    }
    let less: Vec<&str> = Parts::known()
        .into_iter()
        .filter(|part| looked.old.parts.holds(part) && !looked.new.parts.holds(part))
        .collect();
    if less.contains(&"services") {
        refuse_while_services_run(session, &repo)?;
        session.story(
            "`deployment/` and the recipes that start services stay, and nothing here runs them any more",
        );
    }
    if less.contains(&"checks") {
        session.story("`setup/validate.toml` stays, and no commit is checked by it any more");
    }
    if args.check {
        report::answer(&format!("xtask {} is behind {}\n", looked.from(), looked.to()))?;
        return Ok(Kind::No.code());
    }
    show(session, &looked)?;
    if args.dry_run {
        return match looked.conflicts.is_empty() {
            true => {
                session.story("nothing was written");
                Ok(DONE)
            }
            false => Err(conflicts(
                &looked,
                looked
                    .conflicts
                    .iter()
                    .map(|(conflict, _)| format!("{}: {}", conflict.path, words(&conflict.clash))),
            )
            .hint("without `--dry-run` their texts are put where they can be edited")),
        };
    }
    upgrade(session, &repo, &toolkit, address, &sides, args)
}

/// What runs could be neither seen nor stopped by a program without that part.
fn refuse_while_services_run(session: &Session, repo: &Repo) -> Result<()> {
    #[cfg(feature = "services")]
    {
        let (known, _) = super::stack::known(session, repo);
        if let Some((stack, _)) = known.iter().find(|(_, page)| super::stack::is_up(page)) {
            return Err(Error::no(format!("services of layer `{}` run here", stack.layer)).hint(
                "`cargo xtask stop` first: without the part `services` nothing could stop them",
            ));
        }
    }
    let _ = (session, repo);
    Ok(())
}

/// The repository of the toolkit: a folder, or a clone of an address.
fn source(session: &Session, repo: &Repo, args: &Args, scratch: &Scratch) -> Result<Repo> {
    let address = match &args.from {
        Some(named) => {
            let folder = session.world.cwd.join(named);
            match (folder.is_dir(), folder.join("HEAD").is_file()) {
                (true, false) => return toolkit::open(&folder),
                // A bare one has no files, and is fetched from.
                (true, true) => folder.display().to_string(),
                _ => named.clone(),
            }
        }
        None => present(repo)?.source.ok_or_else(|| {
            Error::usage("it is not known where the toolkit came from")
                .hint("`--from` names a folder with a checkout of it, or its address")
        })?,
    };
    if address.split_once("::").is_some_and(|(word, _)| !word.contains(['/', ':', '@'])) {
        return Err(Error::usage(format!("`{address}` is no address that git fetches by itself"))
            .hint("`--from` takes https, ssh and git addresses, and folders"));
    }
    session.story(&format!("fetching {} …", address.escape_debug()));
    Repo::clone_without_files(&address, &scratch.path().join("toolkit"))
}

fn sides(session: &Session, repo: &Repo, args: &Args) -> Result<Sides> {
    let paths = |typed| Ok::<_, Error>(session.repo_paths(repo, typed)?.into_iter().collect());
    let sides = Sides { ours: paths(&args.ours)?, theirs: paths(&args.theirs)? };
    match sides.ours.intersection(&sides.theirs).next() {
        None => Ok(sides),
        Some(both) => Err(Error::usage(format!("`{both}` cannot be both `--ours` and `--theirs`"))),
    }
}

/// Does it, as often as others move the canonical branch meanwhile.
fn upgrade(
    session: &Session,
    repo: &Repo,
    toolkit: &Toolkit,
    address: Option<String>,
    sides: &Sides,
    args: &Args,
) -> Exit {
    let tools = session.tools();
    // Who commits is asked before anything is built.
    repo.committer(session.world.now_seconds())?;
    let who = format!("pid {}", std::process::id());
    let file = repo.shared_state_folder().join("upgrade.lock");
    let _lock = Lock::acquire(&file, &who, LOCK_WAIT, |holder| (tools.waiting)(holder))?;
    for _ in 0..ROUNDS {
        // Whoever was waited for may have written state that this program does not know.
        repo.check_format()?;
        let upgrade = propose(repo, toolkit, address.clone(), sides, &tools)?;
        if upgrade.is_current() {
            session.story("somebody else has done it meanwhile; nothing to do");
            return Ok(DONE);
        }
        if !upgrade.conflicts.is_empty() {
            let lines = lay_beside(repo, &upgrade, &tools)?;
            return Err(conflicts(&upgrade, lines.into_iter())
                .hint(format!(
                    "edit the files named above until no marker is left, then again `{}`",
                    typed_again(args)
                ))
                .hint(
                    "or add `--ours PATH` (as it is here) or `--theirs PATH` (as it comes) to it",
                ));
        }
        session.story("building it, before it counts …");
        // In the folder in which the program of the hooks is built: what is built is built for both.
        let installing = set_up::lock(repo)?;
        let said = session.builder(repo).try_out(upgrade.tree, &around()).map_err(|failure| {
            let why = failure.what().to_owned();
            let refused = Error::new(
                failure.kind(),
                format!("xtask {} was not taken, and nothing has changed: {why}", upgrade.to()),
            );
            let all = failure.details().iter().chain(failure.hints()).cloned();
            all.fold(refused, Error::detail)
        })?;
        drop(installing);
        session.story(&format!("it says: {said}"));
        repo.check_format()?;
        if let Some(commit) = take(repo, &upgrade, &tools)? {
            report::answer(&format!(
                "xtask {} on `{}`, now {}\n",
                upgrade.to(),
                upgrade.ground.branch,
                repo.short(commit)
            ))?;
            after_landing(session, repo, &upgrade.ground.branch);
            session.story("`cargo xtask install-hooks` builds the program of the hooks anew");
            return Ok(DONE);
        }
    }
    Err(Error::unable("the canonical branch moves faster than this can follow")
        .hint("nothing was changed; try again"))
}

/// The command as it was typed, but for the sides.
fn typed_again(args: &Args) -> String {
    let mut command = "cargo xtask upgrade".to_owned();
    for (name, value) in [("--from", &args.from), ("--ref", &args.reference)] {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {}", typed(value)));
        }
    }
    if !args.parts.is_empty() {
        command.push_str(&format!(" --parts {}", args.parts.join(",")));
    }
    command
}

/// A workspace with nothing but the launcher: as a repository without Rust of its own has it.
fn around() -> Vec<(&'static str, String)> {
    let files = [
        ("Cargo.toml", entries::member(None, &[], NAME)),
        ("Cargo.lock", entries::lock(None, NAME)),
    ];
    let texts = files.into_iter().filter_map(|(name, entry)| match entry {
        Entry::Changed(text) => Some((name, text)),
        _ => None,
    });
    texts.collect()
}

fn conflicts(upgrade: &Upgrade, lines: impl Iterator<Item = String>) -> Error {
    let refused = Error::no(format!(
        "{} between what was changed here and xtask {}; nothing was changed on `{}`",
        count(upgrade.conflicts.len(), "conflict"),
        upgrade.to(),
        upgrade.ground.branch
    ));
    lines.fold(refused, Error::detail)
}

/// Shows what an upgrade changes.
fn show(session: &Session, upgrade: &Upgrade) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    let mut text = format!("xtask {} to {}:\n", upgrade.from(), upgrade.to());
    if upgrade.moved > 0 {
        text.push_str(&format!(
            "  {} that the new toolkit has elsewhere; what was changed in them here goes along\n",
            count(upgrade.moved, "file")
        ));
    }
    let mut line = |what: &str, path: &RepoPath| text.push_str(&format!("  {what:<8}{path}\n"));
    let is_loud = session.loudness == Loudness::Verbose;
    for path in &upgrade.merged {
        line("merge", path);
    }
    for three in &upgrade.decided {
        line("decide", &three.path);
    }
    for path in &upgrade.kept {
        line("keep", path);
    }
    let is_told = |path: &RepoPath| {
        upgrade.merged.contains(path) || upgrade.decided.iter().any(|three| three.path == *path)
    };
    let plain: Vec<&PathChange> =
        upgrade.changed.iter().filter(|change| !is_told(&change.path)).collect();
    if is_loud {
        for change in &plain {
            line(change.action(), &change.path);
        }
    } else if !plain.is_empty() {
        text.push_str(&format!(
            "  {} that nobody touched here (`-v` names them)\n",
            count(plain.len(), "file")
        ));
    }
    report::answer(&text)
}
