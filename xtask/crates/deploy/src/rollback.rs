//! The choice of the release for `rollback`, among the verified ones that still exist.
//!
//! ```text
//! verified and kept: [r3 (current), r2, r1], no name given  ->  r2
//! ```

use super::history;
use super::release::Release;
use super::target::DeployTarget;
use xtask_base::error::{Error, Result};

/// Chooses the release for `rollback`: `named`, if it exists and was verified, else the newest verified one that was
/// deployed before the current one.
pub fn choose_rollback(target: &DeployTarget, named: Option<&str>) -> Result<Release> {
    let entries = history::read_history(&target.history_file())?;
    let name = choose_rollback_name(&list_kept(target, &entries), &entries, named)?;
    Ok(Release::in_target(target, &name))
}

/// Chooses the release for `rollback`, like `choose_rollback`, from the names of the `kept` releases.
pub fn choose_rollback_name(
    kept: &[String],
    entries: &[history::DeployEntry],
    named: Option<&str>,
) -> Result<String> {
    let list = || format!("available releases: {}", join_or_none(kept));
    if let Some(named) = named {
        let was_verified = history::list_verified(entries).iter().any(|name| name == named);
        return match (kept.iter().any(|name| name == named), was_verified) {
            (true, _) => Ok(named.to_owned()),
            (false, true) => {
                Err(Error::negative(format!("the release `{named}` no longer exists"))
                    .with_hint(list()))
            }
            (false, false) => {
                Err(Error::negative(format!("no verified release `{named}`")).with_hint(list()))
            }
        };
    }
    // In the order of their first deploy, so that two rollbacks go back by two releases.
    let made = |name: &str| entries.iter().position(|entry| entry.release == name);
    let current = history::current_and_serving(entries).current.and_then(made);
    let before = kept.iter().filter_map(|name| Some((made(name)?, name)));
    let before = before.filter(|(at, _)| current.is_none_or(|current| *at < current));
    match before.max() {
        Some((_, name)) => Ok(name.clone()),
        None => {
            Err(Error::negative("no verified release is older than the current one")
                .with_hint(list()))
        }
    }
}

fn join_or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Returns the names of the verified releases that still exist, newest first.
#[must_use]
pub fn list_kept(target: &DeployTarget, entries: &[history::DeployEntry]) -> Vec<String> {
    let is_there =
        |name: &String| Release::in_target(target, name).folder.join("manifest").is_file();
    history::list_verified(entries).into_iter().filter(is_there).collect()
}
