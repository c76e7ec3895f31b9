//! The storage accounts the service lends: blobs, queues and tables by shared access signature,
//! path style (`/ACCOUNT/CONTAINER/…`).
//!
//! Deliberately absent: everything queued ingestion does not need, such as listing, leases,
//! ranges and snapshots.

mod blob;
mod queue;
mod table;

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

pub(crate) use blob::Blob;
pub(crate) use queue::{Message, Queue};

use crate::reply::Reply;

/// Containers for blobs, over two accounts so that clients can go from one to the other.
pub(crate) const CONTAINERS: [&str; 2] = ["/adxblobs0/ingestdata-0", "/adxblobs1/ingestdata-0"];
/// The queue that asks for ingestion.
pub(crate) const READY_QUEUE: &str = "/adxqueues0/readyforaggregation-secured-0";
/// Reports of success.
pub(crate) const SUCCESS_QUEUE: &str = "/adxqueues0/successfulingestions";
/// Reports of failure.
pub(crate) const FAILURE_QUEUE: &str = "/adxqueues0/failedingestions";
/// The table of statuses.
pub(crate) const STATUS_TABLE: &str = "/adxtables0/ingestionsstatus";

/// What is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The signature every request must carry.
    pub(crate) signature: String,
    /// By path.
    pub(crate) blobs: BTreeMap<String, Blob>,
    /// By path.
    pub(crate) queues: BTreeMap<&'static str, Queue>,
    /// Entities of the status table by partition and row key.
    pub(crate) entities: BTreeMap<(String, String), table::Entity>,
}

/// What a request to storage asks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Decoded.
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The service's wall clock, milliseconds.
    pub(crate) now_ms: i64,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) applied: bool,
    pub(crate) reply: Reply,
    pub(crate) details: Value,
}

impl Outcome {
    pub(crate) fn applied(reply: Reply, details: Value) -> Self {
        Self {
            applied: true,
            reply,
            details,
        }
    }

    pub(crate) fn refused(reply: Reply) -> Self {
        Self {
            applied: false,
            reply,
            details: Value::Null,
        }
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::refused(Reply::storage_error(status, code))
    }
}

impl Request {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What ledger and faults call it.
    pub(crate) fn operation(&self) -> String {
        let method = self.method.as_str();
        if self.path.starts_with("/adxqueues") {
            let peek = self.parameter("peekonly") == Some("true");
            return match (method, peek) {
                ("GET", true) => "PEEK messages".to_owned(),
                ("GET", false) => "GET messages".to_owned(),
                (method, _) => format!("{method} message"),
            };
        }
        if self.path.starts_with("/adxtables") {
            return match method {
                "POST" => "INSERT entity".to_owned(),
                "PATCH" | "MERGE" => "MERGE entity".to_owned(),
                method => format!("{method} entity"),
            };
        }
        match self.parameter("comp") {
            Some(comp) => format!("{method} {comp}"),
            None => format!("{method} blob"),
        }
    }
}

impl Stored {
    pub(crate) fn new() -> Self {
        let queues = [READY_QUEUE, SUCCESS_QUEUE, FAILURE_QUEUE];
        Self {
            signature: Uuid::new_v4().simple().to_string(),
            blobs: BTreeMap::new(),
            queues: queues.map(|path| (path, Queue::default())).into(),
            entities: BTreeMap::new(),
        }
    }

    /// The query that gives access.
    pub(crate) fn sas(&self) -> String {
        format!(
            "sv=2022-11-02&sr=c&sp=rwacud&se=2099-01-01T00%3A00%3A00Z&sig={}",
            self.signature
        )
    }

    /// Carries out a request.
    pub(crate) fn carry_out(&mut self, request: &Request) -> Outcome {
        if !request.path.starts_with("/adx") {
            // Not storage at all, such as `/v1/rest/auth/metadata`: 404 means the public cloud.
            return Outcome::error(404, "ResourceNotFound");
        }
        if request.parameter("sig") != Some(&self.signature) {
            return Outcome::error(403, "AuthenticationFailed");
        }
        let path = request.path.as_str();
        if CONTAINERS
            .iter()
            .any(|c| path.strip_prefix(c).is_some_and(|r| r.starts_with('/')))
        {
            return self.blob_request(request);
        }
        if let Some((queue, rest)) = path.split_once("/messages")
            && let Some(queue) = self.queues.get_mut(queue)
        {
            return queue.request(request, rest);
        }
        match path.strip_prefix(STATUS_TABLE) {
            Some(rest) => self.entity_request(request, rest),
            None => Outcome::error(404, "ResourceNotFound"),
        }
    }
}

/// A time as storage writes it: RFC 1123.
fn http_date(ms: i64) -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_default()
}

/// Headers every answer of storage has.
fn stamped(reply: Reply, request: &Request) -> Reply {
    reply
        .with(
            "x-ms-version",
            request.header("x-ms-version").unwrap_or("2022-11-02"),
        )
        .with("x-ms-request-id", Uuid::new_v4().to_string())
        .with("date", http_date(request.now_ms))
}

fn size(bytes: &Bytes) -> Value {
    json!({ "bytes": bytes.len() })
}
