//! Tables of figures, as aligned text or as Markdown, and the medians that go into them.

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Columns padded with spaces.
    Plain,
    /// A Markdown table.
    Markdown,
}

/// Named columns and rows of text; the first column names the row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The whole table, each line ended.
    pub(crate) fn render(&self, style: Style) -> String {
        let columns = self.header.len();
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let rows = self.rows.iter().map(|row| cell(row, column).chars().count());
                rows.chain([self.header[column].chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let line = |row: &[String]| {
            let cells: Vec<String> = (0..columns)
                .map(|column| {
                    let (text, width) = (cell(row, column), widths[column]);
                    if column == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") }
                })
                .collect();
            match style {
                Style::Plain => format!("{}\n", cells.join("  ").trim_end()),
                Style::Markdown => format!("| {} |\n", cells.join(" | ")),
            }
        };
        let mut text = line(&self.header);
        if style == Style::Markdown {
            let rule: Vec<String> = (0..columns)
                .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
                .collect();
            text.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted[middle - 1] + upper) / 2.0) }
}

/// A whole number with commas between thousands.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_do_not_depend_on_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn thousands_are_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1024.0, "-1,024"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn both_styles_hold_the_same_cells() {
        let mut table = Table::new(["subject", "µs"]);
        table.row(vec!["floor".into(), "7.1".into()]);
        table.row(vec!["envoy".into()]);
        assert_eq!(table.render(Style::Plain), "subject   µs\nfloor    7.1\nenvoy\n");
        assert_eq!(
            table.render(Style::Markdown),
            "| subject |  µs |\n| --- | ---: |\n| floor   | 7.1 |\n| envoy   |     |\n"
        );
    }
}
