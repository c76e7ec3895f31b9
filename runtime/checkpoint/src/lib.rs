//! Checkpoints: what makes the progress of a job durable, and a start of it the only one.
//!
//! The [job log](log) is the only truth about a job: a checkpoint exists exactly if a commit in it
//! names its [`Manifest`], and whoever claims the job there fences everybody before. [`state`]
//! objects, the [`Outbox`] and [`retention`] serve it. Everything goes through one [`Store`].
//!
//! Decisions are pure and apart from I/O: [`log::Contender`], [`retention::plan`],
//! [`state::StateChains`], [`SinkRecord`](publish::SinkRecord). `docs/protocol.md` states the rules.
//!
//! ```
//! # use std::sync::Arc;
//! # use thalweg_checkpoint::{*, log::*};
//! # use thalweg_stream::{clock::SystemClock, EpochKind, Fault};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Fault> {
//! let store = Store::open("memory://example", Access::Create)?;
//! let identity = Identity::of_this_process();
//! let log = JobLog::open(store.clone(), identity, Arc::new(SystemClock::new())).await?;
//! let Claimed::Owner(mut job) = log.claim(ClaimRequest::new("road-risk")).await? else {
//!     return Ok(()); // It has finished; running it again says so.
//! };
//! assert!(job.start().is_none(), "nothing to restore yet");
//!
//! let epoch = job.first_epoch();
//! let manifest = job.manifest(epoch, EpochKind::Checkpoint);
//! let number = job.commit(&manifest).await?;
//! let _output = number.release("what the manifest lists as staged");
//! job.retain(&Default::default()).await?;
//! job.finish().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Deliberately absent: timely, the network, and any clock but the injected one.

mod document;
pub mod error;
pub mod heartbeat;
pub mod identity;
pub mod inspect;
pub mod log;
pub mod manifest;
pub mod name;
pub mod outbox;
pub mod publish;
pub mod restore;
pub mod retention;
pub mod state;
pub mod store;

pub use error::Error;
pub use heartbeat::Pulse;
pub use identity::{Identity, Process};
pub use log::{ClaimRequest, Claimed, CommitNumber, JobLog, OwnedLog};
pub use manifest::Manifest;
pub use outbox::Outbox;
pub use restore::{Checkpoint, RestoreFrom, latest_restorable};
pub use retention::{InUse, Retention};
pub use state::{Compaction, PackedHead, PackedSection, Packer, PartWriter, Restorer, StateChains};
pub use store::{Access, Faults, Store};
