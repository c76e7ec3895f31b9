//! The dead-letter file, its predecessor and its journal on disk: acting on what
//! [`journal::resume`] decides.
//!
//! Whoever writes holds the file open and locked, and writes through that handle only; names are
//! changed only by way of its [`Claim`]. So a process that was frozen and thawed writes into the
//! file its successor has replaced, can change nothing that its successor sees, and learns it:
//! before and after every unit the name is compared with the handle.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use thalweg_stream::sink::SinkContext;

use super::append::{Append, lines};
use super::claim::Claim;
use super::{DeadLetterFileOptions, WhenFull};
use crate::durable;
use crate::error::Error;
use crate::journal::{self, Journal, Phase, Position, Resume, VERSION, Writer};

/// What writing goes on with.
#[derive(Debug)]
pub(super) struct Pen {
    /// Behind the last letter.
    pub(super) position: Position,
    /// The file; nothing if it is to be claimed again.
    file: Option<File>,
}

impl Pen {
    /// Takes the pen to write a unit. If that fails, the file is claimed again the next time.
    pub(super) fn lift(&mut self) -> Self {
        Self {
            position: self.position.clone(),
            file: self.file.take(),
        }
    }
}

/// Where the files are, and who we are.
#[derive(Debug)]
pub(super) struct Place {
    file: PathBuf,
    rotated: PathBuf,
    journal: PathBuf,
    max_bytes: u64,
    when_full: WhenFull,
    writer: Writer,
    claim: Claim,
}

impl Place {
    pub(super) fn new(options: &DeadLetterFileOptions, context: &SinkContext) -> Self {
        let file = options.path.clone();
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(file.file_name().unwrap_or_default());
        hidden.push(".journal");
        let writer = Writer {
            lineage: context.lineage.clone(),
            generation: context.generation,
        };
        let rotated = durable::with_ending(&file, ".1");
        Self {
            claim: Claim::new(&file, &rotated, &writer),
            rotated,
            journal: durable::parent(&file).join(hidden),
            file,
            max_bytes: options.max_bytes,
            when_full: options.when_full,
            writer,
        }
    }

    /// The position that the manifest records.
    pub(super) fn recorded(&self, state: serde_json::Value) -> Result<Option<Position>, Error> {
        let recorded: Option<Position> = serde_json::from_value(state)
            .map_err(|error| self.unreadable(format!("its position in the manifest: {error}")))?;
        if (recorded.as_ref()).is_some_and(|position| position.version > VERSION) {
            return Err(self.unreadable("the manifest is of a newer version".to_owned()));
        }
        Ok(recorded)
    }

    /// Makes the file ours, as it was at the recorded position.
    pub(super) fn claim(&self, recorded: Option<&Position>) -> Result<Pen, Error> {
        self.check_regular()?;
        self.claim.take()?;
        self.claim.or_lost(self.claimed(recorded))
    }

    fn claimed(&self, recorded: Option<&Position>) -> Result<Pen, Error> {
        self.check_not_in_use(recorded)?;
        self.claim.fence()?;
        // Whoever had it until now may have been the newer.
        let journal = self.read_journal()?;
        self.check_not_newer(recorded, journal.as_ref())?;
        let position = self.reconcile(recorded, journal.as_ref())?;
        let file = self.own(position.length)?;
        Ok(Pen {
            position,
            file: Some(file),
        })
    }

    /// Brings the file to where the position says, makes room for `bytes`, and begins to append.
    pub(super) fn prepare(&self, pen: Pen, bytes: u64) -> Result<Append, Error> {
        self.claim.or_lost(self.prepared(pen, bytes))
    }

    fn prepared(&self, pen: Pen, bytes: u64) -> Result<Append, Error> {
        self.check_ours(pen.file.as_ref())?;
        self.claim.recover()?;
        let position = self.reconcile(Some(&pen.position), self.read_journal()?.as_ref())?;
        if self.when_full == WhenFull::Stop && position.length + bytes > self.max_bytes {
            return Err(Error::Full {
                path: self.file.clone(),
                bytes: position.length,
                more: bytes,
                limit: self.max_bytes,
            });
        }
        let file = match pen.file {
            Some(file) if self.names(&file)? => file,
            // Brought back or taken away.
            Some(_) | None => self.own(position.length)?,
        };
        let (file, position, skip) = match self.when_full {
            WhenFull::Stop => (file, position, 0),
            WhenFull::DropOldest => {
                // Half each: so the two together keep within the limit.
                let most = self.max_bytes / 2;
                let rotate = position.length > 0 && position.length + bytes > most;
                let (file, position) = match rotate {
                    true => self.rotate(&file, &position)?,
                    false => (file, position),
                };
                (file, position, bytes.saturating_sub(most))
            }
        };
        Append::begin(self.file.clone(), file, position, skip)
    }

    /// Makes a unit durable, and makes sure that it went to the file that has the name.
    pub(super) fn finish(&self, append: Append) -> Result<Pen, Error> {
        let (file, position) = append.finish()?;
        self.check_ours(Some(&file))?;
        Ok(Pen {
            position,
            file: Some(file),
        })
    }

    /// Does what [`journal::resume`] decides.
    fn reconcile(
        &self,
        recorded: Option<&Position>,
        on_disk: Option<&Journal>,
    ) -> Result<Position, Error> {
        let length = durable::length(&self.file)?;
        let rotated = durable::length(&self.rotated)?;
        let journal = on_disk
            .cloned()
            .map(|journal| journal.settled(length.is_some(), rotated.is_some()));
        let before = journal.as_ref();
        match journal::resume(recorded, before, &self.writer.lineage, length) {
            Resume::At(position) => {
                let next = self.next_journal(&position, before, Phase::Settled);
                if on_disk != Some(&next) {
                    self.put_journal(&next)?;
                }
                Ok(position)
            }
            Resume::Return(position) => {
                // The rotated file is the one that the position means.
                match rotated.unwrap_or(0) {
                    rotated if rotated >= position.length => {}
                    0 => return self.begin(recorded, before, length),
                    bytes => return Err(self.cut(bytes, position.length)),
                }
                self.put_journal(&self.next_journal(&position, before, Phase::Returning))?;
                self.claim.bring_back()?;
                self.put_journal(&self.next_journal(&position, before, Phase::Settled))?;
                Ok(position)
            }
            Resume::Afresh(position) => {
                self.claim.remove()?;
                self.put_journal(&self.next_journal(&position, before, Phase::Settled))?;
                Ok(position)
            }
            Resume::Begin => self.begin(recorded, before, length),
            Resume::Cut { recorded } => Err(self.cut(length.unwrap_or(0), recorded)),
        }
    }

    /// Begins at the end of whatever is there, on a line of its own.
    fn begin(
        &self,
        recorded: Option<&Position>,
        journal: Option<&Journal>,
        length: Option<u64>,
    ) -> Result<Position, Error> {
        if let Some(recorded) = recorded {
            tracing::warn!(
                path = %self.file.display(), recorded = recorded.length, length,
                "the dead-letter file is not the one that was written: it is begun anew"
            );
        }
        let base = self.end_line(length.unwrap_or(0))?;
        let begun = recorded.map_or(0, |position| position.begun);
        let journal = Journal {
            version: VERSION,
            writer: self.writer.clone(),
            owner: self.writer.lineage.clone(),
            begun: begun.max(journal.map_or(0, |journal| journal.begun)) + 1,
            base,
            rotations: 0,
            dropped: recorded.map_or(0, |position| position.dropped),
            phase: Phase::Settled,
        };
        self.put_journal(&journal)?;
        Ok(journal.position(base))
    }

    /// Ends the last line of a file of this length, if it is not; the length then.
    fn end_line(&self, length: u64) -> Result<u64, Error> {
        let Some(last) = length.checked_sub(1) else {
            return Ok(0);
        };
        let mut byte = [0];
        (File::open(&self.file).and_then(|file| file.read_exact_at(&mut byte, last)))
            .map_err(Error::io("read", &self.file))?;
        if byte == *b"\n" {
            return Ok(length);
        }
        self.claim.replace_by_copy(length, b"\n")?;
        Ok(length + 1)
    }

    /// Makes the file the rotated one, and begins a new one; the old rotated one is dropped.
    fn rotate(&self, file: &File, position: &Position) -> Result<(File, Position), Error> {
        let mut lost = 0;
        if durable::length(&self.rotated)?.is_some() {
            durable::read_pieces(&self.rotated, u64::MAX, |piece| {
                lost += lines(piece);
                Ok(())
            })?;
        }
        // What was never confirmed does not go along.
        (file.set_len(position.length).and_then(|()| file.sync_all()))
            .map_err(Error::io("truncate", &self.file))?;
        let journal = self.read_journal()?;
        let next = Position {
            rotations: position.rotations + 1,
            length: 0,
            dropped: position.dropped + lost,
            ..position.clone()
        };
        self.put_journal(&self.next_journal(&next, journal.as_ref(), Phase::Rotating))?;
        self.claim.rotate()?;
        self.put_journal(&self.next_journal(&next, journal.as_ref(), Phase::Settled))?;
        tracing::warn!(path = %self.file.display(), lost, "the oldest dead letters were dropped");
        Ok((self.own(next.length)?, next))
    }

    /// A file of our own with the first `length` bytes of what is there, under the name, locked.
    fn own(&self, length: u64) -> Result<File, Error> {
        self.claim.replace_by_copy(length, b"")
    }

    /// Refuses what is no regular file.
    fn check_regular(&self) -> Result<(), Error> {
        match fs::symlink_metadata(&self.file) {
            Ok(metadata) if !metadata.is_file() => Err(Error::Option {
                option: "dead_letters path",
                value: self.file.display().to_string(),
                must: "a regular file, or nothing yet",
            }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Refuses the file of a newer start, and that of another job that is running.
    fn check_not_in_use(&self, recorded: Option<&Position>) -> Result<(), Error> {
        let journal = self.read_journal()?;
        self.check_not_newer(recorded, journal.as_ref())?;
        if journal.is_none_or(|journal| self.is_of_our_job(recorded, &journal)) {
            // An earlier start of ours may be frozen with the lock in its hands.
            return Ok(());
        }
        let locked = match File::open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.map_err(Error::io("open", &self.file))?.try_lock(),
        };
        match locked {
            Err(TryLockError::WouldBlock) => Err(Error::InUse(self.file.clone())),
            Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
        }
    }

    /// Refuses to take the file from a newer start, which may have ended.
    fn check_not_newer(
        &self,
        recorded: Option<&Position>,
        journal: Option<&Journal>,
    ) -> Result<(), Error> {
        match journal {
            Some(journal)
                if journal.writer.generation > self.writer.generation
                    && self.is_of_our_job(recorded, journal) =>
            {
                Err(Error::Claimed(self.file.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a start of this job wrote the journal: one of our lineage, or of another that goes on
    /// where the same one began to write.
    fn is_of_our_job(&self, recorded: Option<&Position>, journal: &Journal) -> bool {
        journal.writer.lineage == self.writer.lineage
            || recorded.is_some_and(|position| position.owner == journal.owner)
    }

    /// Whether nobody has claimed since, and the name still leads to our file or to none.
    fn check_ours(&self, file: Option<&File>) -> Result<(), Error> {
        self.claim.check_held()?;
        if let Some(file) = file
            && durable::length(&self.file)?.is_some()
            && !self.names(file)?
        {
            return Err(Error::Claimed(self.file.clone()));
        }
        Ok(())
    }

    /// Whether the name leads to this file.
    fn names(&self, file: &File) -> Result<bool, Error> {
        let ours = file.metadata().map_err(Error::io("look at", &self.file))?;
        Ok(fs::metadata(&self.file)
            .is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())))
    }

    /// The journal of this position and phase, with the base of the one before.
    fn next_journal(&self, position: &Position, before: Option<&Journal>, phase: Phase) -> Journal {
        Journal {
            version: VERSION,
            writer: self.writer.clone(),
            owner: position.owner.clone(),
            begun: position.begun,
            base: before.map_or(position.length, |journal| journal.base),
            rotations: position.rotations,
            dropped: position.dropped,
            phase,
        }
    }

    fn put_journal(&self, journal: &Journal) -> Result<(), Error> {
        let text = serde_json::to_vec(journal)
            .map_err(|error| self.unreadable(format!("its journal: {error}")))?;
        self.claim.write(&self.journal, &text)
    }

    fn read_journal(&self) -> Result<Option<Journal>, Error> {
        if durable::length(&self.journal)?.is_none() {
            return Ok(None);
        }
        let text = fs::read(&self.journal).map_err(Error::io("read", &self.journal))?;
        let journal: Journal = serde_json::from_slice(&text)
            .map_err(|error| self.unreadable(format!("its journal: {error}")))?;
        if journal.version > VERSION {
            return Err(self.unreadable("its journal is of a newer version".to_owned()));
        }
        Ok(Some(journal))
    }

    fn cut(&self, bytes: u64, recorded: u64) -> Error {
        Error::Cut {
            path: self.file.clone(),
            bytes,
            recorded,
        }
    }

    fn unreadable(&self, what: String) -> Error {
        Error::Journal {
            path: self.file.clone(),
            what,
        }
    }
}
