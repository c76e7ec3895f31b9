//! Comma-separated values: the published samples, types, what is refused, and records against a
//! plain parser.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

#[path = "csv/plain.rs"]
mod plain;
#[path = "differential/random.rs"]
mod random;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewArray};
use bytes::Bytes;
use random::{Random, seed};
use thalweg_formats::{
    CsvDecoderFactory, CsvFields, CsvRows, CsvSpec, CsvWriteOptions, DecodeSpec, FieldSpec,
    FormatError, JsonLines, TimestampInput, WriteOptions,
};
use thalweg_stream::{Chunk, Column, Decoded, DecoderFactory, Framing, Quoting, SplitId};

fn column(name: &str, column_type: &str) -> FieldSpec {
    FieldSpec::new(Column::new(name, column_type.parse().expect(column_type)))
}

/// A chunk of lines; with a header where the fields are named by one.
fn chunk(header: Option<&[u8]>, text: &[u8], start: u64) -> Chunk {
    let header =
        header.map(|header| Arc::new(BinaryViewArray::from_iter_values([header])) as ArrayRef);
    Chunk {
        split: SplitId(0),
        start,
        end: start + text.len() as u64,
        bytes: Bytes::copy_from_slice(text),
        framing: Framing::Lines,
        metadata: header.into_iter().map(Some).collect(),
        read_at_ms: 0,
    }
}

fn decode(spec: &DecodeSpec, csv: &CsvSpec, chunk: &Chunk) -> Decoded {
    let factory = CsvDecoderFactory::new(spec, csv).expect("valid");
    let mut out = Decoded::default();
    let mut decoder = factory.build().expect("valid");
    decoder.decode(chunk, &mut out).expect("no fault");
    let rows: usize = out.batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(out.records, (rows + out.dead.len()) as u64);
    for column in out.batches.iter().flat_map(|batch| batch.columns()) {
        column.to_data().validate_full().expect("valid for Arrow");
    }
    out
}

/// Rows as JSON lines, and dead letters.
fn shown(spec: &DecodeSpec, csv: &CsvSpec, chunk: &Chunk) -> (String, Vec<String>) {
    let out = decode(spec, csv, chunk);
    let schema = CsvDecoderFactory::new(spec, csv).expect("valid").schema();
    let writer = JsonLines::new(&schema, WriteOptions::default()).expect("valid");
    let mut text = Vec::new();
    for batch in &out.batches {
        writer.write(batch, &mut text).expect("fits");
    }
    let dead = out.dead.iter().map(|letter| {
        let at = letter.origin.offset();
        format!(
            "{} {} at {at}: {}",
            letter.class.word(),
            letter.code,
            letter.message
        )
    });
    (String::from_utf8(text).expect("UTF-8"), dead.collect())
}

/// What a column makes of a field, or the code of its failure.
fn read(field: &FieldSpec, text: &str) -> String {
    let csv = CsvSpec {
        fields: CsvFields::Named(vec!["v".to_owned(), "rest".to_owned()]),
        ..CsvSpec::default()
    };
    let text = format!("{text},\n");
    for filler in ["", &",\n".repeat(100)] {
        // With and without enough behind it to be read in place.
        let (rows, dead) = shown(
            &DecodeSpec::new(vec![field.clone()]),
            &csv,
            &chunk(None, format!("{text}{filler}").as_bytes(), 7),
        );
        let first = match (dead.first(), rows.lines().next()) {
            (Some(letter), _) if letter.contains(" at 7: ") => {
                letter.split(' ').nth(1).map(|code| format!("!{code}"))
            }
            (_, row) => row.map(|row| row[5..row.len() - 1].to_owned()),
        };
        if !filler.is_empty() {
            return first.expect("a record");
        }
    }
    unreachable!("there is a filler")
}

#[test]
fn fields_are_read_as_the_json_values_they_spell() {
    for case in [
        "int64: 42 => 42",
        "int64: -7 => -7",
        "int64: -0 => 0",
        "int64: \"42\" => 42",
        "int64:  => null",
        "int64: \"\" => !wrong-type",
        "int64: 1.0 => !wrong-type",
        "int64: 007 => !wrong-type",
        "int64:  1 => !wrong-type",
        "int64: 1x => !wrong-type",
        "int64: 9223372036854775808 => !out-of-range",
        "int32: 2147483648 => !out-of-range",
        "float64: 1.5 => 1.5",
        "float64: -0 => -0.0",
        "float64: 1e400 => !out-of-range",
        "float64: NaN => !wrong-type",
        "decimal(5,2): 1.5 => 1.50",
        "decimal(5,2): 1.005 => !inexact",
        "bool: true => true",
        "bool: FALSE => false",
        "bool: 1 => !wrong-type",
        "string: 42 => \"42\"",
        "string:  => null",
        "string: \"\" => \"\"",
        "string: a b => \"a b\"",
        "string: \"a, \"\"b\"\"\n\" => \"a, \\\"b\\\"\\n\"",
        "date: 2024-02-29 => \"2024-02-29\"",
        "date: 2023-02-29 => !bad-format",
        "timestamp: 1767225600123 => \"2026-01-01T00:00:00.123Z\"",
        "timestamp: 2026-01-01T01:00:00+01:00 => \"2026-01-01T00:00:00.000Z\"",
        "timestamp: 2026-01-01 00:00:00 => !bad-format",
        "binary: AAEC/w== => \"AAEC/w==\"",
        "json: \"{\"\"a\"\": [1]}\" => {\"a\": [1]}",
        "json: 1.50 => 1.50",
        "json: {a => !bad-format",
        "json: null => null",
        "list<int64>: \" [1, 2]\" => [1,2]",
        "list<int64>: \"[1.5]\" => !wrong-type",
        "list<string>: \"[\"\"a string beyond twelve bytes\"\"]\" => [\"a string beyond twelve bytes\"]",
        "list<int64>: 1 => !wrong-type",
    ] {
        let (kind, rest) = case.split_once(": ").expect(case);
        let (text, expected) = rest.rsplit_once(" => ").expect(case);
        assert_eq!(read(&column("v", kind), text), expected, "{case}");
    }
    let coerced = |kind: &str, text: &str| {
        let mut field = column("v", kind);
        field.coerce = true;
        read(&field, text)
    };
    assert_eq!(coerced("int64", "1.0"), "1");
    assert_eq!(coerced("int64", "one"), "!bad-format");
    assert_eq!(
        coerced("timestamp", "2026-01-01 00:00:00"),
        "\"2026-01-01T00:00:00.000Z\""
    );
    let mut field = column("v", "timestamp");
    field.timestamp = TimestampInput::Format("%d/%m/%Y %H:%M".to_owned());
    assert_eq!(
        read(&field, "01/01/2026 00:00"),
        "\"2026-01-01T00:00:00.000Z\""
    );
}

#[test]
fn headers_name_fields_in_any_order() {
    let mut spec = DecodeSpec::new(vec![column("b", "int64"), column("missing", "string")]);
    spec.extra = Some("rest".to_owned());
    let header = b"\xef\xbb\xbfa,\"b\",c d\r\n";
    let text = b"x\"y,1,\r\n\n\"x\"\"y\",2,\nz,3\n\"a\"b,4,5\n\"open,4,5\n";
    let (rows, dead) = shown(&spec, &CsvSpec::default(), &chunk(Some(header), text, 20));
    assert_eq!(
        rows,
        "{\"b\":1,\"missing\":null,\"rest\":{\"a\":\"x\\\"y\",\"c d\":null}}\n\
         {\"b\":2,\"missing\":null,\"rest\":{\"a\":\"x\\\"y\",\"c d\":null}}\n"
    );
    let expected = [
        "decode ragged at 39: the record has 2 fields, 3 are expected",
        "decode behind-quote at 43: the record has something between a closing quote and the delimiter",
        "decode open-quote at 52: the record has a quote that is never closed",
    ];
    assert_eq!(dead, expected);
    let wrong = chunk(Some(b"b,a,b\n"), b"1,2,3\n", 6);
    let (_, dead) = shown(&spec, &CsvSpec::default(), &wrong);
    assert_eq!(dead, ["decode bad-header at 6: field \"b\" is there twice"]);
    let mut required = column("b", "int64");
    required.column.required = true;
    let spec = DecodeSpec::new(vec![required]);
    let (_, dead) = shown(&spec, &CsvSpec::default(), &chunk(Some(b"a"), b"1\n", 2));
    assert_eq!(
        dead,
        ["schema required at 2: column \"b\" is required but null"]
    );
}

#[test]
fn wrong_descriptions_are_refused() {
    let named = |names: &[&str]| CsvSpec {
        fields: CsvFields::Named(names.iter().map(|name| (*name).to_owned()).collect()),
        ..CsvSpec::default()
    };
    let refused = |field: FieldSpec, csv: &CsvSpec| {
        let spec = DecodeSpec::new(vec![field]);
        CsvDecoderFactory::new(&spec, csv)
            .expect_err("wrong")
            .to_string()
    };
    let plain = || column("v", "int64");
    assert!(refused(plain(), &named(&["a"])).contains("not among the columns"));
    assert!(refused(plain(), &named(&["v", "v"])).contains("twice"));
    let mut deep = plain();
    deep.path = vec!["a".to_owned(), "b".to_owned()];
    assert!(refused(deep, &CsvSpec::default()).contains("no parts"));
    for (delimiter, quote) in [(b'1', b'"'), (b'"', b'"'), (b',', b'\n'), (0xe4, b'"')] {
        let csv = CsvSpec {
            quoting: Quoting {
                delimiter,
                quote: Some(quote),
            },
            ..CsvSpec::default()
        };
        let spec = DecodeSpec::new(vec![plain()]);
        let error = CsvDecoderFactory::new(&spec, &csv).expect_err("wrong");
        assert_eq!(error, FormatError::Quoting);
    }
}

/// The samples of csv-spectrum: each file, all fields as strings, is the JSON beside it.
#[test]
fn the_spectrum_is_read_as_it_asks() {
    let shared = std::env::var_os("THALWEG_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/csv-spectrum");
    let Ok(entries) = std::fs::read_dir(folder.join("csvs")) else {
        let why = format!("no {}", folder.display());
        assert!(std::env::var_os("THALWEG_NO_SKIPS").is_none(), "{why}");
        println!("skipped: {why}");
        return;
    };
    let mut samples = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        let stem = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read(&path).expect("readable");
        let expected = std::fs::read(folder.join(format!("json/{stem}.json"))).expect("its JSON");
        // A single row stands for a list of one.
        let expected: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
        let expected = match expected {
            serde_json::Value::Array(rows) => rows,
            row => vec![row],
        };
        let expected: Vec<serde_json::Map<String, serde_json::Value>> = (expected.into_iter())
            .map(|row| serde_json::from_value(row).expect("an object"))
            .collect();
        let end = thalweg_stream::RecordEnds::new(CsvSpec::default().quoting, 0).next(&text);
        let (header, rest) = text.split_at(end.unwrap_or(text.len()));
        let fields = expected[0].keys().map(|name| {
            let mut field = column(&format!("c {name}"), "string");
            field.path = vec![name.clone()];
            field
        });
        let spec = DecodeSpec::new(fields.collect());
        let chunk = chunk(Some(header), rest, header.len() as u64);
        let (rows, dead) = shown(&spec, &CsvSpec::default(), &chunk);
        assert_eq!(dead, Vec::<String>::new(), "{stem}");
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = (rows.lines())
            .map(|row| serde_json::from_str(row).expect("JSON"))
            .collect();
        assert_eq!(rows.len(), expected.len(), "{stem}");
        for (row, expected) in rows.iter().zip(&expected) {
            for (name, value) in expected {
                // One sample's JSON has another telephone number than its CSV.
                if name == "Contact Phone Number" {
                    continue;
                }
                // Empty without quotes is null.
                let found = row[&format!("c {name}")].as_str().unwrap_or_default();
                let mut value = value.as_str().expect("a string").to_owned();
                if !text.contains(&b'\r') {
                    // The line ends of a sample may have been changed on its way.
                    value = value.replace("\r\n", "\n");
                }
                assert_eq!(found, value, "{stem}: {name}");
            }
        }
        samples += 1;
    }
    assert!(samples >= 12, "{samples}");
}

#[test]
fn half_a_million_records_agree_with_a_plain_parser() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut seen, mut rows) = (0, 0);
    while seen < 500_000 {
        let case = plain::Case::random(&mut random);
        let spec = case.spec(None);
        let some = case.spec(Some(&mut random));
        for _ in 0..20 {
            let text = case.text(&mut random, 60);
            let chunk = chunk(case.header(), &text, 1_000);
            let expected = case.records(&text);
            for spec in [&spec, &some] {
                let out = decode(spec, &case.csv, &chunk);
                let accepted = plain::compare(&case, spec, &expected, &out, seed, &text);
                rows += accepted;
            }
            seen += expected.len();
        }
    }
    println!("{seen} records, {} of them rows", rows / 2);
    assert!(
        rows / 2 * 10 > seen * 3 && rows / 2 * 10 < seen * 9,
        "{rows}"
    );
}

#[test]
fn what_is_written_reads_back() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..300 {
        let case = plain::Case::random(&mut random);
        let spec = case.spec(None);
        let text = case.text(&mut random, 40);
        let out = decode(&spec, &case.csv, &chunk(case.header(), &text, 1_000));
        let schema = CsvDecoderFactory::new(&spec, &case.csv)
            .expect("valid")
            .schema();
        let options = CsvWriteOptions {
            delimiter: *random.pick(b",;\t|: "),
            quote: *random.pick(b"\"'"),
            header: true,
        };
        let nulls = out.batches.iter().map(|batch| batch.column(0).null_count());
        if schema.columns.len() == 1 && nulls.sum::<usize>() > 0 {
            // A line of nothing but null would be empty, and is written as an empty string.
            continue;
        }
        let mut writer = CsvRows::new(&schema, WriteOptions::default(), options).expect("valid");
        let (mut header, mut written) = (Vec::new(), Vec::new());
        writer.header(&mut header);
        for batch in &out.batches {
            writer.write(batch, &mut written).expect("fits");
        }
        let csv = CsvSpec {
            quoting: Quoting {
                delimiter: options.delimiter,
                quote: Some(options.quote),
            },
            ..CsvSpec::default()
        };
        // Columns have their own names now, and null is an empty field.
        let fields = schema.columns.iter().cloned().map(FieldSpec::new);
        let spec = DecodeSpec::new(fields.collect());
        let again = decode(&spec, &csv, &chunk(Some(&header), &written, 1_000));
        let shown = String::from_utf8_lossy(&written);
        assert!(
            again.dead.is_empty(),
            "THALWEG_SEED={seed}\n{:?}\n{shown}",
            again.dead
        );
        let values = |out: &Decoded| {
            let writer = JsonLines::new(&schema, WriteOptions::default()).expect("valid");
            let mut text = Vec::new();
            for batch in &out.batches {
                writer.write(batch, &mut text).expect("fits");
            }
            String::from_utf8(text).expect("UTF-8")
        };
        assert_eq!(values(&again), values(&out), "THALWEG_SEED={seed}\n{shown}");
    }
}
