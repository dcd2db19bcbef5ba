//! The commands that the dashboard prints, and what it says about rules, operations, hooks and backups: each command
//! does what the page says, and none that would refuse is printed.

use crate::dashboard::{Serving, shop, text_of};
use crate::testkit::{Lab, Place, port, program};

/// Returns the page as a file.
fn page_of(repo: &Place<'_>) -> String {
    repo.xtask(&["dashboard", "--html", "-"]).success().out
}

/// Returns the section of a page, as HTML.
fn section<'p>(page: &'p str, id: &str) -> &'p str {
    let begin = page.split_once(&format!("<section id=\"{id}\"")).unwrap().1;
    begin.split_once("</section>").unwrap().0
}

#[test]
fn the_page_checks_the_rules_of_one_branch_and_the_names_of_all() {
    let lab = Lab::new();
    let repo = shop(&lab);
    let rules = "[[rule]]\nmatch = \"*\"\nbase = \"main\"\nmax-behind = 0\nname = \"^feature/\"\n";
    repo.canonical(&[("setup/branches.toml", Some(rules))]);
    repo.git(&["switch", "-q", "feature/own"]);
    repo.git(&["branch", "misnamed"]);
    repo.git(&["branch", "-f", "main", "orchestration-tools"]);
    let page = page_of(&repo);
    let rules = section(&page, "rules");
    for words in [
        "this branch breaks its rule; 2 of 5 branches have a name against its rule",
        "<dt>feature/own</dt><dd>it is 2 commits behind <code>main</code>",
        "<li>misnamed",
        "cargo xtask branch check --all</code>",
    ] {
        assert!(rules.contains(words), "`{words}` in\n{rules}");
    }
    assert!(!rules.contains("<dt>feature/late</dt>") && !rules.contains("/rules"), "{rules}");
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    assert!(serving.ask("/").contains("<a href=\"/rules\">"));
    let all = serving.ask("/rules");
    assert!(all.contains("<dt>feature/late</dt><dd>it is 2 commits behind"), "{all}");
    assert!(all.contains("5 of 5 branches break their rule"), "{}", text_of(&all));
}

#[test]
fn an_operation_in_progress_is_named_with_the_commands_that_end_it() {
    let lab = Lab::of(|lab| {
        let repo = shop(lab);
        repo.git(&["switch", "-q", "feature/late"]);
        repo.git(&["branch", "other"]);
        repo.on_branch("other", |place| place.write("src/x", "other\n"));
        repo.write("src/x", "late\n");
        repo.commit("late");
    });
    let ours = ["cargo xtask sync<", "--merge<", "cargo xtask propagate feature/late<"];
    // A merge here.
    let repo = lab.place("repo");
    repo.try_git(&["merge", "-q", "other"]);
    let page = page_of(&repo);
    let attention = section(&page, "attention");
    assert!(attention.contains("a merge is in progress in this worktree"), "{attention}");
    let details = section(&page, "details");
    let late = details.split("<h3>feature/late</h3>").nth(1).unwrap();
    let late = late.split("</section>").next().unwrap();
    for words in [
        "sync writes nothing there until it has ended",
        "git merge --continue<",
        "git merge --abort<",
    ] {
        assert!(late.contains(words), "`{words}` in\n{late}");
    }
    for command in ours {
        assert!(!late.contains(command), "`{command}` in\n{late}");
    }
    // A rebase in another worktree, which has taken the branch from it.
    repo.git(&["merge", "--abort"]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["worktree", "add", "-q", "../late", "feature/late"]);
    let late = lab.place("late");
    late.try_git(&["rebase", "-q", "other"]);
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let page = serving.ask("/branch?n=feature%2Flate");
    let root = late.dir.as_str();
    for words in [
        format!("In <code>{root}</code> a rebase is in progress"),
        format!("git -C {root} rebase --continue<"),
        format!("git -C {root} rebase --abort<"),
    ] {
        assert!(page.contains(&words), "`{words}` in\n{page}");
    }
    for command in ours {
        assert!(!page.contains(command), "`{command}` in\n{page}");
    }
    assert!(!section(&serving.ask("/"), "attention").contains("in progress"));
}

#[test]
fn what_a_protected_branch_and_all_branches_get_is_said_as_it_is() {
    let lab = Lab::new();
    let repo = shop(&lab);
    repo.on_branch("main", |place| place.write("setup/a", "mine\n"));
    repo.on_branch("feature/new", |place| place.write("setup/mine", "only here\n"));
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    let main = serving.ask("/branch?n=main");
    assert!(main.contains("side branch <code>orchestration-sync/main</code>"), "{main}");
    assert!(!main.contains("sync --merge"), "{main}");
    // Where only the branch has a path, there is nothing to merge.
    let new = serving.ask("/branch?n=feature%2Fnew");
    assert!(new.contains("only this branch has this path") && !new.contains("--merge"), "{new}");
    let some = serving.ask("/?name=nothing");
    let drift = section(&some, "drift");
    for words in [
        "This updates 3 branches that are behind, also what a filter hides",
        "It commits the update of 1 branch, which is protected, to a side branch",
        "cargo xtask propagate</code>",
    ] {
        assert!(drift.contains(words), "`{words}` in\n{drift}");
    }
    repo.git(&[
        "clone",
        "-q",
        "--depth=1",
        "--no-single-branch",
        &format!("file://{}", repo.dir),
        "../shallow",
    ]);
    let shallow = lab.place("shallow");
    for branch in ["orchestration-tools", "feature/late"] {
        shallow.git(&["branch", "-q", "-f", branch, &format!("origin/{branch}")]);
    }
    let page = page_of(&shallow);
    let drift = section(&page, "drift");
    assert!(drift.contains("each day is not known: the history is cut off"), "{drift}");
    assert!(
        drift.contains("This clone is shallow") && drift.contains("git fetch --unshallow<"),
        "{drift}"
    );
}

#[test]
fn a_backup_is_restored_where_it_was_made() {
    let lab = Lab::new();
    let repo = shop(&lab);
    repo.git(&["worktree", "add", "-q", "../late", "feature/late"]);
    lab.place("late").xtask(&["sync"]).success();
    repo.git(&["switch", "-q", "feature/own"]);
    repo.xtask(&["sync", "--force", "setup"]).success();
    repo.write("setup/a", "draft\n");
    repo.xtask(&["backup"]).success();
    repo.git(&["switch", "-q", "--force", "main"]);
    let page = page_of(&repo);
    let backups = section(&page, "backups");
    let commands: Vec<String> = backups
        .split("<td data-l=\"Restored by\"><code>")
        .skip(1)
        .map(|rest| {
            rest.split('<')
                .next()
                .unwrap()
                .replace("&amp;", "&")
                .replace("cargo xtask", program().as_str())
        })
        .collect();
    assert_eq!(commands.len(), 3, "{backups}");
    assert!(commands.iter().any(|command| command.contains(" -C ")), "{commands:?}");
    assert!(
        commands.iter().filter(|command| command.starts_with("git switch feature/own && ")).count()
            == 2
    );
    for command in commands {
        repo.run("sh", &["-c", &command], &[]).success();
        repo.git(&["switch", "-q", "--force", "main"]);
    }
    // Without its worktree and its branch, the files are what can be restored.
    repo.git(&["worktree", "remove", "--force", "../late"]);
    repo.git(&["branch", "-q", "-D", "feature/own"]);
    let page = page_of(&repo);
    let backups = section(&page, "backups");
    for command in backups.split("<td data-l=\"Restored by\"><code>").skip(1) {
        let command = command.split('<').next().unwrap();
        assert!(
            command.starts_with("cargo xtask restore ") && command.ends_with(" ."),
            "{command}"
        );
    }
}

#[test]
fn paused_hooks_are_enabled_and_none_are_installed_without_a_canonical_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    let hooks = |repo: &Place<'_>| section(&page_of(repo), "hooks").to_owned();
    assert!(hooks(&repo).contains("cargo xtask install-hooks</code></pre>"), "{}", hooks(&repo));
    repo.install_hooks().success();
    repo.xtask(&["hooks", "disable", "--for", "2h"]).success();
    let paused = hooks(&repo);
    assert!(
        paused.contains("<pre class=\"command\"><code>cargo xtask hooks enable</code>"),
        "{paused}"
    );
    repo.xtask(&["hooks", "enable"]).success();
    assert!(!hooks(&repo).contains("<pre"), "{}", hooks(&repo));
    let plain = lab.repo_with("plain", &[("src/a", "a\n")]);
    assert!(!hooks(&plain).contains("<pre"), "{}", hooks(&plain));
}

#[cfg(target_os = "linux")]
#[test]
fn a_stopped_layer_of_another_branch_is_no_trouble() {
    let lab = Lab::new();
    let repo = lab.repo();
    let layer = "[service.api]\nrun = 'sleep 1000'\n";
    repo.write("deployment/stage.toml", layer);
    repo.xtask(&["start", "--layer", "stage"]).success();
    let services = || section(&page_of(&repo), "services").to_owned();
    assert!(
        services().contains("<code>cargo xtask logs --layer stage api</code>"),
        "{}",
        services()
    );
    repo.remove("deployment/stage.toml");
    let running = services();
    assert!(
        running.contains("data-tone=\"good\"") && running.contains("another branch has it"),
        "{running}"
    );
    repo.write("deployment/stage.toml", layer);
    repo.xtask(&["stop", "--layer", "stage"]).success();
    repo.remove("deployment/stage.toml");
    std::fs::create_dir_all(repo.dir.join(".git/xtask/services/never/logs")).unwrap();
    let stopped = services();
    assert!(stopped.contains("no layer in") && !stopped.contains("stage"), "{stopped}");
}
