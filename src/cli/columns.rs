//! Tables of plain text.

/// Rows in columns as wide as their widest cell: the first `left` columns begin at the left, the others end
/// at the right. Two spaces lie between.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "b", "c"], ["long", "10", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, 1), "a      b  c\nlong  10\n");
    }
}
