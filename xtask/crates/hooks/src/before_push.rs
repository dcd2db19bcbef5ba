//! `pre-push`: a protected branch is not pushed to directly, a branch keeps to its rule, and one that
//! changes managed files is told what becomes of them.

use super::off;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Silent;
use xtask_base::words::count;
use xtask_branches::check::{check, is_asked};
use xtask_branches::facts::Look;
use xtask_branches::rules::{About, Weight};
use xtask_config::{BRANCHES_FILE, Enforce, SYNC_FILE, rule_faults};
use xtask_git::Tools;
use xtask_git::{Head, Id, Repo};
use xtask_sync::classify::Class;
use xtask_sync::context::{self, Context};
use xtask_sync::managed::Managed;
use xtask_sync::survey::classes;

/// Where refs lie that are of this clone alone.
const OWN_REFS: &str = "refs/xtask/";

/// The git setting with which a push of those is refused.
const KEEP_SETTING: &str = "xtask.keepBackups";

/// One ref that is about to be pushed, as git tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRef {
    /// The name at the remote.
    pub remote: String,
    /// What it is to become; nothing where it is deleted.
    pub new: Option<Id>,
    /// What the remote has; nothing where it is new there.
    pub old: Option<Id>,
}

impl PushedRef {
    /// The branch at the remote, if it is one.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.remote.strip_prefix("refs/heads/")
    }
}

/// Reads what git says on the standard input of the hook: `<local ref> <local id> <remote ref>
/// <remote id>`, a line for each ref. A line that is not of that form is left out.
#[must_use]
pub fn parse(input: &str) -> Vec<PushedRef> {
    let lines = input.lines().filter_map(|line| {
        // From the right: the first word may be an expression with spaces in it.
        let mut words = line.rsplitn(4, ' ');
        let (old, remote, new, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let id = |text: &str| Id::from_hex(text.as_bytes()).ok();
        let (new, old) = (id(new)?, id(old)?);
        let some = |id: Id| (!id.is_null()).then_some(id);
        Some(PushedRef { remote: remote.to_owned(), new: some(new), old: some(old) })
    });
    lines.collect()
}

/// A branch whose push changes managed files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The branch at the remote.
    pub branch: String,
    /// The commit that is pushed.
    pub commit: Id,
    /// The managed paths at which the branch has a content of its own.
    pub paths: Vec<RepoPath>,
}

/// What there is to say about a push.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Why it is refused, a line each.
    pub faults: Vec<String>,
    /// What else is to be said of the branches, a line each.
    pub notes: Vec<String>,
    /// The branches that change managed files.
    pub changed: Vec<Changed>,
    /// What sync goes by.
    pub context: Option<Context>,
}

/// Judges a push from the hook.
pub fn before_push(repo: &Repo, refs: &[PushedRef], tools: &Tools<'_>) -> Result<Verdict> {
    if off::is_off(repo, tools.world.now_seconds())?.is_some() {
        return Ok(Verdict::default());
    }
    let mut faults = broken_rules(repo, refs);
    let mut notes = Vec::new();
    if let Some(line) = our_own(refs) {
        let is_refused = repo.setting_is(KEEP_SETTING, false);
        if is_refused { &mut faults } else { &mut notes }.push(line);
    }
    if !faults.is_empty() {
        return Ok(Verdict { faults, ..Verdict::default() });
    }
    let mut verdict = match context::of_canonical(repo)? {
        Some(context) => judge(repo, context, refs, tools.world.now_seconds())?,
        None => Verdict::default(),
    };
    verdict.notes.splice(0..0, notes);
    Ok(verdict)
}

/// What goes along that is this clone's alone, as with `git push --mirror`: backups, which hold what was
/// never committed.
fn our_own(refs: &[PushedRef]) -> Option<String> {
    let is_own = |pushed: &&PushedRef| pushed.new.is_some() && pushed.remote.starts_with(OWN_REFS);
    let number = refs.iter().filter(is_own).count();
    (number > 0).then(|| {
        format!(
            "{} below `{OWN_REFS}`, with backups of what was never committed, would be at the remote \
             for everybody; `git push --prune REMOTE '+refs/*:refs/*' '^{OWN_REFS}*'` mirrors all but \
             those, and `git config {KEEP_SETTING} true` refuses them from now on",
            count(number, "ref")
        )
    })
}

/// What is wrong with the rules that a push of the canonical branch would give to everybody.
fn broken_rules(repo: &Repo, refs: &[PushedRef]) -> Vec<String> {
    let canonical = context::usual_names(repo).branch;
    let of_canonical = refs.iter().filter(|pushed| pushed.branch() == Some(&canonical));
    let faults = of_canonical.filter_map(|pushed| {
        let tree = repo.tree_of(pushed.new?).ok()?;
        let mut faults = Vec::new();
        for file in [SYNC_FILE, BRANCHES_FILE] {
            if let Some(entry) = repo.entry_at(tree, &RepoPath::new(file)).ok()? {
                faults.extend(rule_faults(file, &repo.blob(entry.id).ok()?));
            }
        }
        Some(faults)
    });
    faults.flatten().collect()
}

/// Judges a push, `now` being the time in seconds since the epoch.
pub fn judge(repo: &Repo, context: Context, refs: &[PushedRef], now: i64) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for pushed in refs {
        // The first push of a branch is no change to it.
        let Some(branch) = pushed.branch().filter(|_| pushed.old.is_some()) else { continue };
        if context.is_protected(branch) {
            let what =
                if pushed.new.is_none() { "deleted by a push" } else { "pushed to directly" };
            verdict.faults.push(format!(
                "`{branch}` is protected (`{BRANCHES_FILE}` on `{}`) and is not {what}; push a \
                 branch of your own and open a pull request",
                context.config.branch
            ));
        }
    }
    ask_rules(repo, &context, refs, now, &mut verdict)?;
    if verdict.faults.is_empty() {
        verdict.changed = changed_since(repo, &context, refs)?;
    }
    verdict.context = Some(context);
    Ok(verdict)
}

/// What the rules say of the branches that are pushed. A broken one refuses the push where the rules are
/// enforced; what could not be told is told, and refuses nothing. Where no rule is asked nothing is looked at.
fn ask_rules(
    repo: &Repo,
    context: &Context,
    refs: &[PushedRef],
    now: i64,
    verdict: &mut Verdict,
) -> Result<()> {
    let asked: Vec<(&str, Id)> = refs
        .iter()
        .filter_map(|pushed| Some((pushed.branch()?, pushed.new?)))
        .filter(|(branch, _)| is_asked(context, branch))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let look = Look::new(repo, context, now)?;
    for (branch, commit) in asked {
        for finding in check(&look, branch, Ok(commit)).findings {
            // Whoever pushes it is not done with it, whatever has arrived already.
            if finding.about == About::LeftOver {
                continue;
            }
            let is_refused = finding.about.weight() == Weight::Broken
                && context.branches.enforce == Enforce::Refuse;
            let lines = if is_refused { &mut verdict.faults } else { &mut verdict.notes };
            lines.push(finding.line(branch));
        }
    }
    Ok(())
}

/// The branches among the refs that hold managed content that never was canonical, and that differs
/// from what the remote has of them.
pub fn changed_since(repo: &Repo, context: &Context, refs: &[PushedRef]) -> Result<Vec<Changed>> {
    let managed = Managed::new(&context.config, None);
    let mut once = None;
    let mut found = Vec::new();
    for pushed in refs {
        let (Some(branch), Some(new)) = (pushed.branch(), pushed.new) else { continue };
        if context.is_apart(branch) || context.is_protected(branch) {
            continue;
        }
        let Ok(tree) = repo.tree_of(new) else { continue };
        if repo.compare_trees(Some(tree), Some(context.canonical.tree), &managed)?.is_empty() {
            continue;
        }
        // The commit that the remote has may not be here.
        let before = pushed.old.and_then(|old| repo.tree_of(old).ok());
        if let Some(before) = before
            && repo.compare_trees(Some(before), Some(tree), &managed)?.is_empty()
        {
            continue;
        }
        if once.is_none() {
            let tip = context.canonical.commit;
            once = Some(repo.once_canonical(tip, &managed, managed.rules(), &Silent)?);
        }
        let Some(once) = &once else { continue };
        let head = Head { branch: Some(branch.to_owned()), commit: new, tree };
        let classes = classes(repo, context, once, &head, &mut repo.lineage())?;
        let own = classes.into_iter().filter(|(_, class)| *class == Class::Customised);
        let paths: Vec<RepoPath> = own.map(|(path, _)| path).collect();
        if !paths.is_empty() {
            found.push(Changed { branch: branch.to_owned(), commit: new, paths });
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
        let refs = parse(&text);
        assert_eq!(refs.len(), 3);
        assert_eq!(refs[0].branch(), Some("b"));
        assert!(refs[0].new.is_some() && refs[0].old.is_none());
        assert!(refs[1].new.is_none() && refs[1].old.is_some());
        assert_eq!(refs[2].branch(), None);
        let expression = format!("HEAD^{{/fix the bug}} {one} refs/heads/main {one}");
        assert_eq!(parse(&expression)[0].branch(), Some("main"));
        assert!(parse("").is_empty());
    }
}
