//! Bundles in a cache that speaks Bazel's plain HTTP protocol: `PUT` and `GET` of `/ac/KEY` and `/cas/DIGEST`.
//!
//! bazel-remote, BuildBuddy, NativeLink and an nginx with WebDAV speak it. `curl` does the talking, as it knows the
//! proxies and certificates of the machine; addresses and tokens are passed on its standard input, so that no list of
//! processes shows them. An entry below `/ac/` is an `ActionResult` that names the bundle ([`crate::action_result`]),
//! and the bundle is believed to be the named one only after its digest was computed here.
//!
//! Guarantee: whatever the cache answers, late or wrong, costs [`READ_TIMEOUT_S`] at most and is no failure of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::action_result::{decode_action_result, encode_action_result};
use crate::bundle::MAX_BUNDLE_BYTES;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::process::Program;
use xtask_base::temp_folder::TempFolder;
use xtask_base::words::quote_curl_value;

/// How long all reads of a run may take, in seconds.
pub const READ_TIMEOUT_S: u64 = 5;

/// How long all writes of a run may take, in seconds.
const WRITE_TIMEOUT_S: u64 = 30;

/// The longest time for a connection, in seconds.
const CONNECT_TIMEOUT_S: u64 = 2;

/// How many requests are on the way at once.
const PARALLEL_REQUESTS: usize = 16;

/// The largest entry below `/ac/` that is read, in bytes. Ours have 70; caches add some fields.
const MAX_ENTRY_BYTES: usize = 16 << 10;

/// A cache.
pub struct HttpStore<'a> {
    pub world: &'a Environment,
    pub disk: &'a Disk<'a>,
    /// The address without a slash at its end, e.g. `https://cache.example/xtask`.
    pub url: String,
    /// The token of `Authorization: Bearer`.
    pub token: Option<String>,
}

/// One transfer: the path below the address, and the file to read or write.
struct Transfer {
    path: String,
    file: String,
    is_put: bool,
}

impl HttpStore<'_> {
    /// Fetches the bundles that the cache has for these keys, each once, but those that are `known` here. Returns
    /// warnings about what was passed over.
    pub fn fetch_bundles(
        &self,
        keys: &[String],
        known: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
        if keys.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let folder = TempFolder::new(self.world, "results")?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let gets = keys.iter().map(|key| Transfer {
            path: format!("/ac/{key}"),
            file: file(&format!("ac-{key}")),
            is_put: false,
        });
        let statuses = self.transfer(&folder, &gets.collect::<Vec<_>>(), READ_TIMEOUT_S)?;
        if statuses.values().all(|status| *status == 0) {
            return Err(Error::unable("the cache of results did not answer"));
        }
        let mut warnings = describe_failures(&statuses);
        let mut wanted = BTreeSet::new();
        for key in keys {
            if statuses.get(&format!("/ac/{key}")) != Some(&200) {
                continue;
            }
            let entry = read_bounded(&file(&format!("ac-{key}")), MAX_ENTRY_BYTES);
            match entry.as_deref().and_then(decode_action_result) {
                Some((hash, size)) if size <= MAX_BUNDLE_BYTES as u64 => drop(wanted.insert(hash)),
                _ => warnings
                    .push(format!("the entry of {} in the cache is not a result", short(key))),
            }
        }
        let mut bundles: Vec<Vec<u8>> = Vec::new();
        wanted.retain(|hash| known(hash).map(|bundle| bundles.push(bundle)).is_none());
        let gets = wanted.iter().map(|hash| Transfer {
            path: format!("/cas/{hash}"),
            file: file(&format!("cas-{hash}")),
            is_put: false,
        });
        let statuses = self.transfer(&folder, &gets.collect::<Vec<_>>(), READ_TIMEOUT_S)?;
        warnings.extend(describe_failures(&statuses));
        for hash in wanted {
            if statuses.get(&format!("/cas/{hash}")) != Some(&200) {
                continue;
            }
            match read_bounded(&file(&format!("cas-{hash}")), MAX_BUNDLE_BYTES) {
                Some(bundle) if digest::to_hex(&digest::hash_bytes(&bundle)) == hash => {
                    bundles.push(bundle);
                }
                _ => warnings
                    .push(format!("{} in the cache is not what its name says", short(&hash))),
            }
        }
        Ok((bundles, warnings))
    }

    /// Stores a bundle, and an entry for each of its keys.
    pub fn publish_bundle(&self, bundle: &[u8], keys: &[String]) -> Result<()> {
        let folder = TempFolder::new(self.world, "results")?;
        let hash = digest::to_hex(&digest::hash_bytes(bundle));
        let write = |name: &str, content: &[u8]| -> Result<String> {
            let path = folder.path().join(name);
            let written = self.disk.create_file(&path, content, CreateMode::Plain);
            written.with_context(|| format!("cannot write `{}`", path.display()))?;
            Ok(path.display().to_string())
        };
        let content =
            Transfer { path: format!("/cas/{hash}"), file: write("bundle", bundle)?, is_put: true };
        // The content first: bazel-remote refuses an entry that names a content it has not got.
        self.put(&folder, &[content])?;
        let entry = write("entry", &encode_action_result(&hash, bundle.len() as u64))?;
        let entries = keys.iter().map(|key| Transfer {
            path: format!("/ac/{key}"),
            file: entry.clone(),
            is_put: true,
        });
        self.put(&folder, &entries.collect::<Vec<_>>())
    }

    fn put(&self, folder: &TempFolder, transfers: &[Transfer]) -> Result<()> {
        let statuses = self.transfer(folder, transfers, WRITE_TIMEOUT_S)?;
        let is_stored = |transfer: &Transfer| {
            statuses.get(&transfer.path).is_some_and(|status| (200..300).contains(status))
        };
        let Some(failed) = transfers.iter().find(|transfer| !is_stored(transfer)) else {
            return Ok(());
        };
        let status = statuses.get(&failed.path).copied().unwrap_or(0);
        let kind = failed.path.split('/').nth(1).unwrap_or_default();
        let error = Error::unable(match status {
            0 => "cannot reach the cache of results".to_owned(),
            status => format!("the cache of results answered {status} to a PUT below `/{kind}/`"),
        });
        Err(match status {
            401 | 403 => error.with_hint("is the token right, and may it write?"),
            404 | 405 | 501 => error.with_hint("nginx: `dav_methods PUT;` lets it take entries"),
            409 | 500 => error.with_hint(
                "nginx: `create_full_put_path on;` lets it make the folders `ac` and `cas`",
            ),
            413 => error.with_hint("nginx: `client_max_body_size 1m;` lets it take results"),
            _ => error,
        })
    }

    /// Does all transfers with one `curl`. Returns the HTTP status of each by its path; 0 if there was no answer.
    fn transfer(
        &self,
        folder: &TempFolder,
        transfers: &[Transfer],
        timeout_s: u64,
    ) -> Result<BTreeMap<String, u16>> {
        if transfers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let curl = self.world.find_program("curl").ok_or_else(|| {
            Error::unable("`curl` is not on PATH: the cache of results needs it")
                .with_hint("install curl 7.68 or newer, or use `--no-share`")
        })?;
        if self.token.as_deref().is_some_and(|token| token.contains(char::is_control)) {
            return Err(Error::unable(
                "the token of the cache has a line break or another control character",
            ));
        }
        let config = self.render_options(transfers, timeout_s);
        let done = Program::new(curl, folder.path())
            .args(["--disable", "--config", "-"])
            .run_with_input(config.join("\n").as_bytes(), Duration::from_secs(timeout_s + 2))?;
        let lines = done.stdout.lines().filter_map(|line| line.split_once(' '));
        let mut statuses: BTreeMap<String, u16> =
            transfers.iter().map(|transfer| (transfer.path.clone(), 0)).collect();
        for (status, path) in lines {
            if let Some(known) = statuses.get_mut(path) {
                *known = status.parse().unwrap_or(0);
            }
        }
        Ok(statuses)
    }

    /// Renders the options of curl, a line each.
    fn render_options(&self, transfers: &[Transfer], timeout_s: u64) -> Vec<String> {
        let is_plain = self.url.starts_with("http://");
        let mut config = vec![
            "parallel".to_owned(),
            format!("parallel-max = {PARALLEL_REQUESTS}"),
            "silent".to_owned(),
        ];
        for (at, transfer) in transfers.iter().enumerate() {
            if at > 0 {
                config.push("next".to_owned());
            }
            config.push(format!(
                "url = {}",
                quote_curl_value(&format!("{}{}", self.url, transfer.path))
            ));
            match transfer.is_put {
                true => {
                    config.push(format!("upload-file = {}", quote_curl_value(&transfer.file)));
                    config.push("output = \"/dev/null\"".to_owned());
                }
                false => {
                    config.push(format!("output = {}", quote_curl_value(&transfer.file)));
                    // Older ones look at the size that is announced, and not at what comes.
                    config.push(format!("max-filesize = {MAX_BUNDLE_BYTES}"));
                    config.push(format!("limit-rate = {}", 2 * MAX_BUNDLE_BYTES));
                }
            }
            if let Some(token) = &self.token {
                config.push(format!(
                    "header = {}",
                    quote_curl_value(&format!("Authorization: Bearer {token}"))
                ));
            }
            config.push("globoff".to_owned());
            if is_plain {
                // It is this machine, and what is not encrypted does not leave it.
                config.push("noproxy = \"*\"".to_owned());
            }
            config.push("header = \"Expect:\"".to_owned());
            config.push("header = \"Content-Type: application/octet-stream\"".to_owned());
            config.push(format!("user-agent = \"xtask/{}\"", env!("CARGO_PKG_VERSION")));
            config.push(format!("proto = \"={}\"", if is_plain { "http" } else { "https" }));
            config.push(format!("connect-timeout = {CONNECT_TIMEOUT_S}"));
            config.push(format!("max-time = {timeout_s}"));
            config.push("silent".to_owned());
            config.push(format!(
                "write-out = {}",
                quote_curl_value(&format!("%{{http_code}} {}\n", transfer.path))
            ));
        }
        config
    }
}

/// Says which answers are no good; a missing entry (404) is as usual.
fn describe_failures(statuses: &BTreeMap<String, u16>) -> Vec<String> {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for status in statuses.values().filter(|status| ![200, 404].contains(status)) {
        *counts.entry(*status).or_default() += 1;
    }
    let describe = |(status, count): (u16, usize)| match status {
        0 => format!("the cache of results did not answer {count} of {} requests", statuses.len()),
        status => format!("the cache of results answered {status} to {count} requests"),
    };
    counts.into_iter().map(describe).collect()
}

fn read_bounded(file: &str, longest: usize) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(longest as u64 + 1).read_to_end(&mut content).ok()?;
    (content.len() <= longest).then_some(content)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
