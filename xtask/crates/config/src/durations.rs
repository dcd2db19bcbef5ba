//! Durations: `30s` in a configuration, 30000 for the supervisor.

use std::time::Duration;

use super::reader::TableReader;
use xtask_base::environment::parse_duration;

/// Reads a duration such as `30s`.
pub(super) fn read_duration(table: &TableReader<'_>, key: &str) -> Option<Duration> {
    table.read_parsed(key, "a time such as `500ms`, `30s` or `1m 30s`", parse_duration)
}

/// Durations as milliseconds, as the supervisor receives them.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
