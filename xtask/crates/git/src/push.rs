//! Pushing refs by compare-and-swap: each with its own `--force-with-lease`, so that one rejected
//! ref does not hold up the others.
//!
//! ```text
//! git push --porcelain --force-with-lease=refs/heads/main:OLD -- origin NEW:refs/heads/main
//! -> "!\tNEW:refs/heads/main\t[rejected] (stale info)" -> PushStatus::Stale
//! ```

use std::collections::HashMap;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};

/// A ref to change at a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefPush {
    /// The full name at the remote.
    pub name: String,
    /// The expected value; `None` if the ref must not exist.
    pub old: Option<Id>,
    /// The new value; `None` deletes the ref.
    pub new: Option<Id>,
}

/// The outcome for one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStatus {
    /// Changed, or already at the new value.
    Done,
    /// No longer at the expected value: somebody else has pushed.
    Stale,
    /// Rejected by the remote, with its reason.
    Rejected(String),
}

/// The most refs in one push: each takes about 300 bytes of the command line, which may have at
/// least a million.
const CHUNK_SIZE: usize = 2000;

impl Repo {
    /// Pushes refs, in one push per `CHUNK_SIZE`, and returns their outcomes in order. Returns an
    /// error if the remote cannot be reached.
    pub fn push_refs(&self, remote: &str, refs: &[RefPush]) -> Result<Vec<PushStatus>> {
        let mut answers = Vec::new();
        for some in refs.chunks(CHUNK_SIZE) {
            answers.extend(self.push_chunk(remote, some)?);
        }
        Ok(answers)
    }

    fn push_chunk(&self, remote: &str, refs: &[RefPush]) -> Result<Vec<PushStatus>> {
        let mut args: Vec<String> =
            ["push", "--porcelain", "--no-follow-tags", "--no-signed", "--recurse-submodules=no"]
                .map(str::to_owned)
                .to_vec();
        let text = |id: Option<Id>| id.map_or(String::new(), |id| id.to_string());
        for RefPush { name, old, .. } in refs {
            args.push(format!("--force-with-lease={name}:{}", text(*old)));
        }
        args.extend(["--".to_owned(), remote.to_owned()]);
        args.extend(refs.iter().map(|one| format!("{}:{}", text(one.new), one.name)));
        let pushed = self.run_remote_command(&args)?;
        let places: HashMap<&str, usize> =
            refs.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect();
        let mut answers = vec![None; refs.len()];
        for line in pushed.stdout.lines() {
            // Each line is `FLAG\tFROM:TO\tSUMMARY`.
            let mut parts = line.splitn(3, '\t');
            let (Some(flag), Some(names), Some(summary)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let to = names.split_once(':').map_or(names, |(_, to)| to);
            if let Some(at) = places.get(to) {
                answers[*at] = Some(parse_push_status(flag, summary));
            }
        }
        if answers.iter().all(Option::is_none) && !refs.is_empty() {
            return Err(unreachable_remote_error(remote, &pushed.stderr));
        }
        let is_all_well = answers.iter().all(|answer| *answer == Some(PushStatus::Done));
        if is_all_well && !pushed.status.success() {
            // A remote may have several URLs, and the push to one of them may fail.
            return Err(unreachable_remote_error(remote, &pushed.stderr));
        }
        let silence = || PushStatus::Rejected("git reported no status for it".to_owned());
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(silence)).collect())
    }
}

/// Parses the outcome of one ref from git's flag and summary.
fn parse_push_status(flag: &str, summary: &str) -> PushStatus {
    if flag != "!" {
        return PushStatus::Done;
    }
    let reason = summary.split_once('(').map_or(summary, |(_, reason)| reason);
    let reason = reason.trim_end_matches(')');
    // Git's messages for a value that differs from the expected one, before or during the push.
    let says = |words: &str| reason.contains(words);
    let is_moved = ["stale info", "fetch first", "non-fast-forward", "reference already exists"]
        .into_iter()
        .chain(["failed to update ref", "cannot lock ref"])
        .any(says)
        && !says("cannot create");
    if is_moved { PushStatus::Stale } else { PushStatus::Rejected(reason.to_owned()) }
}

pub(super) fn unreachable_remote_error(remote: &str, why: &str) -> Error {
    let failed =
        Error::unable(format!("communication with remote `{remote}` failed")).with_detail(why);
    if why.contains("remote prune") || why.contains("unable to update local ref") {
        return failed
            .with_hint(format!("`git remote prune {remote}` removes stale tracking branches"));
    }
    failed.with_hint(format!("`git ls-remote {remote}` tests it; `git remote -v` shows its URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_race_is_told_from_a_refusal() {
        assert_eq!(parse_push_status(" ", "1..2"), PushStatus::Done);
        assert_eq!(parse_push_status("+", "1...2 (forced update)"), PushStatus::Done);
        assert_eq!(parse_push_status("!", "[rejected] (stale info)"), PushStatus::Stale);
        assert_eq!(
            parse_push_status("!", "[remote rejected] (cannot lock ref 'x')"),
            PushStatus::Stale
        );
        let in_the_way =
            "[remote rejected] (cannot lock ref 'x/y': 'x' exists; cannot create 'x/y')";
        assert!(matches!(parse_push_status("!", in_the_way), PushStatus::Rejected(_)));
        assert_eq!(
            parse_push_status("!", "[remote rejected] (pre-receive hook declined)"),
            PushStatus::Rejected("pre-receive hook declined".to_owned())
        );
    }
}
