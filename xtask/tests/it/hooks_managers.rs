//! Real managers of hooks beside ours, in every order: each is installed, installed again and uninstalled
//! around the other. After every step each check runs exactly once, ours refuses what it is to refuse
//! wherever `hooks status` says that it fires, and a commit is possible.
//!
//! A manager that is not on this machine is not tried, and the test says so.

use std::fs;

use crate::testkit::{Lab, Place, circle, write_script};

/// A step: one of ours in capitals, one of the manager's in small letters.
const OURS: [(char, &str); 2] = [('I', "install-hooks"), ('U', "uninstall-hooks")];

struct Manager {
    program: &'static str,
    install: &'static [&'static str],
    uninstall: Option<&'static [&'static str]>,
    /// Its configuration; it is to run `./check`.
    config: (&'static str, &'static str),
    /// Whether it runs what stood at the name of a hook before, which is ours in that case.
    runs_others: bool,
}

/// The configuration of pre-commit, which prek reads as well.
const PRE_COMMIT: (&str, &str) = (
    ".pre-commit-config.yaml",
    "repos:\n- repo: local\n  hooks:\n  - {id: a, name: a, entry: ./check, language: system, \
     always_run: true, pass_filenames: false}\n",
);

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "pre-commit",
        install: &["install"],
        uninstall: Some(&["uninstall"]),
        config: PRE_COMMIT,
        runs_others: true,
    },
    Manager {
        program: "prek",
        install: &["install"],
        uninstall: Some(&["uninstall"]),
        config: PRE_COMMIT,
        runs_others: true,
    },
    Manager {
        program: "lefthook",
        install: &["install"],
        uninstall: Some(&["uninstall"]),
        config: ("lefthook.yml", "pre-commit:\n  commands:\n    a:\n      run: ./check\n"),
        runs_others: false,
    },
    Manager {
        program: "simple-git-hooks",
        install: &[],
        uninstall: None,
        config: (
            "package.json",
            "{\"name\":\"a\",\"simple-git-hooks\":{\"pre-commit\":\"./check\"}}\n",
        ),
        runs_others: false,
    },
];

/// A repository with a configuration of the manager, whose check leaves a line.
fn scene<'a>(lab: &'a Lab, manager: &Manager) -> Place<'a> {
    let repo = lab.repo();
    write_script(&repo.dir.join("check"), "#!/bin/sh\necho ran >> .git/ran\n");
    repo.write(manager.config.0, manager.config.1);
    repo.commit("a manager of hooks");
    repo.git(&["switch", "-qc", "feature"]);
    repo
}

fn run(repo: &Place<'_>, program: &str, args: &[&str]) -> i32 {
    let home = repo.lab.path("home");
    let own = [("PRE_COMMIT_HOME", home.as_str()), ("PREK_HOME", home.as_str())];
    repo.run(program, args, &own).code.unwrap()
}

/// Commits, and says whether it went through and how often the check of the manager ran.
fn commit(repo: &Place<'_>, text: &str) -> (bool, usize, String) {
    let log = repo.dir.join(".git/ran");
    fs::remove_file(&log).ok();
    repo.write("src/app", text);
    repo.git(&["add", "src/app"]);
    let home = repo.lab.path("home");
    let own = [("PRE_COMMIT_HOME", home.as_str()), ("PREK_HOME", home.as_str())];
    let ran = repo.run("git", &["commit", "-qm", "work"], &own);
    repo.git(&["reset", "-q", "--hard"]);
    (ran.code == Some(0), fs::read_to_string(log).unwrap_or_default().lines().count(), ran.err)
}

/// What our hook of this name is said to do.
fn fires(repo: &Place<'_>, name: &str) -> bool {
    let json = repo.xtask(&["hooks", "status", "--json"]).json();
    let hooks = json["hooks"].as_array().unwrap().clone();
    hooks.iter().find(|hook| hook["hook"] == name).unwrap()["fires"] == true
}

/// Goes through the steps of a history and looks after each.
fn go(repo: &Place<'_>, manager: &Manager, steps: &str) {
    let (mut theirs, mut installed) = (false, false);
    for (at, step) in steps.chars().enumerate() {
        let so_far: String = steps.chars().take(at + 1).collect();
        let so_far = format!("{}: {so_far}", manager.program);
        if let Some((_, command)) = OURS.iter().find(|(name, _)| *name == step) {
            let args: &[&str] = if step == 'I' { &[command, "--this-program"] } else { &[command] };
            let ran = repo.xtask(args);
            assert_eq!(ran.code, Some(0), "{so_far}\n{}{}", ran.out, ran.err);
            assert_eq!(fires(repo, "pre-commit"), step == 'I', "{so_far}");
        } else if step == 'i' {
            assert_eq!(run(repo, manager.program, manager.install), 0, "{so_far}");
            theirs = true;
        } else {
            run(repo, manager.program, manager.uninstall.unwrap());
            theirs = false;
        }
        let fires = fires(repo, "pre-commit");
        installed = match step {
            'I' => true,
            'U' => false,
            _ => installed,
        };
        if step == 'i' && manager.runs_others && installed {
            assert!(fires, "{so_far}");
        }
        let (went, count, said) = commit(repo, &format!("{so_far}\n"));
        assert!(went, "{so_far}: {said}");
        // One that we have moved aside does not find its own hook, so that it cannot take it out.
        let wanted: &[usize] = if theirs { &[1] } else { &[0, 1] };
        assert!(wanted.contains(&count), "{so_far}: {count}");
        let (went, _, said) = commit(repo, &format!("{so_far}\n<<<<<<< a\n=======\n>>>>>>> b\n"));
        assert_eq!(went, !fires, "{so_far}: {said}");
    }
}

/// Every history of so many steps.
fn histories(length: usize, has_uninstall: bool) -> Vec<String> {
    let steps: &[char] = if has_uninstall { &['I', 'U', 'i', 'u'] } else { &['I', 'U', 'i'] };
    let mut all = vec![String::new()];
    for _ in 0..length {
        all = all
            .iter()
            .flat_map(|so_far| steps.iter().map(move |step| format!("{so_far}{step}")))
            .collect();
    }
    // What begins with a removal, or has none of one side, holds nothing of its own.
    all.retain(|text| text.contains('I') && text.contains('i') && !text.starts_with(['U', 'u']));
    all
}

#[test]
fn hook_managers_can_be_installed_alongside_in_any_order() {
    for manager in &MANAGERS {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(manager.program).is_file()) {
            circle::not_tried(&format!("{} is not installed", manager.program));
            continue;
        }
        let lab = Lab::new();
        let repo = scene(&lab, manager);
        let few =
            || vec!["Iii".to_owned(), "iIi".to_owned(), "iIiIU".to_owned(), "IiIU".to_owned()];
        let all = || histories(3, manager.uninstall.is_some());
        for steps in if circle::is_exhaustive() { all() } else { few() } {
            let copy = lab.copy();
            go(&repo.in_copy(&copy), manager, &steps);
        }
    }
}
