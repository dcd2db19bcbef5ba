//! `[share]` of `setup/validate.toml`: where passes of other machines come from, and whose count.
//!
//! ```text
//! [share]
//! through = "https://cache.example/xtask"   # or "git"
//! signers = ["ci@example.com ssh-ed25519 AAAAC3…"]
//! ```

use super::reader::TableReader;
use super::value_syntax::is_variable_name;
use xtask_base::environment::parse_seconds;

/// The default of `max-age`, in seconds: a week.
const DEFAULT_MAX_AGE_S: u64 = 7 * 86_400;

/// The default of `recheck`: one of twenty.
const DEFAULT_RECHECK: u64 = 20;

/// Where passes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharePlace {
    /// On the ref `refs/xtask/results` of the remote.
    Git,
    /// In a cache at this address, without a slash at its end.
    Http(String),
}

/// The table `[share]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    pub place: SharePlace,
    /// The variable with the token of the cache.
    pub token: Option<String>,
    /// Whose passes count, as `NAME KEYTYPE KEY`.
    pub signers: Vec<String>,
    /// The longest age of a pass, in seconds.
    pub max_age_s: u64,
    /// One of how many shared passes is run all the same if `CI` is set; 0 for none.
    pub recheck: u64,
}

/// Reads the table.
pub(super) fn read_share(table: &TableReader<'_>) -> Option<ShareConfig> {
    table.require_key("through");
    table.require_key("signers");
    let wanted = "`git`, or the address of a cache that begins with `https://` (`http://` only for this machine)";
    let place = table.read_parsed("through", wanted, |text| match text {
        "git" => Some(SharePlace::Git),
        url if is_cache_url(url) => Some(SharePlace::Http(url.trim_end_matches('/').to_owned())),
        _ => None,
    });
    let token = table.read_parsed("token", "`$NAME` of a variable with the token", |text| {
        text.strip_prefix('$').filter(|name| is_variable_name(name)).map(str::to_owned)
    });
    let signers = table.read_text_or_list("signers").unwrap_or_default();
    if table.has_key("signers") && signers.is_empty() {
        table.add_fault("signers", "`signers` is empty: no pass would count");
    }
    let read = |text: &str| parse_seconds(text).and_then(|seconds| u64::try_from(seconds).ok());
    let max_age_s = table.read_parsed("max-age", "a time such as `12h` or `7d`", read);
    let recheck = table.read_number("recheck", 0..=1_000_000).unwrap_or(DEFAULT_RECHECK);
    Some(ShareConfig {
        place: place?,
        token,
        signers,
        max_age_s: max_age_s.unwrap_or(DEFAULT_MAX_AGE_S),
        recheck,
    })
}

/// Returns whether results may go over this address: encrypted, or to this machine.
fn is_cache_url(url: &str) -> bool {
    let is_plain =
        !url.chars().any(|c| c.is_whitespace() || c.is_control() || "\"\\?#@".contains(c));
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|host| {
        let rest = url.strip_prefix(host);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    is_plain && (is_local || url.starts_with("https://") && url.len() > 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValidateConfig;

    fn parse(share: &str) -> Result<Option<ShareConfig>, String> {
        let text = format!("[share]\n{share}\n[[check]]\nname = 'a'\nrun = 'x'\nshare = true\n");
        ValidateConfig::parse("f", &text).map(|config| config.share).map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn results_go_encrypted_or_to_this_machine() {
        for url in [
            "https://cache.example/x",
            "http://127.0.0.1:80",
            "http://localhost/x",
            "http://[::1]:1",
        ] {
            assert!(is_cache_url(url), "{url}");
        }
        for url in [
            "http://cache.example",
            "https://",
            "http://127.0.0.1.example",
            "ftp://x",
            "https://a b",
            "",
            "https://user:secret@host",
            "https://host/?a",
        ] {
            assert!(!is_cache_url(url), "{url}");
        }
    }

    #[test]
    fn missing_keys_have_defaults_and_faults_are_named() {
        let share =
            parse("through = 'https://host/x/'\nsigners = 'ci ssh-ed25519 AAAA'").unwrap().unwrap();
        assert_eq!(share.place, SharePlace::Http("https://host/x".to_owned()));
        assert_eq!((share.max_age_s, share.recheck, share.token), (604_800, 20, None));
        let share =
            parse("through = 'git'\nsigners = ['a']\ntoken = '$T'\nmax-age = '12h'\nrecheck = 0");
        let share = share.unwrap().unwrap();
        assert_eq!((share.place, share.max_age_s, share.recheck), (SharePlace::Git, 43_200, 0));
        assert_eq!(share.token.as_deref(), Some("T"));
        for (bad, word) in [
            ("through = 'svn'\nsigners = 'a'", "through"),
            ("through = 'git'", "signers"),
            ("through = 'git'\nsigners = []", "no pass would count"),
            ("signers = 'a'", "through"),
            ("through = 'git'\nsigners = 'a'\ntoken = 'secret'", "token"),
            ("through = 'git'\nsigners = 'a'\nmax-age = 'x'", "max-age"),
            ("through = 'git'\nsigners = 'a'\nrechek = 1", "did you mean `recheck`"),
        ] {
            let refused = parse(bad).unwrap_err();
            assert!(refused.contains(word), "{bad}: {refused}");
        }
    }
}
