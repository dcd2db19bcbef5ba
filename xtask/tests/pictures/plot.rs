//! Plots of what the benches measured: horizontal bars, one for each side, in groups with a scale of their own.
//!
//! *(pure)* The same results are the same bytes. A scale is logarithmic, and says so, if its largest number is more
//! than `LOGARITHMIC_FROM` times its smallest. A thin line over the end of a bar goes from the first to the third
//! quartile, a dashed line across a group is its budget. `<desc>` has all numbers as text.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::svg::{Svg, WIDTH};

/// From which ratio of largest to smallest a scale is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;

/// The largest number of a logarithmic scale, compared with its smallest.
const WIDEST: f64 = 3000.0;

/// Where bars begin, and how long the longest one is.
const LEFT: f64 = 176.0;
const LONGEST: f64 = 400.0;

/// Heights of a bar with its gap, of a bar alone, of a title and of a scale.
const STEP: f64 = 20.0;
const BAR: f64 = 13.0;
const HEAD: f64 = 28.0;
const SCALE: f64 = 22.0;

pub(super) const STYLE: &str = "
svg{font:12px system-ui,-apple-system,'Segoe UI',sans-serif}
.page{fill:#fff;stroke:#d0d7de}
.text{fill:#1f2328;stroke:#fff;stroke-width:3px;paint-order:stroke}
.end{fill:#1f2328;text-anchor:end}
.own{fill:#1f2328;text-anchor:end;font-weight:700}
.title{fill:#1f2328;font-size:15px;font-weight:700}
.head{fill:#1f2328;font-weight:700}
.note{fill:#59636e}
.tick{fill:#59636e;font-size:11px;text-anchor:middle}
.limit{fill:#a33a00;text-anchor:end}
.ours{fill:#0969da}
.peer{fill:#848d97}
.grid{stroke:#d8dee4}
.spread{stroke:#1f2328}
.budget{stroke:#a33a00;stroke-dasharray:4 3;stroke-width:1.5}
@media(prefers-color-scheme:dark){
.page{fill:#0d1117;stroke:#3d444d}
.text,.end,.own,.title,.head{fill:#f0f6fc}
.text{stroke:#0d1117}
.note,.tick{fill:#9198a1}
.limit{fill:#f0883e}
.ours{fill:#4493f8}
.peer{fill:#656c76}
.grid{stroke:#2a313c}
.spread{stroke:#f0f6fc}
.budget{stroke:#f0883e}
}";

/// A section of `docs/benchmarks.md`, which has a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    Sync,
    Hooks,
    Checks,
    Services,
    Propagate,
}

/// All of them, in the order of the page.
pub const SECTIONS: [Section; 5] =
    [Section::Sync, Section::Hooks, Section::Checks, Section::Services, Section::Propagate];

impl Section {
    /// The name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Section::Sync => "sync.svg",
            Section::Hooks => "hooks.svg",
            Section::Checks => "checks.svg",
            Section::Services => "services.svg",
            Section::Propagate => "propagate.svg",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Section::Sync => "Sync, compared with git",
            Section::Hooks => "Hooks: time that they add to a command of git",
            Section::Checks => "Checks, compared with task runners and hook managers",
            Section::Services => "Services, compared with process managers",
            Section::Propagate => "Propagate, compared with git",
        }
    }
}

/// One thing that was measured of several sides, in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub section: Section,
    pub title: String,
    pub unit: String,
    /// In the unit, or `None` if there is none.
    pub budget: Option<f64>,
    pub bars: Vec<Bar>,
    /// Who could not be measured, and why, e.g. `moon is not installed`.
    pub left_out: Vec<String>,
}

/// One side: the median, and the first and third quartile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub name: String,
    pub median: f64,
    pub quartiles: Option<(f64, f64)>,
}

impl Group {
    pub fn new(section: Section, title: &str, unit: &str) -> Group {
        Group {
            section,
            title: title.to_owned(),
            unit: unit.to_owned(),
            budget: None,
            bars: Vec::new(),
            left_out: Vec::new(),
        }
    }

    pub fn with_budget(mut self, budget: f64) -> Group {
        self.budget = Some(round(budget));
        self
    }

    pub fn without(mut self, left_out: &[String]) -> Group {
        self.left_out = left_out.to_vec();
        self
    }

    /// Adds a side. What was never measured, or is no number, has no bar.
    pub fn bar(mut self, name: &str, samples: &[f64]) -> Group {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|at| at.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        if let [.., last] = sorted[..] {
            let at =
                |share: usize| round(sorted.get(sorted.len() * share / 4).copied().unwrap_or(last));
            let quartiles = (sorted.len() >= 4).then(|| (at(1), at(3)));
            self.bars.push(Bar { name: name.to_owned(), median: at(2), quartiles });
        }
        self
    }
}

/// Three digits are all that a median of so few samples has.
fn round(number: f64) -> f64 {
    format!("{number:.2e}").parse().expect("because a number is written so")
}

/// The plot of a section, or `None` if nothing of it was measured.
pub fn plot(section: Section, groups: &[Group]) -> Option<String> {
    let groups: Vec<&Group> =
        groups.iter().filter(|at| at.section == section && !at.bars.is_empty()).collect();
    if groups.is_empty() {
        return None;
    }
    let mut svg = Svg::new(section.title(), &description(&groups), STYLE);
    let left_out = left_out(&groups);
    let notes = wrapped(&left_out, 120);
    let height = groups.iter().map(|group| group_height(group)).sum::<f64>()
        + 62.0
        + 16.0 * notes.len() as f64;
    svg.rectangle("page", [0.5, 0.5, WIDTH - 1.0, height - 1.0], 6.0);
    svg.text("title", [16.0, 28.0], section.title());
    svg.text(
        "note",
        [16.0, 46.0],
        "shorter is better; medians, with a thin line from the first to the third quartile; in parentheses: compared with xtask",
    );
    let mut top = 54.0;
    for group in groups {
        draw(&mut svg, group, top);
        top += group_height(group);
    }
    for note in notes {
        top += 16.0;
        svg.text("note", [16.0, top - 4.0], &note);
    }
    Some(svg.finish(height))
}

fn group_height(group: &Group) -> f64 {
    HEAD + STEP * group.bars.len() as f64 + SCALE
}

fn draw(svg: &mut Svg, group: &Group, top: f64) {
    let scale = Scale::of(group);
    let (first, end) = (top + HEAD, top + HEAD + STEP * group.bars.len() as f64);
    let kind = if scale.is_logarithmic { ", logarithmic scale" } else { "" };
    svg.text("head", [16.0, top + 20.0], &format!("{} ({}{kind})", group.title, group.unit));
    for tick in scale.ticks() {
        let x = scale.place(tick);
        svg.stroke("grid", [x, first, x, end]);
        svg.text("tick", [x, end + 13.0], &tick_label(tick));
    }
    if let Some(budget) = group.budget {
        let x = scale.place(budget);
        svg.stroke("budget", [x, first - 2.0, x, end]);
        svg.text("limit", [WIDTH - 16.0, top + 20.0], &format!("budget {}", short(budget)));
    }
    // Compared is with the last of ours before it, or else the first.
    let mut ours = group.bars.iter().find(|bar| is_ours(bar)).map(|bar| bar.median);
    for (number, bar) in group.bars.iter().enumerate() {
        ours = if is_ours(bar) { Some(bar.median) } else { ours };
        let y = first + STEP * number as f64;
        let middle = y + STEP / 2.0;
        let (label, fill) = if is_ours(bar) { ("own", "ours") } else { ("end", "peer") };
        svg.text(label, [LEFT - 8.0, middle + 4.0], &bar.name);
        let x = scale.place(bar.median);
        svg.rectangle(fill, [LEFT, middle - BAR / 2.0, (x - LEFT).max(1.0), BAR], 0.0);
        let mut right = x;
        if let Some((low, high)) = bar.quartiles {
            svg.stroke("spread", [scale.place(low), middle, scale.place(high), middle]);
            right = right.max(scale.place(high));
        }
        let ratio = ratio_label(bar, ours);
        svg.text("text", [right + 6.0, middle + 4.0], &format!("{}{ratio}", short(bar.median)));
    }
}

fn is_ours(bar: &Bar) -> bool {
    bar.name.starts_with("xtask") || bar.name.starts_with("validate")
}

/// How long a peer takes compared with us, e.g. ` (2.5×)`.
fn ratio_label(bar: &Bar, ours: Option<f64>) -> String {
    match ours {
        Some(ours) if ours > 0.0 && bar.median > 0.0 && !is_ours(bar) => {
            format!(" ({}×)", short(bar.median / ours))
        }
        _ => String::new(),
    }
}

/// From numbers to places.
struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(group: &Group) -> Scale {
        let numbers = || {
            let ends = group.bars.iter().filter_map(|bar| bar.quartiles).flat_map(|(a, b)| [a, b]);
            group.bars.iter().map(|bar| bar.median).chain(ends).chain(group.budget)
        };
        let high = numbers().fold(0.0, f64::max);
        let medians = group.bars.iter().map(|bar| bar.median).chain(group.budget);
        let low = medians.filter(|number| *number > 0.0).fold(f64::INFINITY, f64::min);
        if high <= 0.0 {
            return Scale { low: 0.0, high: 1.0, is_logarithmic: false };
        }
        if high / low <= LOGARITHMIC_FROM {
            return Scale { low: 0.0, high, is_logarithmic: false };
        }
        // What is next to nothing takes no room from all others.
        let low = low.max(high / WIDEST);
        Scale { low: step_below(low / 1.5), high, is_logarithmic: true }
    }

    fn place(&self, number: f64) -> f64 {
        let share = if self.is_logarithmic {
            (number.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            number / self.high
        };
        LEFT + LONGEST * share.clamp(0.0, 1.0)
    }

    /// Powers of ten, or four to eight round numbers.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let first = self.low.log10().ceil() as i32;
            let last = self.high.log10().floor() as i32;
            let all = (first..=last).map(|power| 10_f64.powi(power));
            return all.filter(|tick| *tick >= self.low && *tick <= self.high).collect();
        }
        let step = step_below(self.high / 4.0);
        (0..=8).map(|number| step * f64::from(number)).filter(|tick| *tick <= self.high).collect()
    }
}

/// The largest 1, 2 or 5 times a power of ten that is no larger.
fn step_below(number: f64) -> f64 {
    let power = 10_f64.powi(number.log10().floor() as i32);
    let step = [5.0, 2.0].into_iter().find(|step| power * step <= number).unwrap_or(1.0);
    power * step
}

/// A round number, whole: `0.15`.
fn tick_label(tick: f64) -> String {
    let text = format!("{tick:.3}");
    if tick >= 1.0 && tick.fract() == 0.0 {
        return short(tick);
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Two or three digits: `0.07`, `3.8`, `26`, `1,780`.
fn short(number: f64) -> String {
    let size = number.abs();
    if size >= 999.5 {
        let whole = format!("{number:.0}");
        let (sign, digits) =
            whole.strip_prefix('-').map_or(("", &whole[..]), |digits| ("-", digits));
        let groups = digits.as_bytes().rchunks(3).rev();
        let groups: Vec<&str> = groups.map(|group| std::str::from_utf8(group).unwrap()).collect();
        return format!("{sign}{}", groups.join(","));
    }
    let text = match size {
        9.95.. => format!("{number:.0}"),
        0.95.. => format!("{number:.1}"),
        0.0095.. => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// All numbers as a text, for who does not see the picture.
fn description(groups: &[&Group]) -> String {
    let mut text = String::new();
    for group in groups {
        write!(text, "{}, in {}: ", group.title, group.unit).unwrap();
        let bars = group.bars.iter().map(|bar| {
            let spread = bar
                .quartiles
                .map(|(low, high)| format!(" (quartiles {} and {})", short(low), short(high)));
            format!("{} {}{}", bar.name, short(bar.median), spread.unwrap_or_default())
        });
        text.push_str(&bars.collect::<Vec<_>>().join("; "));
        if let Some(budget) = group.budget {
            write!(text, "; the budget is {}", short(budget)).unwrap();
        }
        text.push_str(".\n");
    }
    text + &left_out(groups)
}

/// Who is missing, once for all groups.
fn left_out(groups: &[&Group]) -> String {
    let mut all: Vec<&String> = groups.iter().flat_map(|group| &group.left_out).collect();
    all.sort();
    all.dedup();
    let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
    if all.is_empty() { String::new() } else { format!("Left out: {}.", all.join("; ")) }
}

/// Lines of so many characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(numbers: &[(&str, f64)]) -> Group {
        let group = Group::new(Section::Hooks, "a <checkout> & more", "ms");
        numbers.iter().fold(group, |group, (name, number)| group.bar(name, &[*number]))
    }

    #[test]
    fn same_results_are_the_same_bytes_and_names_are_escaped() {
        let group = group(&[("xtask", 3.8), ("<peer> & \"co\"", 6.6)]).with_budget(4.0);
        let both = [0, 1].map(|_| plot(Section::Hooks, std::slice::from_ref(&group)).unwrap());
        assert_eq!(both[0], both[1]);
        let [svg, _] = both;
        assert!(
            svg.contains("&lt;peer&gt; &amp; &quot;co&quot;") && !svg.contains("<peer>"),
            "{svg}"
        );
        assert!(svg.contains("a &lt;checkout&gt; &amp; more (ms)"), "a linear scale says nothing");
        assert!(svg.contains(">6.6 (1.7×)<") && svg.contains(">budget 4<"), "{svg}");
        assert!(
            svg.contains("xtask 3.8; &lt;peer&gt;") && svg.contains("the budget is 4.\n"),
            "{svg}"
        );
        let sizes = [("xtask, 1", 1.0), ("git, 1", 2.0), ("xtask, 9", 4.0), ("git, 9", 16.0)];
        let svg = plot(Section::Hooks, &[self::group(&sizes)]).unwrap();
        assert!(svg.contains(">2 (2×)<") && svg.contains(">16 (4×)<"), "each with ours before it");
        assert_eq!(plot(Section::Sync, &[group]), None, "of this nothing was measured");
    }

    #[test]
    fn scale_is_logarithmic_where_the_ratio_is_large() {
        let linear = Scale::of(&group(&[("a", 1.0), ("b", 20.0)]));
        assert!(!linear.is_logarithmic);
        assert_eq!(
            [0.0, 10.0, 20.0, 40.0, -3.0].map(|at| linear.place(at)),
            [176.0, 376.0, 576.0, 576.0, 176.0]
        );
        assert_eq!(linear.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let log = Scale::of(&group(&[("a", 1.0), ("b", 1000.0)]));
        assert!(log.is_logarithmic);
        assert_eq!(log.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert!(log.place(0.0) == LEFT && log.place(1.0) > LEFT + 10.0, "the shortest is seen");
        let steps = [10.0, 100.0, 1000.0].map(|at| log.place(at).round());
        assert!((steps[2] - 2.0 * steps[1] + steps[0]).abs() <= 1.0, "{steps:?}");
        let wide = Scale::of(&group(&[("a", 1e-6), ("b", 3000.0)]));
        assert_eq!(wide.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        // What takes no time at all is no reason for either.
        assert!(!Scale::of(&group(&[("a", 0.0), ("b", 5.0)])).is_logarithmic);
        assert_eq!(Scale::of(&group(&[("a", 0.0), ("b", -1.0)])).place(0.0), LEFT);
    }

    #[test]
    fn samples_become_median_and_quartiles() {
        let group =
            Group::new(Section::Sync, "t", "ms").bar("a", &[5.0, 1.0, f64::NAN, 3.0, 2.0, 4.0]);
        let group = group.bar("none", &[f64::NAN]).bar("one", &[1.2345]);
        let bars: Vec<_> =
            group.bars.iter().map(|bar| (&bar.name[..], bar.median, bar.quartiles)).collect();
        assert_eq!(bars, [("a", 3.0, Some((2.0, 4.0))), ("one", 1.23, None)]);
    }

    #[test]
    fn numbers_have_two_or_three_digits() {
        let all = [0.0, -0.01, 0.067, 0.211, 3.84, 12.4, 999.6, 54_200.0, -1_234_567.0].map(short);
        assert_eq!(
            all,
            ["0", "-0.01", "0.07", "0.21", "3.8", "12", "1,000", "54,200", "-1,234,567"]
        );
        assert_eq!(
            [0.0, 0.05, 0.15, 2.5, 1000.0].map(tick_label),
            ["0", "0.05", "0.15", "2.5", "1,000"]
        );
        let steps = [0.07, 1.0, 4.9, 5.0, 640.0].map(step_below);
        assert_eq!(steps, [0.05, 1.0, 2.0, 5.0, 500.0]);
    }

    #[test]
    fn who_was_left_out_is_named_once() {
        let missing = ["moon is not installed".to_owned()];
        let groups =
            [group(&[("xtask", 1.0)]), group(&[("xtask", 2.0)])].map(|at| at.without(&missing));
        let svg = plot(Section::Hooks, &groups).unwrap();
        assert_eq!(
            svg.matches("Left out: moon is not installed.").count(),
            2,
            "as text and as description"
        );
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
    }
}
