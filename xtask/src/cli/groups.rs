//! The top-level help: all commands in groups, such as `Services: start, stop, restart, ps, logs`.

use clap::CommandFactory as _;

use super::Cli;

/// The groups of the help and their commands, in the order of the help.
const COMMAND_GROUPS: [(&str, &[&str]); 8] = [
    (
        "Everyday",
        &[
            "setup",
            "status",
            "dashboard",
            "sync",
            "diff",
            "why",
            "pin",
            "unpin",
            "undo",
            "switch",
            "run",
            "push",
        ],
    ),
    ("Branches", &["branch"]),
    ("Canonical branch", &["reverse-sync", "extract", "promote", "propagate"]),
    ("Hooks and checks", &["install-hooks", "uninstall-hooks", "hooks", "validate"]),
    ("Services", &["start", "stop", "restart", "ps", "logs"]),
    ("Recovery", &["backup", "restore", "recover"]),
    ("Deploy", &["deploy", "rollback", "history"]),
    ("Toolkit", &["vendor", "upgrade", "demo", "completions", "help"]),
];

/// Returns the clap command of `Cli` with `COMMAND_GROUPS` in its help template.
#[must_use]
pub fn build_command() -> clap::Command {
    use std::fmt::Write as _;
    let mut command = Cli::command();
    command.build();
    let heading = command.get_styles().get_header().to_owned();
    let literal = command.get_styles().get_literal().to_owned();
    let mut groups = String::new();
    for (title, names) in COMMAND_GROUPS {
        let there = names.iter().filter_map(|name| command.find_subcommand(name));
        let lines: Vec<String> = there
            .map(|one| {
                let about = one.get_about().map_or_else(String::new, ToString::to_string);
                format!("  {literal}{:<17}{literal:#}{about}\n", one.get_name())
            })
            .collect();
        if !lines.is_empty() {
            write!(groups, "{heading}{title}:{heading:#}\n{}\n", lines.concat())
                .expect("because writing to a string cannot fail");
        }
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}{heading}Options:{heading:#}\n{{options}}{{after-help}}"
    );
    Cli::command().help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_a_group() {
        let command = Cli::command();
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let is_there = COMMAND_GROUPS.iter().any(|(_, names)| names.contains(&one.get_name()));
            assert!(is_there, "{}", one.get_name());
            let about = one.get_about().unwrap().to_string();
            assert!(about.len() <= 72, "{about}");
        }
    }
}
