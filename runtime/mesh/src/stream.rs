//! The data connection between two processes: a byte stream, checked frame by frame.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::Connection;

use crate::Fate;
use crate::control::BETTER_REASON;
use crate::frame::{self, Assembly, Damage, FRAME_BYTES_MAX, Kind};
use crate::wire::{Received, Wire};

/// A blocking byte stream to another process; its clones are handles of the same connection. One
/// thread reads while another writes. The end is the end only after [`Stream::shutdown`] at the other
/// side: everything else is an error, and is known to the [`Fate`] before anyone sees the error.
#[derive(Clone, Debug)]
pub struct Stream(Arc<Link>);

#[derive(Debug)]
pub(crate) struct Link {
    process: usize,
    wire: Wire,
    writing: Mutex<Writing>,
    reading: Mutex<Reading>,
    severed: AtomicBool,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Writing {
    sequence: u64,
    /// Nothing more can be written: the end was, or something failed.
    over: bool,
    encrypted: Vec<u8>,
}

#[derive(Debug)]
struct Reading {
    assembly: Assembly,
    received: Received,
    /// Checked content that is not handed out yet.
    content: Vec<u8>,
    handed_out: usize,
    over: bool,
}

impl Stream {
    /// The connection to `process` over `socket`, after the handshake.
    pub(crate) fn new(
        process: usize,
        socket: TcpStream,
        tls: Option<Connection>,
        fate: &Fate,
    ) -> io::Result<Self> {
        let link = Arc::new(Link {
            process,
            wire: Wire::new(socket, tls)?,
            writing: Mutex::default(),
            reading: Mutex::new(Reading {
                assembly: Assembly::new(FRAME_BYTES_MAX),
                received: Received::default(),
                content: Vec::new(),
                handed_out: 0,
                over: false,
            }),
            severed: AtomicBool::new(false),
            fate: fate.clone(),
        });
        fate.bind(&link);
        Ok(Self(link))
    }

    /// Ends the stream cleanly, if only the writing is: what was written is delivered, and the end is
    /// marked. All else severs the connection.
    ///
    /// # Errors
    /// The end cannot be written.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Write => self.0.end(),
            Shutdown::Read | Shutdown::Both => {
                self.0.sever();
                Ok(())
            }
        }
    }

    /// Ends both directions at once: whoever reads or writes gets an error.
    pub fn sever(&self) {
        self.0.sever();
    }
}

impl Link {
    pub(crate) fn sever(&self) {
        self.severed.store(true, Ordering::Release);
        self.wire.sever();
    }

    fn send(&self, writing: &mut Writing, kind: Kind, content: &[u8]) -> io::Result<()> {
        if writing.over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let header = frame::header(kind, writing.sequence, content);
        writing.sequence += 1;
        let sent = self.wire.send(&mut writing.encrypted, &header, content);
        writing.over = sent.is_err() || kind == Kind::End;
        sent.map_err(|error| self.lost(&error))
    }

    fn end(&self) -> io::Result<()> {
        let mut writing = lock(&self.writing);
        self.send(&mut writing, Kind::End, &[])?;
        self.wire.finish().map_err(|error| self.lost(&error))
    }

    /// Reads until there is content to hand out, or the end.
    fn fill(&self, reading: &mut Reading) -> io::Result<()> {
        loop {
            let damaged = |e| io::Error::new(io::ErrorKind::InvalidData, e);
            match reading.assembly.frame().map_err(damaged)? {
                Some((Kind::Content, content)) => {
                    reading.content.clear();
                    reading.content.extend_from_slice(content);
                    reading.handed_out = 0;
                    return Ok(());
                }
                Some((Kind::Heartbeat, _)) => {}
                Some((Kind::End, _)) => {
                    reading.over = true;
                    // As far as it is here.
                    let followed = !reading.assembly.between_frames();
                    return if followed {
                        Err(damaged(Damage::AfterEnd))
                    } else {
                        Ok(())
                    };
                }
                None => {
                    let space = reading.assembly.space();
                    let count = self.wire.receive(&mut reading.received, space)?;
                    if count == 0 {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "it was closed before its end",
                        ));
                    }
                    reading.assembly.filled(count);
                }
            }
        }
    }

    /// Tells the fate first.
    fn lost(&self, error: &io::Error) -> io::Error {
        let process = self.process;
        let message = if self.severed.load(Ordering::Acquire) {
            format!("the data connection to process {process} was cut at this end")
        } else {
            let known = self.fate.reason_within(BETTER_REASON);
            let message = known.unwrap_or_else(|| {
                format!("the data connection to process {process} broke: {error}").into()
            });
            self.fate.lose(Arc::clone(&message));
            message.to_string()
        };
        io::Error::new(error.kind(), message)
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut reading = lock(&self.0.reading);
        let reading = &mut *reading;
        if into.is_empty() {
            return Ok(0);
        }
        while reading.handed_out == reading.content.len() && !reading.over {
            self.0.fill(reading).map_err(|error| self.0.lost(&error))?;
        }
        let waiting = &reading.content[reading.handed_out..];
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        reading.handed_out += count;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let content = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        if !content.is_empty() {
            let mut writing = lock(&self.0.writing);
            self.0.send(&mut writing, Kind::Content, content)?;
        }
        Ok(content.len())
    }

    /// Nothing is kept back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(half: &Mutex<T>) -> MutexGuard<'_, T> {
    // Who panicked while holding it ends the attempt; the stream checks itself.
    half.lock().unwrap_or_else(PoisonError::into_inner)
}
