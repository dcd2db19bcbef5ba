//! Merging three versions of a text.

use gix::attrs::State;
use gix::bstr::ByteSlice;
use gix::merge::blob::Resolution;
use gix::merge::blob::builtin_driver::text;

use gix::worktree::stack::state::attributes::Source;

use super::{Id, Index, Repo};
use xtask_base::error::{Context as _, Result};
use xtask_base::path::RepoPath;

/// How much of a file is searched for a NUL byte to tell whether it is binary, as git does.
const BINARY_WITHIN: usize = 8000;

/// What a merge came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Both sides went together.
    Clean(Vec<u8>),
    /// Both changed the same lines; the text has git's conflict markers.
    Conflict(Vec<u8>),
    /// One of the versions is not text.
    Binary,
}

/// How a file may be merged: what git's `merge` attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeAs {
    /// Line by line; what both have changed is a conflict.
    Text,
    /// Line by line; of what both have changed both stay (`merge=union`).
    Union,
    /// Not at all (`-merge`, `binary`): what both have changed is a conflict.
    Nothing,
    /// By a program of the user's, of this name. It is not run, so that is a conflict as well.
    Driver(String),
}

/// How the files of an index may be merged.
pub struct MergeRules<'repo> {
    attributes: gix::AttributeStack<'repo>,
    is_driver: Box<dyn Fn(&str) -> bool + 'repo>,
    default: Option<String>,
}

impl Repo {
    /// How files are merged here: as the attributes of the working tree say, as for `git merge`.
    pub fn merge_rules(&self, index: &Index) -> Result<MergeRules<'_>> {
        self.rules(index, Source::WorktreeThenIdMapping)
    }

    /// How files are merged that are only in a tree.
    pub fn merge_rules_of_tree(&self, tree: Id) -> Result<MergeRules<'_>> {
        self.rules(&self.index_of_tree(tree)?, Source::IdMapping)
    }

    fn rules(&self, index: &Index, source: Source) -> Result<MergeRules<'_>> {
        let attributes = self.git.attributes_only(index.state(), source);
        let attributes =
            attributes.unable(|| "the attributes of this repository cannot be read")?;
        let is_driver = |name: &str| self.setting(&format!("merge.{name}.driver")).is_some();
        let default = self.setting("merge.default");
        Ok(MergeRules { attributes, is_driver: Box::new(is_driver), default })
    }
}

impl MergeRules<'_> {
    /// How a file is merged.
    pub fn of(&mut self, path: &RepoPath) -> Result<MergeAs> {
        let failed = || format!("the attributes of `{path}` cannot be read");
        let mut found = self.attributes.selected_attribute_matches(["merge"]);
        let platform = self.attributes.at_entry(path.as_bytes().as_bstr(), None).unable(failed)?;
        platform.matching_attributes(&mut found);
        let state = found.iter_selected().next().map(|rule| rule.assignment.state.to_owned());
        let name = match state {
            Some(State::Set) => return Ok(MergeAs::Text),
            Some(State::Unset) => return Ok(MergeAs::Nothing),
            Some(State::Value(name)) => Some(name.as_ref().as_bstr().to_string()),
            Some(State::Unspecified) | None => self.default.clone(),
        };
        Ok(match name.as_deref() {
            None | Some("text") => MergeAs::Text,
            Some("binary") => MergeAs::Nothing,
            Some("union") => MergeAs::Union,
            // What nobody has set up is merged as text, as by git.
            Some(name) if (self.is_driver)(name) => MergeAs::Driver(name.to_owned()),
            Some(_) => MergeAs::Text,
        })
    }
}

/// Merges `ours` and `theirs`, which both come from `base` and have both changed. The labels stand at the
/// markers.
#[must_use]
pub fn three_way(
    base: &[u8],
    ours: &[u8],
    theirs: &[u8],
    labels: (&str, &str),
    how: &MergeAs,
) -> Merged {
    if matches!(how, MergeAs::Nothing | MergeAs::Driver(_)) {
        return Merged::Binary;
    }
    if [base, ours, theirs].iter().any(|text| text.iter().take(BINARY_WITHIN).any(|b| *b == 0)) {
        return Merged::Binary;
    }
    let mut merged = Vec::new();
    let mut input = gix::diff::blob::InternedInput::new(&[][..], &[][..]);
    let labels = text::Labels {
        ancestor: None,
        current: Some(labels.0.into()),
        other: Some(labels.1.into()),
    };
    let mut options = text::Options::default();
    if *how == MergeAs::Union {
        options.conflict = text::Conflict::ResolveWithUnion;
    }
    let resolution = text(&mut merged, &mut input, labels, ours, base, theirs, options);
    match resolution {
        Resolution::Complete | Resolution::CompleteWithAutoResolvedConflict => {
            Merged::Clean(merged)
        }
        Resolution::Conflict => Merged::Conflict(merged),
    }
}

/// How many lines come and go between two texts; nothing where one of them is not text.
#[must_use]
pub fn changed_lines(old: &[u8], new: &[u8]) -> Option<(u32, u32)> {
    if [old, new].iter().any(|text| text.iter().take(BINARY_WITHIN).any(|b| *b == 0)) {
        return None;
    }
    let input = gix::diff::blob::InternedInput::new(old, new);
    let diff = gix::diff::blob::Diff::compute(gix::diff::blob::Algorithm::Histogram, &input);
    Some((diff.count_additions(), diff.count_removals()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apart_go_together() {
        let base = b"1\n2\n3\n4\n5\n";
        let merged = three_way(
            base,
            b"one\n2\n3\n4\n5\n",
            b"1\n2\n3\n4\nfive\n",
            ("a", "b"),
            &MergeAs::Text,
        );
        assert_eq!(merged, Merged::Clean(b"one\n2\n3\n4\nfive\n".to_vec()));
    }

    #[test]
    fn changes_of_one_line_conflict_and_both_are_shown() {
        let Merged::Conflict(text) =
            three_way(b"1\n", b"one\n", b"uno\n", ("yours", "canonical"), &MergeAs::Text)
        else {
            panic!("no conflict");
        };
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "<<<<<<< yours\none\n=======\nuno\n>>>>>>> canonical\n");
    }

    #[test]
    fn changed_lines_are_counted_as_git_does() {
        assert_eq!(changed_lines(b"1\n2\n3\n", b"1\ntwo\n3\n4\n"), Some((2, 1)));
        assert_eq!(changed_lines(b"", b"1\n2\n"), Some((2, 0)));
        assert_eq!(changed_lines(b"1\n", b"\0"), None);
    }

    #[test]
    fn binary_never_merges() {
        assert_eq!(three_way(b"\0", b"a", b"b", ("a", "b"), &MergeAs::Text), Merged::Binary);
    }
}
