//! Fixes that are staged, where something goes wrong or is odd: a disk that fails or a crash at every step, somebody
//! who saves or stages in the middle, filters, modes, links and other indexes. No edit is lost.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use xtask_base::error::{Error, Result};
use xtask_base::files::{Disk, DiskOperation};
use xtask_git::{Repo, RestagedFile, Tools};
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::RunTrigger;
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest, run_validation};
use xtask_validate::staged_fixes::StagedContents;
use xtask_validate::staged_tree::{TreeSource, prepare_location};

use crate::crash::{Fault, run_with, steps_of, with_tools, world};
use crate::hook_checks::{RULES, content, hooked};
use crate::testkit::{Lab, Place, Scene, circle, write_script};
use crate::validate_limits::Nobody;
use crate::wrong_hits::wait_for;

/// What the hook of a commit does: fixes the staged files, stages them, and merges them into the files.
fn restage(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    restage_all(repo, tools).map(drop)
}

fn restage_all(repo: &Repo, tools: &Tools<'_>) -> Result<Vec<RestagedFile>> {
    let checks = LoadedChecks::parse(RULES)?;
    let here = RunEnvironment { system: "linux", is_ci: false };
    let selection = select_checks(&checks.config, &CheckFilter::default(), here)?;
    let index = repo.index_file();
    let staged = repo.list_staged_paths(&index)?;
    let source = TreeSource::Index(&index);
    let (location, _lock) = prepare_location(repo, source, tools, true)?;
    let CheckLocation::Exported(tree, _) = &location else { panic!("it is not exported") };
    let tree = tree.clone();
    let exported = repo.read_index_at(&tree.with_file_name("index"))?;
    let before = StagedContents::read(&checks.config, &staged, &tree, &exported);
    let request = ValidationRequest {
        shard: None,
        share: None,
        watched: None,
        checks: &checks,
        selection: &selection,
        options: RunOptions::fast(FixMode::Restage),
        location,
        scope: FileScope::staged(staged),
        message: None,
        started_by: RunTrigger::PreCommit,
        keeps_log: true,
        records_history: true,
        waits_for_lock: false,
        command: "pre-commit".to_owned(),
    };
    let done = run_validation(repo, tools, request, &Nobody, &Nobody, &|_| {})?;
    if !done.ok {
        return Err(Error::negative("not healthy"));
    }
    let fixed = before.collect_fixed(&done.checks, &tree).map_err(Error::negative)?;
    let restaged = repo.restage_fixed(tools.disk, &[index], &fixed)?;
    Ok(restaged.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Files whose fix replaces them, is merged with unstaged edits, or conflicts with them.
fn busy(lab: &Lab) -> Place<'_> {
    let repo = hooked(lab, RULES);
    let seven = |first: &str, last: &str| format!("{first}\ntwo\nthree\nfour\nfive\nsix\n{last}\n");
    for path in ["a.txt", "b.txt", "c.txt", "d/e.txt"] {
        repo.write(path, seven("one ", "seven"));
    }
    repo.git(&["add", "--all"]);
    repo.write("b.txt", seven("one ", "unstaged "));
    repo.write("c.txt", seven("unstaged  ", "seven"));
    repo.write("loose.txt", "loose ");
    repo
}

/// Gives what this process has left another writer, which has ended.
fn as_if_killed(repo: &Place<'_>) {
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    for folder in ["", "d"] {
        for entry in fs::read_dir(repo.dir.join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if let Some(rest) = name.strip_prefix(&format!(".xtask-fix-{}-", std::process::id())) {
                let name = format!(".xtask-fix-{}-{rest}", gone.id());
                fs::rename(entry.path(), entry.path().with_file_name(name)).unwrap();
            }
        }
    }
}

#[track_caller]
fn assert_known(now: &Scene, before: &Scene, after: &Scene, case: &str) {
    assert!(now.index == before.index || now.index == after.index, "{case}: {}", now.index);
    for (path, file) in &now.files {
        let is_left = path.contains(".xtask-fix-");
        let is_known = [before, after].iter().any(|known| known.files.get(path) == Some(file));
        assert!(is_left || is_known, "{case}: {path}: {file:?}");
    }
    for path in before.files.keys() {
        assert!(now.files.contains_key(path), "{case}: {path} is gone");
    }
}

#[test]
fn restaging_with_a_fault_leaves_each_file_as_before_or_as_planned() {
    let lab = Lab::new();
    let original = busy(&lab);
    let before = original.scene();
    let calm = lab.copy();
    let calm = original.in_copy(&calm);
    let all = steps_of(&calm, restage);
    let after = calm.scene();
    assert!(calm.read("b.txt").starts_with("one\n"));
    assert!(all.iter().filter(|step| **step == DiskOperation::Exchange).count() >= 3, "{all:?}");
    for fault in [Fault::Fails, Fault::Crash] {
        // In the sample each step has one of the faults.
        let is_chosen = |number: usize| {
            circle::is_exhaustive() || number.is_multiple_of(2) == (fault == Fault::Crash)
        };
        let chosen = circle::steps(&all).into_iter().enumerate();
        for (_, at) in chosen.filter(|(number, _)| is_chosen(*number)) {
            let copy = lab.copy();
            let repo = original.in_copy(&copy);
            let (done, _) = run_with(&repo, restage, fault, at);
            let case = format!("{fault:?} at step {at} ({:?}): {done:?}", all.get(at));
            assert_known(&repo.scene(), &before, &after, &case);
            assert!(!repo.git_folder().join("index.lock").exists(), "{case}");
            // The same commit again does the rest, and sweeps.
            as_if_killed(&repo);
            let ran = repo.try_git(&["commit", "-q", "-m", "again"]);
            assert_eq!(ran.code, Some(0), "{case}\n{}", ran.err);
            for path in ["a.txt", "b.txt", "c.txt", "d/e.txt"] {
                assert!(content(&repo, &format!("HEAD:{path}")).starts_with("one\n"), "{case}");
            }
            let now = repo.scene();
            assert!(now.files.keys().all(|path| !path.contains(".xtask-")), "{case}: {now:?}");
            let kept = now.files["b.txt"].1.contains("unstaged ");
            assert!(kept && now.files["c.txt"].1.contains("unstaged  "), "{case}: {now:?}");
        }
    }
}

/// Runs the fixes while `meddle` comes before each step of one kind.
fn restage_with(
    repo: &Place<'_>,
    step: DiskOperation,
    meddle: impl Fn() + Sync,
) -> Result<Vec<RestagedFile>> {
    let gate = |next: DiskOperation| -> io::Result<()> {
        if next == step {
            meddle();
        }
        Ok(())
    };
    let (world, disk) = (world(repo), Disk::with_gate(&gate));
    with_tools(repo, &world, |repo, tools| restage_all(repo, &Tools { disk: &disk, ..*tools }))
}

#[test]
fn who_saves_or_removes_a_file_before_the_swap_has_the_last_word() {
    for renames in [false, true] {
        let lab = Lab::new();
        let repo = hooked(&lab, RULES);
        repo.write("a.txt", "fix me \n");
        repo.git(&["add", "a.txt"]);
        let save = || {
            let name = if renames { "saved" } else { "a.txt" };
            repo.write(name, "the newest work\n");
            fs::rename(repo.dir.join(name), repo.dir.join("a.txt")).unwrap();
        };
        // The rules use the same steps for the exported file; nothing of it is the user's.
        let done = restage_with(&repo, DiskOperation::Exchange, save).unwrap();
        assert_eq!(done, [RestagedFile::Conflict], "saved before it was read");
        assert_eq!(repo.read("a.txt"), "the newest work\n");
        assert_eq!(content(&repo, ":a.txt"), "fix me\n");
        repo.write("a.txt", "fix me \n");
        repo.git(&["add", "a.txt"]);
        let number = AtomicU32::new(0);
        let second = || {
            if number.fetch_add(1, Ordering::SeqCst) == 1 {
                save();
            }
        };
        let done = restage_with(&repo, DiskOperation::Exchange, second).unwrap();
        assert_eq!(done, [RestagedFile::Kept]);
        assert_eq!(repo.read("a.txt"), "the newest work\n");
        // Also who saves again while that goes back.
        for last in [2, 3, 4] {
            repo.write("a.txt", "fix me \n");
            repo.git(&["add", "a.txt"]);
            let number = AtomicU32::new(0);
            let more = || {
                let number = number.fetch_add(1, Ordering::SeqCst);
                if (1..last).contains(&number) {
                    let name = if renames { "saved" } else { "a.txt" };
                    repo.write(name, format!("save {number}\n"));
                    fs::rename(repo.dir.join(name), repo.dir.join("a.txt")).unwrap();
                }
            };
            let done = restage_with(&repo, DiskOperation::Exchange, more).unwrap();
            assert_eq!(done, [RestagedFile::Kept]);
            assert_eq!(repo.read("a.txt"), format!("save {}\n", last - 1), "{renames}");
            assert_eq!(repo.status(), "MM a.txt\n", "and nothing is left beside it");
        }
        repo.write("a.txt", "fix me \n");
        repo.git(&["add", "a.txt"]);
        let remove = || fs::remove_file(repo.dir.join("a.txt")).unwrap_or_default();
        let done = restage_with(&repo, DiskOperation::Exchange, remove).unwrap();
        assert_eq!(done, [RestagedFile::Kept]);
        assert!(!repo.has("a.txt"));
        assert_eq!(repo.status(), "MD a.txt\n", "and nothing is left beside it");
    }
}

/// Somebody saves a file all the time: of each save the last one is there.
#[test]
fn an_editor_that_saves_all_the_time_loses_nothing() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    for number in 0..circle::either(3, 60) {
        let staged = format!("staged {number}\n\n\n\nend \n");
        repo.write("staged", staged);
        let id = repo.git(&["hash-object", "-w", "staged"]);
        repo.git(&["update-index", "--cacheinfo", &format!("100644,{},a.txt", id.trim())]);
        let is_over = AtomicBool::new(false);
        let last = std::thread::scope(|scope| {
            let editor = scope.spawn(|| {
                let mut saved = 0;
                while !is_over.load(Ordering::SeqCst) {
                    saved += 1;
                    repo.write("saved", format!("save {saved}\n\n\n\nend \n"));
                    fs::rename(repo.dir.join("saved"), repo.dir.join("a.txt")).unwrap();
                    std::thread::sleep(Duration::from_micros(saved % 7 * 50));
                }
                saved
            });
            let ran = repo.try_git(&["commit", "-q", "-m", "x"]);
            is_over.store(true, Ordering::SeqCst);
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            editor.join().unwrap()
        });
        assert_eq!(content(&repo, "HEAD:a.txt"), format!("staged {number}\n\n\n\nend\n"));
        let text = repo.read("a.txt");
        assert!(text.starts_with(&format!("save {last}\n")), "{last}: {text}");
        assert_eq!(repo.status(), " M a.txt\n?? staged\n");
    }
}

#[test]
fn what_a_killed_fix_has_left_is_removed_if_git_has_it_or_else_moved() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    let name = |number| format!(".xtask-fix-{}-{number}", std::process::id());
    repo.write(&name(1), "b\n");
    repo.write(&format!("{}.spare", name(2)), "nobody else has this\n");
    repo.write("d/.xtask-fix-x-3", "of somebody else\n");
    repo.write(&name(5).replace("fix-", "fix-0"), "tracked\n");
    repo.git(&["add", &name(5).replace("fix-", "fix-0")]);
    repo.git(&["commit", "-q", "--no-verify", "-m", "by mistake"]);
    as_if_killed(&repo);
    repo.write(&name(4), "b\n");
    repo.write("b.txt", "b2\n");
    repo.write("d/e.txt", "e\n");
    repo.git(&["add", "b.txt", "d/e.txt"]);
    let ran = repo.try_git(&["commit", "-q", "-m", "x"]).status(0);
    ran.says("which a killed fix has left, is").says("put-aside/xtask-fix-");
    assert_eq!(repo.status(), format!("?? {}\n?? d/.xtask-fix-x-3\n", name(4)));
    let kept: Vec<_> =
        fs::read_dir(repo.git_folder().join("xtask/put-aside")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read_to_string(kept[0].path()).unwrap(), "nobody else has this\n");
}

#[test]
fn what_is_staged_while_a_fix_runs_stays_staged() {
    let lab = Lab::new();
    let checks = "[[check]]\nname = 'c'\nhook = 'pre-commit'\nshell = true\nrestage = true\nfiles = '*.txt'\n\
        run = '! grep -l bad {files}'\n[check.fix]\nshell = true\nrisk = 'safe'\n\
        run = '''cp {files} new; sed s/bad/good/ new > {files}; rm new\n\
        cd \"$AT\" && echo newer > a.txt && git add a.txt'''\n";
    let repo = hooked(&lab, checks);
    repo.write("a.txt", "bad\n");
    repo.git(&["add", "a.txt"]);
    let head = repo.head();
    let ran = repo.run("git", &["commit", "-q", "-m", "x"], &[("AT", repo.dir.as_str())]);
    ran.status(1).says("commit refused: `a.txt` was staged again while its fix ran");
    assert_eq!((repo.head(), content(&repo, ":a.txt")), (head, "newer\n".to_owned()));
    assert_eq!(repo.read("a.txt"), "newer\n");
}

#[test]
fn contents_are_stored_by_the_filters_with_which_they_were_exported() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    write_script(&lab.path("case"), "#!/bin/sh\ntr \"$1\" \"$2\"\n");
    repo.git(&["config", "filter.up.clean", &format!("{} a-z A-Z", lab.path("case"))]);
    repo.git(&["config", "filter.up.smudge", &format!("{} A-Z a-z", lab.path("case"))]);
    let attributes = "*.txt text\nc.txt eol=crlf\nu.txt filter=up\n";
    repo.write(".gitattributes", attributes);
    repo.write("c.txt", "one \r\ntwo\r\nthree\r\n");
    repo.write("u.txt", "one \ntwo\nthree\n");
    repo.git(&["add", "--all"]);
    repo.write("c.txt", "one \r\ntwo\r\nthree\r\nfour\r\n");
    repo.write("u.txt", "one \ntwo\nthree\nfour\n");
    // These say otherwise, and are not staged.
    repo.write(".gitattributes", "*.txt -text\n");
    repo.git(&["commit", "-q", "-m", "x"]);
    assert_eq!(content(&repo, "HEAD:c.txt"), "one\ntwo\nthree\n");
    assert_eq!(content(&repo, "HEAD:u.txt"), "ONE\nTWO\nTHREE\n");
    assert_eq!(repo.read("c.txt"), "one\r\ntwo\r\nthree\r\nfour\r\n");
    assert_eq!(repo.read("u.txt"), "one\ntwo\nthree\nfour\n");
    // A clone with `core.autocrlf`, and a file that somebody has made with other line ends.
    repo.git(&["checkout", "-q", "--", ".gitattributes"]);
    repo.git(&["commit", "-q", "-a", "--no-verify", "-m", "all"]);
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.write("b.txt", "b \r\nc\r\n");
    repo.write("a.txt", "a \nb\n");
    repo.git(&["commit", "-q", "-a", "-m", "windows"]);
    assert_eq!(content(&repo, "HEAD:b.txt"), "b\nc\n");
    assert_eq!(repo.read("b.txt"), "b\r\nc\r\n");
    assert_eq!(content(&repo, "HEAD:a.txt"), "a\nb\n");
    assert_eq!(repo.read("a.txt"), "a \nb\n", "all of its lines differ from the exported ones");
}

#[test]
fn modes_stay_unless_the_fix_changes_them() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    let mode = |path: &str| repo.dir.join(path).metadata().unwrap().mode() & 0o777;
    let set = |path: &str, mode| {
        fs::set_permissions(repo.dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    // Unstaged modes, a file for its owner alone, and one that may only be read.
    repo.write("a.txt", "a \n");
    repo.write("b.txt", "b \nc\n");
    repo.write("new.txt", "new ");
    repo.git(&["add", "--all"]);
    set("a.txt", 0o700);
    set("b.txt", 0o440);
    set("new.txt", 0o600);
    repo.git(&["update-index", "--chmod=+x", "new.txt"]);
    repo.git(&["commit", "-q", "-m", "x"]);
    assert_eq!(["a.txt", "b.txt", "new.txt"].map(mode), [0o700, 0o440, 0o600]);
    assert_eq!(repo.read("new.txt"), "new\n");
    let listed = repo.git(&["ls-tree", "HEAD", "a.txt", "new.txt"]);
    let listed: Vec<&str> = listed.lines().map(|line| &line[..6]).collect();
    assert_eq!(listed, ["100644", "100755"]);
    assert_eq!(repo.status(), " M a.txt\n M new.txt\n");
    // Where the file system has no modes, they are those of the index.
    repo.git(&["config", "core.fileMode", "false"]);
    set("new.txt", 0o600);
    repo.write("new.txt", "newer \n");
    repo.git(&["commit", "-q", "-a", "-m", "x"]);
    assert!(repo.git(&["ls-tree", "HEAD", "new.txt"]).starts_with("100755"));
    assert_eq!((mode("new.txt"), repo.read("new.txt")), (0o600, "newer\n".to_owned()));
}

#[test]
fn a_fix_is_never_written_through_a_link() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    repo.write("d/e.txt", "e \n");
    repo.git(&["add", "--all"]);
    fs::rename(repo.dir.join("d"), lab.path("elsewhere")).unwrap();
    repo.link(lab.path("elsewhere").as_str(), "d");
    let committed = repo.try_git(&["commit", "-q", "-m", "x"]).status(0);
    committed.says("`d/e.txt` was kept as it is");
    assert_eq!(content(&repo, "HEAD:d/e.txt"), "e\n");
    assert_eq!(fs::read_to_string(lab.path("elsewhere/e.txt")).unwrap(), "e \n");
    assert_eq!(fs::read_dir(lab.path("elsewhere")).unwrap().count(), 1);
}

/// What the export links is somebody's: it stays when the export is emptied, and when the folder is tracked later.
#[test]
fn the_export_never_touches_what_its_links_lead_to() {
    let lab = Lab::new();
    // With `inputs`, everything that is staged is exported.
    let repo = hooked(&lab, &format!("{RULES}inputs = ['package.json']\n"));
    repo.write("node_modules/tool/index.js", "x \n");
    repo.write("node_modules/tracked.txt", "mine \n");
    fs::set_permissions(repo.dir.join("node_modules/tool"), fs::Permissions::from_mode(0o500))
        .unwrap();
    repo.write("package.json", "{}\n");
    repo.git(&["add", "package.json"]);
    repo.git(&["commit", "-q", "-m", "package"]);
    let exports = || fs::read_dir(lab.path("temporary")).unwrap().flatten().count();
    assert_eq!(exports(), 1);
    // A file with that name instead, then a file in that folder.
    repo.git(&["rm", "-q", "--cached", "package.json"]);
    repo.git(&["commit", "-q", "-m", "no package"]);
    repo.git(&["add", "package.json"]);
    repo.git(&["commit", "-q", "-m", "package"]);
    repo.git(&["add", "-f", "node_modules/tracked.txt"]);
    repo.write("node_modules/tracked.txt", "mine \nand more\n");
    repo.git(&["commit", "-q", "-m", "tracked"]);
    assert_eq!(content(&repo, "HEAD:node_modules/tracked.txt"), "mine\n");
    assert_eq!(repo.read("node_modules/tracked.txt"), "mine \nand more\n");
    repo.xtask(&["uninstall-hooks"]).success();
    assert_eq!(repo.read("node_modules/tool/index.js"), "x \n");
    let tool = repo.dir.join("node_modules/tool").metadata().unwrap();
    assert_eq!(tool.mode() & 0o777, 0o500);
    fs::set_permissions(repo.dir.join("node_modules/tool"), fs::Permissions::from_mode(0o700))
        .unwrap();
}

#[test]
fn other_indexes_and_linked_worktrees_get_the_fix() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    repo.git(&["worktree", "add", "-q", "-b", "linked", "../linked", "feature"]);
    for place in [&repo, &lab.place("linked")] {
        // An index of the user's own: the usual one stays as it is.
        fs::copy(place.git_folder().join("index"), place.dir.join("my-index")).unwrap();
        for index in ["my-index".to_owned(), place.dir.join("my-index").to_string()] {
            let with = [("GIT_INDEX_FILE", index.as_str())];
            place.write("b.txt", format!("{index} \nthe end\n"));
            place.run("git", &["add", "b.txt"], &with).success();
            let usual = place.git(&["ls-files", "-s"]);
            place.write("b.txt", format!("{index} \nthe end\nmore \n"));
            place.run("git", &["commit", "-q", "-m", "x"], &with).success();
            assert_eq!(content(place, "HEAD:b.txt"), format!("{index}\nthe end\n"));
            assert_eq!(place.read("b.txt"), format!("{index}\nthe end\nmore \n"));
            assert_eq!(place.git(&["ls-files", "-s"]), usual);
            let own = place.run("git", &["diff", "--cached", "--quiet"], &with);
            assert_eq!(own.code, Some(0), "as committed");
        }
        place.git(&["reset", "-q"]);
        place.write("a.txt", "again \n");
        place.git(&["commit", "-q", "-m", "x", "--", "a.txt"]);
        assert_eq!(content(place, "HEAD:a.txt"), "again\n");
        assert_eq!(content(place, ":a.txt"), "again\n");
    }
}

#[test]
fn merges_and_files_out_of_a_sparse_checkout_get_the_fix() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    repo.git(&["switch", "-q", "-c", "other"]);
    repo.write("b.txt", "theirs\n");
    repo.commit("theirs");
    repo.git(&["switch", "-q", "feature"]);
    repo.write("b.txt", "ours\n");
    repo.commit("ours");
    // A merge in which the fix leaves our content is a merge all the same.
    repo.try_git(&["merge", "-q", "other"]).status(1);
    repo.write("b.txt", "ours \n");
    repo.git(&["add", "b.txt"]);
    repo.git(&["commit", "-q", "-m", "merged"]);
    assert_eq!(content(&repo, "HEAD:b.txt"), "ours\n");
    assert_eq!(repo.git(&["log", "-1", "--format=%P"]).split(' ').count(), 2);
    // A file that the checkout leaves out stays out.
    repo.write("b.txt", "next \n");
    repo.git(&["add", "b.txt"]);
    repo.git(&["update-index", "--skip-worktree", "b.txt"]);
    repo.remove("b.txt");
    repo.git(&["commit", "-q", "-m", "skipped"]);
    assert_eq!(content(&repo, "HEAD:b.txt"), "next\n");
    assert!(repo.git(&["ls-files", "-t", "b.txt"]).starts_with('S'));
    assert_eq!(repo.status(), "");
}

/// The hook of `git commit -a` is killed while its git updates the index, and git ends before that one does.
#[test]
fn a_hook_that_is_killed_while_it_stages_leaves_no_lock() {
    let lab = Lab::new();
    let repo = hooked(&lab, RULES);
    let real = std::env::var("PATH").unwrap();
    let script = "#!/bin/sh\ncase \"$*\" in *index-info*)\nkill -9 $PPID\n\
        while [ -e .git/index.lock ]; do sleep 0.01; done\n\
        PATH=$REAL git \"$@\"; echo > ../done; exit ;;\nesac\nPATH=$REAL exec git \"$@\"\n";
    write_script(&lab.path("bin/git"), script);
    repo.write("a.txt", "fix me \n");
    repo.git(&["add", "a.txt"]);
    let (index, lock) = (repo.git_folder().join("index"), repo.git_folder().join("index.lock"));
    fs::copy(&index, &lock).unwrap();
    let path = format!("{}:{real}", lab.path("bin"));
    let with = [("GIT_INDEX_FILE", ".git/index.lock"), ("PATH", &path[..]), ("REAL", &real[..])];
    let ran = repo.run(".git/xtask/bin/xtask", &["hook", "pre-commit", "1"], &with);
    assert_eq!(ran.code, None, "it was killed: {}", ran.err);
    // As git does.
    fs::rename(&lock, &index).unwrap();
    wait_for("the end", || lab.path("done").exists());
    assert!(!lock.exists());
    assert_eq!(content(&repo, ":a.txt"), "fix me \n");
    repo.git(&["commit", "-q", "-a", "-m", "x"]);
    assert_eq!(content(&repo, "HEAD:a.txt"), "fix me\n");
}

#[test]
fn odd_indexes_names_and_encodings_lose_nothing() {
    let settings = [
        ("core.splitIndex", "true"),
        ("index.version", "4"),
        ("core.untrackedCache", "true"),
        ("core.sharedRepository", "group"),
        ("core.safecrlf", "true"),
    ];
    for (key, value) in settings.into_iter().take(circle::either(1, settings.len())) {
        let lab = Lab::new();
        let repo = hooked(&lab, RULES);
        repo.git(&["config", key, value]);
        if key == "core.splitIndex" {
            repo.git(&["update-index", "--split-index"]);
        }
        repo.write(".gitattributes", "i.txt ident\nw.txt working-tree-encoding=UTF-16LE eol=lf\n");
        repo.write("i.txt", "$Id$\n\n\nmiddle \nlast\n");
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        repo.write("w.txt", wide("wide \n"));
        repo.write("d/a\nb\t\".txt", "odd \n");
        repo.git(&["add", "--all"]);
        repo.write("i.txt", "$Id$\n\n\nmiddle \nlast\n\nunstaged \n");
        repo.write("d/-rf.txt", "dash \n\n\nx\n");
        repo.git(&["add", "d/-rf.txt"]);
        repo.write("d/-rf.txt", "dash \n\n\nx\nunstaged \n");
        let ran = repo.at("d").try_git(&["commit", "-q", "-m", "x"]);
        assert_eq!(ran.code, Some(0), "{key}: {}", ran.err);
        assert_eq!(content(&repo, "HEAD:i.txt"), "$Id$\n\n\nmiddle\nlast\n", "{key} {}", ran.err);
        assert_eq!(
            repo.read("i.txt"),
            "$Id$\n\n\nmiddle\nlast\n\nunstaged \n",
            "{key} {}",
            ran.err
        );
        assert_eq!(content(&repo, "HEAD:w.txt"), "wide \n", "{key}");
        assert_eq!(fs::read(repo.dir.join("w.txt")).unwrap(), wide("wide \n"));
        assert_eq!(content(&repo, "HEAD:d/a\nb\t\".txt"), "odd\n", "{key}");
        assert_eq!(content(&repo, "HEAD:d/-rf.txt"), "dash\n\n\nx\n", "{key}");
        assert_eq!(repo.read("d/-rf.txt"), "dash\n\n\nx\nunstaged \n", "{key}");
        repo.write("a.txt", "partial \n");
        repo.write("b.txt", "staged \n");
        repo.git(&["add", "b.txt"]);
        let ran = repo.at("d").try_git(&["commit", "-q", "-m", "y", "--", "../a.txt"]);
        assert_eq!(ran.code, Some(0), "{key}: {}", ran.err);
        assert_eq!(content(&repo, "HEAD:a.txt"), "partial\n", "{key}: {}", ran.err);
        assert_eq!(content(&repo, ":b.txt"), "staged \n", "{key}");
        repo.git(&["commit", "-q", "-a", "-m", "z"]);
        assert_eq!(content(&repo, "HEAD:b.txt"), "staged\n", "{key}");
        assert_eq!(repo.status(), "", "{key}");
    }
}
