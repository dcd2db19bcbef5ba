//! Charts as inline SVG, from numbers alone. Colours come from the classes in the style sheet of the page, so a chart
//! fits light and dark; the numbers are also in its label, for those who do not see it.
//!
//! ```text
//! render_bar([("ok", 540, "in sync"), ("behind", 80, "behind")]) -> <svg role="img" aria-label="540 in sync, …">…
//! ```

use std::fmt::Write as _;

use super::html::escape;

/// A part of a bar: class of the style sheet, number and words.
pub(super) type BarPart<'a> = (&'a str, usize, &'a str);

/// The width of all charts that fill the page, in units of their own.
const WIDTH: f64 = 720.0;

/// Renders the parts of a whole as one bar. A part that is not zero is at least 4 of 720 units wide.
#[must_use]
pub(super) fn render_bar(parts: &[BarPart<'_>]) -> String {
    let all: usize = parts.iter().map(|(_, count, _)| count).sum();
    let words: Vec<String> = parts
        .iter()
        .filter(|part| part.1 > 0)
        .map(|part| format!("{} {}", part.1, part.2))
        .collect();
    let mut svg = format!(
        "<svg class=\"bar\" role=\"img\" viewBox=\"0 0 720 18\" preserveAspectRatio=\"none\" aria-label=\"{}\">",
        escape(&words.join(", "))
    );
    let least = 4.0 * parts.iter().filter(|part| part.1 > 0).count() as f64;
    let mut at = 0.0;
    for (class, count, _) in parts.iter().filter(|part| part.1 > 0) {
        let width = 4.0 + (WIDTH - least) * *count as f64 / all.max(1) as f64;
        draw(
            &mut svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{at:.1}\" width=\"{width:.1}\" height=\"18\"/>"
            ),
        );
        at += width;
    }
    svg.push_str("</svg>");
    svg
}

/// Renders a number for each day as steps, the last day on the right; `labels` are the first and the last day.
#[must_use]
pub(super) fn render_days(values: &[usize], labels: (&str, &str), what: &str) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let label = format!("{what}: {first} on {}, {last} on {}, at most {most}", labels.0, labels.1);
    let mut svg = format!(
        "<svg class=\"days\" role=\"img\" viewBox=\"0 0 720 120\" aria-label=\"{}\">",
        escape(&label)
    );
    let (step, top, bottom) = (680.0 / values.len() as f64, 14.0, 100.0);
    let height = |value: usize| bottom - (bottom - top) * value as f64 / most as f64;
    let mut line = String::new();
    for (day, value) in values.iter().enumerate() {
        let (x, y) = (40.0 + step * day as f64, height(*value));
        draw(&mut line, format_args!("{x:.1},{y:.1} {:.1},{y:.1} ", x + step));
    }
    draw(
        &mut svg,
        format_args!("<polygon class=\"area\" points=\"40,{bottom} {line}720,{bottom}\"/>"),
    );
    draw(&mut svg, format_args!("<polyline class=\"line\" points=\"{}\"/>", line.trim_end()));
    draw(&mut svg, format_args!("<path class=\"axis\" d=\"M40 {bottom}H720\"/>"));
    draw(
        &mut svg,
        format_args!("<text x=\"34\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>", top + 4.0),
    );
    draw(
        &mut svg,
        format_args!("<text x=\"34\" y=\"{:.1}\" text-anchor=\"end\">0</text>", bottom + 4.0),
    );
    let (from, to) = (escape(labels.0), escape(labels.1));
    draw(
        &mut svg,
        format_args!(
            "<text x=\"40\" y=\"117\">{from}</text><text x=\"720\" y=\"117\" text-anchor=\"end\">{to}</text>"
        ),
    );
    svg.push_str("</svg>");
    svg
}

fn draw(svg: &mut String, what: std::fmt::Arguments<'_>) {
    svg.write_fmt(what).expect("because writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_bar_is_seen_and_none_is_outside() {
        let svg =
            render_bar(&[("ok", 648, "in sync"), ("behind", 1, "behind"), ("pinned", 0, "pinned")]);
        assert!(svg.contains("aria-label=\"648 in sync, 1 behind\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        let ends: Vec<f64> = svg
            .split("<rect")
            .skip(1)
            .map(|rect| {
                let number = |key: &str| -> f64 {
                    let rest = rect.split_once(&format!("{key}=\"")).unwrap().1;
                    rest.split('"').next().unwrap().parse().unwrap()
                };
                number(" x") + number("width")
            })
            .collect();
        assert!((ends[1] - WIDTH).abs() < 0.2, "{ends:?}");
    }

    #[test]
    fn days_say_what_they_show() {
        assert_eq!(render_days(&[], ("a", "b"), "behind"), "");
        let svg = render_days(&[0, 0, 5], ("2026-01-01", "2026-01-03"), "behind");
        assert!(svg.contains("behind: 0 on 2026-01-01, 5 on 2026-01-03, at most 5"), "{svg}");
    }
}
