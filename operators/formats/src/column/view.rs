//! Strings as Arrow's views: up to twelve bytes in the view itself, longer ones on a heap.

use crate::scan::{BLOCK, Cursor, Marks, Stop, unescape};

/// Most bytes that stand in the view itself.
const INLINE: usize = 12;

/// Views by row.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) views: Vec<u128>,
    pub(super) heap: Vec<u8>,
    /// The row that last put something on the heap, and how long the heap was before.
    last: Option<(usize, usize)>,
    /// Whether anybody wants the content.
    kept: bool,
    scratch: Vec<u8>,
}

impl Views {
    pub(super) fn new(kept: bool) -> Self {
        Self {
            views: Vec::new(),
            heap: Vec::new(),
            last: None,
            kept,
            scratch: Vec::new(),
        }
    }

    pub(super) fn ensure(&mut self, rows: usize) {
        self.views.resize(rows, 0);
    }

    /// Takes back what `row` has put on the heap.
    pub(super) fn forget(&mut self, row: usize) {
        if let Some((_, before)) = self.last.take_if(|(last, _)| *last == row) {
            self.heap.truncate(before);
        }
    }

    /// Empties the heap.
    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.last = None;
    }

    /// Reads the string under the cursor, behind its opening quote, into `row`.
    #[inline(always)]
    pub(super) fn read(&mut self, row: usize, cursor: &mut Cursor<'_>) -> Result<bool, Stop> {
        let block = cursor.block(cursor.pos);
        let marks = Marks::of(block);
        let len = marks.special.trailing_zeros() as usize;
        if len <= INLINE && cursor.at(cursor.pos + len) == b'"' {
            // Bytes behind the string do not count, but looking twice does no harm.
            cursor.non_ascii |= marks.non_ascii != 0;
            cursor.pos += len + 1;
            let Some(view) = self.views.get_mut(row) else {
                return Ok(false);
            };
            *view = len as u128 | (block & INLINE_MASKS[len & (BLOCK - 1)]) << 32;
            return Ok(true);
        }
        self.read_long(row, cursor)
    }

    #[inline(never)]
    fn read_long(&mut self, row: usize, cursor: &mut Cursor<'_>) -> Result<bool, Stop> {
        let text = cursor.string()?;
        let raw = cursor.span(text.start, text.end);
        if !self.kept {
            return Ok(true);
        }
        if text.escaped {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            unescape(raw, &mut scratch);
            self.put(row, &scratch);
            self.scratch = scratch;
        } else {
            self.put(row, raw);
        }
        Ok(true)
    }

    /// Puts `content` into `row`.
    pub(super) fn put(&mut self, row: usize, content: &[u8]) {
        self.forget(row);
        if !self.kept {
            return;
        }
        let len = content.len();
        let mut head = [0; BLOCK];
        let inline = len.min(INLINE);
        for (to, from) in head.iter_mut().zip(content.iter().take(inline)) {
            *to = *from;
        }
        let head = u128::from_le_bytes(head);
        let view = if len <= INLINE {
            len as u128 | head << 32
        } else {
            // Chunks are shorter than 2 GiB, which the decoder checks, and so are heaps.
            let before = self.heap.len();
            self.last = Some((row, before));
            self.heap.extend_from_slice(content);
            len as u128 | (head & 0xffff_ffff) << 32 | (before as u128) << 96
        };
        if let Some(place) = self.views.get_mut(row) {
            *place = view;
        }
    }
}

/// The bits of the first `n` bytes, for `n` up to twelve.
const INLINE_MASKS: [u128; BLOCK] = {
    let mut masks = [0; BLOCK];
    let mut len = 1;
    while len <= INLINE {
        masks[len] = u128::MAX >> (128 - 8 * len);
        len += 1;
    }
    masks
};
