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
fn newer_of_local_and_remote_canonical_branch_is_used() {
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
fn diverged_canonical_branch_uses_the_remote_with_a_warning() {
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
fn sync_fetch_fetches_only_the_canonical_branch() {
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
fn sync_fetch_fails_if_the_remote_is_unreachable() {
    let lab = Lab::new();
    let (ada, _) = two_clones(&lab);
    ada.git(&["remote", "set-url", "origin", lab.path("gone.git").as_str()]);
    ada.xtask(&["sync", "--fetch"]).status(3).says("git fetch origin").says("--fetch");
}

#[test]
fn sync_creates_the_same_commit_on_every_machine() {
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
fn branch_with_only_sync_commits_is_moved_to_its_upstream() {
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
fn branch_behind_upstream_is_fast_forwarded_only_before_a_sync() {
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
fn branch_with_own_commits_is_not_moved_to_its_upstream() {
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
fn amended_sync_commit_counts_as_own_work() {
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
fn sync_refuses_to_follow_upstream_over_local_changes() {
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
    ada.xtask(&["sync"]).status(3).says("which is ahead").says("stash");
    assert_eq!(ada.scene(), before);
}

#[test]
fn configuration_of_the_visited_branch_is_ignored() {
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
fn sync_commits_to_protected_branch_only_with_allow_protected() {
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
fn worktree_configuration_is_used_if_canonical_branch_has_none() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "--quiet", "-c", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n")), ("conf/x", Some("x\n"))]);
    repo.write("setup/sync.toml", "[managed]\ninclude = ['/conf/']\n");
    repo.xtask(&["sync"]).success().says("using the one in the working tree");
    assert_eq!(repo.read("conf/x"), "x\n");
    assert_eq!(repo.read("setup/a"), "a1\n");
    // Not through a symlink, though.
    repo.remove("setup/sync.toml");
    repo.write("elsewhere.toml", "[managed]\ninclude = ['/src/']\n");
    repo.link("../elsewhere.toml", "setup/sync.toml");
    repo.xtask(&["sync"]).success().never_says("using the one in the working tree");
}

#[test]
fn invalid_configuration_is_refused_with_all_faults() {
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
fn setup_detects_and_remembers_a_custom_canonical_branch() {
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
fn default_canonical_branch_may_redirect_exactly_once() {
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
fn sync_on_the_canonical_branch_changes_nothing() {
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

/// A clone of ours, and a fork whose canonical branch has a file of its own, rules that would make more of it
/// count, and a check that touches `ran`.
fn fork(lab: &Lab) -> Place<'_> {
    let hub = lab.repo_named("hub", &[]);
    hub.git(&["branch", "feature"]);
    hub.canonical(&[("setup/a", Some("a2\n"))]);
    let (clone, theirs) = (lab.path("clone"), lab.path("fork"));
    hub.git(&["clone", "--quiet", ".", clone.as_str()]);
    hub.git(&["clone", "--quiet", "--branch", "orchestration-tools", ".", theirs.as_str()]);
    let theirs = lab.place("fork");
    theirs.write("setup/a", "of the fork\n");
    theirs
        .write("setup/sync.toml", "[canonical]\nremote = \"fork\"\n[managed]\ninclude = [\"/\"]\n");
    let touch = format!("touch {}", lab.path("ran"));
    theirs.write(
        "setup/validate.toml",
        format!(
            "[phase.p]\n[[check]]\nname = 'x'\nphase = 'p'\nrun = '{touch}'\nhook = 'pre-commit'\n"
        ),
    );
    theirs.commit("please look at this");
    let clone = lab.place("clone");
    clone.git(&["remote", "add", "fork", "../fork"]);
    clone.git(&["fetch", "--quiet", "fork"]);
    clone.git(&["switch", "--quiet", "--no-track", "-c", "mine", "origin/feature"]);
    clone.install_hooks().success();
    clone
}

/// Whatever is done with the canonical name: our own remote decides, and says so once.
#[track_caller]
fn is_ours(clone: &Place<'_>, reason: &str) {
    clone.git(&["switch", "--quiet", "mine"]);
    assert_eq!(clone.read("setup/a"), "a2\n", "the remote of ours counts");
    clone.write("src/app", format!("{}\n", clone.head()));
    let ran = clone.try_git(&["commit", "--quiet", "-am", "work"]).success();
    assert!(!clone.lab.path("ran").exists(), "a command of the fork ran: {}", ran.err);
    let status = clone.xtask(&["status"]).success();
    let warning = "local branch `orchestration-tools` is not the one of `origin`: ";
    let said = [status.out, status.err].concat();
    let warned: Vec<_> = said.lines().filter(|line| line.contains(warning)).collect();
    assert_eq!(warned.len(), 1, "{said}");
    assert!(warned[0].contains(reason), "{}", warned[0]);
    clone.xtask(&["sync", "--check"]).success();
}

#[test]
fn canonical_branch_copied_from_a_fork_is_ignored() {
    let ways: [(&[&str], &str); 5] = [
        (
            &["switch", "-q", "-c", "orchestration-tools", "fork/orchestration-tools"],
            "its upstream is `fork/orch",
        ),
        (
            &[
                "switch",
                "-q",
                "--no-track",
                "-c",
                "orchestration-tools",
                "fork/orchestration-tools",
            ],
            "not made here",
        ),
        (&["fetch", "-q", "fork", "orchestration-tools:orchestration-tools"], "not made here"),
        (
            &["branch", "orchestration-tools", "fork/orchestration-tools"],
            "its upstream is `fork/orch",
        ),
        (
            &["update-ref", "refs/heads/orchestration-tools", "fork/orchestration-tools"],
            "not made here",
        ),
    ];
    for (way, reason) in ways {
        let lab = Lab::new();
        let clone = fork(&lab);
        clone.git(way);
        is_ours(&clone, reason);
    }
}

#[test]
fn local_commits_do_not_make_a_fork_branch_canonical() {
    let lab = Lab::new();
    let clone = fork(&lab);
    clone.git(&[
        "switch",
        "-q",
        "--no-track",
        "-c",
        "orchestration-tools",
        "fork/orchestration-tools",
    ]);
    clone.write("setup/b", "of ours\n");
    clone.commit("on top of it");
    is_ours(&clone, "it has a commit that was not made here");
    // Nothing lands on it either.
    let own = clone.head();
    let range = ["reverse-sync", "mine", own.as_str(), "--yes"];
    assert_ne!(clone.xtask(&range).code, Some(0));
}

#[test]
fn unpushed_local_commits_of_the_canonical_branch_count() {
    let lab = Lab::new();
    let clone = fork(&lab);
    // Not followed, and ahead by commits, a merge and a cherry-pick of this clone.
    clone.git(&[
        "switch",
        "-q",
        "--no-track",
        "-c",
        "orchestration-tools",
        "origin/orchestration-tools",
    ]);
    clone.write("setup/a", "a3\n");
    clone.commit("for everybody");
    clone.git(&["switch", "-q", "-c", "topic", "HEAD~1"]);
    clone.write("setup/b", "b2\n");
    clone.commit("on a branch");
    clone.git(&["switch", "-q", "orchestration-tools"]);
    clone.git(&["merge", "-q", "--no-edit", "topic"]);
    clone.git(&["switch", "-q", "mine"]);
    assert_eq!((clone.read("setup/a"), clone.read("setup/b")), ("a3\n".into(), "b2\n".into()));
    assert!(!clone.xtask(&["status"]).success().err.contains("is not the one of"));
    // And a branch that follows the one of our remote counts whatever a person has merged into it.
    clone.git(&["switch", "-q", "orchestration-tools"]);
    clone.git(&["branch", "-q", "--set-upstream-to=origin/orchestration-tools"]);
    clone.git(&["merge", "-q", "-X", "theirs", "--no-edit", "fork/orchestration-tools"]);
    clone.git(&["rm", "-q", "setup/sync.toml", "setup/validate.toml"]);
    clone.git(&["commit", "-qm", "their files, not their rules"]);
    clone.git(&["switch", "-q", "mine"]);
    assert_eq!(clone.read("setup/a"), "of the fork\n");
}

#[test]
fn fork_branch_is_refused_if_origin_lacks_a_canonical_branch() {
    let lab = Lab::new();
    let clone = fork(&lab);
    clone.git(&["update-ref", "-d", "refs/remotes/origin/orchestration-tools"]);
    for way in ["--track", "--no-track"] {
        clone.git(&["switch", "-q", way, "-c", "orchestration-tools", "fork/orchestration-tools"]);
        clone.git(&["switch", "-q", "mine"]);
        assert_eq!(clone.read("setup/a"), "a1\n");
        let refused = clone.xtask(&["sync"]).status(3);
        refused.says("is not the canonical branch of `origin`").says("fork/orchestration-tools");
        clone.xtask(&["setup"]).status(3).says("is not the canonical branch of `origin`");
        clone.git(&["branch", "-q", "-D", "orchestration-tools"]);
    }
}
