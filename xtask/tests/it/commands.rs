//! The commands around sync, as a user meets them.

use crate::testkit::{Lab, Place, program};

fn feature(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("setup/new", Some("n\n"))]);
    repo
}

#[test]
fn setup_creates_the_canonical_branch_once() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "--quiet", "-D", "orchestration-tools"]);
    repo.xtask(&["setup"])
        .success()
        .says("created `orchestration-tools`")
        .says("not on the remote yet")
        .says("there is no remote `origin`");
    assert_eq!(repo.id("orchestration-tools"), repo.head());
    let before = repo.scene();
    repo.xtask(&["setup"]).success().never_says("is new");
    assert_eq!(repo.scene(), before);
}

#[test]
fn setup_uses_the_remote_branch_and_syncs() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let clone = lab.path("clone");
    repo.git(&["clone", "--quiet", "--branch", "feature", ".", clone.as_str()]);
    let clone = lab.place("clone");
    clone
        .xtask(&["setup"])
        .success()
        .never_says("not on the remote")
        .says("2 managed files synced");
    assert_eq!(clone.read("setup/a"), "a2\n");
    assert_ne!(
        clone.try_git(&["rev-parse", "--verify", "refs/heads/orchestration-tools"]).code,
        Some(0)
    );
    // On a protected branch it says what it leaves undone, and that is no failure.
    clone.git(&["switch", "--quiet", "main"]);
    let before = clone.scene();
    clone.xtask(&["setup"]).success().says("`main` is protected").says("sync --allow-protected");
    assert_eq!(clone.scene(), before);
}

#[test]
fn status_counts_the_paths_of_each_class() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write("setup/b", "edited\n");
    let json = repo.xtask(&["status", "--json"]).success().json();
    assert_eq!(json["schema"], "xtask.status/1");
    assert_eq!(json["sync"]["behind"], 2);
    assert_eq!(json["sync"]["edited"], 1);
    assert_eq!(json["paths"][0]["path"], "setup/a");
}

#[test]
fn status_all_counts_every_branch_and_worktree() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["switch", "--quiet", "-c", "custom"]);
    repo.write("setup/b", "mine\n");
    repo.commit("custom");
    repo.git(&["switch", "--quiet", "feature"]);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", linked.as_str(), "custom"]);
    lab.place("linked").write("setup/a", "unsaved\n");
    let gone = lab.path("gone");
    repo.git(&["worktree", "add", "--quiet", "--detach", gone.as_str()]);
    std::fs::remove_dir_all(gone).unwrap();
    let json = repo.xtask(&["status", "--all", "--json"]).success().json();
    let branches: Vec<String> = json["branches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| format!("{} {} {}", b["branch"].as_str().unwrap(), b["behind"], b["customised"]))
        .collect();
    assert_eq!(branches, ["custom 2 1", "feature 2 0", "main 2 0"]);
    let worktrees = json["worktrees"].as_array().unwrap();
    assert_eq!(worktrees.len(), 3);
    assert_eq!(worktrees[0]["current"], true);
    let custom = worktrees.iter().find(|w| w["branch"] == "custom").unwrap();
    assert_eq!(custom["counts"]["edited"], 1);
    assert_eq!(custom["counts"]["behind"], 1);
    repo.xtask(&["status", "--all"]).success().says("git worktree prune").says("3 branches");
}

#[test]
fn diff_shows_managed_files_only() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write("src/app", "not managed\n");
    let shown = repo.xtask(&["diff"]).success().out;
    assert!(shown.contains("-a2\n+a1\n") && !shown.contains("src/app"), "{shown}");
    let shown = repo.at("setup").xtask(&["diff", "new"]).success().out;
    assert!(shown.contains("-n\n") && !shown.contains("a2"), "{shown}");
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.xtask(&["diff"]).success().out, "");
    assert!(repo.xtask(&["--color=always", "diff"]).success().out.is_empty());
}

#[test]
fn why_explains_rule_decision_contents_and_commits() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.xtask(&["why", "setup/a"])
        .success()
        .says("behind: it has an older canonical version; sync will update it")
        .says("last synced            none");
    repo.xtask(&["sync"]).success();
    repo.at("setup")
        .xtask(&["why", "a"])
        .success()
        .says("in-sync")
        .says("chore(sync): 2 managed files");
    repo.xtask(&["why", "setup/none"]).success().says("neither this branch nor the canonical");
}

#[test]
fn undo_reverts_run_by_run_and_refuses_files_changed_since() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let start = repo.scene();
    repo.xtask(&["sync"]).success();
    let synced = repo.scene();
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), start);
    repo.xtask(&["undo"]).success();
    assert_eq!(repo.scene(), synced, "an undo can be undone");
    // With a commit on top the files come back, and the branch stays.
    let id = repo.xtask(&["undo", "--list"]).success().out;
    let id = id.lines().last().unwrap().split_whitespace().next().unwrap().to_owned();
    repo.write("src/app", "on top\n");
    let top = repo.commit("on top");
    repo.write("setup/new", "changed since\n");
    repo.xtask(&["undo", &id]).status(1).says("1 path changed since, and kept").says("setup/new");
    assert_eq!(repo.head(), top);
    assert_eq!(repo.read("setup/a"), "a1\n");
    assert_eq!(repo.read("setup/new"), "changed since\n");
}

#[test]
fn undo_of_another_worktree_or_branch_is_refused() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "--quiet", "-b", "second", linked.as_str(), "main"]);
    let linked = lab.place("linked");
    linked.xtask(&["sync"]).success();
    let id = repo.xtask(&["undo", "--list"]).success().out;
    let id = id.split_whitespace().next().unwrap();
    repo.xtask(&["undo", id]).status(2).says("belongs to worktree");
    repo.xtask(&["undo"]).status(3).says("nothing to undo");
    linked.git(&["switch", "--quiet", "-c", "third", "main"]);
    linked.xtask(&["undo"]).status(2).says("`second`");
}

#[test]
fn old_backups_are_pruned_except_the_last_twenty() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.xtask(&["sync"]).success();
    let tree = repo.id("refs/xtask/backup/*^{tree}".replace('*', &first_backup(&repo)).as_str());
    for day in 1..=25 {
        let date = format!("2020-01-{day:02}T00:00:00Z");
        let variables = [("GIT_COMMITTER_DATE", date.as_str()), ("GIT_AUTHOR_DATE", date.as_str())];
        let commit = repo.run("git", &["commit-tree", &tree, "-m", "old"], &variables).success();
        let name = format!("refs/xtask/backup/202001{day:02}T000000Z-1");
        repo.git(&["update-ref", &name, commit.out.trim()]);
    }
    repo.xtask(&["undo"]).success();
    let left = repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask/backup"]);
    assert_eq!(left.lines().count(), 27, "an undo prunes nothing");
    repo.xtask(&["sync"]).success();
    let left = repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask/backup"]);
    assert_eq!(left.lines().count(), 20);
    assert!(left.contains("20200125") && !left.contains("20200108"), "{left}");
}

fn first_backup(repo: &Place<'_>) -> String {
    let list = repo.xtask(&["undo", "--list"]).success().out;
    list.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn switch_moves_the_overlay_to_the_new_branch() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "other", "main"]);
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.xtask(&["switch", "other"]).success().says("removed the overlay of 2 files");
    assert_eq!(repo.git(&["branch", "--show-current"]).trim(), "other");
    assert_eq!(repo.read("setup/a"), "a2\n", "as an overlay again");
    assert_eq!(repo.head(), repo.id("main"));
    repo.write("setup/new", "edited on top\n");
    repo.xtask(&["switch", "feature"]).success().says("`setup/new` was changed since");
    assert_eq!(repo.read("setup/new"), "edited on top\n");
    repo.xtask(&["switch", "nowhere"]).status(2).says("no such branch");
}

#[test]
fn switch_honours_the_sync_mode_of_the_branch() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "quiet/one", "main"]);
    repo.canonical(&[(
        "setup/sync.toml",
        Some("[[branch]]\nmatch = 'quiet/*'\nmode = 'notify'\n"),
    )]);
    repo.xtask(&["switch", "quiet/one"]).success().says("behind");
    assert_eq!(repo.head(), repo.id("main"));
    repo.xtask(&["switch", "main"]).success();
    assert_eq!(repo.status(), "", "a protected branch is only told about");
    repo.xtask(&["switch", "feature"]).success();
    assert_eq!(repo.git(&["log", "-1", "--format=%ae"]).trim(), "xtask-sync@users.noreply.invalid");
}

#[test]
fn run_executes_the_canonical_script_not_the_branch_version() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "hostile"]);
    repo.write("scripts/run.sh", "#!/bin/sh\necho evil\n");
    repo.write("scripts/lib/common.sh", "say() { echo evil; }\n");
    repo.commit("evil");
    repo.on_branch("orchestration-tools", |place| {
        place.write("scripts/lib/common.sh", "say() { echo good \"$@\"; }\n");
        place.write(
            "scripts/run.sh",
            "#!/bin/sh\n. \"$(dirname \"$0\")/lib/common.sh\"\nsay \"$@\"\npwd\n\
             echo \"$XTASK_ROOT $ORCHESTRATION_SYNC_ACTIVE\"\nexit 7\n",
        );
        place.write("scripts/plain", "#!/bin/sh\necho plain $1\n");
        place.write("scripts/data", "no program\n");
    });
    let ran = repo.at("src").xtask(&["run", "scripts/run.sh", "--flag", "a b"]).status(7);
    assert_eq!(ran.out, format!("good --flag a b\n{0}/src\n{0} 1\n", repo.dir));
    assert_eq!(repo.xtask(&["run", "./scripts/plain", "x"]).success().out, "plain x\n");
    repo.xtask(&["run", "scripts/data"]).status(2).says("cannot run `scripts/data`");
    repo.xtask(&["run", "scripts/none"]).status(2);
    assert_eq!(repo.status(), "");
    assert_eq!(repo.read("scripts/run.sh"), "#!/bin/sh\necho evil\n");
}

#[test]
fn json_has_the_documented_shape() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let json = repo.xtask(&["sync", "--json"]).success().json();
    assert_eq!(json["schema"], "xtask.sync/1");
    assert_eq!(json["canonical"]["ref"], "refs/heads/orchestration-tools");
    assert_eq!(json["canonical"]["commit"], repo.id("orchestration-tools"));
    assert_eq!(json["worktree"], repo.dir.as_str());
    assert_eq!((&json["branch"], &json["mode"]), (&"feature".into(), &"commit".into()));
    assert_eq!(json["commit"], repo.head());
    assert_eq!(json["undo"], first_backup(&repo));
    assert_eq!(json["paths"][0]["path"], "setup/a");
    assert_eq!(json["paths"][0]["class"], "behind");
    assert_eq!(json["paths"][0]["action"], "update");
    assert!(json["paths"][0]["reason"].is_string());
    let json = repo.xtask(&["sync", "--json"]).success().json();
    assert_eq!(json["commit"], serde_json::Value::Null);
    assert_eq!(json["paths"].as_array().unwrap().len(), 0, "in-sync only with -v");
    let json = repo.xtask(&["sync", "--json", "-v"]).success().json();
    assert_eq!(json["paths"].as_array().unwrap().len(), 4);
    assert_eq!(json["paths"][0]["class"], "in-sync");
}

#[test]
fn core_fsync_none_is_interpreted_as_by_git() {
    let lab = Lab::new();
    let repo = lab.repo();
    // By `git help config`: a list of components, read in order, in which `none` takes back all before it.
    for (value, skips) in [
        ("none", true),
        ("all,none", true),
        ("none,", true),
        ("none,reference", false),
        ("all", false),
    ] {
        repo.git(&["config", "core.fsync", value]);
        let opened = xtask_git::Repo::discover(repo.dir.as_std_path()).unwrap();
        assert_eq!(opened.skips_fsync(), skips, "{value}");
    }
}

#[test]
fn git_hook_variables_do_not_redirect_sync_to_another_repository() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let other = lab.repo_named("other", &[]);
    let git_folder = other.dir.join(".git");
    let index = other.dir.join(".git/index");
    let before = other.scene();
    let variables = [
        ("GIT_DIR", git_folder.as_str()),
        ("GIT_WORK_TREE", other.dir.as_str()),
        ("GIT_INDEX_FILE", index.as_str()),
        ("GIT_PREFIX", "setup/"),
    ];
    repo.xtask_with(&["sync"], &variables).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.status(), "");
    assert_eq!(other.scene(), before);
}

#[test]
fn completions_and_help_cover_all_commands() {
    let lab = Lab::new();
    let repo = lab.repo();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = repo.xtask(&["completions", shell]).success().out;
        assert!(text.contains("all-worktrees"), "{shell}");
    }
    let help = repo.xtask(&["--help"]).success().out;
    for command in ["setup", "sync", "status", "diff", "why", "undo", "switch", "run"] {
        assert!(help.contains(&format!("  {command}")), "{command} in\n{help}");
    }
    assert!(help.contains("Exit codes:"));
    repo.xtask(&["sync", "--help"]).success().says("Examples:").says("customised");
    repo.xtask(&["--version"]).success();
}

#[test]
fn output_is_coloured_only_on_terminals_or_on_request() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let plain = repo.xtask(&["status"]).success().out;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = repo.xtask(&["--color=always", "status"]).success().out;
    assert!(coloured.contains('\u{1b}'));
}

#[test]
fn quiet_sync_prints_nothing_to_stderr() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let ran = repo.xtask(&["-q", "sync"]).success();
    assert_eq!(ran.err, "");
}

#[test]
fn failure_in_one_worktree_does_not_stop_the_others() {
    let lab = Lab::new();
    let repo = feature(&lab);
    for number in 0..10 {
        let dir = lab.path(&format!("tree-{number}"));
        repo.git(&[
            "worktree",
            "add",
            "--quiet",
            "-b",
            &format!("b{number}"),
            dir.as_str(),
            "main",
        ]);
    }
    let broken = lab.place("tree-3");
    broken.git(&["bisect", "start"]);
    let ran = repo.xtask(&["sync", "--all-worktrees"]).status(3);
    assert!(ran.err.contains("a bisect is in progress"), "{}", ran.err);
    for number in (0..10).filter(|number| *number != 3) {
        let place = lab.place(&format!("tree-{number}"));
        assert_eq!(place.read("setup/a"), "a2\n", "{number}");
        assert_eq!(place.status(), "");
    }
    assert_eq!(broken.read("setup/a"), "a1\n");
    let ids: std::collections::BTreeSet<String> =
        (0..10).filter(|n| *n != 3).map(|n| repo.id(&format!("b{n}"))).collect();
    assert_eq!(ids.len(), 1, "the same tip makes the same commit");
}

#[test]
fn removing_a_forced_overlay_restores_overwritten_work() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["branch", "other", "main"]);
    repo.write("setup/a", "an hour of work\n");
    repo.write("setup/new", "untracked\n");
    repo.remove("setup/b");
    let before = repo.scene();
    repo.xtask(&["sync", "--no-commit", "--force", "--yes"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/a"), "a3\n");
    repo.xtask(&["-q", "switch", "other"]);
    repo.git(&["switch", "--quiet", "feature"]);
    assert_eq!(repo.read("setup/a"), "an hour of work\n");
    assert_eq!(repo.read("setup/new"), "untracked\n");
    assert_eq!(repo.scene().status, before.status);
}

#[test]
fn failed_switch_leaves_the_overlay_unchanged() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.on_branch("main", |place| place.write("src/app", "other application\n"));
    repo.xtask(&["sync", "--no-commit"]).success();
    repo.write("src/app", "in the way\n");
    let before = repo.scene();
    repo.xtask(&["switch", "nosuch"]).status(2).says("no such branch: `nosuch`");
    assert_eq!(repo.scene(), before);
    repo.xtask(&["switch", "main"]).status(3).says("the overlay was restored");
    assert_eq!(repo.scene(), before);
    repo.write("src/app", "application\n");
    repo.xtask(&["switch", "main"]).success();
    repo.xtask(&["switch", "-"]).success();
    assert_eq!(repo.git(&["branch", "--show-current"]).trim(), "feature");
}

#[test]
fn setup_asks_the_remote_before_creating_a_canonical_branch() {
    let lab = Lab::new();
    let repo = feature(&lab);
    let clone = lab.path("clone");
    let url = format!("file://{}", repo.dir);
    repo.git(&["clone", "--quiet", "--single-branch", "-b", "main", &url, clone.as_str()]);
    let clone = lab.place("clone");
    assert_ne!(clone.try_git(&["rev-parse", "origin/orchestration-tools"]).code, Some(0));
    clone.xtask(&["setup"]).success().never_says("not on the remote");
    assert_eq!(clone.id("origin/orchestration-tools"), repo.id("orchestration-tools"));
    clone.git(&["update-ref", "-d", "refs/remotes/origin/orchestration-tools"]);
    clone.git(&["remote", "set-url", "origin", lab.path("gone").as_str()]);
    clone.xtask(&["setup"]).status(3).says("git branch orchestration-tools");
    assert_ne!(clone.try_git(&["rev-parse", "orchestration-tools"]).code, Some(0));
}

#[test]
fn resolved_conflict_is_the_base_of_the_next_merge() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.write("setup/a", "mine\n");
    repo.commit("customise");
    let said = repo.xtask(&["-q", "sync", "--merge"]).status(1).err;
    assert!(said.contains("conflict in setup/a: resolve it in"), "{said}");
    repo.write("setup/a", "settled\n");
    let source = repo.id("orchestration-tools");
    let trailer = format!("Orchestration-Source: {source}");
    assert!(said.contains(&trailer), "{said}");
    repo.git(&["commit", "--quiet", "--trailer", &trailer, "-m", "settle", "setup/a"]);
    repo.xtask(&["sync", "--merge"]).success().says("nothing new");
}

#[test]
fn diff_does_not_report_untracked_files_as_deleted() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.xtask(&["diff"]).success().out, "");
    repo.write("setup/new", "other\n");
    repo.xtask(&["diff"]).success().says("`setup/new` is untracked").never_says("deleted");
}

#[test]
fn unwritable_standard_output_is_a_failure() {
    let lab = Lab::new();
    let repo = feature(&lab);
    for args in ["status", "sync --json --dry-run", "why setup/a", "completions bash"] {
        let script = format!("'{}' {args} > /dev/full", program());
        repo.run("sh", &["-c", &script], &[]).status(3).says("cannot write to stdout");
    }
    let script = format!("'{}' completions bash | head -c 1", program());
    repo.run("sh", &["-c", &script], &[]).success().never_says("error");
}

#[test]
fn dry_run_and_status_announce_that_sync_would_refuse() {
    let lab = Lab::new();
    let repo = feature(&lab);
    repo.git(&["switch", "--quiet", "main"]);
    repo.xtask(&["sync", "--dry-run"]).success().says("a real run refuses: `main` is protected");
    repo.xtask(&["status"]).success().says("sync refuses: `main` is protected");
    repo.git(&["switch", "--quiet", "feature"]);
    repo.xtask(&["status"]).success().says("`cargo xtask sync` updates them");
    repo.xtask(&["why", "setup"]).success().says("managed: `[managed] include` has `/setup/`");
}

#[test]
fn command_help_has_details_and_examples() {
    let lab = Lab::new();
    let repo = lab.repo();
    for (command, text) in [
        ("sync", "customised  the branch has committed a version of its own"),
        ("push", "All arguments are passed to `git push`."),
        ("reverse-sync", "Several commits succeed together or not at all."),
        ("extract", "Extracting a branch"),
        ("promote", "succeed together or not at all"),
        ("propagate", "A protected branch is not"),
        ("install-hooks", "post-checkout, post-merge, post-rewrite"),
        ("undo", "A hook syncs the same files again"),
    ] {
        let help = repo.xtask(&[command, "--help"]).success();
        help.says(text).says("Examples:");
    }
}

#[test]
fn conflict_can_be_resolved_in_favour_of_the_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.write("setup/a", "mine\n");
    repo.commit("mine");
    repo.canonical(&[("setup/a", Some("theirs\n"))]);
    let ran = repo.xtask(&["sync", "--merge"]).status(1);
    let said = ran.err.lines().find(|line| line.trim_start().starts_with("cp ")).unwrap();
    let commit =
        said.split_once("&& ").unwrap().1.replace("git commit", "git commit -qm mine-stays");
    repo.run("sh", &["-c", &commit], &[]).success();
    assert_eq!(repo.read("setup/a"), "mine\n");
    repo.xtask(&["sync", "--merge"]).success();
    repo.xtask(&["extract"]).success().says("1 managed file collected");
    repo.xtask(&["promote", "--yes"]).success();
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/a"]), "mine\n");
}
