//! Types that a function may return.

use std::fmt::Display;

use crate::column::{Blobs, Column, Failures, Returned};
use crate::value::{Date, Timestamp};

/// A value that a column can hold.
pub trait Value {
    /// The type of its column.
    const TYPE: &'static str;
    /// Its length in bytes, or 0 if it varies.
    const WIDTH: usize;
    /// Writes it as the value of a row; rows come in order.
    fn write(self, row: usize, out: &mut Builder);
}

/// A type that a function may return.
#[diagnostic::on_unimplemented(
    message = "a plugin function cannot return `{Self}`",
    note = "it returns bool, i32, i64, f32, f64, String, &'static str, Vec<u8>, Timestamp, Date, an Option of one, or a Result whose error can be displayed"
)]
pub trait Output {
    /// The type of its column.
    const TYPE: &'static str;
    /// The length of a value in bytes, or 0 if it varies.
    const WIDTH: usize;
    /// Writes it as the result of a row.
    fn push(self, row: usize, out: &mut Builder);
}

/// The results of a call, as far as they have come.
#[derive(Debug)]
pub struct Builder {
    rows: usize,
    returned: Returned,
}

impl Builder {
    /// For the results of so many rows, each of type `T`.
    #[must_use]
    pub fn new<T: Output>(rows: usize) -> Self {
        let values = match T::WIDTH {
            0 => {
                let Blobs { offsets, bytes } = Blobs::with_capacity(rows);
                Column {
                    offsets,
                    bytes,
                    ..Column::default()
                }
            }
            width => Column {
                bytes: vec![0; rows * width],
                ..Column::default()
            },
        };
        let returned = Returned {
            values: Column {
                kind: T::TYPE.to_owned(),
                ..values
            },
            failed: Failures {
                rows: Vec::new(),
                messages: Blobs::with_capacity(0),
            },
        };
        Self { rows, returned }
    }

    /// A row without a value.
    pub fn null<T: Output>(&mut self, row: usize) {
        let rows = self.rows;
        let values = &mut self.returned.values;
        let valid = values.validity.get_or_insert_with(|| vec![1; rows]);
        valid[row] = 0;
        if T::WIDTH == 0 {
            self.variable(&[]);
        }
    }

    /// A row that failed.
    pub fn fail<T: Output>(&mut self, row: usize, message: &str) {
        let failed = &mut self.returned.failed;
        failed.rows.extend_from_slice(&(row as u32).to_le_bytes());
        failed.messages.push(message.as_bytes());
        if T::WIDTH == 0 {
            self.variable(&[]);
        }
    }

    /// The results.
    #[must_use]
    pub fn finish(self) -> Returned {
        self.returned
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, row: usize, value: [u8; N]) {
        let (values, _) = self.returned.values.bytes.as_chunks_mut::<N>();
        values[row] = value;
    }

    fn variable(&mut self, value: &[u8]) {
        let values = &mut self.returned.values;
        let mut blobs = Blobs {
            offsets: std::mem::take(&mut values.offsets),
            bytes: std::mem::take(&mut values.bytes),
        };
        blobs.push(value);
        values.offsets = blobs.offsets;
        values.bytes = blobs.bytes;
    }
}

impl<T: Value> Output for T {
    const TYPE: &'static str = T::TYPE;
    const WIDTH: usize = T::WIDTH;

    #[inline]
    fn push(self, row: usize, out: &mut Builder) {
        self.write(row, out);
    }
}

impl<T: Value> Output for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const WIDTH: usize = T::WIDTH;

    #[inline]
    fn push(self, row: usize, out: &mut Builder) {
        match self {
            Some(value) => value.write(row, out),
            None => out.null::<T>(row),
        }
    }
}

impl<T: Output, E: Display> Output for Result<T, E> {
    const TYPE: &'static str = T::TYPE;
    const WIDTH: usize = T::WIDTH;

    #[inline]
    fn push(self, row: usize, out: &mut Builder) {
        match self {
            Ok(value) => value.push(row, out),
            Err(error) => out.fail::<T>(row, &error.to_string()),
        }
    }
}

macro_rules! fixed {
    ($($type:ty, $kind:literal, $width:literal, $bytes:expr;)*) => {$(
        impl Value for $type {
            const TYPE: &'static str = $kind;
            const WIDTH: usize = $width;

            #[inline]
            fn write(self, row: usize, out: &mut Builder) {
                let bytes: fn(Self) -> [u8; $width] = $bytes;
                out.fixed::<$width>(row, bytes(self));
            }
        }
    )*};
}

fixed! {
    bool, "b", 1, |value| [u8::from(value)];
    i32, "i", 4, i32::to_le_bytes;
    i64, "l", 8, i64::to_le_bytes;
    f32, "f", 4, f32::to_le_bytes;
    f64, "g", 8, f64::to_le_bytes;
    Timestamp, "tsm:UTC", 8, |Timestamp(ms)| ms.to_le_bytes();
    Date, "tdD", 4, |Date(days)| days.to_le_bytes();
}

macro_rules! variable {
    ($($type:ty, $kind:literal, $bytes:expr;)*) => {$(
        impl Value for $type {
            const TYPE: &'static str = $kind;
            const WIDTH: usize = 0;

            fn write(self, _: usize, out: &mut Builder) {
                let bytes: fn(&Self) -> &[u8] = $bytes;
                out.variable(bytes(&self));
            }
        }
    )*};
}

variable! {
    String, "u", |value| value.as_bytes();
    &'static str, "u", |value| value.as_bytes();
    Vec<u8>, "z", |value| value.as_slice();
}
