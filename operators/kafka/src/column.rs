//! Metadata columns: what the definition wants to know of each record besides its value.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Int32Array, Int64Builder, StringViewArray, StringViewBuilder,
    TimestampMillisecondBuilder,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::native::Record;

/// A metadata field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Key,
    KeyBytes,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

impl Field {
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "key" => Self::Key,
            "key_bytes" => Self::KeyBytes,
            "headers" => Self::Headers,
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "timestamp" => Self::Timestamp,
            unknown => return Err(Error::Metadata(unknown.to_owned())),
        })
    }
}

/// The values of a metadata field for the records of a chunk.
pub(crate) enum Column {
    /// The same for all.
    Constant(ArrayRef),
    Key(StringViewBuilder),
    KeyBytes(BinaryViewBuilder),
    Headers(StringViewBuilder),
    Offset(Int64Builder),
    Timestamp(TimestampMillisecondBuilder),
}

impl Column {
    /// A column without values yet.
    pub(crate) fn new(field: Field, topic: &str, partition: i32) -> Self {
        match field {
            Field::Key => Self::Key(StringViewBuilder::new()),
            Field::KeyBytes => Self::KeyBytes(BinaryViewBuilder::new()),
            Field::Headers => Self::Headers(StringViewBuilder::new()),
            Field::Topic => Self::Constant(Arc::new(StringViewArray::from_iter_values([topic]))),
            Field::Partition => Self::Constant(Arc::new(Int32Array::from_iter_values([partition]))),
            Field::Offset => Self::Offset(Int64Builder::new()),
            Field::Timestamp => {
                let builder = TimestampMillisecondBuilder::new();
                Self::Timestamp(builder.with_timezone("UTC"))
            }
        }
    }

    /// Adds the value of a record.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        match self {
            Self::Constant(_) => {}
            Self::Key(column) => column.append_option(record.key().map(String::from_utf8_lossy)),
            Self::KeyBytes(column) => column.append_option(record.key()),
            Self::Headers(column) => column.append_value(headers(record)),
            Self::Offset(column) => column.append_value(record.offset()),
            Self::Timestamp(column) => column.append_option(record.timestamp()),
        }
    }

    /// The values so far.
    pub(crate) fn finish(self) -> ArrayRef {
        match self {
            Self::Constant(value) => value,
            Self::Key(mut column) | Self::Headers(mut column) => Arc::new(column.finish()),
            Self::KeyBytes(mut column) => Arc::new(column.finish()),
            Self::Offset(mut column) => Arc::new(column.finish()),
            Self::Timestamp(mut column) => Arc::new(column.finish()),
        }
    }
}

/// The headers of a record as a JSON object, in their order.
fn headers(record: &Record<'_>) -> String {
    let mut object = Headers::default();
    record.headers(|name, value| object.add(name, value));
    object.text()
}

/// Headers as an object: a name that comes more than once has a list.
#[derive(Default)]
struct Headers(Map<String, Value>);

impl Headers {
    fn add(&mut self, name: &str, value: Option<&[u8]>) {
        let value = match value.map(|value| (value, std::str::from_utf8(value))) {
            None => Value::Null,
            Some((_, Ok(text))) => text.into(),
            Some((bytes, Err(_))) => json!({ "base64": STANDARD.encode(bytes) }),
        };
        match self.0.get_mut(name) {
            None => {
                self.0.insert(name.to_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }

    fn text(self) -> String {
        Value::Object(self.0).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;

    #[test]
    fn headers_are_an_object_that_loses_nothing() {
        let mut headers = Headers::default();
        headers.add("trace", Some(b"7f"));
        headers.add("hop", Some(b"a"));
        headers.add("empty", None);
        headers.add("hop", Some(b"b"));
        headers.add("hop", Some(b"\xff\x00"));
        assert_eq!(
            headers.text(),
            r#"{"empty":null,"hop":["a","b",{"base64":"/wA="}],"trace":"7f"}"#
        );
        assert_eq!(Headers::default().text(), "{}");
    }
}
