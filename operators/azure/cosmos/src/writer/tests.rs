//! Folding, encoding, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt8Array,
    UInt64Array,
};
use thalweg_stream::schema::{DELETE, INSERT, UPDATE};
use thalweg_stream::sink::{Encoded, SinkContext};
use thalweg_stream::{
    Column, ColumnType, Epoch, Generation, Lineage, Sink, SinkWriter, StreamKind, StreamSchema,
};

use proptest::prelude::*;

use crate::row::{StagedRow, read};
use crate::sink::CosmosSink;
use crate::spec::{AccountKey, CosmosSpec, Limits};
use crate::stamp::{Stamp, Verdict, Writer};

/// One row: id, value, event time, offset, change.
type Row<'r> = (&'r str, i64, i64, u64, u8);

fn schema(changes: bool) -> StreamSchema {
    let columns = vec![
        Column::new("device", ColumnType::String),
        Column::new("n", ColumnType::Int64),
    ];
    let mut schema = StreamSchema::append(columns, true);
    if changes {
        schema.kind = StreamKind::Changes { key: vec![0] };
    }
    schema
}

fn batch(schema: &StreamSchema, rows: &[Row<'_>]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Int64Array>()),
        Arc::new(
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.2))
                .with_timezone("UTC"),
        ),
    ];
    if schema.change_at().is_some() {
        columns.push(Arc::new(UInt8Array::from_iter_values(
            rows.iter().map(|r| r.4),
        )));
    }
    columns.push(Arc::new(UInt64Array::from_iter_values(
        rows.iter().map(|r| r.3),
    )));
    RecordBatch::try_new(schema.arrow(), columns).expect("columns of the schema")
}

struct Bench {
    schema: StreamSchema,
    writer: Box<dyn SinkWriter>,
    out: Encoded,
}

impl Bench {
    fn new(changes: bool, adjust: impl FnOnce(&mut CosmosSpec)) -> Self {
        let key = AccountKey::new("a2V5");
        let mut spec = CosmosSpec::new(
            "http://localhost:1/",
            key,
            ["db", "c"],
            ["device", "device"],
        );
        adjust(&mut spec);
        let schema = schema(changes);
        let sink = CosmosSink::new(spec, schema.clone()).expect("it fits");
        let context = SinkContext {
            job: "job".into(),
            sink: "sink".into(),
            lineage: Lineage("0123456789ab".into()),
            generation: Generation(1),
            clock: Arc::new(thalweg_stream::clock::SystemClock::new()),
            state: serde_json::Value::Null,
        };
        let writer = sink.writer(0, &context).expect("a writer");
        Self {
            schema,
            writer,
            out: Encoded::default(),
        }
    }

    fn write(&mut self, rows: &[Row<'_>]) {
        let batch = batch(&self.schema, rows);
        self.writer.write(&batch, &mut self.out).expect("written");
    }

    fn seal(&mut self) -> Vec<Vec<StagedRow>> {
        self.writer.seal(Epoch(1), &mut self.out).expect("sealed");
        assert_eq!(self.writer.buffered_bytes(), 0);
        let objects = std::mem::take(&mut self.out.objects);
        for object in &objects {
            let rows = object.bytes.iter().filter(|&&b| b == b'\n').count();
            assert_eq!(object.rows, rows as u64);
        }
        objects
            .iter()
            .map(|object| read("object", &object.bytes).expect("readable"))
            .collect()
    }
}

fn shown(rows: &[StagedRow]) -> Vec<String> {
    rows.iter()
        .map(|row| {
            let columns = row.columns.as_ref().map_or("deleted", |c| c.get());
            format!("{} {columns}", row.id)
        })
        .collect()
}

#[test]
fn the_newest_row_of_each_document_is_staged_wherever_checkpoints_fall() {
    let mut bench = Bench::new(false, |_| ());
    bench.write(&[
        ("b", 1, 100, 1, 0),
        ("a", 1, 100, 2, 0),
        ("a", 2, 300, 3, 0),
    ]);
    bench.write(&[("a", 3, 200, 9, 0), ("b", 2, 100, 0, 0)]);
    let objects = bench.seal();
    assert_eq!(objects.len(), 1);
    assert_eq!(shown(&objects[0]), ["a {\"n\":2}", "b {\"n\":1}"]);
    assert_eq!(
        (objects[0][0].origin, objects[0][0].event_time),
        (3, Some(300))
    );

    bench.write(&[("a", 4, 250, 10, 0)]);
    let next = bench.seal();
    assert_eq!(
        shown(&next[0]),
        ["a {\"n\":4}"],
        "each checkpoint is folded for itself"
    );
    assert!(
        next[0][0].order < objects[0][0].order,
        "and its order says that it is older"
    );
}

#[test]
fn newest_by_comes_before_event_time() {
    let mut bench = Bench::new(false, |spec| spec.newest_by = Some("n".into()));
    bench.write(&[
        ("a", 5, 100, 1, 0),
        ("a", 4, 200, 2, 0),
        ("a", 5, 150, 0, 0),
    ]);
    let objects = bench.seal();
    assert_eq!(shown(&objects[0]), ["a {\"n\":5}"]);
    assert_eq!(
        objects[0][0].event_time,
        Some(150),
        "then the event time decides"
    );
}

#[test]
fn later_changes_win_and_deletions_are_staged() {
    let mut bench = Bench::new(true, |_| ());
    bench.write(&[
        ("a", 1, 300, 1, INSERT),
        ("b", 1, 300, 1, INSERT),
        ("a", 2, 100, 1, UPDATE),
    ]);
    bench.write(&[("b", 1, 50, 1, DELETE)]);
    assert_eq!(shown(&bench.seal()[0]), ["a {\"n\":2}", "b deleted"]);
}

#[test]
fn memory_stays_bounded_and_objects_small() {
    let mut bench = Bench::new(false, |spec| {
        spec.limits = Limits {
            buffered_bytes_max: 20_000,
            object_bytes_max: 2_000,
            ..Limits::default()
        };
    });
    for round in 0..20 {
        let ids: Vec<String> = (0..30).map(|i| format!("device-{round}-{i}")).collect();
        let rows: Vec<Row<'_>> = ids.iter().map(|id| (id.as_str(), 1, 1, 1, 0)).collect();
        bench.write(&rows);
        assert!(bench.writer.buffered_bytes() <= 20_000);
    }
    let objects = bench.seal();
    assert!(objects.len() > 5);
    assert_eq!(objects.iter().map(Vec::len).sum::<usize>(), 600);
    // Within one hand-out the rows are sorted, so that a partition key lies together.
    assert!(objects[0].is_sorted_by_key(|row| row.id.clone()));
}

#[test]
fn rows_that_can_be_no_document_are_dead_letters() {
    let mut bench = Bench::new(false, |_| ());
    let long = "x".repeat(2000);
    bench.write(&[("", 1, 1, 1, 0), (&long, 1, 1, 2, 0), ("ok/1", 1, 1, 3, 0)]);
    let codes: Vec<_> = bench
        .out
        .dead
        .iter()
        .map(|d| (d.code, d.origin.0))
        .collect();
    assert_eq!(codes, [("id-empty", 1), ("id-too-long", 2)]);
    assert_eq!(shown(&bench.seal()[0]), ["ok~2F1 {\"n\":1}"]);

    let mut bench = Bench::new(false, |spec| spec.partition_key = "n".into());
    bench.write(&[
        ("a", i64::MAX, 1, 1, 0),
        ("a", 7, 1, 2, 0),
        ("a", 8, 1, 3, 0),
    ]);
    assert_eq!(bench.out.dead[0].code, "partition-key");
    let staged = bench.seal();
    assert_eq!(
        shown(&staged[0]).len(),
        2,
        "one id under two partition keys is two documents"
    );
}

#[test]
fn a_document_beyond_the_services_limit_is_a_dead_letter() {
    let mut bench = Bench::new(false, |spec| spec.id = "n".into());
    let large = "y".repeat(2 * 1024 * 1024);
    bench.write(&[(&large, 1, 1, 1, 0), ("small", 2, 1, 2, 0)]);
    assert_eq!(bench.out.dead[0].code, "document-too-large");
    assert_eq!(bench.seal()[0].len(), 1);
}

/// The row a document ends at when these checkpoints are published one after the other.
fn published(checkpoints: &[Vec<Row<'_>>]) -> BTreeMap<String, String> {
    let mut documents: BTreeMap<String, (Stamp, String)> = BTreeMap::new();
    let by = Writer {
        job: "job".into(),
        sink: "sink".into(),
        lineage: "0123456789ab".into(),
        generation: 1,
        started_ms: 0,
    };
    for (epoch, rows) in (1..).zip(checkpoints) {
        // So little memory that a checkpoint is handed out in several parts.
        let mut bench = Bench::new(false, |spec| spec.limits.buffered_bytes_max = 700);
        rows.chunks(3).for_each(|some| bench.write(some));
        for (part, staged) in (0..).zip(bench.seal()) {
            for row in staged {
                let stamp = by.stamp(epoch, part, row.order.clone(), false);
                let columns = row.columns.map(|c| c.get().to_owned()).unwrap_or_default();
                let there = documents.get(&row.id).map(|(stamp, _)| stamp);
                if there.is_none_or(|there| stamp.judge(there) == Verdict::Replace) {
                    documents.insert(row.id, (stamp, columns));
                }
            }
        }
    }
    documents
        .into_iter()
        .map(|(id, (_, columns))| (id, columns))
        .collect()
}

proptest! {
    /// Which rows share a checkpoint, or a part of one, is a matter of time and memory; what the
    /// documents hold in the end is not.
    #[test]
    fn documents_do_not_depend_on_where_checkpoints_fall(
        rows in prop::collection::vec((0_usize..4, 0_i64..6), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let names = ["a", "b", "c", "d"];
        let rows: Vec<Row<'_>> = (0_u64..)
            .zip(&rows)
            .map(|(offset, &(name, at))| (names[name], offset as i64, at, offset, 0))
            .collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
        cuts.sort_unstable();
        let mut checkpoints = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([rows.len()]) {
            checkpoints.push(rows[from..to].to_vec());
            from = to;
        }
        let mut newest: BTreeMap<String, (i64, u64)> = BTreeMap::new();
        for &(name, _, at, offset, _) in &rows {
            let place = newest.entry(name.to_owned()).or_default();
            *place = (at, offset).max(*place);
        }
        let expected: BTreeMap<String, String> = newest
            .into_iter()
            .map(|(name, (_, offset))| (name, format!("{{\"n\":{offset}}}")))
            .collect();
        prop_assert_eq!(published(&checkpoints), expected);
    }
}
