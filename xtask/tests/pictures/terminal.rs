//! Stills of a terminal: what programs wrote, with its codes for colours, as an SVG.
//!
//! *(pure)* Text stays text. Known are the codes that our programs use: bold, dim, and the eight colours, plain and
//! bright; all others are left out. Lines are never wrapped: if one is longer than usual, all letters become smaller.
//! For example, `"\x1b[32mok\x1b[0m"` becomes `<tspan class="green">ok</tspan>`.

use std::fmt::Write;

use super::svg::{Svg, WIDTH, escape, number};

/// How many letters fit into a line of the usual size, and the width of one as a part of its size, in every usual font.
const COLUMNS: usize = 96;
const LETTER: f64 = 0.6;

/// Around the text; the bar of the window is as high as `BAR`.
const PADDING: f64 = 16.0;
const BAR: f64 = 30.0;

/// Tab stops.
const TAB: usize = 8;

const COLORS: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

pub(super) const STYLE: &str = "
svg{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace}
text{white-space:pre}
.page{fill:#fff;stroke:#d0d7de}
.bar{stroke:#d0d7de}
.dot{fill:#c4cbd3}
.text{fill:#1f2328}
.caption{fill:#59636e;font-size:12px;text-anchor:middle}
.bold{font-weight:700}
.dim,.white{fill:#59636e}
.black{fill:#1f2328}
.red{fill:#b3261e}
.green{fill:#116329}
.yellow{fill:#7d4e00}
.blue{fill:#0550ae}
.magenta{fill:#7a3fd1}
.cyan{fill:#0f626b}
@media(prefers-color-scheme:dark){
.page{fill:#0d1117;stroke:#3d444d}
.bar{stroke:#3d444d}
.dot{fill:#3d444d}
.text,.black{fill:#f0f6fc}
.caption,.dim,.white{fill:#9198a1}
.red{fill:#ff7b72}
.green{fill:#56d364}
.yellow{fill:#e3b341}
.blue{fill:#79c0ff}
.magenta{fill:#d2a8ff}
.cyan{fill:#56d4dd}
}";

/// How letters look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    is_bold: bool,
    is_dim: bool,
    color: Option<usize>,
}

impl Look {
    /// Applies the numbers of a code, e.g. `1;32`.
    fn apply(&mut self, code: &str) {
        let numbers = code.split(';').map(|number| match number {
            "" => Some(0),
            number => number.parse::<usize>().ok(),
        });
        for number in numbers {
            match number {
                Some(0) => *self = Look::default(),
                Some(1) => self.is_bold = true,
                Some(2) => self.is_dim = true,
                Some(22) => (self.is_bold, self.is_dim) = (false, false),
                Some(color @ 30..=37) => self.color = Some(color - 30),
                Some(color @ 90..=97) => self.color = Some(color - 90),
                // One of 256 or more: what follows is no code of its own.
                Some(38 | 48) => return,
                Some(39) => self.color = None,
                _ => {}
            }
        }
    }

    fn class(self) -> String {
        let color = self.color.map(|color| COLORS[color]);
        let dim = (self.is_dim && color.is_none()).then_some("dim");
        let all = [self.is_bold.then_some("bold"), dim, color];
        all.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Letters that look the same.
type Span = (Look, String);

/// What a terminal shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Screen(Vec<Vec<Span>>);

impl Screen {
    /// Reads what programs wrote. Empty lines at the end are left out.
    pub fn read(text: &str) -> Screen {
        let (mut look, mut lines) = (Look::default(), Vec::new());
        for line in text.lines() {
            let mut spans: Vec<Span> = Vec::new();
            let mut column = 0;
            let mut letters = line.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '\u{1b}' => skip_code(&mut letters, &mut look),
                    '\t' => {
                        let count = TAB - column % TAB;
                        push(&mut spans, look, &" ".repeat(count));
                        column += count;
                    }
                    letter if letter.is_control() => {}
                    letter => {
                        push(&mut spans, look, letter.encode_utf8(&mut [0; 4]));
                        column += 1;
                    }
                }
            }
            lines.push(spans);
        }
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        Screen(lines)
    }

    /// Replaces letters, within those that look the same: what differs from run to run.
    pub fn replace(mut self, by: impl Fn(&str) -> String) -> Screen {
        for (_, text) in self.0.iter_mut().flatten() {
            *text = by(text);
        }
        self
    }

    /// The letters alone.
    pub fn plain(&self) -> String {
        let line = |spans: &Vec<Span>| spans.iter().map(|(_, text)| &text[..]).collect::<String>();
        self.0.iter().map(|spans| line(spans).trim_end().to_owned() + "\n").collect()
    }

    /// The file; `title` is in the bar of the window, and the whole text is the description.
    pub fn draw(&self, title: &str) -> String {
        let plain = self.plain();
        let longest = plain.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let letter = (WIDTH - 2.0 * PADDING) / longest.max(COLUMNS) as f64;
        let size = letter / LETTER;
        let step = (size * 1.45).ceil();
        let height = BAR + 2.0 * PADDING + step * self.0.len() as f64 - 4.0;
        let mut svg = Svg::new(title, &plain, STYLE);
        svg.rectangle("page", [0.5, 0.5, WIDTH - 1.0, height - 1.0], 8.0);
        svg.stroke("bar", [0.5, BAR, WIDTH - 0.5, BAR]);
        for place in [18.0, 36.0, 54.0] {
            svg.line(&format!(
                "<circle class=\"dot\" cx=\"{place}\" cy=\"{}\" r=\"5\"/>",
                number(BAR / 2.0)
            ));
        }
        svg.text("caption", [WIDTH / 2.0, 20.0], title);
        svg.line(&format!("<g class=\"text\" font-size=\"{size:.2}\">"));
        for (at, spans) in self.0.iter().enumerate().filter(|(_, spans)| !spans.is_empty()) {
            let y = BAR + PADDING + step * (at as f64 + 1.0) - step * 0.3;
            svg.line(&draw_line(spans, letter, y));
        }
        svg.line("</g>");
        svg.finish(height)
    }
}

/// Reads a code after its first letter. What is no change of the look has none here.
fn skip_code(letters: &mut std::str::Chars<'_>, look: &mut Look) {
    if !letters.as_str().starts_with('[') {
        letters.next();
        return;
    }
    letters.next();
    let mut code = String::new();
    for letter in letters.by_ref() {
        match letter {
            'm' => return look.apply(&code),
            '\u{40}'..='\u{7e}' => return,
            letter => code.push(letter),
        }
    }
}

fn push(spans: &mut Vec<Span>, look: Look, text: &str) {
    match spans.last_mut() {
        Some((last, before)) if *last == look => before.push_str(text),
        _ => spans.push((look, text.to_owned())),
    }
}

/// A line is as long as its letters are in a terminal, whatever the font is, unless it has letters that are wider.
fn draw_line(spans: &[Span], letter: f64, y: f64) -> String {
    let mut text = String::new();
    let (mut count, mut is_narrow) = (0, true);
    for (number, (look, span)) in spans.iter().enumerate() {
        let span = if number + 1 == spans.len() { span.trim_end() } else { span };
        count += span.chars().count();
        is_narrow &= span
            .chars()
            .all(|letter| letter < '\u{1100}' || ('\u{2010}'..'\u{2600}').contains(&letter));
        match &look.class()[..] {
            "" => text.push_str(&escape(span)),
            class => write!(text, "<tspan class=\"{class}\">{}</tspan>", escape(span)).unwrap(),
        }
    }
    let length = if is_narrow {
        format!(" textLength=\"{}\"", number(letter * count as f64))
    } else {
        String::new()
    };
    format!("<text x=\"{}\" y=\"{}\"{length}>{text}</text>", number(PADDING), number(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> String {
        let Screen(lines) = Screen::read(text);
        let span = |(look, text): &Span| format!("{}[{text}]", look.class());
        let lines = lines.iter().map(|line| line.iter().map(span).collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn codes_change_the_look_until_they_are_reset() {
        let cases = [
            ("plain", "[plain]"),
            ("\x1b[1mb\x1b[0m a", "bold[b] [ a]"),
            ("\x1b[1;31mr\x1b[39mb\x1b[22mn", "bold red[r] bold[b] [n]"),
            ("\x1b[2md\x1b[32mg\x1b[m.", "dim[d] green[g] [.]"),
            ("\x1b[92mbright\x1b[0m\x1b[97mw", "green[bright] white[w]"),
            ("\x1b[33mtwo\nlines\x1b[0m", "yellow[two]\nyellow[lines]"),
            ("\x1b[38;5;1mother", "[other]"),
            ("\x1b[2K\x1b[1Ga\x1b[?25hb\x1bc", "[ab]"),
            ("a\tb\r\n\tc", "[a       b]\n[        c]"),
            ("\x1b[31", ""),
            ("one\n\n\n", "[one]"),
        ];
        for (text, expected) in cases {
            assert_eq!(spans(text), expected, "{text:?}");
        }
    }

    #[test]
    fn letters_come_as_they_are_and_are_escaped() {
        let screen = Screen::read("\x1b[1m<a & b>\x1b[0m \u{1f980} 日本\n  █ é\n");
        assert_eq!(screen.plain(), "<a & b> \u{1f980} 日本\n  █ é\n");
        let svg = screen.draw("a < b");
        assert!(svg.contains("<title id=\"title\">a &lt; b</title>"), "{svg}");
        assert!(
            svg.contains("<tspan class=\"bold\">&lt;a &amp; b&gt;</tspan> \u{1f980} 日本</text>")
        );
        // Only a line of which the width is known is given one.
        let widths = svg.lines().map(|line| line.matches("textLength=").count());
        assert_eq!(widths.sum::<usize>(), 1);
        assert!(svg.contains(" textLength=\"37.9\">  █ é</text>"), "{svg}");
    }

    #[test]
    fn letters_become_smaller_where_a_line_is_long() {
        let of = |count: usize| Screen::read(&"x".repeat(count)).draw("t");
        assert!(of(96).contains("font-size=\"12.64\"") && of(10).contains("font-size=\"12.64\""));
        assert!(of(192).contains("font-size=\"6.32\"") && of(192).contains("textLength=\"728\""));
    }

    #[test]
    fn what_differs_between_runs_is_replaced_in_place() {
        let screen = Screen::read("\x1b[2m1f\x1b[0m and 1f");
        assert_eq!(screen.replace(|text| text.replace("1f", "ID")).plain(), "ID and ID\n");
    }
}
