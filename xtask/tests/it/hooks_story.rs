//! The life of a repository with hooks: two clones, many branches, and what went wrong with the
//! shell scripts that came before.

use std::fs;

use crate::testkit::{Lab, Place};

/// Two clones of one bare repository, both with hooks.
fn clones(lab: &Lab) -> (Place<'_>, Place<'_>) {
    let seed = lab.repo();
    let hub = lab.path("hub");
    seed.git(&["clone", "-q", "--bare", seed.dir.as_str(), hub.as_str()]);
    for name in ["one", "two"] {
        seed.git(&["clone", "-q", hub.as_str(), lab.path(name).as_str()]);
        lab.place(name).install_hooks().success();
    }
    (lab.place("one"), lab.place("two"))
}

/// A change of a managed file, committed on the canonical branch of a clone and pushed.
fn publish(place: &Place<'_>, content: &str) {
    let branch = place.git(&["branch", "--show-current"]).trim().to_owned();
    place.git(&["switch", "-q", "orchestration-tools"]);
    place.git(&["pull", "-q"]);
    place.write("setup/a", content);
    place.git(&["commit", "-qam", &format!("Set a to {}", content.trim())]);
    place.git(&["push", "-q", "origin", "orchestration-tools"]);
    place.git(&["switch", "-q", &branch]);
}

/// Every commit holds what its author put there: managed paths come from sync commits alone.
fn check_commits(place: &Place<'_>, branch: &str) {
    let log = place.git(&["log", "--format=%H %ae", &format!("main..{branch}")]);
    for line in log.lines() {
        let (id, author) = line.split_once(' ').unwrap();
        let changed = place.git(&["diff-tree", "--no-commit-id", "--name-only", "-r", id]);
        let is_managed = |path: &str| path.starts_with("setup/") || path.starts_with("scripts/");
        if author == "xtask-sync@users.noreply.invalid" {
            assert!(changed.lines().all(is_managed), "{id}: {changed}");
        } else {
            assert!(!changed.lines().any(is_managed), "{id}: {changed}");
        }
    }
}

#[test]
fn canonical_change_reaches_every_branch_through_git_commands() {
    let lab = Lab::new();
    let (one, two) = clones(&lab);
    let clean = |place: &Place<'_>| assert_eq!(place.status(), "", "{}", place.dir);
    for branch in ["alpha", "beta"] {
        two.git(&["switch", "-qc", branch, "main"]);
        for number in 0..4 {
            two.write(&format!("src/{branch}"), format!("{number}\n"));
            two.git(&["add", "."]);
            two.git(&["commit", "-qm", &format!("{branch} {number}")]);
            clean(&two);
        }
        two.git(&["push", "-q", "-u", "origin", branch]);
    }
    publish(&one, "a2\n");
    // By pull, on the branch that is checked out.
    two.git(&["fetch", "-q"]);
    two.git(&["pull", "-q"]);
    assert_eq!(two.read("setup/a"), "a1\n", "nothing came in: no hook ran");
    two.git(&["switch", "-q", "alpha"]);
    assert_eq!(two.read("setup/a"), "a2\n");
    clean(&two);
    two.git(&["switch", "-q", "beta"]);
    assert_eq!(two.read("setup/a"), "a2\n");
    clean(&two);
    // Through a rebase that picks, with a change arriving in between.
    publish(&one, "a3\n");
    one.git(&["switch", "-q", "main"]);
    one.write("src/app", "application 2\n");
    one.git(&["commit", "-qam", "main goes on", "--no-verify"]);
    one.git(&["push", "-q", "--no-verify", "origin", "main"]);
    two.git(&["fetch", "-q"]);
    two.git(&["rebase", "-q", "origin/main"]);
    assert_eq!(two.read("setup/a"), "a3\n");
    assert_eq!(two.read("src/app"), "application 2\n");
    clean(&two);
    // Through a bisect, which sees the files as they were.
    publish(&one, "a4\n");
    two.git(&["fetch", "-q"]);
    two.write(
        "check",
        "#!/bin/sh\n\
         test -z \"$(git status --porcelain -- setup src)\" || exit 128\n\
         ! grep -q 2 src/beta\n",
    );
    two.make_executable("check");
    two.git(&["bisect", "start", "HEAD", "origin/main"]);
    let found = two.git(&["bisect", "run", "./check"]);
    assert!(found.contains("beta 2"), "{found}");
    two.git(&["bisect", "reset"]);
    two.remove("check");
    assert_eq!(two.read("setup/a"), "a3\n", "a bisect changes nothing, and neither does its end");
    clean(&two);
    two.git(&["switch", "-q", "alpha"]);
    two.git(&["switch", "-q", "beta"]);
    assert_eq!(two.read("setup/a"), "a4\n");
    clean(&two);
    for branch in ["alpha", "beta"] {
        check_commits(&two, branch);
    }
    // The other clone has synced the same branch by another way, and comes together with this one
    // as soon as it has seen what was pushed.
    one.git(&["fetch", "-q"]);
    one.git(&["switch", "-q", "alpha"]);
    assert_eq!(one.read("setup/a"), "a4\n");
    assert_ne!(one.head(), two.id("alpha"), "one sync commit there, two here");
    two.git(&["push", "-q", "origin", "alpha"]);
    one.git(&["fetch", "-q"]);
    one.git(&["switch", "-q", "main"]);
    one.git(&["switch", "-q", "alpha"]);
    assert_eq!(one.head(), two.id("alpha"));
    clean(&one);
    // From the same tip both make the very same commit, so that nothing diverges.
    publish(&one, "a5\n");
    two.git(&["fetch", "-q"]);
    two.git(&["switch", "-q", "alpha"]);
    assert_eq!(one.head(), two.head());
    one.git(&["push", "-q", "origin", "alpha"]);
    two.git(&["pull", "-q", "--ff-only"]);
    clean(&two);
}

#[test]
fn pull_also_syncs_the_branch() {
    let lab = Lab::new();
    let (one, two) = clones(&lab);
    one.git(&["switch", "-qc", "shared"]);
    one.write("src/x", "x\n");
    one.git(&["add", "."]);
    one.git(&["commit", "-qm", "x"]);
    one.git(&["push", "-q", "-u", "origin", "shared"]);
    two.git(&["fetch", "-q"]);
    two.git(&["switch", "-q", "shared"]);
    one.write("src/x", "more\n");
    one.git(&["commit", "-qam", "more"]);
    one.git(&["push", "-q"]);
    publish(&one, "a2\n");
    for pull in [&["pull", "-q"][..], &["pull", "-q", "--rebase"]] {
        two.git(pull);
        assert_eq!((two.read("setup/a"), two.read("src/x")), ("a2\n".into(), "more\n".into()));
        assert_eq!(two.status(), "");
        two.git(&["-c", "core.hooksPath=/dev/null", "reset", "-q", "--hard", "HEAD~2"]);
    }
}

/// A checkout left changed files, and the next one was refused.
#[test]
fn lesson_1_switching_between_many_branches_always_works() {
    let lab = Lab::new();
    let repo = lab.repo();
    let branches: Vec<String> = (0..20).map(|number| format!("branch/{number}")).collect();
    for (number, branch) in branches.iter().enumerate() {
        repo.git(&["switch", "-qc", branch, "main"]);
        repo.write("src/app", format!("{number}\n"));
        match number % 4 {
            0 => repo.write("setup/a", format!("customised {number}\n")),
            1 => repo.remove("setup/b"),
            2 => repo.write(&format!("setup/own{number}"), "own\n"),
            _ => {}
        }
        repo.commit("own");
        if number % 5 == 0 {
            repo.canonical(&[("setup/b", Some(&format!("b{number}\n")))]);
        }
    }
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/dir/new", Some("new\n"))]);
    repo.install_hooks().success();
    repo.write("src/mine", "never added\n");
    let mut first = Vec::new();
    for round in 0..2 {
        for branch in &branches {
            repo.git(&["switch", "-q", branch]);
            repo.git(&["checkout", "-q", "branch/0"]);
            repo.git(&["checkout", "-q", "-"]);
            assert_eq!(repo.status(), "?? src/mine\n", "{branch}");
            if round == 0 {
                first.push(repo.head());
            }
        }
    }
    for (branch, head) in branches.iter().zip(first) {
        assert_eq!(repo.id(branch), head, "one sync is enough for {branch}");
        let number = branch.rsplit('/').next().unwrap().parse::<usize>().unwrap();
        let show = |path: &str| repo.try_git(&["show", &format!("{branch}:{path}")]);
        assert_eq!(show("src/app").out, format!("{number}\n"));
        if number % 4 == 0 {
            assert_eq!(show("setup/a").out, format!("customised {number}\n"));
        } else {
            assert_eq!(show("setup/a").out, "a2\n");
        }
        assert_eq!(show("setup/b").code == Some(0), number % 4 != 1, "{branch}");
        assert_eq!(show("setup/dir/new").out, "new\n");
    }
    assert_eq!(repo.read("src/mine"), "never added\n");
}

/// An unsaved edit vanished on checkout.
#[test]
fn lesson_2_uncommitted_edits_survive_every_switch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-qc", "one"]);
    repo.git(&["switch", "-qc", "two"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/b", None)]);
    repo.write("setup/a", "unsaved\n");
    repo.write("setup/b", "staged\n");
    repo.git(&["add", "setup/b"]);
    for branch in ["one", "two", "one"] {
        repo.git(&["switch", "-q", branch]);
        assert_eq!(repo.read("setup/a"), "unsaved\n");
        assert_eq!(repo.status(), " M setup/a\nM  setup/b\n");
    }
    repo.git(&["checkout", "-q", "--", "setup/a"]);
    assert_eq!(repo.read("setup/a"), "a1\n", "and a checkout of files is git's alone");
}

/// Synced files were staged and rode into unrelated commits.
#[test]
fn lesson_3_next_commit_contains_only_the_users_paths() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-qc", "one"]);
    repo.write("src/app", "staged\n");
    repo.git(&["add", "src/app"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-qc", "two"]);
    assert_eq!(repo.status(), "M  src/app\n");
    repo.git(&["commit", "-qm", "mine"]);
    assert_eq!(repo.git(&["show", "--name-only", "--format=", "HEAD"]), "src/app\n");
    assert_eq!(repo.git(&["show", "--name-only", "--format=", "HEAD~1"]), "setup/a\n");
}

/// The hook's own git commands fired the hook: 671 nested runs in 8 s.
#[test]
fn lesson_4_hooks_never_trigger_further_hooks() {
    let lab = Lab::new();
    let repo = lab.repo();
    let log = lab.path("log");
    for name in ["post-checkout", "post-merge", "post-commit", "post-rewrite", "pre-commit"] {
        let path = format!(".git/hooks/{name}");
        repo.write(&path, format!("#!/bin/sh\necho {name} >> {log}\n"));
        repo.make_executable(&path);
    }
    repo.install_hooks().success();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    drop(fs::remove_file(&log));
    repo.git(&["switch", "-qc", "one"]);
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), "post-checkout\n", "the sync commit ran none");
    // A switch of ours runs the user's hook once, and ours not at all.
    repo.git(&["branch", "two", "main"]);
    drop(fs::remove_file(&log));
    let ran = repo.xtask(&["switch", "two"]).success();
    assert_eq!(fs::read_to_string(&log).unwrap(), "post-checkout\n");
    assert!(!ran.err.contains("xtask: 1 managed file"), "{}", ran.err);
    assert_eq!(repo.read("setup/a"), "a2\n");
}

/// Branches without the scripts had dead hooks.
#[test]
fn lesson_7_hooks_work_on_a_branch_without_the_scripts() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-qc", "stripped"]);
    repo.git(&["rm", "-rq", "scripts"]);
    repo.git(&["commit", "-qm", "no scripts here"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["switch", "-q", "stripped"]);
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert!(!repo.has("scripts"), "what the branch removed it does not get back");
    assert_eq!(repo.status(), "");
}

/// A push went wherever the current branch pointed, and "disable all" pushed to main.
#[test]
fn lesson_22_hooks_and_hook_commands_never_push() {
    let lab = Lab::new();
    let (one, _) = clones(&lab);
    let refs = || one.git(&["ls-remote", lab.path("hub").as_str()]);
    one.git(&["config", "push.default", "matching"]);
    let before = refs();
    one.git(&["switch", "-qc", "mine"]);
    one.write("src/app", "x\n");
    one.git(&["commit", "-qam", "x"]);
    for args in [
        &["hooks", "disable", "--all"][..],
        &["hooks", "enable", "--all"],
        &["uninstall-hooks"],
        &["install-hooks", "--this-program"],
    ] {
        one.xtask(args).success();
    }
    one.git(&["switch", "-q", "main"]);
    assert_eq!(refs(), before);
}

/// Prompts inside hooks hung editors.
#[test]
fn lesson_23_hooks_never_prompt() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    // So many deletions at once are asked about, by a person who is there.
    repo.canonical(&[("setup/a", None), ("setup/b", None), ("scripts/run.sh", None)]);
    let ran = repo.try_git(&["switch", "-c", "one"]).success();
    assert!(ran.err.contains("3 of the 3 managed files would be deleted"), "{}", ran.err);
    assert!(ran.err.contains("xtask sync --yes` deletes them"), "{}", ran.err);
    assert_eq!(repo.read("setup/a"), "a1\n");
    assert_eq!(repo.status(), "");
}
