//! The plots of a report: intervals, calibration, robustness, latency. Drawn in user units of a fixed box; colours come from
//! the page's style, so that they follow light and dark.

use std::fmt::Write as _;

use zero2ai_trust::{
    load::Percentile,
    metrics::{interval::Estimate, scores::Calibration},
    report::Curve,
};

use super::text::{escaped, micros, number, short};

/// Width and height of a plot.
const BOX: (f64, f64) = (420.0, 280.0);
/// Room for the words on each side: left, top, right, bottom. On the left stand the axis's name and numbers of up to seven characters beside it, on the right half of the last mark's word.
const ROOM: (f64, f64, f64, f64) = (70.0, 14.0, 28.0, 42.0);
/// Curves that are told apart by colour and dash.
const STYLES: usize = 6;

/// An interval as a line with a dot, on a scale from 0 to 1.
#[must_use]
pub fn interval(e: &Estimate) -> String {
    let x = |v: f64| 4.0 + 152.0 * v.clamp(0.0, 1.0);
    format!(
        "<svg class=\"interval\" viewBox=\"0 0 160 16\" role=\"img\" aria-label=\"{} from {} to {}\">\
         <line class=\"rail\" x1=\"4\" y1=\"8\" x2=\"156\" y2=\"8\"/>\
         <line class=\"whisker\" x1=\"{:.1}\" y1=\"8\" x2=\"{:.1}\" y2=\"8\"/><circle cx=\"{:.1}\" cy=\"8\" r=\"4\"/></svg>",
        number(e.value),
        number(e.low),
        number(e.high),
        x(e.low),
        x(e.high),
        x(e.value)
    )
}

/// One axis: what it is called, from where to where, and words in place of its five numbers.
struct Axis<'a> {
    name: &'a str,
    range: (f64, f64),
    words: &'a [String],
}

impl<'a> Axis<'a> {
    fn new(name: &'a str, low: f64, high: f64) -> Self {
        Self { name, range: (low, high), words: &[] }
    }

    fn at(&self, share: f64) -> f64 {
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    fn word(&self, mark: usize, value: f64) -> String {
        self.words.get(mark).cloned().unwrap_or_else(|| short(value))
    }
}

/// Axes, grid and words; data coordinates to the plot's.
struct Plot {
    svg: String,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    fn new(label: &str, x: Axis<'_>, y: Axis<'_>) -> Self {
        let svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            BOX.0,
            BOX.1,
            escaped(label)
        );
        let mut plot = Self { svg, x: x.range, y: y.range };
        for i in 0..=4usize {
            let share = i as f64 / 4.0;
            let (vx, vy) = (x.at(share), y.at(share));
            let (px, py) = (plot.px(vx), plot.py(vy));
            let (left, right, low, high) =
                (plot.px(x.range.0), plot.px(x.range.1), plot.py(y.range.0), plot.py(y.range.1));
            let _ = write!(
                plot.svg,
                "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{py:.1}\" x2=\"{right:.1}\" y2=\"{py:.1}\"/>\
                 <line class=\"grid\" x1=\"{px:.1}\" y1=\"{low:.1}\" x2=\"{px:.1}\" y2=\"{high:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                left - 6.0,
                py + 4.0,
                y.word(i, vy),
                low + 16.0,
                x.word(i, vx)
            );
        }
        let middle = BOX.1 / 2.0;
        let _ = write!(
            plot.svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"name\" x=\"12\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {middle:.1})\">{}</text>",
            (ROOM.0 + BOX.0 - ROOM.2) / 2.0,
            BOX.1 - 6.0,
            escaped(x.name),
            escaped(y.name)
        );
        plot
    }

    fn px(&self, x: f64) -> f64 {
        let span = if self.x.1 > self.x.0 { self.x.1 - self.x.0 } else { 1.0 };
        ROOM.0 + (x - self.x.0) / span * (BOX.0 - ROOM.0 - ROOM.2)
    }

    fn py(&self, y: f64) -> f64 {
        let span = if self.y.1 > self.y.0 { self.y.1 - self.y.0 } else { 1.0 };
        BOX.1 - ROOM.3 - (y - self.y.0) / span * (BOX.1 - ROOM.1 - ROOM.3)
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let words: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.px(*x), self.py(*y))).collect();
        let _ = write!(self.svg, "<polyline class=\"{class}\" points=\"{}\"/>", words.join(" "));
    }

    fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, title: &str) {
        let _ = write!(
            self.svg,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"><title>{}</title></circle>",
            self.px(at.0),
            self.py(at.1),
            escaped(title)
        );
    }

    fn bar(&mut self, class: &str, from: f64, to: f64, height: f64, title: &str) {
        let (left, right, top, low) = (self.px(from), self.px(to), self.py(height), self.py(self.y.0));
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            left + 1.0,
            (right - left - 2.0).max(0.5),
            (low - top).max(0.0),
            escaped(title)
        );
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Accuracy against confidence; the diagonal is perfect. Bars show how many answers each bin holds.
#[must_use]
pub fn calibration(c: &Calibration) -> String {
    let mut plot = Plot::new("Calibration", Axis::new("confidence", 0.0, 1.0), Axis::new("accuracy", 0.0, 1.0));
    let most = c.bins.iter().map(|b| b.samples).max().unwrap_or(1).max(1) as f64;
    for b in &c.bins {
        let title = format!("{} answers from {} to {}", b.samples, number(b.low), number(b.high));
        plot.bar("count", b.low, b.high, 0.25 * b.samples as f64 / most, &title);
    }
    plot.path("ideal", &[(0.0, 0.0), (1.0, 1.0)]);
    let filled: Vec<_> = c.bins.iter().filter(|b| b.samples > 0).collect();
    plot.path("line style0", &filled.iter().map(|b| (b.confidence, b.accuracy)).collect::<Vec<_>>());
    for b in filled {
        let title = format!("said {}, was {} ({} answers)", number(b.confidence), number(b.accuracy), b.samples);
        plot.dot("dot style0", (b.confidence, b.accuracy), 3.5, &title);
    }
    plot.end()
}

/// How accuracy falls with the strength of attacks of one unit.
#[must_use]
pub fn robustness(unit: &str, curves: &[&Curve]) -> String {
    let strongest = curves.iter().flat_map(|c| &c.points).map(|p| p.strength).fold(0.0, f64::max);
    let most = if strongest > 0.0 { strongest } else { 1.0 };
    let mut plot = Plot::new("Robustness", Axis::new(unit, 0.0, most), Axis::new("accuracy at most", 0.0, 1.0));
    for (i, curve) in curves.iter().enumerate() {
        let style = i % STYLES;
        let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (p.strength, p.accuracy.0)).collect();
        plot.path(&format!("line style{style}"), &points);
        for p in &curve.points {
            let title = format!("{} at {}: {} of {} right", curve.attack, number(p.strength), p.right, p.samples);
            plot.dot(&format!("dot style{style}"), (p.strength, p.accuracy.0), 3.0, &title);
        }
    }
    plot.end()
}

/// Percentiles of latency with what they may be, on a scale of milliseconds.
#[must_use]
pub fn latency(percentiles: &[Percentile]) -> String {
    let most = percentiles.iter().map(|p| p.high.unwrap_or(p.micros)).max().unwrap_or(1).max(1) as f64 / 1e3;
    let last = percentiles.len().saturating_sub(1).max(1) as f64;
    // A summary has five percentiles or none, and an axis five marks.
    let words: Vec<String> = percentiles.iter().map(|p| format!("{} %", f64::from(p.percentile) / 100.0)).collect();
    let across = Axis { name: "share of queries answered by then", range: (0.0, last), words: &words };
    let mut plot = Plot::new("Latency", across, Axis::new("milliseconds", 0.0, most));
    for (i, p) in percentiles.iter().enumerate() {
        let x = i as f64;
        let high = p.high.unwrap_or(p.micros);
        plot.path("whisker", &[(x, p.low as f64 / 1e3), (x, high as f64 / 1e3)]);
        let title = format!("{} %: {}", f64::from(p.percentile) / 100.0, micros(p.micros));
        plot.dot("dot style0", (x, p.micros as f64 / 1e3), 4.0, &title);
    }
    plot.end()
}

/// A key of colours for the curves of one plot.
#[must_use]
pub fn key(names: &[&str]) -> String {
    let entry = |(i, name): (usize, &&str)| {
        format!(
            "<li><svg class=\"sample\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><line class=\"line style{}\" x1=\"0\" y1=\"4\" \
             x2=\"24\" y2=\"4\"/></svg> {}</li>",
            i % STYLES,
            escaped(name)
        )
    };
    format!("<ul class=\"key\">{}</ul>", names.iter().enumerate().map(entry).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width of a character in the page's font, somewhat more than most have: 11 px high.
    const WIDE: f64 = 6.6;

    /// The words of a plot that stand upright: anchor, x, text.
    fn words(svg: &str) -> Vec<(String, f64, String)> {
        let pieces = svg.split("<text ").skip(1).filter(|piece| !piece.contains("rotate"));
        let read = |piece: &str| {
            let attribute =
                |name: &str| piece.split(&format!("{name}=\"")).nth(1)?.split('"').next().map(str::to_owned);
            let text = piece.split('>').nth(1)?.split('<').next()?.to_owned();
            Some((attribute("text-anchor")?, attribute("x")?.parse().ok()?, text))
        };
        pieces.filter_map(read).collect()
    }

    #[test]
    fn words_stay_within_the_box_and_clear_of_the_axis_name() {
        let at =
            |percentile: u32, micros: u64| Percentile { percentile, micros, low: micros, high: None, enough: true };
        for most in [78_170, 999_990, 1_234_567_000] {
            let shares = [5_000, 9_000, 9_500, 9_900, 9_990];
            let plot = latency(&shares.map(|share| at(share, most)));
            let words = words(&plot);
            assert!(words.iter().any(|(_, _, text)| text == "99.9 %"), "{words:?}");
            for (anchor, x, text) in words {
                let width = WIDE * text.chars().count() as f64;
                let (left, right) = if anchor == "end" { (x - width, x) } else { (x - width / 2.0, x + width / 2.0) };
                // The rotated name stands on x = 12, its descenders below.
                assert!(left >= 16.0 && right <= BOX.0, "{text} from {left} to {right}");
            }
        }
    }
}
