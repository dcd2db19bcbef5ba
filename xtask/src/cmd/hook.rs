//! `hook`: the internal command that the shims in git's hooks folder run.
//!
//! It exits with 0, or with 1 if a `pre-` hook refuses; the shim takes any other code for a broken program. Errors
//! are printed in one line, and git goes on. For example, `hook pre-push 4711 origin …` checks a push of the git
//! process 4711.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

#[cfg(feature = "checks")]
use super::change_notices::list_notices;
#[cfg(feature = "checks")]
use super::hook_checks::{self, HookContent, HookRun};
use super::session::{Session, check_format, print_hook_message};
use super::{CommandResult, SUCCESS};
use crate::cli::{Color, GlobalArgs};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_base::process::{self, Program};
use xtask_base::words::{join_names, pluralize, quote_for_shell};
#[cfg(feature = "checks")]
use xtask_config::CheckHook;
#[cfg(feature = "checks")]
use xtask_git::StagedChange;
use xtask_git::{PUSHING, Repo};
#[cfg(feature = "checks")]
use xtask_hooks::pre_push::PushedRef;
use xtask_hooks::pre_push::{
    ChangedBranch, check_push_in_hook, find_changed_branches, parse_pushed_refs,
};
use xtask_hooks::program::program_link;
use xtask_hooks::{Hook, post_checkout, post_commit, pre_commit, skip_rules};
use xtask_report as report;
use xtask_review::after_push::{
    self, RequestProjects, build_pull_request, find_projects, open_pull_request,
};
use xtask_review::gh;
use xtask_review::queue::{self, QueuedRequest, RequestState};
use xtask_sync::context::{self, SyncContext};
use xtask_upgrade::cargo_entries::{self, CargoEdit};

/// The name of the command.
pub(super) const WORD: &str = "hook";

/// The variables of git that `pre-commit` needs.
pub(super) const KEPT_VARIABLES: [&str; 3] = [INDEX_VARIABLE, "GIT_DIR", "GIT_WORK_TREE"];

/// The variable in which git passes the index that is being committed.
const INDEX_VARIABLE: &str = "GIT_INDEX_FILE";

/// The argument that waits for the end of a push, instead of the name of a hook.
const FINISH_PUSH: &str = "finish-push";

/// Runs a hook. `args` are its name, the process ID of git, and the arguments that git passed.
pub(super) fn run(world: Environment, args: &[OsString]) -> CommandResult {
    let text = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    let name = text(0).to_owned();
    let number: u32 = text(1).parse().unwrap_or(0);
    if name == FINISH_PUSH {
        // This process has no terminal: the result is stored for the next command to print.
        drop(finish_push(world, text(2), number));
        return Ok(SUCCESS);
    }
    let Some(hook) = Hook::from_name(&name) else {
        return Err(Error::usage(format!("unknown hook `{name}`")));
    };
    if skip_rules::find_disabling_variable(&world).is_some() || skip_rules::is_nested_run(&world) {
        return Ok(SUCCESS);
    }
    let done = Session::new(world, &default_global_args()).and_then(|session| {
        // Ownership comes first: the state format of another repository does not matter.
        let repo = Repo::discover_for_hook(&session.world)?;
        if !is_own_repo(&session.world, &repo) {
            return Ok(SUCCESS);
        }
        check_format(&repo)?;
        session.apply_fsync_setting(&repo);
        repo.allow_fetch();
        repo.schedule_sharing();
        let done = dispatch_hook(&session, &repo, hook, number, args.get(2..).unwrap_or_default());
        done.or_else(|failure| {
            let line = format!("{name} hook skipped: {}", error_line(&failure));
            print_hook_message(&substitute_program(&repo, &line));
            Ok(SUCCESS)
        })
    });
    done.or_else(|failure| {
        print_hook_message(&format!("{name} hook skipped: {}", error_line(&failure)));
        Ok(SUCCESS)
    })
}

/// Returns a failure in one line, with its first detail and first hint.
fn error_line(failure: &Error) -> String {
    let mut line = failure.to_string();
    match failure.details() {
        [] => {}
        [one] => line.push_str(&format!(" ({one})")),
        [first, ..] => line.push_str(&format!(" ({first}; `cargo xtask status` lists all)")),
    }
    if let Some(hint) = failure.hints().first() {
        line.push_str(&format!("; {hint}"));
    }
    line.replace('\n', " ")
}

fn default_global_args() -> GlobalArgs {
    GlobalArgs { directory: None, color: Color::Auto, quiet: false, verbose: false }
}

/// Returns `line` with the path of the installed program in place of `cargo xtask`, if the branch has no `cargo
/// xtask`.
fn substitute_program(repo: &Repo, line: &str) -> String {
    if !line.contains("cargo xtask") || is_workspace_member(repo) {
        return line.to_owned();
    }
    // In full, so that it works from every folder and worktree.
    let program = quote_for_shell(&program_link(repo).display().to_string());
    line.replace("cargo xtask", &program)
}

/// Returns whether `cargo xtask` works on this branch: the toolkit exists and the root workspace has it as a member.
fn is_workspace_member(repo: &Repo) -> bool {
    let text = std::fs::read_to_string(repo.root().join("Cargo.toml")).ok();
    repo.root().join(in_toolkit!("Cargo.toml")).is_file()
        && text.is_some_and(|text| {
            cargo_entries::add_workspace_member(Some(&text), &[], NAME) == CargoEdit::UpToDate
        })
}

/// Returns whether this program is installed in the repository of the working folder. With `--git-dir` and
/// `--work-tree` that may be another repository.
fn is_own_repo(world: &Environment, repo: &Repo) -> bool {
    let home = world.program.parent().filter(|folder| folder.ends_with("xtask/bin"));
    let Some(home) = home.and_then(|folder| folder.parent()?.parent()) else { return true };
    repo.common_folder().canonicalize().is_ok_and(|common| common == home)
}

fn dispatch_hook(
    session: &Session,
    repo: &Repo,
    hook: Hook,
    git: u32,
    args: &[OsString],
) -> CommandResult {
    let tools = session.tools();
    match hook {
        // The worktree also belongs to another repository, so its files are not synced.
        _ if !hook.can_block() && repo.is_in_another_repo() => {}
        Hook::PostCheckout | Hook::PostMerge | Hook::PostRewrite => {
            for line in post_checkout::sync_after_hook(repo, hook, args, &tools)? {
                print_hook_message(&substitute_program(repo, &line));
            }
            #[cfg(feature = "checks")]
            for line in list_notices(repo, hook, args, session.world.now_seconds())? {
                print_hook_message(&substitute_program(repo, &line));
            }
        }
        Hook::PostCommit => {
            if let Some(line) = post_commit::report_after_commit(repo, &tools)? {
                print_hook_message(&substitute_program(repo, &line));
            }
        }
        Hook::PreCommit => {
            let index = committed_index(session, repo);
            let verdict = pre_commit::check_staged(repo, &index, &tools)?;
            if !verdict.faults.is_empty() {
                return Ok(print_refusal("commit", "git commit --no-verify", &verdict.faults));
            }
            verdict.notes.iter().for_each(|note| print_hook_message(note));
            #[cfg(feature = "checks")]
            return run_commit_checks(session, repo, CheckHook::PreCommit, args, verdict.changes);
        }
        #[cfg(feature = "checks")]
        Hook::PreMergeCommit => {
            return run_commit_checks(session, repo, CheckHook::PreMergeCommit, args, None);
        }
        #[cfg(feature = "checks")]
        Hook::PrepareCommitMsg => {
            return run_commit_checks(session, repo, CheckHook::PrepareCommitMsg, args, None);
        }
        #[cfg(feature = "checks")]
        Hook::CommitMsg => {
            return run_commit_checks(session, repo, CheckHook::CommitMsg, args, None);
        }
        #[cfg(feature = "checks")]
        Hook::PreRebase => {
            let content = HookContent::Worktree;
            let run = HookRun { hook: CheckHook::PreRebase, content, message: None };
            return hook_checks::run(session, repo, &run);
        }
        #[cfg(not(feature = "checks"))]
        Hook::PreMergeCommit | Hook::PrepareCommitMsg | Hook::CommitMsg | Hook::PreRebase => {}
        Hook::PrePush => return handle_pre_push(session, repo, git, args),
    }
    Ok(SUCCESS)
}

/// Returns the index that is being committed.
fn committed_index(session: &Session, repo: &Repo) -> PathBuf {
    let index = session.world.variables.get(&OsString::from(INDEX_VARIABLE));
    index.map_or_else(|| repo.index_file(), |file| session.world.cwd.join(file))
}

#[cfg(feature = "checks")]
/// Runs the checks of a hook that is about a commit; the first of `args` is the file with its message, if it has one.
fn run_commit_checks(
    session: &Session,
    repo: &Repo,
    hook: CheckHook,
    args: &[OsString],
    changes: Option<Vec<StagedChange>>,
) -> CommandResult {
    let index = committed_index(session, repo);
    let message = args.first().filter(|_| hook.has_message());
    let message = message.map(|file| session.world.cwd.join(file));
    let run = HookRun { hook, content: HookContent::Index(&index, changes), message };
    hook_checks::run(session, repo, &run)
}

#[cfg(feature = "checks")]
/// Runs the checks of `pre-push` on each commit that a branch or tag gets, once.
fn run_push_checks(
    session: &Session,
    repo: &Repo,
    remote: &str,
    refs: &[PushedRef],
) -> CommandResult {
    let mut seen = Vec::new();
    for pushed in refs {
        let Some(commit) = pushed.new.filter(|commit| !seen.contains(commit)) else { continue };
        seen.push(commit);
        // A tag of something else than a commit has no files to check.
        if repo.read_commit(commit).is_err() {
            continue;
        }
        let paths = repo.list_pushed_paths(remote, pushed.old, commit)?;
        let content = HookContent::Commit(commit, paths);
        let run = HookRun { hook: CheckHook::PrePush, content, message: None };
        let done = hook_checks::run(session, repo, &run)?;
        if done != SUCCESS {
            return Ok(done);
        }
    }
    Ok(SUCCESS)
}

/// Prints why a commit or push is refused. Returns exit code 1, or 0 if there are no `faults`.
fn print_refusal(what: &str, way_round: &str, faults: &[String]) -> u8 {
    if faults.is_empty() {
        return SUCCESS;
    }
    print_hook_message(&format!("{what} refused:"));
    for fault in faults {
        report::print_hook_line(&format!("  {fault}"));
    }
    print_hook_message(&format!("`{way_round}` skips the hooks"));
    ErrorKind::Negative.exit_code()
}

fn handle_pre_push(session: &Session, repo: &Repo, git: u32, args: &[OsString]) -> CommandResult {
    let mut input = Vec::new();
    std::io::stdin()
        .read_to_end(&mut input)
        .with_context(|| "cannot read the list of refs from git")?;
    let refs = parse_pushed_refs(&String::from_utf8_lossy(&input));
    if refs.is_empty() {
        return Ok(SUCCESS);
    }
    let verdict = check_push_in_hook(repo, &refs, &session.tools())?;
    verdict.notes.iter().for_each(|note| print_hook_message(&substitute_program(repo, note)));
    if !verdict.faults.is_empty() {
        return Ok(print_refusal("push", "git push --no-verify", &verdict.faults));
    }
    let remote = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    #[cfg(feature = "checks")]
    {
        let done = run_push_checks(session, repo, remote, &refs)?;
        if done != SUCCESS {
            return Ok(done);
        }
    }
    let Some(context) = verdict.context else { return Ok(SUCCESS) };
    let places = find_projects(repo, &context, remote);
    for changed in &verdict.changed_branches {
        announce_changes(session, repo, &context, remote, git, places.as_ref(), changed);
    }
    Ok(SUCCESS)
}

/// Prints that a pushed branch changes managed files, and queues its pull request.
fn announce_changes(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    remote: &str,
    git: u32,
    places: Option<&RequestProjects>,
    changed: &ChangedBranch,
) {
    let ChangedBranch { branch, commit, managed_paths: paths } = changed;
    let canonical = &context.config.branch;
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    print_hook_message(&format!(
        "`{branch}` changes {} against `{canonical}`: {}",
        pluralize(paths.len(), "managed file"),
        join_names(&names, 5)
    ));
    let Some(places) = places else {
        print_hook_message(&if repo.push_url(remote).is_some() {
            format!(
                "cannot derive the pull request URL for `{canonical}` from the URL of the remote; \
                 set `forge` in `setup/sync.toml` to the hosting service"
            )
        } else {
            format!("other branches get these changes once they are merged into `{canonical}`")
        });
        return;
    };
    let url = places.compare_url(context, branch);
    if !places.is_github() {
        print_hook_message(&format!(
            "to share the change with all branches, open a pull request: {url}"
        ));
        return;
    }
    if !gh::is_installed(&session.world) {
        print_hook_message(&format!("`gh` is not installed; open a pull request: {url}"));
        return;
    }
    if !repo.has_remote(remote) {
        // Without a remote-tracking ref there is no way to see that the push has arrived.
        print_hook_message(&format!(
            "to share the change with all branches, open a pull request: {url}"
        ));
        return;
    }
    let request = QueuedRequest {
        remote: remote.to_owned(),
        branch: branch.clone(),
        commit: commit.to_string(),
        compare_url: Some(url.clone()),
        asked: session.world.now_seconds(),
        state: RequestState::Waiting,
    };
    let put = queue::write_request(repo, session.tools().disk, &request);
    if session.world.is_truthy(PUSHING) && put.is_ok() {
        // `cargo xtask push` opens the pull request itself.
        return;
    }
    let queued = put.and_then(|()| spawn_push_finisher(session, repo, &request.key(), git));
    match queued {
        Ok(()) => print_hook_message(&format!(
            "its draft pull request is opened or updated after the push; manually: {url}"
        )),
        Err(failure) => print_hook_message(&format!("{failure}; open a pull request: {url}")),
    }
}

fn spawn_push_finisher(session: &Session, repo: &Repo, key: &str, git: u32) -> Result<()> {
    let args = [WORD, FINISH_PUSH, &git.to_string(), key];
    Program::run_detached(&session.world.program, repo.root(), &args)
}

/// Waits for the push to end, and opens or updates the pull request.
fn finish_push(world: Environment, key: &str, git: u32) -> Result<()> {
    process::leave_session();
    let session = Session::new(world, &default_global_args())?;
    let repo = session.open_repo()?;
    let now = session.world.now_seconds();
    let make = |request: &QueuedRequest| {
        let Some(context) = context::find_canonical_context(&repo)? else { return Ok(None) };
        let Some(changed) = find_branch_changes(&repo, &context, request, now)? else {
            return Ok(None);
        };
        let places = find_projects(&repo, &context, &request.remote);
        let about = build_pull_request(
            &repo,
            &context,
            &changed.branch,
            changed.commit,
            &changed.managed_paths,
        )?;
        Ok(Some(open_pull_request(&repo, &session.world, places.as_ref(), &about)))
    };
    after_push::finish_push(&repo, session.tools().disk, key, git, &make)
}

/// Returns the changes of a pushed branch, or `None` if they have become canonical since.
fn find_branch_changes(
    repo: &Repo,
    context: &SyncContext,
    request: &QueuedRequest,
    now: i64,
) -> Result<Option<ChangedBranch>> {
    let commit = &request.commit;
    let line = format!("HEAD {commit} refs/heads/{} {}", request.branch, repo.null_id());
    Ok(find_changed_branches(repo, context, &parse_pushed_refs(&line), now)?.pop())
}
