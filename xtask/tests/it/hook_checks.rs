//! The checks of git's hooks: which run when, on which content, and what their fixes do to index and files.

use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, Place};

/// A repository on the branch `feature`, with hooks and these canonical checks.
pub fn hooked<'a>(lab: &'a Lab, checks: &str) -> Place<'a> {
    let repo = lab.repo();
    repo.write("a.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    repo.write("b.txt", "b\n");
    repo.write(".gitignore", "/ignored/\n");
    repo.commit("files");
    repo.git(&["branch", "-q", "-f", "orchestration-tools"]);
    repo.canonical(&[(VALIDATE_FILE, Some(checks))]);
    repo.git(&["switch", "-q", "-c", "feature"]);
    repo.install_hooks().success();
    repo
}

/// Rules with their own fixes, staged.
pub const RULES: &str = "[[check]]\nname = 'text'\nhook = 'pre-commit'\nrestage = true\n\
    built-in = ['trailing-whitespace', 'end-of-file-fixer']\n";

pub fn content(repo: &Place<'_>, name: &str) -> String {
    repo.git(&["show", name])
}

#[test]
fn a_fix_goes_into_the_commit_and_into_the_file() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    repo.write("a.txt", "one \ntwo\nthree\nfour\nfive\nsix\nseven\n");
    repo.write("new.txt", "no end");
    repo.git(&["add", "--all"]);
    let committed = repo.try_git(&["commit", "-q", "-m", "x"]).status(0);
    committed.says("fixed and staged `a.txt`, `new.txt`");
    assert_eq!(content(&repo, "HEAD:a.txt"), "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    assert_eq!(content(&repo, "HEAD:new.txt"), "no end\n");
    assert_eq!(repo.read("new.txt"), "no end\n");
    assert_eq!(repo.status(), "");
}

#[test]
fn unstaged_changes_stay_unstaged_and_are_merged_with_the_fix() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    repo.write("a.txt", "one \ntwo\nthree\nfour\nfive\nsix\nseven\n");
    repo.write("b.txt", "c \n");
    repo.git(&["add", "--all"]);
    repo.write("a.txt", "one \ntwo\nthree\nfour\nfive\nsix\nSEVEN \n");
    repo.write("b.txt", "d  \n");
    repo.write("loose.txt", "not mine ");
    let committed = repo.try_git(&["commit", "-q", "-m", "x"]).status(0);
    let committed = committed.says("fixed and staged `a.txt`, `b.txt`");
    committed.says("`b.txt` was kept as it is: its unstaged changes overlap with the fix");
    assert_eq!(content(&repo, "HEAD:a.txt"), "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    assert_eq!(repo.read("a.txt"), "one\ntwo\nthree\nfour\nfive\nsix\nSEVEN \n");
    assert_eq!(content(&repo, "HEAD:b.txt"), "c\n");
    assert_eq!(repo.read("b.txt"), "d  \n", "nothing of it is lost");
    assert_eq!(repo.read("loose.txt"), "not mine ");
    assert_eq!(repo.status(), " M a.txt\n M b.txt\n?? loose.txt\n");
    assert_eq!(repo.git(&["stash", "list"]), "");
}

#[test]
fn commits_of_paths_amends_and_all_get_their_fixes() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    // `commit -- PATH` leaves what is staged for the next one.
    repo.write("a.txt", "path \n");
    repo.write("b.txt", "staged \n");
    repo.git(&["add", "b.txt"]);
    repo.git(&["commit", "-q", "-m", "path", "--", "a.txt"]);
    assert_eq!(content(&repo, "HEAD:a.txt"), "path\n");
    assert_eq!(content(&repo, "HEAD:b.txt"), "b\n");
    assert_eq!(content(&repo, ":a.txt"), "path\n", "also in the index afterwards");
    assert_eq!(content(&repo, ":b.txt"), "staged \n");
    assert_eq!(repo.status(), "M  b.txt\n");
    repo.git(&["commit", "-q", "--amend", "--no-edit"]);
    assert_eq!(content(&repo, "HEAD:b.txt"), "staged\n");
    // `commit -a`.
    repo.write("a.txt", "all \n");
    repo.git(&["commit", "-q", "-a", "-m", "all"]);
    assert_eq!(content(&repo, "HEAD:a.txt"), "all\n");
    assert_eq!(repo.status(), "");
    // The executable bit and a rename.
    repo.git(&["mv", "a.txt", "run.txt"]);
    repo.write("run.txt", "all\nmore ");
    repo.make_executable("run.txt");
    repo.git(&["commit", "-q", "-a", "-m", "run"]);
    assert_eq!(content(&repo, "HEAD:run.txt"), "all\nmore\n");
    assert!(repo.git(&["ls-tree", "HEAD", "run.txt"]).starts_with("100755"));
    assert_eq!(repo.status(), "");
}

#[test]
fn only_staged_files_are_given_and_odd_entries_are_left_out() {
    let lab = Lab::new();
    let log = lab.path("log");
    let checks = format!(
        "[[check]]\nname = 'list'\nhook = ['pre-commit', 'pre-merge-commit']\nshell = true\n\
         run = 'printf \"%s \" {{files}} >> {log}; echo >> {log}'\n"
    );
    let repo = hooked(&lab, &checks);
    repo.write("z.txt", "z\n");
    repo.commit("z");
    drop(std::fs::remove_file(&log));
    repo.write("new.txt", "new\n");
    repo.write("later.txt", "later\n");
    repo.link("a.txt", "link");
    repo.git(&["mv", "b.txt", "moved.txt"]);
    repo.git(&["rm", "-q", "--cached", "z.txt"]);
    repo.make_executable("a.txt");
    repo.git(&["add", "new.txt", "link", "a.txt"]);
    repo.git(&["add", "-N", "later.txt"]);
    let id = repo.head();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub")]);
    repo.git(&["commit", "-q", "-m", "odd"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a.txt moved.txt new.txt \n");
    // In a merge only what was resolved by hand is new.
    drop(std::fs::remove_file(&log));
    repo.git(&["reset", "-q", "--hard"]);
    repo.remove("z.txt");
    repo.git(&["switch", "-q", "-c", "other", "HEAD~"]);
    repo.write("a.txt", "theirs\n");
    repo.write("many.txt", "theirs\n");
    repo.commit("theirs");
    repo.git(&["switch", "-q", "feature"]);
    repo.write("a.txt", "ours\n");
    repo.commit("ours");
    drop(std::fs::remove_file(&log));
    repo.try_git(&["merge", "-q", "other"]).status(1);
    repo.write("a.txt", "both\n");
    repo.git(&["add", "a.txt"]);
    repo.git(&["commit", "-q", "-m", "merged"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a.txt \n");
}

#[test]
fn a_fix_that_does_not_help_or_goes_too_far_changes_nothing() {
    let lab = Lab::new();
    let check = |fix: &str| {
        format!(
            "[[check]]\nname = 'c'\nhook = 'pre-commit'\nshell = true\nrestage = true\nfiles = '*.txt'\n\
             run = '! grep -l bad {{files}}'\n\
             fix = {{ run = '{fix}', shell = true, risk = 'safe' }}\n"
        )
    };
    let repo = hooked(&lab, &check("true"));
    for (fix, says) in [
        ("true", "it ran, but the check still fails"),
        ("for f in {files}; do echo worse bad > $f; done", "it ran, but the check still fails\n"),
        ("rm {files}", "the check still fails"),
        ("false {files}", "it failed"),
    ] {
        repo.canonical(&[(VALIDATE_FILE, Some(&check(fix)))]);
        repo.write("a.txt", "bad\n");
        repo.git(&["add", "a.txt"]);
        repo.write("a.txt", "bad, and more\n");
        let scene = repo.scene();
        let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
        // No file of the user was changed, so there is none to restore.
        refused.says("commit refused").says(says).never_says("restored");
        assert_eq!(repo.scene(), scene, "{fix}");
        repo.git(&["reset", "-q", "--hard"]);
    }
    // A fix that removes one of its files passes its check, and yet cannot be committed.
    repo.canonical(&[(VALIDATE_FILE, Some(&check("rm a.txt")))]);
    repo.write("a.txt", "bad\n");
    repo.write("b.txt", "fine\n");
    repo.git(&["add", "--all"]);
    let scene = repo.scene();
    let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
    refused.says("commit refused: a fix has removed `a.txt`; it can only change contents");
    assert_eq!(repo.scene(), scene);
    // A fix that changes another file than those that its check was given.
    repo.canonical(&[(VALIDATE_FILE, Some(&check("cp b.txt a.txt; echo more >> .gitignore")))]);
    let scene = repo.scene();
    let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
    refused.says("commit refused: `.gitignore` was changed as well");
    assert_eq!(repo.scene(), scene);
    // Fixes that leave nothing to commit.
    repo.git(&["reset", "-q", "--hard"]);
    repo.canonical(&[(VALIDATE_FILE, Some(RULES))]);
    repo.write("b.txt", "b \n");
    repo.git(&["add", "b.txt"]);
    let scene = repo.scene();
    let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
    refused.says(
        "commit refused: the fixes undo all staged changes, so that nothing is left to commit",
    );
    assert_eq!(repo.scene(), scene);
}

#[test]
fn messages_are_checked_and_prepared() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'message'\nhook = 'commit-msg'\nrun = 'grep -q ^ok {message}'\n\
        [[check]]\nname = 'prepare'\nhook = 'prepare-commit-msg'\nshell = true\n\
        run = 'echo prepared >> {message}'\n";
    let repo = hooked(&lab, checks);
    assert!(repo.git_folder().join("hooks/commit-msg").is_file());
    assert!(!repo.git_folder().join("hooks/pre-rebase").exists(), "no check names it");
    repo.write("a.txt", "x\n");
    let refused = repo.try_git(&["commit", "-q", "-a", "-m", "wrong"]).status(1);
    refused
        .says("commit refused: checks failed on its message")
        .says("message: exited with code 1");
    repo.git(&["commit", "-q", "-a", "-m", "ok"]);
    assert_eq!(repo.git(&["log", "-1", "--format=%B"]).trim(), "ok\nprepared");
    // Elsewhere they have nothing to look at.
    repo.git(&["checkout", "-q", "orchestration-tools", "--", VALIDATE_FILE]);
    repo.xtask(&["-v", "validate"]).success().says("it is about the message of a commit");
}

#[test]
fn a_message_is_checked_beside_the_repository() {
    let lab = Lab::new();
    let checks = |more: &str| {
        format!(
            "[[check]]\nname = 'message'\nhook = 'commit-msg'\nshell = true\n{more}\
             run = 'grep -q ^ok {{message}} && cat a.txt && git rev-parse --git-dir'\n"
        )
    };
    let repo = hooked(&lab, &checks(""));
    // Programs such as commitlint fail where they find no repository, also if not all is staged.
    repo.write("a.txt", "staged\n");
    repo.git(&["add", "a.txt"]);
    repo.write("a.txt", "staged and more\n");
    repo.try_git(&["commit", "-q", "-m", "wrong"]).status(1).says("message: exited with code 1");
    repo.git(&["commit", "-q", "-m", "ok"]);
    // A check that reads files still gets those of the commit.
    repo.canonical(&[(VALIDATE_FILE, Some(&checks("inputs = ['a.txt']\n")))]);
    let refused = repo.try_git(&["commit", "-q", "--allow-empty", "-m", "ok"]).status(1);
    refused.says("  staged\n").never_says("and more");
}

#[test]
fn a_refused_commit_names_the_files_of_the_user_and_promises_no_undo() {
    let lab = Lab::new();
    let checks = format!(
        "{RULES}[[check]]\nname = 'lines'\nhook = 'pre-commit'\nshell = true\n\
         run = 'echo $PWD/b.txt:1: bad; seq 50; false {{files}}'\n"
    );
    let repo = hooked(&lab, &checks);
    repo.write("a.txt", "one \n");
    repo.write("b.txt", "bad\n");
    repo.git(&["add", "--all"]);
    let scene = repo.scene();
    let refused = repo.try_git(&["commit", "-q", "-m", "x"]).status(1);
    let refused = refused.says("it works for `a.txt`, and is staged once all checks pass");
    let refused = refused.never_says("--undo").never_says("changed `a.txt`");
    // Of a long output the end is shown.
    let refused = refused.never_says("/b.txt:1: bad\n").says("xtask: the log has all output: ");
    assert_eq!(repo.scene(), scene);
    let log = refused.err.split("all output: ").nth(1).unwrap().lines().next().unwrap();
    assert!(std::fs::read_to_string(log).unwrap().contains("b.txt:1: bad"));
    let short = checks.replace("seq 50; ", "");
    repo.canonical(&[(VALIDATE_FILE, Some(&short))]);
    repo.try_git(&["commit", "-q", "-m", "x"])
        .status(1)
        .says(&format!("  {}/b.txt:1: bad\n", repo.dir))
        .never_says("the log has");
}

#[test]
fn a_push_is_checked_as_it_is_pushed() {
    let lab = Lab::new();
    let log = lab.path("log");
    let checks = format!(
        "[[check]]\nname = 'pushed'\nhook = 'pre-push'\nshell = true\nfiles = '*.txt'\n\
         run = 'printf \"%s \" {{files}} >> {log}; ! grep -l bad {{files}}'\n"
    );
    let repo = hooked(&lab, &checks);
    repo.git(&["init", "-q", "--bare", "../remote.git"]);
    repo.git(&["remote", "add", "origin", "../remote.git"]);
    repo.git(&["push", "-q", "origin", "main"]);
    drop(std::fs::remove_file(&log));
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    repo.write("a.txt", "pushed\n");
    repo.commit("a");
    repo.git(&["rm", "-q", "b.txt"]);
    repo.write("c.txt", "bad\n");
    repo.commit("c");
    repo.write("c.txt", "good now, and not committed\n");
    let refused = repo.try_git(&["push", "-q", "origin", "feature"]).status(1);
    refused.says("push refused: checks failed on the pushed commit").says("c.txt");
    assert_eq!(said(), "a.txt c.txt ");
    repo.git(&["commit", "-q", "-a", "-m", "good"]);
    repo.write("a.txt", "bad, and not committed\n");
    repo.git(&["push", "-q", "origin", "feature"]);
    assert!(said().ends_with("a.txt c.txt "), "{}", said());
    // Only what the remote has not got yet.
    repo.git(&["commit", "-q", "-a", "-m", "a"]);
    repo.try_git(&["push", "-q", "origin", "feature"]).status(1);
    assert!(said().ends_with("c.txt a.txt "), "{}", said());
    repo.git(&["push", "-q", "origin", ":refs/heads/feature"]);
}

#[test]
fn a_rebase_is_refused_and_branches_and_operations_choose() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'rebase'\nhook = 'pre-rebase'\nrun = 'false'\nonly-on = 'shared/*'\n\
        [[check]]\nname = 'commit'\nhook = 'pre-commit'\nrun = 'false'\nskip-during = ['merge']\n\
        only-on = ['feature', 'shared/*']\n";
    let repo = hooked(&lab, checks);
    repo.try_git(&["commit", "-q", "--allow-empty", "-m", "x"]).status(1).says("commit: exited");
    repo.git(&["commit", "-q", "--no-verify", "--allow-empty", "-m", "x"]);
    repo.git(&["switch", "-q", "-c", "shared/x"]);
    repo.git(&["switch", "-q", "main"]);
    repo.git(&["commit", "-q", "--no-verify", "--allow-empty", "-m", "main"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["rebase", "-q", "main"]);
    repo.git(&["switch", "-q", "shared/x"]);
    let refused = repo.try_git(&["rebase", "-q", "main"]).status(1);
    refused.says("rebase refused: checks failed on this branch");
    repo.git(&["switch", "-q", "-c", "elsewhere"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    repo.git(&["switch", "-q", "feature"]);
    repo.git(&["commit", "-q", "--no-verify", "--allow-empty", "-m", "y"]);
    repo.git(&["merge", "-q", "--no-commit", "--no-ff", "elsewhere"]);
    repo.git(&["commit", "-q", "-m", "merged"]);
}

#[test]
fn hooks_status_names_hooks_that_checks_want() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    let checks =
        format!("{RULES}[[check]]\nname = 'm'\nhook = 'commit-msg'\nrun = 'true {{message}}'\n");
    repo.canonical(&[(VALIDATE_FILE, Some(&checks))]);
    repo.xtask(&["hooks", "status"]).status(1).says("commit-msg");
    repo.install_hooks().success().says("commit-msg");
    repo.xtask(&["hooks", "status"]).success();
    repo.xtask(&["uninstall-hooks"]).success();
    assert!(!repo.git_folder().join("hooks/commit-msg").exists());
}

#[test]
fn installed_packages_are_there_where_the_commit_is_laid_out() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'c'\nhook = 'pre-commit'\nshell = true\n\
        run = 'test -f node_modules/tool && test -f web/node_modules/tool && test ! -e other/node_modules'\n";
    let repo = hooked(&lab, checks);
    for folder in ["", "web/", "other/"] {
        repo.write(&format!("{folder}node_modules/tool"), "x\n");
    }
    repo.write(".gitignore", "node_modules\n");
    repo.write("package.json", "{}\n");
    repo.write("web/package.json", "{}\n");
    repo.git(&["add", "--all"]);
    repo.write("loose", "makes it laid out elsewhere\n");
    repo.git(&["commit", "-q", "-m", "x"]);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "again"]);
    repo.xtask(&["uninstall-hooks"]).success();
    assert!(repo.has("node_modules/tool") && repo.has("web/node_modules/tool"));
}

#[test]
fn a_notice_names_what_brings_the_environment_up_to_date() {
    let checks = "[[check]]\nname = 'modules'\nrun = 'touch ran'\n\
        notice-when-changed = ['package-lock.json', 'web/*.lock']\n\
        fix = { run = 'npm ci', risk = 'risky' }\n\
        [[check]]\nname = 'venv'\nfile = 'x'\nnotice-when-changed = 'uv.lock'\n";
    let lab = Lab::new();
    let repo = hooked(&lab, checks);
    repo.write("package-lock.json", "1\n");
    repo.write("web/a.lock", "1\n");
    repo.write("uv.lock", "1\n");
    repo.commit("locks");
    let back = repo.try_git(&["switch", "-q", "orchestration-tools"]).status(0);
    back.says(
        "`package-lock.json`, `web/a.lock` have changed: `npm ci` brings the environment up to date",
    )
    .says("`uv.lock` has changed: ")
    .says("/xtask validate --only venv` brings");
    assert!(!repo.has("ran"), "nothing of it is run");
    repo.git(&["switch", "-q", "-c", "other"]);
    repo.write("b.txt", "other\n");
    repo.commit("nothing of the environment");
    let merged = repo.try_git(&["merge", "-q", "--no-edit", "feature"]).status(0);
    merged.says("`npm ci` brings");
    let quiet = repo.try_git(&["switch", "-q", "-c", "third"]).status(0);
    assert_eq!(quiet.err.matches("brings").count(), 0, "{}", quiet.err);
    let quiet = repo.try_git(&["checkout", "-q", "HEAD~1", "--", "b.txt"]).status(0);
    assert_eq!(quiet.err.matches("brings").count(), 0, "{}", quiet.err);
    // After a rebase, too.
    repo.git(&["checkout", "-q", "-f", "HEAD", "--", "."]);
    repo.git(&["switch", "-q", "-c", "fourth", "orchestration-tools"]);
    repo.write("c.txt", "c\n");
    repo.commit("c");
    let rebased = repo.try_git(&["rebase", "-q", "feature"]).status(0);
    rebased.says("`npm ci` brings");
}

#[test]
fn one_check_is_left_out_for_one_commit() {
    let checks = "[[check]]\nname = 'bad'\nrun = 'false'\nhook = 'pre-commit'\n\
        [[check]]\nname = 'worse'\nrun = 'false'\nhook = 'pre-commit'\n";
    let lab = Lab::new();
    let repo = hooked(&lab, checks);
    repo.write("a.txt", "x\n");
    repo.git(&["add", "--all"]);
    let commit =
        |skip: &str| repo.run("git", &["commit", "-q", "-m", "x"], &[("XTASK_SKIP", skip)]);
    commit("bad").status(1).says("worse").never_says("bad: ");
    let typo = commit("bad,wors").status(1);
    typo.says("pre-commit refused: XTASK_SKIP: ").says("`wors`").says("did you mean `worse`");
    commit("bad, worse").status(0);
}
