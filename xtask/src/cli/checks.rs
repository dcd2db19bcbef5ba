//! Arguments of `validate`, e.g. `validate --fast --only lint`.

use std::path::PathBuf;

use clap::Args;
use xtask_validate::shard::Shard;

/// Arguments of `validate`. A boolean flag also accepts a value, e.g. `--fast=false`, to override a variable or
/// a persisted default.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask validate                 run all checks
  cargo xtask validate --fast          skip checks whose inputs have not changed since they passed
  cargo xtask validate --fast --why    and show why each check ran or was skipped
  cargo xtask validate --only lint     one check, phase or tag, and the checks it needs
  cargo xtask validate --undo last     revert the last fixes

Environment variables (flags override them): FAST_MODE=1, SKIP_TESTS=1, DRY_RUN=1, INTERACTIVE=1,
AUTO_REMEDIATE=0 (--no-fix), LOG_REMEDIATION=0 (--no-log), PERSIST_CONFIG=1. --persist saves defaults as
`git config xtask.validate.*`.")]
pub struct ValidateArgs {
    /// Skip checks that have passed in the same state
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub fast: Option<bool>,
    /// Skip checks that run tests
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_tests: Option<bool>,
    /// Run only these checks, phases or tags, and the checks they need
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<String>,
    /// Skip these checks, phases or tags
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Check only these files, and what is in these folders
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "since")]
    pub files: Vec<PathBuf>,
    /// Check what has changed since the merge base with a revision, and what needs it
    #[arg(long, value_name = "REV")]
    pub since: Option<String>,
    /// Run again what is affected whenever files change, until Ctrl-C; no fixes
    #[arg(long, conflicts_with_all = ["files", "since", "dry_run", "interactive", "yes", "persist", "json", "junit",
        "sarif", "report", "github", "list", "undo", "history", "shard", "merge_reports", "save_times"])]
    pub watch: bool,
    /// Use no results of other machines, and give them none
    #[arg(long)]
    pub no_share: bool,
    /// Only show what would run; change nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub dry_run: Option<bool>,
    /// Ask before each fix, including risky ones
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub interactive: Option<bool>,
    /// Run risky fixes, too, without asking
    #[arg(long, conflicts_with = "interactive")]
    pub yes: bool,
    /// Run no fixes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_fix: Option<bool>,
    /// Write no log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_log: Option<bool>,
    /// Show why each check ran or was skipped
    #[arg(long)]
    pub why: bool,
    /// How many checks run in parallel [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Save the given flags as defaults of this clone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub persist: Option<bool>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report to a file, or to stdout for `-`
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a SARIF report to a file, or to stdout for `-`
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Write the result as JSON to a file, for `--merge-reports`
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Run one of N parts of equal time, e.g. 2/3, for a machine each; the parts are the same everywhere
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<Shard>,
    /// Merge the reports of all shards in a folder; run no checks
    #[arg(long, value_name = "DIR", conflicts_with_all = ["shard", "only", "skip", "fast", "skip_tests", "files",
        "since", "dry_run", "interactive", "yes", "no_fix", "why", "jobs", "persist", "list", "undo", "history"])]
    pub merge_reports: Option<PathBuf>,
    /// Save how long the checks took in `setup/check-times.toml`, for `--shard`
    #[arg(long, conflicts_with_all = ["dry_run", "list", "undo", "history"])]
    pub save_times: bool,
    /// Print annotations and write a job summary for GitHub Actions
    #[arg(long, conflicts_with = "json")]
    pub github: bool,
    /// List the checks; run none
    #[arg(long, conflicts_with_all = ["undo", "history"])]
    pub list: bool,
    /// Revert the fixes of a run; `last` is the latest run that fixed something
    #[arg(long, value_name = "RUN", conflicts_with = "history")]
    pub undo: Option<String>,
    /// Show each check's runs, pass rate, durations and cache hit rate
    #[arg(long)]
    pub history: bool,
}

fn parse_shard(text: &str) -> Result<Shard, &'static str> {
    Shard::parse(text).ok_or("it must be I/N with 1 ≤ I ≤ N ≤ 256, e.g. 2/3")
}
