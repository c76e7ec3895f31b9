//! Decodes blobs: CSV and its relatives, JSON lines and JSON, by mapping or by name and order.
//!
//! Follows the service where it is lenient, so that what it swallows is swallowed here too: a
//! value of the wrong type becomes null, and with `json` a malformed line is skipped. `multijson`
//! refuses the blob.

use std::sync::Arc;

use serde_json::Value;

use crate::value::{Datum, Kind, TICKS_MS, TICKS_S};
use crate::world::TableColumn;

/// A format of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Fields with this byte between them.
    Csv(u8),
    /// One object per line.
    JsonLines,
    /// Objects, or arrays of objects, one after the other.
    MultiJson,
}

impl Format {
    pub(crate) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "csv" => Self::Csv(b','),
            "tsv" | "tsve" => Self::Csv(b'\t'),
            "psv" => Self::Csv(b'|'),
            "scsv" => Self::Csv(b';'),
            "json" => Self::JsonLines,
            "multijson" | "singlejson" => Self::MultiJson,
            _ => return None,
        })
    }

    /// The kind of its mappings.
    pub(crate) fn mapping_kind(self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::JsonLines | Self::MultiJson => "json",
        }
    }
}

/// Why a blob is not ingested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The service's code.
    pub(crate) code: &'static str,
    /// `Permanent` or `Transient`.
    pub(crate) kind: &'static str,
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn permanent(code: &'static str, details: impl Into<String>) -> Self {
        Self {
            code,
            kind: "Permanent",
            details: details.into(),
        }
    }
}

/// Where each column's value comes from.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    column: String,
    from: From,
    transform: Option<String>,
}

#[derive(Clone, Debug)]
enum From {
    Path(Vec<String>),
    Ordinal(usize),
    Constant(String),
}

impl Mapping {
    /// Reads a mapping as commands and messages hold it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("mapping {text:?}: {what}");
        let parsed: Value = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
        let list = parsed.as_array().ok_or_else(|| wrong("it is no list"))?;
        let mut entries = Vec::new();
        for entry in list {
            let entry = lower_keys(entry);
            let column = entry.get("column").and_then(Value::as_str);
            // Older mappings have what belongs into `Properties` beside it.
            let properties = entry.get("properties").unwrap_or(&entry);
            let text = |name: &str| properties.get(name).and_then(Value::as_str);
            let from = match (text("path"), properties.get("ordinal"), text("constvalue")) {
                (Some(path), _, _) => {
                    From::Path(path_parts(path).ok_or_else(|| wrong("a path is not understood"))?)
                }
                (None, Some(ordinal), _) => {
                    let ordinal = ordinal.as_u64().map(|n| n.to_string());
                    let ordinal = ordinal.or_else(|| text("ordinal").map(str::to_owned));
                    let ordinal = ordinal.and_then(|n| n.parse().ok());
                    From::Ordinal(ordinal.ok_or_else(|| wrong("an ordinal is no number"))?)
                }
                (None, None, Some(constant)) => From::Constant(constant.to_owned()),
                (None, None, None) => return Err(wrong("a column comes from nowhere")),
            };
            entries.push(Entry {
                column: column
                    .ok_or_else(|| wrong("a column has no name"))?
                    .to_owned(),
                from,
                transform: text("transform").map(str::to_owned),
            });
        }
        Ok(Self { entries })
    }
}

/// The value with the names of its members in lower case, two levels deep.
pub(crate) fn lower_keys(value: &Value) -> Value {
    let lower = |value: &Value| match value.as_object() {
        Some(members) => Value::Object(
            (members.iter())
                .map(|(name, value)| (name.to_lowercase(), value.clone()))
                .collect(),
        ),
        None => value.clone(),
    };
    let Value::Object(mut members) = lower(value) else {
        return value.clone();
    };
    for member in members.values_mut() {
        *member = lower(member);
    }
    Value::Object(members)
}

/// The members a JSON path names: `$.a.b`, `$['a b'][0]`.
fn path_parts(path: &str) -> Option<Vec<String>> {
    let mut rest = path.strip_prefix('$')?;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (name, tail) = tail.split_at(end);
            parts.push(name.to_owned());
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("['") {
            let (mut name, mut chars) = (String::new(), tail.char_indices());
            rest = loop {
                match chars.next()? {
                    (_, '\\') => name.push(chars.next()?.1),
                    (at, '\'') => break tail.get(at..)?.strip_prefix("']")?,
                    (_, c) => name.push(c),
                }
            };
            parts.push(name);
        } else {
            let (index, tail) = rest.strip_prefix('[')?.split_once(']')?;
            parts.push(index.parse::<usize>().ok()?.to_string());
            rest = tail;
        }
    }
    Some(parts)
}

fn follow<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter()
        .try_fold(value, |value, part| match value.as_array() {
            Some(items) => items.get(part.parse::<usize>().ok()?),
            None => value.as_object()?.get(part),
        })
}

/// The rows in `bytes`.
///
/// # Errors
/// As the service refuses a blob.
pub(crate) fn rows(
    format: Format,
    bytes: &[u8],
    columns: &[TableColumn],
    mapping: Option<&Mapping>,
    skip_first: bool,
) -> Result<Vec<Arc<[Datum]>>, Failure> {
    if let Some(mapping) = mapping {
        let unknown = |e: &&Entry| !columns.iter().any(|column| column.name == e.column);
        if let Some(entry) = mapping.entries.iter().find(unknown) {
            return Err(Failure::permanent(
                "BadRequest_InconsistentMapping",
                format!(
                    "column '{}' of the mapping is none of the table's",
                    entry.column
                ),
            ));
        }
    }
    let rows: Vec<Arc<[Datum]>> = match format {
        Format::Csv(delimiter) => {
            let records = csv(bytes, delimiter)?;
            (records.iter().skip(usize::from(skip_first)))
                .map(|record| csv_row(record, columns, mapping))
                .collect()
        }
        Format::JsonLines => bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .filter(Value::is_object)
            .map(|value| json_row(&value, columns, mapping))
            .collect(),
        Format::MultiJson => {
            let mut rows = Vec::new();
            for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
                let value = value.map_err(|error| {
                    Failure::permanent("BadRequest_InvalidBlob", error.to_string())
                })?;
                let values = value
                    .as_array()
                    .map_or(std::slice::from_ref(&value), Vec::as_slice);
                for value in values {
                    if !value.is_object() {
                        let details = "a record is no object";
                        return Err(Failure::permanent("BadRequest_InvalidBlob", details));
                    }
                    rows.push(json_row(value, columns, mapping));
                }
            }
            rows
        }
    };
    match rows.is_empty() {
        true => Err(Failure::permanent(
            "BadRequest_NoRecordsOrWrongFormat",
            "no records",
        )),
        false => Ok(rows),
    }
}

fn entry<'m>(mapping: &'m Mapping, column: &TableColumn) -> Option<&'m Entry> {
    mapping
        .entries
        .iter()
        .find(|entry| entry.column == column.name)
}

fn json_row(value: &Value, columns: &[TableColumn], mapping: Option<&Mapping>) -> Arc<[Datum]> {
    let cell = |column: &TableColumn| {
        let Some(mapping) = mapping else {
            let found = value.get(&column.name).unwrap_or(&Value::Null);
            return Datum::of_json(column.kind, found);
        };
        match entry(mapping, column) {
            None => Datum::missing(column.kind),
            Some(entry) => {
                let found = match &entry.from {
                    From::Path(path) => follow(value, path).unwrap_or(&Value::Null),
                    From::Ordinal(_) => &Value::Null,
                    From::Constant(text) => return Datum::parse(column.kind, text),
                };
                match transformed(entry, found.as_i64()) {
                    Some(time) => time,
                    None => Datum::of_json(column.kind, found),
                }
            }
        }
    };
    columns.iter().map(cell).collect()
}

fn csv_row(record: &[String], columns: &[TableColumn], mapping: Option<&Mapping>) -> Arc<[Datum]> {
    let cell = |(at, column): (usize, &TableColumn)| {
        let parse = |at: usize| match record.get(at) {
            Some(text) if !(text.is_empty() && column.kind != Kind::String) => {
                Datum::parse(column.kind, text)
            }
            _ => Datum::missing(column.kind),
        };
        let Some(mapping) = mapping else {
            return parse(at);
        };
        match entry(mapping, column) {
            None => Datum::missing(column.kind),
            Some(entry) => match &entry.from {
                From::Ordinal(at) => {
                    let number = record.get(*at).and_then(|text| text.trim().parse().ok());
                    transformed(entry, number).unwrap_or_else(|| parse(*at))
                }
                From::Path(_) => Datum::missing(column.kind),
                From::Constant(text) => Datum::parse(column.kind, text),
            },
        }
    };
    columns.iter().enumerate().map(cell).collect()
}

/// The time that a number of a unit since 1970 is, if the mapping says so.
fn transformed(entry: &Entry, number: Option<i64>) -> Option<Datum> {
    let ticks = match entry.transform.as_deref()? {
        "DateTimeFromUnixSeconds" => number?.checked_mul(TICKS_S),
        "DateTimeFromUnixMilliseconds" => number?.checked_mul(TICKS_MS),
        "DateTimeFromUnixMicroseconds" => number?.checked_mul(10),
        "DateTimeFromUnixNanoseconds" => Some(number? / 100),
        _ => return None,
    };
    Some(ticks.map_or(Datum::Null, Datum::Time))
}

/// The records of a CSV file (RFC 4180).
fn csv(bytes: &[u8], delimiter: u8) -> Result<Vec<Vec<String>>, Failure> {
    let mut records: Vec<Vec<String>> = Vec::new();
    let (mut record, mut field) = (Vec::new(), Vec::new());
    let mut quoted = false;
    let mut at = 0;
    let text = |field: &mut Vec<u8>| String::from_utf8_lossy(&std::mem::take(field)).into_owned();
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' if quoted && bytes.get(at) == Some(&b'"') => {
                field.push(b'"');
                at += 1;
            }
            b'"' if quoted => quoted = false,
            b'"' if field.is_empty() => quoted = true,
            byte if quoted => field.push(*byte),
            byte if *byte == delimiter => record.push(text(&mut field)),
            b'\r' if bytes.get(at) == Some(&b'\n') => {}
            b'\n' => {
                record.push(text(&mut field));
                records.push(std::mem::take(&mut record));
            }
            byte => field.push(*byte),
        }
    }
    if quoted {
        return Err(Failure::permanent(
            "Stream_ClosingQuoteMissing",
            "a quote does not end",
        ));
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(text(&mut field));
        records.push(record);
    }
    // Empty lines are no records.
    records.retain(|record| !matches!(record.as_slice(), [only] if only.is_empty()));
    let width = records.first().map_or(0, Vec::len);
    if let Some(other) = records.iter().find(|record| record.len() != width) {
        return Err(Failure::permanent(
            "Stream_WrongNumberOfFields",
            format!("records have {width} and {} fields", other.len()),
        ));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::{Format, Mapping, rows};
    use crate::value::Kind;
    use crate::world::TableColumn;

    fn decode(format: &str, text: &str, mapping: Option<&str>) -> Result<String, &'static str> {
        let columns = [
            ("a", Kind::Long),
            ("b c", Kind::String),
            ("t", Kind::DateTime),
        ];
        let columns = columns.map(|(name, kind)| TableColumn {
            name: name.to_owned(),
            kind,
        });
        let mapping = mapping.map(|m| Mapping::parse(m).expect("a mapping"));
        let format = Format::find(format).expect("a format");
        let rows = rows(format, text.as_bytes(), &columns, mapping.as_ref(), false);
        let rows = rows.map_err(|failure| failure.code)?;
        let row = |row: &[crate::value::Datum]| {
            row.iter()
                .map(|v| v.to_json().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        Ok(rows.iter().map(|r| row(r)).collect::<Vec<_>>().join(" / "))
    }

    #[test]
    fn blobs_decode_as_the_service_would() {
        let by_path = r#"[{"column":"a","Properties":{"Path":"$['x y'].n"}},{"Column":"t","properties":{"path":"$.at[1]","transform":"DateTimeFromUnixSeconds"}},{"column":"b c","Properties":{"ConstValue":"k"}}]"#;
        let by_ordinal =
            r#"[{"column":"b c","Properties":{"Ordinal":"0"}},{"column":"a","Ordinal":1}]"#;
        for (format, text, mapping, expected) in [
            (
                "csv",
                "1,\"x \"\"y\"\"\n z\",2024-01-01\n,,\n",
                None,
                Ok(r#"1 "x \"y\"\n z" "2024-01-01T00:00:00Z" / null "" null"#),
            ),
            (
                "csv",
                "k,7\r\nl,x",
                Some(by_ordinal),
                Ok(r#"7 "k" null / null "l" null"#),
            ),
            ("tsv", "1\tq\t", None, Ok(r#"1 "q" null"#)),
            ("csv", "1,2\n1\n", None, Err("Stream_WrongNumberOfFields")),
            ("csv", "1,\"2\n", None, Err("Stream_ClosingQuoteMissing")),
            (
                "json",
                "{\"a\":1}\nbroken\n{\"b c\":2,\"z\":0}\n",
                None,
                Ok(r#"1 "" null / null "2" null"#),
            ),
            (
                "multijson",
                "{\"a\":1} [{\"a\":2},{\"a\":\n3}]",
                None,
                Ok(r#"1 "" null / 2 "" null / 3 "" null"#),
            ),
            (
                "multijson",
                "{\"a\":1}\n{\"a\":",
                None,
                Err("BadRequest_InvalidBlob"),
            ),
            (
                "multijson",
                "",
                None,
                Err("BadRequest_NoRecordsOrWrongFormat"),
            ),
            (
                "multijson",
                r#"{"x y":{"n":5},"at":[0,60]}"#,
                Some(by_path),
                Ok(r#"5 "k" "1970-01-01T00:01:00Z""#),
            ),
            (
                "json",
                "{}",
                Some(r#"[{"column":"nope","Properties":{"Path":"$.x"}}]"#),
                Err("BadRequest_InconsistentMapping"),
            ),
        ] {
            assert_eq!(
                decode(format, text, mapping),
                expected.map(str::to_owned),
                "{format} {text}"
            );
        }
    }
}
