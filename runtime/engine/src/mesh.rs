//! One job over several processes: what the engine needs of the others.
//!
//! Process 0 is the *leader*: it has the job log, the coordinator, the publishers, and workers. The
//! *followers* have workers and nothing else: whatever is to become durable reaches the leader as
//! reports, so that there is one place where a job takes effect. Between two processes there are two
//! connections: *data*, which is timely's, and *control*, for what stands in [`message`].
//!
//! Who makes connections, and how they are guarded, is not known here.

mod connection;
mod following;
mod held;
mod leading;
mod listening;
pub(crate) mod message;
mod wire;

use std::io;
use std::net::Shutdown;

use async_trait::async_trait;
use bytes::Bytes;
use thalweg_stream::{Fault, Generation};
use tokio::sync::mpsc;

pub use self::following::{Member, follow};
pub(crate) use self::leading::Mesh;
pub(crate) use self::message::Order;
pub(crate) use self::wire::{Wire, Wires};

/// Bytes of one control frame, at most.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The control connection to another process: whole frames of at most [`FRAME_BYTES_MAX`], in order,
/// both ways. Whoever makes it carries frames between these channels and the outside, both of which
/// are bounded, and finds out by itself that the other side is gone.
#[derive(Debug)]
pub struct Control {
    /// Frames to send. Closed if the connection is lost; dropped when there is no more to send.
    pub outgoing: mpsc::Sender<Bytes>,
    /// Frames that have come. The last item says why the connection is lost, if that is known.
    pub incoming: mpsc::Receiver<Result<Bytes, Fault>>,
}

/// A blocking stream of bytes for timely.
pub trait Socket: io::Read + io::Write + Send + Sync {
    /// Another handle of the same stream.
    ///
    /// # Errors
    /// The operating system's.
    fn try_clone(&self) -> io::Result<Box<dyn Socket>>;

    /// Ends one direction or both, for all handles.
    ///
    /// # Errors
    /// The operating system's.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

/// Another process, as the leader has it: shaken hands with.
pub struct Peer {
    /// For orders and reports.
    pub control: Control,
    /// For timely.
    pub data: Box<dyn Socket>,
}

/// Starts or reaches the other processes of a job, for its leader.
#[async_trait]
pub trait Launch: Send + Sync {
    /// How many processes there are, this one included.
    fn processes(&self) -> usize;

    /// Starts the others for an attempt that has claimed the job: processes 1, 2…, each shaken hands
    /// with, and connected with each other.
    ///
    /// # Errors
    /// Which one could not be started or reached, and why.
    async fn start(&self, generation: Generation) -> Result<Vec<Peer>, Fault>;

    /// The attempt is over, and its connections are dropped: ends what is left of the others.
    async fn end(&self);
}

impl Socket for std::net::TcpStream {
    fn try_clone(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(Self::try_clone(self)?))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}

impl Socket for std::os::unix::net::UnixStream {
    fn try_clone(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(Self::try_clone(self)?))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}
