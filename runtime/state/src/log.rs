//! The content of sections: a log of operations per key group.
//!
//! | operation | content |
//! |---|---|
//! | `01` pane | `id i64`: what follows in the section is about this pane |
//! | `02` drop | `id i64`: all of the group in this pane is gone |
//! | `03` delete | key (`length u32`, bytes) |
//! | `04` put | key, words (8 bytes each), payload (`length u32`, bytes) where there is one |
//! | `05` print | key group, 88 bits, 32 zeros (16 bytes); time (8 bytes) where there is one |

use std::collections::VecDeque;

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

use crate::wire::put_i64;

const PANE: u8 = 0x01;
const DROP: u8 = 0x02;
/// A key is gone.
pub(crate) const DELETE: u8 = 0x03;
/// A key has this content.
pub(crate) const PUT: u8 = 0x04;
/// A fingerprint is there.
pub(crate) const PRINT: u8 = 0x05;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Pane,
    Drop,
    Of(u8),
}

impl Operation {
    pub(crate) fn of(tag: u8) -> Self {
        match tag {
            PANE => Self::Pane,
            DROP => Self::Drop,
            other => Self::Of(other),
        }
    }
}

/// Bytes from which on a log that has just begun goes on in another chunk…
const CHUNK_MIN: usize = 4 << 10;
/// …and bytes of every other one: what is handed out at once. Logs grow alike, as keys are spread
/// evenly over them: if each were one run of bytes, all would have to be moved at the same time,
/// which stops the stream.
pub(crate) const CHUNK: usize = 64 << 10;

/// One log per key group, in chunks of which each begins by saying which pane it is about.
#[derive(Debug)]
pub(crate) struct Logs {
    logs: Vec<Log>,
    /// Groups that have a chunk to be handed out, once for each chunk.
    full: VecDeque<KeyGroup>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// Chunks that are full.
    before: VecDeque<Vec<u8>>,
    last: Vec<u8>,
    /// What the last chunk is about.
    pane: Option<i64>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            logs: vec![Log::default(); KEY_GROUPS],
            full: VecDeque::new(),
        }
    }
}

impl Log {
    /// Begins another chunk if the last one is full; whether there is enough to be handed out.
    #[inline]
    fn turn(&mut self) -> bool {
        let first = self.last.capacity() < CHUNK;
        if self.last.len() < if first { CHUNK_MIN } else { CHUNK } {
            return false;
        }
        let next = Vec::with_capacity(CHUNK + CHUNK_MIN);
        self.before
            .push_back(std::mem::replace(&mut self.last, next));
        self.pane = None;
        !first
    }
}

impl Logs {
    fn log(&mut self, group: KeyGroup) -> &mut Log {
        let log = &mut self.logs[usize::from(group)];
        if log.turn() {
            self.full.push_back(group);
        }
        log
    }

    /// The log of `group`, about `pane`, where an operation is about to be written.
    pub(crate) fn about(&mut self, group: KeyGroup, pane: i64, operation: u8) -> &mut Vec<u8> {
        let log = self.log(group);
        if log.pane != Some(pane) {
            log.pane = Some(pane);
            log.last.push(PANE);
            put_i64(&mut log.last, pane);
        }
        log.last.push(operation);
        &mut log.last
    }

    pub(crate) fn drop_pane(&mut self, group: KeyGroup, pane: i64) {
        let log = self.log(group);
        log.pane = None;
        log.last.push(DROP);
        put_i64(&mut log.last, pane);
    }

    /// A group of which a chunk is full; each chunk is told once.
    pub(crate) fn full_group(&mut self) -> Option<KeyGroup> {
        self.full.pop_front()
    }

    /// Appends chunk number `at` of the log of `group` to `out`; false if there is none.
    pub(crate) fn copy(&self, group: KeyGroup, at: usize, out: &mut Vec<u8>) -> bool {
        let log = &self.logs[usize::from(group)];
        let last = (at == log.before.len()).then_some(&log.last);
        let Some(chunk) = log.before.get(at).or(last) else {
            return false;
        };
        out.extend_from_slice(chunk);
        true
    }

    /// Moves about [`CHUNK`] bytes from the front of the log of `group` to the end of `out`.
    pub(crate) fn take(&mut self, group: KeyGroup, out: &mut Vec<u8>) {
        let log = &mut self.logs[usize::from(group)];
        let start = out.len();
        while out.len() - start < CHUNK {
            let Some(chunk) = log.before.pop_front() else {
                out.extend_from_slice(&std::mem::take(log).last);
                break;
            };
            out.extend_from_slice(&chunk);
        }
    }

    /// Appends all that is in `later`.
    pub(crate) fn append(&mut self, later: Self) {
        for (log, later) in self.logs.iter_mut().zip(later.logs) {
            if later.before.is_empty() && later.last.is_empty() {
                continue;
            }
            log.pane = later.pane;
            let end = std::mem::replace(&mut log.last, later.last);
            log.before.push_back(end);
            log.before.extend(later.before);
        }
    }
}
