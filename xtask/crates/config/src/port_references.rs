//! What values of a service mention of others: their ports; and times.

use std::ops::Range;
use std::time::Duration;

use super::placeholders::find_port_placeholders;
use super::reader::TableReader;
use xtask_base::environment::parse_duration;

/// A place that needs the port of a service.
pub(super) struct PortReference {
    pub(super) span: Range<usize>,
    /// How it says so: `{port:api}`.
    pub(super) as_written: String,
    /// The service; nothing for the one that says it.
    pub(super) service: Option<String>,
}

/// Notes the ports that a text mentions.
pub(super) fn collect_port_references(
    table: &TableReader<'_>,
    key: &str,
    text: &str,
    mentions: &mut Vec<PortReference>,
) {
    let span = || table.value_span(key);
    if text.contains('\0') {
        table.add_fault(key, format!("`{key}` holds a NUL, which no program can be given"));
    }
    mentions.extend(find_port_placeholders(text).into_iter().map(|(written, of)| PortReference {
        span: span(),
        as_written: format!("`{written}`"),
        service: of.map(str::to_owned),
    }));
}

/// A time.
pub(super) fn read_duration(table: &TableReader<'_>, key: &str) -> Option<Duration> {
    table.read_parsed(key, "a time such as `500ms`, `30s` or `1m 30s`", parse_duration)
}
