//! Commits as people name them: ids, abbreviations, branches, `~`, `^`, and ranges.

use gix::bstr::BStr;
use gix::revision::plumbing::Spec;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};

/// What a word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// One commit.
    Commit(Id),
    /// The commits that `to` has and `from` does not.
    Range {
        /// Left out, with all that is before it.
        from: Id,
        /// The last of them.
        to: Id,
    },
}

impl Repo {
    /// Reads a word that names commits. One that names none, or several by accident, is an error of
    /// the user's.
    pub fn parse_revision(&self, word: &str) -> Result<Revision> {
        let unknown = |cause: &str| {
            let why = cause.lines().map(str::trim).filter(|line| !line.is_empty());
            let why = why.collect::<Vec<_>>().join("; ");
            Error::usage(format!("`{word}` names no commit: {why}"))
        };
        if self.has_reftable() {
            let (meant, left_out) =
                self.parse_revision_by_git(word).map_err(|cause| unknown(&cause))?;
            let commit = |id: Id| {
                self.read_commit(id).map(|_| id).map_err(|_| unknown("it is not a commit"))
            };
            return match (&meant[..], &left_out[..]) {
                ([one], []) => Ok(Revision::Commit(commit(*one)?)),
                ([to], [from]) if word.contains("..") => {
                    Ok(Revision::Range { from: commit(*from)?, to: commit(*to)? })
                }
                ([one], _) if word.ends_with("^!") => Ok(Revision::Commit(commit(*one)?)),
                _ => Err(unknown("only single commits and `A..B` can be named here")),
            };
        }
        let parsed = self.git.rev_parse(BStr::new(word.as_bytes()));
        let spec = parsed.map_err(|cause| unknown(&cause.to_string()))?.detach();
        let commit = |id: Id| -> Result<Id> {
            let object = self.git.find_object(id).map_err(|cause| unknown(&cause.to_string()))?;
            let peeled = object.peel_to_kind(gix::object::Kind::Commit);
            Ok(peeled.map_err(|_| unknown("it is not a commit"))?.id)
        };
        match spec {
            Spec::Include(id) => Ok(Revision::Commit(commit(id)?)),
            Spec::Range { from, to } => {
                Ok(Revision::Range { from: commit(from)?, to: commit(to)? })
            }
            // `A^!` is the commit A alone.
            Spec::ExcludeParents(id) => Ok(Revision::Commit(commit(id)?)),
            _ => Err(unknown("only single commits and `A..B` can be named here")),
        }
    }
}
