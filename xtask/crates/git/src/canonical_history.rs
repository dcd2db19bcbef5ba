//! Contents that were once canonical: whether a path had a given content in any commit of the
//! canonical branch.
//!
//! The history is every commit reachable from the canonical tip. Each folder is read once, however
//! many commits share it. The result is cached in the common git folder, keyed by tip and managed
//! rules; if the tip has advanced, only the new commits are read. `read_canonical_history` never
//! writes the file, `write_canonical_history` does. A damaged file, or one of a newer xtask, counts
//! as missing and is replaced.
//!
//! In a shallow or partial clone, contents that were not found are `Unknown`, not `Never`, and the
//! cache is not written.
//!
//! ```text
//! was_canonical("setup/a", 100644 1a2b…) -> Once
//! ```

use std::collections::HashSet;
use std::path::PathBuf;

use super::{Id, PathScope, Repo, TreeEntry};
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;

/// First line of the file, with the format version.
const MAGIC: &[u8] = b"xtask.once-canonical/1\n";

/// The first 16 bytes of a SHA-256 over path, mode and id: too long for accidental collisions.
type ContentKey = [u8; 16];

/// Whether a content was ever canonical at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EverCanonical {
    Once,
    Never,
    /// Not found, and part of the history is missing.
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
    /// Returns whether the canonical branch ever had this content at `path`.
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

    /// Returns whether no part of the history is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl Repo {
    fn canonical_history_file(&self) -> PathBuf {
        self.shared_state_folder().join("once-canonical")
    }

    /// Reads the history of `tip`, starting from the cache. `rules` is the digest of `scope`.
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
        let failed = || format!("cannot read the history of `{}`", known.tip);
        // The complete walk falls back to git for commits that gix rejects; if both fail, gix walks
        // as far as possible.
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
            // A failed fetch counts as missing history.
            self.fetch_trees(all.into_iter().filter_map(|id| self.tree_of(id).ok())).ok();
        }
        let mut seen: HashSet<(Vec<u8>, Id)> = HashSet::new();
        for commit in commits {
            // A missing commit or tree counts as missing history. The tip was read before, so a
            // corrupt repository has failed by now.
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

    /// Writes the cache. An incomplete history is not cached.
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
            .with_context(|| format!("cannot write the cache `{}`", path.display()))
    }

    /// Reads tip and keys; `None` if the file is missing, damaged or made for other rules.
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
