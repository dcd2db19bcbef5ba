//! Changes that wait to be taken in: one commit for each source, none of them lost, the same on every
//! machine; and their way onto the canonical branch.

use crate::testkit::{Lab, Place, trace, write_script};

const CHANGES: &str = "orchestration-tools-changes";

/// Three branches with managed changes of their own.
fn scene(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.canonical(&[("setup/list", Some("1\n2\n3\n4\n5\n6\n7\n8\n9\n"))]);
    for name in ["one", "two", "three"] {
        repo.git(&["branch", name, "orchestration-tools"]);
    }
    repo.on_branch("one", |place| {
        place.write("setup/list", "one\n2\n3\n4\n5\n6\n7\n8\n9\n");
        place.write("setup/deep/new/run", "#!/bin/sh\n");
        place.make_executable("setup/deep/new/run");
        place.link("list", "setup/link");
        place.remove("setup/b");
        place.write("src/app", "application of one\n");
    });
    repo.on_branch("two", |place| place.write("setup/list", "1\n2\n3\n4\n5\n6\n7\n8\nnine\n"));
    repo.on_branch("three", |place| place.write("scripts/three", "three\n"));
    repo
}

fn subjects(repo: &Place<'_>, range: &str) -> Vec<String> {
    let log = repo.git(&["log", "--reverse", "--format=%s", range]);
    log.lines().map(str::to_owned).collect()
}

#[test]
fn extract_collects_all_managed_changes_in_one_commit() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = repo.scene();
    let ran = repo.xtask(&["extract", "one"]).success().says("4 managed files collected");
    ran.says("cargo xtask promote one");
    assert_eq!(repo.id(&format!("{CHANGES}^")), repo.id("orchestration-tools"));
    let diff = |how: &str| repo.git(&["diff", how, "orchestration-tools", CHANGES]);
    assert_eq!(
        diff("--name-status"),
        "D\tsetup/b\nA\tsetup/deep/new/run\nA\tsetup/link\nM\tsetup/list\n"
    );
    assert_eq!(
        diff("--summary"),
        " delete mode 100644 setup/b\n create mode 100755 setup/deep/new/run\n create mode 120000 \
         setup/link\n"
    );
    let message = repo.git(&["show", "-s", "--format=%B", CHANGES]);
    for line in [
        "chore(extract): 4 managed files from one",
        "update setup/list (+1 -1)",
        "delete setup/b (+0 -1)",
        &format!("Orchestration-Commit: {}", repo.id("one")),
        "Orchestration-Branch: one",
    ] {
        assert!(message.contains(line), "{line}\n{message}");
    }
    assert_eq!(repo.git(&["show", "-s", "--format=%an", CHANGES]).trim(), "Ada");
    let after = repo.scene();
    assert_eq!((before.files, before.index, before.head), (after.files, after.index, after.head));
    // Again, and on another machine: the same commit.
    let tip = repo.id(CHANGES);
    repo.xtask(&["extract", "one"]).success();
    assert_eq!(repo.id(CHANGES), tip);
    repo.git(&["clone", "-q", repo.dir.as_str(), lab.path("clone").as_str()]);
    let clone = lab.place("clone");
    clone.git(&["update-ref", "-d", &format!("refs/remotes/origin/{CHANGES}")]);
    clone.run("git", &["config", "user.name", "Somebody else"], &[]).success();
    clone.xtask(&["extract", "one"]).success();
    assert_eq!(clone.id(CHANGES), tip);
}

#[test]
fn extract_and_promote_dry_run_write_nothing() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = trace(lab.path("repo").as_std_path());
    let seen = repo.xtask(&["extract", "one", "--dry-run", "--json"]).success().json();
    repo.xtask(&["promote", "--dry-run"]).success();
    assert_eq!(trace(lab.path("repo").as_std_path()), before);
    assert_eq!((&seen["schema"], &seen["branch"]), (&"xtask.extract/1".into(), &"one".into()));
    assert_eq!(seen["files"].as_array().unwrap().len(), 4);
    repo.xtask(&["extract", "one"]).success();
    assert_eq!(seen["commit"], repo.id(CHANGES));
}

#[test]
fn each_extracted_branch_keeps_its_own_commit() {
    let lab = Lab::new();
    let repo = scene(&lab);
    for name in ["one", "two", "three"] {
        repo.xtask(&["extract", name]).success();
    }
    let range = format!("orchestration-tools..{CHANGES}");
    let three = ["one", "two", "three"].map(|name| {
        let files = if name == "one" { "4 managed files" } else { "1 managed file" };
        format!("chore(extract): {files} from {name}")
    });
    assert_eq!(subjects(&repo, &range), three);
    // Both changes of the list are there, and each source can be made again without the others.
    assert_eq!(
        repo.git(&["show", &format!("{CHANGES}:setup/list")]),
        "one\n2\n3\n4\n5\n6\n7\n8\nnine\n"
    );
    repo.on_branch("one", |place| place.write("setup/a", "a by one\n"));
    repo.xtask(&["extract", "one"]).success().says("also waiting there: two, three");
    assert_eq!(subjects(&repo, &range)[0], "chore(extract): 5 managed files from one");
    assert_eq!(subjects(&repo, &range)[1..], three[1..]);
    assert_eq!(repo.git(&["show", &format!("{CHANGES}:setup/a")]), "a by one\n");
    // One that changes nothing any more takes its commit away.
    repo.on_branch("two", |place| place.write("setup/list", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    repo.xtask(&["extract", "two"]).success().says("its commit was removed");
    assert_eq!(subjects(&repo, &range).len(), 2);
    // What somebody has put there by hand is carried along, also if its message is copied.
    repo.on_branch(CHANGES, |place| place.write("setup/hand", "by hand\n"));
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["extract", "three"]).success();
    assert_eq!(repo.git(&["show", &format!("{CHANGES}:setup/hand")]), "by hand\n");
}

#[test]
fn conflicting_extract_is_refused_and_keeps_collected_changes() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.on_branch("three", |place| place.write("setup/list", "three\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    repo.xtask(&["extract", "one"]).success();
    let tip = repo.id(CHANGES);
    let json = repo.xtask(&["extract", "three", "--json"]).status(1);
    assert_eq!(json.out, "", "what is no JSON does not stand where JSON is expected");
    let ran = repo.xtask(&["extract", "three"]).status(1);
    ran.says("conflict setup/list").says("`three` conflicts with `one`").says("is unchanged");
    assert_eq!(repo.id(CHANGES), tip);
    // A new version of a source that stands before others must not conflict with them either.
    repo.xtask(&["extract", "two"]).success();
    repo.on_branch("one", |place| place.write("setup/list", "one\n2\n3\n4\n5\n6\n7\n8\nNINE\n"));
    let tip = repo.id(CHANGES);
    repo.xtask(&["extract", "one"]).status(1).says("`two`");
    assert_eq!(repo.id(CHANGES), tip);
}

#[test]
fn source_that_conflicts_with_canonical_does_not_block_others() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.xtask(&["extract", "one"]).success();
    repo.canonical(&[("setup/list", Some("canonical\n2\n3\n4\n5\n6\n7\n8\n9\n"))]);
    repo.xtask(&["extract", "three"]).success().says("one conflicts with `orchestration-tools`");
    assert_eq!(repo.git(&["show", &format!("{CHANGES}:scripts/three")]), "three\n");
    assert_eq!(repo.git(&["show", &format!("{CHANGES}:setup/deep/new/run")]), "#!/bin/sh\n");
    // The one itself is told what to do, and once it has, all is on the new canonical commit.
    repo.xtask(&["extract", "one"]).status(1).says("sync --merge");
    repo.in_worktree("one", |place| {
        place.write("setup/list", "canonical and one\n2\n3\n4\n5\n6\n7\n8\n9\n");
        place.git(&["add", "--all"]);
        let tip = place.id("orchestration-tools");
        let trailer = format!("Orchestration-Source: {tip}");
        place.git(&["commit", "-qm", "settled", "--trailer", &trailer]);
    });
    repo.xtask(&["extract", "one"]).success();
    assert!(
        repo.try_git(&["merge-base", "--is-ancestor", "orchestration-tools", CHANGES]).code
            == Some(0)
    );
    repo.xtask(&["promote", "--yes"]).success();
    assert_eq!(
        repo.git(&["show", "orchestration-tools:setup/list"]),
        "canonical and one\n2\n3\n4\n5\n6\n7\n8\n9\n"
    );
}

#[test]
fn extract_ignores_content_that_came_from_sync() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.canonical(&[("setup/a", Some("a2\n")), ("scripts/run.sh", None)]);
    repo.git(&["switch", "-q", "three"]);
    repo.xtask(&["sync"]).success();
    repo.write("setup/b", "b by three\n");
    repo.commit("more");
    repo.xtask(&["extract"]).success().says("2 managed files collected");
    let changed = repo.git(&["diff", "--name-status", "orchestration-tools", CHANGES]);
    assert_eq!(changed, "A\tscripts/three\nM\tsetup/b\n");
    // A branch that is only behind has nothing to collect.
    repo.git(&["branch", "behind", "orchestration-tools~1"]);
    let tip = repo.id(CHANGES);
    assert_eq!(repo.xtask(&["extract", "behind"]).success().out, "");
    assert_eq!(repo.id(CHANGES), tip);
    // Against a base of one's own.
    repo.xtask(&["extract", "three", "--base", "three~1"])
        .success()
        .says("1 managed file collected");
}

#[test]
fn promote_takes_only_the_chosen_sources() {
    let lab = Lab::new();
    let repo = scene(&lab);
    for name in ["one", "two", "three"] {
        repo.xtask(&["extract", name]).success();
    }
    repo.xtask(&["promote", "four", "--yes"]).status(2).says("pending: `one`, `two`, `three`");
    repo.xtask(&["promote", "two"]).status(2).says("--yes");
    repo.xtask(&["promote", "two", "--yes"]).success().says("still collected: one, three");
    assert_eq!(
        repo.git(&["show", "orchestration-tools:setup/list"]),
        "1\n2\n3\n4\n5\n6\n7\n8\nnine\n"
    );
    assert_eq!(
        repo.git(&["log", "-1", "--format=%an|%cn|%s", "orchestration-tools"]).trim(),
        "Ada|Ada|chore(extract): 1 managed file from two"
    );
    assert_eq!(subjects(&repo, &format!("orchestration-tools..{CHANGES}")).len(), 2);
    repo.xtask(&["promote", "--yes"]).success().says("2 new commits");
    assert_eq!(repo.id("orchestration-tools"), repo.id(CHANGES));
    assert_eq!(repo.git(&["show", "orchestration-tools:src/app"]), "application\n");
    repo.xtask(&["promote", "--yes"]).success().says("no changes are collected");
    // What has become canonical on the other road is no news.
    repo.on_branch("three", |place| place.write("scripts/three", "3\n"));
    repo.xtask(&["extract", "three"]).success();
    repo.xtask(&["reverse-sync", "three", "three", "--yes"]).success();
    let tip = repo.id("orchestration-tools");
    repo.xtask(&["promote", "--dry-run"]).success().says("is already there");
    repo.xtask(&["promote", "--yes"])
        .success()
        .says("already has all of it")
        .never_says("git push");
    assert_eq!(repo.id("orchestration-tools"), tip);
}

#[test]
fn promote_of_manual_commits_takes_only_managed_files() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.xtask(&["extract", "three"]).success();
    repo.on_branch(CHANGES, |place| {
        place.write("setup/hand", "by hand\n");
        place.write("src/app", "smuggled\n");
    });
    // It goes along only if somebody means it, and what of it is not managed stays and waits.
    repo.xtask(&["promote", "--yes"]).success().says("was committed there manually and is skipped");
    assert_eq!(repo.try_git(&["cat-file", "-e", "orchestration-tools:setup/hand"]).code, Some(128));
    let id = repo.id(CHANGES);
    repo.xtask(&["promote", "--yes", &id[..10]]).success().says("left out").says("src/app");
    assert_eq!(repo.git(&["show", "orchestration-tools:setup/hand"]), "by hand\n");
    assert_eq!(repo.git(&["show", "orchestration-tools:src/app"]), "application\n");
    assert_eq!(repo.git(&["diff", "--name-only", "orchestration-tools", CHANGES]), "src/app\n");
}

/// Two clones with the branches at a hub.
fn two_clones(lab: &Lab) -> (Place<'_>, Place<'_>, Place<'_>) {
    let repo = scene(lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "--all", "-u", "origin"]);
    repo.git(&["clone", "-q", hub.as_str(), lab.path("bob").as_str()]);
    (repo, lab.place("bob"), lab.place("hub"))
}

#[test]
fn concurrent_extract_pushes_of_two_clones_lose_nothing() {
    let lab = Lab::new();
    let (ada, bob, hub) = two_clones(&lab);
    ada.xtask(&["extract", "one", "--push"]).success();
    // Bob has not fetched that.
    bob.xtask(&["extract", "two", "--push"]).success();
    ada.xtask(&["extract", "three", "--push"]).success();
    let range = format!("orchestration-tools..{CHANGES}");
    assert_eq!(subjects(&hub, &range).len(), 3);
    // What only this clone has is not forgotten when it is pushed.
    bob.git(&["branch", "four", "origin/orchestration-tools"]);
    bob.on_branch("four", |place| place.write("setup/four", "4\n"));
    bob.xtask(&["extract", "four"]).success();
    ada.on_branch("one", |place| place.write("setup/a", "a by one\n"));
    ada.git(&["push", "-q", "origin", "one"]);
    ada.xtask(&["extract", "one", "--push"]).success();
    bob.git(&["fetch", "-q"]);
    bob.xtask(&["extract", "one", "--push"]).success();
    assert_eq!(subjects(&hub, &range).len(), 3, "what only Bob has collected was not named");
    bob.xtask(&["status"]).success().says("`four`");
    assert_eq!(hub.git(&["show", &format!("{CHANGES}:setup/a")]), "a by one\n");
    // What was promoted and pushed does not come back from a clone that has not heard of it.
    ada.git(&["fetch", "-q"]);
    ada.xtask(&["promote", "--yes"]).success();
    ada.git(&["push", "-q", "origin", "orchestration-tools"]);
    bob.xtask(&["extract", "two", "--push"]).success();
    assert_eq!(hub.id(CHANGES), hub.id("orchestration-tools"));
    bob.xtask(&["promote", "--dry-run"]).success().says("setup/four");
}

#[test]
fn extract_retries_a_lost_push_race_and_reverts_refused_pushes() {
    let lab = Lab::new();
    let (ada, bob, hub) = two_clones(&lab);
    bob.xtask(&["extract", "two"]).success();
    // While Ada pushes, Bob's commit arrives.
    let hook = lab.path("repo/.git/hooks/pre-push");
    let text = format!(
        "#!/bin/sh\ncat > /dev/null\n[ -e ../raced ] && exit 0\ntouch ../raced\nunset GIT_DIR\n\
         git -C '{}' push -q origin {CHANGES}\n",
        lab.path("bob")
    );
    write_script(&hook, text);
    ada.xtask(&["extract", "one", "--push"]).success();
    assert_eq!(subjects(&hub, &format!("orchestration-tools..{CHANGES}")).len(), 2);
    let refuse = lab.path("hub/hooks/pre-receive");
    write_script(&refuse, "#!/bin/sh\nexit 1\n");
    let before = ada.git(&["for-each-ref", "refs/heads"]);
    ada.xtask(&["extract", "three", "--push"]).status(3).says("rejected");
    assert_eq!(ada.git(&["for-each-ref", "refs/heads"]), before);
}

#[test]
fn extract_usage_errors_name_the_cause() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let before = repo.git(&["for-each-ref"]);
    repo.xtask(&["extract", "nowhere"]).status(2).says("no such branch: `nowhere`");
    repo.xtask(&["extract", "orchestration-tools"]).status(2).says("canonical branch itself");
    repo.xtask(&["extract", CHANGES]).status(2).says("the changes branch itself");
    repo.xtask(&["extract", "one", "--base", "nonsense"]).status(2).says("invalid revision");
    repo.xtask(&["extract", "one", "--push"]).status(3).says("no such remote");
    repo.xtask(&["extract", "one", "--comment"]).status(3);
    repo.git(&["switch", "-q", "--detach"]);
    repo.xtask(&["extract"]).status(2).says("HEAD is detached");
    repo.xtask(&["promote", "one", "--yes"]).status(2).says("is empty");
    assert_eq!(repo.git(&["for-each-ref"]), before);
    repo.xtask(&["extract", "one"]).success();
    repo.git(&["worktree", "add", "-q", lab.path("held").as_str(), CHANGES]);
    let before = repo.git(&["for-each-ref"]);
    repo.xtask(&["extract", "two"]).status(3).says("is checked out in");
    assert_eq!(repo.git(&["for-each-ref"]), before);
}

#[test]
fn extract_in_shallow_clone_is_refused_with_unshallow_hint() {
    let lab = Lab::new();
    let repo = scene(&lab);
    let url = format!("file://{}", repo.dir);
    let dir = lab.path("shallow");
    repo.git(&["clone", "-q", "--depth", "1", "--no-single-branch", &url, dir.as_str()]);
    let shallow = lab.place("shallow");
    shallow.xtask(&["extract", "one"]).status(3).says("--unshallow");
    assert_eq!(shallow.try_git(&["rev-parse", "-q", "--verify", CHANGES]).code, Some(1));
}

#[test]
fn status_lists_collected_changes_even_if_their_branch_is_malformed() {
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.xtask(&["extract", "one"]).success();
    repo.xtask(&["extract", "two"]).success();
    repo.xtask(&["status"]).success().says("collected for `orchestration-tools`: `one`, `two`");
    repo.git(&["branch", "orchestration-sync/main", "main"]);
    let all = repo.xtask(&["status", "--all", "--json"]).success().json();
    let names: Vec<_> = all["branches"].as_array().unwrap().iter().map(|b| &b["branch"]).collect();
    assert_eq!(names, ["main", "one", "three", "two"], "ours are no followers");
    repo.in_worktree(CHANGES, |place| {
        place.git(&["merge", "-q", "--no-ff", "-m", "a merge", "three"]);
    });
    repo.xtask(&["status"]).success().says("is a merge");
    repo.xtask(&["extract", "three"]).status(3).says("is a merge");
}

#[test]
fn changes_branch_deleted_at_the_remote_starts_over() {
    let lab = Lab::new();
    let (ada, _, hub) = two_clones(&lab);
    ada.xtask(&["extract", "one", "--push"]).success();
    hub.git(&["update-ref", "-d", &format!("refs/heads/{CHANGES}")]);
    ada.xtask(&["extract", "two", "--push"]).success();
    assert_eq!(subjects(&hub, &format!("orchestration-tools..{CHANGES}")).len(), 1);
}

#[test]
fn promote_prefers_local_extracts_over_older_pushed_ones() {
    let lab = Lab::new();
    let (ada, _, _) = two_clones(&lab);
    ada.xtask(&["extract", "three", "--push"]).success();
    ada.on_branch("three", |place| place.write("scripts/three", "v2\n"));
    ada.xtask(&["extract", "three"]).success();
    ada.xtask(&["extract", "one"]).success();
    ada.xtask(&["promote", "three", "--yes"]).success();
    assert_eq!(ada.git(&["show", "orchestration-tools:scripts/three"]), "v2\n");
    // It was taken back there, and does not come again by itself.
    ada.in_worktree("orchestration-tools", |place| {
        place.git(&["revert", "--no-edit", "HEAD"]);
    });
    ada.xtask(&["promote", "--dry-run"]).success().never_says("scripts/three");
    // One that was withdrawn here is not taken although the remote still has it.
    ada.xtask(&["extract", "two", "--push"]).success();
    ada.xtask(&["extract", "two"]).success();
    ada.on_branch("two", |place| place.write("setup/list", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    ada.xtask(&["extract", "two"]).success().says("was removed");
    ada.xtask(&["promote", "two", "--yes"]).status(2).says("no pending changes from `two`");
}

#[test]
fn withdrawn_change_is_not_reintroduced_by_another_clone() {
    let lab = Lab::new();
    let (ada, bob, hub) = two_clones(&lab);
    ada.xtask(&["extract", "two", "--push"]).success();
    bob.git(&["fetch", "-q"]);
    bob.xtask(&["extract", "two"]).success();
    ada.on_branch("two", |place| place.write("setup/list", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    ada.git(&["push", "-q", "origin", "two"]);
    ada.xtask(&["extract", "two", "--push"]).success().says("was removed");
    bob.git(&["fetch", "-q"]);
    bob.xtask(&["promote", "--yes"]).success().says("no changes are collected");
    bob.xtask(&["extract", "three", "--push"]).success();
    assert_eq!(subjects(&hub, &format!("orchestration-tools..{CHANGES}")).len(), 1);
}

#[test]
fn manual_commits_with_equal_messages_are_kept_apart() {
    let lab = Lab::new();
    let (ada, bob, _) = two_clones(&lab);
    ada.xtask(&["extract", "one", "--push"]).success();
    bob.git(&["fetch", "-q"]);
    bob.git(&["switch", "-q", CHANGES]);
    bob.write("setup/bob", "bob\n");
    bob.commit("fix");
    bob.git(&["push", "-q"]);
    ada.xtask(&["extract", "one"]).success();
    ada.git(&["worktree", "add", "-q", lab.path("hand").as_str(), CHANGES]);
    let hand = lab.place("hand");
    hand.write("setup/ada", "ada\n");
    hand.commit("fix");
    // A copied message does not make a commit one of the source's.
    hand.write("setup/copied", "copied\n");
    hand.git(&["add", "--all"]);
    hand.git(&["commit", "-q", "-C", "HEAD~1"]);
    ada.git(&["worktree", "remove", hand.dir.as_str()]);
    ada.git(&["fetch", "-q"]);
    ada.xtask(&["extract", "two"]).success();
    for path in ["setup/bob", "setup/ada", "setup/copied"] {
        ada.git(&["cat-file", "-e", &format!("{CHANGES}:{path}")]);
    }
}

#[test]
fn extract_push_does_not_publish_unpushed_canonical_commits() {
    let lab = Lab::new();
    let (ada, _, hub) = two_clones(&lab);
    ada.canonical(&[("setup/a", Some("secret\n"))]);
    ada.xtask(&["extract", "three"]).success();
    ada.xtask(&["extract", "one", "--push"]).success();
    assert_eq!(hub.git(&["show", &format!("{CHANGES}:setup/a")]), "a1\n");
    assert_eq!(subjects(&hub, &format!("orchestration-tools..{CHANGES}")).len(), 1);
}

#[test]
fn promote_is_refused_if_the_shown_changes_have_changed() {
    use xtask_changes::promote;
    let lab = Lab::new();
    let repo = scene(&lab);
    repo.xtask(&["extract", "three"]).success();
    let world = crate::crash::world(&repo);
    let taken = crate::crash::with_tools(&repo, &world, |repo_here, tools| {
        let choice = promote::select_changes(&repo_here.in_memory(), &[], tools).unwrap();
        repo.on_branch("three", |place| place.write("scripts/three", "EVIL\n"));
        repo.xtask(&["extract", "three"]).success();
        promote::promote_changes(repo_here, &[], &choice.selected_changes(), tools).map(drop)
    });
    assert!(taken.unwrap_err().message().contains("has changed since it was shown"));
    assert_eq!(
        repo.try_git(&["cat-file", "-e", "orchestration-tools:scripts/three"]).code,
        Some(128)
    );
}

/// Takes the change of a branch back, as somebody else, and says so at the remote.
fn withdraw_two(ada: &Place<'_>) {
    ada.on_branch("two", |place| place.write("setup/list", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    ada.git(&["push", "-q", "origin", "two"]);
    ada.xtask(&["extract", "two", "--push"]).success();
}

#[test]
fn withdrawn_change_stays_withdrawn_however_a_clone_got_it() {
    let ways: [fn(&Place<'_>); 3] = [
        // It was collected here and pushed with git.
        |bob| {
            bob.xtask(&["extract", "one"]).success();
            bob.xtask(&["extract", "two"]).success();
            bob.git(&["push", "-q", "origin", CHANGES]);
        },
        // It was made from what was fetched.
        |bob| {
            bob.xtask(&["extract", "two", "--push"]).success();
            bob.git(&["branch", "-q", CHANGES, &format!("origin/{CHANGES}")]);
        },
        // The same was collected here and there.
        |bob| {
            bob.xtask(&["extract", "two"]).success();
            bob.xtask(&["extract", "two", "--push"]).success();
            bob.xtask(&["extract", "two"]).success();
        },
    ];
    for way in ways {
        let lab = Lab::new();
        let (ada, bob, _) = two_clones(&lab);
        way(&bob);
        withdraw_two(&ada);
        bob.git(&["fetch", "-q"]);
        bob.xtask(&["promote", "--dry-run"]).success().never_says("from two");
        bob.xtask(&["promote", "two", "--yes"]).status(2).says("no pending changes from `two`");
    }
    // And where the very clone that has it withdraws it.
    let lab = Lab::new();
    let (ada, _, _) = two_clones(&lab);
    ada.xtask(&["extract", "two"]).success();
    withdraw_two(&ada);
    ada.xtask(&["promote", "two", "--yes"]).status(2).says("no pending changes from `two`");
}

#[test]
fn amended_or_rebased_commits_on_the_changes_branch_count() {
    let lab = Lab::new();
    let (ada, _, _) = two_clones(&lab);
    ada.xtask(&["extract", "one"]).success();
    ada.on_branch(CHANGES, |place| place.write("setup/hand", "first\n"));
    ada.git(&["push", "-q", "origin", CHANGES]);
    ada.git(&["worktree", "add", "-q", lab.path("hand").as_str(), CHANGES]);
    let hand = lab.place("hand");
    hand.write("setup/hand", "amended\n");
    hand.git(&["commit", "-q", "--amend", "--no-edit", "-a"]);
    // Two that look alike but for their content are two.
    hand.write("setup/twin", "1\n");
    hand.git(&["add", "."]);
    hand.git(&["commit", "-qm", "twin"]);
    hand.write("setup/twin", "1\n2\n");
    hand.git(&["commit", "-qam", "twin"]);
    ada.git(&["worktree", "remove", hand.dir.as_str()]);
    ada.xtask(&["extract", "three"]).success();
    assert_eq!(ada.git(&["show", &format!("{CHANGES}:setup/hand")]), "amended\n");
    assert_eq!(ada.git(&["show", &format!("{CHANGES}:setup/twin")]), "1\n2\n");
    // The state that a source has now is newer than one that was rebased away.
    let lab = Lab::new();
    let (ada, bob, _) = two_clones(&lab);
    ada.xtask(&["extract", "three", "--push"]).success();
    bob.git(&["branch", "-q", "three", "origin/three"]);
    bob.git(&["worktree", "add", "-q", lab.path("amend").as_str(), "three"]);
    let amend = lab.place("amend");
    amend.write("scripts/three", "rebased\n");
    amend.git(&["commit", "-q", "--amend", "--no-edit", "-a"]);
    bob.git(&["update-ref", "refs/remotes/origin/three", "three"]);
    bob.xtask(&["extract", "three"]).success();
    bob.git(&["fetch", "-q", "origin", CHANGES]);
    bob.xtask(&["promote", "three", "--yes"]).success();
    assert_eq!(bob.git(&["show", "orchestration-tools:scripts/three"]), "rebased\n");
}

#[test]
fn extract_requires_a_fetch_before_replacing_newer_changes() {
    let lab = Lab::new();
    let (ada, bob, hub) = two_clones(&lab);
    ada.on_branch("three", |place| place.write("scripts/three", "v2\n"));
    ada.git(&["push", "-q", "origin", "three"]);
    ada.xtask(&["extract", "three", "--push"]).success();
    bob.git(&["fetch", "-q", "origin", CHANGES]);
    bob.xtask(&["extract", "three"]).status(3).says("`git fetch` updates it");
    bob.git(&["fetch", "-q"]);
    bob.xtask(&["extract", "three"]).success();
    assert_eq!(bob.id(CHANGES), hub.id(CHANGES));
    // Whoever takes it is told that there is more by now.
    ada.on_branch("three", |place| place.write("scripts/three", "v3\n"));
    ada.git(&["push", "-q", "origin", "three"]);
    bob.git(&["fetch", "-q"]);
    bob.xtask(&["promote", "--dry-run"]).success().says("has new commits since");
}

#[test]
fn fresh_clone_can_extract_a_rebased_source_again() {
    let lab = Lab::new();
    let (ada, _, hub) = two_clones(&lab);
    ada.xtask(&["extract", "three", "--push"]).success();
    ada.git(&["worktree", "add", "-q", lab.path("amend").as_str(), "three"]);
    let amend = lab.place("amend");
    amend.write("scripts/three", "rebased\n");
    amend.git(&["commit", "-q", "--amend", "--no-edit", "-a"]);
    ada.git(&["push", "-q", "--force", "origin", "three"]);
    ada.git(&["clone", "-q", hub.dir.as_str(), lab.path("fresh").as_str()]);
    lab.place("fresh").xtask(&["extract", "three", "--push"]).success();
    assert_eq!(hub.git(&["show", &format!("{CHANGES}:scripts/three")]), "rebased\n");
}
