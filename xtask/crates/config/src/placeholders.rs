//! Placeholders in commands, variables and paths of services: `{port}`, `{port:NAME}`, `{root}`, `{state}` and
//! `{xtask}`. Other braces stay unchanged, and so does `${port}`, which belongs to the shell. Pure.
//!
//! For example, `serve --port {port}` becomes `serve --port 8000`.

/// A segment of a text.
enum TextPart<'a> {
    Text(&'a str),
    /// The port of the named service; `None` for the service's own port.
    Port(Option<&'a str>),
    Root,
    State,
    Xtask,
}

/// The replacements for placeholders.
pub struct PlaceholderValues<'a> {
    /// The replacement for `{port}`.
    pub own_port: Option<u16>,
    /// The replacement for `{port:NAME}`, by service name.
    pub ports: &'a dyn Fn(&str) -> Option<u16>,
    /// The folder of the worktree or of the release (`{root}`).
    pub root: &'a str,
    /// The folder for persistent data of services (`{state}`).
    pub state: &'a str,
    /// The path of the supervising program (`{xtask}`).
    pub xtask: &'a str,
}

/// Replaces all placeholders in `text`. A placeholder for an unknown port stays unchanged.
#[must_use]
pub fn fill_placeholders(text: &str, values: &PlaceholderValues<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    for (piece, written) in split_placeholders(text) {
        let port = match piece {
            TextPart::Text(text) => {
                filled.push_str(text);
                continue;
            }
            TextPart::Root => {
                filled.push_str(values.root);
                continue;
            }
            TextPart::State => {
                filled.push_str(values.state);
                continue;
            }
            TextPart::Xtask => {
                filled.push_str(values.xtask);
                continue;
            }
            TextPart::Port(None) => values.own_port,
            TextPart::Port(Some(name)) => (values.ports)(name),
        };
        match port {
            Some(port) => filled.push_str(&port.to_string()),
            None => filled.push_str(written),
        }
    }
    filled
}

/// Returns the port placeholders in `text`, each as written and with its service; `None` is the service's own port.
pub(super) fn find_port_placeholders(text: &str) -> Vec<(&str, Option<&str>)> {
    let ports = split_placeholders(text).into_iter().filter_map(|(piece, written)| match piece {
        TextPart::Port(of) => Some((written, of)),
        _ => None,
    });
    ports.collect()
}

/// Splits `text` into segments, each with its original text.
fn split_placeholders(text: &str) -> Vec<(TextPart<'_>, &str)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices('{') {
        if at < from || text[..at].ends_with('$') {
            continue;
        }
        let Some(length) = text[at..].find('}') else { break };
        let written = &text[at..=at + length];
        let piece = match &written[1..length] {
            "port" => TextPart::Port(None),
            "root" => TextPart::Root,
            "state" => TextPart::State,
            "xtask" => TextPart::Xtask,
            other => match other.strip_prefix("port:") {
                Some(name) => TextPart::Port(Some(name)),
                None => continue,
            },
        };
        pieces.push((TextPart::Text(&text[from..at]), &text[from..at]));
        pieces.push((piece, written));
        from = at + length + 1;
    }
    pieces.push((TextPart::Text(&text[from..]), &text[from..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placeholders_are_filled() {
        let ports = |name: &str| (name == "api").then_some(8000);
        let values = PlaceholderValues {
            own_port: Some(3000),
            ports: &ports,
            root: "/r",
            state: "/s",
            xtask: "/x",
        };
        let fill = |text: &str| fill_placeholders(text, &values);
        for (text, filled) in [
            ("{xtask} serve --port {port}", "/x serve --port 3000"),
            ("http://h:{port:api}/{root}", "http://h:8000//r"),
            ("{state}/db {State}", "/s/db {State}"),
            ("{port}{port}é{port:api}", "30003000é8000"),
            ("{{port}}", "{3000}"),
            ("{\"a\": {port}}", "{\"a\": 3000}"),
            ("${port} ${HOME} {other} {} {port", "${port} ${HOME} {other} {} {port"),
            ("{port:web} {Port} { port }", "{port:web} {Port} { port }"),
            ("", ""),
        ] {
            assert_eq!(fill(text), filled, "{text}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let values = PlaceholderValues {
            own_port: None,
            ports: &|_| None,
            root: "/{port}/{xtask}",
            state: "s",
            xtask: "x",
        };
        assert_eq!(fill_placeholders("{root}", &values), "/{port}/{xtask}");
    }

    #[test]
    fn ports_are_found_as_they_are_written() {
        let found = find_port_placeholders("a {port} {port:x y} {root} ${port:z}");
        assert_eq!(found, [("{port}", None), ("{port:x y}", Some("x y"))]);
    }
}
