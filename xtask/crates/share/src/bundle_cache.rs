//! Bundles that were verified before, so that they are neither fetched nor verified again.
//!
//! Guarantee: a file counts only if its content has the digest in its name, and it was verified against exactly the
//! present signers. The folder belongs to the clone, as its own passes do.
//!
//! ```text
//! validate/bundles/9f86d081…-60303ae2    SHA-256 of the bundle - digest of the signers
//! ```

use std::path::PathBuf;

use crate::bundle::{ClaimedBundle, MAX_BUNDLE_BYTES, VerifiedBundle};
use crate::signature::Signer;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::files::Disk;

/// The most bundles that are kept.
const MAX_KEPT: usize = 100;

/// The bundles that were verified against some signers.
pub struct BundleCache<'a> {
    world: &'a Environment,
    disk: &'a Disk<'a>,
    folder: PathBuf,
    signers: &'a [Signer],
    suffix: String,
}

impl<'a> BundleCache<'a> {
    #[must_use]
    pub fn new(
        world: &'a Environment,
        disk: &'a Disk<'a>,
        folder: PathBuf,
        signers: &'a [Signer],
    ) -> BundleCache<'a> {
        let lines: Vec<String> = signers.iter().map(Signer::to_line).collect();
        let digest = digest::hash_parts(lines.iter().map(String::as_bytes));
        let suffix = digest::to_hex(&digest[..16]);
        BundleCache { world, disk, folder, signers, suffix }
    }

    /// The digest of the signers, which tells one list of them from another.
    #[must_use]
    pub fn signers(&self) -> &str {
        &self.suffix
    }

    fn file(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}-{}", self.suffix))
    }

    /// Returns the bundle with this SHA-256, if it was verified.
    #[must_use]
    pub fn read(&self, hash: &str) -> Option<Vec<u8>> {
        let file = self.file(hash);
        // Reading a FIFO would block.
        let meta = std::fs::symlink_metadata(&file).ok()?;
        if !meta.is_file() || meta.len() > MAX_BUNDLE_BYTES as u64 {
            return None;
        }
        let bytes = std::fs::read(file).ok()?;
        (digest::to_hex(&digest::hash_bytes(&bytes)) == hash).then_some(bytes)
    }

    /// Verifies a bundle, or finds that it was. Returns why it does not count.
    pub fn verify(&self, claim: &ClaimedBundle) -> Result<VerifiedBundle, String> {
        let hash = claim.hash();
        if self.read(&hash).is_some() {
            return Ok(claim.verified_before());
        }
        let verified = claim.verify(self.world, self.disk, self.signers)?;
        self.keep(&hash, claim.bytes());
        Ok(verified)
    }

    /// Keeps a bundle. Whether that works makes no difference but of time.
    fn keep(&self, hash: &str, bytes: &[u8]) {
        if std::fs::create_dir_all(&self.folder).is_err() {
            return;
        }
        let mut kept: Vec<_> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort();
        let surplus = (kept.len() + 1).saturating_sub(MAX_KEPT);
        for (_, file) in kept.iter().take(surplus) {
            self.disk.remove_file(file).ok();
        }
        self.disk.write_atomically(&self.file(hash), bytes).ok();
    }
}
