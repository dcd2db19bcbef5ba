//! Hooks wherever git looks for them, and wherever it is told that the repository is.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::testkit::{Lab, Place};

const MARKERS: &str = "<<<<<<< a\n=======\n>>>>>>> b\n";

fn fires(repo: &Place<'_>) -> bool {
    let json = repo.xtask(&["hooks", "status", "--json"]).json();
    json["hooks"].as_array().unwrap().iter().any(|hook| hook["fires"] == true)
}

/// In a clone that was copied, an absolute path still leads to the original.
#[test]
fn hooks_of_another_repository_are_left_alone() {
    let lab = Lab::new();
    let repo = lab.repo();
    let hooks = format!("{}/.git/hooks", repo.dir);
    repo.git(&["config", "core.hooksPath", &hooks]);
    repo.install_hooks().success();
    let texts = || -> Vec<Vec<u8>> {
        let names = ["pre-commit", "pre-push", "post-checkout"];
        names.iter().map(|name| fs::read(format!("{hooks}/{name}")).unwrap()).collect()
    };
    let before = texts();
    assert_eq!(repo.run("cp", &["-r", ".", "../copy"], &[]).code, Some(0));
    let copy = lab.place("copy");
    copy.install_hooks()
        .status(1)
        .says("sets `core.hooksPath` to a folder of another repository")
        .says("core.hooksPath");
    copy.xtask(&["hooks", "status"]).says("another repository");
    copy.xtask(&["uninstall-hooks"]);
    assert_eq!(texts(), before);
    assert!(fires(&repo));
    // Its own folder is what the message says to name.
    copy.git(&["config", "--local", "core.hooksPath", &format!("{}/.git/hooks", copy.dir)]);
    copy.install_hooks().success();
    assert!(fires(&copy) && fires(&repo));
    assert_eq!(texts(), before);
}

/// Git then looks for `/pre-commit`, where nothing of ours goes, by no force.
#[test]
fn empty_or_root_hooks_path_is_refused() {
    let lab = Lab::new();
    let repo = lab.repo();
    for path in ["", "/"] {
        repo.git(&["config", "core.hooksPath", path]);
        for args in [&["install-hooks", "--this-program"][..], &["install-hooks", "--force"]] {
            repo.xtask(args).status(1).says("`core.hooksPath`");
        }
        assert_eq!(repo.status(), "");
        assert!(!fires(&repo));
    }
}

#[test]
fn hooks_work_in_folders_with_non_utf8_names() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    let odd = lab.path("").into_std_path_buf().join(OsStr::from_bytes(b"h\xff 'x"));
    fs::create_dir(&odd).unwrap();
    // The folder of the hooks, and then that of the repository.
    let git = |folder: &std::path::Path, args: &[&OsStr]| {
        let mut command = std::process::Command::new("git");
        command.args(args).current_dir(folder).envs(lab.place(".").environment());
        command.status().unwrap().success()
    };
    let words = ["config", "core.hooksPath"].map(OsStr::new);
    assert!(git(repo.dir.as_std_path(), &[words[0], words[1], odd.as_os_str()]));
    repo.install_hooks().success();
    assert!(fires(&repo));
    repo.write("src/app", MARKERS);
    repo.try_git(&["commit", "-qam", "markers"]).status(1).says("conflict markers");
    repo.git(&["config", "--unset", "core.hooksPath"]);
    repo.install_hooks().success();
    let moved = odd.join("repo");
    fs::rename(&repo.dir, &moved).unwrap();
    assert!(!git(&moved, &["commit", "-qam", "markers"].map(OsStr::new)));
    fs::write(moved.join("src/app"), "fine\n").unwrap();
    assert!(git(&moved, &["commit", "-qam", "fine"].map(OsStr::new)));
}

/// `--git-dir` and `--work-tree`, the variables of the same, and `core.worktree`.
#[test]
fn hooks_work_with_git_dir_and_work_tree_settings() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("setup/branches.toml", "protected = ['main']\n");
    repo.commit("rules");
    repo.git(&["branch", "-f", "orchestration-tools"]);
    repo.install_hooks().success();
    lab.place(".").git(&["init", "-q", "--bare", "hub.git"]);
    repo.git(&["remote", "add", "origin", lab.path("hub.git").as_str()]);
    repo.git(&["push", "-q", "--no-verify", "origin", "main"]);
    let dots = lab.path("dots.git");
    fs::rename(repo.dir.join(".git"), &dots).unwrap();
    let by_words = [format!("--git-dir={dots}"), format!("--work-tree={}", repo.dir)];
    let outside = lab.path("elsewhere");
    fs::create_dir(&outside).unwrap();
    // A repository around the files is another one.
    for around in [false, true] {
        if around {
            lab.place(".").git(&["init", "-q"]);
        }
        for way in ["words", "variables", "configuration"] {
            let git = |args: &[&str]| {
                let mut words: Vec<&str> = Vec::new();
                let mut variables: Vec<(&str, &str)> = Vec::new();
                match way {
                    "words" => words.extend(by_words.iter().map(String::as_str)),
                    "variables" => {
                        variables.extend([
                            ("GIT_DIR", dots.as_str()),
                            ("GIT_WORK_TREE", repo.dir.as_str()),
                        ]);
                    }
                    _ => words.push(&by_words[0]),
                }
                words.extend(args);
                repo.run("git", &words, &variables)
            };
            if way == "configuration" {
                repo.run("git", &[&by_words[0], "config", "core.worktree", repo.dir.as_str()], &[]);
            }
            let what = format!("{way}, around: {around}");
            repo.write("src/app", MARKERS);
            let refused = git(&["commit", "-qam", "markers"]);
            assert_eq!(refused.code, Some(1), "{what}: {}", refused.err);
            assert!(refused.err.contains("`main` is protected"), "{what}: {}", refused.err);
            repo.write("src/app", format!("{what}\n"));
            assert_eq!(git(&["commit", "-qam", "past it", "--no-verify"]).code, Some(0));
            let pushed = git(&["push", "-q", "origin", "main"]);
            assert_eq!(pushed.code, Some(1), "{what}: {}", pushed.err);
            // And what comes after a checkout is done there.
            assert_eq!(git(&["reset", "-q", "--hard", "origin/main"]).code, Some(0));
            if way == "configuration" {
                repo.run("git", &[&by_words[0], "config", "--unset", "core.worktree"], &[]);
            }
        }
    }
    let git = |args: &[&str]| {
        let words: Vec<&str> =
            by_words.iter().map(String::as_str).chain(args.iter().copied()).collect();
        repo.run("git", &words, &[])
    };
    git(&["update-ref", "refs/heads/behind", "main"]).success();
    git(&["switch", "-q", "orchestration-tools", "--no-guess"]).success();
    repo.write("setup/a", "a2\n");
    git(&["commit", "-qam", "canonical", "--no-verify"]).success();
    git(&["switch", "-q", "behind"]).success().says("brought up to date");
    assert_eq!(repo.read("setup/a"), "a2\n");
    assert_eq!(git(&["status", "--porcelain"]).out, "");
}
