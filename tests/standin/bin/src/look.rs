//! What a person sees of a running stand-in: a document, or a table of rows.

use anyhow::Context as _;
use serde_json::Value;
use thalweg_standin::{Answer, Client};

use crate::{Document, Query};

/// A document as indented JSON.
pub(crate) fn document(ask: &Document) -> anyhow::Result<String> {
    let client = Client::new(&ask.endpoint)?;
    let key = Value::from(ask.partition_key.as_ref().unwrap_or(&ask.id).as_str());
    let found = client.document(&ask.container, &key, &ask.id)?;
    let document = found.with_context(|| {
        format!(
            "container {} has no document \"{}\" with partition key {key}",
            ask.container, ask.id
        )
    })?;
    Ok(serde_json::to_string_pretty(&document)?)
}

/// The rows of a query in columns.
pub(crate) fn rows(ask: &Query) -> anyhow::Result<String> {
    let client = Client::new(&ask.cluster)?;
    Ok(table(&client.query(&ask.database, &ask.kql)?))
}

fn table(answer: &Answer) -> String {
    let cells: Vec<Vec<String>> = (answer.rows.iter())
        .map(|row| row.iter().map(cell).collect())
        .collect();
    let width = |at: usize| {
        let all = cells.iter().filter_map(|row| row.get(at));
        all.chain(answer.columns.get(at))
            .map(|text| text.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..answer.columns.len()).map(width).collect();
    let line = |texts: &[String]| {
        let padded = texts.iter().zip(&widths);
        let padded: Vec<String> = padded
            .map(|(text, width)| format!("{text:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let lines = cells.iter().map(|row| line(row));
    let all: Vec<String> = std::iter::once(line(&answer.columns))
        .chain(lines)
        .collect();
    all.join("\n")
}

fn cell(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thalweg_standin::Answer;

    use super::table;

    #[test]
    fn rows_stand_in_columns() {
        let answer = Answer {
            columns: vec!["segment".to_owned(), "n".to_owned()],
            rows: vec![
                vec![json!("a"), json!(12)],
                vec![json!("seg-0042"), json!(null)],
            ],
        };
        assert_eq!(table(&answer), "segment   n\na         12\nseg-0042  null");
    }
}
