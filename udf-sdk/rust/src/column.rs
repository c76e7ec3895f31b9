//! The columns of a call, as the contract (`thalweg:udf/types`) lays them out.

/// A list of byte strings in two buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    /// Where each begins in `bytes`, and where the last ends: little-endian u32.
    pub offsets: Vec<u8>,
    /// One after the other.
    pub bytes: Vec<u8>,
}

impl Blobs {
    /// No blobs, with room for the offsets of `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        let mut offsets = Vec::with_capacity((count + 1) * 4);
        offsets.extend_from_slice(&0_u32.to_le_bytes());
        Self {
            offsets,
            bytes: Vec::new(),
        }
    }

    /// Adds one.
    ///
    /// # Panics
    /// Beyond 4 GiB, which a guest cannot hold.
    pub fn push(&mut self, blob: &[u8]) {
        self.bytes.extend_from_slice(blob);
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        assert!(end < u32::MAX, "blobs beyond 4 GiB");
        self.offsets.extend_from_slice(&end.to_le_bytes());
    }
}

/// The values of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The type, in the notation of Arrow's C data interface.
    pub kind: String,
    /// One byte per row, 0 for null; without it no row is null.
    pub validity: Option<Vec<u8>>,
    /// Of values that vary in length: where each begins.
    pub offsets: Vec<u8>,
    /// The values.
    pub bytes: Vec<u8>,
}

impl Column {
    /// The validity of `rows` rows, if any may be null.
    pub(crate) fn valid(&self, rows: usize) -> Result<Option<&[u8]>, Failure> {
        match &self.validity {
            None => Ok(None),
            Some(valid) => (valid.get(..rows).map(Some))
                .ok_or_else(|| Failure::call("a column of the host is too short")),
        }
    }

    /// The values of `rows` rows, `N` bytes each.
    pub(crate) fn fixed<const N: usize>(&self, rows: usize) -> Result<&[[u8; N]], Failure> {
        let (values, _) = self.bytes.as_chunks::<N>();
        (values.get(..rows)).ok_or_else(|| Failure::call("a column of the host is too short"))
    }
}

/// Why a call, or one row of it, has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The row, if it is the fault of one.
    pub row: Option<u32>,
    /// What went wrong.
    pub message: String,
}

impl Failure {
    /// A failure that is no row's fault.
    pub fn call(message: impl Into<String>) -> Self {
        Self {
            row: None,
            message: message.into(),
        }
    }
}

/// Rows that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Which: little-endian u32, ascending.
    pub rows: Vec<u8>,
    /// Why, one for each.
    pub messages: Blobs,
}

/// What a call returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// One value per row.
    pub values: Column,
    /// Rows that failed.
    pub failed: Failures,
}
