//! Rows of text in columns.

/// Lines of a table: the first column to the left, the others to the right; the last to the left where it holds words.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let left = column == 0
                || (column + 1 == columns && widths[column] > 0 && row[column].contains(' '));
            if column > 0 {
                line.push_str("  ");
            }
            let (before, after) = if left { ("", &*pad) } else { (&*pad, "") };
            line.extend([before, cell, after]);
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A row of these cells.
pub(super) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}
