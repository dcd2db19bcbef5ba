//! Every kind of repository that git makes: refs in files and as reftable, ids of both lengths, whole, partial
//! and sparse. The story of a canonical change is the same in all of them.

use std::path::Path;
use std::process::Command;

use crate::testkit::{Lab, Place, Ran, circle, spawn, write_script};

/// What a repository is made with.
const FORMATS: [(&str, &str); 4] =
    [("files", "sha1"), ("files", "sha256"), ("reftable", "sha1"), ("reftable", "sha256")];

/// How much of it is here.
const PARTS: [&str; 4] = ["full", "blob:none", "tree:0", "sparse index"];

/// Whether the git of this machine knows a form of refs.
fn git_knows(lab: &Lab, format: &str) -> bool {
    let place = lab.place(".");
    let made = place.try_git(&["init", "-q", &format!("--ref-format={format}"), "probe"]);
    made.code == Some(0)
}

/// The repository of a team, in which the canonical branch is ahead of all others, and a clone of it.
fn clone_of<'a>(lab: &'a Lab, (format, hash): (&str, &str), part: &str) -> Place<'a> {
    let hub = lab.place("hub");
    std::fs::create_dir_all(&hub.dir).unwrap();
    let format = format!("--ref-format={format}");
    hub.git(&["init", "-q", &format, &format!("--object-format={hash}")]);
    hub.git(&["config", "uploadpack.allowFilter", "true"]);
    for (path, text) in [
        ("setup/a", "1\n2\n3\n4\n5\n"),
        ("setup/b", "b\n"),
        ("src/app", "application\n"),
        ("docs/deep/page", "page\n"),
    ] {
        hub.write(path, text);
    }
    hub.commit("first");
    hub.git(&["switch", "-qc", "orchestration-tools"]);
    for number in 0..5 {
        hub.write(&format!("setup/new/{number}"), format!("{number}\n"));
    }
    hub.write("setup/a", "one\n2\n3\n4\n5\n");
    hub.git(&["rm", "-q", "setup/b"]);
    hub.commit("canonical");
    hub.git(&["switch", "-q", "main"]);
    for branch in ["feature", "side", "behind"] {
        hub.git(&["branch", branch]);
    }
    hub.git(&["switch", "-qc", "own"]);
    hub.write("setup/a", "1\n2\n3\n4\nfive\n");
    hub.commit("its own");
    hub.git(&["switch", "-q", "main"]);
    let address = format!("file://{}", hub.dir);
    let place = lab.place("clone");
    let mut args = vec!["clone", "-q", &format, "-b", "feature"];
    let filter = format!("--filter={part}");
    if part.contains(':') {
        args.push(&filter);
    }
    args.extend([&address, "clone"]);
    lab.place(".").git(&args);
    for branch in ["side", "own"] {
        place.git(&["branch", "-q", branch, &format!("origin/{branch}")]);
    }
    if part == "sparse index" {
        place.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "setup", "src"]);
    }
    place
}

/// How many requests a command made for what it had not got.
fn requests(place: &Place<'_>, args: &[&str]) -> (Ran, usize) {
    let log = place.lab.path("trace");
    std::fs::remove_file(&log).ok();
    let ran = place.xtask_with(args, &[("GIT_TRACE", log.as_str())]);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let fetches = text.lines().filter(|line| line.contains("built-in: git fetch")).count();
    (ran, fetches)
}

/// The story: look, sync, look, undo, sync by a hook, propagate, merge, collect.
fn story(place: &Place<'_>, what: &str) {
    let is_same = |branch: &str| {
        let range = ["diff", "--name-only", branch, "origin/orchestration-tools", "--", "setup"];
        assert_eq!(place.git(&range), "", "{what}: {branch}");
    };
    for args in
        [&["status"][..], &["status", "--all"], &["why", "setup/a"], &["propagate", "--dry-run"]]
    {
        let (ran, requests) = requests(place, args);
        ran.success();
        // Folders may come, once; contents never do.
        assert!(requests <= 1, "{what}: {args:?}: {requests}");
    }
    let before = (place.head(), place.status());
    place.xtask(&["sync", "--check"]).status(1);
    let (ran, count) = requests(place, &["sync"]);
    ran.success();
    assert!(count <= 1, "{what}: {count} requests");
    is_same("feature");
    assert_eq!(place.status(), "", "{what}");
    place.xtask(&["sync", "--check"]).success();
    place.xtask(&["undo"]).success();
    place.xtask(&["pin", "setup", "--reason", "why"]).success();
    place.xtask(&["sync", "--check", "--strict"]).success();
    assert_eq!(place.status(), "", "{what}");
    place.xtask(&["undo"]).success();
    assert_eq!((place.head(), place.status()), before, "{what}");
    place.install_hooks().success();
    place.git(&["switch", "-q", "side"]);
    is_same("side");
    place.git(&["switch", "-q", "feature"]);
    let (ran, count) = requests(place, &["propagate"]);
    ran.success();
    assert!(count <= 1, "{what}: {count} requests");
    place.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "own"]);
    let (ran, count) = requests(place, &["sync", "--merge"]);
    ran.success();
    assert!(count <= 1, "{what}: {count} requests");
    assert_eq!(place.read("setup/a"), "one\n2\n3\n4\nfive\n", "{what}");
    place.xtask(&["diff"]).success();
    place.xtask(&["extract"]).success();
    assert_eq!(place.git(&["show", "orchestration-tools-changes:setup/a"]), place.read("setup/a"));
    place.xtask(&["promote", "own", "--yes"]).success();
    place.xtask(&["branch", "check"]).success();
    assert_eq!(place.status(), "", "{what}");
    assert_eq!(place.git(&["fsck", "--no-dangling"]).trim(), "", "{what}");
    no_litter(&place.git_folder());
}

/// Nothing of ours that was only for a moment, and no lock.
fn no_litter(folder: &Path) {
    let mut left = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if name.ends_with(".new") || name.ends_with(".lock") && name != "install.lock" {
                left.push(entry.path());
            }
        }
    }
    // Our own locks are files that stay.
    left.retain(|path| !path.components().any(|part| part.as_os_str() == "xtask"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sync_works_in_every_repository_format() {
    let probe = Lab::new();
    for format in FORMATS {
        if !git_knows(&probe, format.0) {
            circle::not_tried(&format!("this git does not know refs as {}", format.0));
            continue;
        }
        for part in PARTS {
            // In the usual circle each kind once.
            let is_diagonal = format == FORMATS[0] || part == PARTS[0] || format == FORMATS[3];
            if circle::is_exhaustive() || is_diagonal {
                let lab = Lab::new();
                story(&clone_of(&lab, format, part), &format!("{format:?} {part}"));
            }
        }
    }
}

/// Without the remote, what is missing is named, and nothing has changed.
#[test]
fn partial_clone_without_remote_names_the_missing_paths() {
    let lab = Lab::new();
    let place = clone_of(&lab, FORMATS[0], "blob:none");
    std::fs::rename(lab.path("hub"), lab.path("away")).unwrap();
    let before = place.scene();
    let refused = place.xtask(&["sync"]).status(3);
    refused.says("of this partial clone are missing").says("setup/new/0").says("`origin`: ");
    assert_eq!(place.scene(), before);
    place.xtask(&["status"]).success().says("7 behind");
    // Other branches need no contents; the one that is checked out does.
    place.xtask(&["propagate"]).status(3).says("missing: `setup/a`");
    assert_eq!(place.git(&["diff", "--name-only", "side", "origin/orchestration-tools"]), "");
    place.install_hooks().success();
    place.try_git(&["switch", "-qc", "new"]).success().says("missing");
    std::fs::rename(lab.path("away"), lab.path("hub")).unwrap();
    place.xtask(&["sync"]).success();
    place.xtask(&["sync", "--check"]).success();
}

/// The rules themselves may be elsewhere: looking says so, and writing brings them with what they lead to.
#[test]
fn only_writing_commands_fetch_missing_rules_in_partial_clones() {
    let lab = Lab::new();
    drop(clone_of(&lab, FORMATS[0], "full"));
    let hub = lab.place("hub");
    hub.on_branch("orchestration-tools", |other| {
        other.write("setup/sync.toml", "[managed]\ninclude = ['/setup/']\n");
    });
    let address = format!("file://{}", hub.dir);
    lab.place(".").git(&["clone", "-q", "-b", "feature", "--filter=blob:none", &address, "other"]);
    let place = lab.place("other");
    let (looked, count) = requests(&place, &["status"]);
    looked
        .status(3)
        .says("setup/sync.toml")
        .says("read-only commands do not fetch missing objects");
    assert_eq!(count, 0);
    let (ran, count) = requests(&place, &["sync"]);
    ran.success();
    assert_eq!(count, 1);
    place.xtask(&["sync", "--check"]).success();
}

/// Git migrates refs from one form to the other between two commands.
#[test]
fn migrating_the_ref_format_between_commands_loses_nothing() {
    let lab = Lab::new();
    if !git_knows(&lab, "reftable") {
        return circle::not_tried("this git does not know refs as reftable");
    }
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let migrate = |to: &str| {
        // Git 2.47 cannot take reflogs along.
        std::fs::remove_dir_all(repo.git_folder().join("logs")).ok();
        let migrated = repo.try_git(&["refs", "migrate", &format!("--ref-format={to}")]);
        migrated.code == Some(0)
    };
    repo.git(&["config", "core.logAllRefUpdates", "false"]);
    repo.write("setup/b", "edit\n");
    repo.xtask(&["backup"]).success();
    let saved = repo.xtask(&["backup", "--list"]).out;
    assert!(migrate("reftable"));
    assert_eq!(repo.xtask(&["backup", "--list"]).out, saved);
    repo.xtask(&["sync"]).success();
    let saved = repo.xtask(&["undo", "--list"]).out;
    if migrate("files") {
        assert_eq!(repo.xtask(&["undo", "--list"]).out, saved);
        repo.xtask(&["sync", "--check"]).success();
        repo.xtask(&["undo"]).success();
        assert_eq!((repo.read("setup/a"), repo.read("setup/b")), ("a1\n".into(), "edit\n".into()));
    }
}

/// The oldest git that is supported, where it is on this machine.
#[test]
fn sync_works_with_the_oldest_supported_git() {
    let lab = Lab::new();
    let there = lab.place(".");
    let is_it = |path: &str| {
        let ran = there.try_run(&format!("{path}/git"), &["version"]);
        ran.is_some_and(|ran| ran.out.starts_with("git version 2.39."))
    };
    let Some(folder) =
        ["/usr/bin", "/usr/local/bin", "/opt/git-2.39/bin"].into_iter().find(|path| is_it(path))
    else {
        return circle::not_here("there is no git 2.39 on this machine");
    };
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let with_it = |place: &Place<'_>, args: &[&str]| place.xtask_with(args, &[("PATH", &path)]);
    for part in PARTS {
        let lab = Lab::new();
        let place = clone_of(&lab, FORMATS[0], part);
        with_it(&place, &["status", "--all"]).success();
        with_it(&place, &["sync"]).success();
        with_it(&place, &["sync", "--check"]).success();
        with_it(&place, &["undo"]).success();
        with_it(&place, &["propagate"]).success();
        place.git(&["-c", "core.hooksPath=/dev/null", "switch", "-q", "own"]);
        with_it(&place, &["sync", "--merge"]).success();
        with_it(&place, &["extract"]).success();
        with_it(&place, &["promote", "own", "--yes"]).success();
        place.write("src/app", "edit\n");
        with_it(&place, &["backup"]).success();
        assert_eq!(place.status(), " M src/app\n", "{part}");
        with_it(&place, &["recover", "--yes"]);
        assert_eq!(place.git(&["fsck", "--no-dangling"]).trim(), "", "{part}");
    }
}

#[test]
fn outdated_git_is_refused_with_the_required_version() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let real = std::env::var("PATH").unwrap();
    let text = "#!/bin/sh\n[ \"$1\" != version ] || { echo \"git version $OLD\"; exit; }\nPATH=$REAL exec git \"$@\"\n";
    write_script(&lab.path("bin/git"), text);
    let path = format!("{}:{real}", lab.path("bin"));
    let with =
        |old: &str| repo.xtask_with(&["sync"], &[("PATH", &path), ("REAL", &real), ("OLD", old)]);
    for old in ["2.38.5", "2.9.0", "1.99.1", "2.30.1 (Apple Git-130)"] {
        with(old).status(3).says("is too old: 2.39 or newer is needed");
        assert_eq!(repo.read("setup/a"), "a1\n");
    }
    with("3.0.0.rc1").success();
}

/// `git push --mirror` takes along what is below `refs/xtask/`.
#[test]
fn push_of_backup_refs_prints_a_warning() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.write("draft.txt", "never committed\n");
    repo.xtask(&["backup"]).success();
    lab.place(".").git(&["init", "-q", "--bare", "hub.git"]);
    let hub = lab.path("hub.git");
    let says = "with backups of files that were never committed";
    repo.try_git(&["push", "-q", "--mirror", hub.as_str()]).success().says(says);
    repo.git(&[
        "push",
        "-q",
        hub.as_str(),
        "--delete",
        repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask"]).trim(),
    ]);
    repo.git(&["config", "xtask.keepBackups", "true"]);
    repo.try_git(&["push", "-q", "--mirror", hub.as_str()]).status(1).says(says);
    // The way that it names, which says nothing.
    let all = ["push", "-q", "--prune", hub.as_str(), "+refs/*:refs/*", "^refs/xtask/*"];
    repo.try_git(&all).success().never_says("backups");
    let there = lab.place("hub.git").git(&["for-each-ref", "--format=%(refname)"]);
    assert!(!there.contains("xtask") && there.contains("refs/heads/main"), "{there}");
}

/// The remote may have another name, and a fork may not have the branch.
#[test]
fn setup_never_creates_a_second_canonical_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.git(&["branch", "feature"]);
    let here = lab.place(".");
    here.git(&["clone", "-q", "-o", "upstream", "-b", "feature", "repo", "named"]);
    let place = lab.place("named");
    place.xtask(&["status"]).success().says("upstream/orchestration-tools").says("1 behind");
    place.xtask(&["setup", "--no-hooks"]);
    assert_eq!(place.read("setup/a"), "a2\n");
    let is_made = |place: &Place<'_>| {
        let heads = place.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]);
        heads.contains("refs/heads/orchestration-tools\n")
    };
    assert!(!is_made(&place));
    // `origin` is a fork that has it not.
    here.git(&["clone", "-q", "--bare", "repo", "fork.git"]);
    lab.place("fork.git").git(&["branch", "-q", "-D", "orchestration-tools"]);
    here.git(&["clone", "-q", "-b", "feature", "fork.git", "forked"]);
    let place = lab.place("forked");
    place.git(&["remote", "add", "upstream", "../repo"]);
    place.git(&["fetch", "-q", "upstream"]);
    let words = "`git config xtask.canonicalRemote upstream`";
    place
        .xtask(&["setup"])
        .status(3)
        .says("`upstream` has one; a second one is not created")
        .says(words);
    assert!(!is_made(&place));
    place.xtask(&["sync"]).status(3).says(words);
    place.git(&["config", "xtask.canonicalRemote", "upstream"]);
    place.xtask(&["sync"]).success();
    assert_eq!(place.read("setup/a"), "a2\n");
}

/// Nothing was checked out there, and git's next checkout is to do it.
#[test]
fn worktree_without_checkout_is_left_alone() {
    for args in [&["sync", "--all-worktrees"][..], &["propagate"]] {
        let lab = Lab::new();
        let repo = lab.repo();
        repo.git(&["branch", "feature"]);
        repo.git(&["switch", "-qc", "work"]);
        repo.canonical(&[("setup/a", Some("a2\n"))]);
        repo.install_hooks().success();
        repo.git(&["worktree", "add", "-q", "--no-checkout", "../linked", "feature"]);
        let linked = lab.place("linked");
        repo.xtask(args).success().says("nothing is checked out");
        linked.xtask(&["sync"]).status(3).says("nothing is checked out here yet");
        linked.xtask(&["status"]).success().says("nothing is checked out here yet");
        linked.git(&["sparse-checkout", "set", "src"]);
        linked.git(&["checkout", "-q"]);
        assert_eq!((linked.has("src/app"), linked.status()), (true, String::new()), "{args:?}");
        linked.xtask(&["sync"]).success();
        assert_eq!(linked.git(&["show", "HEAD:setup/a"]), "a2\n");
    }
}

/// A branch may be no more than another name of a branch: what holds for that holds for it.
#[test]
fn symbolic_ref_to_a_protected_branch_is_protected() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.canonical(&[
        ("setup/branches.toml", Some("protected = ['main']\n")),
        ("setup/a", Some("a2\n")),
    ]);
    repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    repo.git(&["switch", "-q", "alias"]);
    repo.install_hooks().success();
    repo.xtask(&["status"]).success().says("branch     main");
    repo.xtask(&["sync"]).status(1).says("protected");
    repo.write("src/app", "direct\n");
    repo.try_git(&["commit", "-qam", "direct"]).status(1).says("`main` is protected");
    repo.git(&["checkout", "-q", "."]);
    repo.git(&["branch", "side"]);
    repo.xtask(&["propagate"]).success();
    assert_eq!(repo.git(&["symbolic-ref", "refs/heads/alias"]), "refs/heads/main\n");
    assert_eq!(repo.git(&["show", "main:setup/a", "side:setup/a"]), "a1\na2\n");
}

/// What belongs to somebody else is trusted where git trusts it, by whatever scope of its configuration.
#[test]
fn repository_ownership_is_trusted_as_git_does() {
    let lab = Lab::new();
    let repo = lab.repo();
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "-q", linked.as_str(), "-b", "linked"]);
    if repo.run("chown", &["-R", "3001:3001", ".", linked.as_str()], &[]).code != Some(0) {
        return circle::not_here("only root gives files to somebody else");
    }
    let value = repo.dir.to_string();
    let by_env = [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", &value[..]),
    ];
    for place in [&repo, &lab.place("linked")] {
        for variables in [&[][..], &by_env] {
            let git = place.run("git", &["status", "--short"], variables).code == Some(0);
            let ours = place.xtask_with(&["status"], variables);
            assert_eq!(ours.code == Some(0), git, "{variables:?}: {}", ours.err);
            if !git {
                ours.says("detected dubious ownership")
                    .says("git config --global --add safe.directory");
            }
        }
    }
    repo.xtask_with(&["sync", "--check"], &by_env).success();
}

/// What is made in a shared git folder can be written by the group, and what may be secret by nobody else.
#[test]
fn state_of_a_shared_repository_is_group_writable_except_secrets() {
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["config", "core.sharedRepository", "group"]);
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.write(".gitignore", ".env\n");
    repo.write(".env", "secret\n");
    repo.install_hooks().success();
    repo.xtask(&["sync"]).success();
    repo.xtask(&["backup"]).success();
    let mut folders = vec![repo.git_folder().join("xtask")];
    let (mut open, mut private) = (0, 0);
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().mode();
        if folder.ends_with("backup") {
            assert_eq!(mode & 0o077, 0, "{}", folder.display());
            private += 1;
            continue;
        }
        assert_eq!(mode & 0o2070, 0o2070, "{}: {mode:o}", folder.display());
        open += 1;
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    assert!(open > 1 && private == 1, "{open} {private}");
    // Whatever the umask of who syncs: what git reads is for the others.
    repo.canonical(&[("setup/a", Some("a3\n"))]);
    let program = crate::testkit::program();
    let script = format!("umask 077; exec '{program}' sync");
    assert_eq!(repo.run("sh", &["-c", &script], &[]).code, Some(0));
    let made = repo.git(&["rev-list", "--objects", "--no-object-names", "HEAD", "^HEAD~1"]);
    let mut files = vec![repo.git_folder().join("index")];
    for id in made.lines() {
        files.push(repo.git_folder().join("objects").join(&id[..2]).join(&id[2..]));
    }
    assert!(files.len() > 3, "{made}");
    for file in files {
        let mode = std::fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o040, 0o040, "{}: {mode:o}", file.display());
    }
}

#[test]
fn commands_work_with_core_worktree() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    let elsewhere = lab.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for name in ["setup", "src", "scripts"] {
        std::fs::rename(repo.dir.join(name), elsewhere.join(name)).unwrap();
    }
    repo.git(&["config", "core.worktree", elsewhere.as_str()]);
    assert_eq!(repo.status(), "");
    let files = lab.place("elsewhere");
    repo.xtask(&["sync"]).success();
    assert_eq!((files.read("setup/a").as_str(), repo.status().as_str()), ("a2\n", ""));
    repo.xtask(&["undo"]).success();
    assert_eq!((files.read("setup/a").as_str(), repo.status().as_str()), ("a1\n", ""));
    files.write("src/app", "unsaved\n");
    repo.xtask(&["backup"]).success();
}

#[test]
fn ref_listing_is_complete_while_another_git_packs_refs() {
    let lab = Lab::new();
    let repo = lab.repo();
    for number in 0..20 {
        repo.git(&["branch", &format!("b{number}")]);
    }
    let head = repo.head();
    let moves: String = (0..20).map(|n| format!("update refs/heads/b{n} {head}\n")).collect();
    repo.write(".git/moves", &moves);
    let script = "for turn in 1 2 3 4 5 6 7 8 9; do for more in 1 2 3 4 5 6 7 8 9; do [ ! -e .git/over ] || exit 0\n\
                  git update-ref --stdin <.git/moves; git pack-refs --all; done; done";
    let mut packs = spawn(
        Command::new("sh").args(["-c", script]).current_dir(&repo.dir).envs(repo.environment()),
    )
    .unwrap();
    for _ in 0..20 {
        let seen = repo.xtask(&["status", "--all", "--json"]);
        let branches = seen.json()["branches"].as_array().map(Vec::len);
        assert_eq!((seen.code, branches), (Some(0), Some(21)), "{} {}", seen.out, seen.err);
    }
    repo.write(".git/over", "");
    packs.wait().unwrap();
}
