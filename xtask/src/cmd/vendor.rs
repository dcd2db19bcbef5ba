//! `vendor`: the toolkit, into another repository.

use std::path::Path;

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Vendor;
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;
use xtask_base::words::count;
use xtask_config::{BRANCHES_FILE, SyncConfig};
use xtask_detect::fit::Remote;
use xtask_git::{Named, Repo};
use xtask_report::{self as report, Loudness};
use xtask_review::forge::project;
use xtask_sync::enter::Enter as _;
use xtask_upgrade::parts::Parts;
use xtask_upgrade::shape::Shape;
use xtask_upgrade::toolkit::{self, Toolkit};
use xtask_vendoring::delivery::{deliver, is_unfinished, recover};
use xtask_vendoring::put::{Around, Plan, plan, usual_parts};
use xtask_vendoring::target::Target;

pub(super) fn run(session: &Session, args: &Vendor) -> Exit {
    let own = session.repo()?;
    let uncommitted = toolkit::uncommitted(&own)?;
    let address = own.public_address("origin");
    // What is typed wrong is said before anything is looked at.
    let named = (!args.parts.is_empty()).then(|| Parts::parse(&args.parts)).transpose()?;
    let name = args.name.as_deref().unwrap_or(NAME);
    Shape::check_name(name)?;
    let toolkit = Toolkit::read(own, args.reference.as_deref(), Shape::whole())?;
    let folder = session.world.cwd.join(&args.folder);
    take_back(session, &folder, args)?;
    let target = Target::open(&folder, toolkit.repo(), name)?;
    let parts = match named {
        Some(parts) => parts,
        None if !toolkit.has_parts => Parts::all(),
        None => usual_parts(&target, &around_of(&target, address.clone()))?,
    };
    let toolkit = toolkit.with(Shape { name: name.to_owned(), parts })?;
    if !uncommitted.is_empty() {
        report::warn(&toolkit::not_in_it(&uncommitted));
    }
    let protected = protected(session, &target, args)?;
    let around = |target: &Target| Around {
        protected: Some(protected.clone()),
        ..around_of(target, address.clone())
    };
    let memory = target.repo.in_memory();
    let looked = plan(&target, &memory, &toolkit, around(&target))?;
    target.check_paths(&looked.changes)?;
    memory.write_tree(target.tree, &looked.changes)?;
    let place = target.repo.root().display().to_string();
    if let Some(note) = canonical_there(&target) {
        session.story(&format!("note: {note}"));
    }
    if args.dry_run {
        show(session, &looked, name, &format!("xtask {} would go into {place}:", toolkit.name()))?;
        session.story("nothing was written");
        return Ok(DONE);
    }
    // From here on nobody else of us is at work there, and all is looked at again.
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&target.repo)?;
    session.tell_mended(mended);
    let target = Target::open(&folder, toolkit.repo(), name)?;
    let real = plan(&target, &target.repo, &toolkit, around(&target))?;
    target.check_paths(&real.changes)?;
    deliver(&target.repo, target.tree, &real.changes, tools.disk)?;
    show(
        session,
        &real,
        name,
        &format!("xtask {} is in {place}, staged and not committed:", toolkit.name()),
    )?;
    if address.is_none() {
        session.story(
            "note: the toolkit's checkout here has no `origin` that others can reach, so an upgrade there needs \
             `--from`",
        );
    }
    next(session, &real, &place, &toolkit.shape, &toolkit.version.to_string());
    Ok(DONE)
}

/// The branches on which nothing is committed unasked: as was said, as somebody answers, or the default branch.
fn protected(session: &Session, target: &Target, args: &Vendor) -> Result<Vec<String>> {
    let is_told = |branches: &[String]| {
        match branches {
        [] => session
            .story("no branch is protected: hooks and `sync` commit wherever they are asked to"),
        _ => session.story(&format!(
            "`{}` is protected: once the hooks are installed, a commit on it and a push to it are refused, and \
             `sync` commits nothing there; `--protect none` where people work on the trunk",
            branches.join("`, `")
        )),
    }
    };
    if target.lies_at(BRANCHES_FILE).is_some() {
        return match args.protect.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Error::usage(format!(
                "`{BRANCHES_FILE}` is there already, and says what is protected"
            ))
            .hint("leave out `--protect`, or change that file")),
        };
    }
    let branches = match &args.protect[..] {
        [none] if none == "none" => Vec::new(),
        [] => {
            let branch = target.repo.default_branch();
            let question = format!(
                "protect `{branch}`? The hooks then refuse commits on it and pushes to it (no where people work on the \
                 trunk) [Y/n]"
            );
            let answer = if args.dry_run { None } else { report::ask_for(&question) };
            match answer.is_some_and(|said| said.to_lowercase().starts_with('n')) {
                true => Vec::new(),
                false => vec![branch],
            }
        }
        named => {
            let is_name = |name: &str| {
                let has_odd = name.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || "~^:?[\\".contains(c)
                });
                !has_odd
                    && !name.contains("..")
                    && !name.starts_with(['-', '/'])
                    && !name.ends_with(['/', '.'])
            };
            if let Some(wrong) = named.iter().find(|name| !is_name(name)) {
                return Err(Error::usage(format!(
                    "`{}` is no name of a branch",
                    wrong.escape_debug()
                )));
            }
            if let Some(wrong) = named.iter().find(|name| name.is_empty() || *name == "none") {
                return Err(Error::usage(format!(
                    "`--protect` names branches, or `none` alone, and not `{wrong}`"
                )));
            }
            let plain = |name: &String| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
            let mut branches: Vec<String> = named.iter().map(plain).collect();
            branches.dedup();
            for branch in branches.iter().filter(|branch| !branch.contains('*')) {
                if !matches!(target.repo.named(branch), Ok(Named::One(_))) {
                    report::warn(&format!("there is no branch `{branch}` here"));
                }
            }
            branches
        }
    };
    is_told(&branches);
    Ok(branches)
}

/// What is known of a repository besides its files.
fn around_of(target: &Target, source: Option<String>) -> Around {
    Around {
        default_branch: target.repo.default_branch(),
        remote: remote(target),
        source,
        protected: None,
    }
}

/// Takes back what an earlier run has left half done there.
fn take_back(session: &Session, folder: &Path, args: &Vendor) -> Result<()> {
    let Ok(repo) = Repo::discover(folder) else { return Ok(()) };
    if args.dry_run || !is_unfinished(&repo) {
        return Ok(());
    }
    let tools = session.tools();
    let (_lock, _) = tools.enter(&repo)?;
    if recover(&repo, tools.disk)? {
        report::warn("an earlier `vendor` was cut short there; what it had written was taken back");
    }
    Ok(())
}

/// What to do where the canonical branch is there already, and is not the one that is checked out.
fn canonical_there(target: &Target) -> Option<String> {
    let branch = SyncConfig::default().branch;
    let head = target.repo.head().ok()?.branch;
    let remotes = target.repo.remote_names();
    let mut names = vec![format!("refs/heads/{branch}")];
    names.extend(remotes.iter().map(|remote| format!("refs/remotes/{remote}/{branch}")));
    let there = names.iter().find(|name| matches!(target.repo.named(name), Ok(Named::One(_))))?;
    if head.as_deref() == Some(&branch) {
        return None;
    }
    let there = there.strip_prefix("refs/heads/").or(there.strip_prefix("refs/remotes/"))?;
    Some(format!(
        "`{there}` is there already, and is the branch from which all others get the toolkit: put it there \
         (`git switch {branch}`, then vendor), and `cargo xtask propagate` brings it to this one. On this branch \
         alone hooks cannot be installed"
    ))
}

/// The remote of the repository: `origin`, or the one that it has.
fn remote(target: &Target) -> Option<Remote> {
    let names = target.repo.remote_names();
    let name = names.iter().find(|name| *name == "origin").or(names.first())?.clone();
    let url = target.repo.fetch_url(&name);
    let forge = url.and_then(|url| project(&url, None)).map(|project| project.forge);
    Some(Remote { name, forge })
}

fn show(session: &Session, plan: &Plan, name: &str, title: &str) -> Result<()> {
    // What is left to a person is told whatever else is wanted: without it the toolkit may not run.
    for one in &plan.by_hand {
        report::warn(&format!(
            "`{}` is left to you: {}. The lines:\n{}",
            one.path,
            one.why,
            one.lines.trim_end()
        ));
    }
    if session.loudness == Loudness::Quiet {
        return Ok(());
    }
    let mut text = format!("{title}\n");
    let mut line = |what: &str, name: &str| text.push_str(&format!("  {what:<7} {name}\n"));
    line("create", &format!("{name}/ ({}: {})", count(plan.toolkit, "file"), plan.parts.words()));
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
    Ok(())
}

/// What can be typed next, and works.
fn next(session: &Session, plan: &Plan, place: &str, shape: &Shape, version: &str) {
    let command = |words: &str| shape.rename_text(&format!("cargo xtask {words}"));
    let by_hand = plan.by_hand.iter().any(|one| one.path.contains("argo"));
    session.story(if by_hand { "once that is done, and staged:" } else { "next:" });
    let place = xtask_base::words::typed(place);
    session.story(&format!("  cd {place}"));
    session.story(&format!("  git commit -m 'Add {} {version}'", shape.name));
    if plan.has_remote {
        session.story(
            "  git push                 before the hooks protect the branch; or a pull request",
        );
    }
    session.story(&format!(
        "  {:<25}the first run compiles, which takes a minute or two",
        command("setup")
    ));
    if plan.parts.holds("services") {
        session.story(&format!("  {}", command("start")));
    }
    if !plan.parts.is_all() {
        let upgrade = command("upgrade --parts …");
        session.story(&format!("`{upgrade}` there gives it more of the toolkit, or less"));
    }
}
