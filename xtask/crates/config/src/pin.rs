//! Pins: a branch keeps its own content at a path for a time. Each statement about a path, that it is
//! pinned or that its pin has ended, is one small file in `.sync-pins/` at the root of a tree. The
//! newest about a branch and a path counts.
//!
//! A file is named by its content and never changed, so that a merge only has files to add and to
//! remove, and finds no conflict. What a squash merge brings back is older than what has replaced
//! it. And two thirds of a file are its own: git takes no file for another one renamed.
//!
//! ```text
//! branch = "feature/a"
//! path = "setup/format.toml"
//! until = 2026-12-30
//! reason = "waiting for the vendor"
//! by = "Ada"
//! since = 2026-11-30T09:00:00Z
//! id = "9a0364b9e99bb480dd25e1f0284c8555…"
//! ```

use super::faults::Faults;
use super::reader::TableReader;
use xtask_base::conflict_markers::{count_conflict_markers, first_marker_line};
use xtask_base::date::Date;
use xtask_base::digest;
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::is_unsafe_char;

/// The folder of the pins, in the root of a tree.
pub const PINS_FOLDER: &str = ".sync-pins";

/// The ending of the files in [`PINS_FOLDER`] that are pins; others are left alone.
pub const PIN_ENDING: &[u8] = b".toml";

/// The longest file that is read as a pin, in bytes: a path has at most 4096, a reason fits a line.
pub const MAX_PIN_BYTES: u64 = 64 * 1024;

/// The first moment that no file holds, 9999-01-01T00:00:00Z: those until then have four digits for the year, also when
/// each is a second later than what it replaces.
const END_OF_TIME: i64 = 253_370_764_800;

/// The longest reason, in characters: it is shown in one line.
const MAX_REASON: usize = 1000;

/// The first line of each file.
const COMMENT: &str =
    "# `cargo xtask pin --list` lists the pins, `cargo xtask unpin PATH` ends one.";

/// A branch that keeps its content at a path for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The branch that the pin applies to, without `refs/heads/`. Other branches ignore it.
    pub branch: String,
    /// The file, or the folder with all that is below.
    pub path: RepoPath,
    /// The last day on which it applies.
    pub until: Date,
    /// Why, in one line.
    pub reason: String,
    /// The name of whoever made it.
    pub by: String,
    /// When it was made, in seconds since the epoch. Of several about a branch and a path, the newest
    /// counts.
    pub since: i64,
    /// Whether it says that the pin has ended.
    pub ended: bool,
    /// The last day of what it replaces, if that is later than `until`: so long the file stays when it
    /// has lapsed, because a merge may bring back what it replaces.
    pub replaced_until: Option<Date>,
}

/// The commit in which a pin is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinHome {
    /// The branch itself.
    Branch,
    /// Its upstream, as last fetched, in a commit that the branch has not merged yet; for a branch at the remote, the
    /// local branch of its name.
    Upstream,
    /// The canonical branch, by `--branch`.
    Canonical,
}

impl Pin {
    /// Parses a pin. `source` is its path, with where it is, e.g. `.sync-pins/1a2b.toml at feature`.
    /// Returns one usage error with all faults, each with its line.
    pub fn parse(source: &str, content: &[u8]) -> Result<Pin> {
        let name = source.split_whitespace().next().unwrap_or(source);
        let fault = |line: usize, what: &str| {
            Error::usage(format!("1 fault in {source}"))
                .with_detail(format!("{name}:{line}: {what}"))
        };
        let text = std::str::from_utf8(content).map_err(|_| fault(1, "it is not UTF-8"))?;
        if count_conflict_markers(content) > 0 {
            return Err(fault(first_marker_line(content), "conflict marker"));
        }
        let pin = Faults::read_toml(source, text, read_pin)?;
        pin.ok_or_else(|| fault(1, "a key has no valid value"))
    }

    /// Returns the file as it is committed. [`Pin::parse`] reads the same pin back.
    #[must_use]
    pub fn render(&self) -> String {
        let path = match std::str::from_utf8(self.path.as_bytes()) {
            Ok(text) => format!("path = {}", quote(text)),
            Err(_) => format!("path-hex = \"{}\"", digest::to_hex(self.path.as_bytes())),
        };
        let (branch, reason, by) = (quote(&self.branch), quote(&self.reason), quote(&self.by));
        let (until, since) = (self.until, format_rfc3339(self.since));
        let ended = if self.ended { "ended = true\n" } else { "" };
        let replaced = self.replaced_until;
        let replaced = replaced.map_or(String::new(), |day| format!("replaced-until = {day}\n"));
        let text = format!(
            "{COMMENT}\nbranch = {branch}\n{path}\nuntil = {until}\nreason = {reason}\nby = \
             {by}\nsince = {since}\n{ended}{replaced}"
        );
        // Twice as long as all before it: two files have less than a third in common.
        format!("{text}id = \"{}\"\n", expand_digest(text.as_bytes(), 2 * text.len()))
    }

    /// Returns the path of the file, by its content.
    #[must_use]
    pub fn file_path(&self) -> RepoPath {
        let name = digest::hash_bytes(self.render().as_bytes());
        RepoPath::new(format!("{PINS_FOLDER}/{}.toml", &digest::to_hex(&name)[..16]))
    }

    /// Returns whether the pin is about `path`: the same, or below it.
    #[must_use]
    pub fn covers(&self, path: &RepoPath) -> bool {
        *path == self.path || path.is_below(&self.path)
    }

    /// Returns whether the pin applies on `today`, if no newer one is about its branch and path.
    #[must_use]
    pub fn is_active(&self, today: Date) -> bool {
        !self.ended && today <= self.until
    }

    /// Returns the last day on which something depends on it: one that has ended counts as long as what
    /// it ends would have, and one that replaces a longer one as long as that.
    #[must_use]
    pub fn last_day(&self) -> Date {
        self.replaced_until.map_or(self.until, |day| day.max(self.until))
    }
}

/// Returns at least `length` hex digits that depend on all of `content`.
fn expand_digest(content: &[u8], length: usize) -> String {
    let mut digits = String::new();
    let mut last = digest::hash_bytes(content);
    while digits.len() < length {
        digits.push_str(&digest::to_hex(&last));
        last = digest::hash_bytes(&last);
    }
    digits
}

/// Returns whether the file at `path` in a tree is a pin.
#[must_use]
pub fn is_pin_file(path: &[u8]) -> bool {
    let inside = path.strip_prefix(PINS_FOLDER.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
    inside.is_some_and(|name| name.ends_with(PIN_ENDING) && !name.contains(&b'/'))
}

/// Returns the reason as it is stored, or why it cannot be: it must be one line of text.
pub fn check_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    if reason.is_empty() {
        return Err("is empty".to_owned());
    }
    if let Some((at, c)) = reason.chars().enumerate().find(|(_, c)| is_unsafe_char(*c)) {
        return Err(match c {
            '\n' | '\r' => "has more than one line".to_owned(),
            _ => format!("has U+{:04X}, which is not shown, as character {}", u32::from(c), at + 1),
        });
    }
    let length = reason.chars().count();
    if length > MAX_REASON {
        return Err(format!("has {length} characters, {MAX_REASON} at most"));
    }
    Ok(reason.to_owned())
}

fn read_pin(table: &TableReader<'_>) -> Option<Pin> {
    let branch = table.read_text("branch");
    let by = table.read_any_text("by").unwrap_or_default();
    let reason = table.read_text("reason");
    let reason = reason.and_then(|text| match check_reason(&text) {
        Ok(reason) => Some(reason),
        Err(why) => {
            table.add_fault("reason", format!("`reason` {why}"));
            None
        }
    });
    let path = match table.has_key("path-hex") {
        true => table.read_parsed("path-hex", "a path as hex digits", parse_hex),
        false => table.read_text("path").map(String::into_bytes),
    };
    let path = path.and_then(|bytes| {
        let is_path = is_relative_path(&bytes);
        if !is_path {
            let key = if table.has_key("path-hex") { "path-hex" } else { "path" };
            table.add_fault(key, format!("`{key}` must be a path from the root of the repository"));
        }
        is_path.then(|| RepoPath::new(bytes))
    });
    let (until, replaced_until) = (table.read_date("until"), table.read_date("replaced-until"));
    let since = table.read_moment("since").filter(|since| {
        let is_early = *since < END_OF_TIME;
        if !is_early {
            table.add_fault("since", "`since` must be before 9999");
        }
        is_early
    });
    let ended = table.read_bool("ended").unwrap_or(false);
    // It only makes the file unlike others.
    table.read_any_text("id");
    if table.has_key("path-hex") {
        if table.has_key("path") {
            table.add_fault("path", "`path` and `path-hex` exclude each other");
        }
    } else {
        table.require_key("path");
    }
    for key in ["branch", "until", "reason", "since"] {
        table.require_key(key);
    }
    Some(Pin {
        branch: branch?,
        path: path?,
        until: until?,
        reason: reason?,
        by,
        since: since?,
        ended,
        replaced_until,
    })
}

/// Returns whether a path is from the root, and has no parts such as `..`.
fn is_relative_path(bytes: &[u8]) -> bool {
    let is_part = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    !bytes.contains(&0) && bytes.split(|byte| *byte == b'/').all(is_part)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Quotes a text as a TOML string in one line.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || is_unsafe_char(c) => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(path: &[u8], reason: &str) -> Pin {
        Pin {
            branch: "feature/a".to_owned(),
            path: RepoPath::new(path),
            until: Date::parse("2026-12-30").unwrap(),
            reason: reason.to_owned(),
            by: "Ada \"the\" Countess".to_owned(),
            since: 1_796_000_000,
            ended: false,
            replaced_until: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for path in
            [&b"setup/a"[..], b"a\"b\\c", b"new\nline\ttab", b"\xff\xfe/x", "ü/日本".as_bytes()]
        {
            for reason in ["waiting", "a \"quoted\" \\ one", "# no comment", "日本語"] {
                let one = pin(path, reason);
                let text = one.render();
                assert_eq!(text.lines().count(), 8, "{text}");
                assert_eq!(Pin::parse("x.toml", text.as_bytes()).unwrap(), one, "{text}");
                let replaced_until = Some(Date::parse("2027-02-01").unwrap());
                let ended = Pin { ended: true, replaced_until, ..one };
                assert_eq!(Pin::parse("x", ended.render().as_bytes()).unwrap(), ended);
            }
        }
    }

    #[test]
    fn the_name_is_that_of_the_content_and_two_files_have_little_in_common() {
        let long = "why ".repeat(240);
        let one = pin(b"setup/a", &long);
        assert_eq!(one.file_path().to_string().len(), ".sync-pins/".len() + 16 + ".toml".len());
        assert_eq!(one.file_path(), one.clone().file_path());
        for other in [
            Pin { branch: "feature/b".to_owned(), ..one.clone() },
            Pin { path: RepoPath::new("setup/b"), ..one.clone() },
            Pin { since: one.since + 1, ..one.clone() },
            Pin { ended: true, ..one.clone() },
        ] {
            assert_ne!(other.file_path(), one.file_path());
            let (text, mine) = (other.render(), one.render());
            let shared = text.lines().filter(|line| mine.contains(line));
            let shared: usize = shared.map(|line| line.len() + 1).sum();
            assert!(shared * 3 < text.len(), "{shared} of {}", text.len());
        }
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let good = pin(b"setup/a", "x").render();
        let faults = |text: &str| Pin::parse("p.toml at feature", text.as_bytes()).unwrap_err();
        for (from, to, wanted) in [
            ("until = 2026-12-30", "until = \"2026-12-30\"", "p.toml:4: `until` must be a date"),
            (
                "until = 2026-12-30",
                "until = 2026-12-30T00:00:00Z",
                "p.toml:4: `until` must be a date",
            ),
            ("until = 2026-12-30", "", "`until` is missing"),
            ("since = 2026", "since = 9999", "p.toml:7: `since` must be before 9999"),
            ("until = 2026-12-30", "untl = 2026-12-30", "p.toml:4: unknown key `untl`"),
            ("reason = \"x\"", "reason = \"\"", "p.toml:5: `reason` must not be empty"),
            ("reason = \"x\"", "reason = \"a\\nb\"", "p.toml:5: `reason` has more than one line"),
            ("path = \"setup/a\"", "path = \"/setup/a\"", "p.toml:3: `path` must be a path"),
            ("path = \"setup/a\"", "path = \"setup/../a\"", "p.toml:3: `path` must be a path"),
            ("path = \"setup/a\"", "path = \"setup/\"", "p.toml:3: `path` must be a path"),
            ("path = \"setup/a\"", "path-hex = \"6\"", "p.toml:3: `path-hex` is `6`"),
            ("path = \"setup/a\"", "path-hex = \"zz\"", "p.toml:3: `path-hex` is `zz`"),
            ("path = \"setup/a\"", "path-hex = \"61\"\npath = \"a\"", "exclude each other"),
            ("path = \"setup/a\"", "path = [", "p.toml:"),
            ("branch = \"feature/a\"", "<<<<<<< ours", "p.toml:2: conflict marker"),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good, "{from}");
            let fault = faults(&text);
            let details = fault.details().join("\n");
            assert!(details.contains(wanted), "{wanted}: {details}");
        }
        assert!(Pin::parse("p.toml", b"\xff").is_err());
        assert!(Pin::parse("p.toml", b"").is_err());
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(check_reason("  for the vendor ").as_deref(), Ok("for the vendor"));
        for wrong in ["", "  \n", "a\nb", "a\tb", "a\u{1b}[31m", "a\u{202e}b", &"x".repeat(1001)] {
            assert!(check_reason(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_folder_covers_what_is_below_it() {
        let folder = pin(b"setup", "x");
        assert!(
            folder.covers(&RepoPath::new("setup")) && folder.covers(&RepoPath::new("setup/a/b"))
        );
        assert!(
            !folder.covers(&RepoPath::new("setup2")) && !folder.covers(&RepoPath::new("a/setup"))
        );
    }
}
