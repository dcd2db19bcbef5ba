//! Three-way merges of texts, by git's `merge` attribute.
//!
//! ```text
//! base "1\n2\n3\n", ours "one\n2\n3\n", theirs "1\n2\n3\n4\n" -> Clean("one\n2\n3\n4\n")
//! ```

use gix::attrs::State;
use gix::bstr::ByteSlice;
use gix::merge::blob::Resolution;
use gix::merge::blob::builtin_driver::text;

use gix::worktree::stack::state::attributes::Source;

use super::{Id, Index, Repo};
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::path::RepoPath;

/// Bytes of a file that are searched for NUL to detect binary content, as in git.
const BINARY_CHECK_BYTES: usize = 8000;

/// The result of a three-way merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMerge {
    /// Merged without conflict.
    Clean(Vec<u8>),
    /// Both sides changed the same lines; the text has git's conflict markers.
    Conflict(Vec<u8>),
    /// One of the versions is binary.
    Binary,
}

/// The merge driver that the `merge` attribute selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeDriver {
    /// Line by line.
    Text,
    /// Line by line, keeping both sides of a conflict (`merge=union`).
    Union,
    /// None (`-merge`, `binary`): changes on both sides conflict.
    Binary,
    /// The configured driver of this name. We do not run it, so changes on both sides conflict.
    Custom(String),
}

/// The merge attributes of an index or tree.
pub struct MergeAttributes<'repo> {
    attributes: gix::AttributeStack<'repo>,
    is_driver: Box<dyn Fn(&str) -> bool + 'repo>,
    default: Option<String>,
}

impl Repo {
    /// Reads merge attributes from the working tree first, as `git merge` does.
    pub fn merge_attributes(&self, index: &Index) -> Result<MergeAttributes<'_>> {
        self.read_merge_attributes(index, Source::WorktreeThenIdMapping)
    }

    /// Reads merge attributes from a tree.
    pub fn merge_attributes_of_tree(&self, tree: Id) -> Result<MergeAttributes<'_>> {
        self.read_merge_attributes(&self.index_of_tree(tree)?, Source::IdMapping)
    }

    fn read_merge_attributes(&self, index: &Index, source: Source) -> Result<MergeAttributes<'_>> {
        let attributes = self.git.attributes_only(index.state(), source);
        let attributes =
            attributes.with_context(|| "cannot read the attributes of this repository")?;
        let is_driver = |name: &str| self.config_value(&format!("merge.{name}.driver")).is_some();
        let default = self.config_value("merge.default");
        Ok(MergeAttributes { attributes, is_driver: Box::new(is_driver), default })
    }
}

impl MergeAttributes<'_> {
    /// Returns the merge driver of `path`.
    pub fn driver_of(&mut self, path: &RepoPath) -> Result<MergeDriver> {
        let failed = || format!("cannot read the attributes of `{path}`");
        let mut found = self.attributes.selected_attribute_matches(["merge"]);
        let platform =
            self.attributes.at_entry(path.as_bytes().as_bstr(), None).with_context(failed)?;
        platform.matching_attributes(&mut found);
        let state = found.iter_selected().next().map(|rule| rule.assignment.state.to_owned());
        let name = match state {
            Some(State::Set) => return Ok(MergeDriver::Text),
            Some(State::Unset) => return Ok(MergeDriver::Binary),
            Some(State::Value(name)) => Some(name.as_ref().as_bstr().to_string()),
            Some(State::Unspecified) | None => self.default.clone(),
        };
        Ok(match name.as_deref() {
            None | Some("text") => MergeDriver::Text,
            Some("binary") => MergeDriver::Binary,
            Some("union") => MergeDriver::Union,
            // A driver without configuration means text, as in git.
            Some(name) if (self.is_driver)(name) => MergeDriver::Custom(name.to_owned()),
            Some(_) => MergeDriver::Text,
        })
    }
}

/// Merges `ours` and `theirs`, which both differ from `base`. `labels` are written after the
/// conflict markers.
#[must_use]
pub fn merge_three_way(
    base: &[u8],
    ours: &[u8],
    theirs: &[u8],
    labels: (&str, &str),
    how: &MergeDriver,
) -> TextMerge {
    if matches!(how, MergeDriver::Binary | MergeDriver::Custom(_)) {
        return TextMerge::Binary;
    }
    if [base, ours, theirs].iter().any(|text| text.iter().take(BINARY_CHECK_BYTES).any(|b| *b == 0))
    {
        return TextMerge::Binary;
    }
    let mut merged = Vec::new();
    let mut input = gix::diff::blob::InternedInput::new(&[][..], &[][..]);
    let labels = text::Labels {
        ancestor: None,
        current: Some(labels.0.into()),
        other: Some(labels.1.into()),
    };
    let mut options = text::Options::default();
    if *how == MergeDriver::Union {
        options.conflict = text::Conflict::ResolveWithUnion;
    }
    let resolution = text(&mut merged, &mut input, labels, ours, base, theirs, options);
    match resolution {
        Resolution::Complete | Resolution::CompleteWithAutoResolvedConflict => {
            TextMerge::Clean(merged)
        }
        Resolution::Conflict => TextMerge::Conflict(merged),
    }
}

/// Counts added and removed lines; `None` if a text is binary.
#[must_use]
pub fn count_changed_lines(old: &[u8], new: &[u8]) -> Option<(u32, u32)> {
    if [old, new].iter().any(|text| text.iter().take(BINARY_CHECK_BYTES).any(|b| *b == 0)) {
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
        let merged = merge_three_way(
            base,
            b"one\n2\n3\n4\n5\n",
            b"1\n2\n3\n4\nfive\n",
            ("a", "b"),
            &MergeDriver::Text,
        );
        assert_eq!(merged, TextMerge::Clean(b"one\n2\n3\n4\nfive\n".to_vec()));
    }

    #[test]
    fn changes_of_one_line_conflict_and_both_are_shown() {
        let TextMerge::Conflict(text) =
            merge_three_way(b"1\n", b"one\n", b"uno\n", ("yours", "canonical"), &MergeDriver::Text)
        else {
            panic!("no conflict");
        };
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "<<<<<<< yours\none\n=======\nuno\n>>>>>>> canonical\n");
    }

    #[test]
    fn changed_lines_are_counted_as_git_does() {
        assert_eq!(count_changed_lines(b"1\n2\n3\n", b"1\ntwo\n3\n4\n"), Some((2, 1)));
        assert_eq!(count_changed_lines(b"", b"1\n2\n"), Some((2, 0)));
        assert_eq!(count_changed_lines(b"1\n", b"\0"), None);
    }

    #[test]
    fn binary_never_merges() {
        assert_eq!(
            merge_three_way(b"\0", b"a", b"b", ("a", "b"), &MergeDriver::Text),
            TextMerge::Binary
        );
    }
}
