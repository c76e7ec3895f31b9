//! Decodes one record and shows what became of it.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;

use bytes::Bytes;
use thalweg_formats::{
    DecodeSpec, FieldSpec, JsonDecoderFactory, JsonLines, SystemColumn, WriteOptions,
};
use thalweg_stream::{
    Chunk, Column, ColumnType, Decoded, Decoder, DecoderFactory, Framing, SplitId,
};

/// A nullable column read from the field of its name.
pub(crate) fn column(name: &str, column_type: ColumnType) -> FieldSpec {
    FieldSpec::new(Column::new(name, column_type))
}

/// The type that a definition calls `name`.
pub(crate) fn kind(name: &str) -> ColumnType {
    name.parse().expect(name)
}

/// A nullable column read from a path.
pub(crate) fn at(name: &str, column_type: &str, path: &[&str]) -> FieldSpec {
    FieldSpec {
        path: path.iter().map(|s| (*s).to_owned()).collect(),
        ..column(name, kind(column_type))
    }
}

/// A chunk of lines.
pub(crate) fn lines(text: impl AsRef<[u8]>) -> Chunk {
    let bytes = Bytes::copy_from_slice(text.as_ref());
    Chunk {
        split: SplitId(3),
        start: 0,
        end: bytes.len() as u64,
        bytes,
        framing: Framing::Lines,
        metadata: Vec::new(),
        read_at_ms: 0,
    }
}

/// A chunk of records one right behind the other, with offsets from 100 on.
pub(crate) fn records(records: &[&[u8]]) -> Chunk {
    let mut ranges = Vec::new();
    let mut bytes = Vec::new();
    for record in records {
        let start = u32::try_from(bytes.len()).expect("short");
        bytes.extend_from_slice(record);
        ranges.push((start, u32::try_from(bytes.len()).expect("short")));
    }
    Chunk {
        framing: Framing::Records {
            offsets: (100..100 + records.len() as u64).collect(),
            ranges,
        },
        start: 100,
        end: 100 + records.len() as u64,
        ..lines(bytes)
    }
}

/// A decoder and a writer for what it gives.
pub(crate) struct Harness {
    decoder: Box<dyn Decoder>,
    writer: JsonLines,
}

impl Harness {
    pub(crate) fn new(spec: &DecodeSpec) -> Self {
        let factory = JsonDecoderFactory::new(spec).expect("valid");
        let schema = factory.schema();
        let mut options = WriteOptions::default();
        if schema.timed {
            options.include = vec![SystemColumn::EventTime];
        }
        Self {
            decoder: factory.build().expect("valid"),
            writer: JsonLines::new(&schema, options).expect("valid"),
        }
    }

    /// The rows and the dead letters of a chunk, as text.
    pub(crate) fn decode(&mut self, chunk: &Chunk) -> (Vec<String>, Vec<String>) {
        let out = self.decoded(chunk);
        let mut text = Vec::new();
        for batch in &out.batches {
            self.writer.write(batch, &mut text).expect("fits");
        }
        let text = String::from_utf8(text).expect("UTF-8");
        let dead = (out.dead.iter())
            .map(|d| {
                format!(
                    "{} {} {:?}: {}",
                    d.class.word(),
                    d.code,
                    d.origin,
                    d.message
                )
            })
            .collect();
        (text.lines().map(str::to_owned).collect(), dead)
    }

    pub(crate) fn decoded(&mut self, chunk: &Chunk) -> Decoded {
        let mut out = Decoded::default();
        self.decoder.decode(chunk, &mut out).expect("no fault");
        let rows: usize = out.batches.iter().map(|b| b.num_rows()).sum();
        assert_eq!(out.records, (rows + out.dead.len()) as u64);
        out
    }

    /// The row that a record becomes, or the class and code of its failure.
    pub(crate) fn record(&mut self, record: &[u8]) -> Result<String, String> {
        let chunk = Chunk {
            framing: Framing::Records {
                ranges: vec![(0, u32::try_from(record.len()).expect("short"))],
                offsets: vec![0],
            },
            ..lines(record)
        };
        self.only(&chunk)
    }

    /// The same for the only record of a chunk.
    pub(crate) fn only(&mut self, chunk: &Chunk) -> Result<String, String> {
        let out = self.decoded(chunk);
        assert_eq!(out.records, 1);
        match (out.batches.as_slice(), out.dead.as_slice()) {
            ([batch], []) => {
                let rows = self.writer.prepare(batch).expect("fits");
                let mut text = Vec::new();
                rows.write(0, &mut text);
                Ok(String::from_utf8(text).expect("UTF-8"))
            }
            ([], [dead]) => Err(format!("{} {}", dead.class.word(), dead.code)),
            _ => panic!("one record became {out:?}"),
        }
    }
}

/// Metadata of `Int64`.
pub(crate) fn int64s(values: impl IntoIterator<Item = i64>) -> arrow::array::ArrayRef {
    Arc::new(arrow::array::Int64Array::from_iter_values(values))
}
