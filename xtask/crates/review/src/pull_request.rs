//! The title and text of pull requests. The section between the marks `BEGIN` and `END` is
//! rewritten by every push; all other text belongs to the people who wrote it. For example, a title
//! is `[AUTO] Orchestration changes: Pin the linter`.

use std::fmt::Write;

use xtask_base::words::{pluralize, quote_for_shell};

/// The prefix of generated titles.
const TITLE: &str = "[AUTO] Orchestration changes: ";

/// The prefix of generated titles for protected branches.
const FOLLOWING: &str = "chore(sync): ";

/// The labels of a pull request.
pub const LABELS: [&str; 2] = ["orchestration", "auto-created"];

const BEGIN: &str = "<!-- xtask: from here on this is written by every push -->";
const END: &str = "<!-- xtask: from here on this is yours -->";

/// The maximum number of files listed.
const MAX_LISTED_FILES: usize = 50;

/// The maximum length of a title; GitHub accepts 256 characters.
const MAX_TITLE_CHARS: usize = 200;

/// The content of a pull request into the canonical branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPullRequest {
    /// The source branch.
    pub branch: String,
    /// The pushed commit, abbreviated.
    pub commit: String,
    /// The first line of the newest commit that a person made.
    pub subject: String,
    /// The canonical branch.
    pub canonical: String,
    /// The managed files whose content differs on the branch.
    pub files: Vec<String>,
    /// The number of other local and remote branches that follow the canonical one.
    pub followers: usize,
}

/// The branches and the text of a pull request.
pub trait PullRequest {
    /// Returns the branch to merge.
    fn head(&self) -> &str;
    /// Returns the branch to merge into.
    fn base(&self) -> &str;
    /// Returns whether to open the pull request as a draft.
    fn is_draft(&self) -> bool;
    fn title(&self) -> String;
    /// Returns the new title of an open pull request that is titled `present`.
    fn update_title(&self, present: &str) -> String;
    /// Returns the text of a new pull request.
    fn body(&self) -> String;
    /// Returns the section between the marks.
    fn managed_section(&self) -> String;
}

impl PullRequest for CanonicalPullRequest {
    fn head(&self) -> &str {
        &self.branch
    }

    fn base(&self) -> &str {
        &self.canonical
    }

    fn is_draft(&self) -> bool {
        true
    }

    fn title(&self) -> String {
        let title = format!("{TITLE}{}", self.subject);
        title.chars().take(MAX_TITLE_CHARS).collect()
    }

    /// Updates a generated title; a title written by a person stays.
    fn update_title(&self, present: &str) -> String {
        if present.starts_with(TITLE) { self.title() } else { present.to_owned() }
    }

    fn body(&self) -> String {
        format!(
            "{}\n\n## Impact assessment\n\n\
             - [ ] Works on branches that are far behind\n\
             - [ ] Nothing else needs to change with it (CI, deployment, documentation)\n\n\
             ## Test plan\n\n\
             - [ ] `cargo xtask sync --dry-run -v` on a branch shows what is expected\n",
            self.managed_section()
        )
    }

    fn managed_section(&self) -> String {
        let CanonicalPullRequest { branch, commit, canonical, files, followers, .. } = self;
        let mut text = format!("{BEGIN}\n## Source\n\n");
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        put(format!("Branch `{branch}` at {commit}.\n"));
        put("## Files changed\n".to_owned());
        for file in files.iter().take(MAX_LISTED_FILES) {
            put(format!("- `{file}`"));
        }
        if files.len() > MAX_LISTED_FILES {
            put(format!("- and {} more", files.len() - MAX_LISTED_FILES));
        }
        put("\n## Impact\n".to_owned());
        let branches = if *followers == 1 { "branch".to_owned() } else { "branches".to_owned() };
        put(format!(
            "Once this is on `{canonical}`, {followers} other {branches} can follow at the next \
             sync.\n"
        ));
        put("## Next steps\n".to_owned());
        put("1. Review the managed files; application code does not belong here.".to_owned());
        let typed = quote_for_shell(branch);
        put(format!(
            "2. Bring them to `{canonical}`, and only them: `cargo xtask reverse-sync {typed} \
             COMMIT`, or `cargo xtask promote {typed}` where they were extracted."
        ));
        put("3. Every branch follows when it is next checked out or pulled, or at once by `cargo \
             xtask propagate`."
            .to_owned());
        text + END
    }
}

/// The content of a pull request into a protected branch: the canonical state of its managed files,
/// on a side branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedPullRequest {
    /// The protected branch.
    pub branch: String,
    /// The side branch, e.g. `orchestration-sync/main`.
    pub side_branch: String,
    /// The canonical branch, and its commit.
    pub canonical: (String, String),
    /// The number of changed files.
    pub files: usize,
}

impl PullRequest for ProtectedPullRequest {
    fn head(&self) -> &str {
        &self.side_branch
    }

    fn base(&self) -> &str {
        &self.branch
    }

    fn is_draft(&self) -> bool {
        false
    }

    fn title(&self) -> String {
        format!("{FOLLOWING}{} of `{}`", pluralize(self.files, "managed file"), self.canonical.0)
    }

    fn update_title(&self, present: &str) -> String {
        if present.starts_with(FOLLOWING) { self.title() } else { present.to_owned() }
    }

    fn body(&self) -> String {
        self.managed_section() + "\n"
    }

    fn managed_section(&self) -> String {
        let ProtectedPullRequest {
            branch,
            side_branch: beside,
            canonical: (canonical, commit),
            files,
        } = self;
        format!(
            "{BEGIN}\n\
             `{branch}` is protected, so its managed files do not follow `{canonical}` by themselves. \
             This brings {} to the canonical state of {commit}; nothing else is changed.\n\n\
             `{beside}` is recreated whenever `{branch}` or `{canonical}` moves, and deleted once \
             `{branch}` has all of it. `cargo xtask propagate` writes it; do not commit to it.\n\
             {END}",
            pluralize(*files, "file"),
        )
    }
}

/// Returns the text `present` with the section between the marks replaced by `ours`. Without marks,
/// `ours` comes first.
#[must_use]
pub fn update_body(ours: &str, present: &str) -> String {
    // Only whole lines count as marks, because people quote them.
    let mut lines = Vec::new();
    let mut at = 0;
    for line in present.split_inclusive('\n') {
        lines.push((at, line));
        at += line.len();
    }
    let end = lines.iter().rposition(|(_, line)| line.trim() == END);
    let marked = end.and_then(|end| {
        let begin = lines[..end].iter().rposition(|(_, line)| line.trim() == BEGIN)?;
        let (end, line) = lines[end];
        Some((lines[begin].0, end + line.trim_end().len()))
    });
    match marked {
        Some((begin, end)) => format!("{}{ours}{}", &present[..begin], &present[end..]),
        None => format!("{ours}\n\n{present}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn about(files: &[&str]) -> CanonicalPullRequest {
        CanonicalPullRequest {
            branch: "feature/x".to_owned(),
            commit: "0123456789".to_owned(),
            subject: "Pin the linter".to_owned(),
            canonical: "orchestration-tools".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            followers: 12,
        }
    }

    #[test]
    fn a_new_request_says_what_and_why() {
        let about = about(&["setup/a", "setup/b"]);
        assert_eq!(about.title(), "[AUTO] Orchestration changes: Pin the linter");
        expect![[r#"
            <!-- xtask: from here on this is written by every push -->
            ## Source

            Branch `feature/x` at 0123456789.

            ## Files changed

            - `setup/a`
            - `setup/b`

            ## Impact

            Once this is on `orchestration-tools`, 12 other branches can follow at the next sync.

            ## Next steps

            1. Review the managed files; application code does not belong here.
            2. Bring them to `orchestration-tools`, and only them: `cargo xtask reverse-sync feature/x COMMIT`, or `cargo xtask promote feature/x` where they were extracted.
            3. Every branch follows when it is next checked out or pulled, or at once by `cargo xtask propagate`.
            <!-- xtask: from here on this is yours -->

            ## Impact assessment

            - [ ] Works on branches that are far behind
            - [ ] Nothing else needs to change with it (CI, deployment, documentation)

            ## Test plan

            - [ ] `cargo xtask sync --dry-run -v` on a branch shows what is expected
        "#]]
        .assert_eq(&about.body());
    }

    #[test]
    fn what_people_wrote_stays() {
        let first = about(&["setup/a"]);
        let written = format!("Before.\n{}\nAfter.\n", first.body());
        let renewed = update_body(&about(&["setup/b"]).managed_section(), &written);
        assert!(renewed.starts_with("Before.\n") && renewed.ends_with("After.\n"));
        assert!(renewed.contains("`setup/b`") && !renewed.contains("`setup/a`"));
        assert_eq!(update_body(&about(&["setup/b"]).managed_section(), &renewed), renewed);
        let quoting = format!("They say `{BEGIN}`.\nMine.\n{}", first.body()).replace('\n', "\r\n");
        let renewed = update_body(&about(&["setup/b"]).managed_section(), &quoting);
        assert!(renewed.starts_with(&format!("They say `{BEGIN}`.\r\nMine.\r\n")), "{renewed}");
        assert!(renewed.contains("`setup/b`") && !renewed.contains("`setup/a`"));
        assert!(update_body(&first.managed_section(), "All mine.").ends_with("\n\nAll mine."));
        assert_eq!(first.update_title("My words"), "My words");
        assert_eq!(first.update_title("[AUTO] Orchestration changes: old"), first.title());
    }

    #[test]
    fn long_things_are_cut() {
        let files: Vec<String> = (0..60).map(|number| format!("f{number}")).collect();
        let mut about = CanonicalPullRequest { files, ..about(&[]) };
        assert!(about.body().contains("- and 10 more"));
        about.subject = "é".repeat(300);
        assert_eq!(about.title().chars().count(), MAX_TITLE_CHARS);
    }
}
