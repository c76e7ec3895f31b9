//! Expressions as users write them: data in, values, failures and messages out.

mod transform;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::array::{TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type};
use thalweg_stream::Column;
use thalweg_stream::expression::FailedRow;

use super::*;
use crate::parse::DEPTH_MAX;

fn schema() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("deviceId", ColumnType::String),
            Column::new("n", ColumnType::Int64),
            Column::new("speed_kmh", ColumnType::Float64),
        ],
        true,
    )
}

fn batch() -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![Some("a"), Some("bb"), None])),
        Arc::new(Int64Array::from(vec![Some(1), Some(i64::MAX), Some(0)])),
        Arc::new(Float64Array::from(vec![Some(10.5), None, Some(-3.0)])),
        Arc::new(TimestampMillisecondArray::from(vec![0, 1000, 61_000]).with_timezone("UTC")),
        Arc::new(UInt64Array::from(vec![0, 1, 2])),
    ];
    RecordBatch::try_new(schema().arrow(), columns).expect("the columns of the schema")
}

struct Halves;

impl Functions for Halves {
    fn shape(&self, name: &str) -> Option<FunctionShape> {
        let arguments = vec![("of".to_owned(), ColumnType::Float64)];
        (name == "math.half").then_some(FunctionShape {
            arguments,
            result: ColumnType::Float64,
        })
    }
    fn names(&self) -> Vec<String> {
        vec!["math.half".to_owned()]
    }
    fn caller(&self, _: &str) -> Result<Box<dyn FunctionCaller>, Fault> {
        Ok(Box::new(HalfCaller))
    }
}

use thalweg_stream::{Evaluated, Fault};

/// Halves numbers; a negative one is a failure.
struct HalfCaller;

impl FunctionCaller for HalfCaller {
    fn call(&mut self, arguments: &[ArrayRef], rows: usize) -> Result<Evaluated, Fault> {
        let input = arguments[0].as_primitive::<Float64Type>();
        assert_eq!(input.len(), rows);
        let negative = |row: &usize| input.is_valid(*row) && input.value(*row) < 0.0;
        let failed = (0..rows).filter(negative).map(|row| FailedRow {
            row,
            code: "negative",
            message: "below zero".to_owned(),
            plugin: None,
        });
        let values: Float64Array = input.iter().map(|v| v.map(|v| v / 2.0)).collect();
        Ok(Evaluated {
            failed: failed.collect(),
            values: Arc::new(values),
        })
    }
}

fn compiler() -> Compiler {
    Compiler::new(Arc::new(Halves))
}

fn evaluate(text: &str) -> Evaluated {
    let compiled = compiler()
        .compile(text, &schema())
        .expect("a valid expression");
    compiled
        .build()
        .expect("builds")
        .evaluate(&batch())
        .expect("evaluates")
}

fn floats(text: &str) -> Vec<Option<f64>> {
    evaluate(text)
        .values
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

fn integers(text: &str) -> Vec<Option<i64>> {
    evaluate(text)
        .values
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

fn booleans(text: &str) -> Vec<Option<bool>> {
    evaluate(text).values.as_boolean().iter().collect()
}

fn wrong(text: &str) -> ExpressionError {
    compiler()
        .compile(text, &schema())
        .expect_err("a wrong expression")
}

#[test]
fn identifiers_are_taken_as_written_and_types_agree() {
    assert_eq!(booleans("deviceId = 'a'"), [Some(true), Some(false), None]);
    assert_eq!(
        booleans("speed_kmh between 0 and 260 and n >= 0"),
        [Some(true), None, Some(false)]
    );
    assert_eq!(
        floats("speed_kmh * 2 + n * 0"),
        [Some(21.0), None, Some(-6.0)]
    );
    assert_eq!(
        integers("case when n > 5 then 1 else 0 end"),
        [Some(0), Some(1), Some(0)]
    );
    assert_eq!(
        booleans("deviceId in ('a', 'c') or deviceId like 'b%'"),
        [Some(true), Some(true), None]
    );
    assert_eq!(
        integers("coalesce(char_length(deviceId), -1)"),
        [Some(1), Some(2), Some(-1)]
    );
    assert_eq!(
        booleans("event_time >= timestamp '1970-01-01T00:00:01Z'"),
        [Some(false), Some(true), Some(true)]
    );
}

#[test]
fn a_row_that_overflows_fails_alone() {
    let evaluated = evaluate("n + 1");
    assert_eq!(
        evaluated
            .failed
            .iter()
            .map(|f| (f.row, f.code))
            .collect::<Vec<_>>(),
        [(1, "expression")]
    );
    assert!(
        evaluated.failed[0]
            .message
            .to_lowercase()
            .contains("overflow"),
        "{evaluated:?}"
    );
    let values = evaluated.values.as_primitive::<Int64Type>();
    assert_eq!((values.value(0), values.value(2)), (2, 1));
    assert_eq!(
        evaluate("10 / n")
            .failed
            .iter()
            .map(|f| f.row)
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn what_does_not_fit_fails_and_is_never_null() {
    let failing = |text: &str| -> Vec<usize> {
        let evaluated = evaluate(text);
        let rows: Vec<usize> = evaluated.failed.iter().map(|f| f.row).collect();
        assert_eq!(evaluated.values.null_count(), rows.len(), "{text}");
        rows
    };
    let doubled = "arrow_cast(n, 'UInt64') + arrow_cast(n, 'UInt64')";
    assert_eq!(failing(doubled), [1]);
    assert_eq!(failing("to_timestamp_millis(n)"), [1]);
    // The least integer has no negative.
    assert_eq!(failing("-(-n - 1)"), [1]);
    assert_eq!(integers("-n"), [Some(-1), Some(-i64::MAX), Some(0)]);
    assert_eq!(floats("-speed_kmh"), [Some(-10.5), None, Some(3.0)]);
}

#[test]
fn every_function_is_called_or_refused() {
    let compiler = compiler();
    let some = ["n", "'a'", "deviceId", "speed_kmh", "event_time"];
    let mut lists = vec![String::new()];
    for one in some {
        lists.push(one.to_owned());
        for two in some {
            lists.push(format!("{one}, {two}"));
            lists.extend(some.map(|three| format!("{one}, {two}, {three}")));
        }
    }
    let mut called = 0;
    for name in compiler.built_in.keys() {
        for list in &lists {
            if let Ok(compiled) = compiler.compile(&format!("{name}({list})"), &schema()) {
                let instance = compiled.build().expect("builds");
                { instance }.evaluate(&batch()).expect("evaluates");
                called += 1;
            }
        }
    }
    assert!(called > 1000, "{called}");
}

/// Does `walk` on a stack of so many bytes.
fn on_a_stack_of(bytes: usize, walk: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(bytes).spawn(walk);
    thread.expect("a thread").join().expect("deep enough");
}

#[test]
fn an_expression_is_as_deep_as_a_thread_can_walk() {
    // Jobs are planned on a main thread.
    on_a_stack_of(8 << 20, || {
        let chain = |first: &str, more: &str, count| format!("{first}{}", more.repeat(count));
        let deepest = [
            chain("deviceId", " || 'x'", DEPTH_MAX),
            chain("n", " + 0", DEPTH_MAX),
            chain("n > 0", " and n > 0", DEPTH_MAX / 2 - 1),
            format!("{}n{}", "abs(".repeat(40), ")".repeat(40)),
        ];
        for deep in deepest {
            let compiled = compiler().compile(&deep, &schema()).expect("not too deep");
            on_a_stack_of(2 << 20, move || {
                let mut instance = compiled.build().expect("builds");
                instance.evaluate(&batch()).expect("evaluates");
            });
        }
        let half = chain("n", " + 0", 45);
        let nested = |inner: &str| format!("abs(1, {inner}){}", " * 0".repeat(45));
        assert!(wrong(&nested(&half)).message.contains("argument"));
        for deep in [
            chain("n", " + 0", DEPTH_MAX + 1),
            chain("n", "+n", 300_000),
            chain("abs(n", "+n", 300_000) + ")",
            chain("case when n", "+n", 300_000) + " > 0 then 1 end",
            nested(&nested(&half)),
            "(".repeat(400) + "n" + &")".repeat(400),
            chain("", "- ", 5000) + "n",
        ] {
            assert_eq!(
                wrong(&deep).message,
                "more than 100 operators in a row, or about 50 parentheses in one another"
            );
        }
        // What stands side by side is not deep.
        let many: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
        assert_eq!(
            booleans(&format!("n in ({})", many.join(","))),
            [Some(true), Some(false), Some(true)]
        );
        let cases = " when n = 7 then 8".repeat(1000);
        assert_eq!(
            integers(&format!("case{cases} else n end")),
            [Some(1), Some(i64::MAX), Some(0)]
        );
    });
}

#[test]
fn expressions_over_one_schema_share_it() {
    let (compiler, mut other) = (compiler(), schema());
    let seen = |schema: &StreamSchema| compiler.visible(schema).expect("a schema");
    let first = seen(&schema());
    assert!(Arc::ptr_eq(&first, &seen(&schema())));
    other.columns.truncate(1);
    assert_eq!(seen(&other).fields().len(), 2);
    assert_eq!(seen(&schema()).fields().len(), 4);
}

#[test]
fn types_have_the_names_of_columns() {
    assert_eq!(
        integers("cast(speed_kmh as int64) + n * 0"),
        [Some(10), None, Some(-3)]
    );
    assert_eq!(floats("n::float64 * 0"), [Some(0.0), Some(0.0), Some(0.0)]);
    for (text, name) in [
        ("cast(speed_kmh as int32)", "int32"),
        ("cast(n as float32)", "float32"),
        ("cast(deviceId as binary)", "binary"),
        ("cast(n as bool)", "bool"),
        ("cast(n as string)", "string"),
        ("cast(n as decimal(20, 2))", "decimal(20,2)"),
        ("cast('2024-02-29' as date)", "date"),
        ("cast('2024-02-29T00:00:00Z' as timestamp)", "timestamp"),
    ] {
        let compiled = compiler().compile(text, &schema()).expect(text);
        assert_eq!(compiled.column_type().to_string(), name);
    }
}

#[test]
fn functions_from_outside_are_called_and_may_fail_by_row() {
    let evaluated = evaluate("math.half(speed_kmh)");
    assert_eq!(
        evaluated.values.as_primitive::<Float64Type>().value(0),
        5.25
    );
    assert_eq!(
        evaluated
            .failed
            .iter()
            .map(|f| (f.row, f.code))
            .collect::<Vec<_>>(),
        [(2, "negative")]
    );
    // Under a case the call sees only some rows; the failing one is found all the same.
    let evaluated = evaluate("case when n < 1 then math.half(speed_kmh) else 0.0 end");
    assert_eq!(
        evaluated
            .failed
            .iter()
            .map(|f| (f.row, f.code))
            .collect::<Vec<_>>(),
        [(2, "negative")]
    );
}

#[test]
fn errors_name_what_there_is() {
    let error = wrong("speed > 3");
    assert!(
        error.message.contains("there is no column \"speed\""),
        "{error}"
    );
    assert!(error.valid.contains(&"speed_kmh".to_owned()));
    assert!(
        wrong("now() > event_time").message.contains("volatile"),
        "{}",
        wrong("now()")
    );
    assert!(
        wrong("nosuch(n)")
            .message
            .contains("no function \"nosuch\""),
        "{}",
        wrong("nosuch(n)")
    );
    assert!(wrong("sum(n)").message.len() > 10);
    assert_eq!(
        wrong("n is true").message,
        "a value of type Int64 is neither true nor false"
    );
    assert!(wrong("n +").message.starts_with("expected: an expression"));
    assert!(!wrong("row_number() over ()").message.contains("bug report"));
    assert_eq!(
        booleans("concat_ws('-', deviceId, n) = 'a-1'"),
        [Some(true), Some(false), Some(false)]
    );
    let not_here = |text: &str| {
        let message = wrong(text).message;
        let what = message.strip_suffix(" cannot stand in an expression");
        what.unwrap_or_else(|| panic!("{text}: {message}"))
            .to_owned()
    };
    let element = "an element or field of a value (a column with a `path` has it)";
    for (text, what) in [
        ("deviceId[1]", element),
        ("deviceId['a']", element),
        ("deviceId.a", element),
        ("array[1, 2]", "an array literal"),
        ("map {'a': 1}", "a map literal"),
        ("n = $1", "a placeholder"),
        ("sum(n) over ()", "a window function"),
        ("deviceId collate nocase", "COLLATE"),
        ("deviceId regexp 'a'", "RLIKE"),
    ] {
        assert_eq!(not_here(text), what, "{text}");
    }
    for (text, message) in [
        ("ceil(n to hour)", "CEIL with datetime is not supported"),
        (
            "n in (1, 'a')",
            "cannot cast string 'a' to value of Int64 type",
        ),
        // What fails for every row, whatever is in it.
        (
            "date '2020-13-01'",
            "cannot cast string '2020-13-01' to value of Date32 type",
        ),
        ("n + 1 / 0", "divide by zero error"),
        (
            "deviceId:a",
            "binary operator 'Colon' is not supported in the physical expr",
        ),
    ] {
        assert_eq!(wrong(text).message, message, "{text}");
    }
    for text in [
        "n +",
        "(select 1)",
        "n; drop",
        "_origin = 1",
        "deviceId + 1",
        "n as x",
        "",
    ] {
        assert!(!wrong(text).message.is_empty(), "{text}");
    }
    let error = compiler()
        .condition("n + 1", &schema())
        .expect_err("not a condition");
    assert_eq!(error.message, "a condition is bool, this is int64");
}

#[test]
fn aggregates_are_parsed() {
    let parse = |text: &str| compiler().aggregate(text, &schema());
    let call = parse("count(distinct deviceId) filter (where speed_kmh > 0)").expect("valid");
    assert_eq!(call.function, AggregateFunction::CountDistinct);
    assert_eq!(
        call.argument.as_ref().and_then(Compiled::as_column),
        Some("deviceId")
    );
    assert_eq!(call.filter.expect("a filter").columns(), ["speed_kmh"]);
    assert!(parse("count(*)").expect("valid").argument.is_none());
    assert_eq!(
        parse("avg(speed_kmh * 2)").expect("valid").function,
        AggregateFunction::Avg
    );
    for wrong in [
        "sum(*)",
        "sum(distinct n)",
        "n",
        "median(n)",
        "nosuch(n)",
        "sum(n, n)",
        "sum(x)",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

/// Checkpoints know aggregates of expressions by it: another one needs a migration.
#[test]
fn the_fingerprint_of_an_expression_stays_as_it_is() {
    let of = |text| compiler().compile(text, &schema())?.fingerprint();
    for (text, fingerprint) in [
        ("n - (n - CAST(speed_kmh AS BIGINT))", 0x6cb9_ecfc_8d76_1053),
        ("n - n - CAST(speed_kmh AS BIGINT)", 0x6de0_ac2c_86b1_7d44),
        (
            "CASE WHEN upper(deviceId) LIKE 'x%' THEN 1 END",
            0x7213_bdd0_bfb3_5dd5,
        ),
    ] {
        assert_eq!(of(text).expect(text), fingerprint, "{text}");
    }
}
