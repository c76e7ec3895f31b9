//! Where a row came from: its split and its offset in it, packed into one column.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A split of a job: the position of its source's split in the job's split table.
///
/// Numbers are given out by the engine in order of first appearance, stand in the manifest, and
/// are never reused within a lineage.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SplitId(pub u32);

/// A row's origin, totally ordered by (split, offset).
///
/// The `_origin` column of every batch (`UInt64`): 20 bits of split, 44 bits of offset (bytes of a
/// file, record numbers of a Kafka partition: 17.6 · 10¹², half a year of a million records per
/// second in one partition). Sources refuse offsets and splits beyond these limits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u64);

impl Origin {
    /// Bits that hold the offset.
    pub const OFFSET_BITS: u32 = 44;
    /// Greatest offset.
    pub const OFFSET_MAX: u64 = (1 << Self::OFFSET_BITS) - 1;
    /// Most splits of a job; the last number marks rows that operators made.
    pub const SPLITS_MAX: u32 = (1 << 20) - 1;

    /// The origin of the record at `offset` of `split`, or nothing beyond the limits.
    #[inline]
    #[must_use]
    pub fn new(split: SplitId, offset: u64) -> Option<Self> {
        (split.0 < Self::SPLITS_MAX && offset <= Self::OFFSET_MAX)
            .then(|| Self((u64::from(split.0) << Self::OFFSET_BITS) | offset))
    }

    /// The origin of a row that an operator made from several, told apart by a hash of its key.
    #[must_use]
    pub fn derived(key_hash: u64) -> Self {
        Self((u64::from(Self::SPLITS_MAX) << Self::OFFSET_BITS) | (key_hash & Self::OFFSET_MAX))
    }

    /// The split, or nothing for a row that an operator made.
    #[must_use]
    pub fn split(self) -> Option<SplitId> {
        let split = (self.0 >> Self::OFFSET_BITS) as u32;
        (split != Self::SPLITS_MAX).then_some(SplitId(split))
    }

    /// The offset in its split; meaningless for a row that an operator made.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.0 & Self::OFFSET_MAX
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.split() {
            Some(SplitId(split)) => write!(f, "{split}@{}", self.offset()),
            None => write!(f, "derived@{:x}", self.offset()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Origin, SplitId};

    #[test]
    fn origins_order_by_split_then_offset_and_know_their_limits() {
        let at = |split, offset| Origin::new(SplitId(split), offset);
        assert!(at(1, Origin::OFFSET_MAX) < at(2, 0));
        assert_eq!(
            at(7, 9).map(|o| (o.split(), o.offset())),
            Some((Some(SplitId(7)), 9))
        );
        assert_eq!(at(0, Origin::OFFSET_MAX + 1), None);
        assert_eq!(at(Origin::SPLITS_MAX, 0), None);
        assert_eq!(Origin::derived(u64::MAX).split(), None);
    }
}
