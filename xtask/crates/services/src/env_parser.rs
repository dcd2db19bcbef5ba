//! Parser of env files: lines to variables, by the syntax in `deployment/README.md`. Pure.
//!
//! ```text
//! URL="http://${HOST}:${PORT:-8080}/"   # -> ("URL", "http://localhost:8080/")
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::env_files::{EnvFileFault, EnvVariable, VariableLookup};
use xtask_config::find_reserved_fault;

/// A line that has no meaning.
pub(super) struct ParseError {
    pub(super) fault: EnvFileFault,
    pub(super) line: usize,
    pub(super) why: String,
    pub(super) hint: Option<&'static str>,
}

/// Position in a file, and what was read so far.
pub(super) struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    variables: Vec<EnvVariable>,
    lookup: VariableLookup<'a>,
}

impl<'a> Parser<'a> {
    /// Parses a whole file.
    pub(super) fn parse_all(
        bytes: &'a [u8],
        lookup: VariableLookup<'a>,
    ) -> Result<Vec<EnvVariable>, ParseError> {
        let mut parser = Parser { bytes, at: 0, line: 1, variables: Vec::new(), lookup };
        while parser.parse_line()? {}
        Ok(parser.variables)
    }

    fn error_at_line(&self, why: impl Into<String>, hint: &'static str) -> ParseError {
        let fault = EnvFileFault::Malformed;
        ParseError { fault, line: self.line, why: why.into(), hint: Some(hint) }
    }

    fn carriage_return_error(&self) -> ParseError {
        self.error_at_line(
            "it has a carriage return (CR) inside a line",
            "end lines with LF (Unix) or CRLF (Windows)",
        )
    }

    /// Returns the rest of the current line, without its line ending.
    fn rest_of_line(&self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        self.at += end;
        self.line += 1;
    }

    /// Parses one line. Returns false at the end of the file.
    fn parse_line(&mut self) -> Result<bool, ParseError> {
        if self.at >= self.bytes.len() {
            return Ok(false);
        }
        let line = self.rest_of_line();
        let text = line.trim_ascii_start();
        if text.is_empty() || text.starts_with(b"#") {
            self.skip_line();
            return Ok(true);
        }
        if line.contains(&0) {
            return Err(self.error_at_line("it has a NUL byte", NUL_HINT));
        }
        if line.contains(&b'\r') {
            return Err(self.carriage_return_error());
        }
        let text = match text.strip_prefix(b"export") {
            Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => {
                rest.trim_ascii_start()
            }
            _ => text,
        };
        let Some(equals) = text.iter().position(|byte| *byte == b'=') else {
            return Err(
                self.error_at_line("it has no `=`", "expected `NAME=VALUE` or a comment after `#`")
            );
        };
        let name = text[..equals].trim_ascii_end();
        let is_name = |(at, byte): (usize, &u8)| {
            byte.is_ascii_alphabetic()
                || *byte == b'_'
                || at > 0 && (byte.is_ascii_digit() || b"-.".contains(byte))
        };
        if name.is_empty() || !name.iter().enumerate().all(is_name) {
            return Err(self.error_at_line(
                "invalid variable name before `=`",
                "use letters, digits, `_`, `-` and `.`, beginning with a letter or `_`",
            ));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(why) = find_reserved_fault(&name) {
            let fault = EnvFileFault::Malformed;
            return Err(ParseError { fault, line: self.line, why, hint: None });
        }
        let value = text[equals + 1..].trim_ascii_start();
        // Continue by byte offset, since a quoted value may span lines.
        self.at += self.offset_in_line(line, value);
        let value = match value.first() {
            Some(b'\'') => self.parse_quoted(b'\'')?,
            Some(b'"') => self.parse_quoted(b'"')?,
            _ => {
                let value = strip_comment(value);
                let value = self.substitute_names(value, false)?;
                self.skip_line();
                value
            }
        };
        // The last definition wins, and takes the last position.
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, OsString::from_vec(value)));
        Ok(true)
    }

    fn offset_in_line(&self, line: &[u8], value: &[u8]) -> usize {
        debug_assert!(self.bytes[self.at..].starts_with(line));
        // `value` is a suffix of `line`, since no end was trimmed yet.
        line.len() - value.len()
    }

    /// Parses a quoted value, which may span lines. Only a comment may follow it.
    fn parse_quoted(&mut self, quote: u8) -> Result<Vec<u8>, ParseError> {
        let opened = self.line;
        let mut raw = Vec::new();
        self.at += 1;
        loop {
            let Some(byte) = self.bytes.get(self.at) else {
                return Err(ParseError {
                    fault: EnvFileFault::UnclosedQuote,
                    line: opened,
                    why: "its quote is never closed".to_owned(),
                    hint: Some("a value that begins with a quote ends with one"),
                });
            };
            self.at += 1;
            match byte {
                0 => {
                    return Err(self.error_at_line("it has a NUL byte", NUL_HINT));
                }
                _ if *byte == quote => break,
                b'\\' if quote == b'"' => {
                    raw.push(b'\\');
                    if self.bytes[self.at..].starts_with(b"\r\n") {
                        self.at += 1;
                    }
                    if let Some(next) = self.bytes.get(self.at) {
                        raw.push(*next);
                        self.at += 1;
                        self.line += usize::from(*next == b'\n');
                    }
                }
                b'\r' if self.bytes.get(self.at) == Some(&b'\n') => {}
                b'\r' => return Err(self.carriage_return_error()),
                byte => {
                    self.line += usize::from(*byte == b'\n');
                    raw.push(*byte);
                }
            }
        }
        let after = self.rest_of_line();
        let text = after.trim_ascii_start();
        if !text.is_empty() && (!text.starts_with(b"#") || text.len() == after.len()) {
            let opened = if opened == self.line {
                String::new()
            } else {
                format!(" (opened in line {opened})")
            };
            return Err(self.error_at_line(
                format!("unexpected text after the closing quote{opened}"),
                "quote the whole value, and write a quote inside `\"…\"` as `\\\"`",
            ));
        }
        let value = if quote == b'"' { self.substitute_names(&raw, true)? } else { raw };
        self.skip_line();
        Ok(value)
    }

    /// Expands `$NAME` and `${…}`; in double quotes also resolves escapes such as `\n`.
    fn substitute_names(&self, raw: &[u8], in_quotes: bool) -> Result<Vec<u8>, ParseError> {
        let mut value = Vec::with_capacity(raw.len());
        let mut at = 0;
        while at < raw.len() {
            let rest = &raw[at..];
            if in_quotes && rest[0] == b'\\' && rest.len() > 1 {
                at += 2;
                match rest[1] {
                    b'n' => value.push(b'\n'),
                    b'r' => value.push(b'\r'),
                    b't' => value.push(b'\t'),
                    known @ (b'\\' | b'"' | b'$') => value.push(known),
                    // For example, a regular expression or a Windows path.
                    other => value.extend([b'\\', other]),
                }
            } else if rest.starts_with(b"${") {
                let Some(end) = rest.iter().position(|byte| *byte == b'}') else {
                    return Err(self.error_at_line("its `${` is never closed", SINGLE_QUOTES_HINT));
                };
                value.extend(self.expand_braces(&rest[2..end])?);
                at += end + 1;
            } else if rest[0] == b'$' && rest.len() > 1 {
                let length = count_name_bytes(&rest[1..]);
                let name = String::from_utf8_lossy(&rest[1..=length]);
                match self.find_earlier(&name).filter(|_| length > 0) {
                    Some(known) => value.extend(known),
                    // For example, a hash, a password or a price.
                    None => value.extend(&rest[..=length]),
                }
                at += length + 1;
            } else {
                value.push(rest[0]);
                at += 1;
            }
        }
        Ok(value)
    }

    /// Expands the inside of `${…}`: `NAME`, `NAME:-DEFAULT` or `NAME-DEFAULT`.
    fn expand_braces(&self, inside: &[u8]) -> Result<Vec<u8>, ParseError> {
        let length = count_name_bytes(inside);
        let name = String::from_utf8_lossy(&inside[..length]).into_owned();
        // Parsers disagree about the end of such a default.
        if inside[length..].iter().any(|byte| b"${\"'\\".contains(byte)) {
            return Err(self.error_at_line(
                "the default in `${…}` contains a `$`, a brace, a quote or a `\\`",
                SINGLE_QUOTES_HINT,
            ));
        }
        let set = self.find_earlier(&name).or_else(|| Some((self.lookup)(&name)?.into_vec()));
        match (length, &inside[length..]) {
            (1.., b"") => set.ok_or_else(|| {
                self.error_at_line(
                    format!("undefined variable `{name}` in `${{{name}}}`"),
                    SINGLE_QUOTES_HINT,
                )
            }),
            (1.., [b':', b'-', default @ ..]) => {
                Ok(set.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_vec()))
            }
            (1.., [b'-', default @ ..]) => Ok(set.unwrap_or_else(|| default.to_vec())),
            _ => Err(self.error_at_line(
                "invalid `${…}`: expected `NAME`, `NAME:-DEFAULT` or `NAME-DEFAULT`",
                SINGLE_QUOTES_HINT,
            )),
        }
    }

    /// Returns the value that the file itself has set before.
    fn find_earlier(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_bytes().to_vec())
    }
}

const SINGLE_QUOTES_HINT: &str = "single quotes keep a value exactly as written";

const NUL_HINT: &str = "environment variables cannot contain NUL";

/// Returns the length of the name that `text` begins with, in bytes.
fn count_name_bytes(text: &[u8]) -> usize {
    let is_part = |(at, byte): &(usize, &u8)| {
        byte.is_ascii_alphabetic() || **byte == b'_' || *at > 0 && byte.is_ascii_digit()
    };
    text.iter().enumerate().take_while(is_part).count()
}

/// Returns an unquoted value without its comment, which begins after a blank, and without trailing
/// blanks.
fn strip_comment(text: &[u8]) -> &[u8] {
    let is_comment =
        |at: &usize| text[*at] == b'#' && (*at == 0 || text[at - 1].is_ascii_whitespace());
    let end = (0..text.len()).find(is_comment).unwrap_or(text.len());
    text[..end].trim_ascii_end()
}
