//! Bytes by key group, in pieces of about the same length.
//!
//! Keys are spread evenly over groups, so what is said of each grows alike: if that of a group were
//! one run of bytes, all of them would have to be moved at the same time, which stops the stream.

use std::collections::VecDeque;

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

/// Bytes from which on a run that has just begun goes on in another chunk…
const CHUNK_MIN: usize = 4 << 10;
/// …and bytes of every other one: what is handed out at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// A run of bytes for each key group, written at its end and taken from its front.
#[derive(Debug, Default)]
pub struct Pieces {
    /// By group; none at all before anything is written: many operators live for one snapshot only.
    runs: Vec<Run>,
    /// Groups that have a chunk to be handed out, once for each chunk.
    full: VecDeque<KeyGroup>,
}

#[derive(Debug, Default)]
struct Run {
    /// Chunks that are full.
    before: VecDeque<Vec<u8>>,
    last: Vec<u8>,
}

impl Run {
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
        !first
    }
}

impl Pieces {
    /// Where the next of `group` is to be written. If nothing is there, it begins a chunk, and may
    /// be read without what is before.
    #[inline]
    pub fn end(&mut self, group: KeyGroup) -> &mut Vec<u8> {
        if self.runs.is_empty() {
            self.runs.resize_with(KEY_GROUPS, Run::default);
        }
        let run = &mut self.runs[usize::from(group)];
        if run.turn() {
            self.full.push_back(group);
        }
        &mut run.last
    }

    /// A group of which a chunk is full; each chunk is told once.
    pub fn full_group(&mut self) -> Option<KeyGroup> {
        self.full.pop_front()
    }

    /// Moves about 64 KiB from the front of the run of `group` to the end of `out`.
    pub fn take(&mut self, group: KeyGroup, out: &mut Vec<u8>) {
        let Some(run) = self.runs.get_mut(usize::from(group)) else {
            return;
        };
        let start = out.len();
        while out.len() - start < CHUNK {
            let Some(chunk) = run.before.pop_front() else {
                out.extend_from_slice(&std::mem::take(run).last);
                break;
            };
            out.extend_from_slice(&chunk);
        }
    }

    /// Appends chunk number `at` of `group` to `out`; false if there is none.
    pub(crate) fn copy(&self, group: KeyGroup, at: usize, out: &mut Vec<u8>) -> bool {
        let Some(run) = self.runs.get(usize::from(group)) else {
            return false;
        };
        let last = (at == run.before.len()).then_some(&run.last);
        let Some(chunk) = run.before.get(at).or(last) else {
            return false;
        };
        out.extend_from_slice(chunk);
        true
    }

    /// Appends all that is in `later`.
    pub(crate) fn append(&mut self, later: Self) {
        if self.runs.is_empty() {
            self.runs = later.runs;
            return;
        }
        for (run, later) in self.runs.iter_mut().zip(later.runs) {
            if later.before.is_empty() && later.last.is_empty() {
                continue;
            }
            let end = std::mem::replace(&mut run.last, later.last);
            run.before.push_back(end);
            run.before.extend(later.before);
        }
    }
}
