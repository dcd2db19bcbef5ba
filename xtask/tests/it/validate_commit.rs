//! The checks that run before a commit: on what it will hold, and nothing else.

use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, Place};

/// On the canonical branch there is a check before commits: `src/input` must say `good`.
fn hooked(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.write("src/input", "good\n");
    repo.write(".gitignore", "/ignored/\n");
    repo.commit("input");
    repo.git(&["branch", "-q", "-f", "orchestration-tools"]);
    repo.canonical(&[(
        VALIDATE_FILE,
        Some(
            "[[check]]\nname = 'input'\nrun = 'grep -q good src/input'\ninputs = ['src/**']\n\
             hook = 'pre-commit'\nfix = { run = 'touch fixed', risk = 'safe' }\n\
             [[check]]\nname = 'other'\nrun = 'false'\n",
        ),
    )]);
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.install_hooks().success();
    repo
}

#[test]
fn pre_commit_checks_the_staged_content_not_the_worktree() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    // What is staged is bad, what is in the worktree is good.
    repo.write("src/input", "bad\n");
    repo.git(&["add", "src/input"]);
    repo.write("src/input", "good\n");
    let scene = repo.scene();
    let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
    let refused = refused.says("commit refused").says("input: exited with code 1");
    refused.says("1 of 1 check failed").never_says("other").never_says("\\n");
    assert_eq!(repo.scene(), scene, "worktree and index are as they were");
    assert!(!repo.has("fixed"), "no fix runs before a commit");
    // The other way round.
    repo.write("src/input", "good, too\n");
    repo.git(&["add", "src/input"]);
    repo.write("src/input", "bad\n");
    repo.git(&["commit", "-q", "-m", "good"]);
    assert_eq!(repo.read("src/input"), "bad\n");
    repo.try_git(&["commit", "-q", "-a", "-m", "all"]).status(1).says("refused");
    repo.git(&["commit", "-q", "--no-verify", "-a", "-m", "all"]);
}

#[test]
fn pre_commit_ignores_unstaged_and_untracked_files() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.git(&["rm", "-q", "--cached", "src/input"]);
    assert!(repo.has("src/input"), "it is there, and git does not know it");
    repo.try_git(&["commit", "-q", "-m", "x"]).status(1).says("refused");
    repo.git(&["add", "src/input"]);
    repo.write("src/app", "changed\n");
    repo.write("src/other", "bad\n");
    repo.write("src/input", "bad\n");
    repo.git(&["commit", "-q", "-m", "app alone", "--", "src/app"]);
    repo.try_git(&["commit", "-q", "-m", "x", "--", "src/input"]).status(1).says("refused");
    assert_eq!(repo.status(), " M src/input\n?? src/other\n");
}

#[test]
fn pre_commit_skips_passed_states_and_discards_check_leftovers() {
    let lab = Lab::new();
    let log = lab.path("log");
    let repo = hooked(&lab);
    let checks = |run: &str| {
        format!(
            "[[check]]\nname = 'input'\nshell = true\ntools = ['grep']\ninputs = ['src/**']\n\
             hook = 'pre-commit'\nrun = '{run}'\n"
        )
    };
    let run =
        format!("echo ran >> {log}; ls src >> {log}; echo left > src/left; grep -q good src/input");
    repo.canonical(&[(VALIDATE_FILE, Some(&checks(&run)))]);
    repo.write("src/loose", "not added\n");
    repo.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "two"]);
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said, "ran\napp\ninput\n", "the second is skipped, and neither sees what is loose");
    repo.write("src/input", "good, again\n");
    repo.git(&["add", "src/input"]);
    repo.git(&["commit", "-q", "-m", "three"]);
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said, "ran\napp\ninput\n".repeat(2), "nor what the check has left there");
    assert!(!repo.has("src/left"));
    let seen = repo.xtask(&["validate", "--history"]).success();
    seen.says("input");
}

#[test]
fn pre_commit_export_has_deletions_renames_symlinks_and_modes() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    let log = lab.path("log");
    let run =
        format!("find . -type f -o -type l | sort > {log}; ls -l src/link src/run >> {log}; true");
    let checks = format!(
        "[[check]]\nname = 'input'\nshell = true\ntools = ['find']\ninputs = ['**']\n\
         hook = 'pre-commit'\nrun = '{run}'\n"
    );
    repo.canonical(&[(VALIDATE_FILE, Some(&checks))]);
    repo.write("src/run", "#!/bin/sh\n");
    repo.make_executable("src/run");
    repo.link("app", "src/link");
    repo.write("folder/file", "x");
    repo.git(&["add", "--all"]);
    repo.write("loose", "x");
    repo.git(&["commit", "-q", "-m", "one"]);
    repo.git(&["rm", "-q", "-r", "folder"]);
    repo.write("folder", "a file now");
    repo.git(&["add", "folder"]);
    repo.git(&["mv", "src/app", "src/moved"]);
    repo.git(&["commit", "-q", "-m", "two"]);
    let said = std::fs::read_to_string(&log).unwrap();
    let wanted = repo.git(&["ls-files"]);
    for line in wanted.lines() {
        assert!(said.contains(&format!("./{line}\n")), "{line} in\n{said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("./")).count(), wanted.lines().count());
    assert!(said.contains("link -> app") && said.contains("-rwx"), "{said}");
}

#[test]
fn pre_commit_runs_no_checks_if_disabled_or_not_configured() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("src/input", "bad\n");
    repo.git(&["add", "src/input"]);
    let commit = ["commit", "-q", "-m", "x"];
    assert_eq!(repo.run("git", &commit, &[("DISABLE_ORCHESTRATION_CHECKS", "1")]).code, Some(0));
    repo.xtask(&["hooks", "disable"]).success();
    repo.git(&["commit", "-q", "--amend", "-m", "y"]);
    repo.xtask(&["hooks", "enable"]).success();
    // What a branch says of its checks counts for nothing here.
    repo.write(VALIDATE_FILE, "[[check]]\nname = 'x'\nrun = 'true'\n");
    repo.git(&["add", VALIDATE_FILE]);
    repo.try_git(&["commit", "-q", "-m", "x"]).status(1).says("input: exited with code 1");
    repo.canonical(&[(VALIDATE_FILE, Some("[[check]]\nname = 'x'\nrun = 'false'\n"))]);
    repo.git(&["commit", "-q", "-m", "x"]);
    // Checks that cannot be read are said, and stop nobody: they are not this branch's fault.
    repo.xtask(&["hooks", "disable", "--all"]).success();
    repo.canonical(&[(VALIDATE_FILE, Some("rubbish"))]);
    repo.xtask(&["hooks", "enable", "--all"]).success();
    let ran = repo.try_git(&["commit", "-q", "--allow-empty", "-m", "y"]).status(0);
    ran.says("pre-commit hook skipped").says("setup/validate.toml");
}

/// What is checked elsewhere lies below no git folder, and git finds no repository from there.
#[test]
fn git_in_a_pre_commit_check_finds_no_repository() {
    let lab = Lab::new();
    let log = lab.path("log");
    let repo = hooked(&lab);
    let run =
        format!("pwd > {log}; git rev-parse --git-dir >> {log} 2>&1; git checkout -- . ; true");
    let checks = format!(
        "[[check]]\nname = 'input'\nshell = true\ntools = ['git']\ninputs = ['src/**']\n\
         hook = 'pre-commit'\nrun = '{run}'\n"
    );
    repo.canonical(&[(VALIDATE_FILE, Some(&checks))]);
    repo.git(&["config", "core.worktree", repo.dir.as_str()]);
    repo.write("src/app", "unsaved work\n");
    repo.write("src/staged", "x\n");
    repo.git(&["add", "src/staged"]);
    repo.git(&["commit", "-q", "-m", "x"]);
    assert_eq!(repo.read("src/app"), "unsaved work\n");
    let said = std::fs::read_to_string(&log).unwrap();
    let (place, git) = said.split_once('\n').unwrap();
    assert!(!place.contains(".git") && !place.starts_with(repo.dir.as_str()), "{place}");
    assert!(git.contains("not a git repository"), "{git}");
    repo.xtask(&["uninstall-hooks"]).success();
    assert!(!std::path::Path::new(place).exists(), "{place}");
}

/// Files at which git was told not to look are looked at as they will be in the commit.
#[test]
fn pre_commit_checks_assume_unchanged_files_as_committed() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("src/input", "bad\n");
    repo.git(&["commit", "-q", "-a", "--no-verify", "-m", "bad"]);
    repo.git(&["update-index", "--assume-unchanged", "src/input"]);
    repo.write("src/input", "good\n");
    repo.try_git(&["commit", "-q", "--allow-empty", "-m", "x"]).status(1).says("refused");
}

#[test]
fn pre_commit_checks_files_with_non_utf8_names() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let repo = hooked(&lab);
    let checks = "[[check]]\nname = 'input'\nshell = true\ntools = ['grep']\ninputs = ['*.txt']\n\
                  hook = 'pre-commit'\nrun = '! grep -rq bad .'\n";
    repo.canonical(&[(VALIDATE_FILE, Some(checks))]);
    let odd = repo.dir.as_std_path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt"));
    repo.write("loose", "x");
    for (content, code) in [("good", 0), ("bad", 1), ("good again", 0)] {
        std::fs::write(&odd, content).unwrap();
        repo.git(&["add", "--", "*.txt"]);
        repo.try_git(&["commit", "-q", "-m", content]).status(code);
    }
}

/// Who was killed while it laid the commit out holds nobody up, and switches nothing off.
#[test]
fn stale_export_locks_of_a_killed_git_do_not_block() {
    let lab = Lab::new();
    let repo = hooked(&lab);
    repo.write("loose", "x");
    repo.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    let folder =
        lab.path("temporary").read_dir_utf8().unwrap().next().unwrap().unwrap().into_path();
    for lock in ["index.lock", "index-of-commit.lock"] {
        std::fs::write(folder.join(lock), "").unwrap();
    }
    repo.write("src/input", "bad\n");
    repo.git(&["add", "src/input"]);
    repo.try_git(&["commit", "-q", "-m", "two"]).status(1).says("refused");
}

/// Somebody goes on working while a check runs in the worktree: what is committed is what counts.
#[test]
fn edits_during_a_pre_commit_check_do_not_affect_it() {
    let lab = Lab::new();
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let repo = hooked(&lab);
    let run = format!(
        "touch {begun}; while test -e {begun} && ! test -e {go}; do sleep 0.01; done; grep -q good src/input"
    );
    let checks = format!(
        "[[check]]\nname = 'input'\nshell = true\ntools = ['grep']\ninputs = ['src/**']\n\
         hook = 'pre-commit'\nrun = '{run}'\n"
    );
    repo.canonical(&[(VALIDATE_FILE, Some(&checks))]);
    repo.write("src/input", "bad\n");
    repo.git(&["add", "src/input"]);
    let committed = std::thread::scope(|scope| {
        let commit = scope.spawn(|| repo.try_git(&["commit", "-q", "-m", "x"]));
        crate::wrong_hits::wait_for("the check", || begun.exists());
        repo.write("src/input", "good\n");
        std::fs::write(&go, "").unwrap();
        commit.join().unwrap()
    });
    committed.status(1).says("refused");
}
