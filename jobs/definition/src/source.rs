//! Sources and tables.

use thalweg_stream::ColumnType;
use thalweg_stream::schema::is_system;

use crate::diagnostic::{Diagnostic, Spanned};
use crate::fields::{Fields, text};
use crate::model::{
    ColumnField, EventTime, FileSource, Generate, MaxAhead, Source, SourceKind, Table,
    TimestampForm,
};
use crate::quantity;
use crate::tree::{Node, Value};
use crate::{format, kafka};

type Found = Vec<Diagnostic>;

const LATER: [&str; 7] = [
    "eventhubs",
    "iothub",
    "mqtt",
    "cosmos_changes",
    "blob",
    "http",
    "from",
];

pub(crate) fn source(name: &Spanned<String>, node: &Node, found: &mut Found) -> Option<Source> {
    let mut fields = Fields::of(node, format!("source `{}`", name.value), found)?;
    let source = read(name, &mut fields, found);
    fields.finish(found);
    source
}

pub(crate) fn table(name: &Spanned<String>, node: &Node, found: &mut Found) -> Option<Table> {
    let mut fields = Fields::of(node, format!("table `{}`", name.value), found)?;
    let key = fields.texts("key", found);
    if key.is_empty() {
        fields.missing("key");
    }
    let source = read(name, &mut fields, found);
    fields.finish(found);
    let source = source?;
    let columns: Vec<&str> = source
        .schema
        .iter()
        .map(|c| c.name.value.as_str())
        .collect();
    for column in &key {
        if !columns.contains(&column.value.as_str()) {
            let message = format!("table `{}` has no column `{}`", name.value, column.value);
            let error = Diagnostic::error(column.span, message);
            found.push(error.nearest(&column.value, columns.iter().copied()));
        }
    }
    Some(Table { source, key })
}

fn read(name: &Spanned<String>, fields: &mut Fields<'_>, found: &mut Found) -> Option<Source> {
    let kind = match fields.one_of(&["file", "generate", "kafka"], &LATER, found) {
        Some(("file", node)) => file(node, found).map(SourceKind::File),
        Some(("kafka", node)) => kafka::kafka(node, found).map(SourceKind::Kafka),
        Some((_, node)) => generate(node, found).map(SourceKind::Generate),
        None => None,
    };
    let at = fields.node("format").map_or(name.span, |node| node.span);
    let format = format::of_source(fields, found);
    let mut extra = fields.text("extra", found);
    let schema = schema(fields, &mut extra, found);
    let metadata = fields.pairs("metadata", found);
    let event_time = match fields.node("event_time") {
        Some(node) => Some(event_time(node, &schema, &metadata, found)?),
        None => None,
    };
    let source = Source {
        name: name.clone(),
        kind: kind?,
        format,
        schema,
        extra,
        metadata,
        event_time,
    };
    format::check(&source, at, found);
    Some(source)
}

fn file(node: &Node, found: &mut Found) -> Option<FileSource> {
    let mut fields = Fields::of(node, "`file`", found)?;
    let path = fields.required("path", found);
    let compression = fields.text("compression", found);
    let by_name = fields.word("order", &[("name", true), ("time", false)], found);
    let follow = fields.flag("follow", found).unwrap_or(false);
    fields.finish(found);
    let compression = compression.unwrap_or_else(|| Spanned::new("auto".to_owned(), node.span));
    Some(FileSource {
        path: path?,
        compression,
        by_name: by_name.unwrap_or(false),
        follow,
    })
}

fn generate(node: &Node, found: &mut Found) -> Option<Generate> {
    let mut fields = Fields::of(node, "`generate`", found)?;
    let mut what = fields.required("what", found);
    if let Some(random) = what.take_if(|what| what.value == "random") {
        let message = "telemetry `random` is not supported yet";
        found.push(Diagnostic::error(random.span, message));
    }
    let generate = Generate {
        what: what.unwrap_or_else(|| Spanned::new("fleet".to_owned(), node.span)),
        events: fields.number("events", found),
        rate: fields.number("rate", found),
        devices: fields.number("devices", found),
        seed: fields.number("seed", found),
        late: fields.share("late", found),
        duplicates: fields.share("duplicates", found),
        corrupt: fields.share("corrupt", found),
        splits: fields.number("splits", found),
    };
    fields.finish(found);
    Some(generate)
}

fn schema(
    fields: &mut Fields<'_>,
    extra: &mut Option<Spanned<String>>,
    found: &mut Found,
) -> Vec<ColumnField> {
    let Some(node) = fields.node("schema") else {
        fields.missing("schema");
        return Vec::new();
    };
    let Value::Map(entries) = &node.value else {
        let message = format!("`schema` is a mapping of columns, not {}", node.kind());
        found.push(Diagnostic::error(node.span, message));
        return Vec::new();
    };
    let mut columns = Vec::new();
    for entry in entries {
        let name = Spanned::new(entry.key.clone(), entry.at);
        if is_system(&name.value) {
            let message = format!("`{}` is a reserved name", name.value);
            found.push(
                Diagnostic::error(name.span, message).hint("rename the column, and give it a path"),
            );
        }
        if let Some(column) = column(name, &entry.value, found) {
            if column.name.value == "extra"
                && column.column_type == ColumnType::Json
                && extra.is_none()
                && matches!(entry.value.value, Value::Scalar { .. })
            {
                *extra = Some(column.name.clone());
            }
            columns.push(column);
        }
    }
    columns
}

fn column(name: Spanned<String>, node: &Node, found: &mut Found) -> Option<ColumnField> {
    let plain = |name, column_type| ColumnField {
        name,
        column_type,
        path: None,
        required: false,
        coerce: false,
        timestamp: TimestampForm::Auto,
    };
    if let Value::Scalar { .. } = node.value {
        let written = text(node, &name.value, found)?;
        return Some(plain(name, column_type(&written, found)?));
    }
    let mut fields = Fields::of(node, format!("column `{}`", name.value), found)?;
    let written = fields.required("type", found);
    let path = fields.text("path", found);
    let required = fields.flag("required", found).unwrap_or(false);
    let coerce = fields.flag("coerce", found).unwrap_or(false);
    let units = [("s", "s"), ("ms", "ms"), ("us", "us"), ("ns", "ns")];
    let unit = fields.word("unit", &units, found);
    let format = fields.text("format", found);
    fields.finish(found);
    if let (Some(_), Some(format)) = (&unit, &format) {
        let message = format!("column `{}` has a unit already", name.value);
        found.push(
            Diagnostic::error(format.span, message)
                .hint("numbers have a `unit`, texts a `format`; a column has one of them"),
        );
    }
    let timestamp = match (unit, format) {
        (_, Some(format)) => TimestampForm::Format(format),
        (Some(unit), None) => TimestampForm::Unit(unit.to_owned()),
        (None, None) => TimestampForm::Auto,
    };
    let column_type = column_type(&written?, found)?;
    if timestamp != TimestampForm::Auto && column_type != ColumnType::Timestamp {
        let message = format!(
            "column `{}` is no timestamp: it has neither unit nor format",
            name.value
        );
        found.push(Diagnostic::error(name.span, message));
    }
    Some(ColumnField {
        path,
        required,
        coerce,
        timestamp,
        ..plain(name, column_type)
    })
}

fn column_type(written: &Spanned<String>, found: &mut Found) -> Option<ColumnType> {
    let parsed = written.value.parse();
    if parsed.is_err() {
        let names = [
            "bool",
            "int32",
            "int64",
            "float32",
            "float64",
            "decimal(p,s)",
            "string",
            "binary",
            "date",
            "timestamp",
            "json",
            "list<T>",
        ];
        let message = format!(
            "there is no type `{}`; there are {}",
            written.value,
            names.join(", ")
        );
        found.push(Diagnostic::error(written.span, message).nearest(&written.value, names));
    }
    parsed.ok()
}

fn event_time(
    node: &Node,
    schema: &[ColumnField],
    metadata: &[(Spanned<String>, Spanned<String>)],
    found: &mut Found,
) -> Option<EventTime> {
    let mut fields = Fields::of(node, "`event_time`", found)?;
    let column = fields.required("column", found);
    let out_of_order_ms = fields.duration("out_of_order", found).unwrap_or(0);
    let idle_after_ms = fields.duration("idle_after", found);
    let ahead = |text: &str| match text {
        "off" => Some(MaxAhead::Off),
        text => quantity::duration_ms(text).map(MaxAhead::Ms),
    };
    let max_ahead = fields.parsed("max_ahead", "a duration or off", ahead, found);
    fields.finish(found);
    let column = column?;
    let declared = schema.iter().find(|c| c.name.value == column.value);
    let is_metadata = metadata.iter().any(|(name, _)| name.value == column.value);
    match declared {
        Some(declared) if declared.column_type != ColumnType::Timestamp => {
            let message = format!(
                "`{}` is of type {}, event time is a timestamp",
                column.value, declared.column_type
            );
            found.push(Diagnostic::error(column.span, message));
        }
        None if !is_metadata => {
            let names = schema.iter().map(|c| c.name.value.as_str());
            let message = format!("there is no column `{}`", column.value);
            found.push(Diagnostic::error(column.span, message).nearest(&column.value, names));
        }
        _ => {}
    }
    let max_ahead = max_ahead.unwrap_or(MaxAhead::Default);
    Some(EventTime {
        column,
        out_of_order_ms,
        idle_after_ms,
        max_ahead,
    })
}
