//! What people read, whole: a change of a word is one difference here to look at. `UPDATE_EXPECT=1 cargo xtest
//! snapshots` writes the files of `snapshots/` anew. Other tests ask for what a command does, and for words
//! only where no transcript shows them.

use std::fs;

use clap::CommandFactory;
use xtask::cli::Cli;

use crate::services_nasty::{Stack, cue, service};
use crate::testkit::{Lab, Place, Transcript, port, snapshot};
use crate::wrong_hits::wait_for;

fn show(name: &str, transcript: &Transcript<'_>) {
    snapshot(name).assert_eq(&transcript.text());
}

/// A branch with a path of every class, and a canonical branch that has gone on.
fn drifted(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.write("setup/gone", "gone\n");
    repo.write("setup/own", "1\n");
    repo.write("setup/edited", "1\n");
    repo.commit("more set-up");
    repo.git(&["branch", "--force", "orchestration-tools"]);
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("setup/own", "customised\n");
    repo.commit("of our own");
    repo.canonical(&[
        ("setup/a", Some("a2\n")),
        ("setup/own", Some("2\n")),
        ("setup/edited", Some("2\n")),
        ("setup/gone", None),
        ("setup/new", Some("new\n")),
        ("setup/there", Some("new\n")),
    ]);
    repo.write("setup/edited", "not saved\n");
    repo.write("setup/there", "not tracked\n");
    repo
}

#[test]
fn help_output_matches_snapshot() {
    let lab = Lab::new();
    let place = lab.place("");
    let mut shown = Transcript::new(&place);
    let root = Cli::command();
    shown.xtask(&["-h"]).xtask(&["--help"]);
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        shown.xtask(&[name, "--help"]);
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            shown.xtask(&[name, below.get_name(), "--help"]);
        }
    }
    show("help.txt", &shown);
}

#[test]
fn sync_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = drifted(&lab);
    let mut shown = Transcript::new(&repo);
    shown.xtask(&["sync", "--check"]).xtask(&["sync", "--check", "--strict"]);
    shown.xtask(&["sync", "--dry-run"]).xtask(&["diff", "setup/a"]);
    shown.xtask(&["sync"]).xtask(&["sync", "-v"]).xtask(&["sync"]);
    shown.xtask(&["sync", "--merge"]).xtask(&["why", "setup/own"]).xtask(&["why", "setup/a"]);
    shown.xtask(&["why", "src/app"]).xtask(&["sync", "--force", "setup/edited"]);
    shown.xtask(&["undo", "--list"]).xtask(&["undo"]).xtask(&["undo"]);
    shown.note("Files alone, without a commit");
    repo.git(&["checkout", "--quiet", "--", "setup"]);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    shown.xtask(&["sync", "--no-commit"]).xtask(&["status"]).xtask(&["switch", "main"]);
    shown.note("A branch that is protected");
    shown.xtask(&["sync"]).xtask(&["sync", "--allow-protected"]).xtask(&["sync", "--json"]);
    shown.note("More than half of the managed files at once");
    let gone = ["a", "b", "edited", "new", "own", "there"].map(|name| format!("setup/{name}"));
    repo.canonical(&gone.each_ref().map(|name| (&name[..], None)));
    shown.xtask(&["sync", "--allow-protected"]);
    show("sync.txt", &shown);
}

#[test]
fn status_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = drifted(&lab);
    let mut shown = Transcript::new(&repo);
    shown.xtask(&["status"]);
    repo.git(&["worktree", "add", "--quiet", lab.path("linked").as_str(), "main"]);
    lab.place("linked").write("setup/a", "not saved\n");
    repo.git(&["branch", "idle", "main"]);
    shown.xtask(&["status", "--all"]).xtask(&["status", "--json"]);
    shown.note("A detached HEAD, a rebase, no canonical branch");
    repo.git(&["switch", "--quiet", "--detach"]);
    shown.xtask(&["status"]);
    repo.git(&["branch", "-D", "--quiet", "orchestration-tools"]);
    shown.xtask(&["status"]);
    show("status.txt", &shown);
}

#[test]
fn hooks_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = lab.repo();
    let mut shown = Transcript::new(&repo);
    shown.xtask(&["hooks", "status"]).xtask(&["install-hooks"]);
    repo.write_executable(".git/hooks/pre-commit", "#!/bin/sh\nexit 0\n");
    let ran = repo.install_hooks();
    shown.add("cargo xtask install-hooks --this-program", &ran);
    shown.xtask(&["hooks", "status"]).xtask(&["hooks", "disable", "--for", "2h"]);
    shown.xtask(&["hooks", "status"]).xtask(&["hooks", "enable"]);
    shown.note("What git is told, and people with it");
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    shown.git(&["switch", "-c", "feature"]);
    repo.write("src/app", "<<<<<<< ours\n=======\n>>>>>>> theirs\n");
    repo.git(&["add", "src/app"]);
    shown.git(&["commit", "-m", "conflict"]);
    repo.write("src/app", "fine\n");
    repo.write("setup/b", "managed\n");
    repo.git(&["add", "--all"]);
    shown.git(&["commit", "--quiet", "-m", "something managed"]);
    repo.git(&["switch", "--quiet", "main"]);
    repo.write("src/app", "on a protected branch\n");
    shown.git(&["commit", "--quiet", "-am", "protected"]);
    repo.git(&["checkout", "--quiet", "--", "."]);
    repo.git(&["switch", "--quiet", "orchestration-tools"]);
    repo.write("setup/a", "a3\n");
    shown.git(&["commit", "--quiet", "-am", "a change for everybody"]);
    shown.xtask(&["uninstall-hooks"]).xtask(&["hooks", "status"]);
    show("hooks.txt", &shown);
}

const CHECKS: &str = "[phase.environment]\ngate = true\n[phase.quality]\n\
    [[check]]\nname = 'git'\nphase = 'environment'\ntool = 'git'\nversion = '>=2.38'\n\
    [[check]]\nname = 'good'\nphase = 'quality'\nrun = '/bin/grep -q good src/input'\ninputs = ['src/**']\n\
    [[check]]\nname = 'bad'\nphase = 'quality'\nshell = true\nrun = 'echo src/app:1: it is wrong; exit 1'\n\
    [[check]]\nname = 'needs-bad'\nphase = 'quality'\nrun = '/bin/true'\nneeds = ['bad']\n\
    [[check]]\nname = 'fixed'\nphase = 'quality'\nrun = '/bin/grep -q good src/out'\n\
    fix = { run = '/bin/cp src/input src/out', risk = 'safe', writes = ['src/out'] }\n\
    [[check]]\nname = 'advice'\nphase = 'quality'\nrun = '/bin/false'\n\
    fix = { run = '/bin/rm -r src', risk = 'risky' }\n\
    [[check]]\nname = 'slow'\nphase = 'quality'\ntests = true\nrun = '/bin/true'\n";

#[test]
fn validate_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = crate::wrong_hits::scene(&lab, CHECKS);
    repo.write("src/out", "broken\n");
    let mut shown = Transcript::new(&repo);
    shown.xtask(&["validate", "--list"]).xtask(&["validate", "--dry-run"]);
    // One at a time, so that the order of lines is one.
    shown.xtask(&["validate", "--jobs", "1"]).xtask(&["validate", "--undo", "last"]);
    shown.xtask(&["validate", "--jobs", "1", "--fast", "--no-fix", "--skip-tests", "--why"]);
    shown.xtask(&["validate", "--fast", "--only", "good"]);
    shown.xtask(&["validate", "--only", "git", "--json"]).xtask(&["status"]);
    shown.note("Faults are told together");
    repo.write(
        "setup/validate.toml",
        "disk-fre-min = '1 GB'\n[[check]]\nname = 'a'\nphase = 'b'\n\
         [[check]]\nname = 'a'\ntool = 'git'\nrun = 'x'\nneeds = ['c']\nttl = 'soon'\n",
    );
    shown.xtask(&["validate"]).xtask(&["validate", "--only", "nobody"]);
    show("validate.txt", &shown);
}

#[test]
fn services_output_matches_snapshot() {
    let lab = Lab::new();
    let (api, web) = (port(), port());
    let more = "ready = { tcp = true }\nstop = { timeout = '60ms' }\nrestart = { max = 0, within = '60s' }";
    let layer = service(&lab, "api", "well", api, more)
        + &service(&lab, "web", "well", web, &format!("{more}\nneeds = ['api']"));
    let stack = Stack::new(&lab, &layer);
    let mut shown = Transcript::new(&stack.repo);
    shown.name(api, "API").name(web, "WEB");
    shown.name(std::env::current_exe().unwrap().display(), "$TESTS");
    shown.xtask(&["ps"]).xtask(&["stop"]).xtask(&["start", "--dry-run"]).xtask(&["start"]);
    shown
        .xtask(&["start"])
        .xtask(&["start", "--verify"])
        .xtask(&["stop", "web"])
        .xtask(&["restart", "api"]);
    cue(&lab, "api", "crash", true);
    wait_for("the end of it", || stack.state("api") == "failed");
    shown.xtask(&["logs", "api", "-n", "2"]).xtask(&["status"]).xtask(&["stop"]);
    shown.xtask(&["ps", "nobody"]).xtask(&["start", "ap"]).xtask(&["start", "--layer", "nowhere"]);
    shown.note("Faults are told together");
    stack.repo.write(
        "deployment/local.toml",
        "[service.a]\nrun = 'x'\nport = 70000\nneeds = ['b', 'c']\n[service.b]\nrun = ''\nneeds = ['a']\nprot = 1\n",
    );
    shown.xtask(&["start"]);
    let text = shown.text();
    snapshot("services.txt").assert_eq(&text);
}

#[test]
fn propagate_extract_promote_and_reverse_sync_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = lab.repo();
    for branch in ["plain", "work", "own"] {
        repo.git(&["branch", branch]);
    }
    repo.on_branch("work", |place| place.write("setup/tool", "of the branch\n"));
    repo.on_branch("own", |place| place.write("setup/b", "customised\n"));
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", Some("b2\n"))]);
    repo.git(&["switch", "--quiet", "--detach"]);
    let mut shown = Transcript::new(&repo);
    shown.xtask(&["propagate", "--dry-run"]).xtask(&["propagate", "plain", "own", "work"]);
    shown.xtask(&["propagate"]).xtask(&["propagate", "--json"]).xtask(&["propagate", "nobody/*"]);
    shown.note("From a branch to the canonical one");
    shown
        .xtask(&["extract", "work", "--dry-run"])
        .xtask(&["extract", "work"])
        .xtask(&["extract", "work"]);
    shown
        .xtask(&["status"])
        .xtask(&["promote", "--dry-run"])
        .xtask(&["promote", "--yes"])
        .xtask(&["promote"]);
    shown.xtask(&["reverse-sync", "own", "own", "--dry-run"]).xtask(&[
        "reverse-sync",
        "own",
        "own",
        "--yes",
    ]);
    shown.xtask(&["reverse-sync", "own", "nonsense"]).xtask(&["extract", "plain"]);
    show("branches.txt", &shown);
}

#[test]
fn recovery_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("src/app", "unsaved\n");
    repo.write("src/new", "untracked\n");
    let mut shown = Transcript::new(&repo);
    shown
        .xtask(&["backup", "--list"])
        .xtask(&["backup", "--label", "before lunch"])
        .xtask(&["backup", "--list"]);
    repo.git(&["checkout", "--quiet", "--", "."]);
    fs::remove_file(repo.dir.join("src/new")).unwrap();
    let id = crate::recovery::backups(&repo).remove(0);
    shown.xtask(&["restore", &id]).xtask(&["restore", &id]).xtask(&["restore", "nonsense"]);
    shown.xtask(&["recover", "--dry-run"]).xtask(&["recover", "git", "--yes"]).xtask(&["recover"]);
    show("recovery.txt", &shown);
}

#[test]
fn error_output_matches_snapshot() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let mut shown = Transcript::new(&repo);
    shown.note("Wrong usage");
    shown.xtask(&["snyc"]).xtask(&["sync", "--forec"]).xtask(&["sync", "--force", "--merge"]);
    shown
        .xtask(&["sync", "src/app"])
        .xtask(&["sync", "../elsewhere"])
        .xtask(&["sync", "setup/never"]);
    shown.xtask(&["-C", "nowhere", "sync"]).xtask(&["undo", "nonsense"]).xtask(&["undo"]);
    shown.xtask(&["switch", "nobody"]).xtask(&["run", "src/app"]).xtask(&["run", "setup/a"]);
    shown.xtask(&["deploy", "local"]).xtask(&["history", "nowhere"]).xtask(&["rollback", "local"]);
    shown.xtask(&["branch", "new", "Bad Name"]).xtask(&["branch", "check", "nobody"]);
    shown.xtask(&["upgrade"]).xtask(&["vendor", "nowhere"]).xtask(&["completions", "tcsh"]);
    shown.note("Wrong configuration, on the canonical branch");
    repo.canonical(&[(
        "setup/sync.toml",
        Some("[canonical]\nbranhc = 'x'\n[managed]\ninclude = 3\n[hooks]\nmode = 'sometimes'\n"),
    )]);
    shown.xtask(&["sync"]).xtask(&["status"]);
    repo.canonical(&[("setup/sync.toml", None)]);
    repo.canonical(&[(
        "setup/branches.toml",
        Some("protected = 'main'\n[[rule]]\nmatch = ''\nmax-age = 'old'\n"),
    )]);
    shown.xtask(&["sync"]);
    repo.canonical(&[("setup/branches.toml", None)]);
    shown.note("Somebody else is at work");
    repo.write(".git/index.lock", "");
    shown.xtask(&["sync"]);
    repo.remove(".git/index.lock");
    shown.note("In the middle of a merge");
    repo.write(".git/MERGE_HEAD", format!("{}\n", repo.head()));
    shown.xtask(&["sync"]).xtask(&["status"]);
    repo.remove(".git/MERGE_HEAD");
    shown.note("A damaged journal, an object that is gone");
    repo.write(".git/xtask/journal", "xtask.journal/1\nnonsense\n{}");
    shown.xtask(&["sync"]).xtask(&["status"]);
    repo.remove(".git/xtask/journal");
    let blob = repo.id("orchestration-tools:setup/a");
    repo.remove(&format!(".git/objects/{}/{}", &blob[..2], &blob[2..]));
    shown.xtask(&["sync"]);
    shown.note("No canonical branch; no commit; no repository");
    repo.git(&["branch", "--quiet", "-D", "orchestration-tools"]);
    shown.xtask(&["sync"]).xtask(&["propagate"]).xtask(&["extract"]);
    repo.git(&["switch", "--quiet", "--orphan", "unborn"]);
    shown.xtask(&["sync"]).xtask(&["setup"]);
    fs::rename(repo.dir.join(".git"), lab.path("away")).unwrap();
    shown.xtask(&["sync"]);
    show("errors.txt", &shown);
}
