//! Guests that return what is none of the shapes they promised.

use arrow::array::AsArray as _;

use crate::guest::{Column, Data, Guest, returned};
use crate::{call, caller, codes};

/// Rows of every call here.
const ROWS: usize = 2;
const NONE: [[u32; 2]; 3] = [[0, 0]; 3];

/// The message with which a guest's answer is refused.
#[track_caller]
fn refused(
    result: &'static str,
    answer: impl FnOnce(&mut Data) -> (Column, [[u32; 2]; 3]),
) -> String {
    let mut data = Data::new();
    let (column, failed) = answer(&mut data);
    let answer = returned(&mut data, column, failed);
    let component = Guest::new(result, data, format!("i32.const {answer}")).build();
    let mut caller = caller(&component);
    let evaluated = call(&mut caller, &[Some(1.0); ROWS]);
    assert_eq!(
        codes(&evaluated),
        [(0, "plugin-output"), (1, "plugin-output")]
    );
    evaluated.failed[0].message.clone()
}

fn column(data: &mut Data, notation: &str, bytes: &[u8]) -> Column {
    Column {
        notation: data.list(notation.as_bytes()),
        validity: None,
        offsets: [0, 0],
        bytes: data.list(bytes),
    }
}

fn numbers(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn columns_of_another_type_or_length_are_refused() {
    // The answer is made for one row, too, when the rows are called one by one.
    let message = refused("g", |data| (column(data, "l", &[0; 16]), NONE));
    assert_eq!(message, "f: returned a column of type \"l\", not \"g\"");
    for length in [0, 7, 15, 17, 24] {
        let message = refused("g", |data| (column(data, "g", &vec![0; length]), NONE));
        assert_eq!(
            message,
            format!("f: returned {length} bytes of values for 1 rows")
        );
    }
    let validities: [(&[u8], &str); 4] = [
        (&[], "f: returned 0 bytes of validity for 1 rows"),
        (&[1, 1, 1], "f: returned 3 bytes of validity for 1 rows"),
        (&[2], "f: returned a validity that is neither 0 nor 1"),
        (&[255], "f: returned a validity that is neither 0 nor 1"),
    ];
    for (validity, expected) in validities {
        let message = refused("g", |data| {
            let validity = Some(data.list(validity));
            (
                Column {
                    validity,
                    ..column(data, "g", &[0; 8])
                },
                NONE,
            )
        });
        assert_eq!(message, expected);
    }
    let message = refused("g", |data| {
        let offsets = data.list(&[0; 4]);
        (
            Column {
                offsets,
                ..column(data, "g", &[0; 8])
            },
            NONE,
        )
    });
    assert_eq!(message, "f: returned offsets for values of fixed length");
    let message = refused("b", |data| (column(data, "b", &[7]), NONE));
    assert_eq!(message, "f: returned a value that is neither 0 nor 1");
    let message = refused("d:3,1", |data| {
        (column(data, "d:3,1", &1_000_i128.to_le_bytes()), NONE)
    });
    assert_eq!(message, "f: returned a number beyond decimal(3,1)");
}

#[test]
fn text_and_offsets_are_checked() {
    let text = |offsets: &[u32], bytes: &[u8]| {
        let (offsets, bytes) = (numbers(offsets), bytes.to_vec());
        refused("u", move |data| {
            let offsets = data.list(&offsets);
            (
                Column {
                    offsets,
                    ..column(data, "u", &bytes)
                },
                NONE,
            )
        })
    };
    let misfit = "f: returned offsets that do not fit its bytes";
    assert_eq!(text(&[1, 3], b"abc"), misfit, "does not begin at 0");
    assert_eq!(text(&[0, 4], b"abc"), misfit, "ends beyond");
    assert_eq!(text(&[0, 2], b"abc"), misfit, "ends before");
    assert_eq!(text(&[0, u32::MAX], b"abc"), misfit, "wraps");
    assert_eq!(
        text(&[], b"abc"),
        "f: returned 0 bytes of offsets for 1 rows"
    );
    assert_eq!(
        text(&[0, 2, 3, 3], b"abc"),
        "f: returned 16 bytes of offsets for 1 rows"
    );
    for bytes in [
        &b"\xff\xfe"[..],
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
    ] {
        let message = text(&[0, u32::try_from(bytes.len()).expect("few")], bytes);
        assert_eq!(message, "f: returned text that is not UTF-8");
    }
}

#[test]
fn offsets_between_the_bytes_of_a_character_or_backwards_are_refused() {
    let rows = |offsets: &[u32]| {
        let mut data = Data::new();
        let offsets = data.list(&numbers(offsets));
        let column = Column {
            offsets,
            ..column(&mut data, "u", "éé".as_bytes())
        };
        let answer = returned(&mut data, column, NONE);
        let component = Guest::new("u", data, format!("i32.const {answer}")).build();
        let evaluated = call(&mut caller(&component), &[Some(1.0); ROWS]);
        let values = evaluated.values.as_string_view();
        (0..ROWS)
            .map(|row| values.value(row).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&[0, 2, 4]), ["é", "é"]);
    // Both rows are called alone after that, for which there are too many offsets.
    assert_eq!(rows(&[0, 1, 4]), ["", ""]);
    assert_eq!(rows(&[0, 3, 2]), ["", ""]);
}

#[test]
fn buffers_outside_of_the_guest_are_refused() {
    for buffer in [
        [u32::MAX - 8, 8],
        [0, u32::MAX],
        [131_072, 1],
        [131_064, 16],
        [u32::MAX, 2],
    ] {
        for place in 0..3 {
            let message = refused("g", |data| {
                let mut column = column(data, "g", &[0; 8]);
                match place {
                    0 => column.bytes = buffer,
                    1 => column.validity = Some(buffer),
                    _ => column.notation = buffer,
                }
                (column, NONE)
            });
            assert!(
                message.starts_with("f: returned what cannot be read: "),
                "{message}"
            );
        }
    }
    let message = refused("g", |data| {
        let notation = data.list(&[0xff, 0xfe]);
        (
            Column {
                notation,
                ..column(data, "g", &[0; 8])
            },
            NONE,
        )
    });
    assert!(
        message.starts_with("f: returned what cannot be read: "),
        "{message}"
    );
}

#[test]
fn failed_rows_are_checked() {
    let failed = |rows: &[u32], offsets: &[u32], text: &[u8]| {
        let (rows, offsets, text) = (numbers(rows), numbers(offsets), text.to_vec());
        refused("g", move |data| {
            let failed = [data.list(&rows), data.list(&offsets), data.list(&text)];
            (column(data, "g", &[0; 8]), failed)
        })
    };
    let order = "f: returned failed rows that are not in order";
    assert_eq!(failed(&[1], &[0, 1], b"a"), order, "there is no row 1 of 1");
    assert_eq!(failed(&[0, 0], &[0, 1, 1], b"a"), order);
    assert_eq!(failed(&[u32::MAX], &[0, 1], b"a"), order);
    let misfit = "f: returned offsets that do not fit its bytes";
    assert_eq!(failed(&[0], &[0, 9], b"a"), misfit);
    assert_eq!(
        failed(&[0], &[0], b"a"),
        "f: returned 4 bytes of offsets for 1 rows"
    );
    let message = refused("g", |data| {
        let failed = [data.list(&[0; 5]), data.list(&numbers(&[0, 0])), [0, 0]];
        (column(data, "g", &[0; 8]), failed)
    });
    assert_eq!(message, order);
}

#[test]
fn more_than_may_be_returned_is_refused() {
    // 70 MiB in one buffer, within a memory of 128.
    let mut data = Data::new();
    let mut huge = column(&mut data, "g", &[]);
    huge.bytes = [0, 70 << 20];
    let answer = returned(&mut data, huge, NONE);
    let mut guest = Guest::new("g", data, format!("i32.const {answer}"));
    guest.pages = 1_600;
    let limits = thalweg_plugin::Limits {
        memory_bytes: 128 << 20,
        ..crate::limits()
    };
    let plugin = thalweg_plugin::Plugin::load(&crate::HOST, &guest.build(), limits).expect("loads");
    let mut set = thalweg_plugin::PluginSet::default();
    set.insert("p", plugin);
    let evaluated = call(&mut set.caller("p.f").expect("there"), &[Some(1.0)]);
    assert_eq!(codes(&evaluated), [(0, "plugin-output")]);
    assert!(
        evaluated.failed[0].message.contains("too much data"),
        "{evaluated:?}"
    );
}
