//! Generated records, and a parser of the plainest kind that says what must become of them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use thalweg_formats::{CsvFields, CsvSpec, DecodeSpec, FieldSpec};
use thalweg_stream::{Column, ColumnType, Decoded, Origin, Quoting};

use crate::random::Random;

/// Names, types and characters.
pub(crate) struct Case {
    pub(crate) csv: CsvSpec,
    names: Vec<String>,
    types: Vec<ColumnType>,
    header: Option<Vec<u8>>,
}

/// A record: where it begins, and its fields (text, and whether it was quoted) if it is one.
pub(crate) type Parsed = (u64, Option<Vec<(Vec<u8>, bool)>>);

impl Case {
    pub(crate) fn random(random: &mut Random) -> Self {
        let delimiter = *random.pick(b",,,;\t|");
        let quote = random.chance(85).then(|| *random.pick(b"\"\"\"'"));
        let names: Vec<String> = (0..random.below(6) + 1).map(|n| format!("n{n}")).collect();
        let kinds = [
            ColumnType::String,
            ColumnType::String,
            ColumnType::Int64,
            ColumnType::Float64,
            ColumnType::Bool,
        ];
        let types = names.iter().map(|_| random.pick(&kinds).clone()).collect();
        let headed = random.chance(50);
        let header = names.join(&*char::from(delimiter).to_string());
        Self {
            csv: CsvSpec {
                quoting: Quoting { delimiter, quote },
                fields: match headed {
                    true => CsvFields::Header,
                    false => CsvFields::Named(names.clone()),
                },
                null_text: (*random.pick(&["", "", "NA"])).to_owned(),
            },
            names,
            types,
            header: headed.then(|| header.into_bytes()),
        }
    }

    pub(crate) fn header(&self) -> Option<&[u8]> {
        self.header.as_deref()
    }

    /// All columns, or some of them.
    pub(crate) fn spec(&self, some: Option<&mut Random>) -> DecodeSpec {
        let fields = self.names.iter().zip(&self.types);
        let fields = fields.map(|(name, kind)| FieldSpec::new(Column::new(&**name, kind.clone())));
        let mut spec = DecodeSpec::new(fields.collect());
        spec.project = some.map(|random| {
            let names = self.names.iter().filter(|_| random.chance(50));
            names.cloned().collect()
        });
        spec.batch_rows_max = 50;
        spec
    }

    /// Records one after the other, some of them damaged.
    pub(crate) fn text(&self, random: &mut Random, records: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let end: &[u8] = if random.chance(30) { b"\r\n" } else { b"\n" };
        for record in 0..records {
            let count = match random.below(40) {
                0 => random.below(8) as usize,
                _ => self.types.len(),
            };
            for at in 0..count {
                if at > 0 {
                    text.push(self.csv.quoting.delimiter);
                }
                self.field(random, self.types.get(at), &mut text);
            }
            if record + 1 < records || random.chance(50) {
                text.extend_from_slice(end);
            }
        }
        for _ in 0..random.below(4) {
            let at = random.below(text.len().max(1) as u64) as usize;
            let byte = *random.pick(b"\"',;\n\r1x\xff");
            match text.get_mut(at) {
                Some(place) if random.chance(50) => *place = byte,
                _ => text.insert(at.min(text.len()), byte),
            }
        }
        text
    }

    fn field(&self, random: &mut Random, kind: Option<&ColumnType>, out: &mut Vec<u8>) {
        let Quoting { delimiter, quote } = self.csv.quoting;
        let mut value = Vec::new();
        match (random.below(20), kind) {
            (0, _) => return out.extend_from_slice(self.csv.null_text.as_bytes()),
            (1..18, Some(ColumnType::Int64)) => {
                let number = random.next() as i64 >> random.below(63);
                value.extend_from_slice(number.to_string().as_bytes());
            }
            (1..18, Some(ColumnType::Float64)) => {
                let number = (random.next() as i64 >> random.below(63)) as f64 / 1024.0;
                value.extend_from_slice(number.to_string().as_bytes());
            }
            (1..18, Some(ColumnType::Bool)) => {
                value.extend_from_slice(
                    random.pick::<&[u8]>(&[b"true", b"False", b"false", b"TRUE"]),
                );
            }
            _ => {
                let pieces: &[&[u8]] = &[
                    b"a",
                    b"xyz",
                    b" ",
                    b"\"",
                    b"'",
                    b",",
                    b";",
                    b"\n",
                    b"\r\n",
                    b"\t",
                    b"1",
                    "é".as_bytes(),
                    b"a longer piece",
                    b"|",
                ];
                for _ in 0..random.below(4) {
                    value.extend_from_slice(random.pick::<&[u8]>(pieces));
                }
            }
        }
        let structural =
            |byte: &u8| *byte == delimiter || Some(*byte) == quote || matches!(byte, b'\n' | b'\r');
        match quote {
            Some(quote) if value.iter().any(structural) || random.chance(20) => {
                out.push(quote);
                for byte in value {
                    out.push(byte);
                    if byte == quote {
                        out.push(quote);
                    }
                }
                out.push(quote);
            }
            _ => out.extend(value.into_iter().filter(|byte| !structural(byte))),
        }
    }

    /// The records of a text, byte by byte.
    pub(crate) fn records(&self, text: &[u8]) -> Vec<Parsed> {
        let Quoting { delimiter, quote } = self.csv.quoting;
        let mut all = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let start = at;
            // Up to the line feed outside of quotes: a quote opens where a field begins.
            let (mut quoted, mut begins) = (false, true);
            while at < text.len() && (quoted || text[at] != b'\n') {
                let byte = text[at];
                if quoted && Some(byte) == quote {
                    if text.get(at + 1).copied() == quote {
                        at += 1;
                    } else {
                        quoted = false;
                    }
                    begins = false;
                } else if !quoted {
                    quoted = begins && Some(byte) == quote;
                    begins = byte == delimiter;
                }
                at += 1;
            }
            let mut record = &text[start..at];
            at += 1;
            record = record.strip_suffix(b"\r").unwrap_or(record);
            if !record.is_empty() {
                all.push((1_000 + start as u64, self.fields(record)));
            }
        }
        all
    }

    /// The fields of a record, if it keeps the grammar.
    fn fields(&self, record: &[u8]) -> Option<Vec<(Vec<u8>, bool)>> {
        let Quoting { delimiter, quote } = self.csv.quoting;
        std::str::from_utf8(record).ok()?;
        let mut fields = Vec::new();
        let mut bytes = record.iter().copied().peekable();
        loop {
            let mut content = Vec::new();
            let quoted = quote.is_some() && bytes.peek().copied() == quote;
            if quoted {
                bytes.next();
                loop {
                    let byte = bytes.next()?;
                    if Some(byte) == quote && bytes.next_if(|next| Some(*next) == quote).is_none() {
                        break;
                    }
                    content.push(byte);
                }
                if bytes.peek().is_some_and(|next| *next != delimiter) {
                    return None;
                }
            } else {
                while let Some(byte) = bytes.next_if(|next| *next != delimiter) {
                    content.push(byte);
                }
            }
            fields.push((content, quoted));
            if bytes.next().is_none() {
                break;
            }
        }
        (fields.len() == self.types.len()).then_some(fields)
    }
}

/// Whether what was decoded is what was expected; how many rows it was.
pub(crate) fn compare(
    case: &Case,
    spec: &DecodeSpec,
    expected: &[Parsed],
    out: &Decoded,
    seed: u64,
    text: &[u8],
) -> usize {
    let told = || {
        let text = String::from_utf8_lossy(text);
        format!(
            "THALWEG_SEED={seed}\n{:?} {:?}\n{text}",
            case.csv, case.types
        )
    };
    let rows = out
        .batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let (mut rows, mut dead, mut accepted) = (rows, out.dead.iter(), 0);
    assert_eq!(out.records as usize, expected.len(), "{}", told());
    for (offset, fields) in expected {
        let values = fields.as_ref().map(|fields| {
            let fields = fields.iter().zip(&case.types);
            let read = fields.map(|((text, quoted), kind)| {
                let null = !quoted && text == case.csv.null_text.as_bytes();
                if null {
                    Some(None)
                } else {
                    value(text, kind).map(Some)
                }
            });
            read.collect::<Option<Vec<Option<Value>>>>()
        });
        let Some(Some(values)) = values else {
            let class = if values.is_none() { "decode" } else { "schema" };
            let letter = dead
                .next()
                .unwrap_or_else(|| panic!("{offset} {class}\n{}", told()));
            let found = (letter.class.word(), letter.origin.offset());
            assert_eq!(found, (class, *offset), "{letter:?}\n{}", told());
            continue;
        };
        let (batch, row) = rows
            .next()
            .unwrap_or_else(|| panic!("no row {offset}\n{}", told()));
        let origins = batch.columns().last().expect("origins");
        let origin = Origin(origins.as_primitive::<UInt64Type>().value(row));
        assert_eq!(origin.offset(), *offset, "{}", told());
        for (name, value) in case.names.iter().zip(&values) {
            let Some(column) = batch.column_by_name(name) else {
                assert!(spec.project.is_some());
                continue;
            };
            let same = match value {
                None => column.is_null(row),
                Some(_) if column.is_null(row) => false,
                Some(Value::Text(text)) => column.as_string_view().value(row) == text,
                Some(Value::Int(int)) => column.as_primitive::<Int64Type>().value(row) == *int,
                Some(Value::Float(bits)) => {
                    column.as_primitive::<Float64Type>().value(row).to_bits() == *bits
                }
                Some(Value::Bool(bool)) => column.as_boolean().value(row) == *bool,
            };
            assert!(same, "{offset} {name}: not {value:?}\n{}", told());
        }
        accepted += 1;
    }
    assert!(rows.next().is_none() && dead.next().is_none(), "{}", told());
    accepted
}

#[derive(Debug)]
enum Value {
    Text(String),
    Int(i64),
    Float(u64),
    Bool(bool),
}

/// What a column has for a text that is not null; nothing if it does not take it.
fn value(text: &[u8], kind: &ColumnType) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    // No white space around it: what serde_json would pass over.
    let json = || {
        let tight = !text.contains(|c: char| c.is_ascii_whitespace());
        serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .filter(|_| tight)
    };
    match kind {
        // A float to serde_json.
        ColumnType::Int64 if text == "-0" => Some(Value::Int(0)),
        ColumnType::Int64 => json()?.as_i64().map(Value::Int),
        ColumnType::Float64 => json()?.as_f64().map(|float| Value::Float(float.to_bits())),
        ColumnType::Bool => text.to_ascii_lowercase().parse().ok().map(Value::Bool),
        _ => Some(Value::Text(text.to_owned())),
    }
}
