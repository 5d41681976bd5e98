//! Rows of text in columns.

/// Lines of a table: the first column to the left, the others to the right; the last to the left too if it holds sentences.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    // `≥ $5.00`, `2h 05m` and `no price` are figures.
    let is_sentence = |cell: &String| cell.matches(' ').count() > 1;
    let ends_in_sentences = rows.iter().filter_map(|row| row.last()).any(is_sentence);
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let left = column == 0 || (column + 1 == columns && ends_in_sentences);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_to_the_right_and_sentences_to_the_left() {
        let rows = [
            row(&["model", "cost"]),
            row(&["a", "≥ $1,234.56"]),
            row(&["b", "$0.10"]),
            row(&["c", "≥ $0.10"]),
            row(&["d", "no price"]),
        ];
        let lines = lines(&rows).join("\n");
        let right = "\
model         cost
a      ≥ $1,234.56
b            $0.10
c          ≥ $0.10
d         no price";
        assert_eq!(lines, right);
        let rows = [
            row(&["rewritten", "3", "avoidable"]),
            row(&["expired", "12", "in the nature of things"]),
        ];
        let left = "\
rewritten   3  avoidable
expired    12  in the nature of things";
        assert_eq!(super::lines(&rows).join("\n"), left);
    }
}
