//! Sources and tables: connectors and decoders.

use std::sync::Arc;

use thalweg_definition::{Csv, Diagnostic, Format, MaxAhead, Source, SourceKind, TimestampForm};
use thalweg_engine::{Edge, Node, SourceNode};
use thalweg_file::{FileSource, FileSourceOptions, Header, Order, Records};
use thalweg_formats::{
    CsvDecoderFactory, CsvFields, CsvSpec, DecodeSpec, EventTimeSpec, FieldSpec,
    JsonDecoderFactory, TimestampInput, TimestampUnit,
};
use thalweg_generate::{GenerateSource, GenerateSpec, Generator, What};
use thalweg_kafka::KafkaSource;
use thalweg_stream::{Column, ColumnType, DecoderFactory, Quoting};

use crate::{Planning, Stream, kafka, need};

/// How far ahead of the clock rows of an unbounded source may be, unless it says so.
const MAX_AHEAD_MS: i64 = 60_000;

impl Planning<'_> {
    pub(crate) fn sources(&mut self) {
        let definition = self.definition;
        for table in &definition.tables {
            if let Some(stream) = self.source(&table.source, None) {
                self.tables.insert(table.source.name.value.clone(), stream);
            }
        }
        for source in &definition.sources {
            let needed = need::columns(definition, &source.name.value);
            let needed = needed.filter(|_| self.project);
            let project = needed.map(|needed| {
                let schema = source.schema.iter().map(|c| &c.name.value);
                let metadata = source.metadata.iter().map(|(name, _)| &name.value);
                let extra = source.extra.iter().map(|extra| &extra.value);
                schema
                    .chain(metadata)
                    .chain(extra)
                    .filter(|c| needed.contains(*c))
                    .cloned()
                    .collect()
            });
            if let Some(stream) = self.source(source, project) {
                self.streams.insert(source.name.value.clone(), stream);
            }
        }
    }

    fn source(&mut self, source: &Source, project: Option<Vec<String>>) -> Option<Stream> {
        let (metadata, fields) = self.metadata(source);
        let connector = self.connector(source, fields)?;
        if metadata.len() < source.metadata.len() {
            return None;
        }
        let extra = source.extra.as_ref().map(|extra| extra.value.clone());
        let fields: Vec<_> = (source.schema.iter())
            .map(|field| self.field(field))
            .collect();
        let mut whole = true;
        for (field, spec) in source.schema.iter().zip(&fields) {
            if let Err(error) = spec.check() {
                let span = match &field.timestamp {
                    TimestampForm::Format(format) => format.span,
                    TimestampForm::Auto | TimestampForm::Unit(_) => field.name.span,
                };
                self.error(span, error.to_string());
                whole = false;
            }
        }
        if !whole {
            return None;
        }
        let event_time = source.event_time.as_ref().map(|time| EventTimeSpec {
            column: time.column.value.clone(),
            max_ahead_ms: match time.max_ahead {
                MaxAhead::Ms(ms) => i64::try_from(ms).ok(),
                MaxAhead::Default if !connector.bounded() => Some(MAX_AHEAD_MS),
                MaxAhead::Default | MaxAhead::Off => None,
            },
        });
        let spec = DecodeSpec {
            metadata,
            extra,
            event_time,
            project,
            ..DecodeSpec::new(fields)
        };
        let decoder: Result<Arc<dyn DecoderFactory>, _> = match &source.format {
            Format::Json => JsonDecoderFactory::new(&spec).map(|made| Arc::new(made) as _),
            Format::Csv(csv) => CsvDecoderFactory::new(&spec, &separated(source, csv))
                .map(|made| Arc::new(made) as _),
        };
        let decoder = match decoder {
            Ok(decoder) => decoder,
            Err(error) => {
                self.error(source.name.span, error.to_string());
                return None;
            }
        };
        let schema = decoder.schema();
        let time = source.event_time.as_ref();
        let out_of_order_ms = time.map_or(0, |time| time.out_of_order_ms);
        self.nodes.push(Node::Source(SourceNode {
            name: Arc::from(source.name.value.as_str()),
            source: connector,
            decoder,
            out_of_order_ms: i64::try_from(out_of_order_ms).unwrap_or(i64::MAX),
            idle_after_ms: time.and_then(|time| time.idle_after_ms),
            after: Vec::new(),
        }));
        let edge = Edge {
            node: self.nodes.len() - 1,
            port: 0,
        };
        Some(Stream { edge, schema })
    }

    /// The columns made of what the connector knows about a record, and its names for that, without
    /// those that it does not know.
    fn metadata(&mut self, source: &Source) -> (Vec<Column>, Vec<String>) {
        let offered: &[(&str, ColumnType)] = match source.kind {
            SourceKind::File(_) => &thalweg_file::METADATA,
            SourceKind::Kafka(_) => &thalweg_kafka::METADATA,
            SourceKind::Generate(_) => &thalweg_generate::METADATA,
        };
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for (name, field) in &source.metadata {
            match offered.iter().find(|(offered, _)| *offered == field.value) {
                Some((_, column_type)) => {
                    columns.push(Column::new(name.value.as_str(), column_type.clone()));
                    fields.push(field.value.clone());
                }
                None => {
                    let names: Vec<&str> = offered.iter().map(|(name, _)| *name).collect();
                    let message = format!(
                        "this source has no metadata `{}`; it has {}",
                        field.value,
                        names.join(", ")
                    );
                    self.found
                        .push(Diagnostic::error(field.span, message).nearest(&field.value, names));
                }
            }
        }
        (columns, fields)
    }

    fn connector(
        &mut self,
        source: &Source,
        fields: Vec<String>,
    ) -> Option<Arc<dyn thalweg_stream::Source>> {
        let clock = Arc::clone(&self.around.clock);
        let made: Result<Arc<dyn thalweg_stream::Source>, String> = match &source.kind {
            SourceKind::File(file) => {
                let mut options = FileSourceOptions::new(&self.definition.folder, &file.path.value);
                match file.compression.value.parse() {
                    Ok(compression) => options.compression = compression,
                    Err(error) => self.error(file.compression.span, format!("{error}")),
                }
                options.order = if file.by_name {
                    Order::Name
                } else {
                    Order::Time
                };
                if let Format::Csv(csv) = &source.format {
                    options.records = records(source, csv);
                }
                options.follow = file.follow;
                options.metadata = fields;
                FileSource::new(options, clock)
                    .map(|made| Arc::new(made) as _)
                    .map_err(|error| error.to_string())
            }
            SourceKind::Kafka(topic) => {
                let mut options = kafka::options(topic, &self.definition.folder);
                options.metadata = fields;
                let problems = options.problems();
                if !problems.is_empty() {
                    for problem in problems {
                        self.error(kafka::place(topic, source, &problem), problem.to_string());
                    }
                    return None;
                }
                KafkaSource::new(options, clock)
                    .map(|made| Arc::new(made) as _)
                    .map_err(|error| error.to_string())
            }
            SourceKind::Generate(generate) => {
                let what: What = match generate.what.value.parse() {
                    Ok(what) => what,
                    Err(error) => {
                        self.error(generate.what.span, format!("{error}"));
                        return None;
                    }
                };
                let base = GenerateSpec::new(what);
                let spec = GenerateSpec {
                    events: generate.events,
                    rate: generate.rate,
                    devices: generate.devices.unwrap_or(base.devices),
                    seed: generate.seed.unwrap_or(base.seed),
                    late: generate.late.unwrap_or(base.late),
                    duplicates: generate.duplicates.unwrap_or(base.duplicates),
                    corrupt: generate.corrupt.unwrap_or(base.corrupt),
                    splits: generate
                        .splits
                        .and_then(|n| u32::try_from(n).ok())
                        .unwrap_or(base.splits),
                    ..base
                };
                Generator::new(spec)
                    .and_then(|generator| GenerateSource::new(generator, &fields, clock))
                    .map(|made| Arc::new(made) as _)
                    .map_err(|error| error.to_string())
            }
        };
        match made {
            Ok(made) => Some(made),
            Err(message) => {
                self.error(source.name.span, message);
                None
            }
        }
    }

    fn field(&mut self, field: &thalweg_definition::ColumnField) -> FieldSpec {
        let column = Column {
            name: Arc::from(field.name.value.as_str()),
            column_type: field.column_type.clone(),
            required: field.required,
        };
        let mut spec = FieldSpec::new(column);
        spec.coerce = field.coerce;
        spec.timestamp = match &field.timestamp {
            TimestampForm::Auto => TimestampInput::Auto,
            TimestampForm::Unit(unit) => TimestampInput::Unit(match unit.as_str() {
                "s" => TimestampUnit::Seconds,
                "us" => TimestampUnit::Microseconds,
                "ns" => TimestampUnit::Nanoseconds,
                _ => TimestampUnit::Milliseconds,
            }),
            TimestampForm::Format(pattern) => TimestampInput::Format(pattern.value.clone()),
        };
        if let Some(pointer) = &field.path {
            match pointer.value.strip_prefix('/') {
                Some(rest) => {
                    let unescape = |part: &str| part.replace("~1", "/").replace("~0", "~");
                    spec.path = rest.split('/').map(unescape).collect();
                }
                None => {
                    let message = format!(
                        "`path` is a JSON pointer such as /a/b, not `{}`",
                        pointer.value
                    );
                    self.error(pointer.span, message);
                }
            }
        }
        spec
    }
}

/// Whether every file begins with a header.
fn headed(source: &Source, csv: &Csv) -> bool {
    let file = matches!(source.kind, SourceKind::File(_));
    file && csv.header.unwrap_or(csv.columns.is_empty())
}

fn quoting(csv: &Csv) -> Quoting {
    Quoting {
        delimiter: csv.delimiter,
        quote: csv.quote,
    }
}

/// How the records of files lie.
fn records(source: &Source, csv: &Csv) -> Records {
    Records {
        quoting: Some(quoting(csv)),
        header: match (headed(source, csv), csv.columns.is_empty()) {
            (false, _) => Header::None,
            (true, true) => Header::Carried,
            (true, false) => Header::Skipped,
        },
    }
}

/// How comma-separated values are written: without names of fields, they are those of the schema.
fn separated(source: &Source, csv: &Csv) -> CsvSpec {
    let named = csv.columns.iter().map(|name| name.value.clone());
    let of_schema = source.schema.iter().map(|column| column.name.value.clone());
    CsvSpec {
        quoting: quoting(csv),
        fields: match (csv.columns.is_empty(), headed(source, csv)) {
            (false, _) => CsvFields::Named(named.collect()),
            (true, true) => CsvFields::Header,
            (true, false) => CsvFields::Named(of_schema.collect()),
        },
        null_text: csv.null_text.clone(),
    }
}
