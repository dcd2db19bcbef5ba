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
use super::pin_reader::PinReader;
use super::pins::{BranchNames, StoredPin, is_pin_of, list_current};
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_config::{Pin, PinHome};
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
    tree: Id,
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
/// `--branch`.
pub fn find_pin_target(
    repo: &Repo,
    context: &SyncContext,
    reader: &PinReader<'_>,
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
        let Some(named) = named else { return Err(unnamed_error(canonical)) };
        let named = named.strip_prefix("refs/heads/").unwrap_or(named).to_owned();
        if context.is_reserved_branch(&named) {
            return Err(reserved_error(context, &named));
        }
        let names = BranchNames::only(&named);
        let tree = find_branch_tree(repo, context, &named)?;
        let tree = tree.unwrap_or(head.tree);
        return Ok(PinTarget { head, branch: named, names, home: PinHome::Canonical, tree });
    }
    if let Some(named) = named {
        return Err(Error::usage(format!(
            "`--branch` is for the canonical branch, and `{branch}` is checked out; nothing was changed"
        ))
        .with_hint(format!(
            "leave out `--branch` to pin on `{branch}`; or `git switch {canonical}`, then pin with \
             `--branch {}` there",
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
            "`git switch {canonical}`, then `cargo xtask pin PATH --branch {} --reason …`",
            quote_for_shell(&branch)
        )));
    }
    let names = reader.branch_names(context, &branch);
    let tree = head.tree;
    let branch = choose_name(repo, &names);
    Ok(PinTarget { head, branch, names, home: PinHome::Branch, tree })
}

/// Returns the name that new pins of a branch hold: the one in this clone, which stays when the branch gets
/// another upstream; that of its upstream only if git pushes there.
fn choose_name(repo: &Repo, names: &BranchNames) -> String {
    let push = repo.config_value("push.default");
    let pushes_there = matches!(push.as_deref(), Some("upstream" | "tracking"));
    let upstream = names.upstream.as_ref().filter(|_| pushes_there);
    upstream.unwrap_or(&names.local).clone()
}

fn unnamed_error(canonical: &str) -> Error {
    Error::usage(format!(
        "`{canonical}` is the canonical branch: its content is what others follow; nothing was changed"
    ))
    .with_hint("`--branch BRANCH` names the branch that keeps its content, e.g. `--branch main`")
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
            && let Some(commit) = repo.resolve_ref(&format!("{prefix}{name}"))?
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
    let today = reader.today();
    let present = read_own_pins(context, reader, target)?;
    let current = list_current(present.iter().cloned());
    let mut edit = PinEdit::default();
    for path in &new.paths {
        let about: Vec<&StoredPin> = present
            .iter()
            .filter(|one| one.pin.branch == target.branch && one.pin.path == *path)
            .collect();
        let says_same = |one: &StoredPin| {
            let Pin { branch, path: of, until, reason, .. } = &one.pin;
            (branch, of, until, reason) == (&target.branch, path, &new.until, &new.reason)
        };
        // Who pinned it first, and when, is worth more than who repeats it.
        let is_there = current.iter().chain(&edit.written).any(says_same);
        if is_there {
            continue;
        }
        let pin = Pin {
            branch: target.branch.clone(),
            path: path.clone(),
            until: new.until,
            reason: new.reason.clone(),
            by: new.by.clone(),
            since: choose_moment(new.now, &about),
            ended: false,
        };
        edit.files.extend(about.iter().map(|one| one.file.clone()));
        edit.written.push(StoredPin { file: pin.file_path(), pin, home: target.home });
    }
    if !edit.written.is_empty() {
        edit.remove_lapsed(&present, target, &new.paths, today);
    }
    edit.message = render_pin_message(target, &edit.written, &edit.removed, new);
    Ok(edit)
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
    let present = read_own_pins(context, reader, target)?;
    let current = list_current(present.iter().cloned());
    let is_pinned = |path: &RepoPath| {
        current.iter().any(|one| one.pin.path == *path && target.names.is_own(&one.pin.branch))
    };
    let unknown: Vec<&RepoPath> = paths.iter().filter(|path| !is_pinned(path)).collect();
    if !unknown.is_empty() {
        return Err(unknown_pin_error(context, reader, target, &current, &unknown));
    }
    let today = reader.today();
    let mut edit = PinEdit::default();
    let is_asked =
        |one: &&StoredPin| paths.contains(&one.pin.path) && target.names.is_own(&one.pin.branch);
    for ending in current.iter().filter(is_asked) {
        let about: Vec<&StoredPin> = present
            .iter()
            .filter(|one| {
                (&one.pin.branch, &one.pin.path) == (&ending.pin.branch, &ending.pin.path)
            })
            .collect();
        edit.files.extend(about.iter().map(|one| one.file.clone()));
        // It counts as long as what it ends.
        let until = about.iter().map(|one| one.pin.until).max().unwrap_or(ending.pin.until);
        let pin =
            Pin { until, ended: true, since: choose_moment(now, &about), ..ending.pin.clone() };
        if !pin.is_over(today) {
            edit.ended.push(StoredPin { file: pin.file_path(), pin, home: target.home });
        }
        edit.removed.push(ending.clone());
    }
    edit.remove_lapsed(&present, target, paths, today);
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
    /// Adds the removal of what has lapsed on the branch itself, besides what is about `paths`.
    fn remove_lapsed(
        &mut self,
        present: &[StoredPin],
        target: &PinTarget,
        paths: &[RepoPath],
        today: Date,
    ) {
        let is_over = |one: &&StoredPin| {
            one.pin.is_over(today)
                && target.names.is_own(&one.pin.branch)
                && !paths.contains(&one.pin.path)
        };
        let over: Vec<StoredPin> = present.iter().filter(is_over).cloned().collect();
        self.files.extend(over.iter().map(|one| one.file.clone()));
        self.removed.extend(list_current(over));
    }
}

/// Plans the removal of all that has lapsed in the commit, of whatever branch: nothing depends on it.
pub fn plan_lapsed(context: &SyncContext, reader: &PinReader<'_>, head: &Head) -> Result<PinEdit> {
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
    let all = reader.read_tree(head.tree, branch)?;
    let over = all.iter().filter(|(pin, _)| pin.is_over(reader.today()));
    let over: Vec<StoredPin> =
        over.map(|(pin, file)| StoredPin { pin: pin.clone(), file: file.clone(), home }).collect();
    let files = over.iter().map(|one| one.file.clone()).collect();
    let removed = list_current(over);
    let names: Vec<String> = removed.iter().map(|one| one.pin.path.to_string()).collect();
    let listed: Vec<String> =
        removed.iter().map(|one| format!("{} of {}", one.pin.path, one.pin.branch)).collect();
    let subject = match names.len() {
        1 => format!("Remove the lapsed pin of {}", names[0]),
        many => format!("Remove {} that have lapsed", pluralize(many, "pin")),
    };
    let message = render_message(&subject, &listed, &[]);
    Ok(PinEdit { files, removed, message, ..PinEdit::default() })
}

/// Returns the pins of the branch in the tree that is committed on.
fn read_own_pins(
    context: &SyncContext,
    reader: &PinReader<'_>,
    target: &PinTarget,
) -> Result<Vec<StoredPin>> {
    let place = target.head.branch.as_deref().unwrap_or(&context.config.branch);
    let all = reader.read_tree(target.head.tree, place)?;
    let own = all.iter().filter(|(pin, _)| is_pin_of(pin, Some(&target.names)));
    let stored = own.map(|(pin, file)| StoredPin {
        pin: pin.clone(),
        file: file.clone(),
        home: target.home,
    });
    Ok(stored.collect())
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
                faults.push(format!("`{path}` is neither on `{branch}` nor on `{canonical}`"));
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
        let of_upstream =
            |one: &&StoredPin| one.pin.path == **path && !target.names.is_own(&one.pin.branch);
        if let Some(other) = present.iter().find(of_upstream) {
            error = error.with_hint(format!(
                "its pin is of the upstream, `{}`: end it on that branch; here it applies until \
                 `git push -u` or `git branch --unset-upstream` makes this one another branch",
                other.pin.branch
            ));
        }
        if let Some(above) = present.iter().find(|one| path.is_below(&one.pin.path)) {
            let folder = &above.pin.path;
            let typed = quote_for_shell(&folder.to_string());
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
            let typed = quote_for_shell(&pin.path.to_string());
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
        PinHome::Branch => String::new(),
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
