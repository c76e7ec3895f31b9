//! Little-endian reading and writing of section content; reading checks every bound.

use crate::error::StateError;

/// Appends a number.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a number.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a number.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes with their length (u32) before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and rows are limited by the size of a record, far below 4 GiB.
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// Appends what `fill` writes, with its length (u64) before it.
pub(crate) fn put_framed(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put_u64(out, 0);
    fill(out);
    let length = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

/// Reads section content from its front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let (head, rest) = (self.rest.split_at_checked(length)).ok_or(StateError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = (self.rest.split_first_chunk()).ok_or(StateError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// Truncated.
    pub fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next number.
    ///
    /// # Errors
    /// Truncated.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next number.
    ///
    /// # Errors
    /// Truncated.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next number.
    ///
    /// # Errors
    /// Truncated.
    pub fn i64(&mut self) -> Result<i64, StateError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The next bytes that [`put_bytes`] wrote.
    ///
    /// # Errors
    /// Truncated.
    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A reader of what was framed with its length.
    pub(crate) fn framed(&mut self) -> Result<Self, StateError> {
        let length = usize::try_from(self.u64()?).map_err(|_| StateError::Truncated)?;
        Ok(Self::new(self.take(length)?))
    }

    /// Everything must have been read.
    ///
    /// # Errors
    /// Trailing.
    pub fn end(self) -> Result<(), StateError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(StateError::Trailing(more)),
        }
    }
}
