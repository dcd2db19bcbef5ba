//! Env files: reads and parses the `NAME=VALUE` files of services.
//!
//! Parsers of such files differ; `deployment/README.md` has the table of the syntax accepted here.
//! Syntax on which they agree has its usual meaning, other syntax has one documented meaning, and a
//! value that would silently turn into another one is rejected with its line number. A line may
//! hold a secret, so messages never quote it.
//!
//! The commands that start services read the files once. The supervisor does not (except in
//! `restore_launch_envs`): a file can be a pipe of a secret manager, or be on a disk that does not
//! respond.
//!
//! ```text
//! HOST=localhost
//! URL="http://${HOST}:${PORT:-8080}/"   # -> ("URL", "http://localhost:8080/")
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::env_parser::{ParseError, Parser};
use super::launch::Env;
use super::spec::{EnvFile, EnvFileStamp, FileStamp, ServiceSpec};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, Result};

/// Maximum size of an env file: 1 MiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How long to wait for an env file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Up to 5 seconds, for a command that somebody has typed.
    Full,
    /// Up to 5 seconds, but a pipe counts as an empty file: its content can be read only once, and is
    /// left for the start that follows.
    SkipPipes,
    /// Up to 500 ms; a pipe is an error.
    Brief,
}

impl WaitPolicy {
    fn timeout(self) -> Duration {
        match self {
            WaitPolicy::Full | WaitPolicy::SkipPipes => Duration::from_secs(5),
            WaitPolicy::Brief => Duration::from_millis(500),
        }
    }
}

/// Name and value of a variable.
pub type EnvVariable = (String, OsString);

/// Lookup of names that the file itself does not set.
pub type VariableLookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Variables from the env files of services.
#[derive(Default)]
pub struct EnvFileValues {
    /// Per service: its variables, or the first error.
    by_service: BTreeMap<String, Result<Env, EnvFileError>>,
    /// Per service: the stamps of its files.
    stamps: BTreeMap<String, Vec<EnvFileStamp>>,
}

impl EnvFileValues {
    /// Reads the env files of `specs`, each file once. `base` are the other variables that services
    /// receive.
    #[must_use]
    pub fn read_files(specs: &[ServiceSpec], base: &Env, waits: WaitPolicy) -> EnvFileValues {
        let mut contents: BTreeMap<PathBuf, Result<FileContent>> = BTreeMap::new();
        let mut values = EnvFileValues::default();
        for spec in specs.iter().filter(|spec| !spec.env_files.is_empty()) {
            let mut env = Env::new();
            let mut seen = Vec::new();
            let mut fault = None;
            let mut has_pipe = false;
            for file in &spec.env_files {
                let content = contents
                    .entry(file.path.clone())
                    .or_insert_with(|| read_within(&file.path, waits, waits.timeout()));
                let done = match content {
                    Ok(FileContent { bytes: None, .. }) if file.is_optional => {
                        seen.push(EnvFileStamp { path: file.path.clone(), look: None });
                        continue;
                    }
                    Ok(FileContent { bytes: None, .. }) => Err(EnvFileError {
                        fault: EnvFileFault::Unreadable,
                        message: format!("env file `{}` not found", file.path.display()),
                        hints: Vec::new(),
                    }),
                    Ok(FileContent { bytes: Some(bytes), look }) => {
                        seen.push(EnvFileStamp { path: file.path.clone(), look: *look });
                        // The variables of a skipped pipe are not known yet.
                        has_pipe |= waits == WaitPolicy::SkipPipes && look.is_none();
                        let given = |name: &str| {
                            let own = spec.env.get(name).map(OsString::from);
                            let before = || env.get(OsStr::new(name)).cloned();
                            let found = before().or(own);
                            let found = found.or_else(|| base.get(OsStr::new(name)).cloned());
                            found.or_else(|| has_pipe.then(OsString::new))
                        };
                        parse_env_file(&file.path.display().to_string(), bytes, &given)
                    }
                    Err(failure) => Err(EnvFileError {
                        fault: EnvFileFault::Unreadable,
                        message: failure.to_string(),
                        hints: failure.hints().to_vec(),
                    }),
                };
                match done {
                    Ok(variables) => env.extend(variables.into_iter().map(|(n, v)| (n.into(), v))),
                    Err(failure) => fault = fault.or(Some(failure)),
                }
            }
            values.stamps.insert(spec.name.clone(), seen);
            values.by_service.insert(spec.name.clone(), fault.map_or(Ok(env), Err));
        }
        values
    }

    /// Returns the variables of a service, or the first error of its files.
    pub fn for_service(&self, service: &str) -> Result<Env, EnvFileError> {
        match self.by_service.get(service) {
            None => Ok(Env::new()),
            Some(Ok(env)) => Ok(env.clone()),
            Some(Err(failure)) => Err(failure.clone()),
        }
    }

    /// Returns the variables of each service whose files could be read.
    #[must_use]
    pub fn readable_envs(&self) -> BTreeMap<String, Env> {
        let read = self.by_service.iter();
        read.filter_map(|(name, env)| Some((name.clone(), env.as_ref().ok()?.clone()))).collect()
    }

    /// Returns the stamps of the files of each service.
    #[must_use]
    pub fn file_stamps(&self) -> &BTreeMap<String, Vec<EnvFileStamp>> {
        &self.stamps
    }
}

/// The category of an [`EnvFileError`], by which hints are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnvFileFault {
    /// The file does not exist or cannot be read.
    Unreadable,
    Malformed,
    /// Malformed, because a quote is never closed: the file may be truncated.
    UnclosedQuote,
}

/// An env file that cannot be used, and why.
#[derive(Clone, Debug)]
pub struct EnvFileError {
    pub fault: EnvFileFault,
    message: String,
    hints: Vec<String>,
}

impl EnvFileError {
    /// Converts it into an [`Error`] of invalid configuration (exit code 2).
    #[must_use]
    pub fn into_error(self) -> Error {
        self.hints.into_iter().fold(Error::usage(self.message), Error::with_hint)
    }

    /// Returns the hints, in the order in which they were added.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl std::fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

struct FileContent {
    /// `None` if the file does not exist.
    bytes: Option<Vec<u8>>,
    look: Option<FileStamp>,
}

/// Messages from the reading thread, in this order.
enum ReadProgress {
    IsPipe(bool),
    Content(std::io::Result<FileContent>),
}

/// Reads a file in a separate thread, so that an unresponsive file blocks the caller for at most
/// `longest`.
fn read_within(path: &Path, waits: WaitPolicy, longest: Duration) -> Result<FileContent> {
    let (tell, told) = mpsc::channel();
    let at = path.to_path_buf();
    std::thread::spawn(move || {
        let is_pipe = is_pipe(&at);
        drop(tell.send(ReadProgress::IsPipe(is_pipe)));
        let content = match (is_pipe, waits) {
            (true, WaitPolicy::Brief) => Err(std::io::Error::other("it is a pipe")),
            (true, WaitPolicy::SkipPipes) => {
                Ok(FileContent { bytes: Some(Vec::new()), look: None })
            }
            _ => read_content(&at),
        };
        drop(tell.send(ReadProgress::Content(content)));
    });
    let name = path.display();
    let deadline = Deadline::after(longest);
    let mut is_pipe = false;
    let found = loop {
        match told.recv_timeout(deadline.remaining().unwrap_or_default()) {
            Ok(ReadProgress::IsPipe(is)) => is_pipe = is,
            Ok(ReadProgress::Content(content)) => break Some(content),
            Err(_) => break None,
        }
    };
    match found {
        Some(Ok(content)) => Ok(content),
        Some(Err(cause)) => {
            Err(Error::usage(format!("cannot read env file `{name}`")).with_cause(cause))
        }
        None => Err(Error::usage(format!(
            "timed out after {longest:?} reading env file `{name}`: {}",
            if is_pipe { "it is a pipe without a writer" } else { "its disk does not respond" }
        ))
        .with_hint("if a secret manager writes it, unlock that first")),
    }
}

fn read_content(path: &Path) -> std::io::Result<FileContent> {
    let open = match File::open(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(FileContent { bytes: None, look: None });
        }
        other => other?,
    };
    let meta = open.metadata()?;
    if meta.is_dir() {
        return Err(std::io::Error::other("it is a folder"));
    }
    let mut bytes = Vec::new();
    open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    // Only a regular file has a meaningful modification time.
    let look = meta.is_file().then(|| to_stamp(&meta));
    Ok(FileContent { bytes: Some(bytes), look })
}

fn to_stamp(meta: &std::fs::Metadata) -> FileStamp {
    use std::os::unix::fs::MetadataExt as _;
    let mtime_ns = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
    FileStamp { size: meta.len(), mtime_ns, inode: meta.ino() }
}

fn is_pipe(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// Reads one env file, independent of a service. Skips pipes.
pub fn read_env_file(file: &EnvFile, given: VariableLookup<'_>) -> Result<Vec<EnvVariable>> {
    let name = file.path.display().to_string();
    match read_within(&file.path, WaitPolicy::SkipPipes, WaitPolicy::SkipPipes.timeout())?.bytes {
        Some(bytes) => parse_env_file(&name, &bytes, given).map_err(EnvFileError::into_error),
        None if file.is_optional => Ok(Vec::new()),
        None => Err(Error::usage(format!("env file `{name}` not found"))),
    }
}

/// Returns the files whose stamp has changed. A file that does not respond within 1 second is left
/// out.
#[must_use]
pub fn list_changed(seen: &[EnvFileStamp]) -> Vec<PathBuf> {
    let (tell, told) = mpsc::channel();
    let files = seen.to_vec();
    std::thread::spawn(move || {
        for one in files {
            let meta = std::fs::metadata(&one.path).ok().filter(|meta| meta.is_file());
            // The receiver may have given up.
            if meta.as_ref().map(to_stamp) != one.look && tell.send(one.path).is_err() {
                return;
            }
        }
    });
    let deadline = Deadline::after(Duration::from_secs(1));
    let mut changed = Vec::new();
    while let Some(left) = deadline.remaining() {
        match told.recv_timeout(left) {
            Ok(path) => changed.push(path),
            Err(_) => break,
        }
    }
    changed
}

/// Parses the content of an env file. `path` names it in messages; `given` looks up `${NAME}`.
pub fn parse_env_file(
    path: &str,
    bytes: &[u8],
    given: VariableLookup<'_>,
) -> Result<Vec<EnvVariable>, EnvFileError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Parser::parse_all(bytes, given).map_err(|ParseError { line, why, hint, fault }| EnvFileError {
        fault,
        message: format!("env file `{path}` is malformed in line {line}: {why}"),
        hints: hint.map(str::to_owned).into_iter().collect(),
    })
}

/// Returns whether a file is empty, truncated or holds conflict markers: nobody wrote it that way.
#[must_use]
pub fn is_torn(bytes: &[u8]) -> bool {
    let is_empty = bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0);
    let lines = || bytes.split(|byte| *byte == b'\n');
    let starts = |mark: &[u8]| lines().any(|line| line.starts_with(mark));
    let in_conflict = starts(b"<<<<<<< ") && starts(b">>>>>>> ");
    let last = lines().next_back().unwrap_or_default();
    let last = last.trim_ascii();
    let is_half = !last.is_empty() && !last.starts_with(b"#") && !last.contains(&b'=');
    let ends_in_quotes = match parse_env_file("it", bytes, &|_| Some(OsString::new())) {
        Err(failure) => failure.fault == EnvFileFault::UnclosedQuote,
        Ok(_) => false,
    };
    is_empty || in_conflict || is_half || ends_in_quotes
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use xtask_base::environment::Environment;
    use xtask_base::temp_folder::TempFolder;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn read_all(text: &str) -> Result<Vec<(String, String)>> {
        let given = |name: &str| (name == "GIVEN").then(|| OsString::from("given"));
        let found =
            parse_env_file("f", text.as_bytes(), &given).map_err(EnvFileError::into_error)?;
        Ok(found.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect())
    }

    /// What a line means. The same table is in `deployment/README.md`.
    #[test]
    fn a_line_means_what_the_manual_says() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A = b ", "b"),
            ("  export A=b", "b"),
            ("export\tA=b", "b"),
            ("\u{feff}A=b\r", "b"),
            ("A=b c", "b c"),
            ("A=b#c", "b#c"),
            ("A=b # c", "b"),
            ("A=#b", ""),
            ("A='b # c' # d", "b # c"),
            ("A=\"b # c\"", "b # c"),
            ("A='b\nc'", "b\nc"),
            ("A=\"b\r\nc\"", "b\nc"),
            ("A=\"b\\\r\nc\"", "b\\\nc"),
            ("A=''", ""),
            ("A=it's", "it's"),
            ("A={\"b\": [1, 2]}", "{\"b\": [1, 2]}"),
            ("A=D:\\new\\table", "D:\\new\\table"),
            ("A=\"D:\\\\new\\\\table\"", "D:\\new\\table"),
            ("A=\"b\\nc\\td\\\"e\"", "b\nc\td\"e"),
            ("A=\"^\\d+\\.$\"", "^\\d+\\.$"),
            ("A='b\\n$GIVEN'", "b\\n$GIVEN"),
            ("B=1\nA=$B_2", "$B_2"),
            ("B_2=x\nA=http://$B_2/y", "http://x/y"),
            ("B=x\nA=\"${B}y\"", "xy"),
            ("A=${GIVEN}", "given"),
            ("A=$GIVEN", "$GIVEN"),
            ("A=\"\\$GIVEN \\${B}\"", "$GIVEN ${B}"),
            ("A=${B:-c d}", "c d"),
            ("B=\nA=${B:-c}", "c"),
            ("B=\nA=${B-c}", ""),
            ("A=$2b$10$abcdefghij/K", "$2b$10$abcdefghij/K"),
            ("A=5$", "5$"),
            ("A=1\nA=2", "2"),
            ("A-B.c=1\nA=2", "2"),
            ("# only this\n\n   \nA=1\n   ", "1"),
        ] {
            let found = read_all(text).unwrap_or_else(|failure| panic!("{text:?}: {failure}"));
            let last = found.iter().rfind(|(name, _)| name == "A");
            assert_eq!(last.map(|(_, value)| value.as_str()), Some(value), "{text:?}");
        }
        assert_eq!(read_all("A-B.c=1").unwrap(), [("A-B.c".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn what_would_become_something_else_is_refused_with_its_line() {
        for (text, line, why) in [
            ("# c\nA", 2, "has no `=`"),
            ("A: b", 1, "has no `=`"),
            ("A=1\nB C=2", 2, "invalid variable name"),
            ("1A=2", 1, "invalid variable name"),
            ("=2", 1, "invalid variable name"),
            ("A=\"b\"c", 1, "after the closing quote"),
            ("A='b'#c", 1, "after the closing quote"),
            ("A=1\nB='x\ny\n", 2, "never closed"),
            ("A='x\nB='y'\n", 2, "opened in line 1"),
            ("A=${B}", 1, "undefined variable `B`"),
            ("A=\"${B\"", 1, "never closed"),
            ("A=${B:?no}", 1, "expected `NAME`"),
            ("A=${}", 1, "expected `NAME`"),
            ("C=1\nA=${B:-${C}}", 2, "the default in"),
            ("C=1\nA=${B:-$C}", 2, "the default in"),
            ("A=${B:-{\"a\":1}}", 1, "the default in"),
            ("A=\"${B:-\\\"q\\\"}\"", 1, "the default in"),
            ("A=1\rB=2", 1, "inside a line"),
            ("A='1\rB=2'", 1, "inside a line"),
            ("A=b\0c", 1, "NUL"),
            ("XTASK_PORT=1", 1, "it is reserved for xtask"),
        ] {
            let failure = read_all(text).expect_err(text);
            let what = failure.message();
            assert!(what.contains(&format!("in line {line}:")), "{text:?}: {what}");
            assert!(what.contains(why), "{text:?}: {what}");
        }
        // A secret on the line is not repeated.
        let failure = read_all("A=\"sesame\" open\n").unwrap_err();
        assert!(!format!("{failure} {:?}", failure.hints()).contains("sesame"));
    }

    #[test]
    fn values_need_not_be_utf_8() {
        let found = parse_env_file("f", b"A=\xff\xfe\nB='\xff'\n", &|_| None).unwrap();
        assert_eq!(found[0].1.as_bytes(), b"\xff\xfe");
        assert_eq!(found[1].1.as_bytes(), b"\xff");
    }

    #[test]
    fn torn_is_what_nobody_wrote_so() {
        for (text, is) in [
            ("", true),
            (" \n\0\0", true),
            ("A=1\nSECRE", true),
            ("A=1\nB='x", true),
            ("A=1\n<<<<<<< ours\nB=1\n=======\nB=2\n>>>>>>> theirs\n", true),
            ("A=1\n", false),
            ("A=D:\\x\nB C=1\n", false),
            ("A=1\n# half", false),
        ] {
            assert_eq!(is_torn(text.as_bytes()), is, "{text:?}");
        }
    }

    #[test]
    fn a_pipe_into_which_nobody_writes_holds_nobody_up() {
        let folder = TempFolder::new(&Environment::from_process().unwrap(), "env").unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
            path
        };
        let path = pipe("one");
        let failure = read_within(&path, WaitPolicy::Brief, PATIENCE).err().unwrap();
        assert!(format!("{failure}").contains("it is a pipe"), "{failure}");
        let failure =
            read_within(&path, WaitPolicy::Full, Duration::from_millis(20)).err().unwrap();
        assert!(failure.message().contains("it is a pipe"), "{failure}");
        // One into which somebody writes is read, once.
        let path = pipe("two");
        let writer = path.clone();
        std::thread::spawn(move || {
            use std::io::Write as _;
            File::options().write(true).open(writer)?.write_all(b"A=1\n")
        });
        let content = read_within(&path, WaitPolicy::Full, PATIENCE).unwrap();
        assert!(content.look.is_none() && content.bytes.is_some_and(|bytes| bytes == b"A=1\n"));
    }
}
