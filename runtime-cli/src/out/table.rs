//! Columns of text, as Go's tabwriter aligns them for runc: at least 12 wide, at least 3 blanks between.

use coracle::error::escape;

/// Rows of cells as lines; the last column is not padded. Control characters in cells are escaped.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let cells: Vec<[String; N]> = rows
        .iter()
        .map(|row| std::array::from_fn(|i| row.get(i).map_or_else(String::new, |c| escape(c).into_owned())))
        .collect();
    let mut widths = [0usize; N];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max((cell.chars().count() + 3).max(12));
        }
    }
    let mut out = String::new();
    for row in &cells {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            out.push_str(cell);
            if i + 1 < N {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_runc_prints_it() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let rows = [row(["ID", "PID", "BUNDLE", "OWNER"]), row(["x", "18318", "/tmp/cli-probe/b", "root"])];
        assert_eq!(
            table(&rows),
            "ID          PID         BUNDLE             OWNER\nx           18318       /tmp/cli-probe/b   root\n"
        );
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        assert_eq!(table(&[["a\n\x1b[2J".to_owned(), String::new()]]), "a\\n\\u{1b}[2J   \n");
    }
}
