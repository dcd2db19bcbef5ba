//! The difference of a path from the canonical version, as a page shows it.

use super::html::{escape, escape_name};
use xtask_base::path::RepoPath;
use xtask_git::{Id, Repo};

/// How many paths have their difference on a page.
pub(super) const MAX_DIFFS: usize = 50;

/// How many lines of a difference are shown.
const MAX_DIFF_LINES: usize = 400;

/// Renders the difference of a path between two commits, each line with its class.
pub(super) fn render_diff(repo: &Repo, canonical: Id, branch: Id, path: &RepoPath) -> String {
    let name = escape_name(&path.to_string());
    let text = match repo.read_diff(canonical, branch, path) {
        Ok(text) => text,
        // A look fetches nothing.
        Err(_) if repo.is_partial() => {
            return format!(
                "<p class=\"soft\">The content of <code>{name}</code> was not fetched into this partial clone; \
                 <code>cargo xtask diff</code> on the branch fetches and shows it.</p>"
            );
        }
        Err(failure) => {
            return format!("<p class=\"soft\">{name}: {}</p>", escape(&failure.to_string()));
        }
    };
    if text.is_empty() {
        return format!(
            "<p class=\"soft\"><code>{name}</code> differs in its uncommitted state alone.</p>"
        );
    }
    // The head names the files as git quotes them, which the heading does already.
    let lines: Vec<&str> = text.lines().skip_while(|line| !is_content(line)).collect();
    let mut html =
        format!("<details open><summary>{name}</summary><pre class=\"log\" tabindex=\"0\">");
    for line in lines.iter().take(MAX_DIFF_LINES) {
        let class = match line.as_bytes().first() {
            Some(b'+') => "add",
            Some(b'-') => "del",
            Some(b'@') => "hunk",
            _ => "",
        };
        match class {
            "" => html.push_str(&escape(line)),
            class => html.push_str(&format!("<span class=\"{class}\">{}</span>", escape(line))),
        }
        html.push('\n');
    }
    if lines.len() > MAX_DIFF_LINES {
        html.push_str(&format!("… {} lines more\n", lines.len() - MAX_DIFF_LINES));
    }
    html.push_str("</pre></details>");
    html
}

/// Returns whether a line of `git diff` is after the head: a hunk, or what stands for one.
fn is_content(line: &str) -> bool {
    line.starts_with("@@") || line.starts_with("Binary files") || line.starts_with("old mode")
}
