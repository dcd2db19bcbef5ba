//! The checks of a part of a repository that lies in a folder of its own, such as `backend/`: those that it would have
//! in the root, with its paths, its working folder and names of their own *(pure)*.

use std::collections::BTreeSet;

/// The head of a check.
const CHECK: &str = "[[check]]\n";

/// The text of checks for a folder. `present` are the names of checks that are there; those that come are added. A
/// program that is looked for already is looked for once.
#[must_use]
pub fn in_folder(text: &str, folder: &str, present: &mut BTreeSet<String>) -> String {
    let blocks: Vec<&str> = text.split(CHECK).skip(1).collect();
    let programs: BTreeSet<&str> = blocks
        .iter()
        .filter(|block| is_about_program(block))
        .filter_map(|block| name(block))
        .collect();
    let mut found = String::new();
    for block in blocks {
        let Some(name) = name(block) else { continue };
        let own = own_name(name, folder, &programs);
        if !present.insert(own.clone()) {
            continue;
        }
        // What belongs to the next check stands before it.
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
                "needs" => each(line, &|need| own_name(need, folder, &programs)),
                "inputs" => each(line, &|path| below(path, folder)),
                "tools" => each(line, &|tool| match tool.contains('/') {
                    true => below(tool, folder),
                    false => tool.to_owned(),
                }),
                "file" => each(line, &|path| below(path, folder)),
                "fix" => match line.split_once("writes = ") {
                    Some((before, writes)) => {
                        format!("{before}writes = {}", each(writes, &|path| below(path, folder)))
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

fn is_about_program(block: &str) -> bool {
    block.lines().any(|line| line.starts_with("tool = "))
}

fn name(block: &str) -> Option<&str> {
    let line = block.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(line.trim_matches(['"', '\'']))
}

/// A program is the same everywhere, a check of files is one of this folder.
fn own_name(name: &str, folder: &str, programs: &BTreeSet<&str>) -> String {
    match programs.contains(name) {
        true => name.to_owned(),
        false => format!("{name}-{}", folder.replace(['/', '.'], "-")),
    }
}

fn below(path: &str, folder: &str) -> String {
    format!("{folder}/{path}")
}

/// A line with each text between `"` changed.
fn each(line: &str, change: &dyn Fn(&str) -> String) -> String {
    let parts = line.split('"').enumerate().map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => change(part),
    });
    parts.collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use xtask_config::{Check, ValidateConfig};

    #[test]
    fn checks_of_a_folder_work_there_on_its_own_paths() {
        let words =
            ["uv", "python", "ruff", "node", "npm", "node-lock", "typescript", "go", "tests"];
        let text = defaults::checks_of(&|word| words.contains(&word));
        let mut present = BTreeSet::from(["node".to_owned(), "npm".to_owned()]);
        let one = in_folder(&text, "apps/backend", &mut present);
        let two = in_folder(&text, "web", &mut present);
        let whole =
            format!("{}{one}{two}", defaults::text(&|word| ["node", "npm"].contains(&word)));
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
