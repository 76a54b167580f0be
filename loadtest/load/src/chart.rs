//! Charts as SVG, without a script: percentile curves on a logarithmic axis of nines, and a run over time.

use std::fmt::Write;

use crate::hgrm::Point;
use crate::units::show_nanos;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Colours of curves, as classes of the style sheet.
const COLOURS: usize = 8;

/// Curves of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    /// Ascending.
    pub(crate) points: Vec<Point>,
    /// The same percentiles' lowest and highest values over several rounds: `(quantile, low, high)`.
    pub(crate) band: Vec<(f64, f64, f64)>,
}

/// A scale of values: logarithmic, as latencies range over orders of magnitude.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogScale {
    low: f64,
    high: f64,
}

impl LogScale {
    /// Over all of the values that are positive, at least over a factor of two.
    pub(crate) fn over(values: impl Iterator<Item = f64>) -> LogScale {
        let mut low = f64::INFINITY;
        let mut high = 0.0_f64;
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        LogScale { low: low / 1.1, high: (high * 1.1).max(low * 2.0) }
    }

    /// From 0 at the low end to 1 at the high one.
    pub(crate) fn place(self, value: f64) -> f64 {
        ((value.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }

    /// The value at a place.
    pub(crate) fn value(self, place: f64) -> f64 {
        self.low * (self.high / self.low).powf(place)
    }

    /// Round values for the axis: 1, 2 and 5 of each power of ten.
    fn ticks(self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut power = 10_f64.powf(self.low.log10().floor());
        while power <= self.high {
            ticks.extend([1.0, 2.0, 5.0].map(|step| step * power));
            power *= 10.0;
        }
        ticks.retain(|tick| (self.low..=self.high).contains(tick));
        ticks
    }
}

/// Where a quantile stands on an axis of nines that ends at `nines`: 0 % at 0, 90 % at one nine.
pub(crate) fn place_of_quantile(quantile: f64, nines: f64) -> f64 {
    (-(1.0 - quantile).max(1e-12).log10() / nines).clamp(0.0, 1.0)
}

/// How many nines the curves of so many values reach.
pub(crate) fn nines_of(count: u64) -> f64 {
    (count.max(10) as f64).log10().clamp(2.0, 7.0)
}

/// Text that may stand in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The style of the charts, for light and dark.
pub(crate) const STYLE: &str = "\
svg.chart{width:100%;max-width:900px;height:auto;font:12px system-ui,sans-serif}\
.chart .grid{stroke:var(--line);stroke-width:1}\
.chart text{fill:var(--soft)}\
.chart .curve{fill:none;stroke-width:2;stroke-linejoin:round}\
.chart .band{opacity:.15;stroke:none}\
.c0{stroke:#0969da;fill:#0969da}.c1{stroke:#cf222e;fill:#cf222e}.c2{stroke:#1a7f37;fill:#1a7f37}\
.c3{stroke:#9a6700;fill:#9a6700}.c4{stroke:#8250df;fill:#8250df}.c5{stroke:#bf3989;fill:#bf3989}\
.c6{stroke:#1b7c83;fill:#1b7c83}.c7{stroke:#57606a;fill:#57606a}\
.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.3em 1.4em}\
.legend svg{width:1.2em;height:.7em;margin-right:.4em}";

struct Canvas {
    svg: String,
}

impl Canvas {
    fn new(title: &str) -> Canvas {
        let mut svg = String::new();
        let title = escape(title);
        let _ = write!(
            svg,
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             xmlns=\"http://www.w3.org/2000/svg\"><title>{title}</title>"
        );
        Canvas { svg }
    }

    fn x(place: f64) -> f64 {
        LEFT + place * (WIDTH - LEFT - RIGHT)
    }

    fn y(place: f64) -> f64 {
        HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)
    }

    fn vertical(&mut self, place: f64, label: &str) {
        let (x, top, bottom) = (Self::x(place), TOP, HEIGHT - BOTTOM);
        let _ = write!(
            self.svg,
            "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            escape(label)
        );
    }

    fn horizontal(&mut self, place: f64, label: &str) {
        let (y, left, right) = (Self::y(place), LEFT, WIDTH - RIGHT);
        let _ = write!(
            self.svg,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            escape(label)
        );
    }

    fn values(&mut self, scale: LogScale) {
        let mut last = f64::NEG_INFINITY;
        for tick in scale.ticks() {
            let place = scale.place(tick);
            // Labels need room.
            if place - last >= 0.045 {
                self.horizontal(place, &show_nanos(tick as u64));
                last = place;
            }
        }
    }

    fn caption(&mut self, text: &str) {
        let _ = write!(
            self.svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            Self::x(0.5),
            HEIGHT - 8.0,
            escape(text)
        );
    }

    fn curve(&mut self, colour: usize, places: impl Iterator<Item = (f64, f64)>) {
        let path = path(places);
        if !path.is_empty() {
            let colour = colour % COLOURS;
            // The class fills too: a curve must not.
            let _ = write!(
                self.svg,
                "<path class=\"curve c{colour}\" style=\"fill:none\" d=\"{path}\"/>"
            );
        }
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

fn path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", Canvas::x(x), Canvas::y(y));
    }
    path
}

/// The curves' names with their colours.
pub(crate) fn legend(labels: impl Iterator<Item = String>) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (index, label) in labels.enumerate() {
        let _ = write!(
            html,
            "<li><svg viewBox=\"0 0 12 7\"><path class=\"c{}\" d=\"M0 2h12v3H0z\"/></svg>{}</li>",
            index % COLOURS,
            escape(&label)
        );
    }
    html.push_str("</ul>");
    html
}

/// Latency by percentile; the axis ends at `nines`.
pub(crate) fn percentiles(title: &str, series: &[Series], nines: f64) -> String {
    let shown = |quantile: f64| quantile < 1.0 && -(1.0 - quantile).log10() <= nines;
    let values = series.iter().flat_map(|series| {
        let points = series.points.iter().filter(|point| shown(point.quantile));
        let bands = series.band.iter().filter(|(quantile, ..)| shown(*quantile));
        points.map(|point| point.value).chain(bands.flat_map(|&(_, low, high)| [low, high]))
    });
    let scale = LogScale::over(values);
    let mut canvas = Canvas::new(title);
    canvas.values(scale);
    for (quantile, label) in [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
        (0.999_999, "99.9999 %"),
    ] {
        if shown(quantile) {
            canvas.vertical(place_of_quantile(quantile, nines), label);
        }
    }
    canvas.caption("percentile (each step to the right is a tenth of the rest)");
    for (index, series) in series.iter().enumerate() {
        let band = series.band.iter().filter(|(quantile, ..)| shown(*quantile));
        let x = |quantile| place_of_quantile(quantile, nines);
        let low = band.clone().map(|&(quantile, low, _)| (x(quantile), scale.place(low)));
        let high = band.clone().rev().map(|&(quantile, _, high)| (x(quantile), scale.place(high)));
        let outline = path(low.chain(high));
        if !outline.is_empty() {
            let colour = index % COLOURS;
            let _ = write!(canvas.svg, "<path class=\"band c{colour}\" d=\"{outline}Z\"/>");
        }
    }
    for (index, series) in series.iter().enumerate() {
        let points = series.points.iter().filter(|point| shown(point.quantile));
        canvas.curve(
            index,
            points
                .map(|point| (place_of_quantile(point.quantile, nines), scale.place(point.value))),
        );
    }
    canvas.finish()
}

/// Values over time on one logarithmic scale: `(label, [(seconds, nanoseconds)])`.
pub(crate) fn over_time<L>(title: &str, curves: &[(L, Vec<(f64, f64)>)]) -> String {
    let scale = LogScale::over(curves.iter().flat_map(|(_, points)| points.iter().map(|p| p.1)));
    let end = curves.iter().flat_map(|(_, points)| points.iter().map(|p| p.0)).fold(1.0, f64::max);
    let mut canvas = Canvas::new(title);
    canvas.values(scale);
    time_axis(&mut canvas, end);
    for (index, (_, points)) in curves.iter().enumerate() {
        canvas.curve(index, points.iter().map(|&(x, y)| (x / end, scale.place(y))));
    }
    canvas.finish()
}

/// A rate over time, from zero.
pub(crate) fn rate_over_time(title: &str, points: &[(f64, f64)]) -> String {
    let end = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let top = points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let mut canvas = Canvas::new(title);
    for step in 0..=4 {
        let place = f64::from(step) / 4.0;
        let value = crate::units::show_count((top * place).round() as u64);
        canvas.horizontal(place, &value);
    }
    time_axis(&mut canvas, end);
    canvas.curve(0, points.iter().map(|&(x, y)| (x / end, y / top)));
    canvas.finish()
}

fn time_axis(canvas: &mut Canvas, end: f64) {
    for step in 0..=5 {
        let place = f64::from(step) / 5.0;
        canvas.vertical(place, &format!("{:.0} s", end * place));
    }
    canvas.caption("measured time");
}

/// Letters of a chart in text.
const TEXT_WIDTH: usize = 66;
/// Lines of a chart in text.
const TEXT_HEIGHT: usize = 16;

/// The curves in letters: A for the first, B for the second, * where several meet.
pub(crate) fn percentiles_in_text(series: &[Series], nines: f64) -> String {
    let shown = |quantile: f64| quantile < 1.0 && -(1.0 - quantile).log10() <= nines;
    let all = series.iter().flat_map(|series| &series.points);
    let scale = LogScale::over(all.filter(|point| shown(point.quantile)).map(|point| point.value));
    let mut cells = vec![[' '; TEXT_WIDTH]; TEXT_HEIGHT];
    for (index, series) in series.iter().enumerate() {
        let letter = char::from(b'A' + (index % 26) as u8);
        let columns = (0..TEXT_WIDTH).filter_map(|column| {
            let place = column as f64 / (TEXT_WIDTH - 1) as f64;
            let quantile = 1.0 - 10_f64.powf(-place * nines);
            let value = value_at(&series.points, quantile)?;
            let row = (scale.place(value) * (TEXT_HEIGHT - 1) as f64).round() as usize;
            Some((TEXT_HEIGHT - 1 - row.min(TEXT_HEIGHT - 1), column))
        });
        for (row, column) in columns {
            let cell = &mut cells[row][column];
            *cell = if *cell == ' ' { letter } else { '*' };
        }
    }
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let place = 1.0 - index as f64 / (TEXT_HEIGHT - 1) as f64;
        let label =
            if index % 3 == 0 { show_nanos(scale.value(place) as u64) } else { String::new() };
        let row: String = row.iter().collect();
        let _ = writeln!(text, "{label:>9} |{}", row.trim_end());
    }
    let mut axis = vec![' '; TEXT_WIDTH + 10];
    let labels = [
        (0.0, "0%"),
        (0.9, "90%"),
        (0.99, "99%"),
        (0.999, "99.9%"),
        (0.9999, "99.99%"),
        (0.99999, "99.999%"),
    ];
    for (quantile, label) in labels {
        if shown(quantile) {
            let at = (place_of_quantile(quantile, nines) * (TEXT_WIDTH - 1) as f64) as usize;
            for (offset, letter) in label.chars().enumerate() {
                axis[at + offset] = letter;
            }
        }
    }
    let axis: String = axis.iter().collect();
    let _ = writeln!(text, "{:>9} +{}", "", "-".repeat(TEXT_WIDTH));
    let _ = writeln!(text, "{:>10} {}", "", axis.trim_end());
    text
}

/// The value at a quantile: that of the first point that reaches it.
pub(crate) fn value_at(points: &[Point], quantile: f64) -> Option<f64> {
    let index = points.partition_point(|point| point.quantile < quantile - 1e-12);
    points.get(index).or(points.last()).map(|point| point.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, factor: f64) -> Series {
        let points = (0..60).map(|step| {
            let quantile = 1.0 - 0.8_f64.powi(step);
            Point { quantile, value: factor * 1e5 * f64::from(step + 1) }
        });
        Series { label: label.to_owned(), points: points.collect(), band: Vec::new() }
    }

    #[test]
    fn nines_are_equally_far_apart() {
        assert_eq!(place_of_quantile(0.0, 4.0), 0.0);
        for (quantile, place) in [(0.9, 0.25), (0.99, 0.5), (0.9999, 1.0), (1.0, 1.0)] {
            assert!((place_of_quantile(quantile, 4.0) - place).abs() < 1e-9, "{quantile}");
        }
        let scale = LogScale::over([1e3, 1e6].into_iter());
        assert!((scale.value(scale.place(5e4)) / 5e4 - 1.0).abs() < 1e-9);
        assert!(scale.ticks().contains(&1e4));
    }

    #[test]
    fn charts_are_drawn_of_anything() {
        let mut banded = series("<b>", 1.0);
        banded.band = vec![(0.0, 1e5, 2e5), (0.5, 3e5, 4e5), (0.9, 5e5, 9e5)];
        let svg = percentiles("a & b", &[banded, series("c", 3.0)], 4.0);
        assert_eq!(svg.matches("class=\"curve").count(), 2);
        assert_eq!(svg.matches("class=\"band").count(), 1);
        assert!(
            svg.contains("99.9 %") && svg.contains("a &amp; b") && !svg.contains("NaN"),
            "{svg}"
        );
        for svg in [
            percentiles("", &[], 3.0),
            percentiles("", &[Series { points: Vec::new(), ..series("", 1.0) }], 3.0),
            over_time("", &[("p50", vec![(0.0, 0.0)]), ("max", Vec::new())]),
            rate_over_time("", &[]),
        ] {
            assert!(
                svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
        }
        assert!(legend(["<b>".to_owned()].into_iter()).contains("&lt;b&gt;"));
    }

    #[test]
    fn the_chart_in_letters_shows_who_is_above() {
        let text = percentiles_in_text(&[series("a", 1.0), series("b", 10.0)], 4.0);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), TEXT_HEIGHT + 2);
        assert!(lines[0].contains('B') && !lines[0].contains('A'), "{text}");
        assert!(lines[TEXT_HEIGHT - 1].contains('A') && !lines[TEXT_HEIGHT - 1].contains('B'));
        assert!(text.contains("99.9%"), "{text}");
        assert!(percentiles_in_text(&[], 4.0).lines().count() == TEXT_HEIGHT + 2);
    }
}
