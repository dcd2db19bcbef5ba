//! Whole outputs as people see them, for snapshots: what was typed, what was said on both streams, how it ended.
//!
//! What differs between two runs is named instead of shown, in this one place: `$LAB` is the folder of the
//! test, `ID` an object id, `TIME` a time and `AGO` how long ago it was, `SIZE` a number of bytes, `N` a number of
//! seconds, of a process or of a port.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use super::{Place, Ran};

/// What people see of a row of commands.
pub struct Transcript<'a> {
    place: Place<'a>,
    names: Vec<(String, &'static str)>,
    text: String,
}

impl<'a> Transcript<'a> {
    pub fn new(place: &Place<'a>) -> Transcript<'a> {
        let lab = place.lab.root.to_string();
        Transcript { place: place.clone(), names: vec![(lab, "$LAB")], text: String::new() }
    }

    /// Shows this name where a text stands that is another one each time.
    pub fn name(&mut self, text: impl ToString, name: &'static str) -> &mut Self {
        self.names.push((text.to_string(), name));
        self
    }

    /// Says what comes next.
    pub fn note(&mut self, text: &str) -> &mut Self {
        self.text.push_str(&format!("# {text}\n\n"));
        self
    }

    /// Runs the program under test.
    pub fn xtask(&mut self, args: &[&str]) -> &mut Self {
        let ran = self.place.xtask(args);
        self.add(&format!("cargo xtask {}", args.join(" ")), &ran)
    }

    /// Runs git.
    pub fn git(&mut self, args: &[&str]) -> &mut Self {
        let ran = self.place.try_git(args);
        self.add(&format!("git {}", args.join(" ")), &ran)
    }

    /// What was typed, and what came of it.
    pub fn add(&mut self, typed: &str, ran: &Ran) -> &mut Self {
        self.text.push_str(&format!("$ {typed}\n{}", ran.out));
        for line in ran.err.lines() {
            self.text.push_str(&format!("! {line}\n"));
        }
        match ran.code {
            Some(0) => {}
            Some(code) => self.text.push_str(&format!("[{code}]\n")),
            None => self.text.push_str("[ended by a signal]\n"),
        }
        self.text.push('\n');
        self
    }

    /// All of it, without what differs between two runs.
    pub fn text(&self) -> String {
        let names = self.names.iter();
        normalised(&names.fold(self.text.clone(), |text, (from, to)| text.replace(from, to)))
    }
}

/// Patterns with what stands for them, also where spaces pad a number.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (
            r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z| UTC)?",
            "TIME",
        ),
        (r"\b[0-9]{8}T[0-9]{6}Z(-[0-9]+)?\b", "TIME"),
        (r"\b[0-9]{8}-[0-9]{6}(-[0-9]+)?\b", "TIME"),
        (r"\b[0-9]+(\.[0-9]+)+ \(/[^)]*\)", "VERSION (PATH)"),
        (r"\bchange [0-9]+ on\b", "change N on"),
        (r#"_ms": [0-9]+"#, "_ms\": N"),
        (r"\bpid [0-9]+\b", "pid N"),
        (r"\b(localhost|127\.0\.0\.1):[0-9]+\b", "$1:N"),
        (r"\bport [0-9]{5}\b", "port N"),
        (r" {2,}[0-9]+(\.[0-9]+)? (ms|s|min)\b", "  N s"),
        (r"\b[0-9]+(\.[0-9]+)? (ms|s|min)\b", "N s"),
        (r"\b[0-9]+(\.[0-9]+)? (bytes|KB|MB|GB|TB)\b", "SIZE"),
        (r"(just now|\b[0-9]+ (second|minute|hour|day|month|year)s? ago) {2,}", "AGO  "),
        (r"just now|\b[0-9]+ (second|minute|hour|day|month|year)s? ago", "AGO"),
    ];
    all.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).to_vec()
});

static HEX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{7,64}\b").unwrap());

fn normalised(text: &str) -> String {
    let text = PATTERNS.iter().fold(text.to_owned(), |text, (pattern, name)| {
        pattern.replace_all(&text, *name).into_owned()
    });
    let id = |found: &Captures<'_>| {
        let word = &found[0];
        // `decade` and `1234567` are no ids; ours are never shorter than ten digits.
        let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
        let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
        if is_mixed || word.len() >= 10 { "ID".to_owned() } else { word.to_owned() }
    };
    HEX.replace_all(&text, id).into_owned()
}
