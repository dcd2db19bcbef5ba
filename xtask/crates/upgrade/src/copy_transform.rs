//! A file of the toolkit as a repository is given it: without the tests and benchmarks of the toolkit itself, and with
//! its program as an example.
//!
//! `cargo run`, `cargo build --workspace` and `cargo install --git` of a repository are about its own programs, and go
//! through every `Cargo.toml` in it. An example is none of those.

use super::copy_spec::CopySpec;
use xtask_base::path::RepoPath;

/// Where the toolkit keeps the files that others are given outside of `xtask/`.
pub const TEMPLATES_FOLDER: &str = "xtask/crates/vendoring/src/starters/";

/// The content that is given of a file of the toolkit; nothing where it is the same.
#[must_use]
pub(super) fn transform_file(path: &RepoPath, content: &[u8], shape: &CopySpec) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(path.as_bytes()).ok()?;
    let text = std::str::from_utf8(content).ok()?;
    let parts = &shape.parts;
    let changed = match name {
        "xtask/Cargo.toml" => {
            shape.rename_cargo_toml(&transform_cargo_toml(&parts.filter_cargo_toml(text)))
        }
        "xtask/Cargo.lock" => shape.rename_cargo_lock(&parts.filter_cargo_lock(text)),
        "xtask/README.md" => shape.rename_text(&parts.filter_text(text)),
        // Here it is a program, so that a copy works as well which an upgrade by an earlier version has brought.
        "xtask/launcher/Cargo.toml" => {
            shape.rename_cargo_toml(&text.replace("[[bin]]\n", "[[example]]\n"))
        }
        // In the folder of the launcher this alias counts as well, and both are examples.
        "xtask/.cargo/config.toml" => shape.rename_cargo_config(
            &text.replace("--package xtask --\"", "--package xtask --example xtask --\""),
        ),
        "xtask/crates/base/src/name.rs" => shape.rename_name_source(text),
        _ if name.starts_with(TEMPLATES_FOLDER) && name.ends_with("/justfile") => {
            shape.rename_text(&parts.filter_justfile(text))
        }
        _ if name.starts_with(TEMPLATES_FOLDER) => shape.rename_text(text),
        _ if name.ends_with(".rs") => {
            shape.rename_commands(&strip_tests(&parts.filter_source(text)))
        }
        _ if name.ends_with(".html") => shape.rename_commands(text),
        _ => return None,
    };
    (changed != text).then(|| changed.into_bytes())
}

/// The description of the package without benchmarks, and with the program as an example. Everything else stays as it
/// is, also what only tests need: it stands in the lock file, and costs nothing where it is not built.
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
        // Without that word cargo takes `src/main.rs` for a program all the same.
        given.push_str(&part.replace("default-run = \"xtask\"\n", "autobins = false\n"));
    }
    given.truncate(given.trim_end().len());
    given.push('\n');
    given
}

/// The tables of a file, each with its header as its first line.
fn split_tables(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    starts.extend(text.match_indices("\n[").map(|(at, _)| at + 1));
    starts.push(text.len());
    starts.windows(2).map(|two| &text[two[0]..two[1]]).collect()
}

/// A source without its modules of tests, which begin and end in the first column, as rustfmt has them.
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
