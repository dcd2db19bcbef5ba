//! The default checks of a project in a subfolder, such as `backend/` *(pure)*.
//!
//! They equal the checks of the root, with paths, working folder and names of the subfolder. For example:
//!
//! ```text
//! name = "ruff", inputs = ["uv.lock"] -> name = "ruff-backend", cwd = "backend", inputs = ["backend/uv.lock"]
//! ```

use std::collections::BTreeSet;

const CHECK_HEADER: &str = "[[check]]\n";

/// Rewrites the checks in `text` for `folder`. Skips names in `present` and adds new ones to the set; the
/// check of a program keeps its name, so each program is checked once.
#[must_use]
pub fn rewrite_for_folder(text: &str, folder: &str, present: &mut BTreeSet<String>) -> String {
    let blocks: Vec<&str> = text.split(CHECK_HEADER).skip(1).collect();
    let programs: BTreeSet<&str> = blocks
        .iter()
        .filter(|block| is_tool_check(block))
        .filter_map(|block| find_check_name(block))
        .collect();
    let mut found = String::new();
    for block in blocks {
        let Some(name) = find_check_name(block) else { continue };
        let own = name_in_folder(name, folder, &programs);
        if !present.insert(own.clone()) {
            continue;
        }
        // A comment at the end belongs to the next check.
        let block = block.trim_end_matches('\n');
        let (block, _) = block.rsplit_once("\n\n#").unwrap_or((block, ""));
        found.push_str("\n[[check]]\n");
        let mut list = "";
        for line in block.lines() {
            let key = line.split(" = ").next().unwrap_or_default();
            let is_begun = !line.starts_with([' ', ']']);
            if is_begun {
                list = key;
            }
            let line = match list {
                "name" => format!("name = \"{own}\""),
                "needs" => map_quoted(line, &|need| name_in_folder(need, folder, &programs)),
                "inputs" => map_quoted(line, &|path| join_path(path, folder)),
                "tools" => map_quoted(line, &|tool| match tool.contains('/') {
                    true => join_path(tool, folder),
                    false => tool.to_owned(),
                }),
                "file" => map_quoted(line, &|path| join_path(path, folder)),
                "fix" => match line.split_once("writes = ") {
                    Some((before, writes)) => {
                        format!(
                            "{before}writes = {}",
                            map_quoted(writes, &|path| join_path(path, folder))
                        )
                    }
                    None => line.to_owned(),
                },
                _ => line.to_owned(),
            };
            found.push_str(&line);
            found.push('\n');
            let is_fixed = key == "file" && block.contains("\nfix = ");
            if key == "run" || is_fixed {
                found.push_str(&format!("cwd = \"{folder}\"\n"));
            }
        }
    }
    found
}

fn is_tool_check(block: &str) -> bool {
    block.lines().any(|line| line.starts_with("tool = "))
}

fn find_check_name(block: &str) -> Option<&str> {
    let line = block.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(line.trim_matches(['"', '\'']))
}

/// Returns the name of a check in `folder`: a `tool` check is the same everywhere, others get a suffix.
fn name_in_folder(name: &str, folder: &str, programs: &BTreeSet<&str>) -> String {
    match programs.contains(name) {
        true => name.to_owned(),
        false => format!("{name}-{}", folder.replace(['/', '.'], "-")),
    }
}

fn join_path(path: &str, folder: &str) -> String {
    format!("{folder}/{path}")
}

/// Applies `change` to each text in double quotes.
fn map_quoted(line: &str, change: &dyn Fn(&str) -> String) -> String {
    let parts = line.split('"').enumerate().map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => change(part),
    });
    parts.collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_checks;
    use xtask_config::{Check, ValidateConfig};

    #[test]
    fn checks_of_a_folder_work_there_on_its_own_paths() {
        let words =
            ["uv", "python", "ruff", "node", "npm", "node-lock", "typescript", "go", "tests"];
        let text = default_checks::render_conditional_checks(&|word| words.contains(&word));
        let mut present = BTreeSet::from(["node".to_owned(), "npm".to_owned()]);
        let one = rewrite_for_folder(&text, "apps/backend", &mut present);
        let two = rewrite_for_folder(&text, "web", &mut present);
        let whole = format!(
            "{}{one}{two}",
            default_checks::render_checks(&|word| ["node", "npm"].contains(&word))
        );
        let read = ValidateConfig::parse("f", &whole);
        let checks = read.unwrap_or_else(|faults| panic!("{whole}\n{:?}", faults.details())).checks;
        let of = |name: &str| -> &Check {
            checks
                .iter()
                .find(|check| check.name == name)
                .unwrap_or_else(|| panic!("{name} in {whole}"))
        };
        assert_eq!(checks.iter().filter(|check| check.name == "node").count(), 1);
        assert_eq!(checks.iter().filter(|check| check.name == "go").count(), 1);
        let needs = |name: &str| -> Vec<&str> {
            of(name).needs.iter().map(|at| checks[*at].name.as_str()).collect()
        };
        assert_eq!(needs("uv-sync-web"), ["virtual-environment-web"]);
        assert_eq!(needs("uv-lock-web"), ["uv"]);
        assert!(
            one.contains("cwd = \"apps/backend\"\ninputs = [\"apps/backend/**/{*.py,"),
            "{one}"
        );
        assert!(one.contains("file = \"apps/backend/.venv/pyvenv.cfg\"\ncwd = "), "{one}");
        assert!(one.contains("writes = [\"apps/backend/.venv\"]"), "{one}");
        assert!(one.contains("tools = [\"apps/backend/node_modules/.bin/tsc\"]"), "{one}");
    }
}
