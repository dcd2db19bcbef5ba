//! `backup`, `restore` and the git part of `recover`: all that git would not bring back comes back, from
//! everywhere, and no step that fails or crashes loses a byte.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use xtask_base::error::{ErrorKind, Result};
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_recovery::chosen_backup::{RestoreScope, choose_backup, find_return_target};
use xtask_recovery::create_backup::{
    BACKUP_LIMITS, BackupLimits, BackupOptions, SecretRules, inspect_worktree, save_worktree,
};
use xtask_recovery::{reset, restore, target};
use xtask_sync::worktree_lock::LockWorktree as _;

use crate::crash::{Fault, run_with, steps_of, with_tools, world};
use crate::testkit::{Lab, Place, Scene, circle, trace};

const SECRET: &str = "PASSWORD=as-secret-as-can-be\n";

/// The very permissions of every file.
pub fn modes(place: &Place<'_>) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let walk = walkdir::WalkDir::new(&place.dir);
    for entry in walk.into_iter().filter_entry(|entry| entry.file_name() != ".git") {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        if meta.is_file() {
            let name = entry.path().strip_prefix(&place.dir).unwrap();
            let name = name.as_os_str().as_bytes().escape_ascii().to_string();
            found.insert(name, meta.mode() & 0o7777);
        }
    }
    found
}

pub fn set_mode(place: &Place<'_>, path: &str, mode: u32) {
    fs::set_permissions(place.dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

pub fn secrets() -> SecretRules {
    SecretRules { patterns: vec![".env".to_owned()], ..SecretRules::default() }
}

/// The names of all backups, the newest first.
pub fn backups(place: &Place<'_>) -> Vec<String> {
    let json = place.xtask(&["backup", "--list", "--json"]).success().json();
    let lines = json["backups"].as_array().unwrap().iter();
    lines.map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// A worktree in which all is changed in every way there is.
fn busy<'a>(lab: &'a Lab) -> Place<'a> {
    let repo = lab.repo();
    repo.write(".gitignore", "/.env*\n/build/\n/deep/\n");
    repo.write("src/edited", "1\n");
    repo.write("src/both", "1\n");
    repo.write("src/gone", "1\n");
    repo.write("src/unlinked", "1\n");
    repo.write("src/taken-out", "1\n");
    repo.write("src/runs", "#!/bin/sh\n");
    repo.write("src/link", "a file\n");
    repo.write("src/hidden", "1\n");
    repo.write("src/skipped", "1\n");
    repo.write("folder/in", "1\n");
    repo.commit("all");
    repo.write("src/edited", "2\n");
    repo.write("src/both", "staged\n");
    repo.git(&["add", "src/both"]);
    repo.write("src/both", "edited after\n");
    repo.git(&["rm", "--quiet", "src/gone"]);
    repo.remove("src/unlinked");
    repo.git(&["rm", "--quiet", "--cached", "src/taken-out"]);
    repo.make_executable("src/runs");
    repo.remove("src/link");
    repo.link("edited", "src/link");
    repo.git(&["update-index", "--assume-unchanged", "src/hidden"]);
    repo.write("src/hidden", "edited in secret\n");
    repo.git(&["update-index", "--skip-worktree", "src/skipped"]);
    repo.write("src/skipped", "mine\n");
    // A file where a folder was.
    repo.remove("folder/in");
    fs::remove_dir(repo.dir.join("folder")).unwrap();
    repo.write("folder", "a file now\n");
    repo.write("new", "staged and new\n");
    repo.git(&["add", "new"]);
    repo.write("announced", "not staged\n");
    repo.git(&["add", "--intent-to-add", "announced"]);
    repo.write("loose/private", "for me alone\n");
    set_mode(&repo, "loose/private", 0o600);
    repo.link("nowhere", "loose/dangling");
    repo.write("crlf", "a\r\nb\r\n");
    let odd = OsStr::from_bytes(b"loose/od\xff \nname");
    fs::write(repo.dir.as_std_path().join(odd), "odd\n").unwrap();
    repo.write(".env", SECRET);
    set_mode(&repo, ".env", 0o640);
    repo.link("/somewhere/else", ".env.link");
    repo.write("build/.env", "not this one\n");
    repo
}

/// What a backup promises to bring back: everything but what git ignores and nobody named.
pub fn promised(place: &Place<'_>) -> (Scene, BTreeMap<String, u32>) {
    (place.scene(), modes(place))
}

/// Throws away all that git lets one throw away, and more.
fn throw_away(place: &Place<'_>) {
    place.git(&["update-index", "--no-assume-unchanged", "src/hidden"]);
    place.git(&["update-index", "--no-skip-worktree", "src/skipped"]);
    place.git(&["reset", "--quiet", "--hard"]);
    place.git(&["clean", "--quiet", "-ffdx"]);
}

#[test]
fn backup_changes_nothing_and_restore_brings_everything_back() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let before = promised(&repo);
    let index = fs::read(repo.git_folder().join("index")).unwrap();
    let ran = repo.xtask(&["backup", "--label", "a busy day"]).success();
    let id = ran.out.trim();
    assert_eq!(promised(&repo), before);
    assert_eq!(fs::read(repo.git_folder().join("index")).unwrap(), index);
    ran.clone().says(&format!("cargo xtask restore {id}"));
    repo.xtask(&["backup", "--list"]).success().says("backup `a busy day` on main");
    repo.xtask(&["undo", "--list"]).success().says("backup `a busy day` on main");
    throw_away(&repo);
    assert!(!repo.has(".env") && repo.read("src/edited") == "1\n");
    repo.xtask(&["restore", id]).success();
    // What git was told to overlook is for git to know; the edits are there.
    repo.git(&["update-index", "--assume-unchanged", "src/hidden"]);
    repo.git(&["update-index", "--skip-worktree", "src/skipped"]);
    repo.write("build/.env", "not this one\n");
    let mut after = promised(&repo);
    // Announcing a file is no content, and does not come back.
    repo.git(&["add", "--intent-to-add", "announced"]);
    after.0.index = repo.scene().index;
    after.0.status = repo.scene().status;
    assert_eq!(after, before);
    // And once more: nothing is left to do.
    let number = backups(&repo).len();
    repo.xtask(&["restore", id]).success().says("nothing to restore");
    assert_eq!(backups(&repo).len(), number);
}

#[test]
fn secrets_are_backed_up_outside_git_objects_for_owner_only() {
    let lab = Lab::new();
    let repo = lab.repo();
    // Not even ignored: the pattern alone says what it is.
    repo.write(".env", SECRET);
    repo.write("keys/.env.production", SECRET);
    repo.write("src/app", "changed\n");
    repo.xtask(&["backup"]).success();
    let all =
        repo.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"]);
    for line in all.lines() {
        let (id, kind) = line.split_once(' ').unwrap();
        let text = repo.git(&["cat-file", if kind == "tree" { "-p" } else { kind }, id]);
        assert!(!text.contains("as-secret"), "{line}");
        assert!(!text.contains(".env"), "not even its name: {line}\n{text}");
    }
    let folder = repo.git_folder().join("xtask/backup");
    let mut contents = 0;
    for entry in walkdir::WalkDir::new(&folder) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.mode() & 0o7777, expected, "{}", entry.path().display());
        contents +=
            usize::from(meta.is_file() && fs::read(entry.path()).unwrap() == SECRET.as_bytes());
    }
    assert_eq!(contents, 2);
}

#[test]
fn canonical_branch_decides_which_ignored_files_are_backed_up() {
    let lab = Lab::new();
    let repo = lab.repo();
    let rules =
        "[managed]\ninclude = ['/setup/']\n[backup]\nignored = ['/config/secrets/', 'local.key']\n";
    repo.canonical(&[("setup/sync.toml", Some(rules))]);
    repo.write(".gitignore", "/config/\n*.key\n.env\n");
    repo.write("setup/sync.toml", "[backup]\nignored = ['.env']\n");
    repo.commit("another opinion");
    repo.write("config/secrets/a/token", "t\n");
    repo.write("config/other", "o\n");
    repo.write("deep/local.key", "k\n");
    repo.write(".env", SECRET);
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    let held = repo.xtask(&["restore", &id, "--dry-run"]).success();
    assert_eq!(held.out, "");
    for path in ["config/secrets/a/token", "deep/local.key", "config/other", ".env"] {
        repo.remove(path);
    }
    let held = repo.xtask(&["restore", &id, "--dry-run"]).success();
    assert_eq!(held.out, "config/secrets/a/token\ndeep/local.key\n");
    repo.xtask(&["restore", &id]).success();
    assert_eq!(repo.read("config/secrets/a/token"), "t\n");
    assert!(!repo.has(".env"));
}

#[test]
fn backup_of_clean_worktree_and_dry_runs_write_nothing() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.xtask(&["backup"]).success().says("nothing to save");
    assert!(backups(&repo).is_empty());
    repo.write("src/app", "changed\n");
    repo.xtask(&["backup"]).success();
    let id = backups(&repo).remove(0);
    let before = trace(repo.dir.as_std_path());
    repo.xtask(&["backup", "--list"]).success();
    repo.xtask(&["restore", &id, "--dry-run"]).success().says("nothing to restore");
    repo.xtask(&["recover", "git", "--dry-run"]).success().says("changed and not committed");
    assert_eq!(trace(repo.dir.as_std_path()), before);
}

#[test]
fn restore_over_newer_work_can_be_reverted() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".gitignore", ".env\n");
    repo.commit("ignore");
    repo.write("src/app", "then\n");
    repo.write(".env", "A=then\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    repo.write("src/app", "newer\n");
    repo.git(&["add", "src/app"]);
    repo.write("src/app", "newest\n");
    repo.write(".env", "A=newest\n");
    set_mode(&repo, ".env", 0o600);
    repo.write("later", "since then\n");
    let newer = promised(&repo);
    repo.xtask(&["restore", &id]).success().says("undoes this");
    assert_eq!((repo.read("src/app"), repo.read(".env")), ("then\n".into(), "A=then\n".into()));
    assert_eq!(repo.read("later"), "since then\n");
    let own = backups(&repo).remove(0);
    assert_ne!(own, id);
    repo.xtask(&["restore", &own]).success();
    assert_eq!(promised(&repo), newer);
}

#[test]
fn restore_is_bound_to_its_branch_except_for_single_paths() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("src/app", "of the feature\n");
    repo.write("src/sub/loose", "loose\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    repo.git(&["switch", "--quiet", "--discard-changes", "main"]);
    repo.remove("src/sub/loose");
    let before = repo.scene();
    repo.xtask(&["restore", &id]).status(2).says("`git switch feature`, and then restore it");
    assert_eq!(repo.scene(), before);
    repo.xtask(&["restore", &id, "src/sub"]).success();
    assert_eq!(
        (repo.read("src/sub/loose"), repo.read("src/app")),
        ("loose\n".into(), "application\n".into())
    );
    repo.xtask(&["restore", &id, "src/none"]).status(2).says("does not contain `src/none`");
    repo.xtask(&["restore", "20200101T000000Z-1"]).status(2).says("there is no backup");
    repo.xtask(&["undo", &id]).status(2).says(&format!("cargo xtask restore {id}"));
    repo.git(&["worktree", "add", "--quiet", "../linked", "feature"]);
    let linked = lab.place("linked");
    linked.xtask(&["restore", &id]).status(2).says("belongs to the worktree");
    linked.xtask(&["restore", &id, "src/app"]).success();
    assert_eq!(linked.read("src/app"), "of the feature\n");
}

#[test]
fn restore_of_a_sync_backup_takes_single_paths_only() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write("setup/a", "edited\n");
    repo.xtask(&["sync", "--force"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    let id = backups(&repo).remove(0);
    repo.xtask(&["restore", &id]).status(2).says(&format!("cargo xtask undo {id}"));
    repo.xtask(&["restore", &id, "setup/a"]).success();
    assert_eq!(repo.read("setup/a"), "edited\n");
    // `undo` without a name means what a run replaced, not what was saved by hand.
    repo.git(&["checkout", "--quiet", "--", "setup/a"]);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.read("setup/a"), "edited\n");
}

#[test]
fn restore_reports_blocked_paths_and_keeps_the_backup() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".gitignore", ".env\n");
    repo.commit("ignore");
    repo.write("place/file", "mine\n");
    repo.write("below/file", "mine\n");
    repo.write(".env", "A=1\n");
    let id = repo.xtask(&["backup"]).success().out.trim().to_owned();
    for path in ["place/file", "below/file", ".env"] {
        repo.remove(path);
    }
    fs::create_dir(repo.dir.join("place/file")).unwrap();
    repo.write("place/file/other", "theirs\n");
    fs::remove_dir(repo.dir.join("below")).unwrap();
    fs::create_dir(lab.path("outside")).unwrap();
    repo.link("../outside", "below");
    fs::create_dir(repo.dir.join(".env")).unwrap();
    let ran = repo.xtask(&["restore", &id]).status(1).says("3 paths not restored");
    ran.says("place/file: a folder is in its place").says("below/file: `below` is a symlink now");
    assert_eq!(repo.read("place/file/other"), "theirs\n");
    assert_eq!(fs::read_dir(lab.path("outside")).unwrap().count(), 0);
}

#[test]
fn backup_respects_size_limits_and_reports_omissions() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("src/app", "a tracked file that is too large\n");
    repo.write("large", "0123456789012345678901234567890\n");
    repo.write("small", "1\n");
    repo.write("more", "2\n");
    for path in [".gitignore", "nested/x"] {
        repo.write(path, "");
    }
    repo.at("nested").git(&["init", "--quiet"]);
    with_tools(&repo, &world(&repo), |repo, tools| {
        let seen = inspect_worktree(repo, &SecretRules::default()).unwrap();
        let bounds = BackupLimits { file: 20, total: 3, files: 100 };
        let wish = BackupOptions {
            purpose: "backup",
            label: None,
            leaves: None,
            limits: bounds,
            replaced_paths: &[],
        };
        let saved = save_worktree(repo, tools, &seen, &wish).unwrap();
        let left: Vec<&str> =
            saved.left_out.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(left, ["src/app", "large", "small"], "{:?}", saved.left_out);
        assert_eq!(saved.not_covered, ["`nested`, another repository"]);
        // What git tracks and nobody could save is never replaced.
        let refused = reset::check_reset(repo, &saved, &target::find_target(repo, None).unwrap())
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unable);
        assert!(refused.message().contains("src/app"), "{refused}");
    });
    repo.write("large", vec![b'x'; 101 << 20]);
    let ran = repo.xtask(&["backup"]).status(1);
    ran.says("not saved: large: its size is").says("not saved: `nested`, another repository");
}

/// A rebase that has stopped at a conflict, with more lying about.
pub fn broken_rebase<'a>(lab: &'a Lab) -> Place<'a> {
    let origin = lab.place("origin.git");
    fs::create_dir(&origin.dir).unwrap();
    origin.git(&["init", "--quiet", "--bare"]);
    let repo = lab.repo();
    repo.write(".gitignore", ".env\n");
    repo.commit("ignore");
    repo.git(&["remote", "add", "origin", "../origin.git"]);
    repo.git(&["push", "--quiet", "-u", "origin", "main"]);
    repo.git(&["remote", "set-head", "origin", "--auto"]);
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    for version in ["f1\n", "f2\n"] {
        repo.write("src/app", version);
        repo.commit("of the feature");
    }
    repo.git(&["switch", "--quiet", "main"]);
    repo.write("src/app", "m1\n");
    repo.write("way", "of main\n");
    repo.commit("of main");
    repo.git(&["push", "--quiet"]);
    repo.git(&["switch", "--quiet", "feature"]);
    let stopped = repo.try_git(&["rebase", "--quiet", "main"]);
    assert_ne!(stopped.code, Some(0));
    repo.write("setup/a", "staged\n");
    repo.git(&["add", "setup/a"]);
    repo.write("setup/a", "and edited\n");
    repo.write("loose", "loose\n");
    repo.write(".env", "A='broken\n");
    repo
}

#[test]
fn recover_ends_a_rebase_and_restore_resumes_it() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    let before = promised(&repo);
    let shown = repo.xtask(&["recover", "git", "--yes"]).success();
    shown.says("end the rebase in progress").says("at `origin/main`");
    assert_eq!(repo.status(), "?? loose\n");
    assert_eq!(repo.git(&["branch", "--show-current"]), "main\n");
    assert_eq!(repo.head(), repo.id("origin/main"));
    assert!(!repo.git_folder().join("rebase-merge").exists());
    let id = backups(&repo).remove(0);
    // The backup alone keeps it, whatever is swept away.
    repo.git(&["reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all"]);
    repo.git(&["gc", "--quiet", "--prune=now"]);
    repo.xtask(&["restore", &id]).success().says("a rebase is in progress again");
    assert_eq!(promised(&repo), before);
    repo.git(&["checkout", "--quiet", "--theirs", "src/app"]);
    repo.git(&["restore", "setup/a"]);
    repo.git(&["add", "src/app"]);
    let went_on = repo.run("git", &["rebase", "--continue"], &[("GIT_EDITOR", "true")]);
    assert!(!went_on.err.contains("No rebase in progress"), "{went_on:?}");
    drop(repo.try_git(&["rebase", "--abort"]));
    assert_eq!(repo.git(&["branch", "--show-current"]), "feature\n");
}

#[test]
fn recover_ends_any_git_operation_and_restore_resumes_it() {
    type Begin = fn(&Place<'_>);
    let begins: [(&str, Begin); 6] = [
        ("a merge", |repo| drop(repo.try_git(&["merge", "main"]))),
        ("a cherry-pick", |repo| drop(repo.try_git(&["cherry-pick", "main"]))),
        ("a cherry-pick", |repo| drop(repo.try_git(&["cherry-pick", "main", "side"]))),
        ("a revert", |repo| drop(repo.try_git(&["revert", "--no-edit", "HEAD~1"]))),
        ("a rebase", |repo| {
            repo.write("setup/b", "put aside\n");
            drop(repo.try_git(&["rebase", "--autostash", "--apply", "main"]));
        }),
        ("a bisect", |repo| {
            repo.git(&["bisect", "start", "HEAD", "HEAD~2"]);
        }),
    ];
    for (at, (name, begin)) in begins.into_iter().enumerate() {
        let lab = Lab::new();
        let repo = lab.repo();
        repo.git(&["branch", "side"]);
        repo.git(&["switch", "--quiet", "-c", "feature"]);
        for version in ["f1\n", "f2\n", "f3\n"] {
            repo.write("src/app", version);
            repo.commit(version);
        }
        repo.on_branch("main", |place| place.write("src/app", "m\n"));
        repo.on_branch("side", |place| place.write("src/side", "s\n"));
        begin(&repo);
        repo.write("loose", "loose\n");
        let before = promised(&repo);
        let told = format!("{at} {name}\n{}", repo.git(&["status"]));
        repo.xtask(&["recover", "git", "--yes"]).success().says(&format!("{name} is in progress"));
        assert_eq!(repo.status(), "?? loose\n", "{told}");
        assert_eq!(repo.git(&["branch", "--show-current"]), "main\n", "{told}");
        let id = backups(&repo).remove(0);
        // With --autostash git has put what it kept on the list of stashes.
        repo.git(&["stash", "clear"]);
        repo.git(&["gc", "--quiet", "--prune=now"]);
        repo.xtask(&["restore", &id]).success().says(&format!("{name} is in progress again"));
        assert_eq!(promised(&repo), before, "{told}");
        match name {
            "a bisect" => drop(repo.git(&["bisect", "good"])),
            _ => {
                let abort = name.trim_start_matches("a ");
                repo.git(&[abort, "--abort"]);
            }
        }
        if name == "a rebase" {
            assert_eq!(repo.read("setup/b"), "put aside\n", "{told}");
        }
    }
}

#[test]
fn recover_keeps_unpushed_commits_on_a_recovered_branch() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    repo.git(&["rebase", "--abort"]);
    repo.git(&["switch", "--quiet", "--discard-changes", "main"]);
    repo.git(&["reset", "--quiet", "--hard", "origin/main~1"]);
    repo.write("src/own", "mine\n");
    let own = repo.commit("mine alone");
    repo.write("src/app", "dirty\n");
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success().says("kept on `recovered/main-");
    assert_eq!(repo.head(), repo.id("origin/main"));
    let kept = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heads/recovered/"]);
    assert_eq!(kept.trim(), own);
    let id = backups(&repo).remove(0);
    repo.xtask(&["restore", &id]).success();
    let mut after = promised(&repo);
    // That branch stays: nobody knows who has used it meanwhile.
    after.0.refs =
        after.0.refs.lines().filter(|l| !l.contains("recovered/")).collect::<Vec<_>>().join("\n");
    assert_eq!(after, before);
}

#[test]
fn recover_replaces_blocking_files_only_after_saving_them() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    repo.git(&["rebase", "--abort"]);
    assert!(!repo.has("way"), "it is of main alone");
    repo.write("way", "not tracked, and in the way\n");
    repo.write("src/app", "dirty\n");
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.read("way"), "of main\n");
    let id = backups(&repo).remove(0);
    repo.xtask(&["restore", &id]).success();
    assert_eq!(promised(&repo), before);
    // One that git ignores was not saved, and is not overwritten.
    repo.write(".git/info/exclude", "/way\n");
    repo.write("way", "ignored, and in the way\n");
    let before = promised(&repo);
    let refused = repo.xtask(&["recover", "git", "--yes"]).status(3);
    refused.says("unsaved files in the way of `").says("`: `way`").says("nothing was replaced");
    assert_eq!(promised(&repo), before);
}

#[test]
fn recover_on_a_healthy_repository_changes_nothing() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.write("loose", "is nothing wrong\n");
    let before = trace(repo.dir.as_std_path());
    repo.xtask(&["recover", "--yes"]).success().says("no problems found");
    assert_eq!(trace(repo.dir.as_std_path()), before);
    repo.xtask(&["recover", "git", "--to", "nowhere"])
        .status(2)
        .says("neither a branch nor a commit");
    repo.xtask(&["recover", "ports", "--to", "main"]).status(2);
    repo.xtask(&["recover", "everything"]).status(2);
    // Nobody to ask is no yes.
    repo.write("src/app", "dirty\n");
    repo.xtask(&["recover", "git"]).status(2).says("nothing was changed");
    assert_eq!(repo.read("src/app"), "dirty\n");
    repo.xtask(&["recover", "git", "--to", "HEAD~0", "--yes"]).success();
    assert_eq!(repo.git(&["branch", "--show-current"]), "");
    assert_eq!(repo.read("src/app"), "application\n");
    // What was committed there is on no branch, and would be forgotten with the backup.
    repo.write("src/own", "own\n");
    let own = repo.commit("on no branch");
    repo.xtask(&["recover", "git", "--to", "main", "--yes"]).success().says("recovered/HEAD-");
    let kept = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heads/recovered/"]);
    assert_eq!(kept.trim(), own);
}

/// Saves everything and goes to the default branch.
fn save_and_go(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let (_lock, _) = tools.lock_worktree(repo)?;
    let seen = inspect_worktree(repo, &secrets())?;
    let goal = target::find_target(repo, None)?;
    let leaves = Some(goal.to_moved_branch());
    let wish = BackupOptions {
        purpose: "recover",
        label: None,
        leaves,
        limits: BACKUP_LIMITS,
        replaced_paths: &[],
    };
    let saved = save_worktree(repo, tools, &seen, &wish)?;
    reset::reset_worktree(repo, tools, &saved, &goal).map(drop)
}

#[test]
fn recover_failing_at_any_step_loses_nothing() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    let before = promised(&repo);
    let calm = lab.copy();
    let all = steps_of(&repo.in_copy(&calm), save_and_go);
    assert!(all.len() > 25, "it has many steps: {all:?}");
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all) {
            let copy = lab.copy();
            let place = repo.in_copy(&copy);
            let (done, steps) = run_with(&place, save_and_go, fault, at);
            let told = format!("{fault:?} at {at}: {done:?}");
            // That something was left to tidy up is no failure.
            assert!(done.is_ok() || steps > at, "{told}");
            // The next command puts right what was interrupted; then the backup, if there is one, has it all.
            match backups(&place).first() {
                None => {
                    with_tools(&place, &world(&place), |repo, tools| {
                        tools.lock_worktree(repo).map(drop)
                    })
                    .unwrap();
                }
                Some(id) => drop(place.xtask(&["restore", id]).success()),
            }
            assert_eq!(promised(&place), before, "{told}");
        }
    }
}

#[test]
fn restore_failing_at_any_step_can_be_repeated() {
    let lab = Lab::new();
    let repo = broken_rebase(&lab);
    let before = promised(&repo);
    repo.xtask(&["recover", "git", "--yes"]).success();
    let id = backups(&repo).remove(0);
    repo.write("src/app", "since then\n");
    repo.write(".env", "A=since\n");
    let restore = |repo: &Repo, tools: &Tools<'_>| -> Result<()> {
        let (_lock, _) = tools.lock_worktree(repo)?;
        let chosen = choose_backup(repo, &id, RestoreScope::Whole)?;
        let goal = find_return_target(repo, &chosen)?.unwrap();
        let seen = inspect_worktree(repo, &secrets())?;
        let is_going = restore::needs_reset(repo, &chosen, Some(&goal))?;
        let leaves = is_going.then_some(None);
        let wish = BackupOptions {
            purpose: "restore",
            label: None,
            leaves,
            limits: BACKUP_LIMITS,
            replaced_paths: &[],
        };
        let saved = save_worktree(repo, tools, &seen, &wish)?;
        if is_going {
            reset::reset_worktree(repo, tools, &saved, &goal)?;
        }
        restore::move_branch_back(repo, tools, &chosen)?;
        let plan = restore::plan_restore(repo, &chosen, Some(&saved))?;
        restore::restore_backup(repo, tools, &chosen, plan, &saved).map(drop)
    };
    let calm = lab.copy();
    let all = steps_of(&repo.in_copy(&calm), restore);
    assert!(all.len() > 25, "it has many steps: {all:?}");
    for fault in [Fault::Fails, Fault::Crash] {
        for at in circle::steps(&all) {
            let copy = lab.copy();
            let place = repo.in_copy(&copy);
            let (done, _) = run_with(&place, restore, fault, at);
            place.xtask(&["restore", &id]).success();
            assert_eq!(promised(&place), before, "{fault:?} at {at}: {done:?}");
        }
    }
}

#[test]
fn recover_keeps_submodule_content_and_restores_its_staged_commit() {
    let lab = Lab::new();
    let module = lab.repo_named("module", &[]);
    let repo = lab.repo();
    repo.git(&["submodule", "--quiet", "add", "../module", "lib"]);
    repo.commit("a module");
    let lib = repo.at("lib");
    lib.write("src/app", "new in the module\n");
    let new = lib.commit("in the module");
    repo.git(&["add", "lib"]);
    lib.write("src/app", "not committed in the module\n");
    let before = repo.git(&["ls-files", "--stage"]);
    assert!(before.contains(&new));
    let ran = repo.xtask(&["recover", "git", "--yes"]).success();
    ran.says("not saved: `lib`, a submodule with changes");
    assert!(!repo.git(&["ls-files", "--stage"]).contains(&new));
    assert_eq!(lib.read("src/app"), "not committed in the module\n");
    repo.xtask(&["restore", &backups(&repo)[0]]).success();
    assert_eq!(repo.git(&["ls-files", "--stage"]), before);
    assert_eq!(lib.read("src/app"), "not committed in the module\n");
    drop(module);
}

#[test]
fn old_backups_and_their_copies_are_pruned_except_last_twenty() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".env", "A=0\n");
    let mut old = world(&repo);
    old.clock = || std::time::Duration::from_secs(1_600_000_000);
    let make = |world: &xtask_base::environment::Environment, number: usize| {
        repo.write(".env", format!("A={number}\n"));
        with_tools(&repo, world, |repo, tools| {
            let seen = inspect_worktree(repo, &secrets()).unwrap();
            let wish = BackupOptions {
                purpose: "backup",
                label: None,
                leaves: None,
                limits: BACKUP_LIMITS,
                replaced_paths: &[],
            };
            save_worktree(repo, tools, &seen, &wish).unwrap();
        });
    };
    for number in 0..3 {
        make(&old, number);
    }
    let folder = repo.git_folder().join("xtask/backup");
    let copies = || fs::read_dir(&folder).unwrap().count();
    assert_eq!((backups(&repo).len(), copies()), (3, 3));
    let new = world(&repo);
    for number in 3..23 {
        make(&new, number);
    }
    // Twenty new ones are the last twenty; of the old ones none is, and their copies went along.
    assert_eq!((backups(&repo).len(), copies()), (20, 20));
}

/// Git switches away from such a commit with a warning; afterwards only the reflog would know it.
#[test]
fn recover_keeps_detached_commits_on_a_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "--detach"]);
    repo.write("src/app", "on no branch\n");
    let loose = repo.commit("on no branch");
    repo.write("src/app", "and not committed\n");
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!(repo.read("src/app"), "application\n");
    let branches = repo.git(&["branch", "--contains", &loose]);
    assert_eq!(branches.lines().count(), 1, "{branches}");
}

#[test]
fn recover_keeps_the_sparse_index() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("docs/deep/page", "page\n");
    repo.commit("docs");
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "src", "setup"]);
    repo.write("src/app", "unsaved\n");
    repo.xtask(&["recover", "git", "--yes"]).success();
    assert_eq!((repo.read("src/app"), repo.status()), ("application\n".into(), String::new()));
    assert!(repo.git(&["ls-files", "--sparse"]).contains("docs/\n"));
}

/// Git talks of much that has nothing to do with what is saved.
#[test]
fn backup_ignores_git_warnings_on_stderr() {
    let lab = Lab::new();
    let repo = lab.repo();
    let backup = |what: &str, variables: &[(&str, &str)]| {
        repo.write("src/app", format!("{what}\n"));
        let ran = repo.xtask_with(&["backup"], variables).success();
        assert!(!ran.err.contains("not saved"), "{what}: {}", ran.err);
    };
    repo.git(&["config", "core.fsyncObjectFiles", "true"]);
    backup("a setting that is out of date", &[]);
    repo.git(&["config", "--unset", "core.fsyncObjectFiles"]);
    backup("a trace", &[("GIT_TRACE", "1")]);
    repo.write(".git/info/attributes", "setup/a filter=talk\n");
    repo.git(&["config", "filter.talk.clean", "echo 'talk: cleaning' >&2; cat"]);
    repo.write("setup/a", "to be cleaned\n");
    backup("a filter", &[]);
    repo.xtask(&["recover", "git", "--yes"]).success();
}

#[test]
fn backup_reports_unreadable_folders_unless_they_are_ignored() {
    if rustix::process::geteuid().is_root() {
        circle::not_tried("root opens every folder");
        return;
    }
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write(".gitignore", "ignored/\n");
    for folder in ["closed", "ignored"] {
        repo.write(&format!("{folder}/file"), "x\n");
        set_mode(&repo, folder, 0o000);
    }
    let ran = repo.xtask(&["backup"]).status(1);
    for folder in ["closed", "ignored"] {
        set_mode(&repo, folder, 0o755);
    }
    assert!(ran.err.contains("closed: Permission denied"), "{}", ran.err);
    assert!(!ran.err.contains("ignored"), "{}", ran.err);
}
