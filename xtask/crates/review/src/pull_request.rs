//! What a pull request says. The part that is ours stands between two marks and is renewed by every
//! push; everything else belongs to the people who wrote it.

use std::fmt::Write;

use xtask_base::words::{pluralize, quote_for_shell};

/// How a title of ours begins.
const TITLE: &str = "[AUTO] Orchestration changes: ";

/// How the title of a request for a protected branch begins.
const FOLLOWING: &str = "chore(sync): ";

/// The labels of a request.
pub const LABELS: [&str; 2] = ["orchestration", "auto-created"];

const BEGIN: &str = "<!-- xtask: from here on this is written by every push -->";
const END: &str = "<!-- xtask: from here on this is yours -->";

/// How many files are listed.
const MAX_LISTED_FILES: usize = 50;

/// The longest title that is sent: what GitHub takes is 256.
const MAX_TITLE_CHARS: usize = 200;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPullRequest {
    /// The source branch.
    pub branch: String,
    /// The pushed commit.
    pub commit: String,
    /// The first line of the newest commit that a person made.
    pub subject: String,
    /// The canonical branch.
    pub canonical: String,
    /// The managed files at which the branch has a content of its own.
    pub files: Vec<String>,
    /// How many local and remote branches follow the canonical one, besides this.
    pub followers: usize,
}

/// What a pull request says, and between which branches it is.
pub trait PullRequest {
    /// The branch that is to be merged.
    fn head(&self) -> &str;
    /// The branch into which it is.
    fn base(&self) -> &str;
    /// Whether it begins as a draft.
    fn is_draft(&self) -> bool;
    /// The title.
    fn title(&self) -> String;
    /// The title of a request that is there.
    fn update_title(&self, present: &str) -> String;
    /// The text of a new request.
    fn body(&self) -> String;
    /// Our part of the text, between its marks.
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

    /// It is renewed, unless a person has written another.
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

/// The request for a protected branch: the canonical state of its managed files, on a branch beside
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedPullRequest {
    /// The protected branch.
    pub branch: String,
    /// The branch beside it.
    pub side_branch: String,
    /// The canonical branch, and its commit.
    pub canonical: (String, String),
    /// How many files it changes.
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
             `{beside}` is made anew whenever `{branch}` or `{canonical}` moves, and goes once \
             `{branch}` has all of it. `cargo xtask propagate` writes it; put nothing else on it.\n\
             {END}",
            pluralize(*files, "file"),
        )
    }
}

/// The text of a request that is there, with our part renewed. Where somebody has taken our marks
/// out, ours comes first.
#[must_use]
pub fn update_body(ours: &str, present: &str) -> String {
    // Only whole lines are marks: people quote.
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
