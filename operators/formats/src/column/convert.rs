//! From a JSON value to a column's type: the rules, and nothing faster than they need to be.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::{Column, Items, State, Values};
use crate::calendar;
use crate::decimal::{self, DecimalError, Rounding};
use crate::scan::{Cursor, Number, Text, Token, pad, unescape};
use crate::spec::{TimestampReader, TimestampUnit};

impl Column {
    /// Writes the value of a token into `row` and says what became of it.
    pub(super) fn convert(
        &mut self,
        row: usize,
        token: Token,
        bytes: &[u8],
        start: usize,
        end: usize,
    ) -> State {
        let span = bytes.get(start..end).unwrap_or_default();
        let coerce = self.coerce;
        match (&mut self.values, token) {
            (_, Token::Null) => State::Null,
            (Values::Json(views), _) => {
                views.put(row, span);
                State::Value
            }
            (Values::List(items), Token::Array) => items.read(row, bytes, start, end),
            (Values::Bool(values), Token::Bool(value)) => put(values, row, value),
            (Values::String(views), Token::Bool(_) | Token::Number(_)) if coerce => {
                views.put(row, span);
                State::Value
            }
            (Values::Timestamp(values), Token::Number(number)) if coerce => {
                if let TimestampReader::Pattern(pattern) = &self.timestamp {
                    return put_parsed(values, row, pattern.parse(span));
                }
                self.convert_number(row, &number, bytes)
            }
            (_, Token::Number(number)) => self.convert_number(row, &number, bytes),
            (_, Token::String(text)) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let state = self.convert_string(row, content(bytes, text, &mut scratch));
                self.scratch = scratch;
                state
            }
            _ => State::WrongType,
        }
    }

    /// Converts the number that is all of `text`.
    fn convert_number_text(&mut self, row: usize, text: &[u8]) -> State {
        let mut padded = Vec::new();
        pad(text, &mut padded);
        let number = Cursor::over_padded(&padded).and_then(|mut cursor| cursor.number().ok());
        match number {
            Some(number) if number.end == text.len() => self.convert_number(row, &number, &padded),
            _ => State::BadFormat,
        }
    }

    /// Converts a number that stands in `bytes`.
    fn convert_number(&mut self, row: usize, number: &Number, bytes: &[u8]) -> State {
        let text = bytes.get(number.start..number.end).unwrap_or_default();
        match &mut self.values {
            Values::Int32(values) => match integer(number, text, self.coerce) {
                Ok(value) => match i32::try_from(value) {
                    Ok(value) => put(values, row, value),
                    Err(_) => State::OutOfRange,
                },
                Err(state) => state,
            },
            Values::Int64(values) => match integer(number, text, self.coerce) {
                Ok(value) => put(values, row, value),
                Err(state) => state,
            },
            Values::Float32(values) => {
                let value = number.float32(bytes);
                if value.is_infinite() {
                    return State::OutOfRange;
                }
                put(values, row, value)
            }
            Values::Float64(values) => put(values, row, number.float64(bytes)),
            Values::Decimal(values, precision, scale) => {
                let rounding = if self.coerce {
                    Rounding::HalfAway
                } else {
                    Rounding::Exact
                };
                match decimal::read(text, i32::from(*scale), rounding) {
                    Ok(value) if decimal::fits(value, *precision) => put(values, row, value),
                    Ok(_) | Err(DecimalError::Overflow) => State::OutOfRange,
                    Err(DecimalError::Inexact) => State::Inexact,
                }
            }
            Values::Timestamp(values) => {
                let ms = match &self.timestamp {
                    TimestampReader::Auto => integer(number, text, self.coerce),
                    TimestampReader::Unit(unit) => in_milliseconds(text, *unit),
                    TimestampReader::Pattern(_) => Err(State::WrongType),
                };
                match ms {
                    Ok(ms) => put(values, row, ms),
                    Err(state) => state,
                }
            }
            Values::Bool(_)
            | Values::Date(_)
            | Values::String(_)
            | Values::Binary(_)
            | Values::Json(_)
            | Values::List(_) => State::WrongType,
        }
    }

    /// Converts a string that says `content`.
    fn convert_string(&mut self, row: usize, content: &[u8]) -> State {
        let coerce = self.coerce;
        match &mut self.values {
            Values::String(views) => {
                views.put(row, content);
                State::Value
            }
            Values::Binary(views) => match decode_base64(content, coerce) {
                Some(decoded) => {
                    views.put(row, &decoded);
                    State::Value
                }
                None => State::BadFormat,
            },
            Values::Date(values) => {
                let instant = || calendar::parse_rfc3339(content, false);
                let from_timestamp = || instant().and_then(calendar::date_of);
                let date = calendar::parse_date(content);
                let date = if coerce {
                    date.or_else(from_timestamp)
                } else {
                    date
                };
                put_parsed(values, row, date)
            }
            Values::Timestamp(values) => match &self.timestamp {
                TimestampReader::Pattern(pattern) => {
                    put_parsed(values, row, pattern.parse(content))
                }
                TimestampReader::Auto => match calendar::parse_rfc3339(content, coerce) {
                    Some(ms) => put(values, row, ms),
                    None if coerce => self.convert_number_text(row, content),
                    None => State::BadFormat,
                },
                TimestampReader::Unit(_) if coerce => self.convert_number_text(row, content),
                TimestampReader::Unit(_) => State::WrongType,
            },
            Values::Bool(values) if coerce => match content {
                b"true" => put(values, row, true),
                b"false" => put(values, row, false),
                _ => State::BadFormat,
            },
            Values::Int32(_)
            | Values::Int64(_)
            | Values::Float32(_)
            | Values::Float64(_)
            | Values::Decimal(..)
                if coerce =>
            {
                self.convert_number_text(row, content)
            }
            Values::Bool(_)
            | Values::Int32(_)
            | Values::Int64(_)
            | Values::Float32(_)
            | Values::Float64(_)
            | Values::Decimal(..)
            | Values::Json(_)
            | Values::List(_) => State::WrongType,
        }
    }
}

impl Items {
    /// Reads the array that stands in `bytes` from `start` to `end`.
    fn read(&mut self, row: usize, bytes: &[u8], start: usize, end: usize) -> State {
        let before = self.count;
        self.starts.push((row, before));
        // The array has been passed before, so none of this can fail, nor run past its end, unless
        // the record runs past its own and is refused anyway.
        let Some(mut cursor) = Cursor::over_record(bytes, start + 1, end) else {
            return State::WrongType;
        };
        cursor.space();
        while cursor.byte() != b']' {
            let item_start = cursor.pos;
            if cursor.beyond() {
                return State::WrongType;
            }
            let Ok(token) = cursor.token(0) else {
                return State::WrongType;
            };
            self.item.ensure((self.count + 1).next_power_of_two());
            let state = (self.item).set(self.count, token, bytes, item_start, cursor.pos);
            self.count += 1;
            if !matches!(state, State::Value | State::Null) {
                return state;
            }
            cursor.space();
            if cursor.byte() == b',' {
                cursor.pos += 1;
                cursor.space();
            }
        }
        let len = u32::try_from(self.count - before).ok();
        match (len, self.lens.get_mut(row)) {
            (Some(len), Some(place)) => {
                *place = len;
                State::Value
            }
            _ => State::OutOfRange,
        }
    }
}

fn put<T>(values: &mut [T], row: usize, value: T) -> State {
    match values.get_mut(row) {
        Some(place) => {
            *place = value;
            State::Value
        }
        None => State::Missing,
    }
}

fn put_parsed<T>(values: &mut [T], row: usize, value: Option<T>) -> State {
    match value {
        Some(value) => put(values, row, value),
        None => State::BadFormat,
    }
}

/// What a string says; `scratch` holds it if it had to be unescaped.
fn content<'a>(bytes: &'a [u8], text: Text, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let raw = bytes.get(text.start..text.end).unwrap_or_default();
    if !text.escaped {
        return raw;
    }
    scratch.clear();
    unescape(raw, scratch);
    scratch
}

/// The integer that a number is; with `coerce` also one written with a point or an exponent.
fn integer(number: &Number, text: &[u8], coerce: bool) -> Result<i64, State> {
    if let Some(value) = number.int64() {
        return Ok(value);
    }
    if !coerce {
        return Err(if number.integer {
            State::OutOfRange
        } else {
            State::WrongType
        });
    }
    narrow(decimal::read(text, 0, Rounding::Exact))
}

/// A number of `unit` in milliseconds; what is finer is cut off towards the past.
fn in_milliseconds(text: &[u8], unit: TimestampUnit) -> Result<i64, State> {
    let scale = match unit {
        TimestampUnit::Seconds => 3,
        TimestampUnit::Milliseconds => 0,
        TimestampUnit::Microseconds => -3,
        TimestampUnit::Nanoseconds => -6,
    };
    narrow(decimal::read(text, scale, Rounding::Floor))
}

fn narrow(value: Result<i128, DecimalError>) -> Result<i64, State> {
    match value {
        Ok(value) => i64::try_from(value).map_err(|_| State::OutOfRange),
        Err(DecimalError::Overflow) => Err(State::OutOfRange),
        Err(DecimalError::Inexact) => Err(State::Inexact),
    }
}

/// Decodes base64: strictly (RFC 4648, section 4), or with `lenient` in all its usual forms.
fn decode_base64(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let strict = STANDARD.decode(text).ok();
    if !lenient {
        return strict;
    }
    strict
        .or_else(|| STANDARD_NO_PAD.decode(text).ok())
        .or_else(|| URL_SAFE.decode(text).ok())
        .or_else(|| URL_SAFE_NO_PAD.decode(text).ok())
}
