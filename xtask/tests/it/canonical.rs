//! Which commit is canonical, where its configuration comes from, and branches that two people
//! share.

use crate::testkit::{Lab, Place};

/// A bare remote and two clones of it, on `feature`.
fn two_clones(lab: &Lab) -> (Place<'_>, Place<'_>) {
    let repo = lab.repo();
    repo.git(&["branch", "feature"]);
    let remote = lab.path("remote.git");
    repo.git(&["clone", "--quiet", "--bare", ".", remote.as_str()]);
    let clone = |name: &str| {
        let dir = lab.path(name);
        repo.git(&["clone", "--quiet", "--branch", "feature", remote.as_str(), dir.as_str()]);
        lab.place(name)
    };
    (clone("ada"), clone("ben"))
}

/// Changes the canonical branch on the remote, by way of a clone.
fn push_canonical(place: &Place<'_>, path: &str, content: &str) {
    place.git(&["fetch", "--quiet"]);
    place.git(&["switch", "--quiet", "--detach", "origin/orchestration-tools"]);
    place.write(path, content);
    place.commit("canonical change");
    place.git(&["push", "--quiet", "origin", "HEAD:orchestration-tools"]);
    place.git(&["switch", "--quiet", "feature"]);
}

#[test]
fn the_newer_of_local_and_remote_counts() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "remote\n");
    ada.git(&["branch", "orchestration-tools", "origin/orchestration-tools"]);
    ada.xtask(&["sync", "-v"]).success().says("in sync");
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success().says("origin/orchestration-tools");
    assert_eq!(ada.read("setup/a"), "remote\n");
    ada.git(&["branch", "--force", "orchestration-tools", "origin/orchestration-tools"]);
    ada.canonical(&[("setup/a", Some("local\n"))]);
    ada.xtask(&["sync"]).success();
    assert_eq!(ada.read("setup/a"), "local\n");
}

#[test]
fn where_they_have_diverged_the_remote_counts_with_a_warning() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "remote\n");
    ada.git(&["branch", "orchestration-tools", "origin/orchestration-tools"]);
    ada.canonical(&[("setup/b", Some("local\n"))]);
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success().says("have diverged").says("without 1 local commit ");
    assert_eq!(ada.read("setup/a"), "remote\n");
    assert_eq!(ada.read("setup/b"), "b1\n");
}

#[test]
fn fetch_brings_the_canonical_branch_and_nothing_else_is_asked_for() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "remote\n");
    ben.git(&["push", "--quiet", "origin", "HEAD:refs/heads/unrelated"]);
    ada.xtask(&["sync", "--fetch"]).success();
    assert_eq!(ada.read("setup/a"), "remote\n");
    assert_ne!(ada.try_git(&["rev-parse", "--verify", "origin/unrelated"]).code, Some(0));
    assert!(!ada.has(".git/FETCH_HEAD"));
    ada.xtask(&["sync", "--fetch", "--check"]).status(2).says("write nothing");
}

#[test]
fn a_remote_that_cannot_be_reached_is_a_failure() {
    let lab = Lab::new();
    let (ada, _) = two_clones(&lab);
    ada.git(&["remote", "set-url", "origin", lab.path("gone.git").as_str()]);
    ada.xtask(&["sync", "--fetch"]).status(3).says("git fetch origin").says("--fetch");
}

#[test]
fn two_machines_make_the_same_commit() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "a2\n");
    push_canonical(&ben, "setup/deep/new", "n\n");
    ada.git(&["config", "user.name", "Somebody else"]);
    ada.git(&["config", "commit.gpgSign", "true"]);
    ada.write("src/app", "other local work\n");
    for place in [&ada, &ben] {
        place.git(&["fetch", "--quiet"]);
        place.xtask(&["sync"]).success();
    }
    assert_eq!(ada.head(), ben.head());
    let shown = ada.git(&["show", "-s", "--format=%an <%ae>%n%cn <%ce>%n%ad%n%B", "--date=iso"]);
    let canonical = ada.id("origin/orchestration-tools");
    assert_eq!(
        shown.trim_end(),
        format!(
            "xtask sync <xtask-sync@users.noreply.invalid>\n\
             xtask sync <xtask-sync@users.noreply.invalid>\n\
             2026-01-01 00:00:00 +0000\n\
             chore(sync): 2 managed files from orchestration-tools\n\n\
             update setup/a\ncreate setup/deep/new\n\n\
             Orchestration-Source: {canonical}"
        )
    );
}

#[test]
fn a_branch_with_only_sync_commits_follows_its_upstream() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "a2\n");
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success();
    let lonely = ada.head();
    // Ben pushes his own work first, without ever having synced.
    ben.write("src/app", "ben\n");
    ben.commit("ben's work");
    ben.git(&["push", "--quiet"]);
    ada.git(&["fetch", "--quiet"]);
    ada.write("src/unrelated", "unsaved\n");
    ada.xtask(&["sync"]).success().says("moved to its upstream");
    assert_ne!(ada.head(), lonely);
    assert_eq!(ada.id("HEAD^"), ben.head());
    assert_eq!(ada.read("src/app"), "ben\n");
    assert_eq!(ada.read("src/unrelated"), "unsaved\n");
    assert_eq!(ada.read("setup/a"), "a2\n");
    ada.git(&["push", "--quiet"]);
}

#[test]
fn a_branch_that_is_simply_behind_is_moved_only_to_be_synced() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    ben.write("src/app", "ben\n");
    ben.commit("ben's work");
    ben.git(&["push", "--quiet"]);
    ada.git(&["fetch", "--quiet"]);
    let before = ada.head();
    ada.xtask(&["sync"]).success();
    assert_eq!(ada.head(), before, "there was nothing to sync, so nothing was moved");
    push_canonical(&ben, "setup/a", "a2\n");
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success();
    assert_eq!(ada.id("HEAD^"), ben.head(), "no commit of ours makes the branch diverge");
}

#[test]
fn a_branch_with_work_of_its_own_is_not_moved() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "a2\n");
    ben.write("src/app", "ben\n");
    ben.commit("ben's work");
    ben.git(&["push", "--quiet"]);
    ada.git(&["fetch", "--quiet"]);
    ada.write("src/ada", "ada\n");
    let own = ada.commit("ada's work");
    ada.xtask(&["sync"]).success();
    assert_eq!(ada.id("HEAD^"), own);
}

#[test]
fn a_commit_that_only_looks_like_ours_is_work_all_the_same() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "a2\n");
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success();
    // Somebody amends our commit and keeps identity and message.
    ada.write("src/app", "slipped in\n");
    ada.git(&["add", "src/app"]);
    let ours = "xtask-sync@users.noreply.invalid";
    ada.git(&[
        "-c",
        "user.name=xtask sync",
        "-c",
        &format!("user.email={ours}"),
        "commit",
        "--quiet",
        "--amend",
        "--no-edit",
    ]);
    let own = ada.head();
    ben.write("src/other", "ben\n");
    ben.commit("ben's work");
    ben.git(&["push", "--quiet"]);
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success();
    assert_eq!(ada.head(), own, "nothing was dropped");
    assert_eq!(ada.read("src/app"), "slipped in\n");
}

#[test]
fn local_changes_in_the_way_of_the_upstream_stay() {
    let lab = Lab::new();
    let (ada, ben) = two_clones(&lab);
    push_canonical(&ben, "setup/a", "a2\n");
    ada.git(&["fetch", "--quiet"]);
    ada.xtask(&["sync"]).success();
    ben.write("src/app", "ben\n");
    ben.commit("ben's work");
    ben.git(&["push", "--quiet"]);
    ada.git(&["fetch", "--quiet"]);
    ada.write("src/app", "unsaved\n");
    let before = ada.scene();
    ada.xtask(&["sync"]).status(3).says("has gone ahead").says("stash");
    assert_eq!(ada.scene(), before);
}

#[test]
fn the_visited_branch_does_not_decide() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "hostile"]);
    repo.write(
        "setup/sync.toml",
        "[canonical]\nbranch = 'hostile'\n[managed]\ninclude = ['/src/']\n",
    );
    repo.write("setup/branches.toml", "protected = []\n");
    repo.commit("take over");
    repo.canonical(&[
        ("setup/sync.toml", Some("[managed]\ninclude = ['/setup/']\n")),
        ("setup/branches.toml", Some("protected = ['hostile']\n")),
        ("setup/a", Some("a2\n")),
    ]);
    repo.xtask(&["sync"]).status(1).says("`hostile` is protected");
    repo.xtask(&["sync", "--allow-protected"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn a_protected_branch_is_committed_to_only_when_asked() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let before = repo.scene();
    repo.xtask(&["sync"]).status(1).says("`main` is protected").says("--allow-protected");
    assert_eq!(repo.scene(), before);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(repo.head(), before.head.lines().last().unwrap());
    repo.xtask(&["sync", "--allow-protected"]).success();
    assert_eq!(repo.status(), "");
}

#[test]
fn without_a_file_on_the_canonical_branch_the_one_here_counts_and_that_is_said() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("conf/x", Some("x\n"))]);
    repo.write("setup/sync.toml", "[managed]\ninclude = ['/conf/']\n");
    repo.xtask(&["sync"]).success().says("the one in the working tree counts");
    assert_eq!(repo.read("conf/x"), "x\n");
    assert_eq!(repo.read("setup/a"), "a1\n");
    // Not through a symlink, though.
    repo.remove("setup/sync.toml");
    repo.write("elsewhere.toml", "[managed]\ninclude = ['/src/']\n");
    repo.link("../elsewhere.toml", "setup/sync.toml");
    repo.xtask(&["sync"]).success().never_says("working tree counts");
}

#[test]
fn configuration_that_does_not_parse_is_refused_with_all_its_faults() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[(
        "setup/sync.toml",
        Some("[hoks]\nmode = 'commit'\n[managed]\nincludes = ['/setup/']\n"),
    )]);
    let before = repo.scene();
    repo.xtask(&["sync"])
        .status(2)
        .says("2 faults in setup/sync.toml at orchestration-tools")
        .says("setup/sync.toml:1: unknown key `hoks`; did you mean `hooks`?")
        .says("setup/sync.toml:4: unknown key `managed.includes`; did you mean `include`?");
    assert_eq!(repo.scene(), before);
}

#[test]
fn another_name_is_found_by_setup_and_remembered() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "-m", "orchestration-tools", "tooling"]);
    let config = "[canonical]\nbranch = 'tooling'\n";
    repo.on_branch("tooling", |place| {
        place.write("setup/sync.toml", config);
        place.write("setup/a", "a2\n");
    });
    repo.git(&["switch", "--quiet", "-c", "feature", "tooling"]);
    repo.xtask(&["setup"]).success();
    assert_eq!(repo.git(&["config", "xtask.canonicalBranch"]).trim(), "tooling");
    repo.git(&["switch", "--quiet", "-c", "other", "main"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "a2\n");
}

#[test]
fn the_default_name_may_point_to_another_branch_once() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "tooling"]);
    repo.canonical(&[("setup/sync.toml", Some("[canonical]\nbranch = 'tooling'\n"))]);
    repo.on_branch("tooling", |place| {
        place.write("setup/sync.toml", "[canonical]\nbranch = 'tooling'\n");
        place.write("setup/a", "from tooling\n");
    });
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.xtask(&["sync"]).success();
    assert_eq!(repo.read("setup/a"), "from tooling\n");
    repo.on_branch("tooling", |place| {
        place.write("setup/sync.toml", "[canonical]\nbranch = 'nowhere'\n");
    });
    repo.xtask(&["sync"]).status(2).says("points on to `nowhere`");
}

#[test]
fn on_the_canonical_branch_there_is_nothing_to_do() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "orchestration-tools"]);
    repo.write("setup/a", "editing the original\n");
    let before = repo.scene();
    repo.xtask(&["sync", "--force"]).success();
    repo.xtask(&["sync", "-v"]).success().says("is the canonical branch");
    repo.xtask(&["sync", "--check"]).success();
    assert_eq!(repo.scene(), before);
}
