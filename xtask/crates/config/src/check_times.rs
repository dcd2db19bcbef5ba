//! `setup/check-times.toml`: how long checks take, so that every machine cuts a run into the same parts.
//!
//! ```text
//! "build" = 60100
//! "lint" = 4000     ->  {"build": 60_100, "lint": 4_000} ms
//! ```

use std::collections::BTreeMap;

use super::faults::Faults;
use xtask_base::error::Result;

/// The path of the file.
pub const CHECK_TIMES_FILE: &str = "setup/check-times.toml";

/// The longest time that is read, in milliseconds: a day.
const MAX_TIME_MS: u64 = 86_400_000;

/// Parses the file: the time of each check, in milliseconds.
pub fn parse_check_times(text: &str) -> Result<BTreeMap<String, u64>> {
    let read = Faults::read_toml(CHECK_TIMES_FILE, text, |file| {
        let names = file.key_names().into_iter();
        let times = names.filter(|name| name != "format");
        times
            .filter_map(|name| Some((name.clone(), file.read_number(&name, 0..=MAX_TIME_MS)?)))
            .collect()
    });
    read.map_err(|refused| refused.with_hint("`cargo xtask validate --save-times` writes it anew"))
}

/// Renders the file. Times are rounded up to tenths of a second, so that they change less often.
#[must_use]
pub fn render_check_times(times: &BTreeMap<String, u64>) -> String {
    let mut text = "# How long each check takes, in milliseconds, for `validate --shard`.\n\
        # Written by `cargo xtask validate --save-times`.\n"
        .to_owned();
    for (name, ms) in times {
        // A JSON string is a TOML string, as names have no control characters.
        let name = serde_json::Value::from(name.as_str());
        text.push_str(&format!("{name} = {}\n", ms.div_ceil(100) * 100));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let times = BTreeMap::from([
            ("a\\\"b".to_owned(), 5_000),
            ("build.all".to_owned(), 60_100),
            ("lint".to_owned(), 100),
        ]);
        let text = render_check_times(&times);
        assert!(text.ends_with("= 5000\n\"build.all\" = 60100\n\"lint\" = 100\n"), "{text}");
        assert_eq!(parse_check_times(&text).unwrap(), times);
        assert!(render_check_times(&BTreeMap::from([("a".to_owned(), 1)])).contains("= 100"));
    }

    #[test]
    fn a_time_is_a_number_of_milliseconds() {
        for bad in ["a = -1", "a = 'x'", "a = 1.5", "a = 100000000", "a =", "[a]\nb = 1"] {
            let refused = parse_check_times(bad).unwrap_err();
            assert!(refused.to_string().contains("setup/check-times.toml"), "{refused}");
        }
    }
}
