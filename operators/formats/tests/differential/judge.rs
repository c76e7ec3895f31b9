//! Decodes chunks in several ways and holds what comes out against the model.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType, UInt64Type};
use thalweg_formats::{DecodeSpec, JsonDecoderFactory};
use thalweg_stream::{
    Chunk, ColumnType, DeadClass, Decoded, Decoder, DecoderFactory, Framing, Origin,
};

use crate::model::{Expected, Model, Outcome};
use crate::random::Random;

/// The column for unknown fields.
const EXTRA: &str = "rest";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Judges what becomes of the records of one model.
pub(crate) struct Judge<'a> {
    model: &'a Model,
    seed: u64,
    columns: Vec<(&'a str, &'a ColumnType)>,
    /// All columns, in batches of any size.
    all: Reading,
    /// Some columns.
    some: Reading,
}

/// A way to decode, and a decoder that has decoded before.
struct Reading {
    what: &'static str,
    factory: JsonDecoderFactory,
    decoder: Box<dyn Decoder>,
    /// Of each column, where it is in the batches.
    places: Vec<Option<usize>>,
}

impl Reading {
    fn new(what: &'static str, spec: &DecodeSpec, columns: &[(&str, &ColumnType)]) -> Self {
        let factory = JsonDecoderFactory::new(spec).expect("valid");
        let schema = factory.schema();
        let place = |(name, _): &(&str, &ColumnType)| schema.column(name);
        Self {
            what,
            decoder: factory.build().expect("valid"),
            places: columns.iter().map(place).collect(),
            factory,
        }
    }

    /// Decodes a chunk; thoroughly, it does so twice: with a decoder that has seen nothing as well.
    fn decode(&mut self, chunk: &Chunk, thoroughly: bool) -> Decoded {
        let mut out = Decoded::default();
        self.decoder.decode(chunk, &mut out).expect("no fault");
        if thoroughly {
            let mut fresh = Decoded::default();
            let mut decoder = self.factory.build().expect("valid");
            decoder.decode(chunk, &mut fresh).expect("no fault");
            assert_eq!(out.batches, fresh.batches);
            for column in out.batches.iter().flat_map(RecordBatch::columns) {
                column.to_data().validate_full().expect("valid for Arrow");
            }
        }
        out
    }
}

impl<'a> Judge<'a> {
    /// A judge who decodes with all columns, and with some of them.
    pub(crate) fn new(model: &'a Model, random: &mut Random, seed: u64) -> Self {
        let fields = model.fields.iter();
        let fields = fields.map(|f| (&*f.column.name, &f.column.column_type));
        let extra = model.extra.then_some((EXTRA, &ColumnType::Json));
        let columns: Vec<(&str, &ColumnType)> = fields.chain(extra).collect();
        let mut spec = DecodeSpec::new(model.fields.clone());
        spec.extra = model.extra.then(|| EXTRA.to_owned());
        spec.batch_rows_max = random.below(200) as usize + 1;
        let all = Reading::new("all", &spec, &columns);
        let names = columns.iter().map(|(name, _)| (*name).to_owned());
        spec.project = Some(names.filter(|_| random.chance(50)).collect());
        spec.batch_rows_max = 200;
        let some = Reading::new("some", &spec, &columns);
        Self {
            model,
            seed,
            columns,
            all,
            some,
        }
    }

    /// Compares what becomes of a chunk with what must; how many records there were, and how many
    /// of them became rows.
    pub(crate) fn check(&mut self, chunk: &Chunk, thoroughly: bool) -> (usize, usize) {
        let all = self.all.decode(chunk, thoroughly);
        let some = self.some.decode(chunk, thoroughly);
        let readings = [(&self.all, Rows::new(&all)), (&self.some, Rows::new(&some))];
        let (mut rows, mut dead) = (0, 0);
        let records = records(chunk);
        for (offset, record) in &records {
            let shown = || self.shown(record);
            match self.model.outcome(record) {
                Outcome::Row(values) => {
                    for (reading, rows_of) in &readings {
                        self.is_row(reading, rows_of.at.get(rows), *offset, record, &values);
                    }
                    rows += 1;
                }
                outcome @ (Outcome::Decode | Outcome::Schema(_)) => {
                    for decoded in [&all, &some] {
                        let letter = decoded.dead.get(dead);
                        let letter = letter.filter(|l| l.origin.offset() == *offset);
                        let Some(letter) = letter else {
                            panic!("accepted, should be {outcome:?}\n{}", shown());
                        };
                        let (class, named) = match &outcome {
                            Outcome::Schema(column) => {
                                let named = format!("column {column:?} ");
                                (DeadClass::Schema, letter.message.contains(&named))
                            }
                            Outcome::Decode | Outcome::Row(_) => (DeadClass::Decode, true),
                        };
                        assert!(letter.class == class && named, "{letter:?}\n{}", shown());
                    }
                    dead += 1;
                }
            }
        }
        for decoded in [&all, &some] {
            let seen = (decoded.records, decoded.dead.len());
            let expected = (records.len() as u64, dead);
            assert_eq!(seen, expected, "THALWEG_SEED={}", self.seed);
        }
        (records.len(), rows)
    }

    fn is_row(
        &self,
        reading: &Reading,
        row: Option<&(&RecordBatch, usize)>,
        offset: u64,
        record: &[u8],
        values: &[Expected],
    ) {
        let (what, shown) = (reading.what, || self.shown(record));
        let Some((batch, row)) = row else {
            panic!("not accepted ({what})\n{}", shown());
        };
        let origins = batch.columns().last().expect("origins");
        let got = Origin(origins.as_primitive::<UInt64Type>().value(*row)).offset();
        assert!(
            got == offset,
            "{got} was accepted, not {offset} ({what})\n{}",
            shown()
        );
        for (((name, kind), expected), place) in
            (self.columns.iter().zip(values)).zip(&reading.places)
        {
            let Some(place) = place else { continue };
            let column = batch.column(*place);
            assert!(
                is_value(column, *row, expected, kind),
                "column {name} is not {expected:?} ({what}): {column:?}\n{}",
                shown()
            );
        }
    }

    fn shown(&self, record: &[u8]) -> String {
        let columns = self.model.fields.iter().map(|f| {
            let (column, path) = (&f.column, f.path.join("/"));
            format!("{} {} /{path}", column.name, column.column_type)
        });
        let columns: Vec<String> = columns.collect();
        let projected = &self.some.places;
        let text = String::from_utf8_lossy(record);
        let seed = self.seed;
        format!(
            "THALWEG_SEED={seed}\ncolumns {columns:?}\nprojected {projected:?}\nrecord {text}\nbytes {record:?}"
        )
    }
}

/// The records of a chunk with their offsets.
fn records(chunk: &Chunk) -> Vec<(u64, &[u8])> {
    match &chunk.framing {
        Framing::Records { ranges, offsets } => (ranges.iter().zip(offsets))
            .map(|((start, end), offset)| (*offset, &chunk.bytes[*start as usize..*end as usize]))
            .collect(),
        Framing::Lines => {
            let mut at = chunk.start;
            let mut text = &chunk.bytes[..];
            if let Some(rest) = text.strip_prefix(BYTE_ORDER_MARK)
                && chunk.start == 0
            {
                text = rest;
                at += BYTE_ORDER_MARK.len() as u64;
            }
            let mut records = Vec::new();
            for line in text.split(|b| *b == b'\n') {
                let record = line.strip_suffix(b"\r").unwrap_or(line);
                if !record.is_empty() {
                    records.push((at, record));
                }
                at += line.len() as u64 + 1;
            }
            records
        }
    }
}

/// Rows of several batches by number.
struct Rows<'a> {
    at: Vec<(&'a RecordBatch, usize)>,
}

impl<'a> Rows<'a> {
    fn new(decoded: &'a Decoded) -> Self {
        let rows = |batch: &'a RecordBatch| (0..batch.num_rows()).map(move |row| (batch, row));
        Self {
            at: decoded.batches.iter().flat_map(rows).collect(),
        }
    }
}

fn is_value(column: &dyn Array, row: usize, expected: &Expected, kind: &ColumnType) -> bool {
    if column.is_null(row) {
        return matches!(expected, Expected::Null);
    }
    match (expected, kind) {
        (Expected::Bool(value), ColumnType::Bool) => column.as_boolean().value(row) == *value,
        (Expected::Int(value), ColumnType::Int64) => {
            column.as_primitive::<Int64Type>().value(row) == *value
        }
        (Expected::Int(value), ColumnType::Int32) => {
            i64::from(column.as_primitive::<Int32Type>().value(row)) == *value
        }
        (Expected::Int(value), ColumnType::Timestamp) => {
            column.as_primitive::<TimestampMillisecondType>().value(row) == *value
        }
        (Expected::Float(value), ColumnType::Float64) => {
            column.as_primitive::<Float64Type>().value(row).to_bits() == value.to_bits()
        }
        (Expected::String(value), ColumnType::String) => {
            column.as_string_view().value(row) == value
        }
        (Expected::Json(value), ColumnType::Json) => {
            serde_json::from_str::<serde_json::Value>(column.as_string_view().value(row))
                .ok()
                .as_ref()
                == Some(value)
        }
        (Expected::List(items), ColumnType::List(item)) => {
            let list = column.as_list::<i32>().value(row);
            list.len() == items.len()
                && (items.iter().enumerate())
                    .all(|(at, expected)| is_value(&list, at, expected, item))
        }
        _ => false,
    }
}
