//! The tasks of VS Code in the template `tasks.json`: splitting into tasks, and those that another file lacks *(pure)*.
//!
//! The file of a repository may have comments, so it is searched for commands and not parsed. For example, one with
//! `"command": "cargo xtask start"` lacks `stop` but not `start`.

/// How the list of tasks begins and ends in the template.
const LIST_BEGIN: &str = "  \"tasks\": [\n";
const LIST_END: &str = "\n  ]\n";

/// What is between two tasks.
const BETWEEN_TASKS: &str = ",\n    {";

/// The indentation below which lines are kept apart in `find_missing_tasks`.
const MATCHER_INDENT: usize = 8;

/// Rebuilds the template with the tasks for which `is_kept` holds. Returns a text without such a list unchanged.
#[must_use]
pub fn keep_tasks(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let Some((head, rest)) = text.split_once(LIST_BEGIN) else { return text.to_owned() };
    let Some((tasks, tail)) = rest.split_once(LIST_END) else { return text.to_owned() };
    let tasks: Vec<&str> = tasks.split(BETWEEN_TASKS).filter(|task| is_kept(task)).collect();
    // The first task of the template begins with its bracket, the others follow `BETWEEN_TASKS`.
    let is_first_cut = tasks.first().is_some_and(|task| !task.starts_with("    {"));
    let first = if is_first_cut { "    {" } else { "" };
    format!("{head}{LIST_BEGIN}{first}{}{LIST_END}{tail}", tasks.join(BETWEEN_TASKS))
}

/// Returns the tasks of `ours` whose commands `theirs` lacks, as list entries, a line for each problem matcher; `None`
/// if it has all.
#[must_use]
pub fn find_missing_tasks(theirs: &str, ours: &str) -> Option<String> {
    let (_, rest) = ours.split_once(LIST_BEGIN)?;
    let (tasks, _) = rest.split_once(LIST_END)?;
    let mut lines: Vec<String> = Vec::new();
    for task in tasks.split(BETWEEN_TASKS) {
        let task = task.strip_prefix("    {").unwrap_or(task);
        if find_command(task).is_some_and(|command| theirs.contains(command)) {
            continue;
        }
        lines.push("{".to_owned());
        for line in task.lines().filter(|line| !line.is_empty()) {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            let is_inside =
                indent > MATCHER_INDENT || indent == MATCHER_INDENT && text.starts_with('}');
            match lines.last_mut().filter(|_| is_inside) {
                Some(last) => last.push_str(&format!(" {text}")),
                None => lines.push(line.get(4..).unwrap_or(text).to_owned()),
            }
        }
        if let Some(last) = lines.last_mut() {
            last.push(',');
        }
    }
    let last = lines.last_mut()?;
    last.truncate(last.len() - 1);
    lines.push(String::new());
    Some(lines.join("\n"))
}

/// Returns the command of a task, without `-v`, which people may leave out.
fn find_command(task: &str) -> Option<&str> {
    let (_, rest) = task.split_once("\"command\": \"")?;
    let (command, _) = rest.split_once('"')?;
    Some(command.strip_suffix(" -v").unwrap_or(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = concat!(
        "{\n  \"tasks\": [\n",
        "    {\n      \"command\": \"cargo xtask validate -v\",\n      \"problemMatcher\": [\n",
        "        {\n          \"owner\": \"xtask\"\n        },\n        {\n          \"kind\": \"file\"\n        }\n",
        "      ]\n    },\n",
        "    {\n      \"command\": \"cargo xtask start\"\n    },\n",
        "    {\n      \"command\": \"cargo xtask stop\"\n    }\n  ]\n}\n"
    );

    #[test]
    fn kept_tasks_are_a_list_again() {
        assert_eq!(keep_tasks(OURS, |_| true), OURS);
        let one =
            "{\n  \"tasks\": [\n    {\n      \"command\": \"cargo xtask start\"\n    }\n  ]\n}\n";
        assert_eq!(keep_tasks(OURS, |task| task.contains("start")), one);
        assert_eq!(keep_tasks("[]\n", |_| false), "[]\n");
    }

    #[test]
    fn only_missing_tasks_are_listed_and_matchers_are_short() {
        let theirs = "{ // comment\n \"command\": \"cargo xtask start --only api\",\n}";
        let lines = "{\n  \"command\": \"cargo xtask validate -v\",\n  \"problemMatcher\": [\n    \
                     { \"owner\": \"xtask\" },\n    { \"kind\": \"file\" }\n  ]\n},\n\
                     {\n  \"command\": \"cargo xtask stop\"\n}\n";
        assert_eq!(find_missing_tasks(theirs, OURS).as_deref(), Some(lines));
        assert_eq!(find_missing_tasks(OURS, OURS), None);
    }
}
