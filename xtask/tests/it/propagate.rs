//! The canonical state on every branch at once: the same commits as `sync` would make, refs that move
//! only from where they were seen, and nothing pushed but what was named.

use std::fs;

use crate::testkit::{Lab, Place, Ran, trace, write_script};

/// A repository with branches of every kind, and a canonical branch that has gone on.
fn fleet(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.git(&["branch", "plain"]);
    repo.git(&["branch", "feature/own"]);
    repo.on_branch("feature/own", |place| place.write("setup/b", "own\n"));
    repo.git(&["branch", "feature/work"]);
    repo.on_branch("feature/work", |place| place.write("src/app", "work\n"));
    repo.canonical(&[
        ("setup/a", Some("a2\n")),
        ("setup/b", Some("b2\n")),
        ("setup/new", Some("new\n")),
    ]);
    repo
}

/// The same with a remote that has all branches.
fn with_hub(lab: &Lab) -> Place<'_> {
    let repo = fleet(lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "--all", "-u", "origin"]);
    repo
}

fn branch_of<'j>(json: &'j serde_json::Value, name: &str) -> &'j serde_json::Value {
    let branches = json["branches"].as_array().unwrap();
    branches.iter().find(|one| one["branch"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn propagate_creates_the_same_commits_as_sync() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    let copy = lab.path("copy");
    repo.git(&["clone", "-q", "--mirror", repo.dir.as_str(), lab.path("mirror").as_str()]);
    repo.git(&["clone", "-q", lab.path("mirror").as_str(), copy.as_str()]);
    let copy = lab.place("copy");
    for name in ["plain", "feature/own", "feature/work", "orchestration-tools"] {
        copy.git(&["branch", "-f", "--no-track", name, &format!("origin/{name}")]);
    }
    repo.git(&["switch", "-q", "--detach"]);
    let before = repo.scene();
    repo.xtask(&["propagate", "plain", "feature/*"])
        .success()
        .says("3 branches brought up to date");
    for name in ["plain", "feature/own", "feature/work"] {
        copy.git(&["switch", "-q", name]);
        copy.xtask(&["sync"]).success();
        assert_eq!(repo.id(name), copy.id(name), "{name}");
    }
    // What a branch has customised stays, and so does everything else in this worktree.
    assert_eq!(repo.git(&["show", "feature/own:setup/b"]), "own\n");
    assert_eq!(repo.git(&["show", "feature/own:setup/a"]), "a2\n");
    assert_eq!(repo.git(&["show", "feature/work:src/app"]), "work\n");
    let after = repo.scene();
    assert_eq!((before.files, before.index, before.head), (after.files, after.index, after.head));
    let refs = repo.git(&["for-each-ref"]);
    let again = repo.xtask(&["propagate", "plain", "feature/*"]).success();
    assert_eq!((again.out, repo.git(&["for-each-ref"])), (String::new(), refs));
}

#[test]
fn propagate_dry_run_writes_nothing_and_reports_the_commits() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "--detach"]);
    let before = trace(lab.path("repo").as_std_path());
    let seen = repo.xtask(&["propagate", "--dry-run", "--json"]).success().json();
    assert_eq!(trace(lab.path("repo").as_std_path()), before);
    assert_eq!(seen["schema"], "xtask.propagate/1");
    let own = branch_of(&seen, "feature/own");
    assert_eq!((own["action"].as_str(), own["customised"].as_u64()), (Some("update"), Some(1)));
    assert!(own["paths"].as_array().unwrap().iter().any(|path| path["path"] == "setup/b"
        && path["class"] == "customised"
        && path["action"] == "keep"));
    repo.xtask(&["propagate"]).success();
    for name in ["plain", "feature/own"] {
        assert_eq!(branch_of(&seen, name)["new"], repo.id(name), "{name}");
    }
    assert_eq!(branch_of(&seen, "main")["new"], repo.id("orchestration-sync/main"));
}

#[test]
fn branch_checked_out_in_a_worktree_is_synced_there() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "plain"]);
    repo.write("setup/a", "unsaved\n");
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "-q", linked.as_str(), "feature/work"]);
    let linked = lab.place("linked");
    let ran = repo.xtask(&["propagate", "plain", "feature/work"]).success();
    ran.says("2 branches brought up to date").says("1 edited and kept");
    // The unsaved edit stays; the rest is synced, in index and files as well.
    assert_eq!(repo.read("setup/a"), "unsaved\n");
    assert_eq!(repo.status(), " M setup/a\n");
    assert_eq!(repo.read("setup/b"), "b2\n");
    assert_eq!(linked.read("setup/a"), "a2\n");
    assert_eq!(linked.status(), "");
    assert_eq!(linked.read("src/app"), "work\n");
}

#[test]
fn propagate_skips_branches_with_an_operation_in_progress() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["branch", "other", "main"]);
    repo.on_branch("other", |place| place.write("src/app", "other\n"));
    repo.git(&["switch", "-q", "feature/work"]);
    repo.git(&["branch", "stacked", "feature/work"]);
    assert_ne!(repo.try_git(&["rebase", "other"]).code, Some(0));
    let before = repo.id("feature/work");
    let ran = repo.xtask(&["propagate", "feature/work", "plain"]).success();
    ran.says("a rebase of it is in progress");
    assert_eq!(repo.id("feature/work"), before);
    // The others are done all the same.
    assert_eq!(repo.git(&["show", "plain:setup/a"]), "a2\n");
    repo.git(&["rebase", "--abort"]);
    let gone = lab.path("gone");
    repo.git(&["worktree", "add", "-q", gone.as_str(), "stacked"]);
    fs::remove_dir_all(&gone).unwrap();
    let before = repo.id("stacked");
    repo.xtask(&["propagate", "stacked"]).status(3).says("git worktree prune");
    assert_eq!(repo.id("stacked"), before);
}

#[test]
fn protected_branch_gets_a_sync_branch_until_it_is_merged() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "--detach"]);
    let main = repo.id("main");
    repo.xtask(&["propagate", "main"]).success().says("orchestration-sync/main");
    assert_eq!(repo.id("main"), main);
    let first = repo.id("orchestration-sync/main");
    assert_eq!(repo.git(&["show", "orchestration-sync/main:setup/a"]), "a2\n");
    assert_eq!(repo.id("orchestration-sync/main^"), main);
    repo.xtask(&["propagate", "main"]).success();
    assert_eq!(repo.id("orchestration-sync/main"), first);
    // It is made anew where main has moved, as long as nobody has put anything on it.
    repo.on_branch("main", |place| place.write("src/app", "more\n"));
    repo.xtask(&["propagate", "main"]).success();
    assert_eq!(repo.id("orchestration-sync/main^"), repo.id("main"));
    repo.on_branch("orchestration-sync/main", |place| place.write("src/app", "by hand\n"));
    let by_hand = repo.id("orchestration-sync/main");
    repo.on_branch("main", |place| place.write("src/app", "even more\n"));
    repo.xtask(&["propagate", "main"]).status(3).says("commits that are not xtask's");
    assert_eq!(repo.id("orchestration-sync/main"), by_hand);
    // Once main has it all, it goes.
    repo.git(&["branch", "-f", "orchestration-sync/main", "main"]);
    repo.xtask(&["propagate", "main"]).success();
    repo.git(&["branch", "-f", "main", "orchestration-sync/main"]);
    repo.xtask(&["propagate", "main"]).success().says("no longer needed and is deleted");
    assert_eq!(
        repo.try_git(&["rev-parse", "-q", "--verify", "orchestration-sync/main"]).code,
        Some(1)
    );
    let quiet = repo.xtask(&["propagate", "main"]).success();
    assert_eq!(quiet.out, "");
}

#[test]
fn branches_in_notify_mode_are_propagated_only_when_named() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.canonical(&[(
        "setup/sync.toml",
        Some(
            "[managed]\ninclude = [\"/setup/\", \"/scripts/\"]\n[[branch]]\nmatch = \"feature/*\"\n\
             mode = \"notify\"\n[[branch]]\nmatch = \"plain\"\nexclude = [\"/setup/a\"]\n",
        ),
    )]);
    repo.git(&["switch", "-q", "--detach"]);
    let work = repo.id("feature/work");
    repo.xtask(&["propagate", "-v"]).success().says("its mode is `notify`");
    assert_eq!(repo.id("feature/work"), work);
    assert_eq!(repo.git(&["show", "plain:setup/a"]), "a1\n");
    assert_eq!(repo.git(&["show", "plain:setup/b"]), "b2\n");
    repo.xtask(&["propagate", "feature/work"]).success();
    assert_eq!(repo.git(&["show", "feature/work:setup/a"]), "a2\n");
}

#[test]
fn unrelated_branches_are_skipped_and_mass_deletions_require_yes() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "--orphan", "pages"]);
    repo.write("index.html", "<p>\n");
    repo.commit("pages");
    repo.git(&["switch", "-q", "--detach", "main"]);
    repo.xtask(&["propagate", "pages", "-v"]).success().says("shares no history");
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", "pages"]), "index.html\n");
    repo.canonical(&[("setup/a", None), ("setup/b", None), ("setup/new", None)]);
    let before = repo.id("plain");
    repo.xtask(&["propagate", "plain"]).status(2).says("2 of the 3 managed files would be deleted");
    assert_eq!(repo.id("plain"), before);
    repo.xtask(&["propagate", "plain", "--yes"]).success();
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", "plain"]), "scripts/run.sh\nsrc/app\n");
}

#[test]
fn remote_only_branches_are_reported() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let told = |ran: Ran| ran.err.contains("only on the remote");
    repo.git(&["switch", "-q", "--detach", "main"]);
    repo.canonical(&[("setup/a", Some("newer\n"))]);
    assert!(!told(repo.xtask(&["propagate", "--dry-run"])));
    repo.git(&["branch", "-D", "plain"]);
    let ran = repo.xtask(&["propagate"]).success();
    let said = "1 branch is only on the remote and not updated: `plain`";
    assert!(ran.err.contains(said), "{}", ran.err);
    assert!(!told(repo.xtask(&["propagate", "--remote", "--dry-run"])));
}

#[test]
fn renamed_files_do_not_count_as_mass_deletion() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "--detach", "main"]);
    let text = |first: &str| format!("{first}\ntwo\nthree\nfour\n");
    let (one, other) = (text("one"), text("changed on the way"));
    repo.canonical(&[("setup/a", Some(&one)), ("setup/b", Some(&one)), ("setup/new", None)]);
    repo.xtask(&["propagate", "plain", "--yes"]).success();
    // Under the same names, and with nothing of what they held.
    let empty = [("setup/in/a", Some("")), ("setup/in/b", Some("else\n"))];
    repo.canonical(&[("setup/a", None), ("setup/b", None), empty[0], empty[1]]);
    repo.xtask(&["propagate", "plain"]).status(2).says("managed files would be deleted");
    repo.canonical(&[("setup/in/a", Some(&one)), ("setup/in/b", Some(&other))]);
    repo.xtask(&["propagate", "plain"]).success();
    let files = repo.git(&["ls-tree", "-r", "--name-only", "plain"]);
    assert!(files.contains("setup/in/a\nsetup/in/b\n") && !files.contains("setup/a\n"), "{files}");
}

#[test]
fn files_of_another_toolkit_version_do_not_count_as_mass_deletion() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-q", "-c", "work"]);
    let names = |folder: &str| (0..20).map(|at| format!("{folder}/{at}.rs")).collect::<Vec<_>>();
    let (old, new) = (names("xtask/old"), names("xtask/new"));
    let files = |names: &[String], text: Option<&'static str>, more: &[(&str, Option<&str>)]| {
        let all = names.iter().map(|name| (name.as_str(), text));
        repo.canonical(&all.chain(more.iter().copied()).collect::<Vec<_>>());
    };
    let rules = "[managed]\ninclude = [\"/setup/\", \"/xtask/\"]\n";
    let manifest = ("xtask/VENDORED.toml", Some("version = '1'\n"));
    files(&old, Some("old\n"), &[("setup/sync.toml", Some(rules)), manifest]);
    repo.xtask(&["sync"]).success();
    files(&old, None, &[]);
    files(&new, Some("new\n"), &[("xtask/VENDORED.toml", Some("version = '2'\n"))]);
    repo.xtask(&["sync"]).success();
    assert!(repo.has("xtask/new/1.rs") && !repo.has("xtask/old/1.rs"));
    // Without a toolkit on the canonical branch they are files as any others.
    files(&new, None, &[("xtask/VENDORED.toml", None)]);
    repo.xtask(&["sync"]).status(2).says("managed files would be deleted");
    assert!(repo.has("xtask/new/1.rs"));
}

#[test]
fn tracking_branch_is_fast_forwarded_and_unpushed_work_stays_local() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    repo.git(&["switch", "-q", "--detach"]);
    // `plain` has gone on at the remote, and here it has nothing of its own.
    let other = lab.path("other");
    repo.git(&["clone", "-q", "-b", "plain", lab.path("hub").as_str(), other.as_str()]);
    let bob = lab.place("other");
    bob.write("src/app", "by bob\n");
    bob.commit("by bob");
    bob.git(&["push", "-q"]);
    // `feature/work` has a commit here that nobody has pushed.
    repo.on_branch("feature/work", |place| place.write("src/app", "private\n"));
    let ran = repo.xtask(&["propagate", "--push"]).success();
    ran.says("not pushed: 2 unpushed commits would be pushed as well");
    let hub = lab.place("hub");
    assert_eq!(hub.git(&["show", "plain:src/app"]), "by bob\n");
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
    assert_eq!(hub.id("plain"), repo.id("plain"));
    assert_eq!(hub.git(&["show", "feature/work:src/app"]), "work\n");
    assert_eq!(hub.git(&["show", "feature/own:setup/a"]), "a2\n");
    // What stands beside a protected branch is made at the remote from what is there.
    assert_eq!(
        hub.try_git(&["rev-parse", "-q", "--verify", "orchestration-sync/main"]).code,
        Some(1)
    );
    assert_eq!(hub.git(&["show", "main:setup/a"]), "a1\n");
    // What was brought up to date before is pushed, and that is told, also beforehand.
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.xtask(&["propagate"]).success();
    // What is not on the canonical branch there is not pushed by the way.
    repo.xtask(&["propagate", "--push"]).success().says("unpushed commits are ignored");
    assert_eq!(hub.git(&["show", "feature/own:setup/a"]), "a2\n");
    repo.git(&["push", "-q", "origin", "orchestration-tools"]);
    let seen = repo.xtask(&["propagate", "--push", "--dry-run"]).success();
    seen.says("feature/own").says("would be pushed");
    repo.xtask(&["propagate", "--push"]).success().says("pushed as they were").says("feature/own");
    assert_eq!(hub.git(&["show", "feature/own:setup/a"]), "a3\n");
    // A branch that is only here is brought up to date, and not put there.
    repo.git(&["branch", "--no-track", "only-here", "main"]);
    repo.xtask(&["propagate", "--push"]).success().says("1 branch was not pushed");
    assert_eq!(repo.git(&["show", "only-here:setup/a"]), "a3\n");
    assert_eq!(hub.try_git(&["rev-parse", "-q", "--verify", "only-here"]).code, Some(1));
}

#[test]
fn propagate_remote_updates_all_branches_in_one_push() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    let refs = repo.git(&["for-each-ref", "refs/heads"]);
    repo.xtask(&["propagate", "--remote"]).status(2).says("--push");
    let before = trace(lab.path("repo").as_std_path());
    let seen = repo.xtask(&["propagate", "--remote", "--dry-run", "--json"]).success().json();
    assert_eq!(trace(lab.path("repo").as_std_path()), before);
    assert_eq!(seen["remote"], "origin");
    // One push, which a hook of the server counts.
    let pushes = lab.path("pushes");
    let hook = lab.path("hub/hooks/pre-receive");
    write_script(&hook, format!("#!/bin/sh\necho push >> '{pushes}'\n"));
    repo.xtask(&["propagate", "--remote", "--push"])
        .success()
        .says("3 branches and 1 side branch of `origin`");
    assert_eq!(fs::read_to_string(&pushes).unwrap(), "push\n");
    for name in ["plain", "feature/own", "feature/work"] {
        assert_eq!(hub.git(&["show", &format!("{name}:setup/a")]), "a2\n", "{name}");
        assert_eq!(branch_of(&seen, name)["new"], hub.id(name), "{name}");
    }
    assert_eq!(hub.id("orchestration-sync/main^"), hub.id("main"));
    // The branches here are as they were, and the second run pushes nothing.
    assert_eq!(repo.git(&["for-each-ref", "refs/heads"]), refs);
    assert_eq!(repo.xtask(&["propagate", "--remote", "--push"]).success().out, "");
    assert_eq!(fs::read_to_string(&pushes).unwrap(), "push\n");
}

#[test]
fn branch_that_moves_concurrently_is_retried_and_then_reported() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    // Before each push a hook of this clone moves a branch at the remote, as somebody else would.
    let moves = |times: usize| {
        let hook = lab.path("repo/.git/hooks/pre-push");
        let text = format!(
            "#!/bin/sh\ncat > /dev/null\nunset GIT_DIR\ncd '{hub}'\n\
             n=$(cat ../count 2>/dev/null || echo 0)\n[ \"$n\" -ge {times} ] && exit 0\n\
             echo $((n + 1)) > ../count\n\
             new=$(git commit-tree -p plain -m \"$n\" plain^{{tree}})\n\
             git update-ref refs/heads/plain \"$new\"\n",
            hub = lab.path("hub")
        );
        drop(fs::remove_file(lab.path("count")));
        write_script(&hook, text);
    };
    moves(2);
    repo.xtask(&["propagate", "--remote", "--push"]).success();
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
    assert_eq!(
        hub.git(&["log", "--format=%s", "plain"]).lines().take(3).collect::<Vec<_>>()[1],
        "1"
    );
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["push", "-q", "--no-verify", "origin", "orchestration-tools"]);
    moves(100);
    let ran = repo.xtask(&["propagate", "--remote", "--push"]).status(3);
    ran.says("kept moving");
    // The others went through in the first round.
    assert_eq!(hub.git(&["show", "feature/work:setup/a"]), "a3\n");
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
}

#[test]
fn branch_refused_by_the_remote_does_not_block_others() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    let hook = lab.path("hub/hooks/update");
    write_script(&hook, "#!/bin/sh\n[ \"$1\" != refs/heads/plain ] || { echo no; exit 1; }\n");
    let ran = repo.xtask(&["propagate", "--remote", "--push"]).status(3);
    ran.says("rejected by the remote: hook declined");
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a1\n");
    assert_eq!(hub.git(&["show", "feature/work:setup/a"]), "a2\n");
}

#[test]
fn branch_deleted_at_the_remote_is_not_recreated() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    hub.git(&["update-ref", "-d", "refs/heads/plain"]);
    repo.xtask(&["propagate", "--remote", "--push"]).success();
    assert_eq!(hub.try_git(&["rev-parse", "-q", "--verify", "plain"]).code, Some(1));
}

#[test]
fn unpushed_canonical_commits_do_not_reach_remote_branches() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    repo.canonical(&[("setup/a", Some("secret\n"))]);
    repo.xtask(&["propagate", "--remote", "--push"]).success().says("unpushed commits are ignored");
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
}

#[test]
fn propagate_usage_errors_name_the_cause() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.xtask(&["propagate", "nothing*", "plain"])
        .status(2)
        .says("no branch that follows `orchestration-tools` matches `nothing*`");
    assert_eq!(repo.git(&["show", "plain:setup/a"]), "a1\n");
    repo.xtask(&["propagate", "--push"]).status(3).says("no such remote: `origin`");
    repo.xtask(&["propagate", "--remote", "--push"]).status(3).says("no such remote");
    repo.xtask(&["propagate", "--pr"]).status(2);
    repo.git(&["remote", "add", "origin", lab.path("nowhere").as_str()]);
    repo.git(&["update-ref", "refs/remotes/origin/orchestration-tools", "orchestration-tools"]);
    repo.xtask(&["propagate", "--remote", "--push"])
        .status(3)
        .says("communication with remote `origin` failed");
    assert_eq!(repo.git(&["show", "plain:setup/a"]), "a1\n");
    // A branch named like an option is a branch.
    repo.git(&["update-ref", "refs/heads/--remote", "plain"]);
    repo.xtask(&["propagate", "--", "--remote"]).success();
    assert_eq!(repo.git(&["show", "refs/heads/--remote:setup/a"]), "a2\n");
}

#[test]
fn remote_sync_branch_of_a_protected_branch_loses_no_commits() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    let all = ["propagate", "--remote", "--push"];
    repo.xtask(&all).success();
    let first = hub.id("orchestration-sync/main");
    // It was merged by a squash, and the service has removed it; this clone has not heard of that.
    let tree = hub.git(&["rev-parse", "orchestration-sync/main^{tree}"]);
    let squashed = hub.git(&["commit-tree", "-p", "main", "-m", "squashed", tree.trim()]);
    hub.git(&["update-ref", "refs/heads/main", squashed.trim()]);
    hub.git(&["update-ref", "-d", "refs/heads/orchestration-sync/main"]);
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    repo.git(&["push", "-q", "origin", "orchestration-tools"]);
    repo.xtask(&all).success();
    assert_eq!(hub.id("orchestration-sync/main^"), squashed.trim());
    // Somebody has put a commit on it: neither a new state nor its end takes that away.
    let by_bob =
        hub.git(&["commit-tree", "-p", "orchestration-sync/main", "-m", "bob", tree.trim()]);
    hub.git(&["update-ref", "refs/heads/orchestration-sync/main", by_bob.trim()]);
    repo.canonical(&[("setup/a", Some("a4\n"))]);
    repo.git(&["push", "-q", "origin", "orchestration-tools"]);
    repo.xtask(&all).status(3).says("commits that are not xtask's");
    assert_eq!(hub.id("orchestration-sync/main"), by_bob.trim());
    hub.git(&["update-ref", "refs/heads/main", &first]);
    repo.xtask(&["propagate", "--push"]).success();
    assert_eq!(hub.id("orchestration-sync/main"), by_bob.trim());
}

#[test]
fn branch_tracking_another_named_branch_is_not_pushed_to_it() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    repo.git(&["branch", "--track", "topic", "origin/main"]);
    repo.git(&["branch", "--track", "tooling", "origin/orchestration-tools"]);
    repo.git(&["branch", "-f", "tooling", "main"]);
    repo.git(&["branch", "--track", "twin", "origin/plain"]);
    repo.git(&["switch", "-q", "--detach"]);
    let before = (hub.id("main"), hub.id("orchestration-tools"));
    let ran = repo.xtask(&["propagate", "--push", "-v"]);
    ran.success().says("its upstream is `main`").says("its upstream is `plain`");
    assert_eq!((hub.id("main"), hub.id("orchestration-tools")), before);
    assert_eq!(repo.git(&["show", "topic:setup/a"]), "a2\n");
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
}

#[test]
fn failed_push_still_reports_local_updates() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    repo.git(&["config", "remote.origin.pushurl", lab.path("nowhere").as_str()]);
    let seen = repo.xtask(&["propagate", "--push", "--json"]).status(3).json();
    let plain = branch_of(&seen, "plain");
    assert_eq!((plain["action"].as_str(), plain["short"].as_bool()), (Some("update"), Some(true)));
    assert_eq!(plain["new"], repo.id("plain"));
}

#[test]
fn propagate_uses_the_configured_canonical_remote() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let fork = lab.path("fork");
    repo.git(&["clone", "-q", "--bare", lab.path("hub").as_str(), fork.as_str()]);
    repo.canonical(&[(
        "setup/sync.toml",
        Some("[canonical]\nremote = \"upstream\"\n[managed]\ninclude = [\"/setup/\"]\n"),
    )]);
    repo.git(&["remote", "rename", "origin", "upstream"]);
    repo.git(&["remote", "add", "origin", fork.as_str()]);
    repo.git(&["push", "-q", "upstream", "orchestration-tools"]);
    // A branch that says itself which remote counts would be believed by nobody.
    repo.xtask(&["propagate"]).status(3).says("git config xtask.canonicalRemote upstream");
    repo.git(&["config", "xtask.canonicalRemote", "upstream"]);
    let fork = lab.place("fork");
    let only = fork.git(&["commit-tree", "-p", "main", "-m", "fork only", "main^{tree}"]);
    fork.git(&["update-ref", "refs/heads/main", only.trim()]);
    let before = fork.git(&["for-each-ref"]);
    repo.xtask(&["propagate", "--remote", "--push"]).success();
    let hub = lab.place("hub");
    assert_eq!(hub.id("orchestration-sync/main^"), hub.id("main"));
    assert_eq!(hub.git(&["show", "plain:setup/a"]), "a2\n");
    assert_eq!(fork.git(&["for-each-ref"]), before);
}

#[test]
fn broken_ref_does_not_block_propagation_to_others() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "--detach"]);
    repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/plain"]);
    repo.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere"]);
    fs::write(lab.path("repo/.git/refs/heads/no-object"), format!("{}\n", "1".repeat(40))).unwrap();
    let ran = repo.xtask(&["propagate", "-v"]).status(3);
    ran.says("another name for `plain`").says("no-object");
    assert_eq!(repo.git(&["show", "plain:setup/a"]), "a2\n");
    repo.xtask(&["propagate", "alias", "-v"]).success();
}

#[test]
fn unrelated_branch_in_a_worktree_is_left_alone() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    let pages = lab.path("pages");
    repo.git(&["worktree", "add", "-q", "--orphan", "-b", "pages", pages.as_str()]);
    let pages = lab.place("pages");
    pages.write("index.html", "<p>\n");
    let tip = pages.commit("pages");
    repo.xtask(&["propagate", "pages", "-v"]).success().says("shares no history");
    assert_eq!(pages.head(), tip);
}

#[test]
fn branch_of_a_symlinked_head_counts_as_checked_out() {
    let lab = Lab::new();
    let repo = fleet(&lab);
    repo.git(&["switch", "-q", "plain"]);
    let head = lab.path("repo/.git/HEAD");
    fs::remove_file(&head).unwrap();
    std::os::unix::fs::symlink("refs/heads/plain", &head).unwrap();
    assert_eq!(repo.git(&["symbolic-ref", "HEAD"]).trim(), "refs/heads/plain");
    repo.xtask(&["propagate", "plain"]).success().says("worktree  plain");
    assert_eq!(repo.git(&["symbolic-ref", "HEAD"]).trim(), "refs/heads/plain");
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    assert_eq!(repo.head(), repo.id("plain"));
}

#[test]
fn propagate_does_not_push_a_locally_forced_sync() {
    let lab = Lab::new();
    let repo = with_hub(&lab);
    let hub = lab.place("hub");
    repo.git(&["switch", "-q", "feature/own"]);
    repo.xtask(&["sync", "--force"]).success();
    let forced = repo.head();
    repo.git(&["switch", "-q", "--detach"]);
    repo.xtask(&["propagate", "--push", "-v"])
        .success()
        .says("1 unpushed commit would be pushed as well");
    assert_eq!(hub.git(&["show", "feature/own:setup/b"]), "own\n");
    // Nor is it thrown away where the branch has moved on at the remote.
    let moved = hub.git(&["commit-tree", "-p", "feature/own", "-m", "x", "feature/own^{tree}"]);
    hub.git(&["update-ref", "refs/heads/feature/own", moved.trim()]);
    repo.xtask(&["propagate", "--push"]).success();
    assert_eq!(repo.id("feature/own"), forced);
}

/// What a run over many branches makes is one pack, and few objects are files as ever.
#[test]
fn many_new_objects_are_written_as_one_pack() {
    for (hash, branches, packs) in [("sha1", 60, 1), ("sha256", 60, 1), ("sha1", 5, 0)] {
        let lab = Lab::new();
        let repo = lab.repo_named("repo", &[&format!("--object-format={hash}")]);
        for number in 0..branches {
            repo.git(&["switch", "-qc", &format!("branch-{number}"), "main"]);
            repo.write("src/own", format!("{number}\n"));
            repo.commit("its own");
        }
        repo.git(&["switch", "-q", "--detach"]);
        repo.canonical(&[("setup/a", Some("a2\n"))]);
        let loose = || {
            let counted = repo.git(&["count-objects"]);
            counted.split(' ').next().unwrap().parse::<usize>().unwrap()
        };
        let before = loose();
        repo.xtask(&["propagate"]).success();
        let folder = std::fs::read_dir(repo.git_folder().join("objects/pack")).unwrap().flatten();
        let found = folder.filter(|file| file.path().extension().is_some_and(|end| end == "pack"));
        assert_eq!(found.count(), packs, "{hash} {branches}");
        assert_eq!(loose() > before, packs == 0, "{hash} {branches}");
        for number in 0..branches {
            let name = format!("branch-{number}");
            assert_eq!(repo.git(&["show", &format!("{name}:setup/a")]), "a2\n");
            assert_eq!(repo.git(&["show", &format!("{name}:src/own")]), format!("{number}\n"));
        }
        assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]).trim(), "");
    }
}
