//! Fixes of `validate`: nothing that they touch is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use xtask_config::VALIDATE_FILE;

use crate::testkit::{Lab, files};
use crate::validate::outcomes;
use crate::wrong_hits::{scene, start, wait_for};

/// A check that passes once `src/out` says `good`, and its fix.
fn with_fix(run: &str, risk: &str, writes: &str) -> String {
    format!(
        "[[check]]\nname = 'c'\nrun = 'grep -q good src/out'\ninputs = ['src/out']\n\
         [check.fix]\nrun = \"{run}\"\nshell = true\nrisk = '{risk}'\nwrites = [{writes}]\n"
    )
}

#[test]
fn safe_fix_runs_and_can_be_undone() {
    let lab = Lab::new();
    let repo = scene(&lab, &with_fix("echo good > src/out; echo x > src/new", "safe", "'src'"));
    repo.write("src/out", "mine\n");
    repo.make_executable("src/out");
    repo.link("app", "src/link");
    let before = files(repo.dir.as_std_path());
    let ran = repo.xtask(&["validate"]).success();
    let ran = ran.says("fixed by").says("changed `src/new`, `src/out`");
    let said = ran.out.split("--undo ").nth(1).unwrap();
    let run = said.split('`').next().unwrap().to_owned();
    assert_eq!(repo.read("src/out"), "good\n");
    repo.xtask(&["undo", "--list"]).success().says(&run).says("fix of `c`");
    repo.xtask(&["validate", "--undo", &run, "--dry-run"]).success().says("src/out");
    assert_eq!(repo.read("src/out"), "good\n");
    repo.xtask(&["validate", "--undo", &run]).success().says("2 files restored");
    assert_eq!(files(repo.dir.as_std_path()), before);
    repo.xtask(&["validate", "--undo", &run]).success().says("already reverted");
    repo.xtask(&["validate", "--undo", "last"]).status(1).says("there is no fix to undo");
    repo.xtask(&["validate", "--undo", "nonsense"]).status(2).says("undo --list");
}

#[test]
fn fix_undo_keeps_files_changed_since() {
    let lab = Lab::new();
    let repo = scene(&lab, &with_fix("echo good > src/out; echo x > src/new", "safe", "'src'"));
    repo.write("src/out", "mine\n");
    repo.xtask(&["validate"]).success();
    repo.write("src/new", "mine, too\n");
    let ran = repo.xtask(&["validate", "--undo", "last"]).status(1);
    ran.says("1 file restored").says("`src/new` was changed since, and is kept");
    assert_eq!(
        (repo.read("src/out"), repo.read("src/new")),
        ("mine\n".into(), "mine, too\n".into())
    );
}

#[test]
fn unsuccessful_fix_is_rolled_back() {
    let lab = Lab::new();
    for run in [
        "echo worse > src/out; mkdir -p src/deep/er; echo x > src/deep/er/new; rm src/link; rm src/input",
        "echo worse > src/out; rm src/input; exit 1",
        "rm -r src",
        "rm src/link; ln -s elsewhere src/link; chmod 600 src/input",
    ] {
        let lab_scene = lab.path("repo");
        drop(fs::remove_dir_all(&lab_scene));
        let repo = scene(&lab, &with_fix(run, "safe", "'src'"));
        repo.write("src/out", "mine\n");
        repo.make_executable("src/out");
        repo.link("app", "src/link");
        let before = files(repo.dir.as_std_path());
        let ran = repo.xtask(&["validate"]).status(1);
        ran.says("restored");
        assert_eq!(files(repo.dir.as_std_path()), before, "{run}");
        let mode = fs::metadata(repo.dir.join("src/input")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{run}");
        repo.xtask(&["validate", "--undo", "last"]).status(1);
    }
}

#[test]
fn risky_fixes_require_consent_and_ci_runs_no_fixes() {
    let lab = Lab::new();
    let repo = scene(&lab, &with_fix("echo good > src/out", "risky", "'src/out'"));
    repo.write("src/out", "mine\n");
    let ran = repo.xtask(&["validate"]).status(1);
    ran.says("it is risky: `--interactive` asks first, `--yes` runs it");
    assert_eq!(repo.read("src/out"), "mine\n");
    repo.write(VALIDATE_FILE, with_fix("echo good > src/out", "safe", "'src/out'"));
    repo.xtask(&["validate", "--no-fix"]).status(1).says("fixes are off");
    repo.xtask_with(&["validate"], &[("CI", "true")]).status(1).says("fixes are off");
    repo.xtask_with(&["validate"], &[("AUTO_REMEDIATE", "0")]).status(1).says("fixes are off");
    assert_eq!(repo.read("src/out"), "mine\n");
    repo.write(VALIDATE_FILE, with_fix("echo good > src/out", "risky", "'src/out'"));
    repo.xtask(&["validate", "--yes"]).success();
    assert_eq!(repo.read("src/out"), "good\n");
}

/// What had passed depends on what a fix has changed: it has to pass again.
#[test]
fn fix_that_breaks_an_earlier_check_fails_the_run() {
    let lab = Lab::new();
    let early = "[[check]]\nname = 'early'\nphase = 'environment'\nrun = 'grep -q mine src/out'\n\
                 inputs = ['src/out']\n";
    let repo =
        scene(&lab, &[early, &with_fix("echo good > src/out", "safe", "'src/out'")].concat());
    repo.write("src/out", "mine\n");
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(outcomes(&ran), "early=failed c=fixed");
    let why = ran.json()["checks"][0]["why"].to_string();
    assert!(why.contains("the fix of `c` changed `src/out`"), "{why}");
}

/// A later check sees what a fix has made, and is not skipped for the state before.
#[test]
fn later_checks_run_on_the_fixed_files() {
    let lab = Lab::new();
    let later = "[[check]]\nname = 'later'\nphase = 'platform'\nrun = 'grep -q mine src/out'\n\
                 inputs = ['src/out']\n";
    let repo = scene(&lab, later);
    repo.write("src/out", "mine\n");
    repo.xtask(&["validate", "--fast"]).success();
    let both = [&with_fix("echo good > src/out", "safe", "'src/out'"), later].concat();
    repo.write(VALIDATE_FILE, both);
    let ran = repo.xtask(&["validate", "--fast", "--json"]).status(1);
    assert_eq!(outcomes(&ran), "c=fixed later=failed");
}

/// The program is gone in the middle of a fix. What it had replaced is safe, and so is what is there.
#[test]
fn killed_fix_can_be_undone() {
    let lab = Lab::new();
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let wait = format!("while test -e {begun} && ! test -e {go}; do sleep 0.05; done");
    let run = format!("echo half > src/out; touch {begun}; {wait}");
    let repo = scene(&lab, &with_fix(&run, "safe", "'src/out'"));
    repo.write("src/out", "mine\n");
    let mut child = start(&repo, &["validate"]);
    wait_for("the fix", || begun.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(repo.read("src/out"), "half\n");
    // What the fix has started goes on without it, and is let go.
    fs::write(&go, "").unwrap();
    let next = repo.xtask(&["validate", "--no-fix"]).status(1);
    next.says("a fix was interrupted").says("--undo");
    repo.write("src/out", "half, and mine\n");
    let ran = repo.xtask(&["validate", "--undo", "last"]).success();
    let ran = ran.says("the fix was interrupted; the replaced content is kept in ");
    assert_eq!(repo.read("src/out"), "mine\n");
    let folder = ran.err.split("is kept in ").nth(1).unwrap().trim().to_owned();
    let mut kept =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    assert!(kept.any(|content| content == b"half, and mine\n"));
}

#[test]
fn fix_is_not_run_if_its_files_cannot_be_saved() {
    let lab = Lab::new();
    let repo = scene(&lab, &with_fix("echo good > src/out", "safe", "'behind/out', 'src/out'"));
    repo.write("src/out", "mine\n");
    repo.link("src", "behind");
    let ran = repo.xtask(&["validate"]).status(1);
    ran.says("not run: ").says("cannot read `behind/out`, which the fix may write");
    assert_eq!(repo.read("src/out"), "mine\n");
    // Copies are for their owner alone.
    fs::remove_file(repo.dir.join("behind")).unwrap();
    repo.xtask(&["validate"]).success();
    let fixes = repo.git_folder().join("xtask/fixes");
    let run = fs::read_dir(fixes).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let mode = fs::metadata(run.join("1/before")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// What somebody wrote while a fix ran, and the fix was put back, is kept.
#[test]
fn edits_made_during_a_rolled_back_fix_are_kept() {
    let lab = Lab::new();
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let run = format!("touch {begun}; while ! test -e {go}; do sleep 0.01; done; exit 1");
    let repo = scene(&lab, &with_fix(&run, "safe", "'src/out'"));
    repo.write("src/out", "before\n");
    let mut child = start(&repo, &["validate"]);
    wait_for("the fix", || begun.exists());
    repo.write("src/out", "mine, while it ran\n");
    fs::write(&go, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(repo.read("src/out"), "before\n");
    let kept = files(&repo.git_folder().join("xtask/fixes"));
    assert!(kept.values().any(|(_, content)| content == "mine, while it ran\\n"), "{kept:?}");
}

/// A fix may turn anything into anything; in vain, all of it is as it was.
#[test]
fn rollback_of_a_fix_restores_any_file_type_change() {
    for run in [
        "rm src/out; mkdir src/out; echo x > src/out/x",
        "rm -r src/deep; echo x > src/deep",
        "rm -r src/deep; ln -s elsewhere src/deep",
        "rm -r src/deep; mkfifo src/deep",
        "rm -r src/hollow",
        "mkfifo src/pipe; echo worse > src/out",
        "rm src/link; mkdir src/link; mkfifo src/link/pipe",
    ] {
        let lab = Lab::new();
        let repo = scene(&lab, &with_fix(run, "safe", "'src'"));
        repo.write("src/out", "mine\n");
        repo.write("src/deep/er/x", "deep\n");
        repo.link("app", "src/link");
        fs::create_dir(repo.dir.join("src/hollow")).unwrap();
        let before = files(repo.dir.as_std_path());
        let ran = repo.xtask(&["validate", "--json"]).status(1);
        assert_eq!(ran.json()["checks"][0]["fix"]["outcome"], "restored", "{run}: {}", ran.out);
        assert_eq!(files(repo.dir.as_std_path()), before, "{run}");
        assert!(repo.has("src/hollow"), "{run}");
    }
}

/// A fix that made more than can be looked at has worked all the same.
#[test]
fn fix_that_creates_too_many_files_still_succeeds() {
    let lab = Lab::new();
    let run = "mkdir -p many; i=0; while test $i -lt 10001; do : > many/$i; i=$((i+1)); done; \
               echo good > src/out";
    let repo = scene(&lab, &with_fix(run, "safe", "'many', 'src/out'"));
    repo.write("src/out", "mine\n");
    let ran = repo.xtask(&["validate", "--json"]).success();
    assert_eq!(outcomes(&ran), "c=fixed");
    let reason = ran.json()["checks"][0]["fix"]["reason"].to_string();
    assert!(reason.contains("not all changes could be recorded"), "{reason}");
    repo.xtask(&["validate", "--undo", "last"]).success();
    assert_eq!(repo.read("src/out"), "mine\n");
}

/// One path that cannot be put back keeps no other one from it, and what was taken back in part stays
/// to be taken back.
#[test]
fn fix_rollback_continues_past_paths_it_cannot_restore() {
    let lab = Lab::new();
    let long = "n".repeat(250);
    let run = format!("echo worse > src/out; echo worse > src/{long}; rm src/pipe");
    let repo = scene(&lab, &with_fix(&run, "safe", "'src', 'src/out', './src/'"));
    repo.write("src/out", "mine\n");
    repo.write(&format!("src/{long}"), "long\n");
    assert_eq!(repo.run("mkfifo", &[repo.dir.join("src/pipe").as_str()], &[]).code, Some(0));
    let ran = repo.xtask(&["validate", "--json"]).status(1);
    assert_eq!(ran.json()["checks"][0]["fix"]["outcome"], "left", "{}", ran.out);
    assert_eq!(repo.read("src/out"), "mine\n");
    assert_eq!(repo.read(&format!("src/{long}")), "long\n");
}

#[test]
fn fixes_of_two_runs_can_be_undone_in_any_order() {
    let lab = Lab::new();
    let repo = scene(&lab, &with_fix("echo good > src/out", "safe", "'src/out'"));
    let runs = || {
        let listed = repo.xtask(&["undo", "--list"]).success().out;
        let ids = listed.lines().map(|line| line.split(' ').next().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    repo.write("src/out", "one\n");
    repo.xtask(&["validate"]).success();
    let first = runs().pop().unwrap();
    repo.write(VALIDATE_FILE, with_fix("echo good, better > src/out", "safe", "'src/out'"));
    repo.write(VALIDATE_FILE, repo.read(VALIDATE_FILE).replace("grep -q good", "grep -q better"));
    repo.xtask(&["validate"]).success();
    repo.xtask(&["validate", "--undo", &first]).status(1).says("was changed since, and is kept");
    repo.xtask(&["validate", "--undo", "last"]).success();
    assert_eq!(repo.read("src/out"), "good\n");
    repo.xtask(&["validate", "--undo", &first]).success();
    assert_eq!(repo.read("src/out"), "one\n");
}

/// Undo never reaches through a symlink that somebody has put where a folder was.
#[test]
fn fix_undo_does_not_follow_symlinks_outside() {
    let lab = Lab::new();
    let outside = lab.path("outside");
    fs::create_dir_all(outside.join("cache")).unwrap();
    let run = "mkdir -p src/new/cache; echo good > src/out";
    let repo = scene(&lab, &with_fix(run, "safe", "'src'"));
    repo.write("src/out", "mine\n");
    repo.xtask(&["validate"]).success();
    fs::remove_dir_all(repo.dir.join("src/new")).unwrap();
    repo.link(outside.as_str(), "src/new");
    repo.xtask(&["validate", "--undo", "last"]).success();
    assert!(outside.join("cache").is_dir());
    // Nor is a symlink that is named taken for a backup of what it leads to.
    repo.write(VALIDATE_FILE, with_fix("echo good > src/l", "safe", "'src/l'"));
    repo.link("out", "src/l");
    repo.xtask(&["validate"]).status(1).says("is a symlink");
    assert_eq!(repo.read("src/out"), "mine\n");
}

/// A fix that fixed something is told also where its check had to run again because of another fix.
#[test]
fn every_applied_fix_is_in_the_report() {
    let lab = Lab::new();
    let one = |name: &str, own: &str, other: &str| {
        format!(
            "[[check]]\nname = '{name}'\nrun = 'grep -q good src/{own}'\ninputs = ['src/**']\n\
             [check.fix]\nrun = 'cp src/input src/{own}'\nrisk = 'safe'\nwrites = ['src/{own}', 'src/{other}']\n"
        )
    };
    let repo = scene(&lab, &[one("a", "x", "y"), one("b", "y", "x")].concat());
    let ran = repo.xtask(&["validate", "--json"]).success();
    assert_eq!(outcomes(&ran), "a=fixed b=fixed");
    for at in [0, 1] {
        assert_eq!(ran.json()["checks"][at]["fix"]["outcome"], "applied", "{}", ran.out);
    }
}
