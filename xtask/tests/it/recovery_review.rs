//! Input that has lost a byte, told a secret or said success wrongly once, in `backup`, `restore` and `recover`.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::recovery::{backups, broken_rebase, promised, set_mode};
use crate::testkit::{Lab, Place};

/// A clone with a branch `main` that follows a remote, ignoring `*.log` and `.env*`.
fn clone(lab: &Lab) -> Place<'_> {
    let origin = lab.place("origin.git");
    fs::create_dir(&origin.dir).unwrap();
    origin.git(&["init", "--quiet", "--bare"]);
    let repo = lab.repo();
    repo.write(".gitignore", ".env*\n*.log\n");
    repo.commit("ignore");
    repo.git(&["remote", "add", "origin", "../origin.git"]);
    repo.git(&["push", "--quiet", "-u", "origin", "main"]);
    repo.git(&["remote", "set-head", "origin", "--auto"]);
    repo
}

/// Something that somebody else pushes to `main`; it is fetched and not merged.
fn upstream(repo: &Place<'_>, change: impl FnOnce(&Place<'_>)) {
    let other = repo.lab.place("other");
    if !other.dir.exists() {
        repo.git(&["clone", "--quiet", "../origin.git", other.dir.as_str()]);
    }
    change(&other);
    other.git(&["add", "--all", "--force"]);
    other.git(&["commit", "--quiet", "-m", "of upstream"]);
    other.git(&["push", "--quiet"]);
    repo.git(&["fetch", "--quiet"]);
}

fn own_commit(repo: &Place<'_>) {
    repo.write("src/own", "own\n");
    repo.commit("own");
}

/// Whether a text is in any object of git.
fn is_in_an_object(repo: &Place<'_>, text: &str) -> bool {
    let all =
        repo.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"]);
    all.lines().any(|line| {
        let (id, kind) = line.split_once(' ').unwrap();
        repo.git(&["cat-file", if kind == "tree" { "-p" } else { kind }, id]).contains(text)
    })
}

#[test]
fn recover_never_replaces_ignored_files_folders_or_repositories() {
    for (number, ahead) in [(0, true), (1, false)] {
        let lab = Lab::new();
        let repo = clone(&lab);
        upstream(&repo, |other| {
            other.write("file.log", "of upstream\n");
            other.write("folder.log", "a file there\n");
            other.write("nested.log", "a file there\n");
        });
        if ahead {
            own_commit(&repo);
        }
        repo.write("file.log", "precious\n");
        repo.write("folder.log/p", "precious\n");
        let nested = lab.repo_with("repo/nested.log", &[("f", "precious\n")]);
        repo.write("src/app", "dirty\n");
        let before = promised(&repo);
        let told = repo.xtask(&["recover", "git", "--yes"]).status(3);
        told.says("in the way of `origin/main`").says("file.log").says("folder.log/p");
        assert_eq!(promised(&repo), before, "{number}");
        assert_eq!(nested.git(&["log", "--oneline"]).lines().count(), 1);
    }
}

#[test]
fn restore_never_replaces_ignored_files() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.write("gone", "1\n");
    repo.commit("it will go");
    repo.git(&["push", "--quiet"]);
    upstream(&repo, |other| {
        other.git(&["pull", "--quiet"]);
        other.remove("gone");
        other.write(".gitignore", ".env*\n*.log\n/gone\n");
    });
    repo.write("src/app", "dirty\n");
    repo.xtask(&["recover", "git", "--yes"]).success();
    repo.write("gone", "precious\n");
    let id = backups(&repo).remove(0);
    repo.xtask(&["restore", &id]).status(3).says("in the way").says("gone");
    assert_eq!(repo.read("gone"), "precious\n");
    repo.remove("gone");
    repo.xtask(&["restore", &id]).success();
    assert_eq!((repo.read("gone"), repo.read("src/app")), ("1\n".into(), "dirty\n".into()));
}

#[test]
fn am_can_be_aborted_after_recover_and_restore() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.git(&["switch", "--quiet", "-c", "side"]);
    repo.write("src/app", "side\n");
    repo.commit("side");
    repo.git(&["format-patch", "--quiet", "-o", "../patches", "HEAD~1"]);
    repo.git(&["switch", "--quiet", "main"]);
    repo.write("src/app", "own\n");
    let own = repo.commit("own");
    let patch = fs::read_dir(lab.path("patches")).unwrap().next().unwrap().unwrap().path();
    assert_ne!(repo.try_git(&["am", "--quiet", "-3", patch.to_str().unwrap()]).code, Some(0));
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    let mut after = promised(&repo);
    after.0.refs =
        after.0.refs.lines().filter(|l| !l.contains("recovered/")).collect::<Vec<_>>().join("\n");
    assert_eq!(after, before);
    repo.git(&["am", "--abort"]);
    assert_eq!(repo.head(), own);
}

#[test]
fn rebase_with_merges_can_continue_after_recover_and_restore() {
    let lab = Lab::new();
    let repo = clone(&lab);
    for branch in ["b1", "b2"] {
        repo.git(&["switch", "--quiet", "-c", branch, "main"]);
        repo.write(&format!("src/{branch}"), "mine\n");
        repo.commit(branch);
    }
    repo.git(&["switch", "--quiet", "-c", "top", "main"]);
    repo.git(&["merge", "--quiet", "--no-ff", "-m", "one", "b1"]);
    repo.git(&["merge", "--quiet", "--no-ff", "-m", "two", "b2"]);
    repo.git(&["switch", "--quiet", "main"]);
    repo.write("src/b2", "of main\n");
    repo.commit("of main");
    repo.git(&["push", "--quiet"]);
    repo.git(&["switch", "--quiet", "top"]);
    assert_ne!(repo.try_git(&["rebase", "--quiet", "-r", "main"]).code, Some(0));
    let refs = repo.git(&["for-each-ref", "refs/rewritten"]);
    assert!(!refs.is_empty());
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.git(&["for-each-ref", "refs/rewritten"]), "");
    repo.git(&["gc", "--quiet", "--prune=now"]);
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(repo.git(&["for-each-ref", "refs/rewritten"]), refs);
    repo.write("src/b2", "both\n");
    repo.git(&["add", "src/b2"]);
    let went_on = repo.run("git", &["rebase", "--continue"], &[("GIT_EDITOR", "true")]);
    assert_eq!(went_on.code, Some(0), "{went_on:?}");
    assert_eq!(repo.read("src/b2"), "both\n");
}

#[test]
fn restore_brings_back_stash_and_squash_conflicts_with_messages() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.git(&["switch", "--quiet", "-c", "other"]);
    repo.write("src/app", "stashed\n");
    repo.git(&["stash", "--quiet"]);
    repo.write("src/app", "committed\n");
    repo.commit("other");
    assert_ne!(repo.try_git(&["stash", "pop"]).code, Some(0));
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.status(), "");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    // A squashed merge that conflicts, with its message.
    repo.git(&["reset", "--quiet", "--hard"]);
    repo.git(&["switch", "--quiet", "-c", "squash", "main"]);
    repo.write("src/app", "ours\n");
    repo.commit("ours");
    assert_ne!(repo.try_git(&["merge", "--squash", "other"]).code, Some(0));
    let message = || fs::read_to_string(repo.git_folder().join("SQUASH_MSG")).ok();
    let (before, words) = (promised(&repo), message());
    assert!(words.is_some());
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(message(), None, "the next commit is about something else");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!((promised(&repo), message()), (before, words));
}

#[test]
fn restore_resumes_nested_git_operations() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.git(&["switch", "--quiet", "-c", "side"]);
    repo.write("src/app", "side\n");
    repo.commit("side");
    repo.git(&["switch", "--quiet", "-c", "top", "main"]);
    repo.write("src/app", "top\n");
    repo.commit("top");
    repo.git(&["bisect", "start", "--first-parent"]);
    repo.git(&["bisect", "bad"]);
    assert_ne!(repo.try_git(&["merge", "side"]).code, Some(0));
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.git(&["branch", "--show-current"]), "main\n");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    assert!(repo.git_folder().join("BISECT_FIRST_PARENT").exists());
    assert!(repo.git_folder().join("MERGE_HEAD").exists());
    repo.git(&["merge", "--abort"]);
    repo.git(&["bisect", "good", "main"]);
}

#[test]
fn restore_into_a_clean_worktree_can_be_reverted() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.write("src/app", "then\n");
    repo.git(&["add", "src/app"]);
    repo.git(&["rm", "--quiet", "setup/a"]);
    repo.write("loose", "then\n");
    repo.write(".env", "A=then\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    repo.git(&["reset", "--quiet", "--hard"]);
    repo.remove("loose");
    repo.remove(".env");
    let before = promised(&repo);
    repo.xtask(&["restore", &id]).success();
    assert_eq!(
        (repo.read("src/app"), repo.has("setup/a"), repo.has(".env")),
        ("then\n".into(), false, true)
    );
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    // Committed since: the same.
    repo.write("src/app", "newer\n");
    repo.commit("newer");
    let before = promised(&repo);
    repo.xtask(&["restore", &id]).success();
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    // And what was only edited then is only edited again, though it was staged since.
    repo.write("src/app", "edited\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    let edited = promised(&repo);
    repo.git(&["add", "src/app"]);
    repo.xtask(&["restore", &id]).success();
    assert_eq!(promised(&repo), edited);
}

#[test]
fn backup_never_stores_tracked_secrets_as_git_objects() {
    type Hide = fn(&Place<'_>);
    let ways: [(&str, Hide); 5] = [
        ("edited", |_| {}),
        ("skipped", |repo| drop(repo.git(&["update-index", "--skip-worktree", ".env"]))),
        ("assumed", |repo| drop(repo.git(&["update-index", "--assume-unchanged", ".env"]))),
        ("taken out", |repo| drop(repo.git(&["rm", "--quiet", "--cached", ".env"]))),
        ("announced", |repo| {
            repo.git(&["rm", "--quiet", "--cached", ".env"]);
            repo.git(&["commit", "--quiet", "-m", "not tracked any more"]);
            repo.git(&["add", "--force", "--intent-to-add", ".env"]);
        }),
    ];
    for (way, hide) in ways {
        let lab = Lab::new();
        let repo = clone(&lab);
        repo.write(".env", "DUMMY=1\n");
        repo.git(&["add", "--force", ".env"]);
        repo.git(&["commit", "--quiet", "-m", "a template"]);
        repo.write(".env", "PASSWORD=hunter22\n");
        set_mode(&repo, ".env", 0o600);
        hide(&repo);
        let before = promised(&repo);
        let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
        assert!(!is_in_an_object(&repo, "hunter22"), "{way}");
        repo.write(".env", "PASSWORD=lost\n");
        repo.xtask(&["restore", &id]).success();
        assert_eq!(promised(&repo), before, "{way}");
        repo.write("src/app", "dirty\n");
        let before = promised(&repo);
        repo.xtask(&["recover", "git", "--yes"]).success();
        repo.xtask(&["restore", &backups(&repo)[0]]).success();
        assert!(!is_in_an_object(&repo, "hunter22"), "{way}");
        let mut after = promised(&repo);
        after.0.refs = after
            .0
            .refs
            .lines()
            .filter(|l| !l.contains("recovered/"))
            .collect::<Vec<_>>()
            .join("\n");
        // What git was told about a file is not content.
        after.0.index.clone_from(&before.0.index);
        after.0.status.clone_from(&before.0.status);
        assert_eq!(after, before, "{way}");
    }
}

#[test]
fn backup_with_unreadable_rules_stores_no_secrets_as_objects() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[("setup/sync.toml", Some("[backup]\nignored = [\n"))]);
    repo.write("secrets/token", "hunter22\n");
    let told = repo.xtask(&["backup"]).status(1);
    told.says("cannot read `[backup]`").says("cannot determine which ignored files to copy");
    assert!(!is_in_an_object(&repo, "hunter22"));
    let id = backups(&repo).remove(0);
    repo.remove("secrets/token");
    repo.xtask(&["restore", &id]).success();
    assert_eq!(repo.read("secrets/token"), "hunter22\n");
    // One whose rule has gone since, under a name that is no text.
    let rules = "[managed]\ninclude = ['/setup/']\n[backup]\nignored = ['/secrets/']\n";
    repo.canonical(&[("setup/sync.toml", Some(rules))]);
    let odd = repo.dir.as_std_path().join(std::ffi::OsStr::from_bytes(b"secrets/a\xff[*"));
    fs::write(&odd, "hunter22\n").unwrap();
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    repo.canonical(&[("setup/sync.toml", Some("[managed]\ninclude = ['/setup/']\n"))]);
    fs::write(&odd, "hunter23\n").unwrap();
    repo.xtask(&["restore", &id]).success();
    assert!(!is_in_an_object(&repo, "hunter2"));
    assert_eq!(fs::read_to_string(&odd).unwrap(), "hunter22\n");
}

#[test]
fn restore_keeps_secrets_that_could_not_be_saved_first() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("src/app", "then\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    let rules = "[managed]\ninclude = ['/setup/']\n[backup]\nignored = ['/src/app']\n";
    repo.canonical(&[("setup/sync.toml", Some(rules))]);
    repo.write("src/app", vec![b'x'; 17 << 20]);
    let told = repo.xtask(&["restore", &id]).status(1);
    told.says("not saved: src/app").says("could not be saved first");
    assert_eq!(fs::metadata(repo.dir.join("src/app")).unwrap().len(), 17 << 20);
}

#[test]
fn restore_reports_git_operations_it_cannot_resume() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    repo.git(&["rebase", "--abort"]);
    repo.git(&["switch", "--quiet", "-c", "side", "main"]);
    repo.write("src/app", "side\n");
    repo.commit("side");
    repo.git(&["switch", "--quiet", "feature"]);
    assert_ne!(repo.try_git(&["merge", "side"]).code, Some(0));
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    let id = backups(&repo).remove(0);
    // The branch is gone: it is made again.
    repo.git(&["branch", "--quiet", "-D", "feature"]);
    repo.xtask(&["restore", &id]).success();
    assert_eq!(promised(&repo), before);
    // It has moved on: files come back, the merge does not.
    repo.git(&["merge", "--abort"]);
    repo.write("src/more", "more\n");
    repo.commit("more");
    let told = repo.xtask(&["restore", &id]).status(1);
    told.says("a merge was in progress then, and was not resumed").says("without their conflict");
    assert!(repo.read("src/app").contains("<<<<<<<"));
}

#[test]
fn restore_does_not_resume_a_rebase_over_newer_commits() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    repo.xtask(&["recover", "git", "--yes"]).success();
    let id = backups(&repo).remove(0);
    repo.git(&["switch", "--quiet", "feature"]);
    repo.write("src/newer", "newer\n");
    let newer = repo.commit("newer");
    let told = repo.xtask(&["restore", &id]).status(1);
    told.says("was not resumed: `feature` has new commits since");
    assert!(!repo.git_folder().join("rebase-merge").exists());
    assert_eq!(repo.id("feature"), newer);
}

#[test]
fn recover_and_restore_do_not_affect_other_worktrees() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    upstream(&repo, |other| other.write("src/up", "up\n"));
    repo.write("src/app", "dirty\n");
    repo.xtask(&["recover", "git", "--yes"]).success();
    let id = backups(&repo).remove(0);
    repo.git(&["switch", "--quiet", "feature"]);
    repo.git(&["worktree", "add", "--quiet", "../linked", "main"]);
    let linked = lab.place("linked");
    repo.xtask(&["restore", &id]).success().says("`main` was not moved: it is checked out in");
    assert_eq!((linked.status(), linked.head()), (String::new(), repo.id("origin/main")));
    repo.git(&["switch", "--quiet", "--discard-changes", "--detach"]);
    repo.git(&["worktree", "add", "--quiet", "../third", "feature"]);
    repo.write("src/app", "newer\n");
    let before = promised(&repo);
    repo.xtask(&["restore", &id]).status(3).says("`feature` is checked out in");
    assert_eq!(promised(&repo), before);
    repo.xtask(&["restore", &id, "."]).success();
    assert_eq!(repo.read("src/app"), "dirty\n");
}

#[test]
fn single_paths_can_be_restored_during_a_merge() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    repo.git(&["rebase", "--abort"]);
    repo.write("src/more", "then\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    repo.remove("src/more");
    assert_ne!(repo.try_git(&["merge", "main"]).code, Some(0));
    let told = repo.xtask(&["restore", &id]).status(3);
    told.says("`cargo xtask recover git` backs up and ends").says(&format!("restore {id} ."));
    repo.xtask(&["restore", &id, "src/more"]).success();
    assert_eq!(repo.read("src/more"), "then\n");
    assert!(repo.git_folder().join("MERGE_HEAD").exists());
    assert!(repo.read("src/app").contains("<<<<<<<"));
}

#[test]
fn restore_continues_if_secret_copies_are_missing() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.write("src/app", "then\n");
    repo.write(".env", "A=1\n");
    let id = repo.xtask(&["backup", "--label", "a\u{1b}[31m\nred"]).success().out.trim().to_owned();
    fs::remove_dir_all(repo.git_folder().join("xtask/backup")).unwrap();
    repo.git(&["checkout", "--quiet", "src/app"]);
    let told = repo.xtask(&["restore", &id]).status(1);
    told.says("the copies of this backup are missing").never_says("\u{1b}");
    assert_eq!(repo.read("src/app"), "then\n");
}

#[test]
fn folder_named_env_is_not_treated_as_env_file() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.write(".env/bin/python", "#!/bin/sh\n");
    repo.write(".env/.env", "not this either\n");
    repo.xtask(&["backup"]).success().says("nothing to save");
    repo.xtask(&["recover"]).success().says("no problems found");
}

#[test]
fn recover_handles_a_folder_replaced_by_a_symlink() {
    let lab = Lab::new();
    let repo = clone(&lab);
    fs::rename(repo.dir.join("setup"), lab.path("elsewhere")).unwrap();
    repo.link("../elsewhere", "setup");
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!((repo.status(), repo.read("setup/a")), (String::new(), "a1\n".to_owned()));
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    assert_eq!(fs::read_to_string(lab.path("elsewhere/a")).unwrap(), "a1\n");
}

#[test]
fn recover_replaces_blocking_files_that_were_copied() {
    let lab = Lab::new();
    let repo = clone(&lab);
    upstream(&repo, |other| other.write(".env.example", "of upstream\n"));
    repo.write(".env.example", "mine\n");
    repo.git(&["update-index", "--skip-worktree", "setup/a"]);
    repo.write("setup/a", "overlooked\n");
    upstream(&repo, |other| other.write("setup/a", "a2\n"));
    repo.write("src/app", "dirty\n");
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(
        (repo.read(".env.example"), repo.read("setup/a")),
        ("of upstream\n".into(), "a2\n".into())
    );
    assert_eq!(repo.status(), "");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    repo.git(&["update-index", "--skip-worktree", "setup/a"]);
    assert_eq!(promised(&repo), before);
}

#[test]
fn recover_removes_the_overlay_and_restore_brings_it_back() {
    let lab = Lab::new();
    let repo = clone(&lab);
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/new", Some("new\n")), ("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/new"), "new\n");
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.status(), "");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(promised(&repo), before);
    // It still is an overlay, and goes as one.
    let told = repo.xtask(&["switch", "main"]).success();
    told.says("removed the overlay of 2 files");
}
