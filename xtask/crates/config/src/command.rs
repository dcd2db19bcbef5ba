//! Command lines in configuration: a text taken apart into words, or read by a shell where that is
//! said in so many words. What only a shell understands is refused otherwise.

use super::reader::TableReader;
use xtask_base::process::SHELL_COMMAND;

/// A command line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// As it was written.
    pub text: String,
    /// The program and its arguments; for a shell `/bin/sh -c TEXT`.
    pub argv: Vec<String>,
    /// Whether a shell reads it.
    pub shell: bool,
}

/// The words that only a shell understands, when they stand alone, and how those begin that do.
const SHELL_OPERATORS: [&str; 5] = ["|", "||", "&", "&&", ";"];
const SHELL_PREFIXES: [&str; 5] = [">", "<", "1>", "2>", "&>"];

/// A command line of a table.
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
            table.add_fault(key, format!("`{key}` has a quote that is not closed"));
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

/// A command line as one text, or as a list of words that are taken as they are.
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
            format!("`{key}` is a list, which no shell reads: write it as one text"),
        );
        return None;
    }
    if argv.first().is_none_or(String::is_empty) {
        table.add_fault(key, format!("`{key}` names no program"));
        return None;
    }
    Some(CommandLine { text: shell_words::join(&argv), argv, shell })
}
