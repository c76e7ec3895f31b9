//! The scanner against `serde_json`, value by value.

use super::{Cursor, DEPTH_MAX, Token, is_json, pad, unescape};

/// Passes `text` as one value and compares acceptance and content with `serde_json`.
fn check(text: &[u8]) {
    let expected: Option<serde_json::Value> = serde_json::from_slice(text).ok();
    let utf8 = std::str::from_utf8(text).is_ok();
    let shown = String::from_utf8_lossy(text);
    assert_eq!(is_json(text, 0) && utf8, expected.is_some(), "{shown}");
    let Some(expected) = expected else { return };
    let mut padded = Vec::new();
    pad(text, &mut padded);
    let mut cursor = Cursor::over_padded(&padded).expect("padded");
    cursor.space();
    match (cursor.token(0).expect("accepted above"), expected) {
        (Token::Null, serde_json::Value::Null)
        | (Token::Array, serde_json::Value::Array(_))
        | (Token::Object, serde_json::Value::Object(_)) => {}
        (Token::Bool(got), serde_json::Value::Bool(want)) => assert_eq!(got, want),
        (Token::Number(got), serde_json::Value::Number(want)) => {
            // The one number that is an integer here and a float there.
            let want_int64 = if text == b"-0" {
                Some(0)
            } else {
                want.as_i64()
            };
            assert_eq!(got.int64(), want_int64, "{shown}");
            let float = want.as_f64().expect("finite");
            assert_eq!(got.float64(text).to_bits(), float.to_bits(), "{shown}");
            if let Ok(single) = serde_json::from_slice::<f32>(text) {
                assert_eq!(got.float32(text), single, "{shown}");
            }
        }
        (Token::String(got), serde_json::Value::String(want)) => {
            let mut out = Vec::new();
            unescape(&text[got.start..got.end], &mut out);
            assert_eq!(out, want.as_bytes(), "{shown}");
            assert_eq!(got.escaped, text[got.start..got.end].contains(&b'\\'));
            assert!(cursor.non_ascii || text.is_ascii());
        }
        (token, want) => panic!("{shown}: {token:?} for {want}"),
    }
}

#[test]
fn numbers_are_read_as_serde_json_reads_them() {
    for text in [
        "0",
        "-0",
        "00",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e3",
        "1e",
        "1e+",
        "0.5",
        "-0.0",
        "1e3",
        "1E+3",
        "12345678",
        "123456789",
        "1234567812345678",
        "12345678123456789",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e308",
        "1e309",
        "-1e309",
        "10e307",
        "0e400",
        "0.0e99999999999",
        "1e-400",
        "1e-99999999999",
        "4.9e-324",
        "2.2250738585072011e-308",
        "0.1",
        "0.3",
        "21.37",
        "9007199254740993",
        "9007199254740992",
        "9007199254740993.0",
        "5e-324",
        "123456789012345678901234567890e-20",
        "1e22",
        "1e23",
        "8.5e22",
        "0.000000000000000000000000000000000001",
        "1a",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e5.5",
        "1 2",
        "16777217",
        "0.1e1",
        "3.4028236e38",
    ] {
        check(text.as_bytes());
    }
    for digits in 1..400 {
        check("9".repeat(digits).as_bytes());
        check(format!("0.{}", "1".repeat(digits)).as_bytes());
        check(format!("0.{}1e{digits}", "0".repeat(digits)).as_bytes());
        check(format!("1{}e-{digits}", "0".repeat(digits)).as_bytes());
        check(
            format!(
                "-{}.{}",
                "7".repeat(digits / 8 + 1),
                "3".repeat(digits / 16 + 1)
            )
            .as_bytes(),
        );
    }
}

#[test]
fn strings_are_read_as_serde_json_reads_them() {
    for inner in [
        "",
        "a",
        "\u{7f}",
        "é",
        "𝄞",
        r#"\""#,
        r"\\",
        r"\/",
        r"\b\f\n\r\t",
        r"\a",
        r"\u0041",
        r"\u00e9",
        r"\uD834\uDD1E",
        r"\ud834\udd1e",
        r"\uD834",
        r"\uD834x",
        r"\uD834\n",
        r"\uD834\u0041",
        r"\uDD1E",
        r"\uDD1E\uD834",
        r"\uD834\uD834",
        r"\u12",
        r"\u12G4",
        r"\u+123",
        "\\",
        "\t",
        "\n",
        "\0",
        "\\u0000",
        r"\U0041",
        "\u{feff}",
    ] {
        for padding in 0..40 {
            let pad = "x".repeat(padding);
            check(format!("\"{pad}{inner}\"").as_bytes());
            check(format!("\"{pad}{inner}{pad}\"").as_bytes());
            check(format!("\"{pad}{inner}").as_bytes());
        }
    }
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc3\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
    ] {
        check(bytes);
    }
}

#[test]
fn containers_are_read_as_serde_json_reads_them() {
    for text in [
        "{}",
        "[]",
        "[ ]",
        "{ }",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\":1,}",
        "{\"a\" : [ {} , [] ] }",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{1:1}",
        "[}",
        "{]",
        "[[]",
        "[]]",
        "{}{}",
        "",
        " ",
        "nul",
        "nulll",
        "true",
        "false",
        "truefalse",
        "tru",
        "[true,false,null]",
        "\u{feff}1",
        "[1]x",
        "[\"\\x\"]",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "[\n1\r\n]\t",
        "\u{a0}1",
        "[1\u{c}]",
        "[\"a\"b]",
        "{\"\\uD800\":1}",
        "[1e999]",
        "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":[]}",
    ] {
        check(text.as_bytes());
    }
}

#[test]
fn nesting_ends_where_serde_json_ends_it() {
    for depth in [1, 2, 126, 127, 128, 129, 1000] {
        check(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
        check(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)).as_bytes());
        let mixed = format!("{}{}", "[{\"a\":".repeat(depth), "1");
        check(format!("{mixed}{}", "}]".repeat(depth)).as_bytes());
    }
    let deepest = "[".repeat(DEPTH_MAX as usize) + &"]".repeat(DEPTH_MAX as usize);
    assert!(is_json(deepest.as_bytes(), 0));
    assert!(!is_json(deepest.as_bytes(), 1));
}
