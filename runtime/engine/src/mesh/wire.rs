//! Timely's connections to other processes, watched: one that is lost ends the attempt with a
//! failure that names the process, before timely's threads give up in their own way.
//!
//! Timely's threads panic when their connection is lost, and workers that meet them do, too. Ours
//! unwind without the panic hook, as the loss has been told; nothing is printed.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use thalweg_stream::Fault;
use timely::communication::allocator::zero_copy::stream::Stream;

use super::Socket;
use crate::failure::Failure;
use crate::shared::Shared;
use crate::threads::LEAVE;

/// Bytes of the header of each of timely's messages, and where in it the length of the rest is.
const HEADER_BYTES: usize = 48;
const LENGTH_AT: usize = 32;

/// How long the reason of a loss may take by another connection.
const REASON: Duration = Duration::from_millis(300);
/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One handle of a data connection.
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    process: usize,
    shared: Arc<Shared>,
    /// What has been read.
    frames: Frames,
}

/// The data connections of an attempt, to end them.
pub(crate) struct Wires {
    sockets: Vec<Box<dyn Socket>>,
}

impl Wires {
    /// Watches connections: one for each process, in order, none for this one.
    pub(crate) fn watch(
        sockets: Vec<Option<Box<dyn Socket>>>,
        shared: &Arc<Shared>,
    ) -> Result<(Self, Vec<Option<Wire>>), Fault> {
        let mut all = Self {
            sockets: Vec::new(),
        };
        let mut wires = Vec::new();
        let fault = |error: io::Error| Fault::unavailable(format!("the data connections: {error}"));
        for (process, socket) in sockets.into_iter().enumerate() {
            let Some(socket) = socket else {
                wires.push(None);
                continue;
            };
            all.sockets.push(socket.try_clone().map_err(fault)?);
            wires.push(Some(Wire {
                socket,
                process,
                shared: Arc::clone(shared),
                frames: Frames::default(),
            }));
        }
        Ok((all, wires))
    }

    /// Ends them: threads that read or write come back.
    pub(crate) fn end(&self) {
        for socket in &self.sockets {
            // One that is closed already is what is wanted.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Follows timely's messages, to know whether the other side has ended the connection or it is lost:
/// the last message has a header alone.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the message that are still to come.
    rest: u64,
    ended: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            have: 0,
            rest: 0,
            ended: false,
        }
    }
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX);
                let skipped = skipped.min(bytes.len());
                self.rest -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            for (byte, &came) in self.header.iter_mut().skip(self.have).zip(bytes) {
                *byte = came;
            }
            let taken = bytes.len().min(HEADER_BYTES - self.have);
            self.have += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.have == HEADER_BYTES {
                self.have = 0;
                let length = self.header.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
                self.rest = length.copied().map_or(0, u64::from_be_bytes);
                self.ended = self.rest == 0;
            }
        }
    }
}

impl Wire {
    /// The connection is lost: says so, unless the control connection knows better why, and leaves
    /// timely's thread.
    fn lose(&self, why: impl std::fmt::Display) -> ! {
        wait(REASON, || self.shared.failed());
        let failure = Failure::lost(self.process, format_args!("its data connection: {why}"));
        self.shared.fail_with(failure);
        self.let_workers_leave();
        resume_unwind(Box::new("a connection of timely's is lost"))
    }

    /// Workers panic when they meet the queues of a thread that is gone; they leave because the attempt
    /// has failed, if they have the time.
    fn let_workers_leave(&self) {
        let here = self.shared.team().here.clone();
        let watches = self.shared.watches.get(here).unwrap_or_default();
        wait(LEAVE, || !watches.iter().any(|watch| watch.seen().at_work));
    }

    fn or_lost<T>(&self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => self.lose(error),
            result => result,
        }
    }
}

/// Waits until something is so, but not for longer than `at_most`.
fn wait(at_most: Duration, so: impl Fn() -> bool) {
    let mut left = at_most;
    while !so() && left > Duration::ZERO {
        std::thread::park_timeout(LOOK_EVERY);
        left = left.saturating_sub(LOOK_EVERY);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.socket.read(buffer);
            let read = match read {
                // Timely takes it for a loss.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => self.or_lost(read)?,
            };
            if read == 0 && !buffer.is_empty() && !self.frames.ended {
                self.lose("it has ended");
            }
            self.frames.pass(buffer.get(..read).unwrap_or_default());
            return Ok(read);
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.write(bytes);
        self.or_lost(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.socket.flush();
        self.or_lost(flushed)
    }
}

impl Stream for Wire {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            process: self.process,
            shared: Arc::clone(&self.shared),
            frames: Frames::default(),
        })
    }

    fn set_nonblocking(&self, _: bool) -> io::Result<()> {
        // They block as they are handed over.
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.socket.shutdown(how) {
            // The other side has gone after it had said that it would.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => self.or_lost(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as timely writes it, and a message of so many bytes.
    fn message(length: u64) -> Vec<u8> {
        let fields = [7_u64, 1, 2, 3, length, 9];
        let header = fields.iter().flat_map(|field| field.to_be_bytes());
        header.chain((0..length).map(|_| 0)).collect()
    }

    #[test]
    fn a_connection_has_ended_after_a_message_without_content() {
        let mut bytes = [message(100), message(8), message(3)].concat();
        for piece in [1, 5, 48, 49, 1000] {
            let mut frames = Frames::default();
            for bytes in bytes.chunks(piece) {
                frames.pass(bytes);
                assert!(!frames.ended, "zeros alone are no end");
            }
            frames.pass(&message(0));
            assert!(frames.ended);
        }
        bytes.truncate(100);
        let mut cut = Frames::default();
        cut.pass(&bytes);
        assert!(!cut.ended);
    }
}
