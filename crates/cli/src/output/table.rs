//! Aligned columns.

use serde_json::Value;

use super::clean::{clean_line, width};
use super::style::{Paint, Style};

/// One column.
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Whether it shows only in the wide form.
    pub wide: bool,
    /// The text of its cell, and how to paint it.
    pub cell: fn(&Value) -> (String, Option<Paint>),
}

/// Renders a head and one line an item; nothing but the head when there is none.
pub fn render(columns: &[Column], items: &[Value], wide: bool, style: &Style) -> String {
    let columns: Vec<&Column> = columns.iter().filter(|column| wide || !column.wide).collect();
    let rows: Vec<Vec<(String, Option<Paint>)>> = items
        .iter()
        .map(|item| {
            columns
                .iter()
                .map(|column| {
                    let (text, paint) = (column.cell)(item);
                    (clean_line(&text), paint)
                })
                .collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| rows.iter().map(|row| width(&row[at].0)).chain([column.title.len()]).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    let mut line = |cells: Vec<(String, Option<Paint>)>| {
        let last = cells.len().saturating_sub(1);
        for (at, (text, paint)) in cells.into_iter().enumerate() {
            let pad = if at == last { 0 } else { widths[at] + 2 - width(&text) };
            out.push_str(&paint.map_or_else(|| text.clone(), |paint| style.paint(paint, &text)));
            out.extend(std::iter::repeat_n(' ', pad));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    };
    line(columns.iter().map(|column| (column.title.to_owned(), Some(Paint::Faint))).collect());
    rows.into_iter().for_each(line);
    out
}

/// The text at a dotted path; empty for null and what is absent.
pub fn text(item: &Value, path: &str) -> String {
    match path.split('.').try_fold(item, |value, name| value.get(name)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::style::Style;
    use super::*;

    static COLUMNS: [Column; 3] = [
        Column { title: "NAME", wide: false, cell: |item| (text(item, "name"), Some(Paint::Strong)) },
        Column { title: "SIZE", wide: true, cell: |item| (text(item, "size"), None) },
        Column { title: "LAST", wide: false, cell: |item| (text(item, "last"), None) },
    ];

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let items = [json!({"name": "日本", "size": 1, "last": "x"}), json!({"name": "a\u{1b}[31m", "last": "\n"})];
        assert_eq!(render(&COLUMNS, &items, false, &Style::PLAIN), "NAME  LAST\n日本  x\na\n");
        assert_eq!(render(&COLUMNS, &items, true, &Style::PLAIN), "NAME  SIZE  LAST\n日本  1     x\na\n");
        let color = Style { color: true, unicode: true };
        assert!(render(&COLUMNS, &items, false, &color).contains("\u{1b}[1m日本\u{1b}[0m  x"));
    }
}
