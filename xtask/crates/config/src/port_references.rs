//! References from values of one service to ports of others, e.g. `{port:api}`.

use std::ops::Range;

use super::placeholders::find_port_placeholders;
use super::reader::TableReader;

/// A reference to the port of a service.
pub(super) struct PortReference {
    pub(super) span: Range<usize>,
    /// The reference as written, e.g. `{port:api}`.
    pub(super) as_written: String,
    /// The referenced service; `None` for the service that contains the reference.
    pub(super) service: Option<String>,
}

/// Adds the port references in `text`, the value of `key`, to `mentions`. Reports a fault if `text` contains a NUL.
pub(super) fn collect_port_references(
    table: &TableReader<'_>,
    key: &str,
    text: &str,
    mentions: &mut Vec<PortReference>,
) {
    let span = || table.value_span(key);
    if text.contains('\0') {
        table.add_fault(
            key,
            format!("`{key}` contains a NUL byte, which cannot be passed to a program"),
        );
    }
    mentions.extend(find_port_placeholders(text).into_iter().map(|(written, of)| PortReference {
        span: span(),
        as_written: format!("`{written}`"),
        service: of.map(str::to_owned),
    }));
}
