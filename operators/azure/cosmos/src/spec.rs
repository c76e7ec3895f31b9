//! What a definition says about a Cosmos DB sink.

use std::fmt;
use std::time::Duration;

use thalweg_formats::{Nulls, Timestamps};

/// An account key. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey(String);

impl AccountKey {
    /// Takes the key, base64 as the portal gives it.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The text, for signing alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(hidden)")
    }
}

/// A Cosmos DB sink, as its definition describes it.
#[derive(Clone, Debug)]
pub struct CosmosSpec {
    /// The account's endpoint, `https://NAME.documents.azure.com/`; plain HTTP for loopback only.
    pub endpoint: String,
    /// The account key.
    pub key: AccountKey,
    /// The database; it must exist.
    pub database: String,
    /// The container; it must exist.
    pub container: String,
    /// The column that names the document.
    pub id: String,
    /// The column that is the container's partition key, `/COLUMN`.
    pub partition_key: String,
    /// The column whose greatest value a document keeps; without it, the event time.
    pub newest_by: Option<String>,
    /// Whether writes are fenced by etags. Without, they are blind upserts.
    pub guard: bool,
    /// Request units a second this sink may use.
    pub request_units: Option<f64>,
    /// How long a deleted document's tombstone stays (where the container has a time to live;
    /// for ever where it has none). A process that goes on after being frozen for longer could
    /// bring the document back.
    pub tombstone_ttl: Duration,
    /// How timestamps are written.
    pub timestamps: Timestamps,
    /// What becomes of nulls.
    pub nulls: Nulls,
    /// Limits with sensible defaults.
    pub limits: Limits,
}

impl CosmosSpec {
    /// A guarded sink with defaults for all that may be left out.
    #[must_use]
    pub fn new(
        endpoint: &str,
        key: AccountKey,
        [database, container]: [&str; 2],
        [id, partition_key]: [&str; 2],
    ) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            key,
            database: database.to_owned(),
            container: container.to_owned(),
            id: id.to_owned(),
            partition_key: partition_key.to_owned(),
            newest_by: None,
            guard: true,
            request_units: None,
            // Longer than any process stays frozen and is still taken for alive.
            tombstone_ttl: Duration::from_secs(7 * 24 * 3600),
            timestamps: Timestamps::default(),
            nulls: Nulls::default(),
            limits: Limits::default(),
        }
    }
}

/// Limits of a sink, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of folded rows a writer holds before it hands them out ahead of the checkpoint. More
    /// means fewer writes for ids that change often.
    pub buffered_bytes_max: usize,
    /// Bytes of one staged object: what the publisher holds in memory at a time.
    pub object_bytes_max: usize,
    /// Documents whose etags the publisher remembers, about 400 bytes each.
    pub cached_documents_max: usize,
    /// Requests in flight at once, whatever the service would take.
    pub concurrency_max: usize,
    /// Deadline of one request, the driver's own retries included.
    pub request_timeout: Duration,
    /// How long one document may take, with all retries, before the unit is given up for a while.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffered_bytes_max: 32 << 20,
            object_bytes_max: 8 << 20,
            cached_documents_max: 100_000,
            concurrency_max: 64,
            request_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(120),
        }
    }
}
