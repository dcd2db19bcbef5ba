//! Histories that git accepts, whoever wrote them.

use crate::testkit::{Lab, Place};

/// Writes a commit as its bytes are, on top of another.
fn raw_commit(repo: &Place<'_>, parent: &str, head: &[u8], message: &[u8]) -> String {
    let (tree, parent) = (repo.id(&format!("{parent}^{{tree}}")), repo.id(parent));
    let start = format!("tree {tree}\nparent {parent}\n");
    repo.write(".git/raw", [start.as_bytes(), head, b"\n", message].concat());
    repo.git(&["hash-object", "-t", "commit", "-w", "--literally", ".git/raw"]).trim().to_owned()
}

#[test]
fn malformed_author_lines_do_not_break_history_walks() {
    let committer = "committer X <x@example.invalid> 1700000000 +0000\n";
    for author in [
        "author Andy <andy@example.invalid\n> 1334833756 -0700\n",
        "author A <a@example.invalid 1700000000 +0000\n",
        "author A 1700000000 +0000\n",
        "author A <a@example.invalid>\n",
        "author <> 1700000000 +0000\n",
        "author A <a@b> c@d> 1700000000 +0000\n",
        "author A <a@example.invalid> 99999999999999999999 +0000\n",
        "author A <a@example.invalid> 1700000000\n",
        "",
    ] {
        let lab = Lab::new();
        let repo = lab.repo();
        let head = format!("{author}{committer}");
        let old = raw_commit(&repo, "main", head.as_bytes(), b"old import\n");
        repo.git(&["reset", "-q", "--hard", &old]);
        repo.git(&["branch", "-f", "orchestration-tools"]);
        repo.git(&["switch", "-qc", "feature"]);
        repo.write("setup/c", "mine\n");
        repo.commit("mine");
        repo.git(&["branch", "side", "main"]);
        repo.canonical(&[("setup/a", Some("a2\n"))]);
        for args in [
            &["status"][..],
            &["status", "--all"],
            &["why", "setup/a"],
            &["extract"],
            &["sync"],
            &["sync", "--check"],
            &["propagate"],
            &["promote", "feature", "--yes"],
            &["branch", "check"],
            &["undo", "--list"],
        ] {
            let ran = repo.xtask(args);
            assert_eq!(ran.code, Some(0), "{author:?}: {args:?}\n{}{}", ran.out, ran.err);
        }
        assert_eq!(
            repo.git(&["diff", "--name-only", "side", "orchestration-tools~1", "--", "setup"]),
            ""
        );
    }
}

/// `i18n.commitEncoding`: git shows such a commit as UTF-8, and so do we; carried on, it keeps its bytes or its
/// meaning.
#[test]
fn author_names_and_messages_survive_any_commit_encoding() {
    for (encoding, name, text) in [
        ("ISO-8859-1", &b"Ren\xe9"[..], &b"Pr\xe9paration"[..]),
        ("windows-1251", &b"\xc8\xe2\xe0\xed"[..], &b"\xcf\xf0\xe0\xe2\xea\xe0"[..]),
        ("Shift_JIS", &b"\x8eR\x93c"[..], &b"\x8f\x80\x94\xf5"[..]),
        // It says so and is UTF-8 all the same.
        ("ISO-8859-1", "René".as_bytes(), "Préparation".as_bytes()),
    ] {
        let lab = Lab::new();
        let repo = lab.repo();
        repo.git(&["switch", "-qc", "proposal"]);
        repo.write("setup/a", "a1\nmore\n");
        repo.commit("to be replaced");
        let head = [
            b"author ",
            name,
            b" <r@example.invalid> 1700000000 +0200\n",
            b"committer C <c@example.invalid> 1700000000 +0200\n",
            format!("encoding {encoding}\n").as_bytes(),
        ]
        .concat();
        let commit = raw_commit(&repo, "HEAD~1", &head, &[text, b"\n"].concat());
        // With the tree of the change.
        let tree = repo.id("HEAD^{tree}");
        let bytes = std::fs::read(repo.dir.join(".git/raw")).unwrap();
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        repo.write(".git/raw", [format!("tree {tree}").as_bytes(), &bytes[end..]].concat());
        let with_tree = repo.git(&["hash-object", "-t", "commit", "-w", "--literally", ".git/raw"]);
        assert_ne!(commit, with_tree.trim());
        repo.git(&["reset", "-q", "--hard", with_tree.trim()]);
        let git_says =
            |what: &str, at: &str| repo.git(&["log", "-1", &format!("--format={what}"), at]);
        let is_utf8 = std::str::from_utf8(name).is_ok();
        let (name, subject) = match is_utf8 {
            true => ("René\n".to_owned(), "Préparation\n".to_owned()),
            false => (git_says("%an", "proposal"), git_says("%s", "proposal")),
        };
        repo.xtask(&["extract"]).success();
        assert_eq!(git_says("%an", "orchestration-tools-changes"), name, "{encoding}");
        let body = git_says("%b", "orchestration-tools-changes");
        assert!(body.contains(subject.trim()), "{encoding}: {body}");
        repo.xtask(&["promote", "proposal", "--yes"]).success();
        assert_eq!(git_says("%an", "orchestration-tools"), name, "{encoding}");
        assert!(!git_says("%B", "orchestration-tools").contains('\u{fffd}'));
    }
}
