//! Tables for people: columns as wide as their widest cell.

use serde_json::Value;

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|name| name.to_uppercase()).collect()],
        }
    }

    /// An empty table without a heading.
    pub fn plain() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text, each line ended.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let padded: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value as a cell: texts without quotes, nothing as `-`, lists with commas.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    }
}

/// The fields of one object, a line for each.
pub fn fields(value: &Value) -> String {
    let mut table = Table::plain();
    for (name, value) in value.as_object().into_iter().flatten() {
        table.row(vec![name.clone(), cell(value)]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["id", "state"]);
        table.row(vec!["olt-east-01".into(), "active".into()]);
        table.row(vec!["a".into(), "-".into()]);
        assert_eq!(
            table.text(),
            "ID           STATE\nolt-east-01  active\na            -\n"
        );
    }

    #[test]
    fn cells_show_values_without_json() {
        assert_eq!(cell(&json!([1, 2])), "1,2");
        assert_eq!(cell(&json!({"a": "b"})), "a=b");
        assert_eq!(cell(&json!(null)), "-");
        assert_eq!(cell(&json!("")), "-");
        assert_eq!(
            fields(&json!({"id": "p", "total": 3})),
            "id     p\ntotal  3\n"
        );
    }
}
