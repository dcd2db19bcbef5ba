//! The log of a service on a page of its own: its end, a search, and new lines as they are written.
//!
//! However long the log is, a bounded part of its end is read.

use std::collections::VecDeque;

use super::html::{encode_query, escape, escape_name, strip_colours};
use super::server::worktree_key;
use xtask_base::environment::format_rfc3339_ms;
use xtask_base::words::{format_size, pluralize, sanitize_line};
use xtask_base::worktree_paths::WorktreePaths;
use xtask_services::logs::{LogLine, ServiceLog};
use xtask_services::stack::Stack;

/// How many lines are shown.
const MAX_LINES: usize = 500;

/// The longest line that is shown, in characters.
const MAX_LINE_CHARS: usize = 4000;

/// How many bytes of the end of a log are searched: 8 MB.
const MAX_SEARCHED_BYTES: u64 = 8 << 20;

/// How many lines are sent to a page at once.
const MAX_SENT_LINES: usize = 200;

/// How many bytes of new lines are read for a page at once: many lines, and little memory.
const MAX_NEW_BYTES: u64 = 64 << 10;

/// A log that exists.
pub(super) struct ShownLog {
    /// By what a page asks for its events.
    key: String,
    layer: String,
    log: ServiceLog,
}

impl ShownLog {
    /// Finds the log of a service of this worktree. Only names of logs that exist are looked at.
    pub(super) fn find(folders: &WorktreePaths, layer: &str, service: &str) -> Option<ShownLog> {
        let stacks = Stack::list_all(folders);
        let stack = stacks.into_iter().find(|stack| stack.layer == layer)?;
        let folder = stack.logs_folder();
        let name = ServiceLog::list_names(&folder).into_iter().find(|name| name == service)?;
        let key = worktree_key(folders);
        Some(ShownLog { key, layer: stack.layer, log: ServiceLog::new(&folder, &name) })
    }

    /// Renders the end of the log, or the last lines that contain `search`.
    pub(super) fn render(&self, search: &str) -> String {
        let end = self.log.length();
        let (layer, service) = (encode_query(&self.layer), encode_query(self.log.name()));
        let mut html = format!(
            "<form class=\"filter\" method=\"get\" action=\"/log\" role=\"search\" aria-label=\"Search the log\">\
             <input type=\"hidden\" name=\"layer\" value=\"{}\"><input type=\"hidden\" name=\"service\" value=\"{}\">\
             <label>Search <input type=\"search\" name=\"q\" value=\"{}\"></label><button type=\"submit\">Search</button></form>",
            escape_name(&self.layer),
            escape_name(self.log.name()),
            escape(search)
        );
        let read = match search.is_empty() {
            true => self.log.read_last_lines(MAX_LINES, 0, end).map(|lines| (lines, 0)),
            false => self.search_lines(search, end),
        };
        let (lines, before) = match read {
            Ok(read) => read,
            Err(cause) => {
                html.push_str(&format!(
                    "<p class=\"trouble\">It cannot be read: {}</p>",
                    escape(&cause.to_string())
                ));
                return html;
            }
        };
        if search.is_empty() {
            html.push_str(&format!(
                "<p class=\"soft\">The last {} of {}, and new ones as they come. Times are UTC.</p>",
                pluralize(lines.len(), "line"),
                format_size(end)
            ));
        } else {
            let part = if before > 0 {
                format!(" in its last {}", format_size(end - before))
            } else {
                String::new()
            };
            html.push_str(&format!(
                "<p role=\"status\">{} with <code>{}</code>{part}; times are UTC. <a href=\"/log?layer={layer}&amp;service={service}\">Show the end</a></p>",
                pluralize(lines.len(), "line"),
                escape(search)
            ));
        }
        let follow = match search.is_empty() {
            true => format!(
                " data-follow=\"/log-events?of={}&amp;layer={layer}&amp;service={service}&amp;from={end}\"",
                self.key
            ),
            false => String::new(),
        };
        html.push_str(&format!("<pre class=\"log\" id=\"log\" tabindex=\"0\" role=\"log\" aria-label=\"Log of {}\"{follow}>", escape_name(self.log.name())));
        for line in &lines {
            html.push_str(&mark_search(&line_text(line), search));
            html.push('\n');
        }
        html.push_str("</pre>");
        html
    }

    /// Returns the last lines that contain `search`, and how many bytes before them were not searched.
    fn search_lines(&self, search: &str, end: u64) -> std::io::Result<(Vec<LogLine>, u64)> {
        let from = end.saturating_sub(MAX_SEARCHED_BYTES);
        let wanted = search.to_lowercase();
        let mut found = VecDeque::new();
        let mut at = from;
        loop {
            // A part at a time, for a log may have millions of lines.
            let (mut lines, next) = self.log.read_whole_lines(at, end)?;
            let is_end = next <= at;
            if is_end {
                lines = self.log.read_lines(at, end)?;
            }
            lines.retain(|line| line.text.to_lowercase().contains(&wanted));
            found.extend(lines);
            found.drain(..found.len().saturating_sub(MAX_LINES));
            if is_end || next >= end {
                return Ok((found.into(), from));
            }
            at = next;
        }
    }

    /// Returns the lines after `from` as text, and where the next ones begin. Of many only the last are read; a line
    /// says that others were left out.
    pub(super) fn read_new(&self, from: u64) -> std::io::Result<(Vec<String>, u64)> {
        let end = self.log.length();
        // A log that was emptied begins anew.
        let from = if end < from { 0 } else { from };
        let start = from.max(end.saturating_sub(MAX_NEW_BYTES));
        let (mut lines, next) = self.log.read_whole_lines(start, end)?;
        if start > from && !lines.is_empty() {
            // It may begin within a line.
            lines.remove(0);
        }
        let over = lines.len().saturating_sub(MAX_SENT_LINES);
        let shown = lines.split_off(over);
        let first = shown.first().map_or(next, |line| line.at);
        let mut texts = Vec::new();
        if first > from && (start > from || over > 0) {
            texts.push(format!(
                "[… {} left out: reload the page to see its end …]",
                format_size(first - from)
            ));
        }
        texts.extend(shown.iter().map(line_text));
        Ok((texts, next))
    }
}

fn line_text(line: &LogLine) -> String {
    let time = format_rfc3339_ms(line.at_ms);
    let time = time.get(11..23).unwrap_or_default();
    format!("{time}  {}", sanitize_line(&strip_colours(&line.text), MAX_LINE_CHARS))
}

/// Escapes a line, with what was searched for marked.
fn mark_search(line: &str, search: &str) -> String {
    let lower = line.to_lowercase();
    // If lower case has another length, positions would not fit.
    if search.is_empty() || lower.len() != line.len() {
        return escape(line).into_owned();
    }
    let wanted = search.to_lowercase();
    let (mut html, mut at) = (String::new(), 0);
    while let Some(found) = lower[at..].find(&wanted) {
        let (from, to) = (at + found, at + found + wanted.len());
        let (Some(before), Some(part)) = (line.get(at..from), line.get(from..to)) else { break };
        html.push_str(&format!("{}<mark>{}</mark>", escape(before), escape(part)));
        at = to;
    }
    html.push_str(&escape(line.get(at..).unwrap_or_default()));
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::environment::Environment;
    use xtask_base::files::Disk;
    use xtask_base::temp_folder::TempFolder;

    #[test]
    fn what_is_left_out_of_many_new_lines_is_said() {
        let folder = TempFolder::new(&Environment::from_process().unwrap(), "log").unwrap();
        let log = ServiceLog::new(folder.path(), "api");
        let shown = ShownLog { key: String::new(), layer: "local".to_owned(), log };
        let text: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let write = |text: &str| Disk::real().write_into(&shown.log.path(), text.as_bytes());
        write(&text).unwrap();
        let (lines, next) = shown.read_new(0).unwrap();
        assert_eq!((lines.len(), next), (MAX_SENT_LINES + 1, text.len() as u64));
        assert!(lines[0].starts_with("[… 7.0 KB left out: "), "{}", lines[0]);
        assert!(lines[1].ends_with("line 800") && lines[200].ends_with("line 999"));
        let (few, _) = shown.read_new(next - 9).unwrap();
        assert_eq!(few.len(), 1, "{few:?}");
        // So many that even their bytes are not all read, and the first of these begins within a line.
        let text = format!("{}\n", "x".repeat(99)).repeat(10_000);
        write(&text).unwrap();
        let (lines, next) = shown.read_new(0).unwrap();
        assert_eq!((lines.len(), next), (MAX_SENT_LINES + 1, 1_000_000));
        assert!(lines[0].contains("KB left out"), "{}", lines[0]);
        assert!(lines[1..].iter().all(|line| line.ends_with(&"x".repeat(99))));
        // A search reads a part at a time, and keeps the last lines.
        let text = format!("{}needle at the end", "a needle\n".repeat(400_000));
        write(&text).unwrap();
        let (found, before) = shown.search_lines("NEEDLE", text.len() as u64).unwrap();
        assert_eq!((found.len(), before), (MAX_LINES, 0));
        assert_eq!(found[MAX_LINES - 1].text, "needle at the end");
        assert_eq!(found[0].at, 9 * (400_000 - MAX_LINES as u64 + 1));
    }

    #[test]
    fn what_was_searched_for_is_marked_and_nothing_becomes_markup() {
        assert_eq!(mark_search("a <b> B", "b"), "a &lt;<mark>b</mark>&gt; <mark>B</mark>");
        assert_eq!(mark_search("a <b>", ""), "a &lt;b&gt;");
        assert_eq!(
            mark_search("İstanbul <x>", "x"),
            "İstanbul &lt;x&gt;",
            "its lower case is longer"
        );
        assert_eq!(mark_search("ÄÄ", "ä"), "<mark>Ä</mark><mark>Ä</mark>");
    }
}
