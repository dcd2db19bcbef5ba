//! "Once canonical": whether a content has stood at a path anywhere in the history of the canonical
//! branch.
//!
//! The history is every commit that the canonical tip reaches. Each folder of each of their trees
//! is looked at once, however many commits share it. The answer is kept in a file under the common
//! git folder, keyed by the tip and by the rules of what is managed; when the tip has moved forward
//! only the new commits are looked at. Reading never writes the file: `save` does. A file that is
//! damaged, or that a newer xtask has written, counts as none, and `save` replaces it.
//!
//! Where history is cut off (a shallow or partial clone), what was not found is `Unknown`, not
//! `Never`, and nothing is kept.

use std::collections::HashSet;
use std::path::PathBuf;

use super::{Entry, Id, Repo, Scope};
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Context, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;

/// The first line of the file, with its version.
const MAGIC: &[u8] = b"xtask.once-canonical/1\n";

/// Sixteen bytes of a SHA-256 over path, mode and id: chance collisions are out of reach.
type Key = [u8; 16];

/// What is known about a content at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has stood there.
    Once,
    /// It has never stood there.
    Never,
    /// It is not in the part of the history that is here, and the rest is missing.
    Unknown,
}

/// All contents that were ever canonical.
pub struct OnceCanonical {
    tip: Id,
    rules: Digest,
    kept: Vec<Key>,
    fresh: HashSet<Key>,
    whole: bool,
    is_kept: bool,
}

impl OnceCanonical {
    /// Whether this content has stood at this path.
    #[must_use]
    pub fn knows(&self, path: &RepoPath, entry: Entry) -> Known {
        let key = key(path, entry);
        if self.fresh.contains(&key) || self.kept.binary_search(&key).is_ok() {
            Known::Once
        } else if self.whole {
            Known::Never
        } else {
            Known::Unknown
        }
    }

    /// Whether the whole history is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Repo {
    fn once_canonical_file(&self) -> PathBuf {
        self.shared_state_folder().join("once-canonical")
    }

    /// Reads the history of `tip` as far as it is not known yet. `rules` stands for `scope`.
    pub fn once_canonical(
        &self,
        tip: Id,
        scope: &dyn Scope,
        rules: Digest,
        progress: &dyn Progress,
    ) -> Result<OnceCanonical> {
        let mut known = OnceCanonical {
            tip,
            rules,
            kept: Vec::new(),
            fresh: HashSet::new(),
            whole: true,
            is_kept: false,
        };
        let mut since = None;
        if let Some((old, keys)) = self.read_kept(rules) {
            if old == tip {
                known.kept = keys;
                known.is_kept = true;
                return Ok(known);
            }
            if self.is_ancestor(old, tip).unwrap_or(false) {
                known.kept = keys;
                since = Some(old);
            }
        }
        progress.begin("reading the canonical history", None);
        let read = self.read_history(&mut known, since, scope, progress);
        progress.end();
        read?;
        Ok(known)
    }

    fn read_history(
        &self,
        known: &mut OnceCanonical,
        since: Option<Id>,
        scope: &dyn Scope,
        progress: &dyn Progress,
    ) -> Result<()> {
        let cut: HashSet<Id> = match self.git.shallow_commits() {
            Ok(Some(commits)) => commits.iter().copied().collect(),
            _ => HashSet::new(),
        };
        let failed = || format!("the history of `{}` cannot be read", known.tip);
        // A walk that comes to its end is made by git, where the library cannot; else as far as it goes.
        let whole = self.beyond(&Vec::from_iter(since), known.tip);
        let commits: Box<dyn Iterator<Item = Result<Id>>> = match whole {
            Ok(all) => Box::new(all.into_iter().map(Ok)),
            Err(_) => {
                let walk =
                    self.git.rev_walk([known.tip]).with_hidden(since).all().unable(failed)?;
                Box::new(walk.map(move |commit| Ok(commit.unable(|| "a commit is missing")?.id)))
            }
        };
        if self.is_partial() {
            let all = self.beyond(&Vec::from_iter(since), known.tip).unwrap_or_default();
            // What cannot be brought is a history that is cut off.
            self.bring_trees(all.into_iter().filter_map(|id| self.tree_of(id).ok())).ok();
        }
        let mut seen: HashSet<(Vec<u8>, Id)> = HashSet::new();
        for commit in commits {
            // A commit or tree that is missing is a history that is cut off; the tip itself was
            // read before, so a repository that is simply broken has failed by now.
            let Ok(commit) = commit else {
                known.whole = false;
                break;
            };
            if cut.contains(&commit) {
                known.whole = false;
            }
            let tree = self.tree_of(commit)?;
            let fresh = &mut known.fresh;
            let visited = self.visit_tree(
                tree,
                scope,
                &mut |folder, id| seen.insert((folder.to_vec(), id)),
                &mut |path, entry| {
                    fresh.insert(key(&path, entry));
                },
            );
            if visited.is_err() {
                known.whole = false;
            }
            progress.step(1);
        }
        Ok(())
    }

    /// Keeps what was read, for the next time. A partial history is not kept.
    pub fn save_once_canonical(&self, disk: &Disk<'_>, known: &OnceCanonical) -> Result<()> {
        if known.is_kept || !known.whole {
            return Ok(());
        }
        let mut keys: Vec<Key> = known.kept.clone();
        keys.extend(known.fresh.iter().copied());
        keys.sort_unstable();
        keys.dedup();
        let flat = keys.as_flattened();
        let sum = digest::of_parts([known.tip.as_slice(), &known.rules[..], flat]);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(sum);
        bytes.extend(known.rules);
        bytes.push(u8::try_from(known.tip.as_slice().len()).expect("because ids are short"));
        bytes.extend(known.tip.as_slice());
        bytes.extend(flat);
        let path = self.once_canonical_file();
        disk.write_whole(&path, &bytes)
            .unable(|| format!("the cache `{}` cannot be written", path.display()))
    }

    /// The tip and the keys of the file, if it is whole and of these rules.
    fn read_kept(&self, rules: Digest) -> Option<(Id, Vec<Key>)> {
        let bytes = std::fs::read(self.once_canonical_file()).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (sum, rest) = rest.split_at_checked(32)?;
        let (of, rest) = rest.split_at_checked(32)?;
        let (length, rest) = rest.split_first()?;
        let (tip, flat) = rest.split_at_checked(usize::from(*length))?;
        let (keys, left) = flat.as_chunks::<16>();
        let sound = of == rules
            && left.is_empty()
            && tip.len() == self.git.object_hash().len_in_bytes()
            && sum == digest::of_parts([tip, of, flat]);
        sound.then(|| (Id::from_bytes_or_panic(tip), keys.to_vec()))
    }
}

fn key(path: &RepoPath, entry: Entry) -> Key {
    let digest =
        digest::of_parts([path.as_bytes(), entry.mode.octal().as_bytes(), entry.id.as_slice()]);
    digest[..16].try_into().expect("because 16 bytes of 32 are 16 bytes")
}
