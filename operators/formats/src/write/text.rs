//! JSON strings, and JSON text within JSON text.

use crate::scan::{BLOCK, Marks, is_json};

/// How each byte that cannot stand for itself is written: the letter behind the backslash, `u` for
/// a code of four digits, zero for what needs no escape.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// A key with its quotes and the colon.
pub(crate) fn prefix(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    write_string(name, &mut out);
    out.push(b':');
    out
}

/// A key as it stands before a value: comma, quotes and colon included.
#[derive(Clone, Debug)]
pub(super) struct Key {
    text: Vec<u8>,
    /// The same, padded, if it is short.
    block: [u8; Self::SHORT_MAX],
}

impl Key {
    /// Longest key that is written as a block.
    const SHORT_MAX: usize = 32;

    pub(super) fn new(name: &str) -> Self {
        let mut text = vec![b','];
        text.append(&mut prefix(name));
        let mut block = [0; Self::SHORT_MAX];
        for (to, from) in block.iter_mut().zip(&text) {
            *to = *from;
        }
        Self { text, block }
    }

    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.text.len() <= Self::SHORT_MAX {
            write_block(&self.block, self.text.len(), out);
        } else {
            out.extend_from_slice(&self.text);
        }
    }
}

/// Appends the first `len` bytes of a block: all of it, and then some less, for a copy of a length
/// that is known beforehand is a few instructions instead of a call.
#[inline(always)]
fn write_block<const N: usize>(block: &[u8; N], len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    out.extend_from_slice(block);
    out.truncate(end);
}

/// Appends the string that an Arrow view stands for, with its quotes; `text` gives it where it is
/// not in the view itself.
#[inline]
pub(super) fn write_view<'a>(view: u128, text: impl Fn() -> &'a str, out: &mut Vec<u8>) {
    const INLINE: usize = 12;
    let len = view as u32 as usize;
    let block = view >> 32;
    if len > INLINE || Marks::of(block).special & ((1 << len) - 1) != 0 {
        write_string(text(), out);
        return;
    }
    let mut quoted = [b'"'; BLOCK];
    let [_, inside @ ..] = &mut quoted;
    for (to, from) in inside
        .iter_mut()
        .zip(block.to_le_bytes().iter().take(INLINE))
    {
        *to = *from;
    }
    if let Some(end) = quoted.get_mut(len + 1) {
        *end = b'"';
    }
    write_block(&quoted, len + 2, out);
}

/// Appends a string with its quotes.
#[inline]
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut blocks = text.as_bytes().chunks_exact(BLOCK);
    for block in blocks.by_ref() {
        let number = block.first_chunk::<BLOCK>().copied().unwrap_or_default();
        if Marks::of(u128::from_le_bytes(number)).special == 0 {
            out.extend_from_slice(block);
        } else {
            write_bytes(block, out);
        }
    }
    let rest = blocks.remainder();
    let mut block = [b' '; BLOCK];
    for (to, from) in block.iter_mut().zip(rest) {
        *to = *from;
    }
    if Marks::of(u128::from_le_bytes(block)).special == 0 {
        out.extend_from_slice(rest);
    } else {
        write_bytes(rest, out);
    }
    out.push(b'"');
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(bytes.get(plain..at).unwrap_or_default());
        plain = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'0', b'0', DIGITS[high & 15], DIGITS[low]]);
        }
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
}

/// Appends text that should be JSON as it is. White space that would break the line becomes a
/// space; what is no JSON after all (an expression may have made it) is written as a string.
pub(super) fn write_json(text: &str, out: &mut Vec<u8>) {
    // One object is around it.
    if !is_json(text.as_bytes(), 1) {
        write_string(text, out);
        return;
    }
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some() {
        // Strings have no control characters, so these stand between tokens.
        for byte in out.iter_mut().skip(start) {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}
