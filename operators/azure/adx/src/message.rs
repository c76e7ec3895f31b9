//! The message that asks for an ingestion (version 1 of queued ingestion).

use serde_json::{Value, json};

/// What one message says.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The source id, also the id of the status row.
    pub(crate) id: String,
    /// The blob's address, signature included.
    pub(crate) blob: &'a str,
    /// Bytes before compression; without it the service looks for itself.
    pub(crate) raw_bytes: u64,
    pub(crate) database: &'a str,
    pub(crate) table: &'a str,
    /// The tag, without `ingest-by:`.
    pub(crate) tag: &'a str,
    pub(crate) mapping: &'a Mapping,
    /// The address of the status table, signature included.
    pub(crate) status_table: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) application: &'a str,
    pub(crate) client_version: &'a str,
    pub(crate) created_at: String,
}

/// How JSON rows become columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// A mapping that the table has, by its name.
    Named(String),
    /// A mapping that travels with every message.
    Inline(String),
}

impl Message<'_> {
    /// The message as JSON text. Holds secrets.
    pub(crate) fn to_json(&self) -> String {
        // Several of these are JSON texts inside the JSON: the service wants them so.
        let list = |text: String| Value::from(vec![text]).to_string();
        let mut properties = json!({
            "authorizationContext": self.identity,
            // With `json` the service skips malformed rows without a word; with `multijson` it
            // refuses the blob.
            "format": "multijson",
            "ingestionMappingType": "Json",
            "tags": list(format!("ingest-by:{}", self.tag)),
            "ingestIfNotExists": list(self.tag.to_owned()),
        });
        let (name, value) = match self.mapping {
            Mapping::Named(name) => ("ingestionMappingReference", name),
            Mapping::Inline(mapping) => ("ingestionMapping", mapping),
        };
        if let Some(properties) = properties.as_object_mut() {
            properties.insert(name.to_owned(), Value::from(value.as_str()));
        }
        json!({
            "Id": self.id,
            "BlobPath": self.blob,
            "RawDataSize": self.raw_bytes,
            "DatabaseName": self.database,
            "TableName": self.table,
            // A second delivery must find the blob, to be skipped by its tag rather than fail.
            "RetainBlobOnSuccess": true,
            "FlushImmediately": false,
            "IgnoreSizeLimit": false,
            "ReportLevel": 2,
            "ReportMethod": 1,
            "SourceMessageCreationTime": self.created_at,
            "ApplicationForTracing": self.application,
            "ClientVersionForTracing": self.client_version,
            "IngestionStatusInTable": {
                "TableConnectionString": self.status_table,
                "PartitionKey": self.id,
                "RowKey": self.id,
            },
            "AdditionalProperties": properties,
        })
        .to_string()
    }
}
