//! Transforms a file of the toolkit for a copy: removes the toolkit's own tests and benchmarks, and makes its
//! program an example.
//!
//! `cargo run`, `cargo build --workspace` and `cargo install --git` in a repository consider every `Cargo.toml`
//! below it, but are meant for its own programs; they ignore examples. In `Cargo.toml`, for example:
//!
//! ```text
//! [[bin]]               ->   [[example]]
//! name = "xtask"             name = "xtask"
//!                            path = "src/main.rs"
//! ```

use super::copy_spec::CopySpec;
use xtask_base::path::RepoPath;

/// The folder with the templates of files outside of `xtask/`.
pub const TEMPLATES_FOLDER: &str = "xtask/crates/vendoring/src/starters/";

/// Returns the content of a file in a copy, or `None` if it is unchanged.
#[must_use]
pub(super) fn transform_file(
    path: &RepoPath,
    content: &[u8],
    copy_spec: &CopySpec,
) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(path.as_bytes()).ok()?;
    let text = std::str::from_utf8(content).ok()?;
    let parts = &copy_spec.parts;
    let changed = match name {
        "xtask/Cargo.toml" => {
            copy_spec.rename_cargo_toml(&transform_cargo_toml(&parts.filter_cargo_toml(text)))
        }
        "xtask/Cargo.lock" => copy_spec.rename_cargo_lock(&parts.filter_cargo_lock(text)),
        "xtask/README.md" => copy_spec.rename_text(&parts.filter_text(text)),
        // In the original it is a binary, so that a copy upgraded by an earlier version works, too.
        "xtask/launcher/Cargo.toml" => {
            copy_spec.rename_cargo_toml(&text.replace("[[bin]]\n", "[[example]]\n"))
        }
        // This alias also applies in the folder of the launcher, where both programs are examples.
        "xtask/.cargo/config.toml" => copy_spec.rename_cargo_config(
            &text.replace("--package xtask --\"", "--package xtask --example xtask --\""),
        ),
        "xtask/crates/base/src/name.rs" => copy_spec.rename_name_source(text),
        _ if name.starts_with(TEMPLATES_FOLDER) && name.ends_with("/justfile") => {
            copy_spec.rename_text(&parts.filter_justfile(text))
        }
        _ if name.starts_with(TEMPLATES_FOLDER) && name.ends_with("/tasks.json") => {
            copy_spec.rename_text(&parts.filter_tasks(text))
        }
        _ if name.starts_with(TEMPLATES_FOLDER) => copy_spec.rename_text(text),
        _ if name.ends_with(".rs") => {
            copy_spec.rename_commands(&strip_tests(&parts.filter_source(text)))
        }
        _ if name.ends_with(".html") || name.ends_with(".js") => copy_spec.rename_commands(text),
        _ => return None,
    };
    (changed != text).then(|| changed.into_bytes())
}

/// Transforms the package's `Cargo.toml`: no benchmarks, and the programs as examples. Dev-dependencies stay: they
/// are in the lock file, and cost nothing unless they are built.
fn transform_cargo_toml(text: &str) -> String {
    let mut given = String::with_capacity(text.len());
    for part in split_tables(text) {
        let header = part.lines().next().unwrap_or_default();
        if header == "[[bench]]" {
            continue;
        }
        if header == "[[bin]]" {
            let path = if part.contains("path = ") { "" } else { "path = \"src/main.rs\"\n" };
            let program = part.replace("[[bin]]", "[[example]]");
            given.push_str(&program.replace("test = false\n", &format!("{path}test = false\n")));
            continue;
        }
        // Without `autobins = false`, cargo would still find the binary `src/main.rs`.
        given.push_str(&part.replace("default-run = \"xtask\"\n", "autobins = false\n"));
    }
    given.truncate(given.trim_end().len());
    given.push('\n');
    given
}

/// Splits a TOML file into its tables, each with its header as the first line.
fn split_tables(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    starts.extend(text.match_indices("\n[").map(|(at, _)| at + 1));
    starts.push(text.len());
    starts.windows(2).map(|two| &text[two[0]..two[1]]).collect()
}

/// Removes test modules, which begin and end in the first column, as rustfmt formats them.
fn strip_tests(text: &str) -> String {
    let mut given = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if line.trim_end() != "#[cfg(test)]" || !line.starts_with('#') {
            given.push_str(line);
            continue;
        }
        let mut held = String::from(line);
        while let Some(attribute) = lines.next_if(|next| next.starts_with("#[")) {
            held.push_str(attribute);
        }
        let opens = |next: &&str| next.trim_end().ends_with('{') && !next.starts_with(' ');
        if lines.next_if(opens).is_none() {
            given.push_str(&held);
            continue;
        }
        for inner in lines.by_ref() {
            if inner.trim_end() == "}" && !inner.starts_with(' ') {
                break;
            }
        }
        while given.ends_with("\n\n") {
            given.pop();
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(name: &str, text: &str) -> Option<String> {
        transform_file(&RepoPath::new(name), text.as_bytes(), &CopySpec::with_all_parts())
            .map(|given| String::from_utf8(given).unwrap())
    }

    #[test]
    fn sources_are_given_without_their_tests() {
        let before = "fn a() {}\n\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n    const A: &str = \"\n\";\n    fn b() {\n    }\n}\n";
        assert_eq!(transform("xtask/src/a.rs", before).unwrap(), "fn a() {}\n");
        let between = "a();\n\n#[cfg(test)]\nimpl A {\n    x\n}\n\nb();\n";
        assert_eq!(transform("xtask/src/a.rs", between).unwrap(), "a();\n\nb();\n");
        // What is no block of its own stays, and so does what only looks like it.
        for text in
            ["#[cfg(test)]\nmod ps;\nfn a() {}\n", "fn a() {\n    #[cfg(test)]\n    b();\n}\n"]
        {
            assert_eq!(transform("xtask/src/a.rs", text), None);
        }
        assert_eq!(transform("xtask/notes.txt", before), None);
    }

    #[test]
    fn the_program_is_given_as_an_example() {
        let text = include_str!("../../../Cargo.toml");
        let given = transform("xtask/Cargo.toml", text).unwrap();
        assert!(given.contains("\n[[example]]\nname = \"xtask\"\n"), "the launcher looks for it");
        assert!(given.contains("\nautobins = false\n"));
        assert!(
            !given.contains("[[bin]]")
                && !given.contains("[[bench]]")
                && !given.contains("default-run")
        );
        assert!(given.contains("[dev-dependencies]") && given.contains("[profile.dev]"));
        assert_eq!(transform("xtask/Cargo.toml", &given), None, "once is enough");
        let launcher =
            transform("xtask/launcher/Cargo.toml", include_str!("../../../launcher/Cargo.toml"));
        assert!(launcher.unwrap().contains("\n[[example]]\nname = \"xtask\"\n"));
        let text = include_str!("../../../.cargo/config.toml");
        let given = transform("xtask/.cargo/config.toml", text).unwrap();
        assert!(
            given.contains("xtask = \"run --quiet --locked --package xtask --example xtask --\"")
        );
    }
}
