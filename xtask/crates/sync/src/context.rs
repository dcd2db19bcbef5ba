//! Canonical commit and configuration that a sync works with.
//!
//! The configuration comes from the canonical commit, never from the branch being synced; only if
//! that commit has no such file is the one in the working tree used, with a warning. The name of
//! the canonical branch comes from `git config xtask.canonicalBranch` (which `setup` sets) or is
//! the default `orchestration-tools`; the file on that branch may redirect to another branch, once.
//! For example:
//!
//! ```text
//! orchestration-tools:setup/sync.toml  branch = "tools"
//! tools:setup/sync.toml                branch = "tools"   -> canonical
//! ```

use super::managed::ManagedPaths;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::read_regular_file;
use xtask_base::path::RepoPath;
use xtask_config::{BRANCHES_FILE, BranchesConfig, SYNC_FILE, SyncConfig};
use xtask_git::{BranchPattern, CanonicalCommit, FileMode, Id, Repo};

/// The largest configuration file that is read from the working tree, in bytes: far more than anybody writes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Git setting with the name of the canonical branch, if not the default.
pub const BRANCH_SETTING: &str = "xtask.canonicalBranch";

/// Git setting with the remote of the canonical branch, if not the default.
pub const REMOTE_SETTING: &str = "xtask.canonicalRemote";

/// Canonical commit and configuration that a sync works with.
#[derive(Clone, Debug)]
pub struct SyncContext {
    pub canonical: CanonicalCommit,
    /// `setup/sync.toml`.
    pub config: SyncConfig,
    /// `setup/branches.toml`.
    pub branches: BranchesConfig,
    /// Warnings about how commit and configuration were chosen.
    pub warnings: Vec<String>,
}

/// Prefix of the branches on which sync commits for protected branches wait to be merged, e.g.
/// `orchestration-sync/main`.
pub const SYNC_BRANCH_PREFIX: &str = "orchestration-sync/";

impl SyncContext {
    /// Returns whether `branch` does not follow the canonical branch: the canonical branch itself,
    /// the changes branch, and those with `SYNC_BRANCH_PREFIX`.
    #[must_use]
    pub fn is_reserved_branch(&self, branch: &str) -> bool {
        let ours = [self.config.branch.as_str(), self.config.changes_branch.as_str()];
        ours.contains(&branch) || branch.starts_with(SYNC_BRANCH_PREFIX)
    }

    /// Returns whether commits on `branch` need an explicit request (`protected` in
    /// `setup/branches.toml`).
    #[must_use]
    pub fn is_protected(&self, branch: &str) -> bool {
        self.branches.protected.iter().any(|rule| BranchPattern::new(rule).matches(branch))
    }
}

/// Names under which the canonical branch is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalNames {
    pub branch: String,
    pub remote: String,
}

/// Reads the context. A missing canonical branch is an error with hints.
pub fn read_context(repo: &Repo) -> Result<SyncContext> {
    let names = find_canonical_names(repo)?;
    find_context(repo, &names)?.ok_or_else(|| missing_canonical_error(repo, &names))
}

/// Builds the error for a missing canonical branch.
#[must_use]
pub fn missing_canonical_error(repo: &Repo, names: &CanonicalNames) -> Error {
    let CanonicalNames { branch, remote } = names;
    let error = Error::unable(format!(
        "there is no canonical branch: neither `{branch}` nor `{remote}/{branch}` exists here"
    ));
    let seen = list_other_remotes(repo, names);
    if !seen.is_empty() {
        return seen
            .iter()
            .fold(error, |error, other| error.with_hint(other_remote_hint(other, branch)));
    }
    error
        .with_hint(format!(
            "if the remote has it: `cargo xtask sync --fetch`, or `git fetch {remote} {branch}`"
        ))
        .with_hint(match repo.resolve_ref("HEAD") {
            Ok(None) => "if it does not exist yet: make the first commit, and then `cargo xtask setup` creates it",
            _ => "if it does not exist yet: `cargo xtask setup` creates it from the current commit",
        })
}

/// Lists the other remotes that have a fetched branch of the canonical name.
#[must_use]
pub fn list_other_remotes(repo: &Repo, names: &CanonicalNames) -> Vec<String> {
    let has_it = |remote: &String| {
        let name = format!("refs/remotes/{remote}/{}", names.branch);
        *remote != names.remote && repo.resolve_ref(&name).is_ok_and(|commit| commit.is_some())
    };
    repo.remote_names().into_iter().filter(has_it).collect()
}

/// Returns the hint that makes the branch of another remote canonical.
#[must_use]
pub fn other_remote_hint(remote: &str, branch: &str) -> String {
    format!("if `{remote}/{branch}` is it: `git config {REMOTE_SETTING} {remote}`")
}

/// Reads the context. Returns `None` if there is no canonical branch.
pub fn find_context(repo: &Repo, names: &CanonicalNames) -> Result<Option<SyncContext>> {
    find_context_from(repo, names, ConfigOrigin::WorktreeFallback)
}

/// Reads the context from the canonical branch alone, for automatic runs: the branch that happens
/// to be checked out must not influence those.
pub fn find_canonical_context(repo: &Repo) -> Result<Option<SyncContext>> {
    find_context_from(repo, &configured_names(repo), ConfigOrigin::CanonicalOnly)
}

/// Lists the canonical blobs that a sync would write, by the rules of the working tree.
fn list_expected_blobs(repo: &Repo, canonical: &CanonicalCommit) -> Result<Vec<(Id, String)>> {
    let text = read_worktree_text(repo, SYNC_FILE)?.unwrap_or_default();
    let config = SyncConfig::parse(SYNC_FILE, &text).unwrap_or_default();
    let Ok(head) = repo.head() else { return Ok(Vec::new()) };
    let managed = ManagedPaths::new(&config, head.branch.as_deref());
    let differing = repo.compare_trees(Some(head.tree), Some(canonical.tree), &managed)?;
    let comes = differing.into_iter().filter_map(|(path, pair)| Some((pair.two?, path)));
    let files = comes.filter(|(entry, _)| entry.mode != FileMode::Gitlink);
    Ok(files.map(|(entry, path)| (entry.id, path.to_string())).collect())
}

/// Reads the context from the last fetched canonical branch of the remote, for pushes to other
/// branches there: these must not carry canonical commits that are not pushed.
pub fn read_remote_context(repo: &Repo) -> Result<SyncContext> {
    let names = find_canonical_names(repo)?;
    let not_there = |names: &CanonicalNames| {
        Error::unable(format!("`{}` has no canonical branch `{}`", names.remote, names.branch))
            .with_hint(format!("`git push {} {}` pushes it", names.remote, names.branch))
    };
    let context = read_context(repo)?;
    let named = CanonicalNames {
        branch: context.config.branch.clone(),
        remote: context.config.remote.clone(),
    };
    let reference = format!("refs/remotes/{}/{}", named.remote, named.branch);
    let Some(commit) = repo.resolve_ref(&reference)? else { return Err(not_there(&named)) };
    if commit == context.canonical.commit {
        return Ok(context);
    }
    // The newer local commits are not pushed.
    let canonical = CanonicalCommit { tree: repo.tree_of(commit)?, reference, commit };
    let mut warnings = vec![format!(
        "local `{}` is ahead of `{}/{0}`; unpushed commits are ignored",
        named.branch, named.remote
    )];
    let files = ConfigOrigin::CanonicalOnly;
    let config = read_sync_config(repo, &canonical, &named, files, &mut warnings)?;
    let branches = read_branches_config(repo, &canonical, &names, files, &mut warnings)?;
    Ok(SyncContext { canonical, config, branches, warnings })
}

/// Allowed origins of the configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConfigOrigin {
    /// The canonical commit.
    CanonicalOnly,
    /// The working tree, if the canonical commit has none.
    WorktreeFallback,
}

/// Fetches the configuration files that a partial clone does not have yet.
fn fetch_rules(repo: &Repo, names: &CanonicalNames, canonical: &CanonicalCommit) -> Result<()> {
    if !repo.is_partial() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for file in [SYNC_FILE, BRANCHES_FILE] {
        let entry = repo.entry_at(canonical.tree, &RepoPath::new(file))?;
        let name = format!("{file} at {}", names.branch);
        wanted.extend(entry.map(|entry| (entry.id, name)));
    }
    // If the rules have to be fetched anyway, the likely next blobs come in the same request.
    if repo.may_fetch() && wanted.iter().any(|(id, _)| !repo.has_object(*id)) {
        wanted.extend(list_expected_blobs(repo, canonical)?);
    }
    repo.fetch_objects(wanted)
}

fn find_context_from(
    repo: &Repo,
    names: &CanonicalNames,
    files: ConfigOrigin,
) -> Result<Option<SyncContext>> {
    let Some(first) = repo.resolve_canonical(&names.branch, &names.remote)? else {
        return Ok(None);
    };
    fetch_rules(repo, names, &first.canonical)?;
    let mut warnings = Vec::new();
    let mut resolved = first;
    let mut config = read_sync_config(repo, &resolved.canonical, names, files, &mut warnings)?;
    if (&config.branch, &config.remote) != (&names.branch, &names.remote) {
        let next = CanonicalNames { branch: config.branch.clone(), remote: config.remote.clone() };
        resolved = repo.resolve_canonical(&next.branch, &next.remote)?.ok_or_else(|| {
            Error::usage(format!(
                "`{SYNC_FILE}` on `{}` says that `{}` is canonical, but there is no such branch",
                names.branch, next.branch
            ))
            .with_hint(format!(
                "`git fetch {} {}`, or correct the file there",
                next.remote, next.branch
            ))
        })?;
        config = read_sync_config(repo, &resolved.canonical, &next, files, &mut warnings)?;
        if (&config.branch, &config.remote) != (&next.branch, &next.remote) {
            return Err(Error::usage(format!(
                "`{SYNC_FILE}` on `{}` points to `{}`, and the one there points on to `{}`",
                names.branch, next.branch, config.branch
            ))
            .with_hint("the canonical branch must name itself in its own file"));
        }
    }
    if let Some(foreign) = &resolved.foreign {
        warnings.push(format!(
            "local branch `{0}` is not the one of `{1}`: {2}; using `{1}/{0}` (if it is the same \
             branch: `git branch --set-upstream-to={1}/{0} {0}`; otherwise rename it: `git branch \
             -m {0} NAME`)",
            config.branch,
            config.remote,
            foreign.describe()
        ));
    }
    if let Some(only_local) = resolved.diverged {
        warnings.push(format!(
            "`{0}` and `{1}/{0}` have diverged; using the remote one, without {only_local} local \
             commit{2} (`git switch {0} && git pull --rebase` reconciles them)",
            config.branch,
            config.remote,
            if only_local == 1 { "" } else { "s" }
        ));
    }
    let branches = read_branches_config(repo, &resolved.canonical, names, files, &mut warnings)?;
    Ok(Some(SyncContext { canonical: resolved.canonical, config, branches, warnings }))
}

/// Returns the names to start with: git's configuration, else the defaults; and if those lead to no
/// branch, the ones in the working tree's `setup/sync.toml`.
pub fn find_canonical_names(repo: &Repo) -> Result<CanonicalNames> {
    let mut names = configured_names(repo);
    let is_set = repo.config_value(BRANCH_SETTING).is_some();
    if !is_set
        && repo.resolve_canonical(&names.branch, &names.remote)?.is_none()
        && let Some(text) = read_worktree_text(repo, SYNC_FILE)?
    {
        let config = SyncConfig::parse(&format!("{SYNC_FILE} (working tree)"), &text)?;
        let is_meant = config.has_explicit_remote && repo.has_remote(&config.remote);
        let remote = if is_meant { config.remote } else { names.remote };
        names = CanonicalNames { branch: config.branch, remote };
    }
    Ok(names)
}

/// Adds the branch to fix the configuration on, unless the error already has hints.
fn add_correction_hint(faults: Error, names: &CanonicalNames) -> Error {
    if !faults.hints().is_empty() {
        return faults;
    }
    faults.with_hint(format!("fix it on `{}`, from which it is read, and commit", names.branch))
}

/// Saves names that are not the defaults in git's configuration, so that no checked-out branch can
/// change them.
pub fn save_canonical_names(repo: &Repo, names: &CanonicalNames) -> Result<()> {
    let default = SyncConfig::default();
    for (key, name, default) in [
        (BRANCH_SETTING, &names.branch, &default.branch),
        (REMOTE_SETTING, &names.remote, &default.remote),
    ] {
        if name != default && repo.config_value(key).as_ref() != Some(name) {
            repo.set_config(key, name)?;
        }
    }
    Ok(())
}

/// Returns the names in git's configuration, or else the defaults.
#[must_use]
pub fn configured_names(repo: &Repo) -> CanonicalNames {
    let default = SyncConfig::default();
    CanonicalNames {
        branch: repo.config_value(BRANCH_SETTING).unwrap_or(default.branch),
        remote: repo
            .config_value(REMOTE_SETTING)
            .unwrap_or_else(|| choose_default_remote(repo, default.remote)),
    }
}

/// Returns the remote to use if none is configured: `origin`, the name that `git clone` gives; else
/// the only remote; else the one in `checkout.defaultRemote` or `clone.defaultRemoteName`.
fn choose_default_remote(repo: &Repo, origin: String) -> String {
    let remotes = repo.remote_names();
    let is_one = |name: &String| remotes.contains(name);
    match &remotes[..] {
        _ if is_one(&origin) => origin,
        [only] => only.clone(),
        _ => ["checkout.defaultRemote", "clone.defaultRemoteName"]
            .into_iter()
            .filter_map(|key| repo.config_value(key))
            .find(is_one)
            .unwrap_or(origin),
    }
}

fn read_sync_config(
    repo: &Repo,
    canonical: &CanonicalCommit,
    names: &CanonicalNames,
    files: ConfigOrigin,
    warnings: &mut Vec<String>,
) -> Result<SyncConfig> {
    match read_config_text(repo, canonical, SYNC_FILE, files, warnings)? {
        Some((source, text)) => {
            let mut config = SyncConfig::parse(&source, &text)
                .map_err(|faults| add_correction_hint(faults, names))?;
            // Every clone names its remotes itself: a remote that does not exist here is ignored.
            if !config.has_explicit_remote || !repo.has_remote(&config.remote) {
                config.remote.clone_from(&names.remote);
            }
            Ok(config)
        }
        None => Ok(SyncConfig {
            branch: names.branch.clone(),
            remote: names.remote.clone(),
            ..SyncConfig::default()
        }),
    }
}

fn read_branches_config(
    repo: &Repo,
    canonical: &CanonicalCommit,
    names: &CanonicalNames,
    files: ConfigOrigin,
    warnings: &mut Vec<String>,
) -> Result<BranchesConfig> {
    match read_config_text(repo, canonical, BRANCHES_FILE, files, warnings)? {
        Some((source, text)) => BranchesConfig::parse(&source, &text)
            .map_err(|faults| add_correction_hint(faults, names)),
        None => Ok(BranchesConfig::default()),
    }
}

/// Returns the source, e.g. `setup/sync.toml at tools`, and the text of a configuration file.
fn read_config_text(
    repo: &Repo,
    canonical: &CanonicalCommit,
    file: &str,
    files: ConfigOrigin,
    warnings: &mut Vec<String>,
) -> Result<Option<(String, String)>> {
    let short = canonical
        .reference
        .strip_prefix("refs/heads/")
        .or_else(|| canonical.reference.strip_prefix("refs/remotes/"))
        .unwrap_or(&canonical.reference);
    let entry = repo.entry_at(canonical.tree, &RepoPath::new(file))?;
    if let Some(entry) =
        entry.filter(|entry| matches!(entry.mode, FileMode::File | FileMode::Executable))
    {
        let source = format!("{file} at {short}");
        let text = String::from_utf8(repo.read_blob(entry.id)?)
            .map_err(|_| Error::usage(format!("{source} is not UTF-8")))?;
        return Ok(Some((source, text)));
    }
    if files == ConfigOrigin::CanonicalOnly {
        return Ok(None);
    }
    let text = read_worktree_text(repo, file)?;
    if text.is_some() {
        warnings.push(format!("`{short}` has no `{file}`; using the one in the working tree"));
    }
    Ok(text.map(|text| (format!("{file} (working tree)"), text)))
}

fn read_worktree_text(repo: &Repo, file: &str) -> Result<Option<String>> {
    let path = RepoPath::new(file);
    // Only a regular file of this worktree counts, not one behind a symlink.
    let is_plain = path.ancestors().chain([path.clone()]).all(|part| {
        part.to_disk_path(repo.root()).symlink_metadata().is_ok_and(|m| !m.is_symlink())
    });
    if !is_plain {
        return Ok(None);
    }
    let failed = || format!("cannot read `{file}`");
    let bytes = read_regular_file(&path.to_disk_path(repo.root()), MAX_CONFIG_BYTES);
    let text = String::from_utf8(bytes.with_context(failed)?).with_context(failed)?;
    Ok(Some(text))
}
