//! A table in kubectl's style: upper-case heads, three spaces between columns, no borders, nothing cut.

use comfy_table::{Cell, Table, TableStyle};

use super::escape::one_line;

/// Lines with their newlines; trailing spaces are gone.
#[must_use]
pub fn table(heads: Option<&[&str]>, rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    if let Some(heads) = heads {
        table.add_row(heads);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(shown(cell))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// An empty cell would look like a hole and break `awk`.
fn shown(cell: &str) -> String {
    if cell.is_empty() {
        "-".to_owned()
    } else {
        one_line(cell).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_kubectl() {
        let rows = [
            vec!["train".to_owned(), "running".to_owned(), String::new()],
            vec!["a".to_owned(), "failed".to_owned(), "x\ny".to_owned()],
        ];
        assert_eq!(
            table(Some(&["NAME", "STATUS", "NOTE"]), &rows),
            "NAME    STATUS    NOTE\ntrain   running   -\na       failed    x\\ny\n"
        );
    }

    #[test]
    fn without_heads() {
        assert_eq!(table(None, &[vec!["a".to_owned(), "b".to_owned()]]), "a   b\n");
        assert_eq!(table(None, &[]), "");
    }
}
