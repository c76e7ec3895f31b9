//! Sets of key groups.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

/// A set of key groups; written as ranges, `0-127,200`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupSet([u64; KEY_GROUPS / 64]);

impl GroupSet {
    /// No group.
    pub const EMPTY: Self = Self([0; KEY_GROUPS / 64]);
    /// Every group.
    pub const ALL: Self = Self([u64::MAX; KEY_GROUPS / 64]);

    /// The groups of a range; what is beyond the last group is left out.
    #[must_use]
    pub fn range(groups: Range<usize>) -> Self {
        groups
            .filter_map(|group| KeyGroup::try_from(group).ok())
            .collect()
    }

    /// Adds a group.
    pub fn insert(&mut self, group: KeyGroup) {
        if let Some(word) = self.0.get_mut(usize::from(group) / 64) {
            *word |= 1 << (group % 64);
        }
    }

    /// Whether `group` is in it.
    #[must_use]
    pub fn contains(&self, group: KeyGroup) -> bool {
        let word = self.0.get(usize::from(group) / 64).copied();
        word.unwrap_or(0) & (1 << (group % 64)) != 0
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The groups of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.zip(other, |one, two| one & two)
    }

    /// The groups of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.zip(other, |one, two| one | two)
    }

    /// The groups of this one that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.zip(other, |one, two| one & !two)
    }

    /// The groups, ascending.
    pub fn iter(&self) -> impl Iterator<Item = KeyGroup> + '_ {
        (0..=KeyGroup::MAX).filter(|&group| self.contains(group))
    }

    fn zip(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = each(*word, other);
        }
        Self(words)
    }
}

impl FromIterator<KeyGroup> for GroupSet {
    fn from_iter<I: IntoIterator<Item = KeyGroup>>(groups: I) -> Self {
        let mut set = Self::EMPTY;
        for group in groups {
            set.insert(group);
        }
        set
    }
}

impl fmt::Display for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = self.iter().peekable();
        let mut first = true;
        while let Some(start) = groups.next() {
            let mut end = start;
            while let Some(next) = groups.next_if(|&next| next == end + 1) {
                end = next;
            }
            if !std::mem::take(&mut first) {
                f.write_str(",")?;
            }
            match start == end {
                true => write!(f, "{start}")?,
                false => write!(f, "{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// A text that is no set of key groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of key groups")]
pub struct NoGroupSet(String);

impl FromStr for GroupSet {
    type Err = NoGroupSet;

    fn from_str(text: &str) -> Result<Self, NoGroupSet> {
        let wrong = || NoGroupSet(text.to_owned());
        let mut set = Self::EMPTY;
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            let start: KeyGroup = start.parse().map_err(|_| wrong())?;
            let end: KeyGroup = end.parse().map_err(|_| wrong())?;
            (start..=end).for_each(|group| set.insert(group));
        }
        Ok(set)
    }
}

impl TryFrom<String> for GroupSet {
    type Error = NoGroupSet;
    fn try_from(text: String) -> Result<Self, NoGroupSet> {
        text.parse()
    }
}

impl From<GroupSet> for String {
    fn from(set: GroupSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::GroupSet;

    #[test]
    fn sets_are_written_as_ranges_and_read_back() {
        let set: GroupSet = [0, 1, 2, 7, 254, 255].into_iter().collect();
        assert_eq!(set.to_string(), "0-2,7,254-255");
        for set in [
            set,
            GroupSet::EMPTY,
            GroupSet::ALL,
            GroupSet::range(64..128),
        ] {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        for wrong in ["256", "1-", "a", ",", "1,,2"] {
            assert!(wrong.parse::<GroupSet>().is_err(), "{wrong}");
        }
        assert_eq!(GroupSet::range(0..1000), GroupSet::ALL);
        let (low, high) = (GroupSet::range(0..100), GroupSet::range(50..150));
        assert_eq!(low.and(high), GroupSet::range(50..100));
        assert_eq!(low.or(high), GroupSet::range(0..150));
        assert_eq!(low.without(high), GroupSet::range(0..50));
    }
}
