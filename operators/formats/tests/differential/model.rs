//! What must become of a record, worked out with `serde_json` alone.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thalweg_formats::FieldSpec;
use thalweg_stream::{Column, ColumnType};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::random::Random;

/// Names of fields: short and long, some with characters that pointers or JSON escape.
pub(crate) const NAMES: &[&str] = &[
    "a",
    "ts",
    "device_id",
    "temperature_c",
    "thirteen_chars",
    "a name of more than thirty-two bytes",
    "exactly_twenty-nine_bytes_aaa",
    "exactly_thirty_bytes_aaaaaaaaa",
    "übergröße",
    "with/slash",
    "with\"quote",
    "0",
    "",
    "nested",
];

/// Columns and what they ask for.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) fields: Vec<FieldSpec>,
    /// Whether unknown fields are collected.
    pub(crate) extra: bool,
}

/// What must become of a record.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is no JSON object.
    Decode,
    /// This column does not fit.
    Schema(String),
    /// A row.
    Row(Vec<Expected>),
}

/// The value of a column.
#[derive(Debug)]
pub(crate) enum Expected {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Json(Value),
    List(Vec<Expected>),
}

impl Model {
    /// One to eight columns of any types anywhere in the record.
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut fields: Vec<FieldSpec> = Vec::new();
        for number in 0..random.below(8) + 1 {
            let column_type = match random.below(10) {
                0 => ColumnType::Bool,
                1 | 2 => ColumnType::Int64,
                3 => ColumnType::Int32,
                4 => ColumnType::Float64,
                5 => ColumnType::Timestamp,
                6 => ColumnType::Json,
                7 => ColumnType::List(Box::new(match random.below(3) {
                    0 => ColumnType::Int64,
                    1 => ColumnType::String,
                    _ => ColumnType::List(Box::new(ColumnType::Float64)),
                })),
                _ => ColumnType::String,
            };
            let mut path = vec![(*random.pick(NAMES)).to_owned()];
            if random.chance(20) {
                path = vec!["nested".to_owned(), (*random.pick(NAMES)).to_owned()];
                if random.chance(30) {
                    path.push((*random.pick(&["0", "1", "01", "a"])).to_owned());
                }
            }
            let mut column = Column::new(format!("c{number}"), column_type);
            column.required = random.chance(10);
            let mut field = FieldSpec::new(column);
            field.path = path;
            fields.push(field);
        }
        Self {
            fields,
            extra: random.chance(30),
        }
    }

    /// The fields of a record that no column's path leads into.
    fn unknown(&self, record: &Value) -> Expected {
        let declared = |key: &str| self.fields.iter().any(|f| f.path[0] == key);
        let unknown: Map<String, Value> = (record.as_object().into_iter().flatten())
            .filter(|(key, _)| !declared(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if unknown.is_empty() {
            Expected::Null
        } else {
            Expected::Json(Value::Object(unknown))
        }
    }

    /// What must become of `record`.
    pub(crate) fn outcome(&self, record: &[u8]) -> Outcome {
        let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(record) else {
            return Outcome::Decode;
        };
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(record).expect("JSON");
        let mut row = Vec::new();
        for field in &self.fields {
            let (first, path) = field.path.split_first().expect("not empty");
            let found = fields.get(first).and_then(|found| find(found, path));
            let text = found.map_or("null", RawValue::get);
            match expected(text, &field.column.column_type) {
                Some(Expected::Null) if field.column.required => {
                    return Outcome::Schema(field.column.name.to_string());
                }
                Some(value) => row.push(value),
                None => return Outcome::Schema(field.column.name.to_string()),
            }
        }
        if self.extra {
            row.push(self.unknown(&value));
        }
        Outcome::Row(row)
    }
}

/// The value to which a path leads, as it is written.
fn find<'a>(value: &'a RawValue, path: &[String]) -> Option<&'a RawValue> {
    path.iter().try_fold(value, |within, segment| {
        if within.get().starts_with('[') {
            let at: usize = segment.parse().ok()?;
            let canonical = at.to_string() == *segment;
            let items: Vec<&RawValue> = serde_json::from_str(within.get()).ok()?;
            return items.get(at).copied().filter(|_| canonical);
        }
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(within.get()).ok()?;
        fields.get(segment).copied()
    })
}

/// What a column of a type has for a value, or nothing if it does not take it.
fn expected(text: &str, column_type: &ColumnType) -> Option<Expected> {
    // A value of serde_json has `-0` as the float that `-0.0` is.
    let integer = || match text {
        "-0" => Some(0),
        _ => serde_json::from_str::<i64>(text).ok(),
    };
    let value: Value = serde_json::from_str(text).ok()?;
    if value.is_null() {
        return Some(Expected::Null);
    }
    match column_type {
        ColumnType::Bool => value.as_bool().map(Expected::Bool),
        ColumnType::Int64 => integer().map(Expected::Int),
        ColumnType::Int32 => {
            let value = integer()?;
            i32::try_from(value).ok().map(|_| Expected::Int(value))
        }
        ColumnType::Float64 => value.as_f64().map(Expected::Float),
        ColumnType::String => value.as_str().map(|s| Expected::String(s.to_owned())),
        ColumnType::Json => Some(Expected::Json(value)),
        ColumnType::Timestamp => match value.as_str() {
            Some(text) => time(text).map(Expected::Int),
            None => integer().map(Expected::Int),
        },
        ColumnType::List(item) => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items = items.iter().map(|text| expected(text.get(), item));
            items.collect::<Option<Vec<Expected>>>().map(Expected::List)
        }
        other => unreachable!("the model makes no column of type {other}"),
    }
}

/// Milliseconds of an RFC 3339 time. The parser takes more separators than the decoder, and a leap
/// second for the last instant of the second before it; the decoder, for the second after.
fn time(text: &str) -> Option<i64> {
    let ms = |text: &str| {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
    };
    let parsed = ms(text)?;
    let (separator, second) = (text.as_bytes().get(10)?, text.get(17..19)?);
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    if second != "60" {
        return Some(parsed);
    }
    let (front, back) = (text.get(..17)?, text.get(19..)?);
    ms(&format!("{front}59{back}")).map(|before| before + 1_000)
}

/// Times in strings, every other one a leap second or what looks like one.
pub(crate) const TIMES: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "2026-01-01T01:00:00.123+01:00",
    "1969-12-31T23:59:59.9999Z",
    "2000-02-29t12:34:56.1z",
    "0000-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-00:01",
    "2016-12-31T23:59:60Z",
    "2017-01-01T00:59:60.25+01:00",
    "1972-06-30 16:29:60.9999-07:30",
    "2015-07-01T05:29:60+05:30",
    "9999-12-31T23:59:60.5Z",
    "2016-12-30T23:59:60Z",
    "2016-12-31T23:59:60+01:00",
    "2026-01-01T00:00:60Z",
];
