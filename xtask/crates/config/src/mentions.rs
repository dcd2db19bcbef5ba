//! What values of a service mention of others: their ports; and times.

use std::ops::Range;
use std::time::Duration;

use super::placeholders::ports_in;
use super::reader::Reader;
use xtask_base::world::duration_of;

/// A place that needs the port of a service.
pub(super) struct Mention {
    pub(super) span: Range<usize>,
    /// How it says so: `{port:api}`.
    pub(super) written: String,
    /// The service; nothing for the one that says it.
    pub(super) of: Option<String>,
}

/// Notes the ports that a text mentions.
pub(super) fn mention(table: &Reader<'_>, key: &str, text: &str, mentions: &mut Vec<Mention>) {
    let span = || table.value_span(key);
    if text.contains('\0') {
        table.fault(key, format!("`{key}` holds a NUL, which no program can be given"));
    }
    mentions.extend(ports_in(text).into_iter().map(|(written, of)| Mention {
        span: span(),
        written: format!("`{written}`"),
        of: of.map(str::to_owned),
    }));
}

/// A time.
pub(super) fn time(table: &Reader<'_>, key: &str) -> Option<Duration> {
    table.parsed(key, "a time such as `500ms`, `30s` or `1m 30s`", duration_of)
}
