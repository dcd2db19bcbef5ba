//! What git does to content on its way between the working tree and the object database: line
//! ends, encodings, `$Id$`, and clean and smudge programs, by `.gitattributes` and configuration.

use std::io::Read;

use gix::bstr::ByteSlice;
use gix::filter::Pipeline;
use gix::filter::plumbing::pipeline::convert::{ToGitOutcome, ToWorktreeOutcome};
use gix::worktree::stack::state::attributes::Source;

use super::{Index, Repo};
use crate::base::error::{Context, Result};
use crate::base::path::RepoPath;

/// How a Git LFS pointer begins.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The largest pointer that Git LFS writes, in bytes.
const LFS_POINTER_LARGEST: u64 = 1024;

/// The filters, with the attributes of one index.
pub struct Filters<'repo> {
    pipeline: Pipeline<'repo>,
}

impl Repo {
    /// Filters for what is read from the working tree: attributes as they lie there count first,
    /// as for `git add`.
    pub fn clean_filters(&self, index: &Index) -> Result<Filters<'_>> {
        self.filters(index, Source::WorktreeThenIdMapping)
    }

    /// Filters for what is written to the working tree: attributes as they are staged count first,
    /// as for `git checkout`.
    pub fn smudge_filters(&self, index: &Index) -> Result<Filters<'_>> {
        self.filters(index, Source::IdMappingThenWorktree)
    }

    fn filters(&self, index: &Index, source: Source) -> Result<Filters<'_>> {
        let failed = || "the attributes and filters of this repository cannot be read";
        let stack = self.git.attributes_only(index.state(), source).unable(failed)?;
        Ok(Filters { pipeline: Pipeline::new(&self.git, stack.detach()).unable(failed)? })
    }

    /// Whether this blob is a Git LFS pointer.
    pub fn is_lfs_pointer(&self, id: super::Id) -> Result<bool> {
        Ok(self.object_size(id)? <= LFS_POINTER_LARGEST && is_pointer(&self.blob(id)?))
    }

    /// Whether Git LFS is set up here, so that its pointers become files.
    #[must_use]
    pub fn has_lfs(&self) -> bool {
        ["filter.lfs.process", "filter.lfs.smudge"].iter().any(|key| self.setting(key).is_some())
    }
}

impl Filters<'_> {
    /// The content as git would store it, of a file of the working tree.
    pub fn clean(&mut self, path: &RepoPath, content: Vec<u8>, index: &Index) -> Result<Vec<u8>> {
        let failed = || format!("`{path}` cannot be filtered as git would");
        let name = gix::path::from_bstr(path.as_bytes().as_bstr()).unable(failed)?;
        let unchanged = content.clone();
        let outcome =
            self.pipeline.convert_to_git(&content[..], &name, index.state()).unable(failed)?;
        Ok(match outcome {
            ToGitOutcome::Unchanged(_) => unchanged,
            ToGitOutcome::Buffer(bytes) => bytes.to_vec(),
            ToGitOutcome::Process(mut stream) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unable(failed)?;
                bytes
            }
        })
    }

    /// The content as git would check it out.
    pub fn smudge(&mut self, path: &RepoPath, content: &[u8]) -> Result<Vec<u8>> {
        let failed = || format!("`{path}` cannot be filtered as git would");
        let outcome = self
            .pipeline
            .convert_to_worktree(content, path.as_bytes().as_bstr(), Default::default())
            .unable(failed)?;
        Ok(match outcome {
            ToWorktreeOutcome::Unchanged(bytes) => bytes.to_vec(),
            ToWorktreeOutcome::Buffer(bytes) => bytes.to_vec(),
            ToWorktreeOutcome::Process(
                gix::filter::plumbing::driver::apply::MaybeDelayed::Immediate(mut stream),
            ) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unable(failed)?;
                bytes
            }
            ToWorktreeOutcome::Process(_) => {
                return Err(crate::base::error::Error::unable(format!(
                    "the filter of `{path}` delays its answer although it was not asked to"
                )));
            }
        })
    }
}

/// Whether content is a Git LFS pointer.
fn is_pointer(content: &[u8]) -> bool {
    content.starts_with(LFS_POINTER)
}
