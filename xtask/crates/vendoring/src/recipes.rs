//! Recipes of a `justfile`: the names in the user's file, and our recipes that it lacks *(pure)*.
//!
//! For example, a file with `start:` gets `stop *ARGS:` and so on, but not our `start`.

/// Setting that passes arguments with spaces unchanged to all recipes of a file.
const POSITIONAL_SETTING: &str = "set positional-arguments";

/// Attribute with the effect of `POSITIONAL_SETTING` for one recipe.
const POSITIONAL_ATTRIBUTE: &str = "[positional-arguments]";

/// Attribute that puts a recipe into our group.
const GROUP_ATTRIBUTE: &str = "[group('xtask')]";

/// A recipe of our `justfile`, with its comment.
struct Recipe<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

/// Returns the recipes of `ours` whose names `theirs` lacks, as lines to append; `None` if it has all.
pub(super) fn find_missing_recipes(theirs: &str, ours: &str) -> Option<String> {
    let known = list_names(theirs);
    let is_set = theirs.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ").starts_with(POSITIONAL_SETTING) && !words.contains(&"false")
    });
    // In the style of `theirs`: with its indent, and in a group if it has groups (since just 1.27).
    let has_groups = theirs.lines().any(|line| line.starts_with("[group"));
    let indent = detect_indent(theirs);
    let mut text = String::new();
    for recipe in
        parse_recipes(ours).iter().filter(|recipe| !known.iter().any(|name| name == recipe.name))
    {
        text.push('\n');
        for line in &recipe.lines {
            let is_head = !line.starts_with(['#', ' ', '\t', '[']);
            if is_head && has_groups {
                text.push_str(GROUP_ATTRIBUTE);
                text.push('\n');
            }
            if is_head && !is_set {
                text.push_str(POSITIONAL_ATTRIBUTE);
                text.push('\n');
            }
            match line.strip_prefix("    ") {
                Some(command) => text.push_str(&format!("{indent}{command}")),
                None => text.push_str(line),
            }
            text.push('\n');
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Returns the indent of the first recipe command, or four spaces.
fn detect_indent(text: &str) -> &str {
    let mut lines =
        text.lines().skip_while(|line| parse_name(line).is_none() || !line.contains(':'));
    let first = lines.find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
    first.map_or("    ", |line| &line[..line.len() - line.trim_start().len()])
}

/// Returns the names of all recipes, aliases and modules.
fn list_names(text: &str) -> Vec<String> {
    text.lines().filter_map(parse_name).map(str::to_owned).collect()
}

/// Returns the name that a line defines: `name ARGS: needs`, `alias name := …`, `mod name`.
fn parse_name(line: &str) -> Option<&str> {
    if line.starts_with(|c: char| c.is_whitespace() || c == '#' || c == '[') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if let ["alias" | "mod" | "mod?", name, ..] = words[..]
        && !line.trim_end().ends_with(':')
    {
        return Some(name);
    }
    let line = line.strip_prefix('@').unwrap_or(line);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))?;
    let (name, rest) = line.split_at(end);
    // `name := value` is a variable; a recipe has its `:` anywhere after the name.
    let is_recipe = rest.contains(':') && !rest.trim_start().starts_with(":=");
    (!name.is_empty() && is_recipe && name != "set" && name != "export").then_some(name)
}

/// Parses our own file, whose recipes are separated by blank lines. Skips private recipes.
fn parse_recipes(text: &str) -> Vec<Recipe<'_>> {
    let blocks = text.split("\n\n").map(|block| block.lines().collect::<Vec<_>>());
    blocks
        .filter_map(|lines| {
            let name = lines.iter().find_map(|line| parse_name(line))?;
            let is_private = lines.contains(&"[private]");
            (!is_private).then_some(Recipe { name, lines })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "set positional-arguments\n\n[private]\ndefault:\n    @just --list\n\n\
                        # Start\nstart *ARGS:\n    cargo xtask start \"$@\"\n\n\
                        # Stop\nstop *ARGS:\n    cargo xtask stop \"$@\"\n";

    #[test]
    fn only_what_is_missing_is_added() {
        let all = find_missing_recipes("", OURS).unwrap();
        assert_eq!(
            all,
            "\n# Start\n[positional-arguments]\nstart *ARGS:\n    cargo xtask start \"$@\"\n\n\
             # Stop\n[positional-arguments]\nstop *ARGS:\n    cargo xtask stop \"$@\"\n"
        );
        let one = find_missing_recipes(
            "set positional-arguments := true\n@start port='1':\n    x\n",
            OURS,
        )
        .unwrap();
        assert_eq!(one, "\n# Stop\nstop *ARGS:\n    cargo xtask stop \"$@\"\n");
        let theirs = "set positional-arguments\nx := 'y'\n[group('build')]\nstart:\n\tx\n";
        let grouped = find_missing_recipes(theirs, OURS).unwrap();
        assert_eq!(grouped, "\n# Stop\n[group('xtask')]\nstop *ARGS:\n\tcargo xtask stop \"$@\"\n");
        assert_eq!(find_missing_recipes("alias stop := x\nstart: build\n", OURS), None);
    }

    #[test]
    fn names_are_those_of_recipes_aliases_and_modules() {
        let text = "x := 'a'\nexport Y := 'b'\nset shell := ['a:b']\n# c:\n[private]\n_d:\n  e: f\n\
                    g h=\"i\" +j: k\nalias l := g\nmod m\nmod:\n";
        assert_eq!(list_names(text), ["_d", "g", "l", "m", "mod"]);
    }
}
