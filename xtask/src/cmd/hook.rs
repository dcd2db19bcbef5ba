//! What git runs, by way of the shims: not a command for people, and not in `--help`.
//!
//! Ends with 0, or with 1 where a `pre-` hook refuses; anything else tells the shim that the program
//! is broken. What goes wrong is said in a line, and git goes on.

use std::ffi::OsString;
use std::io::Read;

#[cfg(feature = "checks")]
use super::commit_checks;
use super::session::{Session, check_format, tell};
use super::{DONE, Exit};
use crate::cli::{Color, Global};
use xtask_base::error::{Context as _, Error, Kind, Result};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_base::process::{self, Program};
use xtask_base::words::{count, some_of};
use xtask_base::world::World;
use xtask_git::{PUSHING, Repo};
use xtask_hooks::before_push::{Changed, before_push, changed_since, parse};
use xtask_hooks::program::link;
use xtask_hooks::{Hook, after, before_commit, behind, gates};
use xtask_report as report;
use xtask_review::finish::{self, Places, about, make, places};
use xtask_review::gh;
use xtask_review::queue::{self, Request, State};
use xtask_sync::context::{self, Context};
use xtask_upgrade::entries::{self, Entry};

/// The word with which the shims begin.
pub(super) const WORD: &str = "hook";

/// The variables of git's that `pre-commit` needs.
pub(super) const KEPT_VARIABLES: [&str; 3] = [INDEX, "GIT_DIR", "GIT_WORK_TREE"];

/// Where git says which index is being committed.
const INDEX: &str = "GIT_INDEX_FILE";

/// The word with which the end of a push is waited for.
const FINISH: &str = "finish-push";

/// Runs a hook: its name, the process of git, and what git gave it.
pub(super) fn run(world: World, args: &[OsString]) -> Exit {
    let text = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    let name = text(0).to_owned();
    let number: u32 = text(1).parse().unwrap_or(0);
    if name == FINISH {
        // Nobody listens: what there is to tell is kept for the next command.
        drop(finish_push(world, text(2), number));
        return Ok(DONE);
    }
    let Some(hook) = Hook::from_name(&name) else {
        return Err(Error::usage(format!("`{name}` is no hook of ours")));
    };
    if gates::shut_by_environment(&world).is_some() || gates::is_run_again(&world) {
        return Ok(DONE);
    }
    let done = Session::new(world, &silent()).and_then(|session| {
        // Whether it is ours comes before what there is to say of its state.
        let repo = Repo::of_hook(&session.world)?;
        if !is_ours(&session.world, &repo) {
            return Ok(DONE);
        }
        check_format(&repo)?;
        session.write_as_git_in(&repo);
        repo.allow_fetch();
        repo.share_at_the_end();
        let done = act(&session, &repo, hook, number, args.get(2..).unwrap_or_default());
        done.or_else(|failure| {
            let line = format!("{name} did nothing: {}", in_a_line(&failure));
            tell(&typable(&session, &repo, &line));
            Ok(DONE)
        })
    });
    done.or_else(|failure| {
        tell(&format!("{name} did nothing: {}", in_a_line(&failure)));
        Ok(DONE)
    })
}

/// A failure with as much of its why and its way out as goes into a line.
fn in_a_line(failure: &Error) -> String {
    let mut line = failure.to_string();
    match failure.details() {
        [] => {}
        [one] => line.push_str(&format!(" ({one})")),
        [first, ..] => line.push_str(&format!(" ({first}; `cargo xtask status` lists all)")),
    }
    if let Some(hint) = failure.hints().first() {
        line.push_str(&format!("; {}", hint.replace("`--", "`cargo xtask sync --")));
    }
    line.replace('\n', " ")
}

fn silent() -> Global {
    Global { directory: None, color: Color::Auto, quiet: false, verbose: false }
}

/// A line as it can be typed here: where the branch has no `cargo xtask`, by way of the program.
fn typable(session: &Session, repo: &Repo, line: &str) -> String {
    if !line.contains("cargo xtask") || is_member(repo) {
        return line.to_owned();
    }
    let program = link(repo);
    let program = program.strip_prefix(&session.world.cwd).unwrap_or(&program);
    line.replace("cargo xtask", &program.display().to_string())
}

/// Whether cargo finds the toolkit on this branch: it is there, and the workspace at the root names it.
fn is_member(repo: &Repo) -> bool {
    let text = std::fs::read_to_string(repo.root().join("Cargo.toml")).ok();
    repo.root().join(in_toolkit!("Cargo.toml")).is_file()
        && text.is_some_and(|text| entries::member(Some(&text), &[], NAME) == Entry::There)
}

/// Whether the repository around the working folder is the one in which this program is installed.
/// With `--git-dir` and `--work-tree` it may be another.
fn is_ours(world: &World, repo: &Repo) -> bool {
    let home = world.program.parent().filter(|folder| folder.ends_with("xtask/bin"));
    let Some(home) = home.and_then(|folder| folder.parent()?.parent()) else { return true };
    repo.common_folder().canonicalize().is_ok_and(|common| common == home)
}

fn act(session: &Session, repo: &Repo, hook: Hook, git: u32, args: &[OsString]) -> Exit {
    let tools = session.tools();
    match hook {
        // Git was told that these files are of this repository, and they are another's as well.
        _ if !hook.comes_before() && repo.lies_in_another() => {}
        Hook::PostCheckout | Hook::PostMerge | Hook::PostRewrite => {
            for line in after::after(repo, hook, args, &tools)? {
                tell(&typable(session, repo, &line));
            }
        }
        Hook::PostCommit => {
            if let Some(line) = behind::after_commit(repo, &tools)? {
                tell(&typable(session, repo, &line));
            }
        }
        Hook::PreCommit => {
            let index = session.world.env.get(&OsString::from(INDEX));
            let index =
                index.map_or_else(|| repo.index_file(), |file| session.world.cwd.join(file));
            let verdict = before_commit::before_commit(repo, &index, &tools)?;
            if !verdict.faults.is_empty() {
                return Ok(refuse("commit", "git commit --no-verify", &verdict.faults));
            }
            verdict.notes.iter().for_each(|note| tell(note));
            #[cfg(feature = "checks")]
            return commit_checks::run(session, repo, &index);
        }
        Hook::PrePush => return push(session, repo, git, args),
    }
    Ok(DONE)
}

/// Says why something is refused, if it is.
fn refuse(what: &str, way_round: &str, faults: &[String]) -> u8 {
    if faults.is_empty() {
        return DONE;
    }
    tell(&format!("the {what} was refused:"));
    for fault in faults {
        report::hook_line(&format!("  {fault}"));
    }
    tell(&format!("`{way_round}` does it all the same"));
    Kind::No.code()
}

fn push(session: &Session, repo: &Repo, git: u32, args: &[OsString]) -> Exit {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unable(|| "git's list of refs cannot be read")?;
    let refs = parse(&String::from_utf8_lossy(&input));
    if refs.is_empty() {
        return Ok(DONE);
    }
    let verdict = before_push(repo, &refs, &session.tools())?;
    verdict.notes.iter().for_each(|note| tell(&typable(session, repo, note)));
    if !verdict.faults.is_empty() {
        return Ok(refuse("push", "git push --no-verify", &verdict.faults));
    }
    let Some(context) = verdict.context else { return Ok(DONE) };
    let remote = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    let places = places(repo, &context, remote);
    for changed in &verdict.changed {
        notice(session, repo, &context, remote, git, places.as_ref(), changed);
    }
    Ok(DONE)
}

/// Says what becomes of the managed files of a branch, and sees to it.
fn notice(
    session: &Session,
    repo: &Repo,
    context: &Context,
    remote: &str,
    git: u32,
    places: Option<&Places>,
    changed: &Changed,
) {
    let Changed { branch, commit, paths } = changed;
    let canonical = &context.config.branch;
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    tell(&format!(
        "`{branch}` changes {} against `{canonical}`: {}",
        count(paths.len(), "managed file"),
        some_of(&names, 5)
    ));
    let Some(places) = places else {
        tell(&if repo.push_url(remote).is_some() {
            format!(
                "the address of the remote does not tell where a pull request into `{canonical}` \
                 is opened; `forge` in `setup/sync.toml` can say which service it is"
            )
        } else {
            format!("they reach other branches once they are on `{canonical}`")
        });
        return;
    };
    let url = places.compare_url(context, branch);
    if !places.is_github() {
        tell(&format!("to bring it to all branches, open a pull request: {url}"));
        return;
    }
    if !gh::is_installed(&session.world) {
        tell(&format!("`gh` is not installed; open a pull request: {url}"));
        return;
    }
    if !repo.has_remote(remote) {
        // There is nothing by which to see that the push has arrived.
        tell(&format!("to bring it to all branches, open a pull request: {url}"));
        return;
    }
    let request = Request {
        remote: remote.to_owned(),
        branch: branch.clone(),
        commit: commit.to_string(),
        compare_url: Some(url.clone()),
        asked: session.world.now_seconds(),
        state: State::Waiting,
    };
    let put = queue::put(repo, session.tools().disk, &request);
    if session.world.says_yes(PUSHING) && put.is_ok() {
        // Whoever pushes makes the request.
        return;
    }
    let queued = put.and_then(|()| start_finishing(session, repo, &request.key(), git));
    match queued {
        Ok(()) => tell(&format!(
            "its draft pull request is opened or updated once the push has arrived; by hand: {url}"
        )),
        Err(failure) => tell(&format!("{failure}; open a pull request: {url}")),
    }
}

fn start_finishing(session: &Session, repo: &Repo, key: &str, git: u32) -> Result<()> {
    let args = [WORD, FINISH, &git.to_string(), key];
    Program::run_detached(&session.world.program, repo.root(), &args)
}

/// Waits for a push to end, and makes the pull request.
fn finish_push(world: World, key: &str, git: u32) -> Result<()> {
    process::leave_session();
    let session = Session::new(world, &silent())?;
    let repo = session.repo()?;
    let make = |request: &Request| {
        let Some(context) = context::of_canonical(&repo)? else { return Ok(None) };
        let Some(changed) = changes_of(&repo, &context, request)? else { return Ok(None) };
        let places = places(&repo, &context, &request.remote);
        let about = about(&repo, &context, &changed.branch, changed.commit, &changed.paths)?;
        Ok(Some(make(&repo, &session.world, places.as_ref(), &about)))
    };
    finish::finish(&repo, session.tools().disk, key, git, &make)
}

/// What a branch that has arrived changes; nothing where that has become canonical meanwhile.
fn changes_of(repo: &Repo, context: &Context, request: &Request) -> Result<Option<Changed>> {
    let commit = &request.commit;
    let line = format!("HEAD {commit} refs/heads/{} {}", request.branch, repo.null_id());
    Ok(changed_since(repo, context, &parse(&line))?.pop())
}
