//! The JSON scanner: a cursor over a chunk's bytes that checks everything it passes.
//!
//! Whatever it accepts, `serde_json` accepts, and the other way round: grammar, escapes, lone
//! surrogates, the range of numbers, nesting. UTF-8 is the one thing it only takes note of
//! ([`Cursor::non_ascii`]): whoever drives it checks a record that has other than ASCII once, as a
//! whole. All reads are checked; beyond the last byte there are zeros, which no JSON text has.

mod block;
mod number;
mod string;

pub(crate) use block::{BLOCK, Marks};
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
    Number,
    /// A string.
    String(Text),
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A position in the bytes of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    buf: &'a [u8],
    /// The next byte.
    pub(crate) pos: usize,
    /// End of what may be read; loops stop there.
    limit: usize,
    /// Whether a line feed is white space: not where it ends the record.
    line_feed_is_space: bool,
    /// Whether a string with other than ASCII may have been passed.
    pub(crate) non_ascii: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at `pos` of `buf` over a record that ends at a line feed or the end of `buf`.
    pub(crate) fn over_lines(buf: &'a [u8], pos: usize) -> Self {
        Self {
            buf,
            pos,
            limit: buf.len(),
            line_feed_is_space: false,
            non_ascii: false,
        }
    }

    /// A cursor over the record from `pos` to `limit`.
    ///
    /// It may look, and even go, somewhat beyond `limit`; its driver checks where it ends up.
    pub(crate) fn over_record(buf: &'a [u8], pos: usize, limit: usize) -> Self {
        Self {
            buf,
            pos,
            limit,
            line_feed_is_space: true,
            non_ascii: false,
        }
    }

    /// The bytes under the cursor.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.buf
    }

    /// The bytes from `start` to `end`, none if there are no such.
    #[inline]
    pub(crate) fn span(&self, start: usize, end: usize) -> &'a [u8] {
        self.buf.get(start..end).unwrap_or_default()
    }

    /// The byte at `at`.
    #[inline(always)]
    pub(crate) fn at(&self, at: usize) -> u8 {
        match self.buf.get(at) {
            Some(byte) => *byte,
            None => 0,
        }
    }

    /// The next byte.
    #[inline(always)]
    pub(crate) fn byte(&self) -> u8 {
        self.at(self.pos)
    }

    /// The eight bytes from `at` on, the first one lowest.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> u64 {
        match self.buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => self.last_block(at) as u64,
        }
    }

    /// The sixteen bytes from `at` on, the first one lowest.
    #[inline(always)]
    pub(crate) fn block(&self, at: usize) -> u128 {
        match self
            .buf
            .get(at..)
            .and_then(|rest| rest.first_chunk::<BLOCK>())
        {
            Some(bytes) => u128::from_le_bytes(*bytes),
            None => self.last_block(at),
        }
    }

    /// What is left from `at` on, filled up with zeros.
    #[cold]
    #[inline(never)]
    fn last_block(&self, at: usize) -> u128 {
        let mut bytes = [0; BLOCK];
        for (to, from) in bytes.iter_mut().zip(self.buf.get(at..).unwrap_or_default()) {
            *to = *from;
        }
        u128::from_le_bytes(bytes)
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
        loop {
            match self.byte() {
                b' ' | b'\t' | b'\r' => self.pos += 1,
                b'\n' if self.line_feed_is_space => self.pos += 1,
                _ => return,
            }
        }
    }

    /// Passes any value; `depth` containers are open around it.
    #[inline]
    pub(crate) fn token(&mut self, depth: u32) -> Result<Token, Stop> {
        match self.byte() {
            b'"' => {
                self.pos += 1;
                Ok(Token::String(self.string()?))
            }
            b'-' | b'0'..=b'9' => self.number().map(|_| Token::Number),
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
            if self.pos > self.limit {
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
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                }
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
        self.pos > self.limit
    }
}

/// Whether `text` is one JSON value and nothing else; `depth` containers are open around it.
pub(crate) fn is_json(text: &[u8], depth: u32) -> bool {
    let mut cursor = Cursor::over_record(text, 0, text.len());
    cursor.space();
    if cursor.token(depth).is_err() {
        return false;
    }
    cursor.space();
    cursor.pos == text.len()
}

#[cfg(test)]
mod tests;
