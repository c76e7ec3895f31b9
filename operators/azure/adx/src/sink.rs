//! The sink of a definition: what it is told, what it can do, and how it starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use thalweg_stream::sink::{Grouping, SinkContext};
use thalweg_stream::{
    Fault, Publisher, Route, Sink, SinkCapabilities, SinkWriter, StreamKind, StreamSchema,
};

use crate::auth::Auth;
use crate::client::{Client, Connection};
use crate::counters::Counters;
use crate::error::Error;
use crate::message::Mapping;
use crate::publish::AdxPublisher;
use crate::resources::Resources;
use crate::target::{check_fit, check_mapping, describe, mapping};
use crate::writer::AdxWriter;

/// What a definition says about an `adx` sink.
#[derive(Clone, Debug)]
pub struct AdxSpec {
    /// The cluster and who we are to it.
    pub connection: Connection,
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// When output becomes a blob: when its first epoch is this old, or has this many bytes
    /// (compressed).
    pub publish: Grouping,
    /// When an ingestion of which nothing was heard may be asked for again.
    pub repost_after: Duration,
    /// The name of a JSON mapping that the table has, instead of columns by name.
    pub mapping: Option<String>,
    /// What to do with a stream of changes.
    pub changes: Changes,
}

/// What to do with a stream of changes: the table can only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Refuse it.
    Refuse,
    /// Append every change as a row, with what it is in the column `_change`: `insert`, `update`
    /// or `delete`.
    Append,
}

impl AdxSpec {
    /// A sink into `table`, with the defaults: a blob every minute or 256 MiB, asked for again
    /// after an hour.
    pub fn new(
        cluster: impl Into<String>,
        auth: Auth,
        database: impl Into<String>,
        table: impl Into<String>,
    ) -> Self {
        Self {
            connection: Connection::new(cluster, auth),
            database: database.into(),
            table: table.into(),
            publish: Grouping {
                every_ms: 60_000,
                bytes_max: 256 << 20,
            },
            repost_after: Duration::from_secs(3600),
            mapping: None,
            changes: Changes::Refuse,
        }
    }
}

/// Azure Data Explorer as a sink: queued ingestion, exactly once.
#[derive(Debug)]
pub struct AdxSink {
    spec: AdxSpec,
    schema: StreamSchema,
    counters: Arc<Counters>,
}

impl AdxSink {
    /// A sink for a stream of `schema`.
    ///
    /// # Errors
    /// User, if the address cannot be used or the stream carries changes that the definition does
    /// not say to append.
    pub fn new(spec: AdxSpec, schema: StreamSchema) -> Result<Self, Error> {
        if matches!(schema.kind, StreamKind::Changes { .. }) && spec.changes == Changes::Refuse {
            return Err(Error::Setting(format!(
                "azure data explorer table {:?} takes rows and the stream carries changes: say \
                 `changes: append` to append each change with a column `_change`, or let late \
                 rows not update results",
                spec.table
            )));
        }
        for (option, value) in [("database", &spec.database), ("table", &spec.table)] {
            if value.is_empty() {
                let what = format!("azure data explorer: {option} is empty");
                return Err(Error::Option { option, what });
            }
        }
        crate::cluster::Cluster::parse(&spec.connection.cluster)?;
        Ok(Self {
            spec,
            schema,
            counters: Arc::default(),
        })
    }

    /// What the sink has done so far, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

#[async_trait]
impl Sink for AdxSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: false,
            changes: self.spec.changes == Changes::Append,
            route: Route::Local,
            grouping: Some(self.spec.publish),
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(AdxWriter::new(self.schema.clone())?))
    }

    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        let AdxSpec {
            connection,
            database,
            table,
            ..
        } = &self.spec;
        let client = Client::new(connection, &context.job, context.clock.clone())?;
        let columns = describe(&client, database, table).await?;
        let mapping = match &self.spec.mapping {
            Some(name) => {
                check_mapping(&client, database, table, name).await?;
                Mapping::Named(name.clone())
            }
            None => {
                check_fit(&self.schema, table, &columns)?;
                Mapping::Inline(mapping(&self.schema, &columns))
            }
        };
        let resources = Resources::default();
        // Fetched now, so that a missing right to ingest is found before the first row.
        resources.get(&client).await?;
        let publisher = AdxPublisher {
            client,
            resources,
            database: database.clone(),
            table: table.clone(),
            mapping,
            repost_after: self.spec.repost_after,
            context,
            unposted: Mutex::new(BTreeMap::new()),
            counters: self.counters(),
        };
        publisher.check_message().await?;
        Ok(Box::new(publisher))
    }
}
