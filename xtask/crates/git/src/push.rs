//! Pushing refs whose values are known: each only from the value that it is known to have at the
//! remote, and none held up by another that is refused.

use std::collections::HashMap;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};

/// One ref that is to change at a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefPush {
    /// Its full name there.
    pub name: String,
    /// What it must be there now; nothing where it must not exist.
    pub old: Option<Id>,
    /// What it becomes; nothing where it goes.
    pub new: Option<Id>,
}

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStatus {
    /// It is as wanted.
    Done,
    /// It is not what it was known to be: somebody else was faster.
    Stale,
    /// The remote does not take it, and says why.
    Rejected(String),
}

/// How many refs go in one push: each takes some three hundred bytes of command line, and systems
/// take a million at least.
const CHUNK_SIZE: usize = 2000;

impl Repo {
    /// Pushes refs, all in one push as long as they are not thousands, and answers what became of
    /// each, in their order. That the remote cannot be reached at all is an error.
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
            // Each line is a flag, `from:to` and a summary.
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
            // A remote can have several addresses, and one of them can fail.
            return Err(unreachable_remote_error(remote, &pushed.stderr));
        }
        let silence = || PushStatus::Rejected("git has not said what became of it".to_owned());
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(silence)).collect())
    }
}

/// What git says about one ref.
fn parse_push_status(flag: &str, summary: &str) -> PushStatus {
    if flag != "!" {
        return PushStatus::Done;
    }
    let reason = summary.split_once('(').map_or(summary, |(_, reason)| reason);
    let reason = reason.trim_end_matches(')');
    // What git says where the remote has something else than was expected, before it tries or while
    // it does.
    let says = |words: &str| reason.contains(words);
    let is_moved = ["stale info", "fetch first", "non-fast-forward", "reference already exists"]
        .into_iter()
        .chain(["failed to update ref", "cannot lock ref"])
        .any(says)
        && !says("cannot create");
    if is_moved { PushStatus::Stale } else { PushStatus::Rejected(reason.to_owned()) }
}

/// The error for a remote that does not answer.
pub(super) fn unreachable_remote_error(remote: &str, why: &str) -> Error {
    let failed = Error::unable(format!("talking to `{remote}` failed")).with_detail(why);
    if why.contains("remote prune") || why.contains("unable to update local ref") {
        return failed
            .with_hint(format!("`git remote prune {remote}` forgets branches that are gone"));
    }
    failed.with_hint(format!("`git ls-remote {remote}` tries it; `git remote -v` has its address"))
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
