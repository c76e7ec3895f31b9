//! The line in which a folded row is staged: part of the checkpoint format.
//!
//! One JSON object a line: `i` the document id, `k` the value of the partition key, `o` the
//! [order](crate::order) in hexadecimal, `s` the row's origin, `t` its event time, and `c` the
//! document's columns (without those of `id` and `k`), or no `c` for a deletion.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::CosmosError;
use crate::partition::PartitionValue;

/// The format of staged objects, which the note of each says.
pub(crate) const FORMAT: u64 = 1;
/// What a stamp, id and partition key may add to a document's columns, for limits of size.
pub(crate) const ENVELOPE_BYTES: usize = 1024;

/// A row as it is staged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StagedRow {
    /// The document's id.
    #[serde(rename = "i")]
    pub(crate) id: String,
    /// Its partition key.
    #[serde(rename = "k")]
    pub(crate) partition: PartitionValue,
    /// How new it is.
    #[serde(rename = "o")]
    pub(crate) order: String,
    /// Where it came from.
    #[serde(rename = "s")]
    pub(crate) origin: u64,
    /// Its event time.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(crate) event_time: Option<i64>,
    /// Its columns; nothing deletes the document.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) columns: Option<Box<RawValue>>,
}

/// Reads a staged object.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Vec<StagedRow>, CosmosError> {
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| CosmosError::Staged {
                name: name.to_owned(),
                reason: error.to_string(),
            })
        })
        .collect()
}

/// Bytes as hexadecimal digits, which compare as the bytes do.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| {
        char::from(if half < 10 {
            b'0' + half
        } else {
            b'a' + half - 10
        })
    };
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
