//! What the attribute makes of plain functions, called the way a host does.
#![cfg(target_os = "linux")]

use thalweg_udf::function::{self, Parameter};
use thalweg_udf::{Column, Date, Timestamp};

/// Adds.
/// Twice said.
#[thalweg_udf::scalar]
fn add(a: f64, b: Option<f64>) -> f64 {
    a + b.unwrap_or(0.5)
}

#[thalweg_udf::scalar]
fn greet(name: &str, _times: i32) -> Result<String, String> {
    match name {
        "" => Err("nobody to greet".to_owned()),
        name => Ok(format!("hé {name}")),
    }
}

#[thalweg_udf::scalar]
fn half(value: i64) -> Option<i64> {
    (value % 2 == 0).then_some(value / 2)
}

#[thalweg_udf::scalar]
fn next(
    at: Timestamp,
    day: Date,
    flag: bool,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, std::fmt::Error> {
    let sum = at.0 + i64::from(day.0) + i64::from(flag);
    Ok((!bytes.is_empty()).then(|| [&sum.to_le_bytes()[..], bytes].concat()))
}

#[thalweg_udf::scalar]
fn one() -> i32 {
    1
}

// The names that the attribute's code uses mean nothing else for the function's own.
#[allow(dead_code, reason = "only its name matters")]
struct Result2;
type Column2 = f32;
#[thalweg_udf::scalar]
fn r#match(r#type: Column2) -> Column2 {
    r#type
}

fn column(kind: &str, bytes: Vec<u8>, validity: Option<Vec<u8>>) -> Column {
    Column {
        kind: kind.to_owned(),
        validity,
        offsets: Vec::new(),
        bytes,
    }
}

fn texts(values: &[&str]) -> Column {
    let mut blobs = thalweg_udf::Blobs::with_capacity(values.len());
    values.iter().for_each(|value| blobs.push(value.as_bytes()));
    Column {
        kind: "u".to_owned(),
        validity: None,
        offsets: blobs.offsets,
        bytes: blobs.bytes,
    }
}

fn floats(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn functions_are_described_by_name() {
    let all = function::all();
    let names: Vec<&str> = all.iter().map(|function| function.name).collect();
    assert_eq!(names, ["add", "greet", "half", "match", "next", "one"]);
    let add = all.first().expect("there");
    assert_eq!((add.doc, add.result), ("Adds.\nTwice said.", "g"));
    let parameter = |name, kind| Parameter { name, kind };
    assert_eq!(add.parameters, [parameter("a", "g"), parameter("b", "g")]);
    let next: Vec<&str> = all[4]
        .parameters
        .iter()
        .map(|parameter| parameter.kind)
        .collect();
    assert_eq!(
        (next, all[4].result),
        (vec!["tsm:UTC", "tdD", "b", "z"], "z")
    );
    assert_eq!(all[1].parameters[1], parameter("times", "i"));
    assert_eq!(all[3].parameters[0], parameter("type", "f"));
}

#[test]
fn null_is_a_value_for_an_option_and_a_null_result_for_others() {
    let a = column("g", floats(&[1.0, 2.0, 3.0]), Some(vec![1, 0, 1]));
    let b = column("g", floats(&[10.0, 20.0, 30.0]), Some(vec![1, 1, 0]));
    let returned = function::call("add", &[a, b], 3).expect("called");
    assert_eq!(returned.values.kind, "g");
    assert_eq!(returned.values.validity, Some(vec![1, 0, 1]));
    assert_eq!(returned.values.bytes, floats(&[11.0, 0.0, 3.5]));
    let whole = column("g", floats(&[1.0]), None);
    let returned = function::call("add", &[whole.clone(), whole], 1).expect("called");
    assert_eq!(returned.values.validity, None, "no null, no validity");
}

#[test]
fn errors_are_rows_and_the_others_have_values() {
    let names = texts(&["Ada", "", "Ægir", ""]);
    let times = column("i", vec![0; 16], None);
    let returned = function::call("greet", &[names, times], 4).expect("called");
    assert_eq!(numbers(&returned.values.offsets), [0, 7, 7, 16, 16]);
    assert_eq!(returned.values.bytes, "hé Adahé Ægir".as_bytes());
    assert_eq!(numbers(&returned.failed.rows), [1, 3]);
    assert_eq!(numbers(&returned.failed.messages.offsets), [0, 15, 30]);
    let halves = column(
        "l",
        [2_i64, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
        None,
    );
    let returned = function::call("half", &[halves], 2).expect("called");
    assert_eq!(returned.values.validity, Some(vec![1, 0]));
}

#[test]
fn every_type_crosses() {
    let arguments = [
        column("tsm:UTC", 7_i64.to_le_bytes().to_vec(), None),
        column("tdD", 2_i32.to_le_bytes().to_vec(), None),
        column("b", vec![1], None),
        Column {
            kind: "z".to_owned(),
            ..texts(&["xy"])
        },
    ];
    let returned = function::call("next", &arguments, 1).expect("called");
    assert_eq!(
        returned.values.bytes,
        [&10_i64.to_le_bytes()[..], b"xy"].concat()
    );
    let one = function::call("one", &[], 3).expect("called");
    assert_eq!(numbers(&one.values.bytes), [1, 1, 1]);
    let float = column("f", 1.5_f32.to_le_bytes().to_vec(), None);
    let same = function::call("match", std::slice::from_ref(&float), 1).expect("called");
    assert_eq!(same.values.bytes, float.bytes);
}

#[test]
fn calls_that_are_none_fail_as_a_whole() {
    let short = column("g", floats(&[1.0]), None);
    for (name, arguments) in [
        ("add", vec![short.clone()]),
        ("add", vec![short.clone(), short.clone()]),
        ("sub", vec![]),
    ] {
        let failure = function::call(name, &arguments, 2).expect_err("wrong");
        assert_eq!(failure.row, None);
    }
}
