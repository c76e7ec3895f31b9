//! The content of sections: a log of operations per key group.
//!
//! | operation | content |
//! |---|---|
//! | `01` pane | `id i64`: what follows is about this pane |
//! | `02` drop | `id i64`: all of the group in this pane is gone |
//! | `03` delete | key (`length u32`, bytes) |
//! | `04` put | key, words (8 bytes each), payload (`length u32`, bytes) where there is one |
//! | `05` print | key group, 88 bits, 32 zeros (16 bytes); time (8 bytes) where there is one |

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

/// Bytes from which on a log goes on in another chunk…
const CHUNK_MIN: usize = 4 << 10;
/// …of this size. Logs grow alike, as keys are spread evenly over them: if each were one run of
/// bytes, all would have to be moved at the same time, which stops the stream.
const CHUNK: usize = 64 << 10;

/// One log per key group.
#[derive(Debug)]
pub(crate) struct Logs(Vec<Log>);

#[derive(Clone, Debug, Default)]
struct Log {
    /// Chunks that are full.
    before: Vec<Vec<u8>>,
    last: Vec<u8>,
    pane: Option<i64>,
}

impl Default for Logs {
    fn default() -> Self {
        Self(vec![Log::default(); KEY_GROUPS])
    }
}

impl Log {
    /// Where the next operation is to be written.
    #[inline]
    fn end(&mut self) -> &mut Vec<u8> {
        let full = match self.before.is_empty() {
            true => self.last.len() >= CHUNK_MIN,
            false => self.last.len() >= CHUNK,
        };
        if full {
            let next = Vec::with_capacity(CHUNK + CHUNK_MIN);
            self.before.push(std::mem::replace(&mut self.last, next));
        }
        &mut self.last
    }

    fn chunks(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.before.iter().chain([&self.last])
    }
}

impl Logs {
    /// The log of `group`, about `pane`, where an operation is about to be written.
    pub(crate) fn about(&mut self, group: KeyGroup, pane: i64, operation: u8) -> &mut Vec<u8> {
        let log = &mut self.0[usize::from(group)];
        let new_pane = log.pane != Some(pane);
        log.pane = Some(pane);
        let end = log.end();
        if new_pane {
            end.push(PANE);
            put_i64(end, pane);
        }
        end.push(operation);
        end
    }

    pub(crate) fn drop_pane(&mut self, group: KeyGroup, pane: i64) {
        let log = &mut self.0[usize::from(group)];
        log.pane = None;
        let end = log.end();
        end.push(DROP);
        put_i64(end, pane);
    }

    /// Appends what is in the log of `group` to `out`.
    pub(crate) fn copy(&self, group: KeyGroup, out: &mut Vec<u8>) {
        let log = &self.0[usize::from(group)];
        out.reserve(log.chunks().map(Vec::len).sum());
        log.chunks().for_each(|chunk| out.extend_from_slice(chunk));
    }

    /// Moves what is in the log of `group` to the end of `out`.
    pub(crate) fn take(&mut self, group: KeyGroup, out: &mut Vec<u8>) {
        self.copy(group, out);
        self.0[usize::from(group)] = Log::default();
    }

    /// Appends all that is in `later`.
    pub(crate) fn append(&mut self, later: Self) {
        for (log, later) in self.0.iter_mut().zip(later.0) {
            if later.chunks().any(|chunk| !chunk.is_empty()) {
                log.pane = later.pane;
                let end = std::mem::replace(&mut log.last, later.last);
                log.before.push(end);
                log.before.extend(later.before);
            }
        }
    }
}
