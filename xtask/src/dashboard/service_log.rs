//! The log of a service on a page of its own: its end, a search, and new lines as they are written.
//!
//! However long the log is, a bounded part of its end is read.

use super::html::{encode_query, escape, escape_name};
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

/// A log that exists.
pub(super) struct ShownLog {
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
        Some(ShownLog { layer: stack.layer, log: ServiceLog::new(&folder, &name) })
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
                "<p class=\"soft\">The last {} of {}, and new ones as they come.</p>",
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
                "<p role=\"status\">{} with <code>{}</code>{part}. <a href=\"/log?layer={layer}&amp;service={service}\">Show the end</a></p>",
                pluralize(lines.len(), "line"),
                escape(search)
            ));
        }
        let follow = match search.is_empty() {
            true => format!(
                " data-follow=\"/log-events?layer={layer}&amp;service={service}&amp;from={end}\""
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
        let mut lines = self.log.read_lines(from, end)?;
        lines.retain(|line| line.text.to_lowercase().contains(&wanted));
        let over = lines.len().saturating_sub(MAX_LINES);
        Ok((lines.split_off(over), from))
    }

    /// Returns the lines after `from` as text, and where the next ones begin.
    pub(super) fn read_new(&self, from: u64) -> std::io::Result<(Vec<String>, u64)> {
        let end = self.log.length();
        // A log that was emptied begins anew.
        let from = if end < from { 0 } else { from };
        let (lines, next) = self.log.read_whole_lines(from, end)?;
        let over = lines.len().saturating_sub(MAX_SENT_LINES);
        Ok((lines[over..].iter().map(line_text).collect(), next))
    }
}

fn line_text(line: &LogLine) -> String {
    let time = format_rfc3339_ms(line.at_ms);
    let time = time.get(11..23).unwrap_or_default();
    format!("{time}  {}", sanitize_line(&strip_colours(&line.text), MAX_LINE_CHARS))
}

/// Removes the sequences by which programs colour their output (ECMA-48, `CSI … m`), which a page does not show.
fn strip_colours(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        rest = match end {
            Some(end) if after[end..].starts_with('m') => &after[end + 1..],
            _ => {
                plain.push_str("\u{1b}[");
                after
            }
        };
    }
    plain.push_str(rest);
    plain
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

    #[test]
    fn colours_are_left_out() {
        assert_eq!(strip_colours("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J"), "red \u{1b}[2J");
        assert_eq!(strip_colours("\u{1b}["), "\u{1b}[");
    }
}
