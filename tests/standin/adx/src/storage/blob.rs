//! Blobs: Put Blob, Put Block, Put Block List, Get, Head, Delete.

use std::collections::BTreeMap;

use axum::http::Method;
use bytes::{Bytes, BytesMut};
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::reply::Reply;
use crate::storage::{Outcome, Request, Stored, http_date, size, stamped};

/// A blob, or blocks that may become one.
#[derive(Debug, Default)]
pub(crate) struct Blob {
    /// Its content, once it exists.
    pub(crate) content: Option<Bytes>,
    /// Uncommitted blocks by id.
    blocks: BTreeMap<String, Bytes>,
}

impl Stored {
    pub(super) fn blob_request(&mut self, request: &Request) -> Outcome {
        match (&request.method, request.parameter("comp")) {
            (&Method::PUT, None) => self.put_blob(request, request.body.clone(), true),
            (&Method::PUT, Some("block")) => {
                let Some(id) = request.parameter("blockid") else {
                    return Outcome::error(400, "InvalidQueryParameterValue");
                };
                let blob = self.blobs.entry(request.path.clone()).or_default();
                // Ids of one blob are equally long.
                if blob
                    .blocks
                    .keys()
                    .next()
                    .is_some_and(|other| other.len() != id.len())
                {
                    return Outcome::error(400, "InvalidBlobOrBlock");
                }
                blob.blocks.insert(id.to_owned(), request.body.clone());
                Outcome::applied(stamped(Reply::empty(201), request), size(&request.body))
            }
            (&Method::PUT, Some("blocklist")) => self.put_block_list(request),
            (&Method::GET | &Method::HEAD, None) => {
                let Some(content) = self.content(&request.path) else {
                    return Outcome::error(404, "BlobNotFound");
                };
                let mut reply = Reply::empty(200)
                    .with("content-type", "application/octet-stream")
                    .with("x-ms-blob-type", "BlockBlob");
                if request.method == Method::GET {
                    reply.body = content.clone();
                } else {
                    reply = reply.with("content-length", content.len().to_string());
                }
                Outcome::applied(stamped(reply, request), size(&content))
            }
            (&Method::DELETE, None) => match self.blobs.remove(&request.path) {
                Some(Blob {
                    content: Some(_), ..
                }) => {
                    Outcome::applied(stamped(Reply::empty(202), request), serde_json::Value::Null)
                }
                _ => Outcome::error(404, "BlobNotFound"),
            },
            _ => Outcome::error(400, "UnsupportedOperation"),
        }
    }

    /// The content of the blob at `path`.
    pub(crate) fn content(&self, path: &str) -> Option<Bytes> {
        self.blobs.get(path)?.content.clone()
    }

    fn put_blob(&mut self, request: &Request, content: Bytes, whole: bool) -> Outcome {
        if whole && request.header("x-ms-blob-type") != Some("BlockBlob") {
            return Outcome::error(400, "InvalidHeaderValue");
        }
        if request.header("if-none-match") == Some("*") && self.content(&request.path).is_some() {
            return Outcome::error(409, "BlobAlreadyExists");
        }
        let details = size(&content);
        let blob = Blob {
            content: Some(content),
            blocks: BTreeMap::new(),
        };
        self.blobs.insert(request.path.clone(), blob);
        let reply = Reply::empty(201)
            .with("etag", format!("\"{:x}\"", request.now_ms))
            .with("last-modified", http_date(request.now_ms))
            .with("x-ms-request-server-encrypted", "true");
        Outcome::applied(stamped(reply, request), details)
    }

    fn put_block_list(&mut self, request: &Request) -> Outcome {
        let Some(ids) = block_ids(&request.body) else {
            return Outcome::error(400, "InvalidXmlDocument");
        };
        let mut content = BytesMut::new();
        for id in &ids {
            let blob = self.blobs.get(&request.path);
            let Some(block) = blob.and_then(|blob| blob.blocks.get(id)) else {
                return Outcome::error(400, "InvalidBlockList");
            };
            content.extend_from_slice(block);
        }
        self.put_blob(request, content.freeze(), false)
    }
}

/// The ids in a list of blocks, wherever each is to be looked for.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the other events mean nothing here"
)]
fn block_ids(body: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    let (mut ids, mut inside) = (Vec::new(), false);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                inside = matches!(tag.name().as_ref(), "Latest" | "Committed" | "Uncommitted");
            }
            Event::Text(text) if inside => ids.push(text.trim().to_owned()),
            Event::End(_) => inside = false,
            Event::Eof => return Some(ids),
            _ => {}
        }
    }
}
