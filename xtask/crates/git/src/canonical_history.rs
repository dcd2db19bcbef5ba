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

use super::{Id, PathScope, Repo, TreeEntry};
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;

/// The first line of the file, with its version.
const MAGIC: &[u8] = b"xtask.once-canonical/1\n";

/// Sixteen bytes of a SHA-256 over path, mode and id: chance collisions are out of reach.
type ContentKey = [u8; 16];

/// What is known about a content at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EverCanonical {
    /// It has stood there.
    Once,
    /// It has never stood there.
    Never,
    /// It is not in the part of the history that is here, and the rest is missing.
    Unknown,
}

/// All contents that were ever canonical.
pub struct CanonicalHistory {
    tip: Id,
    rules: Digest,
    cached_keys: Vec<ContentKey>,
    new_keys: HashSet<ContentKey>,
    is_complete: bool,
    is_cached: bool,
}

impl CanonicalHistory {
    /// Whether this content has stood at this path.
    #[must_use]
    pub fn was_canonical(&self, path: &RepoPath, entry: TreeEntry) -> EverCanonical {
        let key = content_key(path, entry);
        if self.new_keys.contains(&key) || self.cached_keys.binary_search(&key).is_ok() {
            EverCanonical::Once
        } else if self.is_complete {
            EverCanonical::Never
        } else {
            EverCanonical::Unknown
        }
    }

    /// Whether the whole history is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl Repo {
    fn canonical_history_file(&self) -> PathBuf {
        self.shared_state_folder().join("once-canonical")
    }

    /// Reads the history of `tip` as far as it is not known yet. `rules` stands for `scope`.
    pub fn read_canonical_history(
        &self,
        tip: Id,
        scope: &dyn PathScope,
        rules: Digest,
        progress: &dyn Progress,
    ) -> Result<CanonicalHistory> {
        let mut known = CanonicalHistory {
            tip,
            rules,
            cached_keys: Vec::new(),
            new_keys: HashSet::new(),
            is_complete: true,
            is_cached: false,
        };
        let mut since = None;
        if let Some((old, keys)) = self.read_history_cache(rules) {
            if old == tip {
                known.cached_keys = keys;
                known.is_cached = true;
                return Ok(known);
            }
            if self.is_ancestor(old, tip).unwrap_or(false) {
                known.cached_keys = keys;
                since = Some(old);
            }
        }
        progress.begin_task("reading the canonical history", None);
        let read = self.walk_history(&mut known, since, scope, progress);
        progress.end_task();
        read?;
        Ok(known)
    }

    fn walk_history(
        &self,
        known: &mut CanonicalHistory,
        since: Option<Id>,
        scope: &dyn PathScope,
        progress: &dyn Progress,
    ) -> Result<()> {
        let cut: HashSet<Id> = match self.git.shallow_commits() {
            Ok(Some(commits)) => commits.iter().copied().collect(),
            _ => HashSet::new(),
        };
        let failed = || format!("the history of `{}` cannot be read", known.tip);
        // A walk that comes to its end is made by git, where the library cannot; else as far as it goes.
        let whole = self.commits_beyond(&Vec::from_iter(since), known.tip);
        let commits: Box<dyn Iterator<Item = Result<Id>>> = match whole {
            Ok(all) => Box::new(all.into_iter().map(Ok)),
            Err(_) => {
                let walk =
                    self.git.rev_walk([known.tip]).with_hidden(since).all().with_context(failed)?;
                Box::new(
                    walk.map(move |commit| Ok(commit.with_context(|| "a commit is missing")?.id)),
                )
            }
        };
        if self.is_partial() {
            let all = self.commits_beyond(&Vec::from_iter(since), known.tip).unwrap_or_default();
            // What cannot be brought is a history that is cut off.
            self.fetch_trees(all.into_iter().filter_map(|id| self.tree_of(id).ok())).ok();
        }
        let mut seen: HashSet<(Vec<u8>, Id)> = HashSet::new();
        for commit in commits {
            // A commit or tree that is missing is a history that is cut off; the tip itself was
            // read before, so a repository that is simply broken has failed by now.
            let Ok(commit) = commit else {
                known.is_complete = false;
                break;
            };
            if cut.contains(&commit) {
                known.is_complete = false;
            }
            let tree = self.tree_of(commit)?;
            let fresh = &mut known.new_keys;
            let visited = self.visit_tree(
                tree,
                scope,
                &mut |folder, id| seen.insert((folder.to_vec(), id)),
                &mut |path, entry| {
                    fresh.insert(content_key(&path, entry));
                },
            );
            if visited.is_err() {
                known.is_complete = false;
            }
            progress.advance(1);
        }
        Ok(())
    }

    /// Keeps what was read, for the next time. A partial history is not kept.
    pub fn write_canonical_history(&self, disk: &Disk<'_>, known: &CanonicalHistory) -> Result<()> {
        if known.is_cached || !known.is_complete {
            return Ok(());
        }
        let mut keys: Vec<ContentKey> = known.cached_keys.clone();
        keys.extend(known.new_keys.iter().copied());
        keys.sort_unstable();
        keys.dedup();
        let flat = keys.as_flattened();
        let sum = digest::hash_parts([known.tip.as_slice(), &known.rules[..], flat]);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(sum);
        bytes.extend(known.rules);
        bytes.push(u8::try_from(known.tip.as_slice().len()).expect("because ids are short"));
        bytes.extend(known.tip.as_slice());
        bytes.extend(flat);
        let path = self.canonical_history_file();
        disk.write_atomically(&path, &bytes)
            .with_context(|| format!("the cache `{}` cannot be written", path.display()))
    }

    /// The tip and the keys of the file, if it is whole and of these rules.
    fn read_history_cache(&self, rules: Digest) -> Option<(Id, Vec<ContentKey>)> {
        let bytes = std::fs::read(self.canonical_history_file()).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (sum, rest) = rest.split_at_checked(32)?;
        let (of, rest) = rest.split_at_checked(32)?;
        let (length, rest) = rest.split_first()?;
        let (tip, flat) = rest.split_at_checked(usize::from(*length))?;
        let (keys, left) = flat.as_chunks::<16>();
        let sound = of == rules
            && left.is_empty()
            && tip.len() == self.git.object_hash().len_in_bytes()
            && sum == digest::hash_parts([tip, of, flat]);
        sound.then(|| (Id::from_bytes_or_panic(tip), keys.to_vec()))
    }
}

fn content_key(path: &RepoPath, entry: TreeEntry) -> ContentKey {
    let digest =
        digest::hash_parts([path.as_bytes(), entry.mode.octal().as_bytes(), entry.id.as_slice()]);
    digest[..16].try_into().expect("because 16 bytes of 32 are 16 bytes")
}
