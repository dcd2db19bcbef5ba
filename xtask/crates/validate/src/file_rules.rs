//! The file rules of a check, applied to the files that it is given, many at a time.
//!
//! ```text
//! built-in = ["check-yaml"], given a.yml, b.yml
//!   ->  output "b.yml:2: … (check-yaml)", passed: [a.yml]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::check_work::WorkResult;
use super::job_slots::JobSlots;
use super::outcome::{CheckOutcome, Verdict};
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::words::pluralize;
use xtask_config::FileRule;
use xtask_file_checks::names::find_case_conflicts;
use xtask_file_checks::rules::{CheckedFile, FileFault, FileKind, check_file, fix_content};
use xtask_git::{KnownFile, read_regular_file, replace_unchanged};

/// The number of files that a thread checks before it takes the next ones.
const CHUNK: usize = 64;

/// File rules and what they are applied to.
pub(super) struct FileRuleWork {
    pub(super) rules: Vec<FileRule>,
    pub(super) max_size: u64,
    pub(super) root: PathBuf,
    pub(super) given: Vec<RepoPath>,
    /// All paths, among which names are in conflict.
    pub(super) all_paths: Vec<RepoPath>,
}

impl FileRuleWork {
    /// Applies the rules, and says of each file whether it has passed.
    pub(super) fn run(&self, slots: &JobSlots) -> WorkResult {
        let chunks: Vec<&[RepoPath]> = self.given.chunks(CHUNK).collect();
        let check = |at: usize| -> Vec<(RepoPath, Vec<String>)> {
            let files = chunks[at].iter();
            files.map(|path| (path.clone(), self.check_one(path))).collect()
        };
        let mut faults: BTreeMap<RepoPath, Vec<String>> =
            slots.spread(chunks.len(), false, &check).into_iter().flatten().collect();
        if self.rules.contains(&FileRule::CaseConflict) {
            let checked: BTreeSet<&[u8]> = self.given.iter().map(RepoPath::as_bytes).collect();
            let all = self.all_paths.iter().chain(&self.given).map(RepoPath::as_bytes);
            for (path, other) in find_case_conflicts(all, &checked) {
                let (path, other) = (RepoPath::new(path), RepoPath::new(other));
                let message = format!("`{other}` is the same name where case does not count");
                let line = render_fault(&path, FileRule::CaseConflict, None, &message);
                faults.entry(path).or_default().push(line);
            }
        }
        let failed: Vec<&RepoPath> =
            faults.iter().filter(|(_, lines)| !lines.is_empty()).map(|(path, _)| path).collect();
        let lines: Vec<&str> = faults.values().flatten().map(String::as_str).collect();
        let verdict = if lines.is_empty() {
            let reason = pluralize(self.given.len(), "file");
            Verdict::new(CheckOutcome::Passed, &reason)
        } else {
            let (found, files) = (pluralize(lines.len(), "fault"), pluralize(failed.len(), "file"));
            Verdict {
                output: lines.join("\n") + "\n",
                ..Verdict::failed(&format!("{found} in {files}"))
            }
        };
        let passed = faults.iter().filter(|(_, lines)| lines.is_empty());
        WorkResult { verdict, passed: passed.map(|(path, _)| path.clone()).collect() }
    }

    fn check_one(&self, path: &RepoPath) -> Vec<String> {
        let on_disk = path.to_disk_path(&self.root);
        let unreadable = |cause: std::io::Error| vec![format!("{path}: cannot read it: {cause}")];
        let meta = match std::fs::symlink_metadata(&on_disk) {
            Ok(meta) => meta,
            Err(cause) => return unreadable(cause),
        };
        let kind = if meta.is_symlink() {
            FileKind::Symlink { has_target: on_disk.exists() }
        } else {
            FileKind::Regular { executable: meta.permissions().mode() & 0o100 != 0 }
        };
        let mut content = Vec::new();
        if meta.is_file() && self.rules.iter().any(|rule| rule.reads_content()) {
            match std::fs::read(&on_disk) {
                Ok(read) => content = read,
                Err(cause) => return unreadable(cause),
            }
        }
        let file = CheckedFile { path: path.as_bytes(), kind, size: meta.len(), content: &content };
        let find = |rule: &FileRule| {
            let FileFault { line, message } = check_file(*rule, &file, self.max_size)?;
            Some(render_fault(path, *rule, line, &message))
        };
        self.rules.iter().filter_map(find).collect()
    }
}

/// Renders a fault as compilers do, e.g. `a.yml:2: … (check-yaml)`.
fn render_fault(path: &RepoPath, rule: FileRule, line: Option<usize>, message: &str) -> String {
    let line = line.map_or(String::new(), |line| format!(":{line}"));
    format!("{path}{line}: {message} ({})", rule.name())
}

/// A file with what the fixes of its rules make of it.
pub(super) struct PlannedFix {
    pub(super) path: RepoPath,
    known: KnownFile,
    fixed: Vec<u8>,
}

/// Computes what the fixes of `rules` change in `given`; writes nothing.
pub(super) fn plan_fixes(root: &Path, rules: &[FileRule], given: &[RepoPath]) -> Vec<PlannedFix> {
    let plan = |path: &RepoPath| {
        let known = read_regular_file(&path.to_disk_path(root))?;
        let mut fixed = None;
        for rule in rules {
            let content = fixed.as_ref().unwrap_or(&known.content);
            fixed = fix_content(*rule, path.as_bytes(), content).or(fixed);
        }
        fixed.map(|fixed| PlannedFix { path: path.clone(), known, fixed })
    };
    given.iter().filter_map(plan).collect()
}

/// Writes the fixed contents. A file that was saved since it was read stays as it is.
pub(super) fn write_fixes(disk: &Disk<'_>, root: &Path, fixes: &[PlannedFix]) -> Result<()> {
    for fix in fixes {
        let path = fix.path.to_disk_path(root);
        let mode = fix.known.stat.mode & 0o7777;
        replace_unchanged(disk, &path, &fix.known, &fix.fixed, mode)?;
    }
    Ok(())
}
