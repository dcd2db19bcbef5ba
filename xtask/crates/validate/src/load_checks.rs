//! The checks of a worktree: those of `setup/validate.toml`, or default checks for what the worktree contains.
//!
//! ```text
//! no setup/validate.toml, but Cargo.toml  ->  LoadedChecks { config: [`rust`, `format`, …], file: None }
//! ```

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_config::{VALIDATE_FILE, ValidateConfig};
use xtask_detect::default_checks;
use xtask_detect::repo_facts::{DetectionInput, detect_repo};

/// The size limit of the configuration, in bytes.
const MAX_CONFIG_BYTES: u64 = 4_000_000;

/// The checks of a worktree.
pub struct LoadedChecks {
    pub config: ValidateConfig,
    /// `setup/validate.toml`, or `None` if it does not exist and the default checks are used.
    pub file: Option<String>,
}

impl LoadedChecks {
    /// Parses the text of `setup/validate.toml`.
    pub fn parse(text: &str) -> Result<LoadedChecks> {
        let config = ValidateConfig::parse(VALIDATE_FILE, text)?;
        Ok(LoadedChecks { config, file: Some(VALIDATE_FILE.to_owned()) })
    }
}

/// Reads the checks of the worktree `root`, or detects default checks if there is no `setup/validate.toml`;
/// `has_canonical` says whether there is a canonical branch for them.
pub fn read_worktree_checks(
    root: &Path,
    has_canonical: &dyn Fn() -> Result<bool>,
) -> Result<LoadedChecks> {
    let path = root.join(VALIDATE_FILE);
    let failed = || format!("cannot read `{VALIDATE_FILE}`");
    match std::fs::metadata(&path) {
        Err(cause)
            if cause.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            return detect_checks(root, has_canonical()?);
        }
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
        Ok(meta) if !meta.is_file() => {
            return Err(Error::usage(format!("{}: not a file", failed())));
        }
        Ok(meta) if meta.len() > MAX_CONFIG_BYTES => {
            return Err(Error::usage(format!("{}: larger than 4 MB", failed())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).with_context(failed)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Error::usage(format!("{}: not UTF-8", failed())))?;
    LoadedChecks::parse(&text)
}

fn detect_checks(root: &Path, has_canonical: bool) -> Result<LoadedChecks> {
    let entries =
        std::fs::read_dir(root).with_context(|| format!("cannot list `{}`", root.display()))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let paths: Vec<RepoPath> =
        files.map(|entry| RepoPath::new(entry.file_name().as_bytes())).collect();
    let read = |path: &str| {
        let path = root.join(path);
        let is_small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_CONFIG_BYTES);
        if is_small { std::fs::read(path).ok() } else { None }
    };
    // The default checks do not depend on the branch or the remote.
    let look =
        DetectionInput { name: NAME, paths: &paths, read: &read, default_branch: "", remote: None };
    let facts = detect_repo(&look);
    let text = default_checks::render_checks(&|word| match word {
        "canonical" => has_canonical,
        // Default checks should be fast, so they run no tests.
        "tests" => false,
        word => facts.meets_condition(word),
    });
    let text = default_checks::with_versions(&text, &facts.versions);
    let config = ValidateConfig::parse("the default checks", &text)?;
    Ok(LoadedChecks { config, file: None })
}
