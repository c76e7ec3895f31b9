//! What is known of a part: the status of its attempts, and whether the table has its tag.

use std::time::Duration;

use thalweg_stream::Fault;
use uuid::Uuid;

use super::{ATTEMPTS_MAX, AdxPublisher, own_table};
use crate::attempt::{Attempt, Facts, mark_id, read_row, source_id};
use crate::client::{quoted_name, quoted_text};
use crate::cluster::Endpoint;
use crate::error::Error;
use crate::part::Part;

impl AdxPublisher {
    /// The newest attempt under the part's tag, by any process.
    pub(super) async fn newest_attempt(&self, part: &Part<'_>) -> Result<Option<Attempt>, Fault> {
        let mut newest = None;
        for number in 0..ATTEMPTS_MAX {
            match self.read_attempt(part, number).await? {
                Some(attempt) => newest = Some(attempt),
                None => break,
            }
        }
        Ok(newest)
    }

    /// What has become of `last` meanwhile. A row that is gone (the service empties the tables in
    /// time) tells nothing new.
    pub(super) async fn again(
        &self,
        part: &Part<'_>,
        last: Option<Attempt>,
        pause: Duration,
    ) -> Result<Option<Attempt>, Fault> {
        let Some(mut last) = last else {
            return Ok(None);
        };
        match self.read_attempt(part, last.number).await? {
            Some(attempt) => Ok(Some(Attempt {
                ours: last.ours,
                ..attempt
            })),
            None => {
                last.age += pause;
                Ok(Some(last))
            }
        }
    }

    pub(super) async fn read_attempt(
        &self,
        part: &Part<'_>,
        number: u32,
    ) -> Result<Option<Attempt>, Fault> {
        let id = source_id(&part.tag, number);
        let Some(row) = self.read_status(id).await? else {
            return Ok(None);
        };
        let attempt = read_row(&row, number, self.context.clock.now_ms());
        attempt.map(Some).map_err(|reason| {
            Fault::unavailable(format!("status row {id} is not understood: {reason}"))
        })
    }

    /// The status row `id`: in its own table, or in another if the tables lent have changed.
    pub(super) async fn read_status(&self, id: Uuid) -> Result<Option<serde_json::Value>, Error> {
        self.with_lent(|lent, _| async move {
            let own = own_table(&lent, id)?;
            let others = lent.tables.iter().filter(|table| *table != own);
            for table in std::iter::once(own).chain(others) {
                let found = self.storage().entity(table, &id.to_string()).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
        .await
    }

    /// Whether the newest attempt is known to have been posted.
    pub(super) async fn is_marked(&self, part: &Part<'_>, facts: &Facts) -> Result<bool, Error> {
        let Some(last) = &facts.last else {
            return Ok(false);
        };
        let mark = self.read_status(mark_id(&part.tag, last.number)).await?;
        Ok(mark.is_some())
    }

    /// Whether an extent of the table carries the part's tag.
    pub(super) async fn tagged(&self, part: &Part<'_>) -> Result<bool, Error> {
        let command = format!(
            ".show table {} extents where tags has {}",
            quoted_name(&self.table),
            quoted_text(&format!("ingest-by:{}", part.tag))
        );
        let answer = self
            .client
            .command_again(Endpoint::Engine, &self.database, &command)
            .await?;
        Ok(!answer.rows.is_empty())
    }
}
