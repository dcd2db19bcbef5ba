//! `vendor`: the toolkit, into another repository.

use super::session::Session;
use super::{DONE, Exit};
use crate::base::error::Result;
use crate::base::words::{count, some_of};
use crate::cli::Vendor;
use crate::report::{self, Loudness};
use crate::review::forge::project;
use crate::vendor::fit::Remote;
use crate::vendor::put::{Around, Plan, plan};
use crate::vendor::target::Target;
use crate::vendor::toolkit::Toolkit;

pub(super) fn run(session: &Session, args: &Vendor) -> Exit {
    let own = session.repo()?;
    let uncommitted: Vec<String> = own
        .uncommitted()?
        .into_iter()
        .filter(|path| path.starts_with("xtask/") || path == "README.md")
        .collect();
    let address = own.public_address("origin");
    let toolkit = Toolkit::read(own, args.reference.as_deref())?;
    let folder = session.world.cwd.join(&args.folder);
    let target = Target::open(&folder, toolkit.repo())?;
    if !uncommitted.is_empty() {
        report::warn(&format!(
            "the toolkit goes as it is committed; not yet in it: {}",
            some_of(&uncommitted, 3)
        ));
    }
    let around = || Around {
        default_branch: target.repo.default_branch(),
        remote: remote(&target),
        source: address.clone(),
    };
    let looked = plan(&target, &target.repo.in_memory(), &toolkit, around())?;
    target.check_paths(&looked.changes)?;
    let place = target.repo.root().display().to_string();
    if args.dry_run {
        show(session, &looked, &format!("xtask {} would go into {place}:", toolkit.name()))?;
        session.story("nothing was written");
        return Ok(DONE);
    }
    let real = plan(&target, &target.repo, &toolkit, around())?;
    target.put(&real.changes, session.tools().disk)?;
    show(
        session,
        &real,
        &format!("xtask {} is in {place}, staged and not committed:", toolkit.name()),
    )?;
    next(session, &real, &place, &toolkit.version.to_string());
    Ok(DONE)
}

/// The remote of the repository: `origin`, or the one that it has.
fn remote(target: &Target) -> Option<Remote> {
    let names = target.repo.remote_names();
    let name = names.iter().find(|name| *name == "origin").or(names.first())?.clone();
    let url = target.repo.fetch_url(&name);
    let forge = url.and_then(|url| project(&url, None)).map(|project| project.forge);
    Some(Remote { name, forge })
}

fn show(session: &Session, plan: &Plan, title: &str) -> Result<()> {
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    let mut text = format!("{title}\n");
    let mut line = |what: &str, name: &str| text.push_str(&format!("  {what:<7} {name}\n"));
    line("create", &format!("xtask/ ({})", count(plan.toolkit, "file")));
    for path in &plan.created {
        line("create", path);
    }
    for path in &plan.edited {
        line("edit", path);
    }
    for path in &plan.kept {
        line("keep", &format!("{path}, which is there already"));
    }
    report::answer(&text)?;
    for note in &plan.notes {
        session.story(&format!("note: {note}"));
    }
    for one in &plan.by_hand {
        report::warn(&format!("`{}` is left to you: {}", one.path, one.why));
        for line in one.lines.lines() {
            session.story(&format!("    {line}"));
        }
    }
    Ok(())
}

/// What can be typed next, and works.
fn next(session: &Session, plan: &Plan, place: &str, version: &str) {
    let by_hand = plan.by_hand.iter().any(|one| one.path.contains("argo"));
    session.story(if by_hand { "once that is done, and staged:" } else { "next:" });
    let place = crate::base::words::typed(place);
    session.story(&format!("  cd {place}"));
    session.story(&format!("  git commit -m 'Add xtask {version}'"));
    session.story("  cargo xtask setup        the first run compiles for a minute, without a word");
    session.story("  cargo xtask start");
}
