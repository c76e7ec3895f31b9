//! The data-management worker: takes messages, fetches blobs, and commits each under its tags.
//!
//! What can go wrong on the way is a matter of fault rules on these operations:
//!
//! | operation | without an answer (`lost_reply`) | with a `status` |
//! |---|---|---|
//! | `deliver` | the message is delivered again after it was processed | the same |
//! | `ingest` | applied, then the worker dies: no report, and the message comes again | not applied (unless `apply`), reported as failed: 5xx and 429 transient, 410 exhausted, 403, 404 and 401 as the blob's or the token's, others permanent |
//! | `report` | as `status` | the status is never written |

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::bufread::GzDecoder;
use serde_json::{Map, Value, json};
use thalweg_standin_ledger::Fate;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::decode::{self, Failure, Format, Mapping, lower_keys};
use crate::service::Service;
use crate::storage::{FAILURE_QUEUE, Message, READY_QUEUE, SUCCESS_QUEUE};
use crate::value::{TICKS_MS, time_text};
use crate::world::{Extent, World};

/// Ingestions at once.
const AT_ONCE: usize = 32;
/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// When a message comes again that was not deleted.
const AGAIN_AFTER_MS: i64 = 150;
/// Most bytes of a blob before compression.
const RAW_BYTES_MAX: u64 = 6_442_450_944;

/// What a message asks, however it is written.
#[derive(Debug)]
struct Request {
    id: String,
    /// The blob's path in our storage, and the signature.
    blob: String,
    database: String,
    table: String,
    format: String,
    tags: Vec<String>,
    if_not_exists: Vec<String>,
    mapping: Option<String>,
    mapping_name: Option<String>,
    skip_first: bool,
    identity: String,
    signature: Option<String>,
    report_level: u8,
    report_method: u8,
    /// Keys of the status row.
    status_row: Option<(String, String)>,
}

/// What became of an ingestion.
#[derive(Debug)]
enum Ending {
    Succeeded { rows: usize },
    Failed(Failure),
}

/// Works until the future is dropped.
pub(crate) async fn work(service: Arc<Service>) {
    let mut running = JoinSet::new();
    loop {
        let now_ms = service.now_ms();
        let room = AT_ONCE.saturating_sub(running.len());
        let mut messages = service.with(|world| match world.stored.queues.get_mut(READY_QUEUE) {
            Some(queue) => queue.take_visible(now_ms),
            None => Vec::new(),
        });
        for message in messages.split_off(room.min(messages.len())) {
            service.give_back(message, now_ms);
        }
        for message in messages {
            let service = service.clone();
            running.spawn(async move { process(&service, message).await });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = running.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::error!(%error, "an ingestion cannot be recorded");
                }
            }
        }
    }
}

async fn process(service: &Service, message: Message) -> std::io::Result<()> {
    let request = match read_message(&message.text) {
        Ok(request) => request,
        Err(error) => {
            let passage = service.options.enter("adx", "ingest", "unreadable").await?;
            passage.record(false, 400, None, json!({ "error": error }))?;
            return Ok(());
        }
    };
    let about = json!({ "id": request.id, "blob": request.blob });
    let delivery = service
        .options
        .enter("adx", "deliver", &request.blob)
        .await?;
    let again = delivery.record(true, 200, None, about)? != Fate::Send;
    let target = format!("{}/{}", request.database, request.table);
    let passage = service.options.enter("adx", "ingest", &target).await?;
    let applies = passage.applies();
    let prepared = match applies {
        true => prepare(service, &request).await,
        false => Err(Failure::permanent("none", "not applied")),
    };
    // The check of the tags, the commit and the record are one step.
    let (ending, fate) = service.with(|world| {
        let ending = match prepared {
            Ok(extent) => commit(world, &request, extent),
            Err(failure) => Ending::Failed(failure),
        };
        let (applied, outcome, rows, code) = match &ending {
            Ending::Succeeded { rows } => (true, "applied", *rows, ""),
            Ending::Failed(f) if f.code.starts_with("Skipped") => (false, "skipped", 0, f.code),
            Ending::Failed(failure) => (false, "failed", 0, failure.code),
        };
        let details = json!({
            "id": request.id, "blob": request.blob, "tags": request.tags, "rows": rows,
            "outcome": if applies { outcome } else { "refused" }, "code": code,
        });
        let status = if applied { 200 } else { 400 };
        passage
            .record(applied, status, None, details)
            .map(|fate| (ending, fate))
    })?;
    let ending = match fate {
        Fate::Send => ending,
        Fate::Replace { status, .. } => Ending::Failed(planned_failure(status)),
        Fate::Lose => {
            service.give_back(message, service.now_ms() + AGAIN_AFTER_MS);
            return Ok(());
        }
    };
    report(service, &request, &ending).await?;
    if again {
        service.give_back(message, service.now_ms() + AGAIN_AFTER_MS);
    }
    Ok(())
}

fn planned_failure(status: u16) -> Failure {
    let (code, kind) = match status {
        401 => ("BadRequest_InvalidKustoIdentityToken", "Permanent"),
        403 => ("Download_Forbidden", "Permanent"),
        404 => ("Download_SourceNotFound", "Permanent"),
        410 => ("General_RetryAttemptsExceeded", "Exhausted"),
        429 => ("General_ThrottledIngestion", "Transient"),
        500.. => ("General_InternalServerError", "Transient"),
        _ => ("BadRequest_InvalidBlob", "Permanent"),
    };
    Failure {
        code,
        kind,
        details: "a planned fault".to_owned(),
    }
}

/// Reads a message: base64 or plain, names in any case, enumerations as numbers or names.
fn read_message(text: &str) -> Result<Request, String> {
    let decoded = BASE64
        .decode(text)
        .unwrap_or_else(|_| text.as_bytes().to_vec());
    let value: Value = serde_json::from_slice(&decoded).map_err(|error| error.to_string())?;
    let value = lower_keys(&value);
    let get = |name: &str| value.get(name).filter(|value| !value.is_null());
    let text = |name: &str| get(name).and_then(Value::as_str).map(str::to_owned);
    let need = |name: &str| text(name).ok_or(format!("the message has no {name}"));
    let property = |name: &str| {
        let value = value.get("additionalproperties")?.get(name)?;
        value.as_str().map(str::to_owned)
    };
    // Lists travel as JSON text inside the JSON.
    let list = |name: &str| -> Vec<String> {
        property(name)
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    };
    let number = |name: &str, words: &[&str]| match get(name) {
        Some(Value::String(word)) => words
            .iter()
            .position(|w| w.eq_ignore_ascii_case(word))
            .unwrap_or(0) as u8,
        Some(value) => value.as_u64().unwrap_or(0) as u8,
        None => 0,
    };
    let status_row = get("ingestionstatusintable").and_then(|row| {
        let key = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((key("partitionkey")?, key("rowkey")?))
    });
    let address = url::Url::parse(&need("blobpath")?).map_err(|error| error.to_string())?;
    let skip_first = value
        .get("additionalproperties")
        .and_then(|p| p.get("ignorefirstrecord"))
        .is_some_and(|v| v.as_bool() == Some(true) || v.as_str() == Some("true"));
    Ok(Request {
        id: need("id")?,
        blob: crate::service::decoded(address.path()),
        signature: address
            .query_pairs()
            .find(|(name, _)| name == "sig")
            .map(|(_, value)| value.into_owned()),
        database: need("databasename")?,
        table: need("tablename")?,
        format: property("format").unwrap_or_else(|| "csv".to_owned()),
        tags: list("tags"),
        if_not_exists: list("ingestifnotexists"),
        mapping: property("ingestionmapping"),
        mapping_name: property("ingestionmappingreference"),
        skip_first,
        identity: property("authorizationcontext").unwrap_or_default(),
        report_level: number(
            "reportlevel",
            &["FailuresOnly", "None", "FailuresAndSuccesses"],
        ),
        report_method: number("reportmethod", &["Queue", "Table", "QueueAndTable"]),
        status_row,
    })
}

/// Fetches and decodes the blob.
async fn prepare(service: &Service, request: &Request) -> Result<Extent, Failure> {
    let (bytes, columns, mapping) = service.with(|world| look_up(world, request))?;
    let format = Format::find(&request.format).ok_or_else(|| {
        Failure::permanent("BadRequest_FormatNotSupported", request.format.clone())
    })?;
    let gzip = request.blob.ends_with(".gz");
    let skip_first = request.skip_first;
    let decoded = tokio::task::spawn_blocking(move || {
        let raw = match gzip {
            true => gunzip(&bytes)?,
            false => bytes.to_vec(),
        };
        let rows = decode::rows(format, &raw, &columns, mapping.as_ref(), skip_first)?;
        Ok((raw.len() as u64, rows))
    });
    let decoded = decoded.await.unwrap_or_else(|error| {
        Err(Failure {
            code: "General_InternalServerError",
            kind: "Transient",
            details: error.to_string(),
        })
    });
    let (bytes, rows) = decoded?;
    Ok(Extent {
        id: Uuid::new_v4(),
        tags: request.tags.clone(),
        created: service.now_ms() * TICKS_MS,
        blob: request.blob.clone(),
        bytes,
        rows,
    })
}

type Found = (
    bytes::Bytes,
    Vec<crate::world::TableColumn>,
    Option<Mapping>,
);

fn look_up(world: &World, request: &Request) -> Result<Found, Failure> {
    if !world.identities.contains(&request.identity) {
        return Err(Failure::permanent(
            "BadRequest_InvalidKustoIdentityToken",
            "unknown token",
        ));
    }
    if !world.databases.contains_key(&request.database) {
        return Err(Failure::permanent(
            "BadRequest_DatabaseNotExist",
            request.database.clone(),
        ));
    }
    let table = world
        .table(&request.database, &request.table)
        .ok_or_else(|| Failure::permanent("BadRequest_TableNotExist", request.table.clone()))?;
    if request.signature.as_ref() != Some(&world.stored.signature) {
        return Err(Failure::permanent(
            "Download_Forbidden",
            "the signature is not valid",
        ));
    }
    let bytes = world
        .stored
        .content(&request.blob)
        .ok_or_else(|| Failure::permanent("Download_SourceNotFound", request.blob.clone()))?;
    let kind = Format::find(&request.format).map_or("json", Format::mapping_kind);
    let text = match (&request.mapping, &request.mapping_name) {
        (Some(_), Some(_)) => {
            return Err(Failure::permanent(
                "BadRequest_DuplicateMapping",
                "both kinds are given",
            ));
        }
        (Some(inline), None) => Some(inline.clone()),
        (None, Some(name)) => {
            let found = table.mappings.get(&(kind.to_owned(), name.clone()));
            let found = found.ok_or_else(|| {
                Failure::permanent("BadRequest_MappingReferenceWasNotFound", name.clone())
            })?;
            Some(found.clone())
        }
        (None, None) => None,
    };
    let mapping = match text {
        Some(text) => Some(
            Mapping::parse(&text)
                .map_err(|why| Failure::permanent("BadRequest_InvalidMapping", why))?,
        ),
        None => None,
    };
    Ok((bytes, table.columns.clone(), mapping))
}

/// One member only: what the real service makes of several is not documented, so nobody should
/// come to rely on it here.
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let broken = |why: String| Failure::permanent("BadRequest_InvalidBlob", why);
    let mut raw = Vec::new();
    let mut decoder = GzDecoder::new(bytes);
    let read = decoder
        .by_ref()
        .take(RAW_BYTES_MAX + 1)
        .read_to_end(&mut raw);
    read.map_err(|error| broken(error.to_string()))?;
    if raw.len() as u64 > RAW_BYTES_MAX {
        return Err(broken("the blob is too large".to_owned()));
    }
    match decoder.into_inner() {
        [] => Ok(raw),
        _ => Err(broken("something follows the compressed data".to_owned())),
    }
}

fn commit(world: &mut World, request: &Request, extent: Extent) -> Ending {
    let Some(table) = world.table_mut(&request.database, &request.table) else {
        let failure = Failure::permanent("BadRequest_TableNotExist", request.table.clone());
        return Ending::Failed(failure);
    };
    let seen = |tag: &&String| table.has_tag(&format!("ingest-by:{tag}"));
    if let Some(tag) = request.if_not_exists.iter().find(seen) {
        let details = format!("an extent has the tag 'ingest-by:{tag}'");
        return Ending::Failed(Failure::permanent(
            "Skipped_IngestByTagAlreadyExists",
            details,
        ));
    }
    let rows = extent.rows.len();
    table.extents.push(extent);
    Ending::Succeeded { rows }
}

async fn report(service: &Service, request: &Request, ending: &Ending) -> std::io::Result<()> {
    let now = Value::from(time_text(service.now_ms() * TICKS_MS));
    let operation = Uuid::new_v4().to_string();
    let mut fields = Map::from_iter([
        ("OperationId".to_owned(), Value::from(operation)),
        (
            "Database".to_owned(),
            Value::from(request.database.as_str()),
        ),
        ("Table".to_owned(), Value::from(request.table.as_str())),
        (
            "IngestionSourceId".to_owned(),
            Value::from(request.id.as_str()),
        ),
        (
            "IngestionSourcePath".to_owned(),
            Value::from(request.blob.as_str()),
        ),
    ]);
    let (queue, status, wanted) = match ending {
        Ending::Succeeded { .. } => {
            fields.insert("SucceededOn".to_owned(), now.clone());
            (SUCCESS_QUEUE, "Succeeded", request.report_level == 2)
        }
        Ending::Failed(failure) => {
            fields.insert("FailedOn".to_owned(), now.clone());
            fields.insert("ErrorCode".to_owned(), Value::from(failure.code));
            fields.insert("FailureStatus".to_owned(), Value::from(failure.kind));
            fields.insert("Details".to_owned(), Value::from(failure.details.as_str()));
            fields.insert("OriginatesFromUpdatePolicy".to_owned(), Value::from(false));
            fields.insert(
                "ShouldRetry".to_owned(),
                Value::from(failure.kind == "Transient"),
            );
            (FAILURE_QUEUE, "Failed", request.report_level != 1)
        }
    };
    let passage = service.options.enter("adx", "report", &request.id).await?;
    let written = passage.applies();
    let details = json!({ "id": request.id, "status": status });
    let fate = passage.record(written && wanted, 200, None, details)?;
    if !wanted || fate != Fate::Send {
        return Ok(());
    }
    service.with(|world| {
        if request.report_method != 1
            && let Some(queue) = world.stored.queues.get_mut(queue)
        {
            let text = Value::from(fields.clone()).to_string();
            queue.put(BASE64.encode(text), service.now_ms());
        }
        if request.report_method != 0
            && let Some(row) = &request.status_row
        {
            fields.insert("Status".to_owned(), Value::from(status));
            fields.insert("UpdatedOn".to_owned(), now);
            world.stored.merge(row, fields);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read_message;

    #[test]
    fn messages_are_read_in_every_spelling() {
        let message = json!({
            "id": "i", "BLOBPATH": "http://h/c/a%20b.gz?sig=s", "databaseName": "d",
            "TableName": "t", "reportMethod": "QueueAndTable", "ReportLevel": 2,
            "IngestionStatusInTable": null,
            "additionalProperties": { "Tags": "[\"ingest-by:x\"]", "FORMAT": "multijson",
                "ingestIfNotExists": "[\"x\"]", "ignoreFirstRecord": "true" },
        });
        let read = read_message(&message.to_string()).expect("a message");
        assert_eq!(read.blob, "/c/a b.gz");
        assert_eq!((read.report_level, read.report_method), (2, 2));
        assert_eq!(
            (read.tags, read.if_not_exists),
            (vec!["ingest-by:x".into()], vec!["x".into()])
        );
        assert!(read.skip_first && read.status_row.is_none());
        assert!(read_message("{}").is_err());
    }
}
