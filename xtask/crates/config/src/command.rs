//! Command lines in configuration files.
//!
//! A string is split into words, or passed to `/bin/sh -c` if `shell = true`. Without a shell, shell syntax such
//! as `a | b` is a fault.

use std::ffi::OsString;

use super::check_files::{FILES_WORD, MESSAGE_WORD};
use super::reader::TableReader;
use xtask_base::process::SHELL_COMMAND;

/// A parsed command line. For example, `cargo test -q` has the `argv` `["cargo", "test", "-q"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The text as written.
    pub text: String,
    /// The program and its arguments; `["/bin/sh", "-c", text]` if `shell` is set.
    pub argv: Vec<String>,
    /// Whether a shell interprets the text.
    pub shell: bool,
}

impl CommandLine {
    /// Whether the command has `{files}`.
    #[must_use]
    pub fn takes_files(&self) -> bool {
        self.text.contains(FILES_WORD)
    }

    /// Returns the arguments after the program, with `paths` in place of `{files}` or `{message}`. A shell gets them as
    /// `"$@"`, so that no character of a name has a meaning for it.
    #[must_use]
    pub fn arguments_with(&self, paths: &[OsString]) -> Vec<OsString> {
        let is_placeholder = |word: &str| word == FILES_WORD || word == MESSAGE_WORD;
        if !self.shell {
            let word = |word: &String| match is_placeholder(word) {
                true => paths.to_vec(),
                false => vec![OsString::from(word)],
            };
            return self.argv[1..].iter().flat_map(word).collect();
        }
        let mut words: Vec<OsString> = self.argv[1..].iter().map(OsString::from).collect();
        if self.text.contains(FILES_WORD) || self.text.contains(MESSAGE_WORD) {
            let text = self.text.replace(FILES_WORD, "\"$@\"").replace(MESSAGE_WORD, "\"$@\"");
            words.pop();
            words.extend([OsString::from(text), OsString::from("sh")]);
            words.extend(paths.iter().cloned());
        }
        words
    }
}

/// Words that are shell operators when they stand alone, and prefixes of words that are shell redirections.
const SHELL_OPERATORS: [&str; 5] = ["|", "||", "&", "&&", ";"];
const SHELL_PREFIXES: [&str; 5] = [">", "<", "1>", "2>", "&>"];

/// Reads the command line `key`. Reports a fault if it is empty, has an unclosed quote or needs a shell.
pub(super) fn read_command(table: &TableReader<'_>, key: &str, shell: bool) -> Option<CommandLine> {
    let text = table.read_text(key)?;
    if shell {
        let argv = SHELL_COMMAND.into_iter().chain([text.as_str()]).map(str::to_owned).collect();
        return Some(CommandLine { text, argv, shell });
    }
    let argv = match shell_words::split(&text) {
        Ok(words) if !words.is_empty() => words,
        Ok(_) => {
            table.add_fault(key, format!("`{key}` is empty"));
            return None;
        }
        Err(_) => {
            table.add_fault(key, format!("`{key}` has an unclosed quote"));
            return None;
        }
    };
    let operator = argv.iter().find(|word| {
        let starts = SHELL_PREFIXES.iter().any(|start| word.starts_with(start));
        SHELL_OPERATORS.contains(&word.as_str()) || starts || word.len() > 1 && word.ends_with(';')
    });
    if let Some(word) = operator {
        table.add_fault(
            key,
            format!("`{key}` has `{word}`, which needs a shell: add `shell = true`"),
        );
        return None;
    }
    if argv[0].contains('=') {
        table.add_fault(
            key,
            format!("`{key}` begins with `{}`, which needs a shell: add `shell = true`", argv[0]),
        );
        return None;
    }
    Some(CommandLine { text, argv, shell })
}

/// Reads the command line `key`: a string as in [`read_command`], or a list of words that are used unchanged.
pub(super) fn read_command_or_list(
    table: &TableReader<'_>,
    key: &str,
    shell: bool,
) -> Option<CommandLine> {
    if table.type_of(key) != Some("array") {
        return read_command(table, key, shell);
    }
    let argv = table.read_any_texts(key)?;
    if shell {
        table.add_fault(
            key,
            format!("`{key}` is a list, which a shell cannot run: write it as a string"),
        );
        return None;
    }
    if argv.first().is_none_or(String::is_empty) {
        table.add_fault(key, format!("`{key}` does not name a program"));
        return None;
    }
    Some(CommandLine { text: shell_words::join(&argv), argv, shell })
}
