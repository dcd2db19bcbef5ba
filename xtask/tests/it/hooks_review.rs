//! What adversaries found in the hooks, each a test.

use std::fs;

use crate::testkit::{Lab, Place, write_script};

/// A repository with hooks, a remote, and a branch of the user's own that is pushed.
fn pushed(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.install_hooks().success();
    repo.git(&["switch", "-qc", "feature"]);
    let all = ["main", "orchestration-tools", "feature"];
    repo.git(&["push", "-q", "--no-verify", "-u", "origin", all[0], all[1], all[2]]);
    repo
}

const BOB: [(&str, &str); 2] =
    [("GIT_AUTHOR_EMAIL", "bob@example.invalid"), ("GIT_COMMITTER_EMAIL", "bob@example.invalid")];

/// A commit of somebody else's on the branch at the remote.
fn by_bob(repo: &Place<'_>, path: &str, content: &str) {
    let clone = repo.lab.path("bob");
    drop(fs::remove_dir_all(&clone));
    repo.git(&["clone", "-q", "-b", "feature", repo.lab.path("hub").as_str(), clone.as_str()]);
    let bob = repo.lab.place("bob");
    bob.write(path, content);
    bob.git(&["add", "-f", "."]);
    bob.run("git", &["commit", "-qm", "by bob"], &BOB).success();
    bob.git(&["push", "-q"]);
}

/// `git reset --keep` replaces what git ignores without a word.
#[test]
fn fast_forward_to_upstream_keeps_ignored_files() {
    for (brings, content_at) in [("local.env", "local.env"), ("cache/data", "cache")] {
        for by_hand in [false, true] {
            let lab = Lab::new();
            let repo = pushed(&lab);
            repo.canonical(&[("setup/a", Some("a2\n"))]);
            repo.git(&["switch", "-q", "main"]);
            repo.git(&["switch", "-q", "feature"]);
            assert_eq!(repo.git(&["rev-list", "--count", "@{u}..HEAD"]).trim(), "1");
            by_bob(&repo, brings, "theirs\n");
            repo.write(".git/info/exclude", "/local.env\n/cache\n");
            repo.write(content_at, "PRECIOUS\n");
            repo.git(&["fetch", "-q"]);
            let before = repo.scene();
            let said = if by_hand {
                repo.xtask(&["sync"]).status(3)
            } else {
                repo.try_git(&["switch", "feature"]).success()
            };
            said.says(content_at).says("move that aside");
            assert_eq!(repo.read(content_at), "PRECIOUS\n");
            assert_eq!(repo.scene(), before);
            repo.remove(content_at);
            repo.xtask(&["sync"]).success();
            assert_eq!(repo.read(brings), "theirs\n");
        }
    }
}

#[test]
fn push_of_a_revision_with_spaces_is_still_checked() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.write("src/app", "x\n");
    repo.git(&["commit", "-qam", "fix the bug"]);
    let refused = repo.try_git(&["push", "origin", "HEAD^{/fix the bug}:refs/heads/main"]);
    refused.status(1).says("`main` is protected");
    repo.git(&["push", "-q", "origin", "HEAD^{/fix the bug}:refs/heads/other"]);
}

#[test]
fn branch_with_unavailable_upstream_counts_as_foreign() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    let theirs = |name: &str| {
        repo.git(&["branch", name, "main"]);
        repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", name]);
        repo.write("src/app", format!("{name}\n"));
        repo.run("git", &["commit", "-qam", name], &BOB).success();
        repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "main"]);
    };
    for name in ["request", "pruned", "mapped", "address"] {
        theirs(name);
    }
    let set = |key: &str, value: &str| repo.git(&["config", key, value]);
    set("branch.request.remote", "origin");
    set("branch.request.merge", "refs/pull/12/head");
    set("branch.pruned.remote", "origin");
    set("branch.pruned.merge", "refs/heads/pruned");
    repo.git(&["remote", "add", "other", lab.path("hub").as_str()]);
    set("remote.other.fetch", "+refs/heads/*:refs/remotes/mirror/other/*");
    repo.git(&["update-ref", "refs/remotes/mirror/other/mapped", "mapped"]);
    set("branch.mapped.remote", "other");
    set("branch.mapped.merge", "refs/heads/mapped");
    set("branch.address.remote", "https://me:SECRET@example.invalid/x.git");
    set("branch.address.merge", "refs/heads/address");
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    for name in ["request", "pruned", "mapped", "address"] {
        let before = repo.id(name);
        let ran = repo.try_git(&["switch", name]).success();
        assert!(ran.err.contains("belongs to another author"), "{name}: {}", ran.err);
        assert!(!ran.err.contains("SECRET"), "{name}: {}", ran.err);
        assert_eq!(repo.head(), before, "{name}");
        let status = repo.xtask(&["status"]).success();
        assert!(!status.out.contains("SECRET") && !status.err.contains("SECRET"));
    }
}

#[test]
fn hooks_write_nothing_between_picks_of_a_cherry_pick_range() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    for (number, text) in ["one\n", "two\n", "three\n"].into_iter().enumerate() {
        repo.write("src/app", text);
        repo.git(&["commit", "-qam", &format!("step {number}")]);
    }
    repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-qc", "target", "main"]);
    repo.write("src/app", "other\n");
    repo.git(&["commit", "-qam", "other"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    assert_eq!(repo.try_git(&["cherry-pick", "main..feature"]).code, Some(1));
    repo.write("src/app", "resolved\n");
    repo.git(&["commit", "-qam", "resolved"]);
    assert!(!repo.has(".git/CHERRY_PICK_HEAD") && repo.has(".git/sequencer/todo"));
    let before = repo.head();
    repo.git(&["checkout", "-q", "target"]);
    assert_eq!(repo.head(), before);
    repo.xtask(&["sync"]).status(3).says("a cherry-pick is in progress");
    repo.git(&["cherry-pick", "--abort"]);
}

/// A shim that another manager has put aside still runs what was there before it.
#[test]
fn renamed_shim_still_runs_the_previous_hook() {
    let lab = Lab::new();
    let repo = lab.repo();
    let script = |name: &str, text: &str| {
        let path = format!(".git/hooks/{name}");
        repo.write(&path, format!("#!/bin/sh\n{text}\n"));
        repo.make_executable(&path);
    };
    script("pre-commit", "exit $REFUSE");
    let first = repo.read(".git/hooks/pre-commit");
    repo.install_hooks().success();
    let at = |name: &str| repo.dir.join(".git/hooks").join(name);
    fs::rename(at("pre-commit"), at("pre-commit.legacy")).unwrap();
    script("pre-commit", "exec \"$(dirname \"$0\")/pre-commit.legacy\" \"$@\"");
    let commit = |refuse: &str| {
        let args = ["commit", "-q", "--allow-empty", "-m", "x"];
        repo.run("git", &args, &[("REFUSE", refuse)]).code
    };
    repo.git(&["switch", "-qc", "feature"]);
    assert_eq!((commit("1"), commit("0")), (Some(1), Some(0)));
    // It is not moved aside in turn: each would run the other without end.
    let there = repo.read(".git/hooks/pre-commit");
    repo.install_hooks().success();
    assert_eq!(repo.read(".git/hooks/pre-commit"), there);
    repo.xtask(&["hooks", "status"]).success().says("which starts xtask");
    assert_eq!((commit("1"), commit("0")), (Some(1), Some(0)));
    repo.xtask(&["uninstall-hooks"]).success();
    assert_eq!(repo.read(".git/hooks/pre-commit.legacy"), first);
    assert!(!repo.has(".git/hooks/pre-commit.pre-xtask"));
    assert_eq!((commit("1"), commit("0")), (Some(1), Some(0)));
}

#[test]
fn pre_commit_accepts_renamed_lfs_and_encrypted_files() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.write("old.json", "{");
    repo.write("doc.md", "<<<<<<< a\n=======\n>>>>>>> b\n");
    repo.write("big", vec![b'x'; 50_000_001]);
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "as it is", "--no-verify"]);
    fs::create_dir_all(repo.dir.join("docs")).unwrap();
    repo.git(&["mv", "old.json", "new.json"]);
    repo.git(&["mv", "doc.md", "docs/doc.md"]);
    repo.git(&["mv", "big", "bigger"]);
    repo.git(&["commit", "-qm", "other names"]);
    repo.write("large.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    repo.write("secret.toml", b"\0GITCRYPT\0\xff");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "kept elsewhere"]);
    // A conflict that is half resolved is one.
    for half in ["a\n<<<<<<< HEAD\nb\n", "a\n=======\nb\n>>>>>>> theirs\n"] {
        repo.write("src/app", half);
        let refused = repo.try_git(&["commit", "-qam", "half"]).status(1);
        refused.says("conflict markers");
    }
    // Taking a commit back brings in what stood before it, whatever that is.
    repo.git(&["checkout", "-q", "--", "src/app"]);
    repo.write("new.json", "{}");
    repo.git(&["commit", "-qam", "mended"]);
    let mended = repo.head();
    repo.write("new.json", "[]");
    repo.git(&["commit", "-qam", "changed"]);
    assert_eq!(repo.try_git(&["revert", "--no-edit", &mended]).code, Some(1));
    repo.write("new.json", "{");
    repo.git(&["add", "new.json"]);
    repo.git(&["-c", "core.editor=true", "revert", "--continue"]);
}

#[test]
fn hooks_path_inside_another_worktree_is_refused() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".githooks/pre-commit", "#!/bin/sh\nexit 0\n");
    repo.commit("hooks in the tree");
    let folder = repo.dir.join(".githooks");
    repo.git(&["config", "core.hooksPath", folder.as_str()]);
    repo.git(&["worktree", "add", "-q", "--detach", lab.path("linked").as_str()]);
    let ran = lab.place("linked").install_hooks().status(1);
    ran.says("inside the worktree");
    assert_eq!(repo.status(), "");
}

#[test]
fn uninstall_keeps_shims_of_another_repository() {
    let lab = Lab::new();
    let (one, two) = (lab.repo(), lab.repo_named("two", &[]));
    let shared = lab.path("shared");
    let config = lab.path("gitconfig");
    let plain = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{plain}[core]\n\thooksPath = {shared}\n")).unwrap();
    one.xtask(&["install-hooks", "--this-program", "--force"]).success();
    two.xtask(&["uninstall-hooks"]).success();
    two.xtask(&["hooks", "status"]).status(1).says("not installed");
    one.xtask(&["hooks", "status"]).success().says("fires");
    // Both can be there: each does its work in its own repository.
    two.xtask(&["install-hooks", "--this-program", "--force"]).success();
    for place in [&one, &two] {
        place.canonical(&[("setup/a", Some("a2\n"))]);
        place.git(&["switch", "-qc", "feature"]);
        assert_eq!(place.read("setup/a"), "a2\n", "{}", place.dir);
    }
}

#[test]
fn branch_checked_out_in_two_worktrees_is_not_moved() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "feature"]);
    let linked = lab.path("linked");
    let ran = repo.try_git(&["worktree", "add", "-q", "-f", linked.as_str(), "feature"]).success();
    assert!(ran.err.contains("another worktree has this branch"), "{}", ran.err);
    assert_eq!((repo.status(), lab.place("linked").status()), (String::new(), String::new()));
}

#[test]
fn damaged_hooks_off_record_is_removed_by_the_suggested_command() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.write(".git/xtask/hooks-off", "damaged");
    repo.xtask(&["hooks", "status"]).says("record of disabled hooks is corrupt");
    let refused = repo.xtask(&["hooks", "enable"]).status(3);
    refused.says("`cargo xtask hooks enable --all` removes it");
    repo.xtask(&["hooks", "enable", "--all"]).success();
    repo.xtask(&["hooks", "status"]).success();
}

/// Whoever waits for a pipe to be closed that the push has inherited does not wait for `gh`, and
/// a child that `gh` leaves behind holds nobody up.
#[test]
fn pipe_readers_of_a_push_do_not_wait_for_gh() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    let bin = lab.path("bin");
    let gh = format!(
        "#!/bin/sh\nwhile [ ! -e {0} ]; do sleep 0.05; done\n\
         (n=0; while [ $n -lt 400 ] && [ -e {1} ]; do n=$((n + 1)); sleep 0.05; done) &\n\
         case $2 in list) echo '[]' ;; create) echo https://github.com/o/r/pull/1 ;; esac\n",
        lab.path("go-on"),
        bin
    );
    write_script(&bin.join("gh"), gh);
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    // The address says GitHub, and git is told to go elsewhere by a program in the place of ssh.
    let ssh = lab.path("ssh");
    let text = format!("#!/bin/sh\nexec git receive-pack {}\n", lab.path("hub"));
    write_script(&ssh, text);
    repo.git(&["config", "remote.origin.url", "git@github.com:o/r.git"]);
    repo.write("setup/a", "mine\n");
    repo.git(&["commit", "-qam", "mine"]);
    let variables =
        [("PATH", path.as_str()), ("GIT_SSH_COMMAND", ssh.as_str()), ("GIT_SSH_VARIANT", "ssh")];
    // `cat` ends when nobody holds the other end of its pipe any more.
    let script = "{ git push -q origin feature >/dev/null 2>&1; } 3>&1 | cat";
    repo.run("sh", &["-c", script], &variables).success();
    fs::write(lab.path("go-on"), "").unwrap();
    loop {
        let json = repo.xtask_with(&["status", "--json"], &variables).success().json();
        let said = json["requests"][0].as_str().unwrap().to_owned();
        if !said.contains("is being opened") {
            assert!(said.contains("draft pull request opened"), "{said}");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The child that `gh` has left goes with its folder.
}

/// A folder that gives way to a file takes nothing along that git does not track; a tracked link
/// that gives way to a folder is in nobody's way.
#[test]
fn fast_forward_checks_inside_folders_but_not_through_symlinks() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.write("lib/x", "x\n");
    repo.link("lib", "alias");
    repo.git(&["add", "."]);
    repo.git(&["commit", "-qm", "a folder and a link"]);
    repo.git(&["push", "-q"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    let clone = lab.path("bob");
    repo.git(&["clone", "-q", "-b", "feature", lab.path("hub").as_str(), clone.as_str()]);
    let bob = lab.place("bob");
    let push = |message: &str| {
        bob.git(&["add", "-A"]);
        bob.run("git", &["commit", "-qm", message], &BOB).success();
        bob.git(&["push", "-q"]);
        repo.git(&["fetch", "-q"]);
    };
    bob.remove("alias");
    bob.write("alias/x", "no link any more\n");
    push("a folder for a link");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("alias/x"), "no link any more\n");
    assert_eq!(repo.read("lib/x"), "x\n");
    fs::remove_dir_all(bob.dir.join("lib")).unwrap();
    bob.write("lib", "a file now\n");
    push("a file for a folder");
    repo.write(".git/info/exclude", "*.o\n");
    repo.write("lib/k.o", "PRECIOUS\n");
    repo.xtask(&["sync"]).status(3).says("lib/k.o").says("move that aside");
    assert_eq!(repo.read("lib/k.o"), "PRECIOUS\n");
    repo.remove("lib/k.o");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("lib"), "a file now\n");
}

/// Where no hook guards a push, `push` asks git first, and no option of the user's gets round that.
#[test]
fn push_command_enforces_rules_without_hooks_for_any_options() {
    let lab = Lab::new();
    let repo = pushed(&lab);
    repo.xtask(&["uninstall-hooks"]).success();
    let log = lab.path("log");
    repo.write(".git/hooks/pre-push", format!("#!/bin/sh\necho ran >> {log}\n"));
    repo.make_executable(".git/hooks/pre-push");
    repo.write("src/app", "x\n");
    repo.git(&["commit", "-qam", "x"]);
    let there = || repo.git(&["ls-remote", lab.path("hub").as_str()]);
    let before = there();
    for options in [&["-q"][..], &["--no-porcelain"], &["--no-dry-run"], &["--quiet", "--"]] {
        let args = [&["push"], options, &["origin", "feature:main"]].concat();
        repo.xtask(&args).status(1).says("`main` is protected");
        assert_eq!(there(), before, "{options:?}");
    }
    repo.xtask(&["push", lab.path("nowhere").as_str(), "main"])
        .status(3)
        .says("nothing was pushed");
    assert!(!log.exists(), "asking runs no hook");
    repo.xtask(&["push", "-q", "origin", "feature"]).success();
    assert_eq!(fs::read_to_string(&log).unwrap(), "ran\n", "and pushing runs it once");
}

/// A manager may put a hook aside and never run it, or somebody keeps a copy: then ours does not fire.
#[test]
fn set_aside_shim_is_reported_as_not_firing() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    let at = |name: &str| repo.dir.join(".git/hooks").join(name);
    let pre_commit = "#!/usr/bin/env bash\n# File generated by pre-commit: https://pre-commit.com\nexec pre-commit hook-impl\n";
    for (aside, front, fires) in [
        ("pre-commit.old", "#!/bin/sh\nother_manager run pre-commit\n", false),
        ("pre-commit.bak", "#!/bin/sh\n# not pre-commit.bak\nexit 0\n", false),
        ("pre-commit.legacy", "#!/bin/sh\nexit 0\n", false),
        ("pre-commit.old", pre_commit, false),
        ("pre-commit.legacy", pre_commit, true),
        ("pre-commit.old", "#!/bin/sh\n\"${0%/*}/pre-commit.old\" \"$@\"\n", true),
    ] {
        fs::rename(at("pre-commit"), at(aside)).unwrap();
        repo.write_executable(".git/hooks/pre-commit", front);
        let json = repo.xtask(&["hooks", "status", "--json"]).json();
        let hooks = json["hooks"].as_array().unwrap();
        let hook = hooks.iter().find(|hook| hook["hook"] == "pre-commit").unwrap();
        assert_eq!(hook["fires"], fires, "{aside}: {front}: {hook}");
        fs::rename(at(aside), at("pre-commit")).unwrap();
    }
}
