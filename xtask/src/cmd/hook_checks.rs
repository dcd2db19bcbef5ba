//! The checks that git's hooks run, on the content that the hook is about: the staged state, or the pushed commit.
//!
//! For example, `git commit` runs all checks with `hook = "pre-commit"` of the canonical branch, and refuses if one fails.

use std::path::{Path, PathBuf};

use super::checks::{run_checks, run_environment};
use super::session::{Session, print_hook_message};
use super::{CommandResult, SUCCESS};
use crate::canonical_checks::read_canonical_checks;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_config::CheckHook;
use xtask_git::{ChangedPaths, FixedFile, Id, Repo, RestagedFile, StagedChange};
use xtask_hooks::pause;
use xtask_report as report;
use xtask_sync::context;
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::RunTrigger;
use xtask_validate::hook_selection::{HookSituation, apply_hook_settings};
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::outcome::CheckOutcome;
use xtask_validate::plan::{CheckFilter, CheckSelection, RunEnvironment, select_checks};
use xtask_validate::report::{MORE_LINES, ReportDetail, ValidateReport};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest};
use xtask_validate::staged_fixes::{StagedContents, needs_export};
use xtask_validate::staged_tree::{self, TreeSource};

/// What a hook is about.
pub(super) struct HookRun<'a> {
    pub(super) hook: CheckHook,
    pub(super) content: HookContent<'a>,
    /// The file with the message of the commit.
    pub(super) message: Option<PathBuf>,
}

/// The content that the checks of a hook see.
pub(super) enum HookContent<'a> {
    /// The index that is being committed, and its changes against HEAD if they are known.
    Index(&'a Path, Option<Vec<StagedChange>>),
    /// A commit that is being pushed, and the paths that it changes at the remote.
    Commit(Id, ChangedPaths),
    /// The files as they are.
    Worktree,
}

/// Runs the checks of a hook. Returns exit code 1, which refuses what git is about to do, if one fails.
pub(super) fn run(session: &Session, repo: &Repo, run: &HookRun<'_>) -> CommandResult {
    if pause::find_pause(repo, session.world.now_seconds())?.is_some() {
        return Ok(SUCCESS);
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(SUCCESS) };
    let Some(checks) = read_canonical_checks(repo, &context)? else { return Ok(SUCCESS) };
    if !checks.config.checks.iter().any(|check| check.conditions.in_hooks.runs_in(run.hook)) {
        return Ok(SUCCESS);
    }
    let here = RunEnvironment { is_ci: false, ..run_environment(session) };
    let skip = list_skipped(session);
    let filter = CheckFilter { hook: Some(run.hook), skip, ..CheckFilter::default() };
    let mut selection = match select_checks(&checks.config, &filter, here) {
        // A hook that ends with an error lets git go on, and all checks would be skipped for a typo.
        Err(unknown) if !filter.skip.is_empty() => {
            print_hook_message(&format!("{} refused: {SKIP_VARIABLE}: {unknown}", run.hook.name()));
            unknown.details().iter().for_each(|detail| report::print_hook_line(detail));
            return Ok(ErrorKind::Negative.exit_code());
        }
        selected => selected?,
    };
    let branch = repo.current_branch();
    let situation = HookSituation {
        hook: run.hook,
        operation: repo.current_operation().map(|found| found.kind),
        branch: branch.as_deref(),
    };
    if !apply_hook_settings(&checks.config, &mut selection, situation) {
        return Ok(SUCCESS);
    }
    let runner = HookRunner { session, repo, checks: &checks, selection: &selection, run };
    let done = match &run.content {
        HookContent::Index(index, changes) => {
            match runner.check_staged_state(index, changes.as_deref())? {
                Ok(done) => done,
                // The checks have passed with the fixes alone, so that git must not go on without them.
                Err(failure) => {
                    print_hook_message(&format!("commit refused: {failure}"));
                    failure.details().iter().for_each(|detail| report::print_hook_line(detail));
                    failure.hints().iter().for_each(|hint| print_hook_message(hint));
                    return Ok(ErrorKind::Negative.exit_code());
                }
            }
        }
        HookContent::Commit(..) | HookContent::Worktree => runner.check_once()?,
    };
    if done.ok && !done.is_interrupted {
        return Ok(SUCCESS);
    }
    print_refused(run.hook, &done);
    Ok(ErrorKind::Negative.exit_code())
}

/// The variable that names checks, phases or tags that hooks leave out for one command.
const SKIP_VARIABLE: &str = "XTASK_SKIP";

fn list_skipped(session: &Session) -> Vec<String> {
    let listed = session.world.variable(SKIP_VARIABLE).unwrap_or_default();
    let names = listed.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// Prints why the checks of a hook refuse, and how to go on in spite of it.
fn print_refused(hook: CheckHook, done: &ValidateReport) {
    let (what, about, way_round) = match hook {
        CheckHook::PreCommit => ("commit", "the staged state", "git commit --no-verify"),
        CheckHook::PreMergeCommit => ("merge", "the merged state", "git merge --no-verify"),
        CheckHook::CommitMsg => ("commit", "its message", "git commit --no-verify"),
        CheckHook::PrepareCommitMsg => {
            ("commit", "its message", "DISABLE_ORCHESTRATION_CHECKS=1 git commit")
        }
        CheckHook::PreRebase => ("rebase", "this branch", "git rebase --no-verify"),
        CheckHook::PrePush => ("push", "the pushed commit", "git push --no-verify"),
    };
    let detail = ReportDetail { all: false, quiet: true, why: false };
    print_hook_message(&format!("{what} refused: checks failed on {about}"));
    let summary = done.render_summary(detail);
    for line in summary.trim_end().lines() {
        report::print_hook_line(line);
    }
    // git hands no `-v` on to its hooks.
    if let Some(log) = done.log.as_ref().filter(|_| summary.contains(MORE_LINES)) {
        print_hook_message(&format!("the log has all output: {log}"));
    }
    print_hook_message(&format!("`{way_round}` does it anyway"));
}

/// Says of the fixes that worked that they are not staged, because another check failed.
fn give_up_fixes(mut done: ValidateReport) -> ValidateReport {
    for check in done.checks.iter_mut().filter(|check| check.outcome == CheckOutcome::Fixed) {
        check.reason.clear();
        if let Some(fix) = &mut check.fix {
            let paths = join_names(&std::mem::take(&mut fix.paths), 5);
            fix.reason = format!("it works for {paths}, and is staged once all checks pass");
        }
    }
    done
}

struct HookRunner<'a> {
    session: &'a Session,
    repo: &'a Repo,
    checks: &'a LoadedChecks,
    selection: &'a [CheckSelection],
    run: &'a HookRun<'a>,
}

impl HookRunner<'_> {
    fn request(
        &self,
        location: CheckLocation,
        scope: FileScope,
        fix_mode: FixMode,
    ) -> ValidationRequest<'_> {
        let started_by = match self.run.hook {
            CheckHook::PreCommit => RunTrigger::PreCommit,
            CheckHook::PrePush => RunTrigger::PrePush,
            _ => RunTrigger::Hook,
        };
        ValidationRequest {
            checks: self.checks,
            selection: self.selection,
            options: RunOptions::fast(fix_mode),
            location,
            scope,
            share: None,
            watched: None,
            shard: None,
            message: self.run.message.clone(),
            started_by,
            keeps_log: true,
            records_history: true,
            waits_for_lock: false,
            command: self.run.hook.name().to_owned(),
        }
    }

    fn check(&self, request: ValidationRequest<'_>) -> Result<ValidateReport> {
        let exported = match &request.location {
            CheckLocation::Exported(tree, _) => Some(tree.clone()),
            _ => None,
        };
        let report = |text: &str| print_hook_message(text);
        let mut done = run_checks(self.session, self.repo, request, false, &report)?;
        if let Some(tree) = exported {
            self.name_files_in_worktree(&mut done, &tree);
        }
        Ok(done)
    }

    /// Replaces paths of exported files, which an edit would be lost in, by those of the files in the worktree.
    fn name_files_in_worktree(&self, done: &mut ValidateReport, tree: &Path) {
        let folder = |path: &Path| format!("{}/", path.display());
        let (tree, root) = (folder(tree), folder(self.repo.root()));
        for check in &mut done.checks {
            check.output = check.output.replace(&tree, &root);
        }
    }

    /// Whether the checks are about the message alone: none reads files.
    fn is_about_message(&self) -> bool {
        let selected = self.checks.config.checks.iter().zip(self.selection);
        let mut selected = selected
            .filter(|(_, chosen)| matches!(chosen, CheckSelection::Yes | CheckSelection::For(_)));
        self.run.message.is_some()
            && selected.all(|(check, _)| check.files.is_none() && check.inputs.is_empty())
    }

    /// Runs the checks on a pushed commit, or on the files as they are.
    fn check_once(&self) -> Result<ValidateReport> {
        let HookContent::Commit(commit, paths) = &self.run.content else {
            return self.check(self.request(CheckLocation::Worktree, FileScope::All, FixMode::Off));
        };
        let tools = self.session.tools();
        let source = TreeSource::Commit(*commit);
        let (location, _lock) = staged_tree::prepare_location(self.repo, source, &tools, false)?;
        let scope = FileScope::pushed(paths.clone());
        self.check(self.request(location, scope, FixMode::Off))
    }

    /// Runs the checks on the staged state, again if it was edited in the worktree during the run. Stages what fixes with
    /// `restage` have changed; the inner error says why that is not possible.
    fn check_staged_state(
        &self,
        index: &Path,
        changes: Option<&[StagedChange]>,
    ) -> Result<Result<ValidateReport>> {
        let (repo, tools) = (self.repo, self.session.tools());
        let restages = self.run.hook == CheckHook::PreCommit
            && needs_export(&self.checks.config, self.selection);
        let source = || TreeSource::Index(index);
        let staged = match changes {
            Some(changes) => repo.list_committed_paths(index, changes)?,
            None => repo.list_staged_paths(index)?,
        };
        if self.is_about_message() {
            // Programs that read messages look for the repository.
            let scope = FileScope::staged(staged);
            return Ok(Ok(self.check(self.request(
                CheckLocation::Worktree,
                scope,
                FixMode::Off,
            ))?));
        }
        if restages {
            self.sweep_replaced_files(&staged);
        }
        if staged_tree::are_about_single_files(&self.checks.config, self.selection) {
            return self.check_single_files(index, &staged, restages);
        }
        let (mut location, mut _lock) =
            staged_tree::prepare_location(repo, source(), &tools, restages)?;
        loop {
            if let CheckLocation::Exported(tree, _) = &location
                && restages
            {
                let exported = tree.with_file_name("index");
                return self.check_and_fix(index, &staged, location, &exported);
            }
            let scope = FileScope::staged(staged.clone());
            let is_worktree = matches!(location, CheckLocation::Worktree);
            let done = self.check(self.request(location, scope, FixMode::Off))?;
            if !is_worktree || !done.ok {
                return Ok(Ok(done));
            }
            // If the worktree was edited during the run, the checked state is not the one that is committed.
            (location, _lock) = staged_tree::prepare_location(repo, source(), &tools, false)?;
            if matches!(location, CheckLocation::Worktree) {
                return Ok(Ok(done));
            }
        }
    }

    /// Like `check_staged_state`, for checks that look at nothing but the files that they are given: in the worktree if
    /// these are as staged there, and else, or if there is something to fix, exported alone.
    fn check_single_files(
        &self,
        index: &Path,
        staged: &ChangedPaths,
        restages: bool,
    ) -> Result<Result<ValidateReport>> {
        let (repo, tools) = (self.repo, self.session.tools());
        let is_as_staged = || repo.are_files_as_staged(index, &staged.present);
        if is_as_staged()? {
            let scope = FileScope::staged(staged.clone());
            let done = self.check(self.request(CheckLocation::Worktree, scope, FixMode::Off))?;
            let is_over = done.is_interrupted || done.ok || !restages;
            if is_over && is_as_staged()? {
                return Ok(Ok(done));
            }
        }
        let (location, _lock) = staged_tree::prepare_files(repo, index, &tools, &staged.present)?;
        if restages {
            return self.check_and_fix(index, staged, location, index);
        }
        let scope = FileScope::staged(staged.clone());
        self.check(self.request(location, scope, FixMode::Off)).map(Ok)
    }

    /// Runs the checks and fixes on exported files, whose index is `exported`, and stages what the fixes have changed.
    fn check_and_fix(
        &self,
        index: &Path,
        staged: &ChangedPaths,
        location: CheckLocation,
        exported: &Path,
    ) -> Result<Result<ValidateReport>> {
        let CheckLocation::Exported(tree, _) = &location else {
            return Err(Error::unable("fixes are staged from exported files alone"));
        };
        let tree = tree.clone();
        let entries = self.repo.read_index_at(exported)?;
        let before = StagedContents::read(&self.checks.config, staged, &tree, &entries);
        let scope = FileScope::staged(staged.clone());
        let done = self.check(self.request(location, scope, FixMode::Restage))?;
        if !done.ok || done.is_interrupted {
            return Ok(Ok(give_up_fixes(done)));
        }
        let fixed = before.collect_fixed(&done.checks, &tree).map_err(Error::negative);
        let staged = fixed.and_then(|fixed| {
            // Where files are exported alone, rules for files run, which change nothing else.
            if exported != index {
                self.refuse_other_changes(&tree, &done, &fixed)?;
            }
            self.stage_fixed(index, staged, &fixed)
        });
        Ok(staged.map(|()| done))
    }

    /// Removes what killed fixes have left beside staged files, and says where anything else of it is.
    fn sweep_replaced_files(&self, staged: &ChangedPaths) {
        let moved = self.repo.sweep_replaced_files(self.session.tools().disk, &staged.present);
        for (left, place) in moved {
            let (left, place) = (left.display(), place.display());
            print_hook_message(&format!("`{left}`, which a killed fix has left, is `{place}` now"));
        }
    }

    /// Returns an error if a check was fixed by changes that would not be part of the commit.
    fn refuse_other_changes(
        &self,
        tree: &Path,
        done: &ValidateReport,
        fixed: &[FixedFile],
    ) -> Result<()> {
        if !done.checks.iter().any(|check| check.outcome == CheckOutcome::Fixed) {
            return Ok(());
        }
        let folder = tree.parent().unwrap_or(tree);
        let changed = self.repo.list_export_changes(folder)?;
        let is_other = |path: &&RepoPath| !fixed.iter().any(|file| file.path == **path);
        match changed.iter().find(is_other) {
            None => Ok(()),
            Some(path) => Err(Error::negative(format!(
                "`{path}` was changed as well, which is not part of what is staged"
            ))
            .with_hint("a fix with `restage` may only change the files that its check is given")),
        }
    }

    /// Puts fixed files into the index that is being committed, and says what became of the files in the worktree.
    fn stage_fixed(&self, index: &Path, staged: &ChangedPaths, fixed: &[FixedFile]) -> Result<()> {
        if fixed.is_empty() {
            return Ok(());
        }
        let repo = self.repo;
        if repo.would_be_empty(index, staged, fixed)? {
            return Err(Error::negative(
                "the fixes undo all staged changes, so that nothing is left to commit",
            )
            .with_hint("`git commit --no-verify` commits them without the fixes"));
        }
        let indexes = repo.indexes_of_commit(index);
        let restaged = repo.restage_fixed(self.session.tools().disk, &indexes, fixed)?;
        let names: Vec<String> = fixed.iter().map(|file| file.path.to_string()).collect();
        print_hook_message(&format!("fixed and staged {}", join_names(&names, 5)));
        for (path, outcome) in restaged {
            match outcome {
                RestagedFile::Replaced | RestagedFile::Merged => {}
                RestagedFile::Conflict => print_hook_message(&format!(
                    "`{path}` was kept as it is: its unstaged changes overlap with the fix, which is committed"
                )),
                RestagedFile::Kept => print_hook_message(&format!(
                    "`{path}` was kept as it is: it is no file now, or was saved in the meantime; the fix is committed"
                )),
                RestagedFile::Failed(why) => print_hook_message(&format!(
                    "`{path}` was kept as it is: {why}; the fix is committed"
                )),
            }
        }
        Ok(())
    }
}
