//! The frame of a page: head, navigation, what needs attention, sections; and its content security policy.
//!
//! A page is complete as the server renders it. Its only script, which is in the page like its style sheet, filters
//! the table, copies commands and shows events; the policy names both by their digests and forbids everything else.

use xtask_base::digest;

use super::html::{escape, escape_name, render_time};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// By what a page is known as one of ours, near its beginning.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"xtask dashboard\">";

/// Where a page is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageTarget {
    /// By our server, which has further pages.
    Server,
    /// In a file, which has everything in it.
    File,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// There is nothing to be well.
    Off,
    Good,
    /// Somebody may want to do something.
    Wait,
    Bad,
}

impl Tone {
    /// Returns the class of the style sheet, and the words for those who see no colour.
    pub(super) fn look(self) -> (&'static str, &'static str) {
        match self {
            Tone::Off => ("off", "nothing to show"),
            Tone::Good => ("good", "good"),
            Tone::Wait => ("wait", "attention"),
            Tone::Bad => ("bad", "trouble"),
        }
    }
}

/// A section of the page.
pub(super) struct Section {
    /// The anchor.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) tone: Tone,
    /// What a person should know first, in a few words, as HTML.
    pub(super) summary: String,
    /// The rest, as HTML.
    pub(super) body: String,
}

/// What a page is about.
pub(super) struct PageHead {
    /// The name of the repository.
    pub(super) name: String,
    /// Where it is: branch and worktree.
    pub(super) place: String,
    /// The address of what is shown of the checked-out branch.
    pub(super) here: Option<String>,
    /// When it was rendered, RFC 3339 in UTC.
    pub(super) time: String,
}

/// Renders the page of all sections. `details` is what links of a file lead to.
pub(super) fn render_page(
    head: &PageHead,
    sections: &[Section],
    details: &str,
    target: PageTarget,
) -> String {
    let tone = sections.iter().map(|section| section.tone).max().unwrap_or(Tone::Off);
    let mut body = String::from("<nav aria-label=\"Sections\"><ul>");
    for Section { id, title, tone, .. } in sections {
        let (class, words) = tone.look();
        body.push_str(&format!(
            "<li><a href=\"#{id}\"><span class=\"dot {class}\"></span>{title}<span class=\"unseen\">: {words}</span></a>"
        ));
    }
    body.push_str("</ul></nav>");
    body.push_str(&render_attention(sections));
    for Section { id, title, tone, summary, body: inner } in sections {
        let class = tone.look().0;
        body.push_str(&format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\"><h2 id=\"{id}-title\">{title}</h2>\
             <div id=\"{id}-body\" data-tone=\"{class}\"><p class=\"summary\"><span class=\"dot {class}\"></span>{summary}</p>{inner}</div></section>\n"
        ));
    }
    if !details.is_empty() {
        body.push_str(&format!(
            "<section id=\"details\" aria-label=\"Details of branches\">{details}</section>"
        ));
    }
    render_frame(head, "", tone, &body, target)
}

/// Renders the list of what needs attention, the worst first.
fn render_attention(sections: &[Section]) -> String {
    let mut open: Vec<&Section> =
        sections.iter().filter(|section| section.tone >= Tone::Wait).collect();
    open.sort_by_key(|section| std::cmp::Reverse(section.tone));
    if open.is_empty() {
        return "<section id=\"attention\" class=\"attention\" aria-labelledby=\"attention-title\"><h2 id=\"attention-title\">Nothing needs attention</h2><ul></ul></section>".to_owned();
    }
    let items: String = open
        .iter()
        .map(|section| {
            let (class, words) = section.tone.look();
            format!(
                "<li id=\"attention-{}\"><span class=\"dot {class}\"></span><span class=\"unseen\">{words}: </span><a href=\"#{}\">{}</a>: {}",
                section.id, section.id, section.title, section.summary
            )
        })
        .collect();
    format!(
        "<section id=\"attention\" class=\"attention\" aria-labelledby=\"attention-title\"><h2 id=\"attention-title\">Needs attention</h2><ul>{items}</ul></section>"
    )
}

/// Renders a page that is about one thing, such as a branch or a log, with a way back.
pub(super) fn render_subpage(head: &PageHead, title: &str, body: &str) -> String {
    let body = format!("<p><a href=\"/\">All of {}</a></p>{body}", escape_name(&head.name));
    render_frame(head, title, Tone::Off, &body, PageTarget::Server)
}

fn render_frame(
    head: &PageHead,
    title: &str,
    tone: Tone,
    body: &str,
    target: PageTarget,
) -> String {
    let name = escape_name(&head.name);
    let (heading, window) = match title {
        "" => (name.clone(), name),
        title => (escape_name(title), format!("{} · {name}", escape_name(title))),
    };
    let policy = match target {
        PageTarget::Server => String::new(),
        // A file has no header that could say it.
        PageTarget::File => format!(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">",
            escape(&content_policy(target))
        ),
    };
    let reload = match (target, title) {
        (PageTarget::Server, "") => " · <a href=\"/\">reload</a>",
        _ => "",
    };
    let (class, mark) = (tone.look().0, icon_url(tone));
    // The script shows the icon of the state that the page has later.
    let icons: String = match (target, title) {
        (PageTarget::Server, "") => [Tone::Off, Tone::Good, Tone::Wait, Tone::Bad]
            .iter()
            .map(|tone| format!(" data-icon{}=\"{}\"", tone.look().0, icon_url(*tone)))
            .collect(),
        _ => String::new(),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\" data-tone=\"{class}\"{icons}>\n<head>\n<meta charset=\"utf-8\">{policy}\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{GENERATOR}\n<title>{}{window}</title>\n\
         <link rel=\"icon\" href=\"{mark}\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header><h1>{heading}</h1><p class=\"where\">{} · as of {time}{reload}</p></header>\n\
         <main id=\"main\">{body}</main>\n\
         <footer><p>This page only shows. What changes something is a command to copy.</p></footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        title_mark(tone),
        match title {
            "" => {
                let link = head.here.as_ref().map_or(String::new(), |link| {
                    format!(" (<a href=\"{}\">this branch</a>)", escape(link))
                });
                format!("{}{link}", escape_name(&head.place))
            }
            _ => format!("seen from {}", escape_name(&head.place)),
        },
        time = render_time(&head.time),
    )
}

/// Returns what stands before the title of the window.
fn title_mark(tone: Tone) -> &'static str {
    match tone {
        Tone::Bad => "✗ ",
        Tone::Wait => "! ",
        Tone::Good | Tone::Off => "",
    }
}

/// Returns the icon of the window as a data URL.
fn icon_url(tone: Tone) -> String {
    let (fill, shape) = match tone {
        Tone::Bad => {
            ("%23c62128", "<path d='M4 4l8 8M12 4l-8 8' stroke='white' stroke-width='2.5'/>")
        }
        Tone::Wait => {
            ("%238a5a00", "<path d='M8 3v6M8 11.5v2' stroke='white' stroke-width='2.5'/>")
        }
        Tone::Good => {
            ("%231a7f37", "<path d='M4 8l3 3 5-6' fill='none' stroke='white' stroke-width='2'/>")
        }
        Tone::Off => ("%2357606a", ""),
    };
    let svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='4' fill='{fill}'/>{shape}</svg>"
    );
    format!(
        "data:image/svg+xml,{}",
        svg.replace('<', "%3C").replace('>', "%3E").replace('"', "%22")
    )
}

/// Renders a command for people to copy.
pub(super) fn render_command(command: &str) -> String {
    format!("<pre class=\"command\"><code>{}</code></pre>", escape(command))
}

/// Returns the content security policy: the style sheet and the script of the page, images in its text, and events
/// and forms of its own server.
pub(super) fn content_policy(target: PageTarget) -> String {
    let (style, script) = (source_digest(STYLE), source_digest(SCRIPT));
    let server = match target {
        PageTarget::Server => "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; ",
        PageTarget::File => "form-action 'none'; ",
    };
    format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; {server}base-uri 'none'"
    )
}

/// Returns the digest of an inline source as a policy names it.
fn source_digest(source: &str) -> String {
    format!("sha256-{}", encode_base64(&digest::hash_bytes(source.as_bytes())))
}

/// Encodes bytes as base64 (RFC 4648, section 4).
fn encode_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode_base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_page_has_the_sources_that_its_policy_names_and_no_other() {
        let head = PageHead {
            name: "<shop>".into(),
            place: "main".into(),
            here: None,
            time: "2026-01-31T12:00:00Z".into(),
        };
        let section = Section {
            id: "drift",
            title: "Drift",
            tone: Tone::Bad,
            summary: "2 behind".into(),
            body: String::new(),
        };
        for target in [PageTarget::Server, PageTarget::File] {
            let page = render_page(&head, std::slice::from_ref(&section), "", target);
            assert_eq!((page.matches("<script").count(), page.matches("<style").count()), (1, 1));
            assert!(page.contains(&format!("<style>{STYLE}</style>")));
            assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
            for attribute in [" style=", " onclick=", " onload=", "http://", "https://"] {
                let rest = page.replace("http://www.w3.org/2000/svg", "");
                assert!(!rest.contains(attribute), "{attribute}");
            }
            assert!(page.contains("&lt;shop&gt;") && !page.contains("<shop>"));
            assert!(page.contains("<title>✗ "), "the title follows the state");
            let policy = content_policy(target);
            assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none'"));
        }
    }
}
