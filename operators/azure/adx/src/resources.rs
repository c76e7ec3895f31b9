//! What the data-management service lends for queued ingestion: containers, queues, status tables
//! and the token that proves who may use them. Kept for an hour; containers and signatures rotate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::client::Client;
use crate::cluster::Endpoint;
use crate::error::Error;
use crate::secret::{SasUrl, Secret};

/// The official clients refresh both once an hour.
const KEPT: Duration = Duration::from_secs(3600);
/// A refresh asked for because something was refused is not repeated within this time.
const REFRESH_NOT_WITHIN: Duration = Duration::from_secs(1);
const DATABASE: &str = "NetDefaultDB";

/// Resources of one moment.
#[derive(Debug)]
pub(crate) struct Lent {
    /// Where blobs are put.
    pub(crate) containers: Vec<SasUrl>,
    /// Where ingestion is asked for.
    pub(crate) queues: Vec<SasUrl>,
    /// Where its status is kept; sorted, so that the choice of one is stable.
    pub(crate) tables: Vec<SasUrl>,
    /// What goes into every message.
    pub(crate) identity: Secret,
    fetched: Duration,
}

/// The resources, fetched when they are needed.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    kept: Mutex<Option<Arc<Lent>>>,
}

impl Resources {
    /// The resources, not older than an hour.
    pub(crate) async fn get(&self, client: &Client) -> Result<Arc<Lent>, Error> {
        self.younger_than(KEPT, client).await
    }

    /// The resources afresh, since a signature or the token was refused.
    pub(crate) async fn refreshed(&self, client: &Client) -> Result<Arc<Lent>, Error> {
        self.younger_than(REFRESH_NOT_WITHIN, client).await
    }

    async fn younger_than(&self, age: Duration, client: &Client) -> Result<Arc<Lent>, Error> {
        // Held while they are fetched, so that requests at the same time fetch them once.
        let mut kept = self.kept.lock().await;
        let now = client.clock().elapsed();
        match &*kept {
            Some(lent) if now.saturating_sub(lent.fetched) < age => Ok(lent.clone()),
            _ => {
                let lent = Arc::new(fetch(client, now).await?);
                *kept = Some(lent.clone());
                Ok(lent)
            }
        }
    }
}

async fn fetch(client: &Client, now: Duration) -> Result<Lent, Error> {
    let command = ".get ingestion resources";
    let not_understood = |what: &str, reason: String| Error::Answer {
        what: what.to_owned(),
        host: client.host().to_owned(),
        reason,
    };
    let answer = client
        .command_again(Endpoint::DataManagement, DATABASE, command)
        .await?;
    let of_type = |wanted: &str| -> Result<Vec<SasUrl>, Error> {
        let mut urls = Vec::new();
        for row in 0..answer.rows.len() {
            if answer.text(row, "ResourceTypeName") == Some(wanted) {
                let root = answer.text(row, "StorageRoot").unwrap_or_default();
                let url = SasUrl::parse(root)
                    .map_err(|reason| not_understood(command, format!("{wanted}: {reason}")))?;
                urls.push(url);
            }
        }
        if urls.is_empty() {
            return Err(not_understood(command, format!("it names no {wanted}")));
        }
        urls.sort_by_key(SasUrl::place);
        Ok(urls)
    };
    let containers = of_type("TempStorage")?;
    let queues = of_type("SecuredReadyForAggregationQueue")?;
    let tables = of_type("IngestionsStatusTable")?;
    let command = ".get kusto identity token";
    let answer = client
        .command_again(Endpoint::DataManagement, DATABASE, command)
        .await?;
    let identity = answer
        .text(0, "AuthorizationContext")
        .ok_or_else(|| not_understood(command, "it holds no token".to_owned()))?;
    Ok(Lent {
        containers,
        queues,
        tables,
        identity: Secret::new(identity),
        fetched: now,
    })
}
