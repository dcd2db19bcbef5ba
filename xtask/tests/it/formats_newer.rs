//! State and configuration of a newer xtask: said so, left byte for byte as they are, and nothing done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use xtask_base::files::Disk;
use xtask_base::record;
use xtask_git::Repo;
use xtask_review::queue::{self, QueuedRequest, RequestState};
use xtask_sync::journal::{self, Journal, TransactionPhase};

use crate::testkit::{Lab, Place};
use crate::wrong_hits::scene;

/// Makes sure that nothing was made, changed or taken away.
#[track_caller]
fn same(now: &Bytes, before: &Bytes, why: &str) {
    let paths = now.keys().chain(before.keys());
    let changed: BTreeSet<&String> =
        paths.filter(|path| now.get(*path) != before.get(*path)).collect();
    assert!(changed.is_empty(), "{why}: {changed:#?}");
}

type Bytes = BTreeMap<String, Vec<u8>>;

/// Every file below a folder, with what it holds or where it leads.
fn bytes_below(folder: &Path) -> Bytes {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let bytes = match meta.file_type() {
                kind if kind.is_dir() => {
                    open.push(path.clone());
                    b"a folder".to_vec()
                }
                kind if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                kind if kind.is_file() => fs::read(&path).unwrap(),
                _ => b"something else".to_vec(),
            };
            found.insert(path.display().to_string(), bytes);
        }
    }
    found
}

/// All that xtask keeps in the main worktree and for all of them.
fn state(repo: &Place<'_>) -> Bytes {
    bytes_below(repo.dir.join(".git/xtask").as_std_path())
}

/// Everything that git and xtask keep.
fn all(repo: &Place<'_>) -> Bytes {
    bytes_below(repo.dir.join(".git").as_std_path())
}

/// Without the locks, which a command takes before it reads a record.
fn without_locks(mut found: Bytes) -> Bytes {
    found.retain(|path, _| !path.ends_with("lock"));
    found
}

/// Makes a record one of the next version.
fn renumber(repo: &Place<'_>, path: &str) {
    let file = repo.dir.join(path);
    let bytes = fs::read(&file).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    assert!(bytes[..end].ends_with(b"/1"), "{path} is no record");
    fs::write(&file, [&bytes[..end - 1], b"2", &bytes[end..]].concat()).unwrap();
}

/// Runs commands that must be refused because of something of a newer xtask, and leave all as it is.
#[track_caller]
fn refused(repo: &Place<'_>, what: &str, commands: &[&[&str]]) {
    for command in commands {
        let before = without_locks(all(repo));
        let ran = repo.xtask(command).status(3).says(what).says("written by a newer xtask");
        ran.says("-- xtask` takes the newer toolkit");
        same(&without_locks(all(repo)), &before, &format!("{command:?}"));
    }
}

/// A repository with hooks, on a branch that is behind, and with an overlay.
fn busy(lab: &Lab) -> Place<'_> {
    let repo = lab.repo();
    repo.install_hooks().success();
    repo.git(&["switch", "-qc", "feature"]);
    repo.canonical(&[("setup/a", Some("a2\n"))]);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert!(repo.has(".git/xtask/overlay"));
    repo
}

#[test]
fn dangling_format_symlink_is_refused() {
    let lab = Lab::new();
    let repo = busy(&lab);
    repo.link("nowhere", ".git/xtask/format");
    let before = all(&repo);
    repo.xtask(&["sync"]).status(3).says("dangling symlink");
    same(&all(&repo), &before, "sync");
}

#[test]
fn newer_state_is_refused_by_every_command() {
    let lab = Lab::new();
    let repo = busy(&lab);
    repo.write(".git/xtask/format", "2\n");
    let commands: [&[&str]; 14] = [
        &["sync"],
        &["sync", "--dry-run"],
        &["status", "--json"],
        &["diff"],
        &["why", "setup/a"],
        &["undo", "--list"],
        &["switch", "main"],
        &["propagate", "--dry-run"],
        &["hooks", "enable"],
        &["install-hooks", "--this-program"],
        &["uninstall-hooks"],
        &["validate", "--fast"],
        &["start"],
        &["ps"],
    ];
    let before = all(&repo);
    refused(&repo, "its format is 2, and this one supports up to 1", &commands);
    same(&all(&repo), &before, "not even a lock was taken");
    // Where the canonical branch has another name, that is the one to type.
    repo.git(&["config", "xtask.canonicalBranch", "tools"]);
    repo.xtask(&["sync"]).status(3).says("`git checkout tools -- xtask`");
    for command in [&["--help"][..], &["--version"], &["completions", "bash"]] {
        repo.xtask(command).success();
    }
}

#[test]
fn newer_state_is_refused_in_every_worktree() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "-q", linked.as_str(), "main"]);
    let linked = lab.place("linked");
    repo.write(".git/xtask/format", "7");
    let before = all(&repo);
    linked.xtask(&["sync"]).status(3).says("its format is 7");
    linked.xtask(&["status"]).status(3).says("its format is 7");
    same(&all(&repo), &before, "all together");
}

#[test]
fn hooks_report_newer_state_and_do_not_block_git() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let hub = lab.path("hub");
    repo.git(&["init", "-q", "--bare", hub.as_str()]);
    repo.git(&["remote", "add", "origin", hub.as_str()]);
    repo.git(&["commit", "-qam", "the overlay"]);
    repo.canonical(&[("setup/b", Some("b2\n"))]);
    repo.write(".git/xtask/format", "2\n");
    let before = (state(&repo), repo.read("setup/b"));
    let told = |name: &str| format!("xtask: {name} hook skipped: the state of this repository was");
    repo.write("src/app", "<<<<<<< refused otherwise\n=======\n>>>>>>> x\n");
    let steps: [(&[&str], &str); 4] = [
        (&["commit", "-qam", "markers"], "pre-commit"),
        (&["push", "-q", "origin", "feature"], "pre-push"),
        (&["switch", "-q", "main"], "post-checkout"),
        (&["merge", "-q", "feature"], "post-merge"),
    ];
    for (step, name) in steps {
        let ran = repo.try_git(step).success().says("by a newer xtask");
        let lines: Vec<&str> = ran.err.lines().filter(|l| l.contains(&told(name))).collect();
        assert_eq!(lines.len(), 1, "{step:?}: {}", ran.err);
        assert!(lines[0].contains("`git checkout orchestration-tools -- xtask`"), "{}", lines[0]);
    }
    assert_eq!((state(&repo), repo.read("setup/b")), before);
    // Switched off by the environment, they say nothing at all.
    let off = [("DISABLE_ORCHESTRATION_CHECKS", "1")];
    repo.run("git", &["switch", "feature"], &off).success().never_says("xtask");
}

#[test]
fn explicit_current_format_is_accepted() {
    let lab = Lab::new();
    let repo = busy(&lab);
    for text in ["1\n", "1"] {
        repo.write(".git/xtask/format", text);
        repo.xtask(&["status"]).success();
        repo.xtask(&["sync", "--no-commit"]).success();
        assert_eq!(repo.read(".git/xtask/format"), text);
    }
}

#[test]
fn unreadable_state_format_is_refused_with_the_reason() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let long = "1".repeat(1000);
    for text in ["", "\n", "0\n", "-1\n", "+1\n", "one\n", "1 \n", "1\n1\n", "\u{e9}", &long] {
        repo.write(".git/xtask/format", text);
        let before = all(&repo);
        let why = if text.len() > 20 { "too long for a number" } else { "expected a number" };
        repo.xtask(&["sync"]).status(3).says(why).says("remove that file");
        repo.xtask(&["status"]).status(3).says("cannot read the state format");
        same(&all(&repo), &before, text);
    }
    repo.write(".git/xtask/format", [0xff]);
    repo.xtask(&["sync"]).status(3).says("cannot read the state format of this repository");
    let file = repo.dir.join(".git/xtask/format");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    repo.xtask(&["sync"]).status(3).says("not a regular file");
    fs::remove_dir(&file).unwrap();
    // Nobody writes into it, so whoever waited for that would wait for ever.
    repo.run("mkfifo", &[file.as_str()], &[]).success();
    repo.xtask(&["sync"]).status(3).says("not a regular file");
    fs::remove_file(&file).unwrap();
    symlink("format", &file).unwrap();
    repo.xtask(&["sync"]).status(3).says("symbolic links");
    let ran = repo.try_git(&["switch", "-c", "other"]).success();
    ran.says("post-checkout hook skipped: cannot read the state format").says("symbolic links");
}

#[test]
fn newer_journal_or_overlay_is_refused_and_left_alone() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let file = ".git/xtask/overlay";
    let old = repo.read(file);
    renumber(&repo, file);
    let commands: [&[&str]; 5] =
        [&["sync"], &["sync", "--no-commit"], &["switch", "main"], &["undo"], &["status"]];
    refused(&repo, "the record of the overlay", &commands);
    // An older journal that would put another record in its place.
    let open = Repo::discover(repo.dir.as_std_path()).unwrap();
    let journal = Journal {
        id: "1".to_owned(),
        purpose: "sync".to_owned(),
        phase: TransactionPhase::Done,
        files: Vec::new(),
        folders: Vec::new(),
        had_index: None,
        head: None,
        overlay: Some(Vec::new()),
        backup: None,
    };
    record::write_record(&Disk::real(), &journal::journal_path(&open), journal::KIND, &journal)
        .unwrap();
    refused(&repo, "the record of the overlay", &[&["sync"]]);
    repo.write(file, old);
    renumber(&repo, ".git/xtask/journal");
    refused(&repo, "the journal of an earlier run", &[&["sync"], &["undo"]]);
    repo.xtask(&["sync"]).status(3).never_says("damaged").never_says("remove the journal");
}

#[test]
fn newer_hooks_off_record_is_neither_replaced_nor_removed() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let what = "the record of disabled hooks";
    let commands: [&[&str]; 4] = [
        &["hooks", "enable", "--all"],
        &["hooks", "disable", "--all"],
        &["hooks", "disable", "--all", "--for", "1h"],
        &["hooks", "enable"],
    ];
    repo.xtask(&["hooks", "disable"]).success();
    repo.xtask(&["hooks", "disable", "--all"]).success();
    renumber(&repo, ".git/xtask/hooks-off");
    refused(&repo, what, &commands[..3]);
    repo.xtask(&["hooks", "enable"]).status(3).says(what);
    repo.remove(".git/xtask/hooks-off");
    repo.xtask(&["hooks", "disable"]).success();
    renumber(&repo, ".git/xtask/hooks-off-here");
    refused(&repo, what, &[commands[0], commands[3], &["hooks", "disable"]]);
    let before = state(&repo);
    let ran = repo.try_git(&["switch", "-c", "other"]).success();
    ran.says("post-checkout hook skipped").says("written by a newer xtask");
    same(&state(&repo), &before, "all together");
    repo.xtask(&["hooks", "status"])
        .success()
        .says("inactive: the record of disabled hooks")
        .says("by a newer xtask");
}

#[test]
fn undo_does_not_skip_a_newer_backup() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    let undo_id = |content: &str| {
        repo.write("setup/a", content);
        repo.xtask(&["sync", "--force"]).success();
        let refs = repo.git(&["for-each-ref", "--format=%(refname)", "refs/xtask/backup"]);
        refs.lines().last().unwrap().to_owned()
    };
    let older = undo_id("mine\n");
    // Its name says that it is the newest.
    let newest = "refs/xtask/backup/20900101T000000Z-1";
    let file = "../record";
    repo.write(file, repo.git(&["cat-file", "blob", &format!("{older}:record")]));
    renumber(&repo, file);
    let blob = repo.git(&["hash-object", "-w", file]);
    let index = [
        ("GIT_INDEX_FILE", lab.path("index-of-backup").to_string()),
        ("GIT_COMMITTER_DATE", "2090-01-01T00:00:00Z".to_owned()),
    ];
    let index: Vec<(&str, &str)> =
        index.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let git = |args: &[&str]| repo.run("git", args, &index).success().out.trim().to_owned();
    git(&["read-tree", &older]);
    git(&["update-index", "--cacheinfo", &format!("100644,{},record", blob.trim())]);
    let tree = git(&["write-tree"]);
    let commit = git(&["commit-tree", &tree, "-p", &older, "-m", "backup before sync"]);
    repo.git(&["update-ref", newest, &commit]);
    let id = newest.rsplit('/').next().unwrap();
    refused(&repo, id, &[&["undo"], &["undo", id]]);
    repo.xtask(&["undo", "--list"]).success().says("written by a newer xtask");
    assert_eq!(repo.id(newest), commit);
    // The one before it is still there for whoever names it.
    repo.xtask(&["undo", older.rsplit('/').next().unwrap()]).success();
    assert_eq!(repo.read("setup/a"), "mine\n");
    assert_eq!(repo.id(newest), commit);
}

#[test]
fn newer_reverse_sync_record_is_neither_continued_nor_aborted() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.git(&["switch", "-qc", "feature"]);
    repo.write("setup/a", "by feature\n");
    repo.commit("by feature");
    repo.canonical(&[("setup/a", Some("by canonical\n"))]);
    let open = ["reverse-sync", "feature", "feature", "--resolve", "--yes"];
    repo.xtask(&open).status(1);
    renumber(&repo, ".git/xtask/reverse-sync");
    let commands: [&[&str]; 2] = [&["reverse-sync", "--continue"], &["reverse-sync", "--abort"]];
    refused(&repo, "the record of the conflict that is being resolved", &commands);
    repo.xtask(&open).status(3).says("another conflict is being resolved");
    assert!(repo.has(".git/xtask/resolve/setup/a") && repo.has(".git/xtask/reverse-sync"));
    assert!(!repo.id("refs/xtask/resolving").is_empty());
}

#[test]
fn newer_fix_record_is_not_undone() {
    let lab = Lab::new();
    let check = "[[check]]\nname = 'c'\nrun = 'grep -q good src/out'\ninputs = ['src/out']\n\
                 [check.fix]\nrun = 'echo good > src/out'\nshell = true\nrisk = 'safe'\nwrites = ['src']\n";
    let repo = scene(&lab, check);
    let fixes = ".git/xtask/fixes";
    let run = || {
        repo.write("src/out", "mine\n");
        repo.xtask(&["validate"]).success();
        let names = fs::read_dir(repo.dir.join(fixes)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "open").max().unwrap()
    };
    let old = run();
    let newer = "20900101T000000Z-1";
    let from = repo.dir.join(fixes).join(&old);
    repo.run("cp", &["-r", from.as_str(), repo.dir.join(fixes).join(newer).as_str()], &[])
        .success();
    renumber(&repo, &format!("{fixes}/{newer}/1/record"));
    repo.write(&format!("{fixes}/open"), "");
    refused(
        &repo,
        &format!("the fix record of run `{newer}`"),
        &[&["validate", "--undo", "last"], &["validate", "--undo", newer]],
    );
    // Nor does a fix of our own make anybody forget that one of it was interrupted.
    let before = bytes_below(repo.dir.join(fixes).join(newer).as_std_path());
    assert!(!before.is_empty());
    run();
    assert_eq!(bytes_below(repo.dir.join(fixes).join(newer).as_std_path()), before);
    assert!(repo.has(&format!("{fixes}/open")));
    repo.xtask(&["validate", "--undo", &old]).success();
}

#[test]
fn newer_service_records_are_left_alone() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.write("deployment/local.toml", "[service.api]\nrun = 'sleep 600'\nport = 8100\n");
    let folder = ".git/xtask/services/local";
    let commands: [&[&str]; 4] = [&["start"], &["ps"], &["stop"], &["restart"]];
    repo.write(&format!("{folder}/supervisor"), "xtask.supervisor/2\n\n");
    refused(&repo, "the supervisor record of layer `local`", &commands);
    repo.remove(&format!("{folder}/supervisor"));
    repo.write(&format!("{folder}/stack"), "xtask.stack/2\n\n");
    for command in commands {
        repo.xtask(command).status(3).says("the record of the services was written by a newer");
        assert_eq!(repo.read(&format!("{folder}/stack")), "xtask.stack/2\n\n");
    }
    repo.remove(&format!("{folder}/stack"));
    let linked = lab.path("linked");
    repo.git(&["worktree", "add", "-q", "--detach", linked.as_str()]);
    let linked = lab.place("linked");
    linked.write("deployment/local.toml", repo.read("deployment/local.toml"));
    repo.write(".git/xtask/services-offsets", "xtask.port-offsets/2\n\n");
    let offsets = linked.xtask(&["start"]).status(3);
    offsets.says("the list of port offsets of the worktrees was written by a newer xtask");
    assert_eq!(repo.read(".git/xtask/services-offsets"), "xtask.port-offsets/2\n\n");
}

#[test]
fn newer_program_record_or_queued_request_is_not_replaced() {
    let lab = Lab::new();
    let repo = busy(&lab);
    renumber(&repo, ".git/xtask/bin/record");
    let what = "the record of the installed program";
    refused(&repo, what, &[&["install-hooks", "--this-program"]]);
    repo.xtask(&["hooks", "status"]).status(1).says("it was written by a newer xtask");
    let open = Repo::discover(repo.dir.as_std_path()).unwrap();
    let request = QueuedRequest {
        remote: "origin".to_owned(),
        branch: "feature".to_owned(),
        commit: repo.head(),
        compare_url: None,
        asked: 0,
        state: RequestState::Waiting,
    };
    let disk = Disk::real();
    queue::write_request(&open, &disk, &request).unwrap();
    renumber(&repo, &format!(".git/xtask/requests/{}", request.key()));
    let before = state(&repo);
    let failure = queue::write_request(&open, &disk, &request).unwrap_err();
    assert!(failure.to_string().contains("written by a newer xtask"), "{failure}");
    assert!(queue::read_request(&open, &request.key()).is_none());
    queue::remove_reported(&open, &disk, &[request.key()], i64::MAX).unwrap();
    queue::remove_branch_requests(&open, &disk, "origin", "feature").unwrap();
    same(&state(&repo), &before, "all together");
}

#[test]
fn newer_caches_are_ignored_and_rebuilt() {
    let lab = Lab::new();
    let repo = busy(&lab);
    let said = |place: &Place<'_>| place.plan(&[]);
    let before = said(&repo);
    let mut seen = 0;
    for name in ["once-canonical", "clean"] {
        let path = format!(".git/xtask/{name}");
        if repo.has(&path) {
            renumber(&repo, &path);
            seen += 1;
        }
    }
    assert!(seen > 0, "{:?}", state(&repo).keys());
    assert_eq!(said(&repo), before);
    repo.xtask(&["sync", "--no-commit"]).success();
    assert_eq!(said(&repo), before);
}

/// What a command says of a file of a later format: this one fault, and nothing of its keys.
#[track_caller]
fn one_fault(repo: &Place<'_>, command: &[&str], place: &str) {
    let ran = repo.xtask(command).status(2);
    let fault = format!(
        "{place}: format 2 is newer than this xtask supports (up to 1): a newer xtask is needed"
    );
    let ran = ran.says("1 fault in").says(&fault).says("takes the newer toolkit");
    ran.never_says("unknown key").never_says("fix it on");
}

#[test]
fn newer_configuration_is_reported_as_a_single_fault() {
    let lab = Lab::new();
    let repo = lab.repo();
    let later = "# later\nformat = 2\nnew-key = [[[1]]]\n[managed]\ninclude = 7\n";
    repo.canonical(&[("setup/sync.toml", Some(later))]);
    one_fault(&repo, &["sync"], "setup/sync.toml:2");
    repo.canonical(&[("setup/sync.toml", None), ("setup/branches.toml", Some(later))]);
    one_fault(&repo, &["sync"], "setup/branches.toml:2");
    repo.canonical(&[("setup/branches.toml", None)]);
    repo.write("setup/validate.toml", later);
    one_fault(&repo, &["validate", "--fast"], "setup/validate.toml:2");
    repo.write("deployment/local.toml", later);
    one_fault(&repo, &["start"], "deployment/local.toml:2");
    // Also where not even the syntax is known.
    repo.write("deployment/local.toml", "format = 2\nnew: syntax\n");
    one_fault(&repo, &["start"], "deployment/local.toml:1");
}

#[test]
fn format_is_checked_for_each_file_of_a_layer() {
    let lab = Lab::new();
    let repo = lab.repo();
    let local = "[service.api]\nrun = 'sleep 600'\nport = 8100\n";
    let upper = "extends = 'local'\n[service.api]\nport = 8200\n[service.b]\nrun = 'true'\nneeds = ['db']\n";
    let start = ["start", "--layer", "upper", "--dry-run"];
    repo.write("deployment/local.toml", format!("format = 2\nneu = 1\n{local}"));
    repo.write("deployment/upper.toml", format!("format = 1\n{upper}"));
    one_fault(&repo, &start, "deployment/local.toml:1");
    repo.write("deployment/local.toml", format!("format = 1\n{local}"));
    repo.write("deployment/upper.toml", format!("format = 2\n{upper}"));
    one_fault(&repo, &start, "deployment/upper.toml:1");
    repo.xtask(&["start", "--dry-run"]).success();
    let upper = upper.replace("'db'", "'api'");
    repo.write("deployment/upper.toml", format!("format = 1\n{upper}"));
    repo.xtask(&start).success().says("8200").never_says("format");
}

#[test]
fn configuration_format_must_be_a_positive_integer() {
    let lab = Lab::new();
    let repo = lab.repo();
    let check = "[[check]]\nname = 'c'\nrun = 'true'\n";
    let wrong = ["0", "-1", "'1'", "1.0", "true", "[1]", "99999999999999999999"];
    for value in wrong {
        let text = format!("format = {value}\nnonsense = 1\n{check}");
        repo.write("setup/validate.toml", text);
        let ran = repo.xtask(&["validate", "--fast"]).status(2).says("2 faults in");
        ran.says("setup/validate.toml:1: `format` must be a whole number of at least 1")
            .says("setup/validate.toml:2: unknown key `nonsense`");
    }
    repo.write("setup/validate.toml", "[phase.one]\nformat = 2\n");
    repo.xtask(&["validate", "--fast"]).status(2).says("unknown key `phase.one.format`");
    repo.write("setup/validate.toml", format!("format = 1\n{check}"));
    repo.xtask(&["validate", "--fast"]).success();
    repo.canonical(&[
        ("setup/sync.toml", Some("format = 0x1\n[hooks]\nmode = 'notify'\n")),
        ("setup/branches.toml", Some("format = 1\nprotected = ['main']\n")),
    ]);
    repo.xtask(&["status"]).success();
}
