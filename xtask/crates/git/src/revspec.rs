//! Revisions as users type them: ids, abbreviations, branches, `~`, `^`, and ranges.
//!
//! ```text
//! "main~2" -> Commit(1a2b…)      "main..topic" -> Range { from: 1a2b…, to: 3c4d… }
//! ```

use gix::bstr::BStr;
use gix::revision::plumbing::Spec;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};

/// A parsed revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    Commit(Id),
    /// The commits of `from..to`.
    Range {
        /// Excluded, with all of its ancestors.
        from: Id,
        /// The last commit.
        to: Id,
    },
}

impl Repo {
    /// Parses a revision. Returns a usage error if it names no commit or is ambiguous.
    pub fn parse_revision(&self, word: &str) -> Result<Revision> {
        let unknown = |cause: &str| {
            let why = cause.lines().map(str::trim).filter(|line| !line.is_empty());
            let why = why.collect::<Vec<_>>().join("; ");
            Error::usage(format!("invalid revision `{word}`: {why}"))
        };
        if self.has_reftable() {
            let (meant, left_out) =
                self.parse_revision_by_git(word).map_err(|cause| unknown(&cause))?;
            let commit =
                |id: Id| self.read_commit(id).map(|_| id).map_err(|_| unknown("not a commit"));
            return match (&meant[..], &left_out[..]) {
                ([one], []) => Ok(Revision::Commit(commit(*one)?)),
                ([to], [from]) if word.contains("..") => {
                    Ok(Revision::Range { from: commit(*from)?, to: commit(*to)? })
                }
                ([one], _) if word.ends_with("^!") => Ok(Revision::Commit(commit(*one)?)),
                _ => Err(unknown("expected a commit or a range `A..B`")),
            };
        }
        let parsed = self.git.rev_parse(BStr::new(word.as_bytes()));
        let spec = parsed.map_err(|cause| unknown(&cause.to_string()))?.detach();
        let commit = |id: Id| -> Result<Id> {
            let object = self.git.find_object(id).map_err(|cause| unknown(&cause.to_string()))?;
            let peeled = object.peel_to_kind(gix::object::Kind::Commit);
            Ok(peeled.map_err(|_| unknown("not a commit"))?.id)
        };
        match spec {
            Spec::Include(id) => Ok(Revision::Commit(commit(id)?)),
            Spec::Range { from, to } => {
                Ok(Revision::Range { from: commit(from)?, to: commit(to)? })
            }
            // `A^!` is the commit `A` alone.
            Spec::ExcludeParents(id) => Ok(Revision::Commit(commit(id)?)),
            _ => Err(unknown("expected a commit or a range `A..B`")),
        }
    }
}
