//! The engine: runs a [`Graph`] as one timely dataflow, with epochs, watermarks, flow control,
//! checkpoints and publishing.
//!
//! The only crate that names timely. Operators, sources and sinks know nothing of it: they
//! implement the traits of `thalweg-stream`.

#![allow(
    missing_debug_implementations,
    reason = "graphs and surroundings hold traits that have none"
)]

mod allocator;
mod assembly;
mod clock;
mod compaction;
mod conductor;
mod container;
mod coordinator;
mod decode;
mod discovery;
mod failpoint;
mod failure;
mod fit;
mod flow;
mod graph;
mod herald;
mod job;
mod journal;
mod letters;
mod limits;
mod mesh;
mod meter;
mod parcel;
mod publishing;
mod read;
mod report;
mod restart;
mod schedule;
mod schemas;
mod shared;
mod single;
mod sink;
mod splits;
mod stage;
mod stall;
mod status;
mod step;
mod supervisor;
mod threads;
mod tracker;
mod unpublished;
mod watch;
mod worker;

pub use allocator::give_back_memory;
pub use coordinator::{Command, Outcome, Savepoint};
pub use fit::{Fate, Fit, PartFit, PartKind};
pub use graph::{Delivery, Edge, Graph, Node, OnError, SinkNode, SourceNode, StepNode};
pub use job::{Job, Surroundings};
pub use journal::Allow;
pub use limits::Limits;
pub use mesh::{Control, FRAME_BYTES_MAX, Launch, Member, Peer, Socket, follow};
pub use restart::RestartPolicy;
pub use schedule::{Schedule, Simulation};
pub use status::{
    CheckpointStatus, NodeStatus, Phase, RestartStatus, RestoreStatus, SplitStatus, Status,
    StatusBoard,
};
pub use supervisor::{run, simulate, supervise, supervise_mesh};
