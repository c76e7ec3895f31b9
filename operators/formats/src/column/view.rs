//! Strings as Arrow's views: up to twelve bytes in the view itself, longer ones on a heap.

use crate::scan::{BLOCK, Cursor, Marks};

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
}

impl Views {
    pub(super) fn new(kept: bool) -> Self {
        Self {
            views: Vec::new(),
            heap: Vec::new(),
            last: None,
            kept,
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

    /// Reads the string whose opening quote is at `at` into `row`, if it has no escapes; says where
    /// it ends.
    #[inline(always)]
    pub(super) fn read(&mut self, row: usize, cursor: &mut Cursor<'_>, at: usize) -> Option<usize> {
        let start = at + 1;
        let block = cursor.block(start);
        let marks = Marks::of(block);
        let len = marks.special.trailing_zeros() as usize;
        if len > INLINE || cursor.at(start + len) != b'"' {
            return self.read_long(row, cursor, at);
        }
        // Bytes behind the string do not count, but looking twice does no harm.
        cursor.non_ascii |= marks.non_ascii != 0;
        *self.views.get_mut(row)? = len as u128 | (block & INLINE_MASKS[len & (BLOCK - 1)]) << 32;
        Some(start + len + 1)
    }

    #[inline(never)]
    fn read_long(&mut self, row: usize, cursor: &mut Cursor<'_>, at: usize) -> Option<usize> {
        let mut ahead = cursor.clone();
        ahead.pos = at + 1;
        let text = ahead.string().ok().filter(|text| !text.escaped)?;
        cursor.non_ascii |= ahead.non_ascii;
        self.put(row, cursor.span(text.start, text.end));
        Some(ahead.pos)
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
