//! How it is drawn: a line of totals, the table, a line of keys. 80 columns and 24 lines are enough.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as ShownRow, Table as ShownTable};
use serde_json::Value;

use super::rows::{Grouping, Row, SortKey, Table, latency, rate};

/// What is on the screen.
pub(super) struct Screen {
    pub(super) admin: String,
    /// The newest `/api/live`.
    pub(super) page: Value,
    /// Why there is no newer one.
    pub(super) problem: Option<String>,
    pub(super) by: Grouping,
    pub(super) sort: SortKey,
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) first_row: usize,
    pub(super) colours: bool,
}

impl Screen {
    /// Draw all of it. Keeps the first row within the table.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let parts =
            Layout::vertical([Constraint::Length(2), Constraint::Min(2), Constraint::Length(1)]);
        let [head, body, foot] = parts.areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        let table = Table::new(&self.page, self.by, self.sort, &self.filter);
        self.first_row = self.first_row.min(table.rows.len().saturating_sub(1));
        frame.render_widget(self.table(&table), body);
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    fn head(&self) -> Text<'static> {
        let number = |name: &str| self.page[name].as_u64().unwrap_or(0);
        let uptime = number("uptime_s");
        let paused = if self.paused { "  PAUSED" } else { "" };
        let first = format!(
            "ringress top  {}  last {} s  generation {}  up {}h{:02}m{paused}",
            self.admin,
            number("window_s"),
            number("generation"),
            uptime / 3600,
            uptime % 3600 / 60,
        );
        let total = Row::of(&self.page["total"]);
        let [p50, _, p99, p999] = total.percentiles.map(latency);
        let second = format!(
            "{}/s  errors {:.2}%  p50 {p50}  p99 {p99}  p99.9 {p999}",
            rate(total.rate),
            total.error_rate * 100.0,
        );
        Text::from(vec![
            Line::styled(first, Style::new().add_modifier(Modifier::BOLD)),
            second.into(),
        ])
    }

    fn table(&self, table: &Table) -> ShownTable<'static> {
        let names = match table.by {
            Grouping::Routes => &["HOST", "ROUTE", "DESTINATION"][..],
            Grouping::Hosts => &["HOST"][..],
        };
        let right = |text: String| Text::from(text).alignment(Alignment::Right);
        let numbers = ["RATE", "ERRORS", "P50", "P90", "P99", "P99.9"];
        let header = names.iter().map(|name| Cell::from(*name));
        let header = header.chain(numbers.map(|name| Cell::from(right(name.to_owned()))));
        let rows = table.rows.iter().skip(self.first_row).map(|row| {
            let names = match table.by {
                Grouping::Routes => vec![&row.host, &row.route, &row.destination],
                Grouping::Hosts => vec![&row.host],
            };
            let names = names.into_iter().map(|name| Cell::from(name.clone()));
            let numbers = row.numbers().into_iter().enumerate().map(|(at, text)| {
                let failing = at == 1 && row.errors > 0;
                Cell::from(right(text)).style(if failing { self.failing() } else { Style::new() })
            });
            ShownRow::new(names.chain(numbers).collect::<Vec<_>>())
        });
        let widths = names.iter().map(|_| Constraint::Fill(1));
        let widths = widths.chain([6, 7, 6, 6, 6, 6].map(Constraint::Length));
        ShownTable::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
            .header(
                ShownRow::new(header.collect::<Vec<_>>())
                    .style(Style::new().add_modifier(Modifier::REVERSED)),
            )
            .column_spacing(1)
    }

    /// Errors stand out without colours too.
    fn failing(&self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours { style.fg(Color::Red) } else { style }
    }

    fn foot(&self) -> Line<'static> {
        if self.typing {
            return Line::from(format!(
                "filter: {}_  (Enter keeps it, Esc clears it)",
                self.filter
            ));
        }
        if let Some(problem) = &self.problem {
            return Line::styled(format!("no newer numbers: {problem}"), self.failing());
        }
        let filter = match self.filter.as_str() {
            "" => "/ filter".to_owned(),
            text => format!("/ filter: {text}"),
        };
        Line::from(format!(
            "q quit  s sort: {}  w window  g hosts/routes  p pause  {filter}",
            self.sort.as_str()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::page;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen() -> Screen {
        Screen {
            admin: "127.0.0.1:15000".to_owned(),
            page: page(),
            problem: None,
            by: Grouping::Routes,
            sort: SortKey::Rate,
            filter: String::new(),
            typing: false,
            paused: false,
            first_row: 0,
            colours: true,
        }
    }

    /// The lines of the screen, and the colours that are on it.
    fn draw(screen: &mut Screen, width: u16, height: u16) -> (Vec<String>, Vec<Color>) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells = buffer.content();
        let lines = cells.chunks(usize::from(width));
        let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
        (
            lines.map(|line| line.trim_end().to_owned()).collect(),
            cells.iter().map(|cell| cell.fg).collect(),
        )
    }

    #[test]
    fn all_columns_fit_into_80_by_24() {
        let (lines, _) = draw(&mut screen(), 80, 24);
        assert_eq!(lines[0], "ringress top  127.0.0.1:15000  last 60 s  generation 4  up 1h01m");
        assert_eq!(lines[1], "31.0/s  errors 10.00%  p50 900us  p99 20.0ms  p99.9 -");
        for name in ["HOST", "ROUTE", "DESTINATION", "RATE", "ERRORS", "P50", "P90", "P99.9"] {
            assert!(lines[2].contains(name), "{name} in {:?}", lines[2]);
        }
        for text in ["hello.com", "main", "hello.defau", "20.0", "12.50%", "250ms"] {
            assert!(lines[3].contains(text), "{text} in {:?}", lines[3]);
        }
        assert!(
            lines[23].starts_with("q quit") && lines[23].ends_with("/ filter"),
            "{:?}",
            lines[23]
        );
    }

    #[test]
    fn errors_are_red_unless_colours_are_unwanted() {
        assert!(draw(&mut screen(), 80, 24).1.contains(&Color::Red));
        let (_, colours) = draw(&mut Screen { colours: false, ..screen() }, 80, 24);
        assert!(colours.iter().all(|colour| *colour == Color::Reset));
    }

    #[test]
    fn scrolling_ends_with_the_last_row() {
        let mut screen = Screen { first_row: 99, ..screen() };
        let (lines, _) = draw(&mut screen, 80, 24);
        assert_eq!(screen.first_row, 2);
        assert!(lines[3].starts_with("other.org"));
        assert_eq!(lines[4], "");
    }

    #[test]
    fn what_is_typed_and_what_went_wrong_are_shown() {
        let mut typing = Screen { typing: true, filter: "v2".to_owned(), ..screen() };
        let (lines, _) = draw(&mut typing, 80, 24);
        assert!(lines[23].starts_with("filter: v2_"));
        assert!(lines[3].contains("20.0") && lines[4].is_empty());
        let mut failed = Screen { problem: Some("gone".to_owned()), ..screen() };
        assert!(draw(&mut failed, 80, 24).0[23].starts_with("no newer numbers: gone"));
    }

    #[test]
    fn a_tiny_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (10, 3), (80, 2)] {
            draw(&mut screen(), width, height);
        }
    }
}
