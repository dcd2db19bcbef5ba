//! The manifest of everything a result depends on, its key, and the differences between two manifests
//! *(pure)*.
//!
//! Different manifests have different keys: every field enters the digest with its length and position.
//! Environment variables are kept only as digests, since they may be secrets. For example:
//!
//! ```text
//! InputManifest { files: [("src/a.py", sha256)], env: [("CI", None)], tools: [python3 3.12.4], .. }
//!   -> key "9f86d081884c7d65…"
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use xtask_base::digest::{self, Digest, as_hex};
use xtask_base::path::{RepoPath, exact};

/// The version of the manifest and of the rules by which it is made. A new number invalidates all keys.
const SCHEMA: &str = "xtask.validate.key/2";

/// The number of differences listed in full; the rest is counted.
const MAX_DIFFERENCES: usize = 10;

/// The state of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// No file. That is a value like any other.
    Missing,
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// The digest of the content.
        #[serde(with = "as_hex")]
        content: Digest,
    },
    Link {
        /// The digest of the link text.
        #[serde(with = "as_hex")]
        target: Digest,
        /// The digest of the final target if that is a file, `a folder` or `something else` for other kinds;
        /// `None` if the link is dangling.
        content: Option<String>,
    },
    /// A folder, a FIFO, a socket or a device.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    #[serde(with = "exact")]
    pub path: RepoPath,
    pub seen: FileState,
}

/// A program and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestTool {
    /// The name used in the check, e.g. `python3`.
    pub name: String,
    /// The path found on PATH; `None` if the program was not found.
    pub found: Option<String>,
    /// The same path with all symlinks resolved.
    pub real: Option<String>,
    /// The digest of the file at `real`.
    pub content: Option<String>,
    /// The output of its version command.
    pub version: Option<String>,
}

/// Everything on which the result of a check depends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputManifest {
    /// The version of xtask.
    pub toolkit: String,
    /// The folder in which the check ran.
    pub root: String,
    /// The operating system and the architecture, e.g. `linux x86_64`.
    pub system: String,
    /// The result of `collect_definition`, in its order.
    pub definition: Vec<(String, String)>,
    /// The input files, sorted by path.
    #[serde(with = "shared")]
    pub files: Arc<Vec<ManifestFile>>,
    /// The files that the check is given, sorted by path.
    #[serde(default, with = "shared")]
    pub given: Arc<Vec<ManifestFile>>,
    /// Environment variables and the digests of their values; `None` if unset.
    pub env: Vec<(String, Option<String>)>,
    pub tools: Vec<ManifestTool>,
    /// The names and keys of the checks in `needs`.
    pub needs: Vec<(String, String)>,
}

impl InputManifest {
    /// Returns the key, in hexadecimal.
    #[must_use]
    pub fn key(&self) -> String {
        let given = (!self.given.is_empty()).then(|| digest_files(&self.given));
        self.key_with(digest_files(&self.files), given)
    }

    /// Like `key`, with the digests of `files` and, if there are any, of `given` already computed.
    #[must_use]
    pub fn key_with(&self, files: Digest, given: Option<Digest>) -> String {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut put = |part: &[u8]| parts.push(part.to_vec());
        let number = |count: usize| (count as u64).to_be_bytes();
        for text in [SCHEMA, &self.toolkit, &self.root, &self.system] {
            put(text.as_bytes());
        }
        put(&number(self.definition.len()));
        for (name, value) in &self.definition {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        put(&files);
        if let Some(given) = given {
            put(b"given");
            put(&given);
        }
        let mut maybe = |text: &Option<String>| match text {
            Some(text) => {
                put(b"is");
                put(text.as_bytes());
            }
            None => put(b"is not"),
        };
        maybe(&Some(self.env.len().to_string()));
        for (name, value) in &self.env {
            maybe(&Some(name.clone()));
            maybe(value);
        }
        maybe(&Some(self.tools.len().to_string()));
        for tool in &self.tools {
            maybe(&Some(tool.name.clone()));
            for text in [&tool.found, &tool.real, &tool.content, &tool.version] {
                maybe(text);
            }
        }
        maybe(&Some(self.needs.len().to_string()));
        for (name, key) in &self.needs {
            maybe(&Some(name.clone()));
            maybe(&Some(key.clone()));
        }
        digest::to_hex(&digest::hash_parts(parts.iter().map(Vec::as_slice)))
    }
}

/// Returns the digest of `files` that enters the key.
#[must_use]
pub fn digest_files(files: &[ManifestFile]) -> Digest {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(files.len() * 3);
    for file in files {
        parts.push(file.path.as_bytes());
        match &file.seen {
            FileState::Missing => parts.push(b"missing"),
            FileState::File { executable, content } => {
                parts.push(if *executable { b"executable" } else { b"file" });
                parts.push(content);
            }
            FileState::Link { target, content } => {
                parts.push(b"link");
                parts.push(target);
                parts.push(content.as_deref().map_or(b"", str::as_bytes));
            }
            FileState::Other => parts.push(b"other"),
        }
    }
    digest::hash_parts(parts)
}

/// Serialization of a file list that several manifests share.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ManifestFile;

    pub(super) fn serialize<S: Serializer>(
        files: &Arc<Vec<ManifestFile>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        files.as_slice().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Vec<ManifestFile>>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::new)
    }
}

/// Lists the differences between two manifests, at most `MAX_DIFFERENCES` in full, e.g. `variable X is set
/// now`.
#[must_use]
pub fn describe_differences(before: &InputManifest, now: &InputManifest) -> Vec<String> {
    let mut all = Vec::new();
    if before.toolkit != now.toolkit {
        all.push("the version of xtask changed".to_owned());
    }
    if before.root != now.root {
        all.push("the folder of the repository changed".to_owned());
    }
    if before.system != now.system {
        all.push(format!("the platform changed from {} to {}", before.system, now.system));
    }
    if before.definition != now.definition {
        all.push(describe_definition_change(&before.definition, &now.definition));
    }
    describe_file_changes(&before.files, &now.files, &mut all);
    describe_file_changes(&before.given, &now.given, &mut all);
    for (name, value) in &now.env {
        let old = before.env.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        match (old, value) {
            (Some(old), new) if old == new => {}
            (Some(Some(_)), None) => all.push(format!("variable `{name}` is no longer set")),
            (Some(None), Some(_)) => all.push(format!("variable `{name}` is set now")),
            _ => all.push(format!("variable `{name}` has another value")),
        }
    }
    for tool in &now.tools {
        let old = before.tools.iter().find(|other| other.name == tool.name);
        all.extend(old.and_then(|old| describe_tool_change(old, tool)));
    }
    for (name, key) in &now.needs {
        let old = before.needs.iter().find(|(other, _)| other == name);
        if old.is_some_and(|(_, old)| old != key) {
            all.push(format!("the state of `{name}`, which it needs, changed"));
        }
    }
    if all.is_empty() && before != now {
        all.push("something it depends on was changed".to_owned());
    }
    if all.len() > MAX_DIFFERENCES {
        let more = all.len() - MAX_DIFFERENCES;
        all.truncate(MAX_DIFFERENCES);
        all.push(format!("and {more} more"));
    }
    all
}

fn describe_definition_change(before: &[(String, String)], now: &[(String, String)]) -> String {
    let values = |of: &[(String, String)], name: &str| -> Vec<String> {
        of.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
    };
    let names = before.iter().chain(now).map(|(name, _)| name);
    let changed = names.filter(|name| values(before, name) != values(now, name));
    match changed.into_iter().next().map(String::as_str) {
        Some("argument") => "its command was changed".to_owned(),
        Some(name) => format!("its `{name}` was changed"),
        None => "its definition was changed".to_owned(),
    }
}

fn describe_file_changes(before: &[ManifestFile], now: &[ManifestFile], all: &mut Vec<String>) {
    let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(two)) => one.path.cmp(&two.path),
        };
        match order {
            std::cmp::Ordering::Less => {
                all.extend(old.next().map(|file| format!("`{}` was removed", file.path)));
            }
            std::cmp::Ordering::Greater => {
                all.extend(new.next().map(|file| format!("`{}` is new", file.path)));
            }
            std::cmp::Ordering::Equal => {
                if let (Some(one), Some(two)) = (old.next(), new.next())
                    && one.seen != two.seen
                {
                    all.push(describe_file_change(one, two));
                }
            }
        }
    }
}

fn describe_file_change(before: &ManifestFile, now: &ManifestFile) -> String {
    let path = &now.path;
    match (&before.seen, &now.seen) {
        (_, FileState::Missing) => format!("`{path}` was removed"),
        (FileState::Missing, _) => format!("`{path}` exists now"),
        (FileState::File { content: one, .. }, FileState::File { content: two, executable })
            if one == two =>
        {
            let is = if *executable { "is" } else { "is no longer" };
            format!("`{path}` {is} executable")
        }
        (FileState::File { .. }, FileState::File { .. }) => format!("`{path}` was changed"),
        (FileState::Link { target: one, .. }, FileState::Link { target: two, .. })
            if one == two =>
        {
            format!("the target of the symlink `{path}` was changed")
        }
        (FileState::Link { .. }, FileState::Link { .. }) => {
            format!("the symlink `{path}` points elsewhere")
        }
        _ => format!("the file type of `{path}` changed"),
    }
}

fn describe_tool_change(before: &ManifestTool, now: &ManifestTool) -> Option<String> {
    let name = &now.name;
    if before == now {
        return None;
    }
    let line = |text: &Option<String>| {
        text.as_deref().and_then(|text| text.lines().next()).unwrap_or("unknown").to_owned()
    };
    Some(match (&before.found, &now.found) {
        (Some(_), None) => format!("`{name}` is no longer on PATH"),
        (None, Some(_)) => format!("`{name}` is on PATH now"),
        _ if before.version != now.version && line(&before.version) == line(&now.version) => {
            format!("the version output of `{name}` changed")
        }
        _ if before.version != now.version => {
            format!("`{name}` changed from `{}` to `{}`", line(&before.version), line(&now.version))
        }
        (Some(one), Some(two)) if one != two => format!("`{name}` changed from {one} to {two}"),
        _ => format!("the program `{name}` was changed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: u8) -> ManifestFile {
        let seen = FileState::File { executable: false, content: [content; 32] };
        ManifestFile { path: RepoPath::new(path), seen }
    }

    fn tool(name: &str, found: &str, version: &str) -> ManifestTool {
        let some = |text: &str| Some(text.to_owned());
        let (real, content) = (some(found), some("c"));
        ManifestTool {
            name: name.into(),
            found: some(found),
            real,
            content,
            version: some(version),
        }
    }

    fn sample() -> InputManifest {
        InputManifest {
            toolkit: "1".into(),
            root: "/r".into(),
            system: "linux".into(),
            definition: vec![("name".into(), "a".into()), ("argument".into(), "x".into())],
            files: vec![file("a", 1), file("b", 2)].into(),
            given: vec![file("g", 3)].into(),
            env: vec![("X".into(), None), ("Y".into(), Some("d".into()))],
            tools: vec![tool("cc", "/bin/cc", "cc 1")],
            needs: vec![("n".into(), "k".into())],
        }
    }

    /// Every way in which two states can differ, and what is said about it.
    #[test]
    fn every_difference_makes_another_key_and_is_told() {
        type Change = fn(&mut InputManifest);
        let changes: [(Change, &str); 20] = [
            (|m| m.toolkit = "2".into(), "the version of xtask changed"),
            (|m| m.root = "/s".into(), "the folder of the repository changed"),
            (|m| m.system = "macos".into(), "the platform changed from linux to macos"),
            (|m| m.definition[1].1 = "y".into(), "its command was changed"),
            (|m| m.definition.push(("argument".into(), "z".into())), "its command was changed"),
            (|m| m.definition[0].1 = "b".into(), "its `name` was changed"),
            (|m| Arc::make_mut(&mut m.files)[0] = file("a", 9), "`a` was changed"),
            (|m| Arc::make_mut(&mut m.files)[0] = file("aa", 1), "`a` was removed; `aa` is new"),
            (|m| Arc::make_mut(&mut m.files).push(file("c", 3)), "`c` is new"),
            (|m| drop(Arc::make_mut(&mut m.files).pop()), "`b` was removed"),
            (|m| Arc::make_mut(&mut m.files)[0].seen = FileState::Missing, "`a` was removed"),
            (
                |m| {
                    Arc::make_mut(&mut m.files)[0].seen =
                        FileState::File { executable: true, content: [1; 32] }
                },
                "`a` is executable",
            ),
            (|m| Arc::make_mut(&mut m.given)[0] = file("g", 9), "`g` was changed"),
            (|m| Arc::make_mut(&mut m.given).push(file("h", 3)), "`h` is new"),
            (|m| m.env[0].1 = Some(String::new()), "variable `X` is set now"),
            (|m| m.env[1].1 = None, "variable `Y` is no longer set"),
            (|m| m.env[1].1 = Some("e".into()), "variable `Y` has another value"),
            (|m| m.tools[0] = tool("cc", "/x/cc", "cc 1"), "`cc` changed from /bin/cc to /x/cc"),
            (|m| m.tools[0] = tool("cc", "/bin/cc", "cc 2"), "`cc` changed from `cc 1` to `cc 2`"),
            (|m| m.needs[0].1 = "l".into(), "the state of `n`, which it needs, changed"),
        ];
        let before = sample();
        let mut keys = vec![before.key()];
        for (change, words) in changes {
            let mut now = sample();
            change(&mut now);
            assert_eq!(describe_differences(&before, &now).join("; "), words);
            assert!(!keys.contains(&now.key()), "{words}");
            keys.push(now.key());
        }
        assert!(describe_differences(&before, &sample()).is_empty());
    }

    #[test]
    fn neighbours_cannot_be_mistaken_for_each_other() {
        let with = |env: &[(&str, Option<&str>)], tools: Vec<ManifestTool>| InputManifest {
            env: env.iter().map(|(n, v)| ((*n).into(), v.map(str::to_owned))).collect(),
            tools,
            ..InputManifest::default()
        };
        let keys = [
            with(&[("A", None), ("B", None)], vec![]).key(),
            with(&[("A", Some("B")), ("B", None)], vec![]).key(),
            with(&[("A", Some(""))], vec![]).key(),
            with(&[("A", None)], vec![]).key(),
            with(&[("A", Some("is not"))], vec![]).key(),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{at}");
        }
    }
}
