//! Claiming a job: the beginning of a generation.

use thalweg_stream::{Class, Fault, Generation};

use super::contender::Rest;
use super::entry::{Body, Claim};
use super::history::{History, Standing};
use super::owned::OwnedLog;
use super::{JobLog, violated};
use crate::error::Error;
use crate::heartbeat::{self, Beat, Heartbeat, Pulse};
use crate::identity::Identity;
use crate::manifest::Manifest;
use crate::restore::{Checkpoint, RestoreFrom, latest_restorable};
use crate::retention::Retention;

/// How often a claim is decided anew because the log has moved on.
const CLAIMS_MAX: u32 = 16;

/// What a start of a job asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The job.
    pub job: String,
    /// Where to start from.
    pub from: RestoreFrom,
    /// Whether an older checkpoint will do if that one is damaged.
    pub allow_older: bool,
    /// Whether to start although the job seems to be running.
    pub take_over: bool,
    /// How much to keep.
    pub retention: Retention,
    /// How often to write heartbeats.
    pub pulse: Pulse,
}

impl ClaimRequest {
    /// A start of `job` from where it stands.
    #[must_use]
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            from: RestoreFrom::Latest,
            allow_older: false,
            take_over: false,
            retention: Retention::default(),
            pulse: Pulse::default(),
        }
    }
}

/// What a start of a job got.
#[derive(Debug)]
pub enum Claimed {
    /// The job has finished, and nothing was claimed.
    Finished(Box<History>),
    /// The job is ours.
    Owner(Box<OwnedLog>),
}

impl JobLog {
    /// Claims the job. All earlier generations are fenced when this returns: none of them commits
    /// any more.
    ///
    /// # Crash safety
    /// A claim whose process dies, or whose caller does, is followed by the next one.
    ///
    /// # Errors
    /// Unavailable if the job is running and is not to be taken over; user if the store belongs to
    /// another job or the checkpoint is not kept; corrupt if the checkpoint to start from is
    /// damaged; the store's.
    pub async fn claim(self, request: ClaimRequest) -> Result<Claimed, Fault> {
        self.claim_if(request, |_| Ok(())).await
    }

    /// Claims the job if `fits` has nothing against going on from the checkpoint. Otherwise the log
    /// stays as it is: the job still goes on where it stood.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), or that of `fits`.
    pub async fn claim_if(
        mut self,
        request: ClaimRequest,
        fits: impl Fn(&Manifest) -> Result<(), Fault>,
    ) -> Result<Claimed, Fault> {
        if let Some(finished) = self.finished(&request)? {
            return Ok(finished);
        }
        if let Some(owner) = self.history().running()
            && !request.take_over
        {
            let (clock, pulse) = (self.clock.as_ref(), request.pulse);
            heartbeat::refuse_if_running(&self.store, owner, &self.identity, clock, pulse).await?;
        }
        for _ in 0..CLAIMS_MAX {
            if let Some(finished) = self.finished(&request)? {
                return Ok(finished);
            }
            let known = self.history().generation();
            let (from, allow_older) = (request.from, request.allow_older);
            let found = latest_restorable(&self.store, self.history(), from, allow_older).await;
            let start = match found.map_err(Fault::from) {
                Ok(start) => start,
                // Where the log has gone on, retention may have deleted what stood there before.
                Err(damage) if damage.class == Class::Corrupt => {
                    if !self.read_on().await? {
                        return Err(damage);
                    }
                    self.refuse_rival(&request, known)?;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            if let Some(checkpoint) = &start {
                fits(&checkpoint.manifest)?;
            }
            let claim = self.entry(&request, start.as_ref());
            self.contender
                .propose(Body::Claim(claim))
                .map_err(|violation| violated(&violation))?;
            match self.drive().await? {
                Rest::Appended { .. } => return self.begin(request, start).await,
                Rest::Overtaken => drop(self.read_on().await?),
                Rest::Ready => {}
            }
            self.refuse_rival(&request, known)?;
        }
        Err(Fault::unavailable(format!(
            "job \"{}\" could not be claimed: others keep writing to its log",
            request.job
        )))
    }

    /// Reads the log again; whether it has gone on.
    async fn read_on(&mut self) -> Result<bool, Error> {
        let end = self.history().end;
        self.contender.restart();
        self.drive().await?;
        Ok(self.history().end > end)
    }

    /// Refuses if somebody else has begun since generation `known` and not ended: it may not have
    /// come to a heartbeat yet.
    fn refuse_rival(&self, request: &ClaimRequest, known: Generation) -> Result<(), Error> {
        let rival = (self.history().running()).filter(|rival| rival.generation > known);
        match rival {
            Some(rival) if !request.take_over => Err(Error::Running {
                job: request.job.clone(),
                host: rival.host.clone(),
                pid: rival.pid,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is nothing to do; and whether it is the right job.
    fn finished(&self, request: &ClaimRequest) -> Result<Option<Claimed>, Error> {
        let history = self.history();
        if !history.job.is_empty() && history.job != request.job {
            return Err(Error::OtherJob {
                location: self.store.location().to_owned(),
                job: request.job.clone(),
                found: history.job.clone(),
            });
        }
        let done = history.standing == Standing::Finished && request.from == RestoreFrom::Latest;
        Ok(done.then(|| Claimed::Finished(Box::new(history.clone()))))
    }

    fn entry(&self, request: &ClaimRequest, start: Option<&Checkpoint>) -> Claim {
        let base = start.map(|checkpoint| checkpoint.commit.number);
        let next = Generation(self.history().generation().0 + 1);
        let fresh = Identity::fresh_lineage(&self.writer, next);
        Claim {
            job: request.job.clone(),
            lineage: self.history().lineage_from(base, &fresh),
            base,
            host: self.identity.process().host.clone(),
            pid: self.identity.process().pid,
            at_ms: self.clock.now_ms(),
        }
    }

    /// The claim stands.
    async fn begin(
        self,
        request: ClaimRequest,
        start: Option<Checkpoint>,
    ) -> Result<Claimed, Fault> {
        let beat = Beat {
            job: request.job,
            generation: self.history().generation(),
            run: self.identity.run().to_owned(),
            process: self.identity.process().clone(),
            count: 0,
            at_ms: self.clock.now_ms(),
            ended: false,
        };
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let heartbeat = Heartbeat::start(store, beat, clock, request.pulse.every).await;
        self.leave_hint().await;
        self.store.sweep_temporary().await?;
        let owned = OwnedLog::new(self, heartbeat, request.retention, start);
        Ok(Claimed::Owner(Box::new(owned?)))
    }
}
