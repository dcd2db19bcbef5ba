//! `kill -9` of the real program in mid-write.
//!
//! A smudge filter makes the program stop at a chosen file: it announces itself and waits until it
//! is told to go on, or for ever. So the kill comes at a known place, without any waiting for time.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::process::{Command, Stdio};

use crate::testkit::{Lab, Place, program, spawn, trace, write_script};

/// Files that are written: more than enough to stop in the middle of.
const FILES: usize = 12;

fn scene(lab: &Lab, linked: bool) -> Place<'_> {
    let repo = lab.repo();
    let place = if linked {
        let dir = lab.path("linked");
        repo.git(&["worktree", "add", "--quiet", "--detach", dir.as_str()]);
        lab.place("linked")
    } else {
        repo.clone()
    };
    place.git(&["switch", "--quiet", "-c", "feature"]);
    place.in_worktree("orchestration-tools", |other| {
        other.write("setup/.gitattributes", "* filter=slow\n");
        for number in 0..FILES {
            other.write(&format!("setup/many/{number:02}"), format!("{number}\n"));
        }
        other.write("setup/a", "a2\n");
        other.remove("setup/b");
    });
    place.write("src/app", "unsaved\n");
    place.write("src/staged", "staged\n");
    place.git(&["add", "src/staged"]);
    place
}

/// Starts a sync, and kills it when it has asked for the `at`-th file to be filtered.
fn kill_at(place: &Place<'_>, at: usize) {
    let pipe = place.lab.path(&format!("pipe-{at}"));
    let made = place.run("mkfifo", &[pipe.as_str()], &[]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    // The filter says which file it has, and at the chosen one waits for a line that never comes.
    let script = place.lab.path("smudge.sh");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\ncount=$(cat '{0}.count' 2>/dev/null || echo 0)\n\
             echo $((count + 1)) > '{0}.count'\n\
             if [ \"$count\" = {at} ]; then echo here > '{0}'; cat '{0}.never' > /dev/null; fi\n\
             exec cat\n",
            pipe
        ),
    )
    .unwrap();
    place.run("mkfifo", &[&format!("{pipe}.never")], &[]);
    place.git(&["config", "filter.slow.smudge", &format!("sh '{script}'")]);
    let mut child = spawn(
        Command::new(program())
            .args(["sync", "--yes"])
            .current_dir(&place.dir)
            .envs(place.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    let mut said = String::new();
    std::fs::File::open(&pipe).unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "here\n");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // Let the filter go, which was not ours to kill.
    drop(
        std::fs::OpenOptions::new()
            .write(true)
            .custom_flags(0)
            .open(format!("{pipe}.never"))
            .unwrap(),
    );
    place.git(&["config", "--unset", "filter.slow.smudge"]);
}

#[test]
fn killed_sync_is_rolled_back_by_the_next_command() {
    for linked in [false, true] {
        let lab = Lab::new();
        let place = scene(&lab, linked);
        let before = place.scene();
        for at in [0, 1, FILES / 2, FILES] {
            kill_at(&place, at);
            let journal = place.git_folder().join("xtask/journal");
            assert!(journal.exists(), "the kill came in mid-write");
            // `undo` mends, finds nothing of its own to do, and says so.
            place.xtask(&["undo"]).status(3).says("has been repaired");
            assert_eq!(place.scene(), before, "killed at file {at}, linked: {linked}");
        }
        place.xtask(&["sync", "--yes"]).success();
        assert_eq!(place.status(), " M src/app\nA  src/staged\n");
        assert_eq!(place.git(&["diff", "orchestration-tools", "HEAD", "--", "setup"]), "");
    }
}

#[test]
fn killed_sync_is_recovered_by_the_next_hook() {
    let lab = Lab::new();
    let place = scene(&lab, false);
    let before = place.scene();
    place.install_hooks().success();
    kill_at(&place, FILES / 2);
    assert_ne!(place.scene(), before, "the kill came in mid-write");
    let head = place.head();
    let hook = place.xtask(&["hook", "post-checkout", "1", &head, &head, "1"]).success();
    hook.says("has been repaired").says("brought up to date");
    assert_eq!(place.id("HEAD~1"), head);
    assert_eq!(place.status(), " M src/app\nA  src/staged\n");
    assert_eq!(place.git(&["diff", "orchestration-tools", "HEAD", "--", "setup"]), "");
}

#[test]
fn interrupted_sync_rolls_back_and_exits_with_130() {
    let lab = Lab::new();
    let place = scene(&lab, false);
    let before = place.scene();
    let pipe = lab.path("go");
    place.run("mkfifo", &[pipe.as_str()], &[]);
    let script = lab.path("smudge.sh");
    // The filter interrupts the program that started it, and then goes on.
    std::fs::write(&script, "#!/bin/sh\nkill -INT $PPID\nexec cat\n").unwrap();
    place.git(&["config", "filter.slow.smudge", &format!("exec sh '{script}'")]);
    let ran = place.xtask(&["sync", "--yes"]).status(130);
    assert!(ran.err.contains("interrupted; nothing was changed"), "{}", ran.err);
    place.git(&["config", "--unset", "filter.slow.smudge"]);
    assert_eq!(place.scene(), before);
    assert!(!place.git_folder().join("xtask/journal").exists());
}

/// The hook of a push kills the program that pushes, and with `cuts` the push itself.
#[test]
fn killed_push_is_completed_by_the_next_run() {
    for cuts in [true, false] {
        for command in [&["propagate", "--remote", "--push"][..], &["extract", "one", "--push"]] {
            let lab = Lab::new();
            let repo = lab.repo();
            repo.git(&["branch", "one"]);
            repo.on_branch("one", |place| place.write("setup/one", "one\n"));
            repo.canonical(&[("setup/a", Some("a2\n"))]);
            let hub = lab.path("hub");
            repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
            repo.git(&["remote", "add", "origin", hub.as_str()]);
            repo.git(&["push", "-q", "--all", "-u", "origin"]);
            let before = repo.git(&["for-each-ref", "refs/heads"]);
            let hook = lab.path("repo/.git/hooks/pre-push");
            let end = if cuts { "exit 1" } else { "exit 0" };
            let text = format!(
                "#!/bin/sh\ncat > /dev/null\ntouch ../killed\nkill -9 $(ps -o ppid= -p $PPID)\n{end}\n"
            );
            write_script(&hook, text);
            assert_eq!(repo.xtask(command).code, None, "it was killed");
            assert!(lab.path("killed").exists());
            std::fs::remove_file(&hook).unwrap();
            assert_eq!(repo.git(&["for-each-ref", "refs/heads"]), before);
            repo.xtask(command).success();
            let hub = lab.place("hub");
            if command[0] == "propagate" {
                assert_eq!(hub.git(&["show", "one:setup/a"]), "a2\n");
                assert_eq!(hub.git(&["show", "orchestration-sync/main:setup/a"]), "a2\n");
            } else {
                let files =
                    ["diff", "--name-only", "orchestration-tools", "orchestration-tools-changes"];
                assert_eq!(hub.git(&files), "setup/one\n");
            }
        }
    }
}

/// The locks of git that lie about.
fn locks(folder: &std::path::Path) -> Vec<String> {
    let paths =
        trace(folder).into_keys().filter(|path| path.extension().is_some_and(|e| e == "lock"));
    paths.map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

/// Refs are moved by a git that the terminal does not reach, and that gives its locks back when nobody
/// tells it to go on.
#[test]
fn signals_and_kills_leave_no_ref_lock() {
    let lab = Lab::new();
    let repo = lab.repo();
    let orders: String =
        (0..200).map(|at| format!("create refs/heads/b{at} {}\n", repo.head())).collect();
    repo.write("../orders", orders);
    repo.run("sh", &["-c", "git update-ref --stdin < ../orders"], &[]).success();
    repo.git(&["pack-refs", "--all"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    for (round, signal) in ["INT", "TERM", "HUP", "KILL"].into_iter().cycle().take(12).enumerate() {
        let copy = lab.copy();
        let place = repo.in_copy(&copy);
        let mut command = Command::new(program());
        command.arg("propagate").current_dir(&place.dir).envs(place.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(command.process_group(0)).unwrap();
        // From the first branch that has moved on, until all have.
        let moved = place.git_folder().join(format!("refs/heads/b{}", round * 15));
        while !moved.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        let group = format!("-{}", child.id());
        place.try_run("kill", &["-s", signal, "--", &group]);
        child.wait().unwrap();
        place.xtask(&["propagate"]).success();
        assert_eq!(locks(&place.git_folder()), [""; 0], "{signal}");
        assert_eq!(place.git(&["show", "b199:setup/a"]), "a2\n");
        place.git(&["branch", "-D", "b7"]);
    }
}

/// The git that moves a branch is killed itself: its locks go where they are known to be its own.
#[test]
fn killed_update_ref_leaves_no_blocking_locks() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let real = std::env::var("PATH").unwrap();
    let text = "#!/bin/sh\ncase \"$*\" in *update-ref*)\n\
                head -c 5 > /dev/null; touch .git/HEAD.lock .git/packed-refs.lock; kill -9 $$ ;;\nesac\n\
                PATH=$REAL exec git \"$@\"\n";
    write_script(&lab.path("bin/git"), text);
    let path = format!("{}:{real}", lab.path("bin"));
    let with_it = [("PATH", &path[..]), ("REAL", &real[..])];
    let before = (repo.head(), repo.read("setup/a"));
    repo.xtask_with(&["sync"], &with_it).status(3).says("signal: 9");
    assert_eq!((repo.head(), repo.read("setup/a")), before);
    assert_eq!(locks(&repo.git_folder()), [""; 0]);
    // One that was there before is somebody else's.
    let theirs = repo.git_folder().join("HEAD.lock");
    std::fs::write(&theirs, "").unwrap();
    repo.xtask_with(&["sync"], &with_it).status(3);
    assert_eq!(locks(&repo.git_folder()), ["HEAD.lock"]);
    std::fs::remove_file(theirs).unwrap();
    repo.xtask(&["sync"]).success();
}

/// The same, when it has done its work and cannot say so any more.
#[test]
fn update_ref_killed_after_its_commit_counts_as_success() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let real = std::env::var("PATH").unwrap();
    let text = "#!/bin/sh\nPATH=$REAL\ncase \"$*\" in *update-ref*)\n\
                git \"$@\" | { read a; echo \"$a\"; read a; echo \"$a\"; read a; kill -9 $$; } ;;\nesac\n\
                exec git \"$@\"\n";
    write_script(&lab.path("bin/git"), text);
    let path = format!("{}:{real}", lab.path("bin"));
    repo.xtask_with(&["sync"], &[("PATH", &path), ("REAL", &real)]).success();
    assert_eq!(repo.git(&["show", "feature:setup/a"]), "a2\n");
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    repo.xtask(&["sync", "--check"]).success();
}

/// A branch that is not deleted needs no lock of the packed refs, whoever holds it and for how long.
#[test]
fn foreign_ref_lock_blocks_only_the_locked_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    for name in ["one", "two", "three"] {
        repo.git(&["branch", name]);
    }
    repo.git(&["pack-refs", "--all"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let folder = repo.git_folder();
    std::fs::write(folder.join("packed-refs.lock"), "").unwrap();
    std::fs::create_dir_all(folder.join("refs/heads")).unwrap();
    std::fs::write(folder.join("refs/heads/two.lock"), "").unwrap();
    let ran = repo.xtask(&["propagate"]).status(3);
    assert!(ran.out.contains("refs/heads/two.lock"), "{}", ran.out);
    assert_eq!(repo.git(&["show", "one:setup/a", "three:setup/a"]), "a2\na2\n");
    assert_eq!(repo.git(&["show", "two:setup/a"]), "a1\n");
    assert_eq!(locks(&folder), ["packed-refs.lock", "refs/heads/two.lock"]);
}
