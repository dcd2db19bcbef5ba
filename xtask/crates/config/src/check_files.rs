//! The keys of a `[[check]]` about the files that it is given: `files`, `exclude`, `each` and `serial`.
//!
//! An entry without a slash matches a name in every folder and one with a slash a path from the root, as in
//! `.gitignore`. `#!NAME` matches scripts by their first line.
//!
//! ```text
//! files = ["*.py", "#!python"], exclude = ["vendor/"]
//!   ->  CheckFiles { globs: ["**/*.py", "!**/vendor/**"], interpreters: ["python"], .. }
//! ```

use super::check_kind::CheckKind;
use super::command::CommandLine;
use super::reader::TableReader;
use super::value_syntax::parse_inner_path;
use xtask_base::words::expand_braces;

/// The word of a command in whose place the files stand.
pub const FILES_WORD: &str = "{files}";

/// The word of a command in whose place the path of the commit message stands.
pub const MESSAGE_WORD: &str = "{message}";

/// The files that a check is given, e.g. in place of `{files}` in its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFiles {
    /// Globs from the root, in which `!` takes paths back.
    pub globs: Vec<String>,
    /// Names of interpreters; a file whose `#!` line names one of them belongs to the check, too.
    pub interpreters: Vec<String>,
    /// Whether each file passes by itself, whatever the others contain.
    pub each: bool,
    /// Whether at most one process of the command runs at a time.
    pub serial: bool,
}

/// Reads the keys. Returns `None` if the check is given no files.
pub(super) fn read_check_files(
    check: &TableReader<'_>,
    kind: Option<&CheckKind>,
    has_word: bool,
) -> Option<CheckFiles> {
    let is_rules = matches!(kind, Some(CheckKind::FileRules { .. }));
    let files = check.read_text_or_list("files");
    let exclude = check.read_text_or_list("exclude");
    let (each, serial) = (check.read_bool("each"), check.read_bool("serial"));
    if !is_rules && !has_word && files.is_none() {
        for key in ["exclude", "each", "serial"].iter().filter(|key| check.has_key(key)) {
            check.add_fault(
                key,
                format!("`{key}` is for checks with `files`, or with `{FILES_WORD}` in `run`"),
            );
        }
        return None;
    }
    if matches!(kind, Some(kind) if !is_rules && !matches!(kind, CheckKind::Run(_))) {
        check.add_fault("files", "`files` is for checks that `run` a command, and for file rules");
    }
    for key in ["each", "serial"].iter().filter(|key| check.has_key(key) && !has_word) {
        check.add_fault(
            key,
            format!("`{key}` is for commands with `{FILES_WORD}` in place of files"),
        );
    }
    let (mut globs, mut interpreters) = (Vec::new(), Vec::new());
    for entry in files.unwrap_or_else(|| vec!["**".to_owned()]) {
        match entry.strip_prefix("#!") {
            Some(name) if is_interpreter(name) => interpreters.push(name.to_owned()),
            Some(_) => check.add_fault(
                "files",
                format!("`files` has `{entry}`; write the name of an interpreter, e.g. `#!python`"),
            ),
            None => globs.extend(read_glob(check, "files", &entry)),
        }
    }
    if globs.is_empty() && interpreters.is_empty() && check.has_key("files") {
        check.add_fault("files", "`files` must not be empty");
    }
    let taken_back = exclude.unwrap_or_default();
    let taken_back = taken_back.iter().filter_map(|entry| read_glob(check, "exclude", entry));
    globs.extend(taken_back.map(|glob| format!("!{glob}")).collect::<Vec<_>>());
    let each = is_rules || each.unwrap_or(false);
    Some(CheckFiles { globs, interpreters, each, serial: serial.unwrap_or(false) })
}

fn is_interpreter(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '/')
}

/// Converts an entry to a glob from the root.
fn read_glob(check: &TableReader<'_>, key: &str, entry: &str) -> Option<String> {
    let (inner, is_folder) = match entry.strip_suffix('/') {
        Some(inner) => (inner, true),
        None => (entry, false),
    };
    let from_root = inner.strip_prefix('/').unwrap_or(inner);
    if entry.starts_with('!') || parse_inner_path(from_root).is_none() {
        check.add_fault(
            key,
            format!(
                "`{key}` has `{entry}`; it must be a name such as `*.py` or a path inside the repository{}",
                if entry.starts_with('!') { "; `exclude` takes files back" } else { "" }
            ),
        );
        return None;
    }
    if expand_braces(from_root).is_none() {
        check.add_fault(key, format!("the braces in `{key}` expand to too many patterns"));
        return None;
    }
    let anywhere = if inner.contains('/') || inner == "**" { "" } else { "**/" };
    Some(format!("{anywhere}{from_root}{}", if is_folder { "/**" } else { "" }))
}

/// Returns whether `command` has `word` as a word of its own; reports a fault if it is part of another word.
pub(super) fn find_word(
    table: &TableReader<'_>,
    key: &str,
    command: &CommandLine,
    word: &str,
) -> bool {
    if !command.text.contains(word) {
        return false;
    }
    let stands_alone = if command.shell {
        // The shell gets the files as `"$@"`, which must not stand in quotes or be part of a word.
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || ";|&()".contains(c));
        command.text.match_indices(word).all(|(at, _)| {
            ends(command.text[..at].chars().next_back())
                && ends(command.text[at + word.len()..].chars().next())
        })
    } else {
        command.argv.iter().skip(1).filter(|one| one.contains(word)).all(|one| one == word)
            && !command.argv[0].contains(word)
    };
    if !stands_alone {
        table.add_fault(
            key,
            format!("`{key}` has `{word}` as a part of a word: write it alone, without quotes"),
        );
    }
    true
}
