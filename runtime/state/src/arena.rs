//! Variable-length parts of slots: one growing buffer per shard.

/// Where a variable part lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) length: u32,
}

/// A buffer that parts are appended to; what is given up becomes garbage until the owner of the
/// spans moves the rest together.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    garbage: usize,
}

/// Garbage below this many bytes is never collected: moving costs more than it frees.
const GARBAGE_BYTES_MIN: usize = 16 * 1024;

impl Arena {
    pub(crate) fn push(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len() as u64;
        self.bytes.extend_from_slice(part);
        Span {
            start,
            length: part.len() as u32,
        }
    }

    /// The part at `span`; nothing for a span that is not of this arena.
    pub(crate) fn get(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        (self.bytes.get(start..start + span.length as usize)).unwrap_or_default()
    }

    /// Puts `part` in the place of what is at `span`, in place if it fits.
    pub(crate) fn replace(&mut self, span: Span, part: &[u8]) -> Span {
        let start = span.start as usize;
        if part.len() <= span.length as usize
            && let Some(place) = self.bytes.get_mut(start..start + part.len())
        {
            place.copy_from_slice(part);
            self.garbage += span.length as usize - part.len();
            return Span {
                start: span.start,
                length: part.len() as u32,
            };
        }
        self.release(span);
        self.push(part)
    }

    /// Appends a part with its length before it; where it starts.
    pub(crate) fn push_framed(&mut self, part: &[u8]) -> u64 {
        let start = self.bytes.len() as u64;
        self.bytes
            .extend_from_slice(&(part.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(part);
        start
    }

    /// The part that [`push_framed`](Self::push_framed) put at `start`.
    pub(crate) fn framed(&self, start: u64) -> &[u8] {
        let rest = self.bytes.get(start as usize..).unwrap_or_default();
        match rest.split_first_chunk::<4>() {
            Some((length, part)) => {
                (part.get(..u32::from_le_bytes(*length) as usize)).unwrap_or_default()
            }
            None => &[],
        }
    }

    pub(crate) fn release_framed(&mut self, start: u64) {
        self.garbage += 4 + self.framed(start).len();
    }

    pub(crate) fn release(&mut self, span: Span) {
        self.garbage += span.length as usize;
    }

    /// Whether more than half is garbage, and enough to care.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.garbage > GARBAGE_BYTES_MIN && self.garbage > self.bytes.len() / 2
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.garbage = 0;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
