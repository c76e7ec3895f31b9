//! A socket as two threads use it, one that reads and one that writes, with TLS or without.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::Connection;

/// Blocking, both ways at once. There is one reader and one writer at a time.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    /// Held for no longer than it takes to encrypt or decrypt what is here already: never while the
    /// socket is waited for. So a writer that waits for the other end's reader does not keep this
    /// end's reader from reading, and two floods in opposite directions pass each other. Only the
    /// writer sends: a reader that did would wait for the other end.
    tls: Option<Mutex<Connection>>,
}

/// What came from the socket and TLS has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// One record of TLS and a bit.
const RECEIVED_BYTES: usize = 32 << 10;

impl Wire {
    pub(crate) fn new(socket: TcpStream, tls: Option<Connection>) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            tls: tls.map(Mutex::new),
        })
    }

    /// Writes all of a frame.
    pub(crate) fn send(
        &self,
        encrypted: &mut Vec<u8>,
        header: &[u8],
        content: &[u8],
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(header), IoSlice::new(content)];
        let mut slices = slices.as_mut_slice();
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let sent = match &self.tls {
                None => (&self.socket).write_vectored(slices),
                Some(tls) => self.send_encrypted(tls, encrypted, slices),
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_encrypted(
        &self,
        tls: &Mutex<Connection>,
        encrypted: &mut Vec<u8>,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        encrypted.clear();
        let mut connection = lock(tls);
        let taken = connection.writer().write_vectored(slices)?;
        while connection.wants_write() {
            connection.write_tls(encrypted)?;
        }
        drop(connection);
        (&self.socket).write_all(encrypted)?;
        Ok(taken)
    }

    /// Reads something; 0 at the end.
    pub(crate) fn receive(&self, received: &mut Received, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &self.tls {
                None => (&self.socket).read(into),
                Some(tls) => self.receive_encrypted(tls, received, into),
            };
            match count {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                count => return count,
            }
        }
    }

    fn receive_encrypted(
        &self,
        tls: &Mutex<Connection>,
        received: &mut Received,
        into: &mut [u8],
    ) -> io::Result<usize> {
        loop {
            let mut connection = lock(tls);
            match connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if received.start == received.end {
                drop(connection);
                received.buffer.resize(RECEIVED_BYTES, 0);
                received.start = 0;
                received.end = (&self.socket).read(&mut received.buffer)?;
                connection = lock(tls);
            }
            // Nothing to take is how TLS learns that the socket has ended.
            let mut rest = &received.buffer[received.start..received.end];
            received.start += connection.read_tls(&mut rest)?;
            let processed = connection.process_new_packets();
            processed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
    }

    /// Says that nothing follows. TLS's own farewell is left out: the last frame is one, and the other
    /// end may close as soon as it has it.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    /// Ends both directions at once.
    pub(crate) fn sever(&self) {
        // A socket that the other end has closed is severed already.
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

fn lock(tls: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A panic of the other thread ends the attempt by itself.
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}
