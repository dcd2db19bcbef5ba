//! `pre-push`: refuses direct pushes to protected branches and pushes that break an enforced branch rule, and reports
//! branches that change managed files.
//!
//! ```text
//! refs/heads/feature/a 1a2b… refs/heads/feature/a 0000…    (a line on standard input: a new branch)
//! ```

use super::pause;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::path::RepoPath;
use xtask_base::progress::SilentProgress;
use xtask_base::words::pluralize;
use xtask_branches::check::{check_branch, needs_check};
use xtask_branches::facts::BranchInspector;
use xtask_branches::rules::{BranchFindingKind, Severity};
use xtask_config::{BRANCHES_FILE, Enforcement, SYNC_FILE, find_rule_faults};
use xtask_git::Tools;
use xtask_git::{Head, Id, Repo, branch_of_ref};
use xtask_sync::branch_overview::BranchReader;
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;
use xtask_sync::pin_reader::PinReader;

/// The prefix of refs that exist only in this clone.
const OWN_REFS: &str = "refs/xtask/";

/// The git setting that makes pushes of [`OWN_REFS`] fail.
const KEEP_SETTING: &str = "xtask.keepBackups";

/// A ref that is about to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRef {
    /// The full name at the remote, e.g. `refs/heads/main`.
    pub remote_ref: String,
    /// The new commit; `None` if the ref is deleted.
    pub new: Option<Id>,
    /// The present commit at the remote; `None` if the ref is new.
    pub old: Option<Id>,
}

impl PushedRef {
    /// Returns the name of the branch, or `None` if the ref is not a branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        branch_of_ref(&self.remote_ref)
    }
}

/// Parses the standard input of the hook: one line `<local ref> <local id> <remote ref> <remote id>` per ref. Lines of
/// another form are skipped.
#[must_use]
pub fn parse_pushed_refs(input: &str) -> Vec<PushedRef> {
    let lines = input.lines().filter_map(|line| {
        // Split from the right: the local ref may be an expression with spaces.
        let mut words = line.rsplitn(4, ' ');
        let (old, remote, new, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let id = |text: &str| Id::from_hex(text.as_bytes()).ok();
        let (new, old) = (id(new)?, id(old)?);
        let some = |id: Id| (!id.is_null()).then_some(id);
        Some(PushedRef { remote_ref: remote.to_owned(), new: some(new), old: some(old) })
    });
    lines.collect()
}

/// A pushed branch that changes managed files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedBranch {
    /// The name of the branch at the remote.
    pub branch: String,
    pub commit: Id,
    /// The managed paths whose content is specific to this branch.
    pub managed_paths: Vec<RepoPath>,
}

/// The verdict on a push.
#[derive(Debug, Default)]
pub struct PushVerdict {
    /// The reasons to refuse the push, one per line.
    pub faults: Vec<String>,
    /// Additional messages about the branches, one per line.
    pub notes: Vec<String>,
    /// The branches that change managed files.
    pub changed_branches: Vec<ChangedBranch>,
    /// The sync configuration, if a canonical branch was found.
    pub context: Option<SyncContext>,
}

/// Checks a push on behalf of the hook.
pub fn check_push_in_hook(
    repo: &Repo,
    refs: &[PushedRef],
    tools: &Tools<'_>,
) -> Result<PushVerdict> {
    if pause::find_pause(repo, tools.world.now_seconds())?.is_some() {
        return Ok(PushVerdict::default());
    }
    let mut faults = find_pushed_rule_faults(repo, refs);
    let mut notes = Vec::new();
    if let Some(line) = describe_private_refs(refs) {
        let is_refused = repo.config_bool(KEEP_SETTING, false);
        if is_refused { &mut faults } else { &mut notes }.push(line);
    }
    if !faults.is_empty() {
        return Ok(PushVerdict { faults, ..PushVerdict::default() });
    }
    let mut verdict = match context::find_canonical_context(repo)? {
        Some(context) => check_push(repo, context, refs, tools.world.now_seconds())?,
        None => PushVerdict::default(),
    };
    verdict.notes.splice(0..0, notes);
    Ok(verdict)
}

/// Returns a message if private refs of this clone would be pushed, e.g. by `git push --mirror`: backups contain files
/// that were never committed.
fn describe_private_refs(refs: &[PushedRef]) -> Option<String> {
    let is_own =
        |pushed: &&PushedRef| pushed.new.is_some() && pushed.remote_ref.starts_with(OWN_REFS);
    let number = refs.iter().filter(is_own).count();
    (number > 0).then(|| {
        format!(
            "{} below `{OWN_REFS}`, with backups of files that were never committed, would be visible \
             to everybody at the remote; `git push --prune REMOTE '+refs/*:refs/*' '^{OWN_REFS}*'` mirrors all but \
             those, and `git config {KEEP_SETTING} true` refuses them from now on",
            pluralize(number, "ref")
        )
    })
}

/// Returns the faults in rules files and pins that a push of the canonical branch would publish.
fn find_pushed_rule_faults(repo: &Repo, refs: &[PushedRef]) -> Vec<String> {
    let canonical = context::configured_names(repo).branch;
    let of_canonical = refs.iter().filter(|pushed| pushed.branch() == Some(&canonical));
    let faults = of_canonical.filter_map(|pushed| {
        let tree = repo.tree_of(pushed.new?).ok()?;
        let mut faults = Vec::new();
        for file in [SYNC_FILE, BRANCHES_FILE] {
            if let Some(entry) = repo.entry_at(tree, &RepoPath::new(file)).ok()? {
                faults.extend(find_rule_faults(file, &repo.read_blob(entry.id).ok()?));
            }
        }
        // All branches read the pins of the canonical branch. The day does not matter here.
        if let Err(fault) = PinReader::new(repo, 0).read_tree(tree, &canonical)
            && fault.kind() == ErrorKind::Usage
        {
            faults.push(fault.message().to_owned());
        }
        Some(faults)
    });
    faults.flatten().collect()
}

/// Checks a push. `now` is in seconds since the epoch.
pub fn check_push(
    repo: &Repo,
    context: SyncContext,
    refs: &[PushedRef],
    now: i64,
) -> Result<PushVerdict> {
    let mut verdict = PushVerdict::default();
    for pushed in refs {
        // The first push of a protected branch does not change it.
        let Some(branch) = pushed.branch().filter(|_| pushed.old.is_some()) else { continue };
        if context.is_protected(branch) {
            let what =
                if pushed.new.is_none() { "deleted by a push" } else { "pushed to directly" };
            verdict.faults.push(format!(
                "`{branch}` is protected (`protected` in `{BRANCHES_FILE}` on `{}`, by default \
                 `main`) and cannot be {what}; push a branch of your own and open a pull request",
                context.config.branch
            ));
        }
    }
    check_branch_rules(repo, &context, refs, now, &mut verdict)?;
    if verdict.faults.is_empty() {
        match find_changed_branches(repo, &context, refs, now) {
            Ok(changed) => verdict.changed_branches = changed,
            // Pins that cannot be read are no reason to hold back the push, which may mend them.
            Err(fault) if fault.kind() == ErrorKind::Usage => {
                verdict.notes.push(describe_fault(&fault));
            }
            Err(failure) => return Err(failure),
        }
    }
    verdict.context = Some(context);
    Ok(verdict)
}

/// Checks the pushed branches against the branch rules. Broken rules refuse the push if `enforce` is `refuse`; facts
/// that cannot be determined are only reported. Without an applicable rule no fact is collected.
fn check_branch_rules(
    repo: &Repo,
    context: &SyncContext,
    refs: &[PushedRef],
    now: i64,
    verdict: &mut PushVerdict,
) -> Result<()> {
    let asked: Vec<(&str, Id)> = refs
        .iter()
        .filter_map(|pushed| Some((pushed.branch()?, pushed.new?)))
        .filter(|(branch, _)| needs_check(context, branch))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let inspector = BranchInspector::new(repo, context, now)?;
    for (branch, commit) in asked {
        for finding in check_branch(&inspector, branch, Ok(commit)).findings {
            // A branch that is being pushed is still in use, even if parts of it were merged.
            if finding.kind == BranchFindingKind::AlreadyMerged {
                continue;
            }
            let is_refused = finding.kind.severity() == Severity::Broken
                && context.branches.enforce == Enforcement::Refuse;
            let lines = if is_refused { &mut verdict.faults } else { &mut verdict.notes };
            lines.push(finding.to_line(branch));
        }
    }
    Ok(())
}

fn describe_fault(fault: &Error) -> String {
    let hint = fault.hints().first().map_or(String::new(), |hint| format!("; {hint}"));
    format!("{}{hint}", fault.message())
}

/// Returns the pushed branches with managed content that never was canonical and that the remote does not have yet.
/// Pinned content stays on its branch on purpose and does not count. `now` is in seconds since the epoch.
pub fn find_changed_branches(
    repo: &Repo,
    context: &SyncContext,
    refs: &[PushedRef],
    now: i64,
) -> Result<Vec<ChangedBranch>> {
    let managed = ManagedPaths::new(&context.config, None);
    let mut once = None;
    let mut found = Vec::new();
    for pushed in refs {
        let (Some(branch), Some(new)) = (pushed.branch(), pushed.new) else { continue };
        if context.is_reserved_branch(branch) || context.is_protected(branch) {
            continue;
        }
        let Ok(tree) = repo.tree_of(new) else { continue };
        if repo.compare_trees(Some(tree), Some(context.canonical.tree), &managed)?.is_empty() {
            continue;
        }
        // The commit at the remote may be missing in this clone.
        let before = pushed.old.and_then(|old| repo.tree_of(old).ok());
        if let Some(before) = before
            && repo.compare_trees(Some(before), Some(tree), &managed)?.is_empty()
        {
            continue;
        }
        if once.is_none() {
            let tip = context.canonical.commit;
            once = Some(repo.read_canonical_history(
                tip,
                &managed,
                managed.rules_digest(),
                &SilentProgress,
            )?);
        }
        let Some(once) = &once else { continue };
        let head = Head { branch: Some(branch.to_owned()), commit: new, tree };
        let classes = BranchReader::new(repo, context, once, now).classify(&head)?;
        let own = classes.into_iter().filter(|(_, class)| *class == PathClass::Customised);
        let paths: Vec<RepoPath> = own.map(|(path, _)| path).collect();
        if !paths.is_empty() {
            found.push(ChangedBranch {
                branch: branch.to_owned(),
                commit: new,
                managed_paths: paths,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_read() {
        let (one, zero) = ("1".repeat(40), "0".repeat(40));
        let text = format!(
            "refs/heads/a {one} refs/heads/b {zero}\n(delete) {zero} refs/heads/c {one}\n\
             HEAD~ {one} refs/tags/v1 {zero}\nnonsense\n\nrefs/heads/x {one} refs/heads/y\n"
        );
        let refs = parse_pushed_refs(&text);
        assert_eq!(refs.len(), 3);
        assert_eq!(refs[0].branch(), Some("b"));
        assert!(refs[0].new.is_some() && refs[0].old.is_none());
        assert!(refs[1].new.is_none() && refs[1].old.is_some());
        assert_eq!(refs[2].branch(), None);
        let expression = format!("HEAD^{{/fix the bug}} {one} refs/heads/main {one}");
        assert_eq!(parse_pushed_refs(&expression)[0].branch(), Some("main"));
        assert!(parse_pushed_refs("").is_empty());
    }
}
