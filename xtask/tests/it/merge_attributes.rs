//! What `.gitattributes` says of merging holds for every merge of ours, with git's own as the measure.

use crate::testkit::{Lab, Place};

const TEXT: &str = "a\nb\nc\nd\ne\nf\ng\n";

/// A branch and the canonical branch that have both changed a file, under these attributes.
fn scene<'a>(lab: &'a Lab, attributes: &str, theirs: &str) -> Place<'a> {
    let repo = lab.repo();
    repo.write(".gitattributes", attributes);
    repo.write("setup/data.lock", TEXT);
    repo.commit("attributes");
    repo.git(&["branch", "-f", "orchestration-tools"]);
    repo.git(&["switch", "-qc", "own"]);
    repo.write("setup/data.lock", TEXT.replace('a', "mine"));
    repo.commit("its own");
    repo.canonical(&[("setup/data.lock", Some(&TEXT.replace(theirs, "canon")))]);
    repo
}

/// What git's own merge comes to: whether it went through, and what the file holds then.
fn gits(repo: &Place<'_>, into: &str, from: &str) -> (bool, String) {
    let before = repo.git(&["rev-parse", "--abbrev-ref", "HEAD"]);
    repo.git(&["switch", "-q", "--detach", into]);
    let went = repo.try_git(&["merge", "-q", "-m", "merge", from]).code == Some(0);
    let held = repo.read("setup/data.lock");
    repo.git(&["reset", "-q", "--hard"]);
    repo.git(&["switch", "-q", before.trim()]);
    (went, held)
}

#[test]
fn merge_honours_gitattributes_like_git() {
    for (attributes, settings) in [
        ("", &[][..]),
        ("*.lock merge\n", &[]),
        ("*.lock merge=text\n", &[]),
        ("*.lock -merge\n", &[]),
        ("*.lock binary\n", &[]),
        ("*.lock merge=binary\n", &[]),
        ("*.lock merge=union\n", &[]),
        ("/setup/** -merge\n/setup/data.lock !merge\n", &[]),
        ("*.lock merge=unknown\n", &[]),
        ("", &[("merge.default", "union")]),
        ("", &[("merge.default", "binary")]),
        ("[attr]locked -merge\n*.lock locked\n", &[]),
    ] {
        for theirs in ["g", "a"] {
            let lab = Lab::new();
            let repo = scene(&lab, attributes, theirs);
            for (key, value) in settings {
                repo.git(&["config", key, value]);
            }
            let what = format!("{attributes:?} {settings:?} {theirs}");
            let (went, held) = gits(&repo, "own", "orchestration-tools");
            let taken = repo.xtask(&["reverse-sync", "own", "own", "--dry-run"]);
            assert_eq!(
                taken.code == Some(0),
                gits(&repo, "orchestration-tools", "own").0,
                "{what}"
            );
            let collected = repo.xtask(&["extract"]);
            assert_eq!(collected.code == Some(0), went, "{what}: {}", collected.err);
            let synced = repo.xtask(&["sync", "--merge"]);
            assert_eq!(synced.code, Some(i32::from(!went)), "{what}: {}", synced.out);
            let wanted = if went { held } else { TEXT.replace('a', "mine") };
            assert_eq!(repo.read("setup/data.lock"), wanted, "{what}");
            assert_eq!(repo.status(), "", "{what}");
        }
    }
}

/// A program that merges is the user's, and what it does is not known before: it is named, and not run.
#[test]
fn custom_merge_driver_is_reported_and_not_run() {
    let lab = Lab::new();
    let repo = scene(&lab, "*.lock merge=mine\n", "g");
    repo.git(&["config", "merge.mine.driver", "touch ran; true"]);
    repo.xtask(&["sync", "--merge"]).status(1).says("its merge driver `mine` is not run");
    repo.xtask(&["extract"]).status(1).says("merge driver `mine`");
    assert!(!repo.has("ran"));
    assert_eq!(repo.read("setup/data.lock"), TEXT.replace('a', "mine"));
}
