//! Blobs, queues and tables by shared access signature: just what queued ingestion needs.
//!
//! Sources: the REST references of Azure Blob, Queue and Table storage (Put Blob, Put Block, Put
//! Block List, Put Message, Insert Entity, Query Entities).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;
use url::Url;

use crate::error::Error;
use crate::http::{Http, Reply};
use crate::secret::SasUrl;

const BLOB_VERSION: &str = "2025-07-05";
const TABLE_VERSION: &str = "2020-12-06";
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
const SMALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest text of a queue message, after base64 (bytes).
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What became of creating something that may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// It was created.
    Now,
    /// It was there.
    Before,
}

/// Access to storage on behalf of one request chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage<'a> {
    pub(crate) http: &'a Http,
    /// The time of the `x-ms-date` header.
    pub(crate) now_ms: i64,
}

impl Storage<'_> {
    /// Creates a blob in one go.
    pub(crate) async fn put_blob(
        &self,
        container: &SasUrl,
        name: &str,
        body: Bytes,
    ) -> Result<Created, Error> {
        let what = format!("upload blob {name:?}");
        // The body is counted bytes, so that every try sends all of it.
        let request = self
            .blob(Method::PUT, container.join(name))
            .header("x-ms-blob-type", "BlockBlob")
            .header("Content-Type", "application/octet-stream")
            .header("Content-Length", body.len())
            .header("If-None-Match", "*")
            .body(body);
        self.created(&what, container, request).await
    }

    /// Uploads a block of a blob that does not exist until its list of blocks is put.
    pub(crate) async fn put_block(
        &self,
        container: &SasUrl,
        name: &str,
        number: u32,
        body: Bytes,
    ) -> Result<(), Error> {
        let what = format!("upload block {number} of blob {name:?}");
        let mut url = container.join(name);
        url.query_pairs_mut()
            .append_pair("comp", "block")
            .append_pair("blockid", &block_id(number));
        let request = self
            .blob(Method::PUT, url)
            .header("Content-Length", body.len())
            .body(body);
        let reply = self.http.send(&what, request).await?;
        match reply.status {
            201 => Ok(()),
            _ => Err(self.refused(&what, container, &reply)),
        }
    }

    /// Makes a blob of the first `count` blocks.
    pub(crate) async fn put_block_list(
        &self,
        container: &SasUrl,
        name: &str,
        count: u32,
    ) -> Result<Created, Error> {
        let what = format!("finish blob {name:?}");
        let mut url = container.join(name);
        url.query_pairs_mut().append_pair("comp", "blocklist");
        let mut body = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for number in 0..count {
            body.push_str(&format!("<Latest>{}</Latest>", block_id(number)));
        }
        body.push_str("</BlockList>");
        let request = self
            .blob(Method::PUT, url)
            .header("Content-Type", "application/xml")
            .header("x-ms-blob-content-type", "application/octet-stream")
            .header("If-None-Match", "*")
            .body(body);
        self.created(&what, container, request).await
    }

    fn blob(&self, method: Method, url: Url) -> RequestBuilder {
        self.http
            .request(method, url, UPLOAD_TIMEOUT)
            .header("x-ms-version", BLOB_VERSION)
            .header("x-ms-date", self.date())
    }

    async fn created(
        &self,
        what: &str,
        container: &SasUrl,
        request: RequestBuilder,
    ) -> Result<Created, Error> {
        let reply = self.http.send(what, request).await?;
        match reply.status {
            201 => Ok(Created::Now),
            409 if reply
                .header("x-ms-error-code")
                .is_none_or(|c| c == "BlobAlreadyExists") =>
            {
                Ok(Created::Before)
            }
            412 if reply.header("x-ms-error-code") == Some("ConditionNotMet") => {
                Ok(Created::Before)
            }
            _ => Err(self.refused(what, container, &reply)),
        }
    }

    /// Checks that a queue takes the message.
    pub(crate) fn check_message(text: &str) -> Result<(), Error> {
        // Base64 takes four characters for three bytes.
        let bytes = text.len().div_ceil(3) * 4;
        if bytes <= MESSAGE_BYTES_MAX {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "the message that asks for an ingestion has {bytes} bytes and the queue takes \
             {MESSAGE_BYTES_MAX}: name a mapping that the table has instead of listing every column"
        )))
    }

    /// Posts a message to a queue.
    pub(crate) async fn post_message(&self, queue: &SasUrl, text: &str) -> Result<(), Error> {
        let what = "post an ingestion";
        Self::check_message(text)?;
        let encoded = BASE64.encode(text);
        let body = format!(
            "<?xml version='1.0' encoding='utf-8'?><QueueMessage><MessageText>{encoded}\
             </MessageText></QueueMessage>"
        );
        let request = self
            .http
            .request(Method::POST, queue.join("messages"), SMALL_TIMEOUT)
            .header("x-ms-version", BLOB_VERSION)
            .header("x-ms-date", self.date())
            .header("Content-Type", "application/xml")
            .body(body);
        let reply = self.http.send(what, request).await?;
        match reply.status {
            201 => Ok(()),
            // The service may have taken the message before it failed.
            500 | 504 => Err(Error::Unknown {
                what: what.to_owned(),
                host: queue.place(),
                reason: format!("answered {}", reply.status),
            }),
            _ => Err(self.refused(what, queue, &reply)),
        }
    }

    /// Inserts an entity whose partition and row key are both its id.
    pub(crate) async fn insert_entity(
        &self,
        table: &SasUrl,
        entity: &Value,
    ) -> Result<Created, Error> {
        let what = "insert a status row";
        let request = self
            .table(Method::POST, table.url())
            .header("Content-Type", "application/json")
            .header("Prefer", "return-no-content")
            .body(entity.to_string());
        let reply = self.http.send(what, request).await?;
        match reply.status {
            201 | 204 => Ok(Created::Now),
            409 => Ok(Created::Before),
            _ => Err(self.refused(what, table, &reply)),
        }
    }

    /// Reads an entity, if there is one.
    pub(crate) async fn entity(&self, table: &SasUrl, id: &str) -> Result<Option<Value>, Error> {
        let what = "read a status row";
        let request = self.table(Method::GET, table.entity(id));
        let reply = self.http.send(what, request).await?;
        match reply.status {
            200 => (serde_json::from_slice(&reply.body).map(Some)).map_err(|error| Error::Answer {
                what: what.to_owned(),
                host: table.place(),
                reason: error.to_string(),
            }),
            404 if reply.header("x-ms-error-code") != Some("TableNotFound") => Ok(None),
            _ => Err(self.refused(what, table, &reply)),
        }
    }

    fn table(&self, method: Method, url: Url) -> RequestBuilder {
        self.http
            .request(method, url, SMALL_TIMEOUT)
            .header("x-ms-version", TABLE_VERSION)
            .header("x-ms-date", self.date())
            .header("DataServiceVersion", "3.0;NetFx")
            .header("Accept", "application/json;odata=nometadata")
    }

    fn refused(&self, what: &str, place: &SasUrl, reply: &Reply) -> Error {
        reply.refused_by_storage(what, &place.place())
    }

    /// The time as RFC 1123 writes it.
    fn date(&self) -> String {
        let format = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        OffsetDateTime::from_unix_timestamp(self.now_ms.div_euclid(1000))
            .ok()
            .and_then(|time| time.format(&format).ok())
            .unwrap_or_default()
    }
}

/// Block ids of one blob must be equally long.
fn block_id(number: u32) -> String {
    BASE64.encode(format!("{number:08}"))
}
