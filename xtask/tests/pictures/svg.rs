//! SVG as text: the frame of a picture that people read on a light and on a dark page, and by a screen reader.
//!
//! No script, no font and no address of elsewhere: a page shows these files as images. Each has a background of its
//! own, so that its colours have the same contrast on every page. The same input is the same bytes: a number is
//! written with at most one decimal, and one that is none (NaN, infinite) is refused. For example, `Svg::new(…)`
//! begins with `<svg … role="img">`, `<title>` and `<desc>`.

use std::fmt::Write;

/// The width of every picture; it is scaled down where there is less room.
pub const WIDTH: f64 = 760.0;

/// A picture in the making.
pub struct Svg {
    body: String,
    title: String,
    description: String,
    style: String,
}

impl Svg {
    /// `style` is CSS; the classes `page` (the background) and `text` are there.
    pub fn new(title: &str, description: &str, style: &str) -> Svg {
        Svg {
            body: String::new(),
            title: title.to_owned(),
            description: description.to_owned(),
            style: style.to_owned(),
        }
    }

    pub fn rectangle(&mut self, class: &str, [x, y, width, height]: [f64; 4], radius: f64) {
        let [x, y, width, height, radius] = [x, y, width, height, radius].map(number);
        let round = if radius == "0" { String::new() } else { format!(" rx=\"{radius}\"") };
        self.line(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{round}/>"
        ));
    }

    pub fn stroke(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(number);
        let end = match (x1 == x2, y1 == y2) {
            (true, _) => format!("V{y2}"),
            (_, true) => format!("H{x2}"),
            _ => format!("L{x2} {y2}"),
        };
        self.line(&format!("<path class=\"{class}\" d=\"M{x1} {y1}{end}\"/>"));
    }

    /// Text whose baseline begins (or, by its class, ends) at a point.
    pub fn text(&mut self, class: &str, [x, y]: [f64; 2], text: &str) {
        let [x, y] = [x, y].map(number);
        let text = escape(text);
        self.line(&format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }

    /// A piece of the body, which is SVG already.
    pub fn line(&mut self, svg: &str) {
        self.body.push_str(svg);
        self.body.push('\n');
    }

    /// The whole file, for a picture of this height.
    pub fn finish(self, height: f64) -> String {
        let (width, height) = (number(WIDTH), number(height));
        let mut all = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n"
        );
        let (title, description) = (escape(&self.title), escape(&self.description));
        writeln!(all, "<title id=\"title\">{title}</title>").unwrap();
        writeln!(all, "<desc id=\"desc\">{description}</desc>").unwrap();
        writeln!(all, "<style>\n{}\n</style>", self.style.trim()).unwrap();
        all.push_str(&self.body);
        all.push_str("</svg>\n");
        all
    }
}

/// A text between tags or in an attribute. What XML cannot hold at all becomes `U+FFFD`.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(letter),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A length: `12`, `12.5`, never `12.0`, `-0` or `1e9`.
pub fn number(number: f64) -> String {
    assert!(number.is_finite(), "a picture has no place for {number}");
    let text = format!("{number:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_an_element_or_an_attribute() {
        assert_eq!(escape("a <b> & \"c\" 'd'"), "a &lt;b&gt; &amp; &quot;c&quot; 'd'");
        assert_eq!(escape("\u{1b}[0m\u{0}é\t█"), "\u{fffd}[0m\u{fffd}é\t█");
    }

    #[test]
    fn numbers_are_short_and_finite() {
        let all = [0.0, -0.01, 12.0, 12.04, 12.25, -3.5, 1e9].map(number);
        assert_eq!(all, ["0", "0", "12", "12", "12.2", "-3.5", "1000000000"]);
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(std::panic::catch_unwind(|| number(bad)).is_err());
        }
    }

    #[test]
    fn a_picture_names_and_describes_itself() {
        let mut svg = Svg::new("A & B", "1 < 2", ".page{fill:#fff}");
        svg.rectangle("page", [0.0, 0.0, WIDTH, 20.0], 6.0);
        svg.text("text", [1.0, 2.5], "<x>");
        let expected = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"20\" \
             viewBox=\"0 0 760 20\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">A &amp; B</title>\n<desc id=\"desc\">1 &lt; 2</desc>\n\
             <style>\n.page{fill:#fff}\n</style>\n\
             <rect class=\"page\" x=\"0\" y=\"0\" width=\"760\" height=\"20\" rx=\"6\"/>\n\
             <text class=\"text\" x=\"1\" y=\"2.5\">&lt;x&gt;</text>\n</svg>\n";
        assert_eq!(svg.finish(20.0), expected);
    }
}
