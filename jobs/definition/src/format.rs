//! Formats of records and rows.

use crate::diagnostic::{Diagnostic, Span};
use crate::fields::{Fields, text};
use crate::model::{Csv, CsvSink, Format, Source, SourceKind};
use crate::tree::{Node, Value};

type Found = Vec<Diagnostic>;

const LATER: [&str; 5] = ["avro", "protobuf", "parquet", "text", "raw"];

/// How the records of a source are written.
pub(crate) fn of_source(fields: &mut Fields<'_>, found: &mut Found) -> Format {
    match fields.node("format") {
        None => Format::Json,
        Some(node) => match chosen(node, &LATER, found) {
            Some(Some(options)) => csv(options, found),
            Some(None) => Format::Csv(Csv::default()),
            None => Format::Json,
        },
    }
}

/// How a sink writes rows; nothing for JSON.
pub(crate) fn of_sink(fields: &mut Fields<'_>, found: &mut Found) -> Option<CsvSink> {
    let options = chosen(fields.node("format")?, &["parquet"], found)?;
    let mut csv = CsvSink::default();
    let Some(mut fields) = options.and_then(|node| Fields::of(node, "`csv`", found)) else {
        return Some(csv);
    };
    csv.delimiter = character("delimiter", &mut fields, found).unwrap_or(csv.delimiter);
    csv.quote = character("quote", &mut fields, found).unwrap_or(csv.quote);
    csv.header = fields.flag("header", found).unwrap_or(csv.header);
    differ(csv.delimiter, Some(csv.quote), &fields, found);
    fields.finish(found);
    Some(csv)
}

/// Whether records are comma-separated values, and what more is said of them.
fn chosen<'a>(node: &'a Node, later: &[&str], found: &mut Found) -> Option<Option<&'a Node>> {
    if let Value::Map(_) = node.value {
        let mut fields = Fields::of(node, "`format`", found)?;
        let one = fields.one_of(&["csv"], &[], found);
        fields.finish(found);
        return one.map(|(_, options)| Some(options));
    }
    let format = text(node, "format", found)?;
    let written = format.value.as_str();
    match written {
        "json" => return None,
        "csv" => return Some(None),
        _ => {}
    }
    let message = match later.contains(&written) {
        true => format!("format `{written}` is not supported yet"),
        false => format!("there is no format `{written}`"),
    };
    let all = later.iter().copied().chain(["json", "csv"]);
    let all = all.filter(|format| *format != written);
    found.push(Diagnostic::error(format.span, message).nearest(written, all));
    None
}

fn csv(node: &Node, found: &mut Found) -> Format {
    let mut csv = Csv::default();
    let Some(mut fields) = Fields::of(node, "`csv`", found) else {
        return Format::Csv(csv);
    };
    csv.delimiter = character("delimiter", &mut fields, found).unwrap_or(csv.delimiter);
    let off = fields.node("quote").and_then(|node| match &node.value {
        Value::Scalar { text, .. } => Some(text == "off"),
        Value::List(_) | Value::Map(_) => None,
    });
    csv.quote = match off {
        Some(true) => None,
        _ => character("quote", &mut fields, found).or(csv.quote),
    };
    csv.header = fields.flag("header", found);
    csv.columns = fields.texts("columns", found);
    csv.null_text = (fields.text("null_text", found)).map_or(csv.null_text, |text| text.value);
    differ(csv.delimiter, csv.quote, &fields, found);
    fields.finish(found);
    Format::Csv(csv)
}

/// A character that structures records.
fn character(name: &'static str, fields: &mut Fields<'_>, found: &mut Found) -> Option<u8> {
    let read = |text: &str| match text.as_bytes() {
        [b'\n' | b'\r' | b'.' | b'+' | b'-' | 0] => None,
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() => Some(*byte),
        _ => None,
    };
    let form = "one ASCII character that is no letter, digit, line end, `.`, `+` or `-`";
    fields.parsed(name, form, read, found)
}

fn differ(delimiter: u8, quote: Option<u8>, fields: &Fields<'_>, found: &mut Found) {
    if quote == Some(delimiter) {
        let message = "`delimiter` and `quote` are two different characters";
        found.push(Diagnostic::error(fields.span, message));
    }
}

/// Whether a source can have records written so.
pub(crate) fn check(source: &Source, at: Span, found: &mut Found) {
    let Format::Csv(csv) = &source.format else {
        return;
    };
    let message = match source.kind {
        SourceKind::File(_) => return,
        SourceKind::Generate(_) => "generated records are JSON",
        SourceKind::Kafka(_) if csv.header == Some(true) => "records of a topic have no header",
        SourceKind::Kafka(_) => return,
    };
    found.push(Diagnostic::error(at, message));
}
