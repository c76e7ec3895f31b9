//! The tables in the answers of the service, in both of its forms.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A table of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names and types of its columns.
    pub columns: Vec<AnswerColumn>,
    /// Its rows, as many values as there are columns.
    pub rows: Vec<Vec<Value>>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerColumn {
    /// Its name.
    pub name: String,
    /// Its type: `bool int long real decimal datetime timespan guid string dynamic`.
    pub kind: String,
}

impl Table {
    /// The value of `column` in `row`.
    #[must_use]
    pub fn value(&self, row: usize, column: &str) -> Option<&Value> {
        let at = self.columns.iter().position(|c| c.name == column)?;
        self.rows.get(row)?.get(at)
    }

    /// The text of `column` in `row`.
    #[must_use]
    pub fn text(&self, row: usize, column: &str) -> Option<&str> {
        self.value(row, column)?.as_str()
    }

    /// The number in the only cell, as `| count` gives it.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.rows.first()?.first()?.as_u64()
    }
}

/// The first table of a version-1 answer.
pub(crate) fn first_of_v1(body: &[u8]) -> Result<Table, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    check_exceptions(&answer)?;
    let tables = answer.get("Tables").and_then(Value::as_array);
    let first = tables.and_then(|tables| tables.first());
    table(first.ok_or("it holds no table")?)
}

/// The primary result of a version-2 answer.
pub(crate) fn primary_of_v2(body: &[u8]) -> Result<Table, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let frames = answer.as_array().ok_or("it is no list of frames")?;
    let text =
        |frame: &Value, name: &str| frame.get(name).and_then(Value::as_str).map(String::from);
    for frame in frames {
        if text(frame, "FrameType").as_deref() == Some("DataSetCompletion")
            && frame.get("HasErrors").and_then(Value::as_bool) == Some(true)
        {
            return Err(partial(frame));
        }
    }
    let primary = frames.iter().find(|frame| {
        text(frame, "FrameType").as_deref() == Some("DataTable")
            && text(frame, "TableKind").as_deref() == Some("PrimaryResult")
    });
    table(primary.ok_or("it holds no primary result")?)
}

fn check_exceptions(answer: &Value) -> Result<(), String> {
    match answer.get("Exceptions").and_then(Value::as_array) {
        Some(exceptions) if !exceptions.is_empty() => Err(format!(
            "it holds exceptions: {}",
            Value::from(exceptions.clone())
        )),
        _ => Ok(()),
    }
}

fn partial(of: &Value) -> String {
    let message = (of.pointer("/OneApiErrors/0/error/@message"))
        .or_else(|| of.pointer("/OneApiErrors/0/error/message"));
    let message = message.and_then(Value::as_str).unwrap_or("no explanation");
    format!("the query failed while it was answered: {message}")
}

fn table(value: &Value) -> Result<Table, String> {
    let columns = value.get("Columns").and_then(Value::as_array);
    let columns = (columns.ok_or("a table has no columns")?.iter())
        .map(|column| {
            let text = |name: &str| column.get(name).and_then(Value::as_str);
            Some(AnswerColumn {
                name: text("ColumnName")?.to_owned(),
                kind: text("ColumnType").or_else(|| text("DataType"))?.to_owned(),
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or("a column has no name or type")?;
    let rows = value.get("Rows").and_then(Value::as_array);
    let rows = (rows.ok_or("a table has no rows")?.iter())
        .map(|row| match row.as_array() {
            Some(values) if values.len() == columns.len() => Ok(values.clone()),
            Some(_) => Err("a row does not fit its columns".to_owned()),
            // A failure after the first rows stands where a row should.
            None => Err(partial(row)),
        })
        .collect::<Result<_, String>>()?;
    Ok(Table { columns, rows })
}

/// Milliseconds since the Unix epoch of a time in an answer.
pub(crate) fn time_ms(text: &str) -> Option<i64> {
    // The storage service may leave out the zone, and means UTC.
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
        .ok()?;
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok()
}

/// A time as the service reads it: RFC 3339 with milliseconds.
pub(crate) fn time_text(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    (time.ok().and_then(|time| time.format(&Rfc3339).ok()))
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// How long ago `then` was; nothing of the future has an age.
pub(crate) fn age(now_ms: i64, then_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{first_of_v1, primary_of_v2, time_ms, time_text};

    #[test]
    fn the_first_table_of_a_command_is_read() {
        let body = br#"{"Tables":[{"TableName":"Table_0",
            "Columns":[{"ColumnName":"A","DataType":"String"},{"ColumnName":"N","ColumnType":"long"}],
            "Rows":[["x",1]]}]}"#;
        let table = first_of_v1(body).expect("a table");
        assert_eq!(table.text(0, "A"), Some("x"));
        assert_eq!(table.value(0, "N").and_then(|n| n.as_u64()), Some(1));
        assert!(first_of_v1(br#"{"Tables":[]}"#).is_err());
        assert!(first_of_v1(b"<html>").is_err());
    }

    #[test]
    fn a_query_that_fails_half_way_is_an_error() {
        let complete = br#"[{"FrameType":"DataTable","TableKind":"PrimaryResult",
            "Columns":[{"ColumnName":"Count","ColumnType":"long"}],"Rows":[[3]]},
            {"FrameType":"DataSetCompletion","HasErrors":false}]"#;
        assert_eq!(primary_of_v2(complete).expect("a table").count(), Some(3));
        let row = br#"[{"FrameType":"DataTable","TableKind":"PrimaryResult",
            "Columns":[{"ColumnName":"Count","ColumnType":"long"}],
            "Rows":[{"OneApiErrors":[{"error":{"@message":"out of memory"}}]}]}]"#;
        assert!(
            primary_of_v2(row)
                .expect_err("failed")
                .contains("out of memory")
        );
        let end = br#"[{"FrameType":"DataTable","TableKind":"PrimaryResult",
            "Columns":[{"ColumnName":"Count","ColumnType":"long"}],"Rows":[]},
            {"FrameType":"DataSetCompletion","HasErrors":true,
             "OneApiErrors":[{"error":{"message":"limit"}}]}]"#;
        assert!(primary_of_v2(end).expect_err("failed").contains("limit"));
    }

    #[test]
    fn times_read_back() {
        for ms in [0, 1_700_000_000_123, -1] {
            assert_eq!(time_ms(&time_text(ms)), Some(ms));
        }
        assert_eq!(
            time_ms("2026-11-22T21:22:18.684382"),
            time_ms("2026-11-22T21:22:18.684Z")
        );
        assert_eq!(time_ms("yesterday"), None);
    }
}
