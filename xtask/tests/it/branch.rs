//! Branch rules: what is told of a branch, making one, clearing away what is merged, and the same answers
//! in a push, a validation and the status.

use std::time::{SystemTime, UNIX_EPOCH};

use xtask_git::{Id, Repo};

use crate::testkit::{Lab, Place, Ran, trace};

const RULES: &str = r#"
protected = ["main", "develop"]
[[rule]]
match = "feature/*"
name = "^feature/[a-z0-9][a-z0-9-]*$"
base = "main"
warn-age = "10d"
max-age = "14d"
max-behind = 3
[[rule]]
match = "lost/*"
base = "nowhere"
"#;

/// A repository whose canonical branch has rules.
fn ruled<'a>(lab: &'a Lab, rules: &str) -> Place<'a> {
    let repo = lab.repo();
    repo.canonical(&[("setup/branches.toml", Some(rules))]);
    repo
}

/// The same with a remote that has its branches.
fn with_hub<'a>(lab: &'a Lab, rules: &str) -> Place<'a> {
    let repo = ruled(lab, rules);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", "-b", "main", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["push", "-q", "-u", "origin", "main", "orchestration-tools"]);
    repo
}

/// A date for git, so many days ago.
fn days_ago(days: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!("@{} +0000", now - days * 24 * 60 * 60)
}

/// Commits a file, so many days ago.
#[track_caller]
fn commit_aged(place: &Place<'_>, path: &str, content: &str, days: u64) -> String {
    place.write(path, content);
    place.git(&["add", "--all"]);
    let date = days_ago(days);
    let dates = [("GIT_AUTHOR_DATE", date.as_str()), ("GIT_COMMITTER_DATE", date.as_str())];
    place.run("git", &["commit", "-qm", path], &dates).success();
    place.head()
}

/// A branch from `main` with one commit of so many days.
fn feature(place: &Place<'_>, name: &str, days: u64) {
    place.git(&["switch", "-q", "--no-track", "-c", name, "main"]);
    commit_aged(place, &format!("src/{}", name.replace('/', "-")), "mine\n", days);
}

fn check(place: &Place<'_>, branch: &str) -> Ran {
    place.xtask(&["branch", "check", branch])
}

/// What is found of a branch, by the names of the findings.
#[track_caller]
fn found(place: &Place<'_>, branch: &str) -> Vec<String> {
    let json = place.xtask(&["branch", "check", branch, "--json"]).json();
    let findings = json["branches"][0]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["about"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn branch_check_reports_each_broken_rule_with_a_fix_command() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    feature(&repo, "feature/good", 2);
    repo.xtask(&["branch", "check"]).success().says("good").says("2 days old, 1 commit on `main`");
    feature(&repo, "feature/soon", 12);
    // A second later it is 47 hours.
    let soon = check(&repo, "feature/soon").success().says("that is 12 days old, ");
    soon.says(" before the limit");
    feature(&repo, "feature/old", 15);
    check(&repo, "feature/old").status(1).says("15 days old, more than the limit of 14 days");
    feature(&repo, "feature/Bad_Name", 1);
    let said = check(&repo, "feature/Bad_Name").status(1);
    said.says("git branch -m feature/Bad_Name feature/bad-name");
    for number in 0..4 {
        repo.on_branch("main", |main| main.write("src/more", format!("{number}\n")));
    }
    check(&repo, "feature/good")
        .status(1)
        .says("is 4 commits behind `main`")
        .says("git merge main");
    repo.xtask(&["branch", "check", "main"]).success().says("it is a shared branch");
    repo.git(&["branch", "other/x"]);
    check(&repo, "other/x").success().says("no rule matches");
    let all = repo.xtask(&["branch", "check", "--all", "--json"]).status(1).json();
    assert_eq!(
        (&all["schema"], &all["result"]),
        (&"xtask.branch-check/1".into(), &"broken".into())
    );
    assert_eq!(all["branches"].as_array().unwrap().len(), 7);
}

#[test]
fn branch_age_ignores_rebases_sync_commits_and_merged_work() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    feature(&repo, "feature/a", 20);
    repo.on_branch("main", |main| main.write("src/more", "1\n"));
    repo.git(&["rebase", "-q", "main"]);
    assert_eq!(found(&repo, "feature/a"), ["too-old"]);
    // A sync commit is as old as what it brings; it says nothing of the branch.
    feature(&repo, "feature/b", 1);
    repo.xtask(&["sync"]).success();
    assert_ne!(repo.git(&["log", "--format=%s", "main.."]).lines().count(), 1, "it was synced");
    assert!(found(&repo, "feature/b").is_empty());
    // What is merged from another branch was not done here.
    feature(&repo, "feature/c", 1);
    let dates = [("GIT_AUTHOR_DATE", days_ago(0)), ("GIT_COMMITTER_DATE", days_ago(0))];
    let dates = dates.each_ref().map(|(name, date)| (*name, date.as_str()));
    repo.run("git", &["merge", "-q", "--no-edit", "feature/a"], &dates).success();
    assert!(found(&repo, "feature/c").is_empty());
}

#[test]
fn branch_check_detects_a_branch_forked_from_another_base() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    repo.git(&["branch", "develop"]);
    repo.on_branch("develop", |develop| develop.write("src/next", "1\n"));
    repo.git(&["switch", "-q", "-c", "feature/a", "develop"]);
    commit_aged(&repo, "src/mine", "1\n", 1);
    let said = check(&repo, "feature/a").status(1);
    said.says("contains 1 commit of `develop`").says("git rebase --onto main develop feature/a");
    // A branch that `develop` has taken in whole was not forked there.
    feature(&repo, "feature/b", 1);
    repo.in_worktree("develop", |develop| {
        develop.git(&["merge", "-q", "--no-edit", "feature/b"]);
    });
    assert!(found(&repo, "feature/b").is_empty());
}

#[test]
fn branch_check_reports_unknown_for_missing_base_or_history() {
    let lab = Lab::new();
    let repo = with_hub(&lab, RULES);
    feature(&repo, "feature/a", 1);
    repo.git(&["push", "-q", "origin", "feature/a"]);
    // The base is nowhere.
    feature(&repo, "lost/a", 1);
    check(&repo, "lost/a")
        .status(3)
        .says("its base `nowhere` exists neither locally")
        .says("git fetch");
    // No history in common.
    repo.git(&["switch", "-q", "--orphan", "feature/pages"]);
    commit_aged(&repo, "page", "1\n", 1);
    check(&repo, "feature/pages").status(3).says("no common ancestor with its base `origin/main`");
    // Something broken counts for more than something unknown.
    let both = repo.xtask(&["branch", "check", "feature/pages", "feature/a"]);
    both.status(3).says("unknown");
    feature(&repo, "feature/old", 40);
    repo.xtask(&["branch", "check", "feature/pages", "feature/old"]).status(1);
    // Detached.
    repo.git(&["switch", "-q", "--detach"]);
    repo.xtask(&["branch", "check"]).status(3).says("HEAD is detached").says("--at HEAD");
    // A branch that is nowhere, and one that is mistyped.
    repo.git(&["switch", "-q", "main"]);
    check(&repo, "unheard-of").status(3).says("git fetch origin unheard-of");
    check(&repo, "feature/olt").status(2).says("did you mean `feature/old`?");
    // Cut off: the name can be told, the rest cannot.
    let hub = format!("file://{}", lab.path("hub"));
    lab.place("").git(&["clone", "-q", "--depth", "1", "--no-single-branch", &hub, "shallow"]);
    let shallow = lab.place("shallow");
    shallow.git(&["switch", "-q", "feature/a"]);
    let said = shallow.xtask(&["branch", "check"]).status(3);
    said.says("a shallow clone").says("git fetch --unshallow");
    shallow.git(&["fetch", "-q", "--unshallow"]);
    shallow.xtask(&["branch", "check"]).success();
}

#[test]
fn branch_check_at_commit_works_for_fetched_pull_requests() {
    let lab = Lab::new();
    let repo = with_hub(&lab, RULES);
    feature(&repo, "feature/Wrong", 1);
    repo.git(&["push", "-q", "origin", "HEAD:refs/pull/1/head"]);
    lab.place("").git(&["clone", "-q", lab.path("hub").as_str(), "ci"]);
    let ci = lab.place("ci");
    ci.git(&["fetch", "-q", "origin", "refs/pull/1/head"]);
    ci.git(&["checkout", "-q", "FETCH_HEAD"]);
    check(&ci, "feature/Wrong").status(1).says("does not match the name rule");
    ci.xtask(&["branch", "check", "--at", "HEAD", "feature/right"]).success().says("1 commit on");
    ci.xtask(&["branch", "check", "--at", "nonsense", "x"]).status(2).says("invalid revision");
    ci.xtask(&["branch", "check", "--at", "HEAD"]).status(2);
}

/// What git says of a merge: the paths in conflict.
fn by_git(repo: &Place<'_>, ours: &str, theirs: &str) -> Vec<String> {
    let args = ["merge-tree", "--write-tree", "--name-only", "--no-messages", ours, theirs];
    let ran = repo.try_git(&args);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.err);
    let mut paths: Vec<String> = ran.out.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(paths.is_empty(), ran.code == Some(0));
    paths.sort();
    paths
}

#[test]
fn merge_preview_predicts_the_conflicts_that_git_reports() {
    let lab = Lab::new();
    let repo = lab.repo();
    let text = (0..40).map(|line| format!("line {line}\n")).collect::<String>();
    for name in ["a", "b", "c", "d", "e", "f", "folder/g"] {
        repo.write(&format!("src/{name}"), format!("{name}\n{text}"));
    }
    repo.write("src/binary", b"\0one");
    repo.commit("ground");
    let change = |place: &Place<'_>, name: &str, from: &str, to: &str| {
        let text = place.read(name).replace(from, to);
        place.write(name, text);
    };
    type Side<'s> = &'s dyn Fn(&Place<'_>);
    let cases: [(&str, Side<'_>, Side<'_>); 10] = [
        ("clean", &|p| change(p, "src/a", "line 3\n", "3\n"), &|p| {
            change(p, "src/a", "line 30\n", "30\n");
        }),
        ("lines", &|p| change(p, "src/a", "line 3\n", "3\n"), &|p| {
            change(p, "src/a", "line 3\n", "three\n");
        }),
        ("removed", &|p| p.remove("src/b"), &|p| change(p, "src/b", "line 3\n", "3\n")),
        ("both new", &|p| p.write("src/new", "1\n"), &|p| p.write("src/new", "2\n")),
        ("same", &|p| p.write("src/new", "1\n"), &|p| p.write("src/new", "1\n")),
        ("renamed and changed", &|p| drop(p.git(&["mv", "src/c", "src/moved"])), &|p| {
            change(p, "src/c", "line 3\n", "3\n");
        }),
        ("binary", &|p| p.write("src/binary", b"\0two"), &|p| p.write("src/binary", b"\0three")),
        ("mode", &|p| p.make_executable("src/d"), &|p| change(p, "src/d", "line 3\n", "3\n")),
        (
            "two files",
            &|p| {
                change(p, "src/e", "line 3\n", "3\n");
                change(p, "src/f", "line 3\n", "3\n");
            },
            &|p| {
                change(p, "src/e", "line 3\n", "x\n");
                change(p, "src/f", "line 3\n", "x\n");
            },
        ),
        ("folder and file", &|p| p.write("src/place", "file\n"), &|p| {
            p.write("src/place/x", "1\n")
        }),
    ];
    for (number, (_, ours, theirs)) in cases.iter().enumerate() {
        for (side, change) in [("ours", ours), ("theirs", theirs)] {
            repo.git(&["switch", "-q", "-c", &format!("{side}-{number}"), "main"]);
            change(&repo);
            repo.commit(side);
        }
    }
    // Two common ancestors that conflict with each other, and a merge on either side.
    repo.git(&["switch", "-q", "-c", "cross-1", "ours-1"]);
    repo.try_git(&["merge", "-q", "theirs-1"]).status(1);
    repo.write("src/a", "settled here\n");
    repo.commit("cross 1");
    repo.git(&["switch", "-q", "-c", "cross-2", "theirs-1"]);
    repo.try_git(&["merge", "-q", "ours-1"]).status(1);
    repo.write("src/a", "settled there\n");
    repo.commit("cross 2");
    let names: Vec<(String, String, String)> = (0..cases.len())
        .map(|n| (cases[n].0.to_owned(), format!("ours-{n}"), format!("theirs-{n}")))
        .chain([("crossed".to_owned(), "cross-1".to_owned(), "cross-2".to_owned())])
        .collect();
    let opened = Repo::discover(repo.dir.as_std_path()).unwrap();
    let mut in_conflict = 0;
    for (name, ours, theirs) in names {
        let id = |name: &str| Id::from_hex(repo.id(name).as_bytes()).unwrap();
        for (one, two) in [(&ours, &theirs), (&theirs, &ours)] {
            // Git's own forecast writes objects, ours does not.
            let before = trace(repo.dir.as_std_path());
            let told = opened.preview_merge(id(one), id(two)).unwrap();
            let told_paths: Vec<String> = told.conflicts.iter().map(ToString::to_string).collect();
            assert!(trace(repo.dir.as_std_path()) == before, "{name}: something was written");
            let by_git = by_git(&repo, one, two);
            assert_eq!(
                told_paths.is_empty(),
                by_git.is_empty(),
                "{name}: {told_paths:?} {by_git:?}"
            );
            in_conflict += usize::from(!by_git.is_empty());
            if name != "folder and file" {
                assert_eq!(told_paths, by_git, "{name}");
            }
            if by_git.is_empty() {
                let tree = repo.git(&["merge-tree", "--write-tree", one, two]);
                assert_eq!(told.tree.to_string(), tree.trim(), "{name}");
            }
        }
    }
    assert!(in_conflict >= 10, "{in_conflict}");
}

#[test]
fn branch_check_predicts_base_conflicts_without_running_drivers() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    repo.write(".gitattributes", "src/app merge=own filter=own diff=own\n");
    repo.commit("attributes");
    repo.git(&["switch", "-q", "-c", "feature/a"]);
    commit_aged(&repo, "src/app", "mine\n", 1);
    repo.on_branch("main", |main| main.write("src/app", "theirs\n"));
    // A driver or a filter is somebody's program, and is not run by who only looks.
    let ran = lab.path("ran");
    for key in ["merge.own.driver", "filter.own.clean", "filter.own.smudge", "diff.own.textconv"] {
        repo.git(&["config", key, &format!("touch {ran}; cat")]);
    }
    repo.git(&["config", "merge.renormalize", "true"]);
    let said = check(&repo, "feature/a").success();
    said.says("would conflict with `main` in 1 file: `src/app`").says("git merge main");
    assert!(!ran.exists());
}

#[test]
fn branch_new_starts_at_the_fetched_tip_of_its_base() {
    let lab = Lab::new();
    let repo = with_hub(&lab, RULES);
    lab.place("").git(&["clone", "-q", lab.path("hub").as_str(), "bob"]);
    let bob = lab.place("bob");
    commit_aged(&bob, "src/by-bob", "1\n", 0);
    bob.git(&["push", "-q", "origin", "main"]);
    let newest = bob.head();
    repo.write("src/app", "not committed\n");
    repo.write("untracked", "kept\n");
    let said = repo.xtask(&["branch", "new", "feature/login"]).success();
    said.says("`feature/login` starts at `origin/main`");
    assert_eq!(
        (repo.head(), repo.git(&["branch", "--show-current"])),
        (newest, "feature/login\n".into())
    );
    assert_eq!(repo.status(), " M src/app\n?? untracked\n");
    repo.try_git(&["rev-parse", "--abbrev-ref", "@{upstream}"]).status(128);
    // It says itself when it was made, however old its first commit is.
    repo.git(&["stash", "-q"]);
    commit_aged(&repo, "src/old", "1\n", 300);
    repo.xtask(&["branch", "check"]).success().says("good");
    let json = repo.xtask(&["branch", "check", "--json"]).json();
    assert_eq!(json["branches"][0]["age_since"], "made");
    // Of another branch of the same name it says nothing: that one begins later.
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["branch", "-D", "-q", "feature/login"]);
    repo.git(&["switch", "-q", "-c", "feature/login", "origin/main"]);
    commit_aged(&repo, "src/old", "1\n", 300);
    let log =
        repo.read(".git/logs/refs/heads/feature/login").replace(" 1767225600 ", " 4102444800 ");
    repo.write(".git/logs/refs/heads/feature/login", log);
    check(&repo, "feature/login").status(1).says("300 days old");
}

#[test]
fn branch_new_refuses_invalid_names_and_suggests_valid_ones() {
    let lab = Lab::new();
    let rules =
        format!("{RULES}\n[[rule]]\nmatch = '*'\nname = '^(feature|lost)/'\nbase = 'main'\n");
    let repo = with_hub(&lab, &rules);
    let before = repo.scene();
    let new = |name: &str| repo.xtask(&["branch", "new", "--", name]);
    new("feature/Login_Page").status(1).says("try `cargo xtask branch new feature/login-page`");
    new("login").status(1).says("try `cargo xtask branch new feature/login`");
    new("feature/a b").status(2).says("invalid branch name").says("feature/a-b");
    new("-x").status(2).says("invalid branch name");
    new("main").status(1).says("branch `main` already exists");
    new("develop").status(1).says("the name of a shared branch");
    new("lost/a").status(3).says("no such base branch: `nowhere`, neither here nor on `origin`");
    assert_eq!(repo.scene(), before);
    // What the remote has already is nobody's to make again.
    repo.git(&["push", "-q", "origin", "main:refs/heads/feature/taken"]);
    repo.git(&["update-ref", "-d", "refs/remotes/origin/feature/taken"]);
    new("feature/taken").status(1).says("branch `feature/taken` already exists on `origin`");
    // A remote that cannot be reached is no newest state.
    repo.git(&["remote", "set-url", "origin", "/nowhere/at/all"]);
    new("feature/a").status(3).says("--no-fetch");
    repo.xtask(&["branch", "new", "--no-fetch", "feature/a"]).success();
}

#[test]
fn branch_new_is_refused_if_local_changes_would_be_overwritten() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    feature(&repo, "feature/a", 1);
    repo.git(&["switch", "-q", "-c", "away", "feature/a"]);
    repo.write("src/feature-a", "changed, and not on main\n");
    let before = repo.scene();
    repo.xtask(&["branch", "new", "feature/b"]).status(3).says("would be overwritten");
    assert_eq!(repo.scene(), before);
}

/// A repository with branches of every fate.
fn grown(lab: &Lab) -> Place<'_> {
    let repo = ruled(lab, RULES);
    repo.git(&["branch", "develop"]);
    for name in ["merged", "squashed", "squashed-long-ago", "unique", "here"] {
        feature(&repo, &format!("feature/{name}"), 1);
    }
    repo.git(&["branch", "feature/fresh", "main"]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["merge", "-q", "--no-ff", "--no-edit", "feature/merged", "feature/here"]);
    repo.git(&["merge", "-q", "--squash", "feature/squashed-long-ago"]);
    repo.git(&["commit", "-qm", "squashed"]);
    repo.write("src/feature-squashed-long-ago", "and changed since\n");
    repo.commit("changed since");
    repo.git(&["merge", "-q", "--squash", "feature/squashed"]);
    repo.git(&["commit", "-qm", "squashed, too"]);
    repo.git(&["worktree", "add", "-q", lab.path("there").as_str(), "feature/here"]);
    repo
}

#[test]
fn branch_prune_deletes_only_merged_branches_and_can_be_undone() {
    let lab = Lab::new();
    let repo = grown(&lab);
    for (name, about) in
        [("merged", "merged"), ("squashed", "merged"), ("squashed-long-ago", "merged")]
    {
        assert_eq!(found(&repo, &format!("feature/{name}")), [about], "{name}");
    }
    let before = repo.scene();
    let listed = repo.xtask(&["branch", "prune", "--dry-run", "-v"]).success();
    let names: Vec<&str> = listed.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["feature/merged", "feature/squashed", "feature/squashed-long-ago"]);
    let listed = listed.says("3 branches would be deleted").says("squashed into `main` as");
    let listed = listed.says("`feature/unique` is kept: it has 1 commit that `main` does not have");
    listed.says("`feature/here` is kept: it is in use").says("`main` is kept: it is protected");
    // Nobody was asked, so nothing goes.
    repo.xtask(&["branch", "prune"]).success().says("nothing was deleted");
    for (name, why) in [
        ("feature/unique", "has 1 commit that"),
        ("feature/here", "checked out in"),
        ("main", "is protected"),
        ("develop", "is protected"),
        ("orchestration-tools", "is protected"),
    ] {
        repo.xtask(&["branch", "prune", "--yes", name]).status(1).says(why);
    }
    repo.xtask(&["branch", "prune", "feature/nothing"]).status(2).says("no such branch");
    assert_eq!(repo.scene(), before);
    let id = repo.id("feature/merged");
    repo.git(&["config", "branch.feature/merged.remote", "origin"]);
    repo.git(&["config", "branch.feature/merged.merge", "refs/heads/feature/merged"]);
    let said = repo.xtask(&["branch", "prune", "feature/merged", "feature/unique"]).status(1);
    let way_back = format!("git branch feature/merged {id}");
    assert!(said.out.contains(&way_back), "{}", said.out);
    assert_eq!(repo.try_git(&["config", "--get-regexp", "^branch.feature"]).out, "");
    repo.try_git(&["rev-parse", "-q", "--verify", "feature/merged"]).status(1);
    repo.git(&way_back.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(repo.scene(), before);
    // A fresh one goes only by its name; the others by saying so.
    let said = repo.xtask(&["branch", "prune", "--yes"]).success();
    assert_eq!(said.out.matches("restores it").count(), 3);
    // Commits whose content alone has arrived are held by nothing else, and are kept for a while.
    let pruned = repo.git(&["for-each-ref", "--format=%(refname:lstrip=4)", "refs/xtask/pruned"]);
    assert_eq!(pruned, "feature/squashed\nfeature/squashed-long-ago\n");
    let left = repo.git(&["branch", "--format=%(refname:short)"]);
    let wanted =
        "develop\nfeature/fresh\nfeature/here\nfeature/unique\nmain\norchestration-tools\n";
    assert_eq!(left, wanted);
    repo.xtask(&["branch", "prune", "feature/fresh"]).success().says("restores it");
    repo.xtask(&["branch", "prune", "--yes"]).success().says("no merged branches");
}

#[test]
fn branch_check_and_prune_dry_run_write_nothing() {
    let lab = Lab::new();
    let repo = grown(&lab);
    let before = trace(repo.dir.as_std_path());
    for args in [
        &["branch", "check", "--all"][..],
        &["branch", "check", "--all", "--json"],
        &["branch", "check", "feature/unique"],
        &["branch", "prune", "--dry-run"],
        &["branch", "prune"],
        &["status"],
    ] {
        repo.xtask(args);
        assert!(trace(repo.dir.as_std_path()) == before, "{args:?} wrote something");
    }
}

#[test]
fn push_warns_or_is_refused_as_branch_rules_demand() {
    let lab = Lab::new();
    let repo = with_hub(&lab, RULES);
    repo.install_hooks().success();
    feature(&repo, "feature/Bad", 20);
    let said = repo.try_git(&["push", "origin", "feature/Bad"]).success();
    said.says("`feature/Bad` does not match the name rule")
        .says("20 days old, more than the limit of 14 days");
    feature(&repo, "feature/good", 1);
    repo.try_git(&["push", "origin", "feature/good"])
        .success()
        .never_says("does not match the name rule");
    repo.canonical(&[("setup/branches.toml", Some(&format!("enforce = 'refuse'\n{RULES}")))]);
    commit_aged(&repo, "src/x", "1\n", 1);
    repo.on_branch("feature/Bad", |bad| bad.write("src/y", "1\n"));
    let refused = repo.try_git(&["push", "origin", "feature/Bad"]).status(1);
    refused.says("push refused").says("git branch -m feature/Bad feature/bad");
    // The very name at the remote counts, not the one here.
    let refused = repo.try_git(&["push", "origin", "feature/good:refs/heads/feature/NO"]);
    refused.status(1).says("`feature/NO` does not match");
    repo.try_git(&["push", "origin", "feature/good"]).success();
    repo.git(&["push", "-q", "origin", ":feature/Bad"]);
    // What cannot be told is told, and refuses nothing.
    feature(&repo, "lost/a", 1);
    repo.try_git(&["push", "origin", "lost/a"]).success().says("its base `nowhere` exists neither");
    // Without hooks, `push` asks the rules itself.
    repo.xtask(&["uninstall-hooks"]).success();
    let refused = repo.xtask(&["push", "origin", "feature/good:feature/NO"]).status(1);
    refused.says("nothing was pushed").says("`feature/NO` does not match");
    repo.xtask(&["push", "origin", "lost/a:lost/b"]).success();
}

#[test]
fn validate_and_status_report_the_same_branch_faults() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    feature(&repo, "feature/old", 30);
    repo.write("setup/validate.toml", "[[check]]\nname = 'branch'\nbuilt-in = 'branches'\n");
    repo.commit("checks");
    repo.xtask(&["validate"]).status(1).says("days old, more than the limit of 14 days");
    repo.xtask(&["status"]).success().says("days old, more than the limit of 14 days");
    repo.git(&["switch", "-q", "-c", "feature/young", "main"]);
    repo.git(&["checkout", "-q", "feature/old", "--", "setup/validate.toml"]);
    commit_aged(&repo, "src/young", "1\n", 1);
    repo.xtask(&["validate"]).success();
    repo.xtask(&["status"]).success().never_says("days old");
    repo.git(&["switch", "-q", "--detach"]);
    repo.xtask(&["validate"]).status(1).says("HEAD is detached");
}

#[test]
fn branch_rules_are_read_from_the_canonical_branch() {
    let lab = Lab::new();
    let repo = ruled(&lab, RULES);
    feature(&repo, "feature/a", 1);
    // What the branch itself would like does not count.
    repo.write("setup/branches.toml", "[[rule]]\nmatch = 'feature/*'\nname = '^nothing$'\n");
    check(&repo, "feature/a").success();
    repo.canonical(&[(
        "setup/branches.toml",
        Some("[[rule]]\nmatch = '*'\n[[rule]]\nmatch = 'a/*'\nwarn-age = '3d'\nmax-age = '2d'\n"),
    )]);
    let said = check(&repo, "feature/a").status(2).says("2 faults in setup/branches.toml");
    said.says("branches.toml:4: the rule for `a/*` never applies").says("`warn-age` must be below");
    repo.canonical(&[("setup/branches.toml", None)]);
    repo.remove("setup/branches.toml");
    check(&repo, "feature/a").success().says("has no rules yet");
}

/// A power cut can leave a ref without content. For git that is no branch.
#[test]
fn empty_ref_file_is_ignored_and_corrupt_packed_refs_fail() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["branch", "feature"]);
    repo.write(".git/refs/heads/empty", "");
    for command in [
        &["status", "--all"][..],
        &["propagate", "--dry-run"],
        &["branch", "check", "--all"],
        &["branch", "prune"],
        &["extract", "--dry-run"],
    ] {
        let ran = repo.xtask(command).success();
        assert!(!ran.out.contains("empty"), "{command:?}: {}", ran.out);
    }
    // What keeps all of them from being read is no such thing.
    repo.remove(".git/refs/heads/empty");
    repo.git(&["pack-refs", "--all"]);
    let packed = repo.read(".git/packed-refs");
    let damaged = packed.lines().map(|line| match line.ends_with("/feature") {
        true => "no ref\n".to_owned(),
        false => format!("{line}\n"),
    });
    repo.write(".git/packed-refs", damaged.collect::<String>());
    assert_ne!(repo.try_git(&["for-each-ref"]).code, Some(0));
    for command in [&["status", "--all"][..], &["propagate", "--dry-run"], &["branch", "prune"]] {
        repo.xtask(command).status(3);
    }
}
