//! Types that a function may take.

use crate::column::{Column, Failure};
use crate::value::{Date, Timestamp};

/// A type that a function may take.
#[diagnostic::on_unimplemented(
    message = "a plugin function cannot take `{Self}`",
    note = "it takes bool, i32, i64, f32, f64, &str, String, &[u8], Vec<u8>, Timestamp, Date, or an Option of one"
)]
pub trait Argument<'a>: Sized {
    /// The type of its column.
    const TYPE: &'static str;
    /// Whether null is a value of it.
    const NULLABLE: bool = false;
    /// A column, ready to be read.
    type Reader;

    /// Opens a column.
    ///
    /// # Errors
    /// If the column is shorter than `rows`.
    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure>;

    /// The value of a row.
    fn get(reader: &Self::Reader, row: usize) -> Self;
}

macro_rules! fixed {
    ($($type:ty, $kind:literal, $width:literal, $read:expr;)*) => {$(
        impl<'a> Argument<'a> for $type {
            const TYPE: &'static str = $kind;
            type Reader = &'a [[u8; $width]];

            fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
                column.fixed::<$width>(rows)
            }

            #[inline]
            fn get(reader: &Self::Reader, row: usize) -> Self {
                let read: fn([u8; $width]) -> Self = $read;
                read(reader[row])
            }
        }
    )*};
}

fixed! {
    bool, "b", 1, |[byte]| byte != 0;
    i32, "i", 4, i32::from_le_bytes;
    i64, "l", 8, i64::from_le_bytes;
    f32, "f", 4, f32::from_le_bytes;
    f64, "g", 8, f64::from_le_bytes;
    Timestamp, "tsm:UTC", 8, |bytes| Timestamp(i64::from_le_bytes(bytes));
    Date, "tdD", 4, |bytes| Date(i32::from_le_bytes(bytes));
}

/// A column of values that vary in length.
#[derive(Debug)]
pub struct Slices<'a> {
    ends: &'a [[u8; 4]],
    bytes: &'a [u8],
}

impl<'a> Slices<'a> {
    #[inline]
    fn get(&self, row: usize) -> &'a [u8] {
        let at = |row: usize| u32::from_le_bytes(self.ends[row]) as usize;
        &self.bytes[at(row)..at(row + 1)]
    }
}

impl<'a> Argument<'a> for &'a [u8] {
    const TYPE: &'static str = "z";
    type Reader = Slices<'a>;

    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
        let (ends, _) = column.offsets.as_chunks::<4>();
        if ends.len() <= rows {
            return Err(Failure::call("a column of the host is too short"));
        }
        let bytes = &column.bytes;
        Ok(Slices { ends, bytes })
    }

    #[inline]
    fn get(reader: &Self::Reader, row: usize) -> Self {
        reader.get(row)
    }
}

impl<'a> Argument<'a> for &'a str {
    const TYPE: &'static str = "u";
    type Reader = Slices<'a>;

    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
        <&[u8] as Argument>::open(column, rows)
    }

    #[inline]
    fn get(reader: &Self::Reader, row: usize) -> Self {
        std::str::from_utf8(reader.get(row)).unwrap_or_default()
    }
}

impl<'a> Argument<'a> for String {
    const TYPE: &'static str = "u";
    type Reader = Slices<'a>;

    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
        <&[u8] as Argument>::open(column, rows)
    }

    fn get(reader: &Self::Reader, row: usize) -> Self {
        <&str as Argument>::get(reader, row).to_owned()
    }
}

impl<'a> Argument<'a> for Vec<u8> {
    const TYPE: &'static str = "z";
    type Reader = Slices<'a>;

    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
        <&[u8] as Argument>::open(column, rows)
    }

    fn get(reader: &Self::Reader, row: usize) -> Self {
        reader.get(row).to_owned()
    }
}

impl<'a, T: Argument<'a>> Argument<'a> for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const NULLABLE: bool = true;
    type Reader = (Option<&'a [u8]>, T::Reader);

    fn open(column: &'a Column, rows: usize) -> Result<Self::Reader, Failure> {
        Ok((column.valid(rows)?, T::open(column, rows)?))
    }

    #[inline]
    fn get((valid, values): &Self::Reader, row: usize) -> Self {
        match valid {
            Some(valid) if valid[row] == 0 => None,
            _ => Some(T::get(values, row)),
        }
    }
}
