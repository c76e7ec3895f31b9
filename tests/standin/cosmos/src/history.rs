//! What each document went through: the details of a write that the ledger records.

use std::collections::HashMap;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::request::Target;

/// The newest version of every document, by what was written through this service.
///
/// Kept beside the emulator rather than read back from it, so that recording a write costs no
/// request units.
#[derive(Debug, Default)]
pub(crate) struct History {
    documents: HashMap<(String, String, String), Version>,
}

#[derive(Clone, Debug, Default)]
struct Version {
    etag: Option<String>,
    stamp: Value,
}

/// One document that a request means to change.
#[derive(Debug)]
pub(crate) struct Write {
    operation: String,
    id: String,
    if_match: Option<String>,
    /// Nothing for a deletion.
    body: Option<Value>,
}

/// What a request means to change, in order.
pub(crate) fn intended(
    operation: &str,
    target: &Target,
    headers: &HeaderMap,
    body: &[u8],
) -> Vec<Write> {
    // A body in the driver's binary encoding is no JSON; the write is recorded without a stamp.
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    if operation == "batch" {
        let operations = parsed
            .as_ref()
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        return (operations.iter())
            .map(|one| {
                let body = one.get("resourceBody");
                Write {
                    operation: text(one.get("operationType"))
                        .unwrap_or_default()
                        .to_lowercase(),
                    id: text(one.get("id"))
                        .or_else(|| text(body.and_then(|b| b.get("id"))))
                        .unwrap_or_default(),
                    if_match: text(one.get("ifMatch")),
                    body: body.cloned(),
                }
            })
            .collect();
    }
    let id = target.document().map(str::to_owned);
    let if_match = headers
        .get("if-match")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    vec![Write {
        operation: operation.to_owned(),
        id: id
            .or_else(|| text(parsed.as_ref().and_then(|b| b.get("id"))))
            .unwrap_or_default(),
        if_match,
        body: if operation == "delete" { None } else { parsed },
    }]
}

/// The etags that an answer gives, in the order of the writes.
pub(crate) fn etags(operation: &str, header: Option<&str>, body: &[u8]) -> Vec<Option<String>> {
    if operation != "batch" {
        return vec![header.map(str::to_owned)];
    }
    let results: Vec<Value> = serde_json::from_slice(body).unwrap_or_default();
    (results.iter())
        .map(|one| one.get("eTag").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

impl History {
    /// The details of a write for the ledger; an applied one becomes part of the history.
    pub(crate) fn details(
        &mut self,
        target: &Target,
        headers: &HeaderMap,
        writes: Vec<Write>,
        applied: Option<&[Option<String>]>,
    ) -> Value {
        let container = target.container().unwrap_or_default();
        let key = (headers.get("x-ms-documentdb-partitionkey"))
            .and_then(|value| serde_json::from_slice::<Value>(value.as_bytes()).ok())
            .unwrap_or_default();
        let etags = applied.unwrap_or_default();
        let writes: Vec<Value> = (writes.into_iter().enumerate())
            .map(|(at, write)| {
                let place = (container.clone(), key.to_string(), write.id.clone());
                let before = self.documents.get(&place).cloned().unwrap_or_default();
                let stamp = write.body.as_ref().and_then(|b| b.get("_thalweg"));
                let stamp = stamp.cloned().unwrap_or_default();
                let etag = etags.get(at).cloned().flatten();
                if applied.is_some() {
                    if write.operation == "delete" {
                        self.documents.remove(&place);
                    } else if write.operation != "read" {
                        let (etag, stamp) = (etag.clone(), stamp.clone());
                        self.documents.insert(place, Version { etag, stamp });
                    }
                }
                json!({
                    "operation": write.operation,
                    "id": write.id,
                    "if_match": write.if_match,
                    "etag_before": before.etag,
                    "stamp_before": before.stamp,
                    "etag": etag,
                    "stamp": stamp,
                })
            })
            .collect();
        json!({ "container": container, "partition_key": key, "writes": writes })
    }
}
