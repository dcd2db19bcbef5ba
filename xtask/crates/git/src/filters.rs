//! Content filters between the working tree and the object database: line ends, encodings, `$Id$`,
//! and clean and smudge programs, by `.gitattributes` and configuration.
//!
//! ```text
//! clean("a.txt" with `eol=crlf`, "1\r\n") -> "1\n"      smudge("a.txt", "1\n") -> "1\r\n"
//! ```

use std::collections::BTreeMap;
use std::io::Read;

use gix::bstr::ByteSlice;
use gix::filter::Pipeline;
use gix::filter::plumbing::pipeline::convert::{ToGitOutcome, ToWorktreeOutcome};
use gix::worktree::stack::state::attributes::Source;

use super::{FileMode, Id, Index, Repo, TreeEntry};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::path::RepoPath;

const ATTRIBUTES: &[u8] = b".gitattributes";

/// First line of a Git LFS pointer.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The largest pointer that Git LFS writes, in bytes.
const LFS_POINTER_LARGEST: u64 = 1024;

/// The filter pipeline with the attributes of one index.
pub struct Filters<'repo> {
    pipeline: Pipeline<'repo>,
    attributes: gix::AttributeStack<'repo>,
}

impl Repo {
    /// Returns filters for reading from the working tree: its `.gitattributes` take precedence over
    /// staged ones, as in `git add`.
    pub fn clean_filters(&self, index: &Index) -> Result<Filters<'_>> {
        self.read_filters(index, Source::WorktreeThenIdMapping)
    }

    /// Returns filters for writing to the working tree: staged `.gitattributes` take precedence, as
    /// in `git checkout`.
    pub fn smudge_filters(&self, index: &Index) -> Result<Filters<'_>> {
        self.read_filters(index, Source::IdMappingThenWorktree)
    }

    fn read_filters(&self, index: &Index, source: Source) -> Result<Filters<'_>> {
        let failed = || "cannot read the attributes and filters of this repository";
        let stack = self.git.attributes_only(index.state(), source).with_context(failed)?;
        let attributes = self.git.attributes_only(index.state(), source).with_context(failed)?;
        let pipeline = Pipeline::new(&self.git, stack.detach()).with_context(failed)?;
        Ok(Filters { pipeline, attributes })
    }

    /// Returns whether a path of a tree is stored in Git LFS: a `.gitattributes` above it mentions
    /// LFS, and its content is a pointer. `folders` caches which folders have such a
    /// `.gitattributes`.
    pub fn is_in_lfs(
        &self,
        tree: Id,
        path: &RepoPath,
        entry: TreeEntry,
        folders: &mut BTreeMap<Option<RepoPath>, bool>,
    ) -> Result<bool> {
        // Unknown without the content; a later write checks again.
        if !self.may_fetch() && self.is_partial() && !self.has_object(entry.id) {
            return Ok(false);
        }
        let mut mentions = false;
        for folder in path.ancestors().map(Some).chain([None]) {
            mentions |= match folders.get(&folder) {
                Some(known) => *known,
                None => {
                    let found = self.mentions_lfs(tree, folder.as_ref())?;
                    folders.insert(folder, found);
                    found
                }
            };
        }
        Ok(mentions
            && self.object_size(entry.id)? <= LFS_POINTER_LARGEST
            && is_pointer(&self.read_blob(entry.id)?))
    }

    fn mentions_lfs(&self, tree: Id, folder: Option<&RepoPath>) -> Result<bool> {
        let name = folder
            .map_or(ATTRIBUTES.to_vec(), |folder| [folder.as_bytes(), b"/", ATTRIBUTES].concat());
        let Some(entry) = self.entry_at(tree, &RepoPath::new(name))? else { return Ok(false) };
        if !self.may_fetch() && self.is_partial() && !self.has_object(entry.id) {
            return Ok(false);
        }
        Ok(entry.mode != FileMode::Gitlink && self.read_blob(entry.id)?.contains_str("filter=lfs"))
    }

    /// Returns whether Git LFS is configured, so that pointers are replaced by files.
    #[must_use]
    pub fn has_lfs(&self) -> bool {
        ["filter.lfs.process", "filter.lfs.smudge"]
            .iter()
            .any(|key| self.config_value(key).is_some())
    }
}

impl Filters<'_> {
    /// Converts content of the working tree to the form that git stores.
    pub fn clean(&mut self, path: &RepoPath, content: Vec<u8>, index: &Index) -> Result<Vec<u8>> {
        let failed = || format!("cannot apply git's filters to `{path}`");
        let name = gix::path::from_bstr(path.as_bytes().as_bstr()).with_context(failed)?;
        let unchanged = content.clone();
        let outcome = self
            .pipeline
            .convert_to_git(&content[..], &name, index.state())
            .with_context(failed)?;
        Ok(match outcome {
            ToGitOutcome::Unchanged(_) => unchanged,
            ToGitOutcome::Buffer(bytes) => bytes.to_vec(),
            ToGitOutcome::Process(mut stream) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).with_context(failed)?;
                bytes
            }
        })
    }

    /// Returns whether `content` is a Git LFS pointer at a path with `filter=lfs`.
    pub fn is_lfs_pointer(&mut self, path: &RepoPath, content: &[u8]) -> Result<bool> {
        if !is_pointer(content) {
            return Ok(false);
        }
        Ok(self.read_attribute(path, "filter")?.is_some_and(|value| value == "lfs"))
    }

    /// Returns the value of an attribute at `path`.
    fn read_attribute(&mut self, path: &RepoPath, name: &str) -> Result<Option<String>> {
        let failed = || format!("cannot read the attributes of `{path}`");
        let mut found = self.attributes.selected_attribute_matches([name]);
        let platform =
            self.attributes.at_entry(path.as_bytes().as_bstr(), None).with_context(failed)?;
        platform.matching_attributes(&mut found);
        let value = found
            .iter_selected()
            .find_map(|rule| rule.assignment.state.as_bstr().map(ToString::to_string));
        Ok(value)
    }

    /// Converts stored content to the form that git checks out.
    pub fn smudge(&mut self, path: &RepoPath, content: &[u8]) -> Result<Vec<u8>> {
        let encoding = self.read_attribute(path, "working-tree-encoding")?;
        if encoding.is_some_and(|name| {
            name.to_ascii_uppercase().starts_with("UTF-") && !name.eq_ignore_ascii_case("UTF-8")
        }) {
            return Err(Error::unable(format!(
                "unsupported `working-tree-encoding` of `{path}`"
            ))
            .with_hint(
                "exclude it from the managed paths, with `[managed] exclude` in setup/sync.toml",
            ));
        }
        let failed = || format!("cannot apply git's filters to `{path}`");
        let outcome = self
            .pipeline
            .convert_to_worktree(content, path.as_bytes().as_bstr(), Default::default())
            .with_context(failed)?;
        Ok(match outcome {
            ToWorktreeOutcome::Unchanged(bytes) => bytes.to_vec(),
            ToWorktreeOutcome::Buffer(bytes) => bytes.to_vec(),
            ToWorktreeOutcome::Process(
                gix::filter::plumbing::driver::apply::MaybeDelayed::Immediate(mut stream),
            ) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).with_context(failed)?;
                bytes
            }
            ToWorktreeOutcome::Process(_) => {
                return Err(Error::unable(format!(
                    "the filter of `{path}` delayed its output without being asked to"
                )));
            }
        })
    }
}

fn is_pointer(content: &[u8]) -> bool {
    content.starts_with(LFS_POINTER)
}
