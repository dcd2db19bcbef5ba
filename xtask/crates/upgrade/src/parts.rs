//! The optional parts of the toolkit, and filters that remove absent parts from its files. Sync and hooks are always
//! included.
//!
//! The filters work on text: crates of absent parts are removed, and in the other crates the items under
//! `#[cfg(feature = "PART")]`, as rustfmt formats them. The rest is what cargo compiles of the original without these
//! features. For example, `--parts sync,hooks,checks` removes `crates/services` and the command `start`.

use std::collections::{BTreeMap, BTreeSet};

use super::editor_tasks;
use xtask_base::error::{Error, Result};
use xtask_config::suggest_nearest;

/// A part: its dependencies, crates and commands.
struct Part {
    name: &'static str,
    dependencies: &'static [&'static str],
    crates: &'static [&'static str],
    commands: &'static [&'static str],
    /// Further words that only texts about this part use.
    mentions: &'static [&'static str],
}

const REQUIRED_PARTS: [&str; 2] = ["sync", "hooks"];

const OPTIONAL_PARTS: [Part; 4] = [
    Part {
        name: "checks",
        dependencies: &[],
        crates: &["detect", "share", "validate"],
        commands: &["validate"],
        mentions: &["setup/validate.toml"],
    },
    Part {
        name: "services",
        dependencies: &["checks"],
        crates: &["services"],
        commands: &["start", "stop", "restart", "ps", "logs", "recover"],
        mentions: &["`deployment/`", "deployment/local.toml"],
    },
    Part {
        name: "deploy",
        dependencies: &["checks", "services"],
        crates: &["deploy"],
        commands: &["deploy", "rollback", "history"],
        mentions: &[],
    },
    Part {
        name: "vendoring",
        dependencies: &["checks", "services"],
        crates: &["vendoring"],
        commands: &["vendor", "demo"],
        mentions: &[],
    },
];

/// The value of `--parts` for all parts.
const ALL_KEYWORD: &str = "all";

/// The optional parts of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolkitParts(BTreeSet<&'static str>);

impl ToolkitParts {
    /// Returns all parts.
    #[must_use]
    pub fn all() -> ToolkitParts {
        ToolkitParts(OPTIONAL_PARTS.iter().map(|part| part.name).collect())
    }

    /// Returns the default parts: checks, and services if the repository has some.
    #[must_use]
    pub fn default_parts(has_services: bool) -> ToolkitParts {
        let names = if has_services { &["checks", "services"][..] } else { &["checks"] };
        ToolkitParts(names.iter().copied().collect())
    }

    /// Parses the values of `--parts`, e.g. `sync`, `hooks`, `checks`, or `all` alone.
    pub fn parse(names: &[String]) -> Result<ToolkitParts> {
        if names.iter().any(|name| name == ALL_KEYWORD) {
            return match names {
                [_] => Ok(ToolkitParts::all()),
                _ => Err(Error::usage("`all` cannot be combined with other parts")),
            };
        }
        let mut found = BTreeSet::new();
        for name in names {
            match OPTIONAL_PARTS.iter().find(|part| part.name == name) {
                Some(part) => drop(found.insert(part.name)),
                None if REQUIRED_PARTS.contains(&name.as_str()) => {}
                None => {
                    let known = ToolkitParts::known_names();
                    let near = suggest_nearest(name, known.iter().copied());
                    return Err(Error::usage(format!("unknown part `{name}`{near}"))
                        .with_hint(format!("the parts are {}; or `all`", known.join(", "))));
                }
            }
        }
        for part in OPTIONAL_PARTS.iter().filter(|part| found.contains(part.name)) {
            let missing: Vec<&str> =
                part.dependencies.iter().copied().filter(|need| !found.contains(need)).collect();
            if !missing.is_empty() {
                let mut whole = found.clone();
                whole.extend(part.dependencies);
                return Err(Error::usage(format!(
                    "part `{}` needs `{}`",
                    part.name,
                    missing.join("` and `")
                ))
                .with_hint(format!("`--parts {}`", ToolkitParts(whole).to_flag_value())));
            }
        }
        Ok(ToolkitParts(found))
    }

    /// Returns the names of all parts.
    fn known_names() -> Vec<&'static str> {
        REQUIRED_PARTS.into_iter().chain(OPTIONAL_PARTS.iter().map(|part| part.name)).collect()
    }

    /// Returns the value of `--parts`, e.g. `sync,hooks,checks`.
    #[must_use]
    pub fn to_flag_value(&self) -> String {
        let there = OPTIONAL_PARTS.iter().map(|part| part.name).filter(|name| self.has_part(name));
        REQUIRED_PARTS.into_iter().chain(there).collect::<Vec<_>>().join(",")
    }

    /// Returns whether the copy has a part.
    #[must_use]
    pub fn has_part(&self, name: &str) -> bool {
        REQUIRED_PARTS.contains(&name) || self.0.contains(name)
    }

    /// Returns whether the copy has all parts.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.len() == OPTIONAL_PARTS.len()
    }

    /// Returns whether the copy has a crate of `crates/`.
    fn has_crate(&self, name: &str) -> bool {
        let mut of = OPTIONAL_PARTS.iter().filter(|part| part.crates.contains(&name)).peekable();
        of.peek().is_none() || of.any(|part| self.has_part(part.name))
    }

    /// Returns the crates that the copy does not have.
    fn absent_crates(&self) -> impl Iterator<Item = &'static str> {
        let all: BTreeSet<&str> =
            OPTIONAL_PARTS.iter().flat_map(|part| part.crates.iter().copied()).collect();
        all.into_iter().filter(|name| !self.has_crate(name))
    }

    /// Returns whether a line of a text for users is about an absent part.
    fn mentions_absent_part(&self, line: &str) -> bool {
        let absent = || OPTIONAL_PARTS.iter().filter(|part| !self.has_part(part.name));
        let names = |command: &str| {
            line.match_indices("cargo xtask ").any(|(at, found)| {
                let rest = line[at + found.len()..].strip_prefix(command);
                rest.is_some_and(|rest| {
                    !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-')
                })
            })
        };
        absent().any(|part| {
            part.commands.iter().any(|command| names(command))
                || part.mentions.iter().any(|word| line.contains(word))
        })
    }

    /// Removes the lines about absent parts from a text for users.
    #[must_use]
    pub fn filter_text(&self, text: &str) -> String {
        text.split_inclusive('\n').filter(|line| !self.mentions_absent_part(line)).collect()
    }

    /// Removes the commands of absent parts from a `justfile`, and recipes that have no other command.
    #[must_use]
    pub fn filter_justfile(&self, text: &str) -> String {
        let is_command = |line: &&str| line.starts_with(' ');
        let blocks = text.split_inclusive("\n\n").filter_map(|block| {
            let fitted: String = block
                .split_inclusive('\n')
                .filter(|line| !is_command(line) || !self.mentions_absent_part(line))
                .collect();
            let is_empty = block.lines().any(|line| is_command(&line))
                && !fitted.lines().any(|line| is_command(&line));
            (!is_empty).then_some(fitted)
        });
        let text: String = blocks.collect();
        format!("{}\n", text.trim_end_matches('\n'))
    }

    /// Removes the tasks of absent parts from a `tasks.json`.
    #[must_use]
    pub fn filter_tasks(&self, text: &str) -> String {
        editor_tasks::keep_tasks(text, |task| !self.mentions_absent_part(task))
    }

    /// Returns whether a copy does not have a file of the toolkit, by its path in `xtask/`. `modules` are the
    /// modules of absent parts.
    pub(super) fn excludes_file(&self, inner: &str, modules: &BTreeSet<String>) -> bool {
        let of_crate = inner.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
        let is_module = |module: &String| {
            inner
                .strip_prefix(module.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        of_crate.is_some_and(|name| !self.has_crate(name))
            || inner == "src/supervisor.rs" && !self.has_part("services")
            || modules.iter().any(is_module)
    }

    /// Returns the modules that a source declares under absent parts, as paths without `.rs`.
    pub(super) fn absent_modules(&self, inner: &str, text: &str) -> Vec<String> {
        let Some((folder, file)) = inner.rsplit_once('/') else { return Vec::new() };
        let stem = file.trim_end_matches(".rs");
        let above = match stem {
            "mod" | "lib" | "main" => folder.to_owned(),
            _ => format!("{folder}/{stem}"),
        };
        let mut found = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if self.is_absent_cfg(line) && !line.starts_with(' ') {
                let item = lines.next().unwrap_or_default();
                let name = item.trim_start_matches("pub ").strip_prefix("mod ");
                if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                    found.push(format!("{above}/{name}"));
                }
            }
        }
        found
    }

    /// Returns whether a line is the `cfg` attribute of an absent part.
    fn is_absent_cfg(&self, line: &str) -> bool {
        let feature = line
            .trim()
            .strip_prefix("#[cfg(feature = \"")
            .and_then(|rest| rest.strip_suffix("\")]"));
        feature.is_some_and(|name| {
            OPTIONAL_PARTS.iter().any(|part| part.name == name) && !self.has_part(name)
        })
    }

    /// Removes the items of absent parts from a source.
    pub(super) fn filter_source(&self, text: &str) -> String {
        if self.is_all() {
            return text.to_owned();
        }
        let mut fitted = String::with_capacity(text.len());
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            if !self.is_absent_cfg(line) {
                fitted.push_str(line);
                continue;
            }
            skip_item(indent_width(line), &mut lines);
            // Keep one blank line between two items.
            if fitted.ends_with("\n\n") {
                while lines.next_if(|next| next.trim().is_empty()).is_some() {}
            }
            let closes =
                lines.peek().is_some_and(|next| next.trim_start().starts_with(['}', ']', ')']));
            while (closes || lines.peek().is_none()) && fitted.ends_with("\n\n") {
                fitted.pop();
            }
        }
        fitted
    }

    /// Removes the crates and features of absent parts from a `Cargo.toml`.
    pub(super) fn filter_cargo_toml(&self, text: &str) -> String {
        if self.is_all() {
            return text.to_owned();
        }
        let absent: Vec<&str> = self.absent_crates().collect();
        let mut fitted = String::with_capacity(text.len());
        let mut table = "";
        let (mut is_left_out, mut is_in_list) = (false, false);
        for line in text.split_inclusive('\n') {
            if is_in_list {
                is_in_list = !line.starts_with(']');
                continue;
            }
            if line.starts_with('[') {
                table = line.trim_end();
                is_left_out = false;
            }
            let key = line.split_once(" = ").or(line.split_once('.')).map_or("", |(key, _)| key);
            let is_part =
                table == "[features]" && OPTIONAL_PARTS.iter().any(|part| part.name == key);
            let is_crate = absent.iter().any(|name| {
                line == format!("  \"crates/{name}\",\n")
                    || line.starts_with(&format!("xtask-{name} = "))
                    || line.starts_with(&format!("xtask-{name}."))
            });
            if is_crate || is_part && !self.has_part(key) || is_left_out {
                // A list may continue on the following lines.
                is_in_list = line.trim_end().ends_with('[');
                continue;
            }
            if table == "[features]" && key == "default" {
                let there =
                    OPTIONAL_PARTS.iter().map(|part| part.name).filter(|name| self.has_part(name));
                let names: Vec<String> = there.map(|name| format!("\"{name}\"")).collect();
                fitted.push_str(&format!("default = [{}]\n", names.join(", ")));
                continue;
            }
            fitted.push_str(line);
            // `xtask-supervisor` needs services.
            if !self.has_part("services") && line == "name = \"xtask-supervisor\"\n" {
                let start = fitted.rfind("\n[[").map_or(0, |at| at + 1);
                fitted.truncate(start);
                is_left_out = true;
            }
        }
        fitted
    }

    /// Removes the packages of absent parts from the lock file, and those that only they need.
    pub(super) fn filter_cargo_lock(&self, text: &str) -> String {
        if self.is_all() {
            return text.to_owned();
        }
        let absent: BTreeSet<String> =
            self.absent_crates().map(|name| format!("xtask-{name}")).collect();
        let mut blocks: Vec<String> = text.split("\n[[package]]\n").map(str::to_owned).collect();
        let head = blocks.remove(0);
        let packages: Vec<LockedPackage> =
            blocks.iter().map(|block| LockedPackage::parse(block)).collect();
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, package) in packages.iter().enumerate() {
            by_name.entry(&package.name).or_default().push(at);
        }
        let mut open: Vec<usize> = (0..packages.len())
            .filter(|at| packages[*at].is_local && !absent.contains(&packages[*at].name))
            .collect();
        let mut reached: BTreeSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            for need in &packages[at].needs {
                // `name`, or `name version` if there are several.
                let (name, version) =
                    need.split_once(' ').map_or((&need[..], None), |(n, v)| (n, Some(v)));
                if absent.contains(name) {
                    continue;
                }
                let several = by_name.get(name).into_iter().flatten().copied();
                for found in several
                    .filter(|found| version.is_none_or(|wanted| wanted == packages[*found].version))
                {
                    if reached.insert(found) {
                        open.push(found);
                    }
                }
            }
        }
        let mut fitted = head;
        for at in reached {
            fitted.push_str("\n[[package]]\n");
            let lines = blocks[at].split_inclusive('\n');
            fitted.extend(
                lines.filter(|line| !absent.contains(line.trim().trim_matches(['"', ',']))),
            );
        }
        let mut fitted = fitted.trim_end_matches('\n').to_owned();
        fitted.push('\n');
        fitted
    }
}

/// A package of a lock file.
struct LockedPackage {
    name: String,
    version: String,
    is_local: bool,
    needs: Vec<String>,
}

impl LockedPackage {
    fn parse(block: &str) -> LockedPackage {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key));
            line.map_or(String::new(), |rest| rest.trim_matches('"').to_owned())
        };
        let needs = block.lines().filter_map(|line| line.strip_prefix(" \"")).map(|line| {
            let line = line.trim_end_matches(['"', ',']);
            line.split(" (").next().unwrap_or(line).to_owned()
        });
        LockedPackage {
            name: value("name = "),
            version: value("version = "),
            is_local: !block.contains("\nsource = "),
            needs: needs.collect(),
        }
    }
}

fn indent_width(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Skips the item after an attribute at the indentation `depth`, with its doc comments and other attributes.
fn skip_item<'a>(depth: usize, lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) {
    // An attribute may span several lines.
    while let Some(line) = lines.next_if(|line| {
        let line = line.trim_start();
        line.starts_with("#[") || line.starts_with("///")
    }) {
        let is_whole = line.trim_start().starts_with("///") || line.trim_end().ends_with(']');
        if !is_whole {
            for inner in lines.by_ref() {
                if inner.trim_end().ends_with(")]") {
                    break;
                }
            }
        }
    }
    // The item ends at the first line at this depth that leaves no bracket open.
    let Some(mut last) = lines.next() else { return };
    loop {
        let is_open = last.trim_end().ends_with(['{', '(', '[']);
        if last.trim_end().ends_with([';', ',', '}']) {
            return;
        }
        while lines
            .next_if(|line| indent_width(line) > depth || is_open && line.trim().is_empty())
            .is_some()
        {}
        match lines.next_if(|line| is_open || line.trim() == "{") {
            Some(line) => last = line,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> Result<ToolkitParts> {
        ToolkitParts::parse(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn lines(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn names_are_checked_and_what_a_part_needs_is_named() {
        assert_eq!(
            parts(&["sync", "hooks", "checks"]).unwrap().to_flag_value(),
            "sync,hooks,checks"
        );
        assert_eq!(parts(&["hooks"]).unwrap().to_flag_value(), "sync,hooks");
        assert!(parts(&["all"]).unwrap().is_all());
        for (names, what) in [
            (&["check"][..], "unknown part `check`; did you mean `checks`?"),
            (&["deploy"], "part `deploy` needs `checks` and `services`"),
            (&["services", "sync"], "part `services` needs `checks`"),
            (&["all", "sync"], "`all` cannot be combined with other parts"),
            (&[""], "unknown part ``"),
        ] {
            assert_eq!(parts(names).unwrap_err().message(), what, "{names:?}");
        }
    }

    #[test]
    fn sources_lose_what_belongs_to_an_absent_part_and_nothing_else() {
        let checks = parts(&["checks"]).unwrap();
        let text = lines(&[
            "use a::b;",
            r##"#[cfg(feature = "services")]"##,
            "use c::d;",
            r##"#[cfg(feature = "checks")]"##,
            "mod e;",
            r##"#[cfg(feature = "services")]"##,
            "mod f;",
            "",
            r##"#[cfg(feature = "services")]"##,
            "/// `g`.",
            "#[derive(Args)]",
            r##"#[command(after_help = "\"##,
            "Examples:",
            "  g [H];",
            r##"}")]"##,
            "pub struct G {",
            "    h: u8,",
            "}",
            "",
            r##"#[cfg(feature = "services")]"##,
            "#[must_use]",
            "fn i(",
            "    j: u8,",
            ") -> u8 {",
            "    match j {",
            "        1 => 2,",
            r##"        #[cfg(feature = "services")]"##,
            "        3 => {",
            "            4",
            "        }",
            "        _ => 5,",
            "    }",
            "}",
            "",
            "fn k() {",
            r##"    #[cfg(feature = "deploy")]"##,
            "    if let Some(v) = w",
            "        && v",
            "    {",
            "        x();",
            "    }",
            r##"    #[cfg(feature = "deploy")]"##,
            "    if let Some(l) = m() {",
            "        return n(",
            "            l,",
            "        );",
            "    }",
            "    match o {",
            r##"        #[cfg(feature = "services")]"##,
            "        P::Q | P::R => true,",
            r##"        #[cfg(feature = "services")]"##,
            "        P::S(args) =>",
            "            s(args),",
            "        P::T => false,",
            "    }",
            "}",
            "",
            r##"#[cfg(feature = "deploy")]"##,
            "const U: u8 = 1;",
        ]);
        let fitted = lines(&[
            "use a::b;",
            r##"#[cfg(feature = "checks")]"##,
            "mod e;",
            "",
            "fn k() {",
            "    match o {",
            "        P::T => false,",
            "    }",
            "}",
        ]);
        assert_eq!(checks.filter_source(&text), fitted);
        assert_eq!(checks.absent_modules("src/cmd/mod.rs", &text), ["src/cmd/f"]);
        assert_eq!(checks.absent_modules("src/cli.rs", &text), ["src/cli/f"]);
        assert_eq!(ToolkitParts::all().filter_source(&text), text);
    }

    #[test]
    fn lock_files_keep_what_is_reached() {
        let package = |name: &str, version: &str, source: bool, needs: &[&str]| {
            let source = if source { "source = \"registry\"\n" } else { "" };
            let needs: String = needs.iter().map(|need| format!(" \"{need}\",\n")).collect();
            format!(
                "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}dependencies = [\n{needs}]\n"
            )
        };
        let text = |ours: &[&str]| {
            let mut text = "version = 4\n".to_owned();
            text.push_str(&package("a", "1.0.0", true, &["b 2.0.0"]));
            text.push_str(&package("b", "1.0.0", true, &[]));
            text.push_str(&package("b", "2.0.0", true, &[]));
            text.push_str(&package("xtask", "0.1.0", false, ours));
            text
        };
        let whole =
            text(&["a", "xtask-deploy"]) + &package("xtask-deploy", "0.1.0", false, &["b 1.0.0"]);
        let fitted = parts(&["checks"]).unwrap().filter_cargo_lock(&whole);
        let wanted = text(&["a"]).replace(&package("b", "1.0.0", true, &[]), "");
        assert_eq!(fitted, wanted);
        assert_eq!(ToolkitParts::all().filter_cargo_lock(&whole), whole);
    }

    #[test]
    fn crates_and_features_of_the_package_are_those_of_the_parts() {
        let text = include_str!("../../../Cargo.toml");
        for part in &OPTIONAL_PARTS {
            let begin = text.find(&format!("\n{} = [", part.name));
            let begin = begin.unwrap_or_else(|| panic!("no feature `{}`", part.name));
            let line = text[begin..].split(']').next().unwrap();
            for name in part.crates {
                assert!(line.contains(&format!("\"dep:xtask-{name}\"")), "{}: {name}", part.name);
            }
            assert_eq!(line.matches("dep:").count(), part.crates.len(), "{line}");
        }
        let fitted = parts(&["checks"]).unwrap().filter_cargo_toml(text);
        assert!(fitted.contains("\"crates/validate\"") && !fitted.contains("\"crates/deploy\""));
        for word in ["deploy", "xtask-services", "vendoring", "supervisor"] {
            assert!(
                !fitted.contains(&format!("{word} = ")) && !fitted.contains(&format!("\"{word}\"")),
                "{word}"
            );
        }
        assert!(
            fitted.contains("default = [\"checks\"]\n") && fitted.contains("xtask-validate = {")
        );
        assert!(fitted.contains("[lib]\n") && fitted.contains("[profile.dev]\n"));
    }

    #[test]
    fn texts_name_only_what_is_there() {
        let sync = parts(&["sync"]).unwrap();
        let text = "| `cargo xtask sync` | x |\n| `cargo xtask start`, `stop` | x |\n| `cargo xtask starter` |\n";
        assert_eq!(
            sync.filter_text(text),
            "| `cargo xtask sync` | x |\n| `cargo xtask starter` |\n"
        );
        let just = "# one\nsync:\n    cargo xtask sync\n\n# two\nstart:\n    cargo xtask start\n\n# day\nday:\n    git fetch\n    cargo xtask start\n";
        assert_eq!(
            sync.filter_justfile(just),
            "# one\nsync:\n    cargo xtask sync\n\n# day\nday:\n    git fetch\n"
        );
        assert_eq!(ToolkitParts::all().filter_justfile(just), just);
    }
}
