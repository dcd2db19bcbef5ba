//! What `status` says of a vendored toolkit: its version, which of its files were changed here, and
//! whether the canonical branch has a newer one.

use super::manifest::{MANIFEST, Manifest, mark};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Entry, Id, Mode, Repo};

/// How a branch stands to what was vendored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is vendored here.
    pub manifest: Manifest,
    /// The files of it that are not as they came, or are gone.
    pub changed: Vec<String>,
    /// What is vendored on the canonical branch, where that is something else.
    pub canonical: Option<Manifest>,
}

/// Looks at a branch by its tree, beside the canonical one. Nothing where nothing was vendored.
pub fn standing(repo: &Repo, tree: Id, canonical: Option<Id>) -> Result<Option<Standing>> {
    let Some(manifest) = read(repo, tree)? else { return Ok(None) };
    let mut changed = Vec::new();
    for (name, came) in &manifest.files {
        let entry = repo.entry_at(tree, &RepoPath::new(name.as_str()))?;
        let is_same = match entry {
            Some(Entry { mode: mode @ (Mode::File | Mode::Executable), id }) => {
                mark(&repo.blob(id)?, mode == Mode::Executable) == *came
            }
            _ => false,
        };
        if !is_same {
            changed.push(name.clone());
        }
    }
    let canonical = match canonical {
        // One that cannot be read there is told about by whoever goes by it.
        Some(canonical) => read(repo, canonical).ok().flatten(),
        None => None,
    };
    let canonical = canonical.filter(|other| other.commit != manifest.commit);
    Ok(Some(Standing { manifest, changed, canonical }))
}

fn read(repo: &Repo, tree: Id) -> Result<Option<Manifest>> {
    let entry = repo.entry_at(tree, &RepoPath::new(MANIFEST))?;
    entry.map(|entry| Manifest::parse(&repo.blob(entry.id)?)).transpose()
}
