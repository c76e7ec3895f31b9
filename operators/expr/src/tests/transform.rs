//! Rows and changes through filters and routes.

use arrow::array::UInt8Array;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::schema::{DELETE, INSERT, UPDATE};
use thalweg_stream::{BuildContext, OperatorFactory, Output, StreamKind};

use super::*;

fn context() -> BuildContext {
    BuildContext {
        step: Arc::from("s"),
        worker: 0,
        workers: 1,
        groups: 0..256,
        clock: Arc::new(SystemClock::new()),
    }
}

#[test]
fn rows_go_where_their_conditions_say_and_failing_ones_are_buried() {
    let compiler = compiler();
    let factory = |text: &str| -> Arc<dyn ExpressionFactory> {
        Arc::new(compiler.condition(text, &schema()).expect("a condition"))
    };
    let branches = vec![("high", Some(factory("n + 1 > 1"))), ("rest", None)];
    let route = TransformFactory::route(&schema(), branches);
    let mut out = Output::default();
    route
        .build(&context())
        .expect("builds")
        .on_batch(0, &batch(), &mut out)
        .expect("applies");
    let counts: Vec<_> = out
        .batches
        .iter()
        .map(|(port, b)| (*port, b.num_rows()))
        .collect();
    assert_eq!(counts, [(0, 1), (1, 1)]);
    assert_eq!(
        (out.ledger.passed, out.ledger.dead, out.ledger.filtered),
        (2, 1, 0)
    );
    assert_eq!(out.dead[0].origin.offset(), 1);
}

/// Changes: `n` is the key, `speed_kmh` decides.
#[test]
fn a_change_ends_what_an_output_had_of_its_key() {
    let schema = StreamSchema {
        kind: StreamKind::Changes { key: vec![1] },
        ..schema()
    };
    let kinds = [INSERT, INSERT, UPDATE, UPDATE, DELETE, UPDATE];
    let rows = kinds.len() as u64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["d"; kinds.len()])),
        Arc::new(Int64Array::from(vec![1, 2, 1, 2, 1, i64::MAX])),
        Arc::new(Float64Array::from(vec![9.0, 1.0, 1.0, 8.0, 1.0, 1.0])),
        Arc::new(TimestampMillisecondArray::from(vec![0; kinds.len()]).with_timezone("UTC")),
        Arc::new(UInt8Array::from(kinds.to_vec())),
        Arc::new(UInt64Array::from_iter_values(0..rows)),
    ];
    let batch = RecordBatch::try_new(schema.arrow(), columns).expect("the columns");
    let compiler = compiler();
    let factory = |text: &str| -> Arc<dyn ExpressionFactory> {
        Arc::new(compiler.condition(text, &schema).expect("a condition"))
    };
    let applied = |factory: TransformFactory| {
        let mut out = Output::default();
        let operator = factory.build(&context());
        (operator.expect("builds").on_batch(0, &batch, &mut out)).expect("applies");
        let changes: Vec<Vec<(i64, u8)>> = (out.batches.iter())
            .map(|(_, batch)| {
                let keys = batch.column(1).as_primitive::<Int64Type>();
                let kinds = schema.changes(batch).expect("changes");
                keys.values()
                    .iter()
                    .copied()
                    .zip(kinds.iter().copied())
                    .collect()
            })
            .collect();
        let ledger = out.ledger;
        assert_eq!(ledger.passed + ledger.filtered + ledger.dead, rows);
        (changes, out.dead.len())
    };
    // The last row fails, and ends nothing.
    let fast = || factory("n + 1 > 0 and speed_kmh > 5");
    let kept = vec![(1, INSERT), (1, DELETE), (2, UPDATE), (1, DELETE)];
    let (changes, dead) = applied(TransformFactory::filter(&schema, fast()));
    assert_eq!((changes, dead), (vec![kept.clone()], 1));
    let route = vec![("fast", Some(fast())), ("rest", None)];
    let (changes, _) = applied(TransformFactory::route(&schema, route));
    let rest = vec![(2, INSERT), (1, UPDATE), (2, DELETE), (1, DELETE)];
    assert_eq!(changes, [kept, rest]);
}
