//! Tests of the query language.

use crate::kql::{Source, Tabular, parse, run};
use crate::value::{Datum, Kind, parse_time};

fn telemetry() -> Tabular {
    let row = |ts: &str, device: &str, value: Option<f64>, n: i64| {
        vec![
            Datum::Time(parse_time(ts).expect("a time")),
            Datum::Text(device.to_owned()),
            value.map_or(Datum::Null, Datum::Real),
            Datum::Long(n),
            Datum::Dynamic(serde_json::json!({"a": {"b": n}, "tag": device})),
        ]
    };
    Tabular::new(
        &[
            ("ts", Kind::DateTime),
            ("device", Kind::String),
            ("value", Kind::Real),
            ("n", Kind::Int),
            ("extra", Kind::Dynamic),
        ],
        vec![
            row("2024-01-01T00:00:10Z", "alpha one", Some(1.5), 1),
            row("2024-01-01T00:00:50Z", "beta", Some(2.5), 2),
            row("2024-01-01T00:01:05Z", "alpha one", None, 3),
            row("2024-01-01T00:02:00Z", "Gamma", Some(4.0), 4),
        ],
    )
}

/// The visible columns and rows of `telemetry | …`, as text.
fn ask(steps: &str) -> String {
    let answer = parse(&format!("T | {steps}")).and_then(|query| {
        assert_eq!(query.source, Source::Table("T".to_owned()));
        run(&query.source, telemetry(), &query.steps, 0)
    });
    match answer {
        Err(error) => error.to_string(),
        Ok(answer) => {
            let columns: Vec<String> = (answer.columns.iter())
                .map(|c| format!("{}:{}", c.name, c.kind.name()))
                .collect();
            let rows = answer.rows.iter().map(|row| {
                row.iter()
                    .map(|v| v.to_json().to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            format!(
                "{} | {}",
                columns.join(" "),
                rows.collect::<Vec<_>>().join(" / ")
            )
        }
    }
}

/// What follows `T |`, and its answer.
const ANSWERS: &[(&str, &str)] = &[
    ("count", "Count:long | 4"),
    ("where n > 1 and value < 3.0 | count", "Count:long | 1"),
    ("where not(n == 1) | count", "Count:long | 3"),
    ("where device has 'alpha' | count", "Count:long | 2"),
    ("where device has 'alph' | count", "Count:long | 0"),
    (
        "where device contains 'PH' or device =~ 'gamma' | count",
        "Count:long | 3",
    ),
    ("where device !contains 'a' | count", "Count:long | 0"),
    (
        "where device in ('beta', 'Gamma') | count",
        "Count:long | 2",
    ),
    ("where device in~ ('gamma') | count", "Count:long | 1"),
    ("where device !in ('beta') | count", "Count:long | 3"),
    ("where n between (2 .. 3) | count", "Count:long | 2"),
    ("where n !between (2 .. 3) | count", "Count:long | 2"),
    (
        "where ts between (datetime(2024-01-01 00:00:30) .. 1m) | count",
        "Count:long | 2",
    ),
    (
        "where ts >= datetime(2024-01-01T00:01:00Z) | count",
        "Count:long | 2",
    ),
    ("where isnull(value) | project n", "n:int | 3"),
    (
        "where isnotnull(value) and n % 2 == 0 | project x = n * 2 + 1",
        "x:long | 5 / 9",
    ),
    (
        "take 1 | project device, half = n / 2.0",
        "device:string half:real | \"alpha one\" 0.5",
    ),
    ("top 2 by n | project n", "n:int | 4 / 3"),
    (
        "order by device asc, n desc | project n",
        "n:int | 4 / 3 / 1 / 2",
    ),
    ("sort by value asc | project n | take 2", "n:int | 3 / 1"),
    (
        "sort by value desc nulls first | project n | take 2",
        "n:int | 3 / 4",
    ),
    ("extend n = n + 1 | summarize sum(n)", "sum_n:long | 14"),
    (
        "summarize count(), dcount(device), avg(value), min(ts), max(n)",
        "count_:long dcount_device:long avg_value:real min_ts:datetime max_n:int | 4 3 2.6666666666666665 \"2024-01-01T00:00:10Z\" 4",
    ),
    (
        "summarize n = count() by bin(ts, 1m) | order by ts asc",
        "ts:datetime n:long | \"2024-01-01T00:00:00Z\" 2 / \"2024-01-01T00:01:00Z\" 1 / \"2024-01-01T00:02:00Z\" 1",
    ),
    (
        "summarize r = round(avg(value), 1), c = sum(n) / count() by device | where c > 2",
        "device:string r:real c:long | \"Gamma\" 4.0 4",
    ),
    (
        "summarize arg_max(n, *) by d = tolower(device) | project d, n, value | order by n asc",
        "d:string n:int value:real | \"beta\" 2 2.5 / \"alpha one\" 3 null / \"gamma\" 4 4.0",
    ),
    (
        "where n > 99 | summarize count(), sum(n), avg(value)",
        "count_:long sum_n:long avg_value:real | 0 0 null",
    ),
    (
        "where n > 99 | summarize count() by device",
        "device:string count_:long | ",
    ),
    ("distinct device | count", "Count:long | 3"),
    (
        "where extra.a.b == 2 | project extra.tag",
        "extra_tag:dynamic | \"beta\"",
    ),
    (
        "where extra['a']['b'] > 3 | project t = tostring(extra.tag)",
        "t:string | \"Gamma\"",
    ),
    (
        "project lag = ts - datetime(2024-01-01) | take 1",
        "lag:timespan | \"00:00:10\"",
    ),
    (
        "project-away extra, ts, value | where n == 1",
        "device:string n:int | \"alpha one\" 1",
    ),
    (
        "summarize countif(n > 2), make_set(device), percentile(n, 50)",
        "countif_:long set_device:dynamic percentile_n:int | 2 [\"alpha one\",\"beta\",\"Gamma\"] 2",
    ),
    (
        "project s = strcat(device, '-', n), u = iff(n > 1, 'x', 'y') | take 1",
        "s:string u:string | \"alpha one-1\" \"y\"",
    ),
];

#[test]
fn queries_answer() {
    for (steps, expected) in ANSWERS {
        assert_eq!(ask(steps), *expected, "{steps}");
    }
}

#[test]
fn wrong_queries_say_why() {
    for (steps, expected) in [
        (
            "where nope == 1",
            "SEM0100: Failed to resolve column or scalar expression named 'nope'",
        ),
        ("where device == 1", "SEM0100: Cannot apply operator"),
        ("where n", "SEM0100: 'where' operator"),
        ("project nope(n)", "SEM0100: Unknown function: 'nope'"),
        ("summarize sum(device)", "SEM0100: sum()"),
        ("where n ==", "SYN0002: expected an expression"),
        ("render timechart", "SYN0002: operator \"render\""),
        ("take x", "SYN0002: expected a number of rows"),
        ("where device == 'x", "SYN0002: a string does not end"),
        (
            "where ts > datetime(yesterday)",
            "SYN0002: \"yesterday\" is no datetime",
        ),
        ("count count", "SYN0002: unexpected"),
    ] {
        let answer = ask(steps);
        assert!(answer.contains(expected), "{steps}: {answer}");
    }
    let deep = format!("where {}1{} == 1", "(".repeat(200), ")".repeat(200));
    assert!(ask(&deep).contains("nested too deeply"));
}

#[test]
fn print_needs_no_table() {
    let query = parse("print 1 + 1, x = 'a\\'b', now() > ago(1h)").expect("a query");
    let answer = run(&query.source, Tabular::default(), &query.steps, 7).expect("an answer");
    assert_eq!(
        answer.rows.first().map(|row| row.to_vec()),
        Some(vec![
            Datum::Long(2),
            Datum::Text("a'b".to_owned()),
            Datum::Bool(true)
        ])
    );
}
