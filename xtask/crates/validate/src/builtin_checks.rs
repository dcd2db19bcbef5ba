//! Checks that need no command, such as `tool`, `file` or `disk`.
//!
//! A new one takes a variant of `CheckKind`, an arm in `run_builtin_check` and a function here. For example:
//!
//! ```text
//! tool = "python3", version = ">=3.12"  ->  Ok("3.12.4 (/usr/bin/python3)")
//! ```

use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

use super::input_snapshot::InputSnapshot;
use xtask_base::environment::Environment;
use xtask_base::path::RepoPath;
use xtask_base::ports::{self, PortState};
use xtask_base::words::{format_size, join_names, pluralize};
use xtask_config::{Check, CheckKind};
use xtask_git::Repo;

/// The finding of a built-in check, in a line; `Err` if the check fails.
pub type CheckFinding = Result<String, String>;

/// Checks that need more than the files of a repository; implemented by the caller.
pub trait RepoChecks {
    /// Checks that git will run the installed hooks.
    fn check_hooks(&self) -> CheckFinding;
    /// Checks that no managed path is out of date.
    fn check_sync(&self) -> CheckFinding;
    /// Checks that the branch follows its rules.
    fn check_branches(&self) -> CheckFinding;
}

/// Runs a built-in check. Returns `None` if `check` runs a command or file rules, which `check_work` does.
pub fn run_builtin_check(
    check: &Check,
    snapshot: &InputSnapshot,
    repo: &Repo,
    world: &Environment,
    root: &Path,
    around: &dyn RepoChecks,
) -> Option<CheckFinding> {
    Some(match &check.kind {
        CheckKind::Run(_) | CheckKind::FileRules { .. } => return None,
        CheckKind::Tool { tool, version, version_command: ask } => {
            check_tool(tool, version.as_ref(), ask.is_some(), snapshot, world)
        }
        CheckKind::File(paths) => check_files(paths, root),
        CheckKind::EnvVar(names) => check_variables(names, world),
        CheckKind::Disk(bytes) => check_disk_space(*bytes, &list_write_folders(repo, world, root)),
        CheckKind::PortFree(ports) => check_ports(ports),
        CheckKind::GitIdentity => check_git_identity(repo, world),
        CheckKind::Hooks => around.check_hooks(),
        CheckKind::Sync => around.check_sync(),
        CheckKind::Branches => around.check_branches(),
    })
}

/// Describes a check in one line, e.g. `cargo test` or `ports 8080 free`.
#[must_use]
pub fn describe_check(check: &Check) -> String {
    let list = |names: &[String]| names.join(", ");
    match &check.kind {
        CheckKind::Run(command) => command.text.clone(),
        CheckKind::Tool { tool, version: Some(version), .. } => format!("{tool} {version} on PATH"),
        CheckKind::Tool { tool, version: None, .. } => format!("{tool} on PATH"),
        CheckKind::File(paths) => {
            list(&paths.iter().map(ToString::to_string).collect::<Vec<_>>()) + " there"
        }
        CheckKind::EnvVar(names) => list(names) + " set",
        CheckKind::Disk(bytes) => {
            format!("{} free on disk", format_size(*bytes))
        }
        CheckKind::PortFree(ports) => {
            format!("ports {} free", list(&ports.iter().map(u16::to_string).collect::<Vec<_>>()))
        }
        CheckKind::GitIdentity => "git knows who commits".to_owned(),
        CheckKind::Hooks => "the hooks will fire here".to_owned(),
        CheckKind::Sync => "no managed file is behind".to_owned(),
        CheckKind::Branches => "the branch keeps to its rule".to_owned(),
        CheckKind::FileRules { rules, .. } => {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
            names.join(", ")
        }
    }
}

fn check_tool(
    tool: &str,
    wanted: Option<&VersionReq>,
    asks: bool,
    snapshot: &InputSnapshot,
    world: &Environment,
) -> CheckFinding {
    let manifest = &snapshot.manifest;
    let seen = manifest.tools.iter().find(|seen| seen.name == tool);
    let Some(found) = seen.and_then(|seen| seen.found.as_ref()) else {
        return Err(describe_not_on_path(tool, world));
    };
    if let Some(failure) = snapshot.version_failures().next() {
        // Without `version` and `ask` the program only has to exist; some programs have no version option.
        return match wanted {
            None if !asks => Ok(format!("{found} (version unknown)")),
            _ => Err(failure.to_owned()),
        };
    }
    // The answer to `ask` is last.
    let said = manifest.tools.iter().rev().find_map(|seen| seen.version.as_deref());
    let said = said.unwrap_or_default();
    let Some(wanted) = wanted else {
        let version = find_version(said);
        return Ok(version.map_or_else(|| found.clone(), |version| format!("{version} ({found})")));
    };
    let Some(version) = find_version(said) else {
        let line = said.lines().next().unwrap_or_default();
        return Err(format!("no version in the output of `{found}`: `{line}`"));
    };
    if matches_version(wanted, &version) {
        Ok(format!("{version} ({found})"))
    } else {
        Err(format!("`{found}` is {version}, but {wanted} is required"))
    }
}

/// Returns the message for a program that is not on PATH, with the folders that were searched.
#[must_use]
pub fn describe_not_on_path(tool: &str, world: &Environment) -> String {
    let path = world.variable("PATH").unwrap_or_default();
    let folders: Vec<String> = path.split(':').map(str::to_owned).collect();
    format!("`{tool}` is not on PATH ({})", join_names(&folders, 6))
}

/// Whether `version` satisfies `wanted`. A pre-release counts as its release, e.g. `3.13.0rc1` as `3.13.0`: a
/// check asks for features.
fn matches_version(wanted: &VersionReq, version: &Version) -> bool {
    wanted.matches(&Version::new(version.major, version.minor, version.patch))
}

/// Returns the first version in `text`: two or three numbers joined by dots, or else the first single number.
fn find_version(text: &str) -> Option<Version> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let words = text.split(|c: char| !is_part(c)).map(|word| word.trim_matches('.'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let with_dot = words.iter().find(|word| word.contains('.'));
    let numbers = with_dot.or(words.first())?.split('.').map(|number| number.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let at = |at: usize| numbers.get(at).copied().unwrap_or(0);
    Some(Version::new(at(0), at(1), at(2)))
}

/// Checks that all paths exist. A dangling symlink counts as missing.
fn check_files(paths: &[RepoPath], root: &Path) -> CheckFinding {
    let is_missing = |path: &&RepoPath| !path.to_disk_path(root).exists();
    let missing: Vec<String> = paths.iter().filter(is_missing).map(ToString::to_string).collect();
    match missing.len() {
        0 => Ok(pluralize(paths.len(), "path") + " found"),
        1 => Err(format!("`{}` not found", missing[0])),
        _ => Err(format!("{} not found", join_names(&missing, 5))),
    }
}

fn check_variables(names: &[String], world: &Environment) -> CheckFinding {
    let is_unset = |name: &&String| {
        let value = world.variables.get(std::ffi::OsStr::new(name.as_str()));
        value.is_none_or(|value| value.is_empty())
    };
    let unset: Vec<String> = names.iter().filter(is_unset).cloned().collect();
    match unset.len() {
        0 => Ok("set".to_owned()),
        1 => Err(format!("the variable `{}` is not set", unset[0])),
        _ => Err(format!("the variables {} are not set", join_names(&unset, 5))),
    }
}

/// Lists the folders to which a run and its commands write: the worktree, the git folder, `$TMPDIR` and
/// `$CARGO_TARGET_DIR`.
fn list_write_folders(repo: &Repo, world: &Environment, root: &Path) -> Vec<PathBuf> {
    let temp = world.variable("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let mut places = vec![root.to_path_buf(), repo.common_folder().to_path_buf(), temp];
    places.extend(world.variable("CARGO_TARGET_DIR").map(|folder| root.join(folder)));
    places
}

fn check_disk_space(wanted: u64, places: &[PathBuf]) -> CheckFinding {
    let mut least: Option<(u64, &Path)> = None;
    for place in places {
        // A folder that does not exist yet will be on the file system of its nearest ancestor.
        let Some(place) = place.ancestors().find(|folder| folder.exists()) else { continue };
        let stat = rustix::fs::statvfs(place).map_err(|cause| {
            format!("cannot read the free disk space of `{}`: {cause}", place.display())
        })?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if least.is_none_or(|(other, _)| free < other) {
            least = Some((free, place));
        }
    }
    let Some((free, place)) = least else {
        return Err("no folder exists whose disk space could be checked".to_owned());
    };
    let words = format!("{} free in `{}`", format_size(free), place.display());
    if free >= wanted {
        Ok(words)
    } else {
        Err(format!("{words}, but {} are required", format_size(wanted)))
    }
}

fn check_ports(ports: &[u16]) -> CheckFinding {
    let looked = ports::inspect_ports(ports).map_err(|failure| failure.to_string())?;
    let taken = looked.into_iter().filter_map(|(port, listening)| match listening {
        PortState::Free => None,
        PortState::NotPermitted => {
            Some(format!("permission denied for port {port}: only root may listen on it"))
        }
        PortState::InUse(owners) => Some(ports::describe_owners(port, &owners)),
    });
    let taken: Vec<String> = taken.collect();
    if taken.is_empty() {
        Ok(pluralize(ports.len(), "port") + " free")
    } else {
        Err(taken.join("; "))
    }
}

fn check_git_identity(repo: &Repo, world: &Environment) -> CheckFinding {
    match repo.committer(world.now_seconds()) {
        Ok(who) => Ok(who.name_and_email()),
        Err(failure) => Err(format!(
            "{failure}: `git config --global user.name NAME` and `git config --global user.email \
             ADDRESS`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let version = |text: &str| find_version(text).map(|version| version.to_string());
        for (said, found) in [
            ("Python 3.12.4", "3.12.4"),
            ("git version 2.47.3 (Apple Git-1)", "2.47.3"),
            ("v20.20.2", "20.20.2"),
            ("go version go1.22 linux/amd64", "1.22.0"),
            ("openjdk 17.0.15 2025-04-15", "17.0.15"),
            ("tmux 3.4", "3.4.0"),
            ("less 643 (GNU regex)", "643.0.0"),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "1.95.0"),
            ("Python 3.13.0rc1", "3.13.0"),
        ] {
            assert_eq!(version(said).as_deref(), Some(found), "{said}");
        }
        assert_eq!(version("no number"), None);
        let wanted = VersionReq::parse(">=3.13").unwrap();
        assert!(matches_version(&wanted, &find_version("Python 3.13.0rc1").unwrap()));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_taken() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = check_ports(&[port]).unwrap_err();
        assert!(found.starts_with(&format!("port {port} is already in use by `")), "{found}");
        assert!(found.contains(&format!("(pid {}, user ", std::process::id())), "{found}");
        drop(listener);
        // What other tests start may hold our files for a moment.
        let free = || check_ports(&[port]) == Ok("1 port free".to_owned());
        assert!((0..2000).any(|_| free()), "{:?}", check_ports(&[port]));
    }
}
