//! A signed bundle: the passes of one run, and the keys of passes that turned out not to hold.
//!
//! Guarantee: a [`VerifiedBundle`] was signed by the signer whom it names, who is on the list, and nothing of it was
//! changed since. Whether a pass in it still counts is decided by [`ResultIndex`].
//!
//! ```text
//! {"schema":"xtask.results/1","signer":"ci@example.com","commit":"1f3…","at":1764452000,"passes":[…],"revoked":[]}
//! -----BEGIN SSH SIGNATURE-----
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::signature::{self, Signer};
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;

/// The name and version of the format.
pub const BUNDLE_SCHEMA: &str = "xtask.results/1";

/// The largest bundle in bytes: some 3,000 passes.
pub const MAX_BUNDLE_BYTES: usize = 512 << 10;

/// How far ahead the clock of a signer may be, in seconds.
const MAX_CLOCK_SKEW_S: i64 = 600;

/// One pass in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledPass {
    /// The name of the check.
    pub check: String,
    /// The shared key of the state that passed: SHA-256 in hexadecimal.
    pub key: String,
    pub duration_ms: u64,
}

/// The signed content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultBundle {
    pub schema: String,
    /// The name of the signer.
    pub signer: String,
    /// The commit that was checked out.
    pub commit: String,
    /// The time of signing, in seconds since the epoch.
    pub at: i64,
    pub passes: Vec<BundledPass>,
    /// The keys of passes that did not hold when the check ran again.
    pub revoked: Vec<String>,
}

/// A bundle whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBundle(ResultBundle);

impl VerifiedBundle {
    #[must_use]
    pub fn content(&self) -> &ResultBundle {
        &self.0
    }
}

/// Signs a bundle with the private key in the file `key`. Returns the bytes to store.
pub fn sign_bundle(
    world: &Environment,
    key: &std::path::Path,
    bundle: &ResultBundle,
) -> Result<Vec<u8>> {
    let mut text = serde_json::to_string(bundle)
        .map_err(|cause| Error::unable("cannot encode the results").with_cause(cause))?;
    text.push('\n');
    let signature = signature::sign(world, key, text.as_bytes())?;
    text.push_str(&signature);
    if text.len() > MAX_BUNDLE_BYTES {
        return Err(Error::unable(format!(
            "the results of this run take more than {} KiB",
            MAX_BUNDLE_BYTES >> 10
        )));
    }
    Ok(text.into_bytes())
}

/// A bundle that was read and not verified: what it would say.
pub struct ClaimedBundle {
    bytes: Vec<u8>,
    content: ResultBundle,
}

impl ClaimedBundle {
    /// Parses the bytes of a bundle. Returns why it does not count.
    pub fn parse(bytes: Vec<u8>) -> Result<ClaimedBundle, String> {
        let content = parse_content(&bytes)?.1;
        Ok(ClaimedBundle { bytes, content })
    }

    /// The SHA-256 of the bundle, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        digest::to_hex(&digest::hash_bytes(&self.bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For a bundle that was verified before.
    pub(crate) fn verified_before(&self) -> VerifiedBundle {
        VerifiedBundle(self.content.clone())
    }

    /// The time of signing, as it says.
    #[must_use]
    pub fn at(&self) -> i64 {
        self.content.at
    }

    /// The keys of which it says anything.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let passes = self.content.passes.iter().map(|pass| pass.key.as_str());
        passes.chain(self.content.revoked.iter().map(String::as_str))
    }

    /// Verifies the signature. Returns why it does not count.
    pub fn verify(
        &self,
        world: &Environment,
        disk: &Disk<'_>,
        signers: &[Signer],
    ) -> Result<VerifiedBundle, String> {
        verify_bundle(world, disk, signers, &self.bytes)
    }
}

/// Returns the signed line, what it says, and the signature.
fn parse_content(bytes: &[u8]) -> Result<(&str, ResultBundle, &str), String> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err("it is too large".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let end = text.find('\n').ok_or("it is truncated")?;
    let (message, signature) = text.split_at(end + 1);
    let bundle: ResultBundle =
        serde_json::from_str(message).map_err(|cause| format!("it cannot be parsed: {cause}"))?;
    if bundle.schema != BUNDLE_SCHEMA {
        return Err(format!("its format is `{}`, not `{BUNDLE_SCHEMA}`", bundle.schema));
    }
    Ok((message, bundle, signature))
}

/// Verifies the bytes of a bundle against the signers. Returns why it does not count.
pub fn verify_bundle(
    world: &Environment,
    disk: &Disk<'_>,
    signers: &[Signer],
    bytes: &[u8],
) -> Result<VerifiedBundle, String> {
    let (message, bundle, signature) = parse_content(bytes)?;
    let name = &bundle.signer;
    // A signer may have several keys, each on a line of its own.
    let mut known = signers.iter().filter(|signer| signer.name == *name).peekable();
    if known.peek().is_none() {
        return Err(format!("`{name}` is not one of the signers"));
    }
    for signer in known {
        match signature::is_signed_by(world, disk, signer, message.as_bytes(), signature) {
            Ok(true) => return Ok(VerifiedBundle(bundle)),
            Ok(false) => {}
            Err(failure) => return Err(failure.to_string()),
        }
    }
    Err(format!("its signature is not one of `{name}`"))
}

/// Who says that a state passed, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPass {
    pub check: String,
    pub signer: String,
    pub commit: String,
    /// In seconds since the epoch.
    pub at: i64,
    pub duration_ms: u64,
}

/// The passes of verified bundles that count now, by key.
#[derive(Debug, Default)]
pub struct ResultIndex {
    passes: BTreeMap<String, TrustedPass>,
    /// The time of the newest revocation of a key.
    revoked: BTreeMap<String, i64>,
}

impl ResultIndex {
    /// Adds the passes and revocations of a bundle. Passes from the future are left out, with the reason as an error;
    /// revocations count whatever the clock of the signer says.
    pub fn add_bundle(&mut self, bundle: &VerifiedBundle, now_s: i64) -> Result<(), String> {
        let bundle = &bundle.0;
        for key in &bundle.revoked {
            let at = self.revoked.entry(key.clone()).or_insert(bundle.at);
            *at = bundle.at.max(*at);
        }
        if bundle.at > now_s + MAX_CLOCK_SKEW_S {
            return Err(format!(
                "signed {} s in the future by `{}`: is a clock wrong?",
                bundle.at - now_s,
                bundle.signer
            ));
        }
        for pass in &bundle.passes {
            let is_newer = self.passes.get(&pass.key).is_none_or(|known| known.at < bundle.at);
            if is_newer {
                let trusted = TrustedPass {
                    check: pass.check.clone(),
                    signer: bundle.signer.clone(),
                    commit: bundle.commit.clone(),
                    at: bundle.at,
                    duration_ms: pass.duration_ms,
                };
                self.passes.insert(pass.key.clone(), trusted);
            }
        }
        Ok(())
    }

    /// Finds the pass of a check in a state. One that is older than `max_age_s`, or not newer than a revocation of its
    /// key, does not count.
    #[must_use]
    pub fn find_pass(
        &self,
        check: &str,
        key: &str,
        now_s: i64,
        max_age_s: u64,
    ) -> Option<&TrustedPass> {
        let pass = self.passes.get(key).filter(|pass| pass.check == check)?;
        let is_revoked = self.revoked.get(key).is_some_and(|at| pass.at <= *at);
        let age = u64::try_from(now_s - pass.at).unwrap_or(0);
        (!is_revoked && age <= max_age_s).then_some(pass)
    }

    /// The keys that were revoked, with the times.
    #[must_use]
    pub fn revocations(&self) -> &BTreeMap<String, i64> {
        &self.revoked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(at: i64, passes: &[(&str, &str)], revoked: &[&str]) -> VerifiedBundle {
        let pass = |(check, key): &(&str, &str)| BundledPass {
            check: (*check).to_owned(),
            key: (*key).to_owned(),
            duration_ms: 1,
        };
        VerifiedBundle(ResultBundle {
            schema: BUNDLE_SCHEMA.to_owned(),
            signer: "ci".to_owned(),
            commit: "c".to_owned(),
            at,
            passes: passes.iter().map(pass).collect(),
            revoked: revoked.iter().map(|key| (*key).to_owned()).collect(),
        })
    }

    #[test]
    fn a_pass_counts_for_its_check_and_key_until_it_is_old_or_revoked() {
        let mut index = ResultIndex::default();
        index.add_bundle(&bundle(100, &[("lint", "k1"), ("unit", "k2")], &[]), 1000).unwrap();
        let find = |index: &ResultIndex, check: &str, key: &str| {
            index.find_pass(check, key, 1000, 900).map(|pass| pass.at)
        };
        assert_eq!(find(&index, "lint", "k1"), Some(100));
        assert_eq!(find(&index, "unit", "k1"), None, "the key of another check");
        assert_eq!(find(&index, "lint", "k3"), None);
        assert!(index.find_pass("lint", "k1", 1001, 900).is_none(), "too old");
        // A revocation counts in whatever order bundles come, and against an older pass that is replayed.
        index.add_bundle(&bundle(200, &[], &["k1"]), 1000).unwrap();
        index.add_bundle(&bundle(150, &[("lint", "k1")], &[]), 1000).unwrap();
        assert_eq!(find(&index, "lint", "k1"), None);
        index.add_bundle(&bundle(300, &[("lint", "k1")], &[]), 1000).unwrap();
        assert_eq!(find(&index, "lint", "k1"), Some(300), "it passed again since");
    }

    #[test]
    fn a_bundle_from_the_future_is_left_out() {
        let mut index = ResultIndex::default();
        let why = index.add_bundle(&bundle(90_000, &[("lint", "k")], &[]), 1000).unwrap_err();
        assert!(why.contains("in the future"), "{why}");
        assert!(index.find_pass("lint", "k", 90_001, 900).is_none());
        // Some minutes are the usual difference of two clocks.
        index.add_bundle(&bundle(1500, &[("lint", "k")], &[]), 1000).unwrap();
        assert!(index.find_pass("lint", "k", 1000, 900).is_some());
        // A signer whose clock is wrong has revoked it all the same.
        index.add_bundle(&bundle(90_000, &[], &["k"]), 1000).unwrap_err();
        assert!(index.find_pass("lint", "k", 1000, 900).is_none());
    }
}
