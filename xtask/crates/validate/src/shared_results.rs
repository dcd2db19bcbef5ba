//! Passes of other machines: which of them count here, and which this run gives to others.
//!
//! Guarantee: a pass counts only for the very state of this machine, and only if a signer whom the canonical commit
//! names has signed it; a later revocation of its key ends that. Whatever the place of results answers, the run goes on.
//!
//! ```text
//! key 9f86… -> "passed 3 hours ago, says `ci@example.com` of commit 1f3a2b4"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::session::state_folder;
use super::shared_key::MachineIdentity;
use xtask_base::environment::{Environment, format_ago};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::words::pluralize;
use xtask_config::{ShareConfig, SharePlace};
use xtask_git::{Repo, Tools};
use xtask_share::bundle::{
    BUNDLE_SCHEMA, BundledPass, ClaimedBundle, ResultBundle, ResultIndex, TrustedPass, sign_bundle,
};
use xtask_share::bundle_cache::BundleCache;
use xtask_share::git_store;
use xtask_share::http_store::HttpStore;
use xtask_share::signature::{Signer, read_public_key};

/// The variable with the file of the private key by which a machine signs its passes.
pub const KEY_VARIABLE: &str = "XTASK_SHARE_KEY";

/// The most bundles whose signatures are verified in a run, each by a process.
const MAX_VERIFIED: usize = 50;

/// How long nobody asks for results after the place of them was out of reach, in seconds.
const PAUSE_S: i64 = 300;

/// What a warning says of that.
const PAUSE_WORDS: &str = "not asked again for 5 minutes (`--no-share` leaves it alone)";

/// How long an answer counts, in seconds: a revocation is seen this much later.
const ANSWER_S: i64 = 60;

/// The length of a shown commit.
const SHORT_COMMIT: usize = 7;

/// Access to the results of other machines.
pub struct SharedResults<'a> {
    repo: &'a Repo,
    world: &'a Environment,
    disk: &'a Disk<'a>,
    config: ShareConfig,
    signers: Vec<Signer>,
    remote: String,
    /// The private key, if this machine signs.
    key: Option<PathBuf>,
    pub(super) machine: MachineIdentity,
}

/// What bundles say that are signed.
#[derive(Default)]
struct BelievedBundles {
    index: ResultIndex,
    /// The SHA-256 of each.
    hashes: Vec<String>,
    /// Why others do not count.
    passed_over: Vec<String>,
}

/// What was said of some keys a moment ago.
#[derive(Serialize, Deserialize)]
struct RememberedAnswer {
    /// In seconds since the epoch.
    at: i64,
    place: String,
    keys: BTreeSet<String>,
    /// The SHA-256 of the bundles that were verified.
    bundles: Vec<String>,
}

/// What a run gives to other machines.
#[derive(Debug, Default)]
pub struct RunResults {
    pub passes: Vec<BundledPass>,
    /// The keys of shared passes that did not hold.
    pub revoked: Vec<String>,
    /// The time of the newest of them, in seconds since the epoch, by the clock of its signer.
    pub newest_revoked: i64,
}

impl<'a> SharedResults<'a> {
    /// Prepares the access. `config` is that of the canonical commit, `remote` the remote that has it. Returns an error
    /// if a signer is not valid.
    pub fn new(
        repo: &'a Repo,
        tools: &Tools<'a>,
        config: &ShareConfig,
        remote: &str,
    ) -> Result<SharedResults<'a>> {
        let signers = parse_signers(config)?;
        let key = tools.world.variable(KEY_VARIABLE).filter(|path| !path.is_empty());
        Ok(SharedResults {
            repo,
            world: tools.world,
            disk: tools.disk,
            config: config.clone(),
            signers,
            remote: remote.to_owned(),
            key: key.map(|path| tools.world.cwd.join(path)),
            machine: MachineIdentity::read(),
        })
    }

    /// Fetches what is said of these keys, and keeps what is signed. Returns warnings about all else. What was fetched for
    /// the same keys a moment ago is not asked for again, except on CI.
    pub(super) fn fetch(&self, keys: &[String]) -> (ResultIndex, Vec<String>) {
        if self.is_pausing() {
            return (ResultIndex::default(), Vec::new());
        }
        let folder = state_folder(self.repo).join("bundles");
        let cache = BundleCache::new(self.world, self.disk, folder, &self.signers);
        let remembered = self.read_answer(keys, &cache);
        let is_new = remembered.is_none();
        let fetched = remembered
            .map_or_else(|| self.fetch_bundles(keys, &cache), |bundles| Ok((bundles, Vec::new())));
        let (bundles, mut warnings) = match fetched {
            Ok(fetched) => fetched,
            Err(failure) => {
                let cause = failure.details().first().and_then(|text| text.lines().next());
                let cause = cause.map(|cause| format!(" ({})", cause.trim())).unwrap_or_default();
                self.pause();
                let warning = format!("no shared results: {failure}{cause}; {PAUSE_WORDS}");
                return (ResultIndex::default(), vec![warning]);
            }
        };
        let believed = self.verify_bundles(keys, bundles, &cache);
        if let Some(first) = believed.passed_over.first() {
            warnings.push(format!(
                "{} of shared results passed over: {first}",
                pluralize(believed.passed_over.len(), "bundle")
            ));
        }
        if is_new && warnings.is_empty() {
            self.keep_answer(keys, &cache, believed.hashes);
        }
        (believed.index, warnings)
    }

    /// Verifies bundles, the newest first, until all keys are decided.
    fn verify_bundles(
        &self,
        keys: &[String],
        bundles: Vec<Vec<u8>>,
        cache: &BundleCache<'_>,
    ) -> BelievedBundles {
        let mut believed = BelievedBundles::default();
        let wanted: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let mut claims = Vec::new();
        for bundle in bundles {
            match ClaimedBundle::parse(bundle) {
                Ok(claim) if claim.keys().any(|key| wanted.contains(key)) => claims.push(claim),
                Ok(_) => {}
                Err(why) => believed.passed_over.push(why),
            }
        }
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.at()));
        let mut decided: BTreeMap<String, i64> = BTreeMap::new();
        let now = self.world.now_seconds();
        let mut verified = 0;
        for claim in &claims {
            let mut open = claim.keys().filter(|key| wanted.contains(key));
            if !open.any(|key| decided.get(key).is_none_or(|at| *at == claim.at())) {
                continue;
            }
            if verified == MAX_VERIFIED {
                break;
            }
            verified += 1;
            let added =
                cache.verify(claim).and_then(|bundle| believed.index.add_bundle(&bundle, now));
            match added {
                Ok(()) => {
                    believed.hashes.push(claim.hash());
                    for key in claim.keys().filter(|key| wanted.contains(key)) {
                        decided.entry(key.to_owned()).or_insert(claim.at());
                    }
                }
                Err(why) => believed.passed_over.push(why),
            }
        }
        believed
    }

    /// Returns the bundles of the last answer, if it is new and has all these keys.
    fn read_answer(&self, keys: &[String], cache: &BundleCache<'_>) -> Option<Vec<Vec<u8>>> {
        if self.world.is_truthy("CI") || self.is_signing() {
            return None;
        }
        let text = std::fs::read(self.answer_file()).ok()?;
        let answer: RememberedAnswer = serde_json::from_slice(&text).ok()?;
        let age = self.world.now_seconds() - answer.at;
        let is_same = answer.place == self.describe_place(cache);
        let has_all = || keys.iter().all(|key| answer.keys.contains(key));
        if !(0..ANSWER_S).contains(&age) || !is_same || !has_all() {
            return None;
        }
        answer.bundles.iter().map(|hash| cache.read(hash)).collect()
    }

    /// Keeps an answer. Without it, the next run asks again.
    fn keep_answer(&self, keys: &[String], cache: &BundleCache<'_>, bundles: Vec<String>) {
        let answer = RememberedAnswer {
            at: self.world.now_seconds(),
            place: self.describe_place(cache),
            keys: keys.iter().cloned().collect(),
            bundles,
        };
        let Ok(text) = serde_json::to_vec(&answer) else { return };
        let file = self.answer_file();
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.and_then(|()| self.disk.write_atomically(&file, &text)).ok();
    }

    fn answer_file(&self) -> PathBuf {
        state_folder(self.repo).join("share-answer")
    }

    /// Tells the place of results, and whose count, from others.
    fn describe_place(&self, cache: &BundleCache<'_>) -> String {
        format!("{:?} {} {}", self.config.place, self.remote, cache.signers())
    }

    /// Whether the place of results was out of reach a moment ago. Who is offline does not wait for it in each run.
    #[must_use]
    pub(super) fn is_pausing(&self) -> bool {
        let asked = std::fs::symlink_metadata(self.pause_file()).and_then(|meta| meta.modified());
        let now = self.world.now_seconds();
        let at = asked.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        at.and_then(|at| i64::try_from(at.as_secs()).ok())
            .is_some_and(|at| (0..PAUSE_S).contains(&(now - at)))
    }

    fn pause(&self) {
        let file = self.pause_file();
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        // Without the file, the next run asks again.
        folder.and_then(|()| self.disk.write_into(&file, b"out of reach\n")).ok();
    }

    fn pause_file(&self) -> PathBuf {
        state_folder(self.repo).join("share-pause")
    }

    fn fetch_bundles(
        &self,
        keys: &[String],
        cache: &BundleCache<'_>,
    ) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
        match &self.config.place {
            SharePlace::Git => git_store::fetch_bundles(self.repo, &self.remote),
            SharePlace::Http(url) => {
                self.http_store(url).fetch_bundles(keys, &|hash| cache.read(hash))
            }
        }
    }

    fn http_store(&self, url: &str) -> HttpStore<'_> {
        let token = self.config.token.as_deref().and_then(|name| self.world.variable(name));
        // A file that has it often ends with a line break.
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        HttpStore { world: self.world, disk: self.disk, url: url.to_owned(), token }
    }

    /// The longest age of a pass of a check, in seconds.
    pub(super) fn max_age_s(&self, ttl_s: Option<u64>) -> u64 {
        ttl_s.map_or(self.config.max_age_s, |ttl| ttl.min(self.config.max_age_s))
    }

    /// Whether this run runs a check although a shared pass of it counts: on CI, one of as many as `recheck` says.
    pub(super) fn is_rechecked(&self, run: &str, key: &str) -> bool {
        let digest = xtask_base::digest::hash_parts([run.as_bytes(), key.as_bytes()]);
        let number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        self.world.is_truthy("CI") && number.checked_rem(self.config.recheck) == Some(0)
    }

    /// Whether this machine signs what passes here.
    #[must_use]
    pub fn is_signing(&self) -> bool {
        self.key.is_some()
    }

    /// Signs the results of a run and gives them to others.
    pub fn publish(&self, commit: &str, results: RunResults) -> Result<()> {
        let RunResults { passes, revoked, newest_revoked } = results;
        let Some(key) = self.key.as_deref().filter(|_| !passes.is_empty() || !revoked.is_empty())
        else {
            return Ok(());
        };
        let signer = self.find_signer(key)?;
        // A revocation ends passes that are not newer, also if the clock of their signer is ahead.
        let at = self.world.now_seconds().max(newest_revoked);
        let keys: Vec<String> =
            passes.iter().map(|pass| pass.key.clone()).chain(revoked.iter().cloned()).collect();
        let bundle = ResultBundle {
            schema: BUNDLE_SCHEMA.to_owned(),
            signer: signer.name.clone(),
            commit: commit.to_owned(),
            at,
            passes,
            revoked,
        };
        let bytes = sign_bundle(self.world, key, &bundle)?;
        match &self.config.place {
            SharePlace::Git => git_store::publish_bundle(self.repo, &self.remote, &bytes, at),
            SharePlace::Http(url) => self.http_store(url).publish_bundle(&bytes, &keys),
        }
    }

    /// Finds the signer whose key this is.
    fn find_signer(&self, key: &Path) -> Result<&Signer> {
        let public = read_public_key(self.world, key)?;
        self.signers.iter().find(|signer| signer.has_public_key(&public)).ok_or_else(|| {
            Error::unable(format!("the key `{}` is not one of `share.signers`", key.display()))
                .with_hint("add `NAME TYPE KEY` of it to `[share]` on the canonical branch")
        })
    }
}

/// Parses the signers of a configuration. Returns an error if one is not valid.
pub fn parse_signers(config: &ShareConfig) -> Result<Vec<Signer>> {
    let signers = config.signers.iter().map(|line| Signer::parse(line));
    signers
        .collect::<Result<Vec<Signer>, String>>()
        .map_err(|why| Error::usage("`share.signers` is not valid").with_detail(why))
}

/// Says who vouches for a pass.
pub(super) fn describe_pass(pass: &TrustedPass, now: i64) -> String {
    let commit = pass.commit.get(..SHORT_COMMIT).unwrap_or(&pass.commit);
    format!("passed {} at commit {commit}, says `{}`", format_ago(now, pass.at), pass.signer)
}
