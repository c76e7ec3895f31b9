//! The connections between processes (`thalweg-mesh`) as the engine knows them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::{Control, Graph, Member, Peer, Socket};
use thalweg_mesh::{Joined, Stream};
use thalweg_stream::Clock;

/// How long processes may take to start and to connect: each reads the definition and compiles plugins.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process that follows, as its leader has it.
pub(crate) fn peer(peer: thalweg_mesh::Peer) -> Peer {
    Peer {
        control: control(peer.control),
        data: Box::new(Data(peer.data)),
    }
}

/// This process, as one that follows: what it is to work on, and with whom.
pub(crate) fn follower(
    joined: Joined,
    graph: Arc<Graph>,
    version: String,
    clock: Arc<dyn Clock>,
) -> Member {
    let sockets = joined.data.into_iter().map(|data| {
        let data = data?;
        Some(Box::new(Data(data)) as Box<dyn Socket>)
    });
    Member {
        graph,
        version,
        control: control(joined.control),
        sockets: sockets.collect(),
        clock,
    }
}

fn control(control: thalweg_mesh::Control) -> Control {
    Control {
        outgoing: control.outgoing,
        incoming: control.incoming,
    }
}

struct Data(Stream);

impl Read for Data {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Socket for Data {
    fn try_clone(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(Self(self.0.clone())))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
}
