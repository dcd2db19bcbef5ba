//! Pictures in the manuals: plots of the benchmarks, and stills of a terminal. What draws them is text in, text out.

pub mod plot;
mod svg;
pub mod terminal;

#[cfg(test)]
mod tests {
    use super::{plot, terminal};

    /// The classes of a style with their fill, the first of them that of the background.
    fn fills(style: &'static str) -> Vec<(&'static str, &'static str)> {
        let rules = style.lines().filter_map(|line| line.split_once("{fill:#"));
        let all = rules.flat_map(|(names, rule)| {
            let color = rule.split([';', '}']).next().unwrap();
            names.split(',').map(move |name| (name.trim_start_matches('.'), color))
        });
        all.collect()
    }

    /// The luminance of `rgb` or `rrggbb`, as WCAG 2 defines it.
    fn luminance(color: &str) -> f64 {
        let size = color.len() / 3;
        let part = |at: usize| {
            let digits = color[at * size..(at + 1) * size].repeat(3 - size);
            let share = f64::from(u8::from_str_radix(&digits, 16).unwrap()) / 255.0;
            if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(0) + 0.7152 * part(1) + 0.0722 * part(2)
    }

    #[test]
    fn text_and_bars_have_contrast_on_light_and_on_dark() {
        for style in [plot::STYLE, terminal::STYLE] {
            let (light, dark) = style.split_once("@media").unwrap();
            for part in [light, dark] {
                let all = fills(part);
                let page = luminance(all[0].1);
                assert!(all[0].0 == "page" && all.len() > 8, "{all:?}");
                for (class, color) in &all[1..] {
                    let color = luminance(color);
                    let contrast = (page.max(color) + 0.05) / (page.min(color) + 0.05);
                    let least = match *class {
                        "dot" => 1.0,
                        "peer" => 3.0,
                        _ => 4.5,
                    };
                    assert!(contrast >= least, "`{class}` has a contrast of {contrast:.2}");
                }
            }
        }
    }
}
