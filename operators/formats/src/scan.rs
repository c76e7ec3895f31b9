//! The JSON scanner: a cursor over a chunk's bytes that checks everything it passes.
//!
//! Whatever it accepts, `serde_json` accepts, and the other way round: grammar, escapes, lone
//! surrogates, the range of numbers, nesting. UTF-8 is the one thing it only takes note of
//! ([`Cursor::non_ascii`]): whoever drives it checks a record that has other than ASCII once, as a
//! whole.
//!
//! Checking the bounds of every read would cost a third of the time, so reads are not checked but
//! steps are: a cursor's [`limit`](Cursor) lies at least [`MARGIN`] bytes before the end of the
//! bytes, every loop ends beyond the limit, and between two looks at the limit the cursor moves
//! less than the margin. The longest such step is in an object: a remembered key (32 bytes), white
//! space (1), a number of 24 digits before and after its point (50), a look at what follows (16).
//! Debug builds, and with them the fuzz tests, check every read.
//!
//! What is usual is read by small functions that do not move the cursor: they go from a position to
//! where the value ends, so that both stay in registers. They find nothing where something else
//! stands, and then the cursor goes there and reads by the book.

mod block;
mod number;
mod string;

pub(crate) use block::{BLOCK, Marks, equal};
pub(crate) use number::Number;
pub(crate) use string::{Text, unescape};

/// Deepest nesting that is accepted, the record itself included, as in `serde_json`.
pub(crate) const DEPTH_MAX: u32 = 127;

/// Why a record is no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The text breaks JSON's grammar.
    Syntax,
    /// It nests deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A number is beyond what a 64-bit float holds.
    NumberRange,
    /// It is not UTF-8.
    NotUtf8,
    /// It is JSON, but no object.
    NotAnObject,
}

/// A value that was passed, without its content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Bytes behind a cursor's limit that it may look at.
pub(crate) const MARGIN: usize = 128;

/// A position in the bytes of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    buf: &'a [u8],
    /// The next byte. It goes forward only, by this module and by steps that stay in the margin.
    pub(crate) pos: usize,
    /// Where loops end; at least `MARGIN` before the end of `buf`.
    limit: usize,
    /// Whether a line feed is white space: not where it ends the record.
    line_feed_is_space: bool,
    /// Whether a string with other than ASCII may have been passed.
    pub(crate) non_ascii: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at `pos` of `buf` over a record that ends at a line feed, or nothing if `pos` is
    /// too close to the end. A record that runs into the margin may be refused wrongly; then the
    /// cursor is [`beyond`](Self::beyond) its limit.
    #[inline]
    pub(crate) fn over_line(buf: &'a [u8], pos: usize) -> Option<Self> {
        let limit = buf.len().checked_sub(MARGIN)?;
        (pos <= limit).then_some(Self {
            buf,
            pos,
            limit,
            line_feed_is_space: false,
            non_ascii: false,
        })
    }

    /// A cursor over the record from `pos` to `end` of `buf`, or nothing if that lies in the margin.
    ///
    /// It may look, and even go, somewhat beyond `end`; its driver checks where it ends up.
    #[inline]
    pub(crate) fn over_record(buf: &'a [u8], pos: usize, end: usize) -> Option<Self> {
        let roomy = buf.len().checked_sub(MARGIN)? >= end;
        (pos <= end && roomy).then_some(Self {
            buf,
            pos,
            limit: end,
            line_feed_is_space: true,
            non_ascii: false,
        })
    }

    /// A cursor over text that [`pad`] has made, up to its padding.
    pub(crate) fn over_padded(buf: &'a [u8]) -> Option<Self> {
        Self::over_record(buf, 0, buf.len().checked_sub(MARGIN)?)
    }

    /// The bytes under the cursor.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.buf
    }

    /// The bytes from `start` to `end`, none if there are no such.
    #[inline]
    pub(crate) fn span(&self, start: usize, end: usize) -> &'a [u8] {
        self.buf.get(start..end).unwrap_or_default()
    }

    /// The byte at `at`, which lies in the margin at most.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the module's documentation")]
    pub(crate) fn at(&self, at: usize) -> u8 {
        debug_assert!(at < self.buf.len());
        // SAFETY: steps between looks at the limit are shorter than the margin.
        unsafe { *self.buf.get_unchecked(at) }
    }

    /// The next byte.
    #[inline(always)]
    pub(crate) fn byte(&self) -> u8 {
        self.at(self.pos)
    }

    /// The eight bytes from `at` on, the first one lowest.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the module's documentation")]
    pub(crate) fn word(&self, at: usize) -> u64 {
        debug_assert!(at + 8 <= self.buf.len());
        // SAFETY: steps between looks at the limit are shorter than the margin, this read included.
        let word = unsafe { self.buf.as_ptr().add(at).cast::<u64>().read_unaligned() };
        u64::from_le(word)
    }

    /// The sixteen bytes from `at` on, the first one lowest.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the module's documentation")]
    pub(crate) fn block(&self, at: usize) -> u128 {
        debug_assert!(at + BLOCK <= self.buf.len());
        // SAFETY: steps between looks at the limit are shorter than the margin, this read included.
        let block = unsafe { self.buf.as_ptr().add(at).cast::<u128>().read_unaligned() };
        u128::from_le(block)
    }

    /// Passes white space.
    #[inline(always)]
    pub(crate) fn space(&mut self) {
        if self.byte() <= b' ' {
            self.space_slow();
        }
    }

    #[inline(never)]
    fn space_slow(&mut self) {
        while !self.beyond() {
            match self.byte() {
                b' ' | b'\t' | b'\r' => self.pos += 1,
                b'\n' if self.line_feed_is_space => self.pos += 1,
                _ => return,
            }
        }
    }

    /// Where the value at `at` ends if it is usual: a number or a string within a block. It is only
    /// if [`ends_value`](Self::ends_value).
    #[inline(always)]
    pub(crate) fn usual(&mut self, at: usize) -> Option<usize> {
        if self.at(at) == b'"' {
            self.short_string(at)
        } else {
            self.short_number(at)
        }
    }

    /// Whether what stands at `at` usually comes after a value; white space may come too.
    #[inline(always)]
    pub(crate) fn ends_value(&self, at: usize) -> bool {
        matches!(self.at(at), b',' | b'}')
    }

    /// Passes any value and forgets it; `depth` containers are open around it.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), Stop> {
        match self.usual(self.pos) {
            Some(end) if self.ends_value(end) => {
                self.pos = end;
                Ok(())
            }
            _ => self.token(depth).map(|_| ()),
        }
    }

    /// Passes any value; `depth` containers are open around it.
    pub(crate) fn token(&mut self, depth: u32) -> Result<Token, Stop> {
        match self.byte() {
            b'"' => {
                self.pos += 1;
                Ok(Token::String(self.string()?))
            }
            b'-' | b'0'..=b'9' => Ok(Token::Number(self.number()?)),
            b'n' => self.literal(*b"null\0", 4).map(|()| Token::Null),
            b't' => self.literal(*b"true\0", 4).map(|()| Token::Bool(true)),
            b'f' => self.literal(*b"false", 5).map(|()| Token::Bool(false)),
            b'[' => self.container(depth).map(|()| Token::Array),
            b'{' => self.container(depth).map(|()| Token::Object),
            _ => Err(Stop::Syntax),
        }
    }

    #[inline(always)]
    fn literal(&mut self, text: [u8; 5], len: usize) -> Result<(), Stop> {
        let mask = u64::MAX >> (64 - 8 * len);
        let [a, b, c, d, e] = text;
        let expected = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
        if self.word(self.pos) & mask != expected {
            return Err(Stop::Syntax);
        }
        self.pos += len;
        Ok(())
    }

    /// Passes an object's key and the colon, up to the value.
    pub(crate) fn key(&mut self) -> Result<Text, Stop> {
        if self.byte() != b'"' {
            return Err(Stop::Syntax);
        }
        self.pos += 1;
        let key = self.string()?;
        self.space();
        if self.byte() != b':' {
            return Err(Stop::Syntax);
        }
        self.pos += 1;
        self.space();
        Ok(key)
    }

    /// Passes an array or object; `depth` containers are open around it.
    pub(crate) fn container(&mut self, depth: u32) -> Result<(), Stop> {
        // One bit a level, the innermost lowest: whether it is an object.
        let mut objects: u128 = 0;
        let mut level: u32 = 0;
        loop {
            if self.beyond() {
                return Err(Stop::Syntax);
            }
            match self.byte() {
                open @ (b'{' | b'[') => {
                    level += 1;
                    if depth + level > DEPTH_MAX {
                        return Err(Stop::TooDeep);
                    }
                    objects = (objects << 1) | u128::from(open == b'{');
                    self.pos += 1;
                    self.space();
                    // In ASCII, `]` and `}` stand two behind `[` and `{`.
                    if self.byte() != open + 2 {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.pos += 1;
                    objects >>= 1;
                    level -= 1;
                }
                b'"' => {
                    self.pos += 1;
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => match self.short_number(self.pos) {
                    Some(end) if self.ends_value(end) => self.pos = end,
                    _ => {
                        self.number()?;
                    }
                },
                b'n' => self.literal(*b"null\0", 4)?,
                b't' => self.literal(*b"true\0", 4)?,
                b'f' => self.literal(*b"false", 5)?,
                _ => return Err(Stop::Syntax),
            }
            // A value has ended; close what ends with it.
            loop {
                if level == 0 {
                    return Ok(());
                }
                self.space();
                if self.beyond() {
                    return Err(Stop::Syntax);
                }
                let in_object = objects & 1 == 1;
                match self.byte() {
                    b',' => {
                        self.pos += 1;
                        self.space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return Err(Stop::Syntax),
                }
                self.pos += 1;
                objects >>= 1;
                level -= 1;
            }
        }
    }

    /// Whether the cursor has gone too far.
    #[inline(always)]
    pub(crate) fn beyond(&self) -> bool {
        self.is_beyond(self.pos)
    }

    /// Whether `at` is too far.
    #[inline(always)]
    pub(crate) fn is_beyond(&self, at: usize) -> bool {
        at > self.limit
    }
}

/// Fills `padded` with `text` and a margin behind it.
pub(crate) fn pad(text: &[u8], padded: &mut Vec<u8>) {
    padded.clear();
    padded.extend_from_slice(text);
    padded.resize(text.len() + MARGIN, 0);
}

/// Whether `text` is one JSON value and nothing else; `depth` containers are open around it.
pub(crate) fn is_json(text: &[u8], depth: u32) -> bool {
    let mut padded = Vec::with_capacity(text.len() + MARGIN);
    pad(text, &mut padded);
    let Some(mut cursor) = Cursor::over_padded(&padded) else {
        return false;
    };
    cursor.space();
    if cursor.skip(depth).is_err() {
        return false;
    }
    cursor.space();
    cursor.pos == text.len()
}

#[cfg(test)]
mod tests;
