//! Strings: where they end, whether their escapes are right, and what they say.

use super::{BLOCK, Cursor, Marks, Stop};

/// A string that was passed: its raw bytes between the quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// Position of the first byte.
    pub(crate) start: usize,
    /// Position of the closing quote.
    pub(crate) end: usize,
    /// Whether it has a backslash.
    pub(crate) escaped: bool,
}

impl Cursor<'_> {
    /// Passes a string whose opening quote has been passed.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Text, Stop> {
        let start = self.pos;
        let mut escaped = false;
        loop {
            let marks = Marks::of(self.block(self.pos));
            self.non_ascii |= marks.non_ascii != 0;
            if marks.special == 0 {
                self.pos += BLOCK;
                if self.beyond() {
                    return Err(Stop::Syntax);
                }
                continue;
            }
            self.pos += marks.special.trailing_zeros() as usize;
            match self.byte() {
                b'"' => {
                    let end = self.pos;
                    self.pos += 1;
                    return Ok(Text {
                        start,
                        end,
                        escaped,
                    });
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Stop::Syntax),
            }
            if self.beyond() {
                return Err(Stop::Syntax);
            }
        }
    }

    /// Where the string whose opening quote is at `at` ends, if within a block and without escapes.
    #[inline(always)]
    pub(crate) fn short_string(&mut self, at: usize) -> Option<usize> {
        let marks = Marks::of(self.block(at + 1));
        // Without a mark, the byte at 32 decides nothing: it lies in the margin.
        let end = at + 1 + marks.special.trailing_zeros() as usize;
        if (marks.special == 0) | (self.at(end) != b'"') {
            return None;
        }
        // Bytes behind the string do not count, but looking twice does no harm.
        self.non_ascii |= marks.non_ascii != 0;
        Some(end + 1)
    }

    /// Passes an escape sequence.
    fn escape(&mut self) -> Result<(), Stop> {
        let Some((_, len)) = escape(self.block(self.pos).to_le_bytes()) else {
            return Err(Stop::Syntax);
        };
        self.pos += len;
        Ok(())
    }
}

/// The character that the escape sequence at the beginning of `bytes` stands for, and the
/// sequence's length; nothing if it is none (RFC 8259, section 7) or a lone surrogate.
fn escape(bytes: [u8; BLOCK]) -> Option<(char, usize)> {
    let simple = match bytes[1] {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let [_, _, a, b, c, d, backslash, u, e, f, g, h, ..] = bytes;
            let first = hex([a, b, c, d])?;
            if let Some(character) = char::from_u32(first) {
                return Some((character, 6));
            }
            if first >= 0xdc00 || backslash != b'\\' || u != b'u' {
                return None;
            }
            let second = hex([e, f, g, h])?;
            if !(0xdc00..0xe000).contains(&second) {
                return None;
            }
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return char::from_u32(code).map(|character| (character, 12));
        }
        _ => return None,
    };
    Some((simple, 2))
}

fn hex(digits: [u8; 4]) -> Option<u32> {
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(digit).to_digit(16)?;
    }
    Some(value)
}

/// Appends what the raw bytes of a string say to `out`; they have been passed by a cursor.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, sequence) = rest.split_at(at);
        out.extend_from_slice(plain);
        let mut bytes = [0; BLOCK];
        for (to, from) in bytes.iter_mut().zip(sequence) {
            *to = *from;
        }
        // Sequences were checked when the string was passed; were one wrong, it would stay as it is.
        let (character, len) = escape(bytes).unwrap_or(('\\', 1));
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = sequence.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
