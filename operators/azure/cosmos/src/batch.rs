//! Writing many documents of one partition key at once: a transactional batch, all or none.
//!
//! A batch is only a faster way to do what [`write_one`](Context::write_one) does: each operation
//! carries its own etag, so a batch that fails has changed nothing, and its rows go singly.

use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::client::{BatchPut, BatchReplies, Put, Reply};
use crate::counters::Counters;
use crate::error::CosmosError;
use crate::write::{Context, Decision, Outcome, Patience, Write, refused, unique_key};

/// Most operations of a batch ("Azure Cosmos DB service quotas", transactional batch).
pub(crate) const OPERATIONS_MAX: usize = 100;
/// Most bytes of documents in a batch: 2 MiB is the limit of the request, envelope included.
pub(crate) const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024 - 64 * 1024;
/// What an operation adds to its document: type, id, etag.
pub(crate) const OPERATION_BYTES: usize = 256;
/// Requests of one batch that wait for the pace at once; the pace decides how many are sent.
const LOOKS_MAX: usize = 32;
/// How often a batch of unknown outcome is tried as a batch before its rows go singly.
const BATCH_TRIES_MAX: u32 = 3;

/// What a batch comes to once every document has been looked at.
struct Plan<'w> {
    /// Rows that need no writing.
    settled: Vec<(usize, Outcome)>,
    puts: Vec<(&'w Write, Put)>,
}

impl Context {
    /// Writes documents of one partition key; the outcome of each by its row.
    pub(crate) async fn write_group(
        &self,
        writes: &[Write],
    ) -> Result<Vec<(usize, Outcome)>, CosmosError> {
        let Some(first) = writes.first() else {
            return Ok(Vec::new());
        };
        let mut patience = Patience::new(self, &first.id);
        for _ in 0..BATCH_TRIES_MAX {
            let Plan {
                settled: mut outcomes,
                puts,
            } = self.plan(writes).await?;
            if puts.len() < 2 {
                let rest: Vec<&Write> = puts.iter().map(|(write, _)| *write).collect();
                outcomes.extend(self.write_singly(rest).await?);
                return Ok(outcomes);
            }
            match self.send(&puts, &mut patience).await? {
                Sent::Written => {
                    outcomes.extend(puts.iter().map(|(write, _)| (write.row, Outcome::Written)));
                    return Ok(outcomes);
                }
                Sent::Singly => {
                    let rest = puts.into_iter().map(|(write, _)| write).collect();
                    outcomes.extend(self.write_singly(rest).await?);
                    return Ok(outcomes);
                }
                // What is planned next finds out what was done.
                Sent::Unknown => {}
            }
        }
        self.write_singly(writes.iter().collect()).await
    }

    /// Looks at every document and decides.
    async fn plan<'w>(&self, writes: &'w [Write]) -> Result<Plan<'w>, CosmosError> {
        let looks: Vec<_> = writes
            .iter()
            .map(|write| self.look_and_decide(write).boxed())
            .collect();
        let decided: Vec<(&Write, Decision)> = stream::iter(looks)
            .buffered(LOOKS_MAX)
            .try_collect()
            .await?;
        let mut plan = Plan {
            settled: Vec::new(),
            puts: Vec::new(),
        };
        for (write, decision) in decided {
            match decision {
                Decision::Settled(outcome) => plan.settled.push((write.row, outcome)),
                Decision::Put(put) => plan.puts.push((write, put)),
            }
        }
        Ok(plan)
    }

    async fn look_and_decide<'w>(
        &self,
        write: &'w Write,
    ) -> Result<(&'w Write, Decision), CosmosError> {
        let mut patience = Patience::new(self, &write.id);
        let there = self.look(write, &mut patience).await?;
        Ok((write, self.decide(write, there)?))
    }

    /// Sends one batch.
    async fn send(
        &self,
        puts: &[(&Write, Put)],
        patience: &mut Patience<'_>,
    ) -> Result<Sent, CosmosError> {
        let Some((first, _)) = puts.first() else {
            return Ok(Sent::Written);
        };
        let operations: Vec<BatchPut<'_>> = (puts.iter())
            .map(|(write, put)| BatchPut {
                id: &write.id,
                document: &write.document,
                put: put.clone(),
            })
            .collect();
        let request = || self.client.write_batch(first.key.clone(), &operations);
        match self.ask(patience, request).await? {
            Reply::Done(replies) => Ok(self.settle(puts, replies)),
            // The batch as such is refused; one row may be to blame.
            Reply::Refused(..)
            | Reply::Missing
            | Reply::Exists
            | Reply::Changed
            | Reply::Dependent => Ok(Sent::Singly),
            Reply::Trouble(trouble) => {
                for (write, _) in puts {
                    self.cache().forget(&write.name);
                }
                self.wait_out(trouble, patience).await?;
                Ok(Sent::Unknown)
            }
        }
    }

    /// Takes in the replies to the operations of a batch.
    fn settle(&self, puts: &[(&Write, Put)], replies: BatchReplies) -> Sent {
        let all_done = replies.iter().all(|reply| matches!(reply, Reply::Done(_)));
        for ((write, _), reply) in puts.iter().zip(replies) {
            match reply {
                Reply::Done(etag) if all_done => self.remember(write, etag),
                // Undone with the rest, or held up by another: what we know of it still holds.
                Reply::Done(_) | Reply::Dependent => {}
                Reply::Missing
                | Reply::Exists
                | Reply::Changed
                | Reply::Refused(..)
                | Reply::Trouble(_) => self.cache().forget(&write.name),
            }
        }
        if all_done {
            return Sent::Written;
        }
        Counters::add(&self.counters.retries, 1);
        Sent::Singly
    }

    /// Writes documents of one partition key whatever is there: the sink without its guard.
    pub(crate) async fn upsert_group(
        &self,
        writes: &[Write],
    ) -> Result<Vec<(usize, Outcome)>, CosmosError> {
        let Some(first) = writes.first() else {
            return Ok(Vec::new());
        };
        let mut patience = Patience::new(self, &first.id);
        let puts: Vec<(&Write, Put)> = writes.iter().map(|write| (write, Put::Upsert)).collect();
        if writes.len() > 1 {
            for _ in 0..BATCH_TRIES_MAX {
                match self.send(&puts, &mut patience).await? {
                    Sent::Written => {
                        return Ok(writes.iter().map(|w| (w.row, Outcome::Written)).collect());
                    }
                    Sent::Singly => break,
                    Sent::Unknown => {}
                }
            }
        }
        let upserts: Vec<_> = writes
            .iter()
            .map(|write| self.upsert_one(write).boxed())
            .collect();
        stream::iter(upserts)
            .buffer_unordered(LOOKS_MAX)
            .try_collect()
            .await
    }

    async fn upsert_one(&self, write: &Write) -> Result<(usize, Outcome), CosmosError> {
        let mut patience = Patience::new(self, &write.id);
        loop {
            let send = || {
                self.client
                    .write(write.key.clone(), &write.id, &write.document, Put::Upsert)
            };
            match self.ask(&mut patience, send).await? {
                Reply::Done(_) => return Ok((write.row, Outcome::Written)),
                Reply::Refused(status, reason) => return Ok((write.row, refused(status, reason))),
                Reply::Exists => return Ok((write.row, unique_key())),
                Reply::Trouble(trouble) => self.wait_out(trouble, &mut patience).await?,
                // Nothing was named that could be missing or changed; a race within the service.
                Reply::Missing | Reply::Changed | Reply::Dependent => {
                    patience.check("it is answered as a conditional write")?;
                    patience.back_off().await;
                }
            }
        }
    }

    /// Writes each document by itself.
    async fn write_singly(
        &self,
        writes: Vec<&Write>,
    ) -> Result<Vec<(usize, Outcome)>, CosmosError> {
        let singles: Vec<_> = writes
            .into_iter()
            .map(|write| self.write_row(write).boxed())
            .collect();
        stream::iter(singles)
            .buffer_unordered(LOOKS_MAX)
            .try_collect()
            .await
    }

    async fn write_row(&self, write: &Write) -> Result<(usize, Outcome), CosmosError> {
        Ok((write.row, self.write_one(write).await?))
    }
}

/// What became of a batch.
enum Sent {
    Written,
    Singly,
    Unknown,
}
