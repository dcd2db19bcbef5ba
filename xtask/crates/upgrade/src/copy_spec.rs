//! How a copy of the toolkit differs from the original: its name and its parts. For example, with the name `ops`
//! the file `xtask/src/main.rs` becomes `ops/src/main.rs`, and `cargo xtask` becomes `cargo ops`.

use super::parts::ToolkitParts;
use xtask_base::error::{Error, Result};
use xtask_base::name::NAME;

/// The name and the parts of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySpec {
    /// The name of the folder, the package and the alias.
    pub name: String,
    pub parts: ToolkitParts,
}

/// The commands of cargo, which take precedence over an alias of the same name: `cargo --list` of 1.91, with the
/// short forms.
const CARGO_COMMANDS: [&str; 44] = [
    "add",
    "b",
    "bench",
    "build",
    "c",
    "check",
    "clean",
    "clippy",
    "config",
    "d",
    "doc",
    "fetch",
    "fix",
    "fmt",
    "generate-lockfile",
    "help",
    "info",
    "init",
    "install",
    "locate-project",
    "login",
    "logout",
    "metadata",
    "miri",
    "new",
    "owner",
    "package",
    "pkgid",
    "publish",
    "r",
    "read-manifest",
    "remove",
    "report",
    "rm",
    "run",
    "rustc",
    "rustdoc",
    "search",
    "t",
    "test",
    "tree",
    "uninstall",
    "update",
    "vendor",
];

/// Further reserved names: folders of the toolkit, folders in which cargo looks for targets of the root package,
/// aliases of the toolkit, and crates that every program knows.
const RESERVED_NAMES: [&str; 14] = [
    "alloc",
    "benches",
    "bin",
    "core",
    "deployment",
    "examples",
    "scripts",
    "setup",
    "src",
    "std",
    "target",
    "tests",
    "xbench",
    "xtest",
];

/// The name of the toolkit in its own repository.
const SOURCE: &str = "xtask";

impl CopySpec {
    /// Returns the spec with all parts, and with the name of this program.
    #[must_use]
    pub fn with_all_parts() -> CopySpec {
        CopySpec { name: NAME.to_owned(), parts: ToolkitParts::all() }
    }

    /// Returns an error if `name` is not a valid name for a copy.
    pub fn check_name(name: &str) -> Result<()> {
        let first = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if !first || !name.chars().all(rest) || name.len() > 40 {
            return Err(Error::usage(format!(
                "invalid name `{}`: use `[a-z][a-z0-9_-]{{0,39}}`",
                name.escape_debug()
            ))
            .with_hint("it becomes a folder, a package, and `cargo NAME`"));
        }
        if CARGO_COMMANDS.contains(&name) {
            return Err(Error::usage(format!("`cargo {name}` is a built-in command of cargo"))
                .with_hint("use another name, such as `--name tasks`"));
        }
        if RESERVED_NAMES.contains(&name) || name.starts_with("xtask-") {
            return Err(Error::usage(format!("reserved name `{name}`"))
                .with_hint("use another name, such as `--name tasks`"));
        }
        Ok(())
    }

    /// Converts a path of the toolkit to a path of the copy.
    #[must_use]
    pub fn to_copy_path(&self, path: &str) -> String {
        match path.strip_prefix(SOURCE).filter(|rest| rest.starts_with('/')) {
            Some(rest) => format!("{}{rest}", self.name),
            None => path.to_owned(),
        }
    }

    /// Converts a path of the copy to a path of the toolkit.
    #[must_use]
    pub fn to_toolkit_path(&self, path: &str) -> String {
        match path.strip_prefix(self.name.as_str()).filter(|rest| rest.starts_with('/')) {
            Some(rest) => format!("{SOURCE}{rest}"),
            None => path.to_owned(),
        }
    }

    /// Returns whether the copy has the name of the original.
    fn has_default_name(&self) -> bool {
        self.name == SOURCE
    }

    /// Renames commands and paths in a text for users, or in a template.
    #[must_use]
    pub fn rename_text(&self, text: &str) -> String {
        if self.has_default_name() {
            return text.to_owned();
        }
        let text = self.rename_commands(text);
        let title = format!("# {SOURCE}\n");
        let text = match text.strip_prefix(&title) {
            Some(rest) => format!("# {}\n{rest}", self.name),
            None => text,
        };
        let folder = format!("{SOURCE}/");
        let mut renamed = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&folder) {
            let (before, found) = rest.split_at(at);
            // A path from the root may begin with a slash, which must then begin a word.
            let mut ahead = before.chars().rev();
            let is_free = |c: Option<char>| {
                c.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '/' | '.' | '-' | '_' | '~'))
            };
            let is_path = match ahead.next() {
                Some('/') => is_free(ahead.next()),
                first => is_free(first),
            };
            renamed.push_str(before);
            match is_path {
                true => renamed.push_str(&format!("{}/", self.name)),
                false => renamed.push_str(&folder),
            }
            rest = &found[folder.len()..];
        }
        renamed.push_str(rest);
        renamed
    }

    /// Renames the commands in a source file.
    pub(super) fn rename_commands(&self, text: &str) -> String {
        match self.has_default_name() {
            true => text.to_owned(),
            false => text.replace(&format!("cargo {SOURCE}"), &format!("cargo {}", self.name)),
        }
    }

    /// Renames the constant in `crates/base/src/name.rs`.
    pub(super) fn rename_name_source(&self, text: &str) -> String {
        let text = text.replace(&format!("\"{SOURCE}\""), &format!("\"{}\"", self.name));
        text.replace(&format!("\"{SOURCE}/\""), &format!("\"{}/\"", self.name))
    }

    /// Renames the package in the `Cargo.toml` of the toolkit or of its launcher.
    pub(super) fn rename_cargo_toml(&self, text: &str) -> String {
        if self.has_default_name() {
            return text.to_owned();
        }
        let (old, new) = (format!("name = \"{SOURCE}\"\n"), format!("name = \"{}\"\n", self.name));
        // The library keeps its name, which the program imports.
        let mut renamed = String::with_capacity(text.len());
        let mut table = "";
        for line in text.split_inclusive('\n') {
            if line.starts_with('[') {
                table = line.trim_end();
            }
            match line == old && table != "[lib]" {
                true => renamed.push_str(&new),
                false => renamed.push_str(line),
            }
        }
        self.rename_commands(&renamed)
    }

    /// Renames the package in the cargo configuration of the toolkit's folder.
    pub(super) fn rename_cargo_config(&self, text: &str) -> String {
        if self.has_default_name() {
            return text.to_owned();
        }
        let name = &self.name;
        let text = text
            .replace(&format!("--package {SOURCE} "), &format!("--package {name} "))
            .replace(&format!("--example {SOURCE} "), &format!("--example {name} "))
            .replace(&format!("\n{SOURCE} = "), &format!("\n{name} = "));
        self.rename_commands(&text)
    }

    /// Renames the package in the lock file, whose packages are sorted by name.
    pub(super) fn rename_cargo_lock(&self, text: &str) -> String {
        if self.has_default_name() {
            return text.to_owned();
        }
        let mut blocks: Vec<String> = text.split("\n[[package]]\n").map(str::to_owned).collect();
        let head = blocks.remove(0);
        let (old, new) = (format!("name = \"{SOURCE}\"\n"), format!("name = \"{}\"\n", self.name));
        for block in &mut blocks {
            if !block.ends_with('\n') {
                block.push('\n');
            }
            if block.starts_with(&old) {
                *block = block.replacen(&old, &new, 1);
            }
        }
        let name = |block: &String| block.lines().next().unwrap_or_default().to_owned();
        // The sort is stable, so several versions of one package keep their order.
        blocks.sort_by_key(name);
        blocks.iter().fold(head, |all, block| format!("{all}\n[[package]]\n{block}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops() -> CopySpec {
        CopySpec { name: "ops".to_owned(), parts: ToolkitParts::all() }
    }

    #[test]
    fn names_are_checked() {
        for name in ["ops", "x-tasks", "dev_2"] {
            CopySpec::check_name(name).unwrap();
        }
        for (name, what) in [
            ("", "invalid name ``: use `[a-z][a-z0-9_-]{0,39}`"),
            ("Ops", "invalid name `Ops`: use `[a-z][a-z0-9_-]{0,39}`"),
            ("a/b", "invalid name `a/b`: use `[a-z][a-z0-9_-]{0,39}`"),
            ("test", "`cargo test` is a built-in command of cargo"),
            ("setup", "reserved name `setup`"),
            ("tests", "reserved name `tests`"),
        ] {
            assert_eq!(CopySpec::check_name(name).unwrap_err().message(), what);
        }
    }

    #[test]
    fn paths_and_commands_are_renamed_and_nothing_else() {
        let copy_spec = ops();
        assert_eq!(copy_spec.to_copy_path("xtask/src/main.rs"), "ops/src/main.rs");
        assert_eq!(copy_spec.to_toolkit_path("ops/src/main.rs"), "xtask/src/main.rs");
        assert_eq!(copy_spec.to_copy_path("xtasks/a"), "xtasks/a");
        assert_eq!(
            copy_spec.rename_text(
                "`cargo xtask sync`: `xtask/README.md`, '/xtask/**', ~/.cargo/xtask-store, .git/xtask/bin, \
                 refs/xtask/a, https://xtask:x@y/, xtask/"
            ),
            "`cargo ops sync`: `ops/README.md`, '/ops/**', ~/.cargo/xtask-store, .git/xtask/bin, \
             refs/xtask/a, https://xtask:x@y/, ops/"
        );
        let package = "[package]\nname = \"xtask\"\n\n[lib]\nname = \"xtask\"\n\n[[example]]\nname = \"xtask\"\n";
        let renamed =
            "[package]\nname = \"ops\"\n\n[lib]\nname = \"xtask\"\n\n[[example]]\nname = \"ops\"\n";
        assert_eq!(copy_spec.rename_cargo_toml(package), renamed);
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\n\n[[package]]\nname = \"p\"\n\n[[package]]\nname = \"xtask\"\n";
        let renamed = "version = 4\n\n[[package]]\nname = \"a\"\n\n[[package]]\nname = \"ops\"\n\n[[package]]\nname = \"p\"\n";
        assert_eq!(copy_spec.rename_cargo_lock(lock), renamed);
        assert_eq!(CopySpec::with_all_parts().rename_cargo_lock(lock), lock);
    }
}
