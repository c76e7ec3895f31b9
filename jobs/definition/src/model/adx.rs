//! What a definition says of a sink to Azure Data Explorer.

use super::Secret;
use crate::diagnostic::Spanned;

/// Rows in Azure Data Explorer, by queued ingestion.
#[derive(Clone, Debug)]
pub struct Adx {
    /// The cluster's address.
    pub cluster: Spanned<String>,
    /// The database.
    pub database: Spanned<String>,
    /// The table.
    pub table: Spanned<String>,
    /// How to sign in.
    pub auth: AdxAuth,
    /// Age at which output becomes a blob, milliseconds.
    pub publish_every_ms: Option<u64>,
    /// Size at which output becomes a blob, bytes.
    pub publish_bytes: Option<u64>,
    /// After how long an ingestion of which nothing was heard may be asked for again, milliseconds.
    pub repost_after_ms: Option<u64>,
    /// The name of a JSON mapping of the table.
    pub mapping: Option<String>,
    /// Whether changes are appended as rows.
    pub append_changes: bool,
}

/// How to sign in to Azure Data Explorer.
#[derive(Clone, Debug)]
pub enum AdxAuth {
    /// Nothing is said: the machine's managed identity; nobody on loopback.
    Default,
    /// A token that somebody else renews.
    Token(Secret),
    /// A service principal.
    ServicePrincipal {
        /// The tenant's id or domain.
        tenant: String,
        /// The application's id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
}
