//! The protected branches of a repository that gets the toolkit: as named, as asked, or the default branch.
//!
//! ```text
//! --protect main,release/*  ->  ["main", "release/*"]      --protect none  ->  []
//! ```

use super::target::VendorTarget;
use xtask_base::error::{Error, Result};
use xtask_config::BRANCHES_FILE;
use xtask_git::Revision;

/// The protected branches, with what is to be said about them.
pub struct ProtectedBranches {
    pub branches: Vec<String>,
    /// What the choice means; `None` if the repository has chosen already.
    pub note: Option<String>,
    pub warnings: Vec<String>,
}

/// Returns the `named` branches, or asks about the default branch; `ask` returns `None` if nobody can answer, and the
/// default branch is protected then.
pub fn choose_protected(
    target: &VendorTarget,
    named: &[String],
    ask: &dyn Fn(&str) -> Option<String>,
) -> Result<ProtectedBranches> {
    let mut warnings = Vec::new();
    if target.read_on_disk(BRANCHES_FILE).is_some() {
        return match named.is_empty() {
            true => Ok(ProtectedBranches { branches: Vec::new(), note: None, warnings }),
            false => Err(Error::usage(format!(
                "`{BRANCHES_FILE}` already exists, and lists the protected branches"
            ))
            .with_hint("leave out `--protect`, or edit that file")),
        };
    }
    let branches = match named {
        [none] if none == "none" => Vec::new(),
        [] => {
            let branch = target.repo.default_branch();
            let question = format!(
                "protect `{branch}`? The hooks then refuse commits on it and pushes to it (answer no for trunk-based \
                 work) [Y/n]"
            );
            match ask(&question).is_some_and(|said| said.to_lowercase().starts_with('n')) {
                true => Vec::new(),
                false => vec![branch],
            }
        }
        named => {
            let branches = parse_branches(named)?;
            for branch in branches.iter().filter(|branch| !branch.contains('*')) {
                if !matches!(target.repo.parse_revision(branch), Ok(Revision::Commit(_))) {
                    warnings.push(format!("no such branch: `{branch}`"));
                }
            }
            branches
        }
    };
    let note = Some(match &branches[..] {
        [] => "no branch is protected: commits and pushes are allowed on all branches".to_owned(),
        _ => format!(
            "`{}` is protected: once the hooks are installed, commits on it and pushes to it are refused, and \
             `sync` makes no commits there; use `--protect none` for trunk-based work",
            branches.join("`, `")
        ),
    });
    Ok(ProtectedBranches { branches, note, warnings })
}

/// Returns the names, which may have `*`, without `refs/heads/`.
fn parse_branches(named: &[String]) -> Result<Vec<String>> {
    let is_name = |name: &str| {
        let has_odd =
            name.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?[\\".contains(c));
        !has_odd
            && !name.contains("..")
            && !name.starts_with(['-', '/'])
            && !name.ends_with(['/', '.'])
    };
    if let Some(wrong) = named.iter().find(|name| !is_name(name)) {
        return Err(Error::usage(format!("invalid branch name `{}`", wrong.escape_debug())));
    }
    if let Some(wrong) = named.iter().find(|name| name.is_empty() || *name == "none") {
        return Err(Error::usage(format!(
            "invalid `--protect` value `{wrong}`: expected branches, or `none` alone"
        )));
    }
    let plain = |name: &String| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
    let mut branches: Vec<String> = named.iter().map(plain).collect();
    branches.dedup();
    Ok(branches)
}
