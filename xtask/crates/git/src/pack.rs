//! Packs: collecting new objects in memory, and writing them at once by `git index-pack`.
//!
//! Writing a file per object would dominate the time of a run over hundreds of branches.
//!
//! ```text
//! "PACK", version 2, number of objects, entries (kind and size, deflated content), checksum
//! ```

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use gix::objs::Kind;
use gix::zlib::Compression;
use gix::zlib::stream::deflate;

use super::local_git::require_success;
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt as _};

/// Up to this number, objects are written one by one, as git does after a fetch
/// (`fetch.unpackLimit`).
const UNPACK_LIMIT: usize = 100;

/// The fastest deflate level that helps, since `git gc` packs the objects again.
const COMPRESSION_LEVEL: i32 = 1;

/// Objects to be written. Threads may add to it concurrently.
#[derive(Default)]
pub struct Pack {
    buffer: Mutex<PackBuffer>,
}

#[derive(Default)]
struct PackBuffer {
    ids: HashSet<Id>,
    /// The uncompressed objects, up to `UNPACK_LIMIT`.
    loose_objects: Vec<(Kind, Vec<u8>)>,
    /// The compressed pack entries.
    pack_entries: Vec<u8>,
}

impl Pack {
    /// Moves the objects of an in-memory repository (`Repo::in_memory`) into the pack.
    pub fn take_from(&self, repo: &Repo) -> Result<()> {
        let Some(objects) = repo.git.objects.reset_object_memory() else { return Ok(()) };
        let mut new = Vec::new();
        for (id, (kind, content)) in objects.iter() {
            new.push((*id, *kind, content.clone(), encode_pack_entry(*kind, content)?));
        }
        let mut gathered = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, kind, content, entry) in new {
            if gathered.ids.insert(id) {
                gathered.pack_entries.extend(entry);
                if gathered.ids.len() <= UNPACK_LIMIT {
                    gathered.loose_objects.push((kind, content));
                }
            }
        }
        Ok(())
    }
}

impl Repo {
    /// Writes all objects of the pack, or returns an error.
    pub fn write_pack(&self, pack: Pack) -> Result<()> {
        let failed = || "cannot write the new objects";
        let gathered = pack.buffer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let PackBuffer { ids, loose_objects: few, pack_entries: entries } = gathered;
        if ids.len() <= UNPACK_LIMIT {
            for (kind, content) in few {
                let id = gix::objs::Write::write_buf(&self.git.objects, kind, &content);
                self.share_object(id.map_err(|cause| Error::unable(failed()).with_cause(cause))?);
            }
            return Ok(());
        }
        let count = u32::try_from(ids.len()).with_context(failed)?;
        let mut bytes = b"PACK\0\0\0\x02".to_vec();
        bytes.extend(count.to_be_bytes());
        bytes.extend(entries);
        let mut sum = gix::hash::hasher(self.git.object_hash());
        sum.update(&bytes);
        let sum = sum.try_finalize().with_context(failed)?;
        bytes.extend_from_slice(sum.as_slice());
        let asked = self.local_git(["index-pack", "--stdin"]).run_with_input(&bytes)?;
        require_success(asked, failed()).map(drop)
    }
}

/// Encodes a pack entry: kind and size (four bits in the first byte, then seven per byte), then the
/// deflated content.
fn encode_pack_entry(kind: Kind, content: &[u8]) -> Result<Vec<u8>> {
    let failed = || "cannot compress an object";
    let number: u8 = match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    };
    let mut size = content.len();
    let low = |size: usize, bits: u32| u8::try_from(size & ((1 << bits) - 1)).unwrap_or_default();
    let mut bytes = vec![number << 4 | low(size, 4)];
    size >>= 4;
    while size > 0 {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push(low(size, 7));
        size >>= 7;
    }
    let level = Compression::new(COMPRESSION_LEVEL).ok_or_else(|| Error::unable(failed()))?;
    let mut writer = deflate::Write::new(bytes, level);
    writer.write_all(content).and_then(|()| writer.flush()).with_context(failed)?;
    Ok(writer.into_inner())
}
