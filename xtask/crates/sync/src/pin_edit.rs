//! What `pin` and `unpin` change: the files of pins, and the message of their commit. Everything is
//! checked before anything is written, and each refusal is a usage error.
//!
//! ```text
//! pin setup/a --until 30d --reason "for the vendor"
//!   .sync-pins/1a2b….toml  written
//!   .sync-pins/3c4d….toml  removed: it has lapsed
//! unpin setup/a
//!   .sync-pins/5e6f….toml  written: the pin has ended
//!   .sync-pins/1a2b….toml  removed
//! ```

use super::context::{SYNC_BRANCH_PREFIX, SyncContext};
use super::managed::ManagedPaths;
use super::pin_reader::{MAX_PINS, PinReader};
use super::pins::{BranchNames, StoredPin, is_pin_of, list_current};
use std::collections::{BTreeMap, BTreeSet};
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_config::{MAX_PIN_BYTES, Pin, PinHome};
use xtask_git::{Head, Id, PathScope as _, Repo, TreeItem};

/// How many pins are listed in an error.
const MAX_LISTED: usize = 10;

/// The branch whose pins change, and the commit that holds them.
#[derive(Clone, Debug)]
pub struct PinTarget {
    /// The checked-out commit, on which the pins are committed.
    pub head: Head,
    /// The name that new pins hold.
    pub branch: String,
    /// All names by which pins of the branch are known.
    pub names: BranchNames,
    pub home: PinHome,
    /// The tree with the content of the branch.
    pub(super) tree: Id,
    /// What is known about the branch, replaced and ended pins included.
    known: Vec<StoredPin>,
}

impl PinTarget {
    /// Returns what is known about a path of the branch.
    fn about(&self, path: &RepoPath) -> Vec<&StoredPin> {
        self.known.iter().filter(|one| one.pin.path == *path && one.is_like(self.home)).collect()
    }

    /// Returns the pins that are not replaced and have not ended.
    fn current(&self) -> Vec<StoredPin> {
        let known = self.known.iter().filter(|one| one.is_like(self.home)).cloned();
        list_current(known, Some(&self.names))
    }

    /// Returns the files of replaced pins that may go: those in the commit that name the branch as it is named now.
    /// One with another name may be merged into the branch of that name.
    fn own_files(&self, about: &[&StoredPin]) -> Vec<RepoPath> {
        let names = [&self.branch, &self.names.local];
        let own = about.iter().filter(|one| one.home == self.home);
        own.filter(|one| names.contains(&&one.pin.branch)).map(|one| one.file.clone()).collect()
    }
}

/// What a new pin says.
#[derive(Clone, Debug)]
pub struct NewPins {
    pub paths: Vec<RepoPath>,
    pub until: Date,
    /// One line, as `check_reason` returns it.
    pub reason: String,
    /// The name of whoever makes them.
    pub by: String,
    /// The time, in seconds since the epoch.
    pub now: i64,
}

/// A change of the pins of a branch, still to be committed.
#[derive(Clone, Debug, Default)]
pub struct PinEdit {
    /// The new pins.
    pub written: Vec<StoredPin>,
    /// What says that a pin has ended, so that no merge brings it back.
    pub ended: Vec<StoredPin>,
    /// The pins that end or have lapsed.
    pub removed: Vec<StoredPin>,
    /// The files to remove: those of `removed`, and older ones.
    pub files: Vec<RepoPath>,
    /// The message of the commit.
    pub message: String,
}

impl PinEdit {
    /// Returns whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.ended.is_empty() && self.files.is_empty()
    }

    /// Returns the files with their new contents; `None` removes one.
    #[must_use]
    pub fn file_changes(&self) -> Vec<(RepoPath, Option<String>)> {
        let new = self.written.iter().chain(&self.ended);
        let written: Vec<(RepoPath, Option<String>)> =
            new.map(|one| (one.file.clone(), Some(one.pin.render()))).collect();
        let is_written = |file: &RepoPath| written.iter().any(|(other, _)| other == file);
        let removed: Vec<(RepoPath, Option<String>)> = self
            .files
            .iter()
            .filter(|file| !is_written(file))
            .map(|file| (file.clone(), None))
            .collect();
        written.into_iter().chain(removed).collect()
    }
}

/// Finds the branch whose pins change: the checked-out one; on the canonical branch the one named by
/// `--branch`. `command` is `pin` or `unpin`, for errors.
pub fn find_pin_target(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    command: &str,
    named: Option<&str>,
) -> Result<PinTarget> {
    let head = repo.head()?;
    let canonical = &context.config.branch;
    let Some(branch) = head.branch.clone() else {
        return Err(Error::usage("HEAD is detached: a pin is of a branch; nothing was changed")
            .with_hint("`git switch BRANCH` checks one out"));
    };
    if branch.contains('\u{fffd}') || branch.starts_with("refs/") {
        return Err(Error::usage(format!(
            "`{branch}` cannot be pinned: HEAD is at no branch whose name is UTF-8; nothing was changed"
        ))
        .with_hint("`git switch -c NAME` makes a branch here, `git branch -m NAME` renames this one"));
    }
    if branch == *canonical {
        let Some(named) = named else { return Err(unnamed_error(canonical, command)) };
        let named = named.strip_prefix("refs/heads/").unwrap_or(named).to_owned();
        if context.is_reserved_branch(&named) {
            return Err(reserved_error(context, &named));
        }
        check_canonical_head(repo, context, &head)?;
        let names = BranchNames::only(&named);
        let tree = find_branch_tree(repo, context, &named)?;
        let tree = tree.unwrap_or(head.tree);
        let all = reader.read_tree(head.tree, canonical)?;
        let known = StoredPin::list(&all, PinHome::Canonical);
        let known = known.filter(|one| is_pin_of(&one.pin, Some(&names))).collect();
        return Ok(PinTarget { head, branch: named, names, home: PinHome::Canonical, tree, known });
    }
    if let Some(named) = named {
        return Err(Error::usage(format!(
            "`--branch` is for the canonical branch, and `{branch}` is checked out; nothing was changed"
        ))
        .with_hint(format!(
            "leave out `--branch` to {command} on `{branch}`; or `git switch {canonical}`, then {command} \
             with `--branch {}` there",
            quote_for_shell(named)
        )));
    }
    if context.is_reserved_branch(&branch) {
        return Err(reserved_error(context, &branch));
    }
    if context.is_protected(&branch) {
        return Err(Error::usage(format!(
            "`{branch}` is protected: only pins on `{canonical}` apply there; nothing was changed"
        ))
        .with_hint(format!(
            "`git switch {canonical}`, then `cargo xtask {command} PATH --branch {}{}`",
            quote_for_shell(&branch),
            if command == "pin" { " --reason …" } else { "" }
        )));
    }
    let (_, known) = reader.read_statements(context, &head)?;
    let names = reader.branch_names(context, &branch);
    let tree = head.tree;
    let branch = choose_name(repo, &names);
    Ok(PinTarget { head, branch, names, home: PinHome::Branch, tree, known })
}

/// Refuses a canonical branch on which a pin would have no effect: one that counts is ahead, or another.
fn check_canonical_head(repo: &Repo, context: &SyncContext, head: &Head) -> Result<()> {
    let counts = context.canonical.commit;
    if head.commit == counts || repo.is_ancestor(counts, head.commit)? {
        return Ok(());
    }
    let (branch, reference) = (&context.config.branch, &context.canonical.reference);
    let short = reference.trim_start_matches("refs/remotes/").trim_start_matches("refs/heads/");
    Err(Error::unable(format!(
        "`{branch}` has not the last commit of `{short}`, which counts: what is pinned here would have no \
         effect; nothing was changed"
    ))
    .with_hint("`git pull` brings it up to date"))
}

/// Returns the name that new pins of a branch hold: the one in this clone, which stays when the branch gets
/// another upstream; that of its upstream only if git pushes there.
fn choose_name(repo: &Repo, names: &BranchNames) -> String {
    let push = repo.config_value("push.default");
    let pushes_there = matches!(push.as_deref(), Some("upstream" | "tracking"));
    let upstream = names.upstream.as_ref().filter(|_| pushes_there);
    upstream.unwrap_or(&names.local).clone()
}

fn unnamed_error(canonical: &str, command: &str) -> Error {
    Error::usage(format!(
        "`{canonical}` is the canonical branch: its content is what others follow; nothing was changed"
    ))
    .with_hint(match command {
        "unpin" => "`--branch BRANCH` names the branch whose pin ends, e.g. `--branch main`",
        _ => "`--branch BRANCH` names the branch that keeps its content, e.g. `--branch main`",
    })
}

fn reserved_error(context: &SyncContext, branch: &str) -> Error {
    let what = match branch {
        name if name == context.config.branch => "the canonical branch: others follow its content",
        name if name == context.config.changes_branch => "the changes branch of `extract`",
        _ => "a side branch of `propagate`",
    };
    Error::usage(format!("`{branch}` cannot be pinned: it is {what}; nothing was changed"))
        .with_hint(format!(
            "switch to a branch of your own; `{SYNC_BRANCH_PREFIX}…` and `{}` are xtask's",
            context.config.changes_branch
        ))
}

/// Returns the tree of a branch, local or at the remote of the canonical branch.
fn find_branch_tree(repo: &Repo, context: &SyncContext, name: &str) -> Result<Option<Id>> {
    if !repo.is_branch_name(name) {
        return Err(Error::usage(format!("invalid branch name `{name}`; nothing was changed"))
            .with_hint("`git branch -a` lists the branches"));
    }
    find_named_tree(repo, context, name)
}

/// Returns the tree of a branch of this clone or of the remote, as last fetched.
pub(super) fn find_named_tree(
    repo: &Repo,
    context: &SyncContext,
    name: &str,
) -> Result<Option<Id>> {
    let remote = format!("refs/remotes/{}/", context.config.remote);
    for prefix in ["refs/heads/", remote.as_str()] {
        if repo.is_branch_name(name)
            && let Some(commit) = repo.resolve_fetched_ref(&format!("{prefix}{name}"))?
        {
            return Ok(Some(repo.tree_of(commit)?));
        }
    }
    Ok(None)
}

/// Plans new pins, and the removal of those of the branch that have lapsed. A pin of the same path is
/// replaced. All paths that cannot be pinned are named in one error.
pub fn plan_pins(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    target: &PinTarget,
    new: &NewPins,
) -> Result<PinEdit> {
    if target.home == PinHome::Canonical
        && find_branch_tree(repo, context, &target.branch)?.is_none()
    {
        return Err(Error::usage(format!(
            "no such branch: `{}`; nothing was changed",
            target.branch
        ))
        .with_hint(format!(
            "`git branch -a` lists them; `git fetch {}` fetches new ones",
            context.config.remote
        )));
    }
    check_paths(repo, context, target, &new.paths)?;
    let current = target.current();
    let mut edit = PinEdit::default();
    for path in &new.paths {
        let says_same = |one: &StoredPin| {
            let Pin { branch, path: of, until, reason, .. } = &one.pin;
            (branch, of, until, reason) == (&target.branch, path, &new.until, &new.reason)
        };
        // Who pinned it first, and when, is worth more than who repeats it. But one that is only at the upstream may go
        // with it.
        let known = current.iter().filter(|one| one.home != PinHome::Upstream);
        let is_there = known.chain(&edit.written).any(says_same);
        if is_there {
            continue;
        }
        let about = target.about(path);
        let replaced = about.iter().map(|one| one.pin.last_day()).max();
        let pin = Pin {
            branch: target.branch.clone(),
            path: path.clone(),
            until: new.until,
            reason: new.reason.clone(),
            by: new.by.clone(),
            since: choose_moment(new.now, &about),
            ended: false,
            replaced_until: replaced.filter(|day| *day > new.until),
        };
        edit.files.extend(target.own_files(&about));
        edit.written.push(StoredPin { file: pin.file_path(), pin, home: target.home });
    }
    check_size(&edit, reader, target)?;
    if !edit.written.is_empty() {
        edit.remove_lapsed(target, &new.paths, reader.today());
    }
    edit.message = render_pin_message(target, &edit.written, &edit.removed, new);
    Ok(edit)
}

/// Refuses what could not be read back.
fn check_size(edit: &PinEdit, reader: &PinReader<'_>, target: &PinTarget) -> Result<()> {
    for StoredPin { pin, .. } in edit.written.iter().chain(&edit.ended) {
        let (text, path) = (pin.render(), &pin.path);
        let size = text.len();
        if size as u64 > MAX_PIN_BYTES {
            let what = if pin.ended { "end of the pin" } else { "pin" };
            return Err(Error::usage(format!(
                "the {what} of `{path}` would have {size} bytes; {MAX_PIN_BYTES} at most are read; nothing was changed"
            ))
            .with_hint("pin a folder above it, or give a shorter reason"));
        }
        let source = pin.file_path().to_string();
        if let Err(fault) = Pin::parse(&source, text.as_bytes()) {
            let why = fault.details().first().map_or(fault.message(), String::as_str).to_owned();
            let there = target.about(path).into_iter().filter(|one| one.home == target.home);
            let others: Vec<String> = there.map(|one| one.file.quote_as_pathspec()).collect();
            return Err(Error::usage(format!(
                "what there is about `{path}` cannot be replaced; nothing was changed"
            ))
            .with_detail(why)
            .with_hint(format!("remove it, and commit: `git rm -- {}`", others.join(" "))));
        }
    }
    let present = reader.read_tree(target.head.tree, &target.branch)?.len();
    let new = edit.written.len() + edit.ended.len();
    let count = present.saturating_sub(edit.files.len()) + new;
    if count > MAX_PINS {
        return Err(Error::usage(format!(
            "there would be {count} pins; {MAX_PINS} at most are read; nothing was changed"
        ))
        .with_hint("pin the folder that they are in"));
    }
    Ok(())
}

/// Returns when a statement is made: after all that are known about its branch and path, whatever the clocks say.
fn choose_moment(now: i64, about: &[&StoredPin]) -> i64 {
    about.iter().map(|one| one.pin.since + 1).max().unwrap_or(now).max(now)
}

/// Plans the removal of the pins of `paths`, and of those of the branch that have lapsed.
pub fn plan_unpins(
    context: &SyncContext,
    reader: &PinReader<'_>,
    target: &PinTarget,
    paths: &[RepoPath],
    now: i64,
) -> Result<PinEdit> {
    let current = target.current();
    let is_pinned = |path: &RepoPath| current.iter().any(|one| one.pin.path == *path);
    let unknown: Vec<&RepoPath> = paths.iter().filter(|path| !is_pinned(path)).collect();
    if !unknown.is_empty() {
        return Err(unknown_pin_error(context, reader, target, &current, &unknown));
    }
    let today = reader.today();
    let mut edit = PinEdit::default();
    for ending in current.iter().filter(|one| paths.contains(&one.pin.path)) {
        edit.end_pin(ending, target, now, today);
    }
    check_size(&edit, reader, target)?;
    edit.remove_lapsed(target, paths, today);
    let lapsed: Vec<&StoredPin> =
        edit.removed.iter().filter(|one| !paths.contains(&one.pin.path)).collect();
    let mut names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let of = describe_branch(target);
    edit.message = render_message(&format!("Unpin {}{of}", count_paths(&names)), &names, &lapsed);
    Ok(edit)
}

impl PinEdit {
    /// Adds the end of a pin, which counts as long as what it ends.
    fn end_pin(&mut self, ending: &StoredPin, target: &PinTarget, now: i64, today: Date) {
        let about = target.about(&ending.pin.path);
        let files = target.own_files(&about);
        let until = about.iter().map(|one| one.pin.last_day()).max().unwrap_or(ending.pin.until);
        let pin = Pin {
            branch: target.branch.clone(),
            until,
            ended: true,
            since: choose_moment(now, &about),
            replaced_until: None,
            ..ending.pin.clone()
        };
        let files = match today > until {
            // Nothing depends on what is over, whatever name of the branch it holds.
            true => about
                .iter()
                .filter(|one| one.home == target.home)
                .map(|one| one.file.clone())
                .collect(),
            false => files,
        };
        // A lapsed one at the upstream is over, and its file is removed there.
        if today > until && files.is_empty() {
            return;
        }
        self.files.extend(files);
        if today <= until {
            self.ended.push(StoredPin { file: pin.file_path(), pin, home: target.home });
        }
        self.removed.push(ending.clone());
    }

    /// Adds the removal of what has lapsed on the branch itself, besides what is about `paths`.
    fn remove_lapsed(&mut self, target: &PinTarget, paths: &[RepoPath], today: Date) {
        let present = target.known.iter().filter(|one| one.home == target.home);
        let mut over = list_removable(present, today);
        over.retain(|one| !paths.contains(&one.pin.path));
        self.files.extend(over.iter().map(|one| one.file.clone()));
        self.removed.extend(list_current(over, None));
    }
}

/// Returns the pins on which nothing depends any more: neither on them, nor on another about the same path of the same
/// branch, which would count instead.
fn list_removable<'p>(
    present: impl IntoIterator<Item = &'p StoredPin>,
    today: Date,
) -> Vec<StoredPin> {
    let mut groups: BTreeMap<(&str, &RepoPath), Vec<&StoredPin>> = BTreeMap::new();
    for one in present {
        groups.entry((&one.pin.branch, &one.pin.path)).or_default().push(one);
    }
    let over = groups.into_values().filter(|all| all.iter().all(|one| one.pin.last_day() < today));
    over.flatten().cloned().collect()
}

/// Returns the branches whose pins a commit may end: the branch itself; on the canonical branch all that it names.
fn list_targets(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    home: PinHome,
    all: &[StoredPin],
) -> Result<Vec<PinTarget>> {
    let target = |branch: String, names: BranchNames, known: Vec<StoredPin>| PinTarget {
        head: head.clone(),
        branch,
        names,
        home,
        tree: head.tree,
        known,
    };
    if home == PinHome::Branch {
        let (names, known) = reader.read_statements(context, head)?;
        return Ok(names
            .map(|names| target(choose_name(repo, &names), names, known))
            .into_iter()
            .collect());
    }
    let named: BTreeSet<&String> = all.iter().map(|one| &one.pin.branch).collect();
    let of = |name: &String| all.iter().filter(|one| one.pin.branch == *name).cloned().collect();
    Ok(named
        .into_iter()
        .map(|name| target(name.clone(), BranchNames::only(name), of(name)))
        .collect())
}

/// Plans the removal of all that has lapsed in the commit, of whatever branch: nothing depends on it. A lapsed pin of
/// the branch itself that replaces a longer one has to stay, and ends.
pub fn plan_lapsed(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
    head: &Head,
    now: i64,
) -> Result<PinEdit> {
    let Some(branch) = &head.branch else {
        return Err(Error::usage(
            "HEAD is detached: pins are removed on a branch; nothing was changed",
        )
        .with_hint("`git switch BRANCH` checks one out"));
    };
    let is_canonical = *branch == context.config.branch;
    if context.is_protected(branch) && !is_canonical {
        return Err(Error::usage(format!("`{branch}` is protected; nothing was changed"))
            .with_hint("remove them on a branch of your own, and open a pull request"));
    }
    if context.is_reserved_branch(branch) && !is_canonical {
        return Err(reserved_error(context, branch));
    }
    let home = if is_canonical { PinHome::Canonical } else { PinHome::Branch };
    let today = reader.today();
    let all: Vec<StoredPin> =
        StoredPin::list(&reader.read_tree(head.tree, branch)?, home).collect();
    let over = list_removable(&all, today);
    let mut edit = PinEdit {
        files: over.iter().map(|one| one.file.clone()).collect(),
        removed: list_current(over, None),
        ..PinEdit::default()
    };
    for target in list_targets(repo, context, reader, head, home, &all)? {
        let mut lapsed = target.current();
        lapsed.retain(|one| {
            one.pin.until < today && one.home == home && !edit.files.contains(&one.file)
        });
        for one in &lapsed {
            edit.end_pin(one, &target, now, today);
        }
        check_size(&edit, reader, &target)?;
    }
    let removed = &edit.removed;
    let names: Vec<String> = removed.iter().map(|one| one.pin.path.to_string()).collect();
    let listed: Vec<String> =
        removed.iter().map(|one| format!("{} of {}", one.pin.path, one.pin.branch)).collect();
    let subject = match names.len() {
        1 => format!("Remove the lapsed pin of {}", names[0]),
        many => format!("Remove {} that have lapsed", pluralize(many, "pin")),
    };
    edit.message = render_message(&subject, &listed, &[]);
    Ok(edit)
}

/// What a path of a pin names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinCoverage {
    /// A managed file, or a folder with some.
    Managed,
    /// Only files that are not managed.
    Unmanaged,
    Nothing,
}

/// Returns what `path` names in the tree of the branch and in the canonical tree.
pub fn find_coverage(
    repo: &Repo,
    context: &SyncContext,
    tree: Id,
    path: &RepoPath,
) -> Result<PinCoverage> {
    let managed = ManagedPaths::new(&context.config, None);
    let mut found = PinCoverage::Nothing;
    for tree in [tree, context.canonical.tree] {
        let is_managed = match repo.find_in_tree(tree, path)? {
            None => continue,
            Some(TreeItem::Entry(_)) => managed.contains_path(path.as_bytes()),
            Some(TreeItem::Folder(_)) => {
                repo.list_tree(tree, &managed)?.keys().any(|one| one.is_below(path))
            }
        };
        if is_managed {
            return Ok(PinCoverage::Managed);
        }
        found = PinCoverage::Unmanaged;
    }
    Ok(found)
}

/// Checks that every path names something managed, and reports all that do not.
fn check_paths(
    repo: &Repo,
    context: &SyncContext,
    target: &PinTarget,
    paths: &[RepoPath],
) -> Result<()> {
    let mut faults = Vec::new();
    for path in paths {
        match find_coverage(repo, context, target.tree, path)? {
            PinCoverage::Managed => {}
            PinCoverage::Unmanaged => faults.push(format!("`{path}` is not managed")),
            PinCoverage::Nothing => {
                let (branch, canonical) = (&target.branch, &context.config.branch);
                let is_here = target.home == PinHome::Branch
                    && path.to_disk_path(repo.root()).symlink_metadata().is_ok();
                let advice = if is_here { ": commit it first" } else { "" };
                faults.push(format!(
                    "`{path}` is neither on `{branch}` nor on `{canonical}`{advice}"
                ));
            }
        }
    }
    let error = match &faults[..] {
        [] => return Ok(()),
        [one] => Error::usage(format!("{one}; nothing was changed")),
        many => many.iter().cloned().fold(
            Error::usage("these paths cannot be pinned; nothing was changed"),
            Error::with_detail,
        ),
    };
    Err(error.with_hint("`cargo xtask sync --dry-run -v` lists the managed paths"))
}

/// Builds the error for paths without a pin: it names the pins that there are, and a folder above.
fn unknown_pin_error(
    context: &SyncContext,
    reader: &PinReader<'_>,
    target: &PinTarget,
    present: &[StoredPin],
    unknown: &[&RepoPath],
) -> Error {
    let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    let branch = &target.branch;
    let mut error = Error::usage(format!(
        "{} {} not pinned on `{branch}`; nothing was changed",
        join_names(&names, 5),
        if names.len() == 1 { "is" } else { "are" }
    ));
    for path in unknown {
        if let Some(above) = present.iter().find(|one| path.is_below(&one.pin.path)) {
            let folder = &above.pin.path;
            let typed = folder.quote_for_shell();
            error = error.with_hint(format!(
                "`{path}` is in the folder `{folder}`, which is pinned: `cargo xtask unpin {typed}`"
            ));
        }
        let canonical = &context.config.branch;
        let elsewhere = reader.read_tree(context.canonical.tree, canonical).ok();
        let is_it =
            |(pin, _): &(Pin, RepoPath)| is_pin_of(pin, Some(&target.names)) && pin.covers(path);
        if target.home == PinHome::Branch
            && let Some((pin, _)) =
                elsewhere.iter().flat_map(|all| all.iter()).find(|one| is_it(one))
        {
            let typed = pin.path.quote_for_shell();
            error = error.with_hint(format!(
                "its pin is on `{canonical}`: `git switch {canonical}`, then `cargo xtask unpin \
                 {typed} --branch {}`",
                quote_for_shell(&pin.branch)
            ));
        }
    }
    let mut listed: Vec<String> = present.iter().map(|one| one.pin.path.to_string()).collect();
    listed.dedup();
    error.with_hint(match listed.len() {
        0 => format!("`{branch}` has no pins; `cargo xtask pin --list --all` lists those of all"),
        _ => format!("pinned there: {}", join_names(&listed, MAX_LISTED)),
    })
}

fn render_pin_message(
    target: &PinTarget,
    written: &[StoredPin],
    removed: &[StoredPin],
    new: &NewPins,
) -> String {
    let names: Vec<String> = written.iter().map(|one| one.pin.path.to_string()).collect();
    let is_lapsed = |one: &&StoredPin| !new.paths.contains(&one.pin.path);
    let lapsed: Vec<&StoredPin> = removed.iter().filter(is_lapsed).collect();
    let (of, until, reason) = (describe_branch(target), new.until, &new.reason);
    render_message(
        &format!("Pin {}{of} until {until}: {reason}", count_paths(&names)),
        &names,
        &lapsed,
    )
}

fn describe_branch(target: &PinTarget) -> String {
    match target.home {
        PinHome::Branch | PinHome::Upstream => String::new(),
        PinHome::Canonical => format!(" on {}", target.branch),
    }
}

/// Returns the only path, or how many there are.
fn count_paths(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        many => pluralize(many.len(), "path"),
    }
}

fn render_message(subject: &str, names: &[String], lapsed: &[&StoredPin]) -> String {
    let mut text = format!("{subject}\n");
    if names.len() > 1 {
        text.push('\n');
        text.extend(names.iter().map(|name| format!("- {name}\n")));
    }
    if !lapsed.is_empty() {
        text.push_str("\nRemoves what has lapsed:\n");
        text.extend(lapsed.iter().map(|one| format!("- {}\n", one.pin.path)));
    }
    text
}
